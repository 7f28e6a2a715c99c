"""world.watch on a real folder with real inotify."""

import os
import sys
import threading
import time

import pytest

from org.world.watch import Watcher


def settle(watcher):
    """Until no event is on its way any more."""
    while watcher.wait(0.2):
        pass


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "a home's mail"
    (root / "j1/new").mkdir(parents=True)
    (root / "j1/tmp").mkdir()
    return root


def test_a_letter_wakes_the_waiter_at_once(root):
    with Watcher(root) as watcher:
        assert not watcher.is_polling
        for number in range(3):
            settle(watcher)
            (root / f"j1/tmp/{number}").write_text("x")
            (root / f"j1/tmp/{number}").rename(root / f"j1/new/{number}")
            start = time.monotonic()
            assert watcher.wait(10)
            assert time.monotonic() - start < 2


def test_it_says_below_which_name_something_changed(root):
    (root / "j2").mkdir()
    with Watcher(root) as watcher:
        settle(watcher)
        watcher.places()
        (root / "j1/tmp/1").write_text("x")
        (root / "j1/tmp/1").rename(root / "j1/new/1")
        (root / "a file").write_text("x")
        settle(watcher)
        found = watcher.places()
        assert {"j1", "a file"} <= found and "j2" not in found
        assert watcher.places() == set()


def test_folders_made_later_are_watched_too(root):
    with Watcher(root) as watcher:
        (root / "j2/new").mkdir(parents=True)
        settle(watcher)
        (root / "j2/new/letter").write_text("x")
        assert watcher.wait(10)


def test_reading_wakes_nobody(root):
    (root / "j1/new/letter").write_text("x")
    with Watcher(root) as watcher:
        settle(watcher)
        (root / "j1/new/letter").read_text()
        list((root / "j1/new").iterdir())
        assert not watcher.wait(0.3)


@pytest.mark.parametrize("number", [24, 28], ids=["EMFILE", "ENOSPC"])
def test_without_inotify_it_polls(root, monkeypatch, number):
    """The machine's limit cannot be used up in a test: the observer's own start says what the kernel would say."""
    from watchdog.observers import Observer

    def start(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Observer, "start", start)
    with Watcher(root) as watcher:
        assert watcher.is_polling
        start_s = time.monotonic()
        assert not watcher.wait(0.1)
        assert time.monotonic() - start_s >= 0.1


def test_a_missing_folder_is_polled(tmp_path):
    with Watcher(tmp_path / "missing") as watcher:
        assert watcher.is_polling and not watcher.wait(0)


def test_closing_ends_a_wait(root):
    watcher = Watcher(root)
    settle(watcher)
    thread = threading.Thread(target=watcher.wait, args=(60,))
    thread.start()
    watcher.close()
    watcher.close()
    thread.join(10)
    assert not thread.is_alive()


def test_watchdog_is_imported_only_when_used():
    import subprocess

    code = "import sys, org.world.watch; sys.exit('watchdog' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
