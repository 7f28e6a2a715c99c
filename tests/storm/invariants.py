"""What must be true when the storm is over and nothing runs: each function looks at one thing and returns its violations."""

from __future__ import annotations

import json
import subprocess
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from whole import assert_whole

from org.errors import OrgError
from org.home import Home
from org.lab import ledger
from org.team import envelope
from storm import post


def whole(home: Home, ending_s: float = 30.0) -> list[str]:
    """Nothing is recorded twice, half made, held or alive: `whole.assert_whole`."""
    try:
        assert_whole(home, ending_s=ending_s)
    except Exception as error:  # noqa: BLE001 - whatever it meets there is what is said
        place = traceback.extract_tb(error.__traceback__)[-1]
        return [f"not whole: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"[:3000]]
    return []


def letters(
    home: Home, trash: Path, sent: Mapping[str, Mapping[str, Any]], boxes: Mapping[str, list[str]]
) -> list[str]:
    """Each letter sent lies once in each box it was sent to, all of it; in none where it lies among what was removed.
    sent: what was tried, by id; boxes: where it is known to be, by id."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(home.mail.rglob("*.md")):
        parts = path.relative_to(home.mail).parts
        if parts[1] != "tmp":
            found.setdefault((parts[0], path.stem), []).append(path)
    gone = {(path.relative_to(trash).parts[1], path.stem) for path in trash.rglob("*.md")}
    problems = []
    for letter in sent:
        if letter not in boxes:
            problems.append(f"letter {letter} was never accepted")
        for box in boxes.get(letter, []):
            places = found.get((box, letter), [])
            if len(places) > 1:
                problems.append(f"letter {letter} lies twice: {_names(home, places)}")
            if not places and (box, letter) not in gone:
                problems.append(f"letter {letter} to {box} is lost")
    for (box, letter), places in found.items():
        if letter in sent and letter in boxes and box not in boxes[letter]:
            problems.append(f"letter {letter} is in the box of {box}, to which it was not sent")
        if letter in sent:
            problems += [f"letter {letter} of {box} is torn" for path in places if not _is_intact(path, letter)]
    problems += [f"{path.relative_to(home.root)} was taken for no letter" for path in home.mail.glob("*/bad/*")]
    return problems


def read_once(read: Path, trash: Path) -> list[str]:
    """No reader was given a letter twice, but one whose mailbox was removed between and which was sent again."""
    gone = {path.stem for path in trash.rglob("*.md")}
    problems = []
    for file in sorted(read.glob("*.txt")):
        counts = Counter(file.read_text().split())
        problems += [
            f"{file.stem} was given {name} {n} times" for name, n in counts.items() if n > 1 and name not in gone
        ]
    return problems


def planted(home: Home, trash: Path, texts: Mapping[str, str]) -> list[str]:
    """Work that was never filed lies where it was written, in a commit, in a copy aside, or among what was removed."""
    left = set(texts)
    for folder in (home.worktrees, home.seats, trash):
        for path in folder.rglob("*") if left else ():
            if path.is_file() and not path.is_symlink() and "hub.git" not in path.parts:
                data = path.read_bytes()
                left -= {text for text in left if text.encode() in data}
    if left:
        left -= {text for text in left if any(text in said for said in _committed(home))}
    return [f"{text} in {texts[text]} is in no worktree, no commit and no copy" for text in sorted(left)]


def repositories(*folders: Path) -> list[str]:
    """git finds nothing missing or broken; what no ref names any more is no fault."""
    problems = []
    for folder in folders:
        argv = ["git", f"--git-dir={folder}", "fsck", "--full", "--no-dangling", "--connectivity-only"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        bad = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("dangling", "notice"))]
        if done.returncode or bad:
            problems.append(f"git fsck of {folder.name}: {'; '.join(bad)[:500] or f'exit {done.returncode}'}")
    return problems


def documents(home: Home) -> list[str]:
    """Every JSON document of the organisation is one, and every whole line of a list of them."""
    problems = []
    for path in sorted(home.comms.rglob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            problems.append(f"{path.relative_to(home.root)} is no JSON: {error}")
    return problems


def results(home: Home) -> list[str]:
    """Each result is there once, each run that began has ended, and the clock has not begun anew."""
    problems = []
    try:
        rows = list(ledger.Ledger(home).rows())
    except OrgError as error:
        return [str(error)]
    for kind in ("launch", "result"):
        counts = Counter(str(row.get("run")) for row in rows if row.get("kind") == kind)
        problems += [f"{run} has {n} {kind} lines" for run, n in counts.items() if n > 1]
    lines = [row.get("seq") for row in rows]
    if lines != list(range(1, len(rows) + 1)):
        problems.append("the ledger's numbers do not follow one another")
    return problems


def merged(logs: Iterable[Path]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What all senders tried, and where it is known to be."""
    tried: dict[str, Any] = {}
    boxes: dict[str, list[str]] = {}
    for log in logs:
        some, there = post.load(log)
        tried |= some
        boxes |= there
    return tried, boxes


def _is_intact(path: Path, letter: str) -> bool:
    try:
        found = envelope.parse(path.read_text(), path.name)
    except (OrgError, ValueError):
        return False
    return found.id == letter and found.body == post.body_of(letter)


def _committed(home: Home) -> Iterable[str]:
    """Everything that any commit of the two repositories changed."""
    for folder in (home.hub, home.record):
        argv = ["git", f"--git-dir={folder}", "log", "--all", "-p", "--no-color", "--", "train.py", "notes"]
        yield subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False).stdout


def _names(home: Home, paths: Iterable[Path]) -> str:
    return ", ".join(str(path.relative_to(home.root)) for path in paths)
