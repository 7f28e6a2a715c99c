"""The entry points in scripts/: they parse, refuse what they do not know, and the second set-up takes no time."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("scripts/setup", "scripts/demo", "scripts/test", "scripts/check", "scripts/bench", ".ci/run")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_executable_and_parses(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)


def checkout(folder: Path) -> Path:
    """A checkout whose .venv holds stand-ins for python and org: set-up is only asked what it would do."""
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "org"):
        program = folder / ".venv" / "bin" / name
        program.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/../calls"\n')
        program.chmod(0o755)
    return folder


def setup(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ["bash", str(folder / "scripts" / "setup"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_second_setup_does_nothing_until_the_project_changes(odd_path: Path) -> None:
    folder = checkout(odd_path / "a checkout")
    calls = folder / ".venv" / "calls"
    first = setup(folder)
    assert first.returncode == 0, first.stderr
    assert "done in" in first.stdout
    assert "-e .[train,dev]" in calls.read_text()
    calls.unlink()
    started = time.monotonic()
    assert setup(folder).stdout == ""
    assert setup(folder, "dev").stdout == ""  # all holds dev too
    assert time.monotonic() - started < 3
    assert not calls.exists()
    with (folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert "done in" in setup(folder).stdout


def test_setup_shows_pips_words_only_when_it_fails(odd_path: Path) -> None:
    folder = checkout(odd_path / "a checkout")
    python = folder / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\n[ \"$3\" = --version ] && exit 0\necho 'ERROR: no such version'\nexit 1\n")
    done = setup(folder)
    assert done.returncode == 1
    assert "ERROR: no such version" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("setup: pip could not install")
    assert setup(folder, "everything").returncode == 2
