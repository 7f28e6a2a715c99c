"""Walls around code the org did not write: Landlock for files, seccomp for the network. The only module that calls either.

Needs no privileges and no program; lasts for the process and all it starts. Behind the walls a process reads what is not
hidden, writes where it was told to, opens no connection, and neither signals nor inspects a process outside.
Where the kernel has no Landlock there are no walls, and `level()` says so. Not a container: a Unix socket of the same
user can still be spoken to, and CPU and memory are not limited here.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on every architecture
_EXECUTE, _WRITE, _READ_FILE, _READ_DIR, _REFER, _TRUNCATE = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 13, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _WRITE | _READ_FILE | _TRUNCATE
_SCOPES = 0b11  # no abstract socket, no signal to a process outside
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_AF_UNIX, _AF_NETLINK = 1, 16
# machine -> (architecture as seccomp sees it, number of the system call `socket`)
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
_IO_URING_SETUP = 425
SHARED_SCRATCH = ("/tmp", "/var/tmp")  # where one run could leave something for the next
_DEVICES = ("/dev",)  # written to by CUDA, terminals, /dev/null; POSIX semaphores lie in /dev/shm


@dataclass(frozen=True)
class Walls:
    """What a confined process may do. Paths that do not exist are left out when it starts."""

    read: tuple[str, ...]
    write: tuple[str, ...]

    def enter(self) -> None:
        """Confine the calling process for the rest of its life; call it between fork and exec. Raises OSError."""
        if level() == "none":
            return
        _libc_call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
        _landlock(self)
        _no_network()


@cache
def level() -> str:
    """`landlock` where the kernel confines, else `none`."""
    return "landlock" if _abi() > 0 else "none"


def walls(hidden: Iterable[Path], read: Iterable[Path], write: Iterable[Path]) -> Walls:
    """Everything may be read but `hidden` and the shared scratch folders; `read` and `write` are let through again."""
    dark = [path.resolve() for path in (*hidden, *map(Path, SHARED_SCRATCH))]
    seen = [str(path) for path in _cover(Path("/"), dark)]
    return Walls((*seen, *(str(p) for p in read)), (*_DEVICES, *(str(p) for p in write)))


def _cover(folder: Path, dark: list[Path]) -> list[Path]:
    """Folders and files that together are all below `folder` without `dark`. A symlink is left out: what it names is
    covered, or hidden, by its own place."""
    if folder in dark:
        return []
    if not any(path.is_relative_to(folder) for path in dark):
        return [folder]
    try:
        children = [Path(entry.path) for entry in os.scandir(folder) if not entry.is_symlink()]
    except OSError:
        return []
    return [path for child in children for path in _cover(child, dark)]


def _landlock(rules: Walls) -> None:
    abi = _abi()
    handled = (1 << 13) - 1 | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)
    attributes = struct.pack("QQQ", handled, 0, _SCOPES if abi >= 6 else 0)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _libc_call("syscall", _CREATE, ctypes.c_char_p(attributes), len(attributes), 0)
    for paths, access in ((rules.read, _READ), (rules.write, handled)):
        for path in paths:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            allowed = access if os.path.isdir(path) else access & _ON_FILES  # noqa: PTH112 - between fork and exec
            rule = struct.pack("=Qi", allowed & handled, descriptor)
            _libc_call("syscall", _ADD, ruleset, 1, ctypes.c_char_p(rule), 0)
            os.close(descriptor)
    _libc_call("syscall", _RESTRICT, ruleset, 0)
    os.close(ruleset)


def _no_network() -> None:
    """Sockets are local or they are refused; io_uring, which could make others, is refused too."""
    if platform.machine() not in _SOCKET:
        return
    arch, number = _SOCKET[platform.machine()]
    load, equal, at_least, back = 0x20, 0x15, 0x35, 0x06
    refuse, allow = 0x00050000 | 13, 0x7FFF0000  # EACCES
    program = [
        (load, 0, 0, 4),
        (equal, 0, 8, arch),  # another architecture's calls have other numbers: refused
        (load, 0, 0, 0),
        (at_least, 6, 0, 0x40000000),  # x32
        (equal, 5, 0, _IO_URING_SETUP),
        (equal, 0, 3, number),
        (load, 0, 0, 16),
        (equal, 1, 0, _AF_UNIX),
        (equal, 0, 1, _AF_NETLINK),
        (back, 0, 0, allow),
        (back, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    _libc_call("prctl", _SET_SECCOMP, _FILTER, head, 0, 0)


@cache
def _abi() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE, None, 0, 1)))


def _libc_call(name: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    answer = int(getattr(libc, name)(*given))
    if answer < 0:
        raise OSError(ctypes.get_errno(), f"{name} was refused")
    return answer
