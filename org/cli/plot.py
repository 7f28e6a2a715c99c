"""The progress plot, comms/plot/progress.{svg,png}: every run a dot, the running best a line, straight from the ledger."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from org import files
from org.evidence import progress
from org.evidence.control import PROBE
from org.evidence.progress import is_on_the_curve
from org.home import Home
from org.lab.tally import tally
from org.records import Charter, Contract, RunResult, Verdict

if TYPE_CHECKING:
    from org.lab.book import Book

INK, MUTED, GREY, GREEN, GOLD, RED = "#1f2328", "#6e7781", "#b6bcc4", "#2da44e", "#d4a017", "#cf222e"
LABEL_LENGTH = 44
LABELS = 10  # verified stars that get their description; the rest stay in the standup


@dataclass(frozen=True)
class Mark:
    """One run on the picture. `y` is None when it ended without a number."""

    x: int  # 1 = the first run that ended
    y: float | None
    kind: Literal["baseline", "discarded", "kept", "failed"]
    run: str


@dataclass(frozen=True)
class Step:
    """A kept arm, at the last run `x` it rests on: `best` is the running best from there on, `own` the arm's mean metric,
    which a verified arm keeps though a tentative one looks better. The first one is the baseline's."""

    x: int
    best: float
    own: float
    label: str
    is_verified: bool


# --- what is on the picture: pure --------------------------------------------------------------------------------


def marks(book: Book, charter: Charter) -> list[Mark]:
    """Every run that ended at the charter's budget, in the order it ended. Others are not comparable and left out."""
    kept = {run for point in _kept(book, charter) for run in _own_runs(book, book.verdicts[point.experiment])}
    found = []
    for x, result in enumerate(_ended(book, charter), 1):
        kind: Literal["baseline", "discarded", "kept", "failed"] = "discarded"
        if not result.is_ok:
            kind = "failed"
        elif result.run in kept:
            kind = "kept"
        elif result.arm == "baseline":
            kind = "baseline"
        found.append(Mark(x, result.metric if result.is_ok else None, kind, result.run))
    return found


def steps(book: Book, charter: Charter) -> list[Step]:
    """The running best: the baseline bank's mean, then each kept arm whose mean is better, at the last run it rests on."""
    order = {result.run: x for x, result in enumerate(_ended(book, charter), 1)}
    bank = [r for r in _ended(book, charter) if r.is_ok and r.stage == "bank"]
    if not bank:
        bank = [r for r in _ended(book, charter) if r.is_ok and r.arm == "baseline"]
    found: list[Step] = []
    if bank:
        mean = _mean(r.metric for r in bank)
        found = [Step(min(order[r.run] for r in bank), mean, mean, "baseline", False)]
    arms = []
    for point in _kept(book, charter):
        own = [order[run] for run in _own_runs(book, book.verdicts[point.experiment]) if run in order]
        contract = book.experiments.get(point.experiment)
        if contract and own and point.value is not None:
            label = _short(book, contract)
            arms.append(Step(max(own), point.value, point.value, label, point.kind == "verified"))
    for arm in sorted(arms, key=lambda a: a.x):
        is_better = not found or charter.metric.sign * (found[-1].best - arm.best) > 0
        if is_better or arm.is_verified:
            found.append(arm if is_better else replace(arm, best=found[-1].best))
    return found


def _kept(book: Book, charter: Charter) -> list[progress.Point]:
    """What was kept at the charter's budget and called back nowhere."""
    results = book.results.values()
    course = progress.series(
        book.verdicts, results, None, charter.metric, book.experiments, book.retracted, charter.scale
    )
    return [point for point in course.points if point.kind in ("kept", "verified")]


def _own_runs(book: Book, verdict: Verdict) -> list[str]:
    """Runs of the verdict's candidate arm; those taken from the cache too."""
    contract = book.experiments.get(verdict.experiment)
    runs = [run for run in verdict.runs if run in book.results]
    return [run for run in runs if contract and book.results[run].tree == contract.tree]


def _ended(book: Book, charter: Charter) -> list[RunResult]:
    """Results at the charter's budget by the time they ended; lines without a time keep the ledger's order. Runs of a
    control have another one, its baseline's excepted, and a probe trains for a part of it."""
    mine = [r for r in book.results.values() if r.scale == charter.scale and r.arm != PROBE]
    mine = [r for r in mine if r.arm == "baseline" or is_on_the_curve(book.experiments.get(r.experiment))]
    return sorted(mine, key=lambda r: r.ended or "") if all(r.ended for r in mine) else mine


def _short(book: Book, contract: Contract) -> str:
    """A few words for a star: the knobs that moved; of a verification, what its members say of theirs."""
    members = [book.experiments[name] for name in contract.members if name in book.experiments]
    texts = [", ".join(f"{k.name} {k.old}→{k.new}" for k in c.knobs) or c.why for c in (members or [contract])]
    text = ", ".join(texts)
    text = " ".join(files.printable(text, 200).split())
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"


# --- drawing -----------------------------------------------------------------------------------------------------


