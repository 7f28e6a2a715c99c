"""Programs that are heavy to start are started one after the other; a launch killed meanwhile is finished by the next."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from org import times
from org.agents.claude import CLAUDE
from org.agents.codex import CODEX
from org.agents.command import OFFLINE
from org.team import panes, ringer, supervise
from org.team.states import Look

GAP_S = 0.4
NAMES = ("chief", "j1", "j2")


def started(org: Any, names: Sequence[str] = NAMES) -> list[float]:
    return [times.moment(panes.note(org.home, name)["started"]).timestamp() for name in names]


def test_real_agents_have_a_pause_and_our_own_program_has_none() -> None:
    assert CLAUDE.start_gap_s > 0 and CODEX.start_gap_s > 0 and OFFLINE.start_gap_s == 0


def test_programs_start_one_after_the_other(org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panes, "start_gap_s", lambda home, seat: GAP_S)
    org.launch(chief=1, juniors=2)
    first, second, third = started(org)
    assert second - first >= GAP_S * 0.9 and third - second >= GAP_S * 0.9
    assert {org.env(name)["ORG_SEAT"] for name in NAMES} == set(NAMES)
    assert not any(panes.note(org.home, name).get("waits") for name in NAMES)


def test_a_launch_that_ends_between_two_starts_is_finished_by_the_next(
    org: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panes, "start_gap_s", lambda home, seat: GAP_S)
    respawn, seen = panes.respawn, list[str]()

    def once(home: Any, server: Any, seat: Any, pane: str, is_restart: bool = False) -> bool:
        if seen:
            raise KeyboardInterrupt
        seen.append(seat.name)
        return respawn(home, server, seat, pane, is_restart)

    monkeypatch.setattr(panes, "respawn", once)
    with pytest.raises(KeyboardInterrupt):
        org.launch(chief=1, juniors=2)
    assert [panes.note(org.home, name).get("waits") for name in NAMES] == [None, True, True]
    monkeypatch.setattr(panes, "respawn", respawn)
    org.launch(chief=1, juniors=2)
    assert {org.env(name)["ORG_SEAT"] for name in NAMES} == set(NAMES)


def test_programs_that_died_together_do_not_come_back_together(org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ringer.backend_of("claude", org.home)
    supervisor = supervise.Supervisor(org.home, panes.server_of(org.home), lambda event, text: None)
    tried: list[tuple[float, str]] = []
    monkeypatch.setattr(supervisor, "_restart", lambda each, now: tried.append((now, each.name)))
    dead = [supervise.Observed(name, "%1", 1, {}) for name in NAMES]
    monkeypatch.setattr(supervisor, "observe", lambda *given: [d for d in dead if d.name not in {n for _, n in tried}])
    rows = [{"name": name, "backend": "claude"} for name in NAMES]
    for tick in range(20):
        supervisor.step(rows, Look(is_running=True), NAMES, 1.8e9 + tick / 5)
    assert [name for _, name in tried] == list(NAMES)
    gaps = [b - a for (a, _), (b, _) in itertools.pairwise(tried)]
    assert min(gaps) >= known.start_gap_s
