"""Every error a person can meet, each with its exit code. Raised where the fact is known, caught once in cli.main.

    OrgError            1  something outside failed; the message names what, where and what next
    |- MissingTool      1  tmux, git, torch: the message says how to install it
    |- BadInput         2  usage, charter, org folder, a name: nothing was created
    |- Refused          3  the gate said no; `violations` says why, one by one
    |- Busy             4  a device, a pane, a home that is already running
    |   `- LeaseHeld    4  a device lock is held; the message names the holder
    `- RunFailed        5  a training process crashed, was lost or passed its deadline

Bugs are not in this tree: they stay tracebacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from org.records import Violation


class OrgError(Exception):
    """A fact a person can act on: one line saying what, where, what next."""

    exit_code = 1


class MissingTool(OrgError):
    """A program or package that the verb needs is not installed."""


class BadInput(OrgError):
    """What a person wrote or typed is not in the allowed form."""

    exit_code = 2


class Refused(OrgError):
    """The gate refuses an experiment; `violations` holds every reason."""

    exit_code = 3

    def __init__(self, message: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(message)
        self.violations = list(violations)


class Busy(OrgError):
    """Somebody else holds what was asked for."""

    exit_code = 4


class LeaseHeld(Busy):
    """A device is leased; the message names the run that holds it."""


class RunFailed(OrgError):
    """A run ended without a number."""

    exit_code = 5


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing when no known word is near."""
    near = get_close_matches(word, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
