"""Comments, docstrings and layout that a candidate dropped or rewrote beside code it did not change, put back. Pure text work."""

from __future__ import annotations

import ast
import difflib
import io
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def restore_comments(base_text: str, cand_text: str) -> tuple[str, list[str]]:
    """The candidate with the base's comments and docstrings back on code that did not change, and one notice for each.

    Comments the candidate adds stay. Where the code changed nothing is touched. Returns the candidate as it is when
    either text does not parse, or when the code would not come out the same to the last node.
    """
    try:
        text, notices = _docstrings(base_text, cand_text)
        text, more = _comments(base_text, text)
        if not (notices or more) or _bare(text) != _bare(cand_text):
            return cand_text, []
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
        return cand_text, []  # not Python: the gate says so in its own words
    return text, notices + more


# --- layout ------------------------------------------------------------------------------------------------------


def restore_layout(base_text: str, cand_text: str) -> tuple[str, list[str]]:
    """The candidate with the base's lines back for every statement that is the same code in other clothes, and one notice
    for each. Returns the candidate as it is when either text does not parse."""
    try:
        base, cand = ast.parse(base_text), ast.parse(cand_text)
        old_rows, rows = base_text.split("\n"), cand_text.split("\n")
        edits = [
            (first - 1, last, old_rows[start - 1 : end], name)
            for (start, end), (first, last), name in _same_statements(base.body, cand.body)
            if _code_of(old_rows[start - 1 : end]) != _code_of(rows[first - 1 : last])
        ]
        for first, last, lines, _ in reversed(edits):
            rows[first:last] = lines
        text = "\n".join(rows)
        if not edits or _bare(text) != _bare(cand_text):
            return cand_text, []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return cand_text, []
    return text, [f"put back the layout of {name}, whose code is the same" for *_, name in edits]


Span = tuple[int, int]  # first and last line of a statement, 1-based


def _same_statements(base: list[ast.stmt], cand: list[ast.stmt]) -> Iterator[tuple[Span, Span, str]]:
    """Statements of two bodies that are the same code, in order; within a class that changed, those of its body."""
    old, new = [_dumped(s) for s in base], [_dumped(s) for s in cand]
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            for i, j in zip(range(a, b), range(c, d), strict=True):
                if _is_alone(base, i) and _is_alone(cand, j):
                    yield _span(base[i]), _span(cand[j]), getattr(base[i], "name", f"line {base[i].lineno}")
        elif tag == "replace":
            known = {s.name: s for s in base[a:b] if isinstance(s, ast.ClassDef)}
            for statement in cand[c:d]:
                if isinstance(statement, ast.ClassDef) and statement.name in known:
                    yield from _same_statements(known[statement.name].body, statement.body)


def _dumped(statement: ast.stmt) -> str:
    return ast.dump(strip_docstrings(ast.parse(ast.unparse(statement))))


def _span(statement: ast.stmt) -> Span:
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    return first, statement.end_lineno or first


def _is_alone(body: list[ast.stmt], i: int) -> bool:
    """Whether the statement shares no line with its neighbours."""
    before = _span(body[i - 1])[1] if i else 0
    after = _span(body[i + 1])[0] if i + 1 < len(body) else sys.maxsize
    return before < _span(body[i])[0] and _span(body[i])[1] < after


def _code_of(rows: list[str]) -> list[str]:
    """Rows without comments, blank ones left out; as they stand when they do not tokenise by themselves."""
    try:
        lines = _lines(textwrap.dedent("\n".join(rows)))
    except (SyntaxError, tokenize.TokenError, IndentationError):
        return rows
    return [line.code.rstrip() for line in lines if line.code.strip()]


# --- comments ----------------------------------------------------------------------------------------------------


@dataclass
class _Line:
    """A physical line of code with the comment lines that stand above it."""

    above: list[str]  # comment lines and blank lines between the code line before and this one, verbatim
    code: str  # without its trailing comment
    comment: str  # the trailing comment with the gap before it, or ""

    @property
    def text(self) -> str:
        return self.code + self.comment


def _lines(text: str) -> list[_Line]:
    """Code lines of a text, and at the end an empty one that carries what follows the last. Raises when it does not tokenise."""
    rows = text.split("\n")
    starts: dict[int, int] = {}  # row -> column of its comment
    inside: set[int] = set()  # rows within a multi-line string
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            starts[token.start[0]] = token.start[1]
        elif token.type not in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            inside.update(range(token.start[0], token.end[0] + 1))
    found: list[_Line] = []
    above: list[str] = []
    for number, row in enumerate(rows, 1):
        if number not in inside:
            above.append(row)
            continue
        cut = starts.get(number)
        code = row if cut is None else row[:cut].rstrip()
        found.append(_Line(above, code, row[len(code) :] if cut is not None else ""))
        above = []
    return [*found, _Line(above, "", "")]


def _comments(base_text: str, cand_text: str) -> tuple[str, list[str]]:
    base, cand = _lines(base_text), _lines(cand_text)
    notices: list[str] = []
    matcher = difflib.SequenceMatcher(
        None, [_key(line) for line in base], [_key(line) for line in cand], autojunk=False
    )
    for a, b, size in matcher.get_matching_blocks():
        for k in range(size):
            old, new = base[a + k], cand[b + k]
            if old.comment and old.comment.strip() not in new.comment:
                new.comment = old.comment
                notices.append(f"put back {old.comment.strip()[:80]!r} on {old.code.strip()[:60]!r}")
            # Right after a changed line only the run of comments touching this one is surely its own.
            same_gap = k > 0 or (a == 0 and b == 0)
            notices += _restore_above(old, new, whole=same_gap)
    return _join(cand), notices


