"""One thing at a time that must not hold up the terminal: an answer of a model, a command. It runs in a thread and is
asked for news; taken back, it is forgotten at once and ends by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any


class Job:
    """`do(job)` in a thread. It puts texts into `said` as they come and looks at `is_cut`."""

    def __init__(self, kind: str, do: Callable[[Job], Any]) -> None:
        self.kind = kind
        self.text = ""  # all that was said, as far as `news` was asked
        self.value: Any = None
        self.error: BaseException | None = None
        self._said: SimpleQueue[str] = SimpleQueue()
        self._cut, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(do,), name=kind, daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        self._said.put(text)

    def is_cut(self) -> bool:
        return self._cut.is_set()

    def cut(self) -> None:
        self._cut.set()

    def wait(self, seconds: float) -> None:
        """Give it so long to end: the one wait here, for a program that leaves."""
        self._thread.join(seconds)

    @property
    def is_over(self) -> bool:
        """Whether it has ended; what it said until then is there to be fetched."""
        return self._over.is_set()

    def news(self) -> str:
        """What was said since the last question."""
        found = []
        while True:
            try:
                found.append(self._said.get_nowait())
            except Empty:
                break
        text = "".join(found)
        self.text += text
        return text

    def _run(self, do: Callable[[Job], Any]) -> None:
        try:
            self.value = do(self)
        except BaseException as error:  # noqa: BLE001 - handed to the loop, where it is dealt with or rises
            self.error = error
        self._over.set()
