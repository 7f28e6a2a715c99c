"""Which experiment next: a pure choice from the history of an organisation, by bold first steps and then Optuna's ask/tell.

Knows no files, no clock and no terminal. The same history and the same seed choose the same experiment, so a researcher
that was killed goes on where it was.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from org.agents import knobs as knobs_
from org.agents.knobs import Value
from org.records import Knob, Metric

PRIOR = 0.005  # the size of effect expected of a knob nobody has turned yet


@dataclass(frozen=True)
class Trial:
    """One row of `org results --json`, as far as a choice needs it. `outcome` is None while it runs."""

    experiment: str
    program: str
    seat: str
    changes: tuple[tuple[str, Any, Any], ...]  # (knob, old, new)
    expect: float | None = None
    outcome: str | None = None
    tier: str | None = None
    effect: float | None = None
    se: float | None = None
    members: tuple[str, ...] = ()
    description: str = ""
    stage: str = "search"

    @property
    def is_open(self) -> bool:
        return self.outcome is None

    @property
    def is_stack(self) -> bool:
        """Whether it measures again what the search found."""
        return bool(self.members) or self.stage == "verify"

    @property
    def is_keep(self) -> bool:
        """Good enough to search on, and waiting to be verified."""
        return self.outcome in ("win", "holds") and self.tier == "tentative"


@dataclass(frozen=True)
class Proposal:
    """One knob, one new value, why, and what it should do."""

    knob: Knob
    old: Value
    new: Value
    why: str
    expect: float

    @property
    def text(self) -> str:
        return f"{self.knob.name} {show(self.old)}→{show(self.new)}"


def history(rows: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """Trials from the rows of `org results --json`; rows that are no experiment of anyone are left out."""
    trials = []
    for row in rows:
        verdict = row.get("verdict") or {}
        name = str(row.get("experiment") or "")
        if not name or name == "E0000":
            continue
        changes = tuple((str(k.get("name", "")).lower(), k.get("old"), k.get("new")) for k in row.get("knobs") or ())
        trials.append(
            Trial(
                name,
                str(row.get("program") or ""),
                str(row.get("seat") or ""),
                changes,
                row.get("expect"),
                verdict.get("outcome"),
                verdict.get("tier"),
                verdict.get("effect"),
                verdict.get("se"),
                tuple(row.get("members") or ()),
                str(row.get("description") or ""),
                str(row.get("stage") or "search"),
            )
        )
    return trials


def seed_of(seat: str, count: int = 0) -> int:
    """A seed of a seat's own that moves with `count`; the same in every process, unlike hash()."""
    return (zlib.crc32(seat.encode()) + count) & 0x7FFFFFFF


def tried(trials: Sequence[Trial], name: str, current: Value | None) -> list[Any]:
    """Values of one knob that anyone has tried, or is trying, from where it stands now."""
    return [
        new
        for trial in trials
        if trial.outcome != "lost" and not trial.is_stack  # the org's own loss says nothing about the value
        for knob, old, new in trial.changes
        if len(trial.changes) == 1 and knob == name.lower() and knobs_.same(old, current)
    ]


def untouched(
    mine: Sequence[Knob], current: Mapping[str, Value | None], trials: Sequence[Trial], first: Collection[str] = ()
) -> list[Knob]:
    """Knobs nobody has moved from where they stand, the most promising first: those named in `first` (people's ideas),
    then those outside their own range, then those at its edge."""
    fresh = [k for k in mine if not tried(trials, k.name, current.get(k.name))]

    def promise(knob: Knob) -> tuple[bool, bool, float]:
        value = current.get(knob.name)
        return knob.name not in first, not knobs_.is_outside(knob, value), -abs(knobs_.position(knob, value) - 0.5)

    return sorted(fresh, key=promise)


def propose(
    mine: Sequence[Knob],
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    *,
    metric: Metric,
    seed: int,
    offset: int = 0,
    first: Collection[str] = (),
    barred: Sequence[tuple[str, Any]] = (),
    size: float = PRIOR,
) -> Proposal | None:
    """The next experiment for a seat that may turn `mine`, or None when everything sensible was tried.

    One knob to one value that differs from the current one and from everything tried by anyone from there. `offset` makes
    seats that share knobs begin at different ones; `barred` are (knob, value) pairs that the gate refused.
    """
    movable = [k for k in mine if current.get(k.name) is not None]
    fresh = untouched(movable, current, trials, first)
    turn = offset % len(fresh) if fresh else 0
    for knob in fresh[turn:] + fresh[:turn]:
        for value in knobs_.steps(knob, current[knob.name]):
            if _is_new(knob, value, current, trials, barred):
                return _proposal(knob, value, current, trials, metric, size)
    asked = _ask(movable, current, trials, metric, seed, barred)
    return _proposal(*asked, current, trials, metric, size) if asked else None


