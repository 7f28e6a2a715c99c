"""How the grid looks: colour and label of every pane's border, and the status line. Pure: a snapshot in, tmux options out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from org.files import printable
from org.team import caps
from org.world.tmuxwords import escape_format

COLOURS = {
    "starting": "colour244",
    "ready": "colour109",
    "working": "colour71",
    "waiting-for-run": "colour75",
    "asking": "colour214",
    "held": "colour177",
    "limited": "colour137",
    "stuck": "colour202",
    "gone": "colour167",
    "person": "colour250",
}
MARKS = {
    "starting": "…",
    "ready": "○",
    "working": "●",
    "waiting-for-run": "◔",
    "asking": "?",
    "held": "‖",
    "limited": "◷",
    "stuck": "!",
    "gone": "✗",
    "person": "☺",
}
LABEL_LIMIT = 70


def decorate(snapshot: Mapping[str, Any], session: str) -> dict[str, dict[str, str | None]]:
    """target -> {option: value} for `tmux.Server.set_options`: panes of seats, and the session's status line."""
    options: dict[str, dict[str, str | None]] = {}
    for seat in snapshot["seats"]:
        if seat["pane"]:
            options[seat["pane"]] = {
                "@state": seat["state"],
                "@colour": COLOURS.get(seat["state"], "colour240"),
                "@label": escape_format(label(seat)),
            }
    options[session] = {
        "status-right-length": "160",
        "status-right": escape_format(f" {status_line(snapshot)} "),
    }
    return options


def label(seat: Mapping[str, Any]) -> str:
    """`● j3 optimizer cpu1 E0042 working ✉2`; `‖ j3 optimizer cpu1 held by you: copy mode ✉2`"""
    mail = f"✉{seat['mail_waiting']}" if seat["mail_waiting"] else ""
    mark = MARKS.get(seat["state"], " ")
    words = [
        mark,
        seat["name"],
        seat["program"],
        seat["device"],
        seat["experiment"],
        said(seat),
        caps.used_words(seat.get("usage")),
        mail,
    ]
    return printable(" ".join(str(word) for word in words if word), LABEL_LIMIT).replace("\n", " ")


def said(seat: Mapping[str, Any]) -> str:
    """The seat's state in words: who holds it and why, what limits it. Pure; the program's own words are in it."""
    state, why = str(seat["state"]), seat.get("quiet")
    if state == "held":
        return f"held by you: {'org hold' if seat['held'] else why}" if why and seat["pane"] else "held by you"
    if state == "limited" and seat.get("said"):
        return f"limited: {printable(str(seat['said']), 40)}"
    if state == "gone" and seat.get("stopped"):
        return f"stopped: {seat['stopped']}"
    return f"{state}, held by you" if seat["held"] else state


def status_line(snapshot: Mapping[str, Any]) -> str:
    """`verified E0042 -0.0412 | tentative … | 12 runs | 2/2 devices | held j3 | 1 flag`"""
    parts = []
    for tier in ("verified", "tentative"):
        row = snapshot["best"].get(tier)
        parts.append(f"{tier} {row['experiment']} {row['effect']:+.4f}" if row else f"no {tier} win")
    parts.append(f"{snapshot['runs']} runs")
    busy = sum(1 for device in snapshot["devices"] if device["run"])
    parts.append(f"{busy}/{len(snapshot['devices'])} devices")
    held = [seat["name"] for seat in snapshot["seats"] if seat["held"] or seat["state"] == "held"]
    parts += [f"held {', '.join(held)}"] if held else []
    phase = snapshot["org"]["phase"]
    parts += [f"budget {phase}"] if phase in ("draining", "closing", "ended") else []
    parts += [f"{len(snapshot['flags'])} need you"] if snapshot["flags"] else []
    return printable(" | ".join(parts), 200)
