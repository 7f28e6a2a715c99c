"""Files that survive a crash: strict YAML, atomic replace, whole-line appends, locks. Knows no file of ours by name."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import random
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from org import times
from org.errors import BadInput, Busy

MAX_TEXT_BYTES = 8 * 1024 * 1024  # of a text that somebody names
MAX_JSON_BYTES = 64 * 1024 * 1024  # of a document of ours: the largest is a hundredth of that
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # as mkstemp ends the names that `replace` gives
PROBE_S = 0.3  # as long a lock is asked for again that others only look at


# --- time and text -----------------------------------------------------------------------------------------------


def utc_now() -> str:
    """Now as files carry it: UTC, ISO-8601, milliseconds."""
    return times.utc(time.time())


def printable(text: str, limit: int = 100_000) -> str:
    """`text` without control characters (newline and tab stay), bidi overrides or halves of surrogate pairs, which no file
    can hold, at most `limit` characters. For anything an agent wrote before a terminal or a page shows it."""
    clean = re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f\ud800-\udfff]",
        "\N{REPLACEMENT CHARACTER}",
        text,
    )
    return clean if len(clean) <= limit else clean[:limit] + " […]"


# --- writing -----------------------------------------------------------------------------------------------------


def replace(path: Path, content: str | bytes) -> None:
    """Write `path` whole or not at all: a temporary file beside it, then a rename. Makes the parent folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails names no file
        raise


def move(path: Path, to: Path) -> None:
    """What lies at `path`, a link too, lies at `to` from now on; a writer that has it open goes on writing there. Nothing
    happens where nothing lies."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(to)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        import shutil  # 5 ms that no other call needs

        shutil.move(path, to)  # another disk


def is_plain(path: Path, data: bytes, is_executable: bool) -> bool:
    """Whether a plain file with exactly these bytes lies there, executable by its owner or not."""
    try:
        facts = path.lstat()
        is_same = stat.S_ISREG(facts.st_mode) and facts.st_size == len(data)
        return is_same and bool(facts.st_mode & stat.S_IXUSR) == is_executable and path.read_bytes() == data
    except OSError:
        return False


def sweep(folder: Path, older_s: float = 60.0) -> None:
    """Remove the temporary files that killed callers of `replace` left in `folder`. A write takes milliseconds, so what is
    older than a minute has nobody; with `older_s=0.0` the caller knows that nobody writes there."""
    before = time.time() - older_s
    for path in folder.iterdir() if folder.is_dir() else ():
        if not _TEMPORARY.fullmatch(path.name):
            continue
        try:
            if path.lstat().st_mtime <= before:
                path.unlink()
        except OSError:
            continue  # renamed meanwhile, or a folder of somebody's


def replace_json(path: Path, value: Any) -> None:
    """`value` as one indented JSON document, replaced atomically."""
    replace(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def is_full(error: OSError) -> bool:
    """Whether the disk is the matter, which is everybody's, and not this one place."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def append_line(path: Path, line: str, sync: bool = False) -> None:
    """Append one whole line by a single write on an O_APPEND descriptor; `sync` waits for the disk.

    A torn tail left by a full disk is closed with a newline first, so it spoils no line but its own.
    Raises OSError when the disk took less than the whole line. A pipe in its place is not waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = line.rstrip("\n").encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if sync:
            os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)  # a write that fails names no file
        raise
    finally:
        os.close(descriptor)


# --- reading -----------------------------------------------------------------------------------------------------


def read_plain(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """A regular file that somebody named, of at most `most` bytes. BadInput for anything else that is there: a pipe would
    be waited for without end, a device be read without end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link to itself, a socket
            raise BadInput(f"{path} is no plain file; name a text") from None
        raise
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise BadInput(f"{path} is no plain file; name a text")
        if facts.st_size > most:
            raise BadInput(f"{path} is larger than {most // 1024} KB; name a shorter text")
        return os.read(descriptor, most)
    finally:
        os.close(descriptor)


