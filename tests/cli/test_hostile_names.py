"""Names and counts that could reach tmux, git, a shell or a path: refused with one line and exit 2 before anything is made."""

from __future__ import annotations

import pytest

from org.home import Home

from .conftest import Cli, tree
from .test_cli_bad_input import one_line

NAMES = {
    "empty": "",
    "a blank": " ",
    "a command of tmux": "#(id)",
    "a format of tmux": "#{pid}",
    "a way up": "../x",
    "a path": "a/b",
    "absolute": "/etc/passwd",
    "an option": "-b",
    "a long option": "--help-me",
    "a pane of tmux": "a:b",
    "a window of tmux": "a.b",
    "33 characters": "a" * 33,
    "4,000 characters": "a" * 4000,
    "a line break": "a\nb",
    "a line break at its end": "j1\n",
    "an escape": "a\x1b[31m",
    "a tab": "a\tb",
    "bidi": "a\u202eb",
    "no width": "a\u200bb",
    "a Cyrillic letter": "\u0458" + "1",
    "full width": "\uff4a1",
    "a digit of another script": "j\u0661",
    "an accent": "j\u0301",
    "upper case": "J1",
    "a shell's": "$(id)",
    "back quotes": "`id`",
    "a semicolon": "a;b",
    "a pipe": "a|b",
    "a star": "*",
    "git's": "a..b",
    "a ref's": "@{-1}",
    "a lock's": "a.lock",
    "a dot": ".",
    "two dots": "..",
    "a tilde": "~",
    "a glob": "j[1]",
    "bytes that are no text": "\udce9",
}
COUNTS = [
    "",
    "-1",
    "65",
    "1e9",
    "1000000000",
    "NaN",
    "nan",
    "inf",
    "1.5",
    "0x1",
    "1_0",
    " 1",
    "\u0661",
    "\uff11",
    "#(id)",
]
COUNTS += ["1;id", "9" * 400, "+1", "1\n", "None"]
BUDGETS = ["0", "0s", "0runs", "-5m", "1e3s", "5y", "99999999h", "5m;id", "\u0665m", "5m\n", "5 m", "m"]
AGENTS = ["", " ", ",", "offline,", "#(id)", "-b", "../x", "offline:0", "offline:-1", "offline:100", "offline:1e9"]
AGENTS += ["offline:NaN", "offline:4:4", "cmd:", "cmd: ", "cmd:''", "a:b", "\u043effline", "OFFLINE", "cmd:'a"]
AGENTS += ["cmd:a\0b", "x" * 5000]
TASKS = ["", " ", "#(id)", "../x", "-b", "a:b", "x" * 300, "/dev/null/x", "/dev/zero", "a\0b", "/etc", "\udce9"]

VERBS = {
    "attach": ["attach", "--", "{}"],
    "stop": ["stop", "--", "{}"],
    "stop --clean": ["stop", "--clean", "--", "{}"],
    "seat": ["seat", "--", "{}"],
    "seat --program": ["seat", "me", "--program={}"],
    "hold": ["hold", "--", "{}"],
    "hold --off": ["hold", "--off", "--", "{}"],
    "launch --org": ["launch", "--dry-run", "--org={}"],
    "--seat": ["--seat={}", "inbox"],
}


def refused(cli: Cli, home: Home, *arguments: str) -> str:
    before = tree(home.root)
    done = cli("--home", str(home.root), *arguments)
    said = one_line(done.err)
    assert done.code == 2, (done.code, said)
    assert done.out == "" and tree(home.root) == before
    assert said.isprintable() and len(said) < 600, "what was typed is shown harmlessly, and not all of it"
    return said


@pytest.mark.parametrize("verb", VERBS)
def test_a_name_that_tmux_git_a_shell_or_a_path_would_misread_is_refused(cli: Cli, tiny_home: Home, verb: str) -> None:
    for name in NAMES.values():
        refused(cli, tiny_home, *[word.replace("{}", name) for word in VERBS[verb]])


@pytest.mark.parametrize("option", ["--chief=", "--juniors=", "--devices=cpu:", "--devices=", "--budget="])
def test_a_count_that_is_none_is_refused(cli: Cli, tiny_home: Home, option: str) -> None:
    for text in COUNTS:
        refused(cli, tiny_home, "launch", "--dry-run", option + text)


def test_a_budget_that_is_none_is_refused(cli: Cli, tiny_home: Home) -> None:
    for text in BUDGETS:
        assert "90s, 5m, 2h or 100runs" in refused(cli, tiny_home, "launch", "--dry-run", f"--budget={text}")


def test_agents_that_are_none_are_refused(cli: Cli, tiny_home: Home) -> None:
    for text in AGENTS:
        refused(cli, tiny_home, "launch", "--dry-run", "--juniors", "2", f"--agents={text}")


def test_a_task_that_is_none_is_refused(cli: Cli, tiny_home: Home) -> None:
    for text in TASKS:
        refused(cli, tiny_home, "launch", "--dry-run", f"--task={text}")
