"""What a model costs and how much it takes at once, read from models.yaml; a home's own lines come first."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from org import files, strictyaml
from org.errors import BadInput
from org.home import Home

OURS = Path(__file__).with_name("models.yaml")
CONTEXT, ANSWER = 128_000, 8192


@dataclass(frozen=True)
class Tokens:
    """What one request took. `input` counts all that was sent, `cached` and `written` are the parts of it that the service
    read from its cache and put there."""

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0


@dataclass(frozen=True)
class Terms:
    """A model's line. Prices are dollars per million tokens, None where they are not known."""

    input: float | None = None
    output: float | None = None
    cached: float | None = None
    written: float | None = None
    context: int = CONTEXT
    answer: int = ANSWER

    def cost(self, tokens: Tokens) -> float | None:
        """Dollars; None where the price is unknown. What has no price of its own in the cache costs as new."""
        if self.input is None or self.output is None:
            return None
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        fresh = max(0, tokens.input - tokens.cached - tokens.written)
        total = fresh * self.input + tokens.cached * cached + tokens.written * written + tokens.output * self.output
        return total / 1e6


def terms(home: Home, model: str) -> Terms:
    """Raises BadInput naming the file and the line's pattern when a line is not in the form."""
    for path in (lines_of(home), OURS):
        for pattern, row in _rows(path).items():
            if fnmatch.fnmatchcase(model, str(pattern)):
                return _terms(row, _where(path, pattern))
    return Terms()


def check(home: Home) -> int:
    """How many lines of its own the home has. Raises BadInput for the first that is not in the form: a seat that meets it
    either ends or counts no cost, and neither is seen at the launch."""
    rows = _rows(lines_of(home))
    for pattern, row in rows.items():
        _terms(row, _where(lines_of(home), pattern))
    return len(rows)


def lines_of(home: Home) -> Path:
    return home.prompts / "models.yaml"


def _rows(path: Path) -> dict[Any, Any]:
    rows = strictyaml.read(path) if path.is_file() else {}
    if not isinstance(rows, dict):
        raise BadInput(f"{path}: write one model a line, as in gpt-5*: {{input: 1.25, output: 10, context: 270000}}")
    return rows


def _where(path: Path, pattern: Any) -> str:
    return f"{path}: {files.printable(str(pattern), 60)}"


def _terms(row: Any, where: str) -> Terms:
    known = {"input": float, "output": float, "cached": float, "written": float, "context": int, "answer": int}
    if not isinstance(row, dict) or not set(row) <= set(known):
        raise BadInput(f"{where}: knows {', '.join(known)}, and nothing else")
    for name, value in row.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < 1e12  # neither is what YAML calls .nan or .inf
            or (known[name] is int and value < 1)
        ):
            raise BadInput(f"{where}: {name} is a number, not {value!r:.40}")
    return Terms(**{name: known[name](value) for name, value in row.items()})
