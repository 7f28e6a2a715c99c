"""Whether a win carries to another scale of the ladder: what may be promoted, what was shown, what a head goes back to. Pure.

kept at one scale -> re-tested at another, fresh seeds, both arms -> carried: shown beside it
                                                                   -> fell: retracted, and the head it made goes back
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from org.evidence import standing
from org.records import KEPT, Contract, Rules, Verdict

State = Literal["open", "carried", "fell", "lost"]  # lost: by the org, so it showed nothing and may be filed again

Contracts = Mapping[str, Contract]
Verdicts = Mapping[str, Verdict]
Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Retest:
    """One re-test of a claim at another scale."""

    experiment: str
    of: str
    scale: str
    state: State


def state(verdict: Verdict | None) -> State:
    """A crash of the candidate there is no carrying either; a run that the org lost says nothing."""
    if verdict is None:
        return "open"
    if verdict.outcome == "lost":
        return "lost"
    return "carried" if verdict.outcome in KEPT else "fell"


def retests(contracts: Contracts, verdicts: Verdicts) -> dict[str, list[Retest]]:
    """By the experiment they are of, and by every other one of the same claim; oldest first."""
    found: dict[str, list[Retest]] = {}
    tests = _tests_alone(contracts, verdicts)
    for name, contract in contracts.items():
        if contract.promotes:
            one = Retest(name, contract.promotes, contract.scale, state(verdicts.get(name)))
            for same in _same_claim(contracts, tests, contract.promotes):
                found.setdefault(same, []).append(one)
    return found


def same_claim(contracts: Contracts, verdicts: Verdicts, name: str) -> tuple[str, ...]:
    """`name`, and where it was verified alone that verification, or what it verifies alone: one claim under two ids, so
    that what falls as one of them is not kept as the other."""
    return _same_claim(contracts, _tests_alone(contracts, verdicts), name)


def _same_claim(contracts: Contracts, tests: Mapping[str, Sequence[str]], name: str) -> tuple[str, ...]:
    contract = contracts.get(name)
    alone = contract.members if contract is not None and len(contract.members) == 1 else ()
    return tuple(dict.fromkeys([name, *alone, *tests.get(name, ())]))


def _tests_alone(contracts: Contracts, verdicts: Verdicts) -> dict[str, list[str]]:
    """Experiment -> the verifications of it alone that kept it."""
    found: dict[str, list[str]] = {}
    for name, c in contracts.items():
        if c.stage == "verify" and len(c.members) == 1 and (v := verdicts.get(name)) and v.outcome in KEPT:
            found.setdefault(c.members[0], []).append(name)
    return found


def runs(rules: Rules, verdict: Verdict) -> int:
    """Fresh seeds an arm. A harm is excluded by as many runs as excluded it before: fewer would call it back for want of
    runs alone."""
    return rules.verify_runs if verdict.claim == "better" else max(rules.verify_runs, verdict.n)


def problem(
    contracts: Contracts, verdicts: Verdicts, rows: Rows, scales: Collection[str], name: str, scale: str
) -> str:
    """Why `name` cannot be promoted to `scale`, and what can be done instead; "" when it can."""
    rows = list(rows)
    contract, verdict = contracts.get(name), verdicts.get(name)
    if contract is None:
        return f"{name} is not in the ledger; `org results` lists what is"
    if scale not in scales:
        return f"scale '{scale}' is not in the charter; it has {', '.join(scales)}"
    if contract.refutes:
        return f"{name} is an attempt on {contract.refutes}; promote {contract.refutes}"
    if contract.promotes:
        return f"{name} is the re-test of {contract.promotes} at {contract.scale}; promote {contract.promotes}"
    if contract.control:
        return f"{name} was measured at a budget cut to equal {contract.control}, which no scale has; it cannot be promoted"
    if verdict is None or verdict.outcome not in KEPT:
        known = [
            n
            for n, v in verdicts.items()
            if v.outcome in KEPT and (c := contracts.get(n)) and not (c.promotes or c.refutes or c.control)
        ]
        can = ", ".join(n for n in known if n not in retracted(rows)) or "none yet"
        return f"{name} is {verdict.outcome if verdict else 'not judged yet'}; what won can be promoted: {can}"
    if line := retracted(rows).get(name):
        return f"{name} was {gone(line)}; file the change anew"
    past = {r.scale: r for r in retests(contracts, verdicts).get(name, ()) if r.state != "lost"}
    left = ", ".join(s for s in scales if s != contract.scale and s not in past) or "no other scale"
    if scale == contract.scale:
        return f"{name} was measured at {scale}; it can be promoted to {left}"
    if scale in past:
        as_what = f"{past[scale].experiment} ({past[scale].state})"
        return f"{name} was put to this test as {as_what}; it can be promoted to {left}"
    return ""


def out(contracts: Contracts, verdicts: Verdicts) -> dict[str, str]:
    """What is not stacked or verified -> why not, to follow its name."""
    tests, tested = retests(contracts, verdicts), _tests_alone(contracts, verdicts)
    fell = {name: r for name, found in tests.items() for r in found if r.state == "fell"}
    why = {name: f"did not carry to {r.scale} ({r.experiment})" for name, r in fell.items()}
    for name, c in contracts.items():
        if standing.breaks(c, verdicts.get(name)):
            same = _same_claim(contracts, tested, str(c.refutes))
            why |= {of: f"was refuted by {c.attack} ({name})" for of in same if of not in why}
    for name, contract in contracts.items():
        if name not in why and (left := owes(contract, verdicts.get(name), tests.get(name, ()))):
            why[name] = f"owes a re-test at {' and '.join(left)}, which the org files"
    return why


def owes(contract: Contract, verdict: Verdict | None, found: Sequence[Retest]) -> list[str]:
    """Scales at which this tentative win is still to be shown before it is stacked or verified."""
    if not contract.owed_scales or verdict is None or verdict.outcome not in KEPT or verdict.tier != "tentative":
        return []
    carried = {r.scale for r in found if r.state == "carried"}
    return [scale for scale in contract.owed_scales if scale not in carried]


def due(contracts: Contracts, verdicts: Verdicts, limit: int) -> list[tuple[str, str]]:
    """(experiment, scale) of the re-tests to file now: the smallest scale that is still owed, one at a time, since a claim
    that falls there is not worth the next. limit: how often one may be lost before a person has to ask for it."""
    tests = retests(contracts, verdicts)
    found = []
    for name, contract in contracts.items():
        mine = tests.get(name, [])
        left = owes(contract, verdicts.get(name), mine)
        if not left or any(r.state == "fell" for r in mine):
            continue
        past = [r.state for r in mine if r.scale == left[0]]
        if "open" not in past and past.count("lost") < limit:
            found.append((name, left[0]))
    return found


# --- what was retracted, and what a head is after it -------------------------------------------------------------


def retracted(rows: Rows) -> dict[str, Mapping[str, Any]]:
    """Experiment -> the first ledger line that retracts it."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        for name in row.get("retracts") or ():
            found.setdefault(str(name), row)
    return found


