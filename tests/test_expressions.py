"""No pattern that a line of a program's can make endless is taken from a description."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from org import backendschema, expressions, files, strictyaml
from org.errors import BadInput
from org.team import states

ENDLESS = [
    "(a+)+$",
    "(?:x{2,})*y",
    "(a|b+)*?c",
    "((ab)*c?)+d",
    "(?=(a+)+)b",
    r"(\w+\s?)*!",
    "(a{1,50}){1,50}$",
    "((?i:a+)b?)+$",
]
ENDLESS += ["(a|aa)+$", "(a?a)+$", "(?:ab|[ab]b)*c"]
PLAIN = [
    r"^\W*● 1\. ",
    r"[0-9.]+%/[0-9.]+k",
    "(esc|ctrl)( to)? cancel",
    r"^(?:\w{1,4} ){1,4}x",
    "(?:ab)+ (?:cd)+",
    r"x+y*\s+z",
]
PLAIN += ["(a|b)+c", "(?:[0-9a-f]{2}:)+", "(?:one|two)? more"]


@pytest.mark.parametrize("pattern", ENDLESS)
@pytest.mark.parametrize("field", ["ready", "mark"])
def test_a_repeat_inside_a_repeat_is_refused_in_one_line(tmp_path: Path, pattern: str, field: str) -> None:
    stash = {"keys": ["C-s"], "mark": "x" + pattern, "column": 2}
    row = {"screens": {"ready": ["x" + pattern]}} if field == "ready" else {"doorbell": {"stash": stash}}
    path = tmp_path / "unseen.yaml"
    files.replace(path, strictyaml.dump({"argv": ["unseen"], **row}))
    with pytest.raises(BadInput, match="has a repeat or a choice inside a repeat") as caught:
        backendschema.backend(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", PLAIN)
def test_what_people_write_is_taken(pattern: str) -> None:
    assert not expressions.is_nested(pattern)


def test_several_repeats_in_a_row_are_looked_for_in_a_bounded_time() -> None:
    begun = time.process_time()
    assert states.shown("\n".join(["a" * 5000] * 200), [("a+a+a+b", "ready")], 2) is None
    assert time.process_time() - begun < 2
    assert states.shown("x" * 200 + "ready", [("ready", "ready")]) is None