def proposal(
    knob: Knob,
    value: Value,
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    *,
    metric: Metric,
    why: str = "",
    size: float = PRIOR,
) -> Proposal:
    """What somebody else chose (`try NAME=VALUE`), with the same prediction this researcher would give it."""
    made = _proposal(knob, value, current, trials, metric, size)
    return Proposal(knob, made.old, value, f"{why} {made.why}".strip(), made.expect)


def expectation(
    knob: Knob, old: Value | None, new: Value, trials: Sequence[Trial], metric: Metric, size: float
) -> float:
    """Predicted candidate - baseline: the mean effect of this knob moved the same way, drawn halfway to a small gain."""
    prior = -metric.sign * size
    effects = [
        trial.effect
        for trial in trials
        for name, was, now in trial.changes
        if trial.effect is not None and len(trial.changes) == 1 and name == knob.name.lower()
        if not trial.is_stack and _direction(was, now) == _direction(old, new)
    ]
    return round((sum(effects) + prior) / (len(effects) + 1), 4)


def lesson(trial: Trial, metric: Metric) -> str:
    """What one verdict teaches, as a sentence, against what was predicted. Numbers are cited, not copied."""
    what = ", ".join(f"{name} {show(old)}→{show(new)}" for name, old, new in trial.changes) or trial.description
    if trial.effect is None or trial.outcome in ("crash", "invalid", "lost", None):
        return f"{trial.experiment} ({what}) ended as {trial.outcome or 'open'}: no number, nothing learned about the value."
    better = -metric.sign * trial.effect > 0
    moved = f"{trial.experiment} ({what}) is a {trial.outcome}: {metric.name} moved by {trial.effect:+.4f}"
    if trial.expect is None:
        return f"{moved}; there was no prediction."
    right = (trial.expect < 0) == (trial.effect < 0)
    ratio = abs(trial.effect) / max(abs(trial.expect), 1e-9)
    if trial.outcome == "null":
        tail = "too small to tell from noise, so I leave the knob where it is"
    elif not right:
        tail = "the other way than I thought" + (", to our luck" if better else ": this direction is closed")
    elif ratio > 2:
        tail = "the right way and more than I thought: worth another step"
    else:
        tail = "about what I thought" if ratio > 0.5 else "the right way, less than I thought"
    return f"{moved}, I had said {trial.expect:+.4f}; {tail}."


