"""The same code filed twice: told from a digest of each contract, and allowed once more where it was retracted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from org import charter as charters
from org.errors import Refused
from org.evidence import contract as contracts
from org.home import Home
from org.lab import gate
from org.lab.ledger import Ledger
from org.records import Charter, Contract, Seat, Verdict

Make = Callable[..., Seat]
Edit = Callable[..., None]


def first(text: str) -> tuple[str, str]:
    return "import argparse", f"{text}\nimport argparse"


def file(home: Home, make_seat: Make, edit: Edit, name: str, text: str) -> Contract:
    seat = make_seat(name)
    edit(seat, *first(text))
    return gate.submit(home, seat, f"{name} tries something")


def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trees whose editable texts the gate reads from here on."""
    read, plain = [], gate.texts_of

    def counted(home: Home, charter: Charter, tree: str) -> dict[str, str]:
        read.append(tree)
        return plain(home, charter, tree)

    monkeypatch.setattr(gate, "texts_of", counted)
    return read


def test_code_filed_before_is_found_without_reading_it_again(tiny_home, make_seat, edit, monkeypatch) -> None:
    filed = [file(tiny_home, make_seat, edit, f"s{i}", f"import {m}") for i, m in enumerate(("cmath", "math", "csv"))]
    assert len({contract.code for contract in filed}) == 3
    read = reads_of(monkeypatch)
    with pytest.raises(Refused, match=f"as {filed[1].experiment} of s1"):
        file(tiny_home, make_seat, edit, "other", "# the same, in other clothes\nimport   math\n")
    assert not {contract.tree for contract in filed} & set(read)


def test_a_contract_without_a_digest_is_read(tiny_home, make_seat, edit, monkeypatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(contracts, "code_digest", lambda texts, charter: "")
        old = file(tiny_home, make_seat, edit, "me", "import math")
    assert old.code == ""
    assert file(tiny_home, make_seat, edit, "you", "import cmath").code
    with pytest.raises(Refused, match=f"as {old.experiment} of me"):
        file(tiny_home, make_seat, edit, "other", "# the same, in other clothes\nimport math\n")


@pytest.mark.parametrize(
    ("one", "two", "is_same"),
    [
        ({"a.py": "X = 1\n"}, {"a.py": "# said\nX = 1.0 - 0\n"}, False),
        ({"a.py": "X = 0.5\n"}, {"a.py": '"""Said."""\nX = 1 / 2\n'}, True),
        ({"a.py": "def f(x): return x\n"}, {"a.py": "def f(x):\n    return x  # it\n"}, True),
        ({"a.py": "x = 1\n"}, {"a.py": "x = 1\n", "b.py": ""}, False),
        ({"a.txt": "x\n"}, {"a.txt": "x\n\n"}, False),
        ({"a.py": "X = 1\n"}, {"a.py": "X = 2\n"}, False),
        ({"a.py": "x = (\n"}, {"a.py": "x = (\n"}, True),
    ],
)
def test_digests_are_equal_where_the_code_is(one: dict, two: dict, is_same: bool, tiny_home: Home) -> None:
    tiny_charter = charters.load(tiny_home)
    made = [contracts.code_digest(texts, tiny_charter) for texts in (one, two)]
    assert (made[0] == made[1]) is is_same
    if "(" not in one.get("a.py", "")[-2:]:
        assert contracts.same_code(one, two, tiny_charter) is is_same
    elsewhere = contracts.code_digest(one, replace(tiny_charter, editable=("b.py",)))
    assert elsewhere.partition("-")[0] != made[0].partition("-")[0]


def retract(home: Home, name: str, retest: str) -> None:
    """The lines that a win and its fall at `demo` leave."""
    ledger = Ledger(home)
    row = {"experiment": name, "outcome": "win", "tier": "tentative", "claim": "better", "effect": -0.1, "se": 0.01}
    facts = {"z": 10.0, "n": 2, "matched_on": "tokens", "trust": "referee", "reasons": [], "runs": []}
    ledger.append("verdict", f"verdict:{name}", Verdict.from_dict({**row, **facts}).to_dict())
    gone = {"program": "main", "experiment": retest, "scale": "demo", "retracts": [name], "was": "1", "commit": "1"}
    ledger.append("head", f"retract:{retest}", gone)


def test_what_was_retracted_may_be_filed_once_more_and_owes_what_it_fell_at(tiny_home, make_seat, edit) -> None:
    rungs = "  tiny: {steps: 10, bank: 3, deadline_s: 30}\n"
    text = tiny_home.charter.read_text()
    tiny_home.charter.write_text(text.replace(rungs, f"{rungs}  demo: {{steps: 20, bank: 3, deadline_s: 30}}\n"))
    one = file(tiny_home, make_seat, edit, "me", "import math")
    retract(tiny_home, one.experiment, "E0091")
    two = file(tiny_home, make_seat, edit, "you", "import math")
    assert two.owed_scales == ("demo",)
    assert any("retracted at demo by E0091" in notice for notice in two.notices)
    with pytest.raises(Refused, match=f"is being measured as {two.experiment} of you"):
        file(tiny_home, make_seat, edit, "other", "import math")
    retract(tiny_home, two.experiment, "E0092")
    with pytest.raises(Refused, match=r"\(retracted at demo by E0091 and retracted at demo by E0092\)"):
        file(tiny_home, make_seat, edit, "last", "import math")
