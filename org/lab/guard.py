"""The guard of one run: subreaper of all it starts, holder of its devices' locks, with a lifeline to the runner.

Not a security boundary: a process of the same user can kill it. What it owns is the tree, the deadline and the log's size.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from org.errors import OrgError
from org.failpoint import failpoint
from org.world import confine, process

LOG_LIMIT = 2_000_000  # bytes kept of one log
TAIL_LIMIT = 64_000
SHARED_MEMORY = Path("/dev/shm")


class GuardLost(OrgError):
    """The guard process ended without an answer."""


@dataclass(frozen=True)
class Ended:
    """How one command ended. `tail` is the last 64 KB of its output; `peak_mb` the largest process's peak memory; `cpu_s`
    processor seconds of the whole tree, whoever waited for its parts."""

    returncode: int
    timed_out: bool
    wall_s: float
    peak_mb: float
    tail: str
    cpu_s: float = 0.0

    def last_line(self) -> str:
        lines = [line for line in self.tail.replace("\r", "\n").splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Guard:
    """The runner's end of the lifeline."""

    def __init__(self, pid: int, lifeline: socket.socket) -> None:
        self.pid = pid
        self._lifeline = lifeline

    def ask(
        self,
        argv: list[str],
        env: dict[str, str],
        cwd: Path,
        log: Path,
        deadline_s: float,
        walls: confine.Walls | None = None,
    ) -> Guard:
        """Begin one command, behind `walls` where they are given, and do not wait: `answer` does, and `select` tells when it
        is there, of several guards at once. Raises GuardLost when the guard is gone."""
        request = {"argv": argv, "env": env, "cwd": str(cwd), "log": str(log), "deadline_s": deadline_s}
        if walls is not None:
            request["walls"] = asdict(walls)
        try:
            _send(self._lifeline, request)
        except OSError:
            raise GuardLost(f"guard {self.pid} is gone") from None
        return self

    def answer(self) -> Ended:
        """How what was asked for ended, its whole tree with it; waits for that. Raises GuardLost when the guard dies."""
        try:
            return Ended(**_receive(self._lifeline))
        except (OSError, EOFError):
            raise GuardLost(f"guard {self.pid} is gone") from None

    def fileno(self) -> int:
        return self._lifeline.fileno()

    def end(self) -> None:
        """Let go of the lifeline: the guard ends the tree, frees its devices and is gone when this returns."""
        self._lifeline.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start(*leases: int) -> Guard:
    """Fork the guard. It keeps these descriptors open, and with each its device locked, until it and its tree are gone."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return Guard(pid, ours)
    ours.close()
    status = 1
    try:
        for descriptor in leases:
            os.set_inheritable(descriptor, False)  # a trainer that inherits the lock could free it
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(sign, signal.SIG_IGN)  # the lifeline decides when to end, so that the tree ends first
        process.set_subreaper()
        failpoint("guard.start")
        _serve(theirs)
        status = 0
    finally:
        process.end_tree(os.getpid(), grace_s=0.5)
        os._exit(status)


def once(
    argv: list[str], env: dict[str, str], cwd: Path, log: Path, deadline_s: float, walls: confine.Walls | None = None
) -> Ended:
    """One command with its tree under a guard that holds no device: whatever becomes of the caller, it ends."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        keeper = start(nothing)
    finally:
        os.close(nothing)
    try:
        return keeper.ask(argv, env, cwd, log, deadline_s, walls).answer()
    finally:
        keeper.end()


def _serve(lifeline: socket.socket) -> None:
    while True:
        try:
            request = _receive(lifeline)
        except (EOFError, OSError):
            return
        answer = _run_one(lifeline, **request)
        if answer is None:
            return
        _send(lifeline, asdict(answer))
        failpoint("guard.answered")


def _run_one(
    lifeline: socket.socket,
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    log: str,
    deadline_s: float,
    walls: dict[str, Any] | None = None,
) -> Ended | None:
    """None when the runner went away; the caller then ends the tree."""
    begun, cpu_s, shared = time.monotonic(), _children_cpu_s(), _shared_memory()
    reader, writer = os.pipe()
    try:
        child = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            start_new_session=True,
            preexec_fn=confine.Walls(**walls).enter if walls else None,  # noqa: PLW1509 - one thread here
        )
    except (OSError, subprocess.SubprocessError) as error:
        os.close(writer)
        os.close(reader)
        why = error.strerror if isinstance(error, OSError) else "cannot be confined"
        return Ended(127, False, time.monotonic() - begun, 0.0, f"{argv[0]}: {why}")
    os.close(writer)
    failpoint("guard.begun")
    tail, timed_out, returncode, usage = bytearray(), False, None, None
    with Path(log).open("wb", buffering=0) as file:
        kept, is_open = 0, True
        while returncode is None:
            left = begun + deadline_s - time.monotonic()
            if left <= 0 and not timed_out:
                timed_out = True
                process.end_tree(os.getpid(), grace_s=0.5, keep=child.pid)
            sources: list[socket.socket | int] = [lifeline, reader] if is_open else [lifeline]
            ready, _, _ = select.select(sources, [], [], min(max(left, 0.05), 0.1))
            if lifeline in ready and not lifeline.recv(1, socket.MSG_PEEK):
                os.close(reader)
                return None
            if reader in ready:
                data = os.read(reader, 65536)
                is_open = bool(data)  # a trainer may close its output and live on
                kept = _keep(data, file, kept, tail)
            returncode, usage = _poll(child.pid)
            if timed_out and returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGKILL)
        failpoint("guard.ended")
        process.end_tree(os.getpid(), grace_s=0.2)
        _sweep(_shared_memory() - shared)
        os.set_blocking(reader, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(reader, 65536):
                kept = _keep(data, file, kept, tail)
        os.close(reader)
    child.returncode = returncode  # reaped above with its resource usage; Popen must not wait again
    peak_mb = usage.ru_maxrss / 1024 if usage else 0.0
    text = bytes(tail).decode(errors="replace")
    wall_s = round(time.monotonic() - begun, 3)
    return Ended(returncode, timed_out, wall_s, round(peak_mb, 1), text, round(_children_cpu_s() - cpu_s, 3))


def _shared_memory() -> set[Path]:
    """Files of this user in /dev/shm, which the walls leave open for semaphores and worker processes."""
    try:
        return {path for path in SHARED_MEMORY.iterdir() if path.lstat().st_uid == os.getuid()}
    except OSError:
        return set()


def _sweep(left: set[Path]) -> None:
    """Shared memory made during the run and used by nobody now would be a message to the next run."""
    for path in left:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif not process.is_mapped(path):
                path.unlink(missing_ok=True)
        except OSError:
            continue  # gone meanwhile


def _children_cpu_s() -> float:
    """Of all that this process has reaped: orphans of the run too, since it is their subreaper."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _poll(pid: int) -> tuple[int | None, resource.struct_rusage | None]:
    done, status, usage = os.wait4(pid, os.WNOHANG)
    return (os.waitstatus_to_exitcode(status), usage) if done else (None, None)


def _keep(data: bytes, file: io.RawIOBase, kept: int, tail: bytearray) -> int:
    room = LOG_LIMIT - kept
    if room > 0:
        file.write(data[:room])
    tail += data
    del tail[:-TAIL_LIMIT]
    return kept + len(data)


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode()
    channel.sendall(len(data).to_bytes(4, "big") + data)


def _receive(channel: socket.socket) -> dict[str, Any]:
    size = int.from_bytes(_exactly(channel, 4), "big")
    return json.loads(_exactly(channel, size))  # type: ignore[no-any-return]


def _exactly(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = channel.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data
