"""The fake terminal agent does what real ones were measured to do, and what it keeps is what was typed."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pane import Pane
from terminal import Agent, Keys, arguments, tell

PROGRAM = Path(__file__).with_name("terminal.py")
LETTERS = ("l-260301-010203-0000aaaaa", "l-260301-010203-0000bbbbb")


class Played(Pane):
    """The program in a pty, its folder and its mailbox."""

    def __init__(self, root: Path, *options: str) -> None:
        self.folder, self.box = root / "comms/seats/j1", root / "comms/mail/j1"
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.box / "new").mkdir(parents=True, exist_ok=True)
        self.env = {"ORG_EVENTS": str(self.folder / "events.jsonl"), "ORG_HOME": str(root), "ORG_SEAT": "j1"}
        argv = [sys.executable, str(PROGRAM), *options]
        super().__init__(argv, {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.env}, root)
        self.until("? for shortcuts")

    def rows(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def events(self) -> list[str]:
        return [row["event"] for row in self.rows("events.jsonl")]

    @property
    def lines(self) -> list[str]:
        return [row["text"] for row in self.rows("submitted.jsonl")]

    @property
    def bytes(self) -> bytes:
        path = self.folder / "bytes.bin"
        return path.read_bytes() if path.exists() else b""

    def letters(self, *names: str) -> None:
        for name in names:
            (self.box / "new" / f"{name}.md").write_text("x")

    def send(self, text: str) -> None:
        """Text, and once it was read, Enter."""
        self.type(text)
        self.until(lambda: self.bytes.endswith(text.encode()))
        self.type("\r")

    def has(self, count: int) -> None:
        self.until(lambda: len(self.lines) >= count)


@pytest.fixture
def play(odd_path: Path) -> Iterator[Callable[..., Played]]:
    played: list[Played] = []

    def start(*options: str) -> Played:
        played.append(Played(odd_path, *options))
        return played[-1]

    yield start
    for one in played:
        one.close()


def test_a_line_is_submitted_by_enter_and_its_letters_are_told_and_read(play: Callable[..., Played]) -> None:
    it = play()
    it.letters(*LETTERS)
    assert "\x1b[?2004h" in it.seen
    it.send(f"You have a letter ({LETTERS[0]}, l-260301-010203-000notone): read it")
    it.until(lambda: it.events[-1:] == ["idle"])
    assert it.events == ["ready", "working", "processed", "idle"]
    assert it.rows("events.jsonl")[2]["letters"] == [LETTERS[0]]
    assert [p.stem for p in (it.box / "new").iterdir()] == [LETTERS[1]]
    assert [p.stem for p in (it.box / "cur").iterdir()] == [LETTERS[0]]
    it.type("\r")  # on an empty composer: harmless
    it.send("hello")
    it.until(lambda: it.events.count("idle") == 2)
    assert it.events[4:] == ["working", "submitted", "idle"] and it.lines[1:] == ["hello"]
    assert it.bytes.endswith(b"read it\r\rhello\r")


def test_what_is_typed_while_it_works_waits_in_a_queue_and_is_told_of_at_its_turn(play: Callable[..., Played]) -> None:
    it = play("--read", "never")
    it.letters(LETTERS[0])
    tell(it.folder, "busy 60")
    it.until("Working")
    it.send(f"first {LETTERS[0]}")
    it.has(1)
    assert it.rows("submitted.jsonl")[0]["queued"] and "processed" not in it.events
    tell(it.folder, "clear")
    it.until(lambda: it.events[-1:] == ["idle"] and "processed" in it.events)
    assert [p.stem for p in (it.box / "new").iterdir()] == [LETTERS[0]]


def test_text_and_enter_in_one_read_are_a_line_break_and_the_next_enter_submits(play: Callable[..., Played]) -> None:
    it = play("--burst")
    drawn = len(it.seen)
    tell(it.folder, "stall 1")
    it.until(lambda: len(it.seen) > drawn)  # it draws what it was told
    it.type("a line\r")
    it.until(lambda: it.bytes == b"a line\r")
    it.read(0.2)
    assert it.lines == []
    it.type("\r")
    it.has(1)
    assert it.lines == ["a line"]


def test_a_dialog_takes_the_keys_and_the_draft_stays(play: Callable[..., Played]) -> None:
    it = play()
    it.type("half a ")
    it.until(lambda: it.bytes == b"half a ")
    tell(it.folder, "dialog")
    it.until("Do you want to proceed? (y/n)")
    it.type("xyz")
    it.until(lambda: "idle" in it.events)
    row = it.rows("dialogs.jsonl")[0]
    assert (row["keys"], row["answer"]) == ("xyz", "y") and 0 <= row["open_s"] < 60
    it.send("draft")
    it.has(1)
    assert it.lines == ["half a draft"] and it.events[:3] == ["ready", "asking", "idle"]


def test_a_limit_is_shown_and_what_is_submitted_waits_for_its_end(play: Callable[..., Played]) -> None:
    it = play()
    tell(it.folder, "limit")
    it.until("Rate limited until ")
    it.send("wait for it")
    it.has(1)
    assert it.events == ["ready", "limited"]
    tell(it.folder, "clear")
    it.until(lambda: it.events == ["ready", "limited", "idle", "working", "submitted", "idle"])


def test_a_swallowed_enter_leaves_the_line_in_the_composer(play: Callable[..., Played]) -> None:
    it = play()
    tell(it.folder, "swallow 2")
    it.send("a line")
    for count in (1, 2):
        it.until(lambda count=count: it.bytes == b"a line" + b"\r" * count)
        it.read(0.1)
        assert it.lines == []
        it.type("\r")
    it.has(1)
    assert it.lines == ["a line"]


def test_a_paste_is_text_whatever_breaks_it_holds(play: Callable[..., Played]) -> None:
    it = play()
    it.type("\x1b[200~one\rtwo\x1b[201")
    it.until(lambda: it.bytes.endswith(b"[201"))
    it.type("~")
    it.until("two")
    it.type("\r")
    it.has(1)
    assert it.lines == ["one\ntwo"]


def test_a_stopped_one_loses_nothing(play: Callable[..., Played]) -> None:
    it = play("--burst")
    it.process.send_signal(signal.SIGSTOP)
    it.type("typed while it was stopped\r")
    assert it.read(0.2) and it.bytes == b""
    it.process.send_signal(signal.SIGCONT)
    it.until(lambda: it.bytes == b"typed while it was stopped\r")
    it.type("\r")
    it.has(1)
    assert it.lines == ["typed while it was stopped"]


def test_it_ends_as_told_and_starts_again_on_the_same_files(play: Callable[..., Played]) -> None:
    it = play()
    it.send("before")
    it.has(1)
    tell(it.folder, "crash")
    it.until(lambda: it.process.poll() == -signal.SIGKILL)
    assert "exit" not in it.events
    again = play("--quiet-events", "--start", "0.2")
    again.send("after")
    again.has(2)
    tell(again.folder, "exit 3")
    again.until(lambda: again.process.poll() == 3)
    assert again.lines == ["before", "after"] and again.bytes == b"before\rafter\r"
    assert again.events.count("ready") == 1  # the quiet one wrote none
    assert termios.tcgetattr(again.slave) == again.before


def test_the_same_seed_brings_the_same_again() -> None:
    def drawn(folder: Path, seed: str) -> list[str]:
        folder.mkdir()
        options = arguments(["--random", seed, "--stall", "0.5", "--busy", "0.5", "--dialog", "0.2"])
        agent, told = Agent(options, folder / "events.jsonl"), []
        agent.obey = told.append  # type: ignore[method-assign]
        for _ in range(20):
            agent.beat(0.0)
        return told

    with tempfile.TemporaryDirectory() as root:
        one, same, other = (drawn(Path(root, name), seed) for name, seed in (("a", "1"), ("b", "1"), ("c", "2")))
    assert one == same != other and {word.partition(" ")[0] for word in one} == {"stall", "busy", "dialog"}


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).map(
                lambda t: (t.encode(), [("text", t)])
            ),
            st.sampled_from(
                [
                    (b"\r", [("enter", "")]),
                    (b"\x7f", [("backspace", "")]),
                    (b"\x1b[A", []),
                    (b"\x1bOP", []),
                    (b"\x1b[1;5C", []),
                    ("\x1b[200~é\r→\x1b[201~".encode(), [("paste", "é\n→")]),
                ]
            ),
        )
    ),
    st.data(),
)
def test_keys_are_the_same_however_the_bytes_are_cut(parts: list[tuple[bytes, list[Any]]], data: Any) -> None:
    """But for a cut right after ESC, which is the Escape key."""
    whole = b"".join(part for part, _ in parts)
    wanted: list[tuple[str, str]] = []
    for key in (key for _, keys in parts for key in keys):
        wanted = merged(wanted, key)
    keys, got = Keys(), []
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))))
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        if whole[end - 1 : end] == b"\x1b":
            return
        for key in keys.feed(whole[start:end]):
            got = merged(got, key)
    assert got == wanted


def merged(keys: list[tuple[str, str]], key: tuple[str, str]) -> list[tuple[str, str]]:
    if key == ("text", ""):
        return keys
    if keys and keys[-1][0] == key[0] == "text":
        return [*keys[:-1], ("text", keys[-1][1] + key[1])]
    return [*keys, key]
