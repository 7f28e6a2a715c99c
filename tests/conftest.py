"""Fixtures every test may use. `tiny_home` is a whole home whose trainer takes 50 ms and needs nothing but Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import make_tiny_home

from org.home import Home

# Threads of one computation wait for each other by spinning: beside the other workers a step of half a second took fifty.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Files whose tests take the longest, longest first. A file is one worker's, so a long one that begins last is waited for by
# a machine that has nothing else to do.
LONG = (
    "cli/test_real_trainer.py",
    "test_chaos.py",
    "team/test_orgs.py",
    "nanochat/test_run.py",
    "team/test_doorbell_storm.py",
    "lab/test_kill_fuzz.py",
    "bench/test_t0.py",
    "traps/test_trap_governance.py",
    "traps/test_trap_evaluator.py",
    "traps/test_trap_compute.py",
    "traps/test_trap_reporting.py",
    "traps/test_trap_statistics.py",
    "lab/test_sweep.py",
    "agents/test_api_trouble.py",
    "agents/test_api.py",
    "bench/test_recovery_bench.py",
    "test_idea_job.py",
    "test_main_job.py",
    "tasks/test_task_job.py",
    "team/test_office.py",
    "lab/test_refutations.py",
    "lab/test_promotions.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a file, and among the others, the order stays as it was collected."""
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.fixture(autouse=True)
def _no_org_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that runs inside a seat's pane must not act as that seat."""
    for name in [n for n in os.environ if n.startswith("ORG_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def odd_path(tmp_path: Path) -> Path:
    """A folder whose name has a space and a quote: the ordinary case."""
    folder = tmp_path / "a home's place"
    folder.mkdir()
    return folder


@pytest.fixture
def tiny_home(odd_path: Path) -> Iterator[Home]:
    """A home with a 50 ms trainer and no referee (trust: reported); its path has a space and a quote."""
    yield make_tiny_home(odd_path / "home")
