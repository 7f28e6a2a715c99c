"""Git repositories as trees, commits and refs. The only module that calls git.

Runs with its own configuration, whatever the person's is: no hooks, no file-system monitor, no automatic gc, no
network protocol but those named in `fetch`. A repository that agents can write (the hub, a worktree) is only fetched
from, and its worktrees are added without a checkout: status, diff, add, archive or a checkout there would run filters,
hooks and external diffs of the agent's choosing. Reading and merging happen in the org's own bare repository.
Not a lock for the record: callers that move refs use compare-and-swap (`update_ref` with `old`).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from org.errors import BadInput, MissingTool, OrgError
from org.files import locked

ABSENT = "0" * 40  # as `old` of update_ref: the ref must not exist yet
TIMEOUT_S = 60.0
MAX_FILE_BYTES = 5 * 1024 * 1024
MAX_FOLDER_BYTES = 64 * 1024 * 1024
MAX_READ_BYTES = 256 * 1024 * 1024  # of one export or read: a hostile commit must not fill memory or disk
DROPPED_FOLDERS = frozenset({".git", "__pycache__", ".venv"})

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_SETTINGS = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    f"attr.tree={_EMPTY_TREE}",  # git >= 2.43 reads .gitattributes of a bare repository's HEAD
    "core.quotePath=false",
    "core.filesRefLockTimeout=5000",  # ms; wait for another writer of the same ref rather than fail
    "gc.auto=0",
    "maintenance.auto=false",
    "safe.directory=*",  # the person's folder may belong to another user of a container
]

Content = bytes | tuple[bytes, str]  # a file's bytes, with its git mode ("100644", "100755") where it matters


class GitError(OrgError):
    """Git said no; the message is the first line of what it said."""


class RefMoved(GitError):
    """Somebody else moved the ref between reading and writing it: read again, then retry."""


class BadTree(GitError):
    """A commit holds something that is never laid out on disk: a symlink, a submodule, an unsafe or oversized path."""


@dataclass(frozen=True)
class Entry:
    """One line of a tree. `type` is blob, or commit for a submodule; `size` in bytes, 0 for a submodule or an
    object that is missing."""

    path: str
    mode: str
    type: str
    sha: str
    size: int


@dataclass(frozen=True)
class Conflict:
    """A merge that needs a person or an agent: the paths both sides changed."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Worktree:
    """A worktree the hub knows; `branch` is None when HEAD is detached, `head` None before the first commit."""

    path: Path
    branch: str | None
    head: str | None


# --- repositories ------------------------------------------------------------------------------------------------


