"""What a program's head and its candidate branch are made of, and what may move them. Real runs, where verdicts matter."""

from __future__ import annotations

import pytest

from org import charter as charters
from org.cli import main
from org.errors import BadInput
from org.lab import dispatch, fidelity, follow, gate, ledger, record, stacks
from org.records import Contract
from org.world import git

GOOD = ("MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
ALSO_GOOD = ("WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5")
RUNGS = "  tiny: {steps: 10, bank: 3, deadline_s: 30}\n"
LOOP = "for _ in range(1):\n    first = 1\n    # a line\n    # and another\n    # between them\n    second = 2\n"


def drive(home, contract):
    return follow.drive(home, contract.experiment, lambda line: None, poll_s=0.03)


def filed(home, make_seat, edit, *changes: tuple[str, str], name: str = "me", **more) -> Contract:
    seat = make_seat(name)
    for change in changes:
        edit(seat, *change)
    return gate.submit(home, seat, f"{name} tries", **more)


def said(home, contract: Contract, outcome: str = "win", tier: str | None = "tentative", effect: float = -0.05) -> None:
    """A verdict that the test writes: what follows from it is looked at here, not how it came about."""
    row = {"experiment": contract.experiment, "outcome": outcome, "tier": tier, "claim": contract.claim}
    row |= {"effect": effect, "se": 0.01, "z": 5.0, "n": 2, "matched_on": "tokens", "trust": "reported"}
    row |= {"reasons": ["said so"], "runs": []}
    ledger.Ledger(home).append("verdict", f"verdict:{contract.experiment}", row)


def candidate(home) -> bytes:
    return git.read_file(home.record, record.candidate_ref("main"), "train.py") or b""


@pytest.mark.slow  # several experiments, run for real
def test_wins_whose_merge_does_not_parse_are_not_put_together(tiny_home, make_seat, edit) -> None:
    home = tiny_home
    path = home.root / "code" / "train.py"
    path.write_text(path.read_text().replace("started =", f"{LOOP}\nstarted ="))
    one = filed(home, make_seat, edit, ("    first = 1\n", ""), name="one")
    two = filed(home, make_seat, edit, ("    second = 2\n", ""), name="two")
    said(home, one, effect=-0.09)
    said(home, two)
    dispatcher = dispatch.Dispatcher(home)
    lines = dispatcher.tick(allow_new=False)
    assert f"{two.experiment} does not merge with the other wins of main" in lines
    assert b"second = 2" in candidate(home) and b"first = 1" not in candidate(home)
    stack = stacks.stack(home, "main")
    assert stack is not None and stack.members == (one.experiment,)


@pytest.mark.slow  # several experiments, run for real
def test_a_knob_is_not_turned_by_name_in_a_text_that_does_not_parse(tiny_home, make_seat, edit) -> None:
    contract = filed(tiny_home, make_seat, edit, GOOD)
    broken = git.tree_with(tiny_home.record, contract.baseline_tree, {"train.py": b"MATRIX_LR = 0.02\nfor x in y:\n"})
    assert stacks.turn(tiny_home, broken, contract) is None


@pytest.mark.slow  # several experiments, run for real
def test_what_a_failed_verification_dropped_leaves_the_candidate(tiny_home, make_seat, edit) -> None:
    home = tiny_home
    contract = filed(home, make_seat, edit, GOOD)
    said(home, contract)
    dispatcher = dispatch.Dispatcher(home)
    dispatcher.tick(allow_new=False)
    assert b"MATRIX_LR = 0.04" in candidate(home)
    test = stacks.verify(home, contract.experiment)
    said(home, test, "null", None)
    dispatcher.tick(allow_new=False)
    assert b"MATRIX_LR = 0.02" in candidate(home)
    assert git.read_file(home.hub, record.candidate_ref("main"), "train.py") == candidate(home)


@pytest.mark.slow  # several experiments, run for real
def test_a_candidate_that_could_not_be_made_is_made_again(tiny_home, make_seat, edit, monkeypatch) -> None:
    home = tiny_home
    said(home, filed(home, make_seat, edit, GOOD))
    dispatcher = dispatch.Dispatcher(home)

    def broken(*_: object) -> None:
        raise git.RefMoved("somebody moved it")

    with monkeypatch.context() as patch:
        patch.setattr(stacks, "rebuild_candidate", broken)
        with pytest.raises(git.RefMoved):
            dispatcher.tick(allow_new=False)
    dispatcher.tick(allow_new=False)
    assert b"MATRIX_LR = 0.04" in candidate(home)


def test_one_verification_at_a_time_on_a_head(tiny_home, make_seat, edit) -> None:
    home = tiny_home
    one, two = filed(home, make_seat, edit, GOOD), filed(home, make_seat, edit, ALSO_GOOD, name="you")
    other = filed(home, lambda name: make_seat(name, "other"), edit, (GOOD[0], "MATRIX_LR = 0.03"), name="third")
    for contract in (one, two, other):
        said(home, contract)
    test = stacks.verify(home, one.experiment)
    with pytest.raises(BadInput, match=f"{test.experiment} is being verified on the head of main"):
        stacks.verify(home, two.experiment)
    with pytest.raises(BadInput, match=f"{test.experiment} is being verified on the head of other"):  # it is one head
        stacks.verify(home, other.experiment)
    said(home, test, "win", "verified")
    dispatch.Dispatcher(home).tick(allow_new=False)
    again = stacks.verify(home, two.experiment)
    assert again.baseline_commit == test.commit == record.program_head(home, "main")[0]


@pytest.mark.slow  # several experiments, run for real
def test_a_win_verified_on_a_former_head_is_said_to_move_none(tiny_home, make_seat, edit) -> None:
    home = tiny_home
    one, two = filed(home, make_seat, edit, GOOD), filed(home, make_seat, edit, ALSO_GOOD, name="you")
    said(home, one)
    said(home, two)
    first = stacks.verify(home, one.experiment)
    second = filed_beside(home, two)
    dispatcher = dispatch.Dispatcher(home)
    dispatcher.tick(allow_new=False)
    said(home, first, "win", "verified")
    said(home, second, "win", "verified")
    told = dispatcher.tick(allow_new=False)
    line = f"head of main stays: {second.experiment} was verified on a former one; file its change again"
    assert line in told and line not in dispatcher.tick(allow_new=False)
    assert line not in dispatch.Dispatcher(home).tick(allow_new=False), "said once"
    assert record.program_head(home, "main")[0] == first.commit


def filed_beside(home, win: Contract) -> Contract:
    """A second verification on one head, which `org verify` refuses."""
    with gate.filing(home):
        writer = ledger.Ledger(home)
        head = record.program_head(home, "main")[0]
        members, tree = stacks._merge(home, writer.refresh(), head, [win.experiment])
        charter = charters.load(home)
        return stacks._file_verification(home, writer, charter, "main", "human", members, tree, "beside", 8)


@pytest.mark.slow  # several experiments, run for real
@pytest.mark.parametrize("back", [True, False], ids=["set back", "set elsewhere"])
def test_a_head_that_another_hand_moved_is_not_built_upon(tiny_home, make_seat, edit, back) -> None:
    home = tiny_home
    one, two = filed(home, make_seat, edit, GOOD), filed(home, make_seat, edit, ALSO_GOOD, name="you")
    said(home, one)
    said(home, two)
    base, tree = record.program_head(home, "main")
    ref = record.main_ref("main")
    first = stacks.verify(home, one.experiment)
    dispatcher = dispatch.Dispatcher(home)
    if back:  # to the base, on which the second is then measured
        said(home, first, "win", "verified")
        dispatcher.tick(allow_new=False)
        git.update_ref(home.record, ref, base)
        test, moved = stacks.verify(home, two.experiment), base
    else:
        test, moved = first, git.commit(home.record, tree, [base], "mine")
        git.update_ref(home.record, ref, moved)
    said(home, test, "win", "verified")
    heads = [row for row in ledger.read(home).rows if row["kind"] == "head"]
    [line] = [text for text in dispatcher.tick(allow_new=False) if "does not move to" in text]
    assert test.experiment in line and "org results --check" in line
    assert [row for row in ledger.read(home).rows if row["kind"] == "head"] == heads
    assert record.program_head(home, "main")[0] == moved
    assert dispatcher.tick(allow_new=False) == [], "said once"
    git.update_ref(home.record, ref, first.commit if back else base)
    dispatcher.tick(allow_new=False)
    assert record.program_head(home, "main")[0] == first.commit
    assert fidelity.problems(home) == []


@pytest.mark.slow  # several experiments, run for real
def test_a_win_that_is_passed_over_is_named_with_the_reason(tiny_home, make_seat, edit, capsys) -> None:
    home = tiny_home
    one, two = filed(home, make_seat, edit, GOOD), filed(home, make_seat, edit, ALSO_GOOD, name="you")

    def answer() -> list[str]:
        capsys.readouterr()
        assert main.call(["--home", str(home.root), "stack", "main", "--no-wait"]) == 0
        return capsys.readouterr().out.splitlines()

    assert answer() == ["nothing to verify in main: no tentative win that is not in its head"]
    said(home, one)
    test = stacks.verify(home, one.experiment)
    said(home, two)
    assert sorted(answer()) == [
        f"  {one.experiment} is being measured in {test.experiment}",
        f"  {two.experiment} waits until {test.experiment} is measured",
        "nothing to verify in main",
    ]
    said(home, test, "win", "verified")
    dispatch.Dispatcher(home).tick(allow_new=False)
    how = f"`org verify {two.experiment}`, or file it again on this one"
    assert answer() == ["nothing to verify in main", f"  {two.experiment} was measured on an earlier head; {how}"]


@pytest.fixture
def two_scales(tiny_home):
    text = tiny_home.charter.read_text()
    tiny_home.charter.write_text(text.replace(RUNGS, RUNGS + "  demo: {steps: 20, bank: 3, deadline_s: 30}\n"))
    return tiny_home


@pytest.mark.slow  # measures an experiment and its verification
def test_a_win_at_another_scale_joins_no_stack_and_moves_no_head(two_scales, make_seat, edit) -> None:
    home = two_scales
    here = filed(home, make_seat, edit, ALSO_GOOD, name="you")
    there = filed(home, make_seat, edit, GOOD, scale="demo")
    said(home, here)
    said(home, there, effect=-0.09)
    base = record.program_head(home, "main")
    dispatch.Dispatcher(home).tick(allow_new=False)
    assert b"MATRIX_LR = 0.02" in candidate(home) and b"WARMDOWN_FRAC = 0.5" in candidate(home)
    test = stacks.verify(home, there.experiment)
    assert (test.scale, test.notices) == ("demo", ("this moves no head: heads move at tiny",))
    verdict = drive(home, test)
    assert (verdict.outcome, verdict.tier) == ("win", "verified")
    follow.settle(home)
    assert record.program_head(home, "main") == base and "main" not in ledger.read(home).heads
    stack = stacks.stack(home, "main")
    assert stack is not None and (stack.members, stack.scale) == ((here.experiment,), "tiny")


@pytest.mark.slow  # several experiments, run for real
def test_a_scale_that_is_the_charters_no_more_moves_no_head(two_scales, make_seat, edit) -> None:
    home = two_scales
    contract = filed(home, make_seat, edit, GOOD)
    said(home, contract)
    said(home, stacks.verify(home, contract.experiment), "win", "verified")
    home.charter.write_text(home.charter.read_text().replace("scale: tiny", "scale: demo"))
    before = record.program_head(home, "main")
    dispatch.Dispatcher(home).tick(allow_new=False)
    assert record.program_head(home, "main") == before
