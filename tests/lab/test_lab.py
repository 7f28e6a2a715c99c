"""One experiment, hop by hop, with no office: filed, run, judged, recorded. Real git, real processes, a tiny trainer."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from waiting import wait_for
from whole import FOLLOW, dispatch_until, start

from org import charter as charters
from org import files
from org.errors import BadInput, Refused
from org.evidence import judge
from org.lab import dispatch, fidelity, follow, gate, ledger, record, runner, spec, stacks
from org.lab.book import Book
from org.records import BANK
from org.world import git, process


def drive(home, contract):
    return follow.drive(home, contract.experiment, lambda line: None, poll_s=0.05)


def test_an_edit_becomes_an_experiment_with_a_verdict(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(tiny_home, seat, "a larger step for matrices", expect=-0.04)
    assert [(k.name, k.old, k.new) for k in contract.knobs] == [("MATRIX_LR", 0.02, 0.04)]
    verdict = drive(tiny_home, contract)
    assert (verdict.outcome, verdict.tier) == ("win", "tentative")
    assert verdict.effect is not None and verdict.effect < 0
    book = ledger.read(tiny_home)
    assert set(verdict.runs) <= set(book.results)
    for run in verdict.runs:
        assert files.read_json(tiny_home.run(run) / "result.json")["metric"] == book.results[run].metric
    assert fidelity.problems(tiny_home) == []
    assert git.resolve(tiny_home.record, f"refs/org/experiments/{contract.experiment}") == contract.commit
    assert "MATRIX_LR" in tiny_home.contract(contract.experiment).read_text()


@pytest.mark.slow  # several experiments, run for real
def test_the_candidate_branch_carries_tentative_wins_and_the_head_stays(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    before = record.program_head(tiny_home, "main")
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    drive(tiny_home, gate.submit(tiny_home, seat, "why"))
    dispatch.Dispatcher(tiny_home).tick()
    assert record.program_head(tiny_home, "main") == before
    candidate = git.read_file(tiny_home.record, "refs/heads/program/main/candidate", "train.py")
    assert candidate is not None and b"MATRIX_LR = 0.04" in candidate


def test_a_stack_of_two_wins_moves_the_head_once(tiny_home, make_seat, edit) -> None:
    wins = []
    for name, old, new in [
        ("me", "MATRIX_LR = 0.02", "MATRIX_LR = 0.04"),
        ("you", "WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5"),
    ]:
        seat = make_seat(name)
        edit(seat, old, new)
        wins.append(gate.submit(tiny_home, seat, f"{name} tries"))
    for contract in wins:
        assert drive(tiny_home, contract).outcome == "win"
    stack = stacks.stack(tiny_home, "main")
    assert stack is not None and set(stack.members) == {c.experiment for c in wins}
    assert stacks.stack(tiny_home, "main") is None, "a second stack while one is being measured"
    assert min(stack.seeds) >= stacks.VERIFY_SEED
    verdict = drive(tiny_home, stack)
    assert (verdict.outcome, verdict.tier, verdict.n) == ("win", "verified", 4)
    dispatch.Dispatcher(tiny_home).tick()
    dispatch.Dispatcher(tiny_home).tick()
    book = ledger.read(tiny_home)
    assert [row["kind"] for row in book.rows].count("head") == 1
    assert record.program_head(tiny_home, "main")[1] == stack.tree
    text = git.read_file(tiny_home.record, "refs/heads/program/main/main", "train.py")
    assert text is not None and b"MATRIX_LR = 0.04" in text and b"WARMDOWN_FRAC = 0.5" in text
    assert git.resolve(tiny_home.hub, "refs/heads/program/main/main") == stack.commit


@pytest.mark.slow  # several experiments, run for real
def test_a_failed_stack_is_tried_in_halves_once(tiny_home, make_seat, edit) -> None:
    filed = []
    for name, old, new in [("me", "MATRIX_LR = 0.02", "MATRIX_LR = 0.04"), ("you", "SLEEP_S = 0.0", "SLEEP_S = 0.01")]:
        seat = make_seat(name)
        edit(seat, old, new)
        filed.append(gate.submit(tiny_home, seat, name))
        if name == "me":
            drive(tiny_home, filed[0])  # the other's verdict is given below: an experiment has one
    book = ledger.Ledger(tiny_home)

    def judged(contract, outcome, tier=None):
        plain = book.refresh().verdicts[filed[0].experiment].to_dict()
        row = {**plain, "experiment": contract.experiment, "outcome": outcome, "tier": tier}
        book.append("verdict", f"verdict:{contract.experiment}", row)

    judged(filed[1], "win", "tentative")
    whole = stacks.stack(tiny_home, "main")
    assert whole is not None and len(whole.members) == 2
    judged(whole, "null")
    halves = []
    while half := stacks.stack(tiny_home, "main"):
        halves.append(half.members)
        judged(half, "null")
    assert sorted(halves) == sorted((c.experiment,) for c in filed)


def test_baseline_runs_are_shared_by_experiments(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    for value in ("0.03", "0.05"):
        edit(seat, "MATRIX_LR = " + ("0.02" if value == "0.03" else "0.03"), f"MATRIX_LR = {value}")
        drive(tiny_home, gate.submit(tiny_home, seat, f"try {value}"))
    runs = [r for r in ledger.read(tiny_home).results.values() if r.arm == "baseline"]
    assert len({(r.tree, r.seed) for r in runs}) == len(runs)
    assert all(r.experiment == BANK for r in runs)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("editable", "other.py", "x = 1\n"),
        ("frozen", "evaluate.py", "def score():\n    return 0\n"),
    ],
)
def test_a_committed_change_outside_the_editable_paths_is_refused(tiny_home, make_seat, edit, rule, path, text) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    worktree = Path(seat.worktree)
    (worktree / path).write_text(text)
    for command in (["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", worktree, *command], check=True)
    with pytest.raises(Refused) as refused:
        gate.submit(tiny_home, seat, "why")
    assert path in [v.path for v in refused.value.violations]
    assert ledger.read(tiny_home).experiments == {}


def test_uncommitted_files_outside_the_editable_paths_are_not_looked_at(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    (Path(seat.worktree) / "notes.txt").write_text("mine")
    contract = gate.submit(tiny_home, seat, "why")
    assert git.read_file(tiny_home.record, contract.commit, "notes.txt") is None


def test_an_unchanged_tree_and_a_repeated_configuration_are_refused(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    with pytest.raises(Refused):
        gate.submit(tiny_home, seat, "nothing changed")
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    first = gate.submit(tiny_home, seat, "why")
    other = make_seat("you")
    edit(other, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    with pytest.raises(Refused, match=first.experiment):
        gate.submit(tiny_home, other, "the same again")


def test_dry_records_nothing(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    assert gate.submit(tiny_home, seat, "why", dry=True).knobs
    assert not tiny_home.ledger.exists()


@pytest.mark.parametrize(("options", "word"), [({"claim": "best"}, "claim"), ({"scale": "huge"}, "scale")])
def test_a_bad_argument_is_one_line(tiny_home, make_seat, options, word) -> None:
    with pytest.raises(BadInput, match=word):
        gate.submit(tiny_home, make_seat(), "why", **options)


def test_a_symbolic_link_in_place_of_the_code_is_refused(tiny_home, make_seat, tmp_path) -> None:
    seat = make_seat()
    secret = tmp_path / "secret"
    secret.write_text("MATRIX_LR = 1\n")
    path = Path(seat.worktree) / "train.py"
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(Refused):
        gate.submit(tiny_home, seat, "why")


def test_a_crash_of_the_candidate_is_a_verdict(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04\nraise SystemExit('boom')")
    verdict = drive(tiny_home, gate.submit(tiny_home, seat, "why"))
    assert verdict.outcome == "crash"
    assert "boom" in " ".join(verdict.reasons)


def test_a_run_that_ended_after_the_judge_looked_is_not_started_again(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(tiny_home, seat, "why")
    drive(tiny_home, contract)
    dispatcher = dispatch.Dispatcher(tiny_home)
    charter = charters.load(tiny_home)
    stale = {contract.experiment: judge.More((("candidate", contract.seeds[0]), ("baseline", 1)))}
    book = dispatcher.ledger.refresh()
    book.verdicts = Book().verdicts  # none, as when the judge was asked
    settings = {"tiny": spec.setting(charter, "tiny", "cpu")}
    assert dispatcher._start(charter, dispatcher._prepare(charter), stale, settings) == []


@pytest.mark.slow  # runs of three seconds, many times
def test_runs_stopped_with_the_org_are_repeated_however_often(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "SLEEP_S = 0.0", "SLEEP_S = 3.0")  # longer than a busy machine takes to look
    contract = gate.submit(tiny_home, seat, "a slow one")
    dispatch_until(tiny_home, lambda book: len(book.results) >= 3)  # the bank, of the fast base
    for stops in range(1, 5):
        dispatcher = dispatch.Dispatcher(tiny_home)
        pids = wait_for(lambda d=dispatcher: (d.tick(), _training(tiny_home, contract))[1], what="a run to train")
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda d=dispatcher: not d.running(), what="the end of the runs")
        lost = [r for r in ledger.read(tiny_home).results.values() if r.status == "lost"]
        assert len(lost) == stops
        assert not process.find_marked(tiny_home.lease_marker(lost[-1].device))
    assert drive(tiny_home, contract).outcome in ("null", "win", "loss")


def _training(home, contract) -> list[int]:
    """Runners of the contract's runs that are in their training phase."""
    found = home.experiment(contract.experiment).glob("runs/*/status.json")
    # one that has ended still says `train` while it puts its folders away
    statuses = [files.read_json(p) for p in found if not p.with_name("result.json").exists()]
    live = [s["pid"] for s in statuses if s and s["phase"] == "train"]
    return [pid for pid in live if process.identity(pid) is not None]


