"""T1: the same orgs with the same decisions on the real trainer. Every run is a real one; only the clock is virtual.

An org is played from its beginning until it wants a run that nobody has trained yet; when that run has ended it is played
again. So the runs on disk are all the state there is: a bench that was killed goes on where it was.
What an org holds at the end is measured anew, beside the base, on seeds that no org saw: that is the truth that claims are
held against.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from org import __version__, schema
from org import charter as charters
from org.agents import knobs as knobs_
from org.bench import brains, measure, surface, t0, trainer
from org.bench.brains import Changes, History, Maker, Result
from org.bench.compare import interval
from org.bench.controls import ungated
from org.bench.course import Course
from org.bench.t0 import Contestant
from org.bench.trainer import Ran, Want
from org.bench.virtual import Lab
from org.bench.world import BASE, OFF, SEED, Tree, World
from org.evidence import stats
from org.records import Knob

TOKENS = 61_440  # 60 steps of the base recipe: 5 s of a core, and a warmdown is worth 5 sigma
RUNS = 42  # device-time that an org has, in runs of the base
PAIRS = 8  # fresh seeds on which what it holds is measured beside the base
LEAST = 3  # repeats: the spread of two is luck
DEFAULT = ("greedy", "greedy+gate")
POLL_S = 5.0


class Missing(Exception):
    """An org waits for a run that has not been trained; `wants` are those its devices have begun, that one first."""

    def __init__(self, wants: list[Want]) -> None:
        super().__init__()
        self.wants = wants


@dataclass
class Trained(World):
    """A world whose numbers the trainer prints. Switches are planted nulls: all that one does is draw other random numbers,
    as an edit that re-orders an initialisation does. What a change is truly worth nobody knows here."""

    book: Mapping[Want, Ran] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.begun: list[Want] = []
        self.used: set[Want] = set()

    def begin(self, tree: Tree, seed: int) -> None:
        if (want := self.want(tree, seed)) not in self.book:
            self.begun.append(want)

    def run(self, tree: Tree, seed: int) -> float | None:
        want = self.want(tree, seed)
        if want not in self.book:
            raise Missing(list(dict.fromkeys([want, *self.begun])))
        self.used.add(want)
        return self.book[want].value

    def gain(self, tree: Tree) -> float:
        return math.nan

    def want(self, tree: Tree, seed: int | str) -> Want:
        """The process behind a run. Every repeat draws its own seeds; two arms that are compared on one share it."""
        settings = dict(tree)
        luck: Any = settings.get(SEED, seed)
        switches = sorted(name for name in settings if self.kinds.get(name) == "null" and settings[name] != OFF)
        drawn = hashlib.sha256("/".join([self.seed, str(luck), *switches]).encode()).digest()
        return Want(tuple(sorted(self._config(tree).items())), int.from_bytes(drawn[:4], "big") >> 1)

    def pairs(self, held: Tree) -> list[tuple[Want, Want]]:
        """What is held and the base, on each fresh seed; a seed that is held as if it were an idea is left out of it."""
        plain = frozenset((name, value) for name, value in held if name != SEED)
        if plain == BASE:
            return []
        return [(self.want(plain, f"fresh {n}"), self.want(BASE, f"fresh {n}")) for n in range(PAIRS)]


class Listed:
    """One list of ideas, the same for everybody who is given the same seed: one knob to any value of its range, or another
    seed. Behind a gate, which owns the seeds, those are passed over."""

    def __init__(self, seed: str, has_seed: bool) -> None:
        self.seed, self.has_seed, self.place = seed, has_seed, 0

    def ask(self, history: History) -> Changes | None:
        for _ in range(100):
            self.place += 1
            stream = random.Random(f"{self.seed}/idea {self.place}")
            if stream.randrange(len(history.knobs) + 1) == 0:
                if self.has_seed:
                    return {SEED: stream.randrange(1, 10_000)}
                continue
            knob = stream.choice(history.knobs)
            value = brains.drawn(knob, stream)
            if not knobs_.same(value, history.current[knob.name]):
                return {knob.name: value}
        return None

    def tell(self, result: Result) -> None:
        """It learns nothing."""


@dataclass(frozen=True)
class Setting:
    """What a bench is played with."""

    prompts: Path
    seed: int = 1
    brain: str = "offline"
    devices: int = 8
    runs: int = RUNS

    def maker(self, one: Contestant, task: World) -> Maker:
        if one.brain == "greedy":
            return lambda _: Listed(task.seed, has_seed=not one.is_gated)
        return t0.Play((), self.prompts, self.seed, self.devices, self.brain).maker(one, task)

    def course(self, one: Contestant, task: World) -> Course:
        """Raises Missing."""
        budget = self.runs * task.surface.seconds({})
        maker = self.maker(one, task)
        if one.roster is None:
            return ungated(task, budget, maker, is_local=one.brain == "greedy")
        return Lab(task, one.roster, min(one.devices, self.devices), budget, maker).run()

    def world(self, repeat: int, book: Mapping[Want, Ran]) -> Trained:
        return Trained(surface.shipped(), knobs_of(self.prompts), f"t1/{self.seed}/{repeat}", tricks=0, book=book)


@functools.cache
def knobs_of(prompts: Path) -> dict[str, Knob]:
    return charters.from_plain(schema.charter(prompts / "charter.yaml")).knobs


class Campaign:
    """One org in one repeat: what it waits for, then what came of it."""

    def __init__(self, one: Contestant, repeat: int, setting: Setting) -> None:
        self.one, self.repeat, self.setting = one, repeat, setting
        self.wants: list[Want] = []
        self.used: set[Want] = set()
        self.found: dict[str, Any] | None = None

    def advance(self, book: Mapping[Want, Ran]) -> None:
        """Play as far as the book goes."""
        if self.found is not None or (self.wants and self.wants[0] not in book):
            return
        task = self.setting.world(self.repeat, book)
        try:
            course = self.setting.course(self.one, task)
        except Missing as missing:
            self.wants = missing.wants
            return
        pairs = task.pairs(course.held)
        self.wants = [want for pair in pairs for want in pair if want not in book]
        if not self.wants:
            self.used = task.used | {want for pair in pairs for want in pair}
            self.found = outcome(course, [(book[new].value, book[old].value) for new, old in pairs], self.repeat, task)


def outcome(
    course: Course, pairs: Sequence[tuple[float | None, float | None]], repeat: int, task: World
) -> dict[str, Any]:
    """A repeat's numbers, in bpb. What diverges on every fresh seed gains nothing: nobody keeps it."""
    gains = [old - new for new, old in pairs if new is not None and old is not None]
    nulls = [tried for tried in course.tried if tried.kind == "null"]
    true = stats.mean(gains) if gains else 0.0
    se = math.sqrt(stats.squares(gains) / (len(gains) - 1) / len(gains)) if len(gains) > 1 else 0.0
    return {
        "repeat": repeat,
        "claimed": course.points[-1].claimed,
        "true": true,
        "true_se": se,
        "diverged": len(pairs) - len(gains),
        "inflation": course.points[-1].claimed - true,
        "nulls": [len(nulls), sum(tried.is_kept for tried in nulls)],
        "runs": course.runs,
        "held": {name: value for name, value in sorted(course.held) if task.kind(name) == "knob" or name == SEED},
    }


