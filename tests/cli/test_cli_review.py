"""`org standup review`: the page in the person's editor, and what was understood of what they wrote, sent once."""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from pathlib import Path

import pytest
from postbox import take
from waiting import wait_for

from org import files
from org.home import Home
from org.records import Seat
from org.team import mail, processes

from .conftest import Cli

WRITER = """\
import pathlib, sys
path = pathlib.Path(sys.argv[-1])
pathlib.Path(__file__).with_name("args.txt").write_text(repr(sys.argv[1:]))
path.write_text(path.read_text() + pathlib.Path(__file__).with_name("words.txt").read_text())
"""


@pytest.fixture
def writes(tiny_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """writes(text): the editor of the person adds that to what it opens."""
    for name, role in (("chief", "chief"), ("j1", "junior")):
        seat = Seat(name, role, "offline", "main", f"program/main/{name}", "", None, files.utc_now())
        files.replace_json(tiny_home.seat_file(name), seat.to_dict())
    script = tmp_path / "an editor.py"
    script.write_text(WRITER)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", shlex.join([sys.executable, str(script)]))
    return lambda text: (tmp_path / "words.txt").write_text(text)


def test_what_was_written_is_said_back_and_sent_once(tiny_home: Home, writes, cli: Cli) -> None:
    writes("@j1 stop matrix_lr\nhm\n")
    said = cli("--home", tiny_home.root, "standup", "review")
    assert said.code == 0 and said.out.splitlines() == [
        "j1 gets as stop: @j1 stop matrix_lr",
        "chief gets as it is: hm",
    ]
    writes("- why is E0042 null?\n")
    said = cli("--home", tiny_home.root, "standup", "review", "--json")
    [row] = json.loads(said.out)["orders"]
    assert (row["to"], row["kind"], row["about"]) == (["chief"], "question", "E0042")
    writes("")
    assert cli("--home", tiny_home.root, "standup", "review").out == "nothing new is ordered\n"
    assert [letter.kind for letter in take(tiny_home, "chief")] == ["task", "question"]
    assert len(take(tiny_home, "j1")) == 1


def test_an_editor_that_is_known_opens_at_the_section(tiny_home: Home, writes, tmp_path, monkeypatch, cli: Cli) -> None:
    writes("")
    script = tmp_path / "vim"
    script.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / "an editor.py"))} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    assert cli("--home", tiny_home.root, "standup", "review").code == 0
    at, path = eval((tmp_path / "args.txt").read_text())
    lines = Path(path).read_text().splitlines()
    assert lines[int(at[1:]) - 2].endswith("came of it._")


@pytest.mark.parametrize(
    ("editor", "seat", "code", "said"),
    [
        ("false", "human", 1, "exit code 1"),
        ("no-such-editor-here", "human", 1, "set $EDITOR"),
        ("", "human", 2, "no $EDITOR"),
        ("true", "j1", 3, "is the person's"),
    ],
)
def test_what_goes_wrong_is_one_line(tiny_home: Home, writes, monkeypatch, cli: Cli, editor, seat, code, said) -> None:
    monkeypatch.setenv("EDITOR", editor)
    answer = cli("--home", tiny_home.root, "--seat", seat, "standup", "review")
    assert answer.code == code and said in answer.err and answer.err.count("\n") == 1


# --- org standup now ---------------------------------------------------------------------------------------------

ASKS = "---\nwhen: daily 07:00\nwho: all\ninput: ledger\nanswers_within: 60s\n---\nWell?\n"


@pytest.fixture
def asks(tiny_home: Home, writes) -> Home:
    (tiny_home.org_folder("chief-juniors") / "processes" / "standup.md").write_text(ASKS)
    return tiny_home


def test_an_office_that_ends_meanwhile_leaves_the_page_to_the_command(asks: Home, cli: Cli) -> None:
    """The seats are asked in the person's name; what they answered until then is on the page."""
    lock = files.try_lock(asks.office_lock)
    assert lock is not None

    def answers_and_ends() -> None:
        [asked] = wait_for(lambda: processes.open_asks(asks, "standup"))
        wait_for(lambda: mail.waiting(asks, "j1"))
        mail.send(asks, "j1", "human", "all well here", "report", about=asked.about)
        os.close(lock)

    office = threading.Thread(target=answers_and_ends)
    office.start()
    said = cli("--home", asks.root, "standup", "now", "--json")
    office.join()
    assert "Well?\n\n### Ledger, the newest last\n\nNo verdict yet." in mail.peek(asks, "j1")[-1].body
    assert said.code == 0 and said.err.splitlines()[0] == "asked chief, j1; answers within 60 s"
    assert said.err.splitlines()[-1] == "no answer from chief"
    assert said.json["asked"] == ["chief", "j1"] and said.json["answered"] == ["j1"]
    assert "> all well here" in said.json["text"]
    assert processes.open_asks(asks, "standup") == []


@pytest.mark.parametrize("who", ["j1", "human"])
def test_a_seat_asks_nobody_and_nobody_asks_without_an_office(asks: Home, cli: Cli, who: str) -> None:
    lock = files.try_lock(asks.office_lock) if who == "j1" else None
    said = cli("--home", asks.root, "--seat", who, "standup", "now", "--json")
    if lock is not None:
        os.close(lock)
    assert said.code == 0 and set(said.json) == {"path", "text"}
    assert processes.asks(asks, "standup") == [] and mail.waiting(asks, "chief") == 0
