"""The charter's own checks: commands that must pass on the clean export of a candidate before it becomes an experiment.

They run the candidate's code, so they run as a run does: behind walls, with a home of their own, under a guard
with a deadline.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

from org import files
from org.failpoint import failpoint
from org.home import Home
from org.lab import guard, runner, spec
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
        failpoint("checks.laid")
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
    log = work.parent / "log.txt"
    log.unlink(missing_ok=True)
    ended = guard.once(words, environment, work, log, LIMIT_S, walls)
    if not log.exists():  # the guard makes it once the command runs
        return f"cannot be started: {ended.last_line()}"
    if ended.timed_out:
        return f"not done in {LIMIT_S:g} s"
    return None if ended.returncode == 0 else files.printable(ended.last_line() or f"exit {ended.returncode}", 200)
