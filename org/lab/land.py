"""Verified work comes back: a program's measured head as a branch of the person's own repository, when they ask.

    head line, verified -> its change to the imported code -> merged into HEAD's tree -> a commit a stack -> one ref

What lands is the difference between the code as it was imported and the verified head, merged three ways with what the
person has committed since. Constants that the charter's `start` set are no finding: one that research left alone keeps
the person's value, one that it turned lands as the org's. Every stack of the history is a commit of its own, each
applied to the one before as a cherry-pick would, so that a branch that was merged, squashed or rebased is continued; where
one stack alone cannot be applied, and all of them together can, they are one commit.
The same head on the same HEAD gives the same commits, so a kill anywhere is mended by asking again. Nothing is checked
out, pushed or merged, and the work tree is not looked at: what is not committed there is in no landing.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from org import charter as charters
from org import files, times
from org.errors import BadInput, OrgError, Refused
from org.evidence import stack
from org.evidence.stack import Step
from org.failpoint import failpoint
from org.home import Home
from org.lab import fidelity, landed, landtext, record
from org.lab.book import Book
from org.lab.ledger import Ledger
from org.records import KEPT, Charter
from org.world import git, graft
from org.world.graft import Place


@dataclass(frozen=True)
class Change:
    """A commit that lands, and the stacks it brings."""

    commit: str
    parent: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Landing:
    """What came of it. `made`: the branch is there now and was not. `there`: it was. `nothing`: HEAD holds it all.
    `dry`: nothing was made, this is what would be."""

    status: Literal["made", "there", "nothing", "dry"]
    program: str
    branch: str
    place: Place
    commit: str  # of the branch; HEAD's where there is nothing to land
    on: str  # the commit of the person's that it stands on
    changes: tuple[Change, ...]
    files: tuple[str, ...]  # of the person's repository, in git's order
    differs: tuple[tuple[str, str], ...]  # (file, why): not as it was measured
    report: Path | None
    notices: tuple[str, ...] = ()  # what a person has to know beside, a line each

    @property
    def experiments(self) -> list[str]:
        return [step.experiment for change in self.changes for step in change.steps]


def land(home: Home, program: str, branch: str | None = None, dry: bool = False, by: str = "human") -> Landing:
    """Make or continue the branch (default `org/<program>`) with the program's verified head. Raises BadInput when
    there is nothing verified, no repository to land in or a branch of the person's in the way, Refused for conflicts;
    then nothing was made."""
    record.check_program(home, program)
    charter, writer = charters.load(home), Ledger(home)
    book = writer.refresh()
    steps, notices = _verified(home, charter, book, program)
    place = graft.find(record.code_path(home, charter))
    name = branch if branch is not None else f"org/{program}"
    graft.check_branch(place, name)
    at = graft.tip(place, name)
    with graft.workshop(place, home.record) as shop:
        past = landed.own(shop, book, program, at)
        is_there = bool(past) and past[-1].head == steps[-1].commit and not landed.untold(book, steps, past)
        if is_there:
            place = replace(place, head=past[-1].on)
        landing = _built(shop, home, charter, book, program, name, place, steps, past)
        landing = replace(landing, notices=notices)
        if is_there and at:
            landing = replace(landing, status="there", commit=at)
        elif landing.changes:
            _refuse_theirs(place, name, at, is_ours=bool(past))
        if dry or not landing.changes:
            return _with_stale(book, landing)
        if not is_there:
            graft.deliver(shop, place, [(change.parent, change.commit) for change in landing.changes])
            failpoint("land.objects")
            graft.point(place, name, landing.commit, at)
            failpoint("land.ref")
            landing = replace(landing, status="made")
    return _with_stale(book, _told(home, writer, charter, steps, landing, by))


def _with_stale(book: Book, landing: Landing) -> Landing:
    return replace(landing, notices=(*landing.notices, *landed.stale(book, landing.place, landing.program)))


# --- what is verified --------------------------------------------------------------------------------------------


def _verified(home: Home, charter: Charter, book: Book, program: str) -> tuple[list[Step], tuple[str, ...]]:
    """The program's verified stacks, and what only the clock says against the ledger: clocks are set. Raises BadInput when
    its head is the base, Refused when what made its head was retracted, OrgError when the record, the head lines and their
    verdicts do not agree: what cannot be shown to be verified does not land."""
    base = git.resolve(home.record, record.BASE)
    ref = git.resolve(home.record, record.main_ref(program))
    if base is None or ref is None:
        raise BadInput(f"{program} has no head in the record yet; `org run` and `org stack {program}` make one")
    steps = stack.history(book.moves, program, git.tree_of(home.record, base))
    left = "".join(f"; {said}" for said in landed.stale_of(home, charter, book, program)) if not steps else ""
    if not steps and ref == base:
        gone = {*book.out(), *book.retracted}
        tentative = [
            name for name, verdict in book.verdicts.items() if verdict.tier == "tentative" and name not in gone
        ]
        wins = [name for name in tentative if book.experiments[name].program == program]
        ahead = f"`org stack {program}` verifies its {len(wins)} tentative wins" if wins else "it has no win to verify"
        raise BadInput(f"nothing is verified in {program}: its head is the base; {ahead}{left}")
    last = book.heads.get(program) or {}
    if last.get("commit") != ref or (steps and last.get("tree") != git.tree_of(home.record, ref)):
        raise OrgError(f"the head of {program} is {ref[:7]} and its ledger line is not that; `org results --check`")
    if not steps:
        raise BadInput(
            f"nothing is verified in {program}: its head went back to the base; `org results` says why{left}"
        )
    for step in steps:
        verdict = book.verdicts.get(step.experiment)
        if verdict is None or verdict.outcome not in KEPT or verdict.tier != "verified":
            raise OrgError(f"{step.experiment} moved the head of {program} and is not verified; `org results --check`")
    if back := landtext.taken_back(book, charter, steps[-1].experiment):
        raise Refused(
            f"{steps[-1].experiment} made the head of {program} and is {back}; nothing lands until another does"
        )
    problems = fidelity.problems(home)
    if grave := [problem for problem in problems if problem["kind"] != fidelity.CLOCK]:
        first = f"line {grave[0]['line']} {grave[0]['what']}"
        raise OrgError(f"the ledger does not agree with itself, so nothing lands: {first}; see `org results --check`")
    return steps, tuple(f"the clock, line {problem['line']}: {problem['what']}" for problem in problems)


def _refuse_theirs(place: Place, name: str, at: str | None, is_ours: bool) -> None:
    if at is not None and not is_ours:
        raise BadInput(f"{place.top} has a branch {name} with other work on it; name another with --branch NAME")
    there = graft.checked_out(place, name)
    if there is not None:
        raise BadInput(
            f"{name} is checked out in {there}; switch to your own branch, or name another with --branch NAME"
        )


# --- the trees ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """The code under study in its states, as trees of the workshop: imported, HEAD's, after each step. Constants that
    `start` set and research left alone are as imported; line ends are HEAD's."""

    imported: str
    theirs: str
    after: tuple[str, ...]
    reasons: dict[str, list[str]]  # file -> why it lands other than measured
    clashes: tuple[str, ...]  # files in which HEAD and a step turned one constant to different values


