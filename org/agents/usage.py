"""What a seat's program has used: tokens, dollars, context. One file a session, written by whoever knows, summed by readers.

`comms/seats/<seat>/usage/<session>.json` holds the running totals of that session, so that writing it twice counts once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from org import files
from org.home import Home


@dataclass(frozen=True)
class Usage:
    """Totals of one session since it began. `input_tokens` counts every token that was sent, `cached_tokens` those of them
    that the service had kept; `context_tokens` is what the last request held, of `context_limit`. `cost_usd` is None where
    the price is unknown: a seat with such a session has no known cost."""

    session: str
    model: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    context_tokens: int = 0
    context_limit: int = 0
    t: str = ""  # when it was written, UTC

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def context_used(self) -> float | None:
        """The part of the context that is full, 0 to 1; None while nothing is known."""
        return min(self.context_tokens / self.context_limit, 1.0) if self.context_limit > 0 else None


def write(home: Home, seat: str, usage: Usage) -> None:
    files.replace_json(home.seat_usage(seat) / f"{_named(usage.session)}.json", asdict(usage))


def of_seat(home: Home, seat: str) -> list[Usage]:
    """Every session of the seat, the one written last at the end. What is no usage is left out: agents can write there."""
    paths = home.seat_usage(seat).glob("*.json")
    found = [usage for path in paths if (usage := _read(files.read_json(path))) is not None]
    return sorted(found, key=lambda usage: usage.t)


def total(sessions: Iterable[Usage]) -> Usage | None:
    """The sum over sessions, with the model and context of the last; None where there is none."""
    known = list(sessions)
    if not known:
        return None
    last = known[-1]
    costs = [usage.cost_usd for usage in known]
    return Usage(
        session=last.session,
        model=last.model,
        input_tokens=sum(usage.input_tokens for usage in known),
        cached_tokens=sum(usage.cached_tokens for usage in known),
        output_tokens=sum(usage.output_tokens for usage in known),
        cost_usd=None if None in costs else math.fsum(cost for cost in costs if cost is not None),
        context_tokens=last.context_tokens,
        context_limit=last.context_limit,
        t=last.t,
    )


def _named(session: str) -> str:
    return re.sub(r"[^0-9A-Za-z-]", "-", session)[:64] or "unknown"


def _read(row: Any) -> Usage | None:
    if not isinstance(row, dict):
        return None
    values: dict[str, Any] = {}
    for field in fields(Usage):
        value = row.get(field.name, field.default)
        if field.name in ("session", "model", "t"):
            values[field.name] = files.printable(value)[:100] if isinstance(value, str) else ""
        elif field.name == "cost_usd":
            is_cost = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
            values[field.name] = float(value) if is_cost else None
        else:
            is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
            values[field.name] = value if is_count else 0
    return Usage(**values)
