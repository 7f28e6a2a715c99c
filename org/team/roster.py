"""Who sits in this organisation, on which device, for how long: a plan made from the org folder and the options. Pure.

Also the one reader and writer of comms/org.json, the facts of this launch. Starts nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from org import files, records, times
from org.errors import BadInput, OrgError, did_you_mean
from org.home import ID_PATTERN, RESERVED_SEATS, Home, check_id, seat_branch
from org.records import Charter, Record, Seat
from org.team import caps
from org.team.caps import Cap

MAX_SEATS = 64
PANES_PER_PAGE = 9
DEFAULT_ORG = "chief-juniors"
DEFAULT_AGENTS = "offline"
WINDOW_NAMES = ("office", "shell")
PERSON = records.PERSON
COUNCILLOR = "councillor"  # reads letters to `council`, beside the chiefs

Agents = Sequence[tuple[str, int | None]]


@dataclass(frozen=True)
class Budget(Record):
    """At most so many seconds or launched runs; both None is no limit."""

    seconds: float | None = None
    runs: int | None = None


@dataclass(frozen=True)
class Options:
    """What `org launch` was asked for; None means not said. `agents` as `agents.base.parse_agents` returns it."""

    chief: int | None = None
    juniors: int | None = None
    agents: Agents | None = None
    org: str | None = None
    devices: str | None = None
    budget: Budget | None = None
    cap: Cap | None = None

    @property
    def names_a_roster(self) -> bool:
        return any(value is not None for value in (self.chief, self.juniors, self.agents, self.org))


@dataclass(frozen=True)
class PlannedSeat(Record):
    name: str
    role: str
    backend: str
    program: str
    branch: str
    worktree: str
    device: str | None
    page: int  # of the grid, from 1
    pane: int  # on its page, from 0

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.name, self.role, self.backend


@dataclass(frozen=True)
class Plan:
    """What a launch will make. `devices_spec` is what `devices.discover` understands."""

    org: str
    seats: tuple[PlannedSeat, ...]
    devices: tuple[str, ...]
    devices_spec: str
    socket: str
    budget: Budget | None = None  # None: not said
    is_named: bool = field(default=True)  # the roster was asked for, not taken over from the launch before
    cap: Cap | None = None  # of all seats together; None: not said, then org.yaml's holds
    caps: dict[str, Any] = field(
        default_factory=dict
    )  # what org.yaml says: max_usd, max_tokens, and by seat in `seats`

    @property
    def roster(self) -> set[tuple[str, str, str]]:
        return {seat.identity for seat in self.seats}


def parse_budget(text: str) -> Budget:
    """`90s`, `5m`, `2h` or `100runs`. Raises BadInput naming the forms."""
    if " " not in text and (seconds := times.length(text)):
        return Budget(seconds=seconds)
    match = re.fullmatch(r"([0-9]{1,7})runs?", text)
    if match and int(match[1]) > 0:
        return Budget(runs=int(match[1]))
    raise BadInput(f"--budget '{text:.40}' is not known; write 90s, 5m, 2h or 100runs")


def plan(
    home: Home,
    charter: Charter,
    folder: dict[str, Any],
    options: Options,
    existing: Sequence[Seat],
    devices: Sequence[str],
    previous: dict[str, Any] | None = None,
) -> Plan:
    """Seats with their programs, branches, devices and panes. folder: `schema.org_folder(...)`; devices: names in force;
    previous: org.json of the launch before. Options that name no roster bring back the one before. Raises BadInput."""
    before = (previous or {}).get("roster") or []
    if not options.names_a_roster and before:
        who = [(row["name"], row["role"], row["backend"]) for row in before]
    else:
        who = _dealt(_places(folder, options), options.agents)
    _check_places(who)
    has_chief = any(is_chief(role) for _, role, _ in who)
    programs = {seat.name: seat.program for seat in existing}
    workers = [name for name, role, _ in who if not leads(role)] or [name for name, _, _ in who]
    seats = []
    for place, (name, role, backend) in enumerate(who):
        # without a chief nobody moves a junior, so its own name is its line of research
        program = programs.get(name) or ("main" if has_chief else name)
        device = devices[workers.index(name) % len(devices)] if devices and name in workers else None
        page, pane = place // PANES_PER_PAGE + 1, place % PANES_PER_PAGE
        branch = seat_branch(program, name)
        seats.append(PlannedSeat(name, role, backend, program, branch, str(home.worktree(name)), device, page, pane))
    return Plan(
        org=options.org or (previous or {}).get("org") or DEFAULT_ORG,
        seats=tuple(seats),
        devices=tuple(devices),
        devices_spec=options.devices or (previous or {}).get("devices_spec") or "auto",
        socket=home.socket,
        budget=options.budget,
        is_named=options.names_a_roster,
        cap=options.cap,
        caps=_caps(folder, who),
    )


def _caps(folder: dict[str, Any], who: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """What org.yaml lets all seats together use, and each; a seat is under the first line of its role that names its name,
    else under the role's first."""
    named: dict[str, Any] = {}
    by_role: dict[str, Any] = {}
    for row in folder["seats"]:
        by_role.setdefault(row["role"], row)
        named |= {} if row.get("name") is None else {row["name"]: row}
    found = {name: caps.cap(named.get(name) or by_role.get(role)).to_dict() for name, role, _ in who}
    return {**caps.cap(folder.get("limits")).to_dict(), "seats": found}


