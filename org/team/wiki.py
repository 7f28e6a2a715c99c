"""What the org knows and no table shows: comms/wiki/*.md, one page a fact. Nothing is edited here; people use an editor."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from org import files
from org.errors import BadInput
from org.home import Home
from org.team import ideas


def add(home: Home, text: str, by: str) -> Path:
    """A new page, named after the first line of `text`. A name that is taken gets a number; no page is overwritten."""
    text = ideas.checked(text, "the page")
    home.wiki.mkdir(parents=True, exist_ok=True)
    stem = ideas.slug(text.splitlines()[0])
    page = f"---\n{files.dump_yaml({'by': by, 'created': files.utc_now()})}---\n{text}\n"
    temporary = home.wiki / f".{stem}.{os.getpid()}"
    temporary.write_bytes(page.encode())
    try:
        number = 1
        while True:
            path = home.wiki / (f"{stem}.md" if number == 1 else f"{stem}-{number}.md")
            try:
                path.hardlink_to(temporary)  # fails when the name is taken, and never shows half a page
                return path
            except FileExistsError:
                number += 1
    finally:
        temporary.unlink()


def find(home: Home, words: str) -> list[dict[str, Any]]:
    """Pages that hold every one of `words`, most mentions first: path, title, by, created, excerpt (the first line that
    matches). No words: every page, newest first."""
    wanted = [word for word in re.split(r"\s+", words.lower()) if word]
    found: list[dict[str, Any]] = []
    for path in sorted(home.wiki.glob("*.md")) if home.wiki.is_dir() else []:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
            fields, body = files.front_matter(text, str(path))
        except (BadInput, OSError):
            fields, body = {}, path.stem  # a page with a slip in its head is still found by its name
        lower = body.lower()
        counts = [lower.count(word) for word in wanted]
        if not all(counts):
            continue
        lines = [line for line in body.splitlines() if line.strip()]
        hit = next((line for line in lines if wanted and wanted[0] in line.lower()), lines[0] if lines else "")
        found.append(
            {
                "path": str(path),
                "title": files.printable(lines[0].lstrip("# ") if lines else path.stem, 100),
                "by": str(fields.get("by") or ""),
                "created": str(fields.get("created") or ""),
                "excerpt": files.printable(hit.strip(), 200),
                "mentions": sum(counts),
            }
        )
    return sorted(sorted(found, key=lambda p: p["created"], reverse=True), key=lambda p: p["mentions"], reverse=True)
