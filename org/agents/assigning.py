"""What a chief makes of ideas: which next and for whom, what speaks against it, what a paper proposes. Pure.

Ideas are the rows of `org idea --json`. What it acts on is what a constant of the charter can express; the rest is for who
can read.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from org.agents import knobs as knobs_
from org.agents.decisions import Post
from org.agents.knobs import Value
from org.agents.reasons import show
from org.agents.search import Trial
from org.records import Knob, Metric

AHEAD = 2  # ideas a junior may have at once: the one it works on, and the next
BOAST = 5.0  # sizes of effect beyond which a greater prediction buys an idea no earlier turn
SHOWN = 600  # characters of an idea in a letter
MOST_OF_A_PAPER = 8  # ideas
UP = re.compile(r"\b(rais\w*|increas\w*|larger|longer|higher|greater|bigger|more|up|doubl\w*)\b")
DOWN = re.compile(r"\b(lower\w*|decreas\w*|reduc\w*|smaller|shorter|less|down|halv\w*|cut\w*)\b")
EXPECT = re.compile(r"\b(?:expect\w*|predict\w*)\W{1,4}([-+]\d*\.?\d+(?:e-?\d+)?)", re.IGNORECASE)


@dataclass(frozen=True)
class Idea:
    """One row, as far as a chief needs it, and what of the charter it turns."""

    id: str
    text: str
    source: str
    status: str
    knobs: tuple[str, ...]
    settings: tuple[tuple[Knob, Value], ...]
    expect: float | None = None
    mechanism: str = ""
    objection: str = ""
    objection_by: str = ""
    assigned_to: str = ""
    is_persons: bool = False
    repeats: tuple[str, ...] = ()
    insisted: bool = False
    outcomes: tuple[str, ...] = ()  # of its experiments that were judged


@dataclass(frozen=True)
class Draft:
    """An idea that a paper proposes, before anybody wrote it down."""

    text: str
    mechanism: str
    expect: float | None


def read(rows: Sequence[Mapping[str, Any]], charter_knobs: dict[str, Knob]) -> list[Idea]:
    """Ideas by number, from what `org idea --json` prints."""
    found = []
    for row in rows:
        text = str(row.get("text") or row.get("title") or "")
        tests = [test for test in row.get("experiments") or () if isinstance(test, Mapping)]
        found.append(
            Idea(
                id=str(row.get("id")),
                text=text,
                source=str(row.get("source") or ""),
                status=str(row.get("status") or ""),
                knobs=tuple(knobs_.named_in(text, charter_knobs)),
                settings=tuple(knobs_.settings_in(text, charter_knobs)),
                expect=row.get("expect"),
                mechanism=str(row.get("mechanism") or ""),
                objection=str(row.get("objection") or ""),
                objection_by=str(row.get("objection_by") or ""),
                assigned_to=str(row.get("assigned_to") or ""),
                is_persons=bool(row.get("is_persons")),
                repeats=tuple(map(str, row.get("repeats") or ())),
                insisted=bool(row.get("insisted")),
                outcomes=tuple(str(test["outcome"]) for test in tests if test.get("outcome")),
            )
        )
    return sorted(found, key=lambda idea: idea.id.zfill(12))


def due(ideas: Sequence[Idea], posts: Sequence[Post], metric: Metric, size: float) -> tuple[Idea, str] | None:
    """The idea to hand out next and the junior for it: a person's first, then by expected value. Nobody gets a third
    while two wait, and what repeats a tried one waits for the person's word."""
    load = {post.seat: 0 for post in posts}
    for idea in ideas:
        if idea.status == "assigned" and idea.assigned_to in load:
            load[idea.assigned_to] += 1
    for idea in sorted(
        waiting(ideas), key=lambda one: (not one.is_persons, -value(one, ideas, metric, size), one.id.zfill(12))
    ):
        seat = _owner(idea, posts, load)
        if seat is not None and load[seat] < AHEAD:
            return idea, seat
    return None


