"""The guard owns the tree, the deadline and the log; the lifeline ends it. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from org.lab import guard
from org.world import devices, process

MARKER = "ORG_LEASE=guardtest:cpu0"
ENV = {"PATH": os.environ["PATH"], "ORG_LEASE": "guardtest:cpu0"}


def wait_until(condition, limit_s: float = 10.0) -> bool:
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def in_guard(tmp_path: Path, code: str, deadline_s: float = 20.0) -> tuple[guard.Ended, Path]:
    """Run Python `code` under a guard started from a process of its own, as the runner does; its answer as JSON."""
    lock = tmp_path / "cpu0.lock"
    program = (
        "import json,sys;from dataclasses import asdict;from pathlib import Path;"
        "from org.lab import guard;from org.world import devices;"
        "d=devices.Device('cpu0','cpu',0);fd=devices.lease(Path(sys.argv[1]),d);g=guard.start(fd);"
        "e=g.run([sys.executable,'-c',sys.argv[2]],json.loads(sys.argv[3]),Path(sys.argv[4]),Path(sys.argv[4])/'log.txt',float(sys.argv[5]));"
        "print(json.dumps(asdict(e)))"
    )
    import json

    done = subprocess.run(
        [sys.executable, "-c", program, str(lock), code, json.dumps(ENV), str(tmp_path), str(deadline_s)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return guard.Ended(**json.loads(done.stdout)), lock


def test_output_and_exit_code_come_back(tmp_path: Path) -> None:
    ended, _ = in_guard(tmp_path, "print('hello'); raise SystemExit(3)")
    assert (ended.returncode, ended.timed_out, ended.last_line()) == (3, False, "hello")
    assert (tmp_path / "log.txt").read_text() == "hello\n"


def test_a_passed_deadline_ends_a_tree_that_ignores_terminate(tmp_path: Path) -> None:
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    ended, _ = in_guard(tmp_path, code, deadline_s=0.5)
    assert ended.timed_out
    assert ended.wall_s < 10


def test_a_child_in_a_session_of_its_own_does_not_outlive_the_run(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.Popen(['sleep','60'], start_new_session=True); print('left one')"
    in_guard(tmp_path, code)
    assert wait_until(lambda: not process.find_marked(MARKER))


def test_a_log_is_capped_and_its_tail_is_kept(tmp_path: Path) -> None:
    ended, _ = in_guard(tmp_path, "print('x' * 5_000_000); print('last')")
    assert (tmp_path / "log.txt").stat().st_size == guard.LOG_LIMIT
    assert ended.last_line() == "last"


def test_a_closed_stdout_is_not_the_end_of_the_run(tmp_path: Path) -> None:
    ended, _ = in_guard(tmp_path, "import os,time; os.close(1); os.close(2); time.sleep(0.5); os._exit(7)")
    assert ended.returncode == 7
    assert ended.wall_s >= 0.5


def test_the_lease_is_free_after_runner_and_guard_are_gone(tmp_path: Path) -> None:
    _, lock = in_guard(tmp_path, "pass")
    assert wait_until(lambda: devices.holder(lock) is None)


@pytest.mark.parametrize("victim", ["runner", "guard"])
def test_killing_one_of_the_pair_leaves_no_trainer_and_no_lease(tmp_path: Path, victim: str) -> None:
    lock = tmp_path / "cpu0.lock"
    program = (
        "import sys;from pathlib import Path;from org.lab import guard;from org.world import devices,process;"
        "fd=devices.lease(Path(sys.argv[1]),devices.Device('cpu0','cpu',0));g=guard.start(fd);"
        "print(g.pid,flush=True)\n"
        "import os;os.close(fd)\n"
        f"try: g.run(['sleep','60'],{ENV!r},Path('/'),Path(sys.argv[1]).with_name('log.txt'),100.0)\n"
        "except guard.GuardLost:\n"
        f"    process.kill_all(lambda: process.find_marked({MARKER!r}), limit_s=10)\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    guard_pid = int(runner.stdout.readline())
    assert wait_until(lambda: bool(process.find_marked(MARKER)))
    os.kill(runner.pid if victim == "runner" else guard_pid, signal.SIGKILL)
    assert wait_until(lambda: not process.find_marked(MARKER)), "the trainer lives on"
    runner.wait(timeout=10)
    assert wait_until(lambda: devices.holder(lock) is None), "the device is still leased"
