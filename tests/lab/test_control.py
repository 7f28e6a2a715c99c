"""`--control flops`: the budget it gives, what it may count, and what its win may not do. Real runs of a trainer whose FLOPs
a step are a knob."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY_CHARTER, TINY_TRAIN, make_tiny_home

from org import charter as charters
from org.errors import BadInput, Refused
from org.evidence import control as controls
from org.evidence import judge, progress
from org.home import Home
from org.lab import dispatch, fidelity, follow, gate, ledger, record, stacks
from org.records import Contract, Metric, Verdict

# val_bpb falls with WIDTH, which costs FLOPs, and with steps; FREE is better at no cost
TRAIN = (
    TINY_TRAIN.replace("SLEEP_S = 0.0", "WIDTH = 1\nFREE = 0.0\nSLEEP_S = 0.0")
    .replace("+ noise\n", "+ 8 / flags.steps - 0.02 * math.log(WIDTH) - FREE + noise\n")
    .replace(
        'print("params: 1000")', 'print(f"params: {1000 * WIDTH}")\nprint(f"flops_total: {10 * WIDTH * flags.steps}")'
    )
)
CHARTER = TINY_CHARTER.replace("steps: 10", "steps: 200")


@pytest.fixture
def tiny_home(odd_path: Path) -> Home:
    return make_tiny_home(odd_path / "home", CHARTER, TRAIN)


def judged(home: Home, contract: Contract) -> Verdict:
    return follow.drive(home, contract.experiment, lambda line: None, poll_s=0.05)


def steps_of(home: Home, experiment: str) -> dict[str, int | None]:
    book = ledger.read(home)
    return {run: r.steps for run, r in book.results.items() if r.experiment == experiment}


def test_what_is_invalid_at_equal_steps_is_judged_at_equal_flops(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "WIDTH = 1", "WIDTH = 3")
    first = judged(tiny_home, gate.submit(tiny_home, seat, "wider"))
    assert first.outcome == "invalid"
    assert first.reasons[0].startswith("flops 3.00x of the baseline's")
    assert first.reasons[0].endswith("run `org run -m … --control flops`")

    with pytest.raises(Refused, match=r"was invalid as E0001 .*; run `org run -m … --control flops`"):
        gate.submit(tiny_home, seat, "wider, once more")

    dry = gate.submit(tiny_home, seat, "wider, at the same FLOPs", control="flops", dry=True)
    assert (dry.control, dry.matched) == ("flops", "flops")
    assert any("67 of 200 steps" in notice for notice in dry.notices)
    contract = gate.submit(tiny_home, seat, "wider, at the same FLOPs", control="flops")
    verdict = judged(tiny_home, contract)
    # 8/67 - 8/200 is 0.079 worse, log(3) * 0.02 = 0.022 better, sigma 0.004
    assert (verdict.outcome, verdict.matched_on) == ("loss", "flops"), verdict.reasons
    assert verdict.matching["steps"] == {"baseline": 200, "candidate": 67}
    assert f"67 of 200 steps, 0.333 of the budget, by {first.runs[-1]}" in " ".join(verdict.reasons)
    assert set(steps_of(tiny_home, contract.experiment).values()) == {67}, "no probe: the invalid run had counted FLOPs"
    assert set(verdict.runs).isdisjoint({first.runs[-1]}), "the run at the full budget is no part of it"
    assert fidelity.problems(tiny_home) == []
    assert "control: flops" in tiny_home.contract(contract.experiment).read_text()

    with pytest.raises(Refused, match="this very configuration was a loss"):
        gate.submit(tiny_home, seat, "again", control="flops")


@pytest.mark.slow  # an experiment or two, run for real
def test_a_probe_counts_flops_first_where_no_run_has(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "WIDTH = 1", "WIDTH = 2")
    contract = gate.submit(tiny_home, seat, "wider", control="flops")
    assert any("a probe of 10 steps" in notice for notice in contract.notices)
    verdict = judged(tiny_home, contract)
    probes = [run for run in steps_of(tiny_home, contract.experiment) if "/probe-" in run]
    assert [steps_of(tiny_home, contract.experiment)[run] for run in probes] == [10]
    assert probes[0] in ledger.read(tiny_home).launches, "counted like any launch"
    assert not any("/probe-" in run for run in verdict.runs), "an arm of no verdict"
    assert verdict.matching["steps"] == {"baseline": 200, "candidate": 100}
    assert probes[0] in " ".join(verdict.reasons)


@pytest.mark.slow  # an experiment or two, run for real
def test_a_probe_of_the_very_budget_is_still_no_arm(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "WIDTH = 1", "WIDTH = 20")  # cut to 10 steps, as the probe is
    contract = gate.submit(tiny_home, seat, "much wider", control="flops")
    verdict = judged(tiny_home, contract)
    assert verdict.matching["steps"] == {"baseline": 200, "candidate": 10}
    assert not any("/probe-" in run for run in verdict.runs)


@pytest.mark.slow  # an experiment or two, run for real
def test_a_cheaper_change_gets_more_steps_and_only_so_many(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "{10 * WIDTH", "{5 * WIDTH")
    verdict = judged(tiny_home, gate.submit(tiny_home, seat, "half the work", control="flops"))
    assert verdict.matching["steps"] == {"baseline": 200, "candidate": 400}
    assert verdict.outcome == "win"  # 8/200 - 8/400 = 0.02
    edit(seat, "{5 * WIDTH", "{1 * WIDTH")
    verdict = judged(tiny_home, gate.submit(tiny_home, seat, "a tenth", control="flops"))
    assert (verdict.outcome, verdict.n) == ("invalid", 0)
    assert "stretched 4 times at most" in verdict.reasons[0]


@pytest.mark.slow  # an experiment or two, run for real
def test_a_candidate_that_prints_no_flops_is_invalid_in_one_line(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, 'print(f"flops_total: {10 * WIDTH * flags.steps}")\n', "")
    verdict = judged(tiny_home, gate.submit(tiny_home, seat, "silent", control="flops"))
    assert verdict.outcome == "invalid"
    assert "print `flops_total:` and `steps:`" in verdict.reasons[0]
    assert len(verdict.reasons) == 1 and len(verdict.runs) == 1


@pytest.mark.slow  # an experiment or two, run for real
def test_a_probe_that_crashes_is_a_crash_of_the_candidate(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "for step in range", "assert WIDTH == 0\nfor step in range")
    verdict = judged(tiny_home, gate.submit(tiny_home, seat, "broken", control="flops"))
    assert verdict.outcome == "crash"
    assert "/probe-s" in verdict.reasons[0]


@pytest.mark.slow  # an experiment or two, run for real
def test_flops_that_do_not_follow_the_budget_say_so(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "{10 * WIDTH * flags.steps}", "{10 * WIDTH * flags.steps + 900}")
    judged(tiny_home, gate.submit(tiny_home, seat, "a fixed cost"))
    verdict = judged(tiny_home, gate.submit(tiny_home, seat, "a fixed cost", control="flops"))
    assert verdict.outcome == "invalid"
    assert "do not follow the budget" in verdict.reasons[0] and "--control" not in verdict.reasons[0]


@pytest.mark.slow
def test_a_win_can_be_verified_and_neither_stacks_nor_moves_a_head(tiny_home: Home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "WIDTH = 1\nFREE = 0.0", "WIDTH = 2\nFREE = 0.2")
    contract = gate.submit(tiny_home, seat, "wider and better", control="flops")
    verdict = judged(tiny_home, contract)
    assert (verdict.outcome, verdict.tier) == ("win", "tentative")
    assert controls.UNSTACKED in verdict.reasons and verdict.z > 2 * 3.09
    before = record.program_head(tiny_home, "main")
    assert stacks.stack(tiny_home, "main") is None
    dispatch.Dispatcher(tiny_home).tick()
    assert record.program_head(tiny_home, "main") == before

    again = stacks.verify(tiny_home, contract.experiment)
    assert (again.control, again.matched) == ("flops", "flops")
    assert min(again.seeds) >= stacks.VERIFY_SEED
    verdict = judged(tiny_home, again)
    # the search showed it at more than twice the z of a verification, so four fresh seeds do
    assert (verdict.outcome, verdict.tier, verdict.n, verdict.matched_on) == ("win", "verified", 4, "flops")
    assert verdict.matching["steps"] == {"baseline": 200, "candidate": 100}
    dispatch.Dispatcher(tiny_home).tick()
    assert record.program_head(tiny_home, "main") == before
    book = ledger.read(tiny_home)
    assert not book.heads
    assert progress.best(book.verdicts, book.experiments) == {"tentative": None, "verified": None}
    series = progress.series(book.verdicts, book.results.values(), 1.5, Metric(), book.experiments)
    assert [point.kind for point in series.points] == ["baseline"], (
        "of another budget, so on no one curve with the rest"
    )
    with pytest.raises(BadInput, match="was put to this test"):
        stacks.verify(tiny_home, contract.experiment)
    assert stacks.stack(tiny_home, "main") is None


@pytest.mark.slow  # an experiment or two, run for real
def test_a_command_without_a_budget_cannot_be_cut(tiny_home: Home, make_seat, edit) -> None:
    tiny_home.charter.write_text(CHARTER.replace(" --steps {steps}", ""))
    seat = make_seat()
    edit(seat, "WIDTH = 1", "WIDTH = 2")
    with pytest.raises(BadInput, match=r"neither \{steps\} nor \{tokens\}"):
        gate.submit(tiny_home, seat, "wider", control="flops")
    assert gate.submit(tiny_home, seat, "wider").control == ""


@pytest.mark.slow  # an experiment or two, run for real
def test_the_budget_never_changes_as_runs_arrive(tiny_home: Home, make_seat, edit) -> None:
    """FLOPs that move from seed to seed: the first run of each tree decides, whatever comes after it."""
    seat = make_seat()
    edit(seat, "WIDTH = 1", "WIDTH = 3")
    judged(tiny_home, gate.submit(tiny_home, seat, "wider"))
    contract = gate.submit(tiny_home, seat, "wider", control="flops")
    results = list(ledger.read(tiny_home).results.values())
    digest = lambda steps, tokens, is_probe: results[0].setting if not steps else f"{steps} {is_probe}"
    charter = charters.load(tiny_home)
    found = controls.plan(contract, results, charter, digest)
    assert isinstance(found, controls.Plan)
    more = [replace(r, run=f"{r.run}-later", flops=(r.flops or 0) * 2) for r in results]
    assert controls.plan(contract, results + more, charter, digest) == found
    alone = [r for r in results if r.tree == contract.baseline_tree]
    step = controls.plan(contract, alone, charter, digest)
    assert isinstance(step, judge.More) and [arm for arm, _ in step.runs] == ["probe"]
    step = controls.plan(contract, [], charter, digest)
    assert isinstance(step, judge.More) and [arm for arm, _ in step.runs] == ["baseline", "probe"]
