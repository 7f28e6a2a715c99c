"""Where a launch is in its budget. Pure: a function of org.json, the runs left and what runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from org import times

if TYPE_CHECKING:
    from org.lab.book import Book

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
    is_spent = bool(facts.get("limit_reached"))  # of dollars or tokens, see `team.spending`
    if seconds is None and left is None and not is_spent:
        return "open"
    if facts.get("budget_ended"):
        return "closing"
    if is_spent:
        return "draining" if running else "closing"
    used = used_s(facts, now)
    if left == 0:
        return "draining" if running or used is None else "closing"
    if used is None:
        return "preparing"
    if seconds is None or used < float(seconds):
        return "running"
    return "draining" if running else "closing"


def used_s(facts: Mapping[str, Any], now: float) -> float | None:
    """Seconds since the budget began; None before."""
    begun = (facts.get("budget") or {}).get("from")
    return now - times.moment(begun).timestamp() if begun else None


def runs_left(facts: Mapping[str, Any], book: Book, running: Iterable[str] = ()) -> int | None:
    """Runs that may still be launched; None without a budget of runs. A run counts from the moment it is started."""
    limit = (facts.get("budget") or {}).get("runs")
    if limit is None:
        return None
    since = str((facts.get("budget") or {}).get("since") or facts.get("since") or "")
    launched = {run for run, row in book.launches.items() if str(row.get("t", "")) >= since}
    return max(0, int(limit) - len(launched | set(running)))
