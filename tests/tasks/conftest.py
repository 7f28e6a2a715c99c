"""`task("kernel")`: a copy of a task's code folder that a test may edit, and its judge run in it as a run would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from org.lab import runner

TASKS = Path(__file__).parents[2] / "prompts" / "tasks"


@dataclass
class Done:
    code: int
    out: str
    err: str
    wall_s: float

    @property
    def summary(self) -> dict[str, Any]:
        """As the org's runner reads it."""
        found, problem = runner.read_summary(self.out)
        assert problem == "", problem
        return found

    @property
    def line(self) -> str:
        """What a failed run says: one line, and no summary."""
        assert self.code != 0
        assert "\n---\n" not in f"\n{self.out}"
        assert len(self.err.splitlines()) == 1, self.err
        return self.err.strip()


class Task:
    def __init__(self, name: str, editable: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.file = folder / name / editable

    def judge(self, *flags: object, **env: str) -> Done:
        argv = [sys.executable, "-m", f"{self.name}.measure", *map(str, flags)]
        environment = {k: os.environ[k] for k in ("PATH",) if k in os.environ} | env
        started = time.monotonic()
        done = subprocess.run(
            argv, cwd=self.folder, capture_output=True, text=True, timeout=120, env=environment, check=False
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def set(self, **constants: str) -> None:
        text = self.file.read_text()
        for name, value in constants.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert count == 1, name
        self.file.write_text(text)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def frozen(self, old: str, new: str) -> None:
        """Change the judge: only to make a limit short enough for a test."""
        path = self.folder / self.name / "measure.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def task(odd_path: Path) -> Callable[[str], Task]:
    def make(name: str) -> Task:
        folder = odd_path / name
        shutil.copytree(TASKS / name / "code", folder, ignore=shutil.ignore_patterns("__pycache__"))
        return Task(name, {"kernel": "kernel.py", "classifier": "train.py"}[name], folder)

    return make
