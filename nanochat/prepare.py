"""The ground that experiments stand on: tokenizer, splits, batches, budgets and the metric. Frozen for agents.

    python -m nanochat.prepare                               # once, seconds: Python sources of the installed packages
    python -m nanochat.prepare --data FOLDER                 # or any folder of .txt, .md and .py files
    python -m nanochat.prepare --data climbmix --vocab 8192  # or web text, 900 MB to fetch, for a GPU
    python -m nanochat.prepare --referee DIR                 # val and the hidden split, for whoever scores checkpoints

Keeps to itself where the cache lies and how it is built; the text is corpus.py's. Trains nothing; torch is imported
only where tensors are made.
"""

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C ends it quietly at any moment, the imports included
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

import base64
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nanochat import corpus
from nanochat.command import Flags, Problem, Progress, exit_code

# ---- what every experiment holds equal ----


# 2.6 bytes a token; at this scale that beats single bytes clearly (2.38 vs 2.82 bpb after 10 s of training).
VOCAB_SIZE = 1024


class Preset(NamedTuple):
    """A rung of the ladder: a budget in tokens, never in seconds, and how much larger than the knobs' base shape."""

    tokens: int  # training tokens
    eval_tokens: int  # length of the prefix of val that is scored
    depth_factor: int = 1  # times DEPTH
    aspect_factor: int = 1  # times ASPECT
    head_factor: int = 1  # times HEAD_DIM
    seq_factor: int = 1  # times SEQ_LEN, and times EVAL_SEQ_LEN when val is scored
    rows_factor: int = 1  # times ROWS
    vocab_size: int = VOCAB_SIZE
    data: str = "python"  # where --data says nothing


# A GPU rung: 64 wide per layer, heads of 128, contexts of 2,048, 256 rows: 2**19 tokens a step at the default knobs.
# Sized from the published single-GPU figures (depth 8, 500 M tokens, 50.3 M parameters), not from runs of this code.
_GPU = Preset(
    tokens=1000 * 2**19,
    eval_tokens=8 * 2**19,  # ~16 MB of the 20 MB of climbmix's val; upstream scores 40 * 2**19
    depth_factor=4,
    aspect_factor=2,
    head_factor=4,
    seq_factor=16,
    rows_factor=32,
    vocab_size=8192,
    data="climbmix",
)

# The budgets live in the frozen file: a recipe may spend its tokens in other batches, it may not take more of them.
PRESETS = {
    "smoke": Preset(tokens=300 * 1024, eval_tokens=65_536),  # ~10 s on one quiet core
    "demo": Preset(tokens=600 * 1024, eval_tokens=131_072),  # ~20 s
    "std": Preset(tokens=1800 * 1024, eval_tokens=262_144),  # ~60 s
    "promote": Preset(tokens=900 * 1024, eval_tokens=262_144, depth_factor=2),  # ~130 s: does a win carry to depth 4?
    "gpu8": _GPU,  # depth 8; `--data climbmix` is about one pass
    "gpu12": _GPU._replace(
        tokens=3000 * 2**19, depth_factor=6, data="climbmix:24"
    ),  # depth 12, as many tokens a parameter: `climbmix:24`
}

# Context when val is scored, whatever the recipe trains with: else a longer SEQ_LEN would win by seeing more.
EVAL_SEQ_LEN = 128

# The one special token: it opens every document and is worth no bytes.
BOS = "<|bos|>"

# GPT-4's splitting pattern with numbers cut at two digits, for a small vocabulary. After nanochat/tokenizer.py.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)

# Bytes of train that the tokenizer learns from: all of a corpus of files, a part of the first shards of climbmix.
TOKENIZER_BYTES = 100_000_000

# Bytes of text that are tokens in memory before they are tokens on disk: 16 MB are ~100 MB of memory.
ENCODED_AT_ONCE = 16_000_000

# Part of every fingerprint: bump it when a line of corpus.py, of the tokenizer or of the encoding changes.
FILTER_VERSION = 3


# ---- what the trainer and the referee call ----


@dataclass(frozen=True)
class Dataset:
    """Tokens of the two open splits, mapped from disk, not read. The hidden split is not here and not in its folder."""

    folder: Path
    data_hash: str  # of the tokenizer and the texts of all three splits: another hash is another task
    vocab_size: int
    train: np.ndarray  # (n,) uint16, documents one after another, each opened by <|bos|>
    val: np.ndarray  # (n,) uint16
    token_bytes: np.ndarray  # (vocab_size,) uint16, bytes per token id, 0 = not counted


