"""What a candidate tree may not be: frozen paths, odd modes, look-alike names, constants made unreadable, a reason that
contradicts the diff. Pure; knows no git.

Not a security boundary: it stops mistakes and the known tricks; the frozen files laid over every export stop the rest.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath

from org.evidence.conduct import misconduct
from org.evidence.contract import Derived, SourceError, assigned, constants, derive, parse
from org.records import Charter, Violation

__all__ = ["check_why", "left_behind", "matches", "matches_any", "violations"]

MAX_FILE_BYTES = 512 * 1024

# Imported by name from code that scores or trains: a file of this name anywhere in the tree is a trap, not an idea.
IMPORTED = frozenset({"torch", "numpy", "tiktoken", "rustbpe", "yaml", "nanochat", "org"})
# Loaded by the interpreter or a test runner without being asked for.
SELF_LOADING = frozenset({"sitecustomize", "usercustomize", "conftest"})
BINARY_MODULES = (".pth", ".so", ".pyd", ".pyc", ".pyo", ".dylib", ".egg-link")

Files = Mapping[str, tuple[str, str]]  # path -> (git mode, sha)


def violations(
    base_files: Files, cand_files: Files, texts_base: Mapping[str, str], texts_cand: Mapping[str, str], charter: Charter
) -> list[Violation]:
    """Every reason to refuse the candidate tree, each with what to do about it. An empty list means it may run."""
    changed = sorted(p for p in {*base_files, *cand_files} if base_files.get(p) != cand_files.get(p))
    found = []
    for path in changed:
        problem = (
            _frozen(path, charter)
            or _shape(path, base_files, cand_files)
            or _look_alike(path, base_files, cand_files, charter)
            or _outside(path, base_files, cand_files, charter)
        )
        if problem:
            found.append(problem)
    found += _bad_texts(texts_base, texts_cand)
    if not found:
        knobs = list(charter.knobs)
        frozen = [path for path in base_files if matches_any(path, charter.frozen)]
        found += _computed(texts_base, texts_cand, {name.upper() for name in knobs})
        found += misconduct(texts_base, texts_cand, frozen, knobs)
    if not found:
        found += _nothing(texts_base, texts_cand, changed, charter)
    return found


def _frozen(path: str, charter: Charter) -> Violation | None:
    if not matches_any(path, charter.frozen):
        return None
    return Violation(
        "frozen", path, None, f"{path} is frozen by the charter; put it back as it is on the program's head"
    )


def _shape(path: str, base: Files, cand: Files) -> Violation | None:
    if path not in cand:
        return None
    mode, before = cand[path][0], base.get(path, ("100644", ""))[0]
    kinds = {"120000": "a symbolic link", "160000": "a submodule"}
    if mode in kinds:
        message = f"{path} is {kinds[mode]}, which points outside what is measured; commit a regular file"
        return Violation("mode", path, None, message)
    if mode != before:
        return Violation(
            "mode", path, None, f"the mode of {path} is {mode}, not {before}; run `chmod {before[-3:]}` on it"
        )
    return None


def _outside(path: str, base: Files, cand: Files, charter: Charter) -> Violation | None:
    if matches_any(path, charter.editable):
        return None
    verb = "changed" if path in base and path in cand else "added" if path in cand else "removed"
    message = f"{path} was {verb}, and only {', '.join(charter.editable)} may change; take it out of the commit"
    return Violation("editable-only", path, None, message)


def _look_alike(path: str, base: Files, cand: Files, charter: Charter) -> Violation | None:
    """A new file that something imports, loads or reads in place of what it seems to be."""
    if path in base or path not in cand:
        return None
    why = _mistaken_for(path, base, charter)
    return Violation("look-alike", path, None, f"{path} {why}; give it another name or drop it") if why else None


def _mistaken_for(path: str, base: Files, charter: Charter) -> str:
    parts = PurePosixPath(path)
    names = [part.partition(".")[0] for part in parts.parts]
    if not path.isascii() or not path.isprintable() or "\\" in path:
        return "has characters that read as others"
    twin = next((other for other in base if other != path and other.casefold() == path.casefold()), None)
    if twin:
        return f"differs from {twin} by letter case only"
    if path.endswith(BINARY_MODULES) or "__pycache__" in parts.parts:
        return "is loaded in place of source that people can read"
    if names[-1] in SELF_LOADING:
        return "is loaded by the interpreter without being imported"
    shadowed = next((f"{folder}.py" for folder in parts.parents if f"{folder}.py" in base), None)
    if shadowed:
        return f"lies in a folder that is imported in place of {shadowed}"
    if path.endswith(".py") and any(other.startswith(path[:-3] + "/") for other in base):
        return f"has the name of the folder {path[:-3]}/"
    # the first folder is where the code under study itself lies
    inner = names[1:] if len(names) > 1 and any(o.startswith(f"{parts.parts[0]}/") for o in base) else names
    hidden = next((name for name in inner if name in IMPORTED), None)
    if hidden:
        return f"is imported in place of {hidden}"
    if str(parts.parent) in _import_roots(charter) and names[-1] in sys.stdlib_module_names and path.endswith(".py"):
        return f"is imported in place of Python's own {names[-1]}"
    if len(names) > 1 and "." in _import_roots(charter) and names[0] in sys.stdlib_module_names:
        return f"is imported in place of Python's own {names[0]}"
    return ""


def _import_roots(charter: Charter) -> set[str]:
    """Folders of the tree that Python searches first: the root for `-m`, a script's own folder."""
    scripts = [word for word in charter.command.split() if word.endswith(".py")]
    return {".", *(str(PurePosixPath(script).parent) for script in scripts)}


