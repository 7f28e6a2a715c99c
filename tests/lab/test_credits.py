"""Leave-one-out, end to end: a passed stack's members are credited or leave the head, whoever is killed meanwhile."""

from __future__ import annotations

import json
import signal

import pytest
from waiting import wait_for
from whole import DISPATCH, age, assert_whole, dispatch_until, run

from org import charter as charters
from org import files
from org.evidence import stack
from org.lab import credits, dispatch, fidelity, gate, ledger, record, stacks
from org.lab.book import Book
from org.world import git

pytestmark = pytest.mark.slow  # each measures several stacks


def lines(book: Book, kind: str) -> list[dict]:
    return [row for row in book.rows if row.get("kind") == kind]


def is_settled(book: Book) -> bool:
    return bool(book.heads) and stack.owing(book.rows, "main") is None


@pytest.fixture
def stacked(tiny_home, make_seat, edit):
    """stacked(useful, useless): a stack of a large win and of one more edit that the test says won, filed."""

    def make(*edits: tuple[str, str]):
        filed = []
        for number, (old, new) in enumerate(edits):
            seat = make_seat(f"s{number}")
            edit(seat, old, new)
            filed.append(gate.submit(tiny_home, seat, f"edit {number}"))
        dispatch_until(tiny_home, lambda book: all(c.experiment in book.verdicts for c in filed))
        members = [c.experiment for c in filed]
        with gate.filing(tiny_home):
            book = ledger.Ledger(tiny_home)
            head, _ = record.program_head(tiny_home, "main")
            fit, tree = stacks._merge(tiny_home, book.refresh(), head, members)
            assert fit == members
            return members, stacks._file_verification(
                tiny_home, book, charters.load(tiny_home), "main", "human", fit, tree, "stack", 4
            )

    return make