def draw(home: Home, book: Book, charter: Charter) -> list[Path]:
    """Write progress.svg and progress.png (1200 x 700) and return their paths. With no run yet the axes say so."""
    import io

    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
        "svg.hashsalt": "org",
        "text.parse_math": False,  # a `$` in an agent's words is a dollar
    }
    paths = []
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box
        figure = Figure(figsize=(12, 7), dpi=100, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.08, 0.1, 0.885, 0.765))
        _paint(axes, marks(book, charter), steps(book, charter), charter)
        _titles(axes, book, charter)
        for ending in ("svg", "png"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=ending, metadata={"Date": None} if ending == "svg" else None)
            path = home.plot / f"progress.{ending}"
            files.replace(path, buffer.getvalue())
            paths.append(path)
    return paths


def _paint(axes: Any, dots: list[Mark], best: list[Step], charter: Charter) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=3)
    axes.grid(axis="y", color="#eaeef2", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("run, in the order of completion", color=INK)
    arrow = "lower is better" if charter.metric.direction == "lower" else "higher is better"
    axes.set_ylabel(f"{charter.metric.name} ({arrow})", color=INK)
    if not dots:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no runs yet", transform=axes.transAxes, ha="center", color=MUTED, fontsize=16)
        return
    low, high = _limits([d.y for d in dots if d.y is not None] + [y for s in best for y in (s.best, s.own)])
    margin = (high - low) * 0.08
    axes.set_xlim(0.2, max(d.x for d in dots) + 0.8)
    axes.set_ylim(low - margin, high + 2 * margin)
    axes.xaxis.get_major_locator().set_params(integer=True)

    looks: dict[str, dict[str, Any]] = {
        "baseline": {"facecolors": "white", "edgecolors": MUTED, "linewidths": 1.1, "s": 34},
        "discarded": {"facecolors": GREY, "edgecolors": "white", "linewidths": 0.5, "s": 38},
        "kept": {"facecolors": GREEN, "edgecolors": "white", "linewidths": 0.6, "s": 58},
    }
    for kind, look in looks.items():
        mine = [(d.x, min(max(d.y, low), high)) for d in dots if d.kind == kind and d.y is not None]
        if mine:
            label = f"{kind} ({len(mine)})"
            axes.scatter(*zip(*mine, strict=True), gid=kind, label=label, zorder=4 if kind == "kept" else 3, **look)
    failed = [d.x for d in dots if d.kind == "failed"]
    if failed:
        top = axes.get_xaxis_transform()
        axes.scatter(
            failed,
            [0.975] * len(failed),
            transform=top,
            gid="failed",
            marker="x",
            s=36,
            color=RED,
            linewidths=1.4,
            label=f"no number ({len(failed)})",
            zorder=3,
        )
    if best:
        _paint_best(axes, best, max(d.x for d in dots), charter)
    axes.legend(loc="upper right", bbox_to_anchor=(1, 1.065), ncols=6, frameon=False, fontsize=9.5, labelcolor=INK)


def _paint_best(axes: Any, best: list[Step], last: int, charter: Charter) -> None:
    """The step line, and a star with its description at each verified arm's own mean. Labels take turns so that they keep apart."""
    xs, ys = [s.x for s in best], [s.best for s in best]
    axes.step([*xs, last], [*ys, ys[-1]], where="post", color=GREEN, linewidth=1.8, gid="best", label="best", zorder=2)
    stars = [s for s in best if s.is_verified]
    if not stars:
        return
    axes.scatter(
        [s.x for s in stars],
        [s.own for s in stars],
        gid="verified",
        marker="*",
        s=260,
        color=GOLD,
        edgecolors=INK,
        linewidths=0.7,
        label=f"verified ({len(stars)})",
        zorder=6,
    )
    below = -1 if charter.metric.direction == "lower" else 1
    for turn, step in enumerate(stars[-LABELS:]):
        is_right = step.x > last * 0.6
        axes.annotate(
            step.label,
            (step.x, step.own),
            xytext=(-10 if is_right else 10, below * (13 + 14 * (turn % 3))),
            textcoords="offset points",
            ha="right" if is_right else "left",
            va="center",
            fontsize=9.5,
            color=INK,
            zorder=7,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 1},
        )


def _titles(axes: Any, book: Book, charter: Charter) -> None:
    runs = _ended(book, charter)
    told = tally(book)
    minutes = sum(r.held_s for r in book.results.values()) / 60
    words = [f"{len(runs)} runs", f"{told.decided} experiments", f"{told.wins + told.holds} kept"]
    words += [f"{told.verified} verified", f"{minutes:.0f} device-minutes"]
    other = len(book.results) - len(runs)
    words += [f"{other} runs at other budgets not shown"] if other else []
    task = files.printable(charter.task.strip().splitlines()[0] if charter.task.strip() else "", 110)
    axes.figure.text(0.08, 0.955, f"{charter.metric.name}: {task}", fontsize=13, fontweight="bold", color=INK)
    axes.figure.text(0.08, 0.922, f"scale {charter.scale}  ·  " + "  ·  ".join(words), fontsize=10.5, color=MUTED)


def _limits(values: list[float]) -> tuple[float, float]:
    """Lowest and highest value to show: a run that went wild is drawn at the edge, not allowed to flatten the rest."""
    if not values:
        return 0.0, 1.0
    ordered = sorted(values)
    first, middle, third = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    reach = 6 * max(third - first, abs(middle) * 0.004)
    low, high = max(ordered[0], middle - reach), min(ordered[-1], middle + reach)
    return (low, high) if high > low else (low - abs(low) * 0.01 - 1e-6, high + abs(high) * 0.01 + 1e-6)


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
