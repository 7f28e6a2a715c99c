"""Which version of an agent program is installed, asked of the program itself, and whether this org was tested with it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

from org.agents.pins import Pin
from org.agents.shell import end_group
from org.files import printable

ASK_S = 15.0  # a Node program on a busy machine takes eight
NUMBER = re.compile(r"\d+(?:\.\d+)+(?:[-+][0-9A-Za-z.+-]+)?")


def asked(argv: Sequence[str], limit_s: float = ASK_S) -> str | None:
    """The version that the program prints, None where it prints none in time. It and what it started are ended then."""
    with tempfile.TemporaryFile() as out:  # a pipe would be held open by whatever outlives the program
        try:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except OSError:
            return None
        end_group(child, limit_s)
        out.seek(0)
        found = NUMBER.search(out.read(4096).decode(errors="replace"))
    return printable(found[0], 60) if found else None


def told(argv: Sequence[str], known: str | None, missing: str) -> str:
    """One line for a person: the version and what it means, or how to install the program."""
    program = shutil.which(argv[0])
    if program is None:
        return missing
    version = asked([program, *argv[1:]])
    if version is None:
        return f"installed; `{' '.join(argv)}` says no version within {ASK_S:.0f} s"
    if known is None:
        return f"{version}; no version is known to be good"
    if version == known:
        return f"{version}, known good"
    return f"{version}, not tested with this version of org; {known} is known good"


def of_pin(pin: Pin) -> str:
    return told([pin.program, "--version"], pin.version, pin.missing)
