"""What a seat without a network says when it is asked: about an experiment, about a question, about others' answers. Pure.

All of it is from the record: the ids it names are of the ledger, its numbers are references that are filled in when
somebody reads them. It has no judgement beyond that, and says nothing that the record does not show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from org.agents import knobs as knobs_
from org.agents.reasons import show
from org.agents.search import Trial, seed_of
from org.records import Knob, Metric

RANKING, DISSENT = "Ranking:", "Dissent:"  # words of a question that say in what form it is answered
EXPERIMENT = re.compile(r"\bE\d{4,}\b")
ABOUT = re.compile(r"^About: (E\d{4,})$", re.MULTILINE)
ANSWER = re.compile(r"^### Answer ([A-Z]{1,2})\b.*$", re.MULTILINE)
PLACED = re.compile(r"^- Answer ([A-Z]{1,2}): mean place", re.MULTILINE)
WORK = re.compile(r"^- (params|flops|tokens) ([0-9.]+)x the baseline's$", re.MULTILINE)
ASKED = re.compile(r"^### Question$(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
MORE_WORK = 1.02  # of the baseline's: more than that is another explanation
THIN = 2.0  # standard errors: an effect below this may be luck


def answer(body: str, seat: str, trials: Sequence[Trial], knobs: Mapping[str, Knob], metric: Metric) -> str | None:
    """What `seat` answers to the question in `body`; None where it asks for nothing but a report."""
    given = answers_in(body)
    asked = "\n".join(line for line in body.splitlines() if not line.startswith(">"))
    if given and DISSENT in asked:
        return synthesis(given, _order(body, given, trials))
    if given and RANKING in asked:
        return ranking(given, trials)
    about = ABOUT.search(body)
    if about:
        trial = next((t for t in trials if t.experiment == about[1]), None)
        return doubt(trial, body, metric) if trial else f"{about[1]} is not on the record that I can read."
    question = ASKED.search(body)
    if question is None:
        return None
    return view(question[1], seat, trials, knobs, metric)


def answers_in(body: str) -> dict[str, str]:
    """Label -> the answer that a letter has under it, the last where there are several rounds."""
    found = {}
    for mark in ANSWER.finditer(body):
        section = body[mark.end() :].partition("\n### ")[0]
        found[mark[1]] = "\n".join(line.lstrip("> ") for line in section.splitlines() if line.startswith(">")).strip()
    return found


# --- about an experiment -----------------------------------------------------------------------------------------


def doubt(trial: Trial, body: str, metric: Metric) -> str:
    """The strongest other explanation of a claimed win that its numbers leave, and what would decide."""
    name = trial.experiment
    for axis, ratio in WORK.findall(body):
        if float(ratio) > MORE_WORK:
            return (
                f"{name} has more {axis} than its baseline, so compute may be all of it. The same budget spent on the baseline "
                "would decide: if that gains as much, the change does nothing."
            )
    if trial.effect is not None and trial.se and abs(trial.effect) < THIN * trial.se:
        return (
            f"{name} may be luck: {{{name}.effect}} is within two standard errors ({{{name}.se}}) of nothing. Fresh seeds of both "
            "arms would decide; build nothing on it before."
        )
    if len(trial.changes) > 1:
        parts = ", ".join(change[0] for change in trial.changes)
        return f"{name} turns {parts} at once. One of them may do nothing: take each out by itself before they are stacked."
    if trial.expect is not None and trial.effect is not None and abs(trial.effect) > 2 * abs(trial.expect):
        return (
            f"{name} measured {{{name}.effect}}, more than twice what was predicted, so its author's mechanism is not what moved "
            f"{metric.name}. Tune the baseline's learning rate once more before it counts."
        )
    if trial.outcome not in ("win", "holds"):
        return f"{name} is {trial.outcome or 'not judged yet'}; there is no win to refute."
    said = _change(trial)
    return f"I find nothing against {name} ({said}): effect {{{name}.effect}}, se {{{name}.se}}. An untuned baseline is what is left to rule out."


# --- about a question --------------------------------------------------------------------------------------------


def view(question: str, seat: str, trials: Sequence[Trial], knobs: Mapping[str, Knob], metric: Metric) -> str:
    """One of three ways to look at what the record has about a question, each seat its own: what won, what nobody tried,
    what failed."""
    named = set(knobs_.named_in(question, knobs))
    ids = set(EXPERIMENT.findall(question))
    programs = {t.program for t in trials if re.search(rf"\b{re.escape(t.program)}\b", question)}
    mine = [t for t in trials if not t.is_open and not t.is_stack]
    about = [t for t in mine if _is_about(t, named, ids, programs)] or mine
    sign = metric.sign
    wins = sorted((t for t in about if t.is_keep and t.effect is not None), key=lambda t: sign * (t.effect or 0.0))
    flat = [t for t in about if t.outcome in ("null", "loss")]
    turned = {name for t in mine for name, _, _ in t.changes}
    untried = [name for name in (named or knobs) if name.lower() not in turned]
    ways = [_of_wins(wins), _of_untried(untried), _of_failures(flat)]
    at = seed_of(seat) % len(ways)
    return next(
        (said for said in ways[at:] + ways[:at] if said), "The record has no verdict yet; run the baselines first."
    )


def _of_wins(wins: Sequence[Trial]) -> str:
    if not wins:
        return ""
    best = wins[0]
    others = f", and {', '.join(t.experiment for t in wins[1:3])} with it" if wins[1:] else ""
    return (
        f"Go on from {best.experiment} ({_change(best)}, {{{best.experiment}.effect}}){others}: have them verified together, then "
        "take a further step the same way."
    )


def _of_untried(untried: Sequence[str]) -> str:
    if not untried:
        return ""
    return f"Nobody has turned {', '.join(untried[:3])} yet. One bold step on {untried[0]} tells more than another on what was visited."


def _of_failures(flat: Sequence[Trial]) -> str:
    if not flat:
        return ""
    last = flat[-3:]
    return (
        f"Stop here: {', '.join(f'{t.experiment} ({_change(t)})' for t in last)} kept nothing. What is left is below what two runs can "
        "see; spend the devices on another program."
    )


def _is_about(trial: Trial, named: set[str], ids: set[str], programs: set[str]) -> bool:
    turned = {name for name, _, _ in trial.changes}
    return bool(turned & {name.lower() for name in named}) or trial.experiment in ids or trial.program in programs


# --- about others' answers ---------------------------------------------------------------------------------------


def ranking(given: Mapping[str, str], trials: Sequence[Trial]) -> str:
    """The answer that rests on the most experiments of the record first."""
    order = _by_evidence(given, trials)
    cited = _cited(given[order[0]], trials)
    why = f"it rests on {', '.join(cited)}" if cited else "none of them names an experiment of the record"
    return f"Answer {order[0]} first: {why}.\n{RANKING} {' > '.join(order)}"


def synthesis(given: Mapping[str, str], order: Sequence[str]) -> str:
    """What the best answer says, and what the best one that says something else has against it."""
    best = order[0]
    other = next((label for label in order[1:] if _first(given[label]) != _first(given[best])), None)
    lines = [f"Answer {best} stands: {_first(given[best])}"]
    if other is not None:
        return "\n".join([*lines, "", f"{DISSENT} Answer {other} says otherwise: {_first(given[other])}"])
    return "\n".join([*lines, "", f"{DISSENT} every answer reads the same record, so they may share its gaps."])


def _order(body: str, given: Mapping[str, str], trials: Sequence[Trial]) -> list[str]:
    placed = [label for label in PLACED.findall(body) if label in given]
    return [*placed, *(label for label in _by_evidence(given, trials) if label not in placed)]


def _by_evidence(given: Mapping[str, str], trials: Sequence[Trial]) -> list[str]:
    return sorted(given, key=lambda label: (-len(_cited(given[label], trials)), label))


def _cited(text: str, trials: Iterable[Trial]) -> list[str]:
    known = {t.experiment for t in trials}
    return [name for name in dict.fromkeys(EXPERIMENT.findall(text)) if name in known]


def _first(text: str) -> str:
    """The first sentence, on one line."""
    flat = " ".join(text.split())
    return re.split(r"(?<=[.!?:;]) ", flat, maxsplit=1)[0][:300]


def _change(trial: Trial) -> str:
    return ", ".join(f"{n} {show(a)}→{show(b)}" for n, a, b in trial.changes) or trial.description[:80]
