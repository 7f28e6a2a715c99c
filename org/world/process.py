"""The only module that looks at /proc and ends processes. A process is known by (boot id, pid, start ticks), never by pid alone."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
START_S = 30.0  # a bare interpreter takes 12 ms; a machine that is this late has other troubles
# its own output is the answer; that of the program goes where its errors go. Python ignores SIGPIPE and SIGXFSZ: undone
_LAUNCHER = """\
import os, sys
try:
    to_log = [(os.POSIX_SPAWN_DUP2, 2, 1)]
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=to_log, setsigdef=[13, 25])
    print(pid, end="")
except OSError as error:
    print(error, end="")
"""


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


def cpu_s(roots: Iterable[int]) -> dict[int, float]:
    """Seconds of processor time that each of `roots` and what lives below it has used, children included that ended and
    were waited for. One walk over /proc for all of them (about 20 us a process of the machine): not for every second."""
    used: dict[int, float] = {}
    parents: dict[int, int] = {}
    for pid in _pids():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # gone meanwhile
        parents[pid] = int(fields[1])
        used[pid] = sum(int(ticks) for ticks in fields[11:15]) / CLOCK_TICKS
    total = dict.fromkeys(roots, 0.0)
    for pid, seconds in used.items():
        above, seen = pid, set()
        while above not in total and above in parents and above not in seen:
            seen.add(above)  # pids that were used again while we read could make a ring
            above = parents[above]
        if above in total:
            total[above] += seconds
    return total


def program(pid: int) -> str:
    """The name of the program that `pid` runs, as tmux's #{pane_current_command} would say it; "" when it is gone."""
    try:
        first = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    except OSError:
        return ""
    return os.fsdecode(first).rpartition("/")[2].lstrip("-")


def set_subreaper(on: bool = True) -> None:
    """Orphans below this process become its children, whatever session they made for themselves; until it is off."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def find_marked(*markers: str) -> list[int]:
    """Living processes whose environment holds exactly one of `markers` (NAME=value), this one left out. One walk over /proc
    for all of them."""
    wanted = set(map(os.fsencode, markers))
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone, or another user's
        if not wanted.isdisjoint(entries) and identity(pid) is not None:
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


def inside(folder: Path) -> list[int]:
    """Living processes whose working folder is `folder` or below it, or that have a file there open; this one left out."""
    place = str(folder.resolve())
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            links = [Path(f"/proc/{pid}/cwd"), *Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue  # gone, or another user's
        if any(_leads_into(link, place) for link in links) and identity(pid) is not None:
            found.append(pid)
    return sorted(found)


def _leads_into(link: Path, place: str) -> bool:
    try:
        target = os.readlink(link)  # noqa: PTH115 - text: "(deleted)" behind it is no path
    except OSError:
        return False
    return target == place or target.startswith(place + "/")


def working_in(program: str, folder: Path, marker: str) -> list[int]:
    """Living processes of a program (its name's beginning) that carry the marker, stand in the folder or below, or name it."""
    place = str(folder.resolve())
    found = []
    for pid in _pids():
        try:
            if not Path(f"/proc/{pid}/comm").read_text(errors="replace").startswith(program):
                continue
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            is_marked = os.fsencode(marker) in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone, or another user's
        if is_marked or os.fsencode(place) in words or _leads_into(Path(f"/proc/{pid}/cwd"), place):
            found += [pid] if identity(pid) is not None else []
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
    A bare interpreter (12 ms) starts it and ends: its parent is init, so it leaves no zombie with the caller, and nothing of
    the caller is forked, whose other threads may hold locks that the copy would wait for, with the leases in its hand."""
    with log.open("ab") as out:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, *argv],
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=out,
                pass_fds=pass_fds,
                start_new_session=True,
                timeout=START_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"{argv[0]} did not start within {START_S:.0f} s") from None
    text = done.stdout.decode()
    if not text.isdigit():
        raise OSError(f"{argv[0]} did not start: {text or f'see {log}'}")
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
