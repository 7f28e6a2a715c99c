"""What every own brain does alike: mail, typed commands, states, results. Decides nothing about research."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from org import charter as charter_
from org.agents import knobs as knobs_
from org.agents import opinion, search
from org.agents.repl import Repl
from org.agents.tools import PAUSED, RESUMED, Calls, Events, Mailbox, Reply, load_seat, seats
from org.errors import BadInput, OrgError
from org.home import Home, find_home
from org.records import Knob

MAIL_EVERY_S = 0.5
BACKOFF_S = 2.0  # the first wait after anything failed or was refused; doubles
BACKOFF_MAX_S = 60.0
PERSON = "human"
LEAVE_S = 5.0  # how long `quit` waits for letters that are still to be sent

Say = Callable[[str, str], None]


def sit(make: Callable[[Home, str, Repl, dict[str, str]], Brain]) -> int:
    """Be the program of a pane: $ORG_SEAT of $ORG_HOME, until told to leave. Returns the exit code, as everywhere."""
    environ = dict(os.environ)
    repl = Repl()
    try:
        brain = make(find_home(None, environ, Path.cwd()), environ.get("ORG_SEAT") or "human", repl, environ)
    except OrgError as error:
        print(f"org: {error}", file=sys.stderr)
        return error.exit_code
    stop = repl.on_stop

    def stopped() -> bool:
        brain.events.note("interrupted", by="person")
        return stop()

    def typed(line: str) -> None:
        brain.events.note("typed", line[:300], by="person")  # nothing but a person's keys comes here
        brain.on_line(line)

    repl.on_stop = stopped
    brain.start()
    try:
        repl.run(typed, brain.poll)
    finally:
        brain.stop()
    return 0


class Brain(ABC):
    """Callbacks for a Repl. `step` is called whenever no `org` command is under way."""

    commands = {  # noqa: RUF012 - what `help` prints; each brain has its own
        "help": "this list",
        "status": "what I am doing, and what came of it",
        "pause": "start nothing new; what runs goes on",
        "resume": "go on",
        "try NAME=VALUE": "run exactly this as the next experiment",
        "idea TEXT": "write an idea down for the organisation",
        "quit": "leave this program; the organisation may start it again",
    }

    def __init__(
        self,
        home: Home,
        name: str,
        *,
        say: Say,
        leave: Callable[[], None],
        environ: Mapping[str, str],
        argv: list[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.home, self.name, self.say, self.leave, self.clock = home, name, say, leave, clock
        self.seat = load_seat(home, name)
        self.charter = charter_.load(home)
        self.knobs: dict[str, Knob] = self.charter.knobs
        self.events = Events(Path(environ.get("ORG_EVENTS") or home.seat_events(name)))
        self.mailbox = Mailbox(home.mailbox(name))
        self.calls = Calls(argv, {**environ, "ORG_HOME": str(home.root), "ORG_SEAT": name}, clock)
        self.trials: list[search.Trial] = []
        self.has_results = False
        self.is_paused = False
        self.plan = ""
        self.not_before = 0.0  # nothing new of my own before this moment
        self.failures = 0
        self.answered = 0  # questions
        self.leave_by: float | None = None  # told to quit: what was begun is finished first
        self._mail_at = -100.0
        self._results_at = -100.0
        self._ledger_seen: tuple[int, int] | None = None

    # --- for the Repl

    def start(self) -> None:
        if self.events.was_paused():
            self.type_pause("")
        else:
            self.events.become("ready", f"{self.seat.role} {self.name} is ready")

    def poll(self) -> float:
        """One turn of everything; returns after how many seconds it wants the next."""
        self.hear()
        if self.leave_by is not None:
            if not self.calls.is_busy or self.clock() > self.leave_by:
                self.leave()
        elif not self.calls.is_busy:
            self.step()
        return 0.1 if self.calls.is_busy else MAIL_EVERY_S

    def hear(self) -> None:
        """What verbs answered, and new letters."""
        self.calls.poll()
        now = self.clock()
        if now - self._mail_at >= MAIL_EVERY_S:
            self._mail_at = now
            self._look_for_mail()

    def on_line(self, line: str) -> None:
        """One typed line: a command, or a remark that is passed on."""
        word, _, rest = line.strip().partition(" ")
        handler = getattr(self, f"type_{word.lower()}", None)
        if not word:
            return
        if handler is None:
            self.type_other(line.strip())
            return
        try:
            handler(rest.strip())
        except BadInput as error:
            self.say(str(error), "bad")

    def stop(self) -> None:
        self.calls.close()
        self.events.become("exit", "the program ended")

    # --- for each brain to fill in

    @abstractmethod
    def step(self) -> None:
        """One thing of my own; called when nothing is under way."""

    @abstractmethod
    def on_letter(self, letter: dict[str, Any]) -> None:
        """One letter that is no question, read and acknowledged."""

    @abstractmethod
    def on_results(self, before: dict[str, search.Trial]) -> None:
        """`self.trials` is new; `before` is what was known, by experiment."""

    @abstractmethod
    def report(self) -> str:
        """What I did, what I learned, what I do next: the answer to the standup."""

    @abstractmethod
    def status(self) -> list[str]:
        """What I am doing and what came of it, a few lines for the person at the pane."""

    def rests(self) -> bool:
        """Whether nothing of my own is to be done now: it is too early for it, or a person has paused me, which is shown."""
        if self.clock() < self.not_before:
            return True
        if self.is_paused:
            self.events.become(*PAUSED)
        return self.is_paused

    # --- typed commands

    def type_help(self, rest: str) -> None:
        width = max(map(len, self.commands))
        for command, what in self.commands.items():
            self.say(f"{command:<{width}}  {what}", "plain")
        self.say("Anything else you type is noted and passed on.", "dim")

    def type_status(self, rest: str) -> None:
        for line in self.status():
            self.say(line, "plain")

    def type_pause(self, rest: str) -> None:
        self.is_paused = True
        self.events.become(*PAUSED)
        self.say("Paused: I start nothing new. What runs goes on; resume when you like.", "ask")

    def type_resume(self, rest: str) -> None:
        self.is_paused = False
        self.not_before = 0.0
        self.events.become("working", RESUMED)
        self.say("Going on.", "plain")

    def type_quit(self, rest: str) -> None:
        self.leave_by = self.clock() + LEAVE_S
        self.say("Leaving; the organisation may start me again.", "dim")

    def type_idea(self, rest: str) -> None:
        if not rest:
            raise BadInput("write it as idea TEXT, for example idea a longer warmdown should settle the matrices")
        self.calls.add(
            "idea", "--json", "--source", PERSON, "--", rest, done=self.after("The idea is written down"), first=True
        )

    def type_other(self, line: str) -> None:
        self.events.note("note", line)
        to = self.chief()
        if to == self.name:
            self.say("Noted; I bring it up at the standup.", "dim")
            return
        text = f"The person at {self.name}'s pane says: {line}"
        self.calls.add(
            "send", to or "human", "--json", "--", text, done=self.after(f"Noted, and sent to {to or 'human'}")
        )

    # --- shared tools

    def chief(self) -> str | None:
        """The leading chief's name, or None when this organisation has none."""
        return next((seat.name for seat in seats(self.home) if seat.role.startswith("chief")), None)

    def together(self, programs: Iterable[str]) -> list[tuple[str, ...]]:
        """These programs, those that stand on one head side by side: their wins are stacked together."""
        groups: dict[str, list[str]] = {}
        for program in dict.fromkeys(programs):
            page = self.home.program(program)
            lines = page.read_text(errors="replace").splitlines() if page.is_file() else []
            head = next((line for line in lines if line.startswith("head:")), program)
            groups.setdefault(program if self.charter.heads == "apart" else head, []).append(program)
        return [tuple(group) for group in groups.values()]

    def intend(self, text: str) -> None:
        """Say the next step, once each time it changes."""
        if text != self.plan:
            self.plan = text
            self.events.note("plan", text)

    def back_off(self) -> float:
        """Wait before anything new of my own, longer each time in a row; returns the seconds."""
        wait: float = min(BACKOFF_S * 2.0**self.failures, BACKOFF_MAX_S)
        self.failures += 1
        self.not_before = self.clock() + wait
        return wait

    def has_news(self, every_s: float = 2.0) -> bool:
        """Whether the ledger grew since the results were last read, asked at most every so often."""
        return self.ledger() != self._ledger_seen and self.clock() - self._results_at >= every_s

    def refresh(self, then: Callable[[], None] | None = None) -> None:
        """Read the results again; `on_results` follows when the reply is there, and then `then`, which is called without
        them too."""
        seen = self.ledger()
        self._results_at = self.clock()

        def done(reply: Reply) -> None:
            if not reply.is_ok or not isinstance(reply.value, list):
                self.complain("I cannot read the results", reply)
                if then:
                    then()
                return
            before = {trial.experiment: trial for trial in self.trials}
            self.trials = search.history([row for row in reply.value if isinstance(row, dict)])
            self._ledger_seen, is_first = seen, not self.has_results
            self.has_results = True
            self.on_results({t.experiment: t for t in self.trials} if is_first else before)
            if then:
                then()

        self.calls.add("results", "--json", done=done)

    def answer(self, letter: dict[str, Any]) -> None:
        """Answer a question by letter: a question to me never waits for a person. From the results as they are now."""
        if self.ledger() != self._ledger_seen:
            self.refresh(then=lambda: self._answer(letter))
        else:
            self._answer(letter)

    def _answer(self, letter: dict[str, Any]) -> None:
        body = str(letter.get("body") or "")
        said = opinion.answer(body, self.name, self.trials, self.knobs, self.charter.metric)
        text = said or self.report()
        self.answered += 1
        sender = str(letter.get("from") or "human")
        about = ["--about", str(letter["about"])] if letter.get("about") else []
        args = ["send", sender, "--json", "--kind", "report", "--reply-to", str(letter.get("id") or ""), *about]
        self.calls.add(*args, "--", text, done=self.after(f"Answered {sender}"), first=True)
        self.say(f"{sender} asks: {_first_line(letter)}", "ask")

    def is_order(self, letter: dict[str, Any]) -> bool:
        """Whether a letter may tell me what to do: its signature held, and the chief or the person wrote it. Anybody can
        write `from: chief` into a file."""
        return letter.get("verified") is True and letter.get("from") in ("human", self.chief())

    def settings(self, letter: dict[str, Any]) -> list[tuple[Knob, knobs_.Value]]:
        """`name = value` orders in a letter; in one that is no order they are talk."""
        if not self.is_order(letter):
            return []
        return knobs_.settings_in(str(letter.get("body") or ""), self.knobs)

    def complain(self, what: str, reply: Reply) -> None:
        wait = self.back_off()
        self.say(f"{what}: {reply.error or f'exit code {reply.code}'}. I try again in {wait:.0f} s.", "bad")

    def after(self, sentence: str) -> Callable[[Reply], None]:
        def done(reply: Reply) -> None:
            if reply.is_ok:
                self.say(f"{sentence}.", "dim")
            else:
                self.say(f"That did not work: {reply.error or f'exit code {reply.code}'}", "bad")

        return done

    def _look_for_mail(self) -> None:
        unread = self.mailbox.unread()
        if not unread or (self.clock() < self.not_before and self.failures > 3):
            return
        self.mailbox.asked |= unread
        self.calls.add("inbox", "--json", done=self._on_inbox, first=True)

    def _on_inbox(self, reply: Reply) -> None:
        if not reply.is_ok or not isinstance(reply.value, list):
            self.mailbox.asked.clear()
            self.complain("I cannot read my mail", reply)
            return
        letters = [letter for letter in reply.value if isinstance(letter, dict)]
        for letter in letters:
            if letter.get("kind") == "question":
                self.answer(letter)
            else:
                self.on_letter(letter)
        if letters:
            self.events.note("processed", letters=[str(letter.get("id")) for letter in letters])

    def ledger(self) -> tuple[int, int] | None:
        try:
            stat = self.home.ledger.stat()
        except FileNotFoundError:
            return None
        return stat.st_size, stat.st_mtime_ns


def _first_line(letter: dict[str, Any]) -> str:
    lines = str(letter.get("body") or "").strip().splitlines()
    return lines[0][:200] if lines else "(nothing)"


def heard(letter: dict[str, Any]) -> str:
    """How a letter is shown: who, its first line, and whether its signature held."""
    unsigned = "" if letter.get("verified") is True else " (unverified)"
    return f"{letter.get('from')}{unsigned}: {_first_line(letter)}"
