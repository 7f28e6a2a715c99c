"""A person's folder becomes a first commit, or is refused by name."""

from pathlib import Path

import pytest
from repos import sh

from org.errors import BadInput
from org.world import folders, git

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
