"""Git repositories as trees, commits and refs. Starts no process itself: `world.gitcall` does.

A repository that agents can write (the hub, a worktree) is only fetched from, and its worktrees are added without a
checkout (`world.worktrees`): status, diff, add, archive or a checkout there would run filters, hooks and external diffs
of the agent's choosing. Reading and merging happen in the org's own bare repository.
Not a lock for the record: callers that move refs use compare-and-swap (`update_ref` with `old`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from org import files
from org.errors import BadInput
from org.failpoint import failpoint
from org.world import gitcall
from org.world.gitcall import GitError, rev

ABSENT = "0" * 40  # as `old` of update_ref: the ref must not exist yet
LOCK_S = gitcall.TIMEOUT_S  # that a repository is waited for which another process changes: whoever is slower is stuck
MAX_READ_BYTES = 256 * 1024 * 1024  # of one export or read: a hostile commit must not fill memory or disk

Content = bytes | tuple[bytes, str]  # a file's bytes, with its git mode ("100644", "100755") where it matters


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


# --- repositories ------------------------------------------------------------------------------------------------


def init_bare(git_dir: Path, precious: bool = False, lock_s: float = LOCK_S) -> None:
    """Make a bare repository, or leave an existing one alone. `precious` makes gc and prune refuse to delete objects:
    a `gc --prune=now` by any worktree's owner otherwise loses what others are committing."""
    place = git_dir.absolute()
    if precious and (place / "HEAD").exists() and _is_precious(place):
        return  # the last thing its maker does
    with gitcall.held(place, lock_s):
        if not (place / "HEAD").exists():
            gitcall.run(
                ["init", "--quiet", "--bare", "--template=", "--object-format=sha1", "-b", "main", "--", str(place)]
            )
        failpoint("git.made")
        if precious and not _is_precious(place):
            gitcall.output(git_dir, "config", "core.repositoryFormatVersion", "1")
            gitcall.output(git_dir, "config", "extensions.preciousObjects", "true")


def _is_precious(git_dir: Path) -> bool:
    config = git_dir / "config"
    return config.is_file() and b"preciousobjects" in config.read_bytes().lower()


def head_commit(path: Path) -> str | None:
    """The commit checked out at `path`; None outside a repository and before the first commit."""
    if not path.is_dir():
        return None
    done = gitcall.run(
        ["-C", str(path.absolute()), "rev-parse", "--verify", "--quiet", "HEAD^{commit}"], accept=(0, 1, 128)
    )
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
    arguments = ["commit-tree", rev(tree)]
    for parent in parents:
        arguments += ["-p", rev(parent)]
    dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when} if when else {}
    text = message if message.endswith("\n") else message + "\n"
    return gitcall.output(git_dir, *arguments, "-F", "-", stdin=text.encode(), env=dates).decode().strip()


def commit_files(git_dir: Path, ref: str, parent: str | None, files: Mapping[str, bytes], message: str) -> str:
    """Put `files` over the tree of `parent`, commit it and point `ref` there, in one process; returns the commit. Raises
    RefMoved, with nothing changed, when `ref` is at what the commit would not follow."""
    text = message.encode()
    feed = b"commit %s\nmark :1\ncommitter org <org@localhost> now\ndata %d\n%s\n" % (
        rev(ref).encode(),
        len(text),
        text,
    )
    feed += b"from %s\n" % rev(parent).encode() if parent else b""
    for path, data in files.items():
        feed += b"M 100644 inline %s\ndata %d\n%s\n" % (_path_bytes(path), len(data), data)
    try:
        said = gitcall.output(
            git_dir, "fast-import", "--quiet", "--done", "--date-format=now", stdin=feed + b"get-mark :1\ndone\n"
        )
    except GitError as error:
        if (now := ref_value(git_dir, ref)) != parent:
            raise RefMoved(f"{ref} is at {(now or 'nothing')[:12]}, not at {(parent or 'nothing')[:12]}") from error
        raise
    return said.decode().strip()


