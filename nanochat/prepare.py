"""The ground that experiments stand on: corpus, tokenizer, splits, batches, budgets and the metric. Frozen for agents.

    python -m nanochat.prepare                  # once, seconds: Python sources of the installed packages
    python -m nanochat.prepare --data FOLDER    # or any folder of .txt, .md and .py files
    python -m nanochat.prepare --referee DIR    # val and the hidden split, for whoever scores checkpoints

Keeps to itself where the cache lies and how it is built. Trains nothing; torch is imported only where tensors are made.
"""

import argparse
import base64
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

import numpy as np

# ---- what every experiment holds equal ----


class Preset(NamedTuple):
    """A rung of the ladder: a budget in tokens, never in seconds."""

    tokens: int  # training tokens; 1,024 a step at the default ROWS x SEQ_LEN
    eval_tokens: int  # length of the prefix of val that is scored
    depth_factor: int  # times DEPTH


# The budgets live in the frozen file: a recipe may spend its tokens in other batches, it may not take more of them.
PRESETS = {
    "smoke": Preset(tokens=300 * 1024, eval_tokens=65_536, depth_factor=1),  # ~12 s on one core
    "demo": Preset(tokens=600 * 1024, eval_tokens=131_072, depth_factor=1),  # ~24 s
    "std": Preset(tokens=1800 * 1024, eval_tokens=262_144, depth_factor=1),  # ~75 s
    "promote": Preset(tokens=900 * 1024, eval_tokens=262_144, depth_factor=2),  # ~150 s: does a win carry to depth 4?
}

# Context when val is scored, whatever the recipe trains with: else a longer SEQ_LEN would win by seeing more.
EVAL_SEQ_LEN = 128

# 2.6 bytes a token; at this scale that beats single bytes clearly (2.38 vs 2.82 bpb after 10 s of training).
VOCAB_SIZE = 1024

# The one special token: it opens every document and is worth no bytes.
BOS = "<|bos|>"

# GPT-4's splitting pattern with numbers cut at two digits, for a small vocabulary. After nanochat/tokenizer.py.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)

# Bytes of text kept per split, documents in the order of their hash: 12 MB are 4.7 M tokens, and `std` reads 1.8 M.
CAPS = {"train": 12_000_000, "val": 1_500_000, "hidden": 1_500_000}

# Share of the documents, by hash, in each of val and hidden.
HELD_OUT = 0.04

# The default corpus is what installing torch brings along: real text on every machine, nothing to download.
PACKAGES = ("torch", "sympy", "numpy", "networkx")

# Part of every fingerprint: bump it when a line of the filter, of the tokenizer or of the split below changes.
FILTER_VERSION = 2


class Problem(Exception):
    """What a person can cause and mend. Shown as one line on stderr; `code` 1 is an error, 2 is bad usage."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


# ---- what the trainer and the referee call ----


@dataclass(frozen=True)
class Dataset:
    """Tokens of the two open splits, mapped from disk, not read. The hidden split is not here and not in its folder."""

    folder: Path
    data_hash: str  # of tokenizer and all three splits: another hash is another task
    vocab_size: int
    train: np.ndarray  # (n,) uint16, documents one after another, each opened by <|bos|>
    val: np.ndarray  # (n,) uint16
    token_bytes: np.ndarray  # (vocab_size,) uint16, bytes per token id, 0 = not counted


def load(data: str = "python") -> Dataset:
    """The prepared corpus, built first if this machine has none yet. Warm: milliseconds, nothing is walked but a
    folder's names. Safe to call from several processes at once. Raises Problem."""
    name = fingerprint(data)
    folder = _indexed(name) or _build_cache(data, name)
    meta = json.loads((folder / "meta.json").read_text())
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


def tokenizer(folder: Path):
    """The tiktoken.Encoding of a prepared folder, for reading samples and for tools; training never needs it."""
    lines = (folder / "tokenizer.tiktoken").read_bytes().splitlines()
    return _encoding({base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)})


# ---- corpus: which text, in which split ----


