"""How a tentative win is attacked: which rival explanations there are, in which order, and when one of them has won. Pure.

    diff, claim, past attacks -> the attacks left, cheapest a chance first -> one experiment each -> broken: refuted
                                                                                                -> all stood: it stands

An attack is a pair of trees that the claim and its rival explain by different numbers: the claim says that the gain is
`shows` at least, the rival that there is none. Runs go on until one of the two is as good as excluded (Wald's test, on all
runs of both arms on seeds that no search and no verification ever draws). What the proposer wrote is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from org.evidence import matching, stats
from org.records import Charter, Contract, Knob, KnobChange, Outcome, Record, RunResult, Verdict

FIRST_SEED = 10_001  # from here on seeds are the refutations' alone: no search and no verification draws one
LOOKS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24)  # runs an arm at which a decision may fall
RISK = 0.05  # that any of its attacks refutes a gain of `shows`; shared out among them
MISS = 0.05  # that an attack lets a claim stand whose gain there is none
LEAST, MOST = 1.25, 1.5  # bounds of `shows` in sigmas: below, no affordable number of runs tells it from nothing
LEVELS = 4  # levels of learning rates that a baseline is re-tuned to, at most
WORKED = (
    0.3  # processor seconds by the org's count, which are noisy; beyond twice the baseline's the judge says invalid
)

SEEDS, MATCHED, WITHOUT, RETUNED, BOTH = "seeds", "matched", "without", "retuned", "both"
KINDS = (SEEDS, MATCHED, WITHOUT, RETUNED, BOTH)
CODE = "code"  # the part of a change that is no knob
# How often each explanation is the right one, before anything is known of this claim: of ten ideas eight are nulls, and the
# tentative rule passes one null in ten and every second good one.
LUCK, SHOWN = 0.3, 0.1  # at the threshold of z; where z leaves no luck, seeds may still have been known to the code
CHANCES = {MATCHED: 0.5, WITHOUT: 0.25, RETUNED: 0.1, BOTH: 0.6}
RUNS = {SEEDS: 5, MATCHED: 5, WITHOUT: 6, RETUNED: 3, BOTH: 6}  # an arm, until it is decided, as a rule

State = Literal["open", "lost", "stood", "broken", "undecided"]  # lost: by the org, so it showed nothing
ANSWERS: dict[str, tuple[Outcome, str]] = {
    "stood": ("win", "the claim stood"),
    "broken": ("loss", "the claim is broken"),
    "undecided": ("null", "not decided"),
}


@dataclass(frozen=True)
class Claim:
    """What is known of a win: its diff in facts and its numbers, none of its words."""

    experiment: str
    gain: float  # claimed, in the metric's unit, positive when better
    se: float
    z: float
    n: int
    sigma: float
    parts: tuple[str, ...]  # knobs and `code` of a change of several; none of a change of one
    knobs: tuple[KnobChange, ...]
    unequal: str = ""  # the axis of a control that is owed: flops, cpu_s
    control: str = ""  # it was measured under one already


@dataclass(frozen=True)
class Attack(Record):
    """One way to refute a claim. `runs`: what it costs, as a rule; `chance`: that it refutes."""

    name: str
    asks: str
    runs: int
    chance: float

    @property
    def kind(self) -> str:
        return self.name.partition(" ")[0]

    @property
    def what(self) -> str:
        """The part that is taken out, or the level as `NAME=VALUE`."""
        return self.name.partition(" ")[2]


@dataclass(frozen=True)
class Level:
    """One value of a learning rate beside the one that the baseline has."""

    name: str  # of the constant
    path: str
    value: Any

    @property
    def text(self) -> str:
        return f"{self.name}={self.value:g}" if isinstance(self.value, float) else f"{self.name}={self.value}"


# --- a claim and its attacks -------------------------------------------------------------------------------------


def problem(contract: Contract | None, verdict: Verdict | None, name: str) -> str:
    """Why `name` is nothing to refute, and what is; "" when it is."""
    if contract is None:
        return f"{name} is not in the ledger; `org results` lists what is"
    if contract.refutes:
        return f"{name} is itself an attempt on {contract.refutes}; `org refute {contract.refutes}`"
    said = f"{verdict.outcome} {verdict.tier or ''}".strip() if verdict else "not judged yet"
    if verdict is None or contract.stage != "search" or (verdict.outcome, verdict.tier) != ("win", "tentative"):
        return f"{name} is {said}; only a tentative win can be refuted (`org results --kept`)"
    if verdict.effect is None or not verdict.se or not verdict.sigma:
        return f"{name} has no effect with a known noise; there is nothing to refute"
    return ""


def claim_of(contract: Contract, verdict: Verdict, sign: int) -> Claim:
    """The facts of a win that `problem` has nothing against. sign: the metric's."""
    owed = tuple(part.removeprefix("without-") for part in contract.ablations_owed)
    return Claim(
        experiment=contract.experiment,
        gain=-sign * (verdict.effect or 0.0),
        se=verdict.se or 0.0,
        z=verdict.z or 0.0,
        n=verdict.n,
        sigma=verdict.sigma or 0.0,
        parts=() if contract.control else owed,  # under a control the rest of it has no budget of its own
        knobs=contract.knobs,
        unequal=_unequal(contract, verdict),
        control=contract.control,
    )


