"""The office: its decisions on histories, its loop on a real organisation, killed and brought back."""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from postbox import take
from team.rows import book_of, contract, verdict
from tiny import replace_in_trainer
from whole import kill_office, run

from org import charter as charters
from org import files
from org.cli.board import STATE_STYLES
from org.cli.status import STATE_COLOURS
from org.home import Home
from org.lab import gate, ledger
from org.records import Contract
from org.team import borders, letters, mail, office, panes, roster, seats, states
from org.team.clock import phase, runs_left
from org.world.devices import Device

NOW = datetime.fromisoformat("2026-03-01T00:10:00Z")
BUDGET = {"budget": {"seconds": 300.0, "runs": None, "from": "2026-03-01T00:00:00Z"}}


# --- decisions


@pytest.mark.parametrize(
    ("facts", "left", "running", "seconds", "expected"),
    [
        ({}, None, 3, 0, "open"),
        ({"budget": {"seconds": 300.0, "from": None}}, None, 0, 0, "preparing"),
        (BUDGET, None, 2, 299, "running"),
        (BUDGET, None, 2, 300, "draining"),
        (BUDGET, None, 0, 300, "closing"),
        (BUDGET | {"budget_ended": "x"}, None, 0, 10, "closing"),
        (BUDGET | {"budget_ended": "x", "ended": "y"}, None, 0, 10, "ended"),
        ({"budget": {"runs": 9, "from": "2026-03-01T00:00:00Z"}}, 1, 0, 9999, "running"),
        ({"budget": {"runs": 9, "from": "2026-03-01T00:00:00Z"}}, 0, 1, 0, "draining"),
        ({"budget": {"runs": 9, "from": "2026-03-01T00:00:00Z"}}, 0, 0, 0, "closing"),
        ({"budget": {"runs": 9, "from": None}}, 0, 0, 0, "draining"),
    ],
)
def test_a_budget_counts_from_readiness_and_drains_before_it_closes(
    facts: dict[str, Any], left: int | None, running: int, seconds: float, expected: str
) -> None:
    begun = datetime.fromisoformat("2026-03-01T00:00:00Z").timestamp()
    assert phase(facts, left, running, begun + seconds) == expected


def launched(*runs: str) -> list[dict[str, Any]]:
    return [{"kind": "launch", "run": run} for run in runs]


def test_every_run_of_this_budget_counts_once_also_before_its_line_is_written() -> None:
    book = book_of(*launched("E0000/baseline-s1", "E0001/candidate-s1", "E0001/candidate-s2"))
    facts = {"budget": {"runs": 5, "since": "2026-03-01T00:00:02Z"}}
    assert runs_left(facts, book, []) == 3
    assert runs_left(facts, book, ["E0001/candidate-s2", "E0002/candidate-s1"]) == 2
    assert runs_left({"budget": {"runs": 1, "since": ""}}, book, []) == 0
    assert runs_left({}, book, []) is None


@pytest.mark.parametrize(
    ("leased", "left", "expected"),
    [((), None, "abcd"), ((), 9, "abcd"), ((), 2, "ab"), (("a", "b"), 1, "abc"), (("b",), 0, "b"), ((), 0, "a")],
)
def test_a_pass_never_starts_more_runs_than_are_left(leased: tuple[str, ...], left: int | None, expected: str) -> None:
    there = [Device(name, "cpu", 0) for name in "abcd"]
    assert "".join(d.name for d in office.usable(there, set(leased), left)) == expected


def ago(*seconds: float) -> list[str]:
    return [(NOW - timedelta(seconds=s)).isoformat() for s in seconds]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, 0.0),
        ({"restarts": ago(0)}, 1.0),
        ({"restarts": ago(5)}, 0.0),
        ({"restarts": ago(30, 1)}, 1.0),
        ({"restarts": ago(30, 20, 1)}, 3.0),
        ({"restarts": ago(50, 40, 30, 0)}, 8.0),
        ({"restarts": ago(50, 40, 30, 20, 10)}, None),
        ({"restarts": ago(5000, 4000, 3000, 2000, 1000)}, 0.0),
        ({"restarts": ago(-86_400, -86_401)}, 0.0),  # noted before the clock was set back
        ({"stopped": "2026-03-01T00:00:00Z"}, None),
        ({"gave_up": "2026-03-01T00:00:00Z", "restarts": ago(5000)}, None),
    ],
)
def test_restarts_come_ever_later_and_end_in_a_flag(row: dict[str, Any], expected: float | None) -> None:
    assert panes.restart_in(row, NOW.timestamp()) == expected