def waiting(ideas: Sequence[Idea]) -> list[Idea]:
    """Those that can be handed out: open, about a constant of the charter, and not tried before."""
    return [i for i in ideas if i.status == "open" and i.knobs and (not i.repeats or i.insisted)]


def value(idea: Idea, ideas: Sequence[Idea], metric: Metric, size: float) -> float:
    """The gain that it promises, as far as ideas of its source kept their promises."""
    promised = size if idea.expect is None else min(max(-metric.sign * idea.expect, 0.0), BOAST * size)
    judged = [outcome for one in ideas if one.source == idea.source for outcome in one.outcomes]
    kept = sum(outcome in ("win", "holds") for outcome in judged)
    return promised * (kept + 1) / (len(judged) + 2)


def objection(
    idea: Idea, current: Mapping[str, Value | None], trials: Sequence[Trial], metric: Metric, size: float
) -> str:
    """The strongest thing that facts say against it: what was measured of its constants, then what noise would hide,
    then what it leaves out."""
    said = [*_measured_against(idea, trials, metric), *_hidden(idea, trials, size), *_unsaid(idea, current)]
    rest = f"its gain may be another constant's: {', '.join(idea.knobs)} was tuned together with the rest of the recipe"
    return ". ".join(text[0].upper() + text[1:] for text in said[:2] or [rest]) + "."


def evidence(names: Sequence[str], trials: Sequence[Trial], most: int = 3) -> str:
    """What the record has on these constants, as references that a reader can look up."""
    wanted = {name.lower() for name in names}
    about = [t for t in trials if t.effect is not None and not t.is_stack and wanted & {n for n, _, _ in t.changes}]
    if not about:
        return f"Evidence: nothing was measured of {', '.join(names) or 'them'} yet."
    return (
        "Evidence: " + "; ".join(f"{_change(t)}: {t.outcome}, {{{t.experiment}.effect}}" for t in about[-most:]) + "."
    )


def letter(idea: Idea, trials: Sequence[Trial]) -> str:
    """The task: the idea in its author's words, what it predicts, what speaks against it, and what is known."""
    words = " ".join(idea.text.split())[:SHOWN]
    predicted = "It predicts no size." if idea.expect is None else f"It predicts {idea.expect:+g}."
    by = f" ({idea.objection_by})" if idea.objection_by else ""
    lines = [
        f"Idea {idea.id} ({idea.source}): {words}",
        f"{predicted}{f' Why: {_flat(idea.mechanism)}' if idea.mechanism else ''}",
        f"Objection{by}: {_flat(idea.objection)}",
        evidence(idea.knobs, trials),
        f"File it with --idea {idea.id}, before what you had in mind yourself.",
    ]
    return "\n".join(lines)


def orders(body: str) -> str:
    """Of a task letter about an idea what is to be done; objections and evidence name values too, and order nothing."""
    return "\n".join(row for row in body.splitlines() if not row.lstrip().startswith(("Objection", "Evidence", ">")))


def towards(text: str) -> int:
    """+1 where an idea wants more of a constant, -1 where less, 0 where it says neither or both."""
    lower = text.lower()
    return bool(UP.search(lower)) - bool(DOWN.search(lower))


# --- papers ------------------------------------------------------------------------------------------------------


def drafts(paper: str, charter_knobs: dict[str, Knob]) -> list[Draft]:
    """What a paper in Markdown proposes that a constant can express: every setting such as `matrix_lr`=0.05, and each
    headed section that names a constant in its heading or first sentence. The section's first sentence is the mechanism."""
    found: dict[str, Draft] = {}
    for heading, body in _sections(paper):
        first = _sentence(body)
        stated = EXPECT.search(body)
        expect = float(stated[1]) if stated else None
        for knob, setting in knobs_.settings_in(f"{heading}\n{body}", charter_knobs):
            text = f"{heading}: {knob.name} = {show(setting)}" if heading else f"{knob.name} = {show(setting)}"
            found.setdefault(text, Draft(text, first, expect))
        if not knobs_.settings_in(f"{heading}\n{body}", charter_knobs) and heading:
            text = f"{heading}. {first}".strip()
            if knobs_.named_in(text, charter_knobs):
                found.setdefault(text, Draft(text, first, expect))
    return list(found.values())[:MOST_OF_A_PAPER]


