"""`doctor` says of every part whether it can be relied on."""

from __future__ import annotations

from pathlib import Path

from persons import LR, Work
from tiny import make_tiny_home

from org import charter as charters
from org import files
from org.lab import archive, ledger

from .conftest import Cli


def test_an_intent_that_watches_nothing_any_more_is_named(cli: Cli, tmp_path: Path) -> None:
    home = make_tiny_home(tmp_path / "home")

    def found() -> tuple[bool, str]:
        checks = cli("--home", home.root, "doctor", "--json").json["checks"]
        return next((row["ok"], row["note"]) for row in checks if row["check"] == "intents")

    there = {"id": "budget", "path": "train.py", "anchor": "time.sleep(SLEEP_S)", "why": "runs take time"}
    other = {"id": "other", "path": "elsewhere.py", "anchor": "anything", "why": "it is of another task"}
    files.replace(home.intents, files.dump_yaml([there, other]))
    assert found() == (True, "1, each found in the code")
    files.replace(home.intents, files.dump_yaml([{**there, "anchor": "time.sleep(3)"}, other]))
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
