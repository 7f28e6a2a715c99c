"""Every trap of every family, and what is known to be missed."""

from traps import compute, evaluator, governance, planted, reporting, statistics
from traps.play import KnownMiss, Trap

TRAPS: list[Trap] = [
    *evaluator.TRAPS,
    *compute.TRAPS,
    *statistics.TRAPS,
    *reporting.TRAPS,
    *planted.TRAPS,
    *governance.TRAPS,
]
KNOWN_MISSED: list[KnownMiss] = [*compute.KNOWN_MISSED, *reporting.KNOWN_MISSED, *governance.KNOWN_MISSED]
