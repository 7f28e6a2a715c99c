"""What is wrong with what a program heard is found, whatever it is; and nothing is found where all is well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agents.hostile import bodies
from agents.stage import Heard

from org.home import Home
from org.team import doorbell

ONE, TWO, THREE = (f"l-260301-010203-00000000{n}" for n in "abc")
FIRST, SECOND = doorbell.line_of([ONE]), doorbell.line_of([TWO, THREE])


def heard(
    home: Home, received: str, *lines: str, starts: tuple[int, ...] = (0,), dialogs: tuple[str, ...] = ()
) -> Heard:
    """The files of a program that received this and submitted these lines."""
    folder = home.seat("j1")
    folder.mkdir(parents=True)
    (folder / "bytes.bin").write_bytes(received.encode())
    rows = {
        "submitted.jsonl": [{"mono": 9.0, "text": text} for text in lines],
        "starts.jsonl": [{"mono": float(n), "at": at} for n, at in enumerate(starts)],
        "dialogs.jsonl": [{"keys": keys, "open_s": 1.5} for keys in dialogs],
    }
    for name, found in rows.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    return Heard(home, "j1")


def test_nothing_is_wrong_with_lines_and_enters_and_what_a_person_typed(tiny_home: Home) -> None:
    it = heard(tiny_home, f"{FIRST}\r\rmy linr\x7fe\r{SECOND}\r", FIRST, "my line", SECOND)
    assert it.faults({ONE, TWO, THREE}, b"my linr\x7fe\r", ["my line"]) == []


def test_a_line_that_died_with_its_program_may_be_typed_again(tiny_home: Home) -> None:
    lost = FIRST[:30]
    it = heard(tiny_home, f"{lost}{FIRST}\r{SECOND}\r", FIRST, SECOND, starts=(0, len(lost)))
    assert it.faults({ONE, TWO, THREE}) == []


@pytest.mark.parametrize(
    ("received", "lines", "said"),
    [
        (f"{FIRST}\r", [FIRST], f"{TWO} stands in 0 lines"),
        (f"{FIRST}\r{SECOND}\r{FIRST}\r", [FIRST, SECOND, FIRST], f"{ONE} stands in 2 lines"),
        (f"{FIRST}{SECOND}\r", [FIRST + SECOND], "submitted 'You have a letter"),
        (f"{FIRST}\r{SECOND}\r{SECOND}", [FIRST, SECOND], "besides bells it got b'\\r\\rYou have 2"),
        (f"{FIRST}\r{SECOND}\r\x15", [FIRST, SECOND], "besides bells it got b'\\r\\r\\x15'"),
        (f"{FIRST}\r{SECOND}\rls\r", [FIRST, SECOND, "ls"], "submitted 'ls'"),
    ],
)
def test_each_fault_is_said(tiny_home: Home, received: str, lines: list[str], said: str) -> None:
    faults = heard(tiny_home, received, *lines).faults({ONE, TWO, THREE})
    assert any(said in fault for fault in faults), faults


def test_a_key_for_a_dialog_and_a_letter_of_another_seat_are_faults(tiny_home: Home) -> None:
    it = heard(tiny_home, f"{FIRST}\r", FIRST, dialogs=("enter",))
    assert it.faults(set()) == [
        f"j1: {ONE} was never sent to it",
        "j1: 'enter' went to a dialog that was open for 1.5 s",
    ]


def test_a_persons_line_that_was_merged_or_lost_is_a_fault(tiny_home: Home) -> None:
    it = heard(tiny_home, f"{FIRST}mine\r", f"{FIRST}mine")
    faults = it.faults({ONE}, b"mine\r", ["mine"])
    assert "j1: the person's line 'mine' was not submitted" in faults and len(faults) == 3


def test_there_are_forty_hostile_bodies_and_no_two_are_the_same(odd_path: Path) -> None:
    found = bodies(odd_path / "mark")
    assert len(found) == len(set(found)) == 40 and all(body and len(body.encode()) <= 65536 for body in found)
