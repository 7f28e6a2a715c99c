"""world.git, its worktrees and folders on real repositories, oddly named, some of them set up by somebody hostile."""

import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from org.errors import BadInput, MissingTool
from org.world import folders, git, gitcall, worktrees

WHEN = "2026-03-01T00:00:00Z"
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


def sh(*argv, cwd):
    """Git as an agent calls it: with the repository's own configuration in force."""
    return subprocess.run(argv, cwd=cwd, env=ENV, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["plain", 'it\'s a "home" $HOME é'])
def folder(tmp_path, request):
    place = tmp_path / request.param
    place.mkdir()
    return place


@pytest.fixture
def bare(tmp_path):
    git.init_bare(tmp_path / "record.git")
    return tmp_path / "record.git"


def commit_of(repository, files, *parents, message="m"):
    return git.commit(repository, git.write_tree(repository, files), parents, message, when=WHEN)


# --- objects -----------------------------------------------------------------------------------------------------


def test_a_tree_keeps_bytes_and_modes_as_they_are(bare):
    files = {
        "a.py": b"x = 1\r\n",
        "dir/run it.sh": (b"#!/bin/sh\n", "100755"),
        'odd "name"\nwith newline': b"\0\xff",
        "empty": b"",
        ".gitattributes": b"*.py text eol=lf\n",
    }
    commit = commit_of(bare, files)
    read = git.read_files(bare, commit, [*files, "missing"])
    assert read == {name: content if isinstance(content, bytes) else content[0] for name, content in files.items()}
    assert {entry.path: entry.mode for entry in git.list_tree(bare, commit)}["dir/run it.sh"] == "100755"
    assert git.read_file(bare, commit, "missing") is None


def test_the_same_content_gives_the_same_commit(bare):
    assert commit_of(bare, {"a": b"1"}) == commit_of(bare, {"a": b"1"})
    assert git.write_tree(bare, {}) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_changes_delete_replace_and_keep_the_mode(bare):
    tree = git.write_tree(bare, {"run.sh": (b"1", "100755"), "old": b"1", "dir/x": b"1", "same": b"1"})
    after = git.tree_with(bare, tree, {"run.sh": b"2", "old": None, "new/y": b"3", "dir": b"now a file"})
    assert {entry.path: entry.mode for entry in git.list_tree(bare, after)} == {
        "run.sh": "100755",
        "new/y": "100644",
        "dir": "100644",
        "same": "100644",
    }


def test_a_thousand_files_are_three_processes(bare, monkeypatch):
    calls = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: calls.append(a) or start(*a, **k))
    tree = git.write_tree(bare, {f"d{i % 7}/f{i}": b"%d" % i for i in range(1000)})
    assert len(calls) == 3
    assert len(git.read_files(bare, tree, [f"d{i % 7}/f{i}" for i in range(1000)])) == 1000
    assert len(calls) == 5


@pytest.mark.parametrize("path", ["../up", ".git/config", "/etc/passwd", "a//b", "", "a/../b"])
def test_an_unsafe_path_makes_no_tree(bare, path):
    with pytest.raises((gitcall.GitError, BadInput)):
        git.write_tree(bare, {path: b"x"})


# --- refs --------------------------------------------------------------------------------------------------------


def test_a_ref_that_moved_is_not_overwritten(bare):
    one, two, three = (commit_of(bare, {"a": data}) for data in (b"1", b"2", b"3"))
    git.update_ref(bare, "refs/heads/x", one, old=git.ABSENT)
    with pytest.raises(git.RefMoved):
        git.update_ref(bare, "refs/heads/x", two, old=git.ABSENT)
    git.update_ref(bare, "refs/heads/x", two, old=one)
    with pytest.raises(git.RefMoved):
        git.update_ref(bare, "refs/heads/x", three, old=one)
    assert git.resolve(bare, "refs/heads/x") == two
    with pytest.raises(git.RefMoved):
        git.delete_ref(bare, "refs/heads/x", old=one)
    git.delete_ref(bare, "refs/heads/x", old=two)
    assert git.resolve(bare, "refs/heads/x") is None


def test_merges_from_many_writers_are_all_kept(bare):
    root = commit_of(bare, {"base": b"0"})
    git.update_ref(bare, "refs/heads/main", root)

    def land(number):
        side = commit_of(bare, {"base": b"0", f"f{number}": b"1"}, root)
        while True:
            head = git.resolve(bare, "refs/heads/main")
            tree = git.merge_tree(bare, head, side)
            try:
                return git.update_ref(bare, "refs/heads/main", git.commit(bare, tree, [head, side], "m"), old=head)
            except git.RefMoved:
                continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(land, range(8)))
    assert len(git.list_tree(bare, "refs/heads/main")) == 9


