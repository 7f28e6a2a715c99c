"""`org bench breaker`: planted faults are found, true wins are spared, and a claim is as lucky as claims are."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from org.bench import breaker
from org.cli.bench import bench


@pytest.mark.slow  # 400 claims
def test_planted_faults_are_found_and_true_wins_spared_in_every_world() -> None:
    for world in range(5):
        rows = breaker.table(breaker.cases(range(world, world + 1)))
        assert breaker.missed(rows) == [], (world, rows)
        [spurious, true] = [row for row in rows if row["family"] in ("all spurious", "all true")]
        assert (spurious["claims"], true["claims"]) == (40, 40)
        assert spurious["refuted"] >= 36 and true["refuted"] <= 2


def test_each_fault_falls_to_its_own_attack() -> None:
    by = {
        "lucky seeds": "seeds",
        "a part that does nothing": "without PART_1",
        "an untuned baseline": "both MATRIX_LR=0.04",
    }
    by |= {"a bigger model, silent about its FLOPs": "matched", "a warm start on the search's seeds": "seeds"}
    plants = {plant.family: plant for plant in breaker.SPURIOUS}
    rules = breaker.charter()
    for family, attack in by.items():
        ends = [breaker.break_it(*breaker.claims(plants[family], world, rules), rules) for world in range(3)]
        assert [end.by for end in ends].count(attack) >= 2, (family, ends)


def test_a_breaker_that_refuted_nothing_or_everything_would_miss_its_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    case = breaker.Case("lucky seeds", False, 2.0, "stands", "", 10, 1)
    blind = breaker.table([case, replace(case, family="true", is_true=True)])
    assert len(breaker.missed(blind)) == 1 and "spurious" in breaker.missed(blind)[0]
    wild = breaker.table([replace(c, outcome="refuted") for c in (case, replace(case, family="true", is_true=True))])
    assert len(breaker.missed(wild)) == 1 and "true" in breaker.missed(wild)[0]


def test_claims_are_those_that_the_search_keeps() -> None:
    task, contract, verdict = breaker.claims(breaker.SPURIOUS[0], 1, breaker.charter())
    assert (verdict.outcome, verdict.tier) == ("win", "tentative") and (verdict.effect or 0) < -breaker.SIGMA
    assert task._gain(contract.tree, 1, False) == 0.0, "and there is nothing in it"


def test_the_verb_prints_rows_and_versions_of_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "EACH", 10)
    monkeypatch.setattr(breaker.cases, "__defaults__", (4, lambda world: None))
    done = CliRunner().invoke(bench, ["breaker", "--seed", "2", "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and (told["seed"], told["worlds"]) == (2, 1)
    assert {row["family"] for row in told["rows"]} > {"all spurious", "all true", "lucky seeds"}
    again = CliRunner().invoke(bench, ["breaker", "--seed", "2", "--json"])
    assert json.loads(again.stdout) == told, "the same luck again"
