"""A limit on calls that might wait for ever, such as a look at what may be a pipe."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any


def in_time(call: Callable[[], Any], limit_s: int = 10) -> Any:
    """What `call` returns; a call that waits for ever is ended by TimeoutError."""

    def end(number: int, frame: Any) -> None:
        raise TimeoutError

    old = signal.signal(signal.SIGALRM, end)
    signal.alarm(limit_s)
    try:
        return call()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
