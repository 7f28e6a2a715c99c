"""Plays a trap, or its benign twin, through the real gate, runner, referee and judge: real git, real processes.

A trap is data: edits to the fixture repository and what has to become of them. Every play gets a copy of one home whose
baseline is measured already.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from org import charter as charters
from org import files
from org.errors import OrgError, Refused
from org.home import Home, seat_branch
from org.lab import dispatch, fidelity, follow, gate, ledger, record, stacks
from org.records import Contract, RunResult, Seat, Verdict
from org.world import git, process, worktrees
from traps import small

# path -> replacements in the file (old, new), its whole text, its bytes, or None for a deleted one
Edits = dict[str, Any]


@dataclass
class Seen:
    """What became of one play."""

    home: Home
    rules: list[str] = field(default_factory=list)  # of the violations, if it was refused
    says: str = ""  # messages, notices and reasons, one a line
    contract: Contract | None = None
    verdict: Verdict | None = None
    verified: Verdict | None = None
    results: list[RunResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of `org results --check`


@dataclass(frozen=True)
class Expect:
    """What a play has to come to."""

    what: str
    holds: Callable[[Seen], bool]
    until: str = "verdict"  # how far it is played: filed, verdict, verified


@dataclass(frozen=True)
class Trap:
    id: str
    family: str
    about: str  # what it tries
    signal: str  # what catches it
    edits: Edits
    expect: Expect
    twin: Edits
    twin_expect: Expect
    home: str = "scored"  # scored, printed (no referee, a slow step), margins as given in HOMES
    committed: bool = False  # as an agent's own commit, so that other paths than editable ones count
    first: Edits | None = None  # an experiment before it, of the same seat
    act: Callable[[Home, Seat], None] | None = None  # in the worktree, before it is filed
    after: Callable[[Home, Contract], None] | None = None  # once it is filed
    end: Callable[[Home, Contract], None] | None = None  # once it is judged
    twin_act: Callable[[Home, Seat], None] | None = None
    options: dict[str, Any] = field(default_factory=dict)  # of gate.submit
    twin_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownMiss:
    """What cannot be caught at this level of trust, and why."""

    id: str
    family: str
    about: str
    why: str


# --- what may be expected ------------------------------------------------------------------------------------------


def refused(rule: str, says: str = "") -> Expect:
    def holds(seen: Seen) -> bool:
        return rule in seen.rules and re.search(says, seen.says) is not None

    return Expect(f"refused by {rule}", holds, "filed")


def noticed(says: str) -> Expect:
    """Filed with a notice; nothing of it reaches the experiment."""
    return Expect(f"notice: {says}", lambda s: not s.rules and re.search(says, s.says) is not None, "filed")


def judged(*outcomes: str, says: str = "") -> Expect:
    def holds(seen: Seen) -> bool:
        return seen.verdict is not None and seen.verdict.outcome in outcomes and re.search(says, seen.says) is not None

    return Expect(f"verdict {' or '.join(outcomes)}" + (f" saying {says}" if says else ""), holds)


def checked(says: str) -> Expect:
    return Expect(f"results --check names {says}", lambda s: any(re.search(says, p) for p in s.problems), "verdict")


def filed_as(about: str, holds: Callable[[Seen], bool]) -> Expect:
    return Expect(about, lambda s: not s.rules and s.contract is not None and holds(s), "filed")


def after_all(about: str, holds: Callable[[Seen], bool]) -> Expect:
    return Expect(about, lambda s: not s.rules and s.verdict is not None and holds(s))


ACCEPTED = Expect("filed", lambda s: not s.rules and "put back" not in s.says and "not part" not in s.says, "filed")
MEASURED = Expect(
    "a fair verdict",
    lambda s: s.verdict is not None and s.verdict.outcome in ("win", "null", "loss", "holds") and not s.problems,
)
WINS = Expect("a win", lambda s: s.verdict is not None and s.verdict.outcome in ("win", "holds") and not s.problems)
NO_ADVANTAGE = judged("null", "loss", "crash", "invalid")
VERIFIED = Expect("a verified win", lambda s: s.verified is not None and s.verified.outcome == "win", "verified")
NOT_VERIFIED = Expect(
    "not verified", lambda s: s.verified is None or s.verified.outcome in ("null", "loss", "invalid"), "verified"
)


# --- playing -------------------------------------------------------------------------------------------------------

WORK = "    for _ in range(8_000):\n        x.sum()\n    time.sleep(0.06)\n"  # of the processor, and of the clock alone
SLOW = ("    # the clamp keeps", WORK + "    # the clamp keeps")
HOMES: dict[str, dict[str, Any]] = {
    "scored": {},
    "printed": {"scored": False, "slow": True},
    "strict": {"margin": "margin: 0.0001"},  # a margin that no affordable number of runs shows
    "checked": {"more": "checks: [python -m py_compile train.py parts/extra.py, python -c 'import train']\n"},
}


class Stage:
    """The measured homes that plays are copies of, made when first asked for: in `shared`, where several processes have one
    each measured for all of them."""

    def __init__(self, root: Path, shared: Path | None = None) -> None:
        self.root, self.shared = root, shared or root
        self.shared.mkdir(exist_ok=True)
        self.count = 0
        os.environ["XDG_CACHE_HOME"] = str(self.shared / "cache")  # what a person's ~/.cache is to the org

    def play(self, trap: Trap, is_twin: bool) -> Seen:
        home = self._copy(trap.home)
        seat = make_seat(home)
        seen = Seen(home)
        try:
            if trap.first is not None and not is_twin:
                _write(seat, trap.first)
                follow.drive(home, gate.submit(home, seat, "the first").experiment, _quiet, poll_s=0.02)
                _write(seat, {path: None for path in trap.first} | _originals(trap.first))
            _write(seat, trap.twin if is_twin else trap.edits)
            _act(home, seat, trap, is_twin)
            self._go(home, seat, trap, is_twin, seen)
        finally:
            shutil.rmtree(home.root, ignore_errors=True)
        return seen

    def _go(self, home: Home, seat: Seat, trap: Trap, is_twin: bool, seen: Seen) -> None:
        expect = trap.twin_expect if is_twin else trap.expect
        given = {"why": "an idea", **(trap.twin_options if is_twin else trap.options)}
        try:
            seen.contract = contract = gate.submit(home, seat, **given)
        except Refused as refusal:
            seen.rules = [v.rule for v in refusal.violations]
            seen.says = "\n".join(v.message for v in refusal.violations)
            assert all("\n" not in v.message and v.message for v in refusal.violations)
            return
        seen.says = "\n".join(contract.notices)
        if expect.until == "filed":
            return
        if trap.after and not is_twin:
            trap.after(home, contract)
        seen.verdict = follow.drive(home, contract.experiment, _quiet, poll_s=0.02)
        if expect.until == "verified" and seen.verdict.outcome == "win":
            again = stacks.verify(home, contract.experiment)
            seen.verified = follow.drive(home, again.experiment, _quiet, poll_s=0.02)
        dispatch.Dispatcher(home).tick(allow_new=False)
        if trap.end and not is_twin:
            trap.end(home, contract)
        book = ledger.read(home)
        seen.results = [r for r in book.results.values() if r.experiment == contract.experiment]
        seen.problems = [str(p["what"]) for p in fidelity.problems(home)]
        reasons = [*seen.verdict.reasons, *(r.reason for r in seen.results)]
        seen.says = "\n".join([seen.says, *reasons, *seen.problems])

    def _copy(self, kind: str) -> Home:
        template = self.shared / f"template-{kind}"
        with files.locked(self.shared / f"{kind}.lock"):
            if not (done := self.shared / f"{kind}.done").exists():
                shutil.rmtree(template, ignore_errors=True)  # of one that did not come to its end
                _measure(template, **HOMES[kind])
                done.touch()
        self.count += 1
        place = self.root / f"play {self.count}"
        shutil.copytree(template, place, symlinks=True)
        return Home(place.resolve())


def _measure(root: Path, margin: str = "", more: str = "", slow: bool = False, scored: bool = True) -> None:
    """A home with its baseline bank."""
    charter = small.CHARTER.replace("margin: 0.02", margin or "margin: 0.02") + more
    home = small.make_home(root, scored, charter)
    if slow:
        path = home.root / "code" / "train.py"
        path.write_text(path.read_text().replace(*SLOW))
    dispatcher = dispatch.Dispatcher(home)
    bank = charters.load(home).home_scale.bank
    while len(dispatcher.ledger.refresh().results) < bank:
        dispatcher.tick()
        time.sleep(0.02)
    while any(files.is_locked(lock) for lock in home.experiments.glob("*/runs/*/lock")):
        time.sleep(0.02)  # the runners still sweep their folders
    assert all(r.is_ok for r in dispatcher.ledger.refresh().results.values()), "the fixture itself does not run"
    record.ensure_program(home, "main")


def make_seat(home: Home, name: str = "me") -> Seat:
    head = record.ensure_program(home, "main")
    place, branch = home.worktree(name), seat_branch("main", name)
    worktrees.add(home.hub, place, branch, head)
    git.export(home.record, head, place)
    worktrees.fill_index(place)
    return Seat(name, "junior", "offline", "main", branch, str(place), None, files.utc_now())


def _write(seat: Seat, edits: Edits) -> None:
    for name, change in edits.items():
        path = Path(seat.worktree) / name
        if change is None:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(change, bytes):
            path.write_bytes(change)
        elif isinstance(change, str):
            path.write_text(change)
        else:
            text = path.read_text()
            for old, new in change:
                assert old in text, f"{name} has no {old!r}"
                text = text.replace(old, new)
            path.write_text(text)


def _originals(edits: Edits) -> Edits:
    return {path: small.FILES[path] for path in edits if path in small.FILES}


def _act(home: Home, seat: Seat, trap: Trap, is_twin: bool) -> None:
    act = trap.twin_act if is_twin else trap.act
    if act:
        act(home, seat)
    if trap.committed:
        commit(seat)


def commit(seat: Seat, *arguments: str) -> None:
    """As an agent commits: everything in the worktree, with the repository's own configuration."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["add", "-A", "-f"], [*who, "commit", "-q", "--allow-empty", "-m", "mine", *arguments]):
        subprocess.run(["git", "-C", seat.worktree, *command], check=True, capture_output=True)


def survivors(home: Home) -> list[int]:
    """Processes of this home's runs that live on."""
    return [pid for device in ("cpu0", "cpu1") for pid in process.find_marked(home.lease_marker(device))]


def _quiet(line: str) -> None:
    pass


def outcome(stage: Stage, trap: Trap, is_twin: bool) -> tuple[bool, str]:
    """Whether the play came to what it has to, and what it came to."""
    expect = trap.twin_expect if is_twin else trap.expect
    try:
        seen = stage.play(trap, is_twin)
    except OrgError as error:
        return False, f"{type(error).__name__}: {error}"
    said = ", ".join(seen.rules) or (seen.verdict.outcome if seen.verdict else "filed")
    return expect.holds(seen), f"{said}; wanted {expect.what}: {' | '.join(seen.says.split(chr(10)))[:600]}"
