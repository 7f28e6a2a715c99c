"""The doorbell: one short typed line that says which letters wait, and only where no person is working. Carries no mail.

Deciding is pure (`due`); `ring` types. A letter that stays unread is rung for again, ever more seldom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from org import files
from org.home import ID_PATTERN, Home
from org.world import tmux

if TYPE_CHECKING:
    from org.world.tmuxwords import PaneInfo

AGAIN_S = 60.0  # an unread letter is rung for again after this, then after twice as long, and so on
AGAIN_LIMIT_S = 1800.0
IDS_NAMED = 4
QUIET_STATES = frozenset({"held", "asking", "starting", "gone", "person"})


@dataclass(frozen=True)
class Rung:
    """What was rung for last: the letters, when (Unix seconds), and how often in a row without their being read."""

    letters: tuple[str, ...] = ()
    at: float = 0.0
    times: int = 0

    @classmethod
    def from_row(cls, row: Any) -> Rung:
        if not isinstance(row, dict):
            return cls()
        return cls(tuple(row.get("letters") or ()), float(row.get("at") or 0), int(row.get("times") or 0))


def due(
    state: str,
    letters: Sequence[str],
    rung: Rung,
    now: float,
    *,
    pane: PaneInfo | None,
    is_human: bool,
    has_prefix: bool = False,
) -> str | None:
    """The line to type into the seat's pane now, or None. Pure.

    None while the pane is a person's: a recent key, copy mode, the prefix key; while it is dead, closed to input, held, or
    showing a question; and while everything that waits was rung for a short while ago.
    """
    waiting = [letter for letter in letters if ID_PATTERN.fullmatch(letter)]
    if not waiting or pane is None or state in QUIET_STATES or is_human or has_prefix:
        return None
    if pane.dead or pane.in_mode or pane.input_off:
        return None
    is_new = bool(set(waiting) - set(rung.letters))
    pause = min(AGAIN_S * 2 ** max(0, rung.times - 1), AGAIN_LIMIT_S)
    if not is_new and now - rung.at < pause:
        return None
    return line(waiting)


def line(letters: Sequence[str]) -> str:
    """`You have 2 letters (l-…, l-…): run org inbox and act on them.` Below the limit of a typed line."""
    named = ", ".join(letters[:IDS_NAMED]) + (", …" if len(letters) > IDS_NAMED else "")
    count = "a letter" if len(letters) == 1 else f"{len(letters)} letters"
    return f"You have {count} ({named}): read with `org inbox` and act on what it says."


def after(rung: Rung, letters: Sequence[str], now: float) -> Rung:
    """What to remember once the bell was rung for `letters`. Pure."""
    is_new = bool(set(letters) - set(rung.letters))
    return Rung(tuple(letters), now, 1 if is_new else rung.times + 1)


def ring(home: Home, seat: str, server: tmux.Server, pane_id: str, text: str, keys: Sequence[str] = ()) -> bool:
    """Type the line under the pane's lock; False when a person was faster. `keys` are pressed first: the program's own
    way to put a half-typed draft aside."""
    try:
        server.type_line(pane_id, text, home.seat(seat) / "pane.lock", before=keys)
    except tmux.PaneBusy:
        return False
    return True


def load(home: Home, seat: str) -> Rung:
    return Rung.from_row(files.read_json(_file(home, seat)))


def save(home: Home, seat: str, rung: Rung) -> None:
    row: Mapping[str, Any] = {"letters": list(rung.letters), "at": rung.at, "times": rung.times}
    files.replace_json(_file(home, seat), row)


def _file(home: Home, seat: str) -> Any:
    return home.seat(seat) / "bell.json"
