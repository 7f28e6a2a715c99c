"""Fixtures every test may use. `tiny_home` is a whole home whose trainer takes 50 ms and needs nothing but Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import make_tiny_home

from org.home import Home


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
