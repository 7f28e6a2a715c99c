"""`status`: who is there, what runs, what waits, what is best. Computed from files and locks; needs no office."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from org import files, times
from org.cli import view
from org.cli.verb import Call, as_json, pass_call, print_json, say, verb
from org.errors import BadInput
from org.home import Home

STATE_COLOURS = {
    "starting": "yellow",
    "ready": "cyan",
    "working": "green",
    "waiting-for-run": "blue",
    "asking": "magenta",
    "held": "yellow",
    "limited": "yellow",
    "stuck": "red",
    "gone": "red",
    "person": "cyan",
}


@verb("status", "org status", "org status --json")
@as_json
@pass_call
def status(call: Call, is_json: bool) -> None:
    """Seats, devices, queue and the best results, as they are now."""
    facts = collect(call.home)
    if is_json:
        seats = [{name: seat[name] for name in JSON_FIELDS} | {"usage": _usage(seat)} for seat in facts["seats"]]
        print_json({**facts, "seats": seats})
    else:
        say(render(facts, _scale(call.home) if any(facts["best"].values()) else ""))


def collect(home: Home) -> dict[str, Any]:
    """The document of `status --json`, section 12 of the design; its seats carry more, for people."""
    from org.agents import usage
    from org.evidence import progress
    from org.lab import follow, ledger
    from org.team import costs, states
    from org.world import devices

    book = ledger.read(home)
    seats = states.states(home, book)
    used = {seat["name"]: usage.of_seat(home, seat["name"]) for seat in seats}
    limits = costs.organisation(home, files.read_json(home.org_file) or {}, used)
    best = progress.best(book.verdicts, book.experiments, book.retracted, book.wins)
    return {
        "org": organisation(home),
        "seats": [{**seat, "usage": usage.total(used[seat["name"]])} for seat in seats],
        "devices": follow.device_table(home, devices.in_force(home)),
        "queue": follow.queue(home, book),
        "best": {
            tier: row and {**row, "scale": book.experiments[row["experiment"]].scale} for tier, row in best.items()
        },
        "runs": len(book.results),
        "limits": limits,
    }


def _scale(home: Home) -> str:
    """The charter's; "" while somebody is in the middle of writing it."""
    from org import charter

    try:
        return charter.load(home).scale
    except BadInput:
        return ""


def organisation(home: Home) -> dict[str, Any]:
    from org.team import roster, states

    facts = roster.facts(home)
    running = states.is_running(home)
    return {
        "home": str(home.root),
        "running": running,
        "since": facts.get("since") if running else None,
        "isolation": facts.get("isolation", "none"),
        "office_pid": office_pid(home),
    }


def office_pid(home: Home) -> int | None:
    """What the office wrote into its lock file; None when nobody holds that lock: the file outlives its office."""
    if not files.is_locked(home.office_lock):
        return None
    note = files.read_json(home.office_lock)
    if isinstance(note, dict):
        note = note.get("pid")
    return note if isinstance(note, int) and not isinstance(note, bool) else None


def render(facts: dict[str, Any], scale: str = "") -> str:
    """The same for people: plain text, aligned. scale: the charter's; a best of another one says so."""
    from org.team import caps

    org = facts["org"]
    state = "not running; `org launch` starts it"
    if org["running"]:
        since = times.seconds(org["since"])
        state = "running" if since is None else f"running for {times.span(time.time() - since)}"
    parts = [f"{view.paint(org['home'], 'bold')}  {state}  isolation: {org['isolation']}  runs: {facts['runs']}"]
    if facts["seats"]:
        rows = [[_shown(seat, name) for name in SEAT_FIELDS] for seat in facts["seats"]]
        used = [caps.used_words(seat.get("usage")) for seat in facts["seats"]]
        if any(used):
            rows = [[*row, each] for row, each in zip(rows, used, strict=True)]
        colours = [STATE_COLOURS.get(str(seat["state"])) for seat in facts["seats"]]
        head = ("seat", "role", "backend", "program", "device", "state", "mail", "experiment")
        parts.append(view.table((*head, "tokens, cost, context") if any(used) else head, rows, colours))
    parts += ["\n".join(each)] if (each := _needs(facts)) else []
    rows = [[d["name"], d["kind"], d["holder"] or "free", d["run"] or ""] for d in facts["devices"]]
    parts.append(view.table(("device", "kind", "holder", "run"), rows))
    if facts["queue"]:
        rows = [[q["experiment"], q["seat"], q["run"] or "-", q["waiting_for"]] for q in facts["queue"]]
        parts.append(view.table(("experiment", "seat", "run", "waiting for"), rows))
    parts.append("\n".join(f"best {tier:10} {_best(facts['best'][tier], scale)}" for tier in ("verified", "tentative")))
    return "\n\n".join(parts)


JSON_FIELDS = (
    "name",
    "role",
    "backend",
    "program",
    "branch",
    "worktree",
    "device",
    "pane",
    "state",
    "held",
    "experiment",
    "mail_waiting",
)
SEAT_FIELDS = ("name", "role", "backend", "program", "device", "state", "mail_waiting", "experiment")


def _shown(seat: dict[str, Any], name: str) -> str:
    from org.team import borders

    value = borders.said(seat) if name == "state" else seat.get(name)
    return "-" if value is None else view.cut(str(value), 60)


def _usage(seat: dict[str, Any]) -> dict[str, Any] | None:
    usage = seat["usage"]
    if usage is None:
        return None
    return {**dataclasses.asdict(usage), "tokens": usage.tokens, "context_used": usage.context_used}


def _needs(facts: dict[str, Any]) -> list[str]:
    """What is used of the limits of this launch, and what they cannot hold; seats that are kept from a lot."""
    from org.team import costs, flags

    lines = [view.cut(said, 300) for said in costs.sentences(facts.get("limits"))]
    return lines + [view.paint(f"! {flag}", "yellow") for seat in facts["seats"] for flag in flags.kept_from(seat)]


def _best(row: dict[str, Any] | None, scale: str) -> str:
    """scale: the charter's; a result at another one is no rival of those, and says so."""
    if row is None:
        return "none yet"
    error = f" ± {row['se']:.4f}" if row.get("se") is not None else ""
    where = f" at {row['scale']}" if row["scale"] != scale else ""
    return f"{row['experiment']} {row['effect']:+.4f}{error}{where}  {view.cut(row['description'], 80)}"
