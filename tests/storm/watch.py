"""Looks at the organisation all the time: two programs or two offices at once, a ledger that lost a line, its clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from org import files
from storm.place import Place

LOOK_S = 0.4
DOUBLE_S = 8.0  # a program that is asked to end is given 3 s, on a machine that is busy


class Watch(threading.Thread):
    """`problems` are violations seen so far, each once."""

    def __init__(self, place: Place) -> None:
        super().__init__(daemon=True)
        self.place = place
        self.problems: list[str] = []
        self.looks = 0
        self.budget: dict[str, object] | None = None
        self._ending = threading.Event()
        self._since: dict[str, tuple[float, frozenset[int]]] = {}
        self._ledger = b""

    def run(self) -> None:
        while not self._ending.wait(LOOK_S):
            self.look(time.monotonic())

    def end(self) -> None:
        self._ending.set()
        self.join()
        self.look_at_files()

    def look(self, now: float) -> None:
        self.looks += 1
        for seat, pids in self.place.agents().items():
            self.double(f"{seat} has two programs", pids, now)
        self.double("there are two offices", self.place.offices(), now)
        self.look_at_files()

    def double(self, what: str, pids: Sequence[int], now: float) -> None:
        """Two at once may be seen while one ends and the other begins, not longer; one that we stopped cannot end."""
        alive = frozenset(pids)
        if len(alive) < 2 or alive & self.place.frozen:
            self._since.pop(what, None)
            return
        since, before = self._since.get(what, (now, alive))
        if len(before & alive) < 2:  # another pair
            since = now
        self._since[what] = since, alive
        if now - since > DOUBLE_S:
            self.say(f"{what} at once for {DOUBLE_S:g} s: {sorted(alive)}")
            self._since[what] = float("inf"), alive

    def look_at_files(self) -> None:
        try:
            raw = self.place.home.ledger.read_bytes()
        except FileNotFoundError:
            raw = b""
        whole = raw[: raw.rfind(b"\n") + 1]
        if not whole.startswith(self._ledger):
            self.say(f"the ledger lost or changed lines: it had {self._ledger.count(10)} and has {whole.count(10)}")
        self._ledger = whole
        facts = files.read_json(self.place.home.org_file)
        budget = facts.get("budget") if isinstance(facts, dict) else None
        if isinstance(budget, dict) and budget.get("from"):
            self.budget = self.budget or budget
            if budget != self.budget:
                self.say(f"the clock was changed: it was {self.budget} and is {budget}")

    def say(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)
