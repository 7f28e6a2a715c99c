"""What a chief writes into the wiki, from verdicts alone: a finding for each stack that held, a dead end for each knob that was
turned and turned and brought nothing. Pure; each has a title by which it is written once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from org.agents.reasons import show
from org.agents.search import Trial
from org.words import counted

ENOUGH = 3  # values of a knob that were measured, none of them kept
REFUTED = ("null", "loss", "crash", "invalid")


@dataclass(frozen=True)
class Lesson:
    kind: str  # "finding" or "dead-end"
    title: str
    text: str

    @property
    def page(self) -> str:
        return f"{self.title}\n\n{self.text}"


def due(trials: Sequence[Trial], written: Collection[str]) -> list[Lesson]:
    """Lessons that no title of `written` stands for yet, findings first."""
    found = [*_findings(trials), *_dead_ends(trials)]
    return [lesson for lesson in found if lesson.title not in written]


def _findings(trials: Sequence[Trial]) -> list[Lesson]:
    by_name = {trial.experiment: trial for trial in trials}
    found = []
    for stack in trials:
        if not stack.is_stack or stack.outcome not in ("win", "holds") or stack.is_out:
            continue
        members = [by_name[name] for name in stack.members if name in by_name]
        changes = ", ".join(_change(trial) for trial in members) or stack.description[:80]
        title = f"Finding: {changes[:34]} verified on {stack.program} ({stack.experiment})"
        # members are named in a sentence of their own: by itself each is tentative
        text = (
            f"Fresh seeds and the hidden split, together: {{{stack.experiment}.effect}} of {{{stack.experiment}.se}} "
            f"standard error.\nMade of {', '.join(f'{trial.experiment}: {_change(trial)}' for trial in members)}."
        )
        found.append(Lesson("finding", title, text))
    return found


def _dead_ends(trials: Sequence[Trial]) -> list[Lesson]:
    knobs = dict.fromkeys((t.program, t.changes[0][0]) for t in trials if len(t.changes) == 1 and not t.is_stack)
    found = []
    for program, knob in knobs:
        mine = [
            t
            for t in trials
            if t.program == program and not t.is_stack and [n for n, _, _ in t.changes] == [knob] and t.outcome
        ]
        refuted = [t for t in mine if t.outcome in REFUTED]
        if len(refuted) < ENOUGH or any(t.outcome in ("win", "holds") for t in mine):
            continue
        named = ", ".join(f"{show(t.changes[0][2])} ({t.experiment}, {t.outcome})" for t in refuted[:6])
        title = f"Dead end: {knob} on {program}"
        text = f"{counted(len(refuted[:6]), 'value')} tried from {show(refuted[0].changes[0][1])}, none kept: {named}."
        found.append(Lesson("dead-end", title, text))
    return found


def _change(trial: Trial) -> str:
    return (
        ", ".join(f"{name} {show(old)}\u2192{show(new)}" for name, old, new in trial.changes) or trial.description[:60]
    )
