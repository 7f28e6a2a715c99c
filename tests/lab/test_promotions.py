"""Promotion, end to end: what carries is shown, what does not is taken back, whoever is killed meanwhile. Real runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from waiting import wait_for
from whole import DISPATCH, dispatch_until, run

from org import charter as charters
from org import files, strictyaml
from org.cli import main, results, status
from org.errors import BadInput
from org.evidence import progress
from org.lab import dispatch, fidelity, follow, gate, ledger, promotions, record, stacks
from org.lab.book import Book
from org.world import git

GOOD = ("MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
ALSO_GOOD = ("WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5")
RUNGS = "  tiny: {steps: 10, bank: 3, deadline_s: 30}\n"
LADDER = RUNGS + "  demo: {steps: 20, bank: 3, deadline_s: 30}\n  std: {steps: 30, bank: 3, deadline_s: 30}\n"
# at 20 steps a larger learning rate hurts, and at 30 it does not run
BENT = (
    "noise = random",
    """\
if flags.steps > 25 and MATRIX_LR > 0.03: raise SystemExit('diverged')
bent = 5 * (MATRIX_LR - 0.02) if flags.steps > 15 else 0.0
noise = bent + random""",
)


@pytest.fixture
def ladder_home(tiny_home):
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace(RUNGS, LADDER))
    files.replace_json(tiny_home.org_file, {"devices_spec": "cpu:2"})
    return tiny_home


@pytest.fixture
def bent_home(ladder_home):
    path = ladder_home.root / "code" / "train.py"
    text = path.read_text()
    assert BENT[0] in text
    path.write_text(text.replace(*BENT, 1))
    return ladder_home


def won(home, make_seat, edit, change=GOOD, name: str = "me") -> str:
    """A tentative win."""
    seat = make_seat(name)
    edit(seat, *change)
    contract = gate.submit(home, seat, f"{name} tries")
    verdict = follow.drive(home, contract.experiment, lambda line: None, poll_s=0.03)
    assert (verdict.outcome, verdict.tier) == ("win", "tentative")
    return contract.experiment


def verified(home, name: str) -> str:
    """The verification of a tentative win alone, which moved the head."""
    test = stacks.verify(home, name)
    dispatch_until(home, lambda book: "main" in book.heads and book.heads["main"]["experiment"] == test.experiment)
    return test.experiment


def retracting(book: Book) -> list[dict]:
    return [row for row in book.rows if row.get("retracts")]


@pytest.mark.slow
def test_what_carries_is_shown_and_moves_no_head(ladder_home, make_seat, edit) -> None:
    home = ladder_home
    name = won(home, make_seat, edit)
    test = verified(home, name)
    before = record.program_head(home, "main")
    [retest] = promotions.promote(home, [name], "demo")
    original = ledger.read(home).experiments[name]
    assert (retest.stage, retest.promotes, retest.scale, retest.claim) == ("promote", name, "demo", "better")
    assert (retest.tree, retest.baseline_tree) == (original.tree, original.baseline_tree)
    used = {s for n, c in ledger.read(home).experiments.items() if n != retest.experiment for s in c.seeds}
    assert len(retest.seeds) == 4 and not set(retest.seeds) & used, "fresh seeds"
    verdict = follow.drive(home, retest.experiment, lambda line: None, poll_s=0.03)
    assert (verdict.outcome, verdict.tier, verdict.n) == ("win", None, 4)
    follow.settle(home)
    book = ledger.read(home)
    runs = [book.results[run] for run in verdict.runs]
    assert {(run.scale, run.arm) for run in runs} == {("demo", "baseline"), ("demo", "candidate")} and len(runs) == 8
    assert record.program_head(home, "main") == before and retracting(book) == []
    assert [row["kind"] for row in book.rows].count("head") == 1 and [r["kind"] for r in book.rows].count("credit") == 0
    rows = {row["experiment"]: row for row in results.rows(book)}
    for each in (name, test):
        assert rows[each]["on_the_ladder"] == [f"carried to demo by {retest.experiment}"]
    best = progress.best(book.verdicts, book.experiments, book.retracted)
    assert best["verified"]["experiment"] == test and best["tentative"]["experiment"] == name
    with pytest.raises(BadInput, match=f"{retest.experiment} .carried.; it can be promoted to std"):
        promotions.promote(home, [test], "demo")
    assert fidelity.problems(home) == []


@pytest.mark.slow
def test_what_does_not_carry_is_retracted_and_its_head_goes_back(bent_home, make_seat, edit) -> None:
    home = bent_home
    base = record.program_head(home, "main")
    name = won(home, make_seat, edit)
    test = verified(home, name)
    made = record.program_head(home, "main")
    assert made != base
    [retest] = promotions.promote(home, [test], "demo")
    book = dispatch_until(home, retracting)
    [row] = retracting(book)
    assert row["retracts"] == [test, name] and row["experiment"] == retest.experiment and row["scale"] == "demo"
    assert (row["was"], row["commit"], row["tree"]) == (made[0], *base)
    assert f"{test} did not carry to demo" in row["why"] and "goes back to" in row["why"]
    assert record.program_head(home, "main") == base and "main" not in book.heads
    assert git.resolve(home.hub, "refs/heads/program/main/main") == base[0]
    assert strictyaml.read(home.program("main"))["head"] == base[0]
    assert progress.best(book.verdicts, book.experiments, book.retracted) == {"tentative": None, "verified": None}
    assert status.collect(home)["best"]["verified"] is None
    rows = {r["experiment"]: r for r in results.rows(book)}
    shown = results._line(rows[test])[1]
    assert shown == f"win (verified, reported, retracted at demo by {retest.experiment})"
    dispatch_until(home, lambda book: True)
    dispatcher = dispatch.Dispatcher(home)
    for _ in range(3):
        dispatcher.tick()
    assert record.program_head(home, "main") == base, "a restart does not move it again"
    candidate = git.read_file(home.record, "refs/heads/program/main/candidate", "train.py")
    assert candidate is None or b"MATRIX_LR = 0.04" not in candidate
    assert stacks.stack(home, "main") is None
    with pytest.raises(BadInput, match="did not carry to demo"):
        stacks.verify(home, name)
    assert fidelity.problems(home) == []
    line = next(r for r in home.results_tsv.read_text().splitlines() if f"\t{test}\t" in r)
    assert "\tdiscard\t" in line


@pytest.mark.slow  # measures several experiments
def test_a_crash_at_the_larger_scale_is_a_retraction_and_a_lost_run_is_not(
    bent_home, make_seat, edit, monkeypatch
) -> None:
    home = bent_home
    name = won(home, make_seat, edit)
    [retest] = promotions.promote(home, [name], "std")
    with monkeypatch.context() as patch:
        patch.setenv("ORG_FAILPOINT", "runner.scored")  # every runner dies before it writes its result
        lost = follow.drive(home, retest.experiment, lambda line: None, poll_s=0.03)
    assert lost.outcome == "lost"
    follow.settle(home)
    assert retracting(ledger.read(home)) == []
    [again] = promotions.promote(home, [name], "std")
    crashed = follow.drive(home, again.experiment, lambda line: None, poll_s=0.03)
    assert crashed.outcome == "crash" and "diverged" in " ".join(crashed.reasons)
    follow.settle(home)
    [row] = retracting(ledger.read(home))
    assert row["retracts"] == [name] and row["was"] == row["commit"]


@pytest.mark.slow  # measures several experiments
def test_a_head_on_which_a_later_stack_stands_stays_and_the_line_says_so(bent_home, make_seat, edit) -> None:
    home = bent_home
    name = won(home, make_seat, edit)
    test = verified(home, name)
    later = won(home, make_seat, edit, ALSO_GOOD, "you")
    upon = verified(home, later)
    head = record.program_head(home, "main")
    promotions.promote(home, [test], "demo")
    book = dispatch_until(home, retracting)
    [row] = retracting(book)
    assert row["commit"] == row["was"] == head[0] and f"{upon} stands on it" in row["why"]
    assert record.program_head(home, "main") == head and book.heads["main"]["experiment"] == upon
    assert set(book.retracted) == {name, test}
    best = progress.best(book.verdicts, book.experiments, book.retracted)
    assert best["verified"]["experiment"] == upon


POINTS = ["promotions.retract", "promotions.head", "ledger.head", "ledger.tip"]


@pytest.mark.slow  # measures a verification and a re-test for each
@pytest.mark.parametrize("point", POINTS)
def test_a_dispatcher_killed_while_it_retracts_ends_in_the_same_place(bent_home, make_seat, edit, point) -> None:
    home = bent_home
    base = record.program_head(home, "main")
    test = verified(home, won(home, make_seat, edit))
    [retest] = promotions.promote(home, [test], "demo")
    dispatch_until(home, lambda book: sum(run.startswith(f"{retest.experiment}/") for run in book.launches) == 8)
    wait_for(lambda: not dispatch.Dispatcher(home).running(), what="the runs' end, which nobody judges yet")
    assert run(DISPATCH, home, point=point) == -signal.SIGKILL
    book = dispatch_until(home, retracting)
    [row] = retracting(book)
    assert (row["commit"], row["tree"]) == base and record.program_head(home, "main") == base
    assert git.resolve(home.hub, "refs/heads/program/main/main") == base[0]
    assert strictyaml.read(home.program("main"))["head"] == base[0]
    keys = [json.loads(line)["key"] for line in home.ledger.read_text().splitlines()]
    assert len(keys) == len(set(keys)) and fidelity.problems(home) == []


@pytest.mark.slow  # measures two experiments, their verifications and a re-test
def test_a_head_that_was_taken_back_in_half_is_not_built_upon(bent_home, make_seat, edit) -> None:
    home = bent_home
    base = record.program_head(home, "main")
    name, other = won(home, make_seat, edit), won(home, make_seat, edit, ALSO_GOOD, "you")
    test = stacks.verify(home, name).experiment
    with gate.filing(home):  # two on one head, as `org verify` does not file them
        writer, charter = ledger.Ledger(home), charters.load(home)
        members, tree = stacks._merge(home, writer.refresh(), base[0], [other])
        rival = stacks._file_verification(home, writer, charter, "main", "human", members, tree, "rival", 8)
    dispatch_until(home, lambda book: {test, rival.experiment} <= set(book.verdicts) and "main" in book.heads)
    made = ledger.read(home).heads["main"]
    assert made["experiment"] == test
    promotions.promote(home, [test], "demo")
    assert run(DISPATCH, home, point="promotions.head") == -signal.SIGKILL
    assert record.program_head(home, "main") == base and "main" in ledger.read(home).heads
    book = dispatch_until(home, lambda book: retracting(book) and "main" in book.heads)
    [row] = retracting(book)
    assert (row["commit"], row["was"]) == (base[0], made["commit"]) and "goes back to" in row["why"]
    assert (book.heads["main"]["experiment"], book.heads["main"]["was"]) == (rival.experiment, base[0])
    assert record.program_head(home, "main")[0] == book.heads["main"]["commit"]
    assert fidelity.problems(home) == []


@pytest.mark.slow  # measures an experiment and its re-test for each
@pytest.mark.parametrize("point", ["promotions.file", "gate.pinned", "gate.contract"])
def test_a_filer_killed_leaves_nothing_or_the_whole(ladder_home, make_seat, edit, point) -> None:
    home = ladder_home
    name = won(home, make_seat, edit)
    argv = [sys.executable, "-m", "org", "--home", str(home.root), "promote", name, "--to", "demo", "--no-wait"]
    assert subprocess.run(argv, env={**os.environ, "ORG_FAILPOINT": point}, check=False).returncode == -9
    assert all(c.promotes is None for c in ledger.read(home).experiments.values())
    [retest] = promotions.promote(home, [name], "demo")
    assert follow.drive(home, retest.experiment, lambda line: None, poll_s=0.03).outcome == "win"
    assert fidelity.problems(home) == []


@pytest.mark.slow  # measures several experiments
def test_the_verb_says_per_experiment_what_happened(bent_home, make_seat, edit, capsys) -> None:
    home = bent_home
    name = won(home, make_seat, edit)
    other = won(home, make_seat, edit, ALSO_GOOD, "you")
    call = ["--home", str(home.root), "promote"]
    for wrong, words in [
        (["E0099", "--to", "demo"], "not in the ledger"),
        ([name, "--to", "tiny"], "it can be promoted to demo, std"),
        ([name, "--to", "huge"], "it has tiny, demo, std"),
        ([name, "E0099", "--to", "demo"], "E0099 is not in the ledger"),
    ]:
        capsys.readouterr()
        assert main.call([*call, *wrong]) == 2
        assert words in capsys.readouterr().err
    assert all(c.promotes is None for c in ledger.read(home).experiments.values()), "all of them or none"
    assert main.call([*call, name, other, "--to", "demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    said = {row["promotes"]: (row["carried"], row["retracts"]) for row in found["promotions"]}
    assert said == {name: (False, [name]), other: (True, [])}
    assert all(len(row["runs"]) == 8 for row in found["promotions"])
