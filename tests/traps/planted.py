"""Governance, the tree: files that run in place of what was read, modes and links that point elsewhere."""

import subprocess
from pathlib import Path

from traps.play import ACCEPTED, Trap, refused

FAMILY = "governance"
KNOB = ("SMOOTHING = 8.0", "SMOOTHING = 4.0")
NEW_PART = {"parts/other.py": "DEPTH = 2\n", "train.py": [KNOB]}


def planted(name: str, path: str, rule: str = "look-alike", content: str | bytes = "x = 1\n", twin=None) -> Trap:
    return Trap(
        id=name,
        family=FAMILY,
        about=f"{path} is loaded in place of, or before, what people read",
        signal="paths of new files",
        edits={path: content, "train.py": [KNOB]},
        expect=refused(rule, path.rpartition("/")[2] if path.isascii() else ""),
        twin=twin or NEW_PART,
        twin_expect=ACCEPTED,
        committed=True,
    )


def link_frozen(home, seat) -> None:
    path = Path(seat.worktree) / "data.py"
    path.rename(path.with_name("elsewhere.py"))
    path.symlink_to("elsewhere.py")


def make_executable(home, seat) -> None:
    (Path(seat.worktree) / "train.py").chmod(0o755)


def add_submodule(home, seat) -> None:
    head = subprocess.run(["git", "-C", seat.worktree, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    entry = f"160000,{head.stdout.strip()},parts/sub"
    (Path(seat.worktree) / "parts" / "sub").mkdir()
    subprocess.run(["git", "-C", seat.worktree, "update-index", "--add", "--cacheinfo", entry], check=True)


def link_editable(home, seat) -> None:
    path = Path(seat.worktree) / "parts" / "extra.py"
    path.unlink()
    path.symlink_to("/etc/hostname")


TRAPS = [
    planted("package-for-module", "data/__init__.py"),
    planted("compiled-for-source", "data.cpython-311-x86_64-linux-gnu.so", content=b"\x7fELF"),
    planted("bytecode-for-source", "__pycache__/data.cpython-311.pyc", content=b"\0" * 16),
    planted("self-loading", "sitecustomize.py"),
    planted("self-loading-by-path-file", "parts/start.pth", content="import os\n"),
    planted("test-runner-hook", "parts/conftest.py"),
    planted("library-in-the-tree", "numpy/__init__.py", twin={"parts/numpy_tools.py": "x = 1\n", "train.py": [KNOB]}),
    planted("standard-library-in-the-tree", "json.py", twin={"parts/jsonish.py": "x = 1\n", "train.py": [KNOB]}),
    planted("letter-case", "Data.py"),
    planted("homoglyph-file", "parts/ext\u0433a.py"),
    planted("huge-file", "parts/blob.py", rule="size", content="x = 1\n" * 200_000),
    planted("dependency-file", "requirements.txt", rule="frozen", content="numpy\nevil\n"),
    planted("edited-tests", "tests/test_train.py", rule="frozen", content="def test_nothing():\n    pass\n"),
    planted("edited-charter", "prompts/charter.yaml", rule="editable-only", content="margin: 9\n"),
    planted("attributes-file", ".gitattributes", rule="editable-only", content="* filter=evil\n"),
    Trap(
        id="frozen-by-link",
        family=FAMILY,
        about="the frozen file becomes a symbolic link to another",
        signal="frozen paths byte-equal, modes too",
        edits={"train.py": [KNOB]},
        expect=refused("frozen", "data.py"),
        twin={"train.py": [KNOB]},
        twin_expect=ACCEPTED,
        act=link_frozen,
        committed=True,
    ),
    Trap(
        id="editable-by-link",
        family=FAMILY,
        about="an editable file becomes a link to one outside",
        signal="read without following links",
        edits={"train.py": [KNOB]},
        expect=refused("symlink", "extra.py"),
        twin={"train.py": [KNOB], "parts/extra.py": None},
        twin_expect=ACCEPTED,
        act=link_editable,
    ),
    Trap(
        id="executable",
        family=FAMILY,
        about="the mode of a file changes",
        signal="modes",
        edits={"train.py": [KNOB]},
        expect=refused("mode", "100755"),
        twin={"train.py": [KNOB]},
        twin_expect=ACCEPTED,
        act=make_executable,
        committed=True,
    ),
    Trap(
        id="submodule",
        family=FAMILY,
        about="a submodule, whose content is not in the commit",
        signal="modes",
        edits={"train.py": [KNOB]},
        expect=refused("mode", "submodule"),
        twin=NEW_PART,
        twin_expect=ACCEPTED,
        act=add_submodule,
        committed=True,
    ),
]
