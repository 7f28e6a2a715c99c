"""Constants as text and as numbers."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.agents import knobs
from org.errors import BadInput
from org.records import Knob

LR = Knob("matrix_lr", "train.py", low=0.01, high=0.12, log=True)
WARMDOWN = Knob("warmdown_frac", "train.py", low=0.2, high=0.8)
ROWS = Knob("rows", "train.py", choices=(4, 8, 16))
ACT = Knob("activation", "train.py", choices=("relu2", "gelu"))
DEPTH = Knob("depth", "train.py", low=1, high=8, integer=True)
ALL = {knob.name: knob for knob in (LR, WARMDOWN, ROWS, ACT, DEPTH)}
SOURCE = """\
import math  # MATRIX_LR = 9
MATRIX_LR = 0.02  # Muon's, after a sweep
ROWS: int = 8
ACTIVATION = "relu2"  # or 'gelu' # really
N = 2**16
def f(MATRIX_LR = 3):
    MATRIX_LR = 4
"""


def test_only_the_constant_changes_and_its_comment_stays() -> None:
    after = knobs.write(SOURCE, "matrix_lr", 0.05)
    assert after == SOURCE.replace("MATRIX_LR = 0.02  #", "MATRIX_LR = 0.05  #")
    assert knobs.write(after, "matrix_lr", 0.02) == SOURCE


@pytest.mark.parametrize(
    "name, value",
    [("matrix_lr", 0.02), ("rows", 8), ("activation", "relu2"), ("n", None), ("missing", None)],
)
def test_plain_literals_are_read(name: str, value: object) -> None:
    assert knobs.read(SOURCE, name) == value


def test_an_expression_is_not_overwritten() -> None:
    with pytest.raises(BadInput, match="plain value"):
        knobs.write(SOURCE, "n", 3)


def test_a_float_stays_a_float_and_crlf_stays_crlf() -> None:
    assert knobs.write("A = 0.5\r\nB = 1\r\n", "a", 1) == "A = 1.0\r\nB = 1\r\n"


@given(st.floats(0.01, 0.12), st.floats(0.0, 1.0), st.sampled_from(list(ALL.values())))
def test_written_values_are_read_back_and_the_rest_is_untouched(value: float, where: float, knob: Knob) -> None:
    source = f"A = 1\n{knob.name.upper()} = 0.02  # why\nB = 2\n"
    new = knobs.at(knob, where) if not knob.choices else knob.choices[0]
    after = knobs.write(source, knob.name, new)
    assert knobs.same(knobs.read(after, knob.name), new)
    assert after.splitlines()[0::2] == ["A = 1", "B = 2"] and after.endswith("# why\nB = 2\n")
    ast.parse(after)


@given(
    st.sampled_from(list(ALL.values())),
    st.one_of(st.floats(0, 1), st.integers(-5, 20), st.sampled_from(["relu2", "x"])),
)
def test_first_steps_are_allowed_values_that_differ_from_the_present(knob: Knob, current: object) -> None:
    for value in knobs.steps(knob, current):  # type: ignore[arg-type]
        assert not knobs.same(value, current)
        assert value in knob.choices if knob.choices else knob.low <= value <= knob.high  # type: ignore[operator]
    assert knobs.steps(knob, current)  # type: ignore[arg-type]


def test_a_value_outside_its_range_goes_to_the_middle_first() -> None:
    assert knobs.steps(WARMDOWN, 0.0)[0] == 0.5
    assert knobs.steps(LR, 0.02)[0] == 0.04  # twice, towards the roomier side


@pytest.mark.parametrize(
    "text, value", [("matrix_lr=0.05", 0.05), (" ROWS = 16 ", 16), ("activation='gelu'", "gelu"), ("depth=4", 4)]
)
def test_typed_settings_are_understood(text: str, value: object) -> None:
    assert knobs.parse(text, ALL)[1] == value


@pytest.mark.parametrize(
    "text, says",
    [
        ("matrix_lr=5", "0.01..0.12"),
        ("matrix_lr=fast", "0.01..0.12"),
        ("matrix_lr=nan", "0.01..0.12"),
        ("depth=2.5", "whole"),
        ("rows=5", "4 or 8 or 16"),
        ("matrx_lr=0.05", "did you mean 'matrix_lr'"),
        ("faster please", "NAME=VALUE"),
        ("=", "NAME=VALUE"),
    ],
)
def test_bad_settings_say_the_allowed_form_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        knobs.parse(text, ALL)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=300))
def test_any_letter_can_be_searched_for_orders(text: str) -> None:
    knobs.settings_in(text, ALL)
    assert set(knobs.named_in(text, ALL)) <= set(ALL)


def test_orders_are_found_in_prose() -> None:
    text = "Please try matrix_lr = 0.05, then rows=16. Not rows=5; my_rows=4 is another."
    assert knobs.settings_in(text, ALL) == [(LR, 0.05), (ROWS, 16)]
    assert knobs.named_in("warmdown_frac before MATRIX_LR", ALL) == ["warmdown_frac", "matrix_lr"]
