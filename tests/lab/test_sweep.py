"""Kill -9 of everybody at every step: nothing is lost but the run under way, nothing is doubled, nothing half made stays.

Each place is a failpoint; `test_every_failpoint_is_swept` holds this list against the source.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import make_tiny_home
from traps import play, small
from waiting import wait_for
from whole import DISPATCH, FILE, FILE_AND_FOLLOW, ONE_BATCH, ROOT, age, alive, assert_whole, run, standing_in, start

from org.errors import Refused
from org.home import Home
from org.lab import dispatch, fidelity, follow, gate, ledger, record
from org.lab.book import Book
from org.lab.record import candidate_ref, main_ref
from org.records import Seat
from org.world import git

pytestmark = pytest.mark.slow  # an experiment from its filing to its verdict each

# the process that files: nothing is in the ledger yet, or everything
FILER = [
    "git.made:2",
    "record.program",
    "gate.record",
    "gate.allocated",
    "gate.pinned",
    "gate.contract",
    "ledger.experiment",
]
FILER += ["ledger.tip", "gate.filed", "gate.given"]
# the process that dispatches
DISPATCHER = ["dispatch.lease", "dispatch.spawn", "dispatch.spawned", "dispatch.verdict", "dispatch.judged:9"]
DISPATCHER += [
    "ledger.verdict",
    "dispatch.acted:9",
    "commit.table",
    "commit.made",
    "stacks.candidate",
    "dispatch.published",
]
# the processes of one run -> what becomes of the first runs, all killed there: `again` never began
RUN = {
    "runner.start": "again",
    "ledger.launch": "again",
    "runner.launched": "lost",
    "runner.guarded": "lost",
    "runner.laid": "lost",
    "runner.trained": "lost",
    "runner.scored": "lost",
    "runner.result": "ok",
    "ledger.result": "ok",
    "runner.recorded": "ok",
    "guard.start": "lost",
    "guard.begun": "lost",
    "guard.ended": "lost",
    "guard.answered": "ok",
}
REFEREE = {"referee.start": "lost", "referee.asked": "lost", "referee.probed": "lost", "referee.scored": "lost"}
CHECKS = ["checks.laid"]
SPLITS = ["referee.splits", "while they are made"]
REAPER = ["dispatch.lost", "dispatch.reap"]
STACK = ["gate.head", "ledger.head"]
LINES = ["ledger.org", "ledger.tip", "ledger.mend"]
# swept where their stories are told
ELSEWHERE = {
    "land.objects": "lab/test_land_branch.py",
    "land.ref": "lab/test_land_branch.py",
    "land.report": "lab/test_land_branch.py",
    "promotions.file": "lab/test_promotions.py",
    "promotions.retract": "lab/test_promotions.py",
    "promotions.head": "lab/test_promotions.py",
    "together.head": "lab/test_together.py",
    "refutations.file": "lab/test_refutations.py",
    "credits.credit": "lab/test_credits.py",
    "credits.head": "lab/test_credits.py",
    "ledger.credit": "lab/test_credits.py",
    "mail.cur": "team/test_mail_sweep.py",
    "mail.tmp": "team/test_mail_sweep.py",
    "mail.new": "team/test_mail_sweep.py",
    "mail.key": "team/test_mail_sweep.py",
    "mail.counted": "team/test_mail_sweep.py",
    "mail.read": "team/test_mail_sweep.py",
    "mail.bad": "team/test_mail_sweep.py",
    "mail.archive": "team/test_mail_sweep.py",
    "mail.archived": "team/test_mail_sweep.py",
    "tokens.count": "team/test_mail_sweep.py",
    "tokens.counted": "team/test_mail_sweep.py",
    "inbox.shown": "cli/test_cli_mail.py",
    "launch.facts": "team/test_launch.py",
    "launch.panes": "team/test_launch.py",
    "launch.seat": "team/test_launch.py",
    "office.*": "team/test_office_killed.py",
    "office.ended": "team/test_office_killed.py",
    "doorbell.typing": "team/test_doorbell_storm.py",
    "doorbell.typed": "team/test_doorbell_storm.py",
    "doorbell.entered": "team/test_doorbell_storm.py",
    "doorbell.handed": "agents/real/test_codex.py",
    "letters.sent": "team/test_office.py",
    "hands.noted": "team/test_hands.py",
    "supervise.gave_up": "team/test_supervise.py",
    "processes.asked": "team/test_processes.py",
    "processes.round": "team/test_council.py",
    "processes.taken": "team/test_council.py",
    "processes.written": "team/test_council.py",
    "processes.told": "team/test_council.py",
    "orders.noted": "team/test_orders.py",
    "orders.done": "team/test_orders.py",
    "orders.sent": "team/test_orders.py",
    "ideas.reserved": "team/test_ideas.py",
    "seats.worktree": "team/test_seats.py",
    "worktrees.added": "team/test_seats.py",
    "ending.clean": "team/test_removal.py",
    "worktrees.adopted": "team/test_healing.py",
    "healing.files": "team/test_healing.py",
    "seats.moved": "team/test_seats.py",
    "seats.added": "team/test_seats.py",
    "seats.saved": "team/test_seats.py",
    "seats.head": "team/test_seats.py",
}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The TMPDIR of everybody, who is killed and who goes on."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def ready(odd_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Home, Seat]]:
    """ready("tiny") or ready("scored"): a home and a seat whose worktree holds a better recipe, not filed yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(odd_path / "cache"))
    return lambda kind="tiny", name="home": prepare(odd_path / name, kind)