@pytest.mark.slow  # several experiments, run for real
def test_a_dispatcher_killed_while_runs_train_loses_and_doubles_nothing(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(tiny_home, seat, "why")
    child = start(FOLLOW, tiny_home, "", contract.experiment)
    wait_for(lambda: ledger.read(tiny_home).launches, what="a launch")
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert drive(tiny_home, contract).outcome == "win"
    book = ledger.read(tiny_home)
    assert [r.run for r in book.results.values() if r.status == "lost"] == []
    assert len({(r.tree, r.seed) for r in book.results.values()}) == len(book.results)


def test_a_torn_last_line_costs_only_itself(tiny_home) -> None:
    book = ledger.Ledger(tiny_home)
    book.append("org", "a", {"what": "launch"})
    with tiny_home.ledger.open("a") as file:
        file.write('{"seq": 2, "kind": "org", "key"')
    book.append("org", "b", {"what": "stop"})
    assert [row["key"] for row in ledger.Ledger(tiny_home).rows()] == ["a", "b"]


def test_the_same_key_is_recorded_once(tiny_home) -> None:
    first, second = ledger.Ledger(tiny_home), ledger.Ledger(tiny_home)
    assert first.append("org", "k", {}) is not None
    assert second.append("org", "k", {}) is None


def test_an_edited_result_is_named(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    verdict = drive(tiny_home, gate.submit(tiny_home, seat, "why"))
    text = tiny_home.ledger.read_text()
    tiny_home.ledger.write_text(text.replace(f'"effect": {verdict.effect}', '"effect": -1.0'))
    assert any("differs from the record" in p["what"] for p in fidelity.problems(tiny_home))


def test_start_constants_are_applied_at_import(tiny_home) -> None:
    text = tiny_home.charter.read_text()
    tiny_home.charter.write_text(text + "\nstart: {MATRIX_LR: 0.013}\n")
    record.ensure_record(tiny_home, charters.load(tiny_home))
    assert b"MATRIX_LR = 0.013" in (git.read_file(tiny_home.record, "refs/heads/base", "train.py") or b"")


HOSTILE = """\
print("---")
print("val_bpb: 1.0")
print("params: n/a")
print("train_s: 1e999")
print("tokens: -5")
print("steps: true")
print("data_hash: " + "x" * 5000)
raise SystemExit(0)
"""


@pytest.mark.slow  # several experiments, run for real
def test_a_hostile_summary_stops_nobody_elses_experiment(tiny_home, make_seat, edit) -> None:
    seat, other = make_seat("me"), make_seat("you")
    path = Path(seat.worktree) / "train.py"
    path.write_text(HOSTILE + path.read_text())
    hostile = gate.submit(tiny_home, seat, "nonsense")
    edit(other, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    honest = gate.submit(tiny_home, other, "why")
    assert drive(tiny_home, honest).outcome == "win"
    drive(tiny_home, hostile)
    results = [r for r in ledger.read(tiny_home).results.values() if r.experiment == hostile.experiment]
    assert results and all((r.params, r.train_s, r.tokens, r.steps) == (None, None, None, None) for r in results)


@pytest.mark.slow
def test_numbers_of_another_setting_are_not_compared(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    drive(tiny_home, gate.submit(tiny_home, seat, "why"))
    before = set(ledger.read(tiny_home).results)
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace("steps: 10,", "steps: 12,"))
    edit(seat, "MATRIX_LR = 0.04", "MATRIX_LR = 0.05")
    verdict = drive(tiny_home, gate.submit(tiny_home, seat, "why"))
    assert verdict.runs and not before & set(verdict.runs)


@pytest.mark.slow  # several experiments, run for real
def test_a_bank_that_cannot_be_measured_is_given_up_with_a_verdict(tiny_home, make_seat, edit, monkeypatch) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(tiny_home, seat, "why")
    monkeypatch.setenv("ORG_FAILPOINT", "runner.scored")  # every runner dies before it writes its result
    verdict = drive(tiny_home, contract)
    assert verdict.outcome == "lost"
    assert "3 times" in verdict.reasons[0]
    runs = ledger.read(tiny_home).launches
    assert len(runs) <= 3 * 5


def test_a_summary_may_be_all_that_is_printed() -> None:
    assert runner.read_summary("---\nval_loss: 1.23\n") == ({"val_loss": 1.23}, "")
    assert runner.read_summary("no summary\n")[1] and runner.read_summary("---\na: 1\n---\na: 2\n")[1]


def test_edits_that_are_not_filed_and_a_head_that_moved_are_said(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    (Path(seat.worktree) / "README.md").write_text("mine now\n")
    [notice] = gate.submit(tiny_home, seat, "why", dry=True).notices
    assert notice.startswith("README.md was edited")
    head, tree = record.program_head(tiny_home, "main")
    moved = git.commit(tiny_home.record, tree, [head], "another head")
    git.update_ref(tiny_home.record, record.main_ref("main"), moved, head)
    assert any("--sync" in said for said in gate.submit(tiny_home, seat, "why", dry=True).notices)


def test_a_new_file_that_the_code_imports_and_the_gate_would_leave_behind_is_named(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04\nimport helper")
    (Path(seat.worktree) / "helper.py").write_text("X = 1\n")
    with pytest.raises(Refused, match=r"train\.py line \d+ imports helper\.py.*put its code there"):
        gate.submit(tiny_home, seat, "why", dry=True)
    (Path(seat.worktree) / "helper.py").unlink()
    (Path(seat.worktree) / "notes.py").write_text("X = 1\n")
    edit(seat, "import helper", "import math")
    (Path(seat.worktree) / "argparse.py").write_text("")  # what the code imported before is found without it
    assert gate.submit(tiny_home, seat, "why", dry=True).commit


def test_a_file_that_an_experiment_added_can_go_again(tiny_home, make_seat, edit) -> None:
    text = tiny_home.charter.read_text()
    tiny_home.charter.write_text(text.replace("editable: [train.py]", "editable: [train.py, extra/*.py]"))
    code = tiny_home.root / "code" / "extra"
    code.mkdir()
    (code / "one.py").write_text("ONE = 1\n")
    seat = make_seat()
    extra = Path(seat.worktree) / "extra" / "two.py"
    extra.write_text("TWO = 2\n")
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    assert git.read_file(tiny_home.record, gate.submit(tiny_home, seat, "with").commit, "extra/two.py") is not None
    extra.unlink()
    assert git.read_file(tiny_home.record, gate.submit(tiny_home, seat, "without").commit, "extra/two.py") is None


@pytest.mark.slow  # several experiments, run for real
def test_a_win_is_verified_alone_once_on_a_head(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(tiny_home, seat, "why")
    drive(tiny_home, contract)
    again = stacks.verify(tiny_home, contract.experiment)
    with pytest.raises(BadInput, match=again.experiment):
        stacks.verify(tiny_home, contract.experiment)


def test_a_worktree_that_git_cannot_read_costs_no_experiment(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    (Path(seat.worktree) / ".git").write_text("gitdir: /nowhere\n")
    contract = gate.submit(tiny_home, seat, "why")
    assert contract.experiment in ledger.read(tiny_home).experiments


def test_a_second_request_to_stop_changes_nothing(tiny_home) -> None:
    with pytest.raises(runner.Stopped):
        runner._stop()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
