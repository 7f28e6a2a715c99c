"""What a diff begins to do is named; what the base does already, or does in another place, is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.evidence.conduct import MAX_LITERALS, misconduct

BASE = """\
import os
import time

import data
import torch

LR = 0.1
HOST = os.environ.get("HOST", "x")


def f(x):
    return x
"""


def rules(new: str, base: str = BASE) -> list[tuple[str, int | None]]:
    found = misconduct({"t.py": base}, {"t.py": new}, frozen=("lib/data.py",), knobs=("lr",))
    assert all(v.message and "\n" not in v.message for v in found)
    return [(v.rule, v.line) for v in found]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("x = os.environ['A']", "environment"),
        ("x = os.getenv('A')", "environment"),
        ("from os import environ as e", "environment"),
        ("exec('1')", "dynamic"),
        ("run = eval", "dynamic"),
        ("import ctypes", "dynamic"),
        ("from importlib import import_module", "dynamic"),
        ("from data import *", "dynamic"),
        ("f.__code__ = f.__code__", "dynamic"),
        ("data.batch = f", "patch"),
        ("data.BUDGET = 3", "patch"),
        ("time.time = f", "patch"),
        ("torch.nn.functional.cross_entropy = f", "patch"),
        ("setattr(torch, 'compile', f)", "patch"),
        ("del data.batch", "patch"),
        ("data.a, x = 1, 2", "patch"),
        ("for LR in (1, 2):\n    pass", "constant"),
        ("LR *= 2", "constant"),
        ("\uff54ime = 3", "look-alike"),
        ("d\u0430ta = 3", "look-alike"),
        ("x = 'a\u202eb'", "look-alike"),
    ],
)
def test_new_tricks_are_named_with_their_line(line: str, rule: str) -> None:
    found = rules(BASE + line + "\n")
    assert found and all(found_rule == rule for found_rule, _ in found)
    assert found[0][1] == len(BASE.splitlines()) + 1


@pytest.mark.parametrize(
    "line",
    [
        "os.environ['PYTORCH_CUDA_ALLOC_CONF'] = 'expandable_segments:True'",
        "torch.backends.cuda.matmul.allow_tf32 = True",
        "model = f\nmodel.eval",
        "class A:\n    def g(self):\n        self.data = 1",
        "def g(data):\n    data.x = 1",
        "def g():\n    time = f(1)\n    time.x = 2",
        "compiled = torch.compile(f)",
        "\u03c3 = 1",
        "s = 'caf\u00e9 \u0434\u0430'",
        "def g():\n    lr = 3",
    ],
)
def test_ordinary_code_is_not(line: str) -> None:
    assert rules(BASE + line + "\n") == []


def test_what_the_base_does_may_stay_and_move() -> None:
    moved = BASE.replace('HOST = os.environ.get("HOST", "x")\n', "")
    after = {"t.py": moved, "u.py": 'import os\nHOST = os.environ.get("HOST", "x")\n'}
    assert misconduct({"t.py": BASE, "u.py": ""}, after) == []
    assert rules(BASE + 'PORT = os.environ.get("HOST", "x")\n')[0][0] == "environment"


def test_data_in_literals_has_a_limit_and_docstrings_are_no_data() -> None:
    assert rules(BASE + f"T = {'x' * MAX_LITERALS!r}\n") == [("data", None)]
    assert rules(BASE + f"T = {[7] * (MAX_LITERALS + 1)}\n") == [("data", None)]
    assert rules(BASE + f'def g():\n    """{"x" * MAX_LITERALS}"""\n') == []


@given(st.text(max_size=200))
def test_any_text_gets_an_answer(text: str) -> None:
    misconduct({"t.py": BASE}, {"t.py": text})
    misconduct({"t.py": text}, {"t.py": BASE})
