"""Times and spans of time: as files carry them, as people read and write them. In code both are seconds, times Unix seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime

LAST_S = 253_400_000_000.0  # in December 9999: later there is no way back to a date
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LENGTH = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,3})?) ?([smhd])", re.ASCII)


def utc(when: float | str) -> str:
    """`when` as files carry it: UTC, ISO-8601, milliseconds, so that texts compare as times do. when: Unix seconds, or what
    `moment` reads. Raises ValueError for a text that is no time."""
    seconds = moment(when).timestamp() if isinstance(when, str) else when
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """The time that an ISO-8601 text of ours names, in the text's own zone, UTC where it names none. Raises ValueError for
    what is no time; of a text that anybody may have written ask `seconds`."""
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def seconds(text: object) -> float | None:
    """Unix seconds of an ISO-8601 text, UTC where it names no zone. None for what is no text, no time, or a time that no
    clock shows: before 1970 or at the end of the calendar."""
    try:
        found = moment(text).timestamp() if isinstance(text, str) else -1.0
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < LAST_S else None


def span(seconds: float) -> str:
    """A span of seconds as people read it: `95 s`, `3 min`, `1.5 h`; one below zero is `0 s`."""
    if seconds < 100:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def length(text: str) -> float | None:
    """Seconds of a span as people write it: `90s`, `1.5h`, `2 d`; None for what is none, or none above zero."""
    match = _LENGTH.fullmatch(text)
    return float(match[1]) * _UNIT_S[match[2]] or None if match else None


def stamp() -> str:
    """Now, in UTC, as the part of a file's name that tells it from earlier ones and sorts by time."""
    return f"{datetime.now(UTC):%y%m%d-%H%M%S-%f}"