def shot(**changes: Any) -> dict[str, Any]:
    seat = {
        "name": "j1", "role": "junior", "backend": "offline", "program": "main", "device": "cpu0", "pane": "%3",
        "state": "working", "held": False, "experiment": "E0042", "mail_waiting": 2,
    }  # fmt: skip
    return {
        "org": {"phase": "running"}, "seats": [seat | changes], "runs": 12, "flags": [],
        "devices": [{"name": "cpu0", "run": "E0042/candidate-s1"}, {"name": "cpu1", "run": None}],
        "best": {"verified": None, "tentative": {"experiment": "E0041", "effect": -0.0412}},
    }  # fmt: skip


def test_borders_and_status_line_say_what_runs_and_nothing_of_it_is_executed() -> None:
    options = borders.decorate(shot(program="#(touch x)"), "org")
    assert options["%3"]["@label"] == "● j1 ##(touch x) cpu0 E0042 working ✉2"
    assert options["%3"]["@colour"] == borders.COLOURS["working"]
    line = options["org"]["status-right"]
    assert line is not None
    for part in ("no verified win", "tentative E0041 -0.0412", "12 runs", "1/2 devices"):
        assert part in line
    assert "held j1" in str(borders.decorate(shot(held=True), "org")["org"]["status-right"])


def test_every_state_has_a_colour_and_a_mark() -> None:
    assert set(states.ALL) == set(borders.COLOURS) == set(borders.MARKS) == set(STATE_STYLES) == set(STATE_COLOURS)


# --- the loop on a real organisation


def submit(home: Home, name: str, old: str = "MATRIX_LR = 0.02", new: str = "MATRIX_LR = 0.04") -> Contract:
    seat = seats.require(home, name)
    replace_in_trainer(seat, old, new)
    return gate.submit(home, seat, "larger", expect=-0.04)


def test_an_experiment_is_run_judged_and_its_verdict_posted_once(org: Any) -> None:
    org.launch(chief=1, juniors=1)
    name = submit(org.home, "j1").experiment
    for seat in ("j1", "chief"):
        org.wait_for(lambda seat=seat: [m for m in mail.peek(org.home, seat) if m.about == name])
    [letter] = [m for m in take(org.home, "j1") if m.about == name]
    assert (letter.sender, letter.kind, letter.verified) == ("office", "verdict", True)
    assert letter.body.startswith(f"{name} win (tentative): effect -")

    # a new office that has forgotten how far it was sends nothing twice
    assert kill_office(org.home)
    org.home.office_notes.unlink()
    org.launch()
    org.wait_for(lambda: (files.read_json(org.home.office_notes) or {}).get("told"))
    assert mail.peek(org.home, "j1") == []


@pytest.mark.parametrize("point", ["letters.sent", "mail.new", "mail.tmp"])
def test_an_office_killed_while_it_posts_a_verdict_posts_it_once_all_the_same(tiny_home: Home, point: str) -> None:
    for name, role in (("chief", "chief"), ("j1", "junior")):
        seats.create(tiny_home, name, role, "cmd:true", "main")
    book = ledger.Ledger(tiny_home)
    for row in (contract("E0001"), verdict("E0001")):
        book.append(row["kind"], f"{row['kind']}:E0001", row)
    code = "from org import charter; from org.lab import ledger; from org.team import letters; "
    code += "letters.deliver(home, ledger.read(home), charter.load(home))"
    assert run(code, tiny_home, point=point) == -signal.SIGKILL
    charter = charters.load(tiny_home)
    for _ in range(2):
        assert letters.deliver(tiny_home, ledger.read(tiny_home), charter) == []
    for name in ("j1", "chief"):
        assert [m.id for m in mail.peek(tiny_home, name)] == ["verdict-e0001"]


