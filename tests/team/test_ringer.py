"""The ringer in real panes: one seat that cannot be rung stops no other, and no key goes where nobody has just looked."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from waiting import wait_for

from org import files
from org.agents import base
from org.home import Home
from org.records import Seat
from org.team import ringer, states
from org.world.tmux import Server
from org.world.tmuxwords import Pane

LETTER = "l-260301-010203-0000aaaaa"


@pytest.fixture
def grid(tiny_home: Home) -> Iterator[Server]:
    """Two seats in panes that show what is typed into them."""
    server = Server(f"org-test-{uuid4().hex[:10]}")
    for name in ("j1", "j2"):
        tiny_home.seat(name).mkdir(parents=True)
    server.grid("org", [Pane(name, ("cat",)) for name in ("j1", "j2")])
    yield server
    server.kill()


def rows(*waiting: str) -> list[dict[str, Any]]:
    unread = [(LETTER, time.time())]
    return [
        {
            "name": name,
            "backend": "cmd:cat",
            "state": "ready",
            "quiet": None,
            "unread": unread if name in waiting else [],
        }
        for name in ("j1", "j2")
    ]


def look(server: Server) -> states.Look:
    return states.seen(server.list_panes(), server.clients(), time.time())


def ring(
    at_work: ringer.Ringer,
    view: states.Look,
    found: list[dict[str, Any]],
    *until: Callable[[], object],
    seconds: float = 0.6,
) -> None:
    """Look, then ring as the office does, for so long and until all these are true."""
    end = time.monotonic() + seconds

    def is_over() -> bool:
        at_work.look(found, view, time.time())
        at_work.ring_all(found, view, time.time())
        return time.monotonic() > end and all(condition() for condition in until)

    wait_for(is_over, what="the bells to be rung")


def shows(server: Server, view: states.Look, name: str) -> Callable[[], bool]:
    return lambda: LETTER in "".join(server.capture(view.panes[name].id).split())


@pytest.mark.parametrize("what", ["bell", "draft", "seat_file", "seat_events"])
def test_a_seat_whose_files_cannot_be_used_stops_no_other(tiny_home: Home, grid: Server, what: str) -> None:
    path = getattr(tiny_home, what)("j1")
    path.unlink(missing_ok=True)
    path.mkdir()
    at_work, view = ringer.Ringer(tiny_home, grid), look(grid)
    ring(at_work, view, rows("j1", "j2"), shows(grid, view, "j2"))
    if what == "bell":  # without it nobody knows what was typed already
        assert list(at_work.failed) == ["j1"] and not shows(grid, view, "j1")()
    at_work.close()


def test_what_a_seat_writes_into_its_events_stops_no_other(tiny_home: Home, grid: Server) -> None:
    odd = [[], {}, None, 3, {"event": []}, {"event": {"a": 1}}, {"event": "accepted", "letters": [[], {}]}]
    tiny_home.seat_events("j1").write_text("".join(f"{json.dumps(row)}\n" for row in odd))
    at_work, view = ringer.Ringer(tiny_home, grid), look(grid)
    ring(at_work, view, rows("j1", "j2"), shows(grid, view, "j2"), shows(grid, view, "j1"))
    at_work.close()


def test_one_seat_that_meets_a_bug_stops_no_other(
    tiny_home: Home, grid: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, view = ringer.Ringer(tiny_home, grid), look(grid)
    ring_one = at_work.ring
    monkeypatch.setattr(at_work, "ring", lambda name, *rest: {}[name] if name == "j1" else ring_one(name, *rest))
    ring(at_work, view, rows("j1", "j2"), shows(grid, view, "j2"))
    assert at_work.failed == {"j1": "KeyError: 'j1'"}
    at_work.close()


def test_a_draft_is_looked_for_where_a_program_has_a_queue_too(
    tiny_home: Home, grid: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has none before its first turn, and then the line is typed."""
    backend = dataclasses.replace(ringer.backend_of("cmd:cat", tiny_home), queue=lambda home, seat, text: None)
    monkeypatch.setattr(ringer, "backend_of", lambda spec, home: backend)
    at_work, away, now = ringer.Ringer(tiny_home, grid), look(grid), time.time()
    pane = away.panes["j1"]
    at_work.look(rows("j1"), away, now)
    moved = {**away.panes, "j1": dataclasses.replace(pane, cursor=(pane.cursor[0] + 3, pane.cursor[1]))}
    typed = dataclasses.replace(away, panes=moved, human=frozenset({pane.id}), keys={pane.id: now})
    at_work.look(rows("j1"), typed, now)
    assert at_work.look(rows("j1"), dataclasses.replace(away, panes=moved), now) == {"j1": states.DRAFT}
    at_work.close()