def fingerprint(data: str) -> str:
    """Names the corpus without reading it: package versions, or the names, sizes and times of a folder's files."""
    facts: list = [FILTER_VERSION, VOCAB_SIZE, _version("rustbpe"), _version("tiktoken")]
    if data == "python":
        facts += [(name, _version(name)) for name in PACKAGES]
    else:
        root = Path(data)
        stats = [(path, path.stat()) for path in _folder_files(root)]
        facts += [(str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def documents(data: str) -> list[tuple[str, str]]:
    """(sha256, text) of every document, sorted by hash, each text once; the order knows nothing of file names."""
    paths = _package_files() if data == "python" else _folder_files(Path(data))
    texts = [text for text in map(_text, paths) if text.strip()]
    if data != "python" and len(texts) < 200:
        # a book in one file is one document, which no hash can split: cut it into passages
        texts = [passage for text in texts for passage in _passages(text)]
    return sorted({_digest(text): text for text in texts}.items())


def splits(docs: list[tuple[str, str]]) -> dict[str, list[str]]:
    """The texts of train (documents), val and hidden (passages). A document's hash alone decides, so another file moves
    no document, no document is in two splits, and the first CAPS bytes in hash order are a random sample."""
    texts: dict[str, list[str]] = {"train": [], "val": [], "hidden": []}
    room = dict(CAPS)
    for digest, text in docs:
        place = int(digest[:8], 16) / 2**32
        split = "hidden" if place < HELD_OUT else "val" if place < 2 * HELD_OUT else "train"
        if room[split] > 0:
            texts[split].append(text)
            room[split] -= len(text.encode())
    # what is scored is a prefix: in shuffled passages 65 k tokens sample the whole split, in documents the first ten
    for split in ("val", "hidden"):
        texts[split] = sorted((p for text in texts[split] for p in _passages(text)), key=_digest)
    return texts


def _package_files() -> Iterator[Path]:
    """Python sources of PACKAGES. Out: tests (near-copies of each other) and files over 256 kB (mostly tables)."""
    for name in PACKAGES:
        spec = util.find_spec(name)  # finds, does not import
        if spec is None or not spec.submodule_search_locations:
            raise Problem(f"package {name} is not installed; install torch, sympy, numpy and networkx, or pass --data")
        root = Path(spec.submodule_search_locations[0])
        for path in root.rglob("*.py"):
            folders = path.relative_to(root).parts[:-1]
            is_test = any(part in ("test", "tests", "testing", "_testing") for part in folders)
            is_test = is_test or path.name.startswith("test_") or path.name.endswith("_test.py")
            if not is_test and path.name != "conftest.py" and path.stat().st_size <= 256_000:
                yield path


def _folder_files(root: Path) -> list[Path]:
    """Text files below `root`, sorted; nothing hidden."""
    if not root.is_dir():
        raise Problem(f"no folder {root}; --data takes `python` or a folder of text files")
    paths = [p for p in root.rglob("*") if p.suffix in (".txt", ".md", ".py") and p.is_file()]
    paths = sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(root).parts))
    if not paths:
        raise Problem(f"{root} holds no .txt, .md or .py file; put text there or pass another --data")
    return paths


def _text(path: Path) -> str:
    """A file's text with its bytes kept as they are; nothing for a file that is not UTF-8."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:  # a few test tables in Latin-1; a guess would change their bytes
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _passages(text: str, size: int = 4096) -> Iterator[str]:
    """`text` in pieces of about `size` characters, cut at line ends where there are any."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + size - 1, start + 2 * size) + 1 or start + size
        yield text[start:end]
        start = end


# ---- building ----


@dataclass(frozen=True)
class Built:
    """Everything made from a corpus, still in memory: the same bytes for the same texts, whoever builds them."""

    files: dict[str, bytes]  # by file name
    meta: dict


def build(data: str) -> Built:
    """Tokenizer, the three splits and their hash. A few seconds and ~300 MB. Raises Problem for too little text."""
    import rustbpe

    texts = splits(documents(data))
    smallest = min(texts, key=lambda split: len(texts[split]))
    if not texts[smallest]:
        n_bytes = sum(len(text) for split in texts.values() for text in split)
        raise Problem(f"{data} holds too little text ({n_bytes / 1e3:.0f} kB) to split; give it a few hundred kB")
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts["train"]), VOCAB_SIZE - 1, pattern=PATTERN)
    ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
    encoding = _encoding(ranks)
    tokens = {split: _encode(encoding, texts[split]) for split in texts}
    token_bytes = np.zeros(encoding.n_vocab, dtype=np.uint16)
    for token, rank in ranks.items():
        token_bytes[rank] = len(token)

    files = {f"{split}.bin": tokens[split].tobytes() for split in tokens}
    files["token_bytes.bin"] = token_bytes.tobytes()
    by_rank = sorted(ranks.items(), key=lambda item: item[1])
    files["tokenizer.tiktoken"] = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in by_rank)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + files[name])
    counts = {
        split: {
            "documents": len(texts[split]),
            "tokens": len(tokens[split]),
            "bytes": sum(len(text.encode()) for text in texts[split]),
        }
        for split in texts
    }
    sources = PACKAGES if data == "python" else ()
    versions = {name: _version(name) for name in (*sources, "rustbpe", "tiktoken")}
    meta = {
        "data_hash": digest.hexdigest()[:16],
        "vocab_size": encoding.n_vocab,
        "splits": counts,
        "filter_version": FILTER_VERSION,
        "versions": versions,
    }
    return Built(files, meta)


