"""Leave-one-out: what each member of a passed stack is worth, and the head without those that make no difference.

    head moved by a stack -> its bank filled -> each member's removal measured -> a credit line -> inert: a new head line

State is the ledger's, so a dispatcher may die anywhere here and the next one goes on. Reverting is a new commit: what a
stack made stays in the record. `evidence.stack` decides; this merges, asks for runs and writes down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from org.evidence import judge, refute, stack
from org.failpoint import failpoint
from org.home import Home
from org.lab import record, stacks, together
from org.lab.book import Book
from org.lab.ledger import Ledger
from org.lab.record import main_ref
from org.lab.wants import Want
from org.records import Charter, Contract, Verdict
from org.world import git

WITH_VERIFICATION, IDLE = 2, 4  # ranks among `wants.wanted`: behind a stack under way, behind all else
LAST = 10**6  # within a rank

NextStep = Callable[[Contract], judge.More | Verdict]


class Credits:
    """Asks for the runs that heads owe and writes down what they showed. Holds nothing but a cache of merges."""

    def __init__(self, home: Home, ledger: Ledger) -> None:
        self.home, self.ledger = home, ledger
        self._without: dict[tuple[str, str], tuple[str, str] | None] = {}

    def step(self, charter: Charter, settings: dict[str, str], next_step: NextStep) -> tuple[list[Want], list[str]]:
        """(runs to start, sentences saying what was decided), over all programs. next_step: the judge on all results."""
        wants: list[Want] = []
        said: list[str] = []
        base = git.resolve(self.home.record, record.BASE) or ""
        for program in list(self.ledger.refresh().heads):
            head = self.ledger.book.heads[program]
            made = self.ledger.book.experiments.get(str(head.get("experiment")))
            if made is None or made.scale not in settings:
                continue
            setting = settings[made.scale]
            owing = stack.owing(self.ledger.book.moves, program)
            wants += _bank(self.ledger.book, head, made, setting, charter, owing)
            if owing is None:
                continue
            if owing.leaves is not None:
                said += self._take_out(charter, owing, owing.leaves)
                said += together.follow(
                    self.home, self.ledger, charter, base
                )  # before another of them moves on its own
                continue
            steps, news = self._measure(charter, owing, made, next_step)
            rank = WITH_VERIFICATION if self._is_urgent(charter, owing) else IDLE
            wants += [_want(owing, contract, arm, seed, setting, rank) for contract, arm, seed in steps]
            said += news
        return wants, said

    def _is_urgent(self, charter: Charter, owing: stack.Owing) -> bool:
        """A win waits on this head: the next stack is to stand on members that are credited."""
        book = self.ledger.book
        same = stack.same_head(book.moves, owing.program, owing.commit)
        group = together.of(self.home, book, charter, owing.program)
        known, out = (book.experiments, book.verdicts, book.heads), book.out()
        return bool(stack.members(*known, group, same, out=out, scale=charter.scale))

    def _measure(
        self, charter: Charter, owing: stack.Owing, made: Contract, next_step: NextStep
    ) -> tuple[list[tuple[Contract, str, int]], list[str]]:
        """The runs that the next member's removal still needs, or its credit line. One member at a time: if it leaves,
        the others are measured without it."""
        member = owing.due[0]
        without = self._tree_without(owing, member)
        if without is None:
            unknown = stack.Credit(
                owing.program, owing.experiment, owing.commit, member, "", "unknown", None, None, None,
                why="the head cannot be put together without it: other members build on it",
            )  # fmt: skip
            return [], self._write(charter, unknown)
        looks = stack.looks(made, owing.seeds)
        for left, seeds in zip(reversed(range(len(looks))), looks, strict=True):
            contract = stack.removal(made, (owing.commit, owing.tree), without, member, seeds)
            step = next_step(contract)
            if isinstance(step, judge.More):
                return [(contract, arm, seed) for arm, seed in step.runs], []
            found = stack.credit(contract, member, step, left)
            if found is not None:
                return [], self._write(charter, found)
        raise AssertionError("the last look decides")

    def _write(self, charter: Charter, credit: stack.Credit) -> list[str]:
        failpoint("credits.credit")
        key = f"credit:{credit.experiment}:{credit.commit}:{credit.member}"
        written = self.ledger.append("credit", key, credit.to_dict())
        return [credit_sentence(credit.to_dict(), charter.metric.name)] if written else []

    def _take_out(self, charter: Charter, owing: stack.Owing, leaving: stack.Credit) -> list[str]:
        """The head without the member becomes the head, by compare-and-swap; once, however often it is called. Does not
        begin under an open verification: what that measures is put on the present head."""
        book = self.ledger.refresh()
        ref = main_ref(owing.program)
        at = git.resolve(self.home.record, ref)
        if at == owing.commit:
            if any(c.stage == "verify" and c.baseline_commit == owing.commit for c in book.open()):
                return []
            git.update_ref(self.home.record, ref, leaving.without, at)
            failpoint("credits.head")
        elif at != leaving.without:
            return []
        record.note_head(self.home, owing.program)
        head = book.heads[owing.program]
        before = head.get("effect")
        row = {
            "program": owing.program,
            "commit": leaving.without,
            "tree": leaving.tree,
            "experiment": owing.experiment,
            "members": [name for name in head.get("members") or () if name != leaving.member],
            "removed": [leaving.member],
            "was": owing.commit,
            "seeds": list(owing.seeds),
            "effect": None if before is None else stack.reported_without(before, leaving, charter.metric.sign),
            "se": head.get("se"),
        }
        if self.ledger.append("head", f"head:{owing.commit}:without:{leaving.member}", row) is None:
            return []
        return [
            f"head of {owing.program} moved to {leaving.without[:7]}: {leaving.member} left it, it made no difference"
        ]

    def _tree_without(self, owing: stack.Owing, member: str) -> tuple[str, str] | None:
        """(commit, tree) of the head with one member's change taken back, the same at every call; None if that cannot be."""
        key = owing.commit, member
        if key not in self._without:
            self._without[key] = _without(self.home, self.ledger.book, owing, member)
        return self._without[key]


