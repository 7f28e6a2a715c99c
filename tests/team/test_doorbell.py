"""The doorbell rings for letters, again for unread ones, and never where a person is; decided purely, typed in real tmux."""

from __future__ import annotations

import dataclasses
import fcntl
import itertools
import os
import pty
import struct
import subprocess
import termios
from typing import Any

import pytest

from org.team import doorbell, mail
from org.team.doorbell import Rung
from org.world import tmux, tmuxwords

PANE = tmuxwords.PaneInfo(
    id="%1", window="@0", window_name="grid", session="org", pid=1, dead=False, dead_status=None, in_mode=False,
    input_off=False, width=80, height=20, active=True, seat="j1", title="j1",
)  # fmt: skip
LETTERS = ["l-260301-010203-0000aaaaa"]


def due(**changes: Any) -> str | None:
    facts: dict[str, Any] = {
        "state": "ready",
        "letters": LETTERS,
        "rung": Rung(),
        "now": 1000.0,
        "pane": PANE,
        "is_human": False,
    }
    return doorbell.due(**{**facts, **changes})


def test_a_new_letter_rings_with_its_id_in_one_short_line() -> None:
    text = due()
    assert text is not None and LETTERS[0] in text and "\n" not in text
    many = due(letters=[f"l-260301-010203-{n:09d}" for n in range(500)])
    assert many is not None and len(many) <= tmux.MAX_LINE and "500 letters" in many


@pytest.mark.parametrize(
    "changes",
    [
        {"letters": []},
        {"is_human": True},
        {"has_prefix": True},
        {"pane": None},
        {"pane": dataclasses.replace(PANE, dead=True)},
        {"pane": dataclasses.replace(PANE, in_mode=True)},
        {"pane": dataclasses.replace(PANE, input_off=True)},
        *({"state": state} for state in ("held", "asking", "starting", "gone", "person")),
        {"letters": ["$(touch x)", "a\nb"]},
    ],
)
def test_not_a_byte_is_typed_where_it_could_hurt(changes: dict[str, Any]) -> None:
    assert due(**changes) is None


@pytest.mark.parametrize("state", ["ready", "working", "waiting-for-run"])
def test_a_busy_program_is_rung_too(state: str) -> None:
    assert due(state=state)


def test_an_unread_letter_is_rung_for_again_ever_more_seldom() -> None:
    rung, times, now = Rung(), [], 1000.0
    while now < 1000.0 + 4 * 3600:
        if due(rung=rung, now=now):
            times.append(now)
            rung = doorbell.after(rung, LETTERS, now)
        now += 1.0
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[:3] == [60.0, 120.0, 240.0] and max(gaps) == doorbell.AGAIN_LIMIT_S == gaps[-1]


def test_a_second_letter_rings_at_once_and_what_was_read_does_not() -> None:
    rung = doorbell.after(Rung(), LETTERS, 1000.0)
    assert due(rung=rung, now=1001.0) is None
    assert due(rung=rung, now=1001.0, letters=[*LETTERS, "l-2"])
    both = doorbell.after(rung, [*LETTERS, "l-2"], 1001.0)
    assert due(rung=both, now=1002.0, letters=["l-2"]) is None


def test_a_program_in_a_pane_is_told_of_its_letter_once(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    [letter] = mail.send(org.home, "human", "j1", "try a warmup")
    org.wait_for(lambda: letter.id in org.typed("j1"))
    [second] = mail.send(org.home, "human", "j1", "and a warmdown")
    org.wait_for(lambda: second.id in org.typed("j1"))
    assert len(org.typed("j1").splitlines()) == 2 and org.typed("j2") == ""


def test_a_held_seat_hears_nothing_until_it_is_let_go(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    org.home.held("j1").touch()
    [letter] = mail.send(org.home, "human", "j1", "for later")
    [other] = mail.send(org.home, "human", "j2", "for now")
    org.wait_for(lambda: other.id in org.typed("j2"), what="the other seat to be rung")
    label = org.wait_for(
        lambda: (
            (text := org.tmux("show", "-p", "-v", "-t", org.look().panes["j1"].id, "@label"))
            and "held" in text
            and text
        )
    )
    assert "✉1" in label
    assert org.typed("j1") == ""
    org.home.held("j1").unlink()
    org.wait_for(lambda: letter.id in org.typed("j1"))


def test_a_pane_under_a_persons_hand_is_left_alone(org: Any) -> None:
    org.launch(chief=0, juniors=2)
    pane = org.look().panes["j1"].id
    org.tmux("select-window", "-t", pane)
    org.tmux("select-pane", "-t", pane)
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    argv = ["tmux", "-L", org.home.socket, "attach", "-t", "=org"]
    client = subprocess.Popen(
        argv, stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    try:
        org.wait_for(lambda: pane in org.look().human)
        os.write(person, b"my half line")
        [letter] = mail.send(org.home, "human", "j1", "hello")
        [other] = mail.send(org.home, "human", "j2", "hello")
        org.wait_for(lambda: other.id in org.typed("j2"), what="the pane beside it to be rung")
        assert org.typed("j1") == ""
        os.write(person, b" goes on\r")
        org.wait_for(lambda: org.typed("j1") == "my half line goes on\n")
    finally:
        client.kill()
        client.wait()
        os.close(person)
        os.close(terminal)
    org.wait_for(lambda: letter.id in org.typed("j1"), what="the bell, once the person is gone")
