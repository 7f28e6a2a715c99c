"""The bench of recovery and of launch, small: what it counts as bad does not happen, and it can see it when it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import launch, recovery

pytestmark = pytest.mark.slow  # whole organisations, killed


@pytest.mark.parametrize(
    "measure",
    [
        pytest.param(lambda: recovery.killed_tmux(2, 3, recovery.SLEEPER), id="tmux"),
        pytest.param(lambda: recovery.killed_office(5, 3), id="office"),
        pytest.param(lambda: recovery.made_at_once(16, 1), id="seats"),
        pytest.param(lambda: recovery.collected(8, 10), id="gc"),
    ],
)
def test_nothing_bad_happens(tmp_path: Path, measure: object) -> None:
    row = recovery.measure_in(measure, tmp_path)  # type: ignore[arg-type]
    assert row["bad"] == 0, row


def test_a_launch_and_its_floor_are_measured_alike() -> None:
    [row] = launch.rows([2], times=1)
    assert row["seats"] == 2 and row["floor_all_s"] > 0
    assert row["git"] <= 35 and row["git_again"] <= 6
