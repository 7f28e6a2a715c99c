"""Numbers in prose held against the verdicts: what the ledger supports, what it contradicts, what it never said.

A lint, not a proof: it reads numbers and a few words beside them, and judges a line by the experiments it names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from org.records import Verdict

FIELDS = ("effect", "se", "z", "n", "net", "expect", "sigma", "outcome", "tier", "claim", "trust", "split")

_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?(?:\d+\.\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w]|\.\d)")
_EXPERIMENT = re.compile(r"\bE\d{4,}\b")
_CITATION = re.compile(r"\{(E\d{4,})\.(\w+)\}")
_LABELLED = re.compile(
    r"\b(effect|z|n|se)\b(?:\s+(?:of|is|was))?\s*[:=|]?\s*([-+\u2212]?(?:\d+\.\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?)(?![\w]|\.\d)",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"\b(\d+)\s+(experiments?|runs?|wins?|losses|nulls?|crashes|verified)\b", re.IGNORECASE)
_MEASURED = re.compile(r"(?:bpb|loss|sigma|±|effect|gain|improve\w*|better|worse|lower|higher)", re.IGNORECASE)
_SKIP = re.compile(r"```.*?```|`[^`]*`|https?://\S+|\d{4}-\d\d-\d\d(?:T[\d:.]+Z?)?", re.DOTALL)


@dataclass(frozen=True)
class Mark:
    line: int  # 1-based
    text: str
    kind: Literal["unsupported", "contradicted"]
    ledger: str | None  # what the ledger says


def audit(
    text: str,
    verdicts: Mapping[str, Verdict],
    metrics: Mapping[str, Iterable[float]] | None = None,
    counts: Mapping[str, int] | None = None,
    metric: str = "",
) -> list[Mark]:
    """Marks of a page, line by line; code, links and dates are not read.

    metrics: {experiment: every metric its runs had}. counts: {"experiments": 20, "wins": 3, …}; a count that is not
    given is not checked. metric: its name, a word beside which a number is a measurement. A number is supported when a fact rounds to it at the decimals it is written with.
    """
    metrics, counts = metrics or {}, counts or {}
    measured = re.compile(f"{_MEASURED.pattern}|{re.escape(metric)}", re.IGNORECASE) if metric else _MEASURED
    marks: list[Mark] = []
    for number, line in enumerate(_SKIP.sub(_blank, text).split("\n"), 1):
        named = list(dict.fromkeys(_EXPERIMENT.findall(line)))
        marks += [
            Mark(number, name, "unsupported", "no verdict")
            for name in named
            if name not in verdicts and name not in metrics
        ]
        marks += [
            Mark(number, word, kind, said)
            for word, kind, said in [*_counts(line, counts), *_numbers(line, named, verdicts, metrics, measured)]
        ]
        marks += [Mark(number, word, "contradicted", said) for word, said in _words(line, named, verdicts)]
    return marks


def resolve(text: str, verdicts: Mapping[str, Verdict]) -> str:
    """`{E0042.effect}` and the like as the ledger has them; one that cannot be resolved says so in brackets."""
    return _CITATION.sub(lambda match: _cited(match[1], match[2], verdicts), text)


def _cited(experiment: str, name: str, verdicts: Mapping[str, Verdict]) -> str:
    verdict = verdicts.get(experiment)
    if verdict is None:
        return f"[{experiment}.{name}: no verdict]"
    if name not in FIELDS:
        return f"[{experiment}.{name}: not one of {', '.join(FIELDS)}]"
    value: Any = getattr(verdict, name)
    if value is None:
        return f"[{experiment}.{name}: none]"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.2f}" if name == "z" else f"{value:.4f}" if name in ("se", "sigma") else f"{value:+.4f}"


Found = tuple[str, Literal["unsupported", "contradicted"], str | None]


def _counts(line: str, counts: Mapping[str, int]) -> Iterable[Found]:
    """`20 experiments` where the ledger has 12."""
    for match in _COUNTED.finditer(line):
        word = match[2].lower()
        name = next((n for n in (word, f"{word}s", f"{word}es") if n in counts), None)
        if name and counts[name] != int(match[1]):
            yield match[0], "contradicted", f"{counts[name]} {name}"


def _numbers(
    line: str,
    named: list[str],
    verdicts: Mapping[str, Verdict],
    metrics: Mapping[str, Iterable[float]],
    measured: re.Pattern[str],
) -> Iterable[Found]:
    known = [verdicts[name] for name in named if name in verdicts]
    seen: set[int] = set()
    for match in _LABELLED.finditer(line):
        seen.add(match.start(2))
        if len(named) == 1 and known:
            label, value = match[1].lower(), getattr(known[0], match[1].lower())
            if value is None or not _rounds_to(float(value), match[2], signed=label in ("effect", "z")):
                yield match[0], "contradicted", f"{named[0]} {label} {value}"
        elif not any(_supports(v, match[2]) for v in known or verdicts.values()):
            yield match[0], "unsupported", None
    pool = named or [*verdicts, *metrics]
    for match in _NUMBER.finditer(line):
        if match.start() in seen or "." not in match[0]:
            continue  # whole numbers are too common to mean a measurement
        if not named and not measured.search(line):
            continue
        facts = (verdicts[name] for name in pool if name in verdicts)
        runs = (value for name in pool for value in metrics.get(name, ()))
        if not any(_supports(v, match[0]) for v in facts) and not any(_rounds_to(x, match[0]) for x in runs):
            yield match[0], "unsupported", None


def _words(line: str, named: list[str], verdicts: Mapping[str, Verdict]) -> Iterable[tuple[str, str]]:
    """`E0042 is verified` where it is not; a direction told the other way round."""
    if len(named) != 1 or named[0] not in verdicts:
        return
    verdict = verdicts[named[0]]
    lower = line.lower()
    negated = re.search(r"\b(?:not|never|no|un|yet|to be|fail\w*)\b", lower)
    if re.search(r"\bverified\b", lower) and verdict.tier != "verified" and not negated:
        yield "verified", f"{verdict.outcome}, tier {verdict.tier}"
    if verdict.z is not None and not negated:
        if re.search(r"\b(?:improve[sd]?|better|wins?|won)\b", lower) and verdict.z < 0:
            yield "improved", f"{named[0]} is worse: z {verdict.z:.2f}"
        elif re.search(r"\b(?:regress\w*|worse|hurts?)\b", lower) and verdict.z > 0:
            yield "worse", f"{named[0]} is better: z {verdict.z:.2f}"


def _supports(verdict: Verdict, written: str) -> bool:
    facts = [verdict.effect, verdict.se, verdict.z, verdict.net, verdict.expect, verdict.sigma, float(verdict.n)]
    axes = [value for row in verdict.matching.values() for value in row.values()]
    return any(_rounds_to(value, written) for value in [*facts, *axes] if value is not None)


def _rounds_to(value: float, written: str, signed: bool = False) -> bool:
    """Whether `value` rounds to the number as written. An unsigned number may leave out a minus unless `signed`."""
    plain = written.replace("\u2212", "-")
    number = float(plain)
    if not math.isfinite(number):
        return False
    mantissa, _, exponent = plain.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    half = 0.5000001 * 10 ** (int(exponent or 0) - decimals)
    bare = plain[0] not in "+-"
    return abs(value - number) <= half or (bare and not signed and abs(abs(value) - number) <= half)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])
