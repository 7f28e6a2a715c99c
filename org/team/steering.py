"""How often people had to steer: correct an agent in words, interrupt it, take its pane over, or shout. Per backend and role,
per ten hours of agents' work. A signal of the prompts' quality, not a measure of anybody's. `table` and `tally` are pure.

Words come from letters of the person and from what was typed into panes; a doorbell's line names letters and is nobody's.
Agents could write into their own events: what they add makes them look worse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from org import times
from org.agents import obey
from org.home import Home
from org.records import PERSON, Letter
from org.team import hands, mail, roster, states
from org.team.breaches import ALL
from org.team.hands import Spell
from org.team.prose import cell

PER_H = 10.0
GAP_S = 1800.0  # longer without a sign, and a program did not work
NEAR_S = 60.0  # a line typed so long before or after a person was seen at the pane is theirs
LETTERS = 8  # fewer make no shout
LOUD = 0.7  # of the letters of a line in upper case
CORRECTS = ("stop", "veto", "redirect")
# names are written in capitals by everybody: constants, experiments, abbreviations
_NAMES = re.compile(r"\b\w*(?:_|\d)\w*\b|\b[A-Z]{1,4}\b(?=\s+[a-z])")
_OF_PROCESS = re.compile(r"[a-z0-9_-]+-\d{4}-\d\d-\d\d-\d+")
_WRONG = re.compile(
    r"\b(?:wrong|not what i|i (?:said|told|asked)|again\?!|you (?:forgot|ignored|should(?:n't| not)? have)|undo|revert|that'?s not)\b",
    re.IGNORECASE,
)


@dataclass
class Count:
    """Of one backend and role."""

    hours: float = 0.0
    corrected: int = 0
    interrupted: int = 0
    taken_over: int = 0
    shouted: int = 0

    def __bool__(self) -> bool:
        return bool(self.corrected or self.interrupted or self.taken_over or self.shouted)


@dataclass(frozen=True)
class Seen:
    """What is known of one seat: its program's events, the person's letters to it, the spells by hand at its pane."""

    backend: str
    role: str
    events: Sequence[Mapping[str, Any]] = ()
    letters: Sequence[Letter] = ()
    hands: Sequence[Spell] = field(default_factory=tuple)


def tally(seats: Iterable[Seen], since: str | None, now: float) -> dict[tuple[str, str], Count]:
    """(backend, role) -> how it was steered after `since` (UTC ISO-8601; None: ever) up to `now` (Unix seconds)."""
    begun = times.seconds(since) or 0.0
    found: dict[tuple[str, str], Count] = {}
    for seat in seats:
        count = found.setdefault((seat.backend, seat.role), Count())
        events = [
            (at, row) for row in seat.events if (at := times.seconds(row.get("t"))) is not None and begun < at <= now
        ]
        count.hours += hours([(at, str(row.get("event"))) for at, row in events], now)
        said = [
            letter.body for letter in seat.letters if letter.verified and begun < (times.seconds(letter.created) or 0.0)
        ]
        said += [str(row.get("text") or "") for at, row in events if _is_persons(at, row, seat.hands)]
        count.corrected += sum(map(corrects, said))
        count.shouted += sum(map(shouts, said))
        count.interrupted += sum(_is(row, "interrupted") for _, row in events)
        count.taken_over += sum(spell.last > begun for spell in seat.hands)
    return found


def hours(events: Sequence[tuple[float, str]], now: float) -> float:
    """Hours in which a program gave signs of life: the spans between events, long silences and what follows its end left
    out. events: (Unix seconds, event)."""
    there = sorted(events)
    spans = zip(there, [*there[1:], (now, "")], strict=False)  # without any event there is none
    return sum(min(after - at, GAP_S) for (at, event), (after, _) in spans if event != "exit" and after > at) / 3600


def corrects(text: str) -> bool:
    """Whether words tell somebody to do something else, or that what they did is wrong."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return obey.meaning(first).verb in CORRECTS or _WRONG.search(first[: obey.LONGEST]) is not None


def shouts(text: str) -> bool:
    """Whether most letters of the first line are capitals, names left out."""
    first = next((line for line in text.splitlines() if line.strip()), "")[: obey.LONGEST]
    letters = [c for c in _NAMES.sub("", first) if c.isalpha() and c.lower() != c.upper()]
    return len(letters) >= LETTERS and sum(c.isupper() for c in letters) >= LOUD * len(letters)


def section(found: Mapping[tuple[str, str], Count]) -> str:
    """The standup's table, a row a backend and role; "" when nobody had to steer. Pure."""
    if not any(found.values()):
        return ""
    lines = ["| backend | role | agent-hours | corrected | interrupted | taken over | shouted at |", "|" + " --- |" * 7]
    for (backend, role), count in sorted(found.items()):
        rates = [_rate(n, count.hours) for n in (count.corrected, count.interrupted, count.taken_over, count.shouted)]
        lines.append(f"| {cell(backend, 40)} | {cell(role, 40)} | {count.hours:.1f} | {' | '.join(rates)} |")
    return "\n".join([*lines, "", f"Times, and in brackets per {PER_H:.0f} agent-hours."])


def of_home(home: Home, since: str | None, now: float, most: int) -> dict[tuple[str, str], Count]:
    """The same of every seat with a program. most: bytes of each seat's events that are read."""
    by_hand = hands.spells(home, since)
    seen = []
    for row in roster.facts(home).get("roster") or ():
        name, backend = str(row.get("name")), str(row.get("backend") or "")
        if backend == PERSON or not home.seat_file(name).is_file():
            continue
        letters = [one for one in mail.received(home, name, since or ALL) if one.sender == "human"]
        asked = [
            one for one in letters if not _OF_PROCESS.fullmatch(one.about or "")
        ]  # the org's own, in the person's name
        spells = [spell for spell in by_hand if spell.seat == name]
        seen.append(Seen(backend, str(row.get("role") or ""), states.last_events(home, name, most), asked, spells))
    return tally(seen, since, now)


def _is_persons(at: float, row: Mapping[str, Any], by_hand: Sequence[Spell]) -> bool:
    """A typed line, when the program knows that a person typed it or one was seen at the pane. What names letters is a
    doorbell's."""
    if not _is(row, "typed") or row.get("letters"):
        return False
    return row.get("by") == "person" or any(spell.began - NEAR_S <= at <= spell.last + NEAR_S for spell in by_hand)


def _is(row: Mapping[str, Any], what: str) -> bool:
    """As an event of its own, or as a word beside the state that a hook tells."""
    return row.get("event") == what or row.get(what) is True


def _rate(count: int, hours_: float) -> str:
    return "-" if not count else f"{count} ({PER_H * count / hours_:.1f})" if hours_ > 0 else str(count)
