"""Programs that stand on one head share their stacks and move together, forwards and back. Real git; verdicts are written."""

from __future__ import annotations

import signal

import pytest
from test_heads import ALSO_GOOD, GOOD, filed, said
from whole import run

from org.evidence import stack as stacking
from org.lab import dispatch, fidelity, ledger, promotions, record, stacks
from org.world import git

TICK = "from org.lab import dispatch; dispatch.Dispatcher(home).tick(allow_new=False)"


@pytest.fixture
def verified(tiny_home, make_seat, edit):
    """Two programs, a tentative win each, one stack of both that holds; no head has moved yet."""
    one = filed(tiny_home, make_seat, edit, GOOD)
    two = filed(tiny_home, lambda name: make_seat(name, "other"), edit, ALSO_GOOD, name="you")
    said(tiny_home, one, effect=-0.09)
    said(tiny_home, two)
    stack = stacks.stack(tiny_home, "other")
    assert stack is not None and stack.members == (one.experiment, two.experiment) and stack.program == "other"
    assert stacks.stack(tiny_home, "main") is None, "one at a time on a head, whoever asks"
    said(tiny_home, stack, "win", "verified")
    return stack


def tick(home) -> list[str]:
    return dispatch.Dispatcher(home).tick(allow_new=False)


def headless(home) -> list[str]:
    """What `org results --check` says of heads; verdicts that a test wrote rest on no runs."""
    return [str(problem) for problem in fidelity.problems(home) if "head of" in str(problem)]


def heads(home, *programs: str) -> set[str]:
    """Where these programs stand, by the record, the ledger and the page that seats read."""
    book = ledger.read(home)
    found = {record.program_head(home, name)[0] for name in programs}
    found |= {str(book.heads.get(name, {}).get("commit") or git.resolve(home.record, record.BASE)) for name in programs}
    return found | {home.program(name).read_text().split("head: ")[1].strip() for name in programs}


def test_what_one_stack_verified_is_where_every_program_on_that_head_goes_on(tiny_home, make_seat, verified) -> None:
    news = tick(tiny_home)
    assert f"head of main goes with other to {verified.commit[:7]}" in news
    assert heads(tiny_home, "main", "other") == {verified.commit}
    book = ledger.read(tiny_home)
    assert stacking.owing(book.moves, "main") is None, "what other's stack brought is other's to credit"
    owing = stacking.owing(book.moves, "other")
    assert owing is not None and set(owing.due) == set(verified.members)
    make_seat("new", "third")
    tick(tiny_home)
    assert heads(tiny_home, "third") == {verified.commit}, "who comes later begins where the others stand"
    assert tick(tiny_home) == [] and headless(tiny_home) == []


def test_what_is_taken_back_is_taken_back_from_all_and_they_do_not_go_forward_again(tiny_home, verified) -> None:
    base = git.resolve(tiny_home.record, record.BASE)
    tick(tiny_home)
    lines = ledger.Ledger(tiny_home)
    lines.refresh()
    promotions.take_back(tiny_home, lines, verified, verified.experiment, "a test says so")
    for _ in range(2):
        tick(tiny_home)
        assert heads(tiny_home, "main", "other") == {base}
    assert headless(tiny_home) == []


@pytest.mark.parametrize("point", ["gate.head", "ledger.head", "together.head", "ledger.head:2"])
def test_a_dispatcher_killed_between_two_programs_ends_in_the_same_place(tiny_home, verified, point) -> None:
    assert run(TICK, tiny_home, point=point) == -signal.SIGKILL
    assert headless(tiny_home) == []
    tick(tiny_home)
    tick(tiny_home)
    assert heads(tiny_home, "main", "other") == {verified.commit}
    lines = [row for row in ledger.read(tiny_home).moves if row["kind"] == "head"]
    assert [(row["program"], row.get("follows")) for row in lines] == [("other", None), ("main", "other")]


def test_a_program_that_another_hand_moved_goes_its_own_way(tiny_home, verified) -> None:
    ref, base = record.main_ref("main"), git.resolve(tiny_home.record, record.BASE)
    own = git.commit(tiny_home.record, git.tree_of(tiny_home.record, base), [base], "by hand")
    git.update_ref(tiny_home.record, ref, own, base)
    news = tick(tiny_home)
    assert any(line.startswith("the head of main does not follow that of other") for line in news)
    assert git.resolve(tiny_home.record, ref) == own
    assert record.program_head(tiny_home, "other")[0] == verified.commit


def test_a_charter_can_keep_programs_apart(tiny_home, make_seat, edit) -> None:
    path = tiny_home.charter
    path.write_text(f"{path.read_text()}\nheads: apart\n")
    one = filed(tiny_home, make_seat, edit, GOOD)
    two = filed(tiny_home, lambda name: make_seat(name, "other"), edit, ALSO_GOOD, name="you")
    said(tiny_home, one)
    said(tiny_home, two)
    first, second = stacks.stack(tiny_home, "main"), stacks.stack(tiny_home, "other")
    assert first is not None and second is not None
    assert (first.members, second.members) == ((one.experiment,), (two.experiment,))
    said(tiny_home, first, "win", "verified")
    tick(tiny_home)
    assert heads(tiny_home, "main") == {first.commit}
    assert heads(tiny_home, "other") == {git.resolve(tiny_home.record, record.BASE)}
