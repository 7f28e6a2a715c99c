"""Words of people and agents as a page shows them: citations rendered, numbers that the ledger does not carry marked, and
nothing in them that a terminal or a browser would obey.

The words themselves stay as they were written; what is shown is made anew each time somebody reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property

from org import charter, files
from org.evidence import audit
from org.evidence.predictions import Origin
from org.home import Home
from org.lab import ledger
from org.lab.book import Book
from org.lab.tally import Tally, tally
from org.team import facts, ideas

QUOTE_LIMIT = 2000  # characters of one agent's words on a page
SPAN = re.compile(r"<!-- covers (?:from ([0-9T:.Z-]+) )?to ([0-9T:.Z-]+) -->")  # of a standup: what its counts are of
_SAID = re.compile(r" \[(?:the ledger: [^\]\n]*|not in the ledger)\]")
_LEAD = 12  # characters by which the beginning of a quote is found


def reader(home: Home) -> Reader:
    """For the ledger as it is now."""
    return Reader(ledger.read(home), charter.load(home).metric.name, ideas.origins(home))


class Reader:
    """Holds texts against one state of the ledger. metric: its name, a word beside which a number is a measurement.
    sources: of ideas."""

    def __init__(self, book: Book, metric: str, sources: Mapping[str, Origin] | None = None) -> None:
        self.book, self.metric, self.sources = book, metric, sources or {}
        self._tallies: dict[tuple[str | None, str | None], Tally] = {}

    def marks(self, page: str) -> list[audit.Mark]:
        """Every number of a whole page that the ledger does not support, and every word that contradicts it.

        What a page made here prints is no claim of the page's: an experiment's description, reasons or retraction, word
        for word beside its name; and a number behind which stands already what the ledger says of it. A standup's counts
        are of the span that it names."""
        span = SPAN.search(page)
        since, until = (span[1], span[2]) if span else (None, None)
        spans = list(dict.fromkeys([(since, until), (None, until)]))  # people count the night, or all there is
        bare, rest = _SAID.sub("", page), self._without_quotes(page)
        told = [self._marked(bare, *one).split("\n") for one in spans]
        found, *others = [self._marks(rest, *one) for one in spans]
        for other in others:
            wrong = {(mark.line, mark.text) for mark in other}
            found = [mark for mark in found if (mark.line, mark.text) in wrong]
        answered = {at for at, line in enumerate(page.split("\n")) if any(lines[at] == line for lines in told)}
        return [mark for mark in found if mark.line - 1 not in answered]

    def read(self, text: str) -> str:
        """`text` with `{E0042.effect}` as the ledger has it, and behind each marked word what the ledger says of it."""
        return audit.resolve(self._marked(text), self.book.verdicts, self._known)

    def _marked(self, text: str, since: str | None = None, until: str | None = None) -> str:
        lines = text.split("\n")
        for mark in self._marks(text, since, until):
            said = f"the ledger: {mark.ledger}" if mark.ledger else "not in the ledger"
            word = (
                rf"(?<![\w.{{]){re.escape(mark.text)}(?![\w]|\.\d| \[)"  # one that is marked already is not met again
            )
            at = mark.line - 1
            lines[at] = re.sub(word, lambda match, said=said: f"{match[0]} [{said}]", lines[at], count=1)  # type: ignore[misc]
        return "\n".join(lines)

    def _marks(self, text: str, since: str | None, until: str | None) -> list[audit.Mark]:
        if (since, until) not in self._tallies:
            self._tallies[since, until] = tally(self.book, since, until)
        counted = self._tallies[since, until]
        numbers = {**self._numbers, "": [*self._numbers[""], counted.held_s / 3600]}
        return audit.audit(text, self.book.verdicts, numbers, counted.counts(), self.metric, self._known)

    def _without_quotes(self, text: str) -> str:
        lines = text.split("\n")
        for at, line in enumerate(lines):
            for name in dict.fromkeys(audit.EXPERIMENT.findall(line)):
                for words in self._quotes.get(name, ()):
                    lines[at] = _blanked(lines[at], words)
        return "\n".join(lines)

    @cached_property
    def _known(self) -> audit.Known:
        return facts.known(self.book)

    @cached_property
    def _numbers(self) -> dict[str, list[float]]:
        return facts.numbers(self.book, self.sources)

    @cached_property
    def _quotes(self) -> dict[str, list[str]]:
        """As a table of a page prints them, and as a terminal does."""
        found = {}
        for name, texts in facts.quotes(self.book).items():
            plain = [" ".join(files.printable(text).split()) for text in texts]
            found[name] = list(dict.fromkeys([*(cell(text, 100_000) for text in texts), *plain]))
        return found


def _blanked(line: str, words: str) -> str:
    """`line` without a quote of `words`, whole or cut at its end, that stands by itself: in a cell, behind a colon."""
    start = line.find(words[:_LEAD]) if words else -1
    while start >= 0:
        pairs = zip(line[start:], words, strict=False)
        size = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(words), len(line) - start))
        before, after = line[:start], line[start + size :]
        is_cut = size >= _LEAD and after.lstrip().startswith(("…", "[…]"))
        begins = not before.strip() or before.endswith("  ") or before.rstrip().endswith(("|", ":", "("))
        ends = not after.strip() or after.startswith("  ") or after.lstrip().startswith(("|", ")"))
        if begins and (is_cut or (ends and size == len(words))):
            line = f"{before}{' ' * size}{after}"
        start = line.find(words[:_LEAD], start + 1)
    return line


# --- words made harmless -----------------------------------------------------------------------------------------


def quote(text: str, limit: int = QUOTE_LIMIT) -> str:
    """An agent's words as a Markdown block quote: no control characters, no HTML, no picture that loads, no heading."""
    lines = _harmless(files.printable(text.strip(), limit)).splitlines() or ["(nothing)"]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def cell(text: str, limit: int) -> str:
    """Words on one line, fit for a table's cell."""
    return _harmless(" ".join(files.printable(text, limit).split())).replace("|", "\\|")


def _harmless(text: str) -> str:
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text).replace("![", "!\\[")


def table(head: list[str], rows: list[list[str]]) -> str:
    """As Markdown. Cells are `cell`s, or words of ours."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])
