"""What each seat is doing now: a pure function of its program's events, its pane, its locks and the last looks at its
screen, and why nothing may be typed into its pane. Changes nothing; `team.reader` gathers the facts.

Events and processes come first. A screen may only contradict them, by two looks that agree, both newer than the event.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from org import files, times
from org.agents.limited import limit_ends
from org.home import Home
from org.team.roster import WINDOW_NAMES

if TYPE_CHECKING:
    from org.lab.book import Book
    from org.world.tmux import Server
    from org.world.tmuxwords import ClientInfo, PaneInfo

HUMAN_S = 8.0  # a person's key so many seconds ago: the pane is theirs
STUCK_S = 600.0  # at work or starting for so long without a sign: a long compilation shows in the processor time
AGREE_S = 1.0  # between two looks at a screen that agree
LOOKS_KEPT = 8
LINE_CUT = 200  # characters of a line that patterns are looked for in: three repeats in a row take its cube
EVENT_TAIL = 16_384  # bytes of events.jsonl looked at for the state
FUTURE_S = 5.0  # a program's clock may be ahead by so much; what is later is not believed
DRAFT = "a half-typed line of yours waits in its pane"  # what `team.ringer` says after a look at the cursor
SHELLS = frozenset({"sh", "bash", "zsh", "dash", "fish", "ksh", "tcsh", "csh", "ash"})

# event -> state; an event that is not named here leaves the state as it is
STATES = {
    "starting": "starting",
    "ready": "ready",
    "idle": "ready",
    "working": "working",
    "waiting": "waiting-for-run",
    "asking": "asking",
    "paused": "held",
    "limited": "limited",
    "exit": "gone",
}
ALL = (*dict.fromkeys(STATES.values()), "stuck", "person")
# what becomes `stuck` without a sign of progress; `gone`: its program said goodbye and lives on
AT_WORK = frozenset({"starting", "working", "gone"})
COME_UP = frozenset({"ready", "working"})  # what the screen of a program shows that has come up
SCREEN_STATES = frozenset({"asking", "limited", "ready", "working"})  # what a screen may say

Looks = tuple[tuple[float, str | None], ...]  # (Unix seconds, what the screen showed then), oldest first


# --- what tmux shows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """One look at the grid: seat -> its pane, and the panes a person is working in now."""

    panes: Mapping[str, PaneInfo] = field(default_factory=dict)
    human: frozenset[str] = frozenset()
    prefix: frozenset[str] = frozenset()  # panes whose client has the prefix key down
    keys: Mapping[str, float] = field(default_factory=dict)  # pane of a person -> their last key, Unix seconds
    untyped: frozenset[str] = frozenset()  # panes whose people have attached and pressed no key yet
    clients: int = 0
    office: PaneInfo | None = None
    is_running: bool = False


def look(home: Home, now: float, asked: Server | None = None) -> Look:
    """Ask the org's tmux server, if there is one; now: Unix seconds. Two short processes, or none: without a server, and
    where `asked` has a lasting connection to it."""
    from org.world import tmux

    server = asked or tmux.Server(home.socket)
    if not server.socket.exists():
        return Look()
    try:
        panes, clients = server.list_panes(), server.clients()
    except tmux.ServerLost:
        return Look()
    return seen(panes, clients, now)


def seen(panes: Iterable[PaneInfo], clients: Iterable[ClientInfo], now: float) -> Look:
    """The look of what tmux listed. A client that is read-only or a program is no person's hand. Pure."""
    hands = [c for c in clients if not c.control and not c.readonly]
    keys: dict[str, float] = {}
    for c in hands:
        keys[c.pane_id] = max(keys.get(c.pane_id, 0.0), float(c.activity))
    return Look(
        panes=of_seats(panes),
        human=frozenset(pane for pane, at in keys.items() if now - at < HUMAN_S),
        prefix=frozenset(c.pane_id for c in hands if c.prefix),
        clients=len(hands),
        office=next((p for p in panes if p.seat == "office"), None),
        is_running=True,
        keys=keys,
        untyped=frozenset(keys) - {c.pane_id for c in hands if c.activity > c.created},
    )


def of_seats(panes: Iterable[PaneInfo]) -> dict[str, PaneInfo]:
    """Seat -> its pane, by the name that tmux keeps with the pane: a person may break it out of its window, or give that
    another name. Pure."""
    return {pane.seat: pane for pane in panes if pane.seat and pane.seat not in WINDOW_NAMES}