def load(data: str = "python", vocab_size: int = VOCAB_SIZE) -> Dataset:
    """The prepared corpus, built first if this machine has none yet. Warm: milliseconds, nothing is walked but a
    folder's names. Safe to call from several processes at once. Raises Problem."""
    name = fingerprint(data, vocab_size)
    folder = _indexed(name) or _build_cache(data, vocab_size, name)
    meta = _meta(folder)
    assert meta is not None
    train, val = (np.memmap(folder / f"{split}.bin", dtype=np.uint16, mode="r") for split in ("train", "val"))
    token_bytes = np.fromfile(folder / "token_bytes.bin", dtype=np.uint16)
    return Dataset(folder, meta["data_hash"], meta["vocab_size"], train, val, token_bytes)


def batch(dataset: Dataset, seed: int, step: int, rows: int, seq_len: int, split: str = "train"):
    """x and its targets y, both (rows, seq_len) int64: random crops, a pure function of the arguments.

    Crops are numbered through the whole run, so arms that differ in `rows` alone read the same crops in the same order.
    """
    import torch

    tokens = getattr(dataset, split)
    if len(tokens) <= seq_len:
        raise Problem(f"{split} holds {len(tokens)} tokens, too few for sequences of {seq_len}; give it more text")
    numbers = np.arange(step * rows, (step + 1) * rows, dtype=np.uint64)
    starts = _scramble(numbers + _scramble(np.array([seed], dtype=np.uint64))) % np.uint64(len(tokens) - seq_len)
    crops = tokens[starts.astype(np.int64)[:, None] + np.arange(seq_len + 1)]  # (rows, seq_len + 1)
    crops = torch.from_numpy(crops.astype(np.int64))
    return crops[:, :-1], crops[:, 1:]


def bits_per_byte(model, tokens: np.ndarray, token_bytes: np.ndarray, seq_len: int, rows: int) -> float:
    """Total nats / (ln 2 * total bytes) over `tokens`, special tokens masked out. Comparable across tokenizers.

    tokens: (n,), read in order as windows of `seq_len` that share no target; the tail that fills no window is left out.
    model: (B, T) int64 -> (B, T, V) logits. `rows` changes speed and memory, not the number.
    After nanochat/loss_eval.py.
    """
    import torch
    from torch.nn import functional as F

    device = next(model.parameters()).device
    windows = (len(tokens) - 1) // seq_len
    if windows < 1:
        raise Problem(f"{len(tokens)} tokens to score are fewer than one window of {seq_len}; give it more text")
    ids = torch.from_numpy(np.asarray(tokens[: windows * seq_len + 1], dtype=np.int64))
    x, y = ids[:-1].view(windows, seq_len), ids[1:].view(windows, seq_len)
    worth = torch.from_numpy(token_bytes.astype(np.int64)).to(device)  # (V,)
    nats, n_bytes = 0.0, 0
    with torch.no_grad():
        for i in range(0, windows, rows):
            targets = y[i : i + rows].to(device).flatten()
            logits = model(x[i : i + rows].to(device)).flatten(0, 1).float()  # (B*T, V)
            counted = worth[targets]
            loss = F.cross_entropy(logits, targets, reduction="none")
            nats += loss[counted > 0].double().sum().item()
            n_bytes += counted.sum().item()
    return nats / (float(np.log(2)) * n_bytes)


def tokenizer(ranks: str):
    """The tiktoken.Encoding of a prepared folder's tokenizer.tiktoken, for reading samples; training never needs it."""
    return _encoding(
        {base64.b64decode(token): int(rank) for token, rank in (row.split() for row in ranks.splitlines())}
    )


# ---- building ----


