"""An organisation in which nothing happens calls no model: the office types nothing, for hours, whoever restarts it.

33 real panes and the real office, on a clock of the test's. What does call a model by design: a letter (its doorbell), a
standup (a letter to each seat, once a period), and a program that is started, whose first prompt is in its command line.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from whole import kill_office

from org import times
from org.home import Home
from org.team import mail, pages, roster
from org.team.office import Office
from org.team.seats import all_seats
from org.world import tmux

SEATS = 33
KEEPS = 'cmd:sh -c \'cat >> "$(dirname "$ORG_EVENTS")/typed.txt"\''


@pytest.fixture
def idle(org: Any) -> Any:
    """33 seats whose programs keep what is typed, and no office but those that a test makes."""
    org.launch(chief=1, juniors=SEATS - 1, agents=[(KEEPS, None)])
    org.tmux("kill-window", "-t", "=org:office")
    kill_office(org.home)
    return org


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every key that the office sends to any pane."""
    found: list[str] = []
    type_text, press = tmux.Server.type_text, tmux.Server.press

    def typing(self: Any, pane: str, text: str, **more: Any) -> Any:
        found.append(text)
        return type_text(self, pane, text, **more)

    def pressing(self: Any, pane: str, key: str, **more: Any) -> Any:
        found.append(key)
        return press(self, pane, key, **more)

    monkeypatch.setattr(tmux.Server, "type_text", typing)
    monkeypatch.setattr(tmux.Server, "press", pressing)
    return found


def run(home: Home, begin: float, seconds: float, step: float = 1.0) -> float:
    """An office for so many seconds of its clock."""
    at_work = Office(home, None, lambda home: None)
    now = begin
    try:
        while now < begin + seconds:
            at_work.pass_once(now)
            now += step
        assert at_work.flags == {}
    finally:
        at_work.close()
    return now


def typed(org: Any) -> dict[str, str]:
    return {seat.name: text for seat in all_seats(org.home) if (text := org.typed(seat.name))}


@pytest.mark.slow  # days of an office, tick by tick
def test_without_mail_and_verdicts_nothing_is_typed(idle: Any, pressed: list[str]) -> None:
    org = idle
    now = run(org.home, time.time(), 120)
    now = run(org.home, now, 60)  # another office, which knows nothing of the first
    run(org.home, now, 4 * 3600, step=60.0)  # hours, looked at each minute
    assert pressed == [] and typed(org) == {}


@pytest.mark.slow  # days of an office, tick by tick
def test_a_standup_asks_each_seat_once_a_period(idle: Any, pressed: list[str]) -> None:
    org = idle
    page = org.home.org_folder("chief-juniors") / "processes" / "standup.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("---\nwhen: daily 07:00\nwho: all\nanswers_within: 20s\n---\nWhat did you do?\n")
    roster.update(
        org.home, org_hash=roster.org_hash(org.home, "chief-juniors")
    )  # as if it had been there at the launch
    launched = times.moment(roster.facts(org.home)["since"]).timestamp()
    at_seven = next(t for t in itertools.count(launched // 3600 * 3600, 3600) if t > launched and t % 86400 == 7 * 3600)
    assert pages.load(org.home.org_folder("chief-juniors"))
    now = run(org.home, at_seven - 60, 30)
    assert pressed == []
    run(org.home, now + 30, 50, step=0.5)
    lines = {name: mail.waiting(org.home, name) for name in roster.members(org.home)}
    assert set(lines.values()) == {1}, "one letter each"
    keys = [key for key in pressed if key != "Enter"]
    assert len(keys) == SEATS and all(key.startswith("You have a letter") for key in keys)
