"""What the seats' models use, watched, and stopped where it is too much: usage files in, programs asked to end out.

The office calls `step` every few seconds. It reads a seat's usage again only when something changed, and asks a backend
for it only when the seat has said something. A program over its limit is asked to end as `org stop SEAT` does, some
seconds later made to; its session stays, and a launch with another limit goes on with it.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from org import times
from org.agents import usage
from org.agents.usage import Usage
from org.errors import OrgError
from org.home import Home
from org.team import caps, costs, mail, panes, roster, seats
from org.team.caps import Cap, Limits, Spent
from org.team.flags import Flag
from org.team.ringer import backend_of
from org.team.states import Look
from org.world import process
from org.world.tmuxwords import PaneInfo

Note = Callable[[str, str], None]  # (event, text): a line in comms/events.jsonl
KILL_S = 3.0  # after a program was asked to end
YOUNG_NS = 100_000_000  # a stamp so young may hide a later change
AT_WORK_S = 15.0  # a seat in the middle of a turn says nothing for minutes, and uses the more


@dataclass
class _Seen:
    """What was read of one seat."""

    stamp: int = -1  # of its usage folder
    heard: int = -1  # of its events, when its backend was asked last
    asked_at: float = 0.0
    sessions: dict[str, Usage] = field(default_factory=dict)
    total: Usage | None = None


class Spending:
    """Of all seats, in the one office."""

    def __init__(self, home: Home, note: Note) -> None:
        self.home, self._note = home, note
        self._seen: dict[str, _Seen] = {}
        self._ending: dict[
            str, tuple[int, float]
        ] = {}  # seat -> (pid, Unix seconds) of a program that was asked to end
        self._told: set[str] = set()

    def of(self, name: str) -> Usage | None:
        """What the seat has used since it was made; None while nothing is known."""
        seen = self._seen.get(name)
        return seen.total if seen else None

    def read(self, rows: Sequence[Mapping[str, Any]], now: float) -> None:
        """Read again what changed. One seat's broken files are no matter of the others."""
        for row in rows:
            seen = self._seen.setdefault(row["name"], _Seen())
            with suppress(OrgError, OSError):
                self._ask(row, seen, now)
            with suppress(OSError):
                self._read(row["name"], seen, now)

    def step(
        self, rows: Sequence[Mapping[str, Any]], view: Look, facts: Mapping[str, Any], now: float
    ) -> tuple[list[Flag], str]:
        """The flags that stand, and why everything has to end, "" while it may go on. rows: of `team.reader`. Whoever has
        used its own limit is stopped, and everybody once org.json says that the limit of all is reached."""
        self.read(rows, now)
        limits = caps.limits(facts)
        names = [row["name"] for row in facts.get("roster") or ()]
        if not limits:
            return [], ""
        used = {name: self._since(name, limits) for name in names}
        why = str((facts.get("limit_reached") or {}).get("why") or "")
        over = {n: said for n in names if (said := caps.passed(limits.seats.get(n, Cap()), used[n]))}
        for name in names if why else over:
            self._end(name, view.panes.get(name), why or over[name], now)
        if why:
            self._tell("org", limits.since, f"The organisation was stopped: {why}.\n\n{_MORE}")
            return [
                Flag("limit", f"stopped: {why}", "org launch --max-usd X", "or --max-tokens N; `org stop` ends it")
            ], ""
        for name, said in over.items():
            self._tell(name, limits.since, f"{name} was stopped: {said}. The others go on.\n\n{_MORE_OF_SEAT}")
        counts = {row["name"]: backend_of(row["backend"], self.home).counts for row in rows if row["name"] in used}
        return [
            *(
                Flag(f"limit {n}", f"{n} was stopped: {said}", "org launch", "once org.yaml gives it more")
                for n, said in over.items()
            ),
            *(Flag("limit unknown", said, "org status") for said in costs.blind(limits, counts, used)),
        ], caps.passed(limits.org, caps.total(used.values()))

    # --- reading

    def _ask(self, row: Mapping[str, Any], seen: _Seen, now: float) -> None:
        backend = backend_of(row["backend"], self.home)
        if backend.usage is None:
            return
        heard = _stamp(str(self.home.seat_events(row["name"])))
        is_due = heard != seen.heard or (row["state"] == "working" and abs(now - seen.asked_at) >= AT_WORK_S)
        if not is_due:
            return
        seen.heard = heard if now * 1e9 - heard > YOUNG_NS else -1
        seen.asked_at = now
        for each in backend.usage(self.home, seats.require(self.home, row["name"])):
            if seen.sessions.get(each.session) != each:
                usage.write(self.home, row["name"], each)

    def _read(self, name: str, seen: _Seen, now: float) -> None:
        stamp = _stamp(str(self.home.seat_usage(name)))
        if stamp == seen.stamp:
            return
        seen.stamp = stamp if now * 1e9 - stamp > YOUNG_NS else -1
        for each in usage.of_seat(self.home, name):
            seen.sessions[each.session] = _grown(seen.sessions.get(each.session), each)
        seen.total = usage.total(sorted(seen.sessions.values(), key=lambda each: each.t))

    def _since(self, name: str, limits: Limits) -> Spent:
        seen = self._seen.get(name)
        return caps.spent(seen.sessions.values() if seen else ()).since(limits.before.get(name, Spent()))

    # --- ending

    def _end(self, name: str, pane: PaneInfo | None, why: str, now: float) -> None:
        """Ask the seat's program to end, as `org stop SEAT` does; some seconds later, make it. Waits for nothing."""
        if pane is None or pane.dead:
            self._ending.pop(name, None)
            return
        pid, asked_at = self._ending.get(name, (0, 0.0))
        is_first = pid != pane.pid
        if is_first:
            panes.note_stopped(self.home, name, why)  # first, or the supervisor brings it back
            self._note("limit", f"{name} is asked to end: {why}")
            self._ending[name] = pane.pid, now
        elif abs(now - asked_at) < KILL_S:
            return
        sign = signal.SIGTERM if is_first else signal.SIGKILL
        mark = f"ORG_EVENTS={self.home.seat_events(name)}"
        for each in {pane.pid, *process.descendants(pane.pid), *process.find_marked(mark)}:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each, sign)

    def _tell(self, who: str, since: str, body: str) -> None:
        """A letter to the person, once a launch's limit: its id is made of both."""
        letter = f"limit-{hashlib.sha256(f'{who} {since}'.encode()).hexdigest()[:12]}"
        if letter in self._told:
            return
        mail.send(self.home, "office", "human", body, letter_id=letter)
        self._told.add(letter)


