"""Refutations: tentative wins attacked on idle devices or by hand, and taken back when an attack breaks them.

    refute -> an experiment of stage `refute`: two trees, the refutations' own seeds -> stood | undecided -> the next attack
                                                                                     -> broken: head back, ledger line

Which attacks there are and when one is decided is `evidence.refute`'s; the trees are put together here. State is the
ledger's, so a dispatcher may die anywhere here and the next one goes on. Knows no seats: who asks is a name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from org import charter as charters
from org import files
from org.errors import BadInput, Busy
from org.evidence import contract as contracts
from org.evidence import control, refute, standing
from org.failpoint import failpoint
from org.home import Home
from org.lab import gate, record
from org.lab.book import Book
from org.lab.ledger import Ledger
from org.lab.promotions import take_back
from org.lab.wants import ORG
from org.records import Charter, Contract
from org.world import git

DIFF_LINES, RUN_LINES = 160, 60  # of the page
LINE = 200  # characters


@dataclass(frozen=True)
class Plan:
    """A claim with its attacks: all of them, what they came to, and those that are left, the best first."""

    claim: refute.Claim
    planned: list[refute.Attack]
    trials: list[standing.Trial]
    left: list[refute.Attack]

    @property
    def ended(self) -> standing.Standing:
        return standing.standing(self.trials, [attack.name for attack in self.planned])

    @property
    def under_way(self) -> standing.Trial | None:
        return next((trial for trial in self.trials if trial.state == "open"), None)


def plan(home: Home, book: Book, charter: Charter, name: str) -> Plan:
    """Raises BadInput, saying what can be done instead, where `name` is no tentative win."""
    original, verdict = book.experiments.get(name), book.verdicts.get(name)
    if why := refute.problem(original, verdict, name):
        raise BadInput(why)
    assert original is not None and verdict is not None
    claim = refute.claim_of(original, verdict, charter.metric.sign)
    if original.scale not in charter.scales or not control.can_cut(charter, original.scale):
        claim = replace(claim, unequal="")
    claim = replace(claim, parts=tuple(p for p in claim.parts if _without(home, original, p) is not None))
    trials = standing.trials(book.experiments, book.verdicts).get(name, [])
    settable = _values(home, charter, original.tree)  # where both arms are re-tuned, both have the knob
    known = {n: v for n, v in _values(home, charter, original.baseline_tree).items() if n in settable}
    rates = refute.levels(charter, known, claim)
    planned = refute.attacks(claim, rates, _ready(book, original, claim))
    return Plan(claim, planned, trials, standing.left(planned, trials, charter.rules.max_attempts))


def file(home: Home, name: str, asked: str = "", by: str = "human") -> Contract:
    """File one attack on a tentative win: the one that `asked` names, else the cheapest a chance of those left. Raises
    BadInput when there is none, or one is under way that may make it needless."""
    charter = charters.load(home)
    with gate.filing(home):
        ledger = Ledger(home)
        found = plan(home, ledger.refresh(), charter, name)
        return _file(home, ledger, charter, found, choice(ledger.book, found, asked), by)


def choice(book: Book, found: Plan, asked: str = "") -> refute.Attack:
    """The attack to make next. Raises BadInput."""
    name = found.claim.experiment
    if gone := book.retracted.get(name):
        raise BadInput(f"{name} was retracted by {gone.get('experiment')} already: {gone.get('why')!s:.200}")
    ended = found.ended
    if ended.outcome == "refuted":
        raise BadInput(f"{name} was refuted by {ended.by} in {ended.experiment} already")
    if asked:
        attack = refute.named(asked, found.left)
        if attack is not None:
            return attack
        past = next((t for t in reversed(found.trials) if t.attack.lower() == asked.replace(":", " ").lower()), None)
        if past is not None:
            raise BadInput(f"{name} was put to this attack as {past.experiment} ({past.state}); left: {_names(found)}")
        raise BadInput(f"no attack '{asked:.60}' is left for {name}; left: {_names(found)}")
    if (open_one := found.under_way) is not None:
        how = "--by names another one"
        raise BadInput(f"{name} is under attack as {open_one.experiment} ({open_one.attack}); wait for it, {how}")
    if not found.left:
        raise BadInput(f"no attack is left for {name}: it {ended.said or 'was not decided'}")
    return found.left[0]


def _names(found: Plan) -> str:
    return ", ".join(attack.name for attack in found.left) or "none"


def _file(home: Home, ledger: Ledger, charter: Charter, found: Plan, attack: refute.Attack, by: str) -> Contract:
    """The caller holds `gate.filing`."""
    original = ledger.book.experiments[found.claim.experiment]
    gate.check_devices(home, charter, original.scale)
    names = [a.name for a in found.planned]
    draft = refute.designed(original, found.claim, attack, names, charter)
    (base, base_tree), (commit, tree) = _trees(home, charter, original, attack, draft.why)
    draft = replace(
        draft,
        baseline_commit=base,
        baseline_tree=base_tree,
        commit=commit,
        tree=tree,
        seat=by,
        created=files.utc_now(),
    )
    failpoint("refutations.file")
    return gate.file(home, ledger, draft, charter)


class Refutations:
    """What follows from the verdicts of attacks, and attacks on idle devices; each step looks whether it is done already."""

    def __init__(self, home: Home, ledger: Ledger) -> None:
        self.home, self.ledger = home, ledger
        self._seen = -1  # ledger lines when there was last nothing to take back
        self._idle = -1  # and nothing to attack

    def step(self) -> list[str]:
        """Sentences saying what was taken back."""
        book = self.ledger.refresh()
        if len(book.rows) == self._seen:
            return []
        said = []
        for name, contract in list(book.experiments.items()):
            if not contract.refutes:
                continue
            verdict = book.verdicts.get(name)
            if verdict is None or not standing.breaks(contract, verdict) or contract.refutes in book.retracted:
                continue
            why = f"{contract.refutes} was refuted: {verdict.reasons[0]}{_instead(contract)}"
            said += take_back(self.home, self.ledger, contract, contract.refutes, why)
            book = self.ledger.refresh()
        if not said:
            self._seen = len(book.rows)
        return said

    def file_idle(self, charter: Charter) -> list[str]:
        """One more attack, where no seat's and none of the org's is under way: on the claim that falls most likely for
        what it costs. The caller has a device with nothing to do."""
        book = self.ledger.refresh()
        if len(book.rows) == self._idle or any(c.refutes for c in book.open()):
            return []
        try:
            with files.locked(self.home.leases / "gate", wait=False):
                book = self.ledger.refresh()
                found = min(self._open_claims(book, charter), key=_worth, default=None)
                if found is None:
                    self._idle = len(book.rows)
                    return []
                filed = _file(self.home, self.ledger, charter, found, found.left[0], ORG)
        except Busy:
            return []  # somebody files at the moment
        except BadInput:
            self._idle = len(book.rows)  # an attack that cannot be put together stops no dispatcher
            return []
        return [f"{filed.experiment} filed: {found.claim.experiment} is attacked by {filed.attack}"]

    def _open_claims(self, book: Book, charter: Charter) -> Iterator[Plan]:
        """Tentative wins that nothing has decided yet: neither an attack nor a stack."""
        settled = {
            member
            for name, contract in book.experiments.items()
            if contract.stage == "verify" and name in book.verdicts and book.verdicts[name].outcome != "lost"
            for member in contract.members
        }
        for name in book.wins:
            if book.wins[name][0] != "tentative" or name in settled or name in book.retracted:
                continue
            try:
                found = plan(self.home, book, charter, name)
                gate.check_devices(self.home, charter, book.experiments[name].scale)
            except BadInput:
                continue  # no win of the search, or its scale is gone
            if found.left and found.ended.outcome != "refuted":
                yield found


def _worth(found: Plan) -> tuple[float, str]:
    """Runs a chance; the older claim first where they are equal."""
    return found.left[0].runs / found.left[0].chance, found.claim.experiment


def _instead(contract: Contract) -> str:
    """What is to be done with a win of which a part does nothing: the rest may be one."""
    kind, _, part = contract.attack.partition(" ")
    return (
        f"; what it is without {part} ({contract.baseline_commit[:7]}) may be filed alone"
        if kind == refute.WITHOUT
        else ""
    )


# --- the trees of an attack ---------------------------------------------------------------------------------------


def _trees(
    home: Home, charter: Charter, original: Contract, attack: refute.Attack, why: str
) -> tuple[tuple[str, str], tuple[str, str]]:
    """(commit, tree) of the baseline and of the candidate. What the org put together hangs on the candidate's commit, so
    that one ref holds both."""
    base: dict[str, bytes | None] | None = {}
    cand: dict[str, bytes | None] | None = {}
    base_tree, tree = original.baseline_tree, original.tree
    if attack.kind == refute.WITHOUT:
        base_tree = original.baseline_tree if attack.what == refute.CODE else original.tree
        base = _without(home, original, attack.what)
    elif attack.kind in (refute.RETUNED, refute.BOTH):
        turned = _level(charter, attack.what)
        base = _turned(home, base_tree, turned)
        cand = _turned(home, tree, turned) if attack.kind == refute.BOTH else cand
    if base is None or cand is None:
        raise BadInput(f"{original.experiment} has no line of its own for '{attack.what:.60}'; choose another attack")
    if not base:
        return (original.baseline_commit, original.baseline_tree), (original.commit, original.tree)
    base_tree, tree = (
        git.tree_with(home.record, of, put) if put else of for of, put in ((base_tree, base), (tree, cand))
    )
    made = git.commit(home.record, base_tree, [original.baseline_commit], f"{why}\n\nthe baseline of it")
    return (made, base_tree), (git.commit(home.record, tree, [original.commit, made], why), tree)


Turned = Mapping[str, tuple[str, Any]]  # constant -> its path and value


def _without(home: Home, original: Contract, part: str) -> dict[str, bytes | None] | None:
    """The files that take one part of the candidate back: a knob set as it was; of the code, the baseline's with the knobs
    alone. None where that cannot be done by name."""
    if part == refute.CODE:
        return _turned(home, original.baseline_tree, {knob.name: (knob.path, knob.new) for knob in original.knobs})
    knob = next((knob for knob in original.knobs if knob.name == part), None)
    return _turned(home, original.tree, {part: (knob.path, knob.old)}) if knob else None


def _level(charter: Charter, level: str) -> Turned:
    name, _, value = level.partition("=")
    knob = next(knob for key, knob in charter.knobs.items() if key.upper() == name)
    return {name: (knob.path, _parsed(value))}


def _turned(home: Home, tree: str, values: Turned) -> dict[str, bytes | None] | None:
    """The files of a tree in which constants have other values; None where one has no line of its own."""
    there = _texts(str(home.record), tree, tuple(sorted({path for path, _ in values.values()})))
    changed = dict(there)
    for name, (path, value) in values.items():
        turned = record.set_constant(changed.get(path, ""), name, value)
        if turned is None:
            return None
        changed[path] = turned
    return {p: text.encode(errors="surrogateescape") for p, text in changed.items() if text != there[p]}


@functools.lru_cache(maxsize=256)
def _texts(git_dir: str, tree: str, paths: tuple[str, ...]) -> Mapping[str, str]:
    """Files of a tree, which never change: whoever looks for something to attack looks at them again and again."""
    found = git.read_files(Path(git_dir), tree, set(paths))
    return {path: data.decode(errors="surrogateescape") for path, data in found.items()}


def _parsed(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _values(home: Home, charter: Charter, tree: str) -> dict[str, Any]:
    """The learning rates of a tree that can be set by name."""
    found: dict[str, Any] = {}
    rates = {name.upper(): knob.path for name, knob in charter.knobs.items() if refute.is_rate(name, knob)}
    for path, text in _texts(str(home.record), tree, tuple(sorted(set(rates.values())))).items():
        try:
            known = contracts.constants(text)
        except contracts.SourceError:
            continue
        for name, constant in known.items():
            if rates.get(name) == path and record.source_of(text, name) is not None:
                found[name] = constant.value
    return found


def _ready(book: Book, original: Contract, claim: refute.Claim) -> dict[str, int]:
    """Runs that each attack finds made: what earlier ones measured on these seeds."""
    fresh = [r for r in book.results.values() if refute.is_fresh(r.seed) and r.status != "lost"]
    base, cand = (
        sum(r.tree == tree and r.scale == original.scale for r in fresh)
        for tree in (original.baseline_tree, original.tree)
    )
    ready = {refute.SEEDS: base + cand, refute.MATCHED: base}
    ready |= {f"{refute.WITHOUT} {part}": cand for part in claim.parts}
    known = ((name, min(count, refute.RUNS[name.partition(" ")[0]] * 2 - 1)) for name, count in ready.items())
    return dict(known)


# --- the page ----------------------------------------------------------------------------------------------------


def page(home: Home, name: str) -> dict[str, Any]:
    """All that a breaker is handed of a claim: its numbers, its diff as code without a comment, its raw runs, its attacks.
    Nothing that the proposer wrote in words. Bounded. Raises BadInput where there is nothing to refute."""
    charter = charters.load(home)
    book = Ledger(home).refresh()
    found = plan(home, book, charter, name)
    contract, verdict = book.experiments[name], book.verdicts[name]
    facts = ("claim", "program", "scale", "matched", "control", "commit", "baseline_commit")
    numbers = ("effect", "se", "z", "n", "sigma", "paired", "split", "trust", "matching")
    diff = list(_diff(home, charter, contract))
    runs = [
        {field: getattr(r, field) for field in RUN_FIELDS}
        for r in book.results.values()
        if r.tree in (contract.tree, contract.baseline_tree) and r.scale == contract.scale
    ]
    return {
        "experiment": name,
        **{field: getattr(contract, field) for field in facts},
        "metric": f"{charter.metric.name}, {charter.metric.direction} is better",
        **{field: getattr(verdict, field) for field in numbers},
        "knobs": [{"name": k.name, "old": k.old, "new": k.new} for k in contract.knobs],
        "diff": diff[:DIFF_LINES],
        "diff_left_out": max(0, len(diff) - DIFF_LINES),
        "runs": runs[-RUN_LINES:],
        "runs_left_out": max(0, len(runs) - RUN_LINES),
        "trials": [trial.to_dict() for trial in found.trials],
        "attacks": [attack.to_dict() for attack in found.left],
        "standing": found.ended.to_dict(),
    }


RUN_FIELDS = (
    "run",
    "arm",
    "seed",
    "status",
    "metric",
    "steps",
    "flops",
    "params",
    "cpu_s",
    "train_s",
    "vram_mb",
    "setting",
)


def _diff(home: Home, charter: Charter, contract: Contract) -> Iterator[str]:
    """The change as code, file after file."""
    old, new = (gate.texts_of(home, charter, tree) for tree in (contract.baseline_tree, contract.tree))
    for path in sorted({*old, *new}):
        for line in contracts.code_changes(path, old.get(path, ""), new.get(path, "")):
            yield files.printable(line, LINE)
