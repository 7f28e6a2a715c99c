"""What is said of a letter follows from facts: where it lies, what the doorbell noted, what the seat does, whether an office runs."""

import json
import os
import threading
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postbox import take
from test_mail import make_home

from org import files
from org.agents import base
from org.home import Home
from org.team import boxes, delivery, mail
from org.team.delivery import Delivery, Facts, decide, of_all

TYPED = Facts("j1", "new", has_office=True, backend="claude", state="ready")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


@pytest.mark.parametrize(
    ("facts", "word", "reason"),
    [
        (replace(TYPED, place="cur"), "processed", "j1 read it"),
        (replace(TYPED, place="archive"), "processed", "j1 read it"),
        (replace(TYPED, place=None), "refused", "no folder of j1"),
        (TYPED, "queued", "the office rings for j1 next"),
        (replace(TYPED, told="typed"), "queued", "typed to j1 and is not confirmed yet"),
        (replace(TYPED, told="accepted"), "accepted", "took the line"),
        (replace(TYPED, told="accepted", has_office=False), "accepted", "took the line"),
        (replace(TYPED, has_office=False, told="typed"), "queued", "no office runs"),
        (replace(TYPED, state="held"), "queued", "j1 is held"),
        (replace(TYPED, state="asking"), "queued", "at a question or a dialog"),
        (replace(TYPED, state="limited"), "queued", "rate limit"),
        (replace(TYPED, state="gone"), "queued", "is gone"),
        (replace(TYPED, quiet="a person typed there 3 s ago"), "queued", "a person typed there 3 s ago"),
        (replace(TYPED, quiet="evil\n\x1b[2J"), "queued", "evil"),
        (replace(TYPED, is_member=False), "queued", "in no roster"),
        (replace(TYPED, backend="person"), "queued", "`org --seat j1 inbox`"),
        (replace(TYPED, backend="offline"), "accepted", r"watches its own mailbox and lives \(ready\)"),
        (replace(TYPED, backend="offline", quiet="a person typed there"), "accepted", "watches its own mailbox"),
        (replace(TYPED, backend="offline", state="gone"), "queued", "is gone"),
        (replace(TYPED, backend="offline", state=None), "queued", "was not seen yet"),
        (replace(TYPED, backend="offline", state="held"), "accepted", r"lives \(held\)"),
        (replace(TYPED, backend="offline", state="stuck"), "queued", "reads its mailbox when it moves"),
        (replace(TYPED, backend="offline", has_office=False), "queued", "reads its mailbox itself, if it lives"),
        (replace(TYPED, state="stuck"), "queued", "the office rings for it all the same"),
        (replace(TYPED, state="stuck", told="typed"), "queued", "is not confirmed yet"),
        (replace(TYPED, state="gone", told="accepted"), "queued", "started it again"),
        (
            replace(TYPED, state="gone", ended="stopped", quiet="its program ended"),
            "queued",
            "`org launch` has started",
        ),
        (replace(TYPED, state="gone", ended="gave_up", told="accepted"), "queued", "`org attach j1` shows why"),
        (replace(TYPED, backend="offline", state="gone", ended="stopped"), "queued", "was stopped"),
        (Facts("human", "new"), "queued", "lies in your box"),
        (Facts("human", "cur"), "processed", "the person read it"),
        (Facts("council", "new", True, False, is_process=True), "queued", "the office asks its members next"),
        (Facts("council", "new", False, False, is_process=True), "queued", "no office runs to ask its members"),
        (Facts("council", "cur", is_process=True), "processed", "the office asks its members"),
    ],
)
def test_what_is_said(facts, word, reason):
    import re

    said = decide(facts)
    assert said.word == word and re.search(reason, said.reason), said
    assert "\n" not in said.reason and "\x1b" not in said.reason


def test_it_says_something_of_everything():
    places = ("new", "cur", "archive", None)
    states = (*delivery.WHY, "ready", "working", "waiting-for-run", "person", "nonsense", None)
    for place, has_office, is_member, backend, state, quiet, told, ended in product(
        places, (True, False), (True, False), ("claude", "offline", "person", ""), states, (None, "a draft"),
        (None, "typed", "accepted"), (None, *delivery.ENDED),
    ):  # fmt: skip
        said = decide(Facts("j1", place, has_office, is_member, backend, state, quiet, told, ended))
        assert said.reason and (said.word == "processed") == (place in ("cur", "archive"))
        assert (said.word == "refused") == (place is None)
        if said.word == "queued" and ended and is_member and backend != "person":
            assert "`org launch`" in said.reason and "the office" not in said.reason
        if not has_office:
            assert "the office" not in said.reason, "there is none that could do it"
        if backend == "offline" and told is None:
            assert "is told" not in said.reason and " rings " not in said.reason, "nobody rings for it"


