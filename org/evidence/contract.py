"""What an experiment is, read off its diff: knobs turned, constants added, lines, ablations owed. Pure; knows no git.

Files arrive as `{path: text}` of the editable part. What a tree may not be is in `rules`.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import math
import operator
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from org.errors import BadInput, did_you_mean
from org.evidence.comments import strip_docstrings
from org.records import Charter, KnobChange
from org.words import GAINS

__all__ = [
    "COMPARED",
    "GAINS",
    "TOO_LONG",
    "Constant",
    "Derived",
    "SourceError",
    "changes",
    "check_claim",
    "code_changes",
    "code_digest",
    "code_lines",
    "constants",
    "derive",
    "same_code",
]


COMPARED = 800  # lines of a file, for people
TOO_LONG = "(more lines than are compared here)"


class SourceError(ValueError):
    """A Python text that does not parse; `line` says where."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Constant:
    name: str
    value: Any
    line: int


@dataclass(frozen=True)
class Derived:
    """What `derive` read off a diff. Lines count code as one formatter would write it: blank lines,
    comments, docstrings and layout of Python files are left out."""

    knobs: tuple[KnobChange, ...]
    new_constants: tuple[str, ...]
    lines_added: int
    lines_removed: int
    ablations_owed: tuple[str, ...]
    is_empty: bool  # nothing that runs differs: no change at all, or comments and layout only


def check_claim(claim: str) -> str:
    """`claim` if it is `better` or `no-worse:AXIS`; else BadInput with the allowed forms."""
    kind, _, axis = claim.partition(":")
    if claim == "better" or (kind == "no-worse" and axis in GAINS):
        return claim
    if kind == "no-worse":
        raise BadInput(
            f"claim '{claim}' must name what is gained{did_you_mean(axis, GAINS)}: "
            + ", ".join(f"no-worse:{name}" for name in GAINS)
        )
    raise BadInput(f"claim '{claim}' is neither 'better' nor 'no-worse:AXIS', as in no-worse:lines")


# --- reading the code --------------------------------------------------------------------------------------------


def constants(source: str) -> dict[str, Constant]:
    """Module-level `UPPER_CASE = literal` assignments, the last one of a name; arithmetic on literals is worked out, so
    that `1 / 2` is 0.5. Raises SourceError with the line."""
    found = {}
    for node in parse(source).body:
        name, value = assigned(node)
        if name is None or value is None:
            continue
        try:
            found[name] = Constant(name, _literal(value), node.lineno)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, ArithmeticError):
            found.pop(name, None)  # computed from other things: code, not a constant
    return found


def _literal(node: ast.expr) -> Any:
    """The value of a literal, or of arithmetic on numbers. Raises ValueError for all else."""
    if not isinstance(node, ast.BinOp):
        return ast.literal_eval(node)
    left, right = _literal(node.left), _literal(node.right)
    if not all(isinstance(v, int | float) and abs(v) < 1e6 for v in (left, right)):
        raise ValueError("no small numbers")
    for kind, work in _ARITHMETIC.items():
        if isinstance(node.op, kind):
            return work(left, right)
    raise ValueError("no arithmetic")


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda a, b: a**b if abs(b) <= 64 else math.nan,
}


