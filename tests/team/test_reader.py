"""The reader looks at every seat each second, reads only what changed, and comes to what a new one comes to."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_states import SCREENS, T0, pane, row, utc

from org import files
from org.agents import base
from org.home import Home
from org.lab import ledger
from org.lab.book import Book
from org.team import panes, reader, roster, seats, states
from org.world import process


@pytest.fixture
def team(tiny_home: Home) -> Home:
    for name in ("j1", "j2"):
        seats.create(tiny_home, name, "junior", "offline", "main", "cpu0")
        files.replace_json(tiny_home.seat_pane(name), {"started": utc(0), "restarts": [], "stopped": None})
    return tiny_home


def view_of(**panes: Any) -> states.Look:
    return states.Look(panes={name: pane(id=f"%{n}", **facts) for n, (name, facts) in enumerate(panes.items())},
                       is_running=True)  # fmt: skip


def tell(home: Home, name: str, seconds: float, event: str, **more: str) -> None:
    files.append_line(home.seat_events(name), json.dumps(row(seconds, event, **more)))


def test_the_reader_sees_every_change_at_its_next_look_and_a_new_one_comes_to_the_same(team: Home) -> None:
    known, book, view = reader.Reader(team), ledger.read(team), view_of(j1={}, j2={})

    def look(at: float) -> dict[str, dict[str, Any]]:
        found = known.rows(book, view, T0 + at)
        again = states.states(team, book, view, T0 + at)
        strip = ("since",)
        assert [{k: v for k, v in r.items() if k not in strip} for r in found] == [
            {k: v for k, v in r.items() if k not in strip} for r in again
        ]
        return {each["name"]: each for each in found}

    assert look(1)["j1"]["state"] == "starting"
    tell(team, "j1", 2, "ready")
    assert (look(3)["j1"]["state"], look(3)["j2"]["state"]) == ("ready", "starting")
    with team.seat_events("j1").open("a") as file:
        file.write('{"t": "' + utc(4) + '", "event": "wor')  # half a line of a writer at work
    assert look(5)["j1"]["state"] == "ready"
    with team.seat_events("j1").open("a") as file:
        file.write('king"}\n')
    assert look(5)["j1"]["state"] == "working"
    team.held("j1").touch()
    assert (look(6)["j1"]["state"], look(6)["j1"]["quiet"]) == ("held", "held with `org hold j1`")
    team.held("j1").unlink()
    assert look(7)["j1"]["state"] == "working"
    files.replace_json(team.seat_pane("j1"), {"started": utc(8), "restarts": [utc(8)], "stopped": None})
    assert look(9)["j1"]["state"] == "starting"  # what the former program said is not this one's
    box = team.mailbox("j1") / "new"
    box.mkdir(parents=True, exist_ok=True)
    (box / "l-1.md").write_text("x")
    seen = look(10)["j1"]
    assert seen["mail_waiting"] == 1 and seen["unread"][0][0] == "l-1"
    (box / "l-1.md").unlink()
    assert look(11)["j1"]["mail_waiting"] == 0
    seats.create(team, "j10", "junior", "offline", "main", "cpu0")
    assert list(look(12)) == ["j1", "j2", "j10"]
    roster.update(team, roster=[{"name": "j2"}])
    assert list(look(13)) == ["j2"]
    team.seat_events("j1").rename(team.seat_events("j2"))
    assert look(14)["j2"]["state"] == "working"  # another file under the name
    files.replace(team.seat_events("j2"), json.dumps(row(15, "asking", text="x" * 500)) + "\n")
    assert look(16)["j2"]["state"] == "asking"


def test_a_flood_of_words_between_two_looks_leaves_the_state_right(team: Home) -> None:
    known, book, view = reader.Reader(team), ledger.read(team), view_of(j1={})
    tell(team, "j1", 1, "ready")
    assert known.rows(book, view, T0 + 1)[0]["state"] == "ready"
    line = json.dumps(row(2, "note", text="\x1b[2J" * 100)) + "\n"
    with team.seat_events("j1").open("a") as file:
        file.write("not json\n" + line * 400 + "[1]\nnull\n")
    tell(team, "j1", 3, "working", text="\x1b]0;x\x07#(touch x)")
    found = known.rows(book, view, T0 + 4)[0]
    assert found["state"] == "working" and "\x1b" not in found["said"]


def _no_folder(home: Home) -> None:
    new = home.mailbox("j1") / "new"
    if new.is_dir():
        new.rmdir()
    new.parent.mkdir(parents=True, exist_ok=True)
    new.touch()


def _link_to_itself(home: Home) -> None:
    _no_folder(home)
    (home.mailbox("j1") / "new").unlink()
    (home.mailbox("j1") / "new").symlink_to("new")


@pytest.mark.parametrize(
    "harm",
    [
        _no_folder,
        _link_to_itself,
        lambda home: os.mkfifo(home.seat_events("j1")),
        lambda home: home.seat_events("j1").write_text('{"event": ' * 3000 + "\n"),
        lambda home: home.seat_events("j1").write_text('{"t": "9999-12-31T23:59:59Z", "event": "idle"}\n'),
        lambda home: home.seat_events("j1").write_text('{"t": "0001-01-01T00:00:00+23:59", "event": "idle"}\n'),
        lambda home: files.replace_json(home.seat_pane("j1"), {"started": {"a": 1}, "restarts": 5}),
        lambda home: files.replace_json(home.seat_pane("j1"), {"started": [], "restarts": ["yesterday", None]}),
        lambda home: files.replace_json(home.seat_file("j1"), {"name": [], "backend": {}}),
    ],
)
def test_what_one_seat_does_to_its_files_keeps_nobody_from_seeing_the_others(team: Home, harm: Any) -> None:
    harm(team)
    tell(team, "j2", 2, "ready")
    known, book = reader.Reader(team), ledger.read(team)
    found = known.rows(book, view_of(j1={"dead": True}, j2={}), T0 + 5)
    assert {each["name"]: each["state"] for each in found}["j2"] == "ready"
    known.save(found, T0 + 5)
    assert files.read_json(team.seat_state("j2"))["state"] == "ready"
    panes.restart_in(panes.note(team, "j1"), T0 + 5)


def test_of_many_unread_letters_the_oldest_are_named_and_one_more_displaces_none(team: Home) -> None:
    new = team.mailbox("j1") / "new"
    new.mkdir(parents=True, exist_ok=True)
    names = [f"l-260301-000000-{n:09x}" for n in range(reader.UNREAD_LOOKED_AT + 50)]
    known, book, view = reader.Reader(team), ledger.read(team), view_of(j1={}, j2={})
    for name in sorted(names[:-1], key=hash):
        (new / f"{name}.md").touch()
    [first, _] = known.rows(book, view, T0 + 1)
    (new / f"{names[-1]}.md").touch()
    [again, _] = known.rows(book, view, T0 + 2)
    assert {letter for letter, _ in first["unread"]} == {letter for letter, _ in again["unread"]} == set(names[:200])
    assert again["mail_waiting"] == len(names)


def test_a_cmd_program_that_writes_events_is_believed(tiny_home: Home) -> None:
    seats.create(tiny_home, "j1", "junior", "cmd:true", "main", "cpu0")
    book, view = ledger.read(tiny_home), view_of(j1={})
    assert states.states(tiny_home, book, view, T0)[0]["state"] == "ready"
    tell(tiny_home, "j1", 1, "note")
    assert states.states(tiny_home, book, view, T0 + 1)[0]["state"] == "ready"
    tell(tiny_home, "j1", 2, "asking")
    assert states.states(tiny_home, book, view, T0 + 3)[0]["state"] == "asking"


def test_looks_at_screens_are_handed_over_and_a_seat_left_out_is_forgotten(
    team: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows = base.Backend(
        "offline", doorbell="typed", readiness="event", plan=lambda *a: base.Start([]), screens=SCREENS
    )
    monkeypatch.setattr(base, "backend", lambda spec, home=None: shows)
    known, book, view = reader.Reader(team), ledger.read(team), view_of(j1={}, j2={})
    for name in ("j1", "j2"):
        tell(team, name, 1, "ready")
    known.rows(book, view, T0 + 1)
    assert known.wants_screen() == ["j1", "j2"]
    dialog = {"j1": "Do you want to proceed? (y/n)", "j2": "> "}
    first = known.rows(book, view, T0 + 2, dialog)[0]
    assert (first["state"], first["quiet"]) == ("ready", "at a dialog")  # not typed into from the first look on
    found = known.rows(book, view, T0 + 3, dialog)
    assert [(r["state"], r["quiet"]) for r in found] == [("asking", "at a dialog"), ("ready", None)]
    assert known.save(found, T0 + 3) == ["j1", "j2"]
    assert known.save(found, T0 + 4) == []
    kept = files.read_json(team.seat_state("j1"))
    assert (kept["state"], kept["quiet"], kept["since"]) == ("asking", "at a dialog", utc(3))
    # who looks once sees what the office saw, as long as the program said nothing since
    lock = files.try_lock(team.office_lock)
    assert states.states(team, book, view, T0 + 5)[0]["state"] == "asking"
    tell(team, "j1", 6, "working")
    assert states.states(team, book, view, T0 + 7)[0]["state"] == "working"
    os.close(lock or -1)
    assert known.rows(book, view, T0 + 8, {"j2": "> "})[0]["quiet"] is None


def test_seconds_that_count_on_are_no_change_of_state_json(team: Home) -> None:
    known, book = reader.Reader(team), ledger.read(team)
    for second in (1.0, 2.0, 3.0):
        view = dataclasses.replace(view_of(j1={}), keys={"%0": T0}, human=frozenset({"%0"}))
        saved = known.save(known.rows(book, view, T0 + second), T0 + second)
        assert ("j1" in saved) == (second == 1.0)
    assert files.read_json(team.seat_state("j1"))["quiet"] == "a person typed there 1 s ago"
    later = reader.Reader(team)  # a new office does not write again what stands there
    assert later.save(later.rows(book, view, T0 + 4), T0 + 4) == []


def test_a_state_that_cannot_be_written_keeps_no_other_from_it(team: Home) -> None:
    team.seat_state("j1").mkdir()
    known, book = reader.Reader(team), ledger.read(team)
    assert known.save(known.rows(book, view_of(j1={}, j2={}), T0 + 1), T0 + 1) == ["j2"]
    team.seat_state("j1").rmdir()
    assert known.save(known.rows(book, view_of(j1={}, j2={}), T0 + 2), T0 + 2) == ["j1"]


def test_a_clock_that_is_set_back_makes_no_seat_younger_than_now_nor_its_screen_unseen(team: Home) -> None:
    known, book, view = reader.Reader(team), ledger.read(team), view_of(j1={}, j2={})
    for now, at in ((T0 + 9000, 10.0), (T0 + 100, 11.0)):
        found = known.rows(book, view, now, {"j1": "> "}, tick=at)
    assert all(row["since"] <= T0 + 100 for row in found)
    looks = states.looked(states.looked((), "asking", T0 + 9000), "asking", T0 + 100)
    assert looks == ((T0 + 100, "asking"),)


def test_processor_time_is_looked_at_though_the_clock_was_set_back(team: Home, monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(reader.process, "cpu_s", lambda pids: asked.append(1) or dict.fromkeys(pids, 0.0))
    known, book, view = reader.Reader(team), ledger.read(team), view_of(j1={}, j2={})
    tell(team, "j1", 1, "working")
    late = states.STUCK_S
    for now, at in ((T0 + late + 7000, 10.0), (T0 + late, 11.0), (T0 + late + 30, 41.0)):
        known.rows(book, view, now, tick=at)
    assert len(asked) == 2


def test_processor_time_below_the_pane_is_a_sign_of_work(team: Home) -> None:
    busy = [sys.executable, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"]
    idle = [sys.executable, "-c", "import time; time.sleep(600)"]
    children = [subprocess.Popen(argv) for argv in (busy, idle)]
    try:
        known, book = reader.Reader(team), ledger.read(team)
        view = view_of(j1={"pid": children[0].pid}, j2={"pid": children[1].pid})
        for name in ("j1", "j2"):
            tell(team, name, 1, "working")
        end = time.monotonic() + 30
        late = states.STUCK_S + 2
        known.rows(book, view, T0 + late - reader.CPU_EVERY_S)
        while True:
            time.sleep(0.1)
            late += reader.CPU_EVERY_S
            found = {r["name"]: r["state"] for r in known.rows(book, view, T0 + late)}
            if found == {"j1": "working", "j2": "stuck"}:
                break
            assert time.monotonic() < end, found
            known._cpu_at = 0.0
            for each in known._seats.values():  # what took a tenth of a second is told as thirty
                if each.cpu is not None:
                    each.cpu = (each.cpu[0], T0 + late + reader.CPU_EVERY_S - 0.1, each.cpu[2])
    finally:
        for child in children:
            process.end_tree(child.pid)
            child.wait()


def test_thirty_three_seats_in_which_nothing_changes_are_looked_at_for_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, panes = Home(tmp_path), {}
    for n in range(33):
        name = f"j{n}"
        fields = {
            "name": name,
            "role": "junior",
            "backend": "offline",
            "program": "main",
            "branch": "b",
            "worktree": "/w",
        }
        files.replace_json(home.seat_file(name), {**fields, "device": "cpu0", "created": "x"})
        files.replace_json(home.seat_pane(name), {"started": utc(0)})
        tell(home, name, 1, "working")
        (home.mailbox(name) / "new").mkdir(parents=True)
        panes[name] = pane(id=f"%{n}", seat=name)
    known, book, view = reader.Reader(home), Book(), states.Look(panes=panes, is_running=True)
    time.sleep(0.3)  # until the stamps are old enough to be trusted
    known.rows(book, view, T0 + 2)

    def read(*args: object) -> None:
        raise AssertionError(f"read again: {args}")

    for name in ("read_json", "read_lines"):
        monkeypatch.setattr(files, name, read)
    monkeypatch.setattr(os, "scandir", read)
    begun = time.process_time()
    for _ in range(20):
        known.rows(book, view, T0 + 3)
    spent = (time.process_time() - begun) / 20
    assert spent < 0.005  # 0.3 ms on an idle machine
