"""Odd folders, bare repositories, tmux servers of our own."""

from uuid import uuid4

import pytest
from grid import READ_LINES

from org.world import git
from org.world.tmux import Server
from org.world.tmuxwords import Pane


@pytest.fixture(params=["plain", 'it\'s a "home" $HOME é'])
def folder(tmp_path, request):
    place = tmp_path / request.param
    place.mkdir()
    return place


@pytest.fixture
def bare(tmp_path):
    git.init_bare(tmp_path / "record.git")
    return tmp_path / "record.git"


@pytest.fixture
def server():
    server = Server(f"org-test-{uuid4().hex[:10]}")
    yield server
    server.kill()


@pytest.fixture(params=["by processes", "by one pipe"])
def typist(server, request):
    """Gives a server of one pane, asked by processes or over a lasting connection."""

    def start(argv=READ_LINES):
        [pane] = server.grid("org", [Pane("j1", argv)])
        if request.param == "by one pipe":
            assert server.connect()
        return pane

    return start
