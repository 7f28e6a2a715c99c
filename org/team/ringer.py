"""Rings the doorbells of all seats: gathers what `team.doorbell` decides on, types, and says why a pane is left alone.

The one injector of every pane: between a line's first key and its Enter it holds the pane's lock. No key is ever sent to
clear or to interrupt.
"""

from __future__ import annotations

import functools
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from org import files, times
from org.agents import base
from org.errors import OrgError
from org.failpoint import failpoint
from org.home import Home
from org.records import Seat
from org.team import panes, seats, states
from org.team.aside import Aside
from org.team.doorbell import CONFIRMING, QUEUE_S, SETTLING_S, SUBMITTED, Bell, Facts, decide, load, save
from org.team.drafts import Drafts
from org.team.pace import Pace
from org.team.states import DRAFT, Look
from org.world import tmux
from org.world.tmuxwords import PaneInfo

Queue = Callable[[str], bool]  # hands a line to the program's own queue: whether it took it


@dataclass(frozen=True)
class Ways:
    """What a seat's program offers besides keys. `queue`: see above. `holds`: whether its queue or session has had a line
    since (Unix seconds). `box`: what stands in its input box, by a captured screen. `stash`: its own way to put a
    half-typed draft aside."""

    queue: Queue | None = None
    holds: Callable[[str, float], bool] | None = None
    box: Callable[[str], str | None] | None = None
    stash: base.Stash | None = None


LOOK_S = 2.0  # a key is pressed on no older look: when tmux stalled, a person may have come meanwhile
UNREADABLE = "its files cannot be read or written"
BLIND_GAP_S = 0.2  # text and Enter of 20 orders at once: 6 to 15 got stuck; with this gap none of 50


