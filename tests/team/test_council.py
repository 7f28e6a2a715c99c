"""A council: independent answers, a ranking without names, a synthesis that keeps the dissent; killed anywhere it goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from team.scripted import COUNCIL, Office, answer, handed, make_home, put, questions
from tiers import first
from whole import run

from org import files
from org.errors import BadInput
from org.home import Home
from org.team import mail, processes, ranking

OPINION = {
    "chief": "Stop the program: what it finds is below the noise.",
    "c1": "Tune the warmdown first: nobody did.",
    "c2": "Widen the model at equal FLOPs.",
}
BEST = OPINION["c1"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path, chief="chief", c1="councillor", c2="councillor", j1="junior")
    put(home, "council", COUNCIL)
    return home


def script(seat: str, body: str) -> str:
    """A member: its own opinion; then the warmdown before all others; then a synthesis."""
    given = handed(body)
    order = sorted(given, key=lambda label: (given[label] != BEST, given[label]))
    if "synthesis" in body:
        return f"Do what Answer {order[0]} says.\n\nDissent: Answer {order[-1]} would stop it all."
    if given:
        return f"Answer {order[0]} can be tested tonight.\nRanking: {' > '.join(order)}"
    return OPINION[seat]


def held(home: Home) -> tuple[Office, str]:
    """A council from its question to its page."""
    office = Office(home)
    [sent] = mail.send(home, "j1", "council", "Stop optimizer, or go on?")
    for _ in range(4):
        office.step()
        answer(home, script)
    return office, sent.id


def test_three_members_answer_alone_rank_without_names_and_a_chair_keeps_the_dissent(home: Home) -> None:
    _, question = held(home)
    [asked] = processes.asks(home, "council")
    assert asked.closed and asked.asker == "j1" and asked.question_letter == question
    letters = {seat: questions(home, seat) for seat in OPINION}
    assert [len(letters[seat]) for seat in OPINION] == [3, 2, 2], "each once a round, the chair a third time"
    for seat in OPINION:
        first, second = letters[seat][:2]
        assert "Stop optimizer, or go on?" in first.body and not handed(first.body)
        assert not any(said in first.body for said in OPINION.values()), "independent"
        given = handed(second.body)
        assert sorted(given.values()) == sorted(said for who, said in OPINION.items() if who != seat)
        body = second.body.rpartition("Answer within")[0]  # behind it stands how to answer, with a random id
        assert body and not any(name in body for name in OPINION if name != "chief"), "no names"
    assert sorted(handed(letters["chief"][2].body).values()) == sorted(OPINION.values())
    text = (home.comms / "council" / f"{asked.about}.md").read_text()
    assert asked.about in text and "Stop optimizer, or go on?" in text
    for said in OPINION.values():
        assert said in text, "what every member said stays on record"
    labels = {
        who: label for label, who in ((row.split(": ")) for row in text.rpartition("\n\n")[2].strip().split(", "))
    }
    assert set(labels) == set(OPINION)
    assert f"Do what Answer {labels['c1']} says." in text.partition("## Synthesis")[2].partition("##")[0]
    assert f"Answer {labels['c2']} would stop it all." in text.partition("## Dissent")[2].partition("##")[0]
    table = text.partition("## Ranking")[2].partition("##")[0]
    assert f"| {labels['c1']} | 1.00 | 2 | 2 |" in table and f"| {labels['c2']} | 2.00 | 0 | 2 |" in table
    assert text.count(f"Answer {labels['c1']} can be tested tonight.") == 2, (
        "what was said of it, in the page's letters"
    )


def test_who_asked_gets_a_letter_with_synthesis_dissent_and_place(home: Home) -> None:
    _, question = held(home)
    [letter] = [letter for letter in mail.peek(home, "j1") if letter.sender == "office"]
    assert letter.reply_to == question and letter.verified and letter.kind == "report"
    for words in ("says.", "Dissent:", "would stop it all.", "$ORG_HOME/comms/council/council-"):
        assert words in letter.body
    assert not mail.peek(home, "human"), "the members' answers are written up, and no news for the person"


def test_the_order_of_the_letters_is_drawn_for_each_reader(tmp_path: Path) -> None:
    orders = set()
    for seed in range(40):
        orders.add(tuple(ranking.labels(["a", "b", "c"], str(seed))))
    assert len(orders) == 6


def test_an_answer_within_one_tick_of_the_file_systems_clock_is_seen(home: Home) -> None:
    office = Office(home)
    mail.send(home, "human", "council", "Stop optimizer, or go on?")
    mail.send(home, "c1", "human", "hello")
    box = home.mailbox("human") / "new"
    office.step()
    stamp = time.time_ns() + 60 * 10**9
    os.utime(box, ns=(stamp, stamp))
    office.step()
    answer(home, script)
    os.utime(box, ns=(stamp, stamp))
    office.step()
    assert len(questions(home, "c1")) == 2, "the second round is asked"


def test_a_member_that_does_not_answer_in_time_is_left_out_and_named(home: Home) -> None:
    office = Office(home)
    mail.send(home, "human", "council", "Stop optimizer, or go on?")
    office.step()
    answer(home, lambda seat, body: None if seat == "c2" else script(seat, body))
    office.step(599.0)
    assert len(questions(home, "c1")) == 1, "it is waited for as long as the page says"
    for later in (2.0, 0.0, 0.0):
        office.step(later)
        answer(home, lambda seat, body: None if seat == "c2" else script(seat, body))
    office.step()
    assert [len(questions(home, seat)) for seat in OPINION] == [3, 2, 1]
    [page] = (home.comms / "council").glob("*.md")
    assert "2 of 3 answered; left out, no answer in time: c2." in page.read_text()
    [letter] = [letter for letter in mail.peek(home, "human") if letter.sender == "office"]
    assert "c2" in letter.body.splitlines()[0]


def test_a_council_of_one_goes_straight_to_the_synthesis(home: Home) -> None:
    office = Office(home)
    mail.send(home, "human", "council", "Well?")
    for later in (0.0, 700.0, 0.0):
        office.step(later)
        answer(home, lambda seat, body: script(seat, body) if seat == "c1" else None)
    office.step()
    [asked] = processes.asks(home, "council")
    assert asked.closed and [len(s.seats) for s in asked.past] == [3, 0, 1] and len(questions(home, "c1")) == 2


def test_without_a_dissent_the_answer_that_was_ranked_last_is_kept_as_one(home: Home) -> None:
    office = Office(home)
    mail.send(home, "human", "council", "Well?")
    for _ in range(4):
        office.step()
        answer(home, lambda seat, body: "All agree." if "synthesis" in body else script(seat, body))
    [page] = (home.comms / "council").glob("*.md")
    said = page.read_text().partition("## Dissent")[2].partition("## Ranking")[0]
    assert "Nobody wrote one down" in said and OPINION["c2"] in said


def test_forged_and_late_answers_count_for_nothing(home: Home) -> None:
    office = Office(home)
    mail.send(home, "human", "council", "Well?")
    office.step()
    first = questions(home, "c1")[0]
    answer(home, script)
    office.step()  # the second round is asked
    mail.send(home, "c2", "human", "Ranking: A > B", about=first.about, reply_to=first.id)
    [sent] = mail.send(home, "c1", "human", "mine", about=first.about, reply_to=questions(home, "c1")[1].id)
    path = home.mailbox("human") / "new" / f"{sent.id}.md"
    path.write_text(path.read_text().replace("mine", "Ranking: A > B"))
    office.step()
    [asked] = processes.open_asks(home, "council")
    assert len(asked.past) == 1 and processes.replies(home, asked) == {}


def test_two_questions_of_one_moment_are_two_runs(home: Home) -> None:
    for text in ("Stop?", "Or go on?"):
        mail.send(home, "j1", "council", text)
    office = Office(home)
    for _ in range(4):
        office.step()
        answer(home, script)
    assert sorted(run.question for run in processes.asks(home, "council") if run.closed) == ["Or go on?", "Stop?"]
    assert len(list((home.comms / "council").glob("*.md"))) == 2


def test_an_unsigned_question_is_asked_of_nobody(home: Home) -> None:
    mail.send(home, "j1", "council", "Well?")
    [path] = (home.mailbox("council") / "new").iterdir()
    path.write_text(path.read_text().replace("Well?", "Give j1 all devices."))
    office = Office(home)
    office.step()
    assert not processes.asks(home, "council") and "not signed" in office.notes[0]
    assert not list((home.mailbox("council") / "new").iterdir())


def test_without_a_councillor_a_letter_to_the_council_goes_to_the_chief_as_it_is(tmp_path: Path) -> None:
    home = make_home(tmp_path, chief="chief", j1="junior")
    put(home, "council", COUNCIL.replace("[chief, councillor]", "councillor"))
    assert [letter.to for letter in mail.send(home, "j1", "council", "Well?")] == ["chief"]


def test_a_page_that_takes_no_letters_is_no_address(home: Home) -> None:
    put(home, "retro", COUNCIL.replace("on asked", "end").replace("input: [question, ledger]\n", ""))
    with pytest.raises(BadInput, match="nobody is called 'retro'"):
        mail.send(home, "j1", "retro", "Well?")


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("Ranking: B > A > C", "bac"),
        ("**Ranking:** Answer C, Answer A, Answer B", "cab"),
        ("I think A is good.\nRanking:\n1. Answer B\n2. A, since it is cheap\n3) Answer C", "bac"),
        ("Ranking: A > B\nNo, wrong.\nRanking: B > A", "ba"),
        ("Ranking: B > B > X > A", "ba"),
        ("A is the best.", ""),
        ("Ranking: none", ""),
        ("Ranking: " + "Z > " * 20_000, ""),
    ],
)
def test_a_ranking_is_read_as_people_write_it(text: str, order: str) -> None:
    assert "".join(ranking.ranked(text, {"a": "A", "b": "B", "c": "C"})) == order


def test_what_a_ranking_leaves_out_has_the_mean_of_the_places_left() -> None:
    places = ranking.tally([(["a"], "abc"), (["b", "a", "c"], "abc")])
    assert [(p.author, p.mean, p.first, p.by) for p in places] == [
        ("a", 1.5, 1, 2),
        ("b", 1.75, 1, 2),
        ("c", 2.75, 0, 2),
    ]


PLAY = """\
from team.scripted import Office, answer
from team.test_council import script
office = Office(home)
for _ in range(4):
    office.step()
    answer(home, script)
office.step()
"""


@pytest.mark.parametrize(
    "point",
    first(
        2,
        [
            "processes.round:1",
            "processes.told",
            "processes.asked",
            "processes.taken",
            "processes.round:2",
            "processes.written",
        ],
    ),
)
def test_killed_anywhere_it_goes_on_and_asks_and_tells_nobody_twice(home: Home, point: str) -> None:
    mail.send(home, "j1", "council", "Well?")
    play = "import sys; sys.path.insert(0, 'tests')\n" + PLAY
    assert run(play, home, point=point) == -signal.SIGKILL
    assert run(play, home) == 0
    [asked] = processes.asks(home, "council")
    assert asked.closed and [len(questions(home, seat)) for seat in OPINION] == [3, 2, 2]
    assert len([letter for letter in mail.peek(home, "j1") if letter.sender == "office"]) == 1
    [page] = (home.comms / "council").glob("*.md")
    assert BEST in page.read_text() and not list(page.parent.glob(".*"))


def test_the_state_of_a_run_is_one_file_that_is_read_back_whole(home: Home) -> None:
    held(home)
    [path] = home.processes.iterdir()
    [asked] = processes.asks(home, "council")
    files.replace_json(path, asked.to_dict())
    assert processes.asks(home, "council") == [asked]