def fingerprint(data: str, vocab_size: int = VOCAB_SIZE) -> str:
    """Names what would be built, without reading a text. Raises Problem for a vocabulary that no cache can hold."""
    if not 257 <= vocab_size <= 65_536:
        raise Problem(f"a vocabulary of {vocab_size}: it is 257 (bytes and {BOS}) to 65536 (ids of 16 bits)", code=2)
    facts = [FILTER_VERSION, vocab_size, corpus.version("rustbpe"), corpus.version("tiktoken"), corpus.facts(data)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def build(data: str, vocab_size: int, folder: Path, encoded: tuple[str, ...]) -> dict:
    """Write tokenizer, token_bytes and meta to `folder`, and the tokens of the splits named in `encoded`; returns meta.

    The same bytes for the same texts, whoever builds, and the same data_hash whichever splits are encoded: it is of the
    texts. They pass by in batches: 130 MB of memory for files, 510 MB for climbmix, whatever its size. Raises Problem.
    """
    texts = vars(corpus.splits(data, cache() / "climbmix"))
    if not all(any(True for _ in split) for split in texts.values()):
        n_bytes = sum(len(text) for split in texts.values() for text in split)
        raise Problem(
            f"{data} holds too little text to split: {n_bytes / 1e3:.0f} kB without copies and files that are not UTF-8; "
            "give it a few hundred kB"
        )
    ranks = _learn(texts["train"], vocab_size)
    encoding = _encoding(ranks)
    token_bytes = np.zeros(encoding.n_vocab, dtype=np.uint16)
    for token, rank in ranks.items():
        token_bytes[rank] = len(token)
    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    files = {
        "token_bytes.bin": token_bytes.tobytes(),
        "tokenizer.tiktoken": b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in by_rank),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)

    splits = {}
    for name in texts:
        seen = _Seen(f"preparing {name}")
        passing = seen.through(texts[name])
        if name in encoded:
            tokens = {"tokens": _write_tokens(folder / f"{name}.bin", encoding, passing)}
        else:
            tokens = {}
            for _ in passing:
                pass
        splits[name] = {"documents": seen.documents, "bytes": seen.bytes} | tokens | {"sha256": seen.sha256.hexdigest()}
    hashed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    hashed |= {name: split["sha256"] for name, split in splits.items()}
    named = [encoding.n_vocab, PATTERN, BOS, hashed]
    meta = {
        "data_hash": hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16],
        "vocab_size": encoding.n_vocab,
        "splits": splits,
        "fingerprint": fingerprint(data, vocab_size),
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
        "filter_version": FILTER_VERSION,
        "versions": {name: corpus.version(name) for name in (*corpus.sources(data), "rustbpe", "tiktoken")},
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return meta


