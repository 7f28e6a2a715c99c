"""The office: the organisation's one background process, a loop of named steps. Transports, nudges, restarts and flags;
never decides what to research.

    dispatch -> letters -> seats -> doorbells -> processes -> borders -> board

Every step looks at facts and acts once; a step that fails is written to comms/events.jsonl and flagged, and the loop
goes on. Killed between any two lines, the next office takes over: nothing is kept here but caches.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from org import charter as charters
from org import files
from org.agents import base
from org.errors import Busy, OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import dispatch
from org.lab.ledger import Book
from org.records import Charter, Seat
from org.team import borders, doorbell, letters, panes, processes, roster, seats, standup, states
from org.team.clock import STARTS_RUNS, Phase, phase
from org.team.snapshot import of_ledger, snapshot
from org.team.states import Look
from org.world import process
from org.world.tmuxwords import PaneInfo
from org.world.watch import Watcher

TICK_S = 1.0  # at the latest; events of the home wake it before
PAUSE_S = 0.2  # at the earliest: a training log that grows must not keep the office busy
PLOT_LIMIT_S = 180.0

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
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(row).encode(), 0)
        with Watcher(home.comms) as watcher:
            office = Office(home, render, plot or draw_plot)
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
            began = time.monotonic()
            office.pass_once(time.time())
            watcher.wait(TICK_S)
            left = PAUSE_S - (time.monotonic() - began)
            if left > 0 and not ending:
                time.sleep(left)
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
        self.server = panes.server_of(home)
        self.charter: Charter = charters.load(home)
        self.book: Book = self.dispatcher.ledger.refresh()
        self.view = Look()
        self.facts: dict[str, Any] = roster.facts(home)
        self.phase: Phase = "open"
        self.flags: dict[str, str] = {}  # what needs a person, by its cause
        self._trouble: dict[str, tuple[str, int]] = {}
        self._shown: dict[str, dict[str, str | None]] = {}
        self._looked_at = 0.0
        self._rows: list[dict[str, Any]] = []  # the seats' states in this pass
        self._known: tuple[int, dict[str, Any]] = (-1, {})  # what the ledger says, by its length
        self._queued: list[subprocess.Popen[bytes]] = []
        self._screen = _Screen() if render else None

    def pass_once(self, now: float) -> None:
        """Every step, each by itself. now: Unix seconds."""
        self._step("dispatch", lambda: self._dispatch(now))
        self._step("letters", self._letters)
        if now - self._looked_at < TICK_S * 0.8:
            return  # woken by an event: what asks tmux runs once a second
        self._looked_at = now
        self._step("folder", self._folder)
        self._step("look", lambda: self._look(now))
        self._step("seats", lambda: self._seats(now))
        self._step("doorbells", lambda: self._doorbells(now))
        self._step("processes", lambda: self._processes(now))
        self._step("show", self._show)

    def close(self) -> None:
        if self._dispatch_lock is not None:
            os.close(self._dispatch_lock)
            self._dispatch_lock = None
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
        files.append_line(self.home.events, json.dumps(row | ({"where": where} if where else {}), ensure_ascii=False))
        if self._screen is None:
            print(f"{row['t']} {event}: {row['text']}", flush=True)

    # --- steps

    def _dispatch(self, now: float) -> None:
        """Start runs within the budget, take over what ended, judge. A foreground `org run` may be doing it just now."""
        if self._dispatch_lock is None:
            self._dispatch_lock = files.try_lock(self.home.dispatch_lock)
            if self._dispatch_lock is None:
                return
        self.facts = roster.facts(self.home)
        self.charter = charters.load(self.home)
        running = self.dispatcher.running()
        left = runs_left(self.facts, self.dispatcher.ledger.refresh(), running)
        self.phase = phase(self.facts, left, len(running), now)
        self.dispatcher.devices = usable(
            self._devices, {d.name for d in self._devices if self._is_leased(d.name)}, left
        )
        for sentence in self.dispatcher.tick(allow_new=self.phase in STARTS_RUNS):
            self.note("lab", sentence)
        self.book = self.dispatcher.ledger.refresh()

    def _is_leased(self, device: str) -> bool:
        return files.is_locked(self.home.lease(device))

    def _letters(self) -> None:
        """Every verdict reaches the seat that filed it and the chief, once."""
        self.book = self.dispatcher.ledger.refresh()
        for problem in letters.deliver(self.home, self.book, self.charter):
            self.note("trouble", problem)

    def _folder(self) -> None:
        """An edit to the org folder or the charter is a fact of the record: every later ledger line carries its hash."""
        name = self.facts.get("org")
        if not name or not self.home.org_folder(name).is_dir():
            return
        hashes = {"org_hash": roster.org_hash(self.home, name), "charter_hash": charters.charter_hash(self.home)}
        if any(self.facts.get(key) != value for key, value in hashes.items()):
            self.facts = roster.update(self.home, **hashes)
            data = {"event": "changed", "folder": name, "charter": hashes["charter_hash"]}
            self.dispatcher.ledger.append("org", f"changed:{hashes['org_hash']}:{files.utc_now()}", data)
            self.note("folder", f"{name} or the charter was edited; a seat reads it at its next brief")

    def _look(self, now: float) -> None:
        """One look at tmux and the seats' own events, which the steps after it share."""
        self.view = states.look(self.home, now)
        self._rows = states.states(self.home, self.book, self.view, now)

    def _seats(self, now: float) -> None:
        """A seat whose program ended gets it back, ever later, until somebody has to look."""
        wanted = {row["name"] for row in self.facts.get("roster") or ()}
        for seat in seats.all_seats(self.home):
            if seat.name not in wanted:
                continue
            pane, cause = self.view.panes.get(seat.name), f"seat {seat.name}"
            row = panes.note(self.home, seat.name)
            if pane is None or not pane.dead or row.get("stopped"):
                if pane is not None and not row.get("stopped"):
                    self.flags.pop(cause, None)
                elif self.view.is_running and not row.get("stopped"):
                    self.flags[cause] = f"{seat.name} has no pane; `org launch` brings it back"
                continue
            delay = panes.restart_in(row, panes.utc(now))
            if delay is None:
                text = (
                    f"{seat.name} ended {panes.RESTARTS_MAX} times in 10 minutes; look at its pane, then `org launch`"
                )
                if self.flags.get(cause) != text:
                    self.note("needs-you", text)
                self.flags[cause] = text
            elif delay == 0:
                self.note("seat", f"{seat.name} ended with status {pane.dead_status}; started again")
                panes.respawn(self.home, self.server, seat, pane.id, is_restart=True)

    def _doorbells(self, now: float) -> None:
        """Ring where letters wait, the program does not see its mailbox itself, and no person is at work."""
        self._queued = [child for child in self._queued if child.poll() is None]
        for row in self._rows:
            name, pane = row["name"], self.view.panes.get(row["name"])
            if not row["mail_waiting"] or pane is None or backend_of(row["backend"]).doorbell != "typed":
                continue
            waiting = letters.waiting_ids(self.home, name)
            rung = doorbell.load(self.home, name)
            is_human, has_prefix = pane.id in self.view.human, pane.id in self.view.prefix
            text = doorbell.due(row["state"], waiting, rung, now, pane=pane, is_human=is_human, has_prefix=has_prefix)
            if text and self._ring(name, pane, text):
                doorbell.save(self.home, name, doorbell.after(rung, waiting, now))

    def _ring(self, name: str, pane: PaneInfo, text: str) -> bool:
        """By the program's own queue where it has one, else typed; False when a person was faster."""
        seat = seats.require(self.home, name)
        backend = backend_of(seat.backend)
        queued = backend.queue(self.home, seat, text) if backend.queue else None
        if queued is None:
            return doorbell.ring(self.home, name, self.server, pane.id, text, backend.stash_keys)
        env = {**self.server.env, **panes.common_env(self.home), **queued.env}
        self._queued.append(
            subprocess.Popen(
                queued.argv,
                env=env,
                cwd=seat.worktree,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return True

    def _processes(self, now: float) -> None:
        """What the org folder asks of its seats and when; the last of it ends the budget."""
        moment = panes.utc(now).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self.phase == "closing" and not self.facts.get("budget_ended"):
            self.facts = roster.update(self.home, budget_ended=moment)
            self.note("budget", "the budget has ended; what ran is judged")
        launched, ended = self.facts.get("since"), self.facts.get("budget_ended")
        pages = processes.load(self.home.org_folder(self.facts.get("org") or roster.DEFAULT_ORG))
        if self.phase == "ended":
            pages = [page for page in pages if page.when != ("end",)]
        busy = False
        for page in pages:
            if launched and processes.due(
                page, moment, _later(processes.last_run(self.home, page.name), launched), ended
            ):
                asked = processes.ask(self.home, page, moment)
                self.note("process", f"{page.name}: asked {', '.join(asked.seats) or 'nobody'}")
            for asked in processes.open_asks(self.home, page.name):
                processes.deliver(self.home, asked)
                answers = processes.collect(self.home, page, asked.asked_at)
                if not processes.is_over(asked, answers, moment):
                    busy = True
                    continue
                self._write_up(moment, answers)
                processes.close(self.home, asked, moment)
        if ended and not busy and not self.facts.get("ended"):
            if not any("end" in page.when for page in pages):
                self._write_up(moment, {})
            failpoint("office.ended")
            if roster.facts(self.home).get("budget_ended") != ended:
                return  # `org launch --budget` has begun another one while the page was written
            self.facts = roster.update(self.home, ended=files.utc_now())
            self.note("budget", "the page and the plot are written; panes stay until `org stop`")

    def _write_up(self, moment: str, answers: dict[str, str]) -> None:
        path = standup.write(self.home, self.book, self.charter, moment, answers)
        self.note("standup", f"{path} with {len(answers)} answers")
        try:
            self._plot(self.home)
        except (OSError, subprocess.SubprocessError) as error:
            self.note("trouble", f"the plot was not drawn: {error}")

    def _show(self) -> None:
        """The borders and the status line of the grid, and the board in the office's own window."""
        if self._known[0] != len(self.book.rows):
            self._known = len(self.book.rows), of_ledger(self.book, self.charter)
        flags = list(self.flags.values())
        facts = snapshot(self.home, self.book, self._devices, self._rows, self.facts, self._known[1], flags, self.phase)
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
        if self._screen is not None and self._render is not None:
            self._screen.show(self._render(facts))


# --- decisions, pure ---------------------------------------------------------------------------------------------


def runs_left(facts: Mapping[str, Any], book: Book, running: list[str]) -> int | None:
    """Runs that may still be launched; None without a budget of runs. A run counts from the moment it is started."""
    limit = (facts.get("budget") or {}).get("runs")
    if limit is None:
        return None
    since = str((facts.get("budget") or {}).get("since") or facts.get("since") or "")
    launched = {run for run, row in book.launches.items() if str(row.get("t", "")) >= since}
    return max(0, int(limit) - len(launched | set(running)))


def usable(there: list[Any], leased: set[str], left: int | None) -> list[Any]:
    """The devices a pass may use: all, or so many free ones that a budget of runs is kept to the run."""
    if left is None or left >= len(there):
        return there
    free = [d for d in there if d.name not in leased][:left]
    kept = [d for d in there if d.name in leased or d in free]
    return kept or there[:1]


def backend_of(spec: str) -> base.Backend:
    """The backend, or one that is never rung: a person's seat, or a program that is gone from this machine."""
    try:
        return base.backend(spec)
    except OrgError:
        return base.Backend("none", doorbell="self", readiness="alive", plan=_not_started)


def _not_started(home: Home, seat: Seat, page: object) -> base.Start:
    raise OrgError(f"{seat.name}: '{seat.backend:.40}' is no program this version knows")


def _later(a: str | None, b: str) -> str:
    return a if a and a > b else b


def _where(error: Exception) -> str:
    """File and line a bug came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""


def draw_plot(home: Home) -> None:
    """`org plot` in a process of its own: the drawing library is large and the office lives long."""
    argv = [sys.executable, "-m", "org", "--home", str(home.root), "plot"]
    env = {name: value for name, value in os.environ.items() if name != "ORG_SEAT"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=PLOT_LIMIT_S, check=False)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or ["no output"])[-1])


class _Screen:
    """The office's window: each board drawn over the one before, without a flicker."""

    def __init__(self) -> None:
        self._last = ""
        sys.stdout.write("\x1b[?25l\x1b[2J")

    def show(self, renderable: Any) -> None:
        from rich.console import Console

        size = os.get_terminal_size() if sys.stdout.isatty() else os.terminal_size((100, 40))
        console = Console(
            width=size.columns, height=size.lines, force_terminal=True, color_system="256", file=io.StringIO()
        )
        with console.capture() as captured:
            console.print(renderable, end="")
        text = captured.get()
        if text == self._last:
            return
        self._last = text
        lines = text.split("\n")[: size.lines]
        sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        sys.stdout.flush()

    def close(self) -> None:
        sys.stdout.write("\x1b[?25h\n")
        sys.stdout.flush()