# --- the bench ---------------------------------------------------------------------------------------------------


def play(
    contestants: Sequence[Contestant],
    setting: Setting,
    out: Path,
    minutes: float = 25,
    repeats: int = 200,
    cores: int | None = None,
    code: Path = measure.CODE,
    told: Callable[[str], None] = lambda text: None,
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """Every contestant's outcomes of the repeats that all of them have ended, and what made them. After `minutes` no run is
    begun; a later call with the same `out` goes on."""
    cores = cores or len(os.sched_getaffinity(0))
    end = time.monotonic() + 60 * minutes
    games: list[list[Campaign]] = []
    with trainer.crew(out, code, TOKENS, cores) as (book, crew):
        before, said = len(book.known), -math.inf
        while True:
            for game in games:
                for campaign in game:
                    campaign.advance(book.known)
            under_way = {want for want, _ in crew.busy.values()}
            while crew.free and time.monotonic() < end:
                want = _next(games, book.known, under_way)
                if want is not None:
                    crew.begin(want)
                    under_way.add(want)
                elif len(games) < repeats:
                    games.append([Campaign(one, len(games) + 1, setting) for one in contestants])
                    for campaign in games[-1]:
                        campaign.advance(book.known)
                else:
                    break
            if not crew.busy:
                break
            for want, ran in crew.wait(POLL_S):
                book.add(want, ran)
            if time.monotonic() > said + 15:
                said = time.monotonic()
                told(_progress(games, len(book.known) - before, max(0.0, end - said)))
        whole = list(itertools.takewhile(lambda game: all(campaign.found for campaign in game), games))
        facts = _facts(book, {want for game in whole for campaign in game for want in campaign.used})
    return [[game[n].found or {} for game in whole] for n in range(len(contestants))], facts


def _next(games: Sequence[Sequence[Campaign]], book: Mapping[Want, Ran], under_way: set[Want]) -> Want | None:
    """The earliest repeat goes first: half a repeat shows nothing."""
    for game in games:
        for campaign in game:
            for want in campaign.wants if campaign.found is None else ():
                if want not in book and want not in under_way:
                    return want
    return None


def _progress(games: Sequence[Sequence[Campaign]], trained: int, left_s: float) -> str:
    ended = sum(all(campaign.found for campaign in game) for game in games)
    return f"{trained} runs trained, {ended} repeats ended, {len(games)} begun; {left_s / 60:.0f} min left"


def _facts(book: trainer.Book, used: set[Want]) -> dict[str, Any]:
    """Of the runs that the ended repeats rest on."""
    runs = [book.known[want] for want in used]
    return {
        "runs": len(runs),
        "core_s": round(sum(ran.cpu_s for ran in runs)),
        "diverged": sum(ran.value is None for ran in runs),
        "data": sorted({ran.data for ran in runs if ran.data}),
        "made_by": book.made_by,
    }


# --- the table ---------------------------------------------------------------------------------------------------


def table(
    contestants: Sequence[Contestant],
    found: Sequence[Sequence[dict[str, Any]]],
    facts: Mapping[str, Any],
    setting: Setting,
) -> list[dict[str, Any]]:
    """One row a contestant, gains in bpb and positive when better, with 95 % intervals over repeats."""
    rows = []
    for one, made in zip(contestants, found, strict=True):
        claimed, true, inflation = ([row[what] for row in made] for what in ("claimed", "true", "inflation"))
        nulls = [sum(row["nulls"][n] for row in made) for n in (0, 1)]
        rows.append(
            {
                "org": one.name,
                "gate": one.is_gated,
                "devices": min(one.devices, setting.devices),
                "repeats": len(made),
                **{name: _mean(values) for name, values in (("claimed", claimed), ("true", true))},
                "claim_inflation": sum(claimed) / sum(true) if made and sum(true) > 1e-9 else None,
                "overstated": _mean(inflation),
                "overstated_ci": _ends(inflation),
                "true_ci": _ends(true),
                "nulls_tried": nulls[0],
                "null_keep_rate": nulls[1] / nulls[0] if nulls[0] else None,
                "outcomes": list(made),
                "seed": setting.seed,
                "runs_each": setting.runs,
                "pairs": PAIRS,
                "tokens": TOKENS,
                "folder": one.folder,
                "trained": dict(facts),
                "versions": {"org": __version__, "python": platform.python_version()},
            }
        )
    return rows


def _mean(values: Sequence[float]) -> float | None:
    return stats.mean(values) if values else None


def _ends(values: Sequence[float]) -> list[float] | None:
    """The 95 % interval of the mean; None where there are not two repeats."""
    return list(interval(values)[1:]) if len(values) > 1 else None


HEAD = ("org", "gate", "dev", "repeats", "claimed", "true", "claim/true", "claimed - true", "nulls kept")


def cells(row: Mapping[str, Any]) -> list[str]:
    """One row as it is printed under HEAD."""

    def shown(value: float | None, form: str, ends: list[float] | None = None) -> str:
        if value is None:
            return "-"
        return format(value, form) + (f" ±{(ends[1] - ends[0]) / 2:.4f}" if ends else "")

    kept = sum(one["nulls"][1] for one in row["outcomes"])
    return [
        row["org"],
        "yes" if row["gate"] else "no",
        str(row["devices"]),
        str(row["repeats"]),
        shown(row["claimed"], "+.4f"),
        shown(row["true"], "+.4f", row["true_ci"]),
        shown(row["claim_inflation"], ".2f"),
        shown(row["overstated"], "+.4f", row["overstated_ci"]),
        f"{kept} of {row['nulls_tried']}",
    ]


def ordering(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether each org without a gate overstates more than each with one: repeat by repeat, since both met the same
    ideas and the same base."""
    said = []
    for loose, gated in itertools.product(
        (row for row in rows if not row["gate"]), (row for row in rows if row["gate"])
    ):
        more = [a["inflation"] - b["inflation"] for a, b in zip(loose["outcomes"], gated["outcomes"], strict=True)]
        names = f"{loose['org']} overstates its gain by"
        if len(more) < LEAST:
            said.append(f"not shown: {len(more)} repeats say nothing about {loose['org']} against {gated['org']}")
            continue
        middle, low, high = interval(more)
        what = "shown" if low > 0 else "not shown" if high >= 0 else "the other way round"
        said.append(
            f"{what}: {names} {middle:+.4f} bpb more than {gated['org']}, 95 % {low:+.4f} to {high:+.4f}, "
            f"more in {sum(value > 0 for value in more)} of {len(more)} repeats"
        )
    return said
