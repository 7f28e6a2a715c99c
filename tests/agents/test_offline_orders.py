"""A person's order changes what the researchers without a network do next, is answered, and holds after a restart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pane import Pane
from test_offline import Org, changes, junior, org  # noqa: F401 - fixtures

from org import charter as charters
from org import files, strictyaml
from org.agents import offline_orders

TASK = "Work.\nKnobs: matrix_lr, warmdown_frac"


def answers(org: Org) -> list[str]:  # noqa: F811
    return [args[-1] for args in org.calls("send", "human") if "--reply-to" in args]


def order(org: Org, text: str, to: str = "j1", number: int = 1) -> None:  # noqa: F811
    """As the standup's review section sends it."""
    name = f"review-{number:012d}"
    row = {"id": name, "from": "human", "to": to, "kind": "task", "created": f"2026-01-02T00:00:{number:02d}Z"}
    files.replace(
        org.home.mailbox(to) / "new" / f"{name}.md", f"---\n{strictyaml.dump(row)}---\n{text}\n\n(From the review.)\n"
    )


@pytest.fixture
def at_work(org: Org, junior: Callable[[], Pane]) -> Pane:  # noqa: F811
    """j1 with both knobs, two experiments filed, waiting."""
    pane = junior()
    org.letter("j1", "task", TASK, "chief")
    pane.until(lambda: len(org.filed()) == 2)
    pane.until(lambda: org.events("j1")[-1] == "waiting")
    return pane


def judge_all(org: Org, pane: Pane, count: int) -> None:  # noqa: F811
    """Losses, one by one, until `count` are filed: room for what comes next."""
    while len(org.filed()) < count:
        row = next(row for row in org.filed() if row["verdict"] is None)
        there = len(org.filed())
        org.judge(row["experiment"], "loss", 0.02)
        pane.until(lambda there=there: len(org.filed()) > there)


@pytest.mark.slow  # two real programs in terminals
def test_a_knob_it_is_told_to_stop_is_left_alone_also_after_a_restart(org: Org, at_work: Pane) -> None:  # noqa: F811
    before = len(org.filed())
    order(org, "@j1 stop warmdown_frac")
    at_work.until(lambda: answers(org))
    assert "I leave warmdown_frac alone" in answers(org)[0] and "go on with matrix_lr" in answers(org)[0]
    judge_all(org, at_work, before + 2)
    assert {name for name, _ in changes(org)[before:]} == {"matrix_lr"}
    at_work.close()
    there = len(org.filed())
    again = org.open("j1")
    again.until("I leave warmdown_frac alone")
    judge_all(org, again, there + 2)
    assert {name for name, _ in changes(org)[there:]} == {"matrix_lr"}
    assert len(answers(org)) == 1


def test_try_is_what_comes_next_and_its_why_names_the_order(org: Org, at_work: Pane) -> None:  # noqa: F811
    order(org, "try matrix_lr=0.0777 please")
    at_work.until(lambda: answers(org))
    judge_all(org, at_work, 3)
    at_work.until(lambda: ("matrix_lr", 0.0777) in changes(org))
    row = next(row for row in org.filed() if row["knobs"][0]["new"] == 0.0777)
    assert "human asked for it in review-000000000001:" in row["description"]


@pytest.mark.slow  # a second and a half
def test_redirected_to_a_program_it_goes_there_and_turns_its_knobs(org: Org, at_work: Pane) -> None:  # noqa: F811
    before = len(org.filed())
    order(org, "j1: work on the schedule instead")
    at_work.until(lambda: ["seat", "j1", "--program", "schedule", "--json"] in org.calls("seat"))
    judge_all(org, at_work, before + 2)
    assert {name for name, _ in changes(org)[before:]} == {"warmdown_frac"}


