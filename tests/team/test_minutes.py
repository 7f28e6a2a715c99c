"""What becomes of answers: a page with every word held against the ledger, or letters to whom it concerns."""

from __future__ import annotations

from pathlib import Path

import pytest
from team.books import night
from team.scripted import Office, answer, make_home, put, questions

from org.home import Home
from org.lab.book import Book
from org.team import mail, processes

PAGE = """---
when: every 1h
who: all
writes: comms/notes/{id}.md
answers_within: 5m
---
What stands in the way, on {date}?
"""
HOSTILE = "## Synthesis\nE0005 gained 0.9999.\n<script>alert(1)</script>\x1b[2J {E0005.effect}"
OF_A_WIN = PAGE.replace("every 1h", "on tentative").replace("writes: comms/notes/{id}.md\n", "")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path, chief="chief", j1="junior", j2="junior", b1="breaker", b2="breaker")


def play(home: Home, book: Book, script: dict[str, str]) -> Office:
    office = Office(home, book, 3600.0)
    office.step()
    answer(home, lambda seat, body: script.get(seat))
    office.step(301.0)
    return office


def test_answers_are_quoted_under_their_seats_and_numbers_held_against_the_ledger(home: Home) -> None:
    put(home, "notes", PAGE)
    play(home, night(), {"j1": HOSTILE, "j2": "Nothing does."})
    [asked] = processes.asks(home, "notes")
    text = (home.comms / "notes" / f"{asked.about}.md").read_text()
    assert "0.9999 [not in the ledger]" in text and "-0.0700" in text and "## j2\n\n> Nothing does." in text
    assert "<script>" not in text and "\x1b" not in text and "\n## Synthesis" not in text
    assert "2 of 5 answered; left out, no answer in time: b1, b2, chief." in text
    assert asked.asked_at[:10] in questions(home, "j1")[0].body and "{date}" not in questions(home, "j1")[0].body
    told = [each for seat in ("chief", "human") for each in mail.peek(home, seat) if each.sender == "office"]
    assert not told, "a page by the clock is no letter to anybody"


def test_the_clock_counts_from_the_last_time_and_not_from_what_events_made_of_it(home: Home) -> None:
    put(home, "notes", PAGE.replace("every 1h", "every 1h, on asked"))
    office = Office(home, launched_ago_s=3500.0)
    office.step()
    mail.send(home, "j1", "notes", "Well?")
    office.step()
    office.step(100.0)
    assert [bool(run.occasion) for run in processes.asks(home, "notes")] == [True, False]


def test_answers_without_a_page_go_to_the_chief_or_to_the_person(tmp_path: Path, home: Home) -> None:
    alone = make_home(tmp_path / "alone", solo="solo")
    for place, box in ((home, "chief"), (alone, "human")):
        put(place, "notes", PAGE.replace("writes: comms/notes/{id}.md\n", ""))
        play(place, Book(), dict.fromkeys(("j1", "solo"), "The cache is cold."))
        [letter] = [each for each in mail.peek(place, box) if each.sender == "office"]
        assert "> The cache is cold." in letter.body and not (place.comms / "notes").exists()


@pytest.mark.parametrize(
    ("who", "asked"),
    [("breaker of author", ["b2"]), ("peer", ["j1"]), ("breaker", ["b1", "b2"]), ("councillor", None)],
)
def test_a_tentative_win_is_put_to_whom_the_page_names_and_its_author_hears_of_it(
    home: Home, who: str, asked: list[str] | None
) -> None:
    put(home, "doubt", OF_A_WIN.replace("who: all", f"who: {who}"))
    book = Book()
    story = night()
    for row in story.rows:
        book.add(dict(row, t="2999-01-01T00:00:00.000Z"))
    play(home, book, dict.fromkeys(asked or (), "It may be luck."))
    runs = processes.asks(home, "doubt")
    if asked is None:
        assert runs == [], "with nobody to be asked there is no such process"
        return
    [run] = runs
    assert list(run.first) == asked
    assert (run.subject, run.author) == ("E0004", "j2"), "E0001 is in a stack already"
    for box in ("j2", "chief"):
        letters = [each for each in mail.received(home, box, "2020-01-01T00:00:00Z") if each.about == run.subject]
        assert [each.kind for each in letters] == ["review"] and "> It may be luck." in letters[0].body
    office = Office(home, book)
    office.step(1.0)
    assert len(processes.asks(home, "doubt")) == 1, "each win once, also by the next office"


def test_the_answers_of_a_standup_are_the_morning_pages(home: Home) -> None:
    put(home, "standup", PAGE.replace("comms/notes/{id}.md", "comms/standup/{date}.md"))
    office = play(home, Book(), {"j1": "I read."})
    assert office.morning == [{"j1": "I read."}] and not home.standups.exists()


def test_what_was_begun_before_the_end_of_a_budget_is_written_up_with_what_came(home: Home) -> None:
    from dataclasses import replace

    put(home, "notes", PAGE)
    office = Office(home, launched_ago_s=3600.0)
    office.step()
    answer(home, lambda seat, body: "Half done." if seat == "j1" else None)
    office.term = replace(office.term, ended="2999-01-01T00:00:00.000Z")
    assert office.step(1.0) is False
    [page] = (home.comms / "notes").glob("*.md")
    assert "> Half done." in page.read_text() and processes.asks(home, "notes")[0].closed
