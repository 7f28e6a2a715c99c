"""What a wiki page says of experiments and knobs, held against their verdicts and against older pages. Pure; a lint, no proof.

A statement is a clause that says that something helps, or that it does not. It reads a few words, and names what
contradicts; it never changes or refuses a page.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from org import files
from org.evidence import ladder
from org.evidence.audit import EXPERIMENT
from org.records import KEPT, Verdict

Kind = Literal["finding", "dead-end", "open-question"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MOST = 400  # clauses of one page that are read
LONGEST = 600  # characters of one clause
SHOWN = 12  # doubts of one page
_CLAUSE = re.compile(r"[;\n]|[.!](?:\s|$)|,?\s+\b(?:but|while|whereas|although|yet)\b", re.IGNORECASE)
_HELPS = re.compile(
    r"\b(?:helps?|helped|wins?|won|improve[sd]?|improvement|works?|worked|better|gains?|gained|beneficial|pays? off)\b",
    re.IGNORECASE,
)
_HURTS = re.compile(
    r"\b(?:hurts?|harms?|harmed|harmful|worse|worsens?|fails?|failed|useless|dead[ -]ends?|diverge[sd]?|regress\w*|"
    r"(?:brings?|brought|does|did|buys?|bought) nothing|no (?:effect|gain|use|improvement|benefit|difference)|refuted)\b",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(?:not|never|no|nor|neither|hardly|cannot|without|\w+n['\u2019]t)\b", re.IGNORECASE)
_HEDGE = re.compile(r"\?|\b(?:may|might|could|if|whether|would|unclear|unknown|perhaps)\b", re.IGNORECASE)
_VALUE = re.compile(r"[-+]?(?:\d+\.\d+|\.\d+|\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Statement:
    """`sign`: 1 it helps, -1 it does not. values: what the clause sets a knob to, empty where it says no number."""

    sign: int
    text: str
    experiments: frozenset[str]
    knobs: Mapping[str, frozenset[float]]


def kind_of(text: str) -> Kind:
    """What a page is that does not say so: by its first line."""
    first = (text.strip().splitlines() or [""])[0].strip()
    if first.endswith("?") or re.match(r"[#\s]*open[ -]question", first, re.IGNORECASE):
        return "open-question"
    if re.match(r"[#\s]*dead[ -]end", first, re.IGNORECASE):
        return "dead-end"
    return "finding"


def cites(text: str) -> list[str]:
    """The experiments that a page names, in order."""
    return list(dict.fromkeys(EXPERIMENT.findall(text)))


def statements(text: str, knobs: Collection[str], is_question: bool = False) -> list[Statement]:
    """What the clauses of a page claim. A question claims nothing, nor does what only may be."""
    found = []
    for clause in _CLAUSE.split(text)[:MOST] if not is_question else ():
        clause = (clause or "")[:LONGEST].strip()
        sign = 0 if not clause or _HEDGE.search(clause) else _sign(clause)
        if sign:
            named = frozenset(EXPERIMENT.findall(clause))
            found.append(Statement(sign, clause, named, _knobs(clause, knobs)))
    return found


def doubts(
    said: Sequence[Statement],
    verdicts: Mapping[str, Verdict],
    retracted: Mapping[str, Mapping[str, object]],
    older: Iterable[tuple[str, Sequence[Statement]]],
) -> list[str]:
    """What of a page the ledger or an older page says otherwise, a sentence each. older: (name of the page, its statements).
    A clause that names several experiments is doubted when none of them bears it out."""
    found: dict[str, None] = {}
    for one in said:
        against = {
            name: why for name in sorted(one.experiments) if (why := _against(one.sign, name, verdicts, retracted))
        }
        judged = [name for name in one.experiments if name in verdicts]
        if against and len(against) == len(judged):
            found |= dict.fromkeys(f"says that it {_says(one.sign)}, but {why}" for why in against.values())
    for name, theirs in older:
        for one in said:
            if (other := next((o for o in theirs if _is_opposite(one, o)), None)) is not None:
                what = ", ".join(sorted(one.experiments & other.experiments) or sorted(_shared(one, other)))
                quoted = " ".join(files.printable(other.text, 120).split())
                found[f"contradicts {name} on {what}: \u201c{quoted}\u201d"] = None
    return list(found)[:SHOWN]


def _sign(clause: str) -> int:
    signs = set()
    for pattern, sign in ((_HURTS, -1), (_HELPS, 1)):
        for match in pattern.finditer(clause):
            before = " ".join(clause[: match.start()].split()[-4:])
            is_denied = _NOT.search(before) is not None
            # that something does not hurt is no claim that it helps
            signs |= {-1} if sign == 1 and is_denied else {sign} if not is_denied else set()
    if (
        len(signs) == 2
        and _HURTS.search(clause)
        and re.search(r"\bno (?:gain|improvement|benefit|use)", clause, re.IGNORECASE)
    ):
        return -1  # "no gain" is read by both
    return signs.pop() if len(signs) == 1 else 0


def _knobs(clause: str, knobs: Collection[str]) -> dict[str, frozenset[float]]:
    """The knobs a clause names, with the numbers that stand right behind each."""
    found: dict[str, frozenset[float]] = {}
    for name in knobs:
        for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", clause, re.IGNORECASE):
            rest = re.match(r"[\s=\u2192>,/+\-\d.eEtoisfram]*", clause[match.end() : match.end() + 60])
            values = _VALUE.findall(rest[0]) if rest else []
            found[name] = found.get(name, frozenset()) | frozenset(map(float, values))
    return found


def _against(
    sign: int, name: str, verdicts: Mapping[str, Verdict], retracted: Mapping[str, Mapping[str, object]]
) -> str | None:
    verdict = verdicts.get(name)
    if verdict is None:
        return None
    if name in retracted:
        return f"{name} was {ladder.gone(retracted[name])}" if sign == 1 else None
    is_kept = verdict.outcome in KEPT
    if (sign == 1) == is_kept or verdict.outcome == "lost":
        return None
    return f"{name} is {verdict.outcome}{f' ({verdict.tier})' if verdict.tier else ''}"


def _is_opposite(one: Statement, other: Statement) -> bool:
    if one.sign == other.sign:
        return False
    if one.experiments and other.experiments:
        return bool(one.experiments & other.experiments) or bool(_shared(one, other))
    return bool(_shared(one, other))


def _shared(one: Statement, other: Statement) -> set[str]:
    """Knobs of which both speak, but for those that they set to other values: both may be true."""
    return {
        name
        for name in one.knobs.keys() & other.knobs.keys()
        if not (one.knobs[name] and other.knobs[name]) or one.knobs[name] & other.knobs[name]
    }


def _says(sign: int) -> str:
    return "helps" if sign == 1 else "does not help"
