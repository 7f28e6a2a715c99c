"""A person's folder becomes a first commit, or is refused by name."""

import pytest
from repos import sh

from org.errors import BadInput
from org.world import folders, git

# --- folders of a person -----------------------------------------------------------------------------------------


def test_a_folder_outside_git_is_read_whole_but_for_caches(folder):
    for name in ("a.py", "dir with space/b", "__pycache__/x.pyc", ".venv/lib", ".git/config"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    assert folders.import_folder(folder) == {"a.py": b"x", "dir with space/b": b"x"}


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
    assert git.head_commit(code) is None


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


def test_a_partial_clone_is_refused_and_nobody_is_asked_for_what_it_has_not_got(tmp_path):
    place, canary = tmp_path / "code", tmp_path / "ran"
    place.mkdir()
    for name in ("train.py", "secret.bin"):
        (place / name).write_text("x")
    (place / ".gitignore").write_text("*.bin\n")
    for words in (["init", "-q", "."], ["add", "-A"], ["commit", "-qm", "m"]):
        sh("git", *words, cwd=place)
    missing = sh("git", "rev-parse", "HEAD:.gitignore", "HEAD", cwd=place).split()
    sh("git", "update-index", "--skip-worktree", ".gitignore", cwd=place)  # as a sparse checkout leaves it out
    (place / ".gitignore").unlink()
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", str(tmp_path)),
        ("remote.origin.promisor", "true"),
        ("remote.origin.uploadpack", f"touch '{canary}' #"),
    ):
        sh("git", "config", key, value, cwd=place)
    for sha in missing:
        (place / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
    with pytest.raises(BadInput, match=r"git cannot list the files of .*code") as caught:
        folders.import_folder(place)
    assert "\n" not in str(caught.value)
    assert git.head_commit(place) is None
    assert not canary.exists()


def test_a_work_tree_that_git_cannot_list_is_refused_and_not_walked(folder):
    sh("git", "init", "-q", ".", cwd=folder)
    (folder / ".gitignore").write_text("*.bin\n")
    (folder / "secret.bin").write_text("x")
    (folder / ".git" / "index").write_bytes(b"torn")
    with pytest.raises(BadInput, match="git cannot list the files of"):
        folders.import_folder(folder)
    (folder / ".git" / "config").write_text("[core\n")
    with pytest.raises(BadInput, match="git cannot list the files of"):
        folders.import_folder(folder)