def _unequal(contract: Contract, verdict: Verdict) -> str:
    """The axis on which the candidate spent more than the baseline though nothing allowed it. Under `wall_s` more FLOPs are
    what the charter compares at; where none are printed the org's own count of processor seconds is what there is."""
    if contract.control or contract.matched in ("flops", "wall_s"):
        return ""
    row = verdict.matching.get("flops") or {}
    old, new = row.get("baseline"), row.get("candidate")
    if old and new and new / old - 1 > matching.COUNTED:
        return "flops"
    return "cpu_s" if matching.works_longer(verdict.matching, WORKED) else ""


def shows(claim: Claim, rules_z: float, parts: int = 1, kind: str = SEEDS) -> float:
    """The gain that the claim, or one of its parts, has to show: what was measured less what passing selects. At equal work
    less is left of a true gain: the least."""
    return 0.0 if kind == MATCHED else stats.unselected(claim.gain, claim.se, rules_z) / parts


def asked(shows: float, sigma: float) -> float:
    """The gain that is asked for under an attack, once sigma is known from its runs too."""
    return min(MOST * sigma, max(LEAST * sigma, shows))


def risk(names: Collection[str]) -> float:
    """Of each attack, so that all together refute a gain of `shows` no more often than RISK. Re-tuned baselines that win
    are asked again with the candidate re-tuned too, and count once."""
    count = sum(1 for name in names if not name.startswith(RETUNED)) + any(n.startswith(RETUNED) for n in names)
    return RISK / max(1, count)


def levels(charter: Charter, values: Mapping[str, Any], claim: Claim) -> list[Level]:
    """Neighbouring levels of the baseline's learning rates: half and double on a log range, an eighth of the range up and
    down else, the next choices. values: constant -> its value in the baseline. A knob that the claim turns is no rival: its
    own level is what is claimed."""
    turned = {knob.name for knob in claim.knobs}
    found: list[Level] = []
    for name, knob in charter.knobs.items():
        constant = name.upper()
        if constant in turned or constant not in values or not is_rate(name, knob):
            continue
        found += [Level(constant, knob.path, value) for value in _neighbours(knob, values[constant])]
    return found[:LEVELS]


def is_rate(name: str, knob: Knob) -> bool:
    """Whether a knob is a learning rate: what the charter says (`retune:`), else by its name."""
    if knob.retune is not None:
        return knob.retune
    return name.lower() == "lr" or name.lower().endswith(("_lr", "learning_rate"))


def _neighbours(knob: Knob, value: Any) -> list[Any]:
    if knob.choices:
        if value not in knob.choices:
            return []
        at = knob.choices.index(value)
        return [knob.choices[i] for i in (at + 1, at - 1) if 0 <= i < len(knob.choices)]
    if isinstance(value, bool) or not isinstance(value, int | float) or knob.low is None or knob.high is None:
        return []
    step = (knob.high - knob.low) / 8
    wanted = (value * 2, value / 2) if knob.log else (value + step, value - step)
    inside = [min(knob.high, max(knob.low, level)) for level in wanted]
    rounded = [round(level) if knob.integer else float(f"{level:.6g}") for level in inside]
    return [level for level in dict.fromkeys(rounded) if level != value]


def attacks(claim: Claim, rates: Sequence[Level], ready: Mapping[str, int] | None = None) -> list[Attack]:
    """Every attack on the claim, the cheapest a chance first; what asks where a gain comes from after what asks whether
    there is one, or luck would be refuted as something else. ready: of each, the runs that are there already."""
    found = [_attack(SEEDS, _luck(claim.z), "on seeds that no search ever drew, does it gain at all?", ready)]
    if claim.unequal:
        asks = f"with the budget cut until both arms spend the same {claim.unequal}, does it gain?"
        found.append(_attack(MATCHED, CHANCES[MATCHED], asks, ready))
    for part in claim.parts:
        found.append(_attack(f"{WITHOUT} {part}", CHANCES[WITHOUT], f"is it worse without {part}?", ready))
    for level in rates:
        asks = f"does it beat the baseline at {level.text}?"
        found.append(_attack(f"{RETUNED} {level.text}", CHANCES[RETUNED], asks, ready))
    return sorted(found, key=lambda attack: (attack.kind in (WITHOUT, RETUNED), attack.runs / attack.chance))