def signature(*places: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file in these folders and files: another one when somebody has edited there."""
    found = []
    for place in places:
        for folder, names, leaves in os.walk(place):
            names.sort()
            found += [os.path.join(folder, leaf) for leaf in leaves]  # noqa: PTH118 - looked at again and again
        found += [str(place)] if place.is_file() else []
    return tuple(sorted(_facts(name) for name in found))


def _facts(name: str) -> tuple[str, int, int]:
    try:
        facts = os.stat(name)  # noqa: PTH116 - as above
    except OSError:
        return name, -1, -1  # gone meanwhile
    return name, facts.st_size, facts.st_mtime_ns


def digest(path: Path) -> str:
    """First 16 hex digits of a file's sha256; "" where there is none to read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def read_json(path: Path) -> Any:
    """The document in `path`, or None when the file is missing, empty, torn, nested without end or no plain file: agents can
    write where the office reads, and a pipe would be waited for."""
    try:
        with _plain(path) as file:
            if os.fstat(file.fileno()).st_size > MAX_JSON_BYTES:
                return None
            return json.loads(file.read(MAX_JSON_BYTES))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None


def _plain(path: Path) -> BinaryIO:
    """`path` opened to be read, without waiting for a writer. FileNotFoundError for what is there and no plain file: nothing
    of ours is there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link to itself, a socket
            raise FileNotFoundError(errno.ENOENT, "no plain file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def read_lines(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """JSON objects of the whole lines from byte `start` on, and the offset to go on from. Lines that do not parse are
    left out; an unfinished last line waits for its end."""
    lines, end = whole_lines(path, start)
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows, end


def read_tail(path: Path, most: int) -> list[dict[str, Any]]:
    """Those of the last `most` bytes, oldest first; a line that begins before them is left out. None where no file is."""
    try:
        size = path.stat().st_size
    except OSError:  # none yet, or a link to itself
        return []
    return read_lines(path, max(0, size - most))[0]


def whole_lines(path: Path, start: int = 0) -> tuple[list[bytes], int]:
    """The same, unparsed: lines without their ends, and the offset to go on from."""
    try:
        with _plain(path) as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), start + end


# --- locks -------------------------------------------------------------------------------------------------------


@contextmanager
def locked(path: Path, wait: bool = True, limit_s: float | None = None) -> Iterator[int]:
    """Hold an exclusive kernel lock on `path` (made if missing, never unlinked) until the block ends; yields the descriptor.
    With `wait=False` raises Busy at once when somebody holds it, with `limit_s` after that long: for a lock that an agent
    can take, or be stopped with."""
    descriptor = _open_lock(path)
    try:
        if wait and limit_s is not None:
            end = time.monotonic() + limit_s
            while not _take(descriptor):
                if time.monotonic() > end:
                    raise Busy(f"{path} is held by another process for {limit_s:.0f} s; end that: `fuser -v` names it")
                time.sleep(random.uniform(0.002, 0.02))
        elif wait:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not _take(descriptor):
            raise Busy(f"{path} is locked by another process; wait for it to end")
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """A descriptor holding the exclusive lock on `path`, or None when it is held. The caller closes it; it may be passed on."""
    descriptor = _open_lock(path)
    if _take(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock on `path` right now. A shared lock for a moment, which `try_lock` sees through.
    /proc/locks would need none, but in a container it leaves out a lock whose taker passed it on and ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open_lock(path: Path) -> int:
    """BadInput for what is there and no plain file: a pipe takes locks, and no note of who holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is no plain file; remove it, a lock is made there")
    return descriptor


def _take(descriptor: int) -> bool:
    """The exclusive lock, without waiting for a holder. One that can be shared is only being probed: asked for again."""
    end = time.monotonic() + PROBE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass  # held, or probed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        if time.monotonic() > end:
            return False
        time.sleep(random.uniform(0.0001, 0.002))  # two takers that look at each other must not stay in step