def prepare(root: Path, kind: str) -> tuple[Home, Seat]:
    home = make_tiny_home(root) if kind == "tiny" else small.make_home(root)
    record.ensure_program(home, "main")
    seat = play.make_seat(home)
    better(seat, kind)
    return home, seat


def better(seat: Seat, kind: str) -> None:
    old, new = {"tiny": ("MATRIX_LR = 0.02", "MATRIX_LR = 0.04"), "scored": ("SMOOTHING = 8.0", "SMOOTHING = 0.5")}[
        kind
    ]
    path = Path(seat.worktree) / "train.py"
    path.write_text(path.read_text().replace(old, new))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, object]]:
    """undisturbed(kind): what the experiment comes to when nobody is killed."""

    @functools.cache
    def told(kind: str) -> dict[str, object]:
        home, seat = prepare(tmp_path_factory.mktemp("undisturbed") / "home", kind)
        follow.drive(home, gate.submit(home, seat, "why").experiment, quiet, poll_s=0.02)
        return facts(ledger.read(home))

    return told


def quiet(line: str) -> None:
    pass


def words_of(seat: Seat) -> str:
    return json.dumps(seat.to_dict())


def facts(book: Book) -> dict[str, object]:
    """All that a kill must not change: what was filed, its verdict, and which seeds it rests on."""
    return {
        name: (
            v.outcome,
            v.tier,
            v.effect,
            v.n,
            sorted((book.results[run].arm, book.results[run].seed) for run in v.runs),
        )
        for name, v in book.verdicts.items()
    }


def settle(home: Home, scratch: Path, seat: Seat | None = None) -> Book:
    """What the next commands do: file again what may be missing, and go on to every verdict."""
    age(home, scratch)
    if seat is not None:
        try:
            gate.submit(home, seat, "why")
        except Refused as refusal:
            assert [v.rule for v in refusal.violations] == ["duplicate"], refusal
    for contract in ledger.read(home).open():
        follow.drive(home, contract.experiment, quiet, poll_s=0.02)
    dispatcher = dispatch.Dispatcher(home)
    dispatcher.tick(allow_new=False)
    wait_for(lambda: not dispatcher.running(), what="the end of the runs")
    assert_whole(home, scratch)
    return ledger.read(home)


@pytest.mark.parametrize("point", FILER)
def test_a_filer_killed_anywhere_has_filed_it_whole_or_not_at_all(ready, undisturbed, scratch, point) -> None:
    home, seat = ready()
    if point in ("git.made:2", "record.program", "gate.record"):
        shutil.rmtree(home.comms)
        shutil.rmtree(home.worktrees)
        home.comms.mkdir()
        home.worktrees.mkdir()
        code = "from org.lab import record; record.ensure_program(home, 'main')"
        assert run(code, home, point=point, scratch=scratch) == -signal.SIGKILL
        record.ensure_program(home, "main")
        assert b"precious" in (home.hub / "config").read_bytes().lower()
        seat = play.make_seat(home)
        better(seat, "tiny")
    else:
        assert run(FILE, home, words_of(seat), point=point, scratch=scratch) == -signal.SIGKILL
    book = settle(home, scratch, seat)
    assert facts(book) == undisturbed("tiny"), "another number, other seeds or another verdict"
    assert list(book.experiments) == ["E0001"], "a number was lost"


