"""The line being typed, and the terminal around it."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pane import Pane

from org.agents.repl import PROMPT, Composer, cells, head, tail, wrapped

ECHO = """
import sys, time
from org.agents.repl import Repl
repl = Repl()
start = time.monotonic()
said = [0]
def poll():
    if time.monotonic() - start > 0.3 * (said[0] + 1) and said[0] < 3:
        said[0] += 1
        repl.say(f"output {said[0]} \\x1b[31mred " + "long words " * 12, "dim")
    return 0.1
def on_line(line):
    repl.say(f"got <{line}>")
    if line == "quit":
        repl.leave()
repl.say("ready to type")
repl.run(on_line, poll)
print("left")
"""


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Pane]:
    pane = Pane([sys.executable, "-c", ECHO], os.environ, tmp_path)
    yield pane
    pane.close()


def test_output_never_eats_a_half_typed_draft(pane: Pane) -> None:
    pane.until("\x1b[?2004h")
    pane.type("half a tho")
    pane.until("output 3")
    pane.until(lambda: pane.seen.rindex(PROMPT + "half a tho") > pane.seen.rindex("output 3"))
    pane.type("ught\r")
    pane.until("got <half a thought>")


def test_keys_of_an_editor_work_and_others_do_nothing(pane: Pane) -> None:
    pane.until("\x1b[?2004h")
    pane.type("wrong\x15")  # Ctrl-U
    pane.type("naïve 语x\x7f\x1b[A\x1b[1;5D\x1bOP\x01\x1a\t!\r")  # Backspace, arrows, F1, Ctrl-A, Ctrl-Z
    pane.until("got <naïve 语 !>")
    pane.type("\x1b[200~one\rtwo\x1b[201~\r")
    pane.until("got <one two>")


def test_ctrl_c_says_how_to_leave_once_and_quit_restores_the_terminal(pane: Pane) -> None:
    pane.until("\x1b[?2004h")
    pane.until(lambda: termios.tcgetattr(pane.slave) != pane.before)
    pane.type("\x03")
    pane.until("type quit")
    assert pane.process.poll() is None
    pane.type("quit\r")
    pane.until("left")
    assert pane.process.wait(10) == 0
    assert termios.tcgetattr(pane.slave) == pane.before
    assert pane.seen.count("\x1b[?2004h") == pane.seen.count("\x1b[?2004l") == 1


def test_ctrl_c_twice_leaves(pane: Pane) -> None:
    pane.until("\x1b[?2004h")
    pane.type("\x03\x03")
    pane.until("left")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_asked_to_end_restores_the_terminal(pane: Pane, number: signal.Signals) -> None:
    pane.until("\x1b[?2004h")
    pane.until(lambda: termios.tcgetattr(pane.slave) != pane.before)
    pane.process.send_signal(number)
    pane.until("left")
    assert termios.tcgetattr(pane.slave) == pane.before


def test_a_resize_keeps_the_draft_and_hostile_text_cannot_draw(pane: Pane) -> None:
    pane.until("\x1b[?2004h")
    pane.type("a draft of some length that a narrow window cannot show at once")
    pane.until("show at once")
    pane.resize(30)
    pane.until(lambda: "\x1b[2A" in pane.seen or "…" in pane.seen)
    pane.until("output 3")
    assert "\x1b[31mred" not in pane.seen
    pane.type("\r")
    pane.until(lambda: "got <a draft" in pane.seen and "at once>" in pane.seen)


def test_without_a_terminal_it_reads_plain_lines(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", ECHO],
        input="hello\nquit\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=20,
        check=True,
    )
    assert "got <hello>" in done.stdout and done.stdout.endswith("left\n") and "\x1b" not in done.stdout


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_break_the_composer(chunks: list[bytes]) -> None:
    composer = Composer()
    for chunk in chunks:
        for event in composer.feed(chunk, 0.0):
            assert event in ("\x03", "\x04") or all(c >= " " for c in event)
    assert all(c >= " " for c in composer.draft)


@given(st.text(alphabet=st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=80), st.integers(1, 9))
def test_typing_arrives_however_the_bytes_are_cut(text: str, size: int) -> None:
    data = (text + "\r").encode()
    composer = Composer()
    events = [e for at in range(0, len(data), size) for e in composer.feed(data[at : at + size], 0.0)]
    assert events == [text]


@given(st.text(max_size=200), st.integers(5, 60))
def test_the_shown_draft_fits_and_ends_as_typed(draft: str, width: int) -> None:
    shown = tail(draft, width)
    assert cells(shown) <= width and draft.endswith(shown.removeprefix("…"))


@given(st.text(max_size=300), st.integers(20, 100))
def test_wrapped_text_carries_no_escape(text: str, width: int) -> None:
    assert not any(c < " " or c == "\x7f" for line in wrapped(text, width) for c in line)


def test_what_is_shown_of_a_long_draft_costs_no_more_than_its_width() -> None:
    draft, began = "wörd 语 " * 20_000, time.process_time()
    for _ in range(30):  # a paste of 100 KB is drawn so often
        assert draft.endswith(tail(draft, 80).removeprefix("…"))
        assert draft.startswith(head(draft, 80).removesuffix("…"))
    assert time.process_time() - began < 1.0


def test_accents_without_end_are_cut_too() -> None:
    assert tail("\u0301" * 50_000, 80).startswith("…") and head("\u0301" * 50_000, 80).endswith("…")
    assert tail("é" * 40, 80) == "é" * 40 == head("é" * 40, 80)  # decomposed: twice the characters


def test_a_paste_that_is_too_long_is_cut_and_that_is_said_once(pane: Pane) -> None:
    pane.until("\x1b[?2004h")
    pane.type("\x1b[200~" + "x" * 1500)
    for _ in range(66):
        pane.type("y" * 1500)
        pane.read(0.0)
    pane.type("\x1b[201~\r")
    pane.until("got <xxx")
    pane.type("quit\r")
    pane.until("left")
    assert pane.seen.count("cut") == 1
