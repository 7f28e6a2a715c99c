"""Layout is put back where the code is the same, and a reason is held against the diff."""

from __future__ import annotations

import ast

import pytest

from org.evidence import comments, contract, rules
from org.records import Charter, Metric, Scale

BASE = """\
LR = 0.1
BETA = 0.9


class Model:
    def forward(self, x):
        # the sum first: it is exact
        y = x + 1
        return y * 2

    def other(self, x):
        return x


def f(a, b):
    return a + b  # (B, T)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    return a + b  # (B, T)", "    return (\n        a\n        + b  # (B, T)\n    )"),
        ("        y = x + 1\n", "        y = (x+1)\n"),
        ("LR = 0.1\nBETA = 0.9", "LR    = 0.1\nBETA  = 0.9"),
        ("def f(a, b):", "def f(\n    a,\n    b,\n):"),
    ],
)
@pytest.mark.parametrize("other", [("return x\n", "return x - 1\n"), ("", "")])
def test_layout_is_put_back_beside_any_change(old: str, new: str, other: tuple[str, str]) -> None:
    changed = BASE.replace(*other, 1) if other[0] else BASE
    text, notices = comments.restore_layout(BASE, changed.replace(old, new, 1))
    assert text == changed
    assert notices and all("layout" in said for said in notices)


@pytest.mark.parametrize(
    "text",
    [BASE, BASE.replace("0.1", "0.2"), BASE + "\n\ndef g():\n    return 1\n", "def f(:", BASE.replace("# (B, T)", "")],
)
def test_what_is_no_layout_is_left_alone(text: str) -> None:
    assert comments.restore_layout(BASE, text) == (text, [])


def test_joined_lines_are_no_lines_less() -> None:
    charter = Charter("t", "c", "python t.py", Metric(), ("t.py",), (), {"s": Scale("s", 1)}, "s")
    joined = BASE.replace("        y = x + 1\n        return y * 2", "        y = x + 1; return y * 2").replace(
        "0.1", "0.2"
    )
    found = contract.derive({"t.py": BASE}, {"t.py": joined}, charter)
    assert (found.lines_added, found.lines_removed) == (1, 1)
    ast.parse(joined)


@pytest.mark.parametrize(
    ("why", "is_true"),
    [
        ("LR was too small", True),
        ("lr from 0.1 to 0.2", True),
        ("LR 0.1 -> 0.2, BETA stays", True),
        ("BETA is at its best, so turn LR", True),
        ("an idea about scale 3", True),
        ("BETA is too small", False),
        ("LR -> 0.3", False),
        ("LR=0.25", False),
        ("LR to 0.2 and BETA to 0.8", False),
    ],
)
def test_a_reason_and_its_diff(why: str, is_true: bool) -> None:
    charter = Charter("t", "c", "python t.py", Metric(), ("t.py",), (), {"s": Scale("s", 1)}, "s")
    base, cand = {"t.py": BASE}, {"t.py": BASE.replace("0.1", "0.2")}
    found = rules.check_why(why, base, contract.derive(base, cand, charter))
    assert (found == []) == is_true, found