class _Seen:
    """What has passed through: how many texts, of how many bytes, and the sha256 of all, each behind its length."""

    def __init__(self, what: str):
        self.documents, self.bytes, self.sha256, self.progress = 0, 0, hashlib.sha256(), Progress(what)

    def through(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            content = text.encode()
            self.documents += 1
            self.bytes += len(content)
            self.sha256.update(len(content).to_bytes(8, "little"))
            self.sha256.update(content)
            self.progress.add(len(content))
            yield text


def _learn(texts: Iterable[str], vocab_size: int) -> dict[bytes, int]:
    """Rank by token: the 256 bytes and the merges learned from the first TOKENIZER_BYTES."""
    import rustbpe

    trainer = rustbpe.Tokenizer()
    first = next(_groups(texts, TOKENIZER_BYTES))
    trainer.train_from_iterator(iter(first), vocab_size - 1, pattern=PATTERN)
    return {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}


def _encoding(ranks: dict[bytes, int]):
    import tiktoken

    return tiktoken.Encoding("nanochat", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={BOS: len(ranks)})


def _write_tokens(path: Path, encoding, texts: Iterable[str]) -> int:
    """Every text behind one <|bos|>, as uint16; returns their number. Text that spells `<|bos|>` stays ordinary."""
    bos = np.array([encoding.n_vocab - 1])

    def encode(group: list[str]) -> np.ndarray:
        ids = [part for text in group for part in (bos, encoding.encode_to_numpy(text, disallowed_special=()))]
        return np.concatenate(ids).astype(np.uint16)

    # tiktoken releases the GIL; pool.map would take in all it is given, hence the outer batches
    with path.open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in _groups(texts, ENCODED_AT_ONCE):
            for ids in pool.map(encode, _groups(batch, 250_000)):
                file.write(ids.tobytes())
        return file.tell() // 2


def _groups(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """The texts in order, in lists of at least `size` characters; the last may be shorter."""
    group, room = [], size
    for text in texts:
        group.append(text)
        room -= len(text)
        if room <= 0:
            yield group
            group, room = [], size
    if group:
        yield group


def _scramble(x: np.ndarray) -> np.ndarray:
    """splitmix64's output for counter x, (n,) uint64: the same crops under every version of numpy and torch."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


# ---- where it is kept ----


def cache() -> Path:
    """`index/<fingerprint>` names the folder `<data_hash>/` to read; `lock` is held while one is built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nanochat"


def _indexed(name: str) -> Path | None:
    try:
        folder = cache() / (cache() / "index" / name).read_text()
    except FileNotFoundError:
        return None
    return folder if _meta(folder) else None


def _meta(folder: Path) -> dict | None:
    """meta.json of a folder that is whole, None for one that is not there or lost a part: it is built again."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        sizes = {name: (folder / name).stat().st_size for name in meta["sizes"]}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return meta if sizes == meta["sizes"] else None


def _build_cache(data: str, vocab_size: int, name: str) -> Path:
    """Build once: whoever waited for the lock finds the work done. A killed build leaves nothing a reader can see."""
    (cache() / "index").mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder := _indexed(name):
            return folder
        for stale in cache().glob(".building-*"):
            shutil.rmtree(stale)  # we hold the lock: its builder is dead
        takes = "minutes" if corpus.is_climbmix(data) else "a few seconds"
        print(f"nanochat: preparing {data} (once, {takes})", file=sys.stderr, flush=True)
        with _temporary(cache()) as temporary:
            meta = build(data, vocab_size, temporary, encoded=("train", "val"))
            folder = cache() / meta["data_hash"]
            if _meta(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)  # damaged, or none
                _publish(temporary, folder)
        pointer = cache() / "index" / f"{name}.new"
        pointer.write_text(folder.name)
        pointer.replace(cache() / "index" / name)
    return folder


def write_referee(data: str, folder: Path, vocab_size: int = VOCAB_SIZE) -> dict:
    """val, hidden, token_bytes and meta in `folder`, all or nothing; returns meta. At once if they are there already.

    Built from the corpus, never from the cache, which trainers can write: equal `data_hash`es prove that both agree.
    """
    name = fingerprint(data, vocab_size)
    if not (folder / "meta.json").exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Problem(f"{folder} is there and is no folder of splits; name another, or an empty one")
        with _temporary(folder.parent) as temporary:
            build(data, vocab_size, temporary, encoded=("val", "hidden"))
            _publish(temporary, folder)
    meta = json.loads((folder / "meta.json").read_text())
    if meta.get("fingerprint") != name:
        raise Problem(f"{folder} holds the splits of another corpus ({meta['data_hash']}); give it another folder")
    return meta


@contextmanager
def _temporary(place: Path) -> Iterator[Path]:
    """A folder in `place` that is gone when the block ends, unless it was published."""
    temporary = place / f".building-{os.getpid()}"
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        if error.filename and error.filename != str(temporary):
            raise  # a text that cannot be read; a failed write carries no file name
        raise Problem(f"cannot write to {place}: {error.strerror}; free some space or choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    """`temporary` becomes `folder`, of read-only files, whole or not at all. Of two writers the first one's stays."""
    for path in temporary.iterdir():
        path.chmod(0o444)  # files only: a read-only folder would make `rm -rf` of the cache fail
    try:
        temporary.rename(folder)
    except OSError:
        if _meta(folder) is None:
            raise


# ---- the command ----


def main() -> None:
    flags = Flags(prog="python -m nanochat.prepare", description=(__doc__ or "").partition("\n")[0])
    data = "`python` (installed sources), `climbmix` or `climbmix:N` (N shards of web text), or a folder of text files"
    flags.add_argument("--data", default="python", help=data)
    flags.add_argument(
        "--vocab", default=VOCAB_SIZE, type=int, metavar="N", help="token ids, 257 to 65536 (%(default)s)"
    )
    flags.add_argument("--referee", metavar="DIR", type=Path, help="write val and the hidden split there, no cache")
    args = flags.parse_args()
    if not args.data:
        raise Problem("--data is empty; it takes `python`, `climbmix`, `climbmix:N` or a folder of text files", code=2)
    if args.referee:
        folder, meta = args.referee, write_referee(args.data, args.referee, args.vocab)
    else:
        folder = load(args.data, args.vocab).folder
        meta = json.loads((folder / "meta.json").read_text())
    tokens = {name: split["tokens"] for name, split in meta["splits"].items() if "tokens" in split}
    counts = ", ".join(f"{name} {n / 1e6:.2f} M tokens" for name, n in tokens.items())
    print(f"{folder}\ndata_hash {meta['data_hash']}: {counts}; {meta['vocab_size']} ids")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
