"""Read letters are put away by day, and nobody who looks for one can tell: found, received and never delivered again."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import in_time
from postbox import take
from test_mail import make_home
from whole import run

from org.agents.tools import Mailbox
from org.home import ID_PATTERN, Home
from org.team import boxes, envelope, mail

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=1, hours=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def names(home: Home, seat: str, folder: str) -> list[str]:
    return sorted(path.stem for path in (home.mailbox(seat) / folder).glob("**/*.md"))


def test_what_was_read_is_put_away_by_its_day_after_a_day(home):
    [read] = mail.send(home, "human", "j1", "read", kind="task")
    take(home, "j1")
    [unread] = mail.send(home, "human", "j1", "unread")
    assert boxes.archive(home, NOW + timedelta(hours=23)) == 0
    assert boxes.archive(home, LATER) == 1
    day = envelope.moment_of(read.id).date().isoformat()
    assert (home.mailbox("j1") / "archive" / day / f"{read.id}.md").is_file()
    assert names(home, "j1", "cur") == [] and names(home, "j1", "new") == [unread.id]
    found = mail.find(home, "j1", read.id)
    assert found.body == "read" and found.verified
    since = (NOW - timedelta(hours=1)).isoformat()
    assert {letter.id for letter in mail.received(home, "j1", since)} == {read.id, unread.id}
    assert mail.received(home, "j1", (NOW + timedelta(days=2)).isoformat()) == []
    told = Mailbox(home.mailbox("j1")).letters("task", ("cur",))
    assert [head["id"] for head, _ in told] == [read.id]  # what a restarted seat was told in a former life
    assert boxes.archive(home, LATER) == 0


@pytest.mark.parametrize("letter_id", ["verdict-e0001", "l-991399-250000-000000000", "l-by-hand"])
def test_an_id_of_another_form_is_found_again_and_sent_again_to_nobody(home, letter_id):
    mail.send(home, "office", "j1", "once", letter_id=letter_id)
    take(home, "j1")
    assert boxes.archive(home, LATER) == 1
    mail.send(home, "office", "j1", "once", letter_id=letter_id)
    assert mail.waiting(home, "j1") == 0
    assert mail.find(home, "j1", letter_id).body == "once"
    assert [m.id for m in mail.received(home, "j1", (NOW - timedelta(hours=1)).isoformat())] == [letter_id]


def test_a_second_copy_of_what_was_put_away_is_dropped(home):
    [sent] = mail.send(home, "human", "j1", "once")
    path = home.mailbox("j1") / "new" / f"{sent.id}.md"
    copy = path.read_bytes()
    take(home, "j1")
    boxes.archive(home, LATER)
    path.write_bytes(copy)  # a sender that looked before it was read, and renamed after it was put away
    assert take(home, "j1") == [] and mail.waiting(home, "j1") == 0


def test_what_is_no_letter_stays_where_it_is(home):
    mail.send(home, "human", "j1", "read")
    take(home, "j1")
    cur = home.mailbox("j1") / "cur"
    (cur / "folder.md").mkdir()
    (cur / "link.md").symlink_to("/etc/hostname")
    (cur / "Odd name.md").write_text("x")
    (cur / "notes.txt").write_text("x")
    home.mail_tokens.write_text("")
    (home.mail / "not a box").mkdir()
    assert boxes.archive(home, LATER) == 1
    assert len(list(cur.iterdir())) == 4


def test_a_pipe_among_read_letters_keeps_no_restarted_seat_waiting(home):
    [read] = mail.send(home, "human", "j1", "read", kind="task")
    take(home, "j1")
    os.mkfifo(home.mailbox("j1") / "cur" / "pipe.md")
    told = in_time(lambda: Mailbox(home.mailbox("j1")).letters("task", ("cur",)))
    assert [head["id"] for head, _ in told] == [read.id]


@pytest.mark.parametrize("letter_id", ["l-991231-235959-000000000", "by-hand"])
def test_a_letter_from_the_future_is_put_away_too(home, letter_id):
    mail.send(home, "office", "j1", "once", letter_id=letter_id)
    take(home, "j1")
    assert boxes.archive(home, NOW + timedelta(hours=23)) == 0
    assert boxes.archive(home, LATER) == 1
    assert mail.find(home, "j1", letter_id).body == "once"


def test_a_box_that_cannot_be_looked_through_keeps_no_other_full(home, monkeypatch):
    for seat in ("j1", "j2"):
        mail.send(home, "human", seat, "read")
        take(home, seat)
    cur = home.mailbox("chief") / "cur"
    cur.parent.mkdir(exist_ok=True)
    cur.symlink_to("cur")
    monkeypatch.setattr(boxes, "names", _none_of_j1(boxes.names))
    assert boxes.archive(home, LATER) == 1
    assert names(home, "j2", "cur") == []


def _none_of_j1(names):
    def listed(folder):
        if folder.parent.name == "j1":
            raise PermissionError(13, "not yours", str(folder))
        return names(folder)

    return listed


@settings(max_examples=200, deadline=None)
@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)))
def test_an_id_says_its_moment(when):
    when = when.replace(tzinfo=UTC)
    letter_id = envelope.new_id(when.isoformat(), "j1")
    assert ID_PATTERN.fullmatch(letter_id)
    assert envelope.moment_of(letter_id) == when.replace(microsecond=0)


@pytest.mark.parametrize("odd", ["l-1", "verdict-e0001", "l-261332-000000-000000000", "l-\uff1261121-051502-000000000"])
def test_another_id_says_none(odd):
    assert envelope.moment_of(odd) is None


@pytest.mark.parametrize("point", ["mail.archive:1", "mail.archive:2", "mail.archived:1", "mail.archived:2"])
def test_killed_while_putting_away_every_letter_is_in_one_place(home, point):
    sent = [mail.send(home, "human", "j1", f"letter {n}", letter_id=f"l-{n}")[0] for n in range(3)]
    take(home, "j1")
    code = "from datetime import UTC, datetime, timedelta; from org.team import boxes; "
    code += "boxes.archive(home, datetime.now(UTC) + timedelta(days=2))"
    assert run(code, home, point=point) == -signal.SIGKILL
    for letter in sent:
        mail.send(home, "human", "j1", letter.body, letter_id=letter.id)  # repeated by a sender that knows no better
    assert mail.waiting(home, "j1") == 0
    assert all(mail.find(home, "j1", letter.id).body == letter.body for letter in sent)
    assert len(mail.received(home, "j1", sent[0].created)) == 3
    boxes.archive(home, NOW + timedelta(days=2))
    assert names(home, "j1", "cur") == [] and names(home, "j1", "archive") == ["l-0", "l-1", "l-2"]


@pytest.mark.parametrize("moves", [("cur",), ("cur", "archive")])
def test_a_letter_that_moves_on_while_it_is_looked_for_is_found(home, monkeypatch, moves):
    """Each look at a place is followed by the letter's leaving it: the worst that readers beside us can do."""
    [sent] = mail.send(home, "human", "j1", "hello")
    since = sent.created
    left = list(moves)

    def move_on() -> None:
        if left:
            step = left.pop(0)
            mail.acknowledge(home, "j1", sent.id) if step == "cur" else boxes.archive(home, LATER)

    plain = boxes.read

    def read(*arguments):
        move_on()
        return plain(*arguments)

    monkeypatch.setattr(boxes, "read", read)
    assert mail.find(home, "j1", sent.id).body == "hello"
    monkeypatch.undo()
    [again] = mail.send(home, "human", "j1", "hello again")
    listed = boxes.names

    def names_then_move(folder: Path) -> list[Path]:
        there = listed(folder)
        if folder.name == "new":
            mail.acknowledge(home, "j1", again.id)
        return there

    monkeypatch.setattr(boxes, "names", names_then_move)
    assert again.id in {letter.id for letter in mail.received(home, "j1", since)}
