"""What is said of what the models use: for `org status`, the standup and a launch. Reads usage files and org.json, changes
nothing; who is stopped for it, `team.spending` decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from org import files
from org.agents import usage
from org.agents.usage import Usage
from org.home import Home
from org.team import caps, roster
from org.team.caps import Cap, Limits, Spent
from org.team.prose import cell
from org.team.ringer import backend_of


def reason(facts: Mapping[str, Any]) -> str:
    """`the limit is reached: $5.02 of $5.00 are used`, or "" while it is not."""
    row = facts.get("limit_reached")
    return f"the limit is reached: {files.printable(str(row.get('why')), 100)}" if isinstance(row, dict) else ""


def organisation(
    home: Home, facts: Mapping[str, Any], sessions: Mapping[str, Sequence[Usage]]
) -> dict[str, Any] | None:
    """The limits of this launch and what is used of them, as `status --json` has it; None without any. sessions: by seat."""
    limits = caps.limits(facts)
    if not limits:
        return None
    used = {name: caps.spent(each).since(limits.before.get(name, Spent())) for name, each in sessions.items()}
    counts = {
        row["name"]: backend_of(row["backend"], home).counts for row in facts.get("roster") or () if row["name"] in used
    }
    return {
        **limits.org.to_dict(),
        "seats": {name: cap.to_dict() for name, cap in limits.seats.items() if cap},
        "since": limits.since,
        "used": caps.total(used.values()).to_dict(),
        "used_by": {name: each.to_dict() for name, each in used.items()},
        "unknown": blind(limits, counts, used),
        "reached": reason(facts),
    }


def page_of(home: Home) -> tuple[dict[str, Usage], list[str]]:
    """For the standup: what each seat that is here has used since it was made, and what is said of the limits."""
    sessions = {name: usage.of_seat(home, name) for name in roster.members(home)}
    used = {name: found for name, each in sessions.items() if (found := usage.total(each)) and found.tokens}
    return used, sentences(organisation(home, roster.facts(home), sessions))


def blind(limits: Limits, counts: Mapping[str, str], used: Mapping[str, Spent]) -> list[str]:
    """What the limits in force cannot hold, a sentence each."""
    found = [caps.unknown(limits.org, counts, used)]
    for name, cap in limits.seats.items():
        if name in counts and cap:
            found.append(caps.unknown(cap, {name: counts[name]}, used))
    return list(dict.fromkeys(sentence for sentence in found if sentence))


def sentences(row: Mapping[str, Any] | None) -> list[str]:
    """What is used of the limits of this launch, that they were reached, and what they cannot hold. row: of
    `organisation`."""
    if row is None:
        return []
    parts = [_used_of(caps.cap(row), Spent.from_dict(row["used"]))]
    parts += [
        f"{name} {_used_of(caps.cap(each), Spent.from_dict(row['used_by'].get(name, {})))}"
        for name, each in row["seats"].items()
    ]
    said = [part for part in parts if part.strip()]
    lines = [f"used since {row['since'][:16].replace('T', ' ')} UTC: {'; '.join(said)}"] if said else []
    return [*([row["reached"]] if row["reached"] else []), *lines, *row["unknown"]]


def _used_of(limit: Cap, used: Spent) -> str:
    parts = [f"{caps.dollars(used.usd)} of {caps.dollars(limit.max_usd)}"] if limit.max_usd is not None else []
    parts += (
        [f"{caps.count(used.tokens)} of {caps.count(limit.max_tokens)} tokens"] if limit.max_tokens is not None else []
    )
    return ", ".join(parts)


def section(used: Mapping[str, Usage], said: Iterable[str]) -> str:
    """The standup's page of it: a row a seat, since the seat was made, and their sum; then what is said of limits."""
    rows = [
        "| seat | model | tokens sent | of them cached | answered | cost | context used |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, each in used.items():
        part = each.context_used
        numbers = [caps.count(n) for n in (each.input_tokens, each.cached_tokens, each.output_tokens)]
        cost = "unknown" if each.cost_usd is None else caps.dollars(each.cost_usd)
        cells = [cell(name, 32), cell(each.model, 40) or "-", *numbers, cost, "-" if part is None else f"{part:.0%}"]
        rows.append(f"| {' | '.join(cells)} |")
    sums = [sum(getattr(each, n) for each in used.values()) for n in ("input_tokens", "cached_tokens", "output_tokens")]
    costs = [each.cost_usd for each in used.values() if each.cost_usd is not None]
    cost = caps.dollars(math.fsum(costs)) if costs else "unknown"
    missing = len(used) - len(costs)
    cost += f" and {missing} unknown" if costs and missing else ""
    rows.append(f"| all | | {' | '.join(map(caps.count, sums))} | {cost} | |")
    lines = [f"- {cell(line, 300)}" for line in said]
    return "\n".join([*(rows if used else []), *([""] if used and lines else []), *lines])
