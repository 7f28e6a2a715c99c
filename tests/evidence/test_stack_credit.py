"""Leave-one-out, decided purely: who owes, what a removal says, which head counts as which, and what is reported."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.bench import orgbench
from org.evidence import stack, stats
from org.records import Contract, Rules, Verdict


def head(commit: str, experiment: str, members: list[str], **more: object) -> dict:
    row = {"kind": "head", "program": "main", "commit": commit, "tree": f"t{commit}", "experiment": experiment}
    return {**row, "members": members, "seeds": [105, 106], **more}


def credited(commit: str, member: str, outcome: str, program: str = "main") -> dict:
    found = stack.Credit(program, "S1", commit, member, "t", outcome, -0.1, 0.05, 2.0, without=f"{commit}-{member}")
    return {"kind": "credit", **found.to_dict()}


STACK = [head("h1", "S1", ["E1", "E2", "E3"])]


def test_every_member_of_a_stack_owes_the_smallest_first() -> None:
    owing = stack.owing(STACK, "main")
    assert owing is not None and owing.due == ("E3", "E2", "E1") and owing.leaves is None
    assert (owing.experiment, owing.commit, owing.seeds) == ("S1", "h1", (105, 106))
    assert stack.owing(STACK, "other") is None and stack.owing([], "main") is None
    assert stack.owing([head("h1", "S1", ["E1"])], "main") is None, "a single member's verification was its own test"


def test_a_credit_is_for_good_and_an_inert_member_leaves() -> None:
    rows = [*STACK, credited("h1", "E3", "helps"), credited("h1", "E2", "inert")]
    owing = stack.owing(rows, "main")
    assert owing is not None and owing.due == ("E1",) and owing.leaves is not None and owing.leaves.member == "E2"
    rows.append(head("h2", "S1", ["E1", "E3"], removed=["E2"], was="h1"))
    owing = stack.owing(rows, "main")
    assert owing is not None and (owing.due, owing.leaves, owing.removed) == (("E1",), None, ("E2",))
    assert stack.owing([*rows, credited("h2", "E1", "helps")], "main") is None
    assert stack.owing([*rows, credited("h2", "E1", "unknown")], "main") is None
    assert set(stack.credits(rows)) == {"E2", "E3"}


def test_what_a_head_still_owed_is_owed_on_the_next_one() -> None:
    rows = [*STACK, credited("h1", "E3", "helps"), credited("h1", "E2", "inert"), head("h9", "S2", ["E7"])]
    owing = stack.owing(rows, "main")
    assert owing is not None and (set(owing.due), owing.experiment, owing.leaves) == ({"E1", "E2"}, "S2", None)


def test_heads_that_differ_by_members_taken_out_count_as_one() -> None:
    rows = [
        *STACK,
        head("h2", "S1", ["E1", "E3"], removed=["E2"], was="h1"),
        head("h3", "S1", ["E1"], removed=["E3"], was="h2"),
    ]
    assert stack.same_head(rows, "main", "h3") == ("h3", "h2", "h1")
    assert stack.same_head([*rows, head("h4", "S2", ["E8"], was="h3")], "main", "h4") == ("h4",)
    assert stack.same_head([], "main", "base") == ("base",)


def made() -> Contract:
    return orgbench.contract_for("S1", "whole", (101, 102, 103, 104), "verify")


def test_looks_grow_and_each_contains_the_one_before() -> None:
    assert stack.looks(made(), (105, 106)) == [(101, 102), (101, 102, 103, 104), (101, 102, 103, 104, 105, 106)]
    assert stack.looks(made(), ()) == [(101, 102), (101, 102, 103, 104)]
    contract = stack.removal(made(), ("h1", "t1"), ("w", "tw"), "E2", (101, 102))
    assert (contract.tree, contract.baseline_tree, contract.seeds, contract.members) == ("tw", "t1", (101, 102), ())


def said(outcome: str, z: float | None) -> Verdict:
    effect = None if z is None else -z * 0.1
    return Verdict(
        "S1", outcome, None, "better", effect, None if z is None else 0.1, z, 4, "tokens", "referee", (), ("r",)
    )


@pytest.mark.parametrize(
    ("verdict", "left", "outcome"),
    [
        (said("loss", -9.0), 2, "helps"),
        (said("loss", -2.0), 2, None),
        (said("null", -2.0), 0, "inert"),
        (said("loss", -2.4), 0, "helps"),
        (said("null", 0.1), 2, "inert"),
        (said("null", -0.5), 1, "inert"),
        (said("null", -1.0), 1, None),
        (said("win", 4.0), 2, "inert"),
        (said("crash", None), 2, "helps"),
        (said("lost", None), 2, "unknown"),
        (said("invalid", None), 0, "unknown"),
    ],
)
def test_what_a_removal_says_of_its_member(verdict: Verdict, left: int, outcome: str | None) -> None:
    contract = stack.removal(made(), ("h1", "t1"), ("w", "tw"), "E2", (101, 102))
    found = stack.credit(contract, "E2", verdict, left)
    assert (found and found.outcome) == outcome
    if found is not None and verdict.effect is not None:
        assert (found.effect, found.z, found.without) == (-verdict.effect, -verdict.z, "w")


@given(st.floats(-30, 30, allow_nan=False))
def test_the_last_look_always_decides(z: float) -> None:
    contract = stack.removal(made(), ("h1", "t1"), ("w", "tw"), "E2", (101, 102))
    assert stack.credit(contract, "E2", said("null", z), 0) is not None


def test_a_claim_alone_needs_more_fresh_seeds_than_a_stack() -> None:
    assert [stack.verification_runs(Rules(), ["E1"] * count) for count in (1, 2, 4)] == [8, 4, 4]
    shown = {name: replace(said("win", z), experiment=name) for name, z in (("E1", 3.0), ("E2", 6.2))}
    assert [stack.verification_runs(Rules(), [name], shown) for name in ("E1", "E2", "E3")] == [8, 4, 8]


def test_a_heads_bank_is_filled_once_and_only_up_to_the_scales_size() -> None:
    row = head("h1", "S1", ["E1"], seeds=[105, 106, 107, 108])
    assert stack.bank_due(row, {101, 102, 103, 104}, 8) == [105, 106, 107, 108]
    assert stack.bank_due(row, {101, 102, 103, 104, 105}, 8) == [106, 107, 108]
    assert stack.bank_due(row, {101, 102, 103, 104}, 3) == []
    assert stack.bank_due({}, {101}, 8) == []


@given(st.floats(-50, 50, allow_nan=False), st.floats(0.01, 5))
def test_what_is_reported_is_never_larger_nor_of_another_sign(effect: float, se: float) -> None:
    found = stats.unselected(effect, se, 3.09)
    assert abs(found) <= abs(effect) + 1e-9 and found * effect >= 0
    if abs(effect) > 7.5 * se:
        assert found == pytest.approx(effect, rel=1e-3)


def test_the_effect_reported_of_what_passed_is_not_inflated_as_the_plain_one_is() -> None:
    luck, true = random.Random(5), 3.0  # standard errors, against a limit of 3.09: power one half
    passed = [x for x in (luck.gauss(true, 1) for _ in range(4000)) if x >= 3.09]
    assert stats.mean(passed) / true > 1.25
    assert stats.mean(stats.unselected(x, 1.0, 3.09) for x in passed) / true < 1.0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_that_lost_a_member_reports_no_more_than_before(sign: int) -> None:
    for added in (-0.5, 0.0, 0.3, 2.0):
        leaving = stack.Credit("main", "S1", "h", "E2", "t", "inert", -sign * added, 0.1, 0.5)
        found = stack.reported_without(-sign * 1.0, leaving, sign)
        assert 0 <= -sign * found <= 1.0 and math.isfinite(found)
    nothing = stack.Credit("main", "S1", "h", "E2", "t", "inert", None, None, None)
    assert stack.reported_without(-sign * 1.0, nothing, sign) == -sign * 1.0
