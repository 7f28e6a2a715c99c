"""The surrogate holds what was planted in it, the table counts what the judge decides, and homes compare by ledger."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from org.bench import orgbench
from org.bench.compare import baseline_of, compare
from org.bench.surrogate import BASELINE, Surrogate
from org.errors import BadInput
from org.evidence import stats
from org.home import Home
from org.lab.ledger import Ledger


def test_the_surrogate_repeats_itself_and_keeps_its_clock() -> None:
    one, two = Surrogate({"c": -0.1}, 0.01, 0.5), Surrogate({"c": -0.1}, 0.01, 0.5)
    assert one.run("E0001", "candidate", "c", 3) == two.run("E0009", "candidate", "c", 3).__class__(
        **{**two.results[0].__dict__, "run": "E0001/candidate-s3", "experiment": "E0001"}
    )
    one.run("E0001", "candidate", "c", 4)
    assert one.clock_s == 24.0
    assert Surrogate({}, world=1).metric("c", 1) != Surrogate({}, world=2).metric("c", 1)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_noise_and_correlation_are_as_planted(rho: float) -> None:
    task = Surrogate({"c": -0.5}, 0.1, rho)
    pairs = {s: (task.metric(BASELINE, s), task.metric("c", s)) for s in range(600)}
    assert stats.pooled_sigma([[b for b, _ in pairs.values()]]).value == pytest.approx(0.1, rel=0.1)
    assert stats.paired_sigma([pairs]).rho == pytest.approx(rho, abs=0.1)
    assert stats.mean(c - b for b, c in pairs.values()) == pytest.approx(-0.5, abs=0.03)


def test_the_table_has_two_error_rates_under_two_names() -> None:
    rows = {row["rule"]: row for row in orgbench.table(tried=40, sizes=(4.0,), rho=0.5)}
    greedy, gated = rows["greedy single run"], rows["tentative, then verified"]
    assert greedy["null_keep_rate"] > 0.3 and greedy["false_share"] > 0.5
    assert gated["null_keep_rate"] == 0 and gated["true_keep_rate"] > 0.9
    assert rows.keys() == orgbench.RULES.keys()


def test_a_planted_hack_scores_nothing() -> None:
    """A bigger model, a crash and a null, each put through the whole rule, verify nothing."""
    charter = orgbench.charter_for(8)
    task = Surrogate({"big": -0.2}, work={"big": 2.0}, crashes=frozenset({"broken"}))
    seeds = orgbench.bank(task, charter)
    outcomes = [
        orgbench.verify_rule(task, charter, seeds, t, k + 1).outcome for k, t in enumerate(("big", "broken", "nil"))
    ]
    assert outcomes[:2] == ["invalid", "crash"] and outcomes[2] != "win"


def test_a_baseline_is_the_mean_of_its_bank() -> None:
    task = Surrogate(sigma=0.0)
    assert baseline_of([], "surrogate") is None
    orgbench.bank(task, orgbench.charter_for(4))
    task.results[0] = replace(task.results[0], status="crash", metric=None)
    assert baseline_of(task.results, "surrogate") == 2.0


def filled(home: Home, effect: float, world: int, scale: str = "tiny") -> Surrogate:
    """A home whose ledger tells of one tentative win and its verification."""
    charter = orgbench.charter_for(4)
    task = Surrogate({"c": effect}, 0.001, world=world, scale="surrogate")
    seeds = orgbench.bank(task, charter)
    ledger = Ledger(home)
    told = []
    for name, stage, own in (("E0001", "search", seeds), ("E0002", "verify", range(101, 109))):
        contract = orgbench.contract_for(name, "c", own, stage)
        told.append((replace(contract, scale=scale), orgbench.settle(task, contract, charter)))
    for contract, _ in told:
        ledger.append("experiment", f"experiment:{contract.experiment}", contract.to_dict(), sync=False)
    for run in task.results:
        ledger.append("result", f"result:{run.run}", replace(run, scale="tiny").to_dict(), sync=False)
    for contract, verdict in told:
        ledger.append("verdict", f"verdict:{contract.experiment}", verdict.to_dict(), sync=False)
    return task


def test_homes_compare_by_their_ledgers(tiny_home: Home, make_home) -> None:
    other = make_home("other")
    task = filled(tiny_home, -0.1, 1)
    filled(other, 0.1, 2)
    good, bad = compare([tiny_home, other])
    assert good["verified_gain"] == pytest.approx(0.1, abs=0.01)
    assert good["claimed_over_verified"] == pytest.approx(1, abs=0.05)
    assert (good["experiments"], good["kept_share"], bad["kept_share"], bad["verified_gain"]) == (1, 1.0, 0.0, 0.0)
    assert good["device_h"] * 3600 == pytest.approx(task.clock_s)
    other.charter.write_text(other.charter.read_text().replace("name: val_bpb", "name: core"))
    with pytest.raises(BadInput, match="different metrics"):
        compare([tiny_home, other])


def test_a_gain_at_another_scale_and_a_win_that_was_retracted_are_none_of_the_comparison(
    tiny_home: Home, make_home
) -> None:
    other = make_home("other")
    filled(tiny_home, -0.1, 1, scale="d4")
    filled(other, -0.1, 1)
    gone = {"program": "main", "commit": "c", "experiment": "E0003", "retracts": ["E0001"], "why": "it fell"}
    Ledger(other).append("head", "retract:E0003", gone)
    above, fell = compare([tiny_home, other])
    assert (above["verified_gain"], above["claimed_gain"], above["kept_share"]) == (0.0, 0.0, 1.0)
    assert fell["kept_share"] == 0.0


@pytest.fixture
def make_home(tmp_path, tiny_home: Home):
    def make(name: str) -> Home:
        folder = tmp_path / name
        shutil.copytree(tiny_home.prompts, folder / "prompts")
        (folder / "comms").mkdir()
        return Home(folder)

    return make
