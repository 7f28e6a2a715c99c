"""Ideas as pages: comms/ideas/I0007-slug.md, numbered without a lock. Does not judge an idea; experiments do that."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from org import files
from org.errors import BadInput
from org.failpoint import failpoint
from org.home import Home

IDEA_PATTERN = re.compile(r"(I[0-9]{4,})-.*\.md")
MAX_TEXT_BYTES = 64 * 1024


def add(home: Home, text: str, source: str) -> str:
    """Write `text` down as a new open idea and return its id, such as I0007. `source`: a seat, a paper, a person."""
    text = checked(text, "the idea")
    number = _reserve(home.ideas)
    failpoint("ideas.reserved")
    page = {"id": number, "source": source, "created": files.utc_now(), "status": "open"}
    files.replace(home.ideas / f"{number}-{slug(text)}.md", f"---\n{files.dump_yaml(page)}---\n{text}\n")
    return number


def list_ideas(home: Home) -> list[dict[str, Any]]:
    """Every idea by number: id, source, created, status, title, text, path. A page that cannot be read is listed with
    status `unreadable` and the reason as its text: a typing slip must not hide an idea."""
    found = []
    for path in sorted(home.ideas.glob("I*.md")) if home.ideas.is_dir() else []:
        match = IDEA_PATTERN.fullmatch(path.name)
        if match:
            found.append({"id": match[1], **_page(path), "path": str(path)})
    return found


def sources(home: Home) -> dict[str, str]:
    """Where each idea came from, by its id."""
    return {row["id"]: files.printable(row["source"], 100) for row in list_ideas(home)}


def slug(text: str) -> str:
    """The first words of `text` as a file name may carry them."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words)[:40].strip("-") or "idea"


def _page(path: Path) -> dict[str, Any]:
    try:
        fields, text = files.front_matter(path.read_text(encoding="utf-8", errors="replace"), str(path))
    except (BadInput, OSError) as error:
        return {"source": "", "created": "", "status": "unreadable", "title": path.stem, "text": str(error)}
    row = {name: str(fields.get(name) or "") for name in ("source", "created", "status")}
    row["status"] = row["status"] or "open"
    text = text.strip("\n")
    first = text.lstrip("# ").splitlines()[:1]
    return {**row, "title": files.printable(first[0], 100) if first else path.stem, "text": text}


def _reserve(folder: Path) -> str:
    """The next free number. The exclusive creation of a file in .numbers/ decides between two that ask at once; a
    writer that dies here leaves a gap, never two ideas with one number."""
    numbers = folder / ".numbers"
    numbers.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name[1:].partition("-")[0]) for p in (*folder.iterdir(), *numbers.iterdir()) if _is_number(p.name)]
    number = max(taken, default=0) + 1
    while True:
        name = f"I{number:04d}"
        try:
            os.close(os.open(numbers / name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            return name
        except FileExistsError:
            number += 1


def _is_number(name: str) -> bool:
    return re.match(r"I[0-9]{4,}(-|$)", name) is not None


def checked(text: str, what: str) -> str:
    text = text.strip().encode("utf-8", "replace").decode()
    if not text:
        raise BadInput(f"{what} is empty; write at least one sentence")
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise BadInput(f"{what} has {len(text.encode()) / 1024:.0f} KB, the limit is {MAX_TEXT_BYTES // 1024} KB")
    return text
