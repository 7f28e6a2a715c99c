"""Words of the command line that the rules of evidence know too. Imports nothing, since a verb that only starts reads it."""

from __future__ import annotations

# What a `no-worse:AXIS` claim may name as gained. Less is better on every one of them.
GAINS = ("lines", "step_s", "train_s", "total_s", "first_step_s", "compile_s", "vram_mb", "params", "flops")
CONTROLS = ("flops",)  # what `--control` may hold equal; see evidence.control
