"""Supervision: observe -> decide -> act. A program that ended is started again, ever later, until a person has to look.

It restarts and flags. It ends no program, presses no key and decides nothing about research: a dialog, a limit or a
silence is a flag (`team.flags`), never a restart. `decide` is pure and is tested by histories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from org import files
from org.errors import OrgError
from org.failpoint import failpoint
from org.home import Home
from org.team import panes, ringer, seats
from org.team.flags import Flag, words
from org.team.states import HUMAN_S, Look
from org.world.tmux import Server

Note = Callable[[str, str], None]  # (event, text): a line in comms/events.jsonl
TRY_AGAIN_S = (5.0, 10.0, 30.0, 60.0)  # after a start that failed before there was a program: not installed, disk full


@dataclass(frozen=True)
class Observed:
    """What is known of one seat's program that is not running. `note`: `panes.note`; `pane`: None when tmux has none."""

    name: str
    pane: str | None
    status: int | None
    note: Mapping[str, Any]
    is_touched: bool = False  # held, in copy mode, or under a person's key: what its pane shows is being read
    failed: tuple[int, float, str] = (0, 0.0, "")  # starts that failed in a row, how many seconds ago the last, and why


@dataclass(frozen=True)
class Decided:
    """What to do now and what to tell. `restart` and `give_up` name seats of the observed."""

    restart: tuple[Observed, ...] = ()
    give_up: tuple[Observed, ...] = ()  # newly: to be written down, so that the next office knows
    capped: tuple[Observed, ...] = ()  # all that wait for a person, old and new
    lost: tuple[Observed, ...] = ()  # no pane
    failing: tuple[Observed, ...] = ()


def decide(observed: Iterable[Observed], now: float) -> Decided:
    """Pure; now: Unix seconds. A seat that was stopped on purpose is left alone. One that died too often stays down until
    a person launches it again, however long ago that was. Nothing is started into a pane that a person reads."""
    found: dict[str, list[Observed]] = {}
    for each in observed:
        count, ago_s, _ = each.failed
        delay = panes.restart_in(each.note, now)
        if each.note.get("stopped"):
            continue
        if each.pane is None:
            found.setdefault("lost", []).append(each)
        elif each.note.get("gave_up"):
            found.setdefault("capped", []).append(each)
        elif delay is None:
            found.setdefault("give_up", []).append(each)
            found.setdefault("capped", []).append(each)
        else:
            is_due = delay == 0 and not each.is_touched
            if count:
                found.setdefault("failing", []).append(each)
                is_due = is_due and ago_s >= TRY_AGAIN_S[min(count, len(TRY_AGAIN_S)) - 1]
            if is_due:
                found.setdefault("restart", []).append(each)
    return Decided(**{name: tuple(each) for name, each in found.items()})


