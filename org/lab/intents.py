"""The design-intent registry: why a line of the code is the way it is, and what it takes to change it.

Anchors are symbols (`Attention.forward`), constants, or words of a line; they are found again wherever the code moved.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from org import strictyaml
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
    scales: tuple[str, ...] = ()  # of the charter: a change has to be shown at each of them


def load(path: Path) -> list[Intent]:
    """The intents of a home. Raises BadInput naming the entry and the field."""
    rows = strictyaml.read(path)
    if not isinstance(rows, list):
        raise BadInput(f"{path}: expected a list of intents, each beginning with `- id:`")
    found: list[Intent] = []
    for number, row in enumerate(rows, 1):
        intent = _checked(row, f"{path}: intent {number}")
        if any(intent.id == other.id for other in found):
            raise BadInput(f"{path}: two intents have the id '{intent.id}'; rename one")
        found.append(intent)
    return found


def check_scales(intents: Iterable[Intent], known: Collection[str], path: Path) -> None:
    """BadInput for the first scale that the charter does not have."""
    for intent in intents:
        for scale in intent.scales:
            if scale not in known:
                raise BadInput(
                    f"{path}: '{intent.id}': scale '{scale}'{did_you_mean(scale, known)} is not in the charter; "
                    f"it has {', '.join(known)}"
                )


def touched(intents: Iterable[Intent], base_text: str, cand_text: str, path: str) -> list[Intent]:
    """The intents of `path` whose code differs between the two texts. Moving it, or changing its comments, is no touch.
    An anchor that the base does not have watches nothing."""
    if base_text == cand_text:
        return []
    mine = [intent for intent in intents if intent.path == path]
    before, after = _symbols(base_text), _symbols(cand_text)
    return [i for i in mine if (old := _anchored(i, base_text, before)) and old != _anchored(i, cand_text, after)]


def rebound(intents: Iterable[Intent], base: Mapping[str, str], cand: Mapping[str, str]) -> list[Intent]:
    """Intents whose anchored code stands as it was and is not what runs: the candidate binds its name again, in the same
    file or from another, by assignment, definition, import or setattr. `base`, `cand`: editable texts by path."""
    found = []
    for intent in intents:
        before, after = (_rebindings(intent, texts, base.get(intent.path, "")) for texts in (base, cand))
        if after - before:
            found.append(intent)
    return found


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
        if key == "scales":
            if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
                raise BadInput(f"{where}: scales must be a list of the charter's scales, such as [smoke, demo]")
        elif not isinstance(value, str):
            raise BadInput(f"{where}: {key} must be text, not {value!r:.40}")
    for key in ("id", "path", "anchor", "why"):
        if not str(row.get(key, "")).strip():
            raise BadInput(f"{where}: {key} is missing")
    texts = {key: " ".join(str(value).split()) for key, value in row.items() if key != "scales"}
    intent = Intent(**texts, scales=tuple(row.get("scales") or ()))
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


def _rebindings(intent: Intent, texts: Mapping[str, str], anchored: str) -> Counter[str]:
    """How often, and how, each text gives the anchored name a value. For an anchor within a line: the names it assigns,
    in their function."""
    symbols = _symbols(anchored)
    if symbols is None:
        return Counter()
    if intent.anchor not in symbols:
        return _reassigned(intent, texts.get(intent.path, ""), anchored)
    leaf, is_inner = intent.anchor.rpartition(".")[2], "." in intent.anchor
    found: Counter[str] = Counter()
    for path, text in texts.items():
        tree = _tree(text) if path.endswith(".py") else None
        for node in ast.walk(tree) if tree else ():
            if _binds_from_afar(node, leaf) or (path == intent.path and not is_inner and _imports_as(node, leaf)):
                found[ast.unparse(node)] += 1
        if tree and path == intent.path:
            names = _outside_functions(tree) if not is_inner else []
            found.update(ast.unparse(n) for n in names if isinstance(n, ast.Name) and n.id == leaf)
            found.update(_defined(tree, leaf))
            found.update(name for name in _globals(tree) if name == leaf)
            if is_inner:  # the class itself put aside
                top = intent.anchor.partition(".")[0]
                found.update(n.id for n in _outside_functions(tree) if isinstance(n, ast.Name) and n.id == top)
                found.update(f"import {top}" for n in ast.walk(tree) if _imports_as(n, top))
                found.update(_defined(tree, top))
    return found


def _binds_from_afar(node: ast.AST, name: str) -> bool:
    """`x.name = …`, `x["name"] = …`, `setattr(x, "name", …)`."""
    if isinstance(node, ast.Attribute):
        return node.attr == name and not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Subscript):
        is_named = isinstance(node.slice, ast.Constant) and node.slice.value == name
        return is_named and not isinstance(node.ctx, ast.Load)
    is_setting = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setattr"
    return is_setting and any(isinstance(a, ast.Constant) and a.value == name for a in node.args)  # type: ignore[attr-defined]


def _imports_as(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names)


def _defined(tree: ast.AST, name: str) -> list[str]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [f"def {name}" for node in ast.walk(tree) if isinstance(node, kinds) and node.name == name]


def _globals(tree: ast.AST) -> list[str]:
    return [name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names]


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Stored names that are the module's own."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node
        yield from _outside_functions(node)


def _reassigned(intent: Intent, text: str, anchored: str) -> Counter[str]:
    """Values given, in the same function, to the names that the anchored line assigns."""
    found: Counter[str] = Counter()
    for function, names in _assigned_by(intent.anchor, anchored):
        for node in _functions(text).get(function, ()):
            stored = (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
            found.update(f"{function} {name}" for name in stored if name in names)
    return found


def _assigned_by(anchor: str, text: str) -> list[tuple[str, set[str]]]:
    found = []
    tree = _tree(anchor)
    anchor = ast.unparse(tree) if tree else anchor  # in the notation of what it is compared with
    for name, nodes in _functions(text).items():
        for node in nodes:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Assign | ast.AugAssign | ast.AnnAssign) and anchor in ast.unparse(inner):
                    targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                    names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
                    found.append((name, names))
    return found


def _functions(text: str) -> dict[str, list[ast.stmt]]:
    symbols = _symbols(text) or {}
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {name: [n for n in nodes if isinstance(n, kinds)] for name, nodes in symbols.items()}


def _tree(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _symbols(text: str) -> dict[str, list[ast.stmt]] | None:
    """Functions, classes and assigned module names, by dotted name; None when the text is not Python."""
    tree = _tree(text)
    if tree is None:
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
