"""Every seat's facts, looked at each second for next to nothing: a file is read again only when its stamp changed.

Keeps what it read, the looks at screens and the processor time used; writes state.json for those who send letters.
Forgotten and begun anew, it comes to the same states.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from org import files, times
from org.home import Home
from org.records import Seat
from org.team import roster, seats, states
from org.team.roster import PERSON
from org.team.states import Look, Looks, Told
from org.world import process

if TYPE_CHECKING:
    from org.agents.base import Backend
    from org.lab.book import Book
    from org.world.tmuxwords import PaneInfo

CPU_EVERY_S = 30.0  # between two looks at processor time, of seats that gave no other sign for a while
CPU_SHARE = 0.02  # of a core: what counts as progress; agent programs at their prompt use up to 0.009
RACY_NS = 100_000_000  # a stamp so young may hide a later change within one tick of the file system's clock
UNREAD_LOOKED_AT = 200
STEADY = frozenset({"starting", "ready", "working", "waiting-for-run", "asking", "limited", "stuck"})
RUN_KINDS = frozenset({"launch", "result"})

Stamp = tuple[int, int, int]


class Reader:
    """The seats of one home. `rows` is what `org status` shows of them and more."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._seats: dict[str, _Seat] = {}
        self._roster: tuple[Any, ...] = ()
        self._book: tuple[int, int] = (0, -1)
        self._working: dict[str, str] = {}
        self._open: frozenset[str] = frozenset()
        self._signs: dict[str, float] = {}
        self._seats_of: dict[str, str] = {}
        self._cpu_at = float("-inf")  # by the ticks

    def rows(
        self,
        book: Book,
        view: Look,
        now: float,
        screens: Mapping[str, str] | None = None,
        *,
        is_once: bool = False,
        tick: float | None = None,
    ) -> list[dict[str, Any]]:
        """A row a seat, by name: the fields of `status --json`, then for people `since` (Unix seconds), `quiet` (why nothing
        is typed there), `said` (what the program's event that named this state said), `unread` ((letter id, Unix seconds of its arrival), …).

        screens: seat -> captured text, of the seats in `wants_screen` that live, at each call; a seat that is left out is
        not looked at any more. is_once: no later call will follow, so what takes two looks is taken from what the office last
        wrote. tick: seconds that only go on, `now` where it is None.
        """
        at = now if tick is None else tick
        self._refresh(book)
        for name, text in (screens or {}).items():
            if name in self._seats:
                self._seats[name].looked(text, view.panes.get(name), now)
        if not is_once:
            self._measure(view, now, at)
        is_kept = is_once and files.is_locked(self.home.office_lock)
        return [self._row(each, view, now, now - at, screens, is_once, is_kept) for each in self._seats.values()]

    def wants_screen(self) -> list[str]:
        """Seats whose backend knows what its screens mean: capture these and hand them to `rows`. No office need look at
        the others."""
        return [name for name, each in self._seats.items() if each.patterns or each.own_word]

    def save(self, rows: list[dict[str, Any]], now: float) -> list[str]:
        """Write state.json of each seat whose state or quiet reason is another one; returns their names. Seconds that count
        on in a reason are no change."""
        changed = []
        for row in rows:
            each = self._seats.get(row["name"])
            if each is None:
                continue
            try:
                if self._save(each, row, now):
                    changed.append(each.name)
            except OSError as error:
                if files.is_full(error):
                    raise
                continue  # one seat's folder must not keep the others' states from those who write to them
        return changed

    def _save(self, each: _Seat, row: Mapping[str, Any], now: float) -> bool:
        kind = row["state"], _kind_of(row["quiet"])
        if each.written is None:
            old = files.read_json(self.home.seat_state(each.name))
            old = old if isinstance(old, dict) else {}
            each.written = str(old.get("state")), _kind_of(old.get("quiet"))
        if kind == each.written:
            return False
        document = {"t": times.utc(now), "state": row["state"], "since": times.utc(row["since"]), "quiet": row["quiet"]}
        files.replace_json(self.home.seat_state(each.name), document)
        each.written = kind
        return True

    # --- reading

    def _refresh(self, book: Book) -> None:
        """What changed in the files since the last call."""
        moment = time.time_ns()
        is_changed = False
        for each in self._seats.values():
            is_changed |= each.refresh(moment)
        known = _stamp(str(self.home.org_file)), _stamp(str(self.home.seats))
        if is_changed or known != self._roster or any(_is_young(stamp, moment) for stamp in known):
            self._roster = known
            names = roster.members(self.home)
            self._seats = {name: self._seats.get(name) or _Seat(self.home, name, moment) for name in names}
            self._seats = {name: each for name, each in self._seats.items() if each.seat is not None}
        if (id(book), len(book.rows)) != self._book:
            self._read_ledger(book)

    def _read_ledger(self, book: Book) -> None:
        """Which seat works on what, and when the ledger last heard of each."""
        known, count = self._book
        if known != id(book) or count > len(book.rows):
            self._signs, count = {}, 0
        for row in book.rows[max(0, count) :]:
            kind = row.get("kind")
            if kind == "experiment":
                seat = str(row.get("seat"))
                self._seats_of[str(row.get("experiment"))] = seat
            elif kind in RUN_KINDS:
                seat = self._seats_of.get(str(row.get("run")).partition("/")[0], "")
            else:
                continue
            self._signs[seat] = times.seconds(row.get("t")) or 0.0
        unjudged = book.open()
        self._working = {c.seat: c.experiment for c in reversed(unjudged) if c.stage == "search"}
        self._open = frozenset(c.seat for c in unjudged)
        self._book = id(book), len(book.rows)

    def _measure(self, view: Look, now: float, tick: float) -> None:
        """Processor time of the seats that may be stuck, once in a while: it costs a walk over /proc."""
        if tick - self._cpu_at < CPU_EVERY_S:
            return
        asked = {}
        for each in self._seats.values():
            pane = view.panes.get(each.name)
            sign = max(each.told.sign, each.started_s, each.sent_s, self._signs.get(each.name, 0.0))
            if pane is None or pane.dead or each.told.state not in states.AT_WORK or now - sign < states.STUCK_S / 2:
                each.cpu = None
            else:
                asked[each.name] = pane.pid
        if not asked:
            return
        self._cpu_at = tick
        used = process.cpu_s(asked.values())
        for name, pid in asked.items():
            each = self._seats[name]
            if each.cpu is not None and each.cpu[0] == pid:
                share = (used[pid] - each.cpu[2]) / max(0.001, tick - each.cpu[1])
                if share >= CPU_SHARE or share < 0:  # below zero: a part of the tree that had used much has ended
                    each.cpu_sign = tick
            each.cpu = pid, tick, used[pid]

    # --- the row

    def _row(
        self,
        each: _Seat,
        view: Look,
        now: float,
        ahead_s: float,
        screens: Mapping[str, str] | None,
        is_once: bool,
        is_kept: bool,
    ) -> dict[str, Any]:
        """ahead_s: the clock's, of the ticks."""
        seat, name, pane = each.seat, each.name, view.panes.get(each.name)
        assert seat is not None  # `_refresh` keeps no other
        if screens is not None and name not in screens:
            each.looks = ()
        key = pane.id if pane is not None else ""
        has_prefix = key in view.prefix
        state = states.state_of(
            each.told,
            pane,
            is_held=each.is_held,
            is_human=key in view.human or has_prefix,
            is_person=seat.backend == PERSON,
            now=now,
            # one look cannot tell whether processor time is used: then only the office says that a seat is stuck
            progress=now
            if is_once
            else max(each.started_s, each.sent_s, self._signs.get(name, 0.0), each.cpu_sign + ahead_s),
            has_open=name in self._open,
            looks=each.looks,
        )
        if is_kept and state in STEADY:
            state = self._seen_by_office(each) or state
        if state != each.state:
            is_told = states.STATES.get(state) is not None and each.told.state == state and each.state == ""
            each.state, each.since = state, each.told.at if is_told and 0 < each.told.at <= now else now
        each.since = min(each.since, now)  # or the clock was set back: it would be young for hours
        human_s = now - view.keys[key] if key in view.keys else None
        command = pane.command if pane is not None else ""
        row = {
            "name": name,
            "role": seat.role,
            "backend": seat.backend,
            "program": seat.program,
            "branch": seat.branch,
            "worktree": seat.worktree,
            "device": seat.device,
            "pane": key or None,
            "state": state,
            "held": each.is_held,
            "experiment": self._working.get(name),
            "mail_waiting": each.waiting,
            "since": each.since,
            "said": each.told.text if each.told.state == state else "",
            "unread": each.unread,
            "denied": each.denied,
            "stopped": files.printable(str(each.pane["why"]), 100) if each.pane.get("why") else "",
        }
        row["quiet"] = states.quiet(
            row,
            pane,
            human_s=human_s,
            has_prefix=has_prefix,
            is_shell=command in states.SHELLS and states.is_bare_shell(command, each.own(pane)),
            command=command,
            showed=each.looks[-1][1] if each.looks else None,
        )
        return row

    def _seen_by_office(self, each: _Seat) -> str | None:
        """What the office made of the same events with its looks at screen and processes; None when it is not newer."""
        row = files.read_json(self.home.seat_state(each.name))
        if not isinstance(row, dict) or row.get("state") not in STEADY:
            return None
        at = times.seconds(row.get("t"))
        return str(row["state"]) if at is not None and at >= max(each.started_s, each.told.at) else None


