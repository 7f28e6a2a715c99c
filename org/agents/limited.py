"""When a limit of a model's service is over, by what the program says of it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

LIMITED_S = 300.0  # a limit that names no end is over after this: the next letter finds out


def limit_ends(text: str, at: float) -> float:
    """Unix seconds at which a limit told at `at` is over: the clock time that the text names (`until 14:30`, `resets 3pm`,
    read on this machine's clock) or the seconds (`asked again in 900 s`, which our own program writes), else LIMITED_S
    later."""
    if wait := re.search(r"asked again in (\d{1,5}) s\b", text):
        return at + float(wait[1])
    found = re.search(r"(?:until|again at|resets?(?: at)?)\s+(\d{1,2})(?::(\d{2}))?\s*([ap]m)?", text, re.IGNORECASE)
    if found is None or not (found[2] or found[3]):
        return at + LIMITED_S
    hour = int(found[1]) % 12 + (12 if found[3].lower() == "pm" else 0) if found[3] else int(found[1])
    minute = int(found[2] or 0)
    if hour > 23 or minute > 59:
        return at + LIMITED_S
    said = datetime.fromtimestamp(at).astimezone()
    ends = said.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return (ends if ends >= said.replace(second=0, microsecond=0) else ends + timedelta(days=1)).timestamp()
