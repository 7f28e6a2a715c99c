"""Half-typed lines that a person left in a pane: nothing may be typed behind them. Knows no tmux.

What a program has in its box is not to be seen from outside, but where its cursor stands is: while a person's line is not
submitted, the cursor is not back in the column where it was before they came.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from org import files
from org.home import Home

FORGET_S = 1800.0  # a line that stands so long is nobody's any more, or what stands there is none
SAME_MOMENT_S = 1.0  # tmux says the time of a key in whole seconds


@dataclass(frozen=True)
class Hand:
    """A person's hand on a pane: the cursor's column before they came (None: not seen), when their last key was (Unix
    seconds), and in how many looks in a row since then the column was the old one."""

    column: int | None
    last_key: float
    looks_at_home: int = 0


def after_look(
    hand: Hand | None, *, rest: int | None, column: int, last_key: float | None, submitted: float | None, now: float
) -> Hand | None:
    """The hand after one more look at the pane; None: no draft of theirs can be there. rest: the column at the last look
    before anybody came; last_key: of a person who is there now, else None; submitted: when the program last said that it
    took a line; now: Unix seconds."""
    if last_key is not None:
        return Hand(hand.column if hand is not None else rest, last_key)
    if hand is None or now - hand.last_key > FORGET_S:
        return None
    if submitted is not None and submitted > hand.last_key + SAME_MOMENT_S:
        return None
    if column != hand.column:
        return replace(hand, looks_at_home=0)
    return None if hand.looks_at_home else replace(hand, looks_at_home=1)


class Drafts:
    """Every seat's hand, in the one office; kept in a file while there is one, since an office may be killed meanwhile."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._hands: dict[str, Hand | None] = {}
        self._rest: dict[str, int] = {}

    def look(
        self, seat: str, *, column: int, last_key: float | None, submitted: float | None, is_ours: bool, now: float
    ) -> bool:
        """Whether a person's draft may stand in the seat's pane. is_ours: a line of the office stands there now."""
        old = self.hand(seat)
        new = after_look(old, rest=self._rest.get(seat), column=column, last_key=last_key, submitted=submitted, now=now)
        if new is None and not is_ours:
            self._rest[seat] = column
        if (new is None, new and new.column) != (old is None, old and old.column):
            self._keep(seat, new)
        self._hands[seat] = new
        return new is not None and last_key is None

    def has_moved(self, seat: str, column: int) -> bool:
        """Whether the cursor is elsewhere than at the last look before anybody came."""
        return self._rest.get(seat, column) != column

    def hand(self, seat: str) -> Hand | None:
        if seat not in self._hands:
            row = files.read_json(self._home.draft(seat))
            try:
                self._hands[seat] = None if row is None else Hand(row["column"], float(row["last_key"]))
            except (TypeError, KeyError, ValueError):
                self._hands[seat] = None  # not one of ours
        return self._hands[seat]

    def _keep(self, seat: str, hand: Hand | None) -> None:
        if hand is None:
            self._home.draft(seat).unlink(missing_ok=True)
        else:
            files.replace_json(self._home.draft(seat), {"column": hand.column, "last_key": hand.last_key})
