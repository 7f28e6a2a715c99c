"""Words of people and agents as a page shows them: citations rendered, numbers that the ledger does not carry marked, and
nothing in them that a terminal or a browser would obey.

The words themselves stay as they were written; what is shown is made anew each time somebody reads them.
"""

from __future__ import annotations

import re
from functools import cached_property

from org import charter, files
from org.evidence import audit
from org.home import Home
from org.lab import ledger
from org.lab.ledger import Book

QUOTE_LIMIT = 2000  # characters of one agent's words on a page


def reader(home: Home) -> Reader:
    """For the ledger as it is now."""
    return Reader(ledger.read(home), charter.load(home).metric.name)


class Reader:
    """Holds texts against one state of the ledger. metric: its name, a word beside which a number is a measurement."""

    def __init__(self, book: Book, metric: str) -> None:
        self.book, self.metric = book, metric

    def marks(self, text: str) -> list[audit.Mark]:
        """Every number of `text` that the ledger does not support, and every word that contradicts it."""
        return audit.audit(text, self.book.verdicts, self._measured, self._counts, self.metric)

    def read(self, text: str) -> str:
        """`text` with `{E0042.effect}` as the ledger has it, and behind each marked word what the ledger says of it."""
        lines = text.split("\n")
        for mark in self.marks(text):
            said = f"the ledger: {mark.ledger}" if mark.ledger else "not in the ledger"
            word = (
                rf"(?<![\w.{{]){re.escape(mark.text)}(?![\w]|\.\d| \[)"  # one that is marked already is not met again
            )
            at = mark.line - 1
            lines[at] = re.sub(word, lambda match, said=said: f"{match[0]} [{said}]", lines[at], count=1)  # type: ignore[misc]
        return audit.resolve("\n".join(lines), self.book.verdicts)

    @cached_property
    def _measured(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for result in self.book.results.values():
            if result.metric is not None:
                found.setdefault(result.experiment, []).append(result.metric)
        return found

    @cached_property
    def _counts(self) -> dict[str, int]:
        verdicts = list(self.book.verdicts.values())
        return {
            "experiments": len(self.book.experiments),
            "runs": len(self.book.results),
            "wins": sum(v.outcome == "win" for v in verdicts),
            "verified": sum(v.tier == "verified" for v in verdicts),
        }


# --- words made harmless -----------------------------------------------------------------------------------------


def quote(text: str) -> str:
    """An agent's words as a Markdown block quote: no control characters, no HTML, no picture that loads, no heading."""
    lines = _harmless(files.printable(text.strip(), QUOTE_LIMIT)).splitlines() or ["(nothing)"]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def cell(text: str, limit: int) -> str:
    """Words on one line, fit for a table's cell."""
    return _harmless(" ".join(files.printable(text, limit).split())).replace("|", "\\|")


def _harmless(text: str) -> str:
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("![", "!\\[")