@pytest.mark.parametrize("point", DISPATCHER)
def test_a_dispatcher_killed_anywhere_is_followed_by_one_that_goes_on(ready, undisturbed, scratch, point) -> None:
    home, seat = ready()
    assert run(FILE_AND_FOLLOW, home, words_of(seat), point=point, scratch=scratch) == -signal.SIGKILL
    book = settle(home, scratch, seat)
    assert facts(book) == undisturbed("tiny")
    assert git.resolve(home.hub, candidate_ref("main")), "the hub shows the candidate"
    assert not [r for r in book.results.values() if r.status == "lost"], "runs go on when their dispatcher is killed"


@pytest.mark.parametrize("point", SPLITS)
def test_a_killed_maker_of_the_held_out_splits_leaves_none_or_all(ready, undisturbed, scratch, point) -> None:
    home, seat = ready("scored")
    if point == "while they are made":
        home.charter.write_text(
            (plain := home.charter.read_text()).replace("python data.py --referee", "sh -c 'sleep 599'")
        )
        maker = start(ONE_BATCH, home, scratch=scratch)
        wait_for(lambda: list(home.comms.glob("referee.*/log.txt")), what="the maker of the splits")
        maker.kill()
        maker.wait()
        wait_for(lambda: not alive(home), what="nobody makes them on")
        home.charter.write_text(plain)
    else:
        assert run(ONE_BATCH, home, point=point, scratch=scratch) == -signal.SIGKILL
    gate.submit(home, seat, "why")
    assert facts(settle(home, scratch)) == undisturbed("scored")


def test_a_killed_filers_checks_end_with_it(ready, undisturbed, scratch) -> None:
    home, seat = ready()
    plain = home.charter.read_text()
    home.charter.write_text(plain + "checks: [python -c 'import time; time.sleep(599)']\n")
    filer = start(FILE, home, words_of(seat), scratch=scratch)
    wait_for(lambda: standing_in(scratch), what="the checks")
    filer.kill()
    filer.wait()
    wait_for(lambda: not standing_in(scratch), what="the end of a candidate's code, which has no deadline")
    home.charter.write_text(plain + "checks: [python -c 'import train']\n")
    assert run(FILE, home, words_of(seat), point="checks.laid", scratch=scratch) == -signal.SIGKILL
    assert facts(settle(home, scratch, seat)) == undisturbed("tiny")


def first_runs(home: Home) -> dict[str, str]:
    """Run -> its status, of those that the first batch started; `again` has no line."""
    book = ledger.read(home)
    names = [f"{path.parents[1].name}/{path.name}" for path in home.experiments.glob("E*/runs/*")]
    return {name: book.results[name].status if name in book.results else "again" for name in names}


@pytest.mark.parametrize(
    ("kind", "point", "status"),
    [*(("tiny", p, s) for p, s in RUN.items()), *(("scored", p, s) for p, s in REFEREE.items())],
)
def test_a_process_of_a_run_killed_anywhere_costs_that_run(ready, undisturbed, scratch, kind, point, status) -> None:
    home, seat = ready(kind)
    gate.submit(home, seat, "why")
    code = f"{ONE_BATCH}del os.environ['ORG_FAILPOINT']\nd.tick(allow_new=False)"
    assert run(code, home, point=point, scratch=scratch) == 0
    begun = first_runs(home)
    assert begun and set(begun.values()) == {status}
    book = settle(home, scratch)
    assert facts(book) == undisturbed(kind)
    again = [r for r in book.results.values() if r.attempt == 2]
    assert len(again) == (len(begun) if status == "lost" else 0)
    assert {(r.seed, r.tree) for r in again} <= {(r.seed, r.tree) for r in book.results.values() if r.status == "lost"}


