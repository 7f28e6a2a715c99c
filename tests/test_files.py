"""Locks that a look never takes from anybody; files that wait for nobody and name themselves when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import in_time

from org import files
from org.errors import BadInput, Busy

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


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _nested(path: Path) -> None:
    path.write_text("[" * 100_000 + "\n")


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("make", [_pipe, Path.mkdir, _nested, _endless, lambda path: path.symlink_to(path)])
def test_what_an_agent_leaves_in_place_of_a_file_of_ours_holds_nobody_up(odd_path: Path, make: Any) -> None:
    path = odd_path / "file"
    make(path)
    assert in_time(lambda: files.read_json(path)) is None
    assert in_time(lambda: files.read_lines(path)[0]) == []


def test_a_pipe_in_place_of_a_lock_or_a_log_holds_nobody_up(odd_path: Path) -> None:
    path = odd_path / "gpu0.lock"
    _pipe(path)
    assert not in_time(lambda: files.is_locked(path))
    for take in (lambda: files.try_lock(path), lambda: files.locked(path).__enter__()):
        with pytest.raises(BadInput, match=r"gpu0\.lock is no plain file"):
            in_time(take)
    with pytest.raises(OSError, match="No space"):
        in_time(lambda: files.append_line(path, "x" * 100_000))


def test_a_document_of_a_terabyte_is_none(odd_path: Path) -> None:
    _sparse(odd_path / "file")
    assert files.read_json(odd_path / "file") is None


def test_what_is_printable_can_be_written_to_a_file() -> None:
    shown = files.printable("a\ud800b\udfff \U0001f600\tc\nd\x1b")
    assert shown == "a\ufffdb\ufffd \U0001f600\tc\nd\ufffd" and shown.encode()
