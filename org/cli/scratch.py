"""`org run --scratch`: a short logged try on the seat's device. Holds the device like a run; nothing here reaches the ledger."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from org import charter as charters
from org.cli.verb import print_json, say
from org.errors import RunFailed
from org.home import Home
from org.records import Seat

LIMIT_S = 60.0
MAX_LOG_BYTES = 1_000_000


def scratch(home: Home, seat: Seat, argv: Sequence[str], is_json: bool, limit_s: float = LIMIT_S) -> None:
    """Run `argv` (default: the charter's command for 5 steps) in the worktree; raises RunFailed or LeaseHeld."""
    from org.lab import spec
    from org.world import devices, process

    charter = charters.load(home)
    argv = list(argv) or _default(home, seat, charter.command, charter.scale)
    there = {device.name: device for device in devices.in_force(home)}
    device = there.get(seat.device or "") or next(iter(there.values()))
    log = home.seat(seat.name) / "scratch.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    lease = devices.lease(home.lease(device.name), device)
    timed_out = threading.Event()
    try:
        devices.write_holder(lease, {"run": "a scratch try", "seat": seat.name})
        environment = {**spec.trainer_environment(charter), **devices.device_env(device)}
        environment |= {"ORG_KEY": home.key, "RUN_SEED": "1", "RUN_STEPS": "5", "RUN_OUT": str(log.parent / "scratch")}
        try:
            child = subprocess.Popen(
                argv, cwd=seat.worktree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise RunFailed(f"{argv[0]} cannot be started: {error.strerror}") from None
        timer = threading.Timer(limit_s, lambda: (timed_out.set(), process.end_tree(child.pid)))  # type: ignore[func-returns-value]
        timer.start()
        try:
            _copy(child, log, quiet=is_json)
            code = child.wait()
        finally:
            timer.cancel()
            process.end_tree(child.pid)
    finally:
        os.close(lease)
    if is_json:
        print_json({"experiment": None, "violations": [], "verdict": None, "runs": [], "log": str(log), "code": code})
    if timed_out.is_set():
        raise RunFailed(f"the scratch try was ended after {limit_s:.0f} s, its limit; {log} has its output")
    if code:
        raise RunFailed(f"the scratch try ended with exit code {code}; {log} has its output")


def _default(home: Home, seat: Seat, command: str, scale: str) -> list[str]:
    import shlex

    values = {"seed": "1", "steps": "5", "out": str(home.seat(seat.name) / "scratch"), "scale": scale}
    words = shlex.split(command)
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    return words


def _copy(child: subprocess.Popen[bytes], log: Path, quiet: bool) -> None:
    """The output, to the log (capped) and to the terminal, line by line."""
    from org.files import printable

    assert child.stdout is not None
    left = MAX_LOG_BYTES
    with log.open("wb") as file:
        for line in child.stdout:
            file.write(line[: max(0, left)])
            left -= len(line)
            if not quiet:
                say(printable(line.decode(errors="replace").rstrip("\n"), 400))