def test_nothing_is_typed_on_an_old_look(tiny_home: Home, grid: Server) -> None:
    at_work, view = ringer.Ringer(tiny_home, grid), look(grid)
    found = rows("j1")
    at_work.look(found, view, time.time())
    at_work._looked -= ringer.LOOK_S  # tmux stalled, and somebody may have come meanwhile
    assert at_work.is_blind
    assert at_work.ring_all(found, view, time.time()) == 0.5
    assert not shows(grid, view, "j1")() and not at_work.bell("j1").letters
    ring(at_work, view, found, shows(grid, view, "j1"))
    at_work.close()


def test_a_program_that_was_started_again_since_the_look_gets_no_key(tiny_home: Home, grid: Server) -> None:
    at_work, view = ringer.Ringer(tiny_home, grid), look(grid)
    grid.respawn(view.panes["j1"].id, ("cat",), {}, tiny_home.root)
    ring(at_work, view, rows("j1", "j2"), shows(grid, view, "j2"))
    assert not shows(grid, view, "j1")()
    ring(at_work, look(grid), rows("j1"), shows(grid, view, "j1"))
    at_work.close()


def test_who_only_attaches_leaves_no_draft_behind(tiny_home: Home, grid: Server) -> None:
    at_work, away = ringer.Ringer(tiny_home, grid), look(grid)
    pane, now = away.panes["j1"], time.time()
    there = dataclasses.replace(away, human=frozenset({pane.id}), keys={pane.id: now}, untyped=frozenset({pane.id}))
    for view in (there, there, away):  # nobody saw the pane before they attached
        assert at_work.look(rows("j1"), view, now) == {}
    moved = dataclasses.replace(pane, cursor=(pane.cursor[0] + 3, pane.cursor[1]))
    typed = dataclasses.replace(there, panes={**away.panes, "j1": moved})
    at_work.look(rows("j1"), typed, now)  # keys within the second in which they attached: the cursor tells of them
    assert list(at_work.look(rows("j1"), dataclasses.replace(away, panes=typed.panes), now)) == ["j1"]


def test_a_queue_that_does_not_take_the_line_in_time_is_ended(
    tiny_home: Home, grid: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ringer, "QUEUE_S", 0.2)
    start = base.Start(["sleep", "600"])
    seat = Seat("j1", "junior", "x", "main", "program/main/j1", str(tiny_home.root), None, "2026-03-01")
    backend = base.Backend("x", "typed", "alive", plan=lambda *_: start, queue=lambda *_: start)
    at_work = ringer.Ringer(tiny_home, grid)
    assert at_work.hand_over(seat, backend, "a line")
    [(_, child)] = at_work._queued
    at_work.ring_all([], look(grid), time.time())
    assert child.poll() is None
    wait_for(
        lambda: (at_work.ring_all([], look(grid), time.time()), child.poll() is not None)[1], what="the queue's end"
    )


@pytest.mark.parametrize(
    "stands_there, has_session, becomes_of_it",
    [
        ("", True, "typed"),
        ("", False, "typed"),
        ("half a thought", True, "queued"),
        (None, True, "queued"),  # a dialog, where a key is an answer
        ("half a thought", False, "waits"),
        (None, False, "waits"),
    ],
)
def test_a_line_is_typed_into_an_empty_box_and_queued_behind_anything_else(
    tiny_home: Home,
    grid: Server,
    monkeypatch: pytest.MonkeyPatch,
    stands_there: str | None,
    has_session: bool,
    becomes_of_it: str,
) -> None:
    seat = Seat("j1", "junior", "cmd:cat", "main", "program/main/j1", str(tiny_home.root), None, "2026-03-01")
    files.replace_json(tiny_home.seat_file("j1"), vars(seat))
    note = tiny_home.root / "queued"
    start = base.Start(["sh", "-c", f"echo x >> '{str(note).replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'"])
    backend = base.Backend(
        "x",
        "typed",
        "alive",
        plan=lambda *_: start,
        queue=lambda *_: start if has_session else None,
        box=lambda screen: stands_there,
    )
    monkeypatch.setattr(ringer, "backend_of", lambda spec, home: backend)
    at_work, view = ringer.Ringer(tiny_home, grid), look(grid)
    is_done = shows(grid, view, "j1")
    ring(
        at_work,
        view,
        rows("j1"),
        lambda: becomes_of_it == "waits" or is_done() or (note.is_file() and note.read_text()),
        seconds=1.5,
    )
    found = "typed" if shows(grid, view, "j1")() else "queued" if note.exists() else "waits"
    assert found == becomes_of_it
    assert not note.exists() or note.read_text() == "x\n"
    at_work.close()
