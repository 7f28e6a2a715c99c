"""What each seat is doing now, computed from its events, its pane and its locks. Changes nothing, stores nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from org import files
from org.home import Home
from org.team import mail
from org.team.roster import PERSON
from org.team.seats import present

if TYPE_CHECKING:
    from org.lab.ledger import Book
    from org.world.tmuxwords import ClientInfo, PaneInfo

HUMAN_S = 10.0  # a person's key so many seconds ago: the pane is theirs
EVENT_TAIL = 16_384  # bytes of events.jsonl looked at for the state

# event -> state; an event that is not named here leaves the state as it is
STATES = {
    "starting": "starting",
    "ready": "ready",
    "idle": "ready",
    "working": "working",
    "waiting": "waiting-for-run",
    "asking": "asking",
    "paused": "held",
    "exit": "gone",
}


@dataclass(frozen=True)
class Look:
    """One look at the grid: seat -> its pane, and the panes a person is working in now."""

    panes: Mapping[str, PaneInfo] = field(default_factory=dict)
    human: frozenset[str] = frozenset()
    prefix: frozenset[str] = frozenset()  # panes whose client has the prefix key down
    clients: int = 0
    office: PaneInfo | None = None
    is_running: bool = False


def look(home: Home, now: float) -> Look:
    """Ask the org's tmux server, if there is one; now: Unix seconds. Two short processes, none without a server."""
    from org.world import tmux

    server = tmux.Server(home.socket)
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
    grid = {p.seat: p for p in panes if p.seat and p.window_name.startswith("grid")}
    return Look(
        panes=grid,
        human=frozenset(c.pane_id for c in hands if now - c.activity < HUMAN_S),
        prefix=frozenset(c.pane_id for c in hands if c.prefix),
        clients=len(hands),
        office=next((p for p in panes if p.window_name == "office"), None),
        is_running=True,
    )


def state(
    events: Iterable[Mapping[str, Any]],
    pane: PaneInfo | None,
    *,
    is_held: bool,
    is_human: bool,
    is_person: bool = False,
    started: str | None = None,
    reports: bool = True,
) -> str:
    """starting, ready, working, waiting-for-run, asking, held or gone; `person` for a seat without a program. Pure.

    events: of the seat's program, oldest first; those before `started` are an earlier program's. reports: whether this
    kind of program writes events at all; one that does not is ready as soon as it lives.
    """
    if is_person:
        return "held" if is_held else "person"
    if pane is None or pane.dead:
        return "gone"
    if is_held or is_human:
        return "held"
    current = "starting" if reports else "ready"
    for row in events:
        if started is None or str(row.get("t", "")) >= started:
            current = STATES.get(str(row.get("event")), current)
    return current


def states(home: Home, book: Book, seen_now: Look | None = None, now: float | None = None) -> list[dict[str, Any]]:
    """Every seat of the roster, and people's, as `status --json` shows it. Without a look, tmux is asked; without a server every program is gone."""
    moment = datetime.now(UTC).timestamp() if now is None else now
    view = look(home, moment) if seen_now is None else seen_now
    working = {c.seat: c.experiment for c in reversed(book.open()) if c.stage == "search"}
    rows = []
    for seat in present(home):
        pane = view.panes.get(seat.name)
        is_held = home.held(seat.name).exists()
        now_is = state(
            last_events(home, seat.name),
            pane,
            is_held=is_held,
            is_human=pane is not None and pane.id in view.human,
            is_person=seat.backend == PERSON,
            started=(files.read_json(home.seat_pane(seat.name)) or {}).get("started"),
            reports=reports_events(seat.backend),
        )
        rows.append(
            {
                "name": seat.name,
                "role": seat.role,
                "backend": seat.backend,
                "program": seat.program,
                "branch": seat.branch,
                "worktree": seat.worktree,
                "device": seat.device,
                "pane": pane.id if pane else None,
                "state": now_is,
                "held": is_held,
                "experiment": working.get(seat.name),
                "mail_waiting": mail.waiting(home, seat.name),
            }
        )
    return rows


def last_events(home: Home, name: str) -> list[dict[str, Any]]:
    """The latest events of the seat's program, oldest first; a bounded tail of the file."""
    path = home.seat_events(name)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return []
    return files.read_lines(path, max(0, size - EVENT_TAIL))[0]


def reports_events(backend: str) -> bool:
    """Whether programs of this kind say in events what they do. Unknown ones are taken not to."""
    kind = backend.partition(":")[0]
    return kind not in ("cmd", PERSON)


def is_running(home: Home) -> bool:
    """Whether an organisation runs here: its office's lock is held or its tmux server answers."""
    if files.is_locked(home.office_lock):
        return True
    from org.world import tmux

    server = tmux.Server(home.socket)
    return server.socket.exists() and server.alive()
