"""What became of attacks on tentative wins: broken, stood, undecided; and whose attacks found what. Pure, from the ledger.

the verdicts of its attacks -> refuted by one of them | stands after all | undecided | open
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from org.evidence.refute import BOTH, RETUNED, Attack, State, both
from org.records import KEPT, Contract, Record, Verdict


@dataclass(frozen=True)
class Trial(Record):
    """One attack on one claim, and what it came to."""

    experiment: str
    attack: str
    seat: str
    state: State


@dataclass(frozen=True)
class Standing(Record):
    """What all attacks on a claim came to. `by`: the attack that refuted it; `after`: those it stood; `left`: those that
    are open, or were not made yet; `unsure`: those that could not be decided."""

    outcome: Literal["refuted", "stands", "undecided", "open"]
    by: str = ""
    experiment: str = ""  # which refuted it
    after: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()

    @property
    def said(self) -> str:
        """A few words for tables; "" where there is nothing to say yet."""
        if self.outcome == "refuted":
            return f"refuted by {self.by} ({self.experiment})"
        if self.outcome == "stands":
            return f"stands after {', '.join(self.after)}"
        words = [f"stood {', '.join(self.after)}"] if self.after else []
        words += [f"undecided by {', '.join(self.unsure)}"] if self.unsure else []
        return "; ".join(words)


def state(contract: Contract, verdict: Verdict | None) -> State:
    """What an attack came to. A crash on a fresh seed breaks a claim; one at a learning rate that nobody claimed does not."""
    if verdict is None:
        return "open"
    if verdict.outcome == "lost":
        return "lost"
    if verdict.outcome == "win":
        return "stood"
    is_far = contract.attack.startswith(BOTH)
    return "broken" if verdict.outcome == "loss" or (verdict.outcome == "crash" and not is_far) else "undecided"


def breaks(contract: Contract, verdict: Verdict | None) -> bool:
    """Whether this attack refutes its claim. A baseline that is better re-tuned does not yet: see `both`."""
    return bool(contract.refutes) and not contract.attack.startswith(RETUNED) and state(contract, verdict) == "broken"


def left(planned: Iterable[Attack], trials: Sequence[Trial], limit: int) -> list[Attack]:
    """The attacks that are still to be made, in their order. limit: how often one may be lost by the org."""
    wanted: list[Attack] = []
    for attack in planned:
        wanted.append(attack)
        if attack.kind == RETUNED and _state(attack.name, trials) in ("broken", "undecided"):
            wanted.append(both(attack.name))
    lost = {a.name: sum(t.attack == a.name and t.state == "lost" for t in trials) for a in wanted}
    return [a for a in wanted if _state(a.name, trials) in ("", "lost") and lost[a.name] < limit]


def trials(contracts: Mapping[str, Contract], verdicts: Mapping[str, Verdict]) -> dict[str, list[Trial]]:
    """By the claim they are on, oldest first."""
    found: dict[str, list[Trial]] = {}
    for name, c in contracts.items():
        if c.refutes:
            one = Trial(name, c.attack, c.seat, state(c, verdicts.get(name)))
            found.setdefault(c.refutes, []).append(one)
    return found


def standings(contracts: Mapping[str, Contract], verdicts: Mapping[str, Verdict]) -> dict[str, Standing]:
    """What became of every claim that was attacked."""
    return {
        claim: standing(found, contracts[found[-1].experiment].attacks)
        for claim, found in trials(contracts, verdicts).items()
    }


def standing(found: Sequence[Trial], planned: Iterable[str]) -> Standing:
    """found: the attacks that were made; planned: the names of all that the claim has to stand."""
    names = list(dict.fromkeys([*planned, *(trial.attack for trial in found)]))
    after, unsure, waits = [], [], []
    for name in names:
        now = _state(name, found)
        if now == "broken" and not name.startswith(RETUNED):
            by = next(t for t in found if t.attack == name and t.state == "broken")
            return Standing("refuted", name, by.experiment)
        if now in ("broken", "undecided") and name.startswith(RETUNED):
            names += [] if (after_it := both(name).name) in names else [after_it]
        elif now == "stood":
            after.append(name)
        elif now == "undecided":
            unsure.append(name)
        else:
            waits.append(name)
    outcome: Literal["open", "undecided", "stands"] = "open" if waits else "undecided" if unsure else "stands"
    return Standing(outcome, after=tuple(after), left=tuple(waits), unsure=tuple(unsure))


def _state(name: str, found: Sequence[Trial]) -> State | Literal[""]:
    """The last word on an attack: what it showed, or that it is open or lost; "" where it was not made."""
    return next((trial.state for trial in reversed(found) if trial.attack == name), "")


@dataclass(frozen=True)
class Score(Record):
    """What one seat's attacks came to, over the whole ledger."""

    who: str
    tried: int  # claims attacked with an answer
    found: int  # refuted
    confirmed: int  # stood every attack
    missed: int  # let stand, and did not hold in a verification or at another scale later


def fell(contracts: Mapping[str, Contract], verdicts: Mapping[str, Verdict]) -> set[str]:
    """What did not hold in a verification of it alone, or at another scale."""
    found = set()
    for name, c in contracts.items():
        verdict = verdicts.get(name)
        if verdict is None or verdict.outcome in (*KEPT, "lost"):
            continue
        if c.promotes:
            found.add(c.promotes)
        elif c.stage == "verify" and len(c.members) == 1:
            found.add(c.members[0])
    return found


def scores(contracts: Mapping[str, Contract], verdicts: Mapping[str, Verdict], fell: Collection[str]) -> list[Score]:
    """One for each seat that attacked anything, by name. A claim counts for who made the attack that decided it, one that
    stands for everybody who attacked it. fell: see there."""
    all_of, stood = trials(contracts, verdicts), standings(contracts, verdicts)
    rows: dict[str, list[int]] = {}
    for claim, found in all_of.items():
        seats = dict.fromkeys(t.seat for t in found if t.state not in ("open", "lost"))
        for seat in seats:
            row = rows.setdefault(seat, [0, 0, 0, 0])
            row[0] += 1
            ended = stood[claim]
            if ended.outcome == "refuted":
                row[1] += contracts[ended.experiment].seat == seat
            elif ended.outcome == "stands":
                row[2] += 1
                row[3] += claim in fell
    return [Score(who, *rows[who]) for who in sorted(rows)]