def _built(
    shop: Path,
    home: Home,
    charter: Charter,
    book: Book,
    program: str,
    name: str,
    place: Place,
    steps: list[Step],
    past: list[landed.Own],
) -> Landing:
    """The commits, made in the workshop. Raises Refused naming the files in conflict."""
    head_tree = git.tree_of(shop, place.head)
    theirs = graft.subtree(shop, head_tree, place.sub)
    if theirs is None:
        raise BadInput(
            f"{place.sub} is not in the last commit of {place.top} (ignored, or never added); commit it first"
        )
    code = _code(shop, home, charter, theirs, steps)
    first = next(
        (k for k in reversed(range(len(steps))) if _merged(shop, code.imported, theirs, code.after[k]) == theirs), -1
    )
    rest = list(range(first + 1, len(steps)))
    plan: list[tuple[tuple[int, ...], str]] | git.Conflict = []
    for groups in ([(k,) for k in rest], [tuple(rest)] if rest else []):
        plan = _applied(shop, code, theirs, first, groups)
        if not isinstance(plan, git.Conflict):
            break
    clashes = plan.paths if isinstance(plan, git.Conflict) else code.clashes
    if isinstance(plan, git.Conflict) or clashes:
        raise Refused(_conflict(home, program, place, clashes))
    changes, differs = _commits(shop, home, charter, book, program, place, head_tree, steps, code, plan, past)
    commit = changes[-1].commit if changes else place.head
    names = tuple(path for _, path in git.diff_names(shop, place.head, commit)) if changes else ()
    status: Literal["dry", "nothing"] = "dry" if changes else "nothing"
    return Landing(status, program, name, place, commit, place.head, changes, names, differs, None)


