"""One run of git: arguments in, bytes out. The only module that starts git.

Runs with its own configuration, whatever the person's is: no hooks, no file-system monitor, no automatic gc, no
transport of any kind but those that `git.fetch` names. Knows nothing of trees, refs or worktrees: `world.git`,
`world.worktrees` and `world.folders` say what to run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from org.errors import BadInput, MissingTool, OrgError
from org.files import locked

TIMEOUT_S = 60.0

_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_SETTINGS = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    f"attr.tree={_EMPTY_TREE}",  # git >= 2.43 reads .gitattributes of a bare repository's HEAD
    "core.quotePath=false",
    "core.filesRefLockTimeout=5000",  # ms; wait for another writer of the same ref rather than fail
    "core.alternateRefsCommand=true",  # a fetch asks the alternates of a repository by a command it names itself
    "gc.auto=0",
    "maintenance.auto=false",
    "safe.directory=*",  # the person's folder may belong to another user of a container
]


class GitError(OrgError):
    """Git said no; the message is the first line of what it said."""


def output(
    git_dir: Path,
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> bytes:
    """What git prints when it is run on `git_dir`; GitError unless it exits 0."""
    return call(git_dir, *arguments, stdin=stdin, env=env, timeout_s=timeout_s).stdout


def call(
    git_dir: Path,
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    accept: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[bytes]:
    """Run git once on `git_dir`, whatever folder and repository surround the caller; see `run`."""
    return run([f"--git-dir={git_dir.absolute()}", *arguments], stdin, env, timeout_s, accept)


def run(
    arguments: Sequence[str],
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
    accept: Sequence[int] = (0,),
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run git once. GitError unless its exit status is in `accept`, or when it is not done in time."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    verb = next((word for word in arguments if not word.startswith("-") and "/" not in word), "git")
    try:
        process = subprocess.Popen(
            ["git", *settings, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(env or {}),
            cwd=cwd or "/",  # the caller's own folder may be gone, or may be a repository
            start_new_session=True,  # git leaves its transport helpers behind; Ctrl-C must not stop half a write
        )
    except FileNotFoundError:
        if shutil.which("git") is None:
            raise MissingTool("git is not installed; install it with `apt-get install git`") from None
        raise
    late = threading.Event()
    # a timer, and no timeout of communicate's own: that one polls for the end and costs a millisecond a call
    watchdog = threading.Timer(timeout_s, _end, (process, late))
    watchdog.daemon = True
    watchdog.start()
    with process:
        try:
            out, err = process.communicate(stdin)
        finally:
            watchdog.cancel()
            if process.poll() is None:
                _end(process, late)
    if late.is_set():
        raise GitError(f"git {verb} was not done in {timeout_s:.0f} s")
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if done.returncode not in accept:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise GitError(f"git {verb}: {said[0][:300]}")
    return done


def _end(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """End git and whatever it started."""
    late.set()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without any GIT_* (a hook or an agent may have set GIT_DIR), and ours on top."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "org"), ("EMAIL", "org@localhost"))
    }
    ours = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",  # refs/replace of a fetched repository must not change what a sha means
        "GIT_ALLOW_PROTOCOL": "none",  # an object that a partial clone has not got is missing, nobody is asked for it
        "LC_ALL": "C",
    }
    return kept | who | ours | dict(extra)


def held(git_dir: Path, limit_s: float = TIMEOUT_S) -> contextlib.AbstractContextManager[int]:
    """Hold what is to be held while changing what git itself does not lock: worktree entries, a fetch, a repository's
    making. Raises Busy after `limit_s`: agents can reach the hub's lock, and a pane may be stopped while it has it."""
    return locked(git_dir / "org.lock", limit_s=limit_s)  # never unlinked, or two could hold it


def rev(text: str) -> str:
    """A ref, sha or refspec that cannot be read as an option. Git itself refuses the rest."""
    if not text or text.startswith("-") or re.search(r"[\x00-\x20\x7f]", text):
        raise BadInput(f"{text!r} is not a git name")
    return text