@pytest.mark.parametrize("name", ["--upload-pack=x", "-d", "", "a b", "a\nb", "a\0b"])
def test_a_name_that_could_be_an_option_is_refused(bare, name):
    with pytest.raises(BadInput):
        git.resolve(bare, name)
    with pytest.raises(BadInput):
        git.fetch(bare, bare, [name])


def test_refs_are_listed_by_prefix(bare):
    one = commit_of(bare, {"a": b"1"})
    for name in ("refs/org/experiments/E0001", "refs/org/experiments/E0002", "refs/heads/main"):
        git.update_ref(bare, name, one)
    assert git.list_refs(bare, "refs/org") == {"refs/org/experiments/E0001": one, "refs/org/experiments/E0002": one}
    assert git.resolve(bare, "nothing") is None
    assert git.resolve(bare, "1" * 40) is None


def test_variables_of_a_surrounding_git_are_not_seen(bare, tmp_path, monkeypatch):
    other = tmp_path / "other.git"
    git.init_bare(other)
    one = commit_of(bare, {"a": b"1"})
    monkeypatch.setenv("GIT_DIR", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / "objects"))
    assert git.resolve(bare, one) == one
    assert not (tmp_path / "index").exists()


def test_missing_git_says_how_to_install_it(bare, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingTool, match="apt-get install git"):
        git.resolve(bare, "main")


# --- merging and comparing ---------------------------------------------------------------------------------------


def test_a_conflict_names_its_paths(bare):
    root = commit_of(bare, {"a": b"1\n", "b": b"1\n"})
    ours = commit_of(bare, {"a": b"2\n", "b": b"1\n"}, root)
    theirs = commit_of(bare, {"a": b"3\n", "b": b"2\n"}, root)
    assert git.merge_tree(bare, ours, theirs) == git.Conflict(("a",))
    clean = git.merge_tree(bare, ours, commit_of(bare, {"a": b"1\n", "b": b"2\n"}, root))
    assert git.read_files(bare, clean, ["a", "b"]) == {"a": b"2\n", "b": b"2\n"}


def test_a_merge_on_a_given_base_takes_one_change_out_again(bare):
    root = commit_of(bare, {"a": b"1\n", "b": b"1\n"})
    first = commit_of(bare, {"a": b"2\n", "b": b"1\n"}, root)
    both = commit_of(bare, {"a": b"2\n", "b": b"2\n"}, first)
    without_first = git.merge_tree(bare, both, root, base=first)
    assert git.read_files(bare, without_first, ["a", "b"]) == {"a": b"1\n", "b": b"2\n"}


def test_a_diff_names_files_and_shows_text(bare):
    one = commit_of(bare, {"gone": b"x\n", "kept": b"1\n", "é": b"1\n"})
    two = commit_of(bare, {"came": b"x\n", "kept": b"2\n", "é": b"1\n"})
    assert git.diff_names(bare, one, two) == [("A", "came"), ("D", "gone"), ("M", "kept")]
    assert "-1\n+2\n" in git.diff_text(bare, one, two)


# --- export ------------------------------------------------------------------------------------------------------


def test_an_export_is_byte_for_byte_and_ignores_attributes(bare, folder):
    files = {
        ".gitattributes": b"secret export-ignore\nversion export-subst\n*.txt text eol=crlf filter=evil\n",
        "secret": b"s",
        "version": b"$Format:%H$",
        "a.txt": b"1\n",
        "odd 'dir'/run.sh": (b"#!/bin/sh\n", "100755"),
    }
    git.export(bare, commit_of(bare, files), folder / "out")
    for name, content in files.items():
        assert (folder / "out" / name).read_bytes() == (content if isinstance(content, bytes) else content[0])
    assert os.access(folder / "out/odd 'dir'/run.sh", os.X_OK)
    assert not os.access(folder / "out/secret", os.X_OK)


