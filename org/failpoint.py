"""Named places where a test can kill the process: every step that must survive a crash calls `failpoint` once.

`ORG_FAILPOINT=name:k` makes the k-th pass through `name` end this process as SIGKILL would: no cleanup, no buffers flushed.
"""

from __future__ import annotations

import os
import signal

_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Die here if the environment says so; otherwise cost one dictionary look-up."""
    wanted = os.environ.get("ORG_FAILPOINT")
    if not wanted:
        return
    target, _, count = wanted.partition(":")
    if target != name:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] == int(count or "1"):
        os.kill(os.getpid(), signal.SIGKILL)
