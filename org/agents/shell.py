"""A command of a model in a seat: in a process group of its own, held to a time and to so much output. Never raises: what
goes wrong is said in the result.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from org import files

SHELL_S, SHELL_MOST_S = 120, 600
OUTPUT = 16_000  # characters of a result that the model is shown; the middle of a longer one is left out


@dataclass(frozen=True)
class Result:
    """What a tool gives back to the model."""

    text: str
    is_error: bool = False


def middle_cut(text: str, most: int = OUTPUT) -> str:
    """`text`, without its middle where it is too long; says how much that was."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def shell_env(environ: Mapping[str, str], home: Path, seat: str) -> dict[str, str]:
    """The seat's environment without the keys of its model: a command needs none, and its output is kept."""
    hidden = ("_KEY", "_TOKEN", "_SECRET")
    env = {name: value for name, value in environ.items() if not name.endswith(hidden) or name == "ORG_KEY"}
    own = str(Path(sys.executable).parent)
    path = env.get("PATH", os.defpath)
    quiet = {"PAGER": "cat", "GIT_PAGER": "cat", "GIT_EDITOR": "true", "TERM": "dumb"}
    path = path if path.split(os.pathsep)[0] == own else f"{own}{os.pathsep}{path}"
    return {**env, **quiet, "PATH": path, "ORG_HOME": str(home), "ORG_SEAT": seat}


def shell(
    command: str,
    limit_s: float,
    *,
    cwd: Path,
    env: Mapping[str, str],
    is_cut: Callable[[], bool],
    began: Callable[[int], None],
) -> Result:
    """Run it in a process group of its own, which is gone when this returns. Looks at `is_cut` ten times a second."""
    limit_s = max(1.0, min(limit_s, SHELL_MOST_S))
    try:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Result(f"cannot run it: {error}", True)
    began(process.pid)
    assert process.stdout is not None
    head, tail, size = b"", b"", 0
    end, said = time.monotonic() + limit_s, ""
    with process.stdout as pipe:
        os.set_blocking(pipe.fileno(), False)
        ended_at = None
        while True:
            if select.select([pipe], [], [], 0.1)[0]:
                data = os.read(pipe.fileno(), 65536)
                if not data:
                    break
                size += len(data)
                room = max(0, OUTPUT - len(head))
                head, tail = head + data[:room], (tail + data[room:])[-OUTPUT:]
            elif ended_at is not None:
                break  # what it left behind holds the pipe open
            now = time.monotonic()
            if ended_at is None and process.poll() is not None:
                ended_at = now
            elif is_cut():
                said = "interrupted by the person at the pane"
            elif now > end:
                said = f"ended after {limit_s:.0f} s, with all that it had started"
            if said or (ended_at is not None and now > ended_at + 1.0):
                break
    end_group(process, 0.0 if said else max(0.0, end - time.monotonic()))  # one may close its output and go on
    text = head.decode(errors="replace")
    if tail:
        half = OUTPUT // 2
        text = head[:half].decode(errors="replace")
        last = (head[half:] + tail)[-half:]
        text += f"\n[… {size - half - len(last)} bytes left out …]\n{last.decode(errors='replace')}"
    code = process.returncode
    note = said or (f"exit code {code}" if code >= 0 else f"ended by signal {-code}")
    return Result(f"{files.printable(text).rstrip()}\n[{note}]".lstrip("\n"), bool(said) or code != 0)


def end_group(leader: subprocess.Popen[bytes], patience_s: float) -> None:
    """End a process with everything of its group; it may have so long to end by itself."""
    try:
        leader.wait(patience_s)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except OSError:
        pass  # nothing of it is left
    leader.wait()