@pytest.mark.parametrize(("mode", "kind"), [("120000", "blob"), ("160000", "commit")])
def test_a_link_or_submodule_is_refused_by_name_before_anything_is_written(bare, tmp_path, mode, kind):
    line = f"{mode} {kind} {'1' * 40}\tlink\n".encode()
    tree = gitcall.output(bare, "mktree", "--missing", stdin=line).decode().strip()
    with pytest.raises(git.BadTree, match="link"):
        git.export(bare, tree, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT"])
def test_a_tree_forged_to_escape_is_refused(bare, tmp_path, name):
    inner = git.write_tree(bare, {"x": b"1"})
    raw = b"40000 " + name + b"\0" + bytes.fromhex(inner)
    forged = (
        gitcall.output(bare, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw).decode().strip()
    )
    with pytest.raises(git.BadTree):
        git.export(bare, forged, tmp_path / "out")


def test_an_export_does_not_write_through_a_link_left_in_the_folder(bare, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/dir").symlink_to(tmp_path / "elsewhere")
    commit = commit_of(bare, {"dir/x": b"1"})
    with pytest.raises(git.BadTree):
        git.export(bare, commit, tmp_path / "out", overwrite=True)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_in_the_way_is_kept_unless_told(bare, tmp_path):
    (tmp_path / "a").write_text("mine")
    commit = commit_of(bare, {"a": b"theirs"})
    with pytest.raises(git.BadTree, match="in the way"):
        git.export(bare, commit, tmp_path)
    assert (tmp_path / "a").read_text() == "mine"
    git.export(bare, commit, tmp_path, overwrite=True)
    assert (tmp_path / "a").read_text() == "theirs"


def test_an_oversized_commit_is_refused_unread(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(git, "MAX_READ_BYTES", 10)
    with pytest.raises(git.BadTree, match="limit"):
        git.export(bare, commit_of(bare, {"a": b"x" * 11}), tmp_path / "out")


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
    git.export(hub.parent / "record.git", "refs/heads/main", worktree, overwrite=True)
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
    git.diff_text(record, "main", "hostile")
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
        deadline = time.monotonic() + 5
        while any(url.encode() in read(place / "cmdline") for place in Path("/proc").iterdir() if place.name.isdigit()):
            assert time.monotonic() < deadline, "a helper of git outlived it"


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


# --- folders of a person -----------------------------------------------------------------------------------------


def test_a_folder_outside_git_is_read_whole_but_for_caches(folder):
    for name in ("a.py", "dir with space/b", "__pycache__/x.pyc", ".venv/lib", ".git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "a.py").chmod(0o755)
    files = folders.import_folder(folder)
    assert files == {"a.py": b"x", "dir with space/b": b"x"}
    assert folders.with_modes(folder, files)["a.py"] == (b"x", "100755")


def test_a_folder_inside_git_gives_what_is_not_ignored(folder):
    sh("git", "init", "-q", ".", cwd=folder)
    code = folder / "code"
    code.mkdir()
    for name in ("tracked", "deleted", "new é", "data.bin", "../outside"):
        (code / name).write_text("x")
    (folder / ".gitignore").write_text("*.bin\n")
    sh("git", "add", "code/tracked", "code/deleted", cwd=folder)
    (code / "deleted").unlink()
    assert folders.import_folder(code) == {"tracked": b"x", "new é": b"x"}
    assert git.is_repository(code)
    assert git.head_commit(code) is None
    assert not git.is_repository(Path("/"))


def test_a_folder_that_git_ignores_as_a_whole_is_walked(folder):
    sh("git", "init", "-q", ".", cwd=folder)
    (folder / ".gitignore").write_text("venv/\n")
    (folder / "venv").mkdir()
    (folder / "venv/train.py").write_text("x")
    assert folders.import_folder(folder / "venv") == {"train.py": b"x"}


@pytest.mark.parametrize("in_git", [True, False])
@pytest.mark.parametrize("kind", ["link", "linked folder", "large", "total"])
def test_what_cannot_be_imported_is_named(tmp_path, monkeypatch, in_git, kind):
    if in_git:
        sh("git", "init", "-q", ".", cwd=tmp_path)
    (tmp_path / "a").write_text("x")
    if kind == "link":
        (tmp_path / "bad").symlink_to("/etc/passwd")
    elif kind == "linked folder":
        (tmp_path / "bad").symlink_to("/etc")
    elif kind == "large":
        (tmp_path / "bad").write_bytes(b"x" * (folders.MAX_FILE_BYTES + 1))
    else:
        monkeypatch.setattr(folders, "MAX_FOLDER_BYTES", 3)
        (tmp_path / "bad").write_text("xxx")
    with pytest.raises(BadInput) as caught:
        folders.import_folder(tmp_path)
    assert "\n" not in str(caught.value)
