"""What the org knows and no table shows: comms/wiki/*.md, one page a fact. Nothing is edited here; people use an editor.

A page is a finding, a dead end or an open question. What of it the ledger or an older page says otherwise is stored with it
as marks when it is added; that a result it cites was retracted since is computed each time it is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from org import files, strictyaml
from org.errors import BadInput, did_you_mean
from org.evidence import ladder
from org.home import Home
from org.team import claims, ideas
from org.team.claims import KINDS, Kind

if TYPE_CHECKING:
    from org.lab.book import Book

MOST = 500  # pages that a new one is held against, the newest


@dataclass(frozen=True)
class Page:
    """One page as it lies there. `origin`: the org it was brought from, "" for our own; then its evidence is text."""

    path: Path
    body: str
    by: str = ""
    created: str = ""
    kind: Kind = "finding"
    marks: tuple[str, ...] = ()
    origin: str = ""
    evidence: Mapping[str, str] | None = None
    is_torn: bool = False  # it cannot be read, and `body` is its name

    @property
    def title(self) -> str:
        lines = [line for line in self.body.splitlines() if line.strip()]
        return files.printable(lines[0].lstrip("# ") if lines else self.path.stem, 100)

    @property
    def cites(self) -> list[str]:
        return claims.cites(self.body)

    def retracted(self, book: Book) -> list[str]:
        """What it rests on that was taken back since."""
        return [name for name in self.cites if name in book.retracted]

    def warnings(self, book: Book) -> list[str]:
        """What a reader should know before believing it: its marks, and what was retracted since."""
        gone = [f"cites {name}, {ladder.gone(book.retracted[name])}" for name in self.retracted(book)]
        return [*self.marks, *gone]


def add(
    home: Home,
    text: str,
    by: str,
    kind: str = "",
    marks: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> Path:
    """A new page, named after the first line of `text`. A name that is taken gets a number; no page is overwritten. kind: of
    KINDS, else by the first line. more: further lines of its head."""
    text = ideas.checked(text, "the page")
    if kind and kind not in KINDS:
        raise BadInput(f"kind '{kind:.40}' is unknown{did_you_mean(kind, KINDS)}; use one of {', '.join(KINDS)}")
    home.wiki.mkdir(parents=True, exist_ok=True)
    stem = ideas.slug(text.splitlines()[0])
    head = {"by": by, "created": files.utc_now(), "kind": kind or claims.kind_of(text), **(more or {})}
    head |= {"marks": list(marks)} if marks else {}
    page = f"---\n{strictyaml.dump(head)}---\n{text}\n"
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


def doubts(home: Home, text: str, book: Book, knobs: Collection[str], kind: str = "") -> list[str]:
    """What of a page that is about to be added the ledger or an older page says otherwise. Pages brought from elsewhere
    are older pages too: what they say of a knob is held against it."""

    def said(body: str, its_kind: str) -> list[claims.Statement]:
        return claims.statements(body, knobs, is_question=its_kind == "open-question")

    older = [(page.path.name, said(page.body, page.kind)) for page in list(pages(home))[:MOST]]
    return claims.doubts(said(text, kind or claims.kind_of(text)), book.verdicts, book.retracted, older)


def pages(home: Home) -> Iterator[Page]:
    """Every page, newest first. One with a slip in its head is its name alone, and is still found by it."""
    found = []
    for path in sorted(home.wiki.glob("*.md")) if home.wiki.is_dir() else []:
        try:
            text = files.read_plain(path).decode("utf-8", "replace")
            fields, body = strictyaml.front_matter(text, str(path))
        except (BadInput, OSError):
            found.append(Page(path, path.stem, is_torn=True))
        else:
            found.append(_page(path, fields, body))
    yield from sorted(found, key=lambda page: page.created, reverse=True)


def find(home: Home, words: str) -> list[dict[str, Any]]:
    """Pages that hold every one of `words`, most mentions first: path, title, by, created, kind, cites, marks, origin, evidence,
    excerpt (the first line that matches). No words: every page, newest first."""
    wanted = [word for word in re.split(r"\s+", words.lower()) if word]
    found: list[dict[str, Any]] = []
    for page in pages(home):
        lower = page.body.lower()
        counts = [lower.count(word) for word in wanted]
        if not all(counts):
            continue
        lines = [line for line in page.body.splitlines() if line.strip()]
        hit = next((line for line in lines if wanted and wanted[0] in line.lower()), lines[0] if lines else "")
        found.append(
            {
                "path": str(page.path),
                "title": page.title,
                "by": page.by,
                "created": page.created,
                "kind": page.kind,
                "cites": page.cites,
                "marks": list(page.marks),
                "origin": page.origin,
                "evidence": dict(page.evidence or {}),
                "excerpt": files.printable(hit.strip(), 200),
                "mentions": sum(counts),
            }
        )
    return sorted(found, key=lambda p: p["mentions"], reverse=True)


def warnings(row: Mapping[str, Any], book: Book) -> list[str]:
    """Of a row of `find`: what `Page.warnings` says of the page."""
    return Page(Path(row["path"]), " ".join(row["cites"]), marks=tuple(row["marks"])).warnings(book)


def _page(path: Path, fields: Mapping[str, Any], body: str) -> Page:
    def line(value: object, limit: int = 200) -> str:
        return " ".join(files.printable(str(value or ""), limit).split())

    marks, evidence, kind = fields.get("marks"), fields.get("evidence"), fields.get("kind")
    return Page(
        path,
        body,
        line(fields.get("by"), 60),
        line(fields.get("created"), 40),
        kind if kind in KINDS else claims.kind_of(body),
        tuple(line(mark, 400) for mark in marks[: claims.SHOWN]) if isinstance(marks, list) else (),
        line(fields.get("origin"), 60),
        {line(k, 60): line(v) for k, v in evidence.items()} if isinstance(evidence, dict) else None,
    )
