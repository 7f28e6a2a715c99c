"""T0: every shipped org and every control on the same worlds, many times, in virtual time. One row each, with intervals.

An org is what its folder says: its roster is read here and played by `bench.virtual` with the org's own rules.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from org import __version__, schema
from org import charter as charters
from org.bench import brains, surface
from org.bench.brains import Maker
from org.bench.compare import Standing, interval
from org.bench.controls import ungated
from org.bench.course import Course, Point, Roster
from org.bench.virtual import Lab
from org.bench.world import World
from org.errors import BadInput, did_you_mean
from org.home import Home

MARKS = (100, 300)  # runs of the base, as device-seconds, at which gains are read
WIDEST = 480  # runs that an org of several devices is followed for, to see when it comes where one device ends
STEPS = 60  # points of a curve
SIZES = ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, math.inf))  # true effects, in sigmas
CONTROLS = ("no-op", "random", "greedy", "greedy+gate", "tpe", "adversary")
ALL = "all"  # every org and every control
SOLO = "solo"  # what speed is measured against
TRICKS = 40  # of the adversary's world


@dataclass(frozen=True)
class Contestant:
    """One row of the table: an org folder, or a control of that name."""

    name: str
    is_gated: bool
    devices: int
    roster: Roster | None = None  # None: a control without a gate
    brain: str = "offline"
    folder: str = ""  # hash of the org folder


def rosters(prompts: Path, names: Sequence[str], hash_of: Callable[[Home, str], str]) -> list[Contestant]:
    """The org folders below `prompts`/orgs, or those named, each with its hash as the ledger has it. Raises BadInput for a
    name that is none."""
    home = Home(prompts.parent)
    known = sorted(path.parent.name for path in (prompts / "orgs").glob("*/org.yaml"))
    for name in names:
        if name not in known:
            raise BadInput(f"no org {name!r:.60}{did_you_mean(name, known)}; known: {', '.join(known)}")
    return [_contestant(home, name, hash_of(home, name)) for name in names or known]


def _contestant(home: Home, name: str, folder: str) -> Contestant:
    plain = schema.org_folder(home.org_folder(name))
    proposers: list[str] = []
    counts = {"chief": 0, "breaker": 0, "councillor": 0}
    for line in plain["seats"]:
        kind = next((kind for kind in counts if line["role"].startswith(kind)), None)
        if kind:
            counts[kind] += line["count"]
        else:
            proposers += [f"{line['role']}{n}" for n in range(1, line["count"] + 1)]
    if not proposers:
        raise BadInput(f"{home.org_folder(name)}: no seat of this org runs experiments; T0 has nothing to measure")
    roster = Roster(name, tuple(proposers), counts["chief"] > 0, counts["breaker"])
    return Contestant(name, True, len(proposers), roster, folder=folder)


def controls() -> list[Contestant]:
    one = partial(Roster, proposers=("agent",))
    return [
        Contestant("no-op", True, 1, one("no-op"), "nothing"),
        Contestant("random", False, 1, brain="random"),
        Contestant("greedy", False, 1, brain="greedy"),
        Contestant("greedy+gate", True, 1, one("greedy+gate"), "greedy"),
        Contestant("tpe", False, 1, brain="tpe"),
        Contestant("adversary", True, 1, one("adversary"), "tricks"),
    ]


def named(
    prompts: Path, names: Sequence[str], hash_of: Callable[[Home, str], str], devices: int = 64
) -> list[Contestant]:
    """The orgs and controls of these names, each once, in their order; all there are for `all`, and when none is named.
    NAME:N is one with so many seats that propose, on as many devices. Raises BadInput, also for more than `devices`."""
    wanted = [name.partition(":") for name in names or (ALL,)]
    known = {one.name: one for one in controls()}
    folders = {base for base, _, _ in wanted} - {*known, ALL}
    orgs = rosters(prompts, sorted(folders), hash_of) if folders else []  # says which of them is none
    if any(base == ALL for base, _, _ in wanted):
        orgs = rosters(prompts, (), hash_of)
    known = {one.name: one for one in orgs} | known
    found: dict[str, Contestant] = {}
    for base, colon, count in wanted:
        if not colon:
            found |= known if base == ALL else {base: known[base]}
        elif base == ALL or not count.isdecimal() or not 1 <= int(count) <= devices:
            raise BadInput(f"{f'{base}:{count}'!r:.60}: NAME:N takes one org or control and 1 to {devices} devices")
        else:
            found[f"{base}:{int(count)}"] = sized(known[base], int(count))
    return list(found.values())


def sized(one: Contestant, devices: int) -> Contestant:
    """The same with as many devices, and with a seat that proposes for each, like those that it has."""
    name, roster = f"{one.name}:{devices}", one.roster
    if roster is not None:
        role = roster.proposers[-1].rstrip("0123456789")
        more = (f"{role}{n}" for n in range(len(roster.proposers) + 1, devices + 1))
        roster = replace(roster, name=name, proposers=(*roster.proposers, *more)[:devices])
    return replace(one, name=name, roster=roster, devices=devices)


@dataclass(frozen=True)
class Play:
    """What one worker does for one repeat: picklable, so that a pool can be given it."""

    contestants: tuple[Contestant, ...]
    prompts: Path
    seed: int
    devices: int
    brain: str  # the researcher of the org folders

    def __call__(self, repeat: int) -> list[dict[str, Any]]:
        charter = charters.from_plain(schema.charter(self.prompts / "charter.yaml"))
        truth = surface.shipped()
        found = []
        for one in self.contestants:
            tricks = TRICKS if one.brain == "tricks" else 5
            world = World(truth, charter.knobs, f"{self.seed}/{repeat}", one.name, tricks=tricks)
            found.append(summary(one, self.course(one, world), truth.seconds({})))
        return found

    def course(self, one: Contestant, world: World) -> Course:
        run_s = world.surface.seconds({})
        devices = min(one.devices, self.devices)
        maker = self.maker(one, world)
        if one.roster is None:
            return ungated(world, MARKS[-1] * run_s, maker, is_local=one.brain == "greedy", devices=devices)
        runs = WIDEST if devices > 1 else MARKS[-1]
        return Lab(world, one.roster, devices, runs * run_s, maker).run()

    def maker(self, one: Contestant, world: World) -> Maker:
        if one.brain == "nothing":
            return brains.Nothing
        if one.brain == "tricks":
            return partial(brains.Tricks, names=[name for name, kind in world.kinds.items() if kind == "trick"])
        if one.brain == "greedy":
            # the seed is one of its ideas; the gate owns the seeds, so behind it there is no such idea
            return partial(brains.Ideas, has_seed=not one.is_gated)
        return brains.load(self.brain if one.brain == "offline" else one.brain)


def summary(one: Contestant, course: Course, run_s: float) -> dict[str, Any]:
    """The numbers of one course, in bpb, seconds and counts: small, since it crosses from process to process."""
    ends = [at(course.points, mark * run_s) for mark in MARKS]
    step = WIDEST * run_s / STEPS
    curve = [at(course.points, n * step) for n in range(STEPS + 1)]
    nulls = [t for t in course.tried if t.kind == "null"]
    tricks = [t for t in course.tried if t.kind == "trick"]
    sizes = [[t for t in course.tried if t.kind == "knob" and low <= t.sigmas < high] for low, high in SIZES]
    return {
        "name": one.name,
        "gains": [end.true for end in ends],
        "claims": [end.claimed for end in ends],
        "area": _area(course.points, MARKS[-1] * run_s),
        "nulls": (len(nulls), sum(t.is_kept for t in nulls)),
        "tricks": (len(tricks), sum(t.is_kept for t in tricks)),
        "sizes": [(len(found), sum(t.is_kept for t in found)) for found in sizes],
        "busy": course.busy_s / course.device_s,
        "runs": course.runs,
        "true": [point.true for point in curve],
        "claimed": [point.claimed for point in curve],
    }


def at(points: Sequence[Point], device_s: float) -> Point:
    return next(point for point in reversed(points) if point.device_s <= device_s)


def _area(points: Sequence[Point], end: float) -> float:
    """Mean true gain over the device-seconds up to `end`."""
    inside = [point for point in points if point.device_s < end]
    ends = [*(point.device_s for point in inside[1:]), end]
    return sum(p.true * (e - p.device_s) for p, e in zip(inside, ends, strict=True)) / end


# --- the table ---------------------------------------------------------------------------------------------------


def play(
    contestants: Sequence[Contestant],
    prompts: Path,
    repeats: int = 200,
    seed: int = 1,
    devices: int = 8,
    brain: str = "offline",
    workers: int | None = None,
    told: Callable[[int], None] | None = None,
) -> list[list[dict[str, Any]]]:
    """Every contestant's summaries, a list of repeats each. The same seed gives the same numbers on any number of workers."""
    job = Play(tuple(contestants), prompts, seed, devices, brain)
    job.maker(Contestant("", True, 1), None) if brain not in brains.SHIPPED else None  # type: ignore[arg-type]
    rows: list[list[dict[str, Any]]] = [[] for _ in contestants]
    for done, repeat in enumerate(_mapped(job, repeats, workers), 1):
        for row, made in zip(rows, repeat, strict=True):
            row.append(made)
        if told:
            told(done)
    return rows