def show(value: Any) -> str:
    """A setting as people write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- the parts ---------------------------------------------------------------------------------------------------


def _is_new(
    knob: Knob,
    value: Value,
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    barred: Sequence[tuple[str, Any]],
) -> bool:
    seen = [current.get(knob.name), *tried(trials, knob.name, current.get(knob.name))]
    seen += [refused for name, refused in barred if name == knob.name]
    return not any(knobs_.same(value, old) for old in seen)


def _ask(
    mine: Sequence[Knob],
    current: Mapping[str, Value | None],
    trials: Sequence[Trial],
    metric: Metric,
    seed: int,
    barred: Sequence[tuple[str, Any]],
    attempts: int = 40,
) -> tuple[Knob, Value] | None:
    """Tell a fresh TPE study every verdict about these knobs, then ask until it names something new."""
    left = [k for k in mine if not k.choices or any(_is_new(k, c, current, trials, barred) for c in k.choices)]
    if not left:
        return None
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=5))
    by_name = {k.name: k for k in left}
    space: dict[str, Any] = {"knob": optuna.distributions.CategoricalDistribution(list(by_name))}
    for k in left:
        if k.choices:
            space[k.name] = optuna.distributions.CategoricalDistribution([str(c) for c in k.choices])
        else:
            space[k.name] = optuna.distributions.FloatDistribution(k.low or 0.0, k.high or 0.0, log=k.log)
    for trial in trials:
        if trial.effect is None or len(trial.changes) != 1 or trial.is_stack:
            continue
        name, _, new = trial.changes[0]
        spelled = next((n for n in by_name if n.lower() == name), None)
        if spelled is None:
            continue
        params = {"knob": spelled, spelled: str(new) if by_name[spelled].choices else new}
        distributions = {key: space[key] for key in params}
        try:
            made = optuna.trial.create_trial(
                params=params, distributions=distributions, value=metric.sign * trial.effect
            )
        except (ValueError, TypeError):
            continue  # a value outside the charter's range, tried by a person
        study.add_trial(made)
    for attempt in range(attempts):
        asked = study.ask()
        knob = by_name[asked.suggest_categorical("knob", list(by_name))]
        if knob.choices:
            word = asked.suggest_categorical(knob.name, [str(c) for c in knob.choices])
            value: Value = next(c for c in knob.choices if str(c) == word)
        else:
            raw = asked.suggest_float(knob.name, knob.low or 0.0, knob.high or 0.0, log=knob.log)
            value = knobs_.rounded(knob, raw, digits=2 if attempt < attempts // 2 else 3)
        if _is_new(knob, value, current, trials, barred):
            return knob, value
        # an old answer again: tell it as the worst seen, so that the sampler looks elsewhere
        study.tell(asked, max([metric.sign * t.effect for t in trials if t.effect is not None], default=0.0))
    return None


def _proposal(
    knob: Knob, value: Value, current: Mapping[str, Value | None], trials: Sequence[Trial], metric: Metric, size: float
) -> Proposal:
    old = current[knob.name]
    assert old is not None
    expect = expectation(knob, old, value, trials, metric, size)
    return Proposal(knob, old, value, _mechanism(knob, old, value, trials, metric), expect)


# (part of a knob's name, direction) -> why it might help; None when the direction does not matter
MECHANISMS: tuple[tuple[str, str, str], ...] = (
    ("warmdown", "up", "lowering the rate over the last part lets the weights settle instead of bouncing at full step"),
    (
        "warmdown",
        "down",
        "a shorter warmdown keeps the full step for longer, which a short run may need more than settling",
    ),
    ("warmup", "up", "the first gradients are large and badly scaled; a gentler start wastes fewer of them"),
    ("warmup", "down", "warmup spends steps of a short run at a rate that learns little"),
    ("embedding_lr", "up", "each embedding row sees few tokens, so it can take larger steps than the matrices"),
    ("lr", "up", "with so few tokens the weights end far from settled; a larger step covers more ground"),
    ("lr", "down", "steps this large bounce across the valley; a smaller one ends lower"),
    ("momentum", "up", "a longer average of gradients carries less noise into each step"),
    ("momentum", "down", "a run this short ends before a long average of gradients has caught up"),
    ("beta", "up", "a longer average of gradients carries less noise into each step"),
    ("beta", "down", "a shorter memory follows a loss that still falls fast"),
    ("weight_decay", "up", "decay keeps the matrices small, so that the same step turns them further"),
    ("weight_decay", "down", "decay pulls at weights that a short run has hardly built"),
    ("softcap", "", "the cap bends large logits, which costs where the model is right to be sure"),
    ("seq_len", "up", "a longer context predicts better where the text refers back"),
    ("seq_len", "down", "shorter sequences give more updates for the same tokens"),
    ("rows", "down", "smaller batches give more updates for the same tokens"),
    ("rows", "up", "larger batches carry less noise into each step"),
    ("norm", "", "the sharpness of attention is set by this scale, and the present one was never tested"),
    ("init", "up", "a larger start breaks the symmetry sooner"),
    ("init", "down", "a smaller start lets the first steps decide the direction"),
    ("activation", "", "the shape of the activation decides how sparse the hidden layer is"),
)


def _mechanism(knob: Knob, old: Value | None, new: Value, trials: Sequence[Trial], metric: Metric) -> str:
    """Why this might help, as a sentence that ends without a full stop's worth of certainty."""
    way = _direction(old, new)
    before = [
        t for t in trials if len(t.changes) == 1 and t.changes[0][0] == knob.name.lower() and t.effect is not None
    ]
    best = min(before, key=lambda t: metric.sign * (t.effect or 0.0), default=None)
    reason = next((why for part, d, why in MECHANISMS if part in knob.name.lower() and d in ("", way)), None)
    change = f"{knob.name} {show(old)}→{show(new)}"
    if knobs_.is_outside(knob, old):
        return f"{change}: it stands outside the range that works elsewhere; {reason or 'the middle is the first thing to test'}."
    if best is not None and best.effect is not None and metric.sign * best.effect < 0:
        return f"{change}: after {best.experiment} did well at {show(best.changes[0][2])}, this looks for the best place nearby."
    if best is not None:
        return f"{change}: {best.experiment} did not pay at {show(best.changes[0][2])}; {reason or 'this asks elsewhere in the range'}."
    return f"{change}: {reason or 'nobody has moved it yet, and a bold step tells most'}."


def _direction(old: Any, new: Any) -> str:
    if isinstance(old, int | float) and isinstance(new, int | float):
        return "up" if new > old else "down"
    return str(new)
