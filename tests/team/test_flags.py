"""What needs a person, by histories: conditions come and go, flags stand after a while and end by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postbox import take

from org.home import Home
from org.lab.book import Book
from org.records import Letter
from org.team import boxes, flags, ideas, mail, needs, questions, seats
from org.team.flags import Facts
from org.team.states import DRAFT

DEVICES = [{"name": "cpu0", "kind": "cpu", "holder": None, "run": None}]
QUEUE = [{"experiment": "E0007", "run": None, "seat": "j1", "waiting_for": "a device"}]
BUSY = [{**DEVICES[0], "run": "E0007/candidate-s1"}]
LETTER = Letter("l-1", "j1", "human", "question", "x", "May I `rm -rf`\x1b[2J?", about="I0007", verified=True)


def seat(state: str = "ready", **changes: Any) -> dict[str, Any]:
    row = {"name": "j1", "state": state, "since": 0.0, "mail_waiting": 0, "quiet": None, "said": "", "unread": [],
           "experiment": None, "backend": "offline", "held": False}  # fmt: skip
    return {**row, **changes}


def history(*moments: tuple[float, dict[str, Any]]) -> list[list[str]]:
    """The causes of the flags that stood at each moment."""
    began: dict[str, float] = {}
    stood = []
    for now, facts in moments:
        found, began = flags.raised(Facts(now, **facts), began)
        stood.append([flag.cause for flag in found])
    return stood


UNREAD = {"unread": [("l-9", 100.0)], "mail_waiting": 1}


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([(0, {"seats": [seat("stuck")]}), (1, {"seats": [seat("working")]})], [["stuck j1"], []]),
        ([(0, {"seats": [seat("limited")]}), (1, {"seats": [seat()]})], [["limited j1"], []]),
        (
            [(0, {"seats": [seat("asking")]}), (29, {"seats": [seat("asking")]}), (30, {"seats": [seat("asking")]})],
            [[], [], ["asking j1"]],
        ),
        (  # what ended in between begins anew
            [(0, {"seats": [seat("asking")]}), (20, {"seats": [seat()]}), (40, {"seats": [seat("asking")]})],
            [[], [], []],
        ),
        (
            [(0, {"devices": DEVICES, "queue": QUEUE}), (60, {"devices": DEVICES, "queue": QUEUE}),
             (61, {"devices": BUSY, "queue": QUEUE}), (62, {"devices": DEVICES, "queue": QUEUE})],
            [[], ["idle device"], [], []],
        ),
        (
            [(n, {"devices": DEVICES, "queue": QUEUE, "is_dispatching": False}) for n in (0, 100)],
            [[], []],
        ),
        ([(n, {"devices": DEVICES, "queue": []}) for n in (0, 100)], [[], []]),
        ([(n, {"seats": [seat(**UNREAD)]}) for n in (600, 701)], [[], ["ignored j1"]]),
        ([(701, {"seats": [seat(**UNREAD, since=500.0)]})], [[]]),  # at work until a moment ago
        ([(701, {"seats": [seat("working", **UNREAD)]})], [[]]),
        ([(701, {"seats": [seat(**UNREAD, quiet="copy mode")]})], [[]]),
        ([(1800, {"seats": [seat()]}), (1801, {"seats": [seat()]})], [[], ["silent j1"]]),
        ([(9999, {"seats": [seat(experiment="E0007")]})], [[]]),
        ([(9999, {"seats": [seat(backend="cmd:vim")]})], [[]]),
        ([(9999, {"seats": [seat()], "is_dispatching": False})], [[]]),
        (
            [(n, {"seats": [seat(quiet=DRAFT, mail_waiting=2)]}) for n in (0, 120)],
            [[], ["draft j1"]],
        ),
        ([(0, {"seats": [seat(experiment="E1")], "repeats": {"j1": (3, "it was a null")}})], [["repeats j1"]]),
        ([(0, {"seats": [seat(experiment="E1")], "repeats": {"j1": (2, "it was a null")}})], [[]]),
        ([(0, {"questions": [LETTER]}), (1, {"questions": []})], [["question l-1"], []]),
        ([(0, {"seats": [seat("working", mail_waiting=n)]}) for n in (1000, 1001)], [[], ["flood j1"]]),
        ([(0, {"disk_free": flags.DISK_FREE - 1}), (1, {"disk_free": flags.DISK_FREE})], [["disk"], []]),
    ],
)  # fmt: skip
def test_flags_come_and_go(moments: list[tuple[float, dict[str, Any]]], expected: list[list[str]]) -> None:
    assert history(*moments) == expected


STEPS = st.lists(
    st.tuples(
        st.floats(0, 700),
        st.sampled_from(["ready", "asking", "stuck", "limited", "held", "working"]),
        st.integers(0, 5),
        st.sampled_from([[], QUEUE]),
    ),
    max_size=8,
)


@given(STEPS)
def test_a_flag_stands_only_while_its_condition_does_and_has_a_command(
    steps: list[tuple[float, str, int, list[dict[str, Any]]]],
) -> None:
    now, began = 0.0, {}
    for pause, state, repeats, queue in steps:
        now += pause
        facts = Facts(now, [seat(state)], DEVICES, queue, (LETTER,), {"j1": (repeats, "x")})
        found, began = flags.raised(facts, began)
        causes = [flag.cause for flag in found]
        assert len(set(causes)) == len(causes) and set(causes) <= set(began)
        for cause, wanted in (("stuck j1", "stuck"), ("asking j1", "asking"), ("limited j1", "limited")):
            assert cause not in causes or state == wanted
        assert ("repeats j1" in causes) == (repeats >= flags.REPEATED)
        assert queue or "idle device" not in causes
        assert all(flag.command and "\n" not in str(flag) for flag in found)


def test_what_an_agent_wrote_cannot_pass_for_the_suggested_command() -> None:
    row = seat("limited", said="until 14:30; `curl x | sh`\x1b]0;x\x07")
    found, _ = flags.raised(Facts(0, [row], questions=(LETTER,)), {})
    for flag in found:
        assert str(flag).count("`") == 2 and f"`{flag.command}`" in str(flag) and "\x1b" not in str(flag)
    assert found[1].more == "I0007 is parked and j1 goes on"
    assert found[1].command == 'org send j1 --reply-to l-1 "…"'


def refused(name: str, rule: str = "duplicate") -> dict[str, Any]:
    return {"kind": "experiment", "experiment": None, "refused": True, "seat": name,
            "violations": [{"rule": rule, "message": "was a null as E0003"}]}  # fmt: skip


def test_duplicates_are_counted_in_a_row_and_a_new_filing_ends_the_row() -> None:
    filed = {"kind": "experiment", "experiment": "E0009", "seat": "j1"}
    rows = [refused("j1"), refused("j2"), refused("j1", "frozen"), refused("j1"), {"kind": "result"}, refused("j1")]
    counted = flags.repeated(rows, {})
    assert {name: count for name, (count, _) in counted.items()} == {"j1": 3, "j2": 1}
    assert flags.repeated([filed], counted).keys() == {"j2"}
    assert flags.repeated(rows[3:], flags.repeated(rows[:3], {})) == counted
    assert flags.repeated([{**refused("j1"), "violations": ["x", None]}], {}) == {}


# --- questions


@pytest.fixture
def team(tiny_home: Home) -> Home:
    for name in ("j1", "j2"):
        seats.create(tiny_home, name, "junior", "offline", "main", "cpu0")
    assert ideas.add(tiny_home, "share the embedding", "j1") == "I0001"
    return tiny_home


def ask(home: Home, about: str | None = "I0001") -> str:
    return mail.send(home, "j1", "human", "May I?", kind="question", about=about)[0].id


def statuses(home: Home) -> list[str]:
    return [row["status"] for row in ideas.list_ideas(home)]


@pytest.mark.parametrize("how", ["reply", "about"])
def test_a_question_about_an_idea_parks_it_until_the_person_answers(team: Home, how: str) -> None:
    question = ask(team)
    [row] = ideas.list_ideas(team)
    assert (row["status"], row["parked_by"], row["letter"]) == ("parked", "j1", question)
    mail.send(team, "j2", "j1", "yes", about="I0001")  # no answer of the person's
    mail.send(team, "human", "j2", "yes", reply_to=question)  # nor one to somebody else
    assert statuses(team) == ["parked"]
    assert take(team, "human") and statuses(team) == ["parked"]  # read is not answered
    mail.send(team, "human", "j1", "yes", **{"reply_to": question} if how == "reply" else {"about": "I0001"})
    assert statuses(team) == ["open"] and questions.unanswered(team) == []
    take(team, "j1")
    assert statuses(team) == ["open"]
    ask(team)
    assert statuses(team) == ["parked"]


def test_only_a_signed_question_about_an_open_idea_parks_it(team: Home) -> None:
    ask(team, "E0001")
    mail.send(team, "j1", "human", "I did it", kind="report", about="I0001")
    [letter] = mail.send(team, "j1", "human", "x", kind="question", about="I0001")
    path = team.mailbox("human") / "new" / f"{letter.id}.md"
    path.write_text(path.read_text().replace("from: j1", "from: j2"))
    assert statuses(team) == ["open"]
    ask(team)
    page = next(team.ideas.glob("I0001*"))
    page.write_text(page.read_text().replace("---\n", "---\nstatus: dead\n", 1))
    assert statuses(team) == ["dead"]


def test_the_flag_of_a_question_ends_with_its_answer(team: Home) -> None:
    watch, book = needs.Needs(team), Book()

    def causes(now: float) -> list[str]:
        return [flag.cause for flag in watch.step([], [], [], book, now, is_dispatching=True)]

    assert causes(0) == []
    idea, other = ask(team), ask(team, None)
    assert causes(1) == [f"question {idea}", f"question {other}"]
    take(team, "human")
    assert causes(2) == [f"question {idea}"]  # read; what keeps no idea parked is done with
    mail.send(team, "human", "j1", "yes", reply_to=idea)
    assert causes(3) == []


def test_a_clock_that_is_set_back_hides_no_flag_and_stops_no_look(team: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, looks, asking = needs.Needs(team), [], seat("asking")
    monkeypatch.setattr(needs.os, "statvfs", lambda path, ask=needs.os.statvfs: looks.append(path) or ask(path))
    found = [
        watch.step([asking], [], [], Book(), now, at, is_dispatching=True)
        for now, at in ((90_000.0, 5.0), (10.0, 20.0), (20.0, 36.0))
    ]
    assert [[flag.cause for flag in flags_then] for flags_then in found] == [[], [], ["asking j1"]]
    assert len(looks) == 2


def test_who_looks_again_reads_each_letter_once_and_of_a_flood_a_part_at_a_time(
    team: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(team)
    for _ in range(20):
        mail.send(team, "j2", "human", "a report", kind="report")
    asked, reads = questions.Asked(team), []
    monkeypatch.setattr(boxes, "read", lambda *a, read=boxes.read: reads.append(a) or read(*a))
    assert [len(asked.waiting()) for _ in range(3)] == [1, 1, 1]
    assert len(reads) == 21
    take(team, "human")
    reads.clear()
    assert [len(asked.waiting()) for _ in range(2)] == [1, 1] and reads == []
    hurried = questions.Asked(team, limit_s=0.0)
    assert hurried.waiting() == [] and reads == []


def test_repeats_are_taken_from_the_ledger_as_it_grows(team: Home) -> None:
    watch, book = needs.Needs(team), Book()
    rows = [seat("working")]
    for number in range(1, 4):
        book.add({"seq": number, "t": f"2026-03-01T00:00:0{number}Z", **refused("j1")})
        found = watch.step(rows, [], [], book, number, is_dispatching=True)
        assert [flag.cause for flag in found] == (["repeats j1"] if number == 3 else [])
    assert watch.step(rows, [], [], Book(), 5, is_dispatching=True) == []
