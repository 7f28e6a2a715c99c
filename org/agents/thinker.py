"""The brain of a seat that asks a model over an API: letters and typed lines go to the model, its tool calls are run, and the
conversation never outgrows its context. Decides nothing about research.

One thing is under way at a time (an answer, a command, a verb of the org), and the terminal never waits for it. A turn ends
when the model answers without a call, when a person stops it, or after so many steps; nothing is asked between turns.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from queue import Empty, SimpleQueue
from typing import Any

from org import files
from org.agents import base, told, toolbox
from org.agents.brain import MAIL_EVERY_S, Brain
from org.agents.handover import Handover
from org.agents.hands import Hands
from org.agents.meter import Meter
from org.agents.models import Answer, Cut, Model, Question, Trouble
from org.agents.post import Post
from org.agents.prices import Tokens
from org.agents.repl import Repl
from org.agents.search import Trial
from org.agents.talk import Talk
from org.agents.tools import PAUSED
from org.agents.work import Job
from org.home import Home

STEPS = 100  # answers in one turn; ORG_API_STEPS says another number
WAIT_MOST_S = 120.0  # between two tries, unless the service names a time
RETRY_MOST_S = 3600.0
WORDS = ("help", "status", "pause", "resume", "quit")


class Thinker(Brain):
    """Callbacks for a Repl, like every brain's."""

    commands = {  # noqa: RUF012 - what `help` prints
        "help": "this list",
        "status": "what I am doing, what I used",
        "pause": "letters wait and no turn goes on; what you type is still answered",
        "resume": "go on",
        "quit": "leave this program; the organisation may start it again",
        "Esc": "stop what I am doing (so does Ctrl-C); then tell me what instead",
    }

    def __init__(
        self, home: Home, name: str, *, repl: Repl, model: Model, environ: Mapping[str, str], argv: list[str]
    ) -> None:
        super().__init__(home, name, say=repl.say, leave=repl.leave, environ=environ, argv=argv)
        self.repl, self.model, self.environ = repl, model, environ
        self.talk = Talk(home.seat_talks(name), self.seat.created)
        self.meter = Meter(home, name, self.talk, model)
        self.handover, self.hands = Handover(self), Hands(self)
        self.post = Post(self)
        self.job: Job | None = None
        self.call: dict[str, Any] | None = None  # the tool that is being run
        self.waiting: deque[dict[str, Any]] = deque()  # letters and typed lines that the model has yet to be told
        self.letters: list[str] = []  # told, and not answered yet
        self.is_turn = False
        self.is_opening = False  # the first message of a conversation is being written
        self.is_halted = False  # a person stopped the turn while a verb of the org was running
        self.is_asked = False  # this turn is an answer to the person, who gets it in a pause too
        self.steps = 0
        self.retry_at = 0.0  # the service is asked again then
        self.said = "ready"
        self._counted: SimpleQueue[Tokens] = SimpleQueue()
        repl.on_stop = self.interrupt

    def start(self) -> None:
        if self.events.was_paused():
            self.type_pause("")
        self.say(f"I am {self.name}, {self.seat.role} on program {self.seat.program}, with {self.model.name}.", "bold")
        self.say("Type to me at any time; Esc stops me, help lists a few words.", "dim")
        if self.talk.is_new or not self.talk.rows:
            self.is_turn = True
            self.handover.open_talk(base.first_prompt(self.seat, False).partition(" Run ")[0])
        else:
            was_open = self.talk.owes
            cut = self.talk.settle()
            self.letters = [letter for row in self.talk.unanswered for letter in row.get("letters") or ()]
            if was_open:
                self.talk.add("user", told.AGAIN, who="org")
                self.is_turn = True
            left = f", {cut} of my calls was cut off" if cut else ""
            self.say(f"I remember our conversation ({self.talk.answers} answers{left}).", "dim")
        if not self.is_paused:
            self.events.become("ready", f"{self.seat.role} {self.name} is ready")

    def stop(self) -> None:
        if self.job is not None:
            self.job.cut()
            self.job.wait(1.0)
        self._count()
        super().stop()

    # --- the loop

    def poll(self) -> float:
        self.hear()
        now = self.clock()
        self._count()
        if self.job is not None:
            self._follow(self.job)
        if self.leave_by is not None:
            if self.job is not None:
                self.job.cut()
            if (self.job is None and not self.calls.is_busy) or now > self.leave_by:
                self.leave()
        elif self.job is None and self.call is None and not self.is_opening:
            self.step()
        self.repl.show(self._status_line())
        if self.job is not None or self.call is not None:
            return 0.04
        return 0.1 if self.calls.is_busy or self.retry_at > now else MAIL_EVERY_S

    def step(self) -> None:
        """The next thing: a tool that was called, the handover, what was said to me, or the next answer."""
        if self.clock() < self.retry_at:
            return
        news = [row for row in self.waiting if not self.is_paused or row["who"] == "person"]
        if self.is_paused and not news and not self.is_asked:
            return
        if pending := self.talk.pending:
            self.hands.run(pending[0])
        elif (self.is_turn or news) and self.handover.is_due:
            self.handover.ask()
        elif news:
            self.post.tell(news)
        elif self.is_turn:
            self._ask()

    def _ask(self) -> None:
        if self.steps >= self.step_limit:
            self.end_turn("idle", f"stopped after {self.steps} steps in one turn")
            self.say(f"I stop here: {self.steps} steps in one turn. Say `go on`, or what else to do.", "ask")
            return
        self.steps += 1
        self.events.become("working", "")
        self.said = "thinking"
        rows = list(self.talk.rows)
        self.job = Job("answer", lambda job: self.model.ask(self.question(rows, job)))

    def question(self, rows: list[dict[str, Any]], job: Job, may_call: bool = True) -> Question:
        return Question(
            told.system(self.home, self.seat, self.environ.get("ORG_ROLE")),
            rows,
            toolbox.TOOLS,
            say=job.say,
            is_cut=job.is_cut,
            counted=self._counted.put,
            may_call=may_call,
        )

    @property
    def step_limit(self) -> int:
        given = self.environ.get("ORG_API_STEPS", "")
        return int(given) if given.isdigit() and int(given) else STEPS

    # --- what comes back

    def _follow(self, job: Job) -> None:
        """Show what is new of the job, and take its result when it is over."""
        is_over = job.is_over
        if (text := job.news()) and job.kind != "tool":
            self.repl.stream(text)
        if not is_over:
            return
        self.job = None
        if isinstance(job.error, Trouble):
            self._on_trouble(job.error, job.kind)
        elif job.error is not None and not isinstance(job.error, Cut):
            raise job.error
        elif job.kind == "answer":
            self._on_answer(job.value)
        elif job.kind == "note":
            self.handover.on_note(job.value.text)
        elif self.call is not None:
            self.hands.on_result(self.call, job.value)

    def _on_answer(self, answer: Answer) -> None:
        if job_text := answer.text.rstrip():
            self.repl.stream("" if job_text.endswith("\n") else "\n")
        raw = {"api": self.model.api, "model": self.model.name, "items": answer.raw} if answer.raw else None
        self.talk.add("assistant", answer.text, calls=answer.calls, raw=raw)
        self._count()
        self.meter.answered(answer.tokens)
        self.failures = 0
        if self.letters:
            self.events.note("processed", letters=self.letters)
            self.letters = []
        if answer.stop == "too_long":
            self.handover.press()
        elif answer.stop == "length" and not answer.calls:
            self.talk.add("user", "Your answer was cut at its greatest length. Go on from there.", who="org")
        elif answer.stop == "refusal" and not answer.calls:
            self.end_turn("idle", "the model refused to answer")
            self.say("The model refused to answer that.", "bad")
        elif not answer.calls:
            self.end_turn("idle", files.printable(answer.text.strip().split("\n")[0], 200))

    def _on_trouble(self, trouble: Trouble, kind: str) -> None:
        if trouble.kind == "too_long" and self.handover.on_too_long(is_note=kind == "note"):
            self.say(f"That is too long for the model ({trouble}); I show it less.", "dim")
        elif trouble.kind in ("busy", "network"):
            grown = min(2.0**self.failures, WAIT_MOST_S) * random.uniform(0.8, 1.2)
            wait = grown if trouble.retry_after_s is None else min(trouble.retry_after_s, RETRY_MOST_S)
            self.failures += 1
            self.steps -= kind == "answer"
            self.retry_at = self.clock() + wait
            self.events.become("limited", f"{trouble}; asked again in {wait:.0f} s (try {self.failures})")
            self.say(f"{str(trouble).rstrip('.')}. I ask again in {wait:.0f} s.", "ask")
        else:
            self.end_turn("asking", str(trouble))
            more = "; check the key in this program's environment" if trouble.kind == "denied" else ""
            self.say(f"The model does not answer: {trouble}{more}. Type anything to try again.", "bad")

    def end_turn(self, state: str, text: str) -> None:
        self.is_turn, self.is_asked, self.said = False, False, "ready" if state == "idle" else state
        if self.is_paused:
            self.events.become(*PAUSED)
        else:
            self.events.become(state, text)

    # --- people

    def on_line(self, line: str) -> None:
        """A few words are commands; the rest is for the model."""
        word = line.strip().lstrip("/").lower()
        if word in WORDS:
            getattr(self, f"type_{word}")("")
        elif line.strip():
            self.waiting.append({"text": line.strip(), "who": "person", "letters": []})
            self.retry_at = 0.0  # a person does not wait for my caution

    def interrupt(self) -> bool:
        """Stop the turn. What was said so far stays said; what was called is marked, never done again."""
        if self.is_opening or not (self.is_turn or self.job is not None or self.call is not None):
            return False
        if self.call is not None and self.job is None:  # half a filing is worse than a late one: it ends first
            self.is_halted = True
            self.say("I stop when the org command is done.", "ask")
            return True
        if self.job is not None:
            self.job.cut()
            text = self.job.text + self.job.news()
            if self.job.kind == "answer" and text.strip():
                self.talk.add("assistant", text.rstrip() + "\n[interrupted by the person at the pane]")
        self.job = self.call = None
        self.talk.settle(self.why_stopped)
        self.retry_at = 0.0
        self.end_turn("idle", "stopped by the person at the pane")
        self.say("Stopped. What instead?", "ask")
        return True

    def why_stopped(self, call: str) -> str:
        """What the model is told of a call that a person's stop left without a result."""
        return told.BY_PERSON if call in self.talk.begun else told.NOT_RUN

    def type_pause(self, rest: str) -> None:
        self.is_asked = False
        super().type_pause(rest)

    def type_resume(self, rest: str) -> None:
        super().type_resume(rest)
        if not self.is_turn:
            self.events.become("idle", "resumed")

    def type_help(self, rest: str) -> None:
        width = max(map(len, self.commands))
        for command, what in self.commands.items():
            self.say(f"{command:<{width}}  {what}", "plain")
        self.say("Anything else you type goes to the model.", "dim")

    def status(self) -> list[str]:
        doing = "at work" if self.is_turn else "waiting for a letter, a verdict or you"
        paused = "Paused. " if self.is_paused else ""
        return [f"{paused}{self.name} on program {self.seat.program}: {doing}.", self.meter.line()]

    def _status_line(self) -> str:
        left = self.retry_at - self.clock()
        said = f"asks again in {left:.0f} s" if left > 0 else "paused" if self.is_paused else self.said
        return f"{said} · {self.meter.line()}"

    # --- what a brain of knobs does and this one does not

    def _look_for_mail(self) -> None:
        self.post.look()

    def on_letter(self, letter: dict[str, Any]) -> None:
        """Letters go to the model, see `post`."""

    def on_results(self, before: dict[str, Trial]) -> None:
        """Verdicts come as letters."""

    def report(self) -> str:
        return "\n".join(self.status())

    def _count(self) -> None:
        while True:
            try:
                self.meter.count(self._counted.get_nowait())
            except Empty:
                return
