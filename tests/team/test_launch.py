"""An organisation started, mended and ended on real tmux, git and processes; its plan as a pure function."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiers import first

from org import charter as charters
from org import files
from org.agents import base
from org.cli import status
from org.errors import BadInput, Busy, OrgError
from org.home import Home
from org.lab import dispatch, gate, ledger, runner
from org.records import Contract, Seat
from org.team import launch, mail, panes, roster, seats, states
from org.world import process

FOLDER = {
    "about": "",
    "seats": [
        {"role": "chief", "count": 1, "name": "chief", "names": None, "backend": None},
        {"role": "junior", "count": 2, "name": None, "names": "j{n}", "backend": None},
    ],
}


def planned(
    home: Home, existing: tuple[Seat, ...] = (), previous: dict[str, Any] | None = None, **options: Any
) -> roster.Plan:
    return roster.plan(
        home, charters.load(home), FOLDER, roster.Options(**options), existing, ["cpu0", "cpu1"], previous
    )


# --- the plan


def test_a_plan_of_one_chief_and_eight_juniors(tiny_home: Home) -> None:
    plan = planned(tiny_home, chief=1, juniors=8)
    assert [s.name for s in plan.seats] == ["chief", *(f"j{n}" for n in range(1, 9))]
    assert [s.device for s in plan.seats] == [None, *(["cpu0", "cpu1"] * 4)]
    assert {s.program for s in plan.seats} == {"main"}
    assert plan.seats[3].branch == "program/main/j3" and plan.seats[3].worktree == str(tiny_home.worktree("j3"))
    assert {(s.page, s.pane) for s in plan.seats} == {(1, n) for n in range(9)}
    assert not tiny_home.record.exists() and not tiny_home.seats.exists()


def test_without_a_chief_every_junior_is_a_line_of_research(tiny_home: Home) -> None:
    plan = planned(tiny_home, chief=0, juniors=2)
    assert [(s.name, s.program, s.branch, s.device) for s in plan.seats] == [
        ("j1", "j1", "program/j1/j1", "cpu0"),
        ("j2", "j2", "program/j2/j2", "cpu1"),
    ]


def test_a_tenth_pane_opens_a_second_page(tiny_home: Home) -> None:
    plan = planned(tiny_home, chief=1, juniors=10)
    assert [(s.page, s.pane) for s in plan.seats[8:]] == [(1, 8), (2, 0), (2, 1)]


def test_several_chiefs_are_told_apart(tiny_home: Home) -> None:
    assert [s.name for s in planned(tiny_home, chief=2, juniors=1).seats] == ["chief", "chief2", "j1"]


@pytest.mark.parametrize(
    ("agents", "expected"),
    [
        ([("claude", None)], ["claude"] * 5),
        ([("claude", 2), ("codex", 2)], ["claude", "claude", "claude", "codex", "codex"]),
        ([("claude", 3), ("codex", 2)], ["claude", "claude", "claude", "codex", "codex"]),
        ([("claude", 1), ("offline", None)], ["claude", "claude", "offline", "offline", "offline"]),
    ],
)
def test_agents_are_dealt_to_the_seats(tiny_home: Home, agents: Any, expected: list[str]) -> None:
    assert [s.backend for s in planned(tiny_home, chief=1, juniors=4, agents=agents).seats] == expected


@pytest.mark.parametrize(
    "options",
    [
        {"chief": 0, "juniors": 0},
        {"chief": 65},
        {"juniors": 65},
        {"chief": 60, "juniors": 60},
        {"chief": 1, "juniors": 4, "agents": [("claude", 3), ("codex", 3)]},
        {"chief": 1, "juniors": 4, "agents": [("claude", 1)]},
    ],
)
def test_counts_that_do_not_fit_are_bad_input(tiny_home: Home, options: Any) -> None:
    with pytest.raises(BadInput):
        planned(tiny_home, **options)


@pytest.mark.parametrize(
    ("agents", "lost"),
    [
        ([("claude", 2), ("codex=stub-1", None)], "codex=stub-1"),
        ([("codex", None), ("claude", 3)], "codex"),
    ],
)
def test_a_program_that_would_get_no_seat_is_bad_input(tiny_home: Home, agents: Any, lost: str) -> None:
    with pytest.raises(BadInput, match=f"{lost} gets no seat: .*; write {lost}:1 or more seats"):
        planned(tiny_home, chief=1, juniors=2, agents=agents)
    agents = [(spec, 1 if spec == lost else 2) for spec, _ in agents]
    assert lost in [seat.backend for seat in planned(tiny_home, chief=1, juniors=2, agents=agents).seats]


@pytest.mark.parametrize("name", ["office", "human", "shell", "j1", "Bad Name", "a.b"])
def test_an_org_folder_cannot_name_a_seat_what_the_org_or_tmux_would_misread(tiny_home: Home, name: str) -> None:
    folder = {
        "seats": [*FOLDER["seats"], {"role": "breaker", "count": 1, "name": name, "names": None, "backend": "claude"}]
    }
    with pytest.raises(BadInput):
        roster.plan(tiny_home, charters.load(tiny_home), folder, roster.Options(), (), ["cpu0"])


def with_judges(backend: str | None) -> dict[str, Any]:
    rows = [{"role": r, "count": 1, "name": r, "names": None, "backend": backend} for r in ("breaker", "councillor")]
    return {"seats": [*FOLDER["seats"], *rows]}


def test_a_breaker_has_a_device_and_a_councillor_none(tiny_home: Home) -> None:
    options = roster.Options(chief=1, juniors=1)
    plan = roster.plan(tiny_home, charters.load(tiny_home), with_judges("claude"), options, (), ["cpu0", "cpu1"])
    assert [(s.name, s.backend, s.device) for s in plan.seats] == [
        ("chief", "offline", None),
        ("j1", "offline", "cpu0"),
        ("breaker", "claude", "cpu1"),
        ("councillor", "claude", None),
    ]


def test_without_options_the_launch_before_comes_back_with_its_programs(tiny_home: Home) -> None:
    before = planned(tiny_home, chief=1, juniors=1, agents=[("codex", None)])
    moved = Seat("j1", "junior", "codex", "optimizer", "program/optimizer/j1", "x", "cpu0", "t")
    facts = {"org": "chief-juniors", "roster": [s.to_dict() for s in before.seats], "devices_spec": "cpu:2"}
    again = planned(tiny_home, (moved,), facts)
    assert again.roster == before.roster and not again.is_named
    assert again.seats[1].branch == "program/optimizer/j1" and again.devices_spec == "cpu:2"


@pytest.mark.parametrize(
    ("text", "seconds", "runs"),
    [("90s", 90, None), ("5m", 300, None), ("1.5h", 5400, None), ("100runs", None, 100), ("1run", None, 1)],
)
def test_budgets(text: str, seconds: float | None, runs: int | None) -> None:
    assert roster.parse_budget(text) == roster.Budget(seconds, runs)


@pytest.mark.parametrize("text", ["", "5", "0s", "0runs", "-5m", "1e3s", "5 m", "runs", "5y", "\uff11m"])
def test_what_is_no_budget_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match="--budget"):
        roster.parse_budget(text)


# --- a whole organisation


def test_a_launch_makes_all_of_it_a_second_one_nothing_and_a_stop_leaves_nothing(
    org: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    org.launch(chief=1, juniors=2)
    home = org.home

    view = org.look()
    assert set(view.panes) == {"chief", "j1", "j2"} and view.office is not None
    env = org.env("j1")
    assert (env["ORG_SEAT"], env["ORG_HOME"], env["CWD"]) == ("j1", str(home.root), str(home.worktree("j1")))
    assert env["PATH"].startswith(str(Path(sys.executable).parent))
    assert "secret" not in env.values()
    shell = next(p for p in panes.server_of(home).list_panes() if p.window_name == "shell")
    assert not [e for e in Path(f"/proc/{shell.pid}/environ").read_text().split("\0") if e.startswith("ORG_SEAT")]
    windows = org.tmux("list-windows", "-t", "org", "-F", "#{window_name}").split()
    assert windows == ["grid", "office", "shell"]
    facts = roster.facts(home)
    assert facts["budget"]["from"] and facts["org_hash"] and facts["charter_hash"]
    assert ledger.read(home).org[-1]["event"] == "launch"
    assert states.is_running(home)

    before = {name: pane.pid for name, pane in view.panes.items()}
    lines = len(ledger.read(home).rows)
    office = files.read_json(home.office_lock)["pid"]
    for options in ({}, {"chief": 1, "juniors": 2}):
        org.launch(**options)
        assert {name: pane.pid for name, pane in org.look().panes.items()} == before
        assert files.read_json(home.office_lock)["pid"] == office
        assert [row["kind"] for row in ledger.read(home).rows[lines:] if row["kind"] == "org"] == []
    with pytest.raises(Busy, match="org stop"):
        org.launch(chief=1, juniors=1)

    assert "office" in org.stop()
    assert org.marked() == []
    for lock in (home.office_lock, home.dispatch_lock, home.launch_lock, *home.leases.glob("*.lock")):
        assert not files.is_locked(lock)
    assert not panes.server_of(home).alive() and not states.is_running(home)
    assert org.stop() == "nothing runs here"
    assert {row["state"] for row in states.states(home, ledger.read(home))} == {"gone"}


def test_launch_brings_back_what_was_lost(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    view, home = org.look(), org.home
    assert org.env("j1")
    (home.seat("j1") / "env.json").unlink()  # the next program writes its own
    org.tmux("kill-pane", "-t", view.panes["j1"].id)
    assert view.office is not None
    os.kill(view.office.pid, signal.SIGKILL)
    org.wait_for(lambda: not files.is_locked(home.office_lock))
    there = status.organisation(home)
    assert there["running"] and there["office_pid"] is None
    org.launch()
    org.wait_for(lambda: files.read_json(home.office_lock))  # it holds the lock first, and says who it is next
    assert status.organisation(home)["office_pid"] == files.read_json(home.office_lock)["pid"]
    after = org.look()
    assert set(after.panes) == {"j1", "j2"} and after.panes["j2"].pid == view.panes["j2"].pid
    assert files.is_locked(home.office_lock)
    assert org.env("j1")["CWD"] == str(home.worktree("j1"))


def test_a_window_renamed_and_a_pane_broken_out_hold_their_seats_as_before(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    before = {name: pane.pid for name, pane in org.look().panes.items()}
    office = org.look().office.pid
    org.tmux("break-pane", "-d", "-s", org.look().panes["j2"].id)
    org.tmux("rename-window", "-t", "=org:=grid", "juniors")
    org.tmux("rename-window", "-t", "=org:=office", "board")
    view = org.look()
    assert {name: pane.pid for name, pane in view.panes.items()} == before and view.office.pid == office
    assert "every pane lives" in " ".join(org.launch())
    assert {name: pane.pid for name, pane in org.look().panes.items()} == before
    for name in before:
        assert len(process.find_marked(f"ORG_EVENTS={org.home.seat_events(name)}")) == 1, "a second program"
    [letter] = mail.send(org.home, "human", "j2", "are you there")
    org.wait_for(lambda: letter.id in org.typed("j2"), what="the doorbell of the pane that was broken out")


@pytest.mark.slow  # three launches
def test_a_killed_tmux_server_comes_back_with_one_program_a_seat_and_the_same_clock(org: Any) -> None:
    org.launch(chief=0, juniors=1, budget=roster.Budget(seconds=3600))
    begun = roster.facts(org.home)["budget"]["from"]
    seats.move(org.home, seats.require(org.home, "j1"), "optimizer")
    server = panes.server_of(org.home).pid()
    assert server is not None
    os.kill(server, signal.SIGKILL)
    org.wait_for(lambda: process.identity(server) is None)
    org.launch()
    assert roster.facts(org.home)["budget"]["from"] == begun
    assert len(process.find_marked(f"ORG_EVENTS={org.home.seat_events('j1')}")) == 1
    row = states.states(org.home, ledger.read(org.home))[0]
    assert (row["program"], row["state"]) == ("optimizer", "ready")


@pytest.mark.parametrize("point", first(1, ["launch.facts", "launch.seat", "launch.panes"]))
def test_a_launch_killed_on_its_way_is_finished_by_the_next_one(org: Any, point: str) -> None:
    plan = org.plan(chief=0, juniors=2, agents=[(org.fake, None)])
    code = (
        "import json, sys; from pathlib import Path; from org.home import Home; from org.team import launch, roster; "
        "row = json.loads(sys.argv[2]); seats = tuple(roster.PlannedSeat.from_dict(s) for s in row.pop('seats')); "
        "launch.launch(Home(Path(sys.argv[1])), roster.Plan(**row, seats=seats), print)"
    )
    row = {**vars(plan), "seats": [seat.to_dict() for seat in plan.seats], "devices": list(plan.devices)}
    environment = {**os.environ, "ORG_FAILPOINT": point, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-c", code, str(org.home.root), json.dumps(row)]
    done = subprocess.run(argv, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    org.launch(chief=0, juniors=2)
    assert set(org.look().panes) == {"j1", "j2"} and files.is_locked(org.home.office_lock)
    assert [row["state"] for row in states.states(org.home, ledger.read(org.home))] == ["ready", "ready"]


def test_a_program_that_never_comes_up_is_named(org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ALIVE_S", 2.0)  # else `false` may be seen alive on a slow machine
    monkeypatch.setattr(launch, "READY_S", 3.0)
    with pytest.raises(OrgError, match=r"not ready .* j1, j2 ended; look with `org attach j1`"):
        org.launch(chief=0, juniors=2, agents=[("cmd:false", None)])


def test_a_clock_set_back_keeps_no_launch_waiting(org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    org.launch(chief=0, juniors=1)
    note = files.read_json(org.home.seat_pane("j1"))
    files.replace_json(org.home.seat_pane("j1"), {**note, "started": "2999-01-01T00:00:00.000Z"})
    assert launch.not_ready(org.home, ["j1", "j9"]) == {"j9": "has no seat.json"}
    monkeypatch.setattr(launch, "ALIVE_S", 1e9)
    files.replace_json(org.home.seat_pane("j1"), note)
    assert launch.not_ready(org.home, ["j1"]) == {"j1": "did not say so"}


def test_a_server_that_dies_under_a_launch_is_not_waited_for(org: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ALIVE_S", 1e9)  # nobody is ever ready
    not_ready = launch.not_ready

    def kills(*words: Any) -> dict[str, str]:
        panes.server_of(org.home).kill()
        return not_ready(*words)

    monkeypatch.setattr(launch, "not_ready", kills)
    with pytest.raises(OrgError, match=r"the tmux server ended .* `org launch` again"):
        org.launch(chief=0, juniors=1)


def test_a_prepare_command_that_fails_is_one_line_and_starts_nothing(org: Any) -> None:
    text = org.home.charter.read_text()
    org.home.charter.write_text(text + "prepare: python -c \"print('fetching'); raise SystemExit('no disk left')\"\n")
    with pytest.raises(OrgError, match="no disk left"):
        org.launch(chief=0, juniors=1)
    assert "prepare: fetching" in org.said
    assert not org.look().is_running


def with_a_long_run(org: Any) -> Contract:
    """A launched organisation of one junior, whose filed experiment takes a minute."""
    org.launch(chief=0, juniors=1)
    seat = seats.require(org.home, "j1")
    path = Path(seat.worktree) / "train.py"
    path.write_text(path.read_text().replace("SLEEP_S = 0.0", "SLEEP_S = 60.0"))
    return gate.submit(org.home, seat, "slow")


@pytest.mark.slow  # a run that is ended
def test_a_stop_ends_the_training_and_records_its_run_as_lost(org: Any) -> None:
    home, contract = org.home, with_a_long_run(org)
    runner = dispatch.Dispatcher(home)
    org.wait_for(lambda: [r for r in runner.running() if r.startswith(contract.experiment)], what="the run to start")
    log = home.experiment(contract.experiment) / "runs"
    org.wait_for(lambda: [p for p in log.glob("*/status.json") if (files.read_json(p) or {}).get("phase") == "train"])
    assert "lost" in org.stop()
    assert org.marked() == []
    [result] = [r for r in ledger.read(home).results.values() if r.experiment == contract.experiment]
    assert (result.status, contract.experiment in ledger.read(home).verdicts) == ("lost", False)


@pytest.mark.slow  # an organisation stopped again and again
def test_stops_use_up_none_of_a_runs_attempts(org: Any) -> None:
    home, contract = org.home, with_a_long_run(org)
    runs = home.experiment(contract.experiment) / "runs"

    def trains() -> bool:
        """Since the launch: a status of before has another pid."""
        rows = [files.read_json(p) or {} for p in runs.glob("*/status.json")]
        return any(row.get("phase") == "train" and process.identity(row["pid"]) for row in rows)

    for _ in range(4):
        org.launch()
        org.wait_for(trains, what="the run to train")
        org.stop()
        assert org.marked() == []
    book = ledger.read(home)
    lost = [r for r in book.results.values() if r.experiment == contract.experiment]
    assert len({r.run for r in lost}) >= 4
    assert {(r.status, r.reason) for r in lost} == {("lost", runner.STOPPED)}
    assert contract.experiment not in book.verdicts


def test_one_seat_is_stopped_and_stays_so_until_the_next_launch(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    org.stop(seat="j1")
    org.wait_for(lambda: org.look().panes["j1"].dead)
    assert not org.look().panes["j2"].dead
    org.launch()
    assert not org.look().panes["j1"].dead


def test_stop_clean_refuses_to_remove_work_and_says_what_it_is(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    seat = seats.require(org.home, "j1")
    (Path(seat.worktree) / "train.py").write_text("MATRIX_LR = 1.0\n")
    with pytest.raises(Busy, match=r"worktree of j1; .*--aside"):
        org.stop(clean=True)
    assert "j1 stays: 1 file that no commit has (train.py)" in org.said
    assert (Path(seat.worktree) / "train.py").read_text() == "MATRIX_LR = 1.0\n"
    assert seats.saved(org.home, "j1") == [] and not org.home.worktree("j2").exists()
    assert org.marked() == []
    org.stop(clean=True, aside=True)
    assert not Path(seat.worktree).exists()
    [kept] = seats.saved(org.home, "j1")
    assert (kept / "train.py").read_text() == "MATRIX_LR = 1.0\n"
    assert any(line.startswith("j1: 1 file that no commit has") and str(kept) in line for line in org.said)
    seat = seats.create(org.home, "j1", "junior", "offline")
    assert "MATRIX_LR = 0.02" in (Path(seat.worktree) / "train.py").read_text()


def test_stop_clean_aside_moves_whatever_no_commit_has_and_leaves_a_persons_worktree(tiny_home: Home) -> None:
    said: list[str] = []
    big = "x" * 6_000_000
    j1 = seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    seats.create(tiny_home, "j2", "junior", "cmd:true", "main")
    me = seats.create(tiny_home, "me")
    for name, text in {"notes.md": "mine", "tools/try it.sh": "echo", "out/checkpoint.bin": big}.items():
        path = Path(j1.worktree) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (Path(j1.worktree) / "link").symlink_to("notes.md")
    with pytest.raises(Busy):
        launch.stop(tiny_home, said.append, clean=True)
    assert "j1 stays: 4 files that no commit has (link, notes.md, out/checkpoint.bin, tools/try it.sh)" in said
    assert not tiny_home.worktree("j2").exists()
    launch.stop(tiny_home, said.append, clean=True, aside=True)
    [kept] = seats.saved(tiny_home, "j1")
    there = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if not path.is_dir()}
    assert there == {"README.md", "train.py", "notes.md", "tools/try it.sh", "out/checkpoint.bin", "link"}
    assert (kept / "out" / "checkpoint.bin").stat().st_size == len(big) and (kept / "link").is_symlink()
    assert not Path(j1.worktree).exists() and (Path(me.worktree) / "train.py").is_file()
    assert any("me is a person's seat" in line for line in said) and any(str(kept) in line for line in said)
    launch.stop(tiny_home, said.append, seat="me", clean=True)
    assert (Path(me.worktree) / "train.py").is_file()


def test_only_the_keys_that_a_seats_program_needs_reach_the_office_that_restarts_it(
    tiny_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    monkeypatch.setenv("SOME_TOKEN", "another")
    seat = seats.create(tiny_home, "j1", "junior", "offline", "main")
    assert "a-key" not in panes.office_pane(tiny_home, [seat]).env.values()

    def plan(home: Home, seat: Seat, page: object) -> base.Start:
        return base.Start(["true"], {n: os.environ[n] for n in base.PASSED_ON if n in os.environ})

    needy = base.Backend("needy", doorbell="typed", readiness="alive", plan=plan)
    monkeypatch.setattr(base, "backend", lambda spec, home=None: needy)
    env = panes.office_pane(tiny_home, [seat]).env
    assert env["ANTHROPIC_API_KEY"] == "a-key" and "another" not in env.values()
