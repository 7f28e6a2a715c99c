"""When people took a pane over, and for how long: spells, one line each in comms/hands.jsonl once they ended.

`merged` is pure. Open spells lie in a file beside it, so that an office killed in between leaves them to be closed at the
last time they were seen. Keeps nobody from typing and does not say what was typed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from org import files, times
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home
from org.team.prose import cell
from org.team.roster import PERSON
from org.team.states import Look

GAP_S = 30.0  # a person who thinks for so long between two keys is still there
SAVE_S = 5.0  # how far behind the file of open spells may be
TAIL = 65_536
WHYS = ("typing", "copy mode", "hold", "pause")


@dataclass(frozen=True)
class Spell:
    """One person at one pane. Times are Unix seconds; `waited`: the most letters that waited there meanwhile."""

    seat: str
    began: float
    last: float
    why: tuple[str, ...] = ()
    waited: int = 0

    @property
    def seconds(self) -> float:
        return max(0.0, self.last - self.began)


@dataclass(frozen=True)
class Seen:
    """A person's hand in one look: why the pane is theirs, when they were there last, how many letters wait."""

    why: str
    at: float
    waiting: int = 0


def merged(spells: Mapping[str, Spell], looks: Mapping[str, Seen], now: float) -> tuple[dict[str, Spell], list[Spell]]:
    """(spells that are open now, spells that ended), by seat. Pure. A spell ends once nobody was seen for GAP_S, at the
    last time somebody was; and when the clock was set back, since nothing measures across that."""
    kept: dict[str, Spell] = {}
    ended: list[Spell] = []
    for seat, spell in spells.items():
        if not 0 <= now - spell.last <= GAP_S:
            ended.append(spell)
        else:
            kept[seat] = spell
    for seat, seen in looks.items():
        at = min(seen.at, now)
        old = kept.get(seat)
        if old is None:
            kept[seat] = Spell(seat, at, at, (seen.why,), seen.waiting)
        else:
            why = old.why if seen.why in old.why else (*old.why, seen.why)
            kept[seat] = Spell(seat, old.began, max(old.last, at), why, max(old.waited, seen.waiting))
    return kept, ended


def seen(rows: Iterable[Mapping[str, Any]], view: Look, now: float) -> dict[str, Seen]:
    """The hands in the rows of `team.reader` and the look they were made from. Pure."""
    found = {}
    for row in rows:
        if row["state"] != "held" and not row["held"]:
            continue
        if row["backend"] == PERSON:
            continue  # a person's own seat has no program to take over
        pane = view.panes.get(row["name"])
        key = pane.id if pane is not None else ""
        at = now
        if row["held"]:
            why = "hold"
        elif pane is not None and pane.in_mode:
            why = "copy mode"
        elif key in view.human or key in view.prefix:
            why, at = "typing", max(view.keys.get(key, 0.0), 0.0) or now
        else:
            why = "pause"
        found[row["name"]] = Seen(why, at, int(row["mail_waiting"]))
    return found


class Hands:
    """Call `step` once a second with the rows of `team.reader` and their look. Without a hand anywhere it costs nothing."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._open = {spell.seat: spell for spell in _going(home)}
        self._saved, self._saved_at = dict(self._open), float("-inf")
        self._is_new = bool(self._open)  # of an office before this one, which may have written some of them down

    def step(self, rows: Iterable[Mapping[str, Any]], view: Look, now: float, tick: float | None = None) -> list[Spell]:
        """Note who is at work by hand; returns the spells that ended, which are written down then. tick: seconds that only
        go on, `now` where it is None."""
        at = now if tick is None else tick
        looks = seen(rows, view, now)
        if not looks and not self._open:
            return []
        self._open, ended = merged(self._open, looks, now)
        if self._is_new:
            told = {(spell.seat, spell.began) for spell in _told(self.home, TAIL)}
            ended = [spell for spell in ended if (spell.seat, spell.began) not in told]
            self._is_new = any(spell == self._saved.get(seat) for seat, spell in self._open.items())
        for spell in ended:
            files.append_line(self.home.hands, json.dumps(_row(spell)))
        failpoint("hands.noted")
        is_other = _names(self._open) != _names(self._saved)
        if ended or is_other or (self._open != self._saved and at - self._saved_at >= SAVE_S):
            files.replace_json(self.home.hands_open, [_row(spell) for spell in self._open.values()])
            self._saved, self._saved_at = dict(self._open), at
        return ended


def spells(home: Home, since: str | None) -> list[Spell]:
    """Spells that ended after `since` (UTC ISO-8601; None: all), and those that go on, by their beginning."""
    after = times.seconds(since) or 0.0
    found = {(spell.seat, spell.began): spell for spell in (*_told(home), *_going(home)) if spell.last > after}
    return sorted(found.values(), key=lambda spell: (spell.began, spell.seat))


def section(found: Sequence[Spell]) -> str:
    """The standup's page of them: a row a seat. Pure."""
    lines = [
        "| seat | times | by hand | longest | how | letters that waited |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for seat in dict.fromkeys(spell.seat for spell in found):
        mine = [spell for spell in found if spell.seat == seat]
        how = ", ".join(why for why in WHYS if any(why in spell.why for spell in mine))
        longest = max(spell.seconds for spell in mine)
        total = times.span(sum(spell.seconds for spell in mine))
        waited = max(spell.waited for spell in mine)
        lines.append(f"| {cell(seat, 32)} | {len(mine)} | {total} | {times.span(longest)} | {how} | {waited or '-'} |")
    return "\n".join(lines)


def _names(open_ones: Mapping[str, Spell]) -> set[tuple[str, float, tuple[str, ...]]]:
    return {(spell.seat, spell.began, spell.why) for spell in open_ones.values()}


def _told(home: Home, tail: int | None = None) -> list[Spell]:
    rows = files.read_tail(home.hands, tail) if tail else files.read_lines(home.hands)[0]
    return [spell for row in rows if (spell := _spell(row))]


def _going(home: Home) -> list[Spell]:
    rows = files.read_json(home.hands_open)
    return [spell for row in (rows if isinstance(rows, list) else []) if (spell := _spell(row))]


def _row(spell: Spell) -> dict[str, Any]:
    return {**asdict(spell), "began": times.utc(spell.began), "last": times.utc(spell.last), "why": list(spell.why)}


def _spell(row: object) -> Spell | None:
    """The spell that a row tells of, None for what is none: agents can write into these files."""
    if not isinstance(row, dict) or not ID_PATTERN.fullmatch(str(row.get("seat"))):
        return None
    began, last = times.seconds(row.get("began")), times.seconds(row.get("last"))
    why, waited = row.get("why"), row.get("waited")
    if not began or last is None or last < began or not isinstance(why, list) or not isinstance(waited, int):
        return None
    return Spell(str(row["seat"]), began, last, tuple(w for w in WHYS if w in why), waited)
