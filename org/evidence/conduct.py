"""What an experiment's code may not begin to do: hide from the reader, reach into other modules, carry data. Pure.

Only what is new counts: what the base does already, and code that moved from one editable file to another, stays.
Reads syntax, proves nothing: walls, clock and referee hold whatever the text says.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from org.records import Violation

MAX_LITERALS = (
    8_000  # characters of literals that a diff may add: a kernel's text fits, what was learned elsewhere does not
)

_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
_DYNAMIC_NAMES = {"exec", "eval", "compile", "__import__", "globals", "__builtins__"}
_DYNAMIC_MODULES = {"importlib", "runpy", "builtins", "ctypes", "marshal", "imp"}
_DYNAMIC_ATTRIBUTES = {
    "__code__",
    "__globals__",
    "__builtins__",
    "__subclasses__",
    "f_globals",
    "f_locals",
    "f_builtins",
    "_getframe",
}
_INTERPRETER = {"modules", "path", "meta_path", "path_hooks", "settrace", "setprofile", "addaudithook"}  # of sys
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069]")
_SCRIPTS = ("CYRILLIC", "ARMENIAN", "CHEROKEE", "FULLWIDTH", "MATHEMATICAL")  # letters drawn like Latin ones


@dataclass(frozen=True)
class _Use:
    """One use of something the rules name. `key` tells uses apart, so that an old one is no excuse for another."""

    rule: str
    key: str
    line: int
    message: str


def misconduct(
    base: Mapping[str, str], cand: Mapping[str, str], frozen: Iterable[str] = (), knobs: Iterable[str] = ()
) -> list[Violation]:
    """What the candidate's editable texts do that the base's do not. Texts that do not parse are left to others.

    frozen: paths whose modules nobody patches. knobs: names that stay one literal on one line."""
    modules = {path.rpartition("/")[2].removesuffix(".py") for path in frozen if path.endswith(".py")}
    names = {name.upper() for name in knobs}
    old = Counter((use.rule, use.key) for text in base.values() for use in _uses(text, modules, names))
    found = []
    for path, text in sorted(cand.items()):
        if not path.endswith(".py") or base.get(path) == text:
            for use in _uses(text, modules, names) if path.endswith(".py") else ():
                old[use.rule, use.key] -= 1
            continue
        for use in _uses(text, modules, names):
            old[use.rule, use.key] -= 1
            if old[use.rule, use.key] < 0:
                found.append(Violation(use.rule, path, use.line, f"{path} line {use.line}: {use.message}"))
    return found + _literals(base, cand)


def _uses(text: str, frozen: set[str], knobs: set[str]) -> list[_Use]:
    tree = _parsed(text)
    if tree is None:
        return []
    return [*_look_alikes(text), *_hidden(tree), *_patches(tree, frozen), *_bindings(tree, knobs)]


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


# --- letters -----------------------------------------------------------------------------------------------------


def _look_alikes(text: str) -> Iterator[_Use]:
    """Names that read as others, and characters that nobody sees. Greek letters are ordinary."""
    for number, row in enumerate(text.split("\n"), 1):
        if _INVISIBLE.search(row):
            yield _Use("look-alike", row, number, "has invisible or direction-changing characters; remove them")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError, ValueError):
        return
    for token in tokens:
        if token.type == tokenize.NAME and not token.string.isascii() and _reads_as_another(token.string):
            yield _Use(
                "look-alike",
                token.string,
                token.start[0],
                f"the name {token.string!a} reads as another; write it in Latin letters",
            )


def _reads_as_another(name: str) -> bool:
    if unicodedata.normalize("NFKC", name) != name:
        return True
    scripts = {unicodedata.name(c, "").partition(" ")[0] for c in name if c.isalpha()}
    return bool(scripts & set(_SCRIPTS)) or ("LATIN" in scripts and len(scripts) > 1)


# --- code that cannot be read --------------------------------------------------------------------------------------


def _hidden(tree: ast.Module) -> Iterator[_Use]:
    set_outright = {id(node.value) for node in _settings(tree)}
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 1)
        if isinstance(node, ast.Attribute):
            if node.attr in _ENVIRONMENT and id(node) not in set_outright:
                yield _environment(ast.unparse(_whole(node, parents)), line)
            elif node.attr in _DYNAMIC_ATTRIBUTES or (
                isinstance(node.value, ast.Name) and node.value.id == "sys" and node.attr in _INTERPRETER
            ):
                yield _dynamic(ast.unparse(node), line)
        elif isinstance(node, ast.Name) and node.id in _DYNAMIC_NAMES and isinstance(node.ctx, ast.Load):
            yield _dynamic(node.id, line)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in _DYNAMIC_MODULES:
                    yield _dynamic(alias.name, line)
        elif isinstance(node, ast.ImportFrom):
            yield from _from_import(node)


def _whole(node: ast.expr, parents: Mapping[int, ast.AST]) -> ast.AST:
    """The call or item that `node` is the root of: `os.environ.get("A")`, whatever surrounds it."""
    whole: ast.AST = node
    while isinstance(above := parents.get(id(whole)), ast.Attribute | ast.Subscript | ast.Call):
        if whole is not (above.func if isinstance(above, ast.Call) else above.value):
            break
        whole = above
    return whole


def _from_import(node: ast.ImportFrom) -> Iterator[_Use]:
    module = (node.module or "").partition(".")[0]
    for alias in node.names:
        if module == "os" and alias.name in _ENVIRONMENT:
            yield _environment(f"os.{alias.name}", node.lineno)
        elif module in _DYNAMIC_MODULES or (module == "sys" and alias.name in _INTERPRETER):
            yield _dynamic(f"{module}.{alias.name}", node.lineno)
        elif alias.name == "*":
            message = f"`from {node.module} import *` may rebind any name; import the names that are used"
            yield _Use("dynamic", f"* {node.module}", node.lineno, message)


def _settings(tree: ast.Module) -> Iterator[ast.Subscript]:
    """`os.environ["NAME"] = "literal"`: says in the open how a library is set."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    yield target


