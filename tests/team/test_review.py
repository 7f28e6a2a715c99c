"""A line of a person's is read as what it asks, of whom and about what; nothing that anybody writes breaks the reading."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.agents import obey
from org.home import ID_PATTERN
from org.team import mail, review
from org.team.review import Desk

DESK = Desk(
    roles={"chief": "chief", "j1": "junior", "j2": "junior", "j3": "junior"},
    programs={"j1": "optimizer", "j2": "schedule", "j3": "optimizer"},
    authors={"E0042": "j2", "E0043": "gone"},
    tried={"I0007": ["j3"]},
    lines=("optimizer", "schedule", "main"),
    scales=("d4", "SMOKE"),
)
PAGE = "2026-03-01"


def read(text: str) -> list[review.Order]:
    return review.orders(text, PAGE, DESK)


@pytest.mark.parametrize(
    ("line", "to", "verb", "about"),
    [
        ("stop warmdown_frac", "chief", "stop", None),
        ("@j1 stop warmdown_frac", "j1", "stop", None),
        ("- [ ] j1, no more widening please", "j1", "stop", None),
        ("1. j1: work on matrix_lr instead", "j1 chief", "redirect", None),
        ("move j2 to optimizer", "j2 chief", "redirect", None),
        ("work on the schedule instead", "chief", "redirect", None),
        ("stop the optimizer program", "j1 j3", "stop", None),
        ("the main point is missing", "chief", "other", None),
        ("E0042 again at d4", "j2", "again", "E0042"),
        ("* again E0042, at smoke.", "j2", "again", "E0042"),
        ("keep E0042, do not retest", "j2 chief", "approve", "E0042"),
        ("keep E0042: don\u2019t ever run it again", "j2 chief", "approve", "E0042"),
        ("E0042 held; never repeat it", "j2", "other", "E0042"),
        ("E0042 held, no need to verify E0042 again", "j2", "other", "E0042"),
        ("do retest E0042, I want to verify it", "j2", "again", "E0042"),
        ("why not repeat E0042 at d4", "j2", "again", "E0042"),
        ("E0042 is not verified: retest", "j2", "again", "E0042"),
        ("veto E0042", "j2 chief", "veto", "E0042"),
        ("approve I0007", "j3 chief", "approve", "I0007"),
        ("I0008: yes", "chief", "approve", "I0008"),
        ("approve E0043: who filed it is gone", "chief", "approve", "E0043"),
        ("why did j2 stop at E0042?", "j2", "question", "E0042"),
        ("What would falsify this?", "chief", "question", None),
        ("@juniors try matrix_lr=0.05", "j1 j2 j3", "try", None),
        ("@schedule use warmdown_frac = 0.4", "j2", "try", None),
        ("@all stop", "chief j1 j2 j3", "stop", None),
        ("everybody: go on", "chief j1 j2 j3", "resume", None),
        ("@nobody knows", "chief", "other", None),
        ("mumble", "chief", "other", None),
        ("Don't touch it, j3", "j3", "stop", None),
        ("j1x and E00421 are others", "chief", "other", "E00421"),
    ],
)
def test_a_line_reaches_whom_it_means(line: str, to: str, verb: str, about: str | None) -> None:
    [order] = read(line)
    assert (" ".join(order.to), order.verb, order.about) == (to, verb, about)
    assert order.kind == ("question" if verb == "question" else "task")


def test_a_scale_is_the_charters() -> None:
    assert [order.scale for order in read("E0042 again at D4\nretest E0042 on smoke\nE0042 again at d9")] == [
        "d4",
        "SMOKE",
        None,
    ]


def test_quotes_headings_rules_code_and_comments_are_no_orders_and_indented_lines_go_on() -> None:
    text = "> j1 said so\n### Mine\n\n- stop it,\n  at once\n---\n<!-- stop -->\n```\nstop code\n```\n* * *\ngo on\n"
    assert [order.text for order in read(text)] == ["stop it, at once", "go on"]


def test_an_edited_line_is_another_order_and_the_same_one_on_another_page_too() -> None:
    [a], [b], [c] = read("stop j1"), read("stop j2"), review.orders("stop j1", "2026-03-02", DESK)
    assert len({a.key, b.key, c.key}) == 3
    assert read("- stop j1\n\n[x] it\n* [x] stop   j1\n")[0].key == a.key
    assert [order.text for order in read("stop j1\n- [x] stop j1")] == ["stop j1"]


def test_only_what_stands_below_the_hint_is_the_persons() -> None:
    page = f"# Standup\n\n> ## Review\n> stop\n\n{review.HEADING}\n\n{review.HINT}\nstop j1\n## Review\ngo on\n"
    assert [order.text for order in read(review.below(page))] == ["stop j1", "go on"]
    assert review.below("# Standup\n\nstop j1\n") == ""
    assert read(review.below(f"x\n{review.HEADING}\n\n{review.HINT}")) == []
    old = "_Write below this line: questions, vetoes, what to try next. It stays here when the page is made again;\n`org send chief TEXT` carries it to the chief._\n"
    assert read(review.below(f"x\n{review.HEADING}\n\n{old}")) == []


@pytest.mark.parametrize("heading", ["\r\n## Review\r\n", "\n## Review \t\n", "\r\n## Review \r\n"])
def test_the_section_is_found_as_editors_save_it(heading: str) -> None:
    assert review.below(f"# Standup{heading}stop j1\r\n") == "stop j1\r\n"
    assert review.below(heading.replace("Review", "Reviews")) == ""


def test_without_a_chief_everybody_is_asked() -> None:
    desk = Desk(roles={"s1": "solo", "s2": "solo"})
    assert review.orders("mumble", PAGE, desk)[0].to == ("s1", "s2")
    assert review.orders("mumble", PAGE, Desk())[0].to == ()


def test_no_more_orders_than_a_page_may_hold() -> None:
    assert len(read("\n".join(f"do {n}" for n in range(900)))) == review.MOST


WORDS = st.sampled_from(
    ["stop", "j1", "@j2", "@", "E0042", "again", "at", "d4", "I0007", "?", "- ", "> ", "\n", "  ", "[x]", "```", "\x1b[2J",
     "\u202e", "\ud800", "=", "matrix_lr=0.05", "## Review", "\r\n", "\x00", "move", "optimizer", "_", "x" * 5000]
)  # fmt: skip
HOSTILE = st.one_of(st.text(max_size=400), st.lists(WORDS, max_size=40).map(" ".join), st.lists(WORDS).map("".join))


@given(HOSTILE)
def test_whatever_is_written_becomes_letters_that_can_be_sent(text: str) -> None:
    found = read(review.below(f"# Standup\n\n{review.HEADING}\n\n{review.HINT}{text}"))
    assert len({order.key for order in found}) == len(found) <= review.MOST
    for order in found:
        assert order.to and set(order.to) <= set(DESK.roles) and len(set(order.to)) == len(order.to)
        assert order.text and "\n" not in order.text and len(order.text) <= obey.LONGEST
        assert not re.search(r"[\x00-\x1f\x7f\u202e]", order.text)
        assert ID_PATTERN.fullmatch(order.letter) and order.verb in obey.VERBS
        assert order.about is None or mail.ABOUT.fullmatch(order.about)
        assert not review.Order.misfit({**order.to_dict(), "to": list(order.to)})
    assert review.orders(text, PAGE, DESK) == review.orders(text, PAGE, DESK)
