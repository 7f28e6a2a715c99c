"""`org run --claim no-worse:lines` on the tiny trainer: null when underpowered, loss when it costs, holds when shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from org.home import Home

SPARE = "SPARE = 3  # nothing reads it\n"
COST = 'val_bpb += 0.0 if "SPARE" in globals() else 0.07\n'  # more than two margins


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
