"""What T0 knows of an org under way and of what came of it: rosters, programs, jobs, courses. Plain records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from org.bench import quick
from org.bench.world import BASE, Tree, World

VERIFY_SEED = 101  # verification seeds begin here, above every bank

Run = tuple[Tree, int]
Steps = Iterator[list[Run]]  # yields the runs it waits for


@dataclass(frozen=True)
class Point:
    """The org after a change of what it holds. Gains positive when better, `claimed` as the org itself reports it."""

    device_s: float
    true: float
    claimed: float


@dataclass(frozen=True)
class Tried:
    """One change that was put to the org: its kind, its true effect in sigmas (positive when better), and its fate."""

    kind: str
    sigmas: float
    is_kept: bool  # in what the org holds at the end


@dataclass
class Course:
    """What came of one org in one world."""

    points: list[Point]
    tried: list[Tried]
    device_s: float  # held, idle seconds too
    busy_s: float
    runs: int
    held: Tree = BASE  # at the end


@dataclass(frozen=True)
class Roster:
    """What of an org folder T0 knows: who proposes, and whether a chief splits the work among them."""

    name: str
    proposers: tuple[str, ...]
    has_chief: bool = False
    breakers: int = 0


@dataclass
class Line:
    """Where all programs stand, since they move together: their head, and the noise of every run seen from there."""

    slug: str
    noise: quick.Noise
    head: Tree = BASE
    commit: str = "base"
    seeds: tuple[int, ...] = ()
    next_seed: int = VERIFY_SEED
    reported: float = 0.0  # of the head against the one before its last stack
    before: float = 0.0  # what was claimed before that
    claimed: float = 0.0  # of the head against the base; lower is better
    declined: tuple[str, ...] = ()


@dataclass
class Job:
    """Something under way: the runs it waits for, and what it does when it has them."""

    rank: int
    place: int
    steps: Steps
    wants: list[Run] = field(default_factory=list)
    seat: str = ""
    is_owed: bool = False  # credits: behind all else, until a win waits for a head whose members have theirs


def usual_size(world: World) -> float:
    """What an effect is expected to be where the charter names no margin: half the noise of a run."""
    return world.surface.sigma / 2
