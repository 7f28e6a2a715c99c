"""Repositories that would run something, hide something, or are of another shape: `land` runs none of it, and says so in
one line where it cannot land."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from persons import LR, WARM, Work, refs, snapshot
from repos import ENV, sh
from test_hostile import ATTRIBUTES, HOOKS, SETTINGS, ran

from org.errors import BadInput, OrgError
from org.home import Home
from org.lab import land
from org.world import git

pytestmark = pytest.mark.slow  # a repository made, measured and landed in for each


@pytest.fixture
def canaries(tmp_path: Path) -> Path:
    folder = tmp_path / "canaries"
    folder.mkdir()
    return folder


@pytest.fixture
def work(tiny_home: Home, tmp_path: Path) -> Work:
    made = Work(tiny_home, tmp_path / 'a\nperson\'s "place"')
    (made.top / ".gitattributes").write_text(ATTRIBUTES)
    (made.code / ".gitattributes").write_text(ATTRIBUTES)
    made.commit("begin")
    return made


def plant(top: Path, canaries: Path) -> None:
    """Every mechanism that git offers to run a program, in the person's own configuration."""

    def canary(name: str) -> str:
        script = canaries.with_name(f"canary-{name}".replace(":", "-"))
        script.write_text(f"#!/bin/sh\ntouch '{canaries}/{name}'\nexit 0\n")
        script.chmod(0o755)
        return str(script)

    hooks = top / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in HOOKS:
        (hooks / name).write_bytes(Path(canary(f"hook-{name}")).read_bytes())
        (hooks / name).chmod(0o755)
    elsewhere = canaries.with_name("hooks")
    shutil.copytree(hooks, elsewhere)
    lines = [f'[core]\n\thooksPath = "{elsewhere}"\n[merge]\n\tdefault = evil\n']
    settings = {**SETTINGS, "remote.near.url": str(top.with_name("upstream")), "remote.near.promisor": "true"}
    for setting, value in {**settings, "remote.near.uploadpack": "CANARY", "gpg.ssh.program": "CANARY"}.items():
        head, _, key = setting.rpartition(".")
        section, _, name = head.partition(".")
        run = canary(setting.replace("/", "-"))
        name, value = name.replace("CANARY", run), value.replace("CANARY", run).replace("\n", "\\n")
        value = value.replace('"', '\\"')
        lines.append(f'[{section}{f""" "{name}" """.rstrip() if name else ""}]\n\t{key} = "{value}"\n')
    included = canaries.with_name("included")
    included.write_text("".join(lines))
    with (top / ".git" / "config").open("a") as file:
        file.write(f'[include]\n\tpath = "{included}"\n')
    (top / ".git" / "info").mkdir(exist_ok=True)
    (top / ".git" / "info" / "attributes").write_text(ATTRIBUTES)


def blob(top: Path, what: str) -> Path:
    sha = sh("git", "rev-parse", what, cwd=top).strip()
    return top / ".git" / "objects" / sha[:2] / sha[2:]


def test_the_canaries_sing_when_git_is_used_carelessly(work: Work, canaries: Path) -> None:
    plant(work.top, canaries)
    work.edit("MATRIX_LR = 0.02", "MATRIX_LR = 0.03")
    quiet = ["-c", "filter.evil.process=", "-c", "filter.evil.required=false", "-c", "core.fsmonitor=false"]
    for settings in ([], quiet):
        for command in (["status"], ["diff"], ["add", "."], ["commit", "-m", "x"], ["cat-file", "-p", "0" * 40]):
            subprocess.run(["git", *settings, *command], cwd=work.top, env=ENV, check=False, capture_output=True)
    assert len(ran(canaries)) >= 5, "the mechanisms planted are not live, so the other tests show nothing"


def test_land_runs_nothing_of_the_persons_repository(work: Work, canaries: Path) -> None:
    work.plant(LR)
    (work.code / "a\nq\"uo'te $(touch x).py").write_text("x = 1\n")
    with (work.top / "huge.bin").open("wb") as file:
        file.truncate(5 << 30)  # sparse
    plant(work.top, canaries)
    before = snapshot(work.top)
    land.land(work.home, "main", dry=True)
    done = land.land(work.home, "main")
    work.plant(WARM)
    again = land.land(work.home, "main")
    assert (done.status, again.status, land.land(work.home, "main").status) == ("made", "made", "there")
    assert ran(canaries) == []
    assert snapshot(work.top) == before
    shutil.rmtree(work.top / ".git" / "hooks")
    (work.top / ".git" / "config").write_text("[core]\n\trepositoryformatversion = 0\n")
    assert "WARMDOWN_FRAC = 0.5" in work.show("org/main")


