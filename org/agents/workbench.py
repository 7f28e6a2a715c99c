"""A seat's worktree as its own researcher sees it: the constants in it, and whether somebody else edited it."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from org import files
from org.agents import knobs as knobs_
from org.agents.knobs import Value
from org.records import Knob


@dataclass(frozen=True)
class Edit:
    """Constants set to other values: the files before and after, and what turns one into the other and back."""

    names: tuple[str, ...]
    before: dict[Path, str]
    after: dict[Path, str]

    def make(self) -> None:
        for path, text in self.after.items():
            files.replace(path, text)

    def take_back(self) -> list[str]:
        """The files as they were; names of those that somebody else changed meanwhile, which are left."""
        theirs = []
        for path, text in self.after.items():
            if path.is_file() and path.read_bytes().decode(errors="replace") == text:
                files.replace(path, self.before[path])
            else:
                theirs.append(path.name)
        return theirs

    def spelled(self, why: str) -> str:
        """`why` with the knobs' names as the code has them, and tables will."""
        for name in self.names:
            there = next((s for text in self.before.values() if (s := knobs_.spelled(text, name)) != name), name)
            why = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", there, why, count=1)
        return why


class Workbench:
    """What stands in the worktree, as far as its owner knows; all else is somebody's work."""

    def __init__(self, worktree: str | Path, editable: Sequence[str]) -> None:
        self.root = Path(worktree)
        self._globs = [f"{glob}*" if glob.endswith("/") else glob.replace("**/", "*") for glob in editable]
        self._known: dict[Path, bytes] = {}

    def note(self) -> None:
        """As it lies now its owner knows it."""
        self._known = self._texts()

    def edited(self) -> list[str]:
        """What is another than when it was noted, by path."""
        now = self._texts()
        return sorted(
            str(path.relative_to(self.root))
            for path in now.keys() | self._known.keys()
            if now.get(path) != self._known.get(path)
        )

    def values(self, knobs: Mapping[str, Knob]) -> dict[str, Value | None]:
        """Every knob's value; None where the code sets no plain value."""
        texts: dict[str, str] = {}
        for knob in knobs.values():
            path = self.root / knob.path
            if knob.path not in texts:
                texts[knob.path] = path.read_bytes().decode(errors="replace") if path.is_file() else ""
        return {name: knobs_.read(texts[knob.path], name) for name, knob in knobs.items()}

    def turned(self, changes: Sequence[tuple[Knob, Value]]) -> Edit:
        """The edit that sets these knobs; made by nobody yet. Raises BadInput where the code sets no plain value."""
        paths = [self.root / knob.path for knob, _ in changes]
        before = {path: path.read_bytes().decode() for path in paths}
        after = dict(before)
        for path, (knob, value) in zip(paths, changes, strict=True):
            after[path] = knobs_.write(after[path], knob.name, value)
        return Edit(tuple(knob.name for knob, _ in changes), before, after)

    def _texts(self) -> dict[Path, bytes]:
        """Every file that `org run` would file, and perhaps a few more; links left out."""
        found = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
            for path in (Path(folder) / name for name in names):
                inside = path.relative_to(self.root).as_posix()
                if (
                    any(fnmatch.fnmatchcase(inside, glob) for glob in self._globs)
                    and path.is_file()
                    and not path.is_symlink()
                ):
                    found[path] = path.read_bytes()
        return found