def test_a_program_that_ends_is_started_again_and_one_that_keeps_ending_is_flagged(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    first = org.look().panes["j1"].pid
    assert org.env("j1")
    (org.home.seat("j1") / "env.json").unlink()  # the next program writes its own
    org.tmux("send-keys", "-t", org.look().panes["j1"].id, "die", "Enter")
    org.wait_for(lambda: (p := org.look().panes["j1"]).pid != first and not p.dead, what="the seat to come back")
    assert org.env("j1")["ORG_SEAT"] == "j1"
    # four more restarts in the last minutes: the next death is a person's to look at
    note = panes.note(org.home, "j1")
    files.replace_json(org.home.seat_pane("j1"), {**note, "restarts": [files.utc_now()] * 5})
    org.tmux("send-keys", "-t", org.look().panes["j1"].id, "die", "Enter")
    org.wait_for(lambda: "needs-you" in org.events())
    assert org.look().panes["j1"].dead and not org.look().panes["j2"].dead
    org.launch()
    assert not org.look().panes["j1"].dead


@pytest.mark.slow  # a budget from its start to its end
def test_a_budget_of_runs_is_kept_to_the_run_and_ends_with_a_page(org: Any) -> None:
    org.launch(chief=0, juniors=1, budget=roster.Budget(runs=4))
    submit(org.home, "j1")
    org.wait_for(lambda: roster.facts(org.home).get("ended"))
    book = ledger.read(org.home)
    assert len(book.launches) == len(book.results) == 4
    pages = list(org.home.standups.glob("*.md"))
    assert len(pages) == 1 and pages[0].read_text().startswith("# Standup")
    assert set(org.look().panes) == {"j1"} and not org.look().panes["j1"].dead
    org.launch(budget=roster.Budget(runs=2))
    submit(org.home, "j1", "WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.4")
    org.wait_for(lambda: roster.facts(org.home)["ended"])
    assert len(ledger.read(org.home).launches) == len(ledger.read(org.home).results) == 6


def test_a_budget_given_to_a_running_organisation_begins_a_new_clock(org: Any) -> None:
    org.launch(chief=0, juniors=1, budget=roster.Budget(seconds=3600))
    first = roster.facts(org.home)
    pane = org.look().panes["j1"].pid
    for options in ({}, {"budget": roster.Budget(seconds=3600)}):
        assert "budget" not in " ".join(org.launch(**options))
        assert roster.facts(org.home)["budget"] == first["budget"]
    assert "the budget begins anew: 7200 s" in org.launch(budget=roster.Budget(seconds=7200))
    second = roster.facts(org.home)
    assert second["budget"]["seconds"] == 7200 and second["budget"]["from"] > first["budget"]["from"]
    assert (second["since"], org.look().panes["j1"].pid) == (first["since"], pane)


@pytest.mark.slow  # a deadline of ten seconds passes
def test_a_tmux_server_that_hangs_stops_neither_the_runs_nor_the_stop(org: Any) -> None:
    org.launch(chief=0, juniors=1)
    server = panes.server_of(org.home).listener()
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    name = submit(org.home, "j1").experiment
    org.wait_for(lambda: name in ledger.read(org.home).verdicts, limit_s=180, what="the verdict")
    assert files.is_locked(org.home.office_lock)
    said = org.stop()
    assert "the office" in said and f"tmux -L {org.home.socket}" in said and org.marked() == []


def test_a_second_office_is_refused_naming_the_first(org: Any) -> None:
    org.launch(chief=0, juniors=1)
    pid = files.read_json(org.home.office_lock)["pid"]
    with pytest.raises(office.Busy, match=f"pid {pid}"):
        office.run(org.home)


def test_the_end_of_a_budget_asks_the_seats_and_writes_one_page_with_their_answers(tiny_home: Home) -> None:
    page = tiny_home.org_folder("chief-juniors") / "processes" / "standup.md"
    page.write_text("---\nwhen: end\nwho: all\nanswers_within: 5m\n---\nWhat did you learn?\n")
    seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    begun, now = "2026-03-01T00:00:00Z", NOW.timestamp()
    roster.update(
        tiny_home, org="chief-juniors", since=begun, roster=[], budget={"seconds": 60, "from": begun, "since": begun}
    )
    drawn: list[Home] = []
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace("bank: 3", "bank: 2"))
    at_work = office.Office(tiny_home, None, drawn.append)
    at_work.pass_once(now)
    [question] = take(tiny_home, "j1")
    assert question.kind == "question" and "What did you learn?" in question.body
    at_work.pass_once(now + 2)
    assert not drawn and not roster.facts(tiny_home).get("ended")
    mail.send(tiny_home, "j1", "human", "that a larger step helps", about=question.about)
    for later in (4, 6, 8):
        at_work.pass_once(now + later)
    at_work.close()
    assert roster.facts(tiny_home)["ended"] and len(drawn) == 1
    [written] = tiny_home.standups.glob("*.md")
    assert "that a larger step helps" in written.read_text()
    assert ledger.read(tiny_home).launches == {}


