"""A program in a real pseudo-terminal, driven as a person would: typed keys in, the bytes of its screen out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from waiting import wait_for

LIMIT_S = 60.0


class Pane:
    """`start` makes the process where it is not Popen that does: see `agents.warm`."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        columns: int = 80,
        start: Callable[[Sequence[str], Mapping[str, str], Path, int], Any] | None = None,
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns)
        self.before = termios.tcgetattr(self.slave)
        self.process = (start or _popen)(argv, env, cwd, self.slave)
        self.seen = ""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        if hasattr(self, "process"):
            self.process.send_signal(signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read(self, seconds: float = 0.05) -> str:
        while select.select([self.master], [], [], seconds)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            if not data:
                break
            self.seen += data.decode(errors="replace")
            seconds = 0.0
        return self.seen

    def until(self, condition: str | Callable[[], object], limit: float = LIMIT_S) -> None:
        """Wait until the text was printed, or the condition is true."""
        check = (lambda: condition in self.seen) if isinstance(condition, str) else condition
        wait_for(
            lambda: (self.read(0.0), check())[1], limit, lambda: f"{condition!r}; the screen had:\n{self.seen[-3000:]}"
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        for descriptor in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _popen(argv: Sequence[str], env: Mapping[str, str], cwd: Path, terminal: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv, env=dict(env), cwd=cwd, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
