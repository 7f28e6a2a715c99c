"""What `org bench t0` and `t1` leave in a folder: the rows, and a page with the table, what it says and what made it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from org import files


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: names to the left, figures to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def caption(command: Sequence[str], made_by: str) -> str:
    """What made it, so that it can be made again."""
    return f"`{shlex.join(command)}`: {made_by}"


def write(out: Path, name: str, rows: Any, page: str) -> None:
    """`name`.json and `name`.md in a folder that is made when it is missing."""
    files.replace_json(out / f"{name}.json", rows)
    files.replace(out / f"{name}.md", page)


def page(title: str, table: str, said: Sequence[str], caption: str, picture: str) -> str:
    lines = "\n".join(f"- {line}" for line in said or ("no target is set for these orgs",))
    return f"# {title}\n\n{table}\n\n{lines}\n\n![{title}]({picture})\n\n{caption}\n"
