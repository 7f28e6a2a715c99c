"""A small corpus of its own for every test run: real grammar, random words, a cache that is thrown away."""

from pathlib import Path

import pytest
from tiny_corpus import write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("data") / "a corpus")


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache_home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))


@pytest.fixture
def dataset(corpus):
    from nanochat import prepare

    return prepare.load(str(corpus))