class _Seat:
    """What was read of one seat, and the stamps by which a change is seen."""

    def __init__(self, home: Home, name: str, moment: int) -> None:
        self.home, self.name = home, name
        self._folder, self._events = str(home.seat(name)), str(home.seat_events(name))
        self._new = str(home.mailbox(name) / "new")
        self._stamps: list[Stamp] = [(-1, 0, 0)] * 3
        self._is_young = True
        self._offset = 0
        self._own: tuple[int, str] = (0, "")
        self._text = ""
        self._shown: str | None = None
        self.seat: Seat | None = None
        self.pane: dict[str, Any] = {}
        self.started_s = 0.0
        self.told = Told("starting")
        self.is_held = False
        self.denied = (0, "")  # tool calls since the program's start that were refused, and the last one's reason
        self.waiting = 0
        self.sent_s = 0.0
        self.unread: list[tuple[str, float]] = []
        self.backend: Backend | None = None
        self.patterns: tuple[tuple[str, str], ...] = ()
        self.lines = 60
        self.own_word: Callable[[Home, str, int], str | None] | None = None
        self.looks: Looks = ()
        self.cpu: tuple[int, float, float] | None = None  # (pid, the tick, seconds of processor time then)
        self.cpu_sign = float("-inf")  # the tick at which processor time was last seen to be used
        self.state, self.since = "", 0.0
        self.written: tuple[str, str] | None = None
        self.refresh(moment)

    def refresh(self, moment: int) -> bool:
        """Read again what changed; whether the seat itself is another one now."""
        stamps = [_stamp(self._folder), _stamp(self._events), _stamp(self._new)]
        if stamps == self._stamps and not self._is_young:
            return False
        old, self._stamps = self._stamps, stamps
        was_young, self._is_young = self._is_young, any(_is_young(stamp, moment) for stamp in stamps)
        is_changed = False
        if stamps[0] != old[0] or was_young:
            is_changed = self._read_folder()
        if stamps[1] != old[1] or was_young:
            self._read_events(is_same=stamps[1][1] == old[1][1])
        if stamps[2] != old[2] or was_young:
            self._read_mail()
        return is_changed

    def looked(self, text: str, pane: PaneInfo | None, now: float) -> None:
        if not self.looks or text != self._text:
            self._text, self._shown = text, states.shown(text, self.patterns, self.lines)
        word = self.own_word(self.home, self.name, pane.pid) if self.own_word and pane else None
        verdict = states.seen_as(self._shown, word)
        is_read = self.backend is not None and self.backend.readiness == "screen"
        if verdict is None and is_read and self.told != Told("starting"):
            verdict = "asking"  # neither a prompt nor a turn: a dialog that nobody has described is one all the same
        self.looks = states.looked(self.looks, verdict, now)
        if is_read and self.told == Told("starting") and states.agreed(self.looks) in states.COME_UP:
            self.told = Told("ready")

    def own(self, pane: PaneInfo | None) -> str:
        """The name of the program that the pane was started with."""
        if pane is None:
            return ""
        if self._own[0] != pane.pid:
            self._own = pane.pid, process.program(pane.pid)
        return self._own[1]

    def _read_folder(self) -> bool:
        seat = seats.load(self.home, self.name)
        self.is_held = os.path.lexists(f"{self._folder}/held")
        self.sent_s = _stamp(f"{self._folder}/sent")[0] / 1e9  # written anew with each letter it sends
        pane = files.read_json(self.home.seat_pane(self.name))
        pane = pane if isinstance(pane, dict) else {}
        is_other = seat != self.seat
        if is_other:
            self.seat = seat
            self.backend = _backend(self.home, seat.backend) if seat else None
            self.patterns = self.backend.screens if self.backend else ()
            self.own_word = self.backend.own_word if self.backend else None
            self.lines = self.backend.screen_lines if self.backend else 60
        if pane.get("started") != self.pane.get("started") or is_other:
            self.looks, self.cpu = (), None
            self.pane = pane
            self._forget()
            self._read_events(is_same=True)
        self.pane = pane
        return bool(is_other)

    def _forget(self) -> None:
        """An earlier program's events count no more."""
        self.started_s = times.seconds(self.pane.get("started")) or 0.0
        waits = self.backend is not None and (self.backend.reports or self.backend.readiness == "screen")
        self.told = Told("starting" if waits else "ready")
        self.denied = (0, "")
        self._offset = -1

    def _read_events(self, is_same: bool) -> None:
        size = self._stamps[1][2]
        if not is_same or size < self._offset:
            self._forget()  # another file: who reads from the middle of it would read half a line
        if self._offset < 0 or size - self._offset > 4 * states.EVENT_TAIL:
            self._offset = max(0, size - states.EVENT_TAIL)
        events, self._offset = files.read_lines(self.home.seat_events(self.name), self._offset)
        started = self.pane.get("started")
        self.told = states.told(events, str(started) if started else None, True, self.told)
        for row in events:
            if row.get("event") == "denied" and states.is_since(row, str(started) if started else None):
                self.denied = self.denied[0] + 1, files.printable(str(row.get("text") or ""), 300)

    def _read_mail(self) -> None:
        found = []
        try:
            with os.scandir(self._new) as entries:
                there = [entry for entry in entries if not entry.name.startswith(".")]
            # by name, which is by time: one more letter must not push another out of sight, to be told of again later
            for entry in heapq.nsmallest(UNREAD_LOOKED_AT, there, key=lambda entry: entry.name):
                found.append((entry.name.removesuffix(".md"), entry.stat(follow_symlinks=False).st_mtime))
            self.waiting = len(there)
        except OSError:  # no box yet, no folder, or a letter was taken at this moment: then look again
            self.waiting, self._is_young = len(found), self._is_young or self._stamps[2] != (0, 0, 0)
        self.unread = sorted(found, key=lambda letter: letter[1])


def _stamp(path: str) -> Stamp:
    try:
        facts = os.stat(path)  # noqa: PTH116 - a hundred times a second: a Path would cost three times as much
    except OSError:
        return (0, 0, 0)
    return facts.st_mtime_ns, facts.st_ino, facts.st_size


def _is_young(stamp: Stamp, moment: int) -> bool:
    return moment - stamp[0] < RACY_NS


def _backend(home: Home, spec: str) -> Backend | None:
    """What is known of this kind of program; None for a person's seat and for programs that are gone."""
    from org.agents import base
    from org.errors import OrgError

    try:
        return None if spec == PERSON else base.backend(spec, home)
    except OrgError:
        return None


def _kind_of(reason: object) -> str:
    """A reason without its numbers: `a person typed there 3 s ago` is the same reason a second later."""
    return "".join(letter for letter in str(reason) if not letter.isdigit())
