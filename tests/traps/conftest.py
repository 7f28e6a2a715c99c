"""One stage for all plays of a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from traps.play import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(Path(tmp_path_factory.mktemp("traps")).resolve())