def parse(source: str) -> ast.Module:
    """The module's tree. Raises SourceError for whatever the compiler would not take."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise SourceError(error.msg or "invalid syntax", error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes; nesting beyond the parser's stack
        raise SourceError(str(error) or "too deeply nested", None) from None


def derive(base: Mapping[str, str], candidate: Mapping[str, str], charter: Charter) -> Derived:
    """What changed between the editable texts of two trees, by path. Raises SourceError when the candidate's Python
    does not parse; a base that does not (the candidate may mend it) has no constants."""
    knobs: list[KnobChange] = []
    fresh: list[str] = []
    added = removed = 0
    code_changed = False
    for path in sorted({*base, *candidate}):
        old, new = base.get(path, ""), candidate.get(path, "")
        if old == new and (path in base) == (path in candidate):
            continue
        more, less = _line_counts(old, new, is_python=path.endswith(".py"))
        added, removed = added + more, removed + less
        if not path.endswith(".py"):
            code_changed = True
            continue
        after = constants(new)
        try:
            before = constants(old)
        except SourceError:
            code_changed = True
            continue
        turned = {n for n in before.keys() & after.keys() if repr(before[n].value) != repr(after[n].value)}
        knobs += [KnobChange(n, path, after[n].line, before[n].value, after[n].value) for n in turned]
        fresh += sorted(after.keys() - before.keys())
        code_changed |= _skeleton(old, turned) != _skeleton(new, turned) or (path in base) != (path in candidate)
    knobs.sort(key=lambda knob: (knob.path, knob.line))
    owed = [f"without-{knob.name}" for knob in knobs] if len(knobs) + code_changed > 1 else []
    if owed and code_changed:
        owed.append("without-code")
    return Derived(tuple(knobs), tuple(fresh), added, removed, tuple(owed), not knobs and not code_changed)


def assigned(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    """Name and value of `NAME = …` or `NAME: T = …` at module level; (None, None) for any other statement."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.expr = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None, None
    if isinstance(target, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]*", target.id):
        return target.id, node.value
    return None, None


def _skeleton(source: str, without: set[str]) -> str:
    """The code as one text that knows no comments, docstrings or layout, no notation of a constant, nor the values of
    the constants named."""
    tree = parse(source)
    strip_docstrings(tree)
    known = constants(source)
    for node in tree.body:
        name = assigned(node)[0]
        if name in without or (name in known and known[name].line == node.lineno):
            assert isinstance(node, ast.Assign | ast.AnnAssign) and name is not None
            node.value = ast.Constant(None if name in without else repr(known[name].value))
    return ast.dump(tree)


def _line_counts(old: str, new: str, is_python: bool) -> tuple[int, int]:
    """Lines added and removed."""
    before, after = code_lines(old, is_python), code_lines(new, is_python)
    added = removed = 0
    for tag, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            added, removed = added + d - c, removed + b - a
    return added, removed


def code_lines(text: str, is_python: bool) -> list[str]:
    """The lines that count: of Python the code as one formatter would write it, without comments and docstrings."""
    if is_python:
        try:
            text = ast.unparse(strip_docstrings(parse(text)))
        except (SourceError, RecursionError):
            pass  # a base that does not parse: its lines as they stand
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def code_changes(path: str, was: str, now: str) -> list[str]:
    """A unified diff of one file as code: comments and docstrings of Python are words of whoever wrote them, and no part of
    what runs."""
    before, after = (code_lines(text, path.endswith(".py")) for text in (was, now))
    return changes(path, before, after)


def changes(path: str, was: list[str], now: list[str]) -> list[str]:
    """A unified diff of one file. What lies between its first and its last changed line is compared only up to a length: the
    code is a seat's, and a comparison that takes minutes would be the office's."""
    head = next((at for at, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    tail = 0
    while tail < min(len(was), len(now)) - head and was[-1 - tail] == now[-1 - tail]:
        tail += 1
    if max(len(was), len(now)) - head - tail > COMPARED:
        return [f"--- a/{path}", f"+++ b/{path}", TOO_LONG]
    first, last = max(0, head - 3), max(0, tail - 3)
    parts = difflib.unified_diff(
        was[first : len(was) - last], now[first : len(now) - last], f"a/{path}", f"b/{path}", lineterm=""
    )
    return list(parts)


def code_digest(texts: Mapping[str, str], charter: Charter) -> str:
    """A few digits of what the editable texts run, whatever their comments and layout, as `same_code` compares them. The
    part before the dash is of the form: digests of another Python or of other editable paths say nothing about this one."""
    form = [sys.version_info[:2], charter.editable]
    parts = []
    for path in sorted(texts):
        try:
            parts.append([path, _skeleton(texts[path], set()) if path.endswith(".py") else texts[path]])
        except SourceError:
            parts.append([path, texts[path]])
    return "-".join(hashlib.sha256(json.dumps(part).encode()).hexdigest()[:12] for part in (form, parts))


def same_code(base: Mapping[str, str], candidate: Mapping[str, str], charter: Charter) -> bool:
    """Whether two trees run the same code, whatever their comments and layout."""
    try:
        return derive(base, candidate, charter).is_empty
    except SourceError:
        return False
