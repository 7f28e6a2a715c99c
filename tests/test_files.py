"""Locks: a look at one never takes it from somebody, nor makes somebody fail to take it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from org import files
from org.errors import Busy

ROOT = Path(__file__).parents[1]


def test_who_only_looks_at_a_lock_makes_nobody_fail_to_take_it(odd_path: Path) -> None:
    lock = odd_path / "lock"
    lock.touch()
    code = (
        "import sys; from pathlib import Path; from org import files\n"
        "lock = Path(sys.argv[1]); print(flush=True)\n"
        "while True: files.is_locked(lock)"
    )
    argv = [sys.executable, "-c", code, str(lock)]
    probers = [subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for prober in probers:
            assert prober.stdout is not None and prober.stdout.readline()
        for _ in range(500):
            descriptor = files.try_lock(lock)
            assert descriptor is not None
            assert files.is_locked(lock)
            os.close(descriptor)
            with files.locked(lock, wait=False):
                assert files.try_lock(lock) is None
    finally:
        for prober in probers:
            prober.kill()
            prober.communicate()


def test_a_lock_that_is_held_is_refused_at_once(odd_path: Path) -> None:
    lock = odd_path / "lock"
    with files.locked(lock), pytest.raises(Busy, match="lock"), files.locked(lock, wait=False):
        pass
    assert not files.is_locked(lock)


def test_a_write_that_finds_the_disk_full_names_its_file(odd_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("only Linux has a device that is always full")
    with pytest.raises(OSError, match="No space left") as caught:
        files.append_line(full, "x")
    assert caught.value.filename == str(full)
    monkeypatch.setattr(files.tempfile, "mkstemp", lambda **where: (os.open(full, os.O_WRONLY), str(odd_path / ".x")))
    with pytest.raises(OSError, match="No space left") as caught:
        files.replace(odd_path / "page", "x")
    assert caught.value.filename == str(odd_path / "page")
