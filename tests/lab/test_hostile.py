"""A repository that tries to run something of its own: no verb of the gate runs any of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from traps import small
from waiting import wait_for

from org.errors import OrgError, Refused
from org.home import Home
from org.lab import dispatch, fidelity, follow, gate, ledger, record, stacks
from org.records import BANK
from org.world import git, worktrees

pytestmark = pytest.mark.slow  # drives every verb of the gate

HOOKS = [
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "proc-receive",
    "post-receive",
    "post-update",
    "reference-transaction",
    "push-to-checkout",
    "pre-auto-gc",
    "post-rewrite",
    "sendemail-validate",
    "fsmonitor-watchman",
    "post-index-change",
]
SETTINGS = {  # section.key -> value; CANARY becomes a command that leaves a file
    "core.fsmonitor": "CANARY",
    "core.sshCommand": "CANARY",
    "core.gitProxy": "CANARY",
    "core.pager": "CANARY",
    "core.editor": "CANARY",
    "core.askPass": "CANARY",
    "core.alternateRefsCommand": "CANARY",
    "sequence.editor": "CANARY",
    "diff.external": "CANARY",
    "diff.evil.textconv": "CANARY",
    "diff.evil.command": "CANARY",
    "merge.evil.driver": "CANARY",
    "filter.evil.clean": "CANARY",
    "filter.evil.smudge": "CANARY",
    "filter.evil.process": "CANARY",
    "filter.evil.required": "true",
    "credential.helper": "!CANARY",
    "gpg.program": "CANARY",
    "commit.gpgSign": "true",
    "uploadpack.packObjectsHook": "CANARY",
    "receive.procReceiveRefs": "refs",
    "interactive.diffFilter": "CANARY",
    "trailer.x.command": "CANARY",
    "gc.recentObjectsHook": "CANARY",
    "extensions.partialClone": "evil",
    "remote.evil.url": "ext::CANARY",
    "remote.evil.promisor": "true",
    "pager.log": "CANARY",
    "alias.fetch": "!CANARY",
}
ATTRIBUTES = "* filter=evil diff=evil merge=evil ident export-subst\n"


@pytest.fixture
def canaries(tmp_path: Path) -> Path:
    folder = tmp_path / "canaries"
    folder.mkdir()
    return folder


def plant(home: Home, worktree: Path, canaries: Path) -> None:
    """Every mechanism that git offers to run a program, in the hub's and the worktree's own configuration."""

    def canary(name: str) -> str:
        script = canaries.with_name(f"canary-{name}".replace(":", "-"))
        script.write_text(f"#!/bin/sh\ntouch '{canaries}/{name}'\nexit 0\n")
        script.chmod(0o755)
        return str(script)

    hooks = home.hub / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in HOOKS:
        (hooks / name).write_bytes(Path(canary(f"hook-{name}")).read_bytes())
        (hooks / name).chmod(0o755)
    lines = [f"[core]\n\thooksPath = {hooks}\n"]
    for setting, value in SETTINGS.items():
        head, _, key = setting.rpartition(".")
        section, _, name = head.partition(".")
        run = canary(setting.replace("/", "-"))
        name, value = name.replace("CANARY", run), value.replace("CANARY", run)
        lines.append(f'[{section}{f""" "{name}" """.rstrip() if name else ""}]\n\t{key} = "{value}"\n')
    included = canaries.with_name("included")
    included.write_text("".join(lines))
    with (home.hub / "config").open("a") as file:
        file.write(f"[include]\n\tpath = {included}\n")
    (home.hub / "info").mkdir(exist_ok=True)
    (home.hub / "info" / "attributes").write_text(ATTRIBUTES)
    (worktree / ".gitattributes").write_text(ATTRIBUTES)


def odd_files(worktree: Path) -> None:
    """Names and kinds of files that a careless reader trips over, none of them editable."""
    for name in ("--output=x", "a\nb.py", "q\"uo'te.py", "$(touch x).py", ":(glob)x.py", "\x1b[31m.py"):
        (worktree / name).write_text("x = 1\n")
    (worktree / "loop").symlink_to(".")
    (worktree / "up").symlink_to("../../..")
    os.mkfifo(worktree / "pipe")
    with (worktree / "huge.bin").open("wb") as file:
        file.truncate(5 << 30)  # sparse


def ran(canaries: Path) -> list[str]:
    return sorted(p.name for p in canaries.iterdir())


def test_the_canaries_sing_when_git_is_used_carelessly(tiny_home, make_seat, edit, canaries) -> None:
    seat = make_seat()
    plant(tiny_home, Path(seat.worktree), canaries)
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    quiet = ["-c", "filter.evil.process=", "-c", "filter.evil.required=false", "-c", "core.fsmonitor=false"]
    for settings in ([], quiet):
        for command in (["status"], ["diff"], ["add", "train.py"], ["commit", "-m", "x"]):
            subprocess.run(["git", "-C", seat.worktree, *settings, *command], check=False, capture_output=True)
    assert len(ran(canaries)) >= 5, "the mechanisms planted are not live, so the other test shows nothing"


def test_no_verb_of_the_gate_runs_what_a_repository_offers(tiny_home, make_seat, edit, canaries) -> None:
    seat, other = make_seat(), make_seat("you")
    plant(tiny_home, Path(seat.worktree), canaries)
    odd_files(Path(seat.worktree))
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    edit(other, "WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5")
    gate.submit(tiny_home, seat, "dry", dry=True)
    for who in (seat, other):
        contract = gate.submit(tiny_home, who, "why")
        follow.drive(tiny_home, contract.experiment, lambda line: None, poll_s=0.05)
    dispatch.Dispatcher(tiny_home).tick(allow_new=False)
    stack = stacks.stack(tiny_home, "main")
    assert stack is not None
    follow.drive(tiny_home, stack.experiment, lambda line: None, poll_s=0.05)
    dispatch.Dispatcher(tiny_home).tick(allow_new=False)
    record.publish(tiny_home)
    worktrees.list_worktrees(tiny_home.hub)
    assert fidelity.problems(tiny_home) == []
    worktrees.remove(tiny_home.hub, Path(other.worktree))
    assert ran(canaries) == []
    head = record.program_head(tiny_home, "main")[0]
    assert {e.path for e in git.list_tree(tiny_home.record, head)} == {"README.md", "train.py"}


@pytest.mark.parametrize("name", ["a\nb.py", "--output=x", "tr\u0430in.py", "\x1b]0;x\x07.py"])
def test_an_odd_name_that_is_committed_is_refused_in_one_line(tiny_home, make_seat, edit, canaries, name) -> None:
    seat = make_seat()
    (Path(seat.worktree) / name).write_text("x = 1\n")
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    for command in (["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", seat.worktree, *command], check=True)
    plant(tiny_home, Path(seat.worktree), canaries)
    with pytest.raises(Refused) as refused:
        gate.submit(tiny_home, seat, "why")
    said = [v.message for v in refused.value.violations]
    assert said and all("\n" not in text and "\x1b" not in text for text in said)
    assert ran(canaries) == []


def test_a_hub_that_cannot_be_read_or_fetches_by_a_program_is_one_line(tiny_home, make_seat, edit, canaries) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    with (tiny_home.hub / "config").open("a") as file:
        file.write(f'[url "ext::touch {canaries}/x %S "]\n\tinsteadOf = /\n')
    with pytest.raises(OrgError):
        record.publish(tiny_home)
    dispatcher = dispatch.Dispatcher(tiny_home)
    assert [line for line in dispatcher.tick(allow_new=False) if "takes no branches" in line], "it goes on, and says so"
    assert dispatcher.tick(allow_new=False) == []
    (tiny_home.hub / "HEAD").unlink()
    with pytest.raises(OrgError):
        gate.submit(tiny_home, seat, "why")
    assert ran(canaries) == []


def test_alternates_of_a_hub_are_asked_by_no_command_of_its_own(tiny_home, make_seat, edit, canaries) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    elsewhere = canaries.with_name("elsewhere.git")
    git.init_bare(elsewhere)
    info = tiny_home.hub / "objects" / "info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text(f"{elsewhere}/objects\n")
    with (tiny_home.hub / "config").open("a") as file:
        file.write(f"[core]\n\talternateRefsCommand = \"touch '{canaries}/x' #\"\n")
    head, tree = record.program_head(tiny_home, "main")
    git.update_ref(tiny_home.record, record.main_ref("main"), git.commit(tiny_home.record, tree, [head], "news"), head)
    record.publish(tiny_home)
    gate.submit(tiny_home, seat, "why")
    dispatch.Dispatcher(tiny_home).tick(allow_new=False)
    assert ran(canaries) == []


def test_what_lies_in_a_runs_folder_is_no_module_of_the_referee(odd_path, canaries, monkeypatch) -> None:
    """Without walls a trainer can write beside its own folders; the referee starts there, with no walls at all."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(odd_path / "cache"))
    home = small.make_home(odd_path / "home")
    for seed in (1, 2, 3):
        folder = home.run(f"{BANK}/baseline-s{seed}")
        folder.mkdir(parents=True)
        for name in ("json.py", "numpy.py", "org.py", "sitecustomize.py"):
            (folder / name).write_text(f"import pathlib; pathlib.Path({str(canaries / name)!r}).touch()\n")
    dispatcher = dispatch.Dispatcher(home)
    dispatcher.tick()
    wait_for(lambda: not dispatcher.running(), what="the end of the runs")
    assert ran(canaries) == []
    results = ledger.read(home).results.values()
    assert results and {r.status for r in results} == {"ok"}
