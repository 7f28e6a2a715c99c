"""Which runs are wanted and which goes next on which device. Pure: a function of the ledger, the charter and the judge's answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from org.evidence import judge
from org.lab.book import Book
from org.records import BANK, Charter, RunResult, Stage

ORG = "org"  # who files what no seat asked for
NEW, LEFT = 3, 5  # ranks: experiments that have not begun; behind all else, what heads owe included

Identity = tuple[str, str, int]  # (tree, setting, seed): two runs of one identity are one run


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
    setting: str
    seat: str
    order: tuple[int, int]
    steps: int = 0  # a budget of its own; 0: the scale's
    tokens: int = 0

    @property
    def identity(self) -> Identity:
        return self.tree, self.setting, self.seed


def wanted(
    book: Book,
    charter: Charter,
    base: tuple[str, str],
    steps: dict[str, judge.More],
    settings: dict[str, str],
) -> list[Want]:
    """Every run that is wanted, best first: the bank, experiments under way, verifications, new experiments.

    Verification goes before experiments that have not begun, since with fewer devices than seats no device is ever idle.
    base: (commit, tree) of the base; steps: what the judge asked for, by experiment; settings: by scale, of those that
    fit this org's devices.
    """
    found = []
    bank = charter.home_scale
    for seed in range(1, bank.bank + 1 if bank.name in settings else 1):
        setting = settings[bank.name]
        found.append(Want(BANK, "baseline", seed, "bank", *base, bank.name, setting, "org", (0, seed)))
    for place, contract in enumerate(book.open()):
        if contract.experiment not in steps:
            continue
        step = steps[contract.experiment]
        usual = judge.Budget(settings[contract.scale], 0, 0)
        setting = step.budgets.get("candidate", usual).setting
        begun = any(r.tree == contract.tree and r.setting == setting for r in book.results.values())
        rank = 1 if begun and contract.stage == "search" else 2 if contract.stage in ("verify", "promote") else NEW
        if contract.stage == "refute" and contract.seat == ORG:
            rank = LEFT  # nobody waits for it
        for arm, seed in step.runs:
            budget = step.budgets.get(arm, usual)
            found.append(
                Want(
                    experiment=contract.experiment,
                    arm=arm,
                    seed=seed,
                    stage=contract.stage,
                    commit=contract.baseline_commit if arm == "baseline" else contract.commit,
                    tree=contract.baseline_tree if arm == "baseline" else contract.tree,
                    scale=contract.scale,
                    setting=budget.setting,
                    seat=contract.seat,
                    order=(rank, place),
                    steps=budget.steps,
                    tokens=budget.tokens,
                )
            )
    return sorted(found, key=lambda w: w.order)


def given_up(results: Iterable[RunResult], limit: int, excused: str) -> set[Identity]:
    """Identities that the org lost `limit` times, runs lost for the `excused` reason not counted."""
    lost: dict[Identity, int] = {}
    for r in results:
        if r.status == "lost" and r.reason != excused:
            lost[r.tree, r.setting, r.seed] = lost.get((r.tree, r.setting, r.seed), 0) + 1
    return {identity for identity, count in lost.items() if count >= limit}


def choose(
    found: Sequence[Want],
    busy: set[Identity],
    free: Sequence[str],
    held: Sequence[Sequence[str]] = (),
    sizes: Mapping[str, int] = {},
) -> list[tuple[Want, tuple[str, ...]]]:
    """Pair free devices with the first wants that nobody runs or has measured yet. held: the devices of each run under
    way; sizes: devices of a run at each scale, 1 where it is not named.

    A gang gets all its devices or none. The first want that does not fit waits with a reservation: for those of a running
    gang that is large enough, since they come free together, else for all that is free now, where nothing behind it in the
    order starts. So single runs that keep coming cannot keep it waiting for ever; one that this org is too small for
    reserves nothing.
    """
    pairs: list[tuple[Want, tuple[str, ...]]] = []
    taken = set(busy)
    left = list(free)
    total = len(free) + sum(len(group) for group in held)
    has_reserved = False
    for want in found:
        if not left:
            break
        size = sizes.get(want.scale, 1)
        if want.identity in taken or size > total:
            continue
        if size <= len(left):
            taken.add(want.identity)
            pairs.append((want, tuple(left[:size])))
            del left[:size]
        elif not has_reserved:
            has_reserved = True
            if not any(len(group) >= size for group in held):
                break
    return pairs
