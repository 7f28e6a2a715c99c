"""The rules of evidence, met through `next_step` alone: what is asked for, what wins, and what never can."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from org.bench import orgbench
from org.bench.surrogate import BASELINE, Surrogate
from org.evidence import judge
from org.records import Charter, Contract, Metric, RunResult, Verdict

SIGMA = 0.0125


def settled(
    effects: dict[str, float] | None = None,
    stage: str = "search",
    claim: str = "better",
    charter: Charter | None = None,
    contract: dict | None = None,
    spoil: dict | None = None,
    **task: object,
) -> tuple[Verdict, Surrogate]:
    """The verdict on tree `c`, its runs altered by `spoil` before the judge sees them."""
    charter = charter or orgbench.charter_for(8)
    world = Surrogate(effects or {}, SIGMA, **task)
    seeds = orgbench.bank(world, charter)
    wanted = orgbench.contract_for("E0001", "c", seeds if stage == "search" else range(101, 109), stage, claim)
    wanted = replace(wanted, **(contract or {}))
    for _ in range(50):
        step = judge.next_step(wanted, world.results, charter)
        if isinstance(step, Verdict):
            json.dumps(step.to_dict(), allow_nan=False)
            return step, world
        assert step.runs and len(set(step.runs)) == len(step.runs)
        for arm, seed in step.runs:
            assert not any(
                r.tree == (BASELINE if arm == "baseline" else "c") and r.seed == seed for r in world.results
            ), "asked twice"
            world.run("E0001", arm, BASELINE if arm == "baseline" else "c", seed, wanted.stage)
            if arm == "candidate" and spoil:
                world.results[-1] = replace(world.results[-1], **spoil)
    raise AssertionError("no verdict")


def own(task: Surrogate) -> list[RunResult]:
    return [r for r in task.results if r.experiment == "E0001"]


def test_a_large_effect_wins_tentatively_on_two_runs_and_its_pairs() -> None:
    verdict, task = settled({"c": -6 * SIGMA})
    assert (verdict.outcome, verdict.tier, verdict.n) == ("win", "tentative", 2)
    assert [(r.arm, r.seed) for r in own(task)] == [("candidate", 1), ("candidate", 2)], "the bank is the other arm"
    assert set(verdict.runs) == {r.run for r in task.results}
    assert verdict.effect < 0 < verdict.z


def test_an_unpromising_candidate_costs_one_run() -> None:
    verdict, task = settled({"c": 5 * SIGMA})
    assert (verdict.outcome, verdict.tier, len(own(task))) == ("loss", None, 1)


def test_verified_needs_every_fresh_seed_of_both_arms_and_is_read_on_the_hidden_split() -> None:
    verdict, task = settled({"c": -4 * SIGMA}, stage="verify")
    assert (verdict.outcome, verdict.tier, verdict.split, verdict.n) == ("win", "verified", "hidden", 8)
    assert sorted((r.arm, r.seed) for r in own(task)) == sorted(
        (arm, s) for arm in ("baseline", "candidate") for s in range(101, 109)
    )
    assert not any("E0000" in run for run in verdict.runs), "the bank was seen by the search"


def test_seeds_of_the_search_do_not_leak_into_a_verification() -> None:
    """A lucky search result of the same tree is no part of its verification."""
    charter = orgbench.charter_for(8)
    task = Surrogate({}, SIGMA)
    seeds = orgbench.bank(task, charter)
    for seed in seeds:
        lucky = task.run("E0001", "candidate", "c", seed)
        task.results[-1] = replace(lucky, metric=lucky.metric - 10 * SIGMA)
    verdict = orgbench.settle(task, orgbench.contract_for("E0002", "c", range(101, 109), "verify"), charter)
    assert verdict.outcome != "win"
    assert all(run.startswith("E0002/") for run in verdict.runs)


def test_arms_are_cached_across_experiments() -> None:
    charter = orgbench.charter_for(8)
    task = Surrogate({"c": -6 * SIGMA}, SIGMA)
    seeds = orgbench.bank(task, charter)
    orgbench.settle(task, orgbench.contract_for("E0001", "c", seeds, "search"), charter)
    before = len(task.results)
    verdict = orgbench.settle(task, orgbench.contract_for("E0002", "c", seeds, "search"), charter)
    assert verdict.outcome == "win"
    assert len(task.results) == before


def test_a_verdict_rests_on_the_runs_it_looked_at_however_many_are_cached() -> None:
    charter = orgbench.charter_for(8)
    task = Surrogate({"c": -6 * SIGMA}, SIGMA)
    seeds = orgbench.bank(task, charter)
    for seed in seeds:
        task.run("E0001", "candidate", "c", seed)
    verdict = judge.next_step(orgbench.contract_for("E0002", "c", seeds, "search"), task.results, charter)
    assert verdict.n == 2
    assert [run for run in verdict.runs if "candidate" in run] == ["E0001/candidate-s1", "E0001/candidate-s2"]


def test_noise_that_is_not_known_is_measured_first() -> None:
    charter = orgbench.charter_for(8)
    step = judge.next_step(orgbench.contract_for("E0001", "c", range(1, 9), "search"), [], charter)
    assert isinstance(step, judge.More)
    assert step.runs[:2] == (("candidate", 1), ("baseline", 1))
    assert [arm for arm, _ in step.runs].count("baseline") == 4, "df 3 before the first judgement"


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf, None])
def test_a_number_that_is_none_is_a_crash_and_never_a_win(metric: float | None) -> None:
    verdict, _ = settled({"c": -6 * SIGMA}, spoil={"metric": metric})
    assert (verdict.outcome, verdict.tier, verdict.z) == ("crash", None, None)
    assert "counts as a loss" in verdict.reasons[0]


@pytest.mark.parametrize(("status", "outcome"), [("crash", "crash"), ("timeout", "crash"), ("invalid", "invalid")])
@pytest.mark.parametrize("stage", ["search", "verify"])
def test_every_launch_counts(status: str, outcome: str, stage: str) -> None:
    spoil = {"status": status, "metric": None, "reason": "because"}
    verdict, _ = settled({"c": -6 * SIGMA}, stage=stage, spoil=spoil)
    assert verdict.outcome == outcome
    assert "because" in verdict.reasons[0]


def test_a_later_result_of_the_same_seed_does_not_replace_a_crash() -> None:
    charter = orgbench.charter_for(8)
    task = Surrogate({"c": -6 * SIGMA}, SIGMA)
    seeds = orgbench.bank(task, charter)
    good = task.run("E0001", "candidate", "c", 1)
    task.results[-1] = replace(good, status="crash", metric=None)
    task.results.append(replace(good, run="E0002/candidate-s1", experiment="E0002"))
    assert (
        judge.next_step(orgbench.contract_for("E0002", "c", seeds, "search"), task.results, charter).outcome == "crash"
    )


def test_a_run_the_org_lost_is_asked_for_again_with_its_seed() -> None:
    charter = orgbench.charter_for(8)
    task = Surrogate({}, SIGMA)
    seeds = orgbench.bank(task, charter)
    lost = task.run("E0001", "candidate", "c", 1)
    task.results[-1] = replace(lost, status="lost", metric=None)
    step = judge.next_step(orgbench.contract_for("E0001", "c", seeds, "search"), task.results, charter)
    assert step == judge.More((("candidate", 1),))


def test_a_broken_baseline_is_lost_not_won() -> None:
    charter = orgbench.charter_for(8)
    task = Surrogate({"c": -6 * SIGMA}, SIGMA)
    seeds = orgbench.bank(task, charter)
    task.results[0] = replace(task.results[0], status="crash", metric=None)
    verdict = judge.next_step(orgbench.contract_for("E0001", "c", seeds, "search"), task.results, charter)
    assert verdict.outcome == "lost"


def test_swapping_the_direction_of_the_metric_swaps_the_verdict() -> None:
    higher = replace(orgbench.charter_for(8), metric=Metric("core", "higher"))
    assert settled({"c": -6 * SIGMA}, charter=higher)[0].outcome == "loss"
    assert settled({"c": 6 * SIGMA}, charter=higher)[0].outcome == "win"
    assert settled({"c": 6 * SIGMA}, charter=higher)[0].z > 0


# --- compute -----------------------------------------------------------------------------------------------------


def test_a_bigger_model_does_not_win_at_equal_tokens() -> None:
    """Depth 3 beats depth 2 by 0.028 bpb at equal steps; it spends 2.6 times the FLOPs."""
    verdict, task = settled({"c": -0.028 - 4 * SIGMA}, work={"c": 2.6})
    assert (verdict.outcome, verdict.tier) == ("invalid", None)
    assert "equal FLOPs" in verdict.reasons[0]
    assert len(own(task)) == 1, "seen on the first run"


def test_the_benign_twins_of_a_bigger_model_win() -> None:
    for work in (1.015, 0.5):
        assert settled({"c": -6 * SIGMA}, work={"c": work})[0].outcome == "win"
    equal_flops = {"params": 600_000, "flops": 1e12, "tokens": 153_600}
    contract = {"matched": "flops"}
    assert settled({"c": -6 * SIGMA}, spoil=equal_flops, contract=contract)[0].outcome == "win"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        ({"tokens": 614_400}, "tokens"),
        ({"flops": 2e12}, "flops"),
        ({"flops": None, "params": 900_000}, "flops"),
        ({"data_hash": "another"}, "data"),
    ],
)
def test_an_unfair_pair_is_invalid_and_names_the_axis(spoil: dict, named: str) -> None:
    verdict, _ = settled({"c": -6 * SIGMA}, spoil=spoil)
    assert verdict.outcome == "invalid"
    assert named in verdict.reasons[0]


def test_a_slower_step_is_charged_at_the_exchange_rate() -> None:
    charter = replace(orgbench.charter_for(8), exchange={"step_pct": 0.0005})
    verdict, _ = settled({"c": -6 * SIGMA}, charter=charter, spoil={"train_s": 9.6 * 1.1})
    assert verdict.net == pytest.approx(verdict.effect + 10 * 0.0005)


def test_numbers_a_program_printed_are_marked() -> None:
    verdict, _ = settled({"c": -6 * SIGMA}, spoil={"trust": "reported"})
    assert (verdict.outcome, verdict.trust) == ("win", "reported")


# --- no-worse ----------------------------------------------------------------------------------------------------

SHORTER = {"lines_added": 1, "lines_removed": 9}


def margin(value: float, bank: int = 8) -> Charter:
    return replace(orgbench.charter_for(bank), margin=value)


def test_no_worse_holds_when_harm_is_excluded_and_the_axis_gained() -> None:
    verdict, _ = settled(claim="no-worse:lines", charter=margin(3 * SIGMA), contract=SHORTER)
    assert (verdict.outcome, verdict.tier) == ("holds", "tentative")
    verdict, _ = settled(claim="no-worse:lines", charter=margin(3 * SIGMA), contract=SHORTER, stage="verify")
    assert (verdict.outcome, verdict.tier) == ("holds", "verified")


def test_an_underpowered_no_worse_claim_is_null_and_says_what_it_takes() -> None:
    verdict, task = settled(claim="no-worse:lines", charter=margin(0.1 * SIGMA), contract=SHORTER)
    assert verdict.outcome == "null"
    assert "underpowered" in verdict.reasons[0] and "runs an arm" in verdict.reasons[0]
    assert len(own(task)) == 8, "all of the contract's seeds, and no more"


def test_no_worse_without_a_gain_holds_nothing() -> None:
    longer = {"lines_added": 9, "lines_removed": 1}
    assert settled(claim="no-worse:lines", charter=margin(3 * SIGMA), contract=longer)[0].outcome == "null"
    for memory, outcome in ((449.9, "null"), (400.0, "holds")):
        verdict, _ = settled(claim="no-worse:vram_mb", charter=margin(3 * SIGMA), spoil={"vram_mb": memory})
        assert verdict.outcome == outcome


def test_a_clear_harm_is_a_loss() -> None:
    verdict, _ = settled({"c": 9 * SIGMA}, claim="no-worse:lines", charter=margin(SIGMA), contract=SHORTER)
    assert verdict.outcome == "loss"


def test_a_harm_of_the_margin_rarely_holds() -> None:
    """At most 5 % of claims whose harm is exactly the margin hold, although the number of runs is chosen by the noise."""
    held = sum(
        settled({"c": 3 * SIGMA}, claim="no-worse:lines", charter=margin(3 * SIGMA), contract=SHORTER, world=w)[
            0
        ].outcome
        == "holds"
        for w in range(300)
    )
    assert held / 300 <= 0.05


# --- error rates -------------------------------------------------------------------------------------------------


@pytest.mark.slow  # thousands of drawn histories
@pytest.mark.parametrize("rho", [0.0, 0.82])
def test_verification_passes_almost_no_null(rho: float) -> None:
    """4 + 4 fresh runs on the hidden split with nothing else known, the worst case: 0.25 % by theory."""
    charter = orgbench.charter_for(2, verify_single_runs=4)
    kept = sum(
        orgbench.confirm(Surrogate({}, SIGMA, rho, world=w), charter, "c", 1).outcome == "win" for w in range(1500)
    )
    assert kept / 1500 <= 0.003 + 2.3 * math.sqrt(0.003 / 1500), "0.3 % with its sampling error"


def test_search_keeps_effects_and_few_nulls() -> None:
    null, true = (orgbench.measure("tentative", size, 150, rho=0.5) for size in (0.0, 4.0))
    assert null.keep_rate < 0.08
    assert true.keep_rate > 0.95


# --- termination -------------------------------------------------------------------------------------------------

OUTCOMES = st.sampled_from(["ok", "ok", "ok", "ok", "crash", "timeout", "invalid", "nan", "lost"])


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(["search", "verify", "bank"]),
    st.sampled_from(["better", "no-worse:lines", "no-worse:step_s"]),
    st.lists(st.integers(1, 12), min_size=1, max_size=9, unique=True),
    st.integers(2, 8),
    st.sampled_from([0.0, 0.005, 0.1]),
    st.integers(0, 10_000),
    st.data(),
)
def test_every_history_ends_in_a_verdict(
    stage: str, claim: str, seeds: list[int], bank: int, harm: float, world: int, data: st.DataObject
) -> None:
    charter = margin(harm, bank)
    task = Surrogate({"c": -0.03}, SIGMA, 0.3, world=world)
    contract: Contract = orgbench.contract_for("E0001", "c", seeds, stage, claim)
    lost = 0
    for _ in range(80):
        step = judge.next_step(contract, task.results, charter)
        if isinstance(step, Verdict):
            json.dumps(step.to_dict(), allow_nan=False)
            assert step.reasons
            assert (step.tier is None) == (step.outcome not in ("win", "holds"))
            assert (step.effect is None) == (step.z is None) == (step.se is None)
            return
        assert step.runs
        for arm, seed in step.runs:
            run = task.run("E0001", arm, BASELINE if arm == "baseline" else "c", seed, stage)
            kind = data.draw(OUTCOMES)
            if kind == "lost" and lost < 5:
                lost += 1
                task.results[-1] = replace(run, status="lost", metric=None)
            elif kind == "nan":
                task.results[-1] = replace(run, metric=math.nan)
            elif kind not in ("ok", "lost"):
                task.results[-1] = replace(run, status=kind, metric=None)
    raise AssertionError("no verdict after 80 rounds")
