"""Branches that `land` made before in a person's repository: which commits are its own, what they keep quiet about, and which
hold what no head holds any more. Moves none of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from org.errors import OrgError
from org.evidence import ladder
from org.evidence.stack import Step
from org.home import Home
from org.lab import landtext, record
from org.lab.book import Book
from org.records import Charter
from org.world import git, graft
from org.world.graft import Place

US = "org <org@localhost>"


@dataclass(frozen=True)
class Own:
    """A commit that land made: for which head, on which commit of the person's; `says` is its message."""

    commit: str
    head: str
    on: str
    says: str


def own(shop: Path, book: Book, program: str, at: str | None) -> list[Own]:
    """The commits of a branch that land made for this program, the tip last; [] when the tip is none of them: committed
    by somebody else (so amended, rebased or built upon), or landed by another home."""
    heads = {row.get("commit") for row in book.moves if row.get("kind") == "head" and row.get("program") == program}
    found: list[Own] = []
    while at is not None and (not found or at != found[0].on):
        made = graft.read_commit(shop, at)
        lines = made.message.rstrip("\n").rpartition("\n\n")[2].splitlines()
        says = dict(line.split(": ", 1) for line in lines if ": " in line)
        on = says.get("Org-On", "")
        if made.committer != US or says.get("Org-Program") != program or says.get("Org-Head") not in heads:
            return []
        found.insert(0, Own(at, says["Org-Head"], on, made.message))
        at = git.resolve(shop, f"{at}^")
    return found


def untold(book: Book, steps: Sequence[Step], past: Sequence[Own]) -> list[str]:
    """What was retracted since these commits were made of it, so that their messages still call it verified."""
    found = []
    for made in past:
        words = " ".join(made.says.split())
        brought = [step for step in steps if f"- {step.experiment} verified:" in words]
        names = [name for step in brought for name in (step.experiment, *step.members)]
        found += [name for name in names if name in book.retracted and f"{name} {landtext.GONE}" not in words]
    return found


def stale_of(home: Home, charter: Charter, book: Book, program: str) -> list[str]:
    """`stale` of the repository that holds the code, if there is one."""
    try:
        return stale(book, graft.find(record.code_path(home, charter)), program)
    except OrgError:
        return []


def stale(book: Book, place: Place, program: str) -> list[str]:
    """A sentence for each branch that still is as land made it, of a head that was taken back since."""
    held = {str(row.get("commit")) for row in ladder.in_force(book.moves, program)}
    made = {str(r.get("branch")): r for r in book.org if r.get("event") == "land" and r.get("program") == program}
    said = []
    for branch, row in made.items():
        if row.get("repository") != str(place.top) or row.get("head") in held:
            continue
        if graft.tip(place, branch) == row.get("commit"):
            names = ", ".join(map(str, row.get("experiments") or ())) or "work"
            drop = f"`git branch -D {shlex.quote(branch)}` leaves it"
            said.append(f"the branch {branch} holds {names}, which the head of {program} no longer does; {drop}")
    return [landtext.one_line(line, 300) for line in said]