GOOD = ("MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
ALSO_GOOD = ("WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5")
USELESS = ("SLEEP_S = 0.0", "SLEEP_S = 0.001")


def test_members_that_help_are_credited_and_stay(tiny_home, stacked) -> None:
    members, filed = stacked(GOOD, ALSO_GOOD)
    book = dispatch_until(tiny_home, is_settled)
    assert {row["member"]: row["outcome"] for row in lines(book, "credit")} == dict.fromkeys(members, "helps")
    for row in lines(book, "credit"):
        assert row["effect"] < 0 < row["z"] and row["se"] > 0
        assert set(row["runs"]) <= set(book.results)
    assert [row["commit"] for row in lines(book, "head")] == [filed.commit]
    removals = [r for r in book.results.values() if r.arm.startswith("ablation-")]
    assert {r.seed for r in removals} <= set(filed.seeds), (
        "the head's arm is the stack's own, nothing is run again for it"
    )
    assert all(r.experiment == filed.experiment and r.stage == "verify" for r in removals)
    ratio = credits.additivity(book, filed.experiment)
    assert ratio is not None and 0.7 < ratio < 1.3
    assert lines(book, "head")[0]["effect"] < 0
    assert fidelity.problems(tiny_home) == []


def test_a_member_whose_removal_does_not_hurt_leaves_the_head(tiny_home, stacked) -> None:
    (good, useless), filed = stacked(GOOD, USELESS)
    book = dispatch_until(tiny_home, is_settled)
    assert {row["member"]: row["outcome"] for row in lines(book, "credit")} == {useless: "inert", good: "helps"}
    first, last = lines(book, "head")
    assert (last["was"], last["removed"], last["members"]) == (filed.commit, [useless], [good])
    commit, tree = record.program_head(tiny_home, "main")
    assert (commit, tree) == (last["commit"], last["tree"]) and git.is_ancestor(tiny_home.record, filed.commit, commit)
    text = git.read_file(tiny_home.record, commit, "train.py") or b""
    assert b"MATRIX_LR = 0.04" in text and b"SLEEP_S = 0.0 " in text
    assert git.resolve(tiny_home.hub, "refs/heads/program/main/main") == commit
    assert abs(last["effect"]) <= abs(first["effect"])
    measured = [r for r in book.results.values() if r.tree == tree and r.is_ok]
    assert len(measured) >= 2, "a tree that no run measured is never a head"


def test_what_was_won_on_the_head_still_counts_when_a_member_left_it(tiny_home, stacked, make_seat, edit) -> None:
    stacked(GOOD, USELESS)
    dispatch_until(tiny_home, lambda book: book.heads)
    seat = make_seat("late")
    edit(seat, *ALSO_GOOD)
    late = gate.submit(tiny_home, seat, "on the head with both")
    book = dispatch_until(tiny_home, lambda book: is_settled(book) and late.experiment in book.verdicts)
    assert book.heads["main"]["removed"] and late.baseline_commit == book.heads["main"]["was"]
    again = stacks.stack(tiny_home, "main")
    assert again is not None and again.members == (late.experiment,)
    z = book.verdicts[late.experiment].z
    assert z >= 6.18 and len(again.seeds) == 4, "a claim alone: 8 + 8, unless it showed twice what it has to show again"
    assert again.baseline_commit == book.heads["main"]["commit"]


def test_no_member_leaves_under_a_verification_that_is_open(tiny_home, stacked) -> None:
    stacked(GOOD, USELESS)
    book = dispatch_until(tiny_home, lambda book: book.heads)
    head = book.heads["main"]["commit"]
    open_one = book.experiments[book.heads["main"]["experiment"]]
    name = "E0099"
    row = {**open_one.to_dict(), "experiment": name, "scale": open_one.scale, "seeds": [901], "baseline_commit": head}
    ledger.Ledger(tiny_home).append("experiment", f"experiment:{name}", row)
    dispatcher = dispatch.Dispatcher(tiny_home)
    owing = stack.owing(book.rows, "main")
    gone = stack.Credit("main", owing.experiment, owing.commit, owing.due[0], owing.tree, "inert", 0.0, 0.1, 0.0, head)
    assert dispatcher.credits._take_out(charters.load(tiny_home), owing, gone) == []


@pytest.mark.parametrize("point", ["credits.credit", "ledger.credit", "credits.head", "ledger.head:2"])
def test_a_dispatcher_killed_while_it_credits_writes_each_line_once(tiny_home, stacked, point) -> None:
    (good, useless), _ = stacked(GOOD, USELESS)
    assert run(DISPATCH, tiny_home, point=point) == -signal.SIGKILL
    book = dispatch_until(tiny_home, is_settled)
    told = [json.loads(line) for line in tiny_home.ledger.read_text().splitlines()]
    keys = [row["key"] for row in told]
    assert len(keys) == len(set(keys))
    assert sorted(row["member"] for row in lines(book, "credit")) == sorted([good, useless])
    assert [row.get("removed") for row in lines(book, "head")] == [None, [useless]]
    assert record.program_head(tiny_home, "main")[0] == book.heads["main"]["commit"]
    age(tiny_home)
    last = dispatch.Dispatcher(tiny_home)
    last.tick(allow_new=False)
    wait_for(lambda: not last.running(), what="the end of the runs")
    assert_whole(tiny_home)
    assert len({(r.tree, r.seed) for r in book.results.values() if r.status == "ok"}) == len(
        [r for r in book.results.values() if r.status == "ok"]
    )


def test_removals_wait_for_all_other_work_unless_a_win_waits_for_them(tiny_home, stacked, make_seat, edit) -> None:
    stacked(GOOD, USELESS)
    book = dispatch_until(tiny_home, lambda book: book.heads)
    dispatcher = dispatch.Dispatcher(tiny_home)
    charter = charters.load(tiny_home)

    def ranks() -> set[int]:
        settings = {"tiny": next(r.setting for r in book.results.values())}
        found, _ = dispatcher.credits.step(
            charter, settings, lambda c: dispatcher._next_step(dispatcher.ledger.refresh(), c, charter, settings)
        )
        return {want.order[0] for want in found if want.arm.startswith("ablation")}

    assert ranks() == {credits.IDLE}
    win = book.verdicts[book.experiments[book.heads["main"]["experiment"]].members[0]].to_dict()
    filed = {**book.experiments["E0001"].to_dict(), "experiment": "E0098", "tree": "another"}
    filed["baseline_commit"] = book.heads["main"]["commit"]
    writer = ledger.Ledger(tiny_home)
    writer.append("experiment", "experiment:E0098", filed)
    writer.append("verdict", "verdict:E0098", {**win, "experiment": "E0098", "outcome": "win", "tier": "tentative"})
    assert ranks() == {credits.WITH_VERIFICATION}
    assert files.read_json(tiny_home.run("E0098/candidate-s1") / "spec.json") is None
