"""Plain rendering for terminals and pipes: aligned tables, effects with their errors, colour only where a person looks."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from org.files import printable

if TYPE_CHECKING:
    from org.records import Verdict

COLOURS = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
OUTCOME_COLOURS = {
    "win": "green",
    "holds": "green",
    "loss": "red",
    "null": "dim",
    "invalid": "red",
    "crash": "red",
    "lost": "yellow",
}


def has_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str | None) -> str:
    """`text` in a colour when a terminal shows it."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour and has_colour() else text


def width(text: str) -> int:
    """Columns that `text` takes; a wide character takes two, a combining one none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """`text` on one line in at most `columns` columns, control characters made harmless."""
    line = " ".join(printable(text).split())
    if width(line) <= columns:
        return line
    while line and width(line) > columns - 1:
        line = line[:-1]
    return line + "…"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str | None] = ()) -> str:
    """Left-aligned columns two spaces apart; the last one is cut to the terminal's width (120 in a pipe), never below 40.
    colours: one a row."""
    cells = [[cut(cell, 60) for cell in row[:-1]] + [row[-1]] for row in rows]
    widths = [max(width(row[i]) for row in [list(head), *cells]) for i in range(len(head) - 1)]
    total = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 120
    left = max(40, total - sum(widths) - 2 * len(widths))
    lines = [paint(_line([*head[:-1], head[-1]], widths), "bold")]
    for place, row in enumerate(cells):
        colour = colours[place] if place < len(colours) else None
        lines.append(paint(_line([*row[:-1], cut(row[-1], left)], widths), colour))
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell + " " * (wide - width(cell)) for cell, wide in zip(cells, widths, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()


def effect(verdict: Verdict) -> str:
    """`-0.0412 ± 0.0113`, or why there is no number."""
    if verdict.effect is None:
        return "-"
    return f"{verdict.effect:+.4f}" + (f" ± {verdict.se:.4f}" if verdict.se is not None else "")


def outcome(verdict: Verdict) -> str:
    """`win (tentative)`; a number that only the code itself reported says so."""
    marks = [mark for mark in (verdict.tier, "reported" if verdict.trust == "reported" else None) if mark]
    return verdict.outcome + (f" ({', '.join(marks)})" if marks else "")


def duration(seconds: float) -> str:
    """A clock that counts up or down: 95 seconds as `1:35`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
