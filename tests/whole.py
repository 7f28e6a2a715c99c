"""What is true of a home whenever nothing of it runs, whoever was killed before: one function that says it, and the parts
of a sweep that kills. Knows no test."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from waiting import wait_for

from org import files
from org.home import EXPERIMENT_PATTERN, Home
from org.lab import archive, dispatch, fidelity, ledger, runner
from org.lab.book import Book
from org.records import BANK
from org.world import devices, git, process

ROOT = Path(__file__).parents[1]
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}|fast_import_crash_.*|tmp_.*|.*\.lock|org-(index|checks|splits)-.*")
KEPT_LOCKS = ("org.lock", "pane.lock", "pane.json.lock")  # of a repository, of a pane, of its note: never unlinked


def assert_whole(home: Home, scratch: Path | None = None, ending_s: float = 30.0) -> None:
    """Nothing is recorded twice, half made, held or alive. `scratch`: the TMPDIR that the killed processes had; what is about
    to end is waited for for `ending_s`."""
    wait_for(lambda: not alive(home), ending_s, lambda: f"the end of what lives on: {alive(home)}")
    _assert_free(home)
    _assert_ledger(home)
    _assert_record(home)
    left = leftovers(home, scratch)
    assert left == [], left
    for path in home.comms.rglob("*.json"):
        json.loads(path.read_bytes())


def leftovers(home: Home, scratch: Path | None = None) -> list[str]:
    """Files of a write that did not end, and what a run has only while it runs."""
    found = [path for path in home.comms.rglob("*") if _is_temporary(path, home)]
    found += [path for path in home.hub.rglob("*") if _is_temporary(path, home) and "org-broken" not in path.parts]
    found += [path for path in home.experiments.glob("E*/runs/*/*") if path.name in (*runner.FOLDERS, runner.STATUS)]
    found += [path for path in home.comms.iterdir() if path.name.startswith("referee.")]
    found += list(scratch.iterdir()) if scratch else []
    return sorted(str(path) for path in found)


def age(home: Home, scratch: Path | None = None) -> None:
    """Let two days pass over everything that a killed process left."""
    before = time.time() - 2 * 86400
    wait_for(lambda: not alive(home), what=lambda: f"who ends by itself takes its folders along: {alive(home)}")
    for name in leftovers(home, scratch):
        os.utime(name, (before, before), follow_symlinks=False)


def _is_temporary(path: Path, home: Home) -> bool:
    if path.name in KEPT_LOCKS or path.parent == home.leases:
        return False
    return TEMPORARY.fullmatch(path.name) is not None


def standing_in(folder: Path) -> list[str]:
    """Processes whose current folder lies below `folder`."""
    return [said for _, said in _told(str(folder), set())]


def alive(home: Home) -> list[str]:
    """Processes that carry a lease of this home, stand in it, or were told its path; this one and its parents left out."""
    marked = {pid for d in devices.in_force(home) for pid in process.find_marked(home.lease_marker(d.name))}
    own = set(_line_of(os.getpid()))
    return [f"{pid}: {said}" for pid, said in _told(str(home.root), marked) if pid not in own]


def office_pid(home: Home) -> int | None:
    """The living office that holds the lock."""
    row = files.read_json(home.office_lock) if files.is_locked(home.office_lock) else None
    pid = int(row.get("pid") or 0) if isinstance(row, dict) else 0
    return pid if pid and process.identity(pid) is not None else None


def _told(root: str, marked: set[int]) -> Iterator[tuple[int, str]]:
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            here = str((place / "cwd").readlink())
        except OSError:
            continue
        pid = int(place.name)
        if (pid in marked or root in words or here.startswith(root)) and process.identity(pid):
            yield pid, words[:2000]


def _line_of(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _assert_free(home: Home) -> None:
    held = [path.name for path in home.leases.iterdir() if files.is_locked(path)] if home.leases.is_dir() else []
    held += [str(path) for path in home.experiments.glob("E*/runs/*/lock") if files.is_locked(path)]
    assert held == [], held


def _assert_ledger(home: Home) -> None:
    rows = [json.loads(line) for line in home.ledger.read_bytes().split(b"\n")[:-1]]
    keys = Counter(row["key"] for row in rows)
    twice = [key for key, count in keys.items() if count > 1]
    assert twice == [], twice
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in ("launch", "result", "experiment", "verdict")}
    for kind in ("launch", "result"):
        assert [run for run, count in Counter(row["run"] for row in of[kind]).items() if count > 1] == [], kind
    open_or_unasked = {row["run"] for row in of["launch"]} ^ {row["run"] for row in of["result"]}
    assert open_or_unasked == set(), open_or_unasked
    judged = Counter(row["experiment"] for row in of["verdict"])
    assert set(judged.values()) <= {1}
    good = Counter((row["tree"], row["setting"], row["seed"]) for row in of["result"] if row["status"] != "lost")
    assert [key for key, count in good.items() if count > 1] == [], "a run that was measured was run again"
    found = fidelity.problems(home)
    assert found == [], found


def _assert_record(home: Home) -> None:
    """Each pinned commit is there and was filed; each folder has its line; the ledger kept in the record is a beginning of
    the real one, with every verdict in it."""
    book = ledger.read(home)
    refs = git.list_refs(home.record, "refs/org/experiments")
    for ref, sha in refs.items():
        assert git.resolve(home.record, sha) == sha, f"{ref} names a commit that is not there"
        assert len(git.list_tree(home.record, sha)) > 0
    numbered = {
        ref.rpartition("/")[2]: sha for ref, sha in refs.items() if EXPERIMENT_PATTERN.fullmatch(Path(ref).name)
    }
    assert numbered == {name: contract.commit for name, contract in book.experiments.items()}
    folders = {path.name for path in home.experiments.iterdir()} - {BANK}
    assert folders == set(book.experiments)
    for program, head in book.heads.items():
        assert git.resolve(home.record, f"refs/heads/program/{program}/main") == head["commit"]
    kept = (
        b"".join(line + b"\n" for line in archive.kept_lines(home)) if git.resolve(home.record, archive.BRANCH) else b""
    )
    assert home.ledger.read_bytes().startswith(kept)
    for name in book.verdicts:
        assert f'"verdict:{name}"'.encode() in kept, f"the verdict of {name} is not in the record"


# --- killing ---------------------------------------------------------------------------------------------------------

FILE = "from org.lab import gate; gate.submit(home, seat, 'why')"
FOLLOW = "from org.lab import follow; follow.drive(home, sys.argv[3], lambda line: None, poll_s=0.02)"
FILE_AND_FOLLOW = (
    "from org.lab import gate, follow; filed = gate.submit(home, seat, 'why'); "
    "follow.drive(home, filed.experiment, lambda line: None, poll_s=0.02)"
)
TICK = "from org.lab import dispatch; dispatch.Dispatcher(home).tick()"
DISPATCH = (
    "import time; from org.lab import dispatch; d = dispatch.Dispatcher(home)\nwhile True: d.tick(); time.sleep(0.02)"
)
ONE_BATCH = """\
import os, time
from org.lab import dispatch
d = dispatch.Dispatcher(home)
d.tick()
while d.running(): time.sleep(0.02)
"""
_HEAD = """\
import json, sys
from pathlib import Path
from org.home import Home
from org.records import Seat
home = Home(Path(sys.argv[1]))
seat = Seat.from_dict(json.loads(sys.argv[2])) if any(sys.argv[2:3]) else None
"""


def environment() -> dict[str, str]:
    """For what is started: this code, and nothing of an org around us."""
    return {k: v for k, v in os.environ.items() if not k.startswith("ORG_")} | {"PYTHONPATH": str(ROOT)}


def kill_office(home: Home) -> int | None:
    """SIGKILL, wherever it is in its work, and the end of it; the pid, None without an office."""
    pid = office_pid(home)
    try:
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it ended by itself meanwhile
        return None
    wait_for(lambda: not files.is_locked(home.office_lock), what="the end of the office")
    return pid


def start(code: str, home: Home, *words: str, point: str = "", scratch: Path | None = None) -> subprocess.Popen[bytes]:
    """`code` in a process of its own, with `home` and `seat` made from `words`, ended at `point` as by SIGKILL."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ |= {"ORG_FAILPOINT": point} if point else {}
    environ |= {"TMPDIR": str(scratch)} if scratch else {}
    return subprocess.Popen([sys.executable, "-c", _HEAD + code, str(home.root), *words], env=environ)


def run(
    code: str, home: Home, *words: str, point: str = "", scratch: Path | None = None, limit_s: float = 180.0
) -> int:
    """The exit code of `start`, which does not outlive the limit."""
    with start(code, home, *words, point=point, scratch=scratch) as child:
        try:
            return child.wait(limit_s)
        finally:
            child.kill()


def dispatch_until(home: Home, done: Callable[[Book], object], limit_s: float = 300.0) -> Book:
    """Dispatch until `done(book)`; the book."""
    dispatcher = dispatch.Dispatcher(home)

    def ticked() -> Book | None:
        if done(book := ledger.read(home)):
            return book
        dispatcher.tick()
        return None

    return wait_for(ticked, limit_s, lambda: [(row["kind"], row["key"]) for row in ledger.read(home).rows][-8:])