def in_force(rows: Rows, program: str) -> list[Mapping[str, Any]]:
    """The `head` lines on which the program's head stands, oldest first: those that a retraction undid are left out."""
    found: list[Mapping[str, Any]] = []
    for row in rows:
        if row.get("kind") != "head" or row.get("program") != program:
            continue
        if not row.get("retracts"):
            found.append(row)
        elif row.get("commit") != row.get("was"):
            while found and found[-1].get("commit") != row.get("commit"):
                found.pop()
    return found


def to_follow(rows: Rows, program: str, at: str) -> Mapping[str, Any] | None:
    """The `head` line of another program that this one goes along with: the oldest it has not gone along with or left
    behind that moved a head from `at`, where this program stands. Forwards and, with a retraction, back. None when it
    stands where it belongs."""
    rows = [row for row in rows if row.get("kind") == "head"]
    # its own lines, and those it followed, are behind it: a head that went back is not to go forward again
    behind = max(
        (int(row.get("of") or row.get("seq") or 0) for row in rows if row.get("program") == program), default=0
    )
    for row in rows:
        if row.get("program") == program or row.get("follows") or int(row.get("seq") or 0) <= behind:
            continue
        if row.get("was") == at != row.get("commit"):
            return row
    return None


def takes_back(contract: Contract, verdict: Verdict | None) -> str | None:
    """The experiment that this one's verdict takes back: what a re-test was of and did not carry, what was refuted."""
    if contract.promotes:
        return contract.promotes if state(verdict) == "fell" else None
    return contract.refutes if standing.breaks(contract, verdict) else None


def gone(row: Mapping[str, Any]) -> str:
    """A few words on a line that retracts, for tables."""
    if attack := row.get("attack"):
        return f"refuted by {attack} ({row.get('experiment')})"
    return f"retracted at {row.get('scale')} by {row.get('experiment')}"


def goes_back_to(rows: Rows, program: str, names: Collection[str]) -> str | None:
    """The commit at which the program's head was before one of `names` made it, members that left it since included, and
    before the heads below that were retracted while it stood on them. None when the head is not what `names` made:
    another, or a later one that stands on it."""
    rows = list(rows)
    made = in_force(rows, program)
    if not made or made[-1].get("experiment") not in names:
        return None
    gone = {*names, *retracted(rows)}
    back = None
    while made and made[-1].get("experiment") in gone:
        back = str(made.pop()["was"])
    return back


def stands_on(contracts: Contracts, verdicts: Verdicts, rows: Rows, program: str, names: Collection[str]) -> list[str]:
    """Whose heads hold what `names` made, and the stacks under way, or about to move the head, that do: these stay as
    they are."""
    rows = list(rows)
    made = in_force(rows, program)
    first = next((i for i, r in enumerate(made) if {r.get("experiment"), *(r.get("members") or ())} & set(names)), None)
    later = [str(row.get("experiment")) for row in made[first:]] if first is not None else []
    moved = {row.get("experiment") for row in rows if row.get("kind") == "head"}

    def is_under_way(name: str, contract: Contract) -> bool:
        if (verdict := verdicts.get(name)) is None:
            return True
        is_next = not made or contract.baseline_commit == made[-1].get("commit")
        return verdict.tier == "verified" and name not in moved and is_next

    under_way = [
        n for n, c in contracts.items() if c.stage == "verify" and set(c.members) & set(names) and is_under_way(n, c)
    ]
    return [name for name in dict.fromkeys([*later, *under_way]) if name not in names]


def said(found: Sequence[Retest], line: Mapping[str, Any] | None = None) -> list[str]:
    """A few words for each re-test of an experiment, for tables. line: the one that retracts it."""
    words = {"open": "re-test at {} under way as {}", "carried": "carried to {} by {}", "fell": "retracted at {} by {}"}
    marks = [words[r.state].format(r.scale, r.experiment) for r in found if r.state in words]
    if line is not None and not any(r.state == "fell" for r in found):
        marks.append(gone(line))
    return marks