def _environment(what: str, line: int) -> _Use:
    return _Use("environment", what, line, f"{what} is read, so the run depends on what no diff shows; use a constant")


def _dynamic(what: str, line: int) -> _Use:
    return _Use("dynamic", what, line, f"{what} makes code that no reader sees; write the code itself")


# --- other people's modules ------------------------------------------------------------------------------------------


def _patches(tree: ast.Module, frozen: set[str]) -> Iterator[_Use]:
    """Assignments to attributes of what was imported. A library's own literal setting is none; the clock, the frozen
    modules and functions put in place of functions are."""
    imported = _imported(tree)
    for scope, node in _with_scope(tree):
        for target, value in _attribute_targets(node):
            root = _root(target)
            if root is None or root in scope or root not in imported:
                continue
            module = imported[root]
            is_ours = module in frozen or module.partition(".")[0] in (frozen | set(sys.stdlib_module_names))
            if is_ours or not isinstance(value, ast.Constant):
                what = ast.unparse(target)
                yield _Use(
                    "patch",
                    what,
                    node.lineno,
                    f"{what} is of {module}, which others use too; call a function of your own",
                )


def _imported(tree: ast.Module) -> dict[str, str]:
    """Name in this file -> the module it is or came from."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = (node.module or alias.name).rpartition(".")[2]
    return found


Targets = Iterator[tuple[ast.expr, ast.expr | None]]


def _attribute_targets(node: ast.AST) -> Targets:
    """(what is written, its new value) of assignments, deletions and setattr calls; names of one's own left out."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            for single in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
                yield from _if_attribute(single, node.value)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        yield from _if_attribute(node.target, node.value)
    elif isinstance(node, ast.Delete):
        for target in node.targets:
            yield from _if_attribute(target, None)
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("setattr", "delattr")
        and len(node.args) >= 2
    ):
        yield node.args[0], node.args[2] if len(node.args) > 2 else None


def _if_attribute(target: ast.expr, value: ast.expr | None) -> Targets:
    if isinstance(target, ast.Attribute) or (
        isinstance(target, ast.Subscript) and "__dict__" in ast.unparse(target.value)
    ):
        yield target, value


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Name) and node.id == "vars":
            return None
    return node.id if isinstance(node, ast.Name) else None


def _with_scope(tree: ast.Module) -> Iterator[tuple[frozenset[str], ast.stmt | ast.Call]]:
    """Every statement and call, with the names that its functions bind themselves."""

    def visit(node: ast.AST, scope: frozenset[str]) -> Iterator[tuple[frozenset[str], ast.stmt | ast.Call]]:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inner = scope | _local_names(child)
            if isinstance(child, ast.stmt | ast.Call):
                yield inner, child
            yield from visit(child, inner)

    yield from visit(tree, frozenset())


def _local_names(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> frozenset[str]:
    given = function.args
    names = {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg) if a}
    shared = {n for node in ast.walk(function) if isinstance(node, ast.Global) for n in node.names}
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return frozenset(names | (stored - shared))


# --- knobs and data --------------------------------------------------------------------------------------------------


def _bindings(tree: ast.Module, knobs: set[str]) -> Iterator[_Use]:
    """Every place that gives a knob its value: a second one makes the line that people read a decoy."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in knobs:
            yield _Use(
                "constant", node.id, node.lineno, f"{node.id} gets a value here too; leave it one literal on one line"
            )


def _literals(base: Mapping[str, str], cand: Mapping[str, str]) -> list[Violation]:
    grown = _literal_size(cand) - _literal_size(base)
    if grown <= MAX_LITERALS:
        return []
    path = max(cand, key=lambda p: _literal_size({p: cand[p]}) - _literal_size({p: base.get(p, "")}))
    message = (
        f"{path} has {grown:,} more characters of literals, over {MAX_LITERALS:,}: that is data; let the code learn it"
    )
    return [Violation("data", path, None, message)]


def _literal_size(texts: Mapping[str, str]) -> int:
    """Characters of the literals in Python texts without docstrings; of other texts, all."""
    total = 0
    for path, text in texts.items():
        tree = _parsed(text) if path.endswith(".py") else None
        if tree is None:
            total += len(text)
            continue
        doc = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
        total += sum(len(repr(n.value)) for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in doc)
    return total
