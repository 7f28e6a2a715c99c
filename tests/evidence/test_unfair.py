"""What the org counted itself outweighs what the code printed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from org.bench import orgbench
from org.evidence import judge, matching
from org.records import RunResult, Verdict


def axes(**pairs: tuple[float | None, float | None]) -> matching.Table:
    return {name: {"baseline": old, "candidate": new} for name, (old, new) in pairs.items()}


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (axes(tokens=(100, 100), cpu_s=(10, 21)), "processor seconds"),
        (axes(tokens=(100, None)), "print it"),
        (axes(tokens=(100, 100), flops=(100, None), params=(5, 9)), "flops"),
        (axes(tokens=(100, 90)), "tokens"),
    ],
)
def test_an_unfair_pair(table: matching.Table, word: str) -> None:
    assert word in (matching.mismatch(table, "tokens") or "")


@pytest.mark.parametrize(
    "table",
    [
        axes(tokens=(100, 100), cpu_s=(10, 19)),
        axes(tokens=(100, 101), cpu_s=(10, 2)),
        axes(tokens=(None, 100), flops=(None, 5)),
        axes(tokens=(100, 100), cpu_s=(None, 50)),
    ],
)
def test_a_fair_one(table: matching.Table) -> None:
    assert matching.mismatch(table, "tokens") is None


def test_less_is_fair_in_a_no_worse_claim_and_more_is_not() -> None:
    assert matching.mismatch(axes(tokens=(100, 50)), "tokens", less_is_fair=True) is None
    assert matching.mismatch(axes(tokens=(100, 110)), "tokens", less_is_fair=True)


def results(arm: str, metrics: list[float], **more: object) -> list[RunResult]:
    plain = {"trust": "reported", "total_s": 20.0, "train_s": 10.0, "cpu_s": 10.0, "steps": 10, "tokens": 100, **more}
    return [
        RunResult(
            run=f"{'E0000' if arm == 'baseline' else 'E0001'}/{arm}-s{seed}",
            experiment="E0000" if arm == "baseline" else "E0001",
            arm=arm,
            seed=seed,
            stage="search",
            status="ok",
            commit=arm,
            tree="base" if arm == "baseline" else "c",
            scale="smoke",
            device="cpu0",
            device_kind="cpu",
            metric=metric,
            **plain,  # type: ignore[arg-type]
        )
        for seed, metric in enumerate(metrics, 1)
    ]


BASE = [1.500, 1.502, 1.499, 1.501, 1.498, 1.503, 1.5005, 1.497]


def verdict_of(candidate: list[RunResult], claim: str = "better") -> Verdict:
    charter = replace(orgbench.charter_for(8), margin=0.05)
    contract = orgbench.contract_for("E0001", "c", range(1, 9), "search", claim)
    contract = replace(contract, baseline_tree="base", scale="smoke")
    charter = replace(charter, scales={"smoke": replace(charter.home_scale, name="smoke")}, scale="smoke")
    step = judge.next_step(contract, [*results("baseline", BASE), *candidate], charter)
    assert isinstance(step, Verdict), step
    return step


@pytest.mark.parametrize(
    ("metrics", "more", "word"),
    [
        ([1.4, 1.4], {}, "does not use its seed"),
        ([-1.4, -1.41], {}, "not the same quantity"),
        ([0.2, 0.21], {}, "not the same quantity"),
        ([1.40, 1.41], {"cpu_s": 3.0}, "too few"),
    ],
)
def test_printed_numbers_that_cannot_be(metrics: list[float], more: dict, word: str) -> None:
    found = verdict_of(results("candidate", metrics, **more))
    assert found.outcome == "invalid" and word in found.reasons[0]


def test_their_benign_twins_win() -> None:
    assert verdict_of(results("candidate", [1.40, 1.41])).outcome == "win"
    assert verdict_of(results("candidate", [0.2, 0.21], trust="referee")).outcome == "win"
    assert verdict_of(results("candidate", [1.40, 1.41], trust="referee", cpu_s=3.0)).outcome == "win"


@pytest.mark.parametrize(("total_s", "outcome"), [(11.0, "holds"), (20.0, "null")])
def test_saved_seconds_have_to_be_missing_from_the_orgs_clock(total_s: float, outcome: str) -> None:
    metrics = [m + 0.0001 for m in BASE]
    found = verdict_of(results("candidate", metrics, train_s=1.0, total_s=total_s), "no-worse:train_s")
    assert found.outcome == outcome, found.reasons
    assert ("not seen there" in " ".join(found.reasons)) == (outcome == "null")
