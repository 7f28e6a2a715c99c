"""Which runs are wanted and which goes next on which device. Pure: a function of the ledger, the charter and the judge's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from org.evidence import judge
from org.lab import gate, ledger
from org.records import Charter, Stage


@dataclass(frozen=True)
class Want:
    """One run that somebody waits for."""

    experiment: str
    arm: str
    seed: int
    stage: Stage
    commit: str
    tree: str
    scale: str
    seat: str
    order: tuple[int, int]

    @property
    def identity(self) -> tuple[str, str, int]:
        """Two wants of one identity are one run: arms are cached by tree, scale and seed."""
        return self.tree, self.scale, self.seed


def wanted(book: ledger.Book, charter: Charter, base: tuple[str, str], steps: dict[str, judge.More]) -> list[Want]:
    """Every run that is wanted, best first: the bank, experiments under way, verifications, new experiments.

    Verification goes before experiments that have not begun, since with fewer devices than seats no device is ever idle.
    base: (commit, tree) of the base; steps: what the judge asked for, by experiment.
    """
    found = []
    bank = charter.home_scale
    have = {r.seed for r in book.results.values() if r.tree == base[1] and r.scale == bank.name and r.status != "lost"}
    for seed in range(1, bank.bank + 1):
        if seed not in have:
            found.append(Want(gate.BANK, "baseline", seed, "bank", *base, bank.name, "org", (0, seed)))
    for place, contract in enumerate(book.open()):
        if contract.experiment not in steps:
            continue
        begun = any(r.tree == contract.tree and r.scale == contract.scale for r in book.results.values())
        rank = 1 if begun and contract.stage == "search" else 2 if contract.stage == "verify" else 3
        for arm, seed in steps[contract.experiment].runs:
            is_base = arm == "baseline"
            commit, tree = (
                (contract.baseline_commit, contract.baseline_tree) if is_base else (contract.commit, contract.tree)
            )
            found.append(
                Want(
                    contract.experiment,
                    arm,
                    seed,
                    contract.stage,
                    commit,
                    tree,
                    contract.scale,
                    contract.seat,
                    (rank, place),
                )
            )
    return sorted(found, key=lambda w: w.order)


def choose(found: Sequence[Want], busy: set[tuple[str, str, int]], free: Sequence[str]) -> list[tuple[Want, str]]:
    """Pair free devices with the first wants that nobody is running yet."""
    pairs: list[tuple[Want, str]] = []
    taken = set(busy)
    left = list(free)
    for want in found:
        if not left:
            break
        if want.identity not in taken:
            taken.add(want.identity)
            pairs.append((want, left.pop(0)))
    return pairs
