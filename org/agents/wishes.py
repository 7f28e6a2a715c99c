"""What a researcher was ordered to try: a constant, perhaps its value, in whose words, and for which idea. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from org.agents import assigning
from org.agents import knobs as knobs_
from org.agents.knobs import Value
from org.agents.search import Trial
from org.records import Knob

IDEA = re.compile(r"\bI\d{4,}\b")
NOT_TESTED = "I cannot test idea"  # how a report begins that gives one back


class Wish(NamedTuple):
    """value: None where the words only name the knob; towards: which way they want it turned, where they say."""

    knob: Knob
    value: Value | None
    origin: str
    idea: str = ""
    towards: int = 0


def idea_of(letter: Mapping[str, Any]) -> str:
    """The idea that a letter is about, "" for none."""
    about = str(letter.get("about") or "")
    return about if IDEA.fullmatch(about) else ""


def is_one_idea(letter: Mapping[str, Any]) -> bool:
    """Whether a task adds an experiment of one idea and leaves a junior the knobs it has."""
    lines = str(letter.get("body") or "").lower().splitlines()
    return bool(idea_of(letter)) and not any(row.lstrip("-* ").startswith("knobs:") for row in lines)


def of_idea(letter: Mapping[str, Any], charter_knobs: dict[str, Knob]) -> list[Wish]:
    """The settings that a task about an idea names; where it only names a knob, one step of that."""
    idea, body = idea_of(letter), assigning.orders(str(letter.get("body") or ""))
    words = f"Idea {idea}:"
    found = [Wish(knob, value, words, idea) for knob, value in knobs_.settings_in(body, charter_knobs)]
    if found:
        return list(dict.fromkeys(found))
    names = knobs_.named_in(body, charter_knobs)[:1]
    return [Wish(charter_knobs[name], None, words, idea, assigning.towards(body)) for name in names]


def told_before(heads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the task letters of a former life, oldest first, the ids of those to be read again: of those about ideas as many as
    may still be open."""
    ideas = [head for head in heads if idea_of(head)]
    return [str(head.get("id")) for head in heads if head not in ideas[: -2 * assigning.AHEAD]]


def is_tested(wish: Wish, trials: Sequence[Trial]) -> bool:
    """Whether an experiment of its idea has turned its knob, to its value where it has one."""
    return bool(wish.idea) and any(
        name == wish.knob.name.lower() and (wish.value is None or knobs_.same(new, wish.value))
        for trial in trials
        if trial.idea == wish.idea
        for name, _, new in trial.changes
    )