def _encoding(ranks: dict[bytes, int]):
    import tiktoken

    return tiktoken.Encoding("nanochat", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={BOS: len(ranks)})


def _encode(encoding, texts: list[str]) -> np.ndarray:
    """(n,) uint16: every text behind one <|bos|>. Text that spells `<|bos|>` stays ordinary text."""
    bos = encoding.n_vocab - 1

    def one(text: str) -> np.ndarray:
        return np.array([bos, *encoding.encode_ordinary(text)], dtype=np.uint16)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # tiktoken releases the GIL
        return np.concatenate(list(pool.map(one, texts)))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise Problem(f"package {package} is not installed; pip install {package}") from error


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
    return folder if (folder / "meta.json").exists() else None


def _build_cache(data: str, name: str) -> Path:
    """Build once: whoever waited for the lock finds the work done. A killed build leaves nothing a reader can see."""
    (cache() / "index").mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder := _indexed(name):
            return folder
        for stale in cache().glob(".building-*"):
            shutil.rmtree(stale)  # we hold the lock: its builder is dead
        print(f"nanochat: preparing {data} (once, a few seconds)", file=sys.stderr, flush=True)
        built = build(data)
        folder = cache() / built.meta["data_hash"]
        if not (folder / "meta.json").exists():
            shared = {file: data for file, data in built.files.items() if file != "hidden.bin"}
            _write(folder, shared, built.meta)
        pointer = cache() / ".building-pointer"
        pointer.write_text(folder.name)
        pointer.replace(cache() / "index" / name)
    return folder


def write_referee(data: str, folder: Path) -> dict:
    """val, hidden, token_bytes and meta in `folder`, all or nothing; returns meta. At once if they are there already.

    Built from the corpus, never from the cache, which trainers can write: equal `data_hash`es prove that both agree.
    """
    name = fingerprint(data)
    if not (folder / "meta.json").exists():
        built = build(data)
        kept = {file: built.files[file] for file in ("val.bin", "hidden.bin", "token_bytes.bin")}
        _write(folder, kept, built.meta | {"fingerprint": name})
    meta = json.loads((folder / "meta.json").read_text())
    if meta.get("fingerprint") != name:
        raise Problem(f"{folder} holds the splits of another corpus ({meta['data_hash']}); give it another folder")
    return meta


def _write(folder: Path, files: dict[str, bytes], meta: dict) -> None:
    """A folder of read-only files that appears whole or not at all. Two writers of the same name: either one's wins."""
    temporary = folder.with_name(f".building-{folder.name}-{os.getpid()}")
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        for name, content in {**files, "meta.json": (json.dumps(meta, indent=1) + "\n").encode()}.items():
            (temporary / name).write_bytes(content)
            # files only: a read-only folder would make `rm -rf` of the cache fail
            (temporary / name).chmod(0o444)
        temporary.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and (folder / "meta.json").exists():
            return  # the other writer was first
        # a failed write carries no file name
        raise Problem(f"cannot write {folder}: {error.strerror}; free some space or choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# ---- the command ----


class Flags(argparse.ArgumentParser):
    """argparse, but a mistake is one line."""

    def error(self, message: str):
        raise Problem(f"{message}; see --help", code=2)


def exit_code(main: Callable[[], None]) -> int:
    """Run `main` and turn what a person caused into one line on stderr and an exit code. Bugs stay tracebacks."""
    try:
        main()
        sys.stdout.flush()
    except Problem as error:
        print(f"nanochat: {error}", file=sys.stderr)
        return error.code
    except OSError as error:  # a full disk, a folder that may not be written, a closed pipe
        where = f": {error.filename}" if error.filename else ""
        print(f"nanochat: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def main() -> None:
    flags = Flags(prog="python -m nanochat.prepare", description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--data", default="python", help="`python` (installed sources) or a folder of text files")
    flags.add_argument("--referee", metavar="DIR", type=Path, help="write val and the hidden split there, no cache")
    args = flags.parse_args()
    if args.referee:
        folder, meta = args.referee, write_referee(args.data, args.referee)
    else:
        folder = load(args.data).folder
        meta = json.loads((folder / "meta.json").read_text())
    counts = ", ".join(f"{name} {split['tokens'] / 1e6:.2f} M tokens" for name, split in meta["splits"].items())
    print(f"{folder}\ndata_hash {meta['data_hash']}: {counts}; {meta['vocab_size']} ids")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
