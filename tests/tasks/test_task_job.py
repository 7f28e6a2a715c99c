"""Each ready-made task as a person starts it: a home by `init --task`, a launch, verdicts by the offline researcher. All
real but for the length of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from org import charter
from org.home import Home
from org.world import process

pytestmark = pytest.mark.slow  # whole organisations on two cores: half a minute each

SHORT = {"kernel": ("steps: 50,", "steps: 4,"), "classifier": ("tokens: 400000,", "tokens: 20000,")}
VERDICTS = 4


def call(home: Home, *words: str, code: int = 0) -> Any:
    argv = [sys.executable, "-m", "org", "--home", str(home.root), *words]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert done.returncode == code, f"org {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout) if "--json" in words else done.stdout


@pytest.mark.parametrize("name", sorted(SHORT))
def test_a_task_is_launched_and_verdicts_arrive(odd_path: Path, name: str) -> None:
    home = Home((odd_path / name).resolve())
    call(home, "init", str(home.root), "--task", name)
    page = home.task_charter(name)
    page.write_text(page.read_text().replace(*SHORT[name]))
    try:
        call(home, "launch", "--chief", "1", "--juniors", "2", "--devices", "cpu:2", "--detach")
        rows = wait_for(lambda: judged(home), 300, lambda: call(home, "results", "--json"), step_s=1)
        call(home, "launch", "--detach")  # nothing is missing, and no task is named
        call(home, "launch", "--task", *sorted({*SHORT} - {name}), "--detach", code=4)
    finally:
        call(home, "stop")
    assert process.find_marked(f"ORG_KEY={home.key}") == []
    assert {row["program"] for row in rows} <= set(charter.load(home).programs)
    outcomes = Counter(row["verdict"]["outcome"] for row in rows if row["verdict"])
    assert not outcomes["lost"], outcomes
    assert all(row["verdict"]["trust"] == "reported" for row in rows if row["verdict"])
    assert call(home, "results", "--check", "--json")["ok"]
    words = call(home, "standup")
    assert f"{charter.load(home).metric.name}, {charter.load(home).metric.direction} is better" in words


def judged(home: Home) -> list[dict[str, Any]] | None:
    """The rows of all experiments, once enough have their verdict."""
    rows = call(home, "results", "--json")
    return rows if sum(bool(row["verdict"]) for row in rows) >= VERDICTS else None