def _sections(paper: str) -> list[tuple[str, str]]:
    """(heading, text) of each; what stands before the first heading has none."""
    parts = re.split(r"^#{1,6}[ \t]+(.*)$", paper, flags=re.MULTILINE)
    pairs = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [(" ".join(heading.split())[:120], body) for heading, body in pairs]


def _sentence(body: str) -> str:
    """The first of a section, backticks and line breaks taken off."""
    plain = " ".join(body.replace("`", "").split())
    match = re.match(r".{1,280}?[.!?](?=\s|$)", plain)
    return match[0] if match else plain[:280]


# --- what speaks against one -------------------------------------------------------------------------------------


def _measured_against(idea: Idea, trials: Sequence[Trial], metric: Metric) -> list[str]:
    """Changes of its constants that did not help, in the direction it wants, the worst first."""
    found: list[tuple[float, str]] = []
    for trial in trials:
        if trial.effect is None or trial.is_stack or len(trial.changes) != 1 or trial.outcome in ("win", "holds"):
            continue
        name, old, new = trial.changes[0]
        if name in [k.lower() for k in idea.knobs] and _is_that_way(idea, name, old, new):
            found.append(
                (metric.sign * trial.effect, f"{_change(trial)} was a {trial.outcome}, {{{trial.experiment}.effect}}")
            )
    return [text for _, text in sorted(found, reverse=True)]


def _is_that_way(idea: Idea, name: str, old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool) or not all(isinstance(v, int | float) for v in (old, new)):
        return True
    wanted = [v for knob, v in idea.settings if knob.name.lower() == name and isinstance(v, int | float)]
    way = (wanted[0] > old) - (wanted[0] < old) if wanted else towards(idea.text)
    return not way or way == (new > old) - (new < old)


def _hidden(idea: Idea, trials: Sequence[Trial], size: float) -> list[str]:
    """Noise against what it predicts."""
    errors = [trial.se for trial in trials if trial.se and not trial.is_stack]
    if idea.expect is None:
        return ["it predicts no size, so no result would refute it"]
    if errors and abs(idea.expect) < 1.64 * statistics.median(errors):
        last = next(trial.experiment for trial in reversed(trials) if trial.se and not trial.is_stack)
        return [f"what it predicts is smaller than the noise of two runs lets anybody see ({{{last}.se}} of {last})"]
    if abs(idea.expect) > BOAST * size:
        return ["what it predicts is larger than nearly any single change brings: a smaller gain would refute it"]
    return []


def _unsaid(idea: Idea, current: Mapping[str, Value | None]) -> list[str]:
    """What it leaves out."""
    said = [
        f"{knob.name} stands at {show(setting)} already"
        for knob, setting in idea.settings
        if knobs_.same(setting, current.get(knob.name))
    ]
    if len(idea.knobs) > 1:
        said.append(f"it turns {' and '.join(idea.knobs)}, and one experiment would not say which of them did it")
    if not idea.mechanism:
        said.append("it names no mechanism: a tuned learning rate or schedule might give the same")
    return said


def _owner(idea: Idea, posts: Sequence[Post], load: Mapping[str, int]) -> str | None:
    """Who turns its first constant; where nobody does, who has least to do."""
    own = [post.seat for post in posts if idea.knobs[0] in post.knobs]
    return min(own or [post.seat for post in posts], key=lambda seat: load[seat], default=None)


def _change(trial: Trial) -> str:
    turned = ", ".join(f"{name} {show(old)}→{show(new)}" for name, old, new in trial.changes)
    return f"{trial.experiment} {turned}"


def _flat(text: str) -> str:
    return " ".join(text.split())[:SHOWN]
