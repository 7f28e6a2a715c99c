"""One stage for all plays of a worker; what it copies is measured once for all workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from traps.play import Stage


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    own = Path(tmp_path_factory.mktemp("traps")).resolve()
    # beside the folders of all workers, in one that this very run of the tests made
    return Stage(own, own.parents[1] / "traps" if "PYTEST_XDIST_WORKER" in os.environ else own)
