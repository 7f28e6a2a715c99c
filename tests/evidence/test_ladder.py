"""What carries to another scale, what was retracted, and what a head goes back to: decided from the ledger's lines alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from org import charter as charters
from org.evidence import judge, ladder, stack
from org.records import Contract, Rules, RunResult, Verdict

SCALES = ("smoke", "demo", "std")


def contract(name: str, **more: object) -> Contract:
    plain = Contract(
        name, "why", "better", None, "j1", "main", f"c{name}", f"t{name}", "c0", "t0", "smoke", "search", "tokens"
    )  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


def verdict(
    name: str, outcome: str = "win", tier: str | None = "tentative", claim: str = "better", n: int = 2
) -> Verdict:
    return Verdict(name, outcome, tier, claim, -0.1, 0.02, 5.0, n, "tokens", "referee", ("z",), ())  # type: ignore[arg-type]


def head(commit: str, experiment: str, was: str, *members: str, **more: object) -> dict:
    row = {"kind": "head", "program": "main", "commit": commit, "tree": f"t{commit}", "experiment": experiment}
    return {**row, "members": list(members), "was": was, "seeds": [], **more}


def back(commit: str, was: str, *names: str) -> dict:
    return {**head(commit, "E9", was), "retracts": list(names), "scale": "demo"}


CONTRACTS = {
    "E1": contract("E1"),
    "E2": contract("E2"),
    "E3": contract("E3", stage="verify", members=("E1",)),
    "E4": contract("E4", stage="promote", scale="demo", promotes="E1"),
    "E5": contract("E5"),
    "E6": contract("E6", control="flops", matched="flops"),
}
VERDICTS = {
    "E1": verdict("E1"),
    "E2": verdict("E2", "null", None),
    "E3": verdict("E3", "win", "verified"),
    "E4": verdict("E4", "win", None),
    "E6": verdict("E6"),
}


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        *[(name, "carried") for name in ("win", "holds")],
        *[(name, "fell") for name in ("loss", "null", "crash", "invalid")],
        ("lost", "lost"),
    ],
)
def test_what_a_verdict_says_of_the_claim(outcome: str, state: str) -> None:
    assert ladder.state(verdict("E4", outcome, None)) == state
    assert ladder.state(None) == "open"


@pytest.mark.parametrize(
    ("name", "scale", "words"),
    [
        ("E8", "demo", "not in the ledger"),
        ("E1", "huge", "it has smoke, demo, std"),
        ("E4", "std", "promote E1"),
        ("E2", "demo", "E2 is null; what won can be promoted: E1, E3"),
        ("E5", "demo", "not judged yet"),
        ("E6", "demo", "a budget cut to equal flops"),
        ("E1", "smoke", "E1 was measured at smoke; it can be promoted to std"),
        ("E1", "demo", r"as E4 \(carried\); it can be promoted to std"),
        ("E3", "demo", "E4"),  # its verification alone is the same claim
    ],
)
def test_what_cannot_be_promoted_is_one_line_that_names_what_can(name: str, scale: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(ladder.problem(CONTRACTS, VERDICTS, [], SCALES, name, scale))


def test_what_is_possible_and_what_was_lost_may_be_asked_again() -> None:
    assert ladder.problem(CONTRACTS, VERDICTS, [], SCALES, "E1", "std") == ""
    lost = {**VERDICTS, "E4": verdict("E4", "lost", None)}
    assert ladder.problem(CONTRACTS, lost, [], SCALES, "E1", "demo") == ""
    gone = [back("c0", "cE3", "E1", "E3")]
    assert "retracted at demo by E9" in ladder.problem(CONTRACTS, VERDICTS, gone, SCALES, "E1", "std")


def test_a_claim_and_its_verification_alone_are_one() -> None:
    assert ladder.same_claim(CONTRACTS, VERDICTS, "E1") == ("E1", "E3")
    assert ladder.same_claim(CONTRACTS, VERDICTS, "E3") == ("E3", "E1")
    failed = {**VERDICTS, "E3": verdict("E3", "null", None)}
    assert ladder.same_claim(CONTRACTS, failed, "E1") == ("E1",)
    fell = {**VERDICTS, "E4": verdict("E4", "null", None)}
    assert set(ladder.out(CONTRACTS, fell)) == {"E1", "E3"} and ladder.out(CONTRACTS, VERDICTS) == {}


def test_a_head_goes_back_only_from_what_the_experiment_made() -> None:
    rows = [head("h1", "S1", "c0", "E1", "E2"), head("h2", "S2", "h1", "E5", "E6")]
    without = head("h3", "S2", "h2", "E5", removed=["E6"])
    assert ladder.goes_back_to(rows, "main", ["S2"]) == "h1"
    assert ladder.goes_back_to([*rows, without], "main", ["S2"]) == "h1", "less a member it is still that stack"
    assert ladder.goes_back_to(rows, "main", ["S1"]) is None and ladder.goes_back_to([], "main", ["S1"]) is None
    lower = [*rows, back("h2", "h2", "S1")]
    assert ladder.goes_back_to(lower, "main", ["S2"]) == "c0", "what it stood on was retracted before"
    assert ladder.goes_back_to([*lower, back("c0", "h2", "S2")], "main", ["S2"]) is None
    assert ladder.in_force([*lower, back("c0", "h2", "S2")], "main") == []
    assert ladder.stands_on({}, {}, [*rows, without], "main", ["S1"]) == ["S2"]
    assert ladder.stands_on({}, {}, rows, "main", ["E5"]) == ["S2"], "the stack holds more than its member"
    assert ladder.stands_on({}, {}, rows, "main", ["E7"]) == []
    waits = {"S3": contract("S3", stage="verify", members=("E7", "E8"), baseline_commit="h2")}
    passed = {"S3": verdict("S3", tier="verified")}
    assert ladder.stands_on(waits, {}, rows, "main", ["E7"]) == ["S3"]
    assert ladder.stands_on(waits, passed, rows, "main", ["E7"]) == ["S3"], "the head moves next"
    assert ladder.stands_on(waits, {"S3": verdict("S3", "null", None)}, rows, "main", ["E7"]) == []
    assert ladder.stands_on(waits, passed, rows[:1], "main", ["E7"]) == [], "verified on a head that is not in force"


def test_after_a_retraction_a_head_owes_and_counts_as_before_it() -> None:
    rows = [head("h1", "S1", "c0", "E1", "E2"), head("h2", "S2", "h1", "E5", "E6")]
    after = [*rows, back("h1", "h2", "S2")]
    assert [row["commit"] for row in ladder.in_force(after, "main")] == ["h1"]
    assert stack.owing(after, "main") == stack.owing(rows[:1], "main")
    assert stack.same_head(after, "main", "h1") == ("h1",)
    stays = [*rows, back("h2", "h2", "S1")]
    assert stack.owing(stays, "main") == stack.owing(rows, "main")
    first = [rows[0], back("c0", "h1", "S1")]
    assert stack.owing(first, "main") is None and ladder.in_force(first, "main") == []
    assert set(ladder.retracted(first)) == {"S1"}


def test_a_harm_is_excluded_by_as_many_runs_as_before() -> None:
    assert ladder.runs(Rules(), verdict("E1", n=8)) == 4
    assert ladder.runs(Rules(), verdict("E1", "holds", claim="no-worse:lines", n=7)) == 7


# --- the judge ----------------------------------------------------------------------------------------------------

CHARTER = charters.from_plain(
    {
        "task": "t", "code": "c", "command": "x", "metric": {}, "editable": ["a"], "scale": "smoke", "margin": 0.01,
        "scales": {"smoke": {"steps": 1}, "demo": {"steps": 2}},
    }
)  # fmt: skip
RETEST = contract("E4", stage="promote", scale="demo", promotes="E1", seeds=(101, 102, 103, 104))
WIGGLE = (0.010, -0.010, 0.004, -0.004)


def results(effect: float, arm: str = "", tree: str = "t0", shift: int = 0) -> list[RunResult]:
    return [
        RunResult(
            f"E4/{arm}-s{s}", "E4", arm, s, "promote", "ok", "c", tree, "demo", "cpu0", "cpu",
            metric=1 + effect + WIGGLE[(i + shift) % 4], hidden=1 + effect + WIGGLE[(i + shift) % 4],
        )
        for i, s in enumerate(RETEST.seeds)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("effect", "outcome"), [(-0.1, "win"), (-0.02, "win"), (-0.001, "null"), (0.0, "null"), (0.1, "loss")]
)
def test_one_look_at_the_tentative_threshold_decides_and_gives_no_tier(effect: float, outcome: str) -> None:
    base = results(0.0, "baseline")
    asked = judge.next_step(RETEST, base, CHARTER)
    assert isinstance(asked, judge.More) and {arm for arm, _ in asked.runs} == {"candidate"} and len(asked.runs) == 4
    found = judge.next_step(RETEST, [*base, *results(effect, "candidate", "tE4", 2)], CHARTER)
    assert isinstance(found, Verdict) and (found.outcome, found.tier, found.split) == (outcome, None, "hidden")


def test_a_crash_there_is_the_candidates_and_a_broken_baseline_is_nobodys() -> None:
    base, cand = results(0.0, "baseline"), results(-0.1, "candidate", "tE4")
    crashed = judge.next_step(RETEST, [*base, replace(cand[0], status="crash", metric=None)], CHARTER)
    assert isinstance(crashed, Verdict) and ladder.state(crashed) == "fell"
    broken = judge.next_step(RETEST, [replace(base[0], status="crash", metric=None), *cand], CHARTER)
    assert isinstance(broken, Verdict) and ladder.state(broken) == "lost"


class Walked(dict):
    """Counts how often all of it is looked through."""

    walks = 0

    def items(self):
        self.walks += 1
        return super().items()


def test_the_ledger_is_looked_through_as_often_with_many_retests_as_with_one() -> None:
    walks = []
    for count in (1, 40):
        names = [f"E{i}" for i in range(count)]
        known = Walked({name: contract(name) for name in names})
        for name in names:
            known[f"{name}v"] = contract(f"{name}v", stage="verify", members=(name,))
            known[f"{name}p"] = contract(f"{name}p", stage="promote", promotes=name, scale="demo")
        tests = ladder.retests(known, {name: verdict(name) for name in known})
        assert [r.experiment for r in tests["E0v"]] == [r.experiment for r in tests["E0"]] == ["E0p"]
        assert len(tests) == 2 * count
        walks.append(known.walks)
    assert walks[0] == walks[1]