def test_one_answer_for_all_is_the_least_of_them():
    rows = [Delivery("j1", "processed", "j1 read it"), Delivery("j2", "queued", "j2 is held")]
    assert (of_all(rows).word, of_all(rows).reason) == ("queued", "1 processed, 1 queued; j2 is held")
    assert of_all(rows[:1]) == rows[0]
    assert (of_all([]).word, of_all([]).reason) == ("refused", "nobody else is there")


def test_programs_that_watch_their_own_mailbox_are_those_of_the_agents():
    more = {"cmd": "cmd:true", **{name: f"{name}:some-model" for name in base.OVER_API}}
    own = [name for name in base.KNOWN if base.backend(more.get(name, name)).doorbell == "self"]
    assert tuple(own) == delivery.WATCHES_ITSELF


@pytest.mark.parametrize(
    ("bell", "said"),
    [
        ({"letters": {"l-1": {"told": "accepted", "at": 1, "times": 1}}, "line": None}, "accepted"),
        ({"letters": {"l-1": {"told": "typed"}}}, "typed"),
        ({"letters": {"l-1": {"told": 7}}}, None),
        ({"letters": {"l-2": {"told": "typed"}}}, None),
        ({"letters": ["l-1"], "at": 1.0, "times": 2}, None),
        ({"letters": ["l-2"]}, None),
        ({"letters": 3}, None),
        ({}, None),
    ],
)
def test_the_doorbells_notes_in_either_form(bell, said):
    assert delivery.told(bell, "l-1") == said


@settings(max_examples=20, deadline=None)  # a home each
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["letters", "l-1", "told", "state", "quiet", "backend"]), inner, max_size=4
            )
        ),
    )
)
def test_whatever_stands_in_the_notes_an_answer_comes(tmp_path_factory, value):  # fmt: skip
    home = make_home(tmp_path_factory.mktemp("home"))
    [sent] = mail.send(home, "human", "j1", "hello")
    for path in (home.bell("j1"), home.seat_state("j1")):
        path.write_text(json.dumps(value))
    [said] = delivery.look(home, sent.id, ["j1"])
    assert said.word == "queued" and said.reason


def test_it_is_read_from_the_files(home):
    [sent] = mail.send(home, "human", "j1", "hello")
    row = json.loads(home.seat_file("j1").read_text())
    files.replace_json(home.seat_file("j1"), {**row, "backend": "claude"})

    def said() -> tuple[str, str]:
        [one] = delivery.look(home, sent.id, ["j1"])
        return one.word, one.reason

    assert said() == ("queued", "no office runs to tell j1; `org launch` starts one")
    office = files.try_lock(home.office_lock)
    try:
        files.replace_json(home.seat_state("j1"), {"state": "ready", "quiet": "the pane is in copy mode"})
        assert said() == ("queued", "nothing is typed to j1 now: the pane is in copy mode")
        files.replace_json(home.bell("j1"), {"letters": {sent.id: {"told": "accepted", "at": 1, "times": 1}}})
        assert said()[0] == "accepted"
        files.replace(home.bell("j1"), b"\xff{")
        files.replace(home.seat_state("j1"), "[" * 100_000)
        assert said() == ("queued", "the office rings for j1 next")
        files.replace_json(home.seat_pane("j1"), {"started": None, "restarts": [], "stopped": files.utc_now()})
        assert said() == ("queued", "j1 was stopped; it reads when `org launch` has started it again")
        take(home, "j1")
        assert said() == ("processed", "j1 read it")
    finally:
        os.close(office)


def test_it_waits_for_every_box_and_answers_truthfully_when_the_time_is_up(home):
    [first, second] = mail.send(home, "human", "junior", "hello")
    take(home, "j1")
    began = time.monotonic()
    rows = delivery.follow(home, first.id, [first.to, second.to], 1.5)
    assert [row.word for row in rows] == ["processed", "queued"]
    assert time.monotonic() - began >= 1.5
    threading.Timer(0.2, lambda: take(home, "j2")).start()
    began = time.monotonic()
    assert of_all(delivery.follow(home, first.id, ["j1", "j2"], 60)).word == "processed"
    assert time.monotonic() - began < 30


def test_who_waits_looks_at_a_box_when_it_changes_and_not_forty_times_a_second(home, monkeypatch):
    [sent] = mail.send(home, "human", "j1", "hello")
    looks = []
    monkeypatch.setattr(boxes, "place", lambda *a, place=boxes.place: looks.append(a) or place(*a))
    assert [row.word for row in delivery.follow(home, sent.id, ["j1"], 1.5)] == ["queued"]
    assert len(looks) < 8


def test_asking_costs_little(home):
    [sent] = mail.send(home, "human", "j1", "hello")
    best = min(_timed(lambda: delivery.look(home, sent.id, ["j1"])) for _ in range(30))
    assert best < 0.01


def _timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
