"""How much an organisation and its seats may use: dollars and tokens, said by `org launch` and `org.yaml`, kept in org.json.

Pure: what was used comes in, what is over comes out. What is not known is counted as such and never taken for nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from org.agents.usage import Usage
from org.errors import BadInput
from org.records import Record

UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Cap(Record):
    """At most so many dollars and tokens, sent and answered together; None is no limit."""

    max_usd: float | None = None
    max_tokens: int | None = None

    def __bool__(self) -> bool:
        return self.max_usd is not None or self.max_tokens is not None


@dataclass(frozen=True)
class Spent(Record):
    """What was used. `unpriced`: those of the tokens whose price is unknown, which `usd` does not hold."""

    tokens: int = 0
    usd: float = 0.0
    unpriced: int = 0

    def since(self, before: Spent) -> Spent:
        """Without what was used before; never below nothing."""
        return Spent(
            max(0, self.tokens - before.tokens),
            max(0.0, self.usd - before.usd),
            max(0, self.unpriced - before.unpriced),
        )


@dataclass(frozen=True)
class Limits:
    """What holds in this launch. `before`: what each seat had used when the counting began, at `since`; a seat that is not
    in it had used nothing."""

    org: Cap
    seats: Mapping[str, Cap]
    before: Mapping[str, Spent]
    since: str = ""
    is_said: bool = False  # by the command line: then it holds until `org stop`, whatever org.yaml says

    def __bool__(self) -> bool:
        return bool(self.org) or any(self.seats.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.org.to_dict(),
            "seats": {name: cap.to_dict() for name, cap in self.seats.items() if cap},
            "since": self.since,
            "is_said": self.is_said,
            "before": {name: spent.to_dict() for name, spent in self.before.items()},
        }


def limits(facts: Mapping[str, Any]) -> Limits:
    """What org.json holds; nothing where it holds none, or what is none: agents could write there."""
    row = facts.get("limits")
    row = row if isinstance(row, dict) else {}
    seats, before = row.get("seats"), row.get("before")
    return Limits(
        cap(row),
        {str(name): cap(each) for name, each in seats.items()} if isinstance(seats, dict) else {},
        {str(name): _spent(each) for name, each in before.items()} if isinstance(before, dict) else {},
        str(row.get("since") or ""),
        row.get("is_said") is True,
    )


def over(said: Cap | None, standing: Cap) -> Cap:
    """What was said, and where nothing was, what stands."""
    if said is None:
        return standing
    usd = standing.max_usd if said.max_usd is None else said.max_usd
    return Cap(usd, standing.max_tokens if said.max_tokens is None else said.max_tokens)


def cap(row: Any) -> Cap:
    """Of `max_usd` and `max_tokens` in a row; others of its keys are passed over."""
    row = row if isinstance(row, dict) else {}
    usd, tokens = _number(row.get("max_usd")), _number(row.get("max_tokens"))
    return Cap(usd, None if tokens is None else int(tokens))


def spent(sessions: Iterable[Usage]) -> Spent:
    """Of all sessions of a seat, or of several seats."""
    known = list(sessions)
    return Spent(
        sum(each.tokens for each in known),
        math.fsum(each.cost_usd for each in known if each.cost_usd is not None),
        sum(each.tokens for each in known if each.cost_usd is None),
    )


def total(found: Iterable[Spent]) -> Spent:
    rows = list(found)
    return Spent(sum(s.tokens for s in rows), math.fsum(s.usd for s in rows), sum(s.unpriced for s in rows))


def passed(limit: Cap, used: Spent) -> str:
    """`$2.10 of $2.00 are used`, or "" while nothing is over."""
    if limit.max_usd is not None and used.usd >= limit.max_usd:
        return f"{dollars(used.usd)} of {dollars(limit.max_usd)} are used"
    if limit.max_tokens is not None and used.tokens >= limit.max_tokens:
        return f"{count(used.tokens)} of {count(limit.max_tokens)} tokens are used"
    return ""


def unknown(limit: Cap, counts: Mapping[str, str], used: Mapping[str, Spent]) -> str:
    """Which seats a limit cannot hold, as a sentence; "" where it holds all. counts: seat -> `Backend.counts`, of those that
    the limit is for; used: since the counting began."""
    blind = [name for name, what in counts.items() if what == "nothing" and not used.get(name, Spent()).tokens]
    free = [
        name
        for name, what in counts.items()
        if limit.max_usd is not None and name not in blind and (what == "tokens" or used.get(name, Spent()).unpriced)
    ]
    parts = []
    if limit and blind:
        parts.append(f"nothing is known of what {_names(blind)} uses")
    if free:
        parts.append(f"the price of what {_names(free)} uses is not known")
    return (
        f"{' and '.join(parts)}: no limit in {'dollars' if not blind else 'dollars or tokens'} counts it"
        if parts
        else ""
    )


def dollars(usd: float) -> str:
    """
    >>> dollars(3), dollars(0.004)
    ('$3.00', '$0.0040')
    """
    return f"${usd:.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def count(tokens: int) -> str:
    """
    >>> count(999), count(12_345), count(1_234_567)
    ('999', '12.3k', '1.23M')
    """
    return str(tokens) if tokens < 1000 else f"{tokens / 1000:.1f}k" if tokens < 1_000_000 else f"{tokens / 1e6:.2f}M"


def used_words(usage: Usage | None) -> str:
    """`12.3k $0.40 31%`: tokens, dollars, how full the context is; what is not known is left out or said. "" for none."""
    if usage is None or not usage.tokens:
        return ""
    part = usage.context_used
    cost = "$?" if usage.cost_usd is None else dollars(usage.cost_usd)
    return " ".join([count(usage.tokens), cost, *([] if part is None else [f"{part:.0%}"])])


def parse_usd(text: str) -> float:
    """`5`, `2.50` or `$5`. Raises BadInput."""
    match = re.fullmatch(r"\$?([0-9]{1,7}(?:\.[0-9]{1,6})?)", text)
    if match is None or not float(match[1]) > 0:
        raise BadInput(f"--max-usd '{text:.40}' is not known; write dollars, as in 5 or 2.50")
    return float(match[1])


def parse_tokens(text: str) -> int:
    """`500000`, `500k` or `2.5M`. Raises BadInput."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kM]?)", text)
    tokens = round(float(match[1]) * UNITS[match[2]]) if match else 0
    if tokens < 1:
        raise BadInput(f"--max-tokens '{text:.40}' is not known; write 500000, 500k or 2M")
    return tokens


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e15
    return float(value) if is_number else None


def _spent(row: Any) -> Spent:
    row = row if isinstance(row, dict) else {}
    tokens, usd, unpriced = (_number(row.get(name)) or 0.0 for name in ("tokens", "usd", "unpriced"))
    return Spent(int(tokens), usd, int(unpriced))