def init_bare(git_dir: Path, precious: bool = False) -> None:
    """Make a bare repository, or leave an existing one alone. `precious` makes gc and prune refuse to delete objects:
    a `gc --prune=now` by any worktree's owner otherwise loses what others are committing."""
    place = git_dir.absolute()
    with locked(_lock_of(place)):
        if not (place / "HEAD").exists():
            _run(["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "-b", "main", "--", str(place)])
        if precious:
            _git(git_dir, "config", "core.repositoryFormatVersion", "1")
            _git(git_dir, "config", "extensions.preciousObjects", "true")


def is_repository(path: Path) -> bool:
    """Whether `path` lies in a git work tree or is a bare repository."""
    return (
        path.is_dir() and _run(["-C", str(path.absolute()), "rev-parse", "--git-dir"], accept=(0, 128)).returncode == 0
    )


def head_commit(path: Path) -> str | None:
    """The commit checked out at `path`; None outside a repository and before the first commit."""
    if not path.is_dir():
        return None
    done = _run(["-C", str(path.absolute()), "rev-parse", "--verify", "--quiet", "HEAD^{commit}"], accept=(0, 1, 128))
    return done.stdout.decode().strip() or None if done.returncode == 0 else None


# --- writing objects ---------------------------------------------------------------------------------------------


def write_tree(git_dir: Path, files: Mapping[str, Content]) -> str:
    """Store `files` (path -> content) and return their tree. Three processes, however many files."""
    return _write_index(git_dir, None, files)


def tree_with(git_dir: Path, base_tree: str, changes: Mapping[str, Content | None]) -> str:
    """`base_tree` with `changes` laid over it: None deletes a path, new bytes for an old file keep its mode."""
    modes = {entry.path: entry.mode for entry in list_tree(git_dir, base_tree)}
    kept: dict[str, Content | None] = {}
    for path, content in changes.items():
        mode = modes.get(path, "")
        kept[path] = (content, mode) if isinstance(content, bytes) and mode == "100755" else content
    return _write_index(git_dir, base_tree, kept)


def commit(git_dir: Path, tree: str, parents: Sequence[str], message: str, when: str | None = None) -> str:
    """Store a commit by `org <org@localhost>` and return its sha; the same arguments with `when` give the same sha."""
    arguments = ["commit-tree", _rev(tree)]
    for parent in parents:
        arguments += ["-p", _rev(parent)]
    dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when} if when else {}
    text = message if message.endswith("\n") else message + "\n"
    return _git(git_dir, *arguments, "-F", "-", stdin=text.encode(), env=dates).decode().strip()


def _write_index(git_dir: Path, base_tree: str | None, changes: Mapping[str, Content | None]) -> str:
    """A tree by way of a private index file: `read-tree --prefix` and friends would touch the repository's own."""
    shas = _store_blobs(git_dir, [_split(content)[0] for content in changes.values() if content is not None])
    lines = []
    for path, content in changes.items():
        name = _path_bytes(path)
        if content is None:
            lines.append(b"0 %s\t%s" % (ABSENT.encode(), name))
        else:
            lines.append(b"%s %s\t%s" % (_split(content)[1].encode(), shas.pop(0).encode(), name))
    with tempfile.TemporaryDirectory(prefix="org-index-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if base_tree is not None:
            _git(git_dir, "read-tree", _rev(base_tree), env=env)
        _git(git_dir, "update-index", "--add", "--replace", "-z", "--index-info", stdin=_nul(lines), env=env)
        return _git(git_dir, "write-tree", env=env).decode().strip()


def _store_blobs(git_dir: Path, contents: Sequence[bytes]) -> list[str]:
    """Blobs in one process. fast-import takes bytes as they are: no filters, no line-ending conversion."""
    if not contents:
        return []
    feed = bytearray()
    for number, data in enumerate(contents, start=1):
        feed += b"blob\nmark :%d\ndata %d\n%s\n" % (number, len(data), data)
    for number in range(1, len(contents) + 1):
        feed += b"get-mark :%d\n" % number
    return _git(git_dir, "fast-import", "--quiet", "--done", stdin=bytes(feed) + b"done\n").decode().split()


def _split(content: Content) -> tuple[bytes, str]:
    return (content, "100644") if isinstance(content, bytes) else content


# --- refs --------------------------------------------------------------------------------------------------------


def update_ref(git_dir: Path, ref: str, new: str, old: str | None = None) -> None:
    """Point `ref` at `new`. With `old` only if it still points there (`ABSENT`: only if there is no such ref), else
    RefMoved: without compare-and-swap 40 of 64 concurrent merges were lost without a word."""
    _swap(git_dir, ref, ["update-ref", "--no-deref", "--end-of-options", _rev(ref), _rev(new)], old)


def delete_ref(git_dir: Path, ref: str, old: str | None = None) -> None:
    """Remove `ref`; a missing one is fine unless `old` says where it must point."""
    _swap(git_dir, ref, ["update-ref", "--no-deref", "-d", "--end-of-options", _rev(ref)], old)


def _swap(git_dir: Path, ref: str, arguments: list[str], old: str | None) -> None:
    try:
        _git(git_dir, *arguments, *([_rev(old)] if old is not None else []))
    except GitError as error:
        now = _ref_value(git_dir, ref)
        if old is not None and now != (None if old == ABSENT else old):
            raise RefMoved(f"{ref} is at {(now or 'nothing')[:12]}, not at {old[:12]}; read it again") from error
        raise


def _ref_value(git_dir: Path, ref: str) -> str | None:
    done = _git_raw(git_dir, "rev-parse", "--verify", "--quiet", "--end-of-options", _rev(ref), accept=(0, 1, 128))
    return done.stdout.decode().strip() or None if done.returncode == 0 else None


def resolve(git_dir: Path, ref: str) -> str | None:
    """The commit that a ref, branch or sha names; None when there is none, or when it is not in this repository."""
    return _ref_value(git_dir, f"{_rev(ref)}^{{commit}}")


def tree_of(git_dir: Path, commit: str) -> str:
    """The tree of a commit: two commits with one tree are the same code."""
    return _git(git_dir, "rev-parse", "--verify", "--end-of-options", f"{_rev(commit)}^{{tree}}").decode().strip()


def list_refs(git_dir: Path, prefix: str) -> dict[str, str]:
    """Full name -> sha of every ref under `prefix` ("refs/heads/program"), in order of name."""
    out = _git(git_dir, "for-each-ref", "--format=%(objectname) %(refname)", "--end-of-options", _rev(prefix))
    pairs = (line.split(" ", 1) for line in os.fsdecode(out).splitlines())
    return {name: sha for sha, name in pairs}


def merge_base(git_dir: Path, a: str, b: str) -> str | None:
    """The best common ancestor, or None for unrelated histories."""
    done = _git_raw(git_dir, "merge-base", "--end-of-options", _rev(a), _rev(b), accept=(0, 1))
    return done.stdout.decode().strip() or None


def is_ancestor(git_dir: Path, older: str, newer: str) -> bool:
    """Whether `newer` contains `older`."""
    arguments = ["merge-base", "--is-ancestor", "--end-of-options", _rev(older), _rev(newer)]
    return _git_raw(git_dir, *arguments, accept=(0, 1)).returncode == 0


# --- reading trees -----------------------------------------------------------------------------------------------


def list_tree(git_dir: Path, commit: str) -> list[Entry]:
    """Every file of a commit or tree, in git's order. Paths are as git has them: hostile ones too."""
    out = _git(git_dir, "ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", _rev(commit))
    entries = []
    for line in out.split(b"\0")[:-1]:
        head, name = line.split(b"\t", 1)
        mode, kind, sha, size = head.decode().split()
        entries.append(Entry(os.fsdecode(name), mode, kind, sha, int(size) if size.isdigit() else 0))
    return entries


def read_file(git_dir: Path, commit: str, path: str) -> bytes | None:
    """One file of a commit as stored (no filters), or None. Two processes: for several files use read_files."""
    return read_files(git_dir, commit, [path]).get(path)


def read_files(git_dir: Path, commit: str, paths: Iterable[str]) -> dict[str, bytes]:
    """path -> bytes of those of `paths` that the commit holds. Two processes, however many paths."""
    wanted = set(paths)
    entries = [entry for entry in list_tree(git_dir, commit) if entry.path in wanted and entry.type == "blob"]
    blobs = _blobs(git_dir, entries)
    return {entry.path: blobs[entry.sha] for entry in entries}


def export(git_dir: Path, commit: str, dest: Path, overwrite: bool = False) -> None:
    """Lay the files of `commit` out under `dest` byte for byte, keeping the executable bit.

    Attributes of the tree (export-subst, export-ignore, filters, line endings) have no effect: no archive is made and
    nothing is checked out. BadTree, before anything is written, for symlinks, submodules, unsafe names and more than
    256 MB; also when a file is in the way, unless `overwrite`.
    """
    entries = list_tree(git_dir, commit)
    for entry in entries:
        _refuse_unsafe(entry)
    blobs = _blobs(git_dir, entries)
    dest.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        _lay_out(dest, entry, blobs[entry.sha], overwrite)


def _refuse_unsafe(entry: Entry) -> None:
    kinds = {"120000": "a symlink", "160000": "a submodule"}
    if entry.mode not in ("100644", "100664", "100755"):
        kind = kinds.get(entry.mode, f"of mode {entry.mode}")
        raise BadTree(f"{entry.path!r} is {kind}; only plain files can be laid out")
    if not _is_safe(entry.path):
        raise BadTree(f"{entry.path!r} is not a path that can be written")


def _is_safe(path: str) -> bool:
    """Whether a tree may hold `path` and a folder receive it: no way up, no way into .git, no name too long for a disk."""
    parts = path.split("/")
    return not any(part.lower() in ("", ".", "..", ".git") or len(os.fsencode(part)) > 255 for part in parts)


def _lay_out(dest: Path, entry: Entry, data: bytes, overwrite: bool) -> None:
    target = dest / entry.path
    try:
        for parent in reversed(target.relative_to(dest).parents):
            # A symlink left in an agent's worktree must not lead the write elsewhere.
            if (dest / parent).is_symlink() and parent != Path():
                raise BadTree(f"{dest / parent} is a symlink; remove it")
            (dest / parent).mkdir(exist_ok=True)
        if overwrite:
            target.unlink(missing_ok=True)
        with target.open("xb") as file:
            file.write(data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BadTree(f"{target} is in the way of {entry.path!r}; empty the folder first") from None
    if entry.mode == "100755":
        target.chmod(0o755)


def _blobs(git_dir: Path, entries: Sequence[Entry]) -> dict[str, bytes]:
    """sha -> bytes, by one cat-file. Asked for by sha, never by path: a newline in a name cannot split a request."""
    if not entries:
        return {}
    total = sum(entry.size for entry in entries)
    if total > MAX_READ_BYTES:
        raise BadTree(f"the files come to {total >> 20} MB, over the limit of {MAX_READ_BYTES >> 20} MB")
    shas = sorted({entry.sha for entry in entries})
    out = memoryview(_git(git_dir, "cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in shas).encode()))
    blobs, at = {}, 0
    for sha in shas:
        end = at + bytes(out[at : at + 128]).index(b"\n")
        header = bytes(out[at:end]).decode().split()
        if len(header) != 3:
            raise GitError(f"object {sha} is missing from {git_dir}")
        size = int(header[2])
        blobs[sha] = bytes(out[end + 1 : end + 1 + size])
        at = end + 1 + size + 1
    return blobs


# --- merging and comparing ---------------------------------------------------------------------------------------


def merge_tree(git_dir: Path, ours: str, theirs: str, base: str | None = None) -> str | Conflict:
    """The tree of a three-way merge of two commits, or the paths in conflict. Writes no ref and needs no worktree.

    `base` replaces the common ancestor (leave-one-out of a stack, say). git < 2.40 has no --merge-base, so both sides
    are re-rooted on a copy of it first."""
    if base is not None:
        root = commit(git_dir, tree_of(git_dir, base), [], "base", when="2000-01-01T00:00:00Z")
        ours, theirs = (
            commit(git_dir, tree_of(git_dir, side), [root], "side", when="2000-01-01T00:00:00Z")
            for side in (ours, theirs)
        )
    arguments = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", _rev(ours), _rev(theirs)]
    done = _git_raw(git_dir, *arguments, accept=(0, 1))
    fields = [os.fsdecode(field) for field in done.stdout.split(b"\0") if field]
    return fields[0] if done.returncode == 0 else Conflict(tuple(sorted(set(fields[1:]))))


def diff_names(git_dir: Path, a: str, b: str) -> list[tuple[str, str]]:
    """(status, path) of every file that differs between two commits: A added, D deleted, M modified, T mode type.
    A rename is a D and an A."""
    arguments = ["diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff", "--name-status"]
    out = _git(git_dir, *arguments, "--end-of-options", _rev(a), _rev(b))
    fields = [os.fsdecode(field) for field in out.split(b"\0")[:-1]]
    return list(zip(fields[::2], fields[1::2], strict=True))


def diff_text(git_dir: Path, a: str, b: str) -> str:
    """The patch from `a` to `b` as text; bytes that are not UTF-8 become replacement characters."""
    arguments = ["diff-tree", "-p", "-r", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"]
    return _git(git_dir, *arguments, "--end-of-options", _rev(a), _rev(b)).decode(errors="replace")


# --- fetching ----------------------------------------------------------------------------------------------------


def fetch(git_dir: Path, source: Path | str, refspecs: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
    """Copy refs and their objects from `source` into `git_dir`; force with a leading + in the refspec.

    Nothing of either repository runs: no hooks, no filters, no `ext::` transport, no lazy fetch of missing objects.
    Holds the lock of `git_dir`, so do not call it while holding that."""
    url = str(source.resolve()) if isinstance(source, Path) else _rev(source)
    flags = [
        "--no-tags",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--update-head-ok",
        "--no-recurse-submodules",
    ]
    env = {"GIT_ALLOW_PROTOCOL": "file" if isinstance(source, Path) else "file:https:ssh"}
    with locked(_lock_of(git_dir)):
        specs = [_rev(spec) for spec in refspecs]
        _git(git_dir, "fetch", "--quiet", *flags, "--end-of-options", url, *specs, env=env, timeout_s=timeout_s)


# --- worktrees of the hub ----------------------------------------------------------------------------------------


def worktree_add(hub: Path, path: Path, branch: str, start: str) -> None:
    """A worktree of `hub` at `path` on `branch`, which is made at `start` when absent. No file is checked out: lay them
    in with `export` from a repository of ours, then `fill_index`.

    Adding what is already there is fine. Mends what a kill left behind: an entry with an empty commondir (it breaks
    every worktree command in the hub), an entry whose folder is gone, a folder that holds nothing but a dangling .git.
    """
    path = _place(path)
    with locked(_lock_of(hub)):  # 16 at once without it: 6 of 192 failed, each leaving an orphan branch
        _mend(hub, path, branch)
        known = {tree.path: tree for tree in _worktrees(hub)}
        if path in known:
            if known[path].branch != branch:
                raise GitError(f"{path} is a worktree of branch {known[path].branch}, not {branch}; remove it first")
            return
        if path.is_dir() and any(path.iterdir()):
            raise GitError(f"{path} has files but is no worktree of {hub}; move it away")
        path.parent.mkdir(parents=True, exist_ok=True)
        make = ["worktree", "add", "--quiet", "--no-checkout"]
        if _ref_value(hub, f"refs/heads/{_rev(branch)}") is None:
            _git(hub, *make, "--no-track", "-b", branch, "--", str(path), _rev(start))
        else:
            _git(hub, *make, "--", str(path), branch)


def worktree_remove(hub: Path, path: Path) -> None:
    """Delete the worktree at `path` with everything in it, and the hub's entry; its branch stays. Missing is fine."""
    path = _place(path)
    with locked(_lock_of(hub)):
        _mend(hub, path, None)
        if path in {tree.path for tree in _worktrees(hub)}:
            _git(hub, "worktree", "remove", "--force", "--force", "--", str(path))
        elif path.exists():
            raise GitError(f"{path} is no worktree of {hub}; nothing was removed")


def worktree_list(hub: Path) -> list[Worktree]:
    """The worktrees of `hub`, those whose folder is missing left out."""
    with locked(_lock_of(hub)):
        _mend(hub, None, None)
        return [tree for tree in _worktrees(hub) if tree.path.exists()]


def fill_index(worktree: Path) -> None:
    """Fill the worktree's index from HEAD, touching no file: status is clean once the files of HEAD are laid in.
    The .git file is named outright: where it is missing git would search upwards and write the person's own index."""
    place = _place(worktree)
    _run([f"--git-dir={place / '.git'}", f"--work-tree={place}", "read-tree", "HEAD"], cwd=place)


def _worktrees(hub: Path) -> list[Worktree]:
    found = []
    for block in os.fsdecode(_git(hub, "worktree", "list", "--porcelain", "-z")).split("\0\0"):
        fields = dict((line + " ").split(" ", 1) for line in block.split("\0") if line)
        if "worktree" not in fields or "bare" in fields:
            continue
        value = {key: text.removesuffix(" ") for key, text in fields.items()}
        branch = value["branch"].removeprefix("refs/heads/") if "branch" in value else None
        head = value.get("HEAD", ABSENT)
        found.append(Worktree(Path(value["worktree"]), branch, None if head == ABSENT else head))
    return found


def _mend(hub: Path, path: Path | None, branch: str | None) -> None:
    """Move broken and stale entries out of `worktrees/`. Moved, not deleted: an index and a reflog may be worth a look."""
    entries = hub / "worktrees"
    for entry in sorted(entries.iterdir()) if entries.is_dir() else []:
        if _is_half_made(entry):
            _set_aside(hub, entry)
            continue
        place = Path(_text(entry / "gitdir"))
        is_ours = (path is not None and place == path / ".git") or (
            branch is not None and _text(entry / "HEAD") == f"ref: refs/heads/{branch}"
        )
        if is_ours and not place.exists():
            _set_aside(hub, entry)
    if path is not None and path.is_dir() and [child.name for child in path.iterdir()] == [".git"]:
        link = path / ".git"
        target = _text(link).removeprefix("gitdir: ")
        if link.is_file() and not Path(target, "commondir").exists():
            link.unlink()
            path.rmdir()


def _place(path: Path) -> Path:
    """As git writes it: absolute, with the symlinks on the way resolved."""
    return path.absolute().parent.resolve() / path.name


def _is_half_made(entry: Path) -> bool:
    """git writes gitdir, HEAD and commondir one by one; killed in between, the empty one stops every later command."""
    return entry.is_dir() and not all(_text(entry / name) for name in ("commondir", "gitdir", "HEAD"))


def _set_aside(hub: Path, entry: Path) -> None:
    aside = hub / "org-broken"
    aside.mkdir(exist_ok=True)
    number = sum(1 for _ in aside.iterdir())
    while (aside / f"{entry.name}-{number}").exists():
        number += 1
    entry.rename(aside / f"{entry.name}-{number}")


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes()).strip().strip("\0")
    except OSError:  # missing, or a folder where a file should be: both mean "not written"
        return ""


# --- folders of a person -----------------------------------------------------------------------------------------


def import_folder(path: Path) -> dict[str, bytes]:
    """Relative path -> bytes of a folder that is to become a first commit: in a git work tree what is tracked or not
    ignored, elsewhere everything; .git, __pycache__ and .venv never. BadInput for symlinks, for nested repositories,
    for a file over 5 MB and for more than 64 MB. Runs nothing of the repository's: files are read as they are."""
    if not path.is_dir():
        raise BadInput(f"{path} is not a folder")
    files: dict[str, bytes] = {}
    total = 0
    for name in _listed(path) or _walked(path):
        place = path / name
        if DROPPED_FOLDERS & set(Path(name).parts) or not os.path.lexists(place):
            continue  # deleted but still tracked
        if place.is_symlink() or any((path / parent).is_symlink() for parent in Path(name).parents if parent.name):
            raise BadInput(f"{place} is a symlink; put the file itself there, or ignore it")
        if not place.is_file():
            raise BadInput(f"{place} is not a plain file (a nested repository?); move it away or ignore it")
        size = place.stat().st_size
        total += size
        if size > MAX_FILE_BYTES:
            raise BadInput(f"{place} is {size / 2**20:.0f} MB; files over 5 MB are data, ignore it in .gitignore")
        if total > MAX_FOLDER_BYTES:
            raise BadInput(f"{path} holds more than 64 MB of files; name the folder of the code alone")
        files[name] = place.read_bytes()
    return files


def with_modes(path: Path, files: Mapping[str, bytes]) -> dict[str, Content]:
    """`files` as read from the folder `path`, for write_tree: those executable on disk stay so."""
    return {
        name: (data, "100755") if os.access(path / name, os.X_OK) else data  # as root too: some x bit must be set
        for name, data in files.items()
    }


def _listed(path: Path) -> list[str]:
    """What git calls tracked or not ignored; nothing outside a work tree, or where the whole folder is ignored."""
    done = _run(["-C", str(path.absolute()), "ls-files", "-z", "-c", "-o", "--exclude-standard"], accept=(0, 128))
    names = done.stdout.split(b"\0")[:-1] if done.returncode == 0 else []
    return sorted({os.fsdecode(name) for name in names})


def _walked(path: Path) -> list[str]:
    names = []
    for folder, folders, files in os.walk(path):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = sorted(set(folders) - DROPPED_FOLDERS - set(links))
        names += [str(Path(folder, name).relative_to(path)) for name in [*files, *links]]
    return sorted(names)


# --- calling git -------------------------------------------------------------------------------------------------


def _git(
    git_dir: Path,
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    return _git_raw(git_dir, *arguments, stdin=stdin, env=env, timeout_s=timeout_s).stdout


def _git_raw(
    git_dir: Path,
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    accept: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[bytes]:
    return _run([f"--git-dir={git_dir.absolute()}", *arguments], stdin, env, timeout_s, accept)


def _run(
    arguments: Sequence[str],
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    accept: Sequence[int] = (0,),
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run git once. GitError unless its exit status is in `accept`, or when it is not done in time."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    verb = next((word for word in arguments if not word.startswith("-") and "/" not in word), "git")
    try:
        process = subprocess.Popen(
            ["git", *settings, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(env or {}),
            cwd=cwd or "/",  # the caller's own folder may be gone, or may be a repository
            start_new_session=True,  # git leaves its transport helpers behind; Ctrl-C must not stop half a write
        )
    except FileNotFoundError:
        if shutil.which("git") is None:
            raise MissingTool("git is not installed; install it with `apt-get install git`") from None
        raise
    with process:
        try:
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise GitError(f"git {verb} was not done in {timeout_s:.0f} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if done.returncode not in accept:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise GitError(f"git {verb}: {said[0][:300]}")
    return done


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without any GIT_* (a hook or an agent may have set GIT_DIR), and ours on top."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "org"), ("EMAIL", "org@localhost"))
    }
    ours = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",  # refs/replace of a fetched repository must not change what a sha means
        "GIT_ALLOW_PROTOCOL": "file",
        "LC_ALL": "C",
    }
    return kept | who | ours | dict(extra)


def _lock_of(git_dir: Path) -> Path:
    return git_dir / "org.lock"  # never unlinked, or two could hold it


def _rev(text: str) -> str:
    """A ref, sha or refspec that cannot be read as an option. Git itself refuses the rest."""
    if not text or text.startswith("-") or re.search(r"[\x00-\x20\x7f]", text):
        raise BadInput(f"{text!r} is not a git name")
    return text


def _path_bytes(path: str) -> bytes:
    if not _is_safe(path) or "\0" in path:  # git alone leaves such a path out without failing
        raise BadInput(f"{path!r} is not a path that a commit can hold")
    return os.fsencode(path)


def _nul(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\0" for line in lines)
