"""Where the knobs stood that an experiment did not turn: put together from what moved each head. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from org.agents import knobs as knobs_
from org.records import KEPT

if TYPE_CHECKING:
    from org.agents.search import Trial


class Heads:
    """`first`: where each knob stood before anybody turned it. `moved`: baseline -> what stands otherwise there."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        """trials: oldest first. A stack that held makes the head at its commit; a head that nothing here made (a member left,
        a person turned something) is the last one of its program but for what experiments on it turned."""
        self.first: dict[str, Any] = {}
        self.moved: dict[str, dict[str, Any]] = {}
        by_name = {trial.experiment: trial for trial in trials}
        last: dict[str, str] = {}  # program -> the baseline of its newest experiment
        after: dict[str, str] = {}  # baseline -> the head that a stack on it made
        for trial in trials:
            for name, old, _ in trial.changes:
                self.first.setdefault(name, old)
            if not trial.baseline:
                continue
            if trial.baseline not in self.moved:
                head, passed = last.get(trial.program, ""), set[str]()
                while head in after and head not in passed:
                    passed.add(head)
                    head = after[head]
                self.moved[trial.baseline] = dict(self.moved.get(head, {}))
            if not trial.is_stack:
                last[trial.program] = trial.baseline
                self.moved[trial.baseline].update({name: old for name, old, _ in trial.changes})
            elif trial.outcome in KEPT and trial.commit:
                members = (by_name[name] for name in trial.members if name in by_name)
                turned = {name: new for member in members for name, _, new in member.changes}
                self.moved[trial.commit] = self.moved[trial.baseline] | turned
                after.setdefault(trial.baseline, trial.commit)
        for stood in self.moved.values():
            for name in [name for name, value in stood.items() if knobs_.same(value, self.first.get(name))]:
                del stood[name]

    def beside(self, baseline: str) -> dict[str, Any]:
        """What stands otherwise than at first on this baseline; nothing is known of one without a name."""
        return self.moved.get(baseline, {})