@pytest.mark.parametrize("point", REAPER)
def test_whoever_records_a_lost_run_may_be_killed_too(ready, undisturbed, scratch, point) -> None:
    home, seat = ready()
    gate.submit(home, seat, "why")
    last = f"os.environ['ORG_FAILPOINT'] = '{point}'\nd.tick(allow_new=False)"
    assert run(f"{ONE_BATCH}{last}", home, point="runner.trained", scratch=scratch) == -signal.SIGKILL
    assert facts(settle(home, scratch)) == undisturbed("tiny")


@pytest.mark.parametrize("point", STACK)
def test_a_dispatcher_killed_while_a_head_moves_moves_it_once(ready, scratch, point) -> None:
    home, seat = ready()
    for name, old, new in (("me", "", ""), ("you", "WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5")):
        seat = seat if name == "me" else play.make_seat(home, name)
        path = Path(seat.worktree) / "train.py"
        path.write_text(path.read_text().replace(old, new) if old else path.read_text())
        follow.drive(home, gate.submit(home, seat, name).experiment, quiet, poll_s=0.02)
    code = "from org.lab import stacks; stacks.stack(home, 'main')"
    assert run(code, home, point="gate.contract", scratch=scratch) == -signal.SIGKILL
    assert run(code, home, scratch=scratch) == 0
    assert list(ledger.read(home).experiments) == ["E0001", "E0002", "E0003"]
    assert run(DISPATCH, home, point=point, scratch=scratch) == -signal.SIGKILL
    book = settle(home, scratch)
    heads = [row for row in book.rows if row["kind"] == "head" and not row.get("removed")]
    assert [row["experiment"] for row in heads] == ["E0003"]
    assert (
        git.resolve(home.hub, main_ref("main"))
        == git.resolve(home.record, main_ref("main"))
        == book.heads["main"]["commit"]
    )
    assert book.heads["main"]["commit"] in home.program("main").read_text()


@pytest.mark.parametrize("point", LINES)
def test_a_writer_killed_again_and_again_leaves_a_ledger_without_a_gap(tiny_home, point) -> None:
    """Killed twice at one place, with the first line, the same line said again and a torn one between."""
    for text in ("a", "a", "b", "c"):
        if point == "ledger.mend" and tiny_home.ledger.exists():
            with tiny_home.ledger.open("a") as file:
                file.write('{"seq": 9, "kind": "org"')
        code = f"from org.lab import ledger; ledger.Ledger(home).append('org', '{text}', {{}})"
        run(code, tiny_home, point=point)
        assert point == "ledger.mend" or fidelity.problems(tiny_home) == []
    writer = ledger.Ledger(tiny_home)
    for text in "abc":
        writer.append("org", text, {})
    assert sorted(row["key"] for row in ledger.read(tiny_home).rows) == ["a", "b", "c"]
    assert fidelity.problems(tiny_home) == []


def test_the_scan_finds_the_failpoints() -> None:
    assert {"gate.pinned", "ledger.result", "ledger.tip", "office.*"} <= failpoints()


def failpoints() -> set[str]:
    """Every name that the source passes to `failpoint`; a part that is put in is `*`, but the kinds of a ledger line are
    known."""
    found: set[str] = set()
    kinds: set[str] = set()
    for path in (ROOT / "org").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            first = node.args[0]
            if name == "failpoint" and path.name != "failpoint.py":
                found.add(_text(first))
            if name == "append" and len(node.args) == 3 and isinstance(first, ast.Constant):
                kinds.add(str(first.value))
    found.remove("ledger.*")
    return found | {f"ledger.{kind}" for kind in kinds}


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr), ast.dump(node)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)


def test_every_failpoint_is_swept() -> None:
    here = {
        p.partition(":")[0] for p in (*FILER, *DISPATCHER, *RUN, *REFEREE, *REAPER, *STACK, *LINES, *CHECKS, SPLITS[0])
    }
    assert failpoints() - here - set(ELSEWHERE) == set(), "kill there too: add it to a list of this sweep"
    assert (here | set(ELSEWHERE)) - failpoints() == set(), "is no longer in the source"
    for point, path in ELSEWHERE.items():
        name = point.removesuffix("*")
        assert re.search(rf"[\"']{re.escape(name)}", (ROOT / "tests" / path).read_text()), (
            f"{path} does not kill at {point}"
        )
