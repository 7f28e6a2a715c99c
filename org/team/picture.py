"""The plot of the progress, drawn by `org plot` in a process of its own: the drawing library is large and the office lives long."""

from __future__ import annotations

import os
import subprocess
import sys

from org.home import Home

LIMIT_S = 180.0


def draw(home: Home) -> None:
    """Draw it anew. Raises OSError with what the verb said, or TimeoutExpired."""
    argv = [sys.executable, "-m", "org", "--home", str(home.root), "plot"]
    env = {name: value for name, value in os.environ.items() if name != "ORG_SEAT"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or ["no output"])[-1])
