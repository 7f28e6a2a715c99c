"""A sender in a loop is stopped and told when to go on; a box nobody reads fills up to a bound; the person is never stopped."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postbox import take
from test_mail import make_home
from whole import run

from org.errors import Busy
from org.home import Home
from org.team import limits, mail

NOW = 1_790_000_000.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.mark.parametrize(
    ("sent", "free"),
    [
        ([], None),
        ([NOW - 1] * (limits.PER_MINUTE - 1), None),
        ([NOW - 1] * limits.PER_MINUTE, (NOW + 59, "minute", limits.PER_MINUTE)),
        ([NOW - 61] * limits.PER_MINUTE, None),
        ([NOW + 5] * limits.PER_HOUR, None),  # of a clock that was set back since
        ([NOW - 600] * limits.PER_HOUR, (NOW + 3000, "hour", limits.PER_HOUR)),
        ([NOW - 3601] * limits.PER_HOUR, None),
    ],
)
def test_when_the_next_letter_may_go_out(sent, free):
    assert limits.free_at(sent, NOW) == free


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-4000, 0), st.sampled_from([1, 99, 100, 599, 600])), min_size=1, max_size=4))
def test_the_moment_named_is_the_first_at_which_one_more_may_go_out(groups):
    sent = [NOW + offset for offset, count in groups for _ in range(count)]
    free = limits.free_at(sent, NOW)
    if free is not None:
        assert free[0] > NOW
        assert limits.free_at(sent, free[0] - 0.01) is not None
        last = free
        while last is not None:  # the other span may hold it up longer
            moment = last[0]
            last = limits.free_at(sent, moment + 0.001)
        assert moment - NOW <= 3600.01


def test_a_loop_is_stopped_with_the_time_to_go_on_and_goes_on_then(home):
    for _ in range(limits.PER_MINUTE):
        limits.take(home, "j1", NOW)
    with pytest.raises(
        Busy, match=r"j1 has sent 100 letters in the last minute; go on at \d\d:\d\d:\d\d UTC \(in 30 s\)"
    ):
        limits.take(home, "j1", NOW + 30)
    limits.take(home, "j2", NOW + 30)
    limits.take(home, "j1", NOW + 60)


def test_the_count_never_grows_and_survives_rubbish(home):
    moment = NOW
    for _ in range(2 * limits.PER_HOUR):
        moment += 7
        limits.take(home, "j1", moment)
    assert home.sent("j1").stat().st_size == 8 * limits.PER_HOUR
    home.sent("j1").write_bytes(os.urandom(37))
    limits.take(home, "j1", moment)


def test_only_seats_are_counted(home):
    for sender in ("human", "office", "org"):
        for _ in range(limits.PER_MINUTE + 1):
            mail.send(home, sender, "j2", "again")
    for _ in range(limits.PER_MINUTE):
        mail.send(home, "j1", "chief", "again")
    with pytest.raises(Busy, match="in the last minute"):
        mail.send(home, "j1", "chief", "once more")
    assert mail.waiting(home, "chief") == limits.PER_MINUTE


def test_a_letter_to_all_is_one_letter(home):
    for _ in range(limits.PER_MINUTE):
        assert len(mail.send(home, "j1", "all", "again")) == 2


def test_a_full_box_takes_no_more_from_seats_and_nothing_is_sent_to_anybody(home, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNREAD", 5)
    for _ in range(5):
        mail.send(home, "human", "j2", "unread")
    with pytest.raises(Busy, match="the box of j2 is full"):
        mail.send(home, "j1", "all", "one more")
    assert mail.waiting(home, "chief") == 0
    mail.send(home, "office", "j2", "a verdict is never kept back")
    take(home, "j2")
    mail.send(home, "j1", "all", "one more")


def test_a_sender_killed_after_it_was_counted_sends_on(home):
    code = "from org.team import mail; mail.send(home, 'j1', 'j2', 'hello', letter_id='l-once')"
    for point in ("mail.counted", "mail.key"):
        assert run(code, home, point=point) == -signal.SIGKILL and mail.waiting(home, "j2") == 0
    assert run(code, home) == 0
    assert [(m.id, m.verified) for m in mail.peek(home, "j2")] == [("l-once", True)]