class Supervisor:
    """Call `step` once a second with the rows of `team.reader` and the look they were made from."""

    def __init__(self, home: Home, server: Server, note: Note) -> None:
        self.home, self.server, self._note = home, server, note
        self._failed: dict[str, tuple[int, float, str]] = {}  # how often in a row, at which tick the last time, and why
        self._started: dict[str, float] = {}  # kind of program -> the tick at which one was started again
        self._last_lines: dict[tuple[str, str], str] = {}  # by the seat and its start

    def step(
        self,
        rows: Sequence[Mapping[str, Any]],
        view: Look,
        wanted: Iterable[str],
        now: float,
        tick: float | None = None,
    ) -> list[Flag]:
        """Start again what ended and may be; returns the flags that stand now. wanted: names in the launch's roster; tick:
        seconds that only go on, `now` where it is None.
        Costs a look at the rows while every program lives, and reads pane.json only of those that do not."""
        names, at = set(wanted), now if tick is None else tick
        observed = self.observe(rows, view, names, now, at)
        down = {each.name for each in observed}
        self._failed = {name: row for name, row in self._failed.items() if name in down}
        self._last_lines = {key: line for key, line in self._last_lines.items() if key[0] in down}
        decided = decide(observed, now)
        for each in decided.give_up:
            panes.note_gave_up(self.home, each.name)
            failpoint("supervise.gave_up")
            self._note("needs-you", self._capped(each).text)
        kinds = {row["name"]: str(row.get("backend")) for row in rows}
        for each in decided.restart:
            if self._is_next(kinds[each.name], at):
                self._restart(each, at)
        return [
            *(self._capped(each) for each in decided.capped),
            *(Flag(f"seat {each.name}", f"{each.name} has no pane", "org launch") for each in decided.lost),
            *(self._failing(each) for each in decided.failing if each.name in self._failed),
        ]

    def observe(
        self, rows: Sequence[Mapping[str, Any]], view: Look, wanted: set[str], now: float, tick: float
    ) -> list[Observed]:
        """The seats of the roster whose program does not run. None while tmux does not answer: then nothing is known."""
        if not view.is_running:
            return []
        found = []
        for row in rows:
            name = row["name"]
            pane = view.panes.get(name)
            if name not in wanted or (pane is not None and not pane.dead):
                continue
            key = pane.id if pane is not None else ""
            is_touched = bool(row["held"]) or (
                pane is not None and (pane.in_mode or now - view.keys.get(key, 0.0) < HUMAN_S or key in view.prefix)
            )
            note = panes.note(self.home, name)
            status = pane.dead_status if pane is not None else None
            count, at, why = self._failed.get(name, (0, tick, ""))
            found.append(Observed(name, key or None, status, note, is_touched, (count, tick - at, why)))
        return found

    # --- acting

    def _is_next(self, backend: str, tick: float) -> bool:
        """Whether a program of this kind may be started now: those that are started one after the other come back so, too.
        The others wait for a later step."""
        gap_s = ringer.backend_of(backend, self.home).start_gap_s
        if gap_s and 0 <= tick - self._started.get(backend, float("-inf")) < gap_s:
            return False
        self._started[backend] = tick
        return True

    def _restart(self, each: Observed, tick: float) -> None:
        """One seat that cannot be started must not keep the others down."""
        assert each.pane is not None  # `decide` restarts no other
        try:
            seat = seats.require(self.home, each.name)
            is_started = panes.respawn(self.home, self.server, seat, each.pane, is_restart=True)
        except (OrgError, OSError) as error:
            text = files.printable(" ".join(str(error).split()), 200)
            if each.failed[2] != text:
                self._note("trouble", f"{each.name} cannot be started: {text}")
            self._failed[each.name] = each.failed[0] + 1, tick, text
            return
        self._failed.pop(each.name, None)
        if not is_started:
            return
        ended = "ended" if each.status is None else f"ended with status {each.status}"
        self._note("seat", f"{each.name} {ended}; started again")

    def _capped(self, each: Observed) -> Flag:
        line = self._last_line(each)
        said = f"; its pane's last line: {line}" if line else ""
        count = len(each.note.get("restarts") or ())
        text = f"{each.name} was started again {min(count, panes.RESTARTS_MAX)} times and ended each time{said}"
        return Flag(f"seat {each.name}", text, f"org attach {each.name}", "then `org launch` starts it again")

    def _failing(self, each: Observed) -> Flag:
        return Flag(f"seat {each.name}", f"{each.name} cannot be started: {self._failed[each.name][2]}", "org doctor")

    def _last_line(self, each: Observed) -> str:
        """What a dead pane showed last, asked for once: it changes no more. tmux scrolls it up by a line when it dies."""
        key = each.name, str(each.note.get("started"))
        if key not in self._last_lines:
            try:
                text = self.server.capture(each.pane, history=20) if each.pane else ""
            except OrgError:
                return ""  # asked again at the next step
            self._last_lines[key] = last_line(text)
        return self._last_lines[key]


def last_line(screen: str, limit: int = 120) -> str:
    """The last line of a pane that its program wrote; tmux's own `Pane is dead` line left out. Harmless to show."""
    lines = [words(line, limit) for line in screen.splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith("Pane is dead")), "")
