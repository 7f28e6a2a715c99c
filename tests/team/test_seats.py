"""Seats on real git: worktrees made, mended and moved without losing a line; states from events and facts alone."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_states import state
from tiny import replace_in_trainer

from org import files
from org.errors import BadInput
from org.home import Home
from org.lab import gate, ledger, record
from org.records import Seat
from org.team import mail, pages, processes, roster, seats, states
from org.team.roster import PERSON
from org.world import git, gitcall, tmuxwords


def text(seat: Seat, name: str = "train.py") -> str:
    return (Path(seat.worktree) / name).read_text()


def status(seat: Seat) -> str:
    done = subprocess.run(
        ["git", "-C", seat.worktree, "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    return done.stdout


def branch(seat: Seat) -> str:
    done = subprocess.run(
        ["git", "-C", seat.worktree, "symbolic-ref", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def advance(home: Home, program: str, old: bytes, new: bytes) -> str:
    """Another seat's verified work becomes the program's head, as the lab makes it."""
    head, tree = record.program_head(home, program)
    data = git.read_file(home.record, head, "train.py")
    assert data is not None and old in data
    commit = git.commit(
        home.record, git.tree_with(home.record, tree, {"train.py": data.replace(old, new)}), [head], "new head"
    )
    git.update_ref(home.record, record.main_ref(program), commit, head)
    return commit


def test_a_seat_is_a_clean_worktree_on_its_own_branch(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main", "cpu0")
    assert seat == seats.load(tiny_home, "j1")
    assert (seat.branch, branch(seat), status(seat)) == ("program/main/j1", "program/main/j1", "")
    assert "MATRIX_LR = 0.02" in text(seat)
    assert mail.seats(tiny_home) == {"j1": "junior"}


def test_making_a_seat_again_changes_nothing_and_keeps_its_work(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    replace_in_trainer(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    again = seats.create(tiny_home, "j1", "junior", "offline", "other")
    assert (again.program, again.created) == ("main", seat.created)
    assert "MATRIX_LR = 0.04" in text(again)
    assert seats.saved(tiny_home, "j1") == []


def test_a_lost_worktree_comes_back_with_the_work_that_was_filed(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    replace_in_trainer(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    filed = gate.submit(tiny_home, seat, "larger")
    shutil.rmtree(seat.worktree)
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    assert "MATRIX_LR = 0.04" in text(seat) and status(seat) == ""
    assert git.resolve(tiny_home.hub, "refs/heads/program/main/j1") == filed.commit


def test_moving_gives_the_new_programs_head_and_keeps_branch_and_unfiled_work(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    record.ensure_program(tiny_home, "schedule")
    head = advance(tiny_home, "schedule", b"WARMDOWN_FRAC = 0.0", b"WARMDOWN_FRAC = 0.5")
    replace_in_trainer(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.08")
    (Path(seat.worktree) / "notes.txt").write_text("mine")
    before = git.resolve(tiny_home.hub, "refs/heads/program/main/j1")

    moved = seats.move(tiny_home, seat, "schedule")

    assert (moved.program, moved.branch, branch(moved)) == ("schedule", "program/schedule/j1", "program/schedule/j1")
    assert moved == seats.load(tiny_home, "j1")
    assert "WARMDOWN_FRAC = 0.5" in text(moved) and "MATRIX_LR = 0.02" in text(moved)
    assert status(moved) == "?? notes.txt\n" and text(moved, "notes.txt") == "mine"
    [kept] = seats.saved(tiny_home, "j1")
    assert "MATRIX_LR = 0.08" in (kept / "train.py").read_text()
    assert git.resolve(tiny_home.hub, "refs/heads/program/main/j1") == before
    assert git.resolve(tiny_home.hub, "refs/heads/program/schedule/j1") == head


def test_a_moved_seat_files_on_its_new_program_only(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    moved = seats.move(tiny_home, seat, "optimizer")
    replace_in_trainer(moved, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    filed = gate.submit(tiny_home, moved, "larger")
    assert (filed.program, [k.name for k in filed.knobs]) == ("optimizer", ["MATRIX_LR"])


def test_sync_brings_the_head_and_pins_commits_the_record_never_saw(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    replace_in_trainer(seat, "SLEEP_S = 0.0", "SLEEP_S = 0.1")
    for words in (["add", "train.py"], ["-c", "user.name=j1", "-c", "user.email=j1@x", "commit", "-qm", "by hand"]):
        subprocess.run(["git", "-C", seat.worktree, *words], check=True)
    own = git.resolve(tiny_home.hub, "refs/heads/program/main/j1")
    head = advance(tiny_home, "main", b"MATRIX_LR = 0.02", b"MATRIX_LR = 0.04")
    seats.sync(tiny_home, seat)
    assert "MATRIX_LR = 0.04" in text(seat) and "SLEEP_S = 0.0" in text(seat) and status(seat) == ""
    assert git.resolve(tiny_home.hub, "refs/heads/program/main/j1") == head
    assert own in git.list_refs(tiny_home.hub, "refs/org/saved/j1").values()
    seats.sync(tiny_home, seat)
    assert seats.saved(tiny_home, "j1") == []


def test_many_seats_take_few_processes_more_than_one(tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    seats.create(tiny_home, "j0", "junior", "offline", "main")
    calls: list[object] = []
    run = gitcall.run
    monkeypatch.setattr(gitcall, "run", lambda *a, **k: (calls.append(a), run(*a, **k))[1])
    wanted = [seats.Wanted(f"j{n}", "junior", "offline", "main") for n in range(1, 9)]
    made = seats.create_all(tiny_home, wanted)
    assert [seat.name for seat in made] == [one.name for one in wanted]
    assert len(calls) <= 20  # eight `worktree add` among them
    assert {status(seat) for seat in made} == {""} and all("MATRIX_LR" in text(seat) for seat in made)
    calls.clear()
    assert seats.create_all(tiny_home, wanted) == made
    assert len(calls) <= 5


def test_a_branch_that_was_deleted_comes_back_where_it_was_and_no_file_is_touched(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    replace_in_trainer(seat, "SLEEP_S = 0.0", "SLEEP_S = 0.1")
    subprocess.run(
        ["git", "-C", seat.worktree, "-c", "user.name=j1", "-c", "user.email=j1@x", "commit", "-qam", "by hand"],
        check=True,
    )
    own = git.resolve(tiny_home.hub, "refs/heads/program/main/j1")
    replace_in_trainer(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    before = text(seat)
    subprocess.run(["git", "-C", seat.worktree, "update-ref", "-d", "refs/heads/program/main/j1"], check=True)
    said: list[str] = []
    seats.create_all(tiny_home, [seats.Wanted("j1", "junior", "offline")], said.append)
    assert git.resolve(tiny_home.hub, "refs/heads/program/main/j1") == own
    assert text(seat) == before and status(seat) == " M train.py\n" and seats.saved(tiny_home, "j1") == []
    assert said == [f"j1: its branch program/main/j1 was gone and is back, at {str(own)[:7]}"]


def test_what_is_written_in_the_middle_of_a_move_is_kept_too(tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    advance(tiny_home, "main", b"MATRIX_LR = 0.02", b"MATRIX_LR = 0.04")
    path, lay_out = Path(seat.worktree) / "train.py", git.lay_out
    at_work = path.open("a")

    def in_between(*args: Any, **more: Any) -> None:
        path.write_text(path.read_text() + "# by name\n")
        lay_out(*args, **more)
        at_work.write("# through the file that was open\n")
        at_work.close()

    monkeypatch.setattr(git, "lay_out", in_between)
    seats.sync(tiny_home, seat)
    [kept] = seats.saved(tiny_home, "j1")
    assert (kept / "train.py").read_text().endswith("# by name\n# through the file that was open\n")
    assert "MATRIX_LR = 0.04" in text(seat) and "# by" not in text(seat) and status(seat) == ""


def test_what_is_the_same_is_not_touched_by_a_move(tiny_home: Home) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    before = (Path(seat.worktree) / "train.py").stat()
    seats.sync(tiny_home, seat)
    after = (Path(seat.worktree) / "train.py").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("how", [["checkout", "-q", "--detach"], ["checkout", "-q", "-b", "mine"]])
def test_work_on_a_branch_of_the_agents_own_is_left_as_it_is(tiny_home: Home, how: list[str]) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    subprocess.run(["git", "-C", seat.worktree, *how], check=True)
    replace_in_trainer(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    said: list[str] = []
    seats.create_all(tiny_home, [seats.Wanted("j1", "junior", "offline")], said.append)
    assert "MATRIX_LR = 0.04" in text(seat) and seats.saved(tiny_home, "j1") == []
    assert len(said) == 1 and "was left so" in said[0] and "git switch program/main/j1" in said[0]
    replace_in_trainer(seat, "MATRIX_LR = 0.04", "MATRIX_LR = 0.02")
    seats.create_all(tiny_home, [seats.Wanted("j1", "junior", "offline")], said.append)
    assert branch(seat) == "program/main/j1" and status(seat) == ""


@pytest.mark.parametrize("point", ["worktrees.added", "seats.added", "seats.worktree"])
def test_a_kill_while_a_seat_is_made_is_mended_by_making_it_again(tiny_home: Home, point: str) -> None:
    call = "seats.create(home, 'j1', 'junior', 'offline', 'main')"
    die_at(tiny_home, point, call)
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    assert status(seat) == "" and "MATRIX_LR" in text(seat)


@pytest.mark.parametrize("point", ["worktrees.added", "seats.added", "seats.saved", "seats.head"])
def test_a_kill_while_a_lost_worktree_comes_back_is_mended(tiny_home: Home, point: str) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    shutil.rmtree(seat.worktree)
    die_at(tiny_home, point, "seats.create(home, 'j1', 'junior', 'offline', 'main')")
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    assert status(seat) == "" and "MATRIX_LR = 0.02" in text(seat) and seats.saved(tiny_home, "j1") == []


@pytest.mark.parametrize("point", ["seats.saved", "seats.head", "seats.moved"])
def test_a_kill_in_the_middle_of_a_move_leaves_one_program_or_the_other(tiny_home: Home, point: str) -> None:
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    record.ensure_program(tiny_home, "schedule")
    advance(tiny_home, "schedule", b"WARMDOWN_FRAC = 0.0", b"WARMDOWN_FRAC = 0.5")
    replace_in_trainer(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.08")
    die_at(tiny_home, point, "seats.move(home, seats.load(home, 'j1'), 'schedule')")
    seat = seats.create(tiny_home, "j1", "junior", "offline")
    assert branch(seat) == seat.branch == "program/main/j1"
    if point != "seats.saved":
        assert status(seat) == "" and "WARMDOWN_FRAC = 0.0" in text(seat)
    [kept] = seats.saved(tiny_home, "j1")[:1]
    assert "MATRIX_LR = 0.08" in (kept / "train.py").read_text()


def die_at(home: Home, point: str, call: str) -> None:
    code = f"import sys; from pathlib import Path; from org.home import Home; from org.team import seats; home = Home(Path(sys.argv[1])); {call}"
    environment = {**os.environ, "ORG_FAILPOINT": f"{point}:1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.root)], env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("name", ["all", "human", "../x", "a b", "", "-x", "#(touch x)"])
def test_a_name_that_may_not_meet_tmux_or_git_makes_nothing(tiny_home: Home, name: str) -> None:
    with pytest.raises(BadInput):
        seats.create(tiny_home, name, "junior", "offline", "main")
    assert not tiny_home.hub.exists() and not tiny_home.seats.exists()


# --- states


def pane(**changes: object) -> tmuxwords.PaneInfo:
    alive = tmuxwords.PaneInfo(
        id="%1", window="@0", window_name="grid", pid=1, dead=False, dead_status=None, in_mode=False,
        input_off=False, width=80, height=20, active=True, seat="j1", title="j1",
    )  # fmt: skip
    return dataclasses.replace(alive, **changes)  # type: ignore[arg-type]


def history(*names: str) -> list[dict[str, str]]:
    return [{"t": f"2026-03-01T00:00:{n:02d}.000Z", "event": name} for n, name in enumerate(names, 10)]


@pytest.mark.parametrize(
    ("events", "facts", "expected"),
    [
        ((), {}, "starting"),
        (("starting",), {}, "starting"),
        (("starting", "ready"), {}, "ready"),
        (("ready", "working"), {}, "working"),
        (("ready", "working", "plan", "note", "processed"), {}, "working"),
        (("working", "waiting"), {}, "waiting-for-run"),
        (("waiting", "idle"), {}, "ready"),
        (("working", "asking"), {}, "asking"),
        (("working", "asking"), {"is_human": True}, "held"),
        (("ready", "paused"), {}, "held"),
        (("working",), {"is_held": True}, "held"),
        (("working", "someone-elses-word"), {}, "working"),
        (("ready",), {"started": "2026-03-01T00:00:59.000Z"}, "starting"),
        ((), {"reports": False}, "ready"),
        ((), {"is_person": True}, "person"),
    ],
)
def test_state_follows_the_last_event_that_says_one(
    events: tuple[str, ...], facts: dict[str, bool], expected: str
) -> None:
    assert state(history(*events), pane(), **{"is_held": False, "is_human": False, **facts}) == expected  # type: ignore[arg-type]


def test_a_seat_without_a_living_pane_is_gone_whatever_it_said() -> None:
    for where in (None, pane(dead=True)):
        assert state(history("working"), where, is_held=False, is_human=False) == "gone"


def client(**changes: object) -> tmuxwords.ClientInfo:
    plain = tmuxwords.ClientInfo(
        activity=1000, pane_id="%1", control=False, readonly=False, prefix=False, width=200, height=50
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("client_facts", "now", "expected"),
    [
        ({}, 1005.0, {"%1"}),
        ({}, 1011.0, set()),
        ({"control": True}, 1001.0, set()),
        ({"readonly": True}, 1001.0, set()),
        ({"pane_id": "%2"}, 1001.0, {"%2"}),
    ],
)
def test_a_person_is_where_a_real_client_had_its_last_key(
    client_facts: dict[str, object], now: float, expected: set[str]
) -> None:
    assert states.seen([pane()], [client(**client_facts)], now).human == expected


def test_who_has_only_attached_has_typed_nothing() -> None:
    assert states.seen([pane()], [client(created=1000)], 1001.0).untyped == {"%1"}
    assert states.seen([pane()], [client(created=998)], 1001.0).untyped == set()
    assert states.seen([pane()], [client(created=1000), client(created=900)], 1001.0).untyped == set()


def test_who_is_not_in_the_roster_is_retired_but_reached_by_name(tiny_home: Home) -> None:
    for name, role in {"chief": "chief", "j1": "junior", "j2": "junior", "j10": "junior"}.items():
        seats.create(tiny_home, name, role, "cmd:true", "main")
    seats.create(tiny_home, "me")
    everybody = ["chief", "j1", "j2", "j10", "me"]
    assert mail.recipients(tiny_home, "all", "human") == everybody  # before any launch
    rows = [{"name": name, "role": "junior", "backend": "cmd:true"} for name in ("j2", "j10")]
    roster.update(tiny_home, org="chief-juniors", roster=rows)
    assert [row["name"] for row in states.states(tiny_home, ledger.read(tiny_home))] == ["j2", "j10", "me"]
    assert mail.recipients(tiny_home, "all", "human") == ["j2", "j10", "me"]
    assert mail.recipients(tiny_home, "junior", "human") == ["j2", "j10"]
    assert mail.recipients(tiny_home, "council", "human") == []
    for name in everybody:
        assert [letter.to for letter in mail.send(tiny_home, "human", name, "hello")] == [name]
    page = pages.Process("standup", ("end",), ("all",), (), None, 60.0, "Well?")
    assert processes.ask(tiny_home, page, "2026-03-01T00:00:00Z").seats == ("j2", "j10")
    named = pages.Process("review", ("end",), ("me", "chief"), (), None, 60.0, "Well?")
    assert processes.ask(tiny_home, named, "2026-03-01T00:00:00Z").seats == ("me",)
    assert [seat.name for seat in seats.all_seats(tiny_home)] == everybody


def test_without_an_org_running_every_program_is_gone_and_people_are_not(tiny_home: Home) -> None:
    seats.create(tiny_home, "j1", "junior", "offline", "main", "cpu0")
    seats.create(tiny_home, "me", "person", PERSON, "main")
    tiny_home.held("j1").touch()
    mail.send(tiny_home, "human", "j1", "hello")
    files.append_line(tiny_home.seat_events("j1"), '{"t": "2026-03-01T00:00:00.000Z", "event": "working"}')
    rows = {row["name"]: row for row in states.states(tiny_home, ledger.read(tiny_home))}
    assert (rows["j1"]["state"], rows["j1"]["held"], rows["j1"]["pane"], rows["j1"]["mail_waiting"]) == (
        "gone",
        True,
        None,
        1,
    )
    assert rows["me"]["state"] == "person"
    assert not states.is_running(tiny_home)


def test_a_seat_whose_file_has_another_form_is_none_and_stops_nobody(tiny_home: Home) -> None:
    for name in ("j1", "j2"):
        seats.create(tiny_home, name, "junior", "offline", "main")
    files.replace_json(tiny_home.seat_file("j1"), {"name": "j1", "role": "junior", "backend": {}})
    assert seats.load(tiny_home, "j1") is None
    assert [seat.name for seat in seats.all_seats(tiny_home)] == ["j2"]
    assert [seat.name for seat in seats.present(tiny_home)] == ["j2"]
    with pytest.raises(BadInput, match=r"j1/seat\.json is damaged; `org launch`"):
        seats.require(tiny_home, "j1")