def test_an_object_that_a_partial_clone_lacks_is_not_asked_for(work: Work, canaries: Path) -> None:
    work.plant(LR)
    sh("git", "clone", "-q", "--bare", str(work.top), str(work.top.with_name("upstream")), cwd=work.top)
    sh("git", "config", "uploadpack.allowFilter", "true", cwd=work.top.with_name("upstream"))
    work.edit("import argparse", "import  argparse")  # a state of the file that the record does not hold
    work.commit()
    blob(work.top, "HEAD:other.txt").unlink()
    blob(work.top, f"HEAD:{work.sub}/README.md").unlink()
    plant(work.top, canaries)
    assert land.land(work.home, "main").status == "made"
    blob(work.top, f"HEAD:{work.sub}/train.py").unlink()
    with pytest.raises(OrgError, match="is missing"):
        land.land(work.home, "main", branch="other")
    assert ran(canaries) == []


def test_replaced_and_grafted_history_is_not_believed(work: Work) -> None:
    work.plant(LR)
    head = work.head
    tree = git.write_tree(work.top / ".git", {"evil": b"x"})
    fake = git.commit(work.top / ".git", tree, [], "fake")
    sh("git", "replace", head, fake, cwd=work.top)
    (work.top / ".git" / "info" / "grafts").write_text(f"{head} {fake}\n")
    done = land.land(work.home, "main")
    assert done.on == head
    sh("git", "replace", "-d", head, cwd=work.top)
    (work.top / ".git" / "info" / "grafts").unlink()
    assert sh("git", "diff", "--name-only", "-z", head, "org/main", cwd=work.top) == "sub dir/code/train.py\0"


@pytest.mark.parametrize("shape", ["shallow", "alternates", "worktree", "bare with worktree", "detached", "packed"])
def test_other_shapes_of_a_repository_are_landed_in(tiny_home: Home, tmp_path: Path, shape: str) -> None:
    work = Work(tiny_home, tmp_path / "first")
    work.commit("one")
    (work.top / "other.txt").write_text("two\n")
    work.commit("two")
    top = tmp_path / "it's"
    if shape in ("shallow", "alternates"):
        how = ["--depth=1", f"file://{work.top}"] if shape == "shallow" else ["-s", str(work.top)]
        sh("git", "clone", "-q", *how, str(top), cwd=tmp_path)
    elif shape == "worktree":
        sh("git", "worktree", "add", "-q", "-b", "mine", str(top), cwd=work.top)
    elif shape == "bare with worktree":
        sh("git", "clone", "-q", "--bare", str(work.top), str(tmp_path / "bare.git"), cwd=tmp_path)
        sh("git", "worktree", "add", "-q", "-b", "mine", str(top), cwd=tmp_path / "bare.git")
    else:
        top = work.top
        sh(*("git checkout -q --detach" if shape == "detached" else "git gc -q").split(), cwd=top)
    text = tiny_home.charter.read_text()
    tiny_home.charter.write_text(text.replace(json.dumps(str(work.code)), json.dumps(str(top / work.sub))))
    work.top, work.code = top, top / work.sub
    work.plant(LR)
    done = land.land(tiny_home, "main")
    assert (done.status, done.on) == ("made", work.head)
    assert "MATRIX_LR = 0.04" in work.show("org/main")
    assert sh("git", "rev-parse", "org/main^", cwd=top).strip() == work.head
    assert sh("git", "status", "--porcelain", cwd=top) == ""
    assert sh("git", "fsck", "--connectivity-only", cwd=top).strip() == ""


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("none", "is in no repository that git reads"),
        ("unborn", "has no commit yet; commit the code there first"),
        ("ignored", "is not in the last commit of"),
        ("untracked", "is not in the last commit of"),
        ("bare", "is in no work tree"),
        ("sha256", "SHA-256"),
        ("symlink", "is a symlink in the last commit"),
        ("submodule", "is a submodule in the last commit"),
        ("file", "is a file in the last commit"),
        ("broken", "is in no repository that git reads"),
        ("gone", "is no folder any more"),
    ],
)
def test_a_place_that_cannot_be_landed_in_is_one_line_and_stays(
    tiny_home: Home, tmp_path: Path, what: str, said: str
) -> None:
    top = tmp_path / "theirs"
    work = Work(tiny_home, top)
    git_dir = top / ".git"
    if what == "sha256":
        shutil.rmtree(git_dir)
        sh("git", "init", "-q", "--object-format=sha256", ".", cwd=top)
    if what == "ignored":
        (top / ".gitignore").write_text("/sub dir/\n")
    if what in ("symlink", "submodule", "file"):
        (top / ".gitignore").write_text("/sub dir/\n")
        work.commit()
        mode = {"symlink": "120000", "submodule": "160000", "file": "100644"}[what]
        sha = work.head if what == "submodule" else sh("git", "rev-parse", "HEAD:other.txt", cwd=top).strip()
        sh("git", "update-index", "--add", "--cacheinfo", f"{mode},{sha},sub dir", cwd=top)
        sh("git", "commit", "-qm", "odd", cwd=top)
    elif what == "untracked":
        sh("git", "add", "other.txt", cwd=top)
        sh("git", "commit", "-qm", "some", cwd=top)
    elif what != "unborn":
        work.commit()
    work.plant(LR)
    if what == "none":
        shutil.rmtree(git_dir)
    elif what == "bare":
        sh("git", "config", "core.bare", "true", cwd=top)
    elif what == "broken":
        (git_dir / "config").write_text("[core\n")
    elif what == "gone":
        shutil.rmtree(work.code)
    before = {p: p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}
    with pytest.raises(BadInput, match=said) as error:
        land.land(tiny_home, "main")
    assert "\n" not in str(error.value)
    assert {p: p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()} == before
    assert not tiny_home.reports.exists()


