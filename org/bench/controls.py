"""The orgs that every org is measured against: those without a gate, one run a change, kept when the printed number is lower.

No evidence rule, no second seed: the published single-agent loop, random search, and an estimator that is told every number.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from org.agents.search import Trial
from org.bench.brains import History, Maker, Result
from org.bench.course import Course, Point, Tried
from org.bench.design import Value
from org.bench.world import BASE, World


def ungated(world: World, budget_s: float, maker: Maker, is_local: bool = True) -> Course:
    """One device, one run after the other until `budget_s` seconds are spent. is_local: changes are against the incumbent,
    as a greedy agent makes them; else against the start."""
    brain = maker(f"{world.seed}/{world.luck}/ungated")
    knobs = list(world.knobs.values())
    points, tried = [Point(0.0, 0.0, 0.0)], []
    seed, clock, runs = 1, world.seconds(BASE), 1
    first = best = world.run(BASE, seed)
    assert best is not None and first is not None
    incumbent = BASE
    trials: list[Trial] = []
    for number in itertools.count(1):
        head = incumbent if is_local else BASE
        current = world.current(head)
        changes = brain.ask(History(knobs, current, trials, "solo", number, 0, world.surface.sigma / 2))
        if changes is None:
            break
        tree = world.changed(head, changes)
        seconds = world.seconds(tree)
        if clock + seconds > budget_s:
            break
        clock, runs = clock + seconds, runs + 1
        value = world.run(tree, seed)
        effect = None if value is None else value - best
        is_kept = value is not None and value < best
        tried.append((changes, world.gain(tree) - world.gain(head)))
        outcome = "crash" if value is None else "win" if is_kept else "null"
        trials.append(_trial(number, current, changes, outcome, effect))
        brain.tell(Result(dict(changes), outcome, effect, value))
        if is_kept and value is not None:
            incumbent, best = tree, value
            points.append(Point(clock, world.gain(tree), first - best))
    held = dict(incumbent)
    fates = [
        Tried(world.kind(name), gain / world.surface.sigma if len(changes) == 1 else 0.0, held.get(name) == value)
        for changes, gain in tried
        for name, value in changes.items()
        if world.current(BASE).get(name) != value
    ]
    return Course(points, fates, budget_s, min(clock, budget_s), runs, incumbent)


def _trial(
    number: int, current: Mapping[str, Value | None], changes: Mapping[str, Value], outcome: str, effect: float | None
) -> Trial:
    turned = tuple((name, current.get(name), value) for name, value in changes.items())
    return Trial(f"E{number:04d}", "main", "solo", turned, outcome=outcome, tier="tentative", effect=effect)