def blob_sha(data: bytes) -> str:
    """The name git gives to these bytes, without asking git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


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
            gitcall.output(git_dir, "read-tree", rev(base_tree), env=env)
        gitcall.output(git_dir, "update-index", "--add", "--replace", "-z", "--index-info", stdin=_nul(lines), env=env)
        return gitcall.output(git_dir, "write-tree", env=env).decode().strip()


def _store_blobs(git_dir: Path, contents: Sequence[bytes]) -> list[str]:
    """Blobs in one process. fast-import takes bytes as they are: no filters, no line-ending conversion."""
    if not contents:
        return []
    feed = bytearray()
    for number, data in enumerate(contents, start=1):
        feed += b"blob\nmark :%d\ndata %d\n%s\n" % (number, len(data), data)
    for number in range(1, len(contents) + 1):
        feed += b"get-mark :%d\n" % number
    return gitcall.output(git_dir, "fast-import", "--quiet", "--done", stdin=bytes(feed) + b"done\n").decode().split()


def _split(content: Content) -> tuple[bytes, str]:
    return (content, "100644") if isinstance(content, bytes) else content


def _path_bytes(path: str) -> bytes:
    if not _is_safe(path) or "\0" in path:  # git alone leaves such a path out without failing
        raise BadInput(f"{path!r} is not a path that a commit can hold")
    return os.fsencode(path)


def _nul(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\0" for line in lines)


# --- refs --------------------------------------------------------------------------------------------------------


def update_ref(git_dir: Path, ref: str, new: str, old: str | None = None) -> None:
    """Point `ref` at `new`. With `old` only if it still points there (`ABSENT`: only if there is no such ref), else
    RefMoved: without compare-and-swap 40 of 64 concurrent merges were lost without a word."""
    _swap(git_dir, ref, ["update-ref", "--no-deref", "--end-of-options", rev(ref), rev(new)], old)


def update_refs(git_dir: Path, values: Mapping[str, str]) -> None:
    """Point several refs at once, all or none, by one process."""
    feed = "".join(f"update {rev(ref)} {rev(new)}\n" for ref, new in values.items())
    if feed:
        gitcall.output(git_dir, "update-ref", "--no-deref", "--stdin", stdin=feed.encode())


def delete_ref(git_dir: Path, ref: str, old: str | None = None) -> None:
    """Remove `ref`; a missing one is fine unless `old` says where it must point."""
    _swap(git_dir, ref, ["update-ref", "--no-deref", "-d", "--end-of-options", rev(ref)], old)


def _swap(git_dir: Path, ref: str, arguments: list[str], old: str | None) -> None:
    try:
        gitcall.output(git_dir, *arguments, *([rev(old)] if old is not None else []))
    except GitError as error:
        now = ref_value(git_dir, ref)
        if old is not None and now != (None if old == ABSENT else old):
            raise RefMoved(f"{ref} is at {(now or 'nothing')[:12]}, not at {old[:12]}; read it again") from error
        raise


def ref_value(git_dir: Path, ref: str) -> str | None:
    """What `ref` points at, a commit or not; None when there is no such ref. For the commit itself use `resolve`."""
    done = gitcall.call(git_dir, "rev-parse", "--verify", "--quiet", "--end-of-options", rev(ref), accept=(0, 1, 128))
    return done.stdout.decode().strip() or None if done.returncode == 0 else None


def resolve(git_dir: Path, ref: str) -> str | None:
    """The commit that a ref, branch or sha names; None when there is none, or when it is not in this repository."""
    return ref_value(git_dir, f"{rev(ref)}^{{commit}}")


def tree_of(git_dir: Path, commit: str) -> str:
    """The tree of a commit: two commits with one tree are the same code."""
    return (
        gitcall.output(git_dir, "rev-parse", "--verify", "--end-of-options", f"{rev(commit)}^{{tree}}").decode().strip()
    )


def list_refs(git_dir: Path, prefix: str) -> dict[str, str]:
    """Full name -> sha of every ref under `prefix` ("refs/heads/program"), in order of name."""
    out = gitcall.output(git_dir, "for-each-ref", "--format=%(objectname) %(refname)", "--end-of-options", rev(prefix))
    pairs = (line.split(" ", 1) for line in os.fsdecode(out).splitlines())
    return {name: sha for sha, name in pairs}


def missing(git_dir: Path, names: Sequence[str]) -> list[str]:
    """Which of these objects the repository does not have."""
    feed = "".join(f"{rev(name)}\n" for name in names).encode()
    out = gitcall.output(git_dir, "cat-file", "--batch-check", stdin=feed).decode(errors="replace") if names else ""
    return [name for name, line in zip(names, out.splitlines(), strict=True) if line.endswith(" missing")]


def is_ancestor(git_dir: Path, older: str, newer: str) -> bool:
    """Whether `newer` contains `older`."""
    arguments = ["merge-base", "--is-ancestor", "--end-of-options", rev(older), rev(newer)]
    return gitcall.call(git_dir, *arguments, accept=(0, 1)).returncode == 0


def only_in(git_dir: Path, commits: Sequence[str], prefixes: Sequence[str]) -> list[str]:
    """Commits that these contain and no ref under the prefixes does, newest first."""
    if not commits:
        return []
    known = [f"--glob={rev(prefix)}/*" for prefix in prefixes]
    out = gitcall.output(git_dir, "rev-list", *map(rev, commits), "--not", *known)
    return out.decode().split()


# --- reading trees -----------------------------------------------------------------------------------------------


def list_tree(git_dir: Path, commit: str) -> list[Entry]:
    """Every file of a commit or tree, in git's order. Paths are as git has them: hostile ones too."""
    out = gitcall.output(git_dir, "ls-tree", "-r", "-z", "-l", "--full-tree", "--end-of-options", rev(commit))
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


def export(git_dir: Path, commit: str, dest: Path) -> None:
    """Lay the files of `commit` out under `dest` byte for byte, keeping the executable bit.

    Attributes of the tree (export-subst, export-ignore, filters, line endings) have no effect: no archive is made and
    nothing is checked out. BadTree, before anything is written, for symlinks, submodules, unsafe names and more than
    256 MB; also when a file is in the way.
    """
    entries = list_tree(git_dir, commit)
    for entry in entries:
        refuse_unsafe(entry)
    lay_out(dest, contents(git_dir, commit, entries))


