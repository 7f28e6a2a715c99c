"""`org run --scratch`: a short logged try on the seat's device, under a guard like a run's. Nothing here reaches the ledger."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from org import charter as charters
from org.cli.verb import print_json, say, tell
from org.errors import RunFailed
from org.home import Home
from org.records import Charter, Seat

LIMIT_S = 60.0
STEPS = 5
LOOK_S = 0.05
TAKES_STEPS = "nanochat.train"  # the one trainer whose flags are known here


def scratch(home: Home, seat: Seat, argv: Sequence[str], is_json: bool, limit_s: float = LIMIT_S) -> None:
    """Run `argv` in the worktree; default: the charter's command, for 5 steps where it can be told so. Everything it
    started is ended with it. Raises RunFailed or LeaseHeld."""
    from org.lab import guard, spec
    from org.world import devices, process

    charter = charters.load(home)
    command = [_interpreter(argv[0]), *argv[1:]] if argv else default_command(charter, home.seat(seat.name) / "scratch")
    if not argv and not _is_short(charter):
        tell(f"org: the charter's command takes no number of steps; it runs whole, for at most {limit_s:.0f} s")
    there = {device.name: device for device in devices.in_force(home)}
    device = there.get(seat.device or "") or next(iter(there.values()))
    log = home.seat(seat.name) / "scratch.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)  # the guard makes it when the command has started
    marker, _, value = home.lease_marker(device.name).partition("=")
    environment = {**spec.trainer_environment(charter), **devices.device_env(device), marker: value}
    environment |= {
        "ORG_KEY": home.key,
        "RUN_SEED": "1",
        "RUN_STEPS": str(STEPS),
        "RUN_OUT": str(log.parent / "scratch"),
    }
    lease = devices.lease(home.lease(device.name), device)
    try:
        devices.write_holder(lease, {"run": "a scratch try", "seat": seat.name})
        process.set_subreaper()
        keeper = guard.start(lease)
    finally:
        os.close(lease)  # from here on the guard alone holds the device
    shown = threading.Event()
    reader = threading.Thread(target=_follow, args=(log, shown, (lambda line: None) if is_json else say))
    reader.start()
    try:
        ended = keeper.ask(command, environment, Path(seat.worktree), log, limit_s).answer()
    except guard.GuardLost:
        process.end_tree(os.getpid(), grace_s=0.0)  # not by the marker: another run may have the device by now
        raise
    finally:
        keeper.end()
        process.set_subreaper(on=False)
        shown.set()
        reader.join()
    code = ended.returncode
    if is_json:
        print_json({"experiment": None, "violations": [], "verdict": None, "runs": [], "log": str(log), "code": code})
    if not log.exists():
        raise RunFailed(f"{ended.last_line()}; it cannot be started")
    if ended.timed_out:
        raise RunFailed(f"the scratch try was ended after {limit_s:.0f} s, its limit; {log} has its output")
    if code:
        raise RunFailed(f"the scratch try ended with exit code {code}; {log} has its output")


def default_command(charter: Charter, out: Path) -> list[str]:
    """The charter's command for a few steps of seed 1, as a run would have it."""
    import shlex

    scale = charter.scales[charter.scale]
    tokens = max(1, scale.tokens * STEPS // scale.steps)  # as many as so many steps of the unchanged code read
    values = {"{seed}": 1, "{steps}": STEPS, "{tokens}": tokens, "{out}": out, "{scale}": scale.name, "{devices}": 1}
    words = shlex.split(charter.command)
    for name, value in values.items():
        words = [word.replace(name, str(value)) for word in words]
    words += ["--steps", str(STEPS)] if "{steps}" not in charter.command and TAKES_STEPS in words else []
    return [_interpreter(word) for word in words]


def _is_short(charter: Charter) -> bool:
    has_place = "{steps}" in charter.command or "{tokens}" in charter.command
    return has_place or TAKES_STEPS in charter.command.split()


def _interpreter(word: str) -> str:
    """`python` is the one that runs the org, as in a run."""
    return sys.executable if word in ("python", "python3") else word


def _follow(log: Path, is_over: threading.Event, show: Callable[[str], None]) -> None:
    """Show the lines of the log as they come, until the command is over and all is shown."""
    while not log.exists() and not is_over.wait(LOOK_S):
        pass
    if not log.exists():
        return
    with log.open("rb") as file:
        rest = b""
        while not is_over.wait(LOOK_S):
            rest = _show(file, rest, show)
        rest = _show(file, rest, show)
        _show_line(rest, show)


def _show(file: BinaryIO, rest: bytes, show: Callable[[str], None]) -> bytes:
    """Show what is whole; returns the begun line."""
    *lines, rest = (rest + file.read()).split(b"\n")
    for line in lines:
        _show_line(line + b" ", show)
    return rest


def _show_line(line: bytes, show: Callable[[str], None]) -> None:
    from org.files import printable

    if line:
        show(printable(line.decode(errors="replace").rstrip(), 400))
