"""Worktrees of the hub: made in parallel, mended, filled from the record; and a hub that is hostile."""

import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from repos import ENV, commit_of, read, sh
from waiting import wait_for

from org.world import folders, git, gitcall, worktrees

# --- worktrees ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(folder):
    """A hub with one commit on main, beside the record it came from."""
    record, hub = folder / "record.git", folder / "hub.git"
    git.init_bare(record)
    git.init_bare(hub, precious=True)
    git.update_ref(
        record, "refs/heads/main", commit_of(record, {"nanochat/train.py": b"x = 1\n", "run": (b"", "100755")})
    )
    git.fetch(hub, record, ["+refs/heads/main:refs/heads/main"])
    return hub


def lay_in(hub, worktree):
    git.lay_out(worktree, git.contents(hub.parent / "record.git", "refs/heads/main"), overwrite=True)
    worktrees.fill_index(worktree)


def test_a_worktree_filled_from_the_record_is_clean(hub):
    seat = hub.parent / "seat one"
    worktrees.add(hub, seat, "program/x/j1", "refs/heads/main")
    lay_in(hub, seat)
    assert sh("git", "status", "--porcelain", cwd=seat) == ""
    assert sh("git", "branch", "--show-current", cwd=seat).strip() == "program/x/j1"
    assert [(tree.path, tree.branch) for tree in worktrees.list_worktrees(hub)] == [(seat, "program/x/j1")]
    (seat / "nanochat/train.py").write_text("x = 2\n")
    sh("git", "commit", "-qam", "try", cwd=seat)
    assert git.resolve(hub, "program/x/j1") == git.head_commit(seat)


def test_sixteen_worktrees_are_added_at_once(hub):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: worktrees.add(hub, hub.parent / f"w{n}", f"program/x/w{n}", "main"), range(16)))
    assert {tree.branch for tree in worktrees.list_worktrees(hub)} == {f"program/x/w{n}" for n in range(16)}
    assert sh("git", "fsck", "--connectivity-only", cwd=hub) == ""


def test_adding_a_worktree_again_changes_nothing(hub):
    seat = hub.parent / "j1"
    worktrees.add(hub, seat, "b", "main")
    (seat / "draft").write_text("work")
    worktrees.add(hub, seat, "b", "main")
    assert (seat / "draft").read_text() == "work"
    with pytest.raises(gitcall.GitError, match="branch b"):
        worktrees.add(hub, seat, "other", "main")


def test_a_fetch_goes_on_where_a_worktree_was_left_half_made(hub):
    worktrees.add(hub, hub.parent / "one", "program/x/one", "refs/heads/main")
    (hub / "worktrees" / "one" / "commondir").write_bytes(b"")
    record = hub.parent / "record.git"
    git.fetch(hub, record, ["+refs/heads/main:refs/heads/program/x/two"])
    assert git.resolve(hub, "refs/heads/program/x/two") == git.resolve(record, "refs/heads/main")
    assert [path.name for path in (hub / "org-broken").iterdir()] == ["one-0"]


@pytest.mark.parametrize("file", ["commondir", "gitdir", "HEAD"])
def test_a_half_made_worktree_is_mended(hub, file):
    """What kill -9 inside `git worktree add` leaves: with an empty commondir every worktree command fails for everyone."""
    worktrees.add(hub, hub.parent / "j1", "b1", "main")
    worktrees.add(hub, hub.parent / "j2", "b2", "main")
    (hub / "worktrees/j1" / file).write_text("")
    if file == "commondir":
        assert (
            subprocess.run(["git", "worktree", "list"], cwd=hub, env=ENV, capture_output=True, check=False).returncode
            != 0
        )
    assert [tree.branch for tree in worktrees.list_worktrees(hub)] == ["b2"]
    worktrees.add(hub, hub.parent / "j1", "b1", "main")
    assert [tree.branch for tree in worktrees.list_worktrees(hub)] == ["b1", "b2"]
    assert len(list((hub / "org-broken").iterdir())) == 1


def test_a_worktree_whose_folder_is_gone_is_added_again(hub):
    seat = hub.parent / "j1"
    worktrees.add(hub, seat, "b", "main")
    sh("rm", "-r", str(seat), cwd="/")
    assert worktrees.list_worktrees(hub) == []
    worktrees.add(hub, seat, "b", "main")
    assert [tree.path for tree in worktrees.list_worktrees(hub)] == [seat]
    sh("rm", "-r", str(seat), cwd="/")
    worktrees.add(hub, hub.parent / "elsewhere", "b", "main")  # git alone: "already checked out"
    assert [tree.path.name for tree in worktrees.list_worktrees(hub)] == ["elsewhere"]


def test_a_folder_of_somebody_else_is_not_taken_over_or_removed(hub):
    place = hub.parent / "j1"
    place.mkdir()
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(gitcall.GitError, match="move it away"):
        worktrees.add(hub, place, "b", "main")
    with pytest.raises(gitcall.GitError, match="no worktree"):
        worktrees.remove(hub, place)
    assert (place / "thesis.tex").exists()


def test_a_removed_worktree_leaves_its_branch(hub):
    seat = hub.parent / "j1"
    worktrees.add(hub, seat, "b", "main")
    (seat / "draft").write_text("untracked")
    worktrees.remove(hub, seat)
    worktrees.remove(hub, seat)
    assert not seat.exists()
    assert git.resolve(hub, "b")


def test_fill_index_without_a_git_file_leaves_the_surrounding_repository_alone(folder):
    sh("git", "init", "-q", ".", cwd=folder)
    (folder / "a").write_text("1")
    sh("git", "add", "a", cwd=folder)
    sh("git", "commit", "-qm", "one", cwd=folder)
    (folder / "b").write_text("staged, not committed")
    sh("git", "add", "b", cwd=folder)
    before = (folder / ".git/index").read_bytes()
    (folder / "seat").mkdir()
    with pytest.raises(gitcall.GitError):
        worktrees.fill_index(folder / "seat")
    assert (folder / ".git/index").read_bytes() == before


