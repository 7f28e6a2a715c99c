"""The interactive terminal program every own brain shares: a line to type on below whatever the brain says.

One select loop over the keyboard, the window size and the brain's own clock; the brain works in callbacks and never waits.
On a terminal it composes the line itself, so that output never eats a half-typed draft; on a pipe it reads plain lines.
"""

from __future__ import annotations

import codecs
import os
import re
import select
import shutil
import signal
import sys
import termios
import textwrap
import time
import tty
import unicodedata
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, TextIO

from org.files import printable

PROMPT = "› "  # noqa: RUF001 - a prompt, not a quotation
STYLES = {"plain": "", "dim": "2", "win": "32", "ask": "33", "bad": "31", "bold": "1", "typed": "36"}
DRAFT_LIMIT = 10_000
MARKS = 8  # characters looked at for each column that is drawn: accents take none, and there may be any number of them
SECOND_CTRL_C_S = 2.0
ESCAPE_S = 0.05  # the other bytes of a key that begins with Escape come sooner
CUT = f"What you typed is cut: a line holds {DRAFT_LIMIT:,} characters. Put a long text into a file and name it."
LEAVE_HINT = "I keep working. To leave, type quit (or press Ctrl-C again now)."


class Composer:
    """The line being typed: bytes of a keyboard in, finished lines and control keys out. Pure but for its own draft."""

    def __init__(self) -> None:
        self.draft = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._escape = ""
        self._escape_at = 0.0
        self._is_paste = False
        self._is_cut = False
        self._is_cut_news = False

    def feed(self, data: bytes, now: float) -> list[str]:
        """Events: a finished line as typed, or '\\x03' (Ctrl-C), '\\x04' (Ctrl-D on an empty line)."""
        self.escaped(now)
        events = []
        for char in self._decoder.decode(data):
            done = self._key(char, now)
            if done is not None:
                events.append(done)
        return events

    @property
    def is_open(self) -> bool:
        """Whether an Escape waits to be known as a key or as the beginning of one."""
        return self._escape == "\x1b"

    def escaped(self, now: float) -> bool:
        """Whether the Escape key was pressed by itself; said once."""
        if self._escape == "\x1b" and now - self._escape_at > ESCAPE_S:
            self._escape = ""
            return True
        return False

    def was_cut(self) -> bool:
        """Whether the draft became longer than may be kept; said once a draft."""
        is_news, self._is_cut_news = self._is_cut_news, False
        return is_news

    def _key(self, char: str, now: float) -> str | None:
        if self._escape:
            self._escape += char
            self._sequence()
        elif char == "\x1b":
            self._escape, self._escape_at = char, now
        elif self._is_paste and char in "\r\n\t":
            self._type(" ")
        elif char in "\r\n":
            line, self.draft, self._is_cut = self.draft, "", False
            return line
        elif char in "\x7f\x08":
            self.draft = self._shorter()
        elif char == "\x15":  # Ctrl-U
            self.draft, self._is_cut = "", False
        elif char == "\x17":  # Ctrl-W
            self.draft = re.sub(r"\S+\s*$", "", self.draft)
        elif char == "\x03" or (char == "\x04" and not self.draft):
            return char
        elif char == "\t":
            self._type(" ")
        elif char >= " " and not "\x7f" <= char <= "\x9f":
            self._type(char)
        return None

    def _type(self, char: str) -> None:
        if len(self.draft) < DRAFT_LIMIT:
            self.draft += char
        elif not self._is_cut:
            self._is_cut = self._is_cut_news = True

    def _sequence(self) -> None:
        """Arrow and function keys are read to their end and ignored; the marks around a paste are kept in mind."""
        text = self._escape
        if text[1] == "[":
            if len(text) > 2 and "\x40" <= text[-1] <= "\x7e":
                self._is_paste = {"\x1b[200~": True, "\x1b[201~": False}.get(text, self._is_paste)
                self._escape = ""
        elif text[1] != "O" or len(text) > 2:
            self._escape = ""
        if len(self._escape) > 32:
            self._escape = ""  # no key sends that; do not swallow typing for ever

    def _shorter(self) -> str:
        """The draft less its last character, with the accents that sit on it."""
        end = len(self.draft) - 1
        while end > 0 and unicodedata.combining(self.draft[end]):
            end -= 1
        return self.draft[: max(end, 0)]