def contents(git_dir: Path, commit: str, listed: Sequence[Entry] | None = None) -> dict[Entry, bytes]:
    """Every file of a commit with its bytes, links and submodules (no bytes) too, to lay out in many places. Two processes,
    one when `listed` has the commit's entries already."""
    entries = list_tree(git_dir, commit) if listed is None else listed
    blobs = _blobs(git_dir, [entry for entry in entries if entry.type == "blob"])
    return {entry: blobs.get(entry.sha, b"") for entry in entries}


def lay_out(dest: Path, tree: Mapping[Entry, bytes], overwrite: bool = False, aside: Path | None = None) -> None:
    """As `export`, of what `contents` read; with `overwrite` over a file that is in the way. With `aside` a file that is in the way is moved there, which no writer can come
    between; one that is the same already stays."""
    for entry in tree:
        refuse_unsafe(entry)
    dest.mkdir(parents=True, exist_ok=True)
    for entry, data in tree.items():
        _lay_out(dest, entry, data, overwrite, aside)


def refuse_unsafe(entry: Entry) -> None:
    """Raises BadTree for what is never laid out or landed: anything but a plain file, and a path that leads elsewhere."""
    kinds = {"120000": "a symlink", "160000": "a submodule"}
    if entry.mode not in ("100644", "100664", "100755"):
        kind = kinds.get(entry.mode, f"of mode {entry.mode}")
        raise BadTree(f"{entry.path!r} is {kind}; only plain files can be laid out")
    if not _is_safe(entry.path):
        raise BadTree(f"{entry.path!r} is not a path that can be written")


def _is_safe(path: str) -> bool:
    """Whether a tree may hold `path` and a folder receive it: no way up, no way into .git, no name too long for a disk."""
    return not any(p.lower() in ("", ".", "..", ".git") or len(os.fsencode(p)) > 255 for p in path.split("/"))


def _lay_out(dest: Path, entry: Entry, data: bytes, overwrite: bool, aside: Path | None) -> None:
    target = dest / entry.path
    try:
        for parent in reversed(target.relative_to(dest).parents):
            # A symlink left in an agent's worktree must not lead the write elsewhere.
            if (dest / parent).is_symlink() and parent != Path():
                raise BadTree(f"{dest / parent} is a symlink; remove it")
            (dest / parent).mkdir(exist_ok=True)
        if aside is not None:
            if files.is_plain(target, data, entry.mode == "100755"):
                return
            files.move(target, aside / entry.path)
        elif overwrite:
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
    out = memoryview(gitcall.output(git_dir, "cat-file", "--batch", stdin="".join(f"{sha}\n" for sha in shas).encode()))
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
    arguments = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", rev(ours), rev(theirs)]
    done = gitcall.call(git_dir, *arguments, accept=(0, 1))
    fields = [os.fsdecode(field) for field in done.stdout.split(b"\0") if field]
    return fields[0] if done.returncode == 0 else Conflict(tuple(sorted(set(fields[1:]))))


def diff_names(git_dir: Path, a: str, b: str) -> list[tuple[str, str]]:
    """(status, path) of every file that differs between two commits: A added, D deleted, M modified, T mode type.
    A rename is a D and an A."""
    arguments = ["diff-tree", "-r", "-z", "--no-renames", "--no-ext-diff", "--name-status"]
    out = gitcall.output(git_dir, *arguments, "--end-of-options", rev(a), rev(b))
    fields = [os.fsdecode(field) for field in out.split(b"\0")[:-1]]
    return list(zip(fields[::2], fields[1::2], strict=True))


# --- fetching ----------------------------------------------------------------------------------------------------


def fetch(
    git_dir: Path,
    source: Path | str,
    refspecs: Sequence[str],
    timeout_s: float = gitcall.TIMEOUT_S,
    lock_s: float = LOCK_S,
) -> None:
    """Copy refs and their objects from `source` into `git_dir`; force with a leading + in the refspec.

    Nothing of either repository runs: no hooks, no filters, no `ext::` transport, no lazy fetch of missing objects.
    Holds the lock of `git_dir`, so do not call it while holding that; Busy when it is not free in `lock_s`."""
    url = str(source.resolve()) if isinstance(source, Path) else rev(source)
    flags = [
        "--no-tags",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--update-head-ok",
        "--no-recurse-submodules",
    ]
    words = ["fetch", "--quiet", *flags, "--end-of-options", url, *map(rev, refspecs)]
    env = {"GIT_ALLOW_PROTOCOL": "file" if isinstance(source, Path) else "file:https:ssh"}
    for is_again in (False, True):
        try:
            with gitcall.held(git_dir, lock_s):
                gitcall.output(git_dir, *words, env=env, timeout_s=timeout_s)
            return
        except GitError as error:
            if is_again or "/commondir" not in str(error):
                raise
            from org.world import worktrees  # made of this module

            worktrees.list_worktrees(git_dir)  # a git that was killed while it made a worktree stops every other one