def both(retuned: str, ready: Mapping[str, int] | None = None) -> Attack:
    """What follows where a re-tuned baseline is as good as the candidate: both arms at that level. Gains that add up show
    there too; one that was the learning rate's does not."""
    level = retuned.partition(" ")[2]
    return _attack(f"{BOTH} {level}", CHANCES[BOTH], f"with both arms at {level}, does it gain?", ready)


def named(asked: str, planned: Sequence[Attack]) -> Attack | None:
    """The attack that somebody asks for by its name or, of several of its kind, by the kind alone: the first of them."""
    words = asked.replace(":", " ", 1).split()
    name = " ".join([words[0].lower(), *words[1:]]) if words else ""
    exact = [attack for attack in planned if attack.name.lower() == name.lower()]
    return next(iter(exact), None) or next((attack for attack in planned if attack.kind == name), None)


def designed(contract: Contract, claim: Claim, attack: Attack, names: Sequence[str], charter: Charter) -> Contract:
    """The experiment that an attack is, but for its trees, commits and number: of the claim's own words it has none.
    names: of every attack that was planned."""
    parts = len(claim.parts) if attack.kind == WITHOUT else 1
    how = f"{attack.name}: {attack.asks}"
    return contract.measured_again(
        why=f"{claim.experiment} under attack, {how}",
        claim="better",
        stage="refute",
        refutes=claim.experiment,
        attack=attack.name,
        attacks=tuple(names),
        shows=shows(claim, charter.rules.tentative_z, parts, attack.kind),
        risk=risk(names),
        seeds=seeds(),
        control=claim.unequal if attack.kind == MATCHED else contract.control,
        matched=claim.unequal if attack.kind == MATCHED else contract.matched,
        knobs=(),
        new_constants=(),
        lines_added=0,
        lines_removed=0,
        code="",
    )


def _attack(name: str, chance: float, asks: str, ready: Mapping[str, int] | None) -> Attack:
    kind = name.partition(" ")[0]
    least = 1 if kind == MATCHED else 0
    return Attack(name, asks, max(1, 2 * RUNS[kind] + least - (ready or {}).get(name, 0)), chance)


def _luck(z: float) -> float:
    """The chance that a win of this z is a null that was lucky: LUCK at the threshold, less as the evidence grows."""
    odds = LUCK / (1 - LUCK) * math.exp(-(max(0.0, z * z - 1.64**2)) / 4)
    return max(SHOWN, odds / (1 + odds))


# --- one attack ---------------------------------------------------------------------------------------------------


def is_fresh(seed: int) -> bool:
    """Whether the seed is the refutations' own."""
    return seed >= FIRST_SEED


def counts(contract: Contract, run: RunResult) -> bool:
    """Whether a run may be looked at for this contract. What attacks measured of a baseline is not for the search: its next
    win is tried on those seeds. And a candidate's gain on the search's seeds alone would be noise to an attack, and slow
    what finds it."""
    if contract.stage == "refute":
        return run.tree != contract.tree or is_fresh(run.seed)
    return contract.stage != "search" or run.tree != contract.baseline_tree or not is_fresh(run.seed)


def seeds() -> tuple[int, ...]:
    """Of every attack, in this order, so that a baseline's runs are paid for once."""
    return tuple(range(FIRST_SEED, FIRST_SEED + LOOKS[-1]))


def next_look(done: int) -> int:
    """Runs an arm at the look after `done` of them; 0 when there is none."""
    return next((look for look in LOOKS if look > done), 0)


def decide(gain: float, se: float, shows: float, risk: float) -> State | None:
    """`stood` or `broken`, or None while neither is as good as excluded: the likelihood of the claimed gain over that of
    none, against Wald's limits. Holds for any number of looks, and for arms of different sizes."""
    if se <= 0:
        return "stood" if gain >= shows / 2 else "broken"
    ratio = shows * (gain - shows / 2) / (se * se)
    if ratio >= math.log((1 - risk) / MISS):
        return "stood"
    return "broken" if ratio <= math.log(risk / (1 - MISS)) else None


def is_control_of_trees(attack: str) -> bool:
    """Whether the baseline of this attack is a tree that the org put together: one that does not run is no rival."""
    return attack.partition(" ")[0] in (WITHOUT, RETUNED, BOTH)
