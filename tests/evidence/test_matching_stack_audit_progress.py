"""Matching, stacks, the number lint and progress: each a pure function of the ledger's records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.bench import orgbench
from org.bench.surrogate import Surrogate
from org.evidence import audit, matching, progress, stack
from org.records import Contract, KnobChange, Metric, Verdict


def verdict(
    name: str, effect: float | None = -0.04, outcome: str = "win", tier: str | None = "tentative", **more: object
):
    z = None if effect is None else -effect / 0.01
    fields = {"experiment": name, "outcome": outcome, "tier": tier, "claim": "better", "effect": effect, "se": 0.0113}
    fields |= {
        "z": z,
        "n": 2,
        "matched_on": "tokens",
        "trust": "referee",
        "reasons": (),
        "runs": (f"{name}/candidate-s1",),
    }
    return Verdict(**{**fields, **more})


def contract(name: str, knob: str | None = None, **more: object) -> Contract:
    made = orgbench.contract_for(name, f"tree-{name}", (1, 2), "search")
    knobs = (KnobChange(knob, "train.py", 1, 1, 2),) if knob else ()
    return Contract(**{**made.__dict__, "knobs": knobs, **more})


# --- stacks ------------------------------------------------------------------------------------------------------


def test_a_stack_takes_the_best_of_each_knob_of_its_own_head_largest_first() -> None:
    contracts = {
        "E0001": contract("E0001", "LR"),
        "E0002": contract("E0002", "LR"),
        "E0003": contract("E0003", "WD"),
        "E0004": contract("E0004", "BETA", baseline_commit="older"),
        "E0005": contract("E0005", "CAP", program="other"),
        "E0006": contract("E0006", "DEPTH"),
        "E0007": contract("E0007"),
    }
    effects = {"E0001": -0.02, "E0002": -0.05, "E0003": -0.03, "E0004": -0.09, "E0005": -0.08, "E0007": -0.01}
    verdicts = {name: verdict(name, effect) for name, effect in effects.items()}
    verdicts["E0006"] = verdict("E0006", -0.07, outcome="null", tier=None)
    assert stack.members(contracts, verdicts, {}, "main", "base") == ["E0002", "E0003", "E0007"]
    assert stack.members(contracts, verdicts, {"main": {"commit": "older"}}, "main") == ["E0004"]
    assert stack.members(contracts, verdicts, {}, "main", "base", limit=1) == ["E0002"]


def test_only_wins_at_the_scale_of_heads_are_stacked_and_the_others_say_why_not() -> None:
    contracts = {
        "E0001": contract("E0001", scale="smoke"),
        "E0002": contract("E0002", scale="demo"),
        "E0003": contract("E0003", scale="smoke", control="flops"),
        "E0004": contract("E0004", scale="smoke", baseline_commit="older"),
        "E0005": contract("E0005", scale="smoke"),
        "E0006": contract("E0006", scale="smoke"),
        "E0007": contract("E0007", scale="smoke", stage="verify", members=("E0006",)),
        "E0008": contract("E0008", scale="demo", stage="verify", members=("E0001", "E0002")),
    }
    verdicts = {name: verdict(name) for name in list(contracts)[:6]}
    verdicts["E0007"] = verdict("E0007", outcome="null", tier=None)
    found = stack.standing(contracts, verdicts, "main", {"base"}, {"E0005": "owes a re-test at demo"}, "smoke")
    words = {
        "E0001": "",
        "E0002": "was measured at demo, and heads move at smoke",
        "E0003": "another budget",
        "E0004": "was measured on an earlier head; `org verify E0004`",
        "E0005": "owes a re-test at demo",
        "E0006": "did not hold in E0007",
    }
    assert set(found) == set(words) and all(words[name] in why for name, why in found.items())
    assert stack.members(contracts, verdicts, {}, "main", "base", out={"E0005": "owes"}, scale="smoke") == ["E0001"]
    verdicts["E0007"] = verdict("E0007", tier="verified")
    assert "E0006" not in stack.standing(contracts, verdicts, "main", {"base"})
    verdicts["E0008"] = verdict("E0008", outcome="null", tier=None)
    assert stack.half_due(contracts, verdicts, "main", {"base"}) == ["E0001"]
    assert stack.half_due(contracts, verdicts, "main", {"base"}, scale="smoke") == []


def test_members_of_a_decided_stack_are_not_tried_again_those_of_a_lost_one_are() -> None:
    contracts = {"E0001": contract("E0001"), "E0002": contract("E0002", stage="verify", members=("E0001",))}
    verdicts = {"E0001": verdict("E0001")}
    assert stack.members(contracts, verdicts, {}, "main") == ["E0001"]
    verdicts["E0002"] = verdict("E0002", outcome="null", tier=None)
    assert stack.members(contracts, verdicts, {}, "main") == []
    verdicts["E0002"] = verdict("E0002", None, outcome="lost", tier=None)
    assert stack.members(contracts, verdicts, {}, "main") == ["E0001"]


@given(st.lists(st.text(min_size=1), unique=True, max_size=9))
def test_halves_keep_every_member_once_and_failing_ends(members: list[str]) -> None:
    one, other = stack.halves(members)
    assert sorted([*one, *other]) == sorted(members)
    assert abs(len(one) - len(other)) <= 1
    assert all(half and len(half) < len(members) for half in stack.after_failure(members))
    assert stack.after_failure(members, is_half=True) == []


def test_additivity() -> None:
    assert stack.additivity([-0.04, -0.02], -0.03) == pytest.approx(0.5)
    assert stack.additivity([], -0.03) is None


# --- matching ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matched", "cand", "named"),
    [
        ("tokens", {}, None),
        ("tokens", {"tokens": 1.01}, None),
        ("tokens", {"tokens": 1.03}, "tokens"),
        ("tokens", {"flops": 1.5, "params": 1.5}, "flops"),
        ("tokens", {"flops": 1.5}, "flops"),
        ("tokens", {"flops": 0.5}, None),
        ("params", {"tokens": 2, "flops": 2}, "flops"),
        ("flops", {"params": 2, "tokens": 0.5}, None),
        ("flops", {"flops": 1.03}, "flops"),
        ("wall_s", {"flops": 2, "train_s": 1.05}, None),
        ("wall_s", {"train_s": 1.2}, "wall_s"),
        ("steps", {"steps": 0.5}, "steps"),
    ],
)
def test_fair_and_unfair_pairs(matched: str, cand: dict, named: str | None) -> None:
    table = {axis: {"baseline": 100.0, "candidate": 100.0 * cand.get(axis, 1)} for axis in matching.AXES}
    found = matching.mismatch(table, matched)
    assert (found is None) if named is None else found.startswith(named)


def test_axes_nobody_reports_are_none_and_match() -> None:
    table = matching.table([], [])
    assert set(table) == set(matching.AXES)
    assert matching.mismatch(table, "tokens") is None
    assert matching.net(-0.01, table, {"step_pct": 1.0}, 1) == -0.01


@pytest.mark.parametrize(("sign", "expected"), [(1, -0.01 + 0.005), (-1, -0.01 - 0.005)])
def test_slower_steps_cost_in_the_metrics_own_direction(sign: int, expected: float) -> None:
    table = {axis: {"baseline": 100.0, "candidate": 100.0} for axis in matching.AXES}
    table["train_s"]["candidate"] = 110.0
    assert matching.net(-0.01, table, {"step_pct": 0.0005}, sign) == pytest.approx(expected)


# --- the number lint ---------------------------------------------------------------------------------------------

BOOK = {
    "E0041": verdict("E0041", -0.0412, n=2, z=3.65),
    "E0042": verdict("E0042", 0.0043, outcome="null", tier=None),
    "E0050": verdict("E0050", -0.0386, tier="verified", n=8),
}


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("E0041 win: effect -0.0412 ± 0.0113 bpb, z 3.65, n 2", []),
        ("E0041 gained 0.041 bpb", []),
        ("| E0041 | -0.0412 | 0.0113 |", []),
        ("E0050 is verified at -0.0386", []),
        ("E0041 is not verified yet", []),
        ("the budget is 2.5 hours", []),
        ("on 2026-03-01 `effect -9.9` was typed", []),
        ("E0041: effect -0.0512", ["contradicted"]),
        ("E0041: effect +0.0412", ["contradicted"]),
        ("E0041: n 20", ["contradicted"]),
        ("E0041 lowered bpb by 0.0515", ["unsupported"]),
        ("E0041 is verified", ["contradicted"]),
        ("E0042 improved bpb by 0.0043", ["contradicted"]),
        ("E0099 gained 0.0412", ["unsupported", "unsupported"]),
        ("val bpb fell to 1.2345, a gain", ["unsupported"]),
        ("we ran 20 experiments", ["contradicted"]),
        ("we ran 12 experiments", []),
    ],
)
def test_number_lint(line: str, kinds: list[str]) -> None:
    marks = audit.audit(f"# A page\n\n{line}\n", BOOK, counts={"experiments": 12})
    assert [m.kind for m in marks] == kinds
    assert all(m.line == 3 for m in marks)


def test_metrics_of_runs_support_a_number() -> None:
    assert audit.audit("E0041 reached 1.9512 bpb", BOOK, {"E0041": [1.95118]}) == []
    assert audit.audit("an accuracy of 0.9712", BOOK) == []
    assert [mark.text for mark in audit.audit("an accuracy of 0.9712", BOOK, metric="accuracy")] == ["0.9712"]


def test_citations_are_rendered_and_pass_the_lint() -> None:
    page = audit.resolve(
        "E0041 moved bpb by {E0041.effect} ± {E0041.se}; {E0041.tier}; {E0099.effect}; {E0041.lies}", BOOK
    )
    assert page.startswith(
        "E0041 moved bpb by -0.0412 ± 0.0113; tentative; [E0099.effect: no verdict]; [E0041.lies: not"
    )
    assert audit.audit(page.partition(";")[0], BOOK) == []


@given(st.text(max_size=200))
def test_any_text_is_linted_without_failing(text: str) -> None:
    lines = text.count("\n") + 1
    assert all(1 <= mark.line <= lines for mark in audit.audit(text, BOOK, counts={"runs": 1}))
    assert audit.resolve(text.replace("{", ""), BOOK) == text.replace("{", "")


@given(st.floats(-10, 10, allow_nan=False), st.integers(1, 6))
def test_a_number_supports_itself_at_every_precision(value: float, decimals: int) -> None:
    assert audit._rounds_to(value, f"{value:+.{decimals}f}")
    assert audit._rounds_to(value, f"{abs(value):.{decimals}f}")


# --- progress ----------------------------------------------------------------------------------------------------


def test_progress_keeps_claimed_and_verified_apart() -> None:
    charter = orgbench.charter_for(4)
    task = Surrogate({"a": -0.1, "b": 0.1, "d": -0.2}, 0.001, crashes=frozenset({"x"}))
    seeds = orgbench.bank(task, charter)
    contracts, verdicts = {}, {}
    for k, (tree, stage) in enumerate(
        [("a", "search"), ("b", "search"), ("x", "search"), ("d", "search"), ("a", "verify")]
    ):
        name = f"E{k + 1:04d}"
        own = seeds if stage == "search" else range(101, 109)
        contracts[name] = orgbench.contract_for(name, tree, own, stage)
        verdicts[name] = orgbench.settle(task, contracts[name], charter)
    course = progress.series(verdicts, task.results, 2.0, Metric(), contracts)
    assert [p.kind for p in course.points] == ["baseline", "kept", "discarded", "crash", "kept", "verified"]
    assert [round(value, 1) for _, value in course.claimed_steps] == [2.0, 1.9, 1.8]
    assert [round(value, 1) for _, value in course.best_steps] == [2.0, 1.9]
    assert course.points[3].value is None
    times = [p.device_s for p in course.points]
    assert times == sorted(times) and times[-1] == pytest.approx(task.clock_s)

    best = progress.best(verdicts, contracts)
    assert best["tentative"]["experiment"] == "E0004" and best["verified"]["experiment"] == "E0005"
    assert progress.best({}, {}) == {"tentative": None, "verified": None}

    spent = progress.device_time(task.results, verdicts)
    assert sum(spent.values()) == pytest.approx(task.clock_s)
    assert (spent["bank"], spent["crash"], spent["verify"]) == (48.0, 12.0, 16 * 12.0)
    assert progress.device_time(task.results, {})["search open"] > 0


def test_best_so_far_follows_the_metrics_direction() -> None:
    runs = Surrogate({"a": 0.5}, 0.0)
    orgbench.bank(runs, orgbench.charter_for(2))
    runs.run("E0001", "candidate", "a", 1)
    verdicts = {"E0001": verdict("E0001", 0.5, tier="verified")}
    higher = progress.series(verdicts, runs.results, 2.0, Metric("core", "higher"))
    assert [value for _, value in higher.best_steps] == [2.0, 2.5]
    assert [value for _, value in progress.series(verdicts, runs.results, 2.0, Metric()).best_steps] == [2.0]


class Compared(str):
    """Counts how often it is held against another name."""

    count = 0

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_the_runs_are_sorted_out_once_however_many_verdicts_there_are() -> None:
    charter, task = orgbench.charter_for(8), Surrogate({"c": -0.1}, 0.0125)
    seeds = orgbench.bank(task, charter)
    verdict = orgbench.settle(task, orgbench.contract_for("E0001", "c", seeds, "search"), charter)
    names = [f"E{i:04d}" for i in range(1, 101)]
    made = [replace(task.results[-1], run=f"{n}/candidate-s1", experiment=Compared(n)) for n in names]
    course = progress.series({n: replace(verdict, experiment=n) for n in names}, made, 2.0, Metric())
    assert len(course.points) == 101
    assert Compared.count < 10 * len(names), "not each verdict with each run"
