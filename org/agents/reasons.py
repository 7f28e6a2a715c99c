"""How a researcher says why it tries something and what it learned: sentences, from facts that `search` works out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from org.agents import knobs as knobs_
from org.agents.knobs import Value
from org.records import Knob, Metric

if TYPE_CHECKING:
    from org.agents.search import Point, Trial

# (part of a knob's name, direction) -> why it might help; '' when the direction does not matter
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
    ("lr", "up", "in so short a run the weights end far from settled; a larger step covers more ground"),
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


def why(knob: Knob, old: Value | None, new: Value, points: list[Point]) -> str:
    """The change and why it might help: one sentence. `points`: what is known of this knob, see `search.landscape`."""
    change = f"{knob.name} {show(old)}→{show(new)}"
    way = direction(old, new)
    reason = next((text for part, d, text in MECHANISMS if part in knob.name.lower() and d in ("", way)), None)
    tested = [point for point in points if point.experiment]
    best = min(tested, key=lambda point: point.score, default=None)
    if best is None and knobs_.is_outside(knob, old):
        return f"{change}: it stands outside its usual range; {reason or 'the middle is the first thing to test'}."
    if best is None:
        return f"{change}: {reason or 'nobody has moved it yet, and a bold step tells most'}."
    if best.score < 0:
        return (
            f"{change}: {best.experiment} did well at {show(best.value)}, so this looks for the best place around it."
        )
    nearest = min(tested, key=lambda point: _distance(knob, point.value, new))
    return f"{change}: {nearest.experiment} did not pay at {show(nearest.value)}; {reason or 'this asks elsewhere'}."


def lesson(trial: Trial, metric: Metric) -> str:
    """What one verdict teaches, as a sentence, against what was predicted."""
    what = ", ".join(f"{name} {show(old)}→{show(new)}" for name, old, new in trial.changes) or trial.description
    if trial.effect is None or trial.outcome in ("crash", "invalid", "lost", None):
        return f"{trial.experiment} ({what}) ended as {trial.outcome or 'open'}: no number, nothing learned about the value."
    moved = f"{trial.experiment} ({what}) is a {trial.outcome}: {metric.name} moved by {trial.effect:+.4f}"
    if trial.expect is None:
        return f"{moved}; there was no prediction."
    is_right = (trial.expect < 0) == (trial.effect < 0)
    ratio = abs(trial.effect) / max(abs(trial.expect), 1e-9)
    if trial.outcome == "null":
        tail = "too small to tell from noise, so I leave the knob where it is"
    elif trial.outcome == "loss":
        tail = (
            "it costs, as I thought it might" if is_right else "the other way than I thought: this direction is closed"
        )
    elif not is_right:
        tail = "the other way than I thought, to our luck"
    elif ratio > 2:
        tail = "the right way and more than I thought: worth another step"
    else:
        tail = "about what I thought" if ratio > 0.5 else "the right way, less than I thought"
    return f"{moved}, I had said {trial.expect:+.4f}; {tail}."


def turned(trial: Trial) -> str:
    """What it changed: `matrix_lr 0.02→0.04`."""
    return ", ".join(f"{n} {show(a)}→{show(b)}" for n, a, b in trial.changes) or trial.description[:80]


def show(value: Any) -> str:
    """A setting as the code writes it."""
    return str(value)


def direction(old: Any, new: Any) -> str:
    if isinstance(old, int | float) and isinstance(new, int | float):
        return "up" if new > old else "down"
    return str(new)


def _distance(knob: Knob, a: Any, b: Any) -> float:
    return abs(knobs_.position(knob, a) - knobs_.position(knob, b))
