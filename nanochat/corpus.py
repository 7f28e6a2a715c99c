"""Which text, and in which split: installed Python sources, a folder, or upstream's ClimbMix shards. Frozen for agents.

Keeps to itself what `--data` may say and how files become documents. Knows no tokens.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import BinaryIO

from nanochat.command import Problem

# The default corpus is what installing torch brings along: real text on every machine, nothing to download.
PACKAGES = ("torch", "sympy", "numpy", "networkx")

# Bytes of text kept per split of files, documents in the order of their hash: 12 MB are 4.7 M tokens, `std` reads 1.8 M.
CAPS = {"train": 12_000_000, "val": 1_500_000, "hidden": 1_500_000}

# Share of the documents, by hash, in each of val and hidden.
HELD_OUT = 0.04

# Upstream's corpus: web text in shards of about 250 MB of it (100 MB to fetch), shuffled, the last one for validation.
REPOSITORY = "karpathy/climbmix-400b-shuffle"
LAST_SHARD = 6542
SHARDS = 8  # ~2 GB of text, as many tokens as `gpu8` reads; `climbmix:N` takes N

# Bytes of text kept of the validation shard in each of val and hidden; train is all of its shards.
CLIMBMIX_CAP = 20_000_000


@dataclass(frozen=True)
class Splits:
    """Texts by split. `train` may be gone through more than once; it is read from disk each time if it is large."""

    train: Iterable[str]
    val: list[str]
    hidden: list[str]


def facts(data: str) -> dict:
    """Names the corpus without reading it: package versions, the number of shards, or a folder's sizes and times."""
    if data == "python":
        return {name: version(name) for name in PACKAGES}
    if is_climbmix(data):
        return {REPOSITORY: _shards(data)}
    root = Path(data)
    stats = [(path, path.stat()) for path in _folder_files(root)]
    return {str(path.relative_to(root)): [stat.st_size, stat.st_mtime_ns] for path, stat in stats}


def splits(data: str, shards: Path) -> Splits:
    """The corpus, fetched to the folder `shards` if it is one that is fetched. Raises Problem."""
    if is_climbmix(data):
        return climbmix(_shards(data), shards)
    return split(documents(data))


def sources(data: str) -> tuple[str, ...]:
    """The packages whose versions decide what the text is."""
    return PACKAGES if data == "python" else ()


def is_climbmix(data: str) -> bool:
    return data.partition(":")[0] == "climbmix"


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise Problem(f"package {package} is not installed; pip install {package}") from error


# ---- files ----


def documents(data: str) -> list[tuple[str, str]]:
    """(sha256, text) of every document, sorted by hash, each text once; the order knows nothing of file names."""
    paths = _package_files() if data == "python" else _folder_files(Path(data))
    texts = [text for text in map(_text, paths) if text.strip()]
    if data != "python" and len(texts) < 200:
        # a book in one file is one document, which no hash can split: cut it into passages
        texts = [passage for text in texts for passage in _passages(text)]
    return sorted({_digest(text): text for text in texts}.items())


def split(docs: list[tuple[str, str]]) -> Splits:
    """The texts of train (documents), val and hidden (passages). A document's hash alone decides, so another file moves
    no document, no document is in two splits, and the first CAPS bytes in hash order are a random sample."""
    texts: dict[str, list[str]] = {"train": [], "val": [], "hidden": []}
    room = dict(CAPS)
    for digest, text in docs:
        place = int(digest[:8], 16) / 2**32
        name = "hidden" if place < HELD_OUT else "val" if place < 2 * HELD_OUT else "train"
        if room[name] > 0:
            texts[name].append(text)
            room[name] -= len(text.encode())
    # what is scored is a prefix: in shuffled passages 65 k tokens sample the whole split, in documents the first ten
    for name in ("val", "hidden"):
        texts[name] = sorted((p for text in texts[name] for p in _passages(text)), key=_digest)
    return Splits(**texts)


def _package_files() -> Iterator[Path]:
    """Python sources of PACKAGES. Out: tests (near-copies of each other) and files over 256 kB (mostly tables)."""
    for name in PACKAGES:
        spec = util.find_spec(name)  # finds, does not import
        if spec is None or not spec.submodule_search_locations:
            raise Problem(f"package {name} is not installed; install torch, sympy, numpy and networkx, or pass --data")
        # os.walk enters no test folder and takes 0.07 s, where rglob takes 0.4
        for folder, folders, files in os.walk(spec.submodule_search_locations[0]):
            folders[:] = [name for name in folders if name not in ("test", "tests", "testing", "_testing")]
            for file in files:
                is_test = file.startswith("test_") or file.endswith("_test.py") or file == "conftest.py"
                path = Path(folder, file)
                if file.endswith(".py") and not is_test and path.stat().st_size <= 256_000:
                    yield path