# --- what the program says ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """What a seat's program said of itself since its start. Times are Unix seconds by its own clock, 0: nothing yet."""

    state: str
    at: float = 0.0  # of the last event that names a state
    sign: float = 0.0  # of the last event of any kind
    text: str = ""  # what the event that names the state said


def told(events: Iterable[Mapping[str, Any]], started: str | None, reports: bool, before: Told | None = None) -> Told:
    """The fold of events, in the order of the file: what two writers wrote in one millisecond counts as it stands there.
    Events before `started` are an earlier program's. before: go on from there. Pure.

    >>> told([{"t": "2026-03-01T00:00:01Z", "event": "idle"}], None, True).state
    'ready'
    """
    now = before or Told("starting" if reports else "ready")
    for row in events:
        if not is_since(row, started):
            continue
        at = times.seconds(row.get("t")) or 0.0
        name = STATES.get(str(row.get("event")))
        text = row.get("text")
        if name is None:
            now = Told(now.state, now.at, at, now.text)
        else:
            now = Told(name, at, at, files.printable(text, 300) if isinstance(text, str) else "")
    return now


def is_since(event: Mapping[str, Any], started: str | None) -> bool:
    """Whether a program that was started then (ISO-8601; None: not known) may have written the event. Pure."""
    begun = times.seconds(started) or 0.0
    written = event.get("t")
    if not (isinstance(written, str) and "." in written):
        begun = math.floor(begun)  # a clock of whole seconds names the second of the start as well
    return started is None or (times.seconds(written) or 0.0) >= begun


# --- what the screen shows ---------------------------------------------------------------------------------------


def shown(screen: str, patterns: Sequence[tuple[str, str]], last: int = 60) -> str | None:
    """What a captured screen says by a backend's patterns, None when no pattern is in it. The program's output is hostile:
    a pattern is looked for line by line, in the last 60 lines of at most LINE_CUT characters, of these in the `last` ones
    that stand above what is blank."""
    lines = [line[:LINE_CUT] for line in screen.split("\n")[-60:]]
    while lines and not lines[-1].strip():
        lines.pop()
    for pattern, state in patterns:
        if state in SCREEN_STATES and any(re.search(pattern, line) for line in lines[-last:]):
            return state
    return None


def seen_as(screen: str | None, own_word: str | None) -> str | None:
    """What one look says, by the screen and by what the program wrote down of itself. A dialog on the screen counts in any
    case, a limit while the program waits for it to end. Pure."""
    if own_word is None or screen == "asking" or (screen == "limited" and own_word == "working"):
        return screen
    return own_word


def looked(looks: Looks, verdict: str | None, now: float) -> Looks:
    """The looks with one more. A row of equal ones keeps those half of AGREE_S apart; those of a clock that was set back
    since are dropped. Pure."""
    looks = tuple(each for each in looks if each[0] <= now)
    is_dense = len(looks) > 1 and {looks[-1][1], looks[-2][1]} == {verdict} and now - looks[-2][0] < AGREE_S / 2
    return ((*looks[:-1], (now, verdict)) if is_dense else (*looks, (now, verdict)))[-LOOKS_KEPT:]


def agreed(looks: Looks, since: float = 0.0) -> str | None:
    """What the screen says: the last verdict that two looks in a row, AGREE_S apart and after `since`, agree on. Pure."""
    found: str | None = None
    begun, last = 0.0, None
    is_first = True
    for at, verdict in looks:
        if at <= since:
            continue
        if is_first or verdict != last:
            begun, last, is_first = at, verdict, False
        elif at - begun >= AGREE_S:
            found = verdict
    return found


# --- the state ---------------------------------------------------------------------------------------------------