@pytest.mark.slow  # a second and a half
def test_stopped_it_starts_nothing_until_it_is_told_to_go_on(org: Org, at_work: Pane) -> None:  # noqa: F811
    order(org, "@j1 stop")
    at_work.until(lambda: answers(org))
    before = len(org.filed())
    for row in org.filed():
        org.judge(row["experiment"], "loss", 0.02)
    at_work.until(lambda: org.events("j1")[-1] == "idle")
    assert len(org.filed()) == before
    order(org, "@j1 go on", number=2)
    at_work.until(lambda: len(org.filed()) > before)


@pytest.mark.slow  # a real program in a terminal
def test_an_order_that_is_not_signed_is_talk(org: Org, at_work: Pane) -> None:  # noqa: F811
    org.letter("j1", "task", "stop matrix_lr", verified=False)
    at_work.until("(unverified): stop matrix_lr")
    judge_all(org, at_work, 3)
    assert not answers(org)


@pytest.fixture
def led(org: Org) -> Pane:  # noqa: F811
    """A chief that has handed out its tasks to two juniors."""
    org.seat("chief", "chief")
    for name in ("j1", "j2"):
        org.seat(name, "junior")
    pane = org.open("chief")
    pane.until(lambda: len([a for a in org.calls("send") if "task" in a]) == 2)
    return pane


def sent(org: Org, to: str) -> list[str]:  # noqa: F811
    return [args[-1] for args in org.calls("send", to) if "task" in args]


@pytest.mark.slow  # a real program in a terminal
def test_the_chief_gives_an_order_about_a_knob_to_whose_knob_it_is(org: Org, led: Pane) -> None:  # noqa: F811
    owner = next(name for name in ("j1", "j2") if "Knobs: warmdown_frac" in sent(org, name)[0])
    order(org, "stop warmdown_frac", "chief")
    led.until(lambda: answers(org))
    assert answers(org) == [f"{owner} has it: warmdown_frac is theirs."]
    assert sent(org, owner)[-1].startswith("stop warmdown_frac\n") and "review-000000000001" in sent(org, owner)[-1]


@pytest.mark.slow  # a real program in a terminal
def test_the_chief_moves_somebody_has_a_win_verified_and_says_what_it_does_not_understand(
    org: Org,  # noqa: F811
    led: Pane,
) -> None:
    for number, text in enumerate(("focus on the schedule", "approve E0042", "hm"), 1):
        order(org, text, "chief", number)
    led.until(lambda: len(answers(org)) == 3)
    mover = next(name for name in ("j1", "j2") if len(sent(org, name)) == 2)
    assert answers(org) == [
        f"{mover} goes to schedule.",
        "I have E0042 verified on fresh seeds.",
        "I do not understand that: name a knob, a program, an idea, an experiment or a junior, and what to do.",
    ]
    assert (
        "Knobs: warmdown_frac" in sent(org, mover)[1]
        and "You move because the person ordered it" in sent(org, mover)[1]
    )
    assert org.calls("verify") == [["verify", "E0042", "--no-wait", "--json"]]


def test_a_task_with_knobs_and_words_that_ask_for_nothing_are_no_orders(tiny_home) -> None:
    charter = charters.load(tiny_home)
    for body in (TASK, "stop\nKnobs: matrix_lr", "", "\n", "hello there", "why?"):
        assert offline_orders.read({"id": "x", "from": "human", "body": body}, charter, ["j1"]) is None
    read = offline_orders.read({"id": "x", "from": "human", "body": "@j1 try matrix_lr=0.05"}, charter, ["j1"])
    assert read is not None and [(k.name, v) for k, v in read.settings] == [("matrix_lr", 0.05)]


@pytest.mark.slow  # a real program in a terminal
def test_what_a_person_types_and_where_they_interrupt_is_in_the_events(org: Org, at_work: Pane) -> None:  # noqa: F811
    at_work.type("STOP THAT\n")
    at_work.until(lambda: "typed" in org.events("j1"))
    at_work.type("\x03")
    at_work.until(lambda: "interrupted" in org.events("j1"))
    rows = files.read_lines(org.home.seat_events("j1"))[0]
    assert [(row["text"], row["by"]) for row in rows if row["event"] == "typed"] == [("STOP THAT", "person")]
