"""Odd folders and bare repositories."""

import pytest

from org.world import git


@pytest.fixture(params=["plain", 'it\'s a "home" $HOME é'])
def folder(tmp_path, request):
    place = tmp_path / request.param
    place.mkdir()
    return place


@pytest.fixture
def bare(tmp_path):
    git.init_bare(tmp_path / "record.git")
    return tmp_path / "record.git"
