"""A councillor without a network: answers what it is asked from the record, and does nothing by itself. The edge only; what
it says is in `opinion`."""

from __future__ import annotations

from typing import Any

from org.agents.brain import Brain, heard
from org.agents.search import Trial


class Councillor(Brain):
    """Reads the results when they change, so that an answer costs no waiting."""

    commands = {  # noqa: RUF012 - what `help` prints
        "help": "this list",
        "status": "what I was asked",
        "pause": "nothing of mine runs; questions are answered all the same",
        "resume": "go on",
        "idea TEXT": "write an idea down for the organisation",
        "quit": "leave this program; the organisation may start it again",
    }
    waits_for = "questions"

    def start(self) -> None:
        super().start()
        self.say(f"I am {self.name}, a {self.seat.role} without a network. I answer from the record.", "bold")
        self.say("Type help for what I understand.", "dim")

    def step(self) -> None:
        if self.rests():
            return
        if not self.has_results or self.has_news(10.0):
            self.refresh()
        else:
            self.intend(f"wait for {self.waits_for}")
            self.events.become("waiting", f"for {self.waits_for}")

    def on_letter(self, letter: dict[str, Any]) -> None:
        self.say(heard(letter), "ask" if letter.get("from") == "human" else "dim")

    def on_results(self, before: dict[str, Trial]) -> None:
        """Nothing follows from results by themselves."""

    def status(self) -> list[str]:
        judged = sum(not t.is_open for t in self.trials)
        return [f"{self.name} has read {judged} verdicts and answered {self.answered} questions."]

    def report(self) -> str:
        judged = sum(not t.is_open for t in self.trials)
        return (
            f"Did: read {judged} verdicts, answered {self.answered} questions.\n"
            f"Learned: nothing that the record does not show.\nNext: wait for {self.waits_for}."
        )
