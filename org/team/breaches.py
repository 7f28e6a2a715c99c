"""What was tried against the rules of the house and was stopped or exposed: tool calls that a hook denied, letters that their
sender did not sign. For the standup; a ledger line by another hand is named by the ledger's own check.

Reads what agents could write themselves: counts and words are theirs, and are shown as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from org.home import Home
from org.records import Letter
from org.team import mail, roster
from org.team.prose import cell

ALL = "2000-01-01T00:00:00Z"
SHOWN = 12  # letters in full


@dataclass(frozen=True)
class Denials:
    """Tool calls of one seat that were denied, and the last of them."""

    count: int
    tool: str
    text: str


@dataclass(frozen=True)
class Breaches:
    denied: Mapping[str, Denials] = field(default_factory=dict)
    forged: Sequence[Letter] = ()  # in the names of chiefs, people and the org itself first

    def __bool__(self) -> bool:
        return bool(self.denied or self.forged)


def denials(events: Iterable[Mapping[str, Any]], since: str | None) -> Denials | None:
    """Of one seat's events, those after `since` (UTC; None: all); None where nothing was denied. Pure."""
    rows = [e for e in events if e.get("event") == "denied" and (since is None or str(e.get("t")) > since)]
    return Denials(len(rows), str(rows[-1].get("tool") or ""), str(rows[-1].get("text") or "")) if rows else None


def forged(home: Home, since: str | None) -> list[Letter]:
    """Letters in every box that their sender did not sign, oldest first; those in a name that is obeyed at the front."""
    roles = roster.members(home)
    found = {}
    for box in (*roles, "human"):
        for letter in mail.received(home, box, since or ALL):
            if not letter.verified:
                found[letter.id, letter.to] = letter
    return sorted(found.values(), key=lambda letter: (not _is_obeyed(letter, roles), letter.created, letter.id))


def section(found: Breaches) -> str:
    """The standup's page of them. Pure; agents' words are made harmless."""
    parts = []
    if found.denied:
        rows = [
            f"| {cell(name, 32)} | {each.count} | {cell(each.tool, 30) or '-'} | {cell(each.text, 160)} |"
            for name, each in sorted(found.denied.items(), key=lambda row: roster.by_name(row[0]))
        ]
        head = ["| seat | tool calls denied | the last one | why |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([*head, *rows]))
    if found.forged:
        lines = [
            f"- to {cell(each.to, 32)} in the name of **{cell(each.sender, 32)}**, who did not sign it, `{cell(each.id, 40)}`: "
            f"{cell(each.body, 120)}"
            for each in found.forged[:SHOWN]
        ]
        more = len(found.forged) - SHOWN
        parts.append(
            "\n".join(
                ["Letters that are not what they say:", "", *lines, *([f"- and {more} more"] if more > 0 else [])]
            )
        )
    return "\n\n".join(parts)


def _is_obeyed(letter: Letter, roles: Mapping[str, str]) -> bool:
    return letter.sender in mail.PLACES or roster.is_chief(roles.get(letter.sender, ""))
