"""The guard owns the tree, the deadline and the log; the lifeline ends it. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_for

from org.lab import guard
from org.world import devices, process

MARKER = "ORG_LEASE=guardtest:cpu0"
ENV = {"PATH": os.environ["PATH"], "ORG_LEASE": "guardtest:cpu0"}


def in_guard(tmp_path: Path, code: str, deadline_s: float = 60.0) -> tuple[guard.Ended, Path]:
    """Run Python `code` under a guard started from a process of its own, as the runner does; its answer as JSON."""
    lock = tmp_path / "cpu0.lock"
    program = (
        "import json,sys;from dataclasses import asdict;from pathlib import Path;"
        "from org.lab import guard;from org.world import devices;"
        "d=devices.Device('cpu0','cpu',0);fd=devices.lease(Path(sys.argv[1]),d);g=guard.start(fd);"
        "e=g.ask([sys.executable,'-c',sys.argv[2]],json.loads(sys.argv[3]),Path(sys.argv[4]),Path(sys.argv[4])/'log.txt',float(sys.argv[5])).answer();"
        "print(json.dumps(asdict(e)))"
    )
    import json

    done = subprocess.run(
        [sys.executable, "-c", program, str(lock), code, json.dumps(ENV), str(tmp_path), str(deadline_s)],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return guard.Ended(**json.loads(done.stdout)), lock


def test_output_and_exit_code_come_back(tmp_path: Path) -> None:
    ended, _ = in_guard(tmp_path, "print('hello'); raise SystemExit(3)")
    assert (ended.returncode, ended.timed_out, ended.last_line()) == (3, False, "hello")
    assert (tmp_path / "log.txt").read_text() == "hello\n"


def test_a_passed_deadline_ends_a_tree_that_ignores_terminate(tmp_path: Path) -> None:
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    ended, _ = in_guard(tmp_path, code, deadline_s=0.5)
    assert ended.timed_out
    assert ended.wall_s < 60


def test_a_child_in_a_session_of_its_own_does_not_outlive_the_run(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.Popen(['sleep','600'], start_new_session=True); print('left one')"
    in_guard(tmp_path, code)
    wait_for(lambda: not process.find_marked(MARKER), what="the end of what it left")


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
    wait_for(lambda: devices.holder(lock) is None, what="the lease")


@pytest.mark.parametrize("victim", ["runner", "guard"])
def test_killing_one_of_the_pair_leaves_no_trainer_and_no_lease(tmp_path: Path, victim: str) -> None:
    lock = tmp_path / "cpu0.lock"
    program = (
        "import sys;from pathlib import Path;from org.lab import guard;from org.world import devices,process;"
        "fd=devices.lease(Path(sys.argv[1]),devices.Device('cpu0','cpu',0));g=guard.start(fd);"
        "print(g.pid,flush=True)\n"
        "import os;os.close(fd)\n"
        f"try: g.ask(['sleep','600'],{ENV!r},Path('/'),Path(sys.argv[1]).with_name('log.txt'),600.0).answer()\n"
        "except guard.GuardLost:\n"
        f"    process.kill_all(lambda: process.find_marked({MARKER!r}), limit_s=10)\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, text=True)
    assert runner.stdout is not None
    guard_pid = int(runner.stdout.readline())
    wait_for(lambda: process.find_marked(MARKER), what="the trainer")
    os.kill(runner.pid if victim == "runner" else guard_pid, signal.SIGKILL)
    wait_for(lambda: not process.find_marked(MARKER), what="the end of the trainer")
    runner.wait(60)
    wait_for(lambda: devices.holder(lock) is None, what="the lease of the device")