def _join(lines: list[_Line]) -> str:
    rows = [row for line in lines[:-1] for row in [*line.above, line.text]] + lines[-1].above
    return "\n".join(rows)


def _key(line: _Line) -> str:
    return line.code.rstrip()


def _restore_above(old: _Line, new: _Line, whole: bool) -> list[str]:
    """Put the comment lines above `old` back above `new`; what the candidate adds there stays."""
    before, after = (old.above, new.above) if whole else (_touching(old.above), _touching(new.above))
    ours, theirs = [row.strip() for row in before], [row.strip() for row in after]
    lost = [row for row in ours if row.startswith("#")]
    if _is_within(lost, theirs):
        return []
    merged: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "equal" or tag == "insert":
            merged += after[c:d]
        else:  # dropped or rewritten: the base's words
            merged += before[a:b]
    new.above[len(new.above) - len(after) :] = merged
    return [f"put back {row[:80]!r} above {old.code.strip()[:60]!r}" for row in lost if row not in theirs]


def _touching(rows: list[str]) -> list[str]:
    """The run of comment lines that ends right above the code line."""
    first = len(rows)
    while first and rows[first - 1].strip().startswith("#"):
        first -= 1
    return rows[first:]


def _is_within(wanted: list[str], rows: list[str]) -> bool:
    """Whether `wanted` occurs in `rows` in this order."""
    left = iter(rows)
    return all(row in left for row in wanted)


# --- docstrings --------------------------------------------------------------------------------------------------


def _docstrings(base_text: str, cand_text: str) -> tuple[str, list[str]]:
    """Docstrings of modules, classes and functions whose code is the same but for docstrings."""
    base, cand = _documented(base_text), _documented(cand_text)
    base_rows, rows = base_text.split("\n"), cand_text.split("\n")
    edits: list[tuple[int, int, list[str]]] = []
    notices = []
    for name, old in base.items():
        new = cand.get(name)
        doc = _doc(old)
        if doc is None or new is None or ast.get_docstring(old, clean=False) == ast.get_docstring(new, clean=False):
            continue
        # a module's docstring outlives changes of its code; only rewriting it is then the author's affair
        if _dump(old) != _dump(new) and not (name == "" and _doc(new) is None):
            continue
        text = base_rows[doc.lineno - 1 : doc.end_lineno]
        present, first = _doc(new), new.body[0]
        if not _whole_lines(doc, base_rows) or first.col_offset != doc.col_offset:
            continue
        if present is None:
            line = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", []))])
            if rows[line - 1][: first.col_offset].strip():
                continue  # `def f(): return 1`: no line of its own to stand on
            at = _below_header(rows, line - 1) if name else _after_same_rows(base_rows[: doc.lineno - 1], rows)
            edits.append((at, at, text))
        elif _whole_lines(present, rows):
            edits.append((present.lineno - 1, present.end_lineno or present.lineno, text))
        else:
            continue
        notices.append(f"put back the docstring of {name or 'the module'}")
    for start, end, text in sorted(edits, reverse=True):
        rows[start:end] = text
    return "\n".join(rows), notices


def _documented(text: str) -> dict[str, Documented]:
    """Everything that can carry a docstring, by dotted name; a name defined twice is left out."""
    found: dict[str, Documented] = {}
    twice: set[str] = set()

    def visit(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{name}.{child.name}".lstrip(".")
                if inner in found:
                    twice.add(inner)
                found[inner] = child
            visit(child, inner)

    tree = ast.parse(text)
    found[""] = tree
    visit(tree, "")
    return {name: node for name, node in found.items() if name not in twice}


def _doc(node: Documented) -> ast.Expr | None:
    first = node.body[0] if node.body else None
    is_doc = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return first if is_doc and isinstance(first, ast.Expr) else None


def _below_header(rows: list[str], first: int) -> int:
    """The row right below the `def` or `class` line, above comments that stand before its first statement."""
    while first and (not rows[first - 1].strip() or rows[first - 1].strip().startswith("#")):
        first -= 1
    return first


def _after_same_rows(before: list[str], rows: list[str]) -> int:
    """Below what stood above a module's docstring (`#!`, a licence), where that still stands; else the top."""
    return len(before) if rows[: len(before)] == before else 0


def _whole_lines(node: ast.Expr, rows: list[str]) -> bool:
    """Whether the statement has its lines to itself, trailing comment aside."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    head = rows[node.lineno - 1].encode()[: node.col_offset].decode(errors="replace")
    tail = rows[node.end_lineno - 1].encode()[node.end_col_offset :].decode(errors="replace").strip()
    return not head.strip() and (not tail or tail.startswith("#"))


def strip_docstrings(tree: ast.AST) -> ast.AST:
    """`tree` without docstrings, changed in place."""
    for node in ast.walk(tree):
        if isinstance(node, Documented) and _doc(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _dump(node: Documented) -> str:
    return ast.dump(strip_docstrings(ast.parse(ast.unparse(node))))


def _bare(text: str) -> str:
    return ast.dump(strip_docstrings(ast.parse(text)))
