"""A person's repository as `org land` meets it: looked at without running anything of its own, and given one branch.

Trees and commits are made in a workshop: a bare repository of ours, gone afterwards, that borrows the objects of both
sides. The person's configuration, attributes, hooks, replace refs, grafts and promisor remotes are not in force there.
Of their repository git is asked for places, HEAD and refs only, with every transport forbidden; it is given finished
objects, then one ref by compare-and-swap. HEAD, index, work tree, configuration and all other refs stay as they are.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from org.errors import BadInput
from org.world import git, gitcall
from org.world.gitcall import GitError, rev

NO_TRANSPORT = {"GIT_ALLOW_PROTOCOL": "none"}  # a missing object of a partial clone is missing, nobody is asked for it
KINDS = {"120000": "a symlink", "160000": "a submodule"}


@dataclass(frozen=True)
class Place:
    """Where the code under study lies in its repository. `sub`: its folder below the top, "" for the top itself."""

    top: Path
    git_dir: Path  # of this work tree: .git, or .git/worktrees/NAME
    objects: Path
    sub: str
    head: str  # the commit that is checked out
    shared: str  # core.sharedRepository: who else may write the objects


@dataclass(frozen=True)
class Made:
    """A commit of somebody's: who committed it, what it says, and when (Unix seconds)."""

    committer: str
    message: str
    when: int


# --- looking -----------------------------------------------------------------------------------------------------


def find(folder: Path) -> Place:
    """The repository that holds `folder`, at its last commit. Raises BadInput, saying what to do, where a branch cannot
    be brought: no repository, a bare one, no commit yet, object names that are not SHA-1."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder any more; put the code back there, or name it in the charter")
    try:
        is_inside = _ask(folder, "--is-inside-work-tree") == b"true"
    except GitError as error:
        raise BadInput(
            f"{folder} is in no repository that git reads ({error}); git init, add and commit there"
        ) from None
    if not is_inside:
        raise BadInput(f"{folder} is in no work tree of git's; name a work tree as `code` in the charter")
    top = Path(os.fsdecode(_ask(folder, "--show-toplevel")))
    if _ask(folder, "--show-object-format") != b"sha1":
        raise BadInput(f"{top} names objects by SHA-256 and the record by SHA-1; land in a SHA-1 clone of it")
    head = _ask(folder, "--verify", "--quiet", "HEAD^{commit}", accept=(0, 1, 128)).decode()
    if not head:
        raise BadInput(f"{top} has no commit yet; commit the code there first")
    common = Path(os.fsdecode(_ask(folder, "--git-common-dir")))
    words = ["-C", str(folder), "config", "--get", "core.sharedRepository"]
    shared = gitcall.run(words, env=NO_TRANSPORT, accept=(0, 1)).stdout.decode(errors="replace").strip()
    return Place(
        top=top,
        git_dir=Path(os.fsdecode(_ask(folder, "--git-dir"))),
        objects=common / "objects",
        sub=os.fsdecode(_ask(folder, "--show-prefix")).strip("/"),
        head=head,
        shared=shared if re.fullmatch(r"[a-z]+|0[0-7]{3}", shared) else "false",
    )


def tip(place: Place, branch: str) -> str | None:
    """Where a branch of theirs is; None when there is none."""
    return git.ref_value(place.git_dir, f"refs/heads/{branch}")


def check_branch(place: Place, branch: str) -> None:
    """Raises BadInput when `branch` is no name for a branch, or cannot be made beside the branches that are there."""
    ref = f"refs/heads/{branch}"
    if (
        branch in ("", "HEAD", "@")
        or branch.startswith("-")
        or re.search(r"[\x00-\x20\x7f]", branch)
        or gitcall.run(["check-ref-format", ref], accept=(0, 1)).returncode
    ):
        raise BadInput(f"--branch {branch!r:.60} is no name git takes for a branch; use letters, digits, - and /")
    for name in git.list_refs(place.git_dir, "refs/heads/"):
        if ref.startswith(f"{name}/") or name.startswith(f"{ref}/"):
            there = name.removeprefix("refs/heads/")
            raise BadInput(
                f"{place.top} has a branch {there}, so {branch} cannot be one; name another with --branch NAME"
            )


def checked_out(place: Place, branch: str) -> Path | None:
    """The work tree in which `branch` is checked out: moving it there would change the person's HEAD."""
    listed = gitcall.call(place.git_dir, "worktree", "list", "--porcelain", "-z", env=NO_TRANSPORT).stdout
    for block in os.fsdecode(listed).split("\0\0"):
        lines = block.split("\0")
        if f"branch refs/heads/{branch}" in lines:
            return Path(lines[0].removeprefix("worktree "))
    return None


def _ask(folder: Path, *words: str, accept: tuple[int, ...] = (0,)) -> bytes:
    """What rev-parse says of `folder`, as bytes: a path may hold newlines, so one question a call."""
    arguments = ["-C", str(folder.absolute()), "rev-parse", "--path-format=absolute", *words]
    done = gitcall.run(arguments, env=NO_TRANSPORT, accept=accept)
    return done.stdout.removesuffix(b"\n") if done.returncode == 0 else b""


