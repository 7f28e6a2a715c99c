"""The map of the rooms: imports point down only. Reads the source, imports nothing, so that a lazy import counts too."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GROUND = {
    "org",
    "org.errors",
    "org.expressions",
    "org.failpoint",
    "org.files",
    "org.strictyaml",
    "org.home",
    "org.records",
    "org.charter",
    "org.schema",
    "org.validation",
    "org.backendschema",
    "org.times",
    "org.words",
}
# also without gitcall: the rooms above say what they want of a repository, world.git and its neighbours how to ask git
WORLD_BUT_TMUX = {
    "org.world.git",
    "org.world.worktrees",
    "org.world.folders",
    "org.world.graft",
    "org.world.confine",
    "org.world.devices",
    "org.world.process",
    "org.world.watch",
}

# room -> modules or rooms that it may import; its own modules always
ALLOWED = {
    "evidence": GROUND,
    "world": GROUND,
    "agents": GROUND,
    "lab": GROUND | WORLD_BUT_TMUX | {"org.evidence"},
    "team": GROUND | {"org.evidence", "org.world", "org.lab", "org.agents"},
    "bench": GROUND
    | {
        "org.evidence",
        "org.lab",
        "org.agents.arrays",
        "org.agents.offline",
        "org.agents.search",
        "org.agents.knobs",
        "org.agents.decisions",
    },
    "cli": GROUND | {"org.evidence", "org.world", "org.lab", "org.agents", "org.team", "org.bench"},
}
GROUND_PACKAGES = {"yaml", "pydantic"}  # pydantic in the schemas only
PURE_BANNED = {"os", "time", "subprocess", "socket", "tempfile", "shutil"}  # evidence: no files, no clock
# a package -> the only modules that may import it at their top; inside a function anybody may
HEAVY = {
    "torch": (),
    "optuna": (),
    "matplotlib": (),
    "libtmux": (),
    "anthropic": (),
    "openai": (),
    "git": (),
    "rich": (),
    "tiktoken": (),
    "watchdog": ("org.world.watch",),
    "pydantic": ("org.validation", "org.schema", "org.backendschema"),
}


def modules(root: Path = ROOT / "org") -> list[Path]:
    return sorted(root.rglob("*.py"))


def name_of(path: Path, root: Path = ROOT) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def imports(path: Path, module: str) -> list[tuple[str, int, bool]]:
    """(imported module, line, whether at the module's top level), `from org.lab import gate` as org.lab.gate."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    inside: set[int] = set()
    for node in ast.walk(tree):
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if lazy or typing_only:
            inside |= {id(child) for child in ast.walk(node)}
    found: list[tuple[str, int, bool]] = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            for _ in range(max(0, node.level - 1)):
                package = package.rpartition(".")[0]
            base = ".".join(part for part in (package if node.level else "", node.module or "") if part)
            names = [f"{base}.{alias.name}" for alias in node.names] if base.split(".")[0] == "org" else [base]
        found += [(name, node.lineno, id(node) not in inside) for name in names]  # type: ignore[attr-defined]
    return found


def resolve(name: str, known: set[str]) -> str:
    """The module that `org.lab.gate.submit` means: org.lab.gate."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def is_allowed(module: str, target: str) -> bool:
    room = module.split(".")[1] if "." in module else ""
    if module in GROUND:
        return target in GROUND
    if module == "org.__main__":
        return target.startswith("org.cli")
    if target in (module, f"org.{room}") or target.startswith(f"org.{room}."):
        return True
    allowed = ALLOWED[room]
    return target in allowed or any(target.startswith(f"{name}.") for name in allowed - {"org"})


def upward(root: Path) -> list[str]:
    """Every import of `root`/org that the table does not allow, as `module:line imports target`."""
    paths = modules(root / "org")
    known = {name_of(path, root) for path in paths}
    found = []
    for path in paths:
        module = name_of(path, root)
        for name, line, _ in imports(path, module):
            target = resolve(name, known)
            if target.split(".")[0] == "org" and not is_allowed(module, target):
                found.append(f"{module}:{line} imports {target}")
    return found


def test_imports_point_down_only() -> None:
    assert upward(ROOT) == []


@pytest.mark.parametrize(
    ("module", "line", "is_fine"),
    [
        ("evidence/stats", "from org.records import Verdict", True),
        ("evidence/stats", "from org.lab import ledger", False),
        ("agents/offline", "from org.team import mail", False),
        ("lab/gate", "from org.world import git", True),
        ("lab/gate", "import org.world.tmux", False),
        ("lab/gate", "def late():\n    from org.world.tmux import Server", False),
        ("lab/gate", "from org.world import tmuxwords", False),
        ("lab/gate", "from org.world import gitcall", False),
        ("files", "from org import charter", True),
        ("files", "from org.world import git", False),
        ("team/office", "from org.cli import view", False),
        ("world/git", "from ..lab import gate", False),
    ],
)
def test_the_table_sees_an_upward_import(tmp_path: Path, module: str, line: str, is_fine: bool) -> None:
    for path in modules():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("")
    for name in (module, "world/tmux", "lab/gate"):
        (tmp_path / "org" / f"{name}.py").touch()
    (tmp_path / "org" / f"{module}.py").write_text(line + "\n")
    assert (upward(tmp_path) == []) is is_fine


def test_the_ground_rests_on_the_standard_library_and_yaml() -> None:
    for module in GROUND:
        path = ROOT / (module.replace(".", "/") + ".py")
        path = path if path.is_file() else ROOT / module.replace(".", "/") / "__init__.py"
        packages = {name.split(".")[0] for name, _, _ in imports(path, module)}
        assert packages - set(sys.stdlib_module_names) - {"org"} <= GROUND_PACKAGES, module


def test_evidence_reads_no_file_and_no_clock() -> None:
    for path in modules(ROOT / "org" / "evidence"):
        found = {name.split(".")[0] for name, _, _ in imports(path, name_of(path))} & PURE_BANNED
        assert not found, f"{name_of(path)} imports {found}"
        assert not re.search(r"\bPath\b", path.read_text()), f"{name_of(path)} uses a Path that can read files"


def test_heavy_packages_are_imported_inside_functions() -> None:
    for path in modules():
        module = name_of(path)
        for name, line, is_top in imports(path, module):
            package = name.split(".")[0]
            if is_top and package in HEAVY:
                assert module in HEAVY[package], f"{module}:{line} imports {package} at its top"


def test_every_module_says_what_it_is_in_its_first_line() -> None:
    for path in modules():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert text and text.splitlines()[0].strip(), path


@pytest.mark.slow  # imports what the package imports, a hundred times
def test_every_module_can_be_imported_first() -> None:
    """Each in an interpreter that has none of the others yet: no cycle is hidden by who came before."""
    names = [name_of(path) for path in modules() if path.name != "__main__.py"]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for known in [m for m in sys.modules if m.split('.')[0] == 'org']:\n"
        "        del sys.modules[known]\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError as error:\n"
        "        print(f'{name}: {error}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""
