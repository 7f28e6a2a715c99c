"""A person's folder, read once to become the first commit. Changes nothing there and runs nothing of its repository's.

Git is asked only which files are tracked or not ignored; storing them is `world.git`'s.
"""

from __future__ import annotations

import os
from pathlib import Path

from org.errors import BadInput
from org.world import gitcall
from org.world.gitcall import GitError

MAX_FILE_BYTES = 5 * 1024 * 1024
MAX_FOLDER_BYTES = 64 * 1024 * 1024
DROPPED_FOLDERS = frozenset({".git", "__pycache__", ".venv"})


def import_folder(path: Path) -> dict[str, bytes]:
    """Relative path -> bytes of a folder that is to become a first commit: in a git work tree what is tracked or not
    ignored, elsewhere everything; .git, __pycache__ and .venv never. BadInput for symlinks, for nested repositories,
    for a file over 5 MB, for more than 64 MB, and for a work tree that git cannot list. Runs nothing of the
    repository's: files are read as they are."""
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


def _listed(path: Path) -> list[str]:
    """What git calls tracked or not ignored; nothing outside a work tree, or where the whole folder is ignored. BadInput
    inside one that git cannot read: what is ignored there would be taken along."""
    where = ["-C", str(path.absolute())]
    inside = gitcall.run([*where, "rev-parse", "--is-inside-work-tree"], accept=(0, 128))
    if inside.returncode == 0 and inside.stdout.strip() != b"true":
        return []  # a bare repository, or the inside of .git
    if inside.returncode and b"not a git repository" in inside.stderr:
        return []
    try:
        done = gitcall.run([*where, "ls-files", "-z", "-c", "-o", "--exclude-standard"])
    except GitError as error:
        raise BadInput(
            f"git cannot list the files of {path} ({error}); mend that repository, or copy the code out of it"
        ) from None
    if b"lazy fetch" in done.stderr:  # git goes on without a .gitignore that a sparse partial clone has not got
        raise BadInput(f"git cannot list the files of {path}: a partial clone lacks some; copy the code out of it")
    names = done.stdout.split(b"\0")[:-1]
    return sorted({os.fsdecode(name) for name in names})


def _walked(path: Path) -> list[str]:
    names = []
    for folder, folders, files in os.walk(path):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = sorted(set(folders) - DROPPED_FOLDERS - set(links))
        names += [str(Path(folder, name).relative_to(path)) for name in [*files, *links]]
    return sorted(names)
