"""The form of an idea's page: YAML front matter with what is known of the idea, then the idea in its author's words. Pure.

People write and mend these pages by hand, so every field may be missing, and a page without a head is an idea too. What
an idea has come to is not on its page: `team.ideas` computes it. Only that it is dead stands here, as somebody's word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from org import files, strictyaml
from org.errors import BadInput
from org.words import finite

IDEA = re.compile(r"I[0-9]{4,}")
NAMED = re.compile(r"[EI][0-9]{4,}")
COMPUTED = ("", "open", "assigned", "parked", "tried")  # in a `status:` line these say nothing
SHORT = 100  # characters of who and from where
LONG = 4000  # characters of a mechanism, a cost, an objection, a reason
MOST_LIKE = 20


@dataclass(frozen=True)
class Page:
    """What one page says. Texts are harmless to show but for `text`, which is as its author wrote it."""

    text: str
    title: str = ""
    source: str = ""  # who or what it came from: human, a seat, papers/muon.md, wiki/warmdown.md
    author: str = ""  # who wrote it down; the source where nobody else is named
    created: str = ""
    mechanism: str = ""
    expect: float | None = None  # candidate - baseline, in the metric's unit
    cost: str = ""
    objection: str = ""
    objection_by: str = ""
    dead: str = ""  # why, "" for one that lives
    dead_by: str = ""
    like: tuple[str, ...] = ()  # experiments and ideas that it repeated when it was written


def parse(text: str, where: str) -> Page:
    """Raises BadInput for a head that is no YAML mapping. A field that is not as it should be counts as missing."""
    fields, body = strictyaml.front_matter(text, where)
    body = body.strip("\n")
    first = body.lstrip("# ").splitlines()[:1]
    source = line(fields.get("source"))
    status = line(fields.get("status")).lower()
    dead = "" if status in COMPUTED else words(fields.get("why")) or f"its page says {status}"
    like = fields.get("like")
    return Page(
        text=body,
        title=files.printable(first[0], SHORT) if first else "",
        source=source,
        author=line(fields.get("author")) or source,
        created=line(fields.get("created")),
        mechanism=words(fields.get("mechanism")),
        expect=finite(fields.get("expect")),
        cost=words(fields.get("cost")),
        objection=words(fields.get("objection")),
        objection_by=line(fields.get("objection_by")),
        dead=dead,
        dead_by=line(fields.get("dead_by")) if dead else "",
        like=tuple(str(one) for one in like if NAMED.fullmatch(str(one)))[:MOST_LIKE] if isinstance(like, list) else (),
    )


def render(fields: Mapping[str, Any], text: str) -> str:
    """A new page. Fields that are empty are left out."""
    head = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
    head = {key: value for key, value in head.items() if value not in (None, "", [])}
    return f"---\n{strictyaml.dump(head)}---\n{text}\n"


def amend(text: str, where: str, changes: Mapping[str, str]) -> str:
    """The page with these fields set. Its body stays to the byte, and so do the other lines of its head, comments too,
    wherever they can be told from what changes."""
    fields, body = strictyaml.front_matter(text, where)
    wanted = {**fields, **changes}
    head = text[4 : len(text) - len(body) - len("\n---\n")] if text.startswith("---\n") else ""
    kept = _without(head, [key for key in changes if key in fields])
    made = f"---\n{kept}{strictyaml.dump(dict(changes))}---\n{body}"
    try:
        if strictyaml.front_matter(made, where) == (wanted, body):
            return made
    except BadInput:
        pass  # a form of YAML whose lines are not what they seem: the head is written anew
    return f"---\n{strictyaml.dump(wanted)}---\n{body}"


def line(value: Any, limit: int = SHORT) -> str:
    """A field that is one line of a table."""
    return " ".join(files.printable(_text(value), limit).split())


def words(value: Any) -> str:
    """A field of some sentences."""
    return files.printable(_text(value), LONG).strip()


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else ""


def _without(head: str, keys: list[str]) -> str:
    """The head's lines but those of `keys`: from each key's line to the next that begins a field or a comment."""
    kept, is_out = [], False
    for row in head.splitlines(keepends=True):
        if row[:1] not in (" ", "\t", "\n", "-"):
            is_out = row.partition(":")[0].strip("'\"") in keys
        if not is_out:
            kept.append(row)
    joined = "".join(kept)
    return joined if not joined or joined.endswith("\n") else f"{joined}\n"
