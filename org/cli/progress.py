"""The running organisation as plain lines: one when a run ends or a verdict lands, and a sign of life every ten seconds.

Reads the ledger only; leaving it changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from org import charter as charters
from org import files
from org.cli import view
from org.home import Home
from org.records import RunResult, Verdict

POLL_S = 0.3
HEARTBEAT_S = 10.0


def follow(home: Home, say: Callable[[str], None]) -> None:
    """Print until the budget's end is dealt with, or the office is gone."""
    from org.lab import ledger

    charter = charters.load(home)
    reader = ledger.Ledger(home)
    seen = len(reader.refresh().rows)
    started = said_at = time.monotonic()
    while True:
        alive = files.is_locked(home.office_lock)
        over = is_over(home)
        book = reader.refresh()
        for row in book.rows[seen:]:
            line = sentence(book, row, charter.metric.name)
            if line:
                say(f"{view.duration(time.monotonic() - started):>6}  {line}")
                said_at = time.monotonic()
        seen = len(book.rows)
        if over or not alive:
            say(over or "the office has ended; `org launch` brings it back")
            return
        if time.monotonic() - said_at >= HEARTBEAT_S:
            say(f"{view.duration(time.monotonic() - started):>6}  {heartbeat(home, book)}")
            said_at = time.monotonic()
        time.sleep(POLL_S)


def is_over(home: Home) -> str:
    """A sentence when the budget has ended and everything that follows from it is done, else nothing."""
    facts = files.read_json(home.org_file) or {}
    from org.team import costs

    return (costs.reason(facts) or "the budget has ended") if facts.get("ended") else ""


def sentence(book: Any, row: dict[str, Any], metric: str) -> str:
    """One ledger line for a person, or "" for a kind that is not worth one."""
    match row.get("kind"):
        case "result":
            result = RunResult.from_dict(row)
            value = f"{metric} {result.metric:.4f}" if result.metric is not None else view.cut(result.reason, 100)
            seconds = f", {result.total_s:.0f} s" if result.total_s is not None else ""
            return f"{result.run} {result.status}: {value}{seconds} on {result.device}"
        case "verdict":
            verdict = Verdict.from_dict(row)
            contract = book.experiments.get(verdict.experiment)
            change = view.cut(contract.description, 90) if contract else ""
            colour = view.OUTCOME_COLOURS.get(verdict.outcome)
            said = view.paint(f"{verdict.experiment} {view.outcome(verdict)} {view.effect(verdict)}", colour)
            return f"{said}: {change}"
        case "head" if row.get("follows"):
            return f"program {row.get('program')} goes with {row['follows']} to {str(row.get('commit'))[:7]}"
        case "head" if row.get("retracts"):
            return f"{', '.join(row['retracts'])} retracted: {view.cut(str(row.get('why')), 200)}"
        case "head":
            return f"program {row.get('program')} moved to {str(row.get('commit'))[:7]} by {row.get('experiment')}"
    return ""


def heartbeat(home: Home, book: Any) -> str:
    from org.evidence import progress
    from org.lab import follow as lab
    from org.world import devices

    best = progress.best(book.verdicts, book.experiments, book.retracted, book.wins)
    busy = [d for d in lab.device_table(home, devices.in_force(home)) if d["run"]]
    parts = [f"{len(book.results)} runs done", f"{len(busy)} training", f"{len(book.open())} waiting for a verdict"]
    for tier in ("verified", "tentative"):
        row = best[tier]
        if row:
            parts.append(f"best {tier} {row['experiment']} {row['effect']:+.4f}")
    left = seconds_left(home)
    if left is not None:
        parts.append(f"{view.duration(max(0.0, left))} left" if left > 0 else "the last runs end")
    return ", ".join(parts)


def seconds_left(home: Home) -> float | None:
    """Of a budget of time; None without one."""
    from org.team import clock, roster

    facts = roster.facts(home)
    seconds, used = (facts.get("budget") or {}).get("seconds"), clock.used_s(facts, time.time())
    return None if seconds is None or used is None else seconds - used
