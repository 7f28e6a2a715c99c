"""A disk that can be full: a tmpfs of our own where we may mount one, else a limit on the size of files.

The tmpfs is made smaller than what lies on it and a page: the kernel then refuses every further byte, as a real disk does.
Without the right to mount, every process of the home gets RLIMIT_FSIZE 0, which its children inherit: no file grows.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

SIZE = 1 << 30
PAGE = 4096
TRIES = 50


def may_mount() -> bool:
    """Whether this process may have mounts that nobody else sees."""
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return False
    script = 'mount -t tmpfs none "$0" && umount "$0"'
    argv = ["unshare", "-m", "sh", "-c", script, "/mnt"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def apart(argv: list[str]) -> list[str]:
    """`argv` run where its mounts are its own, and gone with its last process."""
    return ["unshare", "-m", "--", *argv] if may_mount() else argv


class Disk:
    """The folder that the home lies in. `kind` says for the reader which of the two it is."""

    def __init__(self, folder: Path, is_mounted: bool, processes: Callable[[], Iterable[int]]) -> None:
        self.folder, self.is_mounted, self._processes = folder, is_mounted, processes
        self.kind = f"a tmpfs of {SIZE >> 20} MB, made smaller" if is_mounted else "RLIMIT_FSIZE of every process"
        if is_mounted:
            _mount("-t", "tmpfs", "-o", f"size={SIZE},mode=755", "none", str(folder))

    def fill(self) -> str:
        """No further byte fits; what became of it, as a sentence's end."""
        if self.is_mounted:
            for spare in range(1, TRIES):
                facts = os.statvfs(self.folder)
                used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
                with contextlib.suppress(OSError):  # somebody wrote between the look and the mount
                    _mount("-o", f"remount,size={used + spare * PAGE}", str(self.folder))
                    return f"at {used >> 10} KB"
            return f"at more than {used >> 10} KB: it grows too fast to be filled"
        return f"for {self._limit(0)} processes"

    def free(self) -> None:
        if self.is_mounted:
            _mount("-o", f"remount,size={SIZE}", str(self.folder))
        else:
            self._limit(resource.RLIM_INFINITY)

    def used(self) -> float:
        """The share of the disk that is taken."""
        facts = os.statvfs(self.folder)
        return 1 - facts.f_bavail / facts.f_blocks

    def _limit(self, most: int) -> int:
        count = 0
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if hard < 0 else min(most, hard), hard))
                count += 1
        return count


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"mount {' '.join(words)}: {done.stderr.strip()}")
