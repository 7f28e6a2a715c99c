"""What was taken back lands with that said, or not at all; what only a clock says against a ledger stops no landing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from persons import LR, WARM, Work
from repos import sh

from org import files, strictyaml
from org.cli import land as verb
from org.cli import main
from org.errors import BadInput, OrgError, Refused
from org.lab import fidelity, land, ledger, record
from org.records import Verdict
from org.world import git


def retract(work: Work, name: str, back: bool = False) -> str:
    """A re-test of `name` at another scale falls, written down as `promotions` does; the re-test's id. back: the head goes
    back to the base."""
    home, writer = work.home, ledger.Ledger(work.home)
    book = writer.refresh()
    of, test = book.experiments[name], f"E{len(book.experiments) + 1:04}"
    contract = replace(
        of, experiment=test, stage="promote", promotes=name, scale="demo", members=(), why="does it carry?"
    )
    git.update_ref(home.record, f"refs/org/experiments/{test}", contract.commit)
    files.replace(home.contract(test), strictyaml.dump(contract.page()))
    writer.append("experiment", f"experiment:{test}", contract.to_dict())
    fell = Verdict(test, "loss", None, "better", 0.0102, 0.004, -2.55, 4, "tokens", "reported", ("worse",), ())
    writer.append("verdict", f"verdict:{test}", fell.to_dict())
    head, _ = record.program_head(home, "main")
    commit = git.resolve(home.record, record.BASE) if back else head
    git.update_ref(home.record, record.main_ref("main"), commit, head)
    row = {"program": "main", "commit": commit, "tree": git.tree_of(home.record, commit), "experiment": test}
    row |= {"retracts": [name], "scale": "demo", "was": head, "why": f"{name} did not carry to demo"}
    writer.append("head", f"retract:{test}", row)
    assert fidelity.problems(home) == []
    return test


def call(work: Work, capsys, *words: str) -> str:
    capsys.readouterr()
    assert main.call(["--home", str(work.home.root), "land", "main", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_retracted_stack_under_a_head_that_stays_lands_with_that_said(work: Work, capsys) -> None:
    first = work.plant(LR)
    old = land.land(work.home, "main")
    work.plant(WARM)
    test = retract(work, first)
    said = f"retracted at demo by {test}: effect +0.0102 ± 0.0040 val_bpb, z -2.5, n 4"
    done = land.land(work.home, "main")
    message, last = (sh("git", "log", "-1", "--format=%B", name, cwd=work.top) for name in ("org/main^", "org/main"))
    assert message.splitlines()[0] == f"main: val_bpb -0.0712, {first} retracted, verified as {first}"
    assert f"{first} was {said}" in " ".join(message.split()) and "retracted" not in last
    assert done.status == "made" and old.commit not in {c.commit for c in done.changes}, "what kept quiet is made anew"
    assert f"{first} was {said}" in done.report.read_text()
    assert f"{first} was {said}" in call(work, capsys)
    rows = json.loads(call(work, capsys, "--json"))["experiments"]
    assert [row["retracted"] and row["retracted"]["experiment"] for row in rows] == [test, None]
    assert rows[0]["retracted"]["scale"] == "demo" and rows[0]["retracted"]["effect"] == 0.0102
    again = land.land(work.home, "main")
    assert (again.status, again.commit) == ("there", done.commit)


def test_a_retracted_member_is_marked(work: Work, capsys) -> None:
    stack = work.plant(LR, WARM)
    test = retract(work, "E0001")
    said = f"E0001 was retracted at demo by {test}"
    assert said in call(work, capsys, "--dry")
    land.land(work.home, "main")
    message = sh("git", "log", "-1", "--format=%B", "org/main", cwd=work.top)
    assert message.splitlines()[0] == f"main: val_bpb -0.0712, E0001 retracted, verified as {stack}"
    assert said in " ".join(message.split())
    row = json.loads(call(work, capsys, "--json"))["experiments"][0]
    assert row["retracted"] is None and [bool(m["retracted"]) for m in row["members"]] == [True, False]


@pytest.mark.slow  # several experiments, run for real
def test_a_retraction_after_the_landing_makes_its_commit_anew(work: Work) -> None:
    stack = work.plant(LR, WARM)
    before = land.land(work.home, "main")
    retract(work, "E0001")
    after = land.land(work.home, "main")
    assert (after.status, after.experiments) == ("made", [stack]) and after.commit != before.commit
    assert "E0001 was retracted" in " ".join(sh("git", "log", "-1", "--format=%B", "org/main", cwd=work.top).split())


@pytest.mark.slow  # several experiments, run for real
def test_a_head_whose_own_stack_was_retracted_does_not_land(work: Work) -> None:
    stack = work.plant(LR)
    test = retract(work, stack)
    with pytest.raises(Refused, match=f"{stack} made the head of main and is retracted at demo by {test}"):
        land.land(work.home, "main")


@pytest.mark.slow  # several experiments, run for real
def test_a_branch_that_holds_what_no_head_holds_any_more_is_named(work: Work, capsys) -> None:
    first = work.plant(LR)
    land.land(work.home, "main", branch="kept/old")
    land.land(work.home, "main")
    assert "no longer" not in call(work, capsys)
    retract(work, first, back=True)
    with pytest.raises(
        BadInput, match=rf"its head is the base.*the branch (kept/old|org/main) holds {first}.*org/main"
    ):
        land.land(work.home, "main")
    second = work.plant(WARM)
    text = call(work, capsys)
    [line] = [line for line in text.splitlines() if "no longer" in line]
    assert "the branch kept/old holds" in line and "git branch -D kept/old" in line and second in text
    sh("git", "branch", "-D", "kept/old", cwd=work.top)
    assert json.loads(call(work, capsys, "--json"))["notices"] == []


@pytest.mark.slow  # several experiments, run for real
def test_retracted_wins_are_not_counted_as_work_to_verify(work: Work) -> None:
    record.ensure_program(work.home, "main")
    writer = ledger.Ledger(work.home)
    head, tree = record.program_head(work.home, "main")
    for name in ("E0001", "E0002"):
        one = work._contract(name, "search", head, tree, head, tree, "why", (), ())
        git.update_ref(work.home.record, f"refs/org/experiments/{name}", head)
        work._file(writer, one, -0.05, "tentative", "reported")
    with pytest.raises(BadInput, match="verifies its 2 tentative wins"):
        land.land(work.home, "main")
    retract(work, "E0001")
    with pytest.raises(BadInput, match="verifies its 1 tentative wins"):
        land.land(work.home, "main")


@pytest.mark.slow  # several experiments, run for real
def test_a_step_of_the_clock_is_a_notice_and_an_edit_is_not(work: Work, capsys) -> None:
    work.plant(LR)
    home, writer = work.home, ledger.Ledger(work.home)
    run = "E0000/baseline-s1"
    base = git.resolve(home.record, record.BASE)
    result = {"run": run, "experiment": "E0000", "arm": "baseline", "seed": 1, "stage": "bank", "status": "ok"}
    result |= {"commit": base, "tree": git.tree_of(home.record, base), "scale": "tiny", "device": "cpu0"}
    result |= {"device_kind": "cpu", "metric": 1.5, "total_s": 1.0}
    result |= {"started": "2020-01-01T00:00:00.000Z", "ended": "2099-01-01T00:00:00.000Z"}
    files.replace_json(home.run(run) / "result.json", result)
    writer.append("launch", f"launch:{run}", {"run": run, "experiment": "E0000", "device": "cpu0", "seed": 1})
    writer.append("result", f"result:{run}", result)
    [problem] = fidelity.problems(home)
    assert problem["kind"] == "clock" and "after its line was written" in problem["what"]
    text = call(work, capsys)
    assert f"the clock, line {problem['line']}: {run} ended" in text
    done = land.land(home, "main")
    assert done.report is not None and f"the clock, line {problem['line']}" in done.report.read_text()
    assert verb.document(done, ledger.read(home))["notices"] == list(done.notices) != []
    files.replace_json(home.run(run) / "result.json", {**result, "metric": 1.4})
    with pytest.raises(OrgError, match=f"nothing lands: line {problem['line']} {run}: metric"):
        land.land(home, "main")