class Ringer:
    """The doorbells of all seats, in the one office."""

    def __init__(self, home: Home, server: tmux.Server) -> None:
        self.home, self.server = home, server
        self.drafts = Drafts(home)
        self._aside = Aside(server, self._cursor_of)
        self._queued: list[tuple[float, subprocess.Popen[bytes]]] = []  # until when, monotonic seconds
        self._bells: dict[str, Bell] = {}
        self._locks: dict[str, int] = {}
        self._cursor: dict[str, tuple[int, int]] = {}  # where it stood before the text was typed
        self._looks: dict[str, list[tuple[float, bool]]] = {}  # (monotonic seconds, whether our line stands there)
        self._looked = float("-inf")  # monotonic seconds
        self._pace = Pace()
        self.failed: dict[str, str] = {}  # seats that the last round could not ring, and why

    def look(self, rows: Sequence[Mapping[str, Any]], view: Look, now: float) -> dict[str, str]:
        """Seat -> why its mail waits, for those where a person left a half-typed line. To be called after every look at
        the grid. rows: `states.states`."""
        self._looked = time.monotonic()
        found = {}
        for row in rows:
            pane, backend = view.panes.get(row["name"]), backend_of(row["backend"], self.home)
            if pane is None or backend.doorbell != "typed" or backend.stash or backend.box:
                continue  # these put a draft aside, or look into the box before each line
            try:
                if self._draft_waits(row["name"], pane, view, now):
                    found[row["name"]] = DRAFT
            except OSError:  # one seat's folder must not keep the others' mail
                found[row["name"]] = UNREADABLE
        return found

    @property
    def is_blind(self) -> bool:
        """Whether the last look is too old to press a key on."""
        return time.monotonic() - self._looked > LOOK_S

    def _draft_waits(self, name: str, pane: PaneInfo, view: Look, now: float) -> bool:
        # who attaches has typed nothing yet: what stands there is no draft of theirs, unless the cursor has moved since
        is_there = pane.id in view.human and (
            pane.id not in view.untyped or self.drafts.has_moved(name, pane.cursor[0])
        )
        submitted = None
        if is_there or self.drafts.hand(name) is not None:
            events = states.last_events(self.home, name)
            submitted = max(
                (times.seconds(e.get("t")) or 0.0 for e in events if e.get("event") in SUBMITTED), default=None
            )
        return self.drafts.look(
            name,
            column=pane.cursor[0],
            last_key=view.keys.get(pane.id) if is_there else None,
            submitted=submitted,
            is_ours=self.bell(name).line is not None,
            now=now,
        )

    def ring_all(self, rows: Sequence[Mapping[str, Any]], view: Look, now: float) -> float | None:
        """One round: where letters wait and the program does not see its mailbox itself. rows: of `team.reader`. Returns
        after how many seconds to come again at the latest. A seat that cannot be rung is in `failed` and stops no other."""
        self._end_queued()
        self.failed = {}
        wakes: list[float | None] = []
        after_limits = self._pace.look(rows, now)
        for row in rows:
            name, pane = row["name"], view.panes.get(row["name"])
            backend = backend_of(row["backend"], self.home)
            if backend.doorbell != "typed" or pane is None:
                continue
            if (left := after_limits.get(name, 0.0)) > 0 and row["quiet"] is None:
                row = {**row, "quiet": "its limit has ended, and others of its kind come first"}
                wakes.append(left)
            try:
                wakes.append(self._ring_row(row, pane, backend, now))
            except tmux.ServerLost:
                raise
            except Exception as error:  # noqa: BLE001 - a seat writes much of what is read here, as it likes
                kind = "" if isinstance(error, OrgError | OSError) else f"{type(error).__name__}: "
                self.failed[name] = kind + " ".join(str(error).split())
        return min((wake for wake in wakes if wake is not None), default=None)

    def _ring_row(self, row: Mapping[str, Any], pane: PaneInfo, backend: base.Backend, now: float) -> float | None:
        waiting = [letter for letter, _ in row["unread"]]
        if not waiting and self.is_silent(row["name"]) and not self._aside.is_open(row["name"]):
            return None
        facts = self._facts(row, backend, waiting, now)
        return self.ring(row["name"], pane, facts, self._ways(row["name"], backend))

    def _ways(self, name: str, backend: base.Backend) -> Ways:
        if not backend.queue:
            return Ways(box=backend.box, stash=backend.stash)
        seat, holds = seats.require(self.home, name), backend.holds
        return Ways(
            queue=lambda text: self.hand_over(seat, backend, text),
            holds=(lambda text, since: holds(self.home, seat, text, since)) if holds else None,
            box=backend.box,
            stash=backend.stash,
        )

    def _facts(self, row: Mapping[str, Any], backend: base.Backend, waiting: Sequence[str], now: float) -> Facts:
        started = panes.note(self.home, row["name"]).get("started")
        events = [each for each in states.last_events(self.home, row["name"]) if states.is_since(each, started)]
        named = [e.get("letters") for e in events if e.get("event") in CONFIRMING]
        reports = bool(events) or backend.reports
        return Facts(
            now=now,
            waiting=waiting,
            quiet=row["quiet"],
            reports=reports,
            confirmed=frozenset(str(each) for ids in named if isinstance(ids, list) for each in ids),
            is_idle=row["state"] == "ready",
            started=times.seconds(started) or 0.0,
            # a line that gets stuck is helped along only where events tell of it
            gap_s=backend.gap_s if reports else max(backend.gap_s, BLIND_GAP_S),
            restores=backend.stash is not None and self._aside.restores(row["name"]),
        )

    def hand_over(self, seat: Seat, backend: base.Backend, text: str) -> bool:
        """Give a line to the program's own queue, in a process that ends by itself; False where it has none just now. The
        process holds the queue's lock, so that an office after this one knows when all is said."""
        start = backend.queue(self.home, seat, text) if backend.queue else None
        lock = files.try_lock(self._queue_lock(seat.name)) if start else None
        if start is None or lock is None:
            return False
        env = {**self.server.env, **panes.common_env(self.home), **start.env}
        child = subprocess.Popen(
            start.argv,
            env=env,
            cwd=seat.worktree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,  # an office that is killed takes its pane with it, and this is to be done
        )
        os.close(lock)
        failpoint("doorbell.handed")
        self._queued.append((time.monotonic() + QUEUE_S, child))
        return True

    def _end_queued(self) -> None:
        for until, child in self._queued:
            if time.monotonic() > until:
                child.kill()
        self._queued = [each for each in self._queued if each[1].poll() is None]

    def bell(self, seat: str) -> Bell:
        if seat not in self._bells:
            self._bells[seat] = load(self.home, seat)
        return self._bells[seat]

    def is_silent(self, seat: str) -> bool:
        """Nothing is on its way into this pane and nothing was told that is to be kept in mind."""
        bell = self.bell(seat)
        return not bell.letters and bell.line is None

    def ring(self, seat: str, pane: PaneInfo, facts: Facts, ways: Ways | None = None) -> float | None:
        """One step of this seat's doorbell, or several that need no wait. Returns after how many seconds to come again, None
        when there is nothing to wait for."""
        ways = ways or Ways()
        stash = ways.stash
        for _ in range(4):
            before = self.bell(seat)
            step = decide(before, self._seen(seat, pane.id, facts, ways))
            # pressed before it is written down: once too often is nothing, once too seldom leaves the line standing there
            if step.do == "enter" and not self._enter(seat, pane, ways):
                return 0.5
            if step.do == "type" and stash is not None and (wait_s := self._put_aside(seat, pane, stash)) is not None:
                return wait_s
            self._keep(seat, step.bell)
            if step.do == "look":
                self._look(seat, pane.id)
            if step.do == "type" and not self._type(seat, pane, facts.now, ways):
                self._keep(seat, replace(before, line=None))
                return 0.5
            if step.do is None or step.wake_s:
                break
        line = self.bell(seat).line
        if line is not None and line.phase == "entered":
            self._aside.taken(seat)
        elif line is None and facts.quiet is None and stash is not None:
            self._aside.give_back(seat, pane, stash)
        if line is None or line.phase == "entered":
            self._unlock(seat)
        return step.wake_s

    def close(self) -> None:
        for seat in list(self._locks):
            self._unlock(seat)

    def _put_aside(self, seat: str, pane: PaneInfo, stash: base.Stash) -> float | None:
        """None when the box is free for a line; else after how many seconds to come again. Nothing is written down yet: an
        office that dies here leaves a draft put aside, which the next one sees."""
        if self._has_question(seat) or self.is_blind or not self._lock(seat):
            return 0.5
        try:
            return self._aside.put(seat, pane, stash)
        except tmux.PaneBusy:
            self._unlock(seat)
            return 0.5

    def _type(self, seat: str, pane: PaneInfo, now: float, ways: Ways) -> bool:
        """Type the line that is written down; False when a person was faster, or somebody else types there."""
        bell = self.bell(seat)
        line = bell.line
        assert line is not None
        # typed at once where the box is seen to be empty; over a draft, or where a dialog is, no key is pressed
        is_free = ways.box is not None and self._box(pane, ways) == ""
        if not is_free and ways.queue is not None and ways.queue(line.text):
            self._keep(seat, replace(bell, line=replace(line, phase="entered", entered_at=now, is_queued=True)))
            return True
        if (ways.box is not None and not is_free) or not self._lock(seat):
            return False
        failpoint("doorbell.typing")
        self._cursor[seat] = self._cursor_of(pane.id)
        if self._has_question(seat) or self.is_blind:
            self._unlock(seat)
            return False
        try:
            self.server.type_text(pane.id, line.text, pid=pane.pid)
        except tmux.PaneBusy:
            self._unlock(seat)
            return False
        failpoint("doorbell.typed")
        self._keep(seat, replace(bell, line=replace(line, phase="typed")))
        return True

    def _enter(self, seat: str, pane: PaneInfo, ways: Ways) -> bool:
        if self._has_question(seat) or self.is_blind or not self._lock(seat):
            return False
        line = self.bell(seat).line
        if ways.box is not None and line is not None:
            shown = self._box(pane, ways)
            if shown is None:
                return False
            is_taken = line.phase == "entered" and not shown
            if is_taken or (shown and _squeezed(line.text) not in _squeezed(shown)):
                return True  # no key: the line was taken, and what stands there now is a person's
        try:
            self.server.press(pane.id, "Enter", pid=pane.pid)
        except tmux.PaneBusy:
            return False
        failpoint("doorbell.entered")
        return True

    def _has_question(self, seat: str) -> bool:
        """Whether the program has just put up a dialog: a key would answer it. Looked at last, right before the key."""
        said = [e.get("event") for e in states.last_events(self.home, seat) if e.get("event") in states.STATES]
        return bool(said) and said[-1] == "asking"

    def _seen(self, seat: str, pane_id: str, facts: Facts, ways: Ways) -> Facts:
        """The facts with what only a look at the pane tells, or what the program wrote down, where it matters."""
        line = self.bell(seat).line
        if line is not None and ways.holds and (line.phase == "typing" or line.at < facts.started):
            if files.is_locked(self._queue_lock(seat)):
                facts = replace(facts, quiet=facts.quiet or "a line is on its way into the program's queue")
            facts = replace(facts, is_handed=ways.holds(line.text, line.at))
        if line is not None and line.phase == "typed":
            return replace(facts, echoed=self._cursor_of(pane_id) != self._cursor.get(seat))
        looks = self._looks.get(seat, [])
        agreeing = len(looks) >= 2 and looks[-1][1] == looks[-2][1] and time.monotonic() - looks[-1][0] < 3 * SETTLING_S
        return replace(facts, on_screen=looks[-1][1] if agreeing else None)

    def _look(self, seat: str, pane_id: str) -> None:
        """Whether a line of ours stands in the pane: any id that was told of and is not confirmed. Programs break lines at
        will, hence without any blank."""
        looks, now = self._looks.setdefault(seat, []), time.monotonic()
        if looks and now - looks[-1][0] < SETTLING_S * 0.9:
            return
        bell = self.bell(seat)
        ids = bell.line.letters if bell.line else [k for k, v in bell.letters.items() if v.told == "typed"]
        text = "".join(self.server.capture(pane_id).split())
        self._looks[seat] = [*looks[-1:], (now, any(letter in text for letter in ids))]

    def _box(self, pane: PaneInfo, ways: Ways) -> str | None:
        """What stands in the program's input box, None where none is to be seen."""
        return ways.box(self.server.capture(pane.id, escapes=True)) if ways.box else None

    def _queue_lock(self, seat: str) -> Path:
        return self.home.seat(seat) / "queue.lock"

    def _cursor_of(self, pane_id: str) -> tuple[int, int]:
        said = self.server.run(["display-message", "-p", "-t", pane_id, "#{cursor_x} #{cursor_y}"]).split()
        return (int(said[0]), int(said[1])) if len(said) == 2 else (-1, -1)

    def _keep(self, seat: str, bell: Bell) -> None:
        if bell != self._bells.get(seat):
            if bell.line is None:
                self._looks.pop(seat, None)
            save(self.home, seat, bell)
            self._bells[seat] = bell

    def _lock(self, seat: str) -> bool:
        """The pane's own lock, held until Enter: one injector a pane."""
        if seat not in self._locks:
            taken = files.try_lock(self.home.seat(seat) / "pane.lock")
            if taken is None:
                return False
            self._locks[seat] = taken
        return True

    def _unlock(self, seat: str) -> None:
        taken = self._locks.pop(seat, None)
        if taken is not None:
            os.close(taken)


def _squeezed(text: str) -> str:
    """Without any blank: programs break lines at will."""
    return "".join(text.split())


def backend_of(spec: str, home: Home) -> base.Backend:
    """The backend, or one that is never rung: a person's seat, or a program that is gone from this machine."""
    try:
        return _known(spec, home)
    except OrgError:
        return base.Backend("none", doorbell="self", readiness="alive", plan=_not_started)


@functools.lru_cache(maxsize=128)  # no error is kept: a description with a mistake may be mended
def _known(spec: str, home: Home) -> base.Backend:
    return base.backend(spec, home)


def _not_started(home: Home, seat: Seat, page: object) -> base.Start:
    raise OrgError(f"{seat.name}: '{seat.backend:.40}' is no program this version knows")
