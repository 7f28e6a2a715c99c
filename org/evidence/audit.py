"""Numbers in prose held against the verdicts: what the ledger supports, what it contradicts, what it never said.

A lint, not a proof: it reads numbers and a few words beside them, and judges a line by the experiments it names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from org.evidence.stack import Credit
from org.records import Verdict

FIELDS = ("effect", "se", "z", "n", "net", "expect", "sigma", "outcome", "tier", "claim", "trust", "split")
CITED = ("credit", "credit_se", "credit_z", "additivity", "head")  # of `Known.cited`: see `team.facts`

Measured = Verdict | Credit  # whatever has an effect, its standard error and z

_NUMBER = re.compile(r"(?<![\w.])[-+\u2212]?(?:\d+\.\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w]|\.\d)")
EXPERIMENT = re.compile(r"\bE\d{4,}\b")
_CITATION = re.compile(r"\{(E\d{4,})\.(\w+)\}")
_LABELLED = re.compile(
    r"\b(effect|z|n|se)\b(?:\s+(?:of|is|was))?\s*[:=|]?\s*([-+\u2212]?(?:\d+\.\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?)(?![\w]|\.\d)",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    r"(?<!\bafter )\b(\d+)\s+(experiments?|runs?|verdicts?|wins?|losses|nulls?|crashes|refuted|retracted|refusals?|"
    r"verifications?|verified(?! (?:stack|verification|head)))\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[;.,](?:\s|$)")
_MEASURED = re.compile(r"(?:bpb|loss|sigma|±|effect|(?<!a)gain|improve\w*|better|worse|lower|higher)", re.IGNORECASE)
_SKIP = re.compile(r"```.*?```|`[^`]*`|https?://\S+|\d{4}-\d\d-\d\d(?:T[\d:.]+Z?)?", re.DOTALL)


@dataclass(frozen=True)
class Mark:
    line: int  # 1-based
    text: str
    kind: Literal["unsupported", "contradicted"]
    ledger: str | None  # what the ledger says


@dataclass(frozen=True)
class Known:
    """What the ledger says beside the verdicts, by experiment."""

    again: Mapping[str, Sequence[Measured]] = field(default_factory=dict)  # its re-tests, its credit in a stack
    cited: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # further names for `{E0042.name}`
    verified: Collection[str] = ()  # in a stack: their own verdict does not say so


def audit(
    text: str,
    verdicts: Mapping[str, Verdict],
    metrics: Mapping[str, Iterable[float]] | None = None,
    counts: Mapping[str, int] | None = None,
    metric: str = "",
    known: Known | None = None,
) -> list[Mark]:
    """Marks of a page, line by line; code, links and dates are not read.

    metrics: {experiment: every metric its runs had, and what else was measured or set}; "" has those of no one
    experiment. counts: {"experiments": 20, "wins": 3, …}; a count that is not given is not checked, nor one beside the
    name of an experiment. metric: its name, a word beside which a number is a measurement.
    A number is supported when a fact rounds to it at the decimals it is written with.
    """
    metrics, counts, known = metrics or {}, counts or {}, known or Known()
    measured = re.compile(f"{_MEASURED.pattern}|{re.escape(metric)}", re.IGNORECASE) if metric else _MEASURED
    marks: list[Mark] = []
    for number, line in enumerate(_SKIP.sub(_blank, text).split("\n"), 1):
        named = list(dict.fromkeys(EXPERIMENT.findall(line)))
        marks += [
            Mark(number, name, "unsupported", "no verdict")
            for name in named
            if name not in verdicts and name not in metrics
        ]
        marks += [
            Mark(number, word, kind, said)
            for word, kind, said in [*_counts(line, counts), *_numbers(line, named, verdicts, metrics, measured, known)]
        ]
        marks += [Mark(number, word, "contradicted", said) for word, said in _words(line, named, verdicts, known)]
    return marks


def resolve(text: str, verdicts: Mapping[str, Verdict], known: Known | None = None) -> str:
    """`{E0042.effect}` and the like as the ledger has them; one that cannot be resolved says so in brackets."""
    cited = (known or Known()).cited
    return _CITATION.sub(lambda match: _cited(match[1], match[2], verdicts, cited.get(match[1], {})), text)


def _cited(experiment: str, name: str, verdicts: Mapping[str, Verdict], more: Mapping[str, float]) -> str:
    verdict = verdicts.get(experiment)
    if verdict is None:
        return f"[{experiment}.{name}: no verdict]"
    if name not in (*FIELDS, *CITED):
        return f"[{experiment}.{name}: not one of {', '.join((*FIELDS, *CITED))}]"
    value: Any = more.get(name) if name in CITED else getattr(verdict, name)
    if value is None:
        return f"[{experiment}.{name}: none]"
    if not isinstance(value, float):
        return str(value)
    if name in ("z", "credit_z", "additivity"):
        return f"{value:.2f}"
    return f"{value:.4f}" if name in ("se", "sigma", "credit_se") else f"{value:+.4f}"


Found = tuple[str, Literal["unsupported", "contradicted"], str | None]


def _counts(line: str, counts: Mapping[str, int]) -> Iterable[Found]:
    """`20 experiments` where the ledger has 12; those with a verdict are a fair count of them too."""
    for clause in _CLAUSE.split(line):
        if EXPERIMENT.search(clause):
            continue  # runs of that one, not of all
        for match in _COUNTED.finditer(clause):
            word = match[2].lower()
            name = next((n for n in (word, f"{word}s", f"{word}es") if n in counts), None)
            if name and int(match[1]) not in (counts[name], counts.get(f"{name} decided")):
                yield match[0], "contradicted", f"{counts[name]} {name}"


def _numbers(
    line: str,
    named: list[str],
    verdicts: Mapping[str, Verdict],
    metrics: Mapping[str, Iterable[float]],
    measured: re.Pattern[str],
    known: Known,
) -> Iterable[Found]:
    if not _NUMBER.search(line):
        return
    pool = named or list(dict.fromkeys([*verdicts, *metrics]))
    own = [verdicts[name] for name in named if name in verdicts]
    again = [one for name in pool for one in known.again.get(name, ())]
    numbers = [value for name in (*pool, "") for value in metrics.get(name, ())]
    seen: set[int] = set()
    for match in _LABELLED.finditer(line):
        seen.add(match.start(2))
        label = match[1].lower()
        if len(named) == 1 and own:
            value = getattr(own[0], label)
            values = [value, *(getattr(one, label, None) for one in again)]
            if not any(_rounds_to(v, match[2], signed=label in ("effect", "z")) for v in values if v is not None):
                yield match[0], "contradicted", f"{named[0]} {label} {value}"
        elif not any(_supports(v, match[2]) for v in [*(own or verdicts.values()), *again]):
            yield match[0], "unsupported", None
    for match in _NUMBER.finditer(line):
        if match.start() in seen or "." not in match[0]:
            continue  # whole numbers are too common to mean a measurement
        if not named and not measured.search(line):
            continue
        facts = [*(verdicts[name] for name in pool if name in verdicts), *again]
        if not any(_supports(v, match[0]) for v in facts) and not any(_rounds_to(x, match[0]) for x in numbers):
            yield match[0], "unsupported", None


def _words(line: str, named: list[str], verdicts: Mapping[str, Verdict], known: Known) -> Iterable[tuple[str, str]]:
    """`E0042 is verified` where it is not; a direction told the other way round."""
    if len(named) != 1 or named[0] not in verdicts:
        return
    verdict = verdicts[named[0]]
    lower = line.lower()
    negated = re.search(r"\b(?:not|never|no|un|yet|to be|fail\w*)\b", lower)
    is_verified = verdict.tier == "verified" or named[0] in known.verified
    # "0 verified" counts, and is said of no one
    if re.search(r"(?<!\d )\bverified\b", lower) and not is_verified and not negated:
        yield "verified", f"{verdict.outcome}, tier {verdict.tier}"
    if verdict.z is not None and not negated:
        if re.search(r"\b(?:improve[sd]?|better|wins?|won)\b", lower) and verdict.z < 0:
            yield "improved", f"{named[0]} is worse: z {verdict.z:.2f}"
        elif re.search(r"\b(?:regress\w*|worse|hurts?)\b", lower) and verdict.z > 0:
            yield "worse", f"{named[0]} is better: z {verdict.z:.2f}"


def numbers_in(text: str) -> list[float]:
    """Every number of a text: what a setting or a sentence of the ledger holds."""
    return [value for word in _NUMBER.findall(text) if math.isfinite(value := float(word.replace("\u2212", "-")))]


def _supports(found: Measured, written: str) -> bool:
    facts = [found.effect, found.se, found.z]
    if isinstance(found, Verdict):
        facts += [found.net, found.expect, found.sigma, float(found.n)]
        facts += [value for row in found.matching.values() for value in row.values()]
    return any(_rounds_to(value, written) for value in facts if value is not None)


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