def _places(folder: dict[str, Any], options: Options) -> list[tuple[str, str, str | None]]:
    """(name, role, backend of the folder or None), in the folder's order; the options' counts replace the folder's."""
    wanted = {"chief": options.chief, "junior": options.juniors}
    places: list[tuple[str, str, str | None]] = []
    roles = [row["role"] for row in folder["seats"]]
    for role, count in wanted.items():
        if count and role not in roles:
            raise BadInput(f"this org has no role '{role}'{did_you_mean(role, roles)}; it has {', '.join(roles)}")
    seen: set[str] = set()
    for row in folder["seats"]:
        role = row["role"]
        asked = wanted.get(role)
        # a role given in two lines keeps both; an option's count goes to its first line
        count = row["count"] if asked is None else 0 if role in seen else asked
        seen.add(role)
        if not 0 <= count <= MAX_SEATS:
            raise BadInput(f"{count} seats of role '{role}' are not allowed; use 0 to {MAX_SEATS}")
        pattern = row.get("names") or ("j{n}" if role == "junior" else None)
        for number in range(1, count + 1):
            if pattern:
                name = pattern.replace("{n}", str(number))
            else:
                stem = row.get("name") or role
                name = stem if number == 1 else f"{stem}{number}"
            places.append((name, role, row.get("backend")))
    return places


def names(folder: dict[str, Any]) -> list[str]:
    """What the seats of an org folder are called where no option changes their number."""
    return [name for name, _, _ in _places(folder, Options())]


def _dealt(places: list[tuple[str, str, str | None]], agents: Agents | None) -> list[tuple[str, str, str]]:
    """Each place with its backend. Counts are dealt to all seats in order when they add up to all, else to the juniors
    and every other seat gets the first program; a program without a count takes what is left."""
    if agents is None:
        return [(name, role, backend or DEFAULT_AGENTS) for name, role, backend in places]
    given = [(spec, count) for spec, count in agents if count is not None]
    open_ended = [spec for spec, count in agents if count is None]
    total = sum(count for _, count in given)
    hand = [spec for spec, count in given for _ in range(count)]
    first = agents[0][0]
    juniors = sum(role == "junior" for _, role, _ in places)
    for_all = total == len(places) or (bool(open_ended) and total > juniors)
    size = len(places) if for_all else juniors
    if open_ended:
        hand += [open_ended[i % len(open_ended)] for i in range(max(0, size - total))]
    if len(hand) != size:
        raise BadInput(
            f"--agents names {total} programs for {juniors} juniors and {len(places)} seats; make them match"
        )
    dealt = []
    for name, role, _ in places:
        takes = for_all or role == "junior"
        dealt.append((name, role, hand.pop(0) if takes else first))
    seated = {spec for _, _, spec in dealt}
    if lost := next((spec for spec, _ in agents if spec not in seated), None):
        raise BadInput(
            f"--agents: {lost:.60} gets no seat: the others take all {len(places)}; write {lost:.60}:1 or more seats"
        )
    return dealt


def _check_places(who: Sequence[tuple[str, str, str]]) -> None:
    if not who:
        raise BadInput("an organisation has at least one seat; give --chief 1 or --juniors 1")
    if len(who) > MAX_SEATS + 1:
        raise BadInput(f"{len(who)} seats are too many for one machine; at most {MAX_SEATS + 1}")
    names = [name for name, _, _ in who]
    for name in names:
        check_id(name, "seat")
        if name in (*RESERVED_SEATS, *WINDOW_NAMES):
            raise BadInput(f"no seat may be called '{name}'; the org uses that name itself")
        if names.count(name) > 1:
            raise BadInput(f"two seats would be called '{name}'; give one of them another name in org.yaml")


