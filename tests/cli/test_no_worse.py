"""`org run --claim no-worse:lines` on the tiny trainer: null when underpowered, loss when it costs, holds when shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from org.home import Home
from org.lab import ledger
from org.world import git

SPARE = "SPARE = 3  # nothing reads it\n"
COST = 'val_bpb += 0.0 if "SPARE" in globals() else 0.07\n'  # more than two margins


@pytest.mark.slow
@pytest.mark.parametrize(
    ("margin", "cost", "outcome", "says"),
    [
        ("0.00001", "", "null", "underpowered"),
        ("0.03", COST, "loss", "harm"),
        ("0.03", "", "holds", "0 added, 1 removed"),
    ],
)
def test_a_deletion_is_called_what_was_shown(cli, tiny_home: Home, margin, cost, outcome, says) -> None:
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace("margin: 0.005", f"margin: {margin}"))
    code = tiny_home.root / "code" / "train.py"
    text = code.read_text().replace("SLEEP_S = 0.0", SPARE + "SLEEP_S = 0.0")
    code.write_text(text.replace("for step in range", cost + "for step in range"))
    seat = cli("--home", tiny_home.root, "seat", "me", "--json").json
    path = Path(seat["worktree"]) / "train.py"
    path.write_text(path.read_text().replace(SPARE, ""))
    arguments = ["run", "-m", "nothing reads it", "--claim", "no-worse:lines", "--json"]
    said = cli("--home", tiny_home.root, "--seat", "me", *arguments)
    assert said.code == 0, said.err
    verdict = said.json["verdict"]
    assert (verdict["outcome"], verdict["claim"]) == (outcome, "no-worse:lines"), verdict["reasons"]
    assert says in " ".join(verdict["reasons"])


@pytest.mark.slow  # eight fresh seeds an arm
def test_what_holds_is_verified_alone_and_becomes_the_head(cli, tiny_home: Home) -> None:
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace("margin: 0.005", "margin: 0.03"))
    code = tiny_home.root / "code" / "train.py"
    code.write_text(code.read_text().replace("SLEEP_S = 0.0", SPARE + "SLEEP_S = 0.0"))
    seat = cli("--home", tiny_home.root, "seat", "me", "--json").json
    path = Path(seat["worktree"]) / "train.py"
    path.write_text(path.read_text().replace(SPARE, ""))
    cli("--home", tiny_home.root, "--seat", "me", "run", "-m", "nothing reads it", "--claim", "no-worse:lines")
    verdict = cli("--home", tiny_home.root, "verify", "E0001", "--json").json["verdict"]
    assert (verdict["outcome"], verdict["tier"], verdict["claim"]) == ("holds", "verified", "no-worse:lines")
    assert verdict["n"] == 8
    book = ledger.read(tiny_home)
    head = book.heads["main"]
    assert (head["experiment"], head["members"], head["effect"]) == ("E0002", ["E0001"], None)
    assert SPARE.encode() not in (git.read_file(tiny_home.record, head["commit"], "train.py") or SPARE.encode())
    assert cli("--home", tiny_home.root, "status", "--json").json["best"]["verified"] is None, (
        "a deletion gains nothing"
    )
    assert cli("--home", tiny_home.root, "results", "--check").code == 0
    assert cli("--home", tiny_home.root, "standup", "now").code == 0