def credit_sentence(row: dict[str, Any], metric: str) -> str:
    """One line: `E0003 in E0010 is worth -0.0210 ± 0.0041 val_bpb, z 5.1, n 4: credited`."""
    said = {"helps": "credited", "inert": "its removal does not hurt, so it leaves the head", "unknown": "not credited"}
    worth = "could not be measured"
    if row.get("effect") is not None and row.get("se") is not None and row.get("z") is not None:
        worth = f"is worth {row['effect']:+.4f} ± {row['se']:.4f} {metric}, z {row['z']:.1f}"
    elif row.get("outcome") == "helps":
        worth = "cannot be spared: the head does not run without it"
    return f"{row['member']} in {row['experiment']} {worth}: {said[str(row['outcome'])]}"


def additivity(book: Book, experiment: str) -> float | None:
    """Measured effect of a stack over the sum of its members' credits, 1 when they add up; None until all have one."""
    verdict, contract = book.verdicts.get(experiment), book.experiments.get(experiment)
    found = {name: credit for name, credit in stack.credits(book.moves).items() if credit.experiment == experiment}
    effects = [credit.effect for credit in found.values() if credit.effect is not None]
    if verdict is None or verdict.effect is None or contract is None or set(found) < set(contract.members):
        return None
    return stack.additivity(effects, verdict.effect) if len(effects) == len(found) else None


def _without(home: Home, book: Book, owing: stack.Owing, member: str) -> tuple[str, str] | None:
    contract = book.experiments[member]
    merged: str | git.Conflict | None = git.merge_tree(
        home.record, owing.commit, contract.baseline_commit, base=contract.commit
    )
    if not isinstance(merged, str) or not stacks.parses(home, owing.tree, merged):
        merged = stacks.turn(home, owing.tree, contract, back=True)
    if not isinstance(merged, str) or merged == owing.tree:
        return None
    moment = next(
        str(row["t"]) for row in book.moves if row.get("kind") == "head" and row.get("commit") == owing.commit
    )
    why = f"{owing.experiment} without {member}"
    commit = git.commit(home.record, merged, [owing.commit], why, when=moment)
    git.update_ref(home.record, f"refs/org/experiments/{owing.experiment}-without-{commit[:12]}", commit)
    return commit, merged


def _bank(
    book: Book, head: dict[str, Any], made: Contract, setting: str, charter: Charter, owing: stack.Owing | None
) -> Iterable[Want]:
    """Runs of the head itself until its bank is full: those that moved it are lucky ones, and every search on it
    compares with them."""
    tree = str(head.get("tree"))
    measured = {
        r.seed
        for r in book.results.values()
        if (r.tree, r.setting) == (tree, setting) and r.status != "lost" and not refute.is_fresh(r.seed)
    }
    removed = owing.removed if owing else _removed(book, head)
    for seed in stack.bank_due(head, measured, charter.scales[made.scale].bank):
        yield Want(
            made.experiment, _arm(removed), seed, "verify", str(head["commit"]), tree, made.scale, setting, "org",
            (WITH_VERIFICATION, LAST),
        )  # fmt: skip


def _removed(book: Book, head: dict[str, Any]) -> tuple[str, ...]:
    rows = [r for r in book.moves if r.get("kind") == "head" and r.get("experiment") == head.get("experiment")]
    return tuple(str(member) for row in rows for member in row.get("removed") or ())


def _want(owing: stack.Owing, contract: Contract, arm: str, seed: int, setting: str, rank: int) -> Want:
    """A run of the head or of the head without the member, under the stack's id: `E0010/ablation-E0003-s101`."""
    is_head = arm == "baseline"
    return Want(
        experiment=contract.experiment,
        arm=_arm(owing.removed if is_head else (*owing.removed, owing.due[0])),
        seed=seed,
        stage="verify",
        commit=contract.baseline_commit if is_head else contract.commit,
        tree=contract.baseline_tree if is_head else contract.tree,
        scale=contract.scale,
        setting=setting,
        seat="org",
        order=(rank, LAST + 1),
    )


def _arm(removed: tuple[str, ...]) -> str:
    return "-".join(("ablation", *removed)) if removed else "candidate"
