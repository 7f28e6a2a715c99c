"""Starts `org.agents.api` from an interpreter that has imported the vendors' packages already: two seconds of processor time
less at each start. What is started is a process of its own, with its own session, terminal, folder and environment; it is no
child of the test's, so this keeps what `subprocess.Popen` would know of it. /proc shows the environment of the first one."""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODULE = "org.agents.api"
ROOT = Path(__file__).parents[2]


class Started:
    """As much of Popen as tests use."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self._starter, self.pid = starter, pid

    def poll(self) -> int | None:
        return self._starter.code(self.pid)

    def wait(self, timeout: float | None = 60.0) -> int:
        end = time.monotonic() + (60.0 if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(MODULE, timeout or 60.0)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Starter:
    """The warm interpreter, as the test sees it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ORG_")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            env=environment | {"PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._codes: dict[int, int] = {}
        atexit.register(self.close)

    def start(self, env: Mapping[str, str], cwd: Path, terminal: int) -> Started:
        request = json.dumps({"env": dict(env), "cwd": str(cwd)}).encode()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [terminal]))
        self._channel.sendmsg([request], [rights])
        while "started" not in (row := json.loads(self._channel.recv(4096))):
            self._codes[row["pid"]] = row["code"]
        return Started(self, row["started"])

    def code(self, pid: int) -> int | None:
        while pid not in self._codes and select.select([self._channel], [], [], 0)[0]:
            row = json.loads(self._channel.recv(4096))
            self._codes[row["pid"]] = row["code"]
        return self._codes.get(pid)

    def close(self) -> None:
        self._channel.close()
        self._process.wait(10)


_starter: Starter | None = None


def start(argv: Sequence[str], env: Mapping[str, str], cwd: Path, terminal: int) -> Started:
    """`argv` in `terminal`: only `python -m org.agents.api` can be started so."""
    global _starter
    assert list(argv) == [sys.executable, "-m", MODULE]
    _starter = _starter or Starter()
    return _starter.start(env, cwd, terminal)


# --- the warm interpreter ----------------------------------------------------------------------------------------


def main(channel: socket.socket) -> None:
    import anthropic  # noqa: F401 - what a start costs
    import openai  # noqa: F401

    importlib.import_module(MODULE)
    del sys.modules[MODULE]  # it is run anew, as __main__
    gc.freeze()
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([channel, wake], [], [])[0]
        if wake in ready:
            os.read(wake, 512)
            _tell(channel)
        if channel in ready and not _serve(channel):
            return


def _tell(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        channel.send(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


def _serve(channel: socket.socket) -> bool:
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, 1 << 20, 1)
    except ConnectionResetError:
        return False
    if not data:
        return False
    pid = os.fork()
    if not pid:
        channel.close()
        _become(json.loads(data), descriptors[0])
    os.close(descriptors[0])
    channel.send(json.dumps({"started": pid}).encode())
    return True


def _become(request: dict[str, Any], terminal: int) -> None:
    """The program, from here to its end."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for descriptor in (0, 1, 2):
            os.dup2(terminal, descriptor)
        os.close(terminal)
        # as the interpreter makes them
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = [MODULE]
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as at the end of any program
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stdout.flush()
        finally:
            os._exit(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
