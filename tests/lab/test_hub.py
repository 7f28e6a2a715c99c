"""The hub, where agents write, broken in every way that is cheap to do: seats may wait, the org does not."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from org import charter as charters
from org.errors import Busy, OrgError
from org.lab import dispatch, follow, gate, record
from org.world import git, gitcall


def moved(home) -> str:
    """A head that the hub has not got yet."""
    head, tree = record.program_head(home, "main")
    news = git.commit(home.record, tree, [head], "news")
    git.update_ref(home.record, record.main_ref("main"), news, head)
    return news


def at(home, ref: str = record.main_ref("main")) -> str | None:
    return git.resolve(home.hub, ref)


def publishes_again(dispatcher: dispatch.Dispatcher) -> list[str]:
    dispatcher._publish_again = 0.0  # the while that it waits has passed
    return dispatcher.tick(allow_new=False)


@pytest.mark.slow  # waits for a lock
def test_a_hub_that_an_agent_holds_is_one_line_and_no_wait(tiny_home, make_seat) -> None:
    make_seat()
    news = moved(tiny_home)
    holder = os.open(tiny_home.hub / "org.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)
    dispatcher = dispatch.Dispatcher(tiny_home)
    start = time.monotonic()
    [line] = dispatcher.tick(allow_new=False)
    assert "takes no branches" in line and "org.lock is held by another process" in line
    assert dispatcher.tick(allow_new=False) == []
    assert time.monotonic() - start < 3 * dispatch.PUBLISH_LOCK_S + 2
    assert publishes_again(dispatcher) == [], "said once"
    with pytest.raises(Busy, match=r"org\.lock"):
        record.publish(tiny_home, lock_s=0.1)
    os.close(holder)
    assert publishes_again(dispatcher) == [] and at(tiny_home) == news


def test_a_publishing_that_failed_is_tried_again_without_news(tiny_home, make_seat, monkeypatch) -> None:
    make_seat()
    dispatcher = dispatch.Dispatcher(tiny_home)
    news = moved(tiny_home)

    def broken(*_: object, **__: object) -> None:
        raise gitcall.GitError("the disk was full")

    with monkeypatch.context() as patch:
        patch.setattr(git, "fetch", broken)
        [line] = dispatcher.tick(allow_new=False)
        assert "the disk was full" in line
    assert dispatcher.tick(allow_new=False) == [] and at(tiny_home) != news, "not at once"
    assert publishes_again(dispatcher) == [] and at(tiny_home) == news


@pytest.mark.parametrize("name", ["program/main/candidate/mine", "program/main/main/mine", "base/mine"])
def test_a_branch_in_the_way_is_named_and_the_others_go(tiny_home, make_seat, edit, name) -> None:
    make_seat()
    base = at(tiny_home, record.BASE)
    git.update_ref(tiny_home.record, record.candidate_ref("main"), base)
    blocked = f"refs/heads/{name.removesuffix('/mine')}"
    git.delete_ref(tiny_home.hub, blocked)
    git.update_ref(tiny_home.hub, f"refs/heads/{name}", base)
    git.update_ref(tiny_home.record, record.main_ref("other"), base)
    news = moved(tiny_home)
    how = f"update-ref -d refs/heads/{name}"
    with pytest.raises(OrgError, match=how):
        record.publish(tiny_home)
    assert at(tiny_home, record.main_ref("other")) == base
    if blocked == record.main_ref("main"):
        with pytest.raises(OrgError, match=how):
            record.ensure_program(tiny_home, "main")
    else:
        assert record.ensure_program(tiny_home, "main") == news == at(tiny_home), "what a seat needs is there"
    git.delete_ref(tiny_home.hub, f"refs/heads/{name}")
    record.publish(tiny_home)
    assert at(tiny_home, blocked) is not None


@pytest.mark.slow
@pytest.mark.parametrize("what", ["file", "file in the way", "nothing"])
def test_what_is_no_repository_where_the_hub_was_stops_no_run(tiny_home, make_seat, edit, what) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(tiny_home, seat, "why")
    shutil.rmtree(tiny_home.hub)
    if what == "file":
        tiny_home.hub.write_text("mine\n")
    elif what == "file in the way":
        shutil.rmtree(tiny_home.worktrees)
        tiny_home.worktrees.write_text("mine\n")
    verdict = follow.drive(tiny_home, contract.experiment, lambda line: None, poll_s=0.03)
    assert verdict.outcome == "win"
    lines = dispatch.Dispatcher(tiny_home).tick(allow_new=False)
    if what == "nothing":
        assert lines == [] and at(tiny_home) == record.program_head(tiny_home, "main")[0]
        return
    [line] = lines
    assert "takes no branches" in line and "move what is there away" in line and "\n" not in line
    for verb in (lambda: record.ensure_program(tiny_home, "main"), lambda: record.publish(tiny_home)):
        with pytest.raises(OrgError, match="move what is there away"):
            verb()


@pytest.mark.parametrize("gone", ["record", "base"])
def test_a_record_that_is_gone_is_not_begun_again(tiny_home, make_seat, edit, gone) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    gate.submit(tiny_home, seat, "why")
    kept = tiny_home.record.with_name("kept.git")
    shutil.copytree(tiny_home.record, kept)
    if gone == "record":
        shutil.rmtree(tiny_home.record)
    else:
        git.delete_ref(tiny_home.record, record.BASE)
    for verb in (
        lambda: record.ensure_record(tiny_home, charters.load(tiny_home)),
        lambda: dispatch.Dispatcher(tiny_home).tick(),
        lambda: record.ensure_program(tiny_home, "main"),
    ):
        with pytest.raises(OrgError, match="is gone, and the ledger rests on it"):
            verb()
    assert gone == "base" or not Path(tiny_home.record).exists(), "nothing was made"
    shutil.rmtree(tiny_home.record, ignore_errors=True)
    kept.rename(tiny_home.record)
    assert record.ensure_record(tiny_home, charters.load(tiny_home))