# --- making ------------------------------------------------------------------------------------------------------


@contextmanager
def workshop(place: Place, record: Path) -> Iterator[Path]:
    """A bare repository that can read every object of both sides and writes none of theirs; gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="org-land-") as folder:
        made = Path(folder).resolve() / "workshop.git"
        git.init_bare(made)
        lines = [b'"%s"\n' % _quoted(objects) for objects in (place.objects, record.absolute() / "objects")]
        (made / "objects" / "info").mkdir(exist_ok=True)
        (made / "objects" / "info" / "alternates").write_bytes(b"".join(lines))
        with (made / "config").open("a") as config:
            config.write(f"[core]\n\tfsync = committed\n\tsharedRepository = {place.shared}\n")
        yield made


def entries(git_dir: Path, tree: str) -> dict[str, tuple[str, str, str]]:
    """name -> (mode, type, sha) of one level of a tree. Modes are as they stand there."""
    found = {}
    for line in gitcall.output(git_dir, "ls-tree", "-z", "--full-tree", "--end-of-options", rev(tree)).split(b"\0")[
        :-1
    ]:
        head, name = line.split(b"\t", 1)
        mode, kind, sha = head.decode().split()
        found[os.fsdecode(name)] = (mode, kind, sha)
    return found


def subtree(git_dir: Path, tree: str, path: str) -> str | None:
    """The tree of the folder `path` ("" for the whole) below `tree`; None where there is none. BadInput when something
    else than a folder is there."""
    for name in [part for part in path.split("/") if part]:
        entry = entries(git_dir, tree).get(name)
        if entry is None:
            return None
        mode, kind, tree = entry
        if kind != "tree":
            raise BadInput(
                f"{path!r} is {KINDS.get(mode, 'a file')} in the last commit, not a folder; commit the folder first"
            )
    return tree


def grafted(git_dir: Path, tree: str, path: str, new: str) -> str:
    """`tree` with the folder at `path` replaced by the tree `new`; every other entry keeps its mode and object."""
    first, _, rest = path.partition("/")
    if not first:
        return new
    listing = entries(git_dir, tree)
    mode, kind, sha = listing[first]
    listing[first] = (mode, kind, grafted(git_dir, sha, rest, new))
    feed = b"".join(
        f"{mode} {kind} {sha}\t".encode() + os.fsencode(name) + b"\0" for name, (mode, kind, sha) in listing.items()
    )
    # --missing: a partial clone has not got every neighbour, and none of them is looked into
    return gitcall.output(git_dir, "mktree", "-z", "--missing", stdin=feed).decode().strip()


def read_commit(git_dir: Path, commit: str) -> Made:
    """A commit's committer, message and time. Raises GitError when it is not there."""
    head, _, message = gitcall.output(git_dir, "cat-file", "commit", rev(commit)).partition(b"\n\n")
    line = next(line for line in head.split(b"\n") if line.startswith(b"committer "))
    who, when = line.removeprefix(b"committer ").rsplit(b"> ", 1)
    return Made(who.decode(errors="replace") + ">", message.decode(errors="replace"), int(when.split()[0]))


def _quoted(path: Path) -> bytes:
    """A line of info/alternates may be a quoted text: a folder's name may hold a newline."""
    return os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")


# --- giving ------------------------------------------------------------------------------------------------------


def deliver(git_dir: Path, place: Place, commits: Iterable[tuple[str, str]]) -> None:
    """Copy what each (parent, commit) adds from the workshop into the person's objects. Nothing there names them yet:
    killed here, they are loose objects that the next gc of theirs takes away."""
    wanted: set[str] = set()
    for parent, commit in commits:
        arguments = ["diff-tree", "-r", "-t", "-z", "--raw", "--no-renames", "--no-ext-diff", "--no-abbrev"]
        fields = gitcall.output(git_dir, *arguments, "--end-of-options", rev(parent), rev(commit)).split(b"\0")
        wanted |= {commit, git.tree_of(git_dir, commit)}
        wanted |= {field.decode().split()[3] for field in fields[::2] if field} - {git.ABSENT}
    feed = "".join(f"{sha}\n" for sha in sorted(wanted)).encode()
    pack = gitcall.output(git_dir, "pack-objects", "-q", "--stdout", stdin=feed)
    gitcall.output(git_dir, "unpack-objects", "-q", stdin=pack, env={"GIT_OBJECT_DIRECTORY": str(place.objects)})


def point(place: Place, branch: str, new: str, old: str | None) -> None:
    """Point the branch at `new` if it is still at `old` (None: if there is none). Raises RefMoved, GitError."""
    if checked_out(place, branch) is not None:
        raise GitError(f"{branch} is checked out in {place.top} by now; switch away from it and land again")
    git.update_ref(place.git_dir, f"refs/heads/{branch}", new, old or git.ABSENT)
