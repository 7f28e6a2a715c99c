"""Answers without names: labels drawn for each reader, rankings by label read back, and the tally over all of them. Pure."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

RANKING, DISSENT = "Ranking:", "Dissent:"  # what begins a line of an answer that is understood
_LABEL = re.compile(r"\b[A-Z]{1,2}\b")
_NAMED = re.compile(r"\b(Answer|answer|ANSWER)([ \t]+)([A-Z]{1,2})\b")
_DECOR = " \t*#>-_`"
_PLACE = re.compile(r"^[ \t]*[0-9]{1,2}[.)]")
LINE_LIMIT = 2000  # characters of a line in which labels are looked for


@dataclass(frozen=True)
class Place:
    """How one author's answer was ranked. mean: its place, 1 the best, over `by` rankings; first: how often it was the best."""

    author: str
    mean: float
    first: int
    by: int


def labels(authors: Iterable[str], seed: str) -> dict[str, str]:
    """Author -> label (A, B, …), drawn anew for each seed: one letter's A says nothing about another's."""
    drawn = sorted(authors)
    random.Random(seed).shuffle(drawn)
    return {author: _label(at) for at, author in enumerate(drawn)}


def ranked(text: str, known: Mapping[str, str]) -> list[str]:
    """The authors in the order in which `text` ranks their labels; [] where it does not. known: author -> label. Of several
    rankings the last counts; one stands behind `Ranking:`, or below it as a numbered list."""
    authors = {label: author for author, label in known.items()}
    found: list[str] = []
    lines = text.splitlines()
    for at, line in enumerate(lines):
        bare = line[:LINE_LIMIT].strip(_DECOR)
        if not bare.lower().startswith(RANKING.lower()):
            continue
        said = bare[len(RANKING) :]
        if not _LABEL.search(said):
            listed = [row[:LINE_LIMIT] for row in lines[at + 1 : at + 1 + 2 * len(known) + 2]]
            said = " ".join(_first_label(row) for row in listed if _PLACE.match(row))
        order = [authors[label] for label in _LABEL.findall(said) if label in authors]
        found = list(dict.fromkeys(order)) or found
    return found


def tally(rankings: Sequence[tuple[Sequence[str], Iterable[str]]]) -> list[Place]:
    """The best first. rankings: (authors in their order, all that could be ranked there): one that was left out has the mean
    of the places that were left."""
    places: dict[str, list[float]] = {}
    firsts: dict[str, int] = {}
    for order, could in rankings:
        rest = [author for author in could if author not in order]
        for at, author in enumerate(order, 1):
            places.setdefault(author, []).append(float(at))
            firsts[author] = firsts.get(author, 0) + (at == 1)
        for author in rest:
            places.setdefault(author, []).append(len(order) + (len(rest) + 1) / 2)
    found = [Place(who, sum(at) / len(at), firsts.get(who, 0), len(at)) for who, at in places.items()]
    return sorted(found, key=lambda place: (place.mean, -place.first, place.author))


def relabelled(text: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """`text` with every `Answer B`, and every label of a ranking, as another reader knows it. old, new: author -> label. An
    answer that the new reader does not have is `?`."""
    swap = {label: new.get(author, "?") for author, label in old.items()}
    out = []
    for line in text.splitlines():
        if line.strip(_DECOR).lower().startswith(RANKING.lower()):
            line = _LABEL.sub(lambda found: swap.get(found[0], found[0]), line)
        out.append(_NAMED.sub(lambda found: f"{found[1]}{found[2]}{swap.get(found[3], found[3])}", line))
    return "\n".join(out)


def dissent(text: str) -> tuple[str, str]:
    """(the text without it, what stands from a line that begins with `Dissent:` on)."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        bare = line.strip(_DECOR)
        if bare.lower().startswith(DISSENT.lower()):
            kept = [bare[len(DISSENT) :].strip(_DECOR), *lines[at + 1 :]]
            return "\n".join(lines[:at]).strip(), "\n".join(kept).strip()
    return text, ""


def _first_label(line: str) -> str:
    named = _NAMED.search(line)
    found = _LABEL.search(_PLACE.sub("", line))
    return named[3] if named else found[0] if found else ""


def _label(at: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return letters[at] if at < len(letters) else letters[at // len(letters) - 1] + letters[at % len(letters)]