def _bad_texts(base: Mapping[str, str], cand: Mapping[str, str]) -> list[Violation]:
    found = []
    for path, text in sorted(cand.items()):
        if base.get(path) == text:
            continue
        size = len(text.encode(errors="replace"))
        if size > MAX_FILE_BYTES:
            message = (
                f"{path} has {size // 1024} KB, more than {MAX_FILE_BYTES // 1024}; data does not belong in the code"
            )
            found.append(Violation("size", path, None, message))
        elif path.endswith(".py"):
            try:
                parse(text)
            except SourceError as error:
                where = f" line {error.line}" if error.line else ""
                message = f"{path}{where}: {error}; mend it, then run again"
                found.append(Violation("syntax", path, error.line, message))
    return found


def _computed(base: Mapping[str, str], cand: Mapping[str, str], knobs: set[str]) -> list[Violation]:
    """Knobs that were a literal and are computed now: nobody could say what was turned, nor turn it again."""
    found = []
    for path, text in sorted(cand.items()):
        if not path.endswith(".py") or base.get(path, text) == text:
            continue
        try:
            before = constants(base[path])
        except SourceError:
            continue
        after = constants(text)
        for node in parse(text).body:
            name, _ = assigned(node)
            if name in knobs and name in before and name not in after:
                message = (
                    f"{path} line {node.lineno}: {name} is a knob and is computed now; write its value as a literal"
                )
                found.append(Violation("constant", path, node.lineno, message))
    return found


def left_behind(
    base: Mapping[str, str], cand: Mapping[str, str], others: Collection[str], charter: Charter
) -> list[Violation]:
    """Changed files that begin to import one that stays behind in the worktree: the run would end at that line. others:
    paths that lie in the worktree and are no part of the experiment. What a file imported before is found without them,
    whatever lies about under that name (`json.py`)."""
    found = []
    for path, text in sorted(cand.items()):
        if not path.endswith(".py") or base.get(path) == text:
            continue
        before = {p for node in ast.walk(parse(base.get(path, ""))) for p in _imported(node, path, charter)}
        for node in ast.walk(parse(text)):
            missing = next((p for p in _imported(node, path, charter) if p in others and p not in before), None)
            if missing:
                line = node.lineno  # type: ignore[attr-defined]
                message = (
                    f"{path} line {line} imports {missing}, which is not part of the experiment: "
                    f"only {', '.join(charter.editable)} are; put its code there"
                )
                found.append(Violation("left-behind", path, line, message))
    return found


