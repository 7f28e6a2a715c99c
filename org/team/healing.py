"""What a crash, a kill or a reboot left behind, mended before a launch: one line each of what was done. Starts nothing.

Computed again: when panes were started, what seats do. Set aside beside its place, as `NAME.torn-…`: a seat's identity
(made again from its worktree and the plan), the facts of the launch (read back from the ledger), the doorbell's notes.
Worktrees themselves are `team.worktree`'s; nothing in one is touched here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from org import files, times
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home
from org.lab import ledger, mend
from org.records import Seat
from org.team import boxes, roster
from org.world import process, worktrees

SET_ASIDE = ("seat.json", "bell.json")
COMPUTED = ("pane.json", "state.json")

Say = Callable[[str], None]


def heal(home: Home, say: Say) -> None:
    """Mend everything of the home that is half written or stale. Safe to repeat; says nothing where there is nothing."""
    _rebooted(home, say)
    _facts(home, say)
    for folder in sorted(home.seats.iterdir()) if home.seats.is_dir() else []:
        if ID_PATTERN.fullmatch(folder.name) and folder.is_dir():
            _seat(home, folder, say)
    failpoint("healing.files")
    if home.hub.is_dir():
        worktrees.list_worktrees(home.hub)  # moves half-made entries away, which stop every git there
    for git_dir in (home.record, home.hub):
        _locks(home, git_dir, say)
    for place in (home.comms, home.leases, *(home.seats.glob("*/") if home.seats.is_dir() else ())):
        files.sweep(place)


def _rebooted(home: Home, say: Say) -> None:
    """Nothing that a launch before the reboot started can be alive: no pid it wrote down is looked up."""
    then = roster.facts(home).get("boot_id")
    if then and then != process.boot_id():
        say("this machine was restarted since the last launch: nothing of it is alive")


def _facts(home: Home, say: Say) -> None:
    """org.json, when it is torn, as the ledger's last launch has it: who sits here, on what, for how long."""
    if not _is_torn(home.org_file):
        return
    aside = _set_aside(home.org_file)
    rows = [row for row in ledger.read(home).org if row.get("event") in ("launch", "stop")]
    row = next((row for row in reversed(rows) if row["event"] == "launch"), None)
    if row is not None:
        changes: dict[str, Any] = {
            "key": home.key,
            "org": row.get("folder"),
            "charter_hash": row.get("charter"),
            "roster": row.get("roster"),
            "devices": row.get("devices"),
            "budget": row.get("budget"),
            "limits": row.get("limits"),
            "versions": row.get("versions"),
            "since": row.get("t"),
            "stopped": rows[-1].get("t") if rows[-1]["event"] == "stop" else None,
            "socket": home.socket,
        }
        roster.update(home, **{name: value for name, value in changes.items() if value is not None})
    how = "read back from the ledger" if row else "made anew, since the ledger knows no launch"
    say(f"{home.org_file.name} was torn: it is {how}; what was there is {aside}")


def _seat(home: Home, folder: Path, say: Say) -> None:
    for name in SET_ASIDE:
        if _is_torn(folder / name) or (name == "seat.json" and _is_misfit(folder / name)):
            say(f"{folder.name}: {name} was torn and is made again; what was there is {_set_aside(folder / name)}")
    for name in COMPUTED:
        if _is_torn(folder / name):
            (folder / name).unlink()
            say(f"{folder.name}: {name} was torn and was removed; it is computed again")
    if (folder / "seat.json").exists() and not (home.mailbox(folder.name) / "new").is_dir():
        boxes.make(home.mailbox(folder.name))
        say(f"{folder.name}: its mailbox was gone and is there again")


def _is_torn(path: Path) -> bool:
    return path.is_file() and not isinstance(files.read_json(path), dict)


def _is_misfit(path: Path) -> bool:
    row = files.read_json(path)
    return isinstance(row, dict) and bool(Seat.misfit(row))


def _set_aside(path: Path) -> Path:
    target = path.with_name(f"{path.name}.torn-{times.stamp()}")
    path.rename(target)
    return target


# --- locks of git ------------------------------------------------------------------------------------------------


def _locks(home: Home, git_dir: Path, say: Say) -> None:
    removed, left, alive = mend.free_locks(home, git_dir)
    if left:
        at_work = f" (process {', '.join(map(str, alive[:4]))})" if alive else ""
        say(f"{git_dir.name}: {_names(git_dir, left)} was left: git is at work there{at_work}")
    if removed:
        say(f"{git_dir.name}: the lock of a git that was killed is removed ({_names(git_dir, removed)})")


def _names(git_dir: Path, paths: Sequence[Path]) -> str:
    return ", ".join(str(path.relative_to(git_dir)) for path in paths[:4])
