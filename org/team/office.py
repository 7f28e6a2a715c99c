"""The office: the organisation's one background process, a loop of named steps. Transports, nudges, restarts and flags;
never decides what to research.

    dispatch -> letters -> folder -> look -> spending -> seats -> doorbells -> processes -> orders -> post -> show

Every step is due now and then, and at once when something it looks at has changed (`STEPS`); it looks at facts and acts
once. One that fails is written to comms/events.jsonl and flagged, and the loop goes on. Killed between any two lines, the
next office takes over: nothing is kept here but caches.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from org import charter as charters
from org import files, times
from org.errors import Busy, OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import dispatch, follow
from org.lab.book import Book
from org.records import Charter
from org.team import (
    borders,
    boxes,
    costs,
    hands,
    ideas,
    letters,
    needs,
    orders,
    pages,
    panes,
    picture,
    prose,
    reader,
    ringer,
    roster,
    spending,
    standup,
    states,
    supervise,
    tokens,
)
from org.team.clock import STARTS_RUNS, Phase, phase, runs_left
from org.team.flags import Flag
from org.team.rounds import Round, Rounds
from org.team.screen import Screen
from org.team.secretary import Secretary, Term
from org.team.snapshot import of_ledger, snapshot
from org.team.states import Look
from org.world import process
from org.world.watch import Watcher

CLOCK_S = 5.0  # the board's clock, while a budget runs; 0.5 % of a core for 33 idle seats allows no more
REST_S = 10.0  # so often a dispatcher without work looks all the same: a branch may be moved
ARCHIVE_S = 3600.0
NOTE_BYTES = 200
MAX_EDITED = 20  # pages that a line of the ledger names
# name, at the latest every so many seconds, at once on a change of these, then not again for so many seconds
STEPS = (
    # a training log that grows must not keep the office busy
    Round("dispatch", 1.0, frozenset({"experiments", "ledger.jsonl", "leases", "task"}), 0.2),
    Round("letters", 5.0, frozenset({"ledger.jsonl"}), 0.1),
    Round("folder", 3.0),
    Round("look", 1.0, frozenset({"seats"}), 0.2),
    Round("spending", 4.0),
    Round("seats", 1.0, frozenset({"seats"}), 0.2),
    # a program that floods its events makes no more than fifty looks a second
    Round("doorbells", 1.0, frozenset({"mail", "seats"}), 0.02),
    Round("processes", 2.0, frozenset({"mail"}), 0.5),
    Round("orders", 10.0, frozenset({"standup"}), 0.2),
    Round("post", 30.0, frozenset({"mail"}), 3.0),
    Round("show", 2.0, frozenset({"ledger.jsonl", "seats", "mail"}), 0.5),
)

Render = Callable[[dict[str, Any]], Any]


def run(home: Home, render: Render | None = None, plot: Callable[[Home], None] | None = None) -> None:
    """Keep office until SIGTERM. render: snapshot -> what rich prints; plot: draws the progress, by default `org plot`.
    Raises Busy naming the first when there is an office already."""
    lock = files.try_lock(home.office_lock)
    if lock is None:
        note = files.read_json(home.office_lock) or {}
        raise Busy(f"the office of {home.root} runs already (pid {note.get('pid', '?')}); end it with `org stop`")
    try:
        who = process.identity(os.getpid())
        row = {"pid": os.getpid(), "start_ticks": who.start_ticks if who else None, "since": files.utc_now()}
        # one write over whatever the last office left: whoever reads meanwhile finds one note or the other
        os.pwrite(lock, json.dumps(row).ljust(NOTE_BYTES).encode(), 0)
        os.ftruncate(lock, NOTE_BYTES)
        with Watcher(home.comms) as watcher:
            office = Office(home, render, plot or picture.draw)
            try:
                _loop(office, watcher)
            finally:
                office.close()
    finally:
        os.close(lock)


def _loop(office: Office, watcher: Watcher) -> None:
    ending: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ending.append(number)

    old = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        while not ending:
            left = office.pass_once(time.time(), watcher.places(), time.monotonic())
            if left and not ending:
                watcher.wait(left)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Office:
    """One pass is every step once. Steps share what they saw in this pass: the book, the look at tmux, the phase."""

    def __init__(self, home: Home, render: Render | None, plot: Callable[[Home], None]) -> None:
        self.home, self._render, self._plot = home, render, plot
        self.dispatcher = dispatch.Dispatcher(home)
        self._devices = list(self.dispatcher.devices)
        self._dispatch_lock: int | None = None
        # the ledger's size when the dispatcher last looked, whether it might start runs, when it looks again
        self._rest = (-1, False, 0.0)
        self.server = panes.server_of(home)
        self.charter: Charter = charters.load(home)
        self.book: Book = self.dispatcher.ledger.refresh()
        self.view = Look()
        self.facts: dict[str, Any] = roster.facts(home)
        self.phase: Phase = "open"
        self.flags: dict[str, str] = {}  # of steps that fail, by the step
        self.raised: list[str] = []  # what else needs a person
        self._work: tuple[list[dict[str, Any]], list[dict[str, Any]]] = [], []  # devices and queue in this pass
        self._trouble: dict[str, tuple[str, int]] = {}
        self._shown: dict[str, dict[str, str | None]] = {}
        self._looked_at = float("-inf")
        self._begun = time.monotonic()  # this pass
        self._tick = 0.0  # this pass, in the seconds by which all here is counted that lies in no file
        self._rounds = Rounds(STEPS)
        self._folder_seen: tuple[Any, ...] | None = None
        self._pages: list[pages.Process] = []
        self._moment = ""  # this pass, as files carry it
        self._secretary = Secretary(home, self.note, self._write_up, self._prose)
        self._clerk = orders.Clerk(home)
        self._ringer = ringer.Ringer(home, self.server)
        self._reader = reader.Reader(home)
        self._supervisor = supervise.Supervisor(home, self.server, self.note)
        self._needs = needs.Needs(home)
        self._spending = spending.Spending(home, self.note)
        self._limits: list[Flag] = []
        self._hands = hands.Hands(home)
        self._drawn: tuple[str, float] = ("", 0.0)
        self._rows: list[dict[str, Any]] = []  # the seats' states in this pass
        self._archived_at = float("-inf")
        self._known: tuple[int, dict[str, Any]] = (-1, {})  # what the ledger says, by its length
        self._screen = Screen() if render else None

    def pass_once(self, now: float, changed: Collection[str] = (), tick: float | None = None) -> float:
        """Every step that is due, each by itself; returns the seconds until the next one is. now: Unix seconds, which may
        go back; changed: names below comms/ where something lies differently; tick: seconds that only go on, `now` where
        the caller plays the clock."""
        steps: dict[str, Callable[[float], None]] = {
            "dispatch": self._dispatch,
            "letters": self._letters,
            "folder": self._folder,
            "look": self._look,
            "spending": self._spend,
            "seats": self._seats,
            "doorbells": self._doorbells,
            "processes": self._processes,
            "orders": self._orders,
            "post": self._post,
            "show": self._show,
        }
        self._begun = time.monotonic()
        self._tick = now if tick is None else tick
        self._rounds.changed(changed, self._tick)
        due = self._rounds.due(self._tick)
        for name, do in steps.items():
            if name in due:
                self._rounds.done(name, self._tick)
                self._step(name, lambda do=do: do(now))  # type: ignore[misc]
        return self._rounds.left(self._tick)

    def close(self) -> None:
        if self._dispatch_lock is not None:
            os.close(self._dispatch_lock)
            self._dispatch_lock = None
        self._ringer.close()
        self.server.disconnect()
        if self._screen:
            self._screen.close()

    def _step(self, name: str, do: Callable[[], None]) -> None:
        failpoint(f"office.{name}")
        try:
            do()
        except Exception as error:  # noqa: BLE001 - one broken step must not stop the others: it is logged and flagged
            self._failed(name, error)
        else:
            if self._trouble.pop(name, None):
                self.flags.pop(f"step {name}", None)

    def _failed(self, name: str, error: Exception) -> None:
        text = " ".join(str(error).split())
        said = text if isinstance(error, OrgError) else f"{type(error).__name__}: {text}"
        last, count = self._trouble.get(name, ("", 0))
        self._trouble[name] = said, count + 1 if said == last else 1
        self.flags[f"step {name}"] = f"{name}: {said}"
        if said != last:
            self.note("trouble", f"step {name}: {said}", None if isinstance(error, OrgError) else _where(error))

    def note(self, event: str, text: str, where: str | None = None) -> None:
        """A line for people in comms/events.jsonl."""
        row = {"t": files.utc_now(), "event": event, "text": files.printable(text, 1000)}
        try:
            files.append_line(
                self.home.events, json.dumps(row | ({"where": where} if where else {}), ensure_ascii=False)
            )
        except OSError:
            pass  # a full disk must not end the office; what failed is a flag on its board
        if self._screen is None:
            print(f"{row['t']} {event}: {row['text']}", flush=True)

    # --- steps

    def _dispatch(self, now: float) -> None:
        """Start runs within the budget, take over what ended, judge. A foreground `org run` may be doing it just now. Where
        nothing runs and nothing is wanted, the ledger's size is all that is looked at most of the time."""
        if self._dispatch_lock is None:
            self._dispatch_lock = files.try_lock(self.home.dispatch_lock)
            if self._dispatch_lock is None:
                return
        self.facts = roster.facts(self.home) or self.facts  # a torn file is mended by a launch: what was known holds on
        is_at_rest = self.dispatcher.is_at_rest and self.dispatcher.ledger.size() == self._rest[0]
        running = [] if is_at_rest else self.dispatcher.running()
        left = runs_left(self.facts, self.dispatcher.ledger.refresh(), running)
        self.phase = phase(self.facts, left, len(running), now)
        allow_new = self.phase in STARTS_RUNS
        if is_at_rest and allow_new == self._rest[1] and self._tick < self._rest[2]:
            return
        self.charter = charters.load(self.home)
        self.dispatcher.devices = usable(
            self._devices, {d.name for d in self._devices if self._is_leased(d.name)}, left
        )
        self.dispatcher.refutes = left is None and roster.has_breaker(self.facts)  # where no run is counted
        for sentence in self.dispatcher.tick(allow_new=allow_new):
            self.note("lab", sentence)
        self.book = self.dispatcher.ledger.refresh()
        self._rest = self.dispatcher.ledger.size(), allow_new, self._tick + REST_S

    def _is_leased(self, device: str) -> bool:
        return files.is_locked(self.home.lease(device))

    def _letters(self, now: float) -> None:
        """Every verdict reaches the seat that filed it and the chief, once."""
        self.book = self.dispatcher.ledger.refresh()
        for problem in letters.deliver(self.home, self.book, self.charter):
            self.note("trouble", problem)

    def _folder(self, now: float) -> None:
        """An edit to the org folder or the charter is a fact of the record: every later ledger line carries its hash."""
        name = self.facts.get("org")
        folder = self.home.org_folder(name or roster.DEFAULT_ORG)
        if not name or not folder.is_dir():
            return
        seen = files.signature(folder, self.home.skills, self.home.charter)
        if seen == self._folder_seen:
            return
        hashes = {"org_hash": roster.org_hash(self.home, name), "charter_hash": charters.charter_hash(self.home)}
        if any(self.facts.get(key) != value for key, value in hashes.items()):
            self.facts = roster.update(self.home, **hashes)
            edited = _edited(self.home, self._folder_seen or seen, seen)
            data = {"event": "changed", "folder": name, "charter": hashes["charter_hash"], "pages": edited}
            self.dispatcher.ledger.append("org", f"changed:{hashes['org_hash']}:{files.utc_now()}", data)
            self.note("folder", f"{name} or the charter was edited; a seat reads it at its next brief")
            self._rest = (-1, False, 0.0)
        self._pages = pages.load(folder)  # with a slip in one of them the old ones hold on, and the board says so
        self._folder_seen = seen

    def _look(self, now: float) -> None:
        """One look at tmux, at the seats' own events and at who works by hand, which the steps after it share."""
        self.view = Look()  # while tmux does not answer nothing is known: nobody is started again on an old look
        self.server.connect()
        self.view = states.look(self.home, now, self.server)
        there = {name: pane for name, pane in self.view.panes.items() if not pane.dead}
        screens = {n: self.server.capture(there[n].id) for n in self._reader.wants_screen() if n in there}
        self._rows = self._reader.rows(self.book, self.view, now, screens, tick=self._tick)
        drafts = self._ringer.look(self._rows, self.view, now)
        for row in self._rows:
            row["quiet"] = row["quiet"] or drafts.get(row["name"])
            row["usage"] = self._spending.of(row["name"])
        self._looked_at = self._tick
        self._reader.save(self._rows, now)
        self._hands.step(self._rows, self.view, now, self._tick)

    def _spend(self, now: float) -> None:
        """What the seats' models use is read, and who has used too much is stopped: one seat, or everybody."""
        self.facts = roster.facts(self.home) or self.facts  # a launch may have allowed more a moment ago
        self._limits, why = self._spending.step(self._rows, self.view, self.facts, now)
        if why and not self.facts.get("limit_reached"):
            self.facts = spending.reached(self.home, why, now)
            self.note("limit", f"everything ends: {why}; what runs is judged first")
            self._limits, _ = self._spending.step(
                self._rows, self.view, self.facts, now
            )  # no seat works on till the next

    def _seats(self, now: float) -> None:
        """A seat whose program ended gets it back, ever later, until somebody has to look; and what else needs a person."""
        wanted = [row["name"] for row in self.facts.get("roster") or ()]
        raised = self._supervisor.step(self._rows, self.view, wanted, now, self._tick)
        self._work = follow.device_table(self.home, self._devices), follow.queue(self.home, self.book)
        is_on = self.phase in STARTS_RUNS
        raised += self._needs.step(self._rows, *self._work, self.book, now, self._tick, is_dispatching=is_on)
        self.raised = [str(flag) for flag in (*self._limits, *raised)]

    def _doorbells(self, now: float) -> None:
        """Ring where letters wait, the program does not see its mailbox itself, and no person is at work."""
        if self._tick != self._looked_at or self._ringer.is_blind:  # a letter has come, or a person
            self._look(now)
        passed_s = time.monotonic() - self._begun  # a program that was started since this pass began is no later one
        wake_s = self._ringer.ring_all(self._rows, self.view, now + passed_s)
        if wake_s is not None:
            self._rounds.ask("doorbells", self._tick + passed_s + wake_s)
        if self._ringer.failed:
            raise OrgError("; ".join(f"{name} cannot be rung: {why}" for name, why in self._ringer.failed.items()))

    def _processes(self, now: float) -> None:
        """What the org folder asks of its seats and when; the last of it ends the budget."""
        moment = self._moment = times.utc(now)
        if self.phase == "closing" and not self.facts.get("budget_ended"):
            self.facts = roster.update(self.home, budget_ended=moment)
            said = costs.reason(self.facts) or "the budget has ended"
            self.note("budget", f"{said}; what ran is judged")
        ended = self.facts.get("budget_ended")
        # nobody is asked after a limit: an answer is a call to a model
        asking = [] if self.facts.get("limit_reached") else self._pages
        term = Term(self.facts.get("since"), ended, self.phase == "ended")
        busy = self._secretary.step(asking, self.book, moment, term)
        if ended and not busy and not self.facts.get("ended"):
            if not any("end" in page.when and page.name == pages.STANDUP for page in asking):
                self._write_up({})
            failpoint("office.ended")
            if roster.facts(self.home).get("budget_ended") != ended:
                return  # `org launch --budget` has begun another one while the page was written
            self.facts = roster.update(self.home, ended=files.utc_now())
            self.note("budget", "the page and the plot are written; panes stay until `org stop`")

    def _prose(self) -> prose.Reader:
        return prose.Reader(self.book, self.charter.metric.name, ideas.origins(self.home))

    def _orders(self, now: float) -> None:
        """What the person wrote on a standup goes to the seats when the page is saved."""
        carried, again_s = self._clerk.step(self.book)
        for one in carried:
            self.note("order", f"to {', '.join(one.order.to) or 'nobody'}: {one.order.text[:200]}")
        if again_s is not None:
            self._rounds.ask("orders", self._tick + again_s)

    def _post(self, now: float) -> None:
        """What letters cost their readers is counted, and what was read days ago goes out of the way."""
        tokens.tally(self.home)
        if self._tick - self._archived_at > ARCHIVE_S:
            self._archived_at = self._tick
            boxes.archive(self.home, datetime.fromtimestamp(now, UTC))

    def _write_up(self, answers: dict[str, str]) -> None:
        """The morning page with these answers, and the plot."""
        path = standup.write(self.home, self.book, self.charter, self._moment, answers)
        self.note("standup", f"{path} with {len(answers)} answers")
        try:
            self._plot(self.home)
        except (OSError, subprocess.SubprocessError) as error:
            self.note("trouble", f"the plot was not drawn: {error}")

    def _show(self, now: float) -> None:
        """The borders and the status line of the grid, and the board in the office's own window: its terminal is tmux, and
        one that hangs takes some boards and then stops who writes another."""
        if self.server.is_silent:
            return
        if self._known[0] != len(self.book.rows):
            self._known = len(self.book.rows), of_ledger(self.book, self.charter)
        flags = [*self.raised, *self.flags.values()]
        facts = snapshot(self.home, self._work, self._rows, self.facts, self._known[1], flags, self.phase)
        if self.view.is_running:
            wanted = borders.decorate(facts, panes.SESSION)
            changed = {
                target: {k: v for k, v in options.items() if self._shown.get(target, {}).get(k, "") != v}
                for target, options in wanted.items()
            }
            changed = {target: options for target, options in changed.items() if options}
            if changed:
                self.server.set_options(changed)
                self._shown = wanted
        if self._screen is not None and self._render is not None and self._is_news(facts):
            self._screen.show(self._render(facts))

    def _is_news(self, facts: Mapping[str, Any]) -> bool:
        """Whether the board says anything new: the drawing costs twenty times the looking. Its clock goes on now and then."""
        ticks = CLOCK_S if self.phase in ("running", "draining") else 60.0
        said, at = self._drawn
        new = repr(facts)
        if new == said and self._tick - at < ticks and self._screen is not None and not self._screen.has_new_size():
            return False
        self._drawn = new, self._tick
        return True


# --- decisions, pure ---------------------------------------------------------------------------------------------


def usable(there: list[Any], leased: set[str], left: int | None) -> list[Any]:
    """The devices a pass may use: all, or so many free ones that a budget of runs is kept to the run."""
    if left is None or left >= len(there):
        return there
    free = [d for d in there if d.name not in leased][:left]
    kept = [d for d in there if d.name in leased or d in free]
    return kept or there[:1]


def _edited(home: Home, before: tuple[Any, ...], now: tuple[Any, ...]) -> list[str]:
    """The files that differ between two `files.signature`s, as the home names them; none where nobody looked before."""
    names = sorted({str(entry[0]) for entry in set(before) ^ set(now)})
    return [Path(name).relative_to(home.root).as_posix() for name in names[:MAX_EDITED]]


def _where(error: Exception) -> str:
    """File and line a bug came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
