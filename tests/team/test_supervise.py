"""Supervision by histories: what ended is started again ever later, then waits for a person; nothing else is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_states import pane
from whole import kill_office

from org import files
from org.home import Home
from org.lab import ledger
from org.team import panes, seats, supervise
from org.team.reader import Reader
from org.team.states import Look
from org.team.supervise import Observed, Supervisor, decide

T0 = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def dead(**changes: Any) -> Observed:
    return Observed(**{"name": "j1", "pane": "%1", "status": 3, "note": {"started": utc(0)}, **changes})


class Program:
    """A program that dies `lives_s` after each start, and an office that looks at it every second."""

    def __init__(self, lives_s: float, hands: tuple[tuple[float, float], ...] = ()) -> None:
        self.lives_s, self.hands = lives_s, hands
        self.note: dict[str, Any] = {"started": utc(0), "restarts": [], "stopped": None}
        self.died, self.starts, self.capped_at = lives_s, list[float](), None

    def pass_once(self, at: float) -> None:
        if at < self.died:
            return
        is_touched = any(begin <= at < end for begin, end in self.hands)
        decided = decide([dead(note=self.note, is_touched=is_touched)], T0 + at)
        assert not (decided.restart and decided.capped)
        if decided.give_up:
            assert self.capped_at is None  # once
            self.capped_at, self.note["gave_up"] = at, utc(at)
        if decided.restart:
            assert not is_touched
            self.starts.append(at)
            self.died = at + self.lives_s
            self.note = {**self.note, "started": utc(at), "restarts": [*self.note["restarts"], utc(at)][-20:]}


def test_a_crash_loop_is_started_ever_later_and_then_waits_for_a_person_for_good() -> None:
    loop = Program(0.5)
    for at in range(5000):
        loop.pass_once(float(at))
    gaps = [later - earlier for earlier, later in zip(loop.starts, loop.starts[1:], strict=False)]
    assert gaps == [1, 2, 4, 8] and len(loop.starts) == panes.RESTARTS_MAX
    assert loop.capped_at is not None and loop.capped_at < 60


def test_a_program_that_lives_an_hour_between_two_deaths_is_always_started_again() -> None:
    steady = Program(3600)
    for at in range(40_000):
        steady.pass_once(float(at))
    assert len(steady.starts) == 11 and steady.capped_at is None


def test_nothing_is_started_into_a_pane_that_a_person_reads() -> None:
    read = Program(10, hands=((0, 100),))
    for at in range(120):
        read.pass_once(float(at))
    assert read.starts == [100, 110]


@given(st.lists(st.floats(0.1, 400), min_size=1, max_size=30), st.lists(st.integers(0, 3), min_size=30, max_size=30))
def test_whatever_a_program_does_it_is_started_at_most_five_times_in_ten_minutes(
    lives: list[float], odd: list[int]
) -> None:
    at, note, starts = 0.0, {"started": utc(0), "restarts": list[str]()}, list[float]()
    for life, what in zip(lives, odd, strict=False):
        at += life
        observed = dead(note=note | ({"stopped": utc(at)} if what == 1 else {}), is_touched=what == 2,
                        pane=None if what == 3 else "%1")  # fmt: skip
        decided = decide([observed], T0 + at)
        assert not decided.restart or what == 0
        assert bool(decided.lost) == (what == 3)
        if decided.restart:
            starts.append(at)
            note = {"started": utc(at), "restarts": [*note["restarts"], utc(at)]}
        if decided.give_up:
            note = {**note, "gave_up": utc(at)}
    for first in starts:
        assert sum(first <= start < first + panes.RESTARTS_IN_MIND_S for start in starts) <= panes.RESTARTS_MAX


def test_a_seat_stopped_on_purpose_stays_so_and_is_no_flag() -> None:
    assert (
        decide([dead(note={"stopped": utc(0)}), dead(note={"stopped": utc(0)}, pane=None)], T0) == supervise.Decided()
    )


@pytest.mark.parametrize(("count", "after", "expected"), [(1, 4, 0), (1, 5, 1), (3, 29, 0), (3, 30, 1), (99, 60, 1)])
def test_what_cannot_be_started_is_tried_ever_later(count: int, after: float, expected: int) -> None:
    decided = decide([dead(failed=(count, after, "claude is not installed"))], T0)
    assert len(decided.restart) == expected and len(decided.failing) == 1


@pytest.mark.parametrize(
    ("screen", "expected"),
    [
        ("Traceback\nValueError: no key\n\nPane is dead (status 3, Sun Mar  1 00:00:00 2026)\n", "ValueError: no key"),
        ("", ""),
        ("x\x1b[2J`rm`\t" + "y" * 500, "x\N{REPLACEMENT CHARACTER}[2J'rm' " + "y" * 110),
    ],
)
def test_the_last_line_of_a_dead_pane_is_its_programs(screen: str, expected: str) -> None:
    assert supervise.last_line(screen) == expected


def test_while_tmux_does_not_answer_nothing_is_known_and_nothing_done(tiny_home: Home) -> None:
    at_work = Supervisor(tiny_home, panes.server_of(tiny_home), lambda event, text: None)
    row = {"name": "j1", "held": False}
    assert at_work.step([row], Look(), ["j1"], T0) == []
    assert [str(flag) for flag in at_work.step([row], Look(is_running=True), ["j1"], T0)] == [
        "j1 has no pane; `org launch`"
    ]
    assert at_work.step([row], Look(is_running=True), [], T0) == []  # no seat of this launch


def test_a_start_that_failed_is_tried_again_though_the_clock_was_set_back(tiny_home: Home) -> None:
    told: list[str] = []
    at_work = Supervisor(tiny_home, panes.server_of(tiny_home), lambda event, text: told.append(event))
    row, view = {"name": "j1", "held": False}, Look(panes={"j1": pane(dead=True, dead_status=3)}, is_running=True)
    failed: list[float] = []
    at_work._restart = lambda each, at: failed.append(at) or at_work._failed.update(j1=(1, at, "no disk"))  # type: ignore
    at_work.step([row], view, ["j1"], T0, 10.0)
    at_work.step([row], view, ["j1"], T0 - 86_400, 12.0)
    at_work.step([row], view, ["j1"], T0 - 86_390, 15.5)
    assert failed == [10.0, 15.5]


KILLED = """
import sys; from pathlib import Path; from test_states import pane
from org.home import Home; from org.team import panes; from org.team.states import Look; from org.team.supervise import Supervisor
home = Home(Path(sys.argv[1]))
view = Look(panes={"j1": pane(dead=True, dead_status=3)}, is_running=True)
at_work = Supervisor(home, panes.server_of(home), lambda event, text: print(event))
print(*at_work.step([{"name": "j1", "held": False}], view, ["j1"], float(sys.argv[2])))
"""


def test_an_office_killed_as_it_gives_a_seat_up_leaves_it_given_up(tiny_home: Home) -> None:
    files.replace_json(tiny_home.seat_pane("j1"), {"started": utc(0), "restarts": [utc(n) for n in range(5)]})
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}"}

    def office(at: float, point: str = "") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", KILLED, str(tiny_home.root), str(T0 + at)]
        return subprocess.run(
            argv, env=environment | {"ORG_FAILPOINT": point}, capture_output=True, text=True, check=False
        )

    assert office(10, "supervise.gave_up").returncode == -signal.SIGKILL
    again = office(4000)  # long after the ten minutes in which a death counts
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("j1 was started again 5 times and ended each time")


class Recorder:
    """In place of a tmux server: what is started, and what happens at that moment."""

    def __init__(self, then: Any = lambda: None) -> None:
        self.started: list[str] = []
        self.then = then

    def respawn(self, pane_id: str, *what: Any) -> None:
        self.started.append(pane_id)
        self.then()


def test_a_stop_is_not_undone_by_a_restart_that_was_decided_before_it(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    server: Any = Recorder()
    panes.note_stopped(tiny_home, "j1")
    assert not panes.respawn(tiny_home, server, seat, "%1", is_restart=True)
    assert server.started == [] and panes.note(tiny_home, "j1")["stopped"]
    assert panes.respawn(tiny_home, server, seat, "%1")  # `org launch` brings it back
    assert server.started == ["%1"] and not panes.note(tiny_home, "j1")["stopped"]


def test_a_stop_in_the_middle_of_a_restart_finds_the_program_that_was_started(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    stop = threading.Thread(target=panes.note_stopped, args=(tiny_home, "j1"))

    def then() -> None:
        stop.start()
        stop.join(0.2)
        assert stop.is_alive()  # it goes on, and ends what it finds, once the program is there

    server: Any = Recorder(then)
    assert panes.respawn(tiny_home, server, seat, "%1", is_restart=True)
    stop.join(10)
    assert panes.note(tiny_home, "j1")["stopped"] and len(panes.note(tiny_home, "j1")["restarts"]) == 1


def test_a_role_page_that_is_no_text_keeps_its_own_seats_down_and_no_others(tiny_home: Home) -> None:
    for name, role in (("j1", "junior"), ("chief", "chief")):
        seats.create(tiny_home, name, role, "cmd:true", "main")
    page = tiny_home.org_folder("chief-juniors") / "roles" / "junior.md"
    page.write_bytes("Sei höflich.\n".encode("latin-1"))
    server: Any = Recorder()
    at_work = Supervisor(tiny_home, server, lambda event, text: None)
    shown = {"j1": pane(id="%1", dead=True, dead_status=3), "chief": pane(id="%2", dead=True, dead_status=3)}
    rows, view = [{"name": name, "held": False} for name in shown], Look(panes=shown, is_running=True)
    at_work.step(rows, view, ["j1", "chief"], T0, 10.0)
    assert server.started == ["%2"]
    [flag] = at_work.step(rows[:1], view, ["j1"], T0, 11.0)
    assert f"j1 cannot be started: {page} is not UTF-8 text" in str(flag)


@pytest.mark.slow  # programs of real panes end and are started again, by the clock
def test_a_pane_whose_program_ended_gets_it_back_until_a_person_has_to_look(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    assert kill_office(org.home)
    said: list[tuple[str, str]] = []
    known, book = Reader(org.home), ledger.read(org.home)
    at_work = Supervisor(org.home, panes.server_of(org.home), lambda event, text: said.append((event, text)))

    def step() -> list[str]:
        view, now = org.look(), time.time()
        return [str(flag) for flag in at_work.step(known.rows(book, view, now), view, ["j1", "j2"], now)]

    def die() -> int:
        org.tmux("send-keys", "-t", org.look().panes["j1"].id, "die", "Enter")
        org.wait_for(lambda: org.look().panes["j1"].dead)
        return int(org.look().panes["j1"].pid)

    assert step() == []
    first = die()
    org.home.held("j1").touch()
    assert step() == [] and org.look().panes["j1"].dead  # the person who holds it may be reading why
    org.home.held("j1").unlink()
    org.wait_for(lambda: not step() and org.look().panes["j1"].pid != first and not org.look().panes["j1"].dead)
    assert said[-1] == ("seat", "j1 ended with status 3; started again")
    # its program is not to be had: the other seat is not kept down by that
    files.replace_json(
        org.home.seat_file("j1"), {**files.read_json(org.home.seat_file("j1")), "backend": "cmd:no-such"}
    )
    die()
    files.replace_json(org.home.seat_pane("j1"), {**panes.note(org.home, "j1"), "restarts": []})
    org.wait_for(lambda: "cannot be started: 'no-such' is not installed" in "".join(step()))
    files.replace_json(org.home.seat_file("j1"), seats.require(org.home, "j2").to_dict() | {"name": "j1"})
    files.replace_json(org.home.seat_pane("j1"), {**panes.note(org.home, "j1"), "restarts": [files.utc_now()] * 5})
    [flag] = org.wait_for(lambda: [text for text in step() if "org attach j1" in text])
    assert flag.startswith(
        "j1 was started again 5 times and ended each time; its pane's last line: die; `org attach j1`"
    )
    assert [event for event, _ in said].count("needs-you") == 1
    step()
    assert [event for event, _ in said].count("needs-you") == 1 and panes.note(org.home, "j1")["gave_up"]
    org.launch()
    assert not org.look().panes["j1"].dead and "gave_up" not in panes.note(org.home, "j1")