def _imported(node: ast.AST, path: str, charter: Charter) -> Iterator[str]:
    """Files of the tree that an import statement in `path` may mean."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names] + [node.module or ""]
    level = node.level if isinstance(node, ast.ImportFrom) else 0
    folders = PurePosixPath(path).parents
    roots = [str(folders[min(level, len(folders)) - 1])] if level else sorted(_import_roots(charter))
    for name, root in itertools.product(filter(None, names), roots):
        module = PurePosixPath(root, *name.split("."))
        yield from (f"{module}.py", f"{module}/__init__.py")


def check_why(why: str, base: Mapping[str, str], derived: Derived) -> list[Violation]:
    """Where the reason given and the diff contradict each other: it names knobs and none of them was turned, or it says
    a value that the knob did not get."""
    known: set[str] = set()
    for path, text in base.items():
        if path.endswith(".py"):
            try:
                known |= constants(text).keys()
            except SourceError:
                continue
    turned = {knob.name: knob for knob in derived.knobs}
    named = [name for name in sorted(known) if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", why, re.IGNORECASE)]
    if named and turned and not turned.keys() & set(named):
        message = f"the reason names {', '.join(named)}, and the diff turns {', '.join(turned)}; say what was done"
        return [Violation("description", None, None, message)]
    found = []
    for name in named:
        said = re.search(rf"(?<!\w){re.escape(name)}\b[^.,;\d]{{0,20}}?({_FROM_TO})", why, re.IGNORECASE)
        if said is None:
            continue
        value = float(said[3])
        is_same = name in turned and isinstance(turned[name].new, int | float) and math.isclose(turned[name].new, value)
        if not is_same:
            is_now = f"{turned[name].new!r}" if name in turned else "not turned"
            message = f"the reason says {name} to {said[3]}, and in the diff it is {is_now}; say what was done"
            found.append(Violation("description", None, None, message))
    return found


_VALUE = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_FROM_TO = rf"({_VALUE})?\s*(?:->|\u2192|=|\bto\b)\s*({_VALUE})(?![\w.]*\w)"


def _nothing(base: Mapping[str, str], cand: Mapping[str, str], changed: list[str], charter: Charter) -> list[Violation]:
    allowed = ", ".join(charter.editable)
    if not changed and dict(base) == dict(cand):
        return [Violation("empty", None, None, f"nothing changed: edit an editable path first: {allowed}")]
    if derive(base, cand, charter).is_empty:
        message = f"only comments or layout changed, so there is nothing to measure: change code in {allowed}"
        return [Violation("empty", None, None, message)]
    return []


def matches_any(path: str, globs: Iterable[str]) -> bool:
    return any(matches(path, glob) for glob in globs)


def matches(path: str, glob: str) -> bool:
    """Whether `path` fits `glob`: `*` and `?` stay within one folder, `**` crosses folders, `folder/` is all below it."""
    return _compiled(glob).fullmatch(path) is not None


@lru_cache(maxsize=256)
def _compiled(glob: str) -> re.Pattern[str]:
    if glob.endswith("/"):
        glob += "**"
    pattern, i = "", 0
    while i < len(glob):
        if glob.startswith("**/", i):
            pattern, i = pattern + "(?:[^/]+/)*", i + 3
        elif glob.startswith("**", i):
            pattern, i = pattern + ".*", i + 2
        elif glob[i] == "*":
            pattern, i = pattern + "[^/]*", i + 1
        elif glob[i] == "?":
            pattern, i = pattern + "[^/]", i + 1
        elif glob[i] == "[" and (end := glob.find("]", i + 2)) > 0:
            inside = glob[i + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            inside = "^/" + inside[1:] if inside.startswith("!") else inside.replace("^", r"\^")
            pattern, i = pattern + f"[{inside}]", end + 1
        else:
            pattern, i = pattern + re.escape(glob[i]), i + 1
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error:  # such as the range [z-a]: then it is a name, not a pattern
        return re.compile(re.escape(glob))
