"""The only module that looks at /proc and ends processes. A process is known by (boot id, pid, start ticks), never by pid alone."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Identity:
    """One process for ever: a later process with the same pid has other ticks, after a reboot another boot id."""

    boot_id: str
    pid: int
    start_ticks: int


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identity(pid: int) -> Identity | None:
    """Who `pid` is now, or None when there is no such process or only its zombie."""
    facts = _stat(pid)
    return None if facts is None or facts[0] in "ZX" else Identity(boot_id(), pid, facts[2])


def is_alive(who: Identity) -> bool:
    """Whether this very process lives. A zombie counts as dead."""
    return identity(who.pid) == who


def descendants(pid: int) -> list[int]:
    """Living children of `pid`, their children and so on; zombies left out."""
    children: dict[int, list[int]] = {}
    for child in _pids():
        facts = _stat(child)
        if facts is not None and facts[0] not in "ZX":
            children.setdefault(facts[1], []).append(child)
    found, queue = [], [pid]
    while queue:
        more = children.get(queue.pop(), [])
        found += more
        queue += more
    return found


def set_subreaper(on: bool = True) -> None:
    """Orphans below this process become its children, whatever session they made for themselves; until it is off."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def find_marked(marker: str) -> list[int]:
    """Living processes whose environment holds exactly `marker` (NAME=value), this one left out."""
    wanted = os.fsencode(marker)
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone, or another user's
        if wanted in entries and identity(pid) is not None:
            found.append(pid)
    return found


def open_holders(path: Path) -> list[int]:
    """Processes that have `path` open, by device and inode."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return []
    found = []
    for pid in _pids():
        try:
            links = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for link in links:
            try:
                other = link.stat()
            except OSError:
                continue
            if (other.st_dev, other.st_ino) == (facts.st_dev, facts.st_ino):
                found.append(pid)
                break
    return found


def is_mapped(path: Path) -> bool:
    """Whether some process has `path` in its memory, or open."""
    if open_holders(path):
        return True
    wanted = os.fsencode(path)
    for pid in _pids():
        try:
            if wanted in Path(f"/proc/{pid}/maps").read_bytes():
                return True
        except OSError:
            continue  # gone, or another user's
    return False


def kill_all(pids: Callable[[], Iterable[int]], limit_s: float, sign: int = signal.SIGKILL) -> list[int]:
    """Kill what `pids()` names, again and again, until it names nothing or the limit passes. Returns everything killed."""
    ended: list[int] = []
    end = time.monotonic() + limit_s
    while alive := list(pids()):
        for pid in alive:
            if pid not in ended:
                ended.append(pid)
            try:
                os.kill(pid, sign)
            except (ProcessLookupError, PermissionError):
                pass  # gone meanwhile, or never ours
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    return ended


def end_tree(root: int, grace_s: float = 0.5, keep: int | None = None, spare: int | None = None) -> None:
    """End `root` and every descendant: TERM, then KILL after the grace. The caller itself may be `root` and lives on: in a
    subreaper that reaches those with sessions of their own, also after their parents died; elsewhere they are missed.
    Children of the caller are reaped, except `root` and `keep`, which the caller waits for itself. `spare`, a child that has
    no children, lives on."""

    def left() -> list[int]:
        is_other = root != os.getpid() and identity(root) is not None
        return [pid for pid in (*descendants(root), *([root] if is_other else [])) if pid != spare]

    spared = {root, keep, spare}
    for pid in left():
        _signal(pid, signal.SIGTERM)
    end = time.monotonic() + grace_s
    while left() and time.monotonic() < end:
        _reap(spared)
        time.sleep(0.01)
    last = time.monotonic() + 10
    while (alive := left()) and time.monotonic() < last:
        for pid in alive:
            _signal(pid, signal.SIGKILL)
        _reap(spared)
        time.sleep(0.01)
    _reap(spared)


def spawn_detached(argv: list[str], env: dict[str, str], cwd: Path, log: Path, pass_fds: tuple[int, ...] = ()) -> int:
    """Start a program in a session of its own, input from /dev/null, output appended to `log`; returns its pid.
    A double fork: its parent is init, so it leaves no zombie with the caller."""
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        try:
            os.close(reader)
            os.setsid()
            with log.open("ab") as out:
                child = subprocess.Popen(
                    argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=pass_fds
                )
            os.write(writer, str(child.pid).encode())
        except OSError as error:
            os.write(writer, f"!{error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(first, 0)
    if not text or text.startswith("!"):
        raise OSError(f"{argv[0]} did not start: {text[1:] or 'no answer'}")
    return int(text)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names only, the hot path


def _stat(pid: int) -> tuple[str, int, int] | None:
    """(state, parent, start ticks)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def _signal(pid: int, sign: int) -> None:
    try:
        os.kill(pid, sign)
    except (ProcessLookupError, PermissionError):
        pass  # gone meanwhile


def _reap(spared: Collection[int | None]) -> None:
    """Reap this process's dead children, those in `spared` left for the caller."""
    own = [pid for pid in _pids() if (facts := _stat(pid)) and facts[0] == "Z" and facts[1] == os.getpid()]
    for pid in own:
        if pid not in spared:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass  # reaped elsewhere
