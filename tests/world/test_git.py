"""world.git, its worktrees and folders on real repositories, oddly named, some of them set up by somebody hostile."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from repos import commit_of

from org.errors import BadInput, MissingTool
from org.world import git, gitcall

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


def test_files_committed_over_a_moved_ref_change_nothing(bare):
    git.commit_files(bare, "refs/heads/kept", None, {"a/1": b"one\n", "b": b"\0\xff"}, "first\n\nbody")
    first = git.resolve(bare, "refs/heads/kept")
    git.commit_files(bare, "refs/heads/kept", first, {"a/2": b"two"}, "second")
    second = git.resolve(bare, "refs/heads/kept")
    assert git.read_files(bare, second, ["a/1", "a/2", "b"]) == {"a/1": b"one\n", "a/2": b"two", "b": b"\0\xff"}
    for stale in (first, None):
        with pytest.raises(git.RefMoved):
            git.commit_files(bare, "refs/heads/kept", stale, {"a/1": b"lost"}, "third")
    assert git.resolve(bare, "refs/heads/kept") == second
    assert {e.path: e.sha for e in git.list_tree(bare, second)}["b"] == git.blob_sha(b"\0\xff")


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


def test_a_diff_names_files(bare):
    one = commit_of(bare, {"gone": b"x\n", "kept": b"1\n", "é": b"1\n"})
    two = commit_of(bare, {"came": b"x\n", "kept": b"2\n", "é": b"1\n"})
    assert git.diff_names(bare, one, two) == [("A", "came"), ("D", "gone"), ("M", "kept")]


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
        git.lay_out(tmp_path / "out", git.contents(bare, commit), overwrite=True)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_in_the_way_is_kept_unless_told(bare, tmp_path):
    (tmp_path / "a").write_text("mine")
    commit = commit_of(bare, {"a": b"theirs"})
    with pytest.raises(git.BadTree, match="in the way"):
        git.export(bare, commit, tmp_path)
    assert (tmp_path / "a").read_text() == "mine"
    git.lay_out(tmp_path, git.contents(bare, commit), overwrite=True)
    assert (tmp_path / "a").read_text() == "theirs"


def test_an_oversized_commit_is_refused_unread(bare, tmp_path, monkeypatch):
    monkeypatch.setattr(git, "MAX_READ_BYTES", 10)
    with pytest.raises(git.BadTree, match="limit"):
        git.export(bare, commit_of(bare, {"a": b"x" * 11}), tmp_path / "out")
