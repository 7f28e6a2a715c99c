"""What the ledger knows of each experiment beside its verdict: what pages print, so that the lint of numbers supports it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from org.evidence import audit, ladder, predictions
from org.lab import credits
from org.lab.tally import Standing, worth
from org.records import Contract, Verdict

if TYPE_CHECKING:
    from org.lab.book import Book

AXES = ("step_s", "vram_mb", "compile_s")  # of a table: two as a share, the seconds as they are


def arms(book: Book, verdict: Verdict, axis: str) -> tuple[float | None, float | None]:
    """(baseline, candidate) on one axis: as judged, else the mean of the runs the verdict rests on."""
    if axis == "step_s":
        seconds, counts = arms(book, verdict, "train_s"), arms(book, verdict, "steps")
        return _ratio(seconds[0], counts[0]), _ratio(seconds[1], counts[1])
    judged = verdict.matching.get(axis)
    if judged:
        return judged.get("baseline"), judged.get("candidate")
    contract = book.experiments.get(verdict.experiment)
    if contract is None:
        return None, None
    runs = [book.results[run] for run in verdict.runs if run in book.results]
    base, own = (
        [getattr(run, axis) for run in runs if run.tree == tree] for tree in (contract.baseline_tree, contract.tree)
    )
    return _mean(base), _mean(own)


def share(book: Book, verdict: Verdict, axis: str) -> float | None:
    """How much more the candidate takes of it, 0.2 for a fifth more."""
    base, own = arms(book, verdict, axis)
    return (own - base) / base if base and own is not None else None


def known(book: Book) -> audit.Known:
    """Re-tests and credits of each experiment, what can be cited of it, and what is verified as a member of a stack."""
    again: dict[str, list[audit.Measured]] = {}
    cited: dict[str, dict[str, float]] = {}
    for name, tests in ladder.retests(book.experiments, book.verdicts).items():
        again[name] = [book.verdicts[test.experiment] for test in tests if test.experiment in book.verdicts]
    standing = Standing(row for row in book.moves if not row.get("retracts"))  # what was verified and fell later, was
    for name, credit in standing.credits.items():
        again.setdefault(name, []).append(credit)
        found = {"credit": credit.effect, "credit_se": credit.se, "credit_z": credit.z}
        cited[name] = {key: value for key, value in found.items() if value is not None}
    for row in book.moves:
        if row.get("kind") == "head" and row.get("effect") is not None:
            cited.setdefault(str(row["experiment"]), {})["head"] = float(row["effect"])
    for name, contract in book.experiments.items():
        ratio = credits.additivity(book, name) if contract.members else None
        if ratio is not None:
            cited.setdefault(name, {})["additivity"] = ratio
    verified = {name for name, verdict in book.verdicts.items() if standing.is_verified(verdict)}
    return audit.Known(again, cited, verified)


def numbers(book: Book, sources: Mapping[str, predictions.Origin] | None = None) -> dict[str, list[float]]:
    """By experiment: metrics of its runs, its prediction, its knobs, how its arms compare, its reasons, what its head is
    worth and what its members are. Under "": how good predictions were. sources: idea -> whose it is."""
    found: dict[str, list[float]] = {name: [] for name in book.experiments}
    for result in book.results.values():
        if result.metric is not None:
            found.setdefault(result.experiment, []).append(result.metric)
    for name, contract in book.experiments.items():
        found[name] += _of_contract(contract)
        if name in book.verdicts:
            found[name] += _of_verdict(book, book.verdicts[name])
    for row in book.moves:
        values = [row.get(key) for key in ("effect", "se", "z")]
        found.setdefault(str(row.get("experiment")), []).extend(float(value) for value in values if value is not None)
    for row in book.heads.values():
        if (found_worth := worth(book, row, 1)) is not None:
            found.setdefault(str(row.get("experiment")), []).extend((found_worth.effect, found_worth.se))
    for name, cited in known(book).cited.items():
        found.setdefault(name, []).extend(cited.values())
    found[""] = [s.error for s in predictions.scores(book.experiments, book.verdicts, sources or {})]
    return found


def quotes(book: Book) -> dict[str, list[str]]:
    """By experiment, the sentences of others that pages print of it: what was changed and why, the verdict's reasons, why
    it was retracted."""
    found = {name: [contract.description] for name, contract in book.experiments.items()}
    for name, verdict in book.verdicts.items():
        found.setdefault(name, []).extend(verdict.reasons)
    for row in book.moves:
        for name in row.get("retracts") or ():
            found.setdefault(str(name), []).append(str(row.get("why")))
    return found


def _of_contract(contract: Contract) -> Iterable[float]:
    yield from (expect for expect in (contract.expect, contract.idea_expect) if expect is not None)
    for knob in contract.knobs:
        yield from audit.numbers_in(f"{knob.old} {knob.new}")


def _of_verdict(book: Book, verdict: Verdict) -> Iterable[float]:
    for axis in AXES:
        yield from (value for value in arms(book, verdict, axis) if value is not None)
        more = share(book, verdict, axis)
        if more is not None:
            yield 100 * more
    if verdict.outcome != "crash":  # those are the trainer's words
        for reason in verdict.reasons:
            yield from audit.numbers_in(reason)


def _mean(values: Iterable[float | None]) -> float | None:
    known_ones = [value for value in values if value is not None]
    return sum(known_ones) / len(known_ones) if known_ones else None


def _ratio(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None
