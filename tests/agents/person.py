"""A scripted person: a real tmux client in a pseudo-terminal, who types with pauses, scrolls, holds the prefix, walks off.

Everything is drawn from a seed. `keys` is every byte they typed, when, and whether the program in the pane or tmux itself
gets it; so what a program received is known to be theirs or not. Knows nothing of the organisation.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Self

from waiting import wait_for

PREFIX = b"\x02"  # C-b
COPY_MODE, LEAVE_COPY_MODE, DETACH, REDRAW, NEXT_PANE = b"[", b"q", b"d", b"r", b"o"
WORDS = (
    "try",
    "a",
    "longer",
    "warmdown",
    "then",
    "halve",
    "the",
    "softcap;",
    "é→",
    "no",
    "#(touch x)",
    "$HOME",
    "done",
)
LIMIT_S = 60.0


class Key(NamedTuple):
    wall: float  # Unix seconds, when it was typed
    mono: float
    data: bytes
    is_for_tmux: bool


class Person:
    """Attached from the start to the end of the block. `pause_s`: between two keys, from and to."""

    def __init__(
        self,
        socket: str,
        session: str = "org",
        seed: int = 0,
        pause_s: tuple[float, float] = (0.03, 0.25),
        size: tuple[int, int] = (200, 50),
    ) -> None:
        self.socket, self.session, self.pause_s, self.size = socket, session, pause_s, size
        self.chance = random.Random(f"person {seed}")
        self.keys: list[Key] = []
        self.draft = ""  # what they typed and have not submitted
        self.lines: list[str] = []  # what they submitted
        self.seen = b""  # the end of what their screen showed
        self.client: subprocess.Popen[bytes] | None = None
        self.tty = ""

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- coming and going

    def attach(self) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", self.size[1], self.size[0], 0, 0))
        self.tty = os.ttyname(slave)
        argv = ["tmux", "-u", "-L", self.socket, "attach-session", "-t", f"={self.session}"]
        env = {k: v for k, v in os.environ.items() if k not in ("TMUX", "TMUX_TMPDIR")} | {"TERM": "xterm-256color"}
        self.client = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
        os.close(slave)
        self._watcher = threading.Thread(target=self._watch, args=(self.master, self.client), daemon=True)
        self._watcher.start()
        self.until(lambda: self.tty in self.tmux("list-clients", "-F", "#{client_tty}").split(), "attached")

    def detach(self) -> None:
        """By the keys for it; the client ends."""
        self._command(DETACH)
        assert self.client is not None
        self.client.wait(LIMIT_S)
        self.close()

    def close(self) -> None:
        """The terminal window is closed, however things stand."""
        if self.client is None:
            return
        if self.client.poll() is None:
            self.client.kill()
        self.client.wait()
        self._watcher.join()  # before its descriptor is closed, and perhaps another's
        os.close(self.master)
        self.client = None

    def select(self, pane: str) -> None:
        """Look at this pane. No key of theirs: a person may come to it with the mouse, too."""
        self.tmux("select-window", "-t", pane)
        self.tmux("select-pane", "-t", pane)

    # --- what they do

    def type(self, text: str) -> None:
        """Key by key, with the pauses of a person."""
        for character in text:
            self._press(character.encode())
            self.draft += character
            self._pause()

    def stand_still(self, seconds: float) -> None:
        time.sleep(seconds)

    def backspace(self, count: int = 1) -> None:
        for _ in range(min(count, len(self.draft))):
            self._press(b"\x7f")
            self.draft = self.draft[:-1]
            self._pause()

    def submit(self) -> None:
        self._press(b"\r")
        self.lines.append(self.draft.strip())
        self.draft = ""

    def copy_mode(self) -> None:
        self._command(COPY_MODE)
        self.until(lambda: self._asks("#{pane_in_mode}") == "1", "in copy mode")

    def leave_copy_mode(self) -> None:
        self._press(LEAVE_COPY_MODE, is_for_tmux=True)
        self.until(lambda: self._asks("#{pane_in_mode}") == "0", "out of copy mode")

    def hold_prefix(self) -> None:
        """The prefix key is down, and what to do is still being thought about."""
        self._press(PREFIX, is_for_tmux=True)
        self.until(lambda: self._asks("#{client_prefix}") == "1", "at the prefix")

    def release_prefix(self) -> None:
        """By a command that changes nothing."""
        self._press(REDRAW, is_for_tmux=True)
        self.until(lambda: self._asks("#{client_prefix}") == "0", "past the prefix")

    def next_pane(self) -> None:
        self._command(NEXT_PANE)

    def write_a_draft(self, seconds: float) -> None:
        """Words, second thoughts and pauses for about so long; a draft stands at the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end or not self.draft:
            chance = self.chance.random()
            if chance < 0.15:
                self.backspace(self.chance.randint(1, 6))
            elif chance < 0.3:
                self.stand_still(min(self.chance.uniform(0.2, 1.5), max(0.0, end - time.monotonic())))
            else:
                self.type(self.chance.choice(WORDS) + " ")

    # --- what is known of it

    @property
    def typed(self) -> bytes:
        """Every byte of theirs that is for the program, in order."""
        return b"".join(key.data for key in self.keys if not key.is_for_tmux)

    @property
    def last_key(self) -> Key:
        return self.keys[-1]

    def tmux(self, *words: str) -> str:
        argv = ["tmux", "-u", "-L", self.socket, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=LIMIT_S).stdout

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_for(condition, LIMIT_S, lambda: f"the person to be {what}; their screen had {self.seen[-2000:]!r}")

    def _asks(self, form: str) -> str:
        return self.tmux("display-message", "-p", "-c", self.tty, "-t", f"={self.session}:", form).strip()

    def _command(self, key: bytes) -> None:
        self._press(PREFIX, is_for_tmux=True)
        self._pause()
        self._press(key, is_for_tmux=True)

    def _press(self, data: bytes, is_for_tmux: bool = False) -> None:
        self.keys.append(Key(time.time(), time.monotonic(), data, is_for_tmux))
        os.write(self.master, data)

    def _pause(self) -> None:
        time.sleep(self.chance.uniform(*self.pause_s))

    def _watch(self, master: int, client: subprocess.Popen[bytes]) -> None:
        """Read the screen, or the client would wait for its terminal; as long as the client lives."""
        while True:
            has_ended = client.poll() is not None
            try:
                while select.select([master], [], [], 0.1)[0]:
                    self.seen = (self.seen + os.read(master, 65536))[-20_000:]
            except OSError:
                return  # the terminal has gone
            if has_ended:
                return