def state_of(
    said: Told,
    pane: PaneInfo | None,
    *,
    is_held: bool,
    is_human: bool,
    is_person: bool = False,
    now: float | None = None,
    progress: float = 0.0,
    has_open: bool = False,
    looks: Looks = (),
) -> str:
    """One of ALL. Pure.

    is_human: a person's key, or the prefix, in that pane now. progress: Unix seconds of the last sign that is no event:
    its start, an experiment filed or run, a letter sent, processor time used. has_open: an experiment of the seat is
    queued or runs. now: Unix seconds; without it no state ends by the clock.
    """
    if is_person:
        return "held" if is_held else "person"
    if pane is None or pane.dead:
        return "gone"
    if is_held or is_human or pane.in_mode:
        return "held"
    at = said.at if now is None or said.at <= now + FUTURE_S else 0.0
    screen = agreed(looks, at)
    name = said.state
    if name == "limited" and now is not None and now >= limit_ends(said.text, at):
        name = "ready"  # its turn ended with that event; the next letter finds out whether the limit did
    is_over = name == "limited" and screen == "ready"  # that it waits at its prompt does not say that a limit has ended
    if screen in SCREEN_STATES and name not in ("gone", "held") and not is_over:
        name = str(screen)
    if name in AT_WORK and now is not None:
        sign = said.sign if said.sign <= now + FUTURE_S else 0.0
        if now - max(sign, progress) > STUCK_S:
            # A turn that a person interrupted ends without an event (Claude Code fires no Stop then), so this may be a
            # program that waits at its prompt. It is not called ready: a program that hangs looks the same. Letters are
            # rung for all the same, and a line typed at a prompt is what brings an interrupted one back.
            return "waiting-for-run" if has_open and name == "working" else "stuck"
    return name


def is_bare_shell(command: str, own: str) -> bool:
    """Whether a shell is in front of the seat's program. command: tmux's #{pane_current_command}; own: the name of the
    program that the pane was started with (`process.program` of its pid), which may be a shell script itself. Pure."""
    return command.lstrip("-") in SHELLS and bool(own) and own not in SHELLS


def quiet(
    row: Mapping[str, Any],
    pane: PaneInfo | None,
    *,
    human_s: float | None = None,
    has_prefix: bool = False,
    is_shell: bool = False,
    command: str = "",
    showed: str | None = None,
) -> str | None:
    """Why nothing may be typed into the seat's pane now, None when it may. Pure; what doorbell and state.json go by.

    row: name, state and held of the seat. human_s: seconds since a person's last key in this pane. is_shell: see
    `is_bare_shell`; command: which. showed: what the last single look at the screen showed: one look at a dialog is enough
    not to type, two make it a state.
    """
    name = row["name"]
    if row["state"] == "person":
        return "a person's own seat: no program is in it"
    if pane is None:
        return "it has no pane"
    if pane.dead:
        return "its program ended" + (f" (status {pane.dead_status})" if pane.dead_status is not None else "")
    if row["held"]:
        return f"held with `org hold {name}`"
    if human_s is not None and human_s < HUMAN_S:
        return f"a person typed there {max(0.0, human_s):.0f} s ago"
    if pane.in_mode:
        return "copy mode"
    if has_prefix:
        return "a person pressed the prefix key there"
    if pane.input_off:
        return "closed to input"
    if is_shell:
        return f"a bare shell ({files.printable(command, 20)}) is in front"
    if row["state"] == "asking" or showed == "asking":
        return "at a dialog"
    if row["state"] == "limited" or showed == "limited":
        return "rate limited"
    return {"starting": "still starting", "held": "paused at its pane", "gone": "its program ended"}.get(row["state"])


# --- every seat --------------------------------------------------------------------------------------------------


def states(home: Home, book: Book, seen_now: Look | None = None, now: float | None = None) -> list[dict[str, Any]]:
    """Every seat of the roster, and people's, as `status --json` shows it, with what `team.reader` adds for people. Without
    a look, tmux is asked; without a server every program is gone. For one look; who looks again keeps a `Reader`."""
    from org.team.reader import Reader  # it stands on this module

    when = time.time() if now is None else now
    return Reader(home).rows(book, look(home, when) if seen_now is None else seen_now, when, is_once=True)


def last_events(home: Home, name: str, most: int = EVENT_TAIL) -> list[dict[str, Any]]:
    """The latest events of the seat's program, oldest first: those in the last `most` bytes of the file. A row whose
    `event` is no text is nobody's event."""
    return [row for row in files.read_tail(home.seat_events(name), most) if isinstance(row.get("event"), str)]


def is_running(home: Home) -> bool:
    """Whether an organisation runs here: its office's lock is held or its tmux server answers."""
    if files.is_locked(home.office_lock):
        return True
    from org.world import tmux

    server = tmux.Server(home.socket)
    return server.socket.exists() and server.alive()
