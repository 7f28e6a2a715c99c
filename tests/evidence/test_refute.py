"""Attacks on a win: which there are, in which order, when one is decided, and what they come to. From records alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from org.bench import orgbench
from org.bench.surrogate import BASELINE, Surrogate
from org.evidence import judge, refute, standing
from org.records import Charter, Contract, Knob, KnobChange, RunResult, Verdict

SIGMA = 0.0125


def charter(**knobs: Knob) -> Charter:
    return replace(orgbench.charter_for(8), command="train --steps {steps}", knobs=knobs)


def rate(name: str = "matrix_lr", **more: object) -> Knob:
    return replace(Knob(name, "train.py", low=0.01, high=0.08, log=True), **more)  # type: ignore[arg-type]


def win(z: float = 2.0, **more: object) -> tuple[Contract, Verdict]:
    contract = replace(orgbench.contract_for("E0001", "cand", range(1, 9), "search"), **more)  # type: ignore[arg-type]
    se = 0.0125
    verdict = Verdict(
        "E0001", "win", "tentative", "better", -z * se, se, z, 2, "tokens", "referee", ("z",), (), sigma=SIGMA
    )  # fmt: skip
    return contract, verdict


def claim(z: float = 2.0, **more: object) -> refute.Claim:
    return refute.claim_of(*win(z, **more), sign=1)


TWO = {
    "knobs": (KnobChange("WIDTH", "train.py", 1, 1, 2), KnobChange("DEPTH", "train.py", 2, 1, 2)),
    "ablations_owed": ("without-WIDTH", "without-DEPTH", "without-code"),
}


def names(found: list[refute.Attack]) -> list[str]:
    return [attack.name for attack in found]


def test_every_part_is_taken_out_and_every_rate_is_moved() -> None:
    found = refute.attacks(claim(**TWO), refute.levels(charter(matrix_lr=rate()), {"MATRIX_LR": 0.02}, claim(**TWO)))
    assert names(found)[0] == "seeds", "whether there is a gain, before where it comes from"
    assert set(names(found)[1:4]) == {"without WIDTH", "without DEPTH", "without code"}
    assert names(found)[4:] == ["retuned MATRIX_LR=0.04", "retuned MATRIX_LR=0.01"]


@pytest.mark.parametrize(
    ("axis", "base", "cand", "owed"),
    [
        ("flops", 1e12, 1.5e12, "flops"),
        ("flops", 1e12, 1.01e12, ""),
        ("cpu_s", 10.0, 14.0, "cpu_s"),
        ("cpu_s", 10.0, 12.0, ""),
        ("cpu_s", 10.0, 5.0, ""),
        ("flops", None, 1e12, ""),
    ],
)
def test_a_matched_control_is_owed_where_more_was_spent(axis: str, base: float | None, cand: float, owed: str) -> None:
    contract, verdict = win()
    verdict = replace(verdict, matching={axis: {"baseline": base, "candidate": cand}})
    assert refute.claim_of(contract, verdict, 1).unequal == owed
    assert refute.claim_of(replace(contract, matched="wall_s"), verdict, 1).unequal == "", "the charter compares there"


@pytest.mark.parametrize(
    ("knob", "value", "levels"),
    [
        (rate(), 0.02, [0.04, 0.01]),
        (rate(), 0.06, [0.08, 0.03]),
        (rate(log=False, low=0.0, high=0.8), 0.0, [0.1]),
        (rate(choices=(1, 2, 3), low=None, high=None), 3, [2]),
        (rate(name="width"), 0.02, []),
        (rate(name="width", retune=True), 0.02, [0.04, 0.01]),
        (rate(retune=False), 0.02, []),
        (rate(), True, []),
        (rate(), "fast", []),
    ],
)
def test_the_levels_of_a_baseline(knob: Knob, value: object, levels: list[object]) -> None:
    found = refute.levels(charter(**{knob.name: knob}), {knob.name.upper(): value}, claim())
    assert [level.value for level in found] == levels
    turned = claim(knobs=(KnobChange(knob.name.upper(), "train.py", 1, 0, 1),))
    assert refute.levels(charter(**{knob.name: knob}), {knob.name.upper(): value}, turned) == [], "it is the claim"


def test_a_retuned_baseline_that_wins_is_asked_again_with_both_arms_there() -> None:
    planned = refute.attacks(claim(), [refute.Level("MATRIX_LR", "train.py", 0.04)])
    made = [standing.Trial("E2", "seeds", "b", "stood"), standing.Trial("E3", "retuned MATRIX_LR=0.04", "b", "broken")]
    assert names(standing.left(planned, made, 3)) == ["both MATRIX_LR=0.04"]
    found = standing.standing(made, names(planned))
    assert (found.outcome, found.left) == ("open", ("both MATRIX_LR=0.04",))
    for state, outcome in (("stood", "stands"), ("broken", "refuted"), ("undecided", "undecided"), ("lost", "open")):
        last = standing.Trial("E4", "both MATRIX_LR=0.04", "b", state)  # type: ignore[arg-type]
        assert standing.standing([*made, last], names(planned)).outcome == outcome


def test_what_the_org_lost_is_made_again_and_not_for_ever() -> None:
    planned = refute.attacks(claim(), [])
    lost = standing.Trial("E2", "seeds", "b", "lost")
    assert names(standing.left(planned, [lost], 3)) == ["seeds"]
    assert standing.left(planned, [lost] * 3, 3) == []


@pytest.mark.parametrize(
    ("attack", "outcome", "state", "breaks"),
    [
        ("seeds", "loss", "broken", True),
        ("seeds", "crash", "broken", True),
        ("seeds", "null", "undecided", False),
        ("seeds", "win", "stood", False),
        ("seeds", "lost", "lost", False),
        ("seeds", "invalid", "undecided", False),
        ("retuned MATRIX_LR=0.04", "loss", "broken", False),
        ("both MATRIX_LR=0.04", "crash", "undecided", False),
    ],
)
def test_what_a_verdict_says_of_the_claim(attack: str, outcome: str, state: str, breaks: bool) -> None:
    contract, verdict = win(refutes="E0000", attack=attack)
    verdict = replace(verdict, outcome=outcome)  # type: ignore[arg-type]
    assert (standing.state(contract, verdict), standing.breaks(contract, verdict)) == (state, breaks)
    assert standing.state(contract, None) == "open" and not standing.breaks(contract, None)


def attack(task: Surrogate, tree: str = "cand", name: str = "seeds", shows: float = 1.5 * SIGMA) -> Verdict:
    contract = replace(
        orgbench.contract_for("E0002", tree, refute.seeds(), "refute"),
        refutes="E0001",
        attack=name,
        attacks=(name,),
        shows=shows,
        risk=0.05,
    )
    return orgbench.settle(task, contract, orgbench.charter_for(8))


@pytest.mark.slow  # thousands of drawn histories
def test_the_error_rates_are_those_that_are_promised() -> None:
    """Of gains as large as what is asked for, and of none: nominal rates of 5 %, each with its own luck."""
    counted = {}
    for gain in (0.0, 1.5):
        outcomes = []
        for world in range(300):
            task = Surrogate({"cand": -gain * SIGMA}, SIGMA, world=world)
            orgbench.bank(task, orgbench.charter_for(8))
            outcomes.append(attack(task).outcome)
        counted[gain] = [outcomes.count(name) for name in ("win", "loss", "null")]
    stood, broken, _ = counted[0.0]
    assert broken >= 0.9 * 300 and stood <= 0.05 * 300, counted
    stood, broken, _ = counted[1.5]
    assert stood >= 0.9 * 300 and broken <= 0.05 * 300, counted


def test_nothing_of_the_search_enters_an_attack_and_nothing_of_an_attack_the_search() -> None:
    """Search runs that shout for the claim change no attack; runs of an attack change no search."""
    task = Surrogate({"cand": 0.0}, SIGMA, world=4)
    orgbench.bank(task, orgbench.charter_for(8))
    for seed in (1, 2):
        task.run("E0001", "candidate", "cand", seed)
    verdict = attack(task)
    assert verdict.outcome == "loss"
    used = {r.seed for r in task.results if r.run in verdict.runs}
    assert used <= set(refute.seeds()) and len(used) > 1
    # the same spread, so the same sigma, and a gain of eighty of them
    task.results = [
        replace(r, metric=(r.metric or 0) - 1.0) if r.tree == "cand" and not refute.is_fresh(r.seed) else r
        for r in task.results
    ]
    again = attack(task)
    assert (again.outcome, again.effect, again.runs) == (verdict.outcome, verdict.effect, verdict.runs)

    def searched(results: list[RunResult]) -> object:
        contract = orgbench.contract_for("E0003", "other", range(1, 9), "search")
        own = [r for r in results if r.tree in (BASELINE, "other") and r.seed < 9]
        both = (
            judge.next_step(contract, results, orgbench.charter_for(8)),
            judge.next_step(contract, own, orgbench.charter_for(8)),
        )
        assert all(isinstance(step, Verdict) for step in both)
        return [(step.outcome, step.effect, step.runs) for step in both if isinstance(step, Verdict)]

    for seed in (1, 2):
        task.run("E0003", "candidate", "other", seed)
    far = [replace(r, metric=(r.metric or 0) + 9.0) for r in task.results if refute.is_fresh(r.seed)]
    with_far = [r for r in task.results if not refute.is_fresh(r.seed)] + far
    one, other = searched(with_far)  # type: ignore[misc]
    assert one == other


def test_a_part_without_which_nothing_runs_is_needed() -> None:
    task = Surrogate({"cand": -2 * SIGMA}, SIGMA, crashes=frozenset({BASELINE}))
    verdict = attack(task, name="without WIDTH")
    assert verdict.outcome == "win" and "no rival" in verdict.reasons[0]
    assert attack(Surrogate({}, SIGMA, crashes=frozenset({"cand"}))).outcome in ("crash", "lost")


def test_a_candidate_that_ignores_its_seed_is_found() -> None:
    luck = random.Random(1)
    contract = replace(
        orgbench.contract_for("E0002", "cand", refute.seeds(), "refute"), attack="seeds", shows=1.5 * SIGMA, risk=0.05
    )
    task = Surrogate({}, SIGMA)
    runs = [
        task.run("E0002", arm, tree, s, "refute")
        for s in refute.seeds()[:2]
        for arm, tree in (("baseline", BASELINE), ("candidate", "cand"))
    ]
    runs = [replace(r, metric=1.5 if r.tree == "cand" else 2.0 + luck.gauss(0, SIGMA)) for r in runs]
    verdict = judge.next_step(contract, runs, orgbench.charter_for(8))
    assert isinstance(verdict, Verdict) and verdict.outcome == "invalid", verdict


def test_who_refuted_what_is_counted_for_who_decided_it() -> None:
    contracts = {"E1": win()[0], "E2": win()[0]}
    verdicts = {"E1": win()[1], "E2": win()[1]}
    for name, of, how, seat, outcome in (
        ("E3", "E1", "seeds", "b1", "win"),
        ("E4", "E1", "without WIDTH", "b2", "loss"),
        ("E5", "E2", "seeds", "b1", "win"),
    ):
        contracts[name] = replace(
            win()[0], experiment=name, refutes=of, attack=how, seat=seat, stage="refute",
            attacks=("seeds", "without WIDTH") if of == "E1" else ("seeds",),
        )  # fmt: skip
        verdicts[name] = replace(win()[1], experiment=name, outcome=outcome)  # type: ignore[arg-type]
    rows = [s.to_dict() for s in standing.scores(contracts, verdicts, {"E2"})]
    assert rows == [
        {"who": "b1", "tried": 2, "found": 0, "confirmed": 1, "missed": 1},
        {"who": "b2", "tried": 1, "found": 1, "confirmed": 0, "missed": 0},
    ]
