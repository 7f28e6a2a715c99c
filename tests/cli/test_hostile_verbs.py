"""Every verb on a home whose worktree, hub and code were prepared by an attacker: nothing of theirs runs, each verb ends in
time, and says at most one line of error."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.test_hostile import ATTRIBUTES, SETTINGS, odd_files, plant, ran
from tiny import make_tiny_home

from org.home import Home
from org.team import seats

pytestmark = pytest.mark.slow  # a process for every verb

ROOT = Path(__file__).parents[2]
LIMIT_S = 30.0


@dataclass
class Place:
    home: Home
    worktree: Path
    code: Path  # a hostile repository to begin another home with
    canaries: Path


def call(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    """`org WORDS` as a person types it who stands in the hostile worktree."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ORG_")}
    environ |= {"PYTHONPATH": str(ROOT), "HOME": str(place.canaries.with_name("person"))}
    argv = [sys.executable, "-P", "-m", "org", *words]  # -P: as the console script, which looks for nothing here
    return subprocess.run(
        argv,
        cwd=place.worktree,
        env=environ,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root = tmp_path
    home, canaries = make_tiny_home(root / "home"), root / "canaries"
    canaries.mkdir()
    (root / "person").mkdir()
    for name in ("me", "you"):
        seats.create(home, name)
    place = Place(home, home.worktree("me"), hostile_code(root / "theirs", canaries), canaries)
    plant(home, place.worktree, canaries)
    more_settings(home, canaries)
    odd_files(place.worktree)
    odder_files(place.worktree, canaries)
    for name, old, new in (("me", "MATRIX_LR = 0.02", "MATRIX_LR = 0.04"), ("you", "FRAC = 0.0", "FRAC = 0.5")):
        path = home.worktree(name) / "train.py"
        path.write_text(path.read_text().replace(old, new))
    return place


def canary(canaries: Path, name: str) -> str:
    script = canaries.with_name(f"canary-{name}")
    script.write_text(f"#!/bin/sh\ntouch '{canaries}/{name}'\n")
    script.chmod(0o755)
    return str(script)


def more_settings(home: Home, canaries: Path) -> None:
    """By way of a condition, of the worktree's own configuration, and of what git asks the person's programs for."""
    run = canary(canaries, "more")
    text = f'[core]\n\tfsmonitor = "{run}"\n\tattributesFile = {home.hub}/attributes\n\teditor = "{run}"\n'
    text += f'[filter "late"]\n\tclean = "{run}"\n\tsmudge = "{run}"\n\tprocess = "{run}"\n'
    text += f'[gpg "ssh"]\n\tprogram = "{run}"\n[credential]\n\thelper = "!{run}"\n[init]\n\ttemplateDir = {home.hub}\n'
    conditional = canaries.with_name("conditional")
    conditional.write_text(text)
    with (home.hub / "config").open("a") as file:
        file.write(f'[includeIf "gitdir:**"]\n\tpath = {conditional}\n[extensions]\n\tworktreeConfig = true\n')
    for entry in (home.hub / "worktrees").iterdir():
        (entry / "config.worktree").write_text(text)
    (home.hub / "attributes").write_text("* filter=late diff=evil\n")


def odder_files(worktree: Path, canaries: Path) -> None:
    """What passes for .git, for the org's own modules and for a home; loops; a socket; names that are no text."""
    for name in (".GIT", "git~1", ".git ", ".git."):
        (worktree / name).mkdir()
        (worktree / name / "config").write_text(f'[core]\n\tfsmonitor = "{canary(canaries, "lookalike")}"\n')
        (worktree / name / "HEAD").write_text("ref: refs/heads/main\n")
    (worktree / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = "-u./x"\n\tupdate = "!touch x"\n')
    touch = f"import pathlib; pathlib.Path({str(canaries / 'module')!r}).touch()\n"
    for name in ("org/__init__.py", "json.py", "sitecustomize.py", "click.py", "yaml/__init__.py"):
        (worktree / name).parent.mkdir(exist_ok=True)
        (worktree / name).write_text(touch)
    for name in ("prompts/charter.yaml", "prompts/orgs/x/org.yaml", "comms/org.json"):  # a home within the home
        (worktree / name).parent.mkdir(parents=True, exist_ok=True)
        (worktree / name).write_text(f"task: x\ncode: .\ncommand: {canary(canaries, 'home')}\n")
    (worktree / "absolute").symlink_to("/etc/passwd")
    (worktree / "around").symlink_to("back")
    (worktree / "back").symlink_to("around")
    (worktree / "dangling.py").symlink_to("../../../nowhere")
    Path(os.fsdecode(os.fsencode(worktree) + b"/\xff\xfe.py")).write_text("x = 1\n")
    (worktree / "deep" / "er").mkdir(parents=True)
    os.mkfifo(worktree / "deep" / "er" / "train.py")
    (worktree / "README.md").unlink()
    os.mkfifo(worktree / "README.md")  # a path of the tree: whoever opens it without a look waits for ever
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(worktree, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
    try:
        os.mknod(worktree / "device", 0o20666, os.makedev(1, 5))  # /dev/zero: it has no end
    except PermissionError:
        pass  # only root makes them


def hostile_code(folder: Path, canaries: Path) -> Path:
    """A repository with every setting and hook, and files that a plain reader takes."""
    folder.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    (folder / "train.py").write_text("print('---\\nval_bpb: 1.0')\n")
    (folder / ".gitattributes").write_text(ATTRIBUTES)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    lines = []
    for setting, value in SETTINGS.items():
        head, _, key = setting.rpartition(".")
        section, _, name = head.partition(".")
        run = canary(canaries, f"code-{setting}")
        lines.append(
            f'[{section}{f""" "{name}" """.rstrip() if name else ""}]\n\t{key} = "{value.replace("CANARY", run)}"\n'
        )
    with (folder / ".git" / "config").open("a") as file:
        file.write("".join(lines))
    return folder


ODD = ("README.md", "huge.bin", "around", "device", "socket", "loop")
STORIES: dict[str, list[tuple[str, tuple[int, ...]]]] = {  # command line, exit codes that are an answer
    "an experiment": [
        ("status --json", (0,)),
        ("doctor", (0, 1)),
        ("run -m why --dry", (0,)),
        ("run -m why --expect -0.01 --json", (0,)),
        ("--seat you run -m why", (0,)),
        ("run -m again", (3,)),
        ("verify E0001", (0,)),
        ("stack main", (0,)),
        ("results", (0,)),
        ("results --check", (0,)),
        ("results --csv", (0,)),
        ("standup now", (0,)),
        ("plot", (0,)),
        ("status", (0,)),
    ],
    "a place": [
        ("brief", (0,)),
        ("wiki find x", (0,)),
        ("launch --dry-run --chief 1 --juniors 1", (0,)),
        ("run --scratch -- true", (0,)),
        ("run --scratch -- ./pipe", (5,)),
        ("seat me", (0,)),
        ("seat me --sync", (0,)),
        ("seat me --program other", (0,)),
        ("seat third", (0,)),
    ],
    "a file": [
        ("audit absolute", (0, 1)),
        *((f"audit {name}", (2,)) for name in ODD),
        *((f"launch --dry-run --task ./{name}", (2,)) for name in ODD),
        *((f"init ../../../none --task ./{name}", (1, 2)) for name in ODD),
        ("init ../../../another --code CODE --metric val_bpb:lower", (0,)),
        ("--home ../../../another doctor", (0, 1)),
        ("--home ../../../another seat me", (0,)),
        ("init ../../../bad --code WORKTREE --metric val_bpb:lower", (2,)),
    ],
}


@pytest.mark.parametrize("story", STORIES)
def test_no_verb_runs_what_a_hostile_place_offers(place: Place, story: str) -> None:
    named = {"CODE": str(place.code), "WORKTREE": str(place.worktree)}
    for line, codes in STORIES[story]:
        done = call(place, *(named.get(word, word) for word in line.split()))
        assert ran(place.canaries) == [], line
        assert "Traceback" not in done.stderr, (line, done.stderr[-2000:])
        assert done.returncode in codes, (line, done.stdout[-1000:], done.stderr)
        assert len(done.stderr.splitlines()) <= 1, (line, done.stderr)
        assert "\x1b" not in done.stdout + done.stderr, line
