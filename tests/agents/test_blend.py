"""Blends: small effects are told apart by runs that turn several knobs, and what is refused or tried is not filed again."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from org.agents import blend, search
from org.agents.heads import Heads
from org.agents.search import Trial
from org.records import Knob, Metric

KNOBS = [Knob(f"k{n}", "train.py", "main", low=0.0, high=1.0) for n in range(8)]
WORD = Knob("word", "train.py", "main", choices=("a", "b", "c"))
START: dict[str, Any] = {**{knob.name: 0.5 for knob in KNOBS}, "word": "a"}
LOWER = Metric()
TRUE = {"k0": -0.02, "k1": 0.02, "k2": -0.015}  # bpb for the whole way from 0 to 1
NOISE = 0.017


def trial(
    number: int,
    changes: dict[str, Any],
    effect: float | None,
    outcome: str = "null",
    at: dict[str, Any] | None = None,
    **more: Any,
) -> Trial:
    turned = tuple((name, (at or START)[name], value) for name, value in changes.items())
    se = None if effect is None else NOISE
    return Trial(f"E{number:04d}", "main", "me", turned, outcome=outcome, effect=effect, se=se, **more)


def truth(changes: dict[str, Any]) -> float:
    return sum(TRUE.get(name, 0.0) * (value - START[name]) for name, value in changes.items() if name != "word")


def record(count: int, seed: int = 1) -> list[Trial]:
    """Every knob once alone, then as the blends say; each run with noise as large as the largest effect."""
    luck = random.Random(seed)
    trials = []
    for knob in KNOBS:
        trials.append(trial(len(trials), {knob.name: 0.83}, truth({knob.name: 0.83}) + luck.gauss(0, NOISE)))
    while len(trials) < count:
        found = blend.propose(KNOBS, START, trials, metric=LOWER, seed=len(trials), size=0.005)
        changes = found[0] if found else {knob.name: luck.random() for knob in KNOBS}
        trials.append(trial(len(trials), changes, truth(changes) + luck.gauss(0, NOISE)))
    return trials


def test_effects_below_the_noise_of_a_run_are_found_with_few_runs() -> None:
    best, reached = -sum(abs(effect) / 2 for effect in TRUE.values()), []
    for seed in range(6):
        told = blend.told_of(KNOBS, record(60, seed), 1, 0.005)
        reached.append(truth(blend.Stands(told, KNOBS, START).best(blend.Model(told).middle)))
    assert sum(reached) / len(reached) < 0.6 * best, reached


def test_the_same_record_and_seed_give_the_same_blend_and_a_prediction_with_the_metrics_sign() -> None:
    trials = record(40)
    first, again = (blend.propose(KNOBS, START, trials, metric=LOWER, seed=3, size=0.005) for _ in range(2))
    assert first == again and first is not None and first[1] < 0
    up = [replace(t, effect=-t.effect) for t in trials if t.effect is not None]
    higher = blend.propose(KNOBS, START, up, metric=Metric("score", "higher"), seed=3, size=0.005)
    assert higher is not None and higher == (first[0], pytest.approx(-first[1]))


def test_nothing_is_blended_before_it_ran_alone_and_what_was_refused_stays_out() -> None:
    trials = record(40)
    assert blend.propose(KNOBS, START, trials[:3], metric=LOWER, seed=1, size=0.005) is None
    everything = [*KNOBS, WORD]
    trials.append(trial(90, {"word": "b"}, None, "invalid"))
    for seed in range(30):
        found = blend.propose(everything, START, trials, metric=LOWER, seed=seed, size=0.005)
        assert found is None or "word" not in found[0]
    trials.append(trial(91, {"word": "c"}, -0.1))
    mixed = [blend.propose(everything, START, trials, metric=LOWER, seed=seed, size=0.005) for seed in range(20)]
    assert any(found and found[0].get("word") == "c" for found in mixed)
    barred = [("word", "c")]
    mixed = [
        blend.propose(everything, START, trials, metric=LOWER, seed=seed, size=0.005, barred=barred)
        for seed in range(20)
    ]
    assert all(found is None or found[0].get("word") != "c" for found in mixed)


def test_a_seat_turns_its_own_knobs_first_and_then_blends_all_that_it_may() -> None:
    trials = record(8)
    own = search.propose(KNOBS[:1], START, trials[1:], metric=LOWER, seed=1, everything=KNOBS)
    assert own is not None and own.knob.name == "k0" and own.more == ()
    made = search.propose(KNOBS[:1], START, record(40), metric=LOWER, seed=1, everything=KNOBS)
    assert made is not None and len(made.turns) > 1 and all(str(new) in made.text for _, _, new in made.turns)
    alone = search.propose(KNOBS[:1], START, record(40), metric=LOWER, seed=1)
    assert alone is None or alone.more == ()


def test_nothing_is_blended_for_a_seat_while_something_of_its_own_is_under_way() -> None:
    trials = [*record(40), replace(trial(50, {"k3": 0.9}, None), outcome=None)]
    fresh, stands = Knob("new", "train.py", "main", low=0.0, high=1.0), {**START, "new": 0.5}

    def asked(seat: str, knob: Knob, seed: int = 1) -> search.Proposal | None:
        return search.propose([knob], stands, trials, metric=LOWER, seed=seed, everything=KNOBS, seat=seat)

    other, alone = asked("other", KNOBS[0]), asked("me", fresh)
    assert other is not None and other.more and asked("me", KNOBS[0]) is None
    assert alone is not None and alone.knob is fresh and alone.more == (), "one change alone may wait behind it"
    choices = [[asked(seat, WORD, seed) for seed in range(40)] for seat in ("me", "other")]
    assert not any(choices[0]), "or each time it is asked it may draw a choice, until it has filed all of them"
    assert 0 < sum(found is not None and found.knob is WORD for found in choices[1]) < 20


def test_a_model_that_grew_is_the_one_made_of_all_at_once_and_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended in which order, over two heads, and when a head turns out to be another than was thought."""
    first = [replace(each, baseline="base") for each in record(14)]
    first[0] = replace(first[0], outcome="win")
    stack = Trial(
        "S", "main", "org", (), outcome="win", members=("E0000",), stage="verify", baseline="base", commit="h1"
    )
    turns = [{f"k{1 + n % 4}": 0.1 * (n % 9), "k5": 0.2 + 0.05 * n} for n in range(14)]
    second = [trial(100 + n, changes, truth(changes), baseline="h1") for n, changes in enumerate(turns)]
    second[9] = replace(second[9], changes=(("k6", 0.7, 0.9),))  # k6 stands at 0.7 there: only this one says so
    whole = [*first, stack, *second]
    added: list[int] = []
    row = blend.Told.row
    monkeypatch.setattr(blend.Told, "row", lambda *args: added.append(1) or row(*args))
    blend.told_of(KNOBS, [replace(each, effect=0.9) for each in whole], 1, 0.005)  # what another record said
    for count in (8, 15, 20, 24, 29):
        late = {count - 3, count - 1}  # they end after those that were filed behind them
        now = [replace(t, outcome=None) if n in late and not t.is_stack else t for n, t in enumerate(whole[:count])]
        blend.told_of(KNOBS, now, 1, 0.005)
    added.clear()
    grown = blend.told_of(KNOBS, whole, 1, 0.005)
    assert len(added) == 2, "what was added up before is not added up again"
    plain = blend.Told(grown.space, 1, 0.005, whole)
    one, other = blend.Model(grown, seed=5), blend.Model(plain, seed=5)
    assert one.middle == pytest.approx(other.middle) and one.drawn == pytest.approx(other.drawn)
    assert one.precision == pytest.approx(other.precision) and grown.known == plain.known
    assert grown.heads.moved == plain.heads.moved == {"base": {}, "h1": {"k0": 0.83, "k6": 0.7}}
    changed = [replace(whole[0], effect=0.5), *whole[1:]]  # nothing is kept of what was said before
    again = blend.Model(blend.Told(grown.space, 1, 0.005, changed))
    new = blend.Model(blend.told_of(KNOBS, changed, 1, 0.005))
    assert new.middle == pytest.approx(again.middle) and new.middle != pytest.approx(one.middle)