def changes(before: Sequence[dict[str, Any]], planned: Sequence[PlannedSeat]) -> str:
    """What is another in the plan than in the roster before, for one line: `j5 and j6 are new; j1 is claude, was offline`.
    Empty where nothing is."""
    old = {row["name"]: (row["role"], row["backend"]) for row in before}
    new = {seat.name: (seat.role, seat.backend) for seat in planned}
    parts = [f"{name} is {_as(new[name], old[name])}" for name in new if name in old and new[name] != old[name]]
    for word, names in (("new", [n for n in new if n not in old]), ("left out", [n for n in old if n not in new])):
        if names:
            shown = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else names
            text = " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)
            parts.append(f"{text} {'is' if len(names) == 1 else 'are'} {word}")
    return "; ".join([*parts[:3], f"{len(parts) - 3} more changes"] if len(parts) > 4 else parts)


def _as(new: tuple[str, str], old: tuple[str, str]) -> str:
    """Role, program or both, whatever is another."""
    pairs = [(a, b) for a, b in zip(new, old, strict=True) if a != b]
    return f"{' '.join(f'{a:.40}' for a, _ in pairs)}, was {' '.join(f'{b:.40}' for _, b in pairs)}"


def leads(role: str) -> bool:
    """Whether the role looks at every program and files no experiment: it needs no device of its own."""
    return is_chief(role) or role == COUNCILLOR


def is_chief(role: str) -> bool:
    return role.startswith("chief")


# --- facts of this launch ----------------------------------------------------------------------------------------


def facts(home: Home) -> dict[str, Any]:
    """org.json, or {} before the first launch."""
    row = files.read_json(home.org_file)
    return row if isinstance(row, dict) else {}


def has_breaker(facts: Mapping[str, Any]) -> bool:
    """Whether somebody is there to attack wins: then idle devices do, too."""
    return any(row.get("role") == "breaker" for row in facts.get("roster") or ())


def update(home: Home, **changes: Any) -> dict[str, Any]:
    """Change some facts and leave the others; launch and office may both do it. Raises OrgError when the file is torn: with
    what is left out the roster and the clock would be lost for good."""
    with files.locked(home.leases / "org"):
        if home.org_file.is_file() and not isinstance(files.read_json(home.org_file), dict):
            raise OrgError(f"{home.org_file} is torn; `org launch` mends it from the ledger")
        row = {**facts(home), **changes}
        files.replace_json(home.org_file, row)
    return row


def members(home: Home, people: bool = True) -> dict[str, str]:
    """Name -> role of who is here now, by name (j2 before j10): the seats of the latest launch's roster, and with
    `people` those without a program. Others are retired: their files stay and a launch may bring them back. Before any
    launch: every seat."""
    there = {file.parent.name: files.read_json(file) for file in home.seats.glob("*/seat.json")}
    wanted = {row.get("name") for row in facts(home).get("roster") or ()}
    found = {
        name: str(row.get("role", ""))
        for name, row in there.items()
        if isinstance(row, dict)
        and ID_PATTERN.fullmatch(name)
        and (people if row.get("backend") == PERSON else not wanted or name in wanted)
    }
    return {name: found[name] for name in sorted(found, key=by_name)}


def named(home: Home, name: str) -> list[str]:
    """The seats that a name stands for: one that is here, else `all` or those of the role that are here, else a retired
    one. Nobody: an empty list."""
    here = members(home)
    if name in here:
        return [name]
    found = [seat for seat, role in here.items() if name in ("all", role)]
    is_retired = ID_PATTERN.fullmatch(name) is not None and home.seat_file(name).is_file()
    return found or ([name] if is_retired else [])


def by_name(name: str) -> str:
    """For sorting names as people count: j2 before j10."""
    return re.sub(r"[0-9]+", lambda digits: digits.group().zfill(32), name)


def org_hash(home: Home, name: str) -> str:
    """First 16 hex digits over every file of the org folder, and then of the skills that all orgs share: path and content,
    in order."""
    digest = hashlib.sha256()
    for folder in (home.org_folder(name), home.skills):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            named = path.relative_to(home.prompts if folder == home.skills else folder).as_posix()
            digest.update(named.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
