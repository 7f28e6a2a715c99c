"""Which configurations of the real trainer T0's table holds: a fixed list, made of the charter's knobs and one seed. Pure.

Five parts, in the order in which they are worth measuring: the base, one knob at a time from the base and from a tuned recipe,
corners of pairs of knobs, and configurations drawn from the whole space, which no model of the table is fitted to first.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

Value = int | float | str
Config = tuple[tuple[str, Value], ...]  # (knob, value) where it is not the base's, by name

# What the default home starts from (`start:` of its charter over the defaults of nanochat/train.py), knob by knob, and the
# other levels that are measured. The base is plain on purpose; TUNED is what the same code starts from without `start:`.
LEVELS: dict[str, tuple[Value, ...]] = {
    "matrix_lr": (0.02, 0.01, 0.028, 0.04, 0.056, 0.08, 0.12),
    "embedding_lr": (0.5, 0.1, 0.2, 0.32, 0.7, 1.0),
    "unembedding_lr": (0.02, 0.002, 0.005, 0.01, 0.03),
    "scalar_lr": (0.02, 0.0, 0.1, 0.25, 0.5),
    "adam_beta1": (0.8, 0.6, 0.7, 0.88, 0.95),
    "muon_momentum": (0.9, 0.8, 0.85, 0.94, 0.98),
    "warmdown_frac": (0.0, 0.2, 0.35, 0.5, 0.65, 0.8),
    "warmup_frac": (0.0, 0.02, 0.05, 0.1),
    "weight_decay": (0.2, 0.0, 0.1, 0.3),
    "rows": (8, 4, 16),
    "seq_len": (128, 64, 256),
    "logit_softcap": (15, 0, 30),
    "qk_norm_scale": (1.2, 0.0, 1.0, 1.5),
    "init_scale": (1.0, 0.5, 0.7, 1.4, 2.0),
    "activation": ("relu2", "gelu"),
}
TUNED: dict[str, Value] = {"matrix_lr": 0.04, "warmdown_frac": 0.5}
# A better and a worse direction of the knobs that do something: their corners hold the interactions.
CORNERS: dict[str, tuple[Value, Value]] = {
    "matrix_lr": (0.04, 0.08),
    "embedding_lr": (0.2, 1.0),
    "unembedding_lr": (0.005, 0.03),
    "adam_beta1": (0.6, 0.95),
    "muon_momentum": (0.8, 0.98),
    "warmdown_frac": (0.5, 0.8),
    "rows": (4, 16),
    "seq_len": (64, 256),
    "init_scale": (0.5, 2.0),
}
DRAWN = 88
SEED = 20261122


@dataclass(frozen=True)
class Point:
    """One configuration and how it is measured."""

    part: str  # base | single | tuned | pair | drawn
    config: Config
    depth: int
    seed: int


def base() -> dict[str, Value]:
    return {name: levels[0] for name, levels in LEVELS.items()}


def parts() -> dict[str, list[Config]]:
    """Every configuration once, by part."""
    single = [_config({name: value}) for name, levels in LEVELS.items() for value in levels[1:]]
    tuned = [_config(TUNED)]
    for name, levels in LEVELS.items():
        ends = CORNERS.get(name, (levels[1], levels[-1]))
        tuned += [_config({**TUNED, name: value}) for value in dict.fromkeys(ends)]
    pair = []
    for (one, ends), (other, others) in itertools.combinations(CORNERS.items(), 2):
        pair += [_config({one: ends[0], other: others[0]}), _config({one: ends[1], other: others[0]})]
    stream = random.Random(SEED)
    drawn = [_config({name: stream.choice(levels) for name, levels in LEVELS.items()}) for _ in range(DRAWN)]
    found: dict[str, list[Config]] = {"base": [()]}
    seen: set[Config] = {()}
    for part, configs in (("single", single), ("tuned", tuned), ("pair", pair), ("drawn", drawn)):
        found[part] = [config for config in dict.fromkeys(configs) if config not in seen]
        seen |= set(found[part])
    return found


def deeper() -> list[Config]:
    """The configurations measured at depth 3 too: where does what pays at depth 2 pay no more?"""
    found = parts()
    ends = [c for c in found["single"] if c[0][1] in CORNERS.get(c[0][0], LEVELS[c[0][0]])]
    return [*found["base"], *ends, *found["tuned"][:16], *found["drawn"][:16]][:60]


def points() -> Iterator[Point]:
    """Every run that is to be made, in order: a table that is cut off is worth as much as it can be."""
    found = parts()
    for seed in range(1, 9):
        yield Point("base", (), 2, seed)
    for seed in (1, 2, 3):
        for part in ("single", "tuned", "pair", "drawn"):
            for config in found[part]:
                yield Point(part, config, 2, seed)
        if seed < 3:
            for config in deeper():
                yield Point("deeper", config, 3, seed)


def _config(values: dict[str, Value]) -> Config:
    plain = base()
    return tuple(sorted((name, value) for name, value in values.items() if value != plain[name]))
