"""What the org counted itself outweighs what the code printed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from org.bench import orgbench
from org.evidence import judge, matching, printed
from org.records import Charter, Metric, RunResult, Verdict


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
        axes(tokens=(100, 100), cpu_s=(0.06, 0.25)),  # a busy machine; what it takes to start a process
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


def verdict_of(
    candidate: list[RunResult],
    claim: str = "better",
    base: list[float] = BASE,
    charter: dict[str, object] | None = None,
    contract: dict[str, object] | None = None,
) -> Verdict:
    rules: Charter = replace(orgbench.charter_for(8), margin=0.05, **(charter or {}))  # type: ignore[arg-type]
    wanted = orgbench.contract_for("E0001", "c", range(1, 9), "search", claim)
    wanted = replace(wanted, baseline_tree="base", scale="smoke", **(contract or {}))  # type: ignore[arg-type]
    rules = replace(rules, scales={"smoke": replace(rules.home_scale, name="smoke")}, scale="smoke")
    step = judge.next_step(wanted, [*results("baseline", base), *candidate], rules)
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


FROZEN = {"command": "python -m kernel.measure --seed {seed}", "frozen": ("kernel/measure.py",)}
SECONDS = Metric("seconds", "lower")
SLOW = [0.0240, 0.0242, 0.0239, 0.0241, 0.0238, 0.0243, 0.02405, 0.0237]


@pytest.mark.parametrize(
    ("metrics", "base", "charter", "more"),
    [
        ([0.0047, 0.0046], SLOW, {"metric": SECONDS, **FROZEN}, {"cpu_s": 2.0}),
        ([0.0047, 0.0046], SLOW, {"metric": Metric("seconds", "lower", (0.0, None))}, {"cpu_s": 2.0}),
        ([0.0096, 0.0095], SLOW, {"metric": SECONDS}, {"cpu_s": 4.0}),
        ([0.90, 0.91], [m - 1.29 for m in BASE], {"metric": Metric("accuracy", "higher", (0.0, 1.0))}, {}),
        ([0.90, 0.91], [m - 1.29 for m in BASE], {"metric": Metric("accuracy", "higher")}, {}),
        ([0.40, 0.41], [m - 1.79 for m in BASE], {"metric": Metric("reward", "higher")}, {}),
        ([0.40, 0.41], [0.0, 0.001, -0.001, 0.0, 0.002, -0.002, 0.001, -0.001], {"metric": Metric("r", "higher")}, {}),
        ([-0.40, -0.41], [0.0, 0.001, -0.001, 0.0, 0.002, -0.002, 0.001, -0.001], {}, {}),
        ([-0.40, -0.41], BASE, {"metric": Metric("energy", "lower", (None, 10.0))}, {}),
    ],
)
def test_an_honest_large_win_is_one(metrics: list[float], base: list[float], charter: dict, more: dict) -> None:
    found = verdict_of(results("candidate", metrics, **more), base=base, charter=charter)
    assert found.outcome == "win", found.reasons


@pytest.mark.parametrize(
    ("metrics", "base", "charter", "more", "word"),
    [
        ([0.0047, 0.0046], SLOW, {"metric": SECONDS}, {}, "if it is, say `range:"),
        ([1.1, 0.9], [m - 1.29 for m in BASE], {"metric": Metric("accuracy", "higher", (0.0, 1.0))}, {}, "is 0 to 1"),
        ([-0.001, 0.001], SLOW, {"metric": Metric("seconds", "lower", (0.0, None)), **FROZEN}, {}, "is 0 or more"),
        ([1.40, 1.41], BASE, FROZEN, {"cpu_s": 3.0}, "too few"),
        ([1.40, 1.41], BASE, {"metric": Metric("val_bpb", "lower", (0.0, 20.0))}, {"cpu_s": 3.0}, "too few"),
    ],
)
def test_what_the_charter_says_of_its_metric_is_held(
    metrics: list[float], base: list[float], charter: dict, more: dict, word: str
) -> None:
    found = verdict_of(results("candidate", metrics, **more), base=base, charter=charter)
    assert found.outcome == "invalid" and word in found.reasons[0], found.reasons


@pytest.mark.parametrize(
    ("cpu_s", "charter", "outcome"),
    [(3.6, {}, "holds"), (0.1, {}, "invalid"), (0.1, FROZEN, "holds")],
)
def test_a_claim_that_gains_seconds_may_save_them(cpu_s: float, charter: dict, outcome: str) -> None:
    metrics = [m + 0.0001 for m in BASE]
    found = verdict_of(
        results("candidate", metrics, total_s=2 * cpu_s, cpu_s=cpu_s), "no-worse:total_s", charter=charter
    )
    assert found.outcome == outcome, found.reasons
    assert outcome == "holds" or "let a frozen file measure" in found.reasons[0]


def test_a_stack_may_gain_what_its_members_gain_together() -> None:
    """Three changes, each within what one may print."""
    found = verdict_of(
        results("candidate", [0.15 + 0.001 * i for i in range(8)], cpu_s=2.0),
        contract={"stage": "verify", "members": ("E0002", "E0003", "E0004")},
    )
    assert (found.outcome, found.tier) == ("win", "verified"), found.reasons
    found = verdict_of(
        results("candidate", [0.001 + 0.0001 * i for i in range(8)]), contract={"stage": "promote", "promotes": "E0009"}
    )
    assert found.outcome == "invalid", found.reasons


@pytest.mark.parametrize(
    ("command", "frozen", "is_frozen"),
    [
        ("python -m kernel.measure --rounds 3", ("kernel/*.py",), True),
        ("python -m kernel", ("kernel/__main__.py",), True),
        ("python ./measure.py --seed 1", ("measure.py",), True),
        ("torchrun --nproc-per-node 2 -m a.b", ("a/b.py",), True),
        ("python train.py --judge measure.py", ("measure.py",), False),
        ("python -m kernel.kernel", ("kernel/measure.py",), False),
        ("bash run.sh", ("measure.py",), False),
    ],
)
def test_who_prints_is_read_off_the_command(command: str, frozen: tuple[str, ...], is_frozen: bool) -> None:
    charter = replace(orgbench.charter_for(8), command=command, frozen=frozen, editable=("train.py",))
    assert printed.is_frozen(charter) is is_frozen
