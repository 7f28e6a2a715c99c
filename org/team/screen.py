"""The office's window: each board drawn over the one before, without a flicker. Knows nothing of what is on it."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def _size() -> os.terminal_size:
    return os.get_terminal_size() if sys.stdout.isatty() else os.terminal_size((100, 40))


class Screen:
    """Made once an office; `show` writes nothing where the board is the one that stands there."""

    def __init__(self) -> None:
        self._last = ""
        self._size = os.terminal_size((0, 0))
        sys.stdout.write("\x1b[?25l\x1b[2J")

    def has_new_size(self) -> bool:
        return self._size != _size()

    def show(self, renderable: Any) -> None:
        from rich.console import Console

        self._size = size = _size()
        console = Console(
            width=size.columns, height=size.lines, force_terminal=True, color_system="256", file=io.StringIO()
        )
        with console.capture() as captured:
            console.print(renderable, end="")
        text = captured.get()
        if text == self._last:
            return
        self._last = text
        lines = text.split("\n")[: size.lines]
        sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
        sys.stdout.flush()

    def close(self) -> None:
        sys.stdout.write("\x1b[?25h\n")
        sys.stdout.flush()