_MORE = (
    "No model is called any more: every program was asked to end, what ran was judged, page and plot are written. Sessions "
    "and worktrees are kept. `org launch --max-usd X` (or `--max-tokens N`) goes on and counts from there; `org stop` ends it."
)
_MORE_OF_SEAT = (
    "Its session is kept. To let it go on, raise its limit in org.yaml and run `org launch`, which counts anew."
)


def reached(home: Home, why: str, now: float) -> dict[str, Any]:
    """Write into org.json that the limit of all is reached; returns what stands there then."""
    return roster.update(home, limit_reached={"t": times.utc(now), "why": why})


def _grown(old: Usage | None, new: Usage) -> Usage:
    """The totals of a session only grow: what was used is not undone by who writes a smaller number there."""
    if old is None or (old.tokens <= new.tokens and (old.cost_usd or 0.0) <= (new.cost_usd or 0.0)):
        return new
    costs = [cost for cost in (old.cost_usd, new.cost_usd) if cost is not None]
    return replace(
        new,
        input_tokens=max(old.input_tokens, new.input_tokens),
        cached_tokens=max(old.cached_tokens, new.cached_tokens),
        output_tokens=max(old.output_tokens, new.output_tokens),
        cost_usd=max(costs) if costs else None,
    )


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - of every seat, every few seconds
    except OSError:
        return 0