def test_draws_are_spread_as_the_errors_say() -> None:
    told = blend.told_of(KNOBS, [replace(each, se=0.004) for each in record(40)], 1, 0.005)
    model, stands = blend.Model(told), blend.Stands(told, KNOBS, START)
    row = stands.row({"k0": 0.0, "k3": 1.0, "k5": 0.75})
    draws = [float(row @ blend.Model(told, seed).drawn) for seed in range(300)]
    middle, error = float(row @ model.middle), float(model.errors(row[None])[0])
    assert sum(draws) / 300 == pytest.approx(middle, abs=4 * error / 300**0.5)
    spread = (sum((d - middle) ** 2 for d in draws) / 300) ** 0.5
    assert 0.85 * error < spread < 1.15 * error


def test_two_knobs_that_gain_only_together_are_found() -> None:
    luck = random.Random(3)

    def effect(changes: dict[str, Any]) -> float:
        return -0.3 * (changes.get("k0", 0.5) - 0.5) * (changes.get("k1", 0.5) - 0.5)

    trials = [trial(n, {knob.name: 0.83}, luck.gauss(0, 0.002)) for n, knob in enumerate(KNOBS)]
    for _ in range(60):
        changes = {knob.name: luck.choice((0.0, 0.25, 0.75, 1.0)) for knob in luck.sample(KNOBS, 5)}
        trials.append(trial(len(trials), changes, effect(changes) + luck.gauss(0, 0.002)))
    trials = [replace(each, se=0.003) for each in trials]
    told = blend.told_of(KNOBS, trials, 1, 0.005)
    stands = blend.Stands(told, KNOBS, START)
    best = stands.best(blend.Model(told).middle)
    assert (best["k0"] - 0.5) * (best["k1"] - 0.5) == 0.25, best
    assert float(stands.row({"k0": 0.0, "k1": 0.0}) @ blend.Model(told).middle) == pytest.approx(-0.075, abs=0.02)