def _code(shop: Path, home: Home, charter: Charter, theirs: str, steps: list[Step]) -> Code:
    """Read every state of the code, and set apart what `start` did from what research did."""
    base_commit = git.resolve(home.record, record.BASE) or git.ABSENT
    imported_commit = git.resolve(home.record, record.IMPORTED) or base_commit
    commits = (base_commit, imported_commit, *(step.commit for step in steps))
    base, imported, *after = (_measured(shop, home, charter, commit) for commit in commits)
    started = [path for _, path in git.diff_names(shop, imported, base)]
    touched = sorted({path for tree in after for _, path in git.diff_names(shop, base, tree)} | set(started))
    for entry in (entry for tree in after for entry in git.list_tree(shop, tree) if entry.path in touched):
        git.refuse_unsafe(entry)
    old, own, new = (git.read_files(shop, tree, touched) for tree in (imported, theirs, base))
    states = [git.read_files(shop, tree, touched) for tree in after]
    reasons: dict[str, list[str]] = {}
    clashes = []
    for path in started:
        for name, before, at_base in _started(old[path], new[path]):
            mine = _source(own.get(path), name)
            turned = [now for now in (_source(state.get(path), name) for state in states) if not _same(now, at_base)]
            for state in states:
                if path in state and _same(_source(state[path], name), at_base):
                    state[path] = _with_source(state[path], name, before)
            if not turned and mine is not None and not _same(mine, at_base):
                reasons.setdefault(path, []).append(f"it keeps {name} = {mine}, measured with {at_base}")
            if turned and mine is not None and not any(_same(mine, value) for value in (before, *turned)):
                clashes.append(path)
    for path in touched:
        if b"\r\n" in old.get(path, b"") and path in own and b"\r\n" not in own[path]:
            reasons.setdefault(path, []).append("its lines end as yours do")  # a checkout converted what was imported
            for state in (old, *states):
                if path in state:
                    state[path] = state[path].replace(b"\r\n", b"\n")
    return Code(
        imported=git.tree_with(shop, imported, dict(old)),
        theirs=theirs,
        after=tuple(git.tree_with(shop, tree, dict(state)) for tree, state in zip(after, states, strict=True)),
        reasons=reasons,
        clashes=tuple(sorted(set(clashes))),
    )


def _measured(shop: Path, home: Home, charter: Charter, commit: str) -> str:
    """The tree of the code in a commit of the record."""
    prefix = charter.prefix.strip("/")
    tree = graft.subtree(shop, git.tree_of(shop, commit), prefix)
    if tree is None:
        raise BadInput(
            f"{home.charter}: prefix: the record has no folder {prefix!r}; put back what it was at the import"
        )
    return tree


def _merged(shop: Path, base: str, ours: str, theirs: str) -> str | git.Conflict:
    """A three-way merge of trees that follows no file to another name: git does, whatever merge.renames says before 2.50."""
    merged = git.merge_tree(shop, ours, theirs, base=base)
    if isinstance(merged, git.Conflict) or merged == ours:
        return merged
    wanted = {path for _, path in git.diff_names(shop, base, theirs)}
    if {path for _, path in git.diff_names(shop, ours, merged)} <= wanted:
        return merged
    there = {entry.path for entry in git.list_tree(shop, ours)}
    return git.Conflict(tuple(sorted(wanted - there)) or tuple(sorted(wanted)))


def _applied(
    shop: Path, code: Code, theirs: str, first: int, groups: Sequence[tuple[int, ...]]
) -> list[tuple[tuple[int, ...], str]] | git.Conflict:
    """HEAD's code after each group of steps, those left out that change nothing there. `first`: the last step that HEAD
    holds already, -1 for none."""
    tree, was = theirs, code.imported if first < 0 else code.after[first]
    plan = []
    for group in groups:
        merged = _merged(shop, was, tree, code.after[group[-1]])
        if isinstance(merged, git.Conflict):
            return merged
        if merged != tree:
            plan.append((group, merged))
        tree, was = merged, code.after[group[-1]]
    return plan


def _differences(shop: Path, place: Place, code: Code, final: str, measured: str) -> tuple[tuple[str, str], ...]:
    """(file of the repository, why) for every measured file that lands with other bytes."""
    kept = {entry.path: entry.sha for entry in git.list_tree(shop, measured)}
    lands, own, old = ({e.path: e.sha for e in git.list_tree(shop, t)} for t in (final, code.theirs, code.imported))
    found = []
    for path in sorted(path for path, sha in kept.items() if lands.get(path) != sha):
        reasons = list(code.reasons.get(path, ()))
        if own.get(path) != old.get(path):
            reasons.append("it is not in your last commit" if path not in own else "yours is not as it was imported")
        found.append((_at(place, path), "; ".join(reasons) or "constants of `start` are as you have them"))
    return tuple(found)