def _folder_files(root: Path) -> list[Path]:
    """Text files below `root`, sorted; nothing hidden."""
    if not root.is_dir():
        raise Problem(f"no folder {root}; --data takes `python`, `climbmix`, `climbmix:N` or a folder of text files")

    def refuse(error: OSError):  # to pass over what cannot be read would make another corpus of it
        raise error

    paths = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        there = (Path(folder, name) for name in files if not name.startswith("."))
        paths += [path for path in there if path.suffix in (".txt", ".md", ".py") and path.is_file()]
    paths.sort()
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


# ---- ClimbMix ----


def climbmix(n: int, shards: Path) -> Splits:
    """Train: shards 0 to n-1, documents in their order, less those held out. Val and hidden: the last shard, by hash.

    Whole documents, as upstream shuffled them: contexts are long here, and a prefix samples the split as it is.
    """
    try:
        import pyarrow  # noqa: F401  before the first of many megabytes is fetched
    except ModuleNotFoundError as error:
        raise Problem("climbmix is kept as parquet files, which pyarrow reads; pip install pyarrow") from error
    from nanochat.fetch import fetch  # 40 ms of urllib

    shards.mkdir(parents=True, exist_ok=True)
    with (shards / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        paths = [fetch(_url(i), shards) for i in range(n)]
    # it holds the hidden split, and trainers may read the folder of the others
    with tempfile.TemporaryDirectory(prefix="nanochat-held-out-") as private:
        last = fetch(_url(LAST_SHARD), Path(private))
        with last.open("rb") as file:
            held_out = _held_out(_column(file))
    return Splits(_Train(paths, frozenset(held_out["val"] + held_out["hidden"])), **held_out)


@dataclass(frozen=True)
class _Train:
    paths: list[Path]
    held_out: frozenset[str]

    def __iter__(self) -> Iterator[str]:
        for path in self.paths:
            with path.open("rb") as file:
                yield from (text for text in _column(file) if text not in self.held_out)


def _held_out(texts: Iterable[str]) -> dict[str, list[str]]:
    kept: dict[str, list[str]] = {"val": [], "hidden": []}
    room = dict.fromkeys(kept, CLIMBMIX_CAP)
    for text in texts:
        name = "hidden" if int(_digest(text)[:8], 16) < 2**31 else "val"
        if room[name] > 0:
            kept[name].append(text)
            room[name] -= len(text.encode())
        if max(room.values()) <= 0:
            break
    return kept


def _column(file: BinaryIO) -> Iterator[str]:
    """The texts of an open shard, a thousand at a time."""
    import pyarrow
    from pyarrow import parquet

    try:
        shard = parquet.ParquetFile(file)
        if "text" not in shard.schema_arrow.names:
            raise Problem(f"{file.name} has no column `text`; it is not a shard of {REPOSITORY}")
        for rows in shard.iter_batches(batch_size=1024, columns=["text"]):
            yield from (text for text in rows.column(0).to_pylist() if text and text.strip())
    except (pyarrow.ArrowException, OSError) as error:  # an OSError is a page that cannot be decoded
        reason = str(error).partition("\n")[0]
        raise Problem(
            f"{file.name} is not a whole parquet file ({reason:.100}); delete it and prepare again"
        ) from error


def _shards(data: str) -> int:
    count = data.partition(":")[2] or str(SHARDS)
    if data.endswith(":") or not count.isdecimal() or not 1 <= int(count) <= LAST_SHARD:
        raise Problem(f"{data}: N of climbmix:N is a number of shards, 1 to {LAST_SHARD}", code=2)
    return int(count)


def _url(shard: int) -> str:
    # HF_ENDPOINT is that hub's own name for a mirror; file:// works too
    hub = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if "://" not in hub:
        raise Problem(f"HF_ENDPOINT is {hub}, which is no URL; unset it or give one", code=2)
    return f"{hub.rstrip('/')}/datasets/{REPOSITORY}/resolve/main/shard_{shard:05}.parquet"