def test_what_was_measured_on_a_head_holds_beside_what_stood_there() -> None:
    """The head moves to k0 = 1; what k1 does there is the product, though no experiment there turns k0."""
    first = trial(1, {"k0": 1.0}, -0.05, "win", baseline="base")
    stack = Trial(
        "S", "main", "org", (), outcome="win", members=("E0001",), stage="verify", baseline="base", commit="h1"
    )
    late = trial(3, {"k2": 0.0}, 0.0, baseline="base")  # filed before the head moved, listed after
    moved = trial(4, {"k1": 1.0}, -0.02, baseline="h1")
    left = trial(5, {"k0": 0.0}, 0.0, baseline="h2")  # the member left again
    heads = Heads([first, stack, late, moved, left])
    assert heads.moved == {"base": {}, "h1": {"k0": 1.0}, "h2": {}} and heads.beside("") == {}
    assert heads.first == {"k0": 0.5, "k1": 0.5, "k2": 0.5}
    failed = [first, replace(stack, outcome="null"), moved]
    assert Heads(failed).beside("h1") == {} and Heads([first, replace(stack, outcome="holds")]).beside("h1") == {
        "k0": 1.0
    }
    apart = replace(trial(6, {"k3": 0.0}, 0.0, baseline="x0"), program="other")
    assert Heads([first, stack, apart]).beside("x0") == {}, "another program's head is its own"
    unseen = replace(trial(7, {"k3": 0.0}, 0.0, baseline="h3"))  # k4 left, say, and nobody filed on h1
    assert Heads([first, stack, unseen]).beside("h3") == {"k0": 1.0}
    next_one = replace(stack, experiment="S2", baseline="h3", commit="h4", members=("E0007",))
    assert Heads([first, stack, replace(unseen, baseline="base"), next_one]).beside("h4") == {"k0": 1.0, "k3": 0.0}
    told = blend.Told(blend.told_of(KNOBS, [first], 1, 0.005).space, 1, 0.005, [first, stack, late, moved, left])
    at = list(zip(told.space.one, told.space.other, strict=True)).index((0, 1))
    row = told.row(moved.changes, told.away(heads.beside("h1")))
    assert row[told.space.n + at] == pytest.approx(0.25) and row[told.space.n :].sum() == pytest.approx(0.25)


