"""The design-intent registry: why a line of the code is the way it is, and what it takes to change it.

Anchors are symbols (`Attention.forward`), constants, or words of a line; they are found again wherever the code moved.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from org import files
from org.errors import BadInput, did_you_mean
from org.home import check_id

STATUSES = ("open", "settled", "off-limits")


@dataclass(frozen=True)
class Intent:
    id: str
    path: str
    anchor: str
    why: str
    evidence: str = ""  # an experiment, a paper, a measurement
    status: str = "open"
    demand: str = ""  # what a change has to show


def load(path: Path) -> list[Intent]:
    """The intents of a home. Raises BadInput naming the entry and the field."""
    rows = files.read_yaml(path)
    if not isinstance(rows, list):
        raise BadInput(f"{path}: expected a list of intents, each beginning with `- id:`")
    found: list[Intent] = []
    for number, row in enumerate(rows, 1):
        intent = _checked(row, f"{path}: intent {number}")
        if any(intent.id == other.id for other in found):
            raise BadInput(f"{path}: two intents have the id '{intent.id}'; rename one")
        found.append(intent)
    return found


def touched(intents: Iterable[Intent], base_text: str, cand_text: str, path: str) -> list[Intent]:
    """The intents of `path` whose code differs between the two texts. Moving it, or changing its comments, is no touch.
    An anchor that the base does not have watches nothing."""
    if base_text == cand_text:
        return []
    mine = [intent for intent in intents if intent.path == path]
    before, after = _symbols(base_text), _symbols(cand_text)
    return [i for i in mine if (old := _anchored(i, base_text, before)) and old != _anchored(i, cand_text, after)]


def missing(intents: Iterable[Intent], texts: dict[str, str]) -> list[Intent]:
    """Intents whose anchor is nowhere in their file any more: they protect nothing and want a new anchor."""
    return [i for i in intents if not _anchored(i, texts.get(i.path, ""), _symbols(texts.get(i.path, "")))]


def _checked(row: object, where: str) -> Intent:
    known = [f.name for f in fields(Intent)]
    if not isinstance(row, dict):
        raise BadInput(f"{where}: expected `key: value` lines")
    for key, value in row.items():
        if key not in known:
            raise BadInput(f"{where}: unknown key '{key}'{did_you_mean(str(key), known)}; known: {', '.join(known)}")
        if not isinstance(value, str):
            raise BadInput(f"{where}: {key} must be text, not {value!r:.40}")
    for key in ("id", "path", "anchor", "why"):
        if not str(row.get(key, "")).strip():
            raise BadInput(f"{where}: {key} is missing")
    intent = Intent(**{key: " ".join(str(value).split()) for key, value in row.items()})
    check_id(intent.id, f"{where}: id")
    if intent.status not in STATUSES:
        raise BadInput(f"{where}: status '{intent.status}' is not one of {', '.join(STATUSES)}")
    return intent


def _anchored(intent: Intent, text: str, symbols: dict[str, list[ast.stmt]] | None) -> list[str]:
    """The code an intent watches, in a form that knows no comments and no place; empty when it is not there."""
    if symbols is not None and intent.anchor in symbols:
        return [_code(node) for node in symbols[intent.anchor]]
    rows = (" ".join(row.partition("#")[0].split()) for row in text.splitlines())
    return sorted(row for row in rows if intent.anchor in row)


def _symbols(text: str) -> dict[str, list[ast.stmt]] | None:
    """Functions, classes and assigned module names, by dotted name; None when the text is not Python."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: dict[str, list[ast.stmt]] = {}

    def visit(body: Iterable[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.setdefault(prefix + node.name, []).append(node)
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign) and not prefix:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        found.setdefault(target.id, []).append(node)

    visit(tree.body, "")
    return found


def _code(node: ast.stmt) -> str:
    """`node` without the docstrings in it."""
    copy = ast.parse(ast.unparse(node))
    for inner in ast.walk(copy):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = inner.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                inner.body = inner.body[1:] or [ast.Pass()]
    return ast.dump(copy)
