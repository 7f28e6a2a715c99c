"""Processes are pages read strictly, due by the clock, and survive the death of whoever runs them."""

import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from postbox import take

from org import files
from org.errors import BadInput
from org.home import Home
from org.records import Seat
from org.team import mail, occasions, pages, processes
from org.team.pages import Process

PAGE = """---
when: daily 07:00, end
who: [chief, junior]
input: comms/results.tsv
writes: comms/standup/{date}.md
answers_within: 5m
---
What did you learn, and what do you do next?
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    for name, role in {"chief": "chief", "j1": "junior", "j2": "junior"}.items():
        seat = Seat(name, role, "offline", "main", f"program/main/{name}", "", None, files.utc_now())
        files.replace_json(home.seat(name) / "seat.json", seat.to_dict())
    return home


def folder(tmp_path: Path, text: str, name: str = "standup.md") -> Path:
    (tmp_path / "processes").mkdir(exist_ok=True)
    (tmp_path / "processes" / name).write_text(text)
    return tmp_path


def process(*when: str, who: tuple[str, ...] = ("all",), within: float = 300.0) -> Process:
    return Process("standup", when, who, (), None, within, "Well?")


# --- pages -------------------------------------------------------------------------------------------------------


def test_a_page_says_when_who_and_what(tmp_path):
    [read] = pages.load(folder(tmp_path, PAGE))
    assert read == Process(
        "standup",
        ("daily 07:00", "end"),
        ("chief", "junior"),
        ("comms/results.tsv",),
        "comms/standup/{date}.md",
        300.0,
        "What did you learn, and what do you do next?",
    )
    assert pages.load(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("when: daily 07:00, end", "when: tuesdays", "when: 'tuesdays' is not known; write `daily"),
        ("when: daily 07:00, end", "when: daily 25:00", "daily 25:00"),
        ("when: daily 07:00, end", "when: every 0m", "every 0m"),
        ("when: daily 07:00, end", "when: [7, 8]", "when must be a text"),
        ("who: [chief, junior]", "who: []", "'who' is missing"),
        ("who: [chief, junior]", "who: ../chief", "no seat or role"),
        ("answers_within: 5m", "answers_within: soon", "is no duration"),
        ("answers_within: 5m", "answer_within: 5m", r"unknown key 'answer_within' \(did you mean 'answers_within'"),
        ("answers_within: 5m\n", "", "'answers_within' is missing"),
        ("input: comms/results.tsv", "input: ../secret", "a path inside the home"),
        ("writes: comms", "writes: /comms", "a path inside the home"),
        ("What did you learn, and what do you do next?\n", "", "no text below"),
        ("who: [chief, junior]", "who: chief\nwho: junior", "duplicate key"),
        ("when: daily 07:00, end", "when: weekly funday 09:00", "weekly funday 09:00"),
        ("when: daily 07:00, end", "when: on sunday", "'on sunday' is not known"),
        ("when: daily 07:00, end", "when: on asked 3", "'on asked 3' is not known"),
        ("input: comms/results.tsv", "input: diff", "'diff' is of an experiment; it belongs to `when: on tentative`"),
        ("input: comms/results.tsv", "input: question", "'question' belongs to `when: on asked`"),
        ("input: comms/results.tsv", "input: ledgr", r"neither a file nor a fact \(did you mean 'ledger'"),
        ("who: [chief, junior]", "who: peer", "'peer' belongs to `when: on tentative`"),
        ("who: [chief, junior]", "who: breaker of author", "'breaker of author' belongs to"),
        ("writes: comms/standup/{date}.md", "writes: comms/ledger.jsonl", "is no page of its own"),
        ("writes: comms/standup/{date}.md", "writes: comms/mail/{date}.md", "is no page of its own"),
        ("writes: comms/standup/{date}.md", "writes: comms/retro/{day}.md", "nothing is put in for {day}"),
        ("writes: comms/standup/{date}.md", "writes: comms/retro/{date}.md", "comms/standup/ holds the morning pages"),
        ("What did you learn, and what", "## Round 1\n\n## Round 2\nand what", "round 1 has no text"),
        ("What did you learn, and what", "## Round 2\n\nand what", "rounds must be `## Round 1`"),
        (
            "What did you learn, and what",
            "## Round 1: the chief\n\nand what",
            "round 1: 'the chief' is no seat or role",
        ),
        (PAGE, "Just text\n", "'when' is missing"),
        (PAGE, "---\nwhen: end\n", "no closing"),
    ],
)
def test_a_slip_is_named_in_one_line(tmp_path, old, new, message):
    assert old in PAGE
    with pytest.raises(BadInput, match=message) as error:
        pages.load(folder(tmp_path, PAGE.replace(old, new)))
    assert "\n" not in str(error.value) and "standup.md" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[chief, junior]", "[chief, juniors]", r"'juniors' is no seat or role of this org \(did you mean 'junior'"),
        ("[chief, junior]", "[chief, j7]", "'j7' is no seat or role of this org"),
        ("What did", "## Round 1: chair, breaker\n\nWhat did", "'breaker' is no seat or role of this org"),
        ("daily 07:00, end", "on asked", "letters to 'chief' go to the seat"),
    ],
)
def test_a_launch_refuses_a_page_that_names_nobody(tmp_path, old, new, message):
    text = PAGE.replace("comms/standup/{date}", "comms/notes/{id}")
    (tmp_path / "roles").mkdir()
    for role in ("chief", "junior"):
        (tmp_path / "roles" / f"{role}.md").write_text("# A role\n")
    folder(tmp_path, text.replace("[chief, junior]", "[chief, junior, j1, all]"), "fine.md")
    pages.check(tmp_path, ["j1"])
    folder(tmp_path, text.replace(old, new), "chief.md")
    with pytest.raises(BadInput, match=message) as error:
        pages.check(tmp_path, ["j1"])
    assert "\n" not in str(error.value)


# --- when --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "now", "last", "ended", "is_due"),
    [
        ("every 2h", "2026-03-01T10:00:00Z", "2026-03-01T08:00:00Z", None, True),
        ("every 2h", "2026-03-01T09:59:59Z", "2026-03-01T08:00:00Z", None, False),
        ("every 2h", "2026-03-01T10:00:00Z", None, None, True),
        ("daily 07:00", "2026-03-02T07:00:00Z", "2026-03-01T07:00:01Z", None, True),
        ("daily 07:00", "2026-03-02T06:59:59Z", "2026-03-01T07:00:01Z", None, False),
        ("daily 07:00", "2026-03-02T23:00:00Z", "2026-03-02T07:00:00Z", None, False),
        ("daily 07:00", "2026-03-05T03:00:00Z", "2026-03-02T07:00:00Z", None, True),
        ("daily 07:00", "2026-03-02T07:00:00+05:00", "2026-03-01T03:00:00Z", None, True),
        ("daily 07:00", "2026-03-02T07:00:00+05:00", "2026-03-02T02:00:00Z", None, False),
        ("weekly mon 09:00", "2026-03-02T09:00:00Z", "2026-03-01T09:00:00Z", None, True),
        ("weekly mon 09:00", "2026-03-02T08:59:00Z", "2026-02-23T09:00:01Z", None, False),
        ("weekly mon 09:00", "2026-03-06T09:00:00Z", "2026-03-02T09:00:00Z", None, False),
        ("weekly mon 09:00", "2026-03-06T09:00:00Z", "2026-03-01T09:00:00Z", None, True),
        ("on tentative", "2026-03-06T09:00:00Z", None, None, False),
        ("end", "2026-03-01T10:00:00Z", None, None, False),
        ("end", "2026-03-01T10:00:00Z", "2026-03-01T08:00:00Z", "2026-03-01T09:00:00Z", True),
        ("end", "2026-03-01T10:00:00Z", "2026-03-01T09:30:00Z", "2026-03-01T09:00:00Z", False),
        ("end", "2026-03-01T10:00:00Z", None, "2026-03-01T09:00:00Z", True),
    ],
)
def test_due(when, now, last, ended, is_due):
    assert occasions.due(process(when), now, last, ended) is is_due


def test_a_day_of_ticks_runs_a_daily_and_an_hourly_process_as_often_as_it_says():
    start = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    for when, times in ((["daily 07:00"], 2), (["every 3h"], 16), (["daily 07:00", "every 24h"], 2)):
        page = process(*when)
        last, count = start.isoformat(), 0
        for minute in range(0, 48 * 60 + 1, 7):
            now = (start + timedelta(minutes=minute)).isoformat()
            if occasions.due(page, now, last, None):
                last, count = now, count + 1
        assert times - 1 <= count <= times  # a tick every 7 minutes comes a little late


# --- asking ------------------------------------------------------------------------------------------------------


def test_everybody_is_asked_once_and_answers_are_collected(home):
    page = process("end", who=("chief", "junior", "all", "breaker"))
    asked = processes.ask(home, page, files.utc_now())
    assert asked.seats == ("chief", "j1", "j2") and asked.about.startswith("standup-2")
    [question] = take(home, "j1")
    assert (question.kind, question.sender, question.about, question.verified) == (
        "question",
        "human",
        asked.about,
        True,
    )
    assert f"--reply-to {asked.letter}" in question.body and "Well?" in question.body

    mail.send(home, "j1", "human", "first thought", reply_to=asked.letter)
    mail.send(home, "j1", "human", "second thought", about=asked.about)
    mail.send(home, "j2", "human", "something else", about="E0001")
    answers = processes.collect(home, page, asked.asked_at)
    assert answers == {"j1": "second thought"}
    assert not processes.is_over(asked, answers, files.utc_now())
    assert processes.is_over(asked, answers, asked.deadline)

    take(home, "human")  # a person reading the answers takes none away
    mail.send(home, "j2", "human", "me too", reply_to=asked.letter)
    mail.send(home, "chief", "human", "plan", reply_to=asked.letter)
    answers = processes.collect(home, page, asked.asked_at)
    assert set(answers) == {"chief", "j1", "j2"} and processes.is_over(asked, answers, files.utc_now())


def test_a_seat_that_is_removed_while_it_is_asked_holds_nobody_up(home):
    asked = processes.ask(home, process("end"), files.utc_now())
    gone = asked.seats[-1]
    for path in (home.seat_file(gone), *(home.mailbox(gone) / "new").iterdir()):
        path.unlink()
    mine = home.mailbox(asked.seats[0]) / "new" / f"{asked.letter}.md"
    mine.unlink()
    processes.deliver(home, asked)
    assert mine.exists() and not list((home.mailbox(gone) / "new").iterdir())


def test_a_seat_whose_mailbox_is_broken_keeps_nobody_else_from_being_asked(home):
    box = home.mailbox("j1")
    box.mkdir(parents=True)
    (box / "new").write_text("no folder")
    asked = processes.ask(home, process("end"), files.utc_now())
    for _ in range(2):
        [problem] = processes.deliver(home, asked)
        assert "did not reach j1" in problem
    assert [len(mail.peek(home, name)) for name in ("chief", "j2")] == [1, 1]
    assert processes.is_over(asked, {}, asked.deadline)


def test_an_unsigned_answer_does_not_count(home):
    asked = processes.ask(home, process("end"), files.utc_now())
    [sent] = mail.send(home, "j1", "human", "mine", reply_to=asked.letter)
    path = home.mailbox("human") / "new" / f"{sent.id}.md"
    path.write_text(path.read_text().replace("mine", "forged"))
    assert processes.collect(home, process("end"), asked.asked_at) == {}


def test_open_asks_are_those_not_written_up_and_names_count_on(home):
    page = process("end")
    first = processes.ask(home, page, files.utc_now())
    second = processes.ask(home, page, (datetime.fromisoformat(first.asked_at) + timedelta(seconds=2)).isoformat())
    assert (first.about[-2:], second.about[-2:]) == ("-1", "-2")
    processes.close(home, first, files.utc_now())
    assert [row.about for row in processes.open_asks(home, "standup")] == [second.about]
    (home.processes / "standup-torn.json").write_text("{")
    assert len(processes.asks(home, "standup")) == 2


@pytest.mark.parametrize("slip", [{"asked_at": "soon"}, {"deadline": ""}, {"deadline": "9999-12-31"}, {"seats": 7}])
def test_a_file_that_is_no_run_of_ours_stops_no_page(home, slip):
    asked = processes.ask(home, process(), "2026-03-01T07:00:00.000Z")
    files.replace_json(home.processes / "standup-1.json", {**asked.to_dict(), **slip})
    files.replace_json(home.processes / "standup-2.json", [])
    assert [row.about for row in processes.open_asks(home, "standup")] == [asked.about]


@pytest.mark.parametrize("failpoint", ["processes.asked:1", "mail.tmp:2", "mail.new:1", "mail.new:3"])
def test_killed_while_asking_and_resumed_everybody_gets_one_question(home, failpoint):
    code = """
import sys; from pathlib import Path
from org import files; from org.home import Home; from org.team import pages, processes
processes.ask(Home(Path(sys.argv[1])), pages.Process("standup", ("end",), ("all",), (), None, 60.0, "Well?"), files.utc_now())
"""
    environ = {**os.environ, "ORG_FAILPOINT": failpoint}
    command = [sys.executable, "-c", code, str(home.root)]
    assert subprocess.run(command, env=environ, check=False, timeout=20).returncode == -signal.SIGKILL
    [asked] = processes.open_asks(home, "standup")
    processes.deliver(home, asked)
    assert [[letter.id for letter in take(home, seat)] for seat in ("chief", "j1", "j2")] == [[asked.letter]] * 3


def test_a_roster_without_seats_is_over_at_once(tmp_path):
    asked = processes.ask(Home(tmp_path), process("end"), files.utc_now())
    assert asked.seats == () and processes.is_over(asked, {}, asked.asked_at)