def test_an_edited_org_folder_is_a_line_of_the_record_once(tiny_home: Home) -> None:
    roster.update(
        tiny_home, org="chief-juniors", org_hash=roster.org_hash(tiny_home, "chief-juniors"),
        charter_hash=charters.charter_hash(tiny_home), ended="x",
    )  # fmt: skip
    at_work = office.Office(tiny_home, None, lambda home: None)
    at_work.pass_once(1000.0)
    (tiny_home.org_folder("chief-juniors") / "roles" / "junior.md").write_text("# Junior\n\nBe bold.\n")
    for now in (1002.0, 1004.0):
        at_work.pass_once(now)
    at_work.close()
    [row] = ledger.read(tiny_home).org
    assert row["pages"] == ["prompts/orgs/chief-juniors/roles/junior.md"]
    assert (
        row["event"] == "changed"
        and row["org"] == roster.org_hash(tiny_home, "chief-juniors") == roster.facts(tiny_home)["org_hash"]
    )


def test_a_page_with_a_slip_is_named_and_the_old_one_holds_on(tiny_home: Home) -> None:
    page = tiny_home.org_folder("chief-juniors") / "processes" / "review.md"
    page.write_text("---\nwhen: every 1h\nwho: j1\nanswers_within: 5m\n---\nWell?\n")
    seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    roster.update(tiny_home, org="chief-juniors", since="1970-01-01T00:00:00Z", roster=[])
    at_work = office.Office(tiny_home, None, lambda home: None)
    at_work.pass_once(1000.0)
    page.write_text("---\nwhen: tuesdays\nwho: j1\nanswers_within: 5m\n---\nWell?\n")
    for now in (1004.0, 1008.0, 5000.0):
        at_work.pass_once(now)
    assert "review.md: when: 'tuesdays' is not known" in at_work.flags["step folder"]
    assert len(mail.peek(tiny_home, "j1")) == 2, "asked by the page as it was; and that the pages changed"
    page.write_text(page.read_text().replace("tuesdays", "every 2h"))
    at_work.pass_once(5004.0)
    assert "step folder" not in at_work.flags
    at_work.close()
    rows = [row for row in ledger.read(tiny_home).org if row["event"] == "changed"]
    assert len({row["org"] for row in rows}) == len(rows) == 3


