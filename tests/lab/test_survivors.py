"""What a killed run leaves alive is ended, and nothing else is. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import wait_for

from org import charter as charters
from org import files
from org.home import Home
from org.lab import dispatch, ledger
from org.lab import spec as specs
from org.lab.wants import Want
from org.records import BANK
from org.world import devices, process


def begun_and_lost(home: Home, base: tuple[str, str], seed: int) -> str:
    """A run with a launch line whose runner and guard are gone."""
    device = devices.in_force(home)[0]
    charter = charters.load(home)
    setting = specs.setting(charter, "tiny", device.kind)
    want = Want(BANK, "baseline", seed, "bank", *base, "tiny", setting, "org", (0, seed))
    spec = specs.build(home, charter, base[0], want, [device], 1, f"{BANK}/baseline-s{seed}")
    files.replace_json(home.run(spec.run) / "spec.json", spec.to_dict())
    row = {"run": spec.run, "experiment": BANK, "device": device.name, "seed": seed, "stage": "bank"}
    ledger.Ledger(home).append("launch", f"launch:{spec.run}", row)
    return device.name


def test_a_lost_runs_survivors_are_ended_but_not_the_run_that_has_its_device_now(tiny_home: Home) -> None:
    dispatcher = dispatch.Dispatcher(tiny_home)
    base = dispatcher._prepare(charters.load(tiny_home))
    device = begun_and_lost(tiny_home, base, 71)
    name, _, value = tiny_home.lease_marker(device).partition("=")
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, name: value})
    try:
        lease = files.try_lock(tiny_home.lease(device))  # the next run's, which began after this one was lost
        assert lease is not None
        dispatcher._reap()
        assert other.poll() is None, "another run's process was killed for this one"
        os.close(lease)
        begun_and_lost(tiny_home, base, 72)
        dispatcher._reap()
        assert other.wait(60) == -signal.SIGKILL
    finally:
        other.kill()
        other.wait()
    assert {r.status for r in ledger.read(tiny_home).results.values()} == {"lost"}


NAMELESS = """SLEEP_S = 0.0
import subprocess
import sys
print(subprocess.Popen(["sleep", "597"], env={}, start_new_session=True).pid, flush=True)
time.sleep(200)
"""


@pytest.mark.slow  # a run with its guard killed
def test_a_process_without_the_marker_ends_with_its_guard(tiny_home: Home) -> None:
    path = tiny_home.root / "code" / "train.py"
    path.write_text(path.read_text().replace("SLEEP_S = 0.0", NAMELESS))
    dispatcher = dispatch.Dispatcher(tiny_home)
    dispatcher.tick()
    wait_for(lambda: len(dispatcher.running()) == len(dispatcher.devices), what="a run on each device")
    begun = [tiny_home.run(run) for run in dispatcher.running()]
    assert begun
    wait_for(lambda: all(log_of(run).endswith("\n") for run in begun), what="the children of the runs")
    orphans = [int(log_of(run)) for run in begun]
    assert all(map(process.identity, orphans))
    for run in begun:
        [keeper, *_] = children(int(files.read_json(run / "status.json")["pid"]))
        os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not dispatcher.running(), what="the end of the runs")
    wait_for(lambda: not any(map(process.identity, orphans)), what="the end of those that nobody knows")
    results = ledger.read(tiny_home).results.values()
    assert results and {(r.status, "guard was killed" in r.reason) for r in results} == {("lost", True)}


def log_of(run: Path) -> str:
    return (run / "log.txt").read_text() if (run / "log.txt").is_file() else ""


def children(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        found += [int(place.name)] if parent == pid else []
    return found


def test_temporary_files_are_swept_once_nobody_writes_them(tmp_path: Path) -> None:
    files.replace(tmp_path / "kept.json", "{}")
    young, old = tmp_path / ".kept.json.abcd1234", tmp_path / ".kept.json.abcd1235"
    for path in (young, old):
        path.write_text("half")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "kept.json"]
    files.sweep(tmp_path, older_s=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_a_run_that_another_runner_began_is_not_run_again(tiny_home: Home) -> None:
    """Its folder was moved away, and its lock with it: whoever starts it then finds its launch line and leaves it alone."""
    begun_and_lost(tiny_home, dispatch.Dispatcher(tiny_home)._prepare(charters.load(tiny_home)), 71)
    run = f"{BANK}/baseline-s71"
    lock, lease = (os.open(tiny_home.run(run) / name, os.O_CREAT | os.O_RDWR) for name in ("lock", "lease"))
    argv = [sys.executable, "-P", "-m", "org.lab.runner", str(tiny_home.root), run, str(lock), str(lease)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, pass_fds=(lock, lease), env=env, timeout=60, check=False)
    assert done.returncode == 0
    assert not (tiny_home.run(run) / "result.json").exists() and not ledger.read(tiny_home).results
