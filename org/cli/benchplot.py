"""The pictures of the bench: what is true of what an org holds, and what it claims; T0's against device-hours."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from org import files
from org.bench import surface, t0
from org.bench.compare import interval
from org.bench.t0 import Contestant
from org.errors import BadInput

COLOURS = (
    "#1f6feb",
    "#2da44e",
    "#8250df",
    "#bf8700",
    "#1b7c83",
    "#cf222e",
    "#6e7781",
    "#bc4c00",
    "#57606a",
    "#d4a017",
    "#953800",
)
BAND = 0.15  # opacity of the interval


def draw(
    path: Path,
    everyone: Sequence[Contestant],
    found: Sequence[Sequence[dict[str, Any]]],
    rows: Sequence[dict[str, Any]],
    caption: str = "",
) -> None:
    """Write T0's picture to `path`, .png or .svg. Raises BadInput for another ending, or where the folder is missing."""
    figure, axes = _figure(path, caption, 7.0)
    hours = [n * t0.WIDEST * surface.shipped().seconds({}) / t0.STEPS / 3600 for n in range(t0.STEPS + 1)]
    for number, (one, made) in enumerate(zip(everyone, found, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        last = t0.STEPS if min(one.devices, rows[number]["devices"]) > 1 else t0.STEPS * t0.MARKS[-1] // t0.WIDEST
        true = [interval([row["true"][n] for row in made]) for n in range(last + 1)]
        claimed = [sum(row["claimed"][n] for row in made) / len(made) for n in range(last + 1)]
        axes.plot(hours[: last + 1], [mean for mean, _, _ in true], color=colour, label=one.name)
        if len(made) > 1:
            low, high = [a for _, a, _ in true], [b for _, _, b in true]
            axes.fill_between(hours[: last + 1], low, high, color=colour, alpha=BAND, linewidth=0)
        axes.plot(hours[: last + 1], claimed, color=colour, linestyle="--", linewidth=1)
    axes.set_xlabel("device-hours held")
    axes.set_ylabel("gain in val_bpb over the start")
    seed, repeats = rows[0]["seed"], rows[0]["repeats"]
    axes.set_title(f"T0: what is true (solid, 95 %) and what is claimed (dashed); {repeats} repeats, seed {seed}")
    axes.legend(ncols=3, frameon=False)
    _save(figure, path)


def draw_t1(path: Path, rows: Sequence[dict[str, Any]], caption: str = "") -> None:
    """T1's: a line for each repeat of each org, from what it claims, hollow, to what is left on fresh seeds, filled."""
    figure, axes = _figure(path, caption, 2.2 + 0.28 * sum(len(row["outcomes"]) + 1 for row in rows))
    place, ticks = 0, []
    for number, row in enumerate(rows):
        colour = COLOURS[number % len(COLOURS)]
        ticks.append((place + (len(row["outcomes"]) - 1) / 2, row["org"]))
        for one in row["outcomes"]:
            axes.plot([one["claimed"], one["true"]], [place, place], color=colour, linewidth=1)
            axes.errorbar(
                one["true"], place, xerr=1.96 * one["true_se"], color=colour, marker="o", linewidth=3, alpha=0.8
            )
            axes.plot(one["claimed"], place, marker="o", markerfacecolor="white", color=colour)
            place += 1
        place += 1
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(place - 1, -1)  # the first on top
    axes.axvline(0.0, color="#b6bcc4", linewidth=0.8)
    axes.set_xlabel("gain in val_bpb over the start")
    seed, repeats = rows[0]["seed"], rows[0]["repeats"]
    axes.set_title(
        f"T1: claimed (hollow) and measured anew on fresh seeds (filled, 95 %); {repeats} repeats, seed {seed}"
    )
    _save(figure, path)


def _figure(path: Path, caption: str, height: float) -> tuple[Any, Any]:
    if path.suffix not in (".png", ".svg") or not path.parent.is_dir():
        raise BadInput(f"{path} cannot be drawn; name a .png or .svg file in a folder that is there")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.9 / height, 0.865, 1 - 1.6 / height))
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.1, 0.15 / height, caption.replace("`", ""), fontsize=9, color="#57606a")
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    import matplotlib

    buffer = BytesIO()
    # text as text and no drawn names: the same rows give the same file
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "org"}):
        figure.savefig(buffer, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)
    files.replace(path, buffer.getvalue())
