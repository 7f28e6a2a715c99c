"""A person's draft is put aside by a key that toggles: pressed where it is needed, waited for, and never once too often."""

from __future__ import annotations

from typing import Any, cast

import pytest

from org.agents.base import Stash
from org.team.aside import STALLED_S, TAKEN_S, Aside
from org.team.drafts import FORGET_S
from org.world.tmux import Server
from org.world.tmuxwords import PaneInfo

STASH = Stash(("C-s",), r"\bdraft stashed$", column=2)
PANE = cast(PaneInfo, type("Pane", (), {"id": "%1", "pid": 7})())


class Box:
    """A program's box as the real ones behave: one draft is kept aside, and the key takes `slow_s` to be read."""

    def __init__(self, text: str = "", kept: str = "", slow_s: float = 0.05) -> None:
        self.text, self.kept, self.slow_s = text, kept, slow_s
        self.now, self.presses, self._due = 100.0, 0, list[float]()
        self.aside = Aside(cast(Server, self), lambda pane: (2 + len(self.text), 0), lambda: self.now)

    def press(self, pane: str, *keys: str, pid: int | None = None) -> None:
        self.presses += 1
        self._due.append(self.now + self.slow_s)

    def capture(self, pane: str) -> str:
        return f"> an answer\n{' ' * 20}{'draft stashed' if self.kept else ''}\n> {self.text}\n"

    def wait(self, seconds: float) -> None:
        self.now += seconds
        while self._due and self._due[0] <= self.now:
            self._due.pop(0)
            self.text, self.kept = ("", self.text) if self.text else (self.kept, "")

    def until_free(self, limit_s: float = 10.0) -> float | None:
        """Seconds until a line may be typed, None when that is not within the limit."""
        began = self.now
        while self.now - began < limit_s:
            wait_s = self.aside.put("j1", PANE, STASH)
            if wait_s is None:
                return self.now - began
            self.wait(wait_s)
        return None


@pytest.mark.parametrize(
    ("box", "at_least", "at_most", "presses", "kept"),
    [
        (Box(), TAKEN_S, TAKEN_S + 0.2, 1, ""),
        (Box("half a thought"), 0.05, 0.3, 1, "half a thought"),
        (Box("half a thought", slow_s=1.2), 1.2, 1.4, 1, "half a thought"),
        (Box(kept="of the person's own"), 0, 0, 0, "of the person's own"),
    ],
    ids=["empty", "draft", "slow program", "put aside before"],
)
def test_a_line_is_typed_when_the_box_is_free(
    box: Box, at_least: float, at_most: float, presses: int, kept: str
) -> None:
    taken = box.until_free()
    assert taken is not None and at_least <= taken <= at_most
    assert (box.text, box.kept, box.presses) == ("", kept, presses)
    assert box.aside.restores("j1") is bool(kept)


def test_of_two_drafts_none_is_lost() -> None:
    box = Box("the second", kept="the first")
    assert box.until_free(60) is None
    assert (box.text, box.kept, box.presses) == ("the second", "the first", 0)
    assert box.until_free(FORGET_S + 60) is not None  # nobody's any more


def test_a_program_that_never_answers_gets_its_line_behind_the_key() -> None:
    box = Box("half a thought", slow_s=1000)
    taken = box.until_free()
    assert taken is not None and STALLED_S <= taken < STALLED_S + 0.5
    assert box.presses == 1 and box.aside.restores("j1")


def test_what_the_next_office_finds_put_aside_is_let_be() -> None:
    box = Box("half a thought")
    box.aside.put("j1", PANE, STASH)
    box.wait(1)
    box.aside = Aside(cast(Server, box), lambda pane: (2 + len(box.text), 0), lambda: box.now)
    assert box.until_free() == 0
    assert (box.kept, box.presses) == ("half a thought", 1)


@pytest.mark.parametrize("new", ["", "another"])
def test_a_draft_comes_back_when_no_line_is_needed_any_more(new: str) -> None:
    box = Box("half a thought")
    box.aside.put("j1", PANE, STASH)
    box.wait(1)
    box.text = new  # the person is back
    assert box.aside.is_open("j1")
    box.aside.give_back("j1", PANE, STASH)
    box.wait(1)
    assert (box.text, box.kept) == ((new, "half a thought") if new else ("half a thought", ""))
    assert not box.aside.is_open("j1")


def test_a_person_who_came_in_between_keeps_what_they_began() -> None:
    box = Box()
    box.aside.put("j1", PANE, STASH)
    box.wait(60)
    box.text = "begun meanwhile"
    assert box.until_free() is not None
    assert (box.text, box.kept, box.presses) == ("", "begun meanwhile", 2)


def test_what_a_model_says_is_no_mark() -> None:
    from org.agents.claude import CLAUDE

    assert CLAUDE.stash is not None
    box: Any = Box()
    box.capture = lambda pane: "  we had the draft stashed\n> "
    assert not box.aside._is_marked("%1", CLAUDE.stash)
    box.capture = lambda pane: " " * 40 + "draft stashed\n" + "-" * 60 + "\n> "
    assert box.aside._is_marked("%1", CLAUDE.stash)
