"""One lasting connection to a tmux server, in its control mode: a call costs 0.1 ms instead of a process of 3 ms.

Used by `world.tmux.Server` and by nobody else. The client that tmux sees is no person's: it is marked as control, has no
size and gets no output of panes. Not for several threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import subprocess
import time
from collections.abc import Mapping, Sequence

from org.world.tmuxwords import words

_BEGIN = re.compile(rb"%begin (\d+ \d+ \d+)")


class PipeLost(Exception):
    """The connection is gone, or did not answer in time: what was asked for may have been done or not."""


class PipeSilent(PipeLost):
    """The server did not answer in time: it hangs, or the machine is very busy."""


class PipeRefused(Exception):
    """tmux answered with an error; the commands before it were done, those behind it not."""


class Pipe:
    """Connected from the moment it is made until `close`, a failed call, or the server's end. Raises PipeLost when the
    server does not take it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], timeout_s: float) -> None:
        self._nonce = f"org-{secrets.token_hex(8)}"
        self._calls = 0
        self._buffer = b""
        self._child = subprocess.Popen(
            [*argv, "-C", "attach-session", "-f", "no-output,ignore-size"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(env),
            cwd="/",
            start_new_session=True,  # a Ctrl-C at the office's terminal is not for it
        )
        assert self._child.stdin is not None and self._child.stdout is not None
        self._into, self._out = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._into, False)
        self.is_open = True
        self.pid = self._child.pid
        end = time.monotonic() + timeout_s
        # what is sent before is sometimes answered (2 of 180 on a busy machine) as by a client that has no session yet
        while not self._line(end).startswith(b"%session-changed "):
            pass

    def run(self, commands: Sequence[Sequence[str]], timeout_s: float) -> str:
        """Run tmux commands in order and return what they print. The first failing one stops the rest: PipeRefused with
        tmux's words. PipeLost when the answer does not come."""
        self._calls += 1
        mark = f"{self._nonce}-{self._calls}"
        lines = [" ; ".join(map(words, commands))] if commands else []  # an empty line would detach
        # a line of its own: it is answered also where a command before it fails
        text = "".join(line + "\n" for line in [*lines, f"display-message -p {mark}"])
        end = time.monotonic() + timeout_s
        self._write(text.encode(), end)
        return self._answer(mark.encode(), end)

    def close(self) -> None:
        """Leave the server; safe to repeat. The server and its panes stay."""
        self.is_open = False
        for stream in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        self._child.kill()  # only the client
        self._child.wait()

    def _write(self, data: bytes, end: float) -> None:
        while data:
            try:
                data = data[os.write(self._into, data) :]
            except BlockingIOError:
                if not select.select([], [self._into], [], max(0.0, end - time.monotonic()))[1]:
                    raise self._lost("tmux takes no command in time", PipeSilent) from None
            except (OSError, ValueError):
                raise self._lost() from None

    def _answer(self, mark: bytes, end: float) -> str:
        """The blocks of this call. A block ends at the line that repeats its own time, number and flags: text of a pane
        could hold any other. What stands outside of blocks are notices, which nobody waits for."""
        found: list[bytes] = []
        block: list[bytes] = []
        within = b""
        while True:
            line = self._line(end)
            if not within:
                if begun := _BEGIN.fullmatch(line):
                    within, block = begun[1], []
            elif line == b"%end " + within:
                if block == [mark]:
                    return b"".join(found).decode(errors="replace")
                found += [part + b"\n" for part in block]
                within = b""
            elif line == b"%error " + within:
                said = b" ".join(block).decode(errors="replace")
                self._skip(mark, end)
                raise PipeRefused(said)
            else:
                block.append(line)

    def _skip(self, mark: bytes, end: float) -> None:
        """Read up to the mark that closes this call."""
        while self._line(end) != mark:
            pass
        self._line(end)  # its %end

    def _line(self, end: float) -> bytes:
        while b"\n" not in self._buffer:
            if not select.select([self._out], [], [], max(0.0, end - time.monotonic()))[0]:
                raise self._lost("tmux does not answer in time", PipeSilent)
            data = os.read(self._out, 65536)
            if not data:
                raise self._lost()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    def _lost(self, why: str = "the connection to tmux has ended", kind: type[PipeLost] = PipeLost) -> PipeLost:
        self.close()
        return kind(why)
