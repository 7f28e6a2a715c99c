"""Where a launch is in its budget. Pure: a function of org.json, the runs left and what runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

# open: no budget. preparing: seats are not ready, the clock stands. running. draining: nothing new is started.
# closing: page and plot are being made. ended: the panes stay.
Phase = Literal["open", "preparing", "running", "draining", "closing", "ended"]
STARTS_RUNS = ("open", "preparing", "running")


def phase(facts: Mapping[str, Any], left: int | None, running: int, now: float) -> Phase:
    """facts: org.json; left: runs that may still be launched, None without such a budget; running: runs that train now;
    now: Unix seconds."""
    budget = facts.get("budget") or {}
    seconds = budget.get("seconds")
    if facts.get("ended"):
        return "ended"
    if seconds is None and left is None:
        return "open"
    if facts.get("budget_ended"):
        return "closing"
    begun = budget.get("from")
    if left == 0:
        return "draining" if running or not begun else "closing"
    if not begun:
        return "preparing"
    if seconds is None or now - datetime.fromisoformat(begun).timestamp() < float(seconds):
        return "running"
    return "draining" if running else "closing"


def used_s(facts: Mapping[str, Any], now: float) -> float | None:
    """Seconds since the budget began; None before."""
    begun = (facts.get("budget") or {}).get("from")
    return now - datetime.fromisoformat(begun).timestamp() if begun else None
