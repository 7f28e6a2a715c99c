"""The record (comms/record.git) and the hub (worktrees/hub.git): the base commit, programs, heads. The record is the truth.

The hub fetches from the record with hooks off; nothing is pushed into it, and the record fetches seats' branches from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from org import charter as charters
from org import files, strictyaml
from org.errors import BadInput, OrgError
from org.evidence import rules
from org.failpoint import failpoint
from org.home import Home, check_id
from org.lab import ledger
from org.records import Charter
from org.world import folders, git

BASE = "refs/heads/base"
IMPORTED = "refs/org/imported"  # the code before `start` was applied; absent where that changed nothing


def code_path(home: Home, charter: Charter) -> Path:
    return (home.root / Path(charter.code).expanduser()).resolve()


def read_code(home: Home, charter: Charter) -> dict[str, bytes]:
    """The code under study as {path in the research tree: content}, before `start` is applied. Raises BadInput."""
    source = code_path(home, charter)
    if not source.is_dir():
        raise BadInput(f"{home.charter}: code: {source} is no repository or folder")
    prefix = f"{charter.prefix.strip('/')}/" if charter.prefix.strip("/") else ""
    tree = {prefix + path: data for path, data in folders.import_folder(source).items()}
    for name, globs in (("editable", charter.editable), ("frozen", charter.frozen)):
        for glob in globs:
            if not any(rules.matches(path, glob) for path in tree):
                there = f"it has {_some(tree)}" if tree else "it is empty"
                raise BadInput(f"{home.charter}: {name}: '{glob}' matches no file of {source}; {there}")
    for glob in charter.editable:
        if all(rules.matches_any(path, charter.frozen) for path in tree if rules.matches(path, glob)):
            raise BadInput(
                f"{home.charter}: editable: all that '{glob}' matches is frozen too; take it out of one of them"
            )
    return tree


def ensure_record(home: Home, charter: Charter) -> str:
    """The record and the hub exist and hold the base commit; returns its sha. Imports the code on the first call. Raises
    OrgError when one of the two is in no state to be used."""
    base = ensure_base(home, charter)
    try:
        git.init_bare(home.hub, precious=True)  # also one whose maker was killed half-way
    except OSError as error:
        raise OrgError(f"{home.hub} can be no repository: {error.strerror}; move what is there away") from None
    return base


def ensure_base(home: Home, charter: Charter) -> str:
    """The same of the record alone, whatever the hub is like. Raises OrgError when the record is gone, or its base, and
    the ledger tells of experiments: to import the code again would be another base under the same numbers."""
    with files.locked(home.leases / "record"):
        if not (home.record / "HEAD").is_file():
            _refuse_again(home, str(home.record))
            git.init_bare(home.record)
        base = git.resolve(home.record, BASE)
        if base is None:
            _refuse_again(home, f"{BASE} of {home.record}")
            code = read_code(home, charter)
            imported = git.write_tree(home.record, dict(code))
            tree = git.write_tree(home.record, dict(_apply_start(home, charter, code)))
            if tree != imported:  # what `start` changed is no finding of the org's, and `land` has to know it
                pristine = git.commit(home.record, imported, [], f"{charter.code} as imported, before `start`")
                git.update_ref(home.record, IMPORTED, pristine)
            base = git.commit(home.record, tree, [], f"base: {charter.code} as imported")
            git.update_ref(home.record, BASE, base)
        failpoint("gate.record")
    return base


def _refuse_again(home: Home, gone: str) -> None:
    book = ledger.read(home)
    if book.experiments or book.launches:
        raise OrgError(f"{gone} is gone, and the ledger rests on it; bring it back from a copy, or begin another home")


def ensure_program(home: Home, slug: str) -> str:
    """The program's measured head exists in the record and in the hub; returns its commit."""
    return ensure_programs(home, [slug])[slug]


def ensure_programs(home: Home, slugs: Iterable[str]) -> dict[str, str]:
    """The same of several: slug -> the commit at its head."""
    wanted = [check_id(slug, "program") for slug in dict.fromkeys(slugs)]
    base = ensure_record(home, charters.load(home))
    with files.locked(home.leases / "record"):
        there = git.list_refs(home.record, "refs/heads")
        for slug in wanted:
            if main_ref(slug) not in there:
                git.update_ref(home.record, main_ref(slug), base)
                there[main_ref(slug)] = base
                failpoint("record.program")
    heads = {slug: there[main_ref(slug)] for slug in wanted}
    for slug, head in heads.items():
        _note(home, slug, head)
    ours = {ref: sha for ref, sha in there.items() if _is_published(ref)}
    try:
        if not ours.items() <= git.list_refs(home.hub, "refs/heads").items():
            publish(home)
    except OrgError:
        if any(_at(home.hub, main_ref(slug)) != head for slug, head in heads.items()):
            raise  # else what is needed here is there, and the dispatcher says the rest
    return heads


