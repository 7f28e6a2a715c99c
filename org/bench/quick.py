"""The judge's search decisions at a hundredth of their cost: the same sums, kept up run by run. Trains nothing.

Only what grows with every run is kept here; every quantile, effect and z comes from `evidence.stats`. A test holds the
decisions against `judge.next_step` on random histories, and `Campaign(check=True)` does so at every decision.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence

from org.evidence import stats
from org.records import Rules

Tree = Hashable
Seeds = frozenset[int]


class Tally:
    """`stats.effective_df`'s two sums over sets of seeds, kept up while arms come and go."""

    def __init__(self) -> None:
        self.kinds: dict[Seeds, int] = {}
        self.raw = 0
        self.same = 0.0  # sum over arms of the overlap with themselves
        self.all = 0.0  # the same over all ordered pairs of arms
        self._known: dict[tuple[Seeds, Seeds], float] = {}

    def add(self, seeds: Seeds, sign: int = 1) -> None:
        """Count an arm on these seeds, or take one out again with sign -1."""
        if sign < 0:
            self._count(seeds, -1)
        own = self._shared(seeds, seeds)
        cross = sum(count * self._shared(seeds, other) for other, count in self.kinds.items())
        self.raw += sign * (len(seeds) - 1)
        self.same += sign * own
        self.all += sign * (2 * cross + own)
        if sign > 0:
            self._count(seeds, 1)

    def df(self, rho: float) -> float:
        return self.raw * self.raw / (self.same + rho * rho * (self.all - self.same))

    def _count(self, seeds: Seeds, change: int) -> None:
        self.kinds[seeds] = self.kinds.get(seeds, 0) + change
        if not self.kinds[seeds]:
            del self.kinds[seeds]

    def _shared(self, one: Seeds, other: Seeds) -> float:
        key = (one, other)
        if key not in self._known:
            self._known[key] = stats.overlap(one, other)
        return self._known[key]


class Runs:
    """Every run of a campaign on the split that search sees, whatever it is compared with."""

    def __init__(self) -> None:
        self.arms: dict[Tree, dict[int, float]] = {}
        self.squares: dict[Tree, float] = {}
        self.tally = Tally()
        self.total = 0.0
        self.views: weakref.WeakSet[Noise] = (
            weakref.WeakSet()
        )  # told of every run as long as somebody looks through them

    def add(self, tree: Tree, seed: int, value: float) -> None:
        arm = self.arms.setdefault(tree, {})
        arm[seed] = value
        if len(arm) >= 2:
            if tree in self.squares:
                self.tally.add(frozenset(arm.keys() - {seed}), -1)
                self.total -= self.squares[tree]
            self.squares[tree] = stats.squares(list(arm.values()))
            self.total += self.squares[tree]
            self.tally.add(frozenset(arm))
        for view in self.views:
            view.told(tree, seed)


class Noise:
    """The runs as seen from one baseline, and the noise estimates that they give there."""

    def __init__(self, base: Tree, runs: Runs | None = None) -> None:
        self.base, self.runs = base, runs or Runs()
        self.arms = self.runs.arms
        self._pairs: dict[Tree, tuple[float, float, float, Seeds]] = {}
        self._sums = [0.0, 0.0, 0.0]
        self._pair_tally = Tally()
        for tree in self.arms:
            self._pair(tree)
        self._forget()
        self.runs.views.add(self)

    def seen_from(self, base: Tree) -> Noise:
        """The same runs, these and those to come, from another baseline. This one goes on, too."""
        return Noise(base, self.runs)

    def add(self, tree: Tree, seed: int, value: float) -> None:
        self.runs.add(tree, seed, value)

    def told(self, tree: Tree, seed: int) -> None:
        """That this run was added."""
        if tree == self.base:
            for other in self.arms:
                if seed in self.arms[other]:
                    self._pair(other)
        elif len(self.arms[tree]) >= 2:
            self._pair(tree)
        else:
            return
        self._forget()

    def _pair(self, tree: Tree) -> None:
        if tree == self.base:
            return
        base, arm = self.arms.get(self.base, {}), self.arms[tree]
        common = [seed for seed in arm if seed in base]
        if len(common) < 2:
            return
        if tree in self._pairs:
            *sums, seeds = self._pairs[tree]
            self._sums = [a - b for a, b in zip(self._sums, sums, strict=True)]
            self._pair_tally.add(seeds, -1)
        old, new = [base[s] for s in common], [arm[s] for s in common]
        own = (
            stats.squares(old),
            stats.squares(new),
            stats.squares([b - a for a, b in zip(old, new, strict=True)]),
        )
        self._pairs[tree] = (*own, frozenset(common))
        self._sums = [a + b for a, b in zip(self._sums, own, strict=True)]
        self._pair_tally.add(frozenset(common))

    def _forget(self) -> None:
        self._paired: stats.PairedSigma | None = None
        self._sigma: stats.Sigma | None = None

    @property
    def paired(self) -> stats.PairedSigma:
        if self._paired is None:
            tally = self._pair_tally
            if tally.raw:
                base, cand, diff = (max(0.0, s) for s in self._sums)
                self._paired = stats.paired_from(base, cand, diff, tally.raw, tally.df(0.5))
            else:
                self._paired = stats.PairedSigma(None, None, None, 0)
        return self._paired

    @property
    def sigma(self) -> stats.Sigma:
        if self._sigma is None:
            rho = 1.0 if self.paired.rho is None else max(0.0, self.paired.rho)
            self._sigma = stats.sigma_from(self.runs.total, self.runs.tally.raw, self.runs.tally.df(rho))
        return self._sigma

    def look(self, tree: Tree, seeds: Sequence[int], sign: int = 1) -> stats.Effect:
        """The candidate's runs on `seeds` against every run of the baseline, as `judge` takes them in a search."""
        arm = self.arms[tree]
        return stats.effect(self.arms[self.base], {s: arm[s] for s in seeds}, self.sigma, self.paired, sign)


def screen(noise: Noise, tree: Tree, seeds: Sequence[int], rules: Rules) -> bool:
    """Whether the first run is promising enough for the others."""
    return noise.look(tree, seeds[:1]).z >= rules.screen_z


def tentative(noise: Noise, tree: Tree, seeds: Sequence[int], rules: Rules) -> stats.Effect | None:
    """The effect of a tentative win, else None."""
    found = noise.look(tree, seeds[: min(rules.tentative_runs, len(seeds))])
    return found if found.z >= rules.tentative_z else None
