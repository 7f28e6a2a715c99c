"""world.devices: real kernel locks between real processes; GPUs by a stand-in for nvidia-smi that prints what it prints."""

import os
import subprocess
import sys
import threading

import pytest
from waiting import wait_for

from org.errors import BadInput, LeaseHeld
from org.world import devices

CPU0 = devices.Device("cpu0", "cpu", 0)
HOLD = """
import sys, time
from pathlib import Path
from org.world import devices
fd = devices.lease(Path(sys.argv[1]), devices.Device("cpu0", "cpu", 0))
devices.write_holder(fd, {"run": "E0041/candidate-s3", "seat": "j4", "since": "2026-03-01T00:00:00Z"})
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "it's a lease/gpu 0.lock"


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nprintf '0, NVIDIA H200\\n1, NVIDIA H200\\n2, Tesla T4\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))


# --- which there are ---------------------------------------------------------------------------------------------


def test_auto_is_every_gpu_and_else_a_slot_a_usable_core(gpus, tmp_path, monkeypatch):
    assert [device.name for device in devices.discover("auto")] == ["gpu0", "gpu1", "gpu2"]
    assert devices.discover("auto")[2].kind == "Tesla T4"
    monkeypatch.setenv("PATH", "/nowhere")
    assert len(devices.discover("auto")) == len(os.sched_getaffinity(0))


def test_an_allocation_of_the_cluster_is_respected(gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert [device.name for device in devices.discover("auto")] == ["gpu0", "gpu2"]
    with pytest.raises(BadInput):
        devices.discover("1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.discover("auto")[0].kind == "cpu"


def test_named_devices_are_taken_in_order(gpus):
    assert [device.index for device in devices.discover("2,0")] == [2, 0]
    assert devices.discover("cpu:1") == [CPU0]


@pytest.mark.parametrize("spec", ["cpu:0", "cpu:999", "cpu:", "gpu", "", "0,0", "7", "-1", "0;1", "auto\n"])
def test_what_is_not_there_is_one_line(gpus, spec):
    with pytest.raises(BadInput) as caught:
        devices.discover(spec)
    assert "\n" not in str(caught.value)


def test_a_gpu_without_the_driver_is_one_line(no_gpus):
    with pytest.raises(BadInput, match="none"):
        devices.discover("0")


def test_a_cpu_run_gets_one_core_and_sees_no_gpu(gpus):
    env = devices.device_env(CPU0)
    assert (env["OMP_NUM_THREADS"], env["OMP_WAIT_POLICY"], env["CUDA_VISIBLE_DEVICES"]) == ("1", "PASSIVE", "")
    assert devices.device_env(devices.discover("2")[0])["CUDA_VISIBLE_DEVICES"] == "2"


# --- leases ------------------------------------------------------------------------------------------------------


def test_a_held_device_names_its_holder(lock):
    assert devices.holder(lock) is None
    code = HOLD + "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LeaseHeld, match=r"cpu0 .*E0041/candidate-s3.* j4") as caught:
            devices.lease(lock, CPU0)
        assert caught.value.exit_code == 4
        assert devices.holder(lock)["seat"] == "j4"
        child.stdin.close()
    assert devices.holder(lock) is None
    descriptor = devices.lease(lock, CPU0)
    assert devices.holder(lock) == {}  # the last holder's note is not this one's
    os.close(descriptor)


def test_a_lease_outlives_its_launcher_when_passed_on(lock):
    """The launcher dies, the program it passed the descriptor to trains on: the device stays busy just as long."""
    code = (
        HOLD
        + "import subprocess; print(subprocess.Popen(['sleep', '600'], pass_fds=[fd], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid, flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(lock)], capture_output=True, text=True, check=True)
    heir = int(done.stdout)
    assert devices.holder(lock)["run"] == "E0041/candidate-s3"
    with pytest.raises(LeaseHeld):
        devices.lease(lock, CPU0)
    os.kill(heir, 9)
    wait_for(lambda: devices.holder(lock) is None)


def test_a_child_without_the_descriptor_neither_keeps_nor_frees_the_lease(lock):
    """Agent code knows the path at most: its own unlock does nothing, and its life does not prolong the lease."""
    descriptor = devices.lease(lock, CPU0)
    tamper = "import fcntl, os, sys\nfd = os.open(sys.argv[1], os.O_RDWR)\nfcntl.flock(fd, fcntl.LOCK_UN)\nos.close(fd)"
    subprocess.run([sys.executable, "-c", tamper, str(lock)], check=True)
    assert devices.holder(lock) == {}
    with subprocess.Popen(["sleep", "600"]) as child:
        os.close(descriptor)
        assert devices.holder(lock) is None
        child.kill()


def test_readers_never_make_a_free_device_look_held(lock):
    os.close(devices.lease(lock, CPU0))
    over = threading.Event()

    def read():
        while not over.is_set():
            devices.holder(lock)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(300):
            os.close(devices.lease(lock, CPU0))
    finally:
        over.set()
        for reader in readers:
            reader.join()


@pytest.mark.parametrize("note", ["", "{", "[1]", "\0"])
def test_a_torn_note_still_says_that_the_device_is_held(lock, note):
    descriptor = devices.lease(lock, CPU0)
    os.pwrite(descriptor, note.encode(), 0)
    assert devices.holder(lock) == {}
    with pytest.raises(LeaseHeld):
        devices.lease(lock, CPU0)
    os.close(descriptor)
