"""After a rate limit the doorbells ring one by one, in the order of names, and one that was alone in it at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from org.team.pace import SPAN_S, STEP_S, Pace

T0 = 1_800_000_000.0


def rows(states: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "state": state} for name, state in states.items()]


def limited(*names: str) -> list[dict[str, Any]]:
    return rows(dict.fromkeys(names, "limited"))


def ready(*names: str) -> list[dict[str, Any]]:
    return rows(dict.fromkeys(names, "ready"))


def free_at(pace: Pace, names: tuple[str, ...], began: float) -> dict[str, float]:
    """When each may be rung first, looked at as the office does."""
    found: dict[str, float] = {}
    at = began
    while len(found) < len(names):
        waiting = pace.look(ready(*names), at)
        found |= {name: at - began for name in names if name not in waiting and name not in found}
        at += 0.25
    return found


def test_those_limited_together_are_rung_one_after_the_other_by_name() -> None:
    names = ("j10", "j2", "chief", "j1")
    pace = Pace()
    assert pace.look(limited(*names), T0) == {}
    found = free_at(pace, names, T0 + 60)
    assert found == {"chief": 0.0, "j1": STEP_S, "j2": 2 * STEP_S, "j10": 3 * STEP_S}
    assert pace.look(ready(*names), T0 + 90) == {}, "and not a second time"


def test_one_that_was_limited_alone_is_rung_at_once() -> None:
    pace = Pace()
    pace.look([*limited("j2"), *ready("j1", "j3")], T0)
    assert pace.look(ready("j1", "j2", "j3"), T0 + 30) == {}


def test_a_limit_again_begins_anew() -> None:
    pace = Pace()
    for began in (T0, T0 + 20):
        pace.look(limited("j1", "j2"), began)
        assert pace.look(ready("j1", "j2"), began + 5) == {"j2": pytest.approx(STEP_S)}


@pytest.mark.parametrize("count", [9, 33, 64])
def test_the_last_of_many_waits_no_longer_than_the_span(count: int) -> None:
    names = tuple(f"j{n}" for n in range(1, count + 1))
    pace = Pace()
    pace.look(limited(*names), T0)
    found = free_at(pace, names, T0 + 10)
    assert max(found.values()) <= SPAN_S
    assert max(list(found.values()).count(at) for at in found.values()) <= 2


def test_a_clock_set_back_keeps_nobody_waiting_for_hours() -> None:
    pace = Pace()
    pace.look(limited("j1", "j2"), T0)
    pace.look(ready("j1", "j2"), T0 + 1)
    assert pace.look(ready("j1", "j2"), T0 - 3600) == {}