def test_a_full_disk_does_not_end_the_office_that_flags_it(tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = office.Office(tiny_home, None, lambda home: None)
    tiny_home.charter.write_text("task: [")
    monkeypatch.setattr(files, "append_line", full)
    at_work.pass_once(1000.0)
    assert "charter.yaml" in at_work.flags["step dispatch"]
    at_work.close()


def full(path: Path, line: str, sync: bool = False) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_while_tmux_does_not_answer_nobody_is_started_again_and_no_board_is_drawn(
    tiny_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    at_work = office.Office(tiny_home, None, lambda home: None)
    at_work._screen, at_work._render = (
        SimpleNamespace(show=drawn.append, close=lambda: None, has_new_size=lambda: True),
        dict,
    )  # type: ignore[assignment]
    at_work.pass_once(1000.0)
    assert len(drawn) == 1
    at_work.view = states.Look(is_running=True)
    monkeypatch.setattr(at_work.server, "_silent_until", float("inf"))
    monkeypatch.setattr(type(at_work.server.socket), "exists", lambda path: True)
    at_work.pass_once(1002.0)
    assert "does not answer" in at_work.flags["step look"] and not at_work.view.is_running and len(drawn) == 1
    at_work.close()


def test_a_line_is_never_older_than_the_program_that_was_looked_at(tiny_home: Home) -> None:
    at_work = office.Office(tiny_home, None, lambda home: None)
    rung: list[float] = []
    at_work._dispatch = lambda now: time.sleep(0.1)  # type: ignore[method-assign]
    at_work._ringer.ring_all = lambda rows, view, now: rung.append(now)  # type: ignore[method-assign,assignment,func-returns-value]
    at_work.pass_once(1000.0)
    assert rung[0] >= 1000.1
    at_work.close()


def test_a_clock_that_is_set_back_makes_nothing_wait_for_it(tiny_home: Home) -> None:
    """The wall clock goes back by a day between two passes; the seconds that pass do not."""
    at_work = office.Office(tiny_home, None, lambda home: None)
    did: list[str] = []
    at_work._step = lambda name, do: did.append(name)  # type: ignore[method-assign]
    assert at_work.pass_once(100_000.0, (), 50.0) > 0
    assert did == [each.name for each in office.STEPS]
    did.clear()
    assert at_work.pass_once(13_600.0, (), 50.01) > 0.5 and did == []
    at_work.pass_once(13_601.0, (), 51.01)
    assert {"dispatch", "look", "seats", "doorbells"} <= set(did)
    at_work.close()


def test_a_broken_step_is_flagged_and_stops_no_other(tiny_home: Home) -> None:
    seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    at_work = office.Office(tiny_home, None, lambda home: None)
    tiny_home.charter.write_text("task: [")
    at_work.pass_once(1000.0)
    assert re.match("dispatch: .*charter.yaml", at_work.flags["step dispatch"])
    assert "trouble" in tiny_home.events.read_text()
    lines = len(tiny_home.events.read_text().splitlines())
    at_work.pass_once(1001.0)
    assert len(tiny_home.events.read_text().splitlines()) == lines
    at_work.close()


def test_a_full_disk_is_a_flag_and_ends_no_office(tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = office.Office(tiny_home, None, lambda home: None)
    at_work.pass_once(1000.0)

    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(files, "append_line", full)
    monkeypatch.setattr(files, "replace", full)
    monkeypatch.setattr(office.letters, "deliver", full)
    at_work.pass_once(1010.0)
    assert "No space left" in at_work.flags["step letters"]
    monkeypatch.undo()
    at_work.pass_once(1020.0)
    assert at_work.flags == {}
    at_work.close()


@pytest.mark.parametrize(
    ("roles", "budget", "refutes"),
    [(("chief", "breaker"), {}, True), (("chief", "breaker"), {"runs": 100}, False), (("chief", "junior"), {}, False)],
)
def test_idle_devices_attack_wins_when_a_breaker_is_there_and_no_run_is_counted(
    tiny_home: Home, roles: tuple[str, ...], budget: dict[str, int], refutes: bool
) -> None:
    rows = [{"role": role, "name": role} for role in roles]
    files.replace_json(tiny_home.org_file, {"roster": rows, "budget": budget, "org": "chief-juniors"})
    at_work = office.Office(tiny_home, None, lambda home: None)
    at_work._dispatch(1000.0)
    assert at_work.dispatcher.refutes is refutes
    at_work.close()
