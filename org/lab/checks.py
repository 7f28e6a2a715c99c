"""The charter's own checks: commands that must pass on the clean export of a candidate before it becomes an experiment.

They run the candidate's code, so they run as a run does: behind walls, with a home of their own, under a deadline.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from org import files
from org.home import Home
from org.lab import runner, spec
from org.records import Charter, Violation
from org.world import confine, git

LIMIT_S = 120.0  # of one command


def violations(home: Home, charter: Charter, tree: str) -> list[Violation]:
    """The first check that does not pass on `tree`, with the last line it printed; nothing when all do."""
    if not charter.checks:
        return []
    with tempfile.TemporaryDirectory(prefix="org-checks-") as made:
        folder = Path(made).resolve()
        work, private = folder / "work", folder / "private"
        git.export(home.record, tree, work)
        for command in charter.checks:
            last = _failure(home, charter, command, work, private)
            if last is not None:
                message = f"`{files.printable(command, 120)}` does not pass: {last}; mend the code, or the check"
                return [Violation("check", None, None, message)]
    return []


def _failure(home: Home, charter: Charter, command: str, work: Path, private: Path) -> str | None:
    """The last line of a check that fails, None of one that passes."""
    words = [sys.executable if word in ("python", "python3") else word for word in shlex.split(command)]
    environment = spec.trainer_environment(charter)
    known = [runner.cache_of(environment), *runner.programs(), work.parent]
    walls = confine.walls([home.comms, home.worktrees], known, [work, private])
    environment |= runner.private_environment(environment, private)
    try:
        child = subprocess.Popen(
            words,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=walls.enter,  # noqa: PLW1509 - one thread here
        )
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    try:
        output, _ = child.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"not done in {LIMIT_S:g} s"
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # the usual end
    lines = output.decode(errors="replace").strip().splitlines()
    return None if child.returncode == 0 else files.printable(lines[-1] if lines else f"exit {child.returncode}", 200)
