"""Ready-made tasks, the folders of prompts/tasks/: which there are, and which one a home works on. What `--task` means."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import org
from org import files
from org.errors import BadInput, Busy, did_you_mean
from org.home import ID_PATTERN, Home

INSTALLATION = Path(org.__file__).resolve().parents[1]


def known(*homes: Home) -> dict[str, Path]:
    """Name -> folder of every task; what an earlier home has goes before a later one's."""
    found: dict[str, Path] = {}
    for home in homes:
        for path in sorted(home.tasks.glob("*/charter.yaml")):
            if ID_PATTERN.fullmatch(path.parent.name):
                found.setdefault(path.parent.name, path.parent)
    return found


def find(word: str, *homes: Home) -> Path | None:
    """The folder of the task `word` names, looked for in `homes` and then in this installation; None when it is the path
    of a charter file. Raises BadInput when it is neither."""
    if not word.isprintable() or any(len(os.fsencode(part)) > 255 for part in word.split("/")):
        raise BadInput(f"--task {word!r:.60} is no task and no file that can be")
    there = known(*homes, Home(INSTALLATION))
    if word in there:
        return there[word]
    if Path(word).is_file() or not ID_PATTERN.fullmatch(word):
        return None
    raise BadInput(f"no task '{word}'{did_you_mean(word, there)}; tasks: {', '.join(there) or 'none'}, or name a file")


def adopting(home: Home, folder: Path) -> Home:
    """The home as it would be with the task in `folder`, for looking; nothing is written. Raises Busy when it works on
    another one already."""
    name = folder.name
    if name != home.adopted and has_begun(home):
        now = f"the task {home.adopted}" if home.adopted else "a task of its own (prompts/charter.yaml)"
        raise Busy(
            f"{home.root} works on {now} already, and a record holds one task; "
            f"make a home: `org init DIR --task {name}`, then `org --home DIR launch`"
        )
    return replace(home, as_task=name)


def adopt(home: Home, folder: Path) -> None:
    """From here on the home works on the task in `folder`, which is copied in where it comes from the installation."""
    own = home.tasks / folder.name
    if not own.is_dir():
        with files.locked(home.launch_lock):  # of two launches at once, one copies
            if not own.is_dir():
                copy(folder, own)
    if home.adopted != folder.name:
        files.replace(home.task_file, f"{folder.name}\n")


def has_begun(home: Home) -> bool:
    """Whether code was imported or anything recorded here: from then on the home has its task."""
    return (home.record / "HEAD").is_file() or bool(home.ledger.is_file() and home.ledger.stat().st_size)


def copy(folder: Path, to: Path) -> None:
    """The whole folder, without what Python leaves behind, and whole or not at all: copied beside `to` under a hidden
    name, which the next copy removes if this one is killed, then renamed. Raises OSError when `to` holds something."""
    beside = to.parent / f".{to.name}.copy"
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside, ignore=shutil.ignore_patterns("__pycache__"))
    beside.rename(to)
