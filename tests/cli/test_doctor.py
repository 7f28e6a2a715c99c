"""`doctor` says of every part whether it can be relied on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from persons import LR, Work
from tiny import make_tiny_home

from org import charter as charters
from org import files, strictyaml
from org.lab import archive, ledger

from .conftest import Cli


def test_an_intent_that_watches_nothing_any_more_is_named(cli: Cli, tmp_path: Path) -> None:
    home = make_tiny_home(tmp_path / "home")

    def found() -> tuple[bool, str]:
        checks = cli("--home", home.root, "doctor", "--json").json["checks"]
        return next((row["ok"], row["note"]) for row in checks if row["check"] == "intents")

    there = {"id": "budget", "path": "train.py", "anchor": "time.sleep(SLEEP_S)", "why": "runs take time"}
    other = {"id": "other", "path": "elsewhere.py", "anchor": "anything", "why": "it is of another task"}
    files.replace(home.intents, strictyaml.dump([there, other]))
    assert found() == (True, "1, each found in the code")
    files.replace(home.intents, strictyaml.dump([{**there, "anchor": "time.sleep(3)"}, other]))
    is_ok, note = found()
    assert not is_ok and "'budget'" in note and "train.py" in note and str(home.intents) in note


def test_a_record_or_a_ledger_that_is_gone_is_wrong(cli: Cli, tmp_path: Path) -> None:
    home = make_tiny_home(tmp_path / "home")

    def found() -> tuple[bool, str]:
        checks = cli("--home", home.root, "doctor", "--json").json["checks"]
        return next((row["ok"], row["note"]) for row in checks if row["check"] == "record")

    assert found() == (True, "no run yet")
    work = Work(home, tmp_path / "theirs")
    work.commit("begin")
    work.plant(LR)
    archive.commit(home, ledger.read(home), charters.load(home).metric.name)
    is_ok, note = found()
    assert is_ok and "agree with the record" in note
    for path in (home.record, home.ledger):
        path.rename(tmp_path / "elsewhere")
        is_ok, note = found()
        assert not is_ok and f"{path.name} is gone" in note, note
        (tmp_path / "elsewhere").rename(path)
    assert found()[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("claude-*: {input: banana}\n", "claude-*: input is a number, not 'banana'"),
        ("gpt-*: {context: .inf}\n", "gpt-*: context is a number"),
        ("gpt-*: {price: 1}\n", "gpt-*: knows input, output"),
        ("[1,2", "models.yaml"),
        ("[1, 2]\n", "write one model a line"),
    ],
)
def test_prices_that_are_nonsense_are_told_before_a_seat_meets_them(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    home = make_tiny_home(tmp_path / "home")
    program = tmp_path / "bin" / "codex"
    files.replace(program, "#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def prices() -> tuple[bool, str]:
        checks = cli("--home", home.root, "doctor", "--json").json["checks"]
        return next((row["ok"], row["note"]) for row in checks if row["check"] == "prices")

    def launch(agents: str) -> tuple[int, str]:
        done = cli("--home", home.root, "launch", "--dry-run", "--agents", agents)
        return done.code, done.err

    assert prices() == (True, "those of org") and launch("codex") == (0, "")
    path = home.prompts / "models.yaml"
    files.replace(path, text)
    is_ok, note = prices()
    assert not is_ok and str(path) in note and says in note
    code, err = launch("codex")
    assert code == 2 and str(path) in err and says in err and len(err.splitlines()) == 1
    assert launch("offline") == (0, "")  # it costs nothing


def test_a_folder_among_the_described_programs_is_one_row(cli: Cli, tmp_path: Path) -> None:
    home = make_tiny_home(tmp_path / "home")
    (home.backends / "dir.yaml").mkdir(parents=True)
    rows = {row["check"]: row for row in cli("--home", home.root, "doctor", "--json").json["checks"]}
    assert not rows["agent dir"]["ok"] and "dir.yaml" in rows["agent dir"]["note"]
    assert "record" in rows and "mail" in rows
