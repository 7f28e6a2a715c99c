"""A person's half-typed line is put aside before the office types, by the program's own key for it, and comes back by itself.

The key is a toggle: pressed once too often it brings the draft back, and pressed on a second draft it loses the first. So it
is looked at, on the screen and at the cursor, whether there is anything to press it for and whether it was taken.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from org.agents.base import Stash
from org.team.drafts import FORGET_S
from org.team.states import LINE_CUT
from org.world.tmux import Server
from org.world.tmuxwords import PaneInfo

TAKEN_S = 0.3  # a program at its prompt has taken the key after this; text that comes with it was glued to 1 draft in 4
STALLED_S = 3.0  # without a sign for so long: what is typed now comes behind the key all the same
LINES = 12  # from the bottom, in which the program says that a draft is put aside

Cursor = Callable[[str], tuple[int, int]]


class Aside:
    """The drafts of all seats, in the one office. Nothing is kept in a file: what is put aside says so on the screen."""

    def __init__(self, server: Server, cursor: Cursor, clock: Callable[[], float] = time.monotonic) -> None:
        self._server, self._cursor, self._clock = server, cursor, clock
        self._pressed: dict[str, float] = {}  # seat -> when, monotonic seconds
        self._blocked: dict[str, float] = {}
        self._had: dict[str, bool] = {}

    def restores(self, seat: str) -> bool:
        """Whether a draft may come back into the box once a line is taken."""
        return self._had.get(seat, True)

    def put(self, seat: str, pane: PaneInfo, stash: Stash) -> float | None:
        """Press the key where that is needed; None when a line may be typed, else after how many seconds to come again.
        Raises PaneBusy. The caller holds the pane's lock."""
        now = self._clock()
        is_marked = self._is_marked(pane.id, stash)
        is_empty = self._cursor(pane.id)[0] == stash.column
        at = self._pressed.get(seat)
        if at is not None and now - at > 2 * STALLED_S:  # somebody was in the way, and may have left another draft
            at = None
        if is_marked and not is_empty:  # two drafts, and the program keeps one
            if now - self._blocked.setdefault(seat, now) < FORGET_S:
                return 1.0
        elif at is None and not is_marked:
            self._server.press(pane.id, *stash.keys, pid=pane.pid)
            self._pressed[seat] = now
            return 0.1
        elif at is not None and not is_marked and now - at < (TAKEN_S if is_empty else STALLED_S):
            return 0.05
        self._blocked.pop(seat, None)
        self._pressed.setdefault(seat, now)
        self._had[seat] = is_marked or not is_empty
        return None

    def taken(self, seat: str) -> None:
        """The line is on its way, and the draft comes back with it."""
        self._pressed.pop(seat, None)

    def is_open(self, seat: str) -> bool:
        """Whether the key was pressed for a line that has not gone in."""
        return seat in self._pressed

    def give_back(self, seat: str, pane: PaneInfo, stash: Stash) -> None:
        """No line is needed any more: what was put aside is brought back, where nobody has begun another one."""
        if self._pressed.pop(seat, None) is None or not self._is_marked(pane.id, stash):
            return
        if self._cursor(pane.id)[0] == stash.column:
            self._server.press(pane.id, *stash.keys, pid=pane.pid)

    def _is_marked(self, pane_id: str, stash: Stash) -> bool:
        lines = [line for line in self._server.capture(pane_id).split("\n") if line.strip()]
        return any(re.search(stash.mark, line[:LINE_CUT]) for line in lines[-LINES:])
