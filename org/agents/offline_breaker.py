"""A breaker without a network: says what speaks against each tentative win, from its numbers, and files the attacks that
`org refute` names, one at a time. The edge only; what it says is in `opinion`."""

from __future__ import annotations

import zlib
from typing import Any

from org.agents import opinion
from org.agents.offline_councillor import Councillor
from org.agents.search import Trial
from org.agents.tools import Reply, seats


class Breaker(Councillor):
    """Keeps the tentative wins that stand in `doubts`, the newest last. Several breakers share them by name."""

    commands = {**Councillor.commands, "status": "which wins I doubt, and why"}  # noqa: RUF012 - what `help` prints
    waits_for = "tentative wins"

    def start(self) -> None:
        super().start()
        self.doubts: dict[str, str] = {}  # experiment -> the strongest other explanation
        self.attack = ""  # the experiment of mine that is under way
        self.done: set[str] = set()  # claims that have no attack left

    def step(self) -> None:
        claim = next((name for name in self.doubts if name not in self.done and self._is_mine(name)), None)
        is_free = self.has_results and not self.is_paused and not self.attack and self.clock() >= self.not_before
        if claim is None or not is_free or self.has_news(10.0):
            super().step()
            return
        self.intend(f"attack {claim}")
        self.events.become("working", f"attacks {claim}")

        def filed(reply: Reply) -> None:
            rows = reply.value.get("attacks") if isinstance(reply.value, dict) else None
            if reply.is_ok and rows:
                self.attack = str(rows[-1].get("experiment") or "")
                self.failures = 0
                self.say(f"{self.attack} attacks {claim} by {rows[-1].get('attack')}.", "ask")
            elif reply.code == 2:  # nothing is left, it fell, or somebody else is at it: no news until a verdict is
                self.done.add(claim)
                self.say(f"I leave {claim}: {reply.error}", "dim")
            else:
                self.complain(f"I cannot attack {claim}", reply)

        self.calls.add("refute", claim, "--no-wait", "--json", done=filed)

    def _is_mine(self, name: str) -> bool:
        """Each claim is one breaker's, the same in every life."""
        peers = [seat.name for seat in seats(self.home) if seat.role == self.seat.role]
        return self.name not in peers or peers[zlib.crc32(name.encode()) % len(peers)] == self.name

    def on_letter(self, letter: dict[str, Any]) -> None:
        if letter.get("kind") == "verdict":
            self._results_at = -100.0  # the next turn reads them
            self.done.clear()  # what was under another's attack may have one left
            if letter.get("about") == self.attack:
                self.attack = ""
        super().on_letter(letter)

    def on_results(self, before: dict[str, Trial]) -> None:
        standing = {t.experiment for t in self.trials if t.is_keep and not t.is_stack}
        self.doubts = {name: why for name, why in self.doubts.items() if name in standing}
        for trial in self.trials:
            if trial.experiment in standing and trial.experiment not in self.doubts:
                self.doubts[trial.experiment] = opinion.doubt(trial, "", self.charter.metric)
                self.say(self.doubts[trial.experiment], "ask")

    def status(self) -> list[str]:
        return [*self.doubts.values()] or ["No tentative win waits."]

    def report(self) -> str:
        newest = list(self.doubts.values())[-2:]
        return (
            f"Did: looked at {len(self.doubts)} tentative wins that stand{f'; {self.attack} runs' if self.attack else ''}.\n"
            f"Learned: {' '.join(newest) or 'nothing yet'}\nNext: wait for {self.waits_for}."
        )