def _mapped(job: Play, repeats: int, workers: int | None) -> Iterator[list[dict[str, Any]]]:
    count = min(workers or len(os.sched_getaffinity(0)), repeats)
    if count < 2:
        yield from map(job, range(repeats))
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a worker a core: a second thread each only gets in the way
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("fork")) as pool:
        yield from pool.map(job, range(repeats), chunksize=max(1, min(4, repeats // count)))


def table(
    contestants: Sequence[Contestant], found: Sequence[Sequence[dict[str, Any]]], seed: int, devices: int = 8
) -> list[dict[str, Any]]:
    """One row a contestant, with 95 % intervals over repeats. Gains in bpb, positive when better."""
    truth = surface.shipped()
    run_s = truth.seconds({})
    solo_wall = MARKS[-1] * run_s
    solo = next(
        (
            _mean([r["gains"][-1] for r in rows])
            for one, rows in zip(contestants, found, strict=True)
            if one.name == SOLO
        ),
        None,
    )
    rows = []
    for one, made in zip(contestants, found, strict=True):
        used = min(one.devices, devices)
        gains = [interval([row["gains"][n] for row in made]) for n in range(len(MARKS))]
        curve = [_mean([row["true"][n] for row in made]) for n in range(STEPS + 1)]
        step = WIDEST * run_s / STEPS
        reached = next((n * step / used for n, gain in enumerate(curve) if solo is not None and gain >= solo > 0), None)
        nulls, tricks = ([sum(row[what][n] for row in made) for n in (0, 1)] for what in ("nulls", "tricks"))
        sizes = [[sum(row["sizes"][n][k] for row in made) for k in (0, 1)] for n in range(len(SIZES))]
        claimed, true = _mean([row["claims"][-1] for row in made]), gains[-1][0]
        rows.append(
            {
                "org": one.name,
                "kind": "control" if not one.folder else "org",
                "gate": one.is_gated,
                "devices": used,
                **{f"gain_{mark}": gain[0] for mark, gain in zip(MARKS, gains, strict=True)},
                **{f"gain_{mark}_ci": list(gain[1:]) for mark, gain in zip(MARKS, gains, strict=True)},
                "claimed": claimed,
                "claim_inflation": claimed / true if true > 1e-9 else None,
                "area": _mean([row["area"] for row in made]),
                "device_h_to_half": _half(curve, step, truth),
                "wall_over_solo": None if reached is None else reached / solo_wall,
                "nulls_tried": nulls[0],
                "null_keep_rate": nulls[1] / nulls[0] if nulls[0] else None,
                "tricks_tried": tricks[0],
                "trick_catch_rate": 1 - tricks[1] / tricks[0] if tricks[0] else None,
                "true_keep_rate": {
                    f"{low:g}-{high:g} sigma": kept / tried if tried else None
                    for (low, high), (tried, kept) in zip(SIZES, sizes, strict=True)
                },
                "busy_share": _mean([row["busy"] for row in made]),
                "runs": _mean([row["runs"] for row in made]),
                "repeats": len(made),
                "seed": seed,
                "folder": one.folder,
                "versions": {"org": __version__, "python": platform.python_version(), "rows": truth.facts["rows"]},
            }
        )
    return rows


def reachable(truth: surface.Surface) -> float:
    """What the best of every knob's measured levels gains, interactions left out: the yardstick of `device_h_to_half`."""
    return -sum(min(effects) for _, effects in truth.mains.values())


def _half(curve: Sequence[float], step: float, truth: surface.Surface) -> float | None:
    return next((n * step / 3600 for n, gain in enumerate(curve) if gain >= reachable(truth) / 2), None)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


HEAD = ("org", "gate", "dev", *(f"gain@{mark}" for mark in MARKS), "claimed", "claim/true", "area", "h to half", "x solo wall",
        "null keep", "2-4 sigma kept", "tricks out", "busy")  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    """One row as it is printed under HEAD."""

    def share(value: float | None, form: str = ".1%") -> str:
        return "-" if value is None else format(value, form)

    gains = []
    for mark in MARKS:
        low, high = row[f"gain_{mark}_ci"]
        gains.append(f"{row[f'gain_{mark}']:+.4f} ±{(high - low) / 2:.4f}")
    return [
        row["org"],
        "yes" if row["gate"] else "no",
        str(row["devices"]),
        *gains,
        f"{row['claimed']:+.4f}",
        share(row["claim_inflation"], ".2f"),
        f"{row['area']:+.4f}",
        share(row["device_h_to_half"], ".2f"),
        share(row["wall_over_solo"], ".2f"),
        share(row["null_keep_rate"], ".2%"),
        share(row["true_keep_rate"].get("2-4 sigma"), ".0%"),
        share(row["trick_catch_rate"]),
        share(row["busy_share"], ".0%"),
    ]


def missed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences about the targets: each one met or missed, with its figures; those whose rows are not there left out."""
    known = {row["org"]: row for row in rows}
    found = []
    for name in ("no-op", "adversary"):
        if name in known:
            low, high = known[name][f"gain_{MARKS[-1]}_ci"]
            found.append(
                f"{_met(low <= 0 <= high)}: {name} gains {known[name][f'gain_{MARKS[-1]}']:+.4f} bpb, 0 within noise"
            )
    gated = [row for row in rows if row["claim_inflation"] is not None and row["gate"] and row["kind"] == "org"]
    for row in gated:
        found.append(
            f"{_met(row['claim_inflation'] <= 1.1)}: {row['org']} claims {row['claim_inflation']:.2f} x what is true, at most 1.1"
        )
    if gated and (greedy := known.get("greedy")) and greedy["claim_inflation"] is not None:
        worst = max(row["claim_inflation"] for row in gated)
        found.append(
            f"{_met(greedy['claim_inflation'] > 1.2 * worst)}: greedy claims {greedy['claim_inflation']:.2f} x what is true"
        )
    for ours in [row for row in rows if row["org"].partition(":")[0] == "chief-juniors"]:
        for theirs in rows:
            least = {"tpe": 0.9, "random": 1.3}.get(theirs["org"].partition(":")[0])
            is_plain = ":" not in ours["org"] + theirs["org"]
            if least is None or not (is_plain or ours["devices"] == theirs["devices"]):
                continue
            for mark in MARKS:
                gain = theirs[f"gain_{mark}"]
                ratio = ours[f"gain_{mark}"] / gain if gain > 0 else math.inf
                what = f"{ours['org']} verifies {ratio:.2f} x what {theirs['org']} truly gains in {mark} runs"
                found.append(f"{_met(ratio >= least)}: {what}, at least {least:g}")
    if SOLO in known and "chief-juniors" in known:
        wall = known["chief-juniors"]["wall_over_solo"]
        said = "never" if wall is None else f"in {wall:.2f} of its wall time"
        is_fast = wall is not None and wall <= 0.2
        found.append(f"{_met(is_fast)}: chief-juniors comes where {SOLO} ends {said}, at most 0.2")
    return found


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def standings(rows: Sequence[dict[str, Any]]) -> list[Standing]:
    """The rows' gains at the last mark, to be ranked."""
    mark = MARKS[-1]
    return [Standing(row["org"], row["repeats"], row[f"gain_{mark}"], *row[f"gain_{mark}_ci"]) for row in rows]
