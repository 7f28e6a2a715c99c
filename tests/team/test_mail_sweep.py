"""Killed at every step of sending, reading, acting, acknowledging, putting away and counting: everything happens exactly once.

An effect is keyed by the letter's id. Pairs of kills are tried too: a sender's and a reader's.
"""

import signal
from pathlib import Path

import pytest
import whole
from test_mail import make_home

from org.home import Home
from org.team import boxes, mail, tokens

PRELUDE = """
import os; from datetime import UTC, datetime, timedelta
from org.failpoint import failpoint; from org.team import boxes, mail, tokens
"""
SEND = "mail.send(home, 'j2', 'j1', 'do it', kind='task', letter_id='l-once')"
ACT = """
for letter in mail.peek(home, 'j1', is_tidy=True):
    try:
        os.close(os.open(home.root / f'effect-{letter.id}', os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        pass  # done before
    failpoint('reader.effect')
    mail.acknowledge(home, 'j1', letter.id)
"""
STORE = "boxes.archive(home, datetime.now(UTC) + timedelta(days=2))"
COUNT = "tokens.tally(home)"
SENDING = ("mail.key", "mail.counted", "mail.tmp", "mail.new")
READING = ("mail.bad", "mail.read", "reader.effect", "mail.cur")
STORING = ("mail.archive", "mail.archived")
COUNTING = ("tokens.count", "tokens.counted")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path)
    (home.mailbox("j1") / "new").mkdir(parents=True)
    (home.mailbox("j1") / "new" / "l-torn.md").write_text("---\nid: l-torn")
    return home


def run(code: str, home: Home, point: str = "") -> None:
    assert whole.run(PRELUDE + code, home, point=point) == (-signal.SIGKILL if point else 0), point


def settle(home: Home) -> None:
    """Everybody again, undisturbed, and once more: what is told twice is done once."""
    for _ in range(2):
        for code in (SEND, ACT, STORE, COUNT):
            run(code, home)
    assert [path.name for path in home.root.glob("effect-*")] == ["effect-l-once"]
    assert mail.waiting(home, "j1") == 0
    found = mail.find(home, "j1", "l-once")
    assert found is not None and found.body == "do it" and found.verified
    assert [path.stem for path in boxes.all_of(home, "j1")] == ["l-once"]
    assert len(list((home.mailbox("j1") / "bad").iterdir())) == 1
    assert [row["id"] for row in tokens.files.read_lines(home.mail_tokens)[0]] == ["l-once"]
    assert tokens.per_seat(home)["j1"].letters == 1


@pytest.mark.parametrize(
    ("sender", "reader", "keeper"),
    [
        *((point, "", "") for point in SENDING),
        *(("", point, "") for point in READING),
        *(("", "", point) for point in (*STORING, *COUNTING)),
    ],
)
@pytest.mark.slow  # five to nine interpreters each
def test_killed_at_one_step_and_gone_on(home, sender, reader, keeper):
    run(SEND, home, sender)
    if not sender:
        run(ACT, home, reader)
    if keeper:
        run(STORE if keeper in STORING else COUNT, home, keeper)
    settle(home)


@pytest.mark.slow  # seven interpreters each
@pytest.mark.parametrize("sender", SENDING)
@pytest.mark.parametrize("reader", READING[1:])
def test_killed_at_two_steps_and_gone_on(home, sender, reader):
    run(SEND, home, sender)
    if mail.find(home, "j1", "l-once") is None:
        run(SEND, home)
    run(COUNT, home, "tokens.counted")
    run(ACT, home, reader)
    settle(home)


def test_killed_between_delivering_and_acknowledging_it_is_told_again_and_done_once(home):
    run(SEND, home, "mail.new")
    run(ACT, home, "reader.effect")
    assert [letter.id for letter in mail.peek(home, "j1")] == ["l-once"]
    run(ACT, home)
    assert [path.name for path in home.root.glob("effect-*")] == ["effect-l-once"]
    assert mail.peek(home, "j1") == []
