"""The orgs that every org is measured against: those without a gate, one run a change, kept when the printed number is lower.

No evidence rule, no second seed: the published single-agent loop, random search, and an estimator that is told every number.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import replace

from org.agents.search import Trial
from org.bench.brains import Changes, History, Maker, Result
from org.bench.course import Course, Point, Tried
from org.bench.design import Value
from org.bench.world import BASE, Tree, World


def ungated(world: World, budget_s: float, maker: Maker, is_local: bool = True, devices: int = 1) -> Course:
    """A run a change until `budget_s` device-seconds are spent, as many at a time as there are devices: what is chosen then
    knows only what has ended. is_local: changes are against the incumbent, as a greedy agent makes them; else against the
    start."""
    brain = maker(f"{world.seed}/{world.luck}/ungated")
    knobs = list(world.knobs.values())
    points, tried = [Point(0.0, 0.0, 0.0)], []
    seed, end, busy_s, runs = 1, budget_s / devices, 0.0, 0
    first = best = world.run(BASE, seed)
    assert best is not None and first is not None
    incumbent = BASE
    trials: list[Trial] = []
    order = itertools.count(1)
    running: list[tuple[float, int, Tree, Changes]] = [(world.seconds(BASE), 0, BASE, {})]
    clock, is_dry = 0.0, False
    while True:
        while len(running) < devices and not is_dry:
            head, number = incumbent if is_local else BASE, next(order)
            current = world.current(head)
            changes = brain.ask(History(knobs, current, trials, "solo", number, 0, world.surface.sigma / 2))
            tree = world.changed(head, changes or {})
            if changes is None or clock + world.seconds(tree) > end:
                is_dry = True
                break
            world.begin(tree, seed)
            heapq.heappush(running, (clock + world.seconds(tree), number, tree, changes))
            tried.append((changes, world.gain(tree) - world.gain(head)))
            trials.append(_trial(number, current, changes))
        if not running:
            break
        clock, number, tree, changes = heapq.heappop(running)
        busy_s, runs = busy_s + world.seconds(tree), runs + 1
        if not number:
            continue
        value = world.run(tree, seed)
        effect = None if value is None else value - best
        is_kept = value is not None and value < best
        outcome = "crash" if value is None else "win" if is_kept else "null"
        trials[number - 1] = replace(trials[number - 1], outcome=outcome, effect=effect)
        brain.tell(Result(dict(changes), outcome, effect, value))
        if is_kept and value is not None:
            incumbent, best = tree, value
            points.append(Point(clock * devices, world.gain(tree), first - best))
    held = dict(incumbent)
    fates = [
        Tried(world.kind(name), gain / world.surface.sigma if len(changes) == 1 else 0.0, held.get(name) == value)
        for changes, gain in tried
        for name, value in changes.items()
        if world.current(BASE).get(name) != value
    ]
    return Course(points, fates, budget_s, min(busy_s, budget_s), runs, incumbent)


def _trial(number: int, current: Mapping[str, Value | None], changes: Changes) -> Trial:
    turned = tuple((name, current.get(name), value) for name, value in changes.items())
    return Trial(f"E{number:04d}", "main", "solo", turned, tier="tentative")
