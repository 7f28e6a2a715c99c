"""A tabulated task with planted truth and a virtual clock: every candidate's true effect is known, a run costs nothing.

Made of chance and a table alone; answers with the same RunResult a trainer's run leaves in the ledger.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from org.records import RunResult

BASELINE = "base"


@dataclass
class Surrogate:
    """metric(tree, seed) = mean + effect[tree] + sigma * (sqrt(rho) * luck(seed) + sqrt(1 - rho) * luck(tree, seed)).

    Bit-identical for one (tree, seed), as a trainer of fixed steps is. `rho` is the correlation of paired seeds;
    `work[tree]` multiplies FLOPs and parameters: a bigger model. A tree in `crashes` ends without a number.
    """

    effects: Mapping[str, float] = field(default_factory=dict)
    sigma: float = 0.0125
    rho: float = 0.0
    mean: float = 2.0
    world: int = 0  # another number, another draw of all luck
    run_s: float = 12.0
    work: Mapping[str, float] = field(default_factory=dict)
    crashes: frozenset[str] = frozenset()
    scale: str = "surrogate"
    clock_s: float = 0.0  # virtual device seconds spent so far
    results: list[RunResult] = field(default_factory=list)

    def run(self, experiment: str, arm: str, tree: str, seed: int, stage: str = "search") -> RunResult:
        """One finished run, added to `results`; the virtual clock moves on."""
        self.clock_s += self.run_s * self.work.get(tree, 1.0)
        ok = tree not in self.crashes
        work = self.work.get(tree, 1.0)
        result = RunResult(
            run=f"{experiment}/{arm}-s{seed}",
            experiment=experiment,
            arm=arm,
            seed=seed,
            stage=stage,
            status="ok" if ok else "crash",
            commit=tree,
            tree=tree,
            scale=self.scale,
            device="virtual0",
            device_kind="virtual",
            metric=self.metric(tree, seed, "val") if ok else None,
            hidden=self.metric(tree, seed, "hidden") if ok and stage == "verify" else None,
            reason="" if ok else "planted crash",
            params=round(300_000 * work),
            flops=1e12 * work,
            tokens=307_200,
            steps=300,
            first_step_s=0.05,
            train_s=0.8 * self.run_s * work,
            compile_s=0.0,
            total_s=self.run_s * work,
            vram_mb=450.0,
            data_hash="surrogate",
            software="surrogate",
        )
        self.results.append(result)
        return result

    def metric(self, tree: str, seed: int, split: str = "val") -> float:
        shared = self._luck("seed", seed, split)
        own = self._luck(tree, seed, split)
        noise = math.sqrt(self.rho) * shared + math.sqrt(1 - self.rho) * own
        return self.mean + self.effects.get(tree, 0.0) + self.sigma * noise

    def _luck(self, tree: str, seed: int, split: str) -> float:
        # Seeding by text hashes it with SHA-512: the same luck in every process and on every machine.
        return random.Random(f"{self.world}/{tree}/{seed}/{split}").gauss(0.0, 1.0)
