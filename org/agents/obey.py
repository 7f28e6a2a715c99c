"""What a person's line asks for, from its words alone: stop, go on, approve, veto, redirect, measure again, try, or a question.

One grammar for whoever hands an order on and for the researcher without a network that obeys it. Pure; guesses nothing
from tone, and what it does not know is `other`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Verb = Literal["question", "again", "stop", "resume", "veto", "approve", "redirect", "try", "other"]
VERBS: tuple[Verb, ...] = get_args(Verb)

EXPERIMENT = re.compile(r"(?<![\w{])E[0-9]{4,9}\b")
IDEA = re.compile(r"(?<![\w{])I[0-9]{4,9}\b")
LONGEST = 4000  # characters of a line that are read; whoever writes more writes a letter
# in front of what is asked: who is addressed, what it is about, manners
_LEAD = re.compile(
    r"(?:@[\w-]+|[EI][0-9]{4,9}\b|please\b|everybody\b|everyone\b|and\b|now\b|so\b|[\s,;:.!\-\u2013\u2014*`]+)",
    re.IGNORECASE,
)
_AGAIN = re.compile(r"\b(?:again|re-?test|re-?run|re-?measure|repeat|promote|verify|replicate)\b", re.IGNORECASE)
# `do not retest`, `no need to run it again`: what is not to be measured again
_NOT_AGAIN = re.compile(
    r"(?<!why )\b(?:no|not|never|without|cannot|dont|\w+n['\u2019]t)(?:\s+(?:ever|more|any|need|needs|want|have|be|to|for|a|"
    r"the|it|them|that|this|one|run|test|try|measure|do|E[0-9]{4,9}|again|re-?test\w*|re-?run\w*|re-?measur\w*|repeat\w*|"
    r"promot\w*|verif\w*|replicat\w*)\b)+",
    re.IGNORECASE,
)
_AT = re.compile(r"\b(?:at|to|on|scale)\s+`?([A-Za-z0-9][\w.-]{0,31})", re.IGNORECASE)
_FIRST: tuple[tuple[Verb, str], ...] = (
    ("stop", r"stop|halt|drop|leave|abandon|quit|cease|pause|don'?t|do not|no more|never|enough|hands off|stay off"),
    ("resume", r"resume|go on|carry on|continue|unpause|keep going"),
    ("veto", r"veto(?:ed)?|reject(?:ed)?|refuse|deny|denied|discard|kill|forget|no\b(?! idea)"),
    ("approve", r"approved?|accept(?:ed)?|ok(?:ay)?|yes|agreed|go ahead|do it|keep"),
    ("redirect", r"move|switch|redirect|focus|concentrate|work on|go to|turn to|shift|back to"),
    ("try", r"try|test|run|set|measure|put|use|explore"),
)
_BEGINS = tuple((verb, re.compile(rf"(?:{words})\b", re.IGNORECASE)) for verb, words in _FIRST)
_WITHIN: tuple[tuple[Verb, re.Pattern[str]], ...] = (
    ("redirect", re.compile(r"\binstead\b(?! of)", re.IGNORECASE)),
    ("stop", re.compile(r"\b(?:no more|should stop|must stop)\b", re.IGNORECASE)),
    ("try", re.compile(r"\b(?:should|could|must) try\b|\w\s*=\s*[\w.'\"+-]", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Meaning:
    """What one line asks for. `scale`: as the charter spells it, of `again` only."""

    verb: Verb
    experiments: tuple[str, ...] = ()
    ideas: tuple[str, ...] = ()
    scale: str | None = None


def meaning(text: str, names: Collection[str] = (), scales: Iterable[str] = ()) -> Meaning:
    """names: of seats, which may stand in front of what they are asked. scales: of the charter."""
    text = text[:LONGEST]
    experiments = tuple(dict.fromkeys(EXPERIMENT.findall(text)))
    ideas = tuple(dict.fromkeys(IDEA.findall(text)))
    verb = _verb(text, names, bool(experiments))
    return Meaning(verb, experiments, ideas, _scale(text, scales) if verb == "again" else None)


def _verb(text: str, names: Collection[str], has_experiment: bool) -> Verb:
    if text.rstrip(" *_`)\"'").endswith("?"):
        return "question"
    asked = after_names(text, names)
    begins = next((verb for verb, words in _BEGINS if words.match(asked)), None)
    if has_experiment and begins not in ("stop", "veto") and _AGAIN.search(_NOT_AGAIN.sub(" ", text)):
        return "again"
    if begins is not None:
        return begins
    return next((verb for verb, words in _WITHIN if words.search(asked)), "other")


def after_names(text: str, names: Collection[str]) -> str:
    """`text` without who it is addressed to and what it is about: `j1, E0042: stop it` is `stop it`."""
    known = {name.lower() for name in names}
    at = 0
    while at < len(text):
        if (lead := _LEAD.match(text, at)) is not None:
            at = lead.end()
            continue
        word = re.compile(r"[\w-]+").match(text, at)
        if word is None or word[0].lower() not in known:
            break
        at = word.end()
    return text[at:]


def _scale(text: str, scales: Iterable[str]) -> str | None:
    known = {scale.lower(): scale for scale in scales}
    return next((known[word] for match in _AT.findall(text) if (word := match.lower().rstrip(".")) in known), None)
