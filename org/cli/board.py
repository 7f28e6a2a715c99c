"""The live board of the office's window: a snapshot in, something rich prints out. Fits 100x40; on a small terminal the
tables give up columns and rows before they wrap. Reads no file and keeps nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from org import times
from org.files import printable
from org.team import caps, clock
from org.team.borders import said

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

STATE_STYLES = {
    "starting": "grey62",
    "ready": "cyan3",
    "working": "green",
    "waiting-for-run": "steel_blue1",
    "asking": "bold orange1",
    "held": "plum2",
    "limited": "dark_goldenrod",
    "stuck": "bold dark_orange",
    "gone": "bold red",
    "person": "grey78",
}
OUTCOME_STYLES = {"win": "bold green", "holds": "green", "loss": "red", "null": "grey62", "crash": "bold red"}
BARS = "▁▂▃▄▅▆▇█"
SMALL = 80  # columns under which the tables lose their less needed columns


def render(snapshot: Mapping[str, Any]) -> RenderableType:
    """The board of `team.snapshot.snapshot`; it lays itself out for the terminal it is printed on."""
    return _Board(snapshot)


class _Board:
    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self.snapshot = snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Sections from the most to the least needed; what does not fit the height is left out from the end."""
        width, height = options.max_width, max(8, options.size.height - 1)
        shot = self.snapshot
        is_small = width < SMALL
        lines: list[RenderableType] = [*_head(shot, width)]
        left = height - len(lines)
        flags = [_line(f"! {flag}", "bold orange1") for flag in shot["flags"][: max(1, left // 6)]]
        lines += flags
        left -= len(flags)
        seats = len(shot["seats"])
        room = max(3, left // 2) if shot["verdicts"] or shot["devices"] else left
        lines.append(_seats(shot["seats"], min(seats, room - 2), is_small))
        left -= min(seats, room - 2) + 2
        if left >= 4:
            rows = min(max(len(shot["devices"]), len(shot["queue"]), 1), left // 3)
            lines.append(_work(shot, rows, is_small))
            left -= rows + 2
        if left >= 4 and shot["verdicts"]:
            lines.append(_verdicts(shot["verdicts"], left - 2, is_small))
        yield from lines


def sparkline(values: Sequence[float], columns: int, lower_is_better: bool = True) -> str:
    """The last `columns` values as bars; a better value is a higher bar.

    >>> sparkline([3.0, 2.0, 1.0], 10)
    '▁▅█'
    """
    shown = list(values)[-columns:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high == low:
        return BARS[0] * len(shown)
    heights = [(high - v if lower_is_better else v - low) / (high - low) for v in shown]
    return "".join(BARS[min(len(BARS) - 1, int(h * (len(BARS) - 1) + 0.5))] for h in heights)


def _head(shot: Mapping[str, Any], width: int) -> list[RenderableType]:
    org, progress = shot["org"], shot["progress"]
    lower = shot["metric"]["direction"] == "lower"
    title = _line(" ".join(word for word in (org.get("name") or "org", *_when(org)) if word), "bold")
    best = _line("")
    for tier, style in (("verified", "bold green"), ("tentative", "green")):
        row = shot["best"].get(tier)
        best.append(f"{tier} ", "grey62")
        if row is None:
            best.append("none yet   ", "grey62")
        else:
            error = f" ± {row['se']:.4f}" if row.get("se") is not None else ""
            best.append(f"{row['experiment']} {row['effect']:+.4f}{error}   ", style)
    best.append(f"{shot['runs']} runs", "grey62")
    values = [value for _, value, _ in progress["points"]]
    so_far = [value for _, value in progress["claimed"]]
    curve = _line("")
    if values:
        curve.append(f"{shot['metric']['name']} ", "grey62")
        curve.append(sparkline(values, max(10, width - 40), lower), "steel_blue1")
        if so_far:
            curve.append(f"  {so_far[0]:.4f} → {so_far[-1]:.4f}", "bold")
    return [title, best, *([curve] if values else [])]


def _when(org: Mapping[str, Any]) -> list[str]:
    """`up 12 min`, and how much of the budget is used."""
    words = []
    now = time.time()
    since = times.seconds(org.get("since"))
    if since is not None:
        words.append(f"up {times.span(now - since)}")
    budget = org.get("budget") or {}
    if budget.get("seconds"):
        used = min(clock.used_s(org, now) or 0.0, budget["seconds"])
        words.append(f"budget {times.span(used)} of {times.span(budget['seconds'])}")
    elif budget.get("runs"):
        words.append(f"budget {budget['runs']} runs")
    if org["phase"] not in ("open", "running"):
        words.append(f"[{org['phase']}]")
    return words


def _seats(rows: Sequence[Mapping[str, Any]], limit: int, is_small: bool) -> Table:
    used = {row["name"]: caps.used_words(row.get("usage")) for row in rows}
    has_use = any(used.values()) and not is_small
    more = [] if is_small else ["device", "backend", *(["used"] if has_use else []), "mail"]
    table = _table("seat", "state", "program", "experiment", *more)
    shown = list(rows)
    if len(rows) > limit:  # those who need a person first, then as they come
        urgent = {"asking": 0, "gone": 1, "stuck": 2, "limited": 3, "held": 4}
        shown = sorted(rows, key=lambda row: urgent.get(str(row["state"]), 5))[: max(1, limit)]
    for row in shown:
        state = _line(printable(said(row), 48), STATE_STYLES.get(row["state"], ""))
        cells = [_line(row["name"], "bold"), state, _line(row["program"]), _line(row["experiment"] or "")]
        if not is_small:
            mail = _line(f"{row['mail_waiting']}" if row["mail_waiting"] else "", "orange1")
            cells += [_line(row["device"] or ""), _line(row["backend"][:16], "grey62")]
            cells += [*([_line(used[row["name"]], "grey62")] if has_use else []), mail]
        table.add_row(*cells)
    return table


def _work(shot: Mapping[str, Any], limit: int, is_small: bool) -> Table:
    """Devices on the left, what waits on the right."""
    columns = ["device", "run", "waiting"] if is_small else ["device", "run", "of", "waiting", "seat", "for"]
    table = _table(*columns)
    waiting = [row for row in shot["queue"] if not row["run"]]
    for place in range(limit):
        device = shot["devices"][place] if place < len(shot["devices"]) else None
        queued = waiting[place] if place < len(waiting) else None
        if device is None and queued is None:
            break
        run = (device["run"] or "free") if device else ""
        cells = [_line(device["name"] if device else ""), _line(run, "green" if run not in ("", "free") else "grey62")]
        cells += [] if is_small else [_line((device or {}).get("holder") or "")]
        cells += [_line(queued["experiment"] if queued else "")]
        cells += [] if is_small else [_line((queued or {}).get(k) or "", "grey62") for k in ("seat", "waiting_for")]
        table.add_row(*cells)
    return table


def _verdicts(rows: Sequence[Mapping[str, Any]], limit: int, is_small: bool) -> Table:
    table = _table("experiment", "verdict", "effect", *([] if is_small else ["seat"]), "what")
    for row in rows[:limit]:
        tier = f" {row['tier']}" if row["tier"] else ""
        effect = "" if row["effect"] is None else f"{row['effect']:+.4f}"
        effect += f" ±{row['se']:.4f}" if row["se"] is not None else ""
        cells = [_line(row["experiment"], "bold")]
        cells += [_line(f"{row['outcome']}{tier}", OUTCOME_STYLES.get(row["outcome"], "orange1")), _line(effect)]
        cells += [] if is_small else [_line(row["seat"])]
        table.add_row(*cells, _line(row["description"], "grey78"))
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, expand=True, pad_edge=False, header_style="grey50", padding=(0, 1))
    for number, name in enumerate(columns):
        is_last = number == len(columns) - 1
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if is_last else None)
    return table


def _line(text: str, style: str = "") -> Text:
    """One line of text that may be an agent's: control characters made harmless, markup shown as it is."""
    from rich.text import Text

    return Text(" ".join(printable(text).split()), style=style, no_wrap=True, overflow="ellipsis")