def test_a_number_that_the_code_spells_otherwise_is_the_same_setting() -> None:
    cap = Knob("cap", "train.py", "main", choices=(0, 15, 30))
    knobs, stands = [cap, KNOBS[0]], {"cap": 15.0, "k0": 0.5}
    trials = [trial(n, {"cap": 30.0}, -0.05, at={"cap": 15.0}) for n in range(4)]
    trials += [trial(9 + n, {"k0": 1.0}, -0.05) for n in range(4)]
    asked = partial(blend.propose, knobs, stands, metric=LOWER, size=0.005)
    assert any(
        found and found[0] == {"cap": 30, "k0": 1.0} for seed in range(10) if (found := asked(trials, seed=seed))
    )
    both = trial(20, {"cap": 30.0, "k0": 1.0}, -0.1, at=stands)
    for seed in range(10):
        assert (asked([*trials, both], seed=seed) or ({}, 0))[0] != {"cap": 30, "k0": 1.0}, "filed before"
        assert (asked(trials, seed=seed, barred=[("cap", 30.0)]) or ({}, 0))[0].get("cap") != 30, "refused before"


def test_a_choice_says_as_much_wherever_it_stands_in_the_list() -> None:
    said = []
    for order in (("a", "b", "c"), ("b", "a", "c"), ("c", "b", "a")):
        knobs = [replace(WORD, choices=order), KNOBS[0]]
        told = blend.told_of(knobs, [replace(trial(n, {"word": "c"}, -0.2), se=0.05) for n in range(6)], 1, 0.005)
        said.append(float(blend.Stands(told, knobs, START).row({"word": "c"}) @ blend.Model(told).middle))
    assert said == pytest.approx([said[0]] * 3, rel=1e-3) and said[0] < -0.06, said


def test_a_whole_number_with_few_values_is_read_off_its_curve() -> None:
    few = Knob("few", "train.py", "main", low=1, high=3, integer=True)
    knobs, stands = [few, KNOBS[0]], {"few": 1, "k0": 0.5}
    told = blend.told_of(knobs, [replace(trial(n, {"few": 2}, 0.05, at=stands), se=0.005) for n in range(6)], 1, 0.005)
    here = blend.Stands(told, knobs, stands)
    for seed in range(60):
        drawn = blend.Model(told, seed).drawn
        best = here.best(drawn)
        assert not best or float(here.row(best) @ drawn) < 0.0, "what a draw chooses is better on that draw"


def test_a_setting_that_the_charter_does_not_allow_is_left_and_never_gone_back_to() -> None:
    knobs, stands = [WORD, KNOBS[0]], {"word": "b", "k0": 0.5}
    trials = [trial(n, {"word": "b"}, (-1) ** n * 0.01, at={"word": "zz"}) for n in range(4)]
    trials += [trial(9 + n, {"k0": 1.0}, -0.05) for n in range(4)]
    for seed in range(10):
        found = blend.propose(knobs, stands, trials, metric=LOWER, seed=seed, size=0.005)
        assert found is None or found[0].get("word") != "zz"
    odd = [trial(30, {"k0": [1]}, -0.1), trial(31, {"k0": 1.0}, float("inf")), *trials]
    assert blend.propose(knobs, stands, odd, metric=LOWER, seed=1, size=0.005) is not None


@pytest.mark.parametrize("se", [1e-4, 1e-8, 1e-17])
def test_a_metric_that_hardly_varies_is_blended_too(se: float) -> None:
    trials = [replace(trial, se=se) for trial in record(60)]
    for seed in range(10):
        assert blend.propose(KNOBS, START, trials, metric=LOWER, seed=seed, size=0.005) is not None


def test_what_came_along_and_was_never_shown_to_gain_goes_back() -> None:
    trials = record(60)
    held = {**START, "k1": 0.0, "k5": 0.9}  # k1 gains more that way, k5 does nothing
    clear = [trial(100 + n, {"k1": 0.0}, -0.02) for n in range(8)]
    idle = [trial(200 + n, {"k5": 0.9}, (-1) ** n * 0.001) for n in range(8)]
    told = blend.told_of(KNOBS, [*trials, *clear, *idle], 1, 0.005)
    model = blend.Model(told)
    assert model.shown(blend.Stands(told, KNOBS, held), {})[0] == {"k5": 0.5}
    barred = blend.Stands(told, KNOBS, held, {("k5", "0.5")})
    assert model.shown(barred, {})[0] == {}, "what was refused is not filed again"
    found = [
        blend.propose(KNOBS, held, [*trials, *clear, *idle], metric=LOWER, seed=seed, size=0.005) for seed in range(10)
    ]
    # a draw may turn it another way
    assert all(each is None or "k5" in each[0] for each in found) and any(
        each and each[0]["k5"] == 0.5 for each in found
    )