def _commits(
    shop: Path,
    home: Home,
    charter: Charter,
    book: Book,
    program: str,
    place: Place,
    head_tree: str,
    steps: list[Step],
    code: Code,
    plan: list[tuple[tuple[int, ...], str]],
    past: list[landed.Own],
) -> tuple[tuple[Change, ...], tuple[tuple[str, str], ...]]:
    """The commits of the plan, and how the last one's files differ from those measured. One of `past` that is the same
    change stays, unless it keeps quiet about a retraction: the ledger may know more by now and would word it otherwise."""
    changes: list[Change] = []
    differs: tuple[tuple[str, str], ...] = ()
    when = graft.read_commit(shop, place.head).when
    for at, (group, tree) in enumerate(plan):
        brought = tuple(steps[k] for k in group)
        measured = _measured(shop, home, charter, brought[-1].commit)
        differs = _differences(shop, place, code, tree, measured)
        head = steps[-1].commit if at == len(plan) - 1 else brought[-1].commit
        parent = changes[-1].commit if changes else place.head
        when = max(when, int(times.moment(brought[-1].moment).timestamp()))  # no younger than its parent
        whole = graft.grafted(shop, head_tree, place.sub, tree)
        is_same = at < len(past) and (past[at].head, past[at].on) == (head, place.head)
        if is_same and not landed.untold(book, steps, past[at : at + 1]):
            made = past[at].commit
            if git.resolve(shop, f"{made}^") == parent and git.tree_of(shop, made) == whole:
                changes.append(Change(made, parent, brought))
                continue
        trailers = {
            "Org-Program": program,
            "Org-Experiment": ", ".join(step.experiment for step in brought),
            "Org-Head": head,
            "Org-On": place.head,
        }
        message = landtext.message(program, charter, book, brought, differs, trailers)
        changes.append(Change(git.commit(shop, whole, [parent], message, f"@{when} +0000"), parent, brought))
    return tuple(changes), differs


def _conflict(home: Home, program: str, place: Place, paths: Sequence[str]) -> str:
    names = ", ".join(landtext.one_line(_at(place, path), 80) for path in paths[:4])
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return (
        f"{names}{more}: your last commit and {program} changed the same lines, or one has no such file; nothing was made. "
        f"See the verified change with `git --git-dir='{home.record}' diff base program/{program}/main`"
    )


def _at(place: Place, path: str) -> str:
    return f"{place.sub}/{path}" if place.sub else path


# --- constants that `start` set ----------------------------------------------------------------------------------


def _started(imported: bytes, base: bytes) -> list[tuple[str, str, str]]:
    """(name, value as imported, value at the base) of the lines in which the two differ: `start` changes nothing else."""
    pairs = zip(_text(imported).split("\n"), _text(base).split("\n"), strict=False)
    names = [old.split("=")[0].split(":")[0].strip() for old, new in pairs if old != new]
    return [(name, _source(imported, name) or "", _source(base, name) or "") for name in names]


def _source(data: bytes | None, name: str) -> str | None:
    return record.source_of(_text(data), name) if data is not None else None


def _with_source(data: bytes, name: str, source: str) -> bytes:
    return (record.set_source(_text(data), name, source) or _text(data)).encode(errors="surrogateescape")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _same(a: str | None, b: str | None) -> bool:
    """Whether two sources are one value: 0.04 and 4e-2 are."""
    return a is not None and b is not None and (a.strip() == b.strip() or _value(a) == _value(b))


def _value(source: str) -> Any:
    try:
        return ast.literal_eval(source.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return source.strip()


# --- telling -----------------------------------------------------------------------------------------------------


def _told(home: Home, writer: Ledger, charter: Charter, steps: list[Step], landing: Landing, by: str) -> Landing:
    """The page and the ledger line of a landing, each once; also those that a kill left out."""
    path = home.land_report(landing.program, landing.commit)
    if not path.is_file():
        files.replace(path, _page(charter, writer.refresh(), steps, landing))
    failpoint("land.report")
    row = {
        "event": "land",
        "program": landing.program,
        "head": steps[-1].commit,
        "repository": str(landing.place.top),
        "branch": landing.branch,
        "commit": landing.commit,
        "on": landing.on,
        "experiments": landing.experiments,
        "by": by,
    }
    writer.append("org", f"land:{landing.program}:{landing.branch}:{landing.commit}", row)
    return replace(landing, report=path)


def _page(charter: Charter, book: Book, steps: list[Step], landing: Landing) -> str:
    branch, name, top = landing.branch, shlex.quote(landing.branch), landtext.one_line(str(landing.place.top), 300)
    facts = [
        f"- branch `{branch}` of `{top}`, commit `{landing.commit}`",
        f"- on your commit `{landing.on}`; verified head `{steps[-1].commit}` of the record",
        f"- files: {', '.join(f'`{landtext.one_line(name, 120)}`' for name in landing.files)}",
        f"- look: `git diff {landing.on[:12]} {name}`; take it: `git merge {name}`; leave it: `git branch -D {name}`",
    ]
    facts += [f"- {landtext.one_line(said, 300)}" for said in landing.notices]
    changes = [(change.commit, change.steps) for change in landing.changes]
    return landtext.page(f"{landing.program}, landed as {branch}", facts, charter, book, changes, landing.differs)