def test_a_precious_hub_keeps_what_another_has_not_committed_yet(hub):
    loose = commit_of(hub, {"uncommitted": b"1"})
    subprocess.run(["git", "gc", "--prune=now", "--quiet"], cwd=hub, env=ENV, capture_output=True, check=False)
    subprocess.run(["git", "prune", "--expire=now"], cwd=hub, env=ENV, capture_output=True, check=False)
    assert git.resolve(hub, loose) == loose


# --- somebody hostile --------------------------------------------------------------------------------------------


def test_a_hostile_repository_runs_nothing(hub):
    """Every hook, a monitor, filters, a merge driver, an external diff, a promisor remote: all write the same file."""
    traces = hub.parent / "traces"
    evil = hub.parent / "evil"
    evil.write_text(
        f"#!/bin/sh\necho \"$0 $@\" >> '{str(traces).replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'\ncat\n"
    )
    evil.chmod(0o755)
    quoted = "'" + str(evil).replace("'", "'\\''") + "'"
    (hub / "hooks").mkdir(exist_ok=True)
    hooks = ["post-checkout", "reference-transaction", "post-index-change", "pre-receive", "update", "post-update",
             "post-receive", "pre-commit", "post-commit", "fsmonitor-watchman", "pre-auto-gc", "push-to-checkout",
             "proc-receive", "post-merge", "post-rewrite"]  # fmt: skip
    for hook in hooks:
        (hub / "hooks" / hook).symlink_to(evil)
    settings = {
        "core.fsmonitor": quoted, "core.hooksPath": str(hub / "hooks"), "filter.evil.smudge": quoted,
        "filter.evil.clean": quoted, "filter.evil.process": quoted, "diff.external": quoted, "diff.evil.textconv": quoted,
        "merge.evil.driver": quoted, "core.sshCommand": quoted, "core.pager": quoted, "uploadpack.packObjectsHook": quoted,
        "protocol.allow": "always", "core.alternateRefsCommand": quoted, "gc.auto": "1",
        "remote.evil.url": str(hub), "remote.evil.promisor": "true", "remote.evil.uploadpack": quoted,
    }  # fmt: skip
    for name, value in settings.items():
        sh("git", f"--git-dir={hub}", "config", name, value, cwd="/")
    attributes = b"* filter=evil diff=evil merge=evil text export-subst\n"
    record = hub.parent / "record.git"
    tree = git.write_tree(hub, {".gitattributes": attributes, "a.py": b"$Format:%H$\n"})
    head = git.commit(hub, tree, [git.resolve(hub, "main")], "m")
    git.update_ref(hub, "refs/heads/hostile", head)
    seat = hub.parent / "seat"

    git.fetch(record, hub, ["+refs/heads/hostile:refs/heads/hostile"])
    git.export(record, "hostile", hub.parent / "out")
    git.merge_tree(record, "main", "hostile")
    git.fetch(hub, record, ["+refs/heads/main:refs/heads/back"])
    worktrees.add(hub, seat, "program/x/j1", "hostile")
    git.export(record, "hostile", seat)
    worktrees.fill_index(seat)
    git.head_commit(seat)
    folders.import_folder(seat)
    worktrees.list_worktrees(hub)
    worktrees.remove(hub, seat)

    assert (hub.parent / "out/a.py").read_bytes() == b"$Format:%H$\n"
    assert not traces.exists(), traces.read_text()
    sh("git", f"--git-dir={hub}", "worktree", "add", "--quiet", str(seat), "main", cwd="/")
    assert traces.exists()  # the trap does work on a git that is not ours


def test_objects_that_a_hostile_hub_lacks_are_not_fetched_from_its_promisor(hub):
    traces, evil = hub.parent / "traces", hub.parent / "evil.sh"
    evil.write_text(f'#!/bin/sh\n: > "{hub.parent.parent}/lazy"\n')
    evil.chmod(0o755)
    for name, value in {
        "core.repositoryFormatVersion": "1", "extensions.partialClone": "evil", "remote.evil.url": str(hub),
        "remote.evil.promisor": "true", "remote.evil.uploadpack": "'" + str(evil).replace("'", "'\\''") + "'",
    }.items():  # fmt: skip
        sh("git", f"--git-dir={hub}", "config", name, value, cwd="/")
    head = commit_of(hub, {"a": b"gone"})
    git.update_ref(hub, "refs/heads/holed", head)
    blob = git.list_tree(hub, head)[0].sha
    (hub / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(gitcall.GitError):
        git.fetch(hub.parent / "record.git", hub, ["+refs/heads/holed:refs/heads/holed"])
    assert not (hub.parent.parent / "lazy").exists()
    assert not traces.exists()


def test_fetch_runs_no_transport_command(bare, tmp_path):
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    evil.chmod(0o755)
    with pytest.raises(gitcall.GitError):
        git.fetch(bare, f"ext::{evil}", ["+refs/heads/*:refs/heads/*"])
    assert not (tmp_path / "ran").exists()


def test_a_fetch_that_hangs_is_ended_with_its_helpers(bare):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/x.git"
        with pytest.raises(gitcall.GitError, match="was not done"):
            git.fetch(bare, url, ["+refs/heads/*:refs/heads/*"], timeout_s=0.5)
        wait_for(
            lambda: not any(url.encode() in read(place / "cmdline") for place in Path("/proc").glob("[0-9]*")),
            what="the end of git's helpers",
        )