def note_head(home: Home, slug: str) -> None:
    """comms/programs/<slug>.yaml names the measured head: for people, and a file whose change wakes who works on it."""
    _note(home, slug, git.resolve(home.record, main_ref(slug)) or "")


def _note(home: Home, slug: str, head: str) -> None:
    facts = {"program": slug, "branch": f"program/{slug}/main", "head": head}
    text = strictyaml.dump(facts)
    if not home.program(slug).is_file() or home.program(slug).read_text() != text:
        files.replace(home.program(slug), text)


def check_program(home: Home, slug: str) -> str:
    """`slug` if it is a program of this home; else BadInput naming those that are."""
    if not home.program(check_id(slug, "program")).is_file():
        known = ", ".join(sorted(p.stem for p in home.programs.glob("*.yaml"))) or "none yet"
        raise BadInput(f"there is no program '{slug}'; there are: {known}")
    return slug


def program_head(home: Home, slug: str) -> tuple[str, str]:
    """(commit, tree) of a program's measured head."""
    head = git.resolve(home.record, main_ref(slug)) or ensure_program(home, slug)
    return head, git.tree_of(home.record, head)


def publish(home: Home, lock_s: float = git.LOCK_S) -> None:
    """Let the hub fetch every head and candidate from the record, hooks off. Nothing is pushed into the hub. Raises
    OrgError when it cannot take all of them; a branch of another's that is in the way of one is named, the others go."""
    specs = [BASE, "refs/heads/program/*/main", "refs/heads/program/*/candidate"]
    try:
        git.init_bare(home.hub, precious=True, lock_s=lock_s)
        try:
            git.fetch(home.hub, home.record, [f"+{ref}:{ref}" for ref in specs], lock_s=lock_s)
        except OrgError:
            ours = [ref for ref in git.list_refs(home.record, "refs/heads") if _is_published(ref)]
            theirs = git.list_refs(home.hub, "refs/heads")
            in_the_way = {ref: name for ref in ours for name in theirs if _collide(ref, name)}
            if not in_the_way:
                raise
            free = [f"+{ref}:{ref}" for ref in ours if ref not in in_the_way]
            git.fetch(home.hub, home.record, free, lock_s=lock_s)
            ref, name = next(iter(in_the_way.items()))
            how = f"delete it with `git -C {home.hub} update-ref -d {name}`"
            raise OrgError(f"{home.hub} has a branch {name} in the way of {ref}; {how}") from None
    except OSError as error:
        raise OrgError(f"{home.hub} can be no repository: {error.strerror}; move what is there away") from None


def _is_published(ref: str) -> bool:
    return ref == BASE or re.fullmatch(r"refs/heads/program/[^/]+/(main|candidate)", ref) is not None


def _collide(ref: str, name: str) -> bool:
    """Whether one is a folder of the other, so that git cannot hold both."""
    return ref.startswith(f"{name}/") or name.startswith(f"{ref}/")


def _at(git_dir: Path, ref: str) -> str | None:
    try:
        return git.resolve(git_dir, ref)
    except OSError:
        return None


def main_ref(slug: str) -> str:
    return f"refs/heads/program/{slug}/main"


def candidate_ref(slug: str) -> str:
    return f"refs/heads/program/{slug}/candidate"


def _apply_start(home: Home, charter: Charter, tree: dict[str, bytes]) -> dict[str, bytes]:
    """Set the charter's `start` constants in the editable files: the recipe this org begins from."""
    left = dict(charter.start)
    for path in [p for p in tree if rules.matches_any(p, charter.editable)]:
        text = tree[path].decode(errors="surrogateescape")
        for name in list(left):
            changed = set_constant(text, name, left[name])
            if changed is not None:
                text = changed
                del left[name]
        tree[path] = text.encode(errors="surrogateescape")
    if left:
        raise BadInput(f"{home.charter}: start: no editable file has a constant {', '.join(left)}")
    return tree


def set_constant(text: str, name: str, value: Any) -> str | None:
    """`text` with the module-level line `NAME = ...` set to `value`, its comment kept; None when there is no such line."""
    return set_source(text, name, repr(value))


def set_source(text: str, name: str, source: str) -> str | None:
    """The same with the value as it is written."""
    pattern = _assignment(name)
    if not pattern.search(text):
        return None
    return pattern.sub(lambda m: f"{m[1]}{source}{m[3] or ''}", text, count=1)


def source_of(text: str, name: str) -> str | None:
    """The value of that line as it is written; None when there is no such line."""
    found = _assignment(name).search(text)
    return found[2] if found else None


def _assignment(name: str) -> re.Pattern[str]:
    return re.compile(rf"^({re.escape(name)}(?:: *[\w.\[\]]+)? *= *)([^#\r\n]*?)( *#[^\r\n]*)?(?=\r?$)", re.MULTILINE)


def _some(tree: dict[str, bytes]) -> str:
    names = sorted(tree)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
