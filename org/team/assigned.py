"""Which ideas were handed out, and on which the person insists: read from letters about them, stored nowhere else.

Counts what the person and chiefs wrote under their signature. Sends nothing and asks nobody.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from org.errors import BadInput
from org.home import Home
from org.records import Letter
from org.team import boxes, mail, roster
from org.team.ideapage import IDEA
from org.team.questions import PERSON

ABOUT = re.compile(rb"\nabout: ['\"]?I\d{4,}")
HEAD_BYTES = 2048  # of a letter's file, in which what it is about stands


@dataclass(frozen=True)
class Told:
    """By idea: the last task letter about it, and the last letter that a person wrote to a chief about it."""

    tasks: dict[str, Letter] = field(default_factory=dict)
    insisted: dict[str, Letter] = field(default_factory=dict)


def told(home: Home, since: str = "") -> Told:
    """What seats were told about ideas. since: a date; letters put away before it are not looked at."""
    roles = mail.seats(home)
    chiefs = {name for name, role in roles.items() if roster.is_chief(role)}
    found = Told()
    for name in roles:
        for letter in _about_ideas(home, name, since):
            if not letter.verified or letter.sender not in (PERSON, *chiefs):
                continue
            idea = str(letter.about)
            if letter.kind == "task" and name not in chiefs:
                _put(found.tasks, idea, letter)
            elif letter.sender == PERSON and name in chiefs:
                _put(found.insisted, idea, letter)
    return found


def _put(there: dict[str, Letter], idea: str, letter: Letter) -> None:
    if idea not in there or (letter.created, letter.id) > (there[idea].created, there[idea].id):
        there[idea] = letter


def _about_ideas(home: Home, seat: str, since: str) -> Iterator[Letter]:
    for path in boxes.all_of(home, seat, since):
        try:
            if not ABOUT.search(_head(path)):
                continue
            letter = boxes.read(home, seat, path)
        except (OSError, BadInput):
            continue  # moved on, and seen again there; or not a letter
        if letter.about and IDEA.fullmatch(letter.about):
            yield letter


def _head(path: Path) -> bytes:
    """The first bytes of a file; none of what would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)
