"""Words of the command line that the rules of evidence know too, and how numbers are said. Imports nothing that costs,
since a verb that only starts reads it."""

from __future__ import annotations

import math

# What a `no-worse:AXIS` claim may name as gained. Less is better on every one of them.
GAINS = ("lines", "step_s", "train_s", "total_s", "first_step_s", "compile_s", "vram_mb", "params", "flops")
CONTROLS = ("flops",)  # what `--control` may hold equal; see evidence.control


def counted(number: int, noun: str, many: str = "", one: str = "1") -> str:
    """`1 letter`, `2 letters`; many: the plural where an s does not make it; one: `a` where a sentence says it so."""
    return f"{one} {noun}" if number == 1 else f"{number} {many or noun + 's'}"


def finite(value: object) -> float | None:
    """The number that somebody wrote into a field, also one in quotes; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
