"""Who is rung when after a rate limit: one by one, in the order of their names. Pure but for what it keeps in mind.

A service that limits one agent mostly limits all that share its account, and names one moment at which that ends: if every
doorbell rang then, the next limit would be there at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from org.team import roster

TOGETHER_S = 120.0  # limited within so many seconds of each other: it is the same limit
STEP_S = 2.0  # between one and the next
SPAN_S = 30.0  # the last one waits no longer


class Pace:
    """Knows who was limited lately. One that is alone in it is rung at once."""

    def __init__(self) -> None:
        self._limited: dict[str, float] = {}  # seat -> when it was last seen so, Unix seconds
        self._until: dict[str, float] = {}  # seat -> not to be rung before

    def look(self, rows: Sequence[Mapping[str, Any]], now: float) -> dict[str, float]:
        """Seat -> seconds for which its doorbell is still to wait. rows: of `team.reader`; now: Unix seconds."""
        is_limited = {row["name"] for row in rows if row.get("state") == "limited"}
        known = {row["name"] for row in rows}
        recent = {n: at for n, at in self._limited.items() if n in known and 0 <= now - at < TOGETHER_S}
        ended = [name for name in recent if name not in is_limited and name not in self._until]
        if ended:
            group = sorted({*recent, *is_limited}, key=roster.by_name)
            step = min(STEP_S, SPAN_S / len(group))
            self._until |= {name: now + step * group.index(name) for name in ended}
        self._limited = {**recent, **dict.fromkeys(is_limited, now)}
        # one that is limited again begins anew; what is over is kept while its limit is in mind, not to begin a second time
        self._until = {n: at for n, at in self._until.items() if n in self._limited and n not in is_limited}
        return {name: at - now for name, at in self._until.items() if 0 < at - now <= SPAN_S}
