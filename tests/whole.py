"""What is true of a home whenever nothing of it runs, whoever was killed before: one function that says it, and the parts
of a sweep that kills. Knows no test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from org import files
from org.home import EXPERIMENT_PATTERN, Home
from org.lab import archive, fidelity, ledger, runner
from org.records import BANK
from org.world import devices, git, process

ROOT = Path(__file__).parents[1]
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}|fast_import_crash_.*|tmp_.*|.*\.lock|org-(index|checks|splits)-.*")
GIT_LOCK = "org.lock"  # of a repository, held and never unlinked


def assert_whole(home: Home, scratch: Path | None = None) -> None:
    """Nothing is recorded twice, half made, held or alive. `scratch`: the TMPDIR that the killed processes had."""
    wait_until(lambda: not alive(home), 10)
    assert alive(home) == [], "a process of the home lives on"
    _assert_free(home)
    _assert_ledger(home)
    _assert_record(home)
    assert leftovers(home, scratch) == []
    for path in home.comms.rglob("*.json"):
        json.loads(path.read_bytes())


def wait_until(condition: Callable[[], object], limit_s: float = 20.0) -> bool:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def leftovers(home: Home, scratch: Path | None = None) -> list[str]:
    """Files of a write that did not end, and folders that a run has only while it runs."""
    found = [path for path in home.comms.rglob("*") if _is_temporary(path, home)]
    found += [path for path in home.hub.rglob("*") if _is_temporary(path, home)]
    found += [path for path in home.experiments.glob("E*/runs/*/*") if path.name in runner.FOLDERS]
    found += [path for path in home.comms.iterdir() if path.name.startswith("referee.")]
    found += list(scratch.iterdir()) if scratch else []
    return sorted(str(path) for path in found)


def age(home: Home, scratch: Path | None = None) -> None:
    """Let two days pass over everything that a killed process left."""
    before = time.time() - 2 * 86400
    wait_until(lambda: not alive(home), 5)  # who ends by itself takes its folders along
    for name in leftovers(home, scratch):
        os.utime(name, (before, before), follow_symlinks=False)


def _is_temporary(path: Path, home: Home) -> bool:
    if path.name == GIT_LOCK or path.parent == home.leases:
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
    assert held == []


def _assert_ledger(home: Home) -> None:
    rows = [json.loads(line) for line in home.ledger.read_bytes().split(b"\n")[:-1]]
    keys = Counter(row["key"] for row in rows)
    assert [key for key, count in keys.items() if count > 1] == []
    of = {kind: [row for row in rows if row["kind"] == kind] for kind in ("launch", "result", "experiment", "verdict")}
    for kind in ("launch", "result"):
        assert [run for run, count in Counter(row["run"] for row in of[kind]).items() if count > 1] == [], kind
    assert {row["run"] for row in of["launch"]} == {row["run"] for row in of["result"]}
    judged = Counter(row["experiment"] for row in of["verdict"])
    assert set(judged.values()) <= {1}
    good = Counter((row["tree"], row["setting"], row["seed"]) for row in of["result"] if row["status"] != "lost")
    assert [key for key, count in good.items() if count > 1] == [], "a run that was measured was run again"
    assert fidelity.problems(home) == []


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
seat = Seat.from_dict(json.loads(sys.argv[2])) if sys.argv[2] else None
"""


def start(code: str, home: Home, *words: str, point: str = "", scratch: Path | None = None) -> subprocess.Popen[bytes]:
    """`code` in a process of its own, with `home` and `seat` made from `words`, ended at `point` as by SIGKILL."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ |= {"ORG_FAILPOINT": point} if point else {}
    environ |= {"TMPDIR": str(scratch)} if scratch else {}
    return subprocess.Popen([sys.executable, "-c", _HEAD + code, str(home.root), *words], env=environ)
