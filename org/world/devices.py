"""Devices and their leases: which there are, what environment a run on one gets, who holds one. A lease is a kernel lock."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from org import files
from org.errors import BadInput, LeaseHeld
from org.home import Home


@dataclass(frozen=True)
class Device:
    """`name` as in `gpu0`, `cpu1`; `kind` is `cpu` or the GPU's model: numbers of two kinds are never compared."""

    name: str
    kind: str
    index: int


def discover(spec: str) -> list[Device]:
    """Devices for `auto`, `cpu:N` or a list of GPU indices such as `0,1`. Raises BadInput naming the allowed forms."""
    if spec == "auto":
        return _gpus() or _cpus(len(os.sched_getaffinity(0)))
    if match := re.fullmatch(r"cpu:([0-9]{1,4})", spec):
        count, cores = int(match[1]), len(os.sched_getaffinity(0))
        if not 1 <= count <= 4 * cores:
            raise BadInput(f"--devices cpu:{count} does not fit {cores} cores; use cpu:1 to cpu:{4 * cores}")
        return _cpus(count)
    if re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", spec):
        wanted = [int(part) for part in spec.split(",")]
        there = {device.index: device for device in _gpus()}
        missing = [str(i) for i in wanted if i not in there]
        if missing or len(set(wanted)) != len(wanted):
            names = ", ".join(map(str, there)) or "none"
            raise BadInput(
                f"--devices {spec}: GPU {', '.join(missing) or 'named twice'} is not there; this machine has: {names}"
            )
        return [there[i] for i in wanted]
    raise BadInput(f"--devices {spec!r:.40} is not known; use auto, cpu:N, or GPU numbers such as 0,1")


def of_one_kind(home: Home) -> list[Device]:
    """The devices that this home measures on: numbers of two kinds are never compared, so those of its first one's kind."""
    there = in_force(home)
    return [device for device in there if device.kind == there[0].kind]


def in_force(home: Home) -> list[Device]:
    """The devices of this home's launch, or every device of the machine when it was never launched."""
    facts = files.read_json(home.org_file) or {}
    return discover(facts.get("devices_spec") or "auto")


def device_env(*gang: Device) -> dict[str, str]:
    """What a run on these devices, all of one kind, finds in its environment: a thread for each core, or those GPUs."""
    if gang[0].name.startswith("gpu"):
        # PCI_BUS_ID: CUDA's own order is fastest first, nvidia-smi's is not
        return {"CUDA_VISIBLE_DEVICES": ",".join(str(d.index) for d in gang), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    threads = str(len(gang))
    # PASSIVE: two runs that spin at default settings on two cores ran 3.7-35 times slower
    return {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUDA_VISIBLE_DEVICES": "",
    }


def lease(path: Path, device: Device) -> int:
    """Hold `device` until the returned descriptor and every copy passed on are closed. Raises LeaseHeld naming the holder."""
    while (descriptor := files.try_lock(path)) is None:
        facts = holder(path)
        if facts is None:
            continue  # freed meanwhile, or only another reader's probe was in the way
        who = f"{facts.get('run', 'another process')} of {facts.get('seat', '?')} since {facts.get('since', '?')}"
        raise LeaseHeld(f"{device.name} is in use by {who}; wait for it to end")
    os.ftruncate(descriptor, 0)  # the note of the last holder
    return descriptor


def lease_all(leases: Sequence[tuple[Path, Device]]) -> list[int]:
    """Hold every one of these devices, or none: where one is taken, those got so far are let go and LeaseHeld is raised.
    Waits for nobody, so two that want each other's devices cannot block one another."""
    held: list[int] = []
    try:
        for path, device in leases:
            held.append(lease(path, device))
    except BaseException:
        for descriptor in held:
            os.close(descriptor)
        raise
    return held


def write_holder(descriptor: int, facts: dict[str, Any]) -> None:
    """Note who holds the lease, for people; truth is the lock itself."""
    data = json.dumps(facts).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)


def holder(path: Path) -> dict[str, Any] | None:
    """The note of the lease's holder, {} when it left none, None when the device is free."""
    if not files.is_locked(path):
        return None
    facts = files.read_json(path)
    return facts if isinstance(facts, dict) else {}


def _cpus(count: int) -> list[Device]:
    return [Device(f"cpu{i}", "cpu", i) for i in range(count)]


def _gpus() -> list[Device]:
    """GPUs by the driver's own tool, those hidden by CUDA_VISIBLE_DEVICES (a cluster's allocation) left out; none when
    the tool is not installed or finds none."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    rows = [line.partition(",") for line in done.stdout.splitlines() if line.strip()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = (
        None if visible is None or "-" in visible else set(visible.split(","))
    )  # "-": UUIDs, which are not indices
    return [
        Device(f"gpu{int(index)}", name.strip(), int(index))
        for index, _, name in rows
        if allowed is None or index.strip() in allowed
    ]