def test_code_in_a_submodule_lands_in_the_submodules_repository(tiny_home: Home, tmp_path: Path) -> None:
    work = Work(tiny_home, tmp_path / "code", sub="")
    work.commit()
    outer = tmp_path / "outer"
    sh("git", "init", "-q", str(outer), cwd=tmp_path)
    sh("git", "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(work.top), "inner", cwd=outer)
    sh("git", "commit", "-qm", "outer", cwd=outer)
    text = tiny_home.charter.read_text()
    tiny_home.charter.write_text(text.replace(json.dumps(str(work.code)), json.dumps(str(outer / "inner"))))
    work.top = work.code = outer / "inner"
    work.plant(LR)
    done = land.land(tiny_home, "main")
    assert (done.place.top, done.files) == (outer / "inner", ("train.py",))
    assert any("org/main" in ref for ref in refs(outer / "inner"))
    assert sh("git", "status", "--porcelain", cwd=outer) == "" and len(refs(outer)) == 1


def test_objects_of_a_shared_repository_stay_writable_for_the_group(work: Work) -> None:
    sh("git", "config", "core.sharedRepository", "group", cwd=work.top)
    work.plant(LR)
    old = {p.parent for p in (work.top / ".git" / "objects").glob("??/*")}
    land.land(work.home, "main")
    made = {p.parent for p in (work.top / ".git" / "objects").glob("??/*")} - old
    assert made and all(folder.stat().st_mode & 0o2070 == 0o2070 for folder in made)


def test_two_landings_at_once_make_one_branch(work: Work) -> None:
    work.plant(LR, WARM)
    code = "import sys;from pathlib import Path;from org.home import Home;from org.lab import land\nprint(land.land(Home(Path(sys.argv[1])), 'main').commit)"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(work.home.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60) for process in started]
    done = {out for (out, _), process in zip(said, started, strict=True) if process.returncode == 0}
    assert len(done) == 1 and done == {(sh("git", "rev-parse", "org/main", cwd=work.top)).encode()}
    for (_, err), process in zip(said, started, strict=True):
        assert process.returncode == 0 or b"RefMoved" in err, err
