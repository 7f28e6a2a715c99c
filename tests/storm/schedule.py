"""What happens to the organisation, and when: a function of the seed alone. Knows no process and no file."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# kind -> its targets, and for how many seconds it lasts; one without seconds is done at once
KINDS: dict[str, tuple[tuple[str, ...], tuple[float, float]]] = {
    "kill": (("office", "office", "agent", "agent", "runner", "guard", "trainer", "tmux", "sender", "git"), (0, 0)),
    "freeze": (("office", "agent", "runner", "guard", "trainer", "tmux", "sender"), (1, 8)),
    "full": (("disk",), (1, 5)),
    "remove": (("worktree", "mailbox", "seat", "run", "running run"), (0, 0)),
    "tear": (
        ("pane", "state", "bell", "office", "status", "identity", "org", "entry", "ledger", "events", "seat-events"),
        (0, 0),
    ),
    "lock": (("hub-index", "hub-refs", "hub-config", "record-refs"), (0, 0)),
    "launch": (("at once", "killed"), (0, 0)),
    "hold": (("seat",), (2, 6)),
    "stop": (("seat",), (0, 0)),
    "run": (("person", "killed person"), (0, 0)),
    "send": (("command",), (0, 0)),
}
SEVERAL = 0.3  # how often a step has more than one fault at the same time


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. pick: in [0, 1), which of those that it could hit."""

    kind: str
    target: str
    pick: float
    for_s: float

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" for {self.for_s:.1f} s" if self.for_s else "")


@dataclass(frozen=True)
class Step:
    """Faults that come together, `gap_s` apart, after a pause in which the organisation works."""

    number: int
    pause_s: float
    gap_s: float
    faults: tuple[Fault, ...]


def known(kinds: Sequence[str] = tuple(KINDS)) -> list[tuple[str, str]]:
    """Every (kind, target) of these kinds. Raises ValueError naming those that there are."""
    if strange := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"no fault is called {', '.join(strange)}; there are {', '.join(KINDS)}")
    return [(kind, target) for kind in kinds for target in KINDS[kind][0]]


def steps(seed: int, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Step]:
    """Steps without end. Every (kind, target) comes once before any comes a second time, in an order of the seed's own."""
    dice = random.Random(seed)
    deck: list[tuple[str, str]] = []
    number = 0
    while True:
        number += 1
        count = 1 if dice.random() >= SEVERAL else dice.choice((2, 2, 3))
        drawn = []
        for _ in range(count):
            if not deck:
                deck = known(kinds)
                dice.shuffle(deck)
            kind, target = deck.pop()
            drawn.append(Fault(kind, target, dice.random(), round(dice.uniform(*KINDS[kind][1]), 1)))
        yield Step(number, round(dice.uniform(0.2, 2.5), 1), round(dice.uniform(0.0, 0.8), 1), tuple(drawn))


def parse_seeds(text: str) -> list[int]:
    """`7` or `1-10`. Raises ValueError saying the forms."""
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
        raise ValueError(f"SEED '{text:.40}' is not known; write 7 or 1-10")
    seeds = list(range(int(first), int(last if dash else first) + 1))
    if not seeds:
        raise ValueError(f"SEED '{text:.40}' names no seed; write the smaller number first")
    return seeds
