"""What a person does with a standup at a terminal: have the seats asked now, and write orders on the page."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from org import files
from org.cli.verb import print_json, say, tell
from org.errors import BadInput, MissingTool, OrgError
from org.home import Home

if TYPE_CHECKING:
    from org.team.pages import Process
    from org.team.processes import Ask

GRACE_S = 20.0  # the office writes the page up after the last answer, or after the deadline
LOOK_S = 0.2
# editors that open a file at a line when told `+N`
AT_LINE = ("vi", "vim", "nvim", "view", "nano", "emacs", "emacsclient", "micro", "joe", "jed", "kak", "ne", "pico")


# --- org standup now ---------------------------------------------------------------------------------------------


def ask(home: Home) -> tuple[Path | None, dict[str, object]]:
    """Have the running office ask every seat and write the page up; says on stderr who is waited for. (None, {}) where
    nobody can be asked: no office, no page `standup` in the org folder, the limits of the launch reached."""
    from org.team import pages, processes, roster

    facts = roster.facts(home)
    if not files.is_locked(home.office_lock) or facts.get("limit_reached"):
        return None, {}
    there_are = pages.load(home.org_folder(str(facts.get("org") or roster.DEFAULT_ORG)))
    page = next((page for page in there_are if page.name == "standup"), None)
    if page is None:
        return None, {}
    asked = next(iter(processes.open_asks(home, page.name)), None) or _ask(home, page)
    tell(f"asked {', '.join(asked.seats) or 'nobody'}; answers within {page.answers_within_s:g} s")
    there = _wait(home, page, asked)
    answers = processes.collect(home, page, asked.asked_at)
    if not there:  # the office ended meanwhile, or does something long
        _write_up(home, page, asked, answers)
    written = home.standup(files.utc_now()[:10])
    found = written if written.is_file() else None
    silent = [seat for seat in asked.seats if seat not in answers]
    if silent:
        tell(f"no answer from {', '.join(silent)}")
    return found, {"asked": list(asked.seats), "answered": sorted(answers)}


def _ask(home: Home, page: Process) -> Ask:
    """As the office does it, with the facts that the page's `input` names."""
    from org.lab import ledger
    from org.team import handed, processes
    from org.team.occasions import Occasion

    given = handed.facts(home, ledger.read(home), page.input, Occasion())
    return processes.ask(home, page, files.utc_now(), facts=given)


def _wait(home: Home, page: Process, asked: Ask) -> bool:
    """Until the office has written the answers up; False when it does not."""
    from org import times
    from org.team import processes

    end = times.moment(asked.deadline).timestamp() + GRACE_S
    told: set[str] = set()
    while time.time() < end:
        if all(row.asked_at != asked.asked_at for row in processes.open_asks(home, page.name)):
            return True
        answered = set(processes.collect(home, page, asked.asked_at))
        for seat in sorted(answered - told):
            tell(f"{seat} answered ({len(answered)} of {len(asked.seats)})")
        told = answered
        if not files.is_locked(home.office_lock):
            return False
        time.sleep(LOOK_S)
    return False


def _write_up(home: Home, page: Process, asked: Ask, answers: dict[str, str]) -> None:
    from org import charter
    from org.lab import ledger
    from org.team import processes
    from org.team import standup as pages

    pages.write(home, ledger.read(home), charter.load(home), files.utc_now(), answers)
    processes.close(home, asked, files.utc_now())


# --- org standup review ------------------------------------------------------------------------------------------


def review(home: Home, path: Path, is_json: bool) -> None:
    """Open the page at the end of the person's section, then carry what was written and say to whom. Without an office the
    letters are sent here; with one, whoever is first sends them, and both say the same."""
    from org.lab import ledger
    from org.team import orders

    before = set(orders.placed(home))
    _edit(path)
    orders.take(home, ledger.read(home))
    new = [one for key, one in orders.placed(home).items() if key not in before]
    if is_json:
        rows = [
            {**one.order.to_dict(), "letter": one.order.letter, "did": one.did, "refused": one.refused} for one in new
        ]
        print_json({"path": str(path), "orders": rows})
        return
    for one in new:
        order = one.order
        about = f" about {order.about}" if order.about else ""
        meant = "as it is" if order.verb == "other" else f"as {order.verb}{about}"
        say(
            f"{', '.join(order.to)} {'gets' if len(order.to) == 1 else 'get'} {meant}: {files.printable(order.text, 200)}"
        )
        if one.did:
            say(f"    the org filed {', '.join(one.did)}")
        for why in (one.refused, *one.missed):
            say(f"    {files.printable(why, 300)}") if why else None
    if not new:
        say("nothing new is ordered" if orders.has_seats(home) else "nobody is here yet; orders wait for `org launch`")


def _edit(path: Path) -> None:
    """Raises BadInput without an editor or a terminal to show it on, OrgError when it fails."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor and not sys.stdin.isatty():
        raise BadInput(f"no $EDITOR, and no terminal for one; set it, or write below `## Review` in {path}")
    argv = shlex.split(editor or "vi")
    last = path.read_bytes().count(b"\n") + 1
    at = [f"+{last}"] if Path(argv[0]).name in AT_LINE else []
    try:
        done = subprocess.run([*argv, *at, str(path)], check=False)
    except FileNotFoundError:
        raise MissingTool(
            f"{argv[0]} is not there; set $EDITOR to an editor, or write below `## Review` in {path}"
        ) from None
    if done.returncode:
        raise OrgError(
            f"{argv[0]} ended with exit code {done.returncode}; what it saved in {path} is carried by the office"
        )