def cells(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def tail(draft: str, width: int) -> str:
    """The end of the draft that fits `width` columns, marked when there is more before it."""
    near = draft[-MARKS * width :]
    if len(near) == len(draft) and cells(near) <= width:
        return draft
    return "…" + near[len(near) - _fitting(reversed(near), width - 1) :]


def head(text: str, width: int) -> str:
    """The beginning of `text` that fits `width` columns, marked when there is more behind it."""
    near = text[: MARKS * width]
    if len(near) == len(text) and cells(near) <= width:
        return text
    return near[: _fitting(near, width - 1)] + "…"


def _fitting(text: Iterable[str], width: int) -> int:
    """How many of the first characters fit `width` columns."""
    count = 0
    for char in text:
        width -= cells(char)
        if width < 0:
            break
        count += 1
    return count


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, control characters made visible; continued lines are indented."""
    lines = []
    for line in printable(text, limit=8000).replace("\t", "    ").split("\n"):
        indent = " " * min(len(line) - len(line.lstrip(" ")) + 2, 8)
        pieces = textwrap.wrap(line, max(width, 20), subsequent_indent=indent, drop_whitespace=True)
        lines += pieces or [""]
    return lines


class Repl:
    """The terminal of one brain. `say` prints at any time; `run` gives typed lines to `on_line` and calls `poll` again and
    again until `leave` is called, the terminal goes away or the process is asked to end."""

    def __init__(self, stdin: int | None = None, out: TextIO | None = None) -> None:
        self.fd = sys.stdin.fileno() if stdin is None else stdin
        self.out = out or sys.stdout
        self.is_tty = os.isatty(self.fd) and self.out.isatty()
        self.composer = Composer()
        self.on_stop: Callable[[], bool] = lambda: False  # Escape or Ctrl-C: whether that ended something
        self._status = ""  # a line above the one being typed
        self._partial = ""  # what is being said: the line that is not finished yet
        self._is_drawn = False
        self._drawn: list[int] = []  # cells of each line that is drawn
        self._is_leaving = False
        self._has_input = True
        self._line = b""
        self._interrupt_at = -100.0
        self._interrupted = False

    # --- for the brain

    def say(self, text: str, style: str = "plain") -> None:
        """Print a sentence above the line being typed. `style`: plain, dim, win, ask, bad, bold."""
        self._undraw()
        if self._partial:
            text_before, self._partial = self._partial, ""
            self.say(text_before)
            self._undraw()
        lines = wrapped(text, self._width() - 1) if self.is_tty else printable(text).split("\n")
        colour = STYLES.get(style, "") if self.is_tty else ""
        for line in lines:
            self._write(f"\x1b[{colour}m{line}\x1b[0m\n" if colour else line + "\n")
        self._draw()

    def stream(self, text: str) -> None:
        """Print a piece of a text that goes on; `say` prints what it has so far as a line."""
        self._partial += text
        room = self._width() - 1
        *lines, self._partial = self._partial.split("\n")
        while self.is_tty and (shown := head(self._partial, room)) != self._partial:
            fits = len(shown) - 1
            at = max(self._partial.rfind(" ", fits // 2, fits + 1), 0) or max(fits, 1)
            lines.append(self._partial[:at])
            self._partial = self._partial[at:].lstrip(" ")
        if lines:
            rest, self._partial = self._partial, ""
            self.say("\n".join(lines))
            self._partial = rest
        self._undraw()
        self._draw()

    def show(self, status: str) -> None:
        """The line above the one being typed."""
        if status != self._status:
            self._status = status
            self._undraw()
            self._draw()

    def leave(self) -> None:
        self._is_leaving = True

    def run(self, on_line: Callable[[str], None], poll: Callable[[], float]) -> None:
        """`poll` returns after how many seconds it wants to be called again, at the latest."""
        wake_in, wake_out = os.pipe()
        os.set_blocking(wake_in, False)
        os.set_blocking(wake_out, False)
        old_wakeup = signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        old_handlers = {number: signal.signal(number, handler) for number, handler in self._handlers().items()}
        saved = self._raw()
        try:
            self._draw()
            while not self._is_leaving:
                delay = poll()
                if self._is_leaving:
                    break
                self._wait(wake_in, max(0.0, delay), on_line)
        finally:
            self._undraw()
            self._restore(saved)
            for number, old in old_handlers.items():
                signal.signal(number, old)
            signal.set_wakeup_fd(old_wakeup)
            os.close(wake_in)
            os.close(wake_out)

    # --- the loop's parts

    def _wait(self, wake: int, delay: float, on_line: Callable[[str], None]) -> None:
        watched = [wake, self.fd] if self._has_input else [wake]
        ready, _, _ = select.select(watched, [], [], min(delay, ESCAPE_S) if self.composer.is_open else delay)
        if self.composer.escaped(time.monotonic()):
            self.on_stop()
        if wake in ready:
            os.read(wake, 1024)
            if self._interrupted:
                self._interrupted = False
                self._on_interrupt()
            self._undraw()  # the window may have another width now
            self._draw()
        if self.fd in ready:
            self._read(on_line)

    def _read(self, on_line: Callable[[str], None]) -> None:
        try:
            data = os.read(self.fd, 4096)
        except OSError:
            data = b""  # the terminal is gone
        if not data:
            self._has_input = False
            if self.is_tty:
                self.leave()
            elif self._line:
                on_line(self._line.decode(errors="replace"))
            return
        if not self.is_tty:
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r"))
            return
        events = self.composer.feed(data, time.monotonic())
        if self.composer.was_cut():
            self.say(CUT, "dim")
        for event in events:
            if event in ("\x03", "\x04"):
                self._on_interrupt()
            elif event.strip():
                self.say(PROMPT + event, "typed")
                on_line(event)
        self._undraw()
        self._draw()

    def _on_interrupt(self) -> None:
        now = time.monotonic()
        if self.on_stop():
            return
        if now - self._interrupt_at < SECOND_CTRL_C_S:
            self.leave()
            return
        self._interrupt_at = now
        self.say(LEAVE_HINT, "ask")

    def _handlers(self) -> dict[signal.Signals, Any]:
        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupted = True

        def end(number: int, frame: FrameType | None) -> None:
            self.leave()

        def resize(number: int, frame: FrameType | None) -> None:
            pass  # the wake-up byte is what counts

        return {
            signal.SIGINT: interrupt,
            signal.SIGTERM: end,
            signal.SIGHUP: end,
            signal.SIGWINCH: resize,
        }

    # --- the terminal

    def _raw(self) -> list[Any] | None:
        """Keys one by one, no echo, no signals from keys, no Ctrl-S stop; output is translated as before."""
        if not self.is_tty:
            return None
        saved = termios.tcgetattr(self.fd)
        tty.setcbreak(self.fd, termios.TCSADRAIN)  # not FLUSH: what was typed before the start stays
        mode = termios.tcgetattr(self.fd)
        mode[0] &= ~(termios.IXON | termios.ICRNL)
        mode[3] &= ~(termios.ISIG | termios.IEXTEN)
        termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)
        self._write("\x1b[?2004h")
        return saved

    def _restore(self, saved: list[Any] | None) -> None:
        if saved is None:
            return
        try:
            self._write("\x1b[?2004l\x1b[0m")
            termios.tcsetattr(self.fd, termios.TCSADRAIN, saved)
        except (OSError, termios.error):
            pass  # the terminal is gone; there is nothing to restore

    def _draw(self) -> None:
        if not self.is_tty or self._is_drawn:
            return
        width = self._width()
        lines = [printable(self._partial)] if self._partial else []
        if self._status:
            lines.append(head(printable(self._status).replace("\n", " "), width - 1))
        shown = PROMPT + tail(self.composer.draft, width - len(PROMPT) - 1)
        self._drawn = [cells(line) for line in (*lines, shown)]
        if self._status:
            lines[-1] = f"\x1b[{STYLES['dim']}m{lines[-1]}\x1b[0m"
        self._write("\n".join([*lines, shown]))
        self._is_drawn = True

    def _undraw(self) -> None:
        if not self._is_drawn:
            return
        # a narrower window has folded the drawn lines: climb to where they begin
        width = max(self._width(), 1)
        rows = sum(max(count - 1, 0) // width + 1 for count in self._drawn) - 1
        self._write("\r" + (f"\x1b[{rows}A" if rows else "") + "\x1b[J")
        self._is_drawn = False

    def _width(self) -> int:
        try:
            return max(os.get_terminal_size(self.fd).columns, 20) if self.is_tty else 1000
        except OSError:
            return shutil.get_terminal_size().columns

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
            self.out.flush()
        except (OSError, ValueError):
            self._is_leaving = True  # nobody is there to read
