"""A diff is read for what it is, each trap of the contract is refused, and its benign twin passes."""

from __future__ import annotations

import ast
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import in_time

from org.errors import BadInput
from org.evidence import comments, contract, rules
from org.records import Charter, Metric, Scale

TRAIN = '''\
"""Trains."""
import math

# Muon's step. 0.01-0.12.
MATRIX_LR = 0.02  # half of what is best

BETAS = (0.8, 0.95)


def norm(x):
    """RMS norm."""
    # no weights: they would be folded into the next matrix
    return x / math.sqrt(x)  # (B, T, C)


def f(x):
    # the clamp keeps the log finite
    return norm(x)
'''
PATH = "nanochat/train.py"
FILE = ("100644", "a" * 40)
BASE = {PATH: FILE, "nanochat/prepare.py": FILE, "nanochat/__init__.py": FILE}


@pytest.fixture
def charter() -> Charter:
    return Charter(
        task="t",
        code="nanochat",
        command="python -m nanochat.train",
        metric=Metric(),
        editable=("nanochat/train.py", "nanochat/parts/*.py"),
        frozen=("nanochat/prepare.py", "nanochat/__init__.py"),
        scales={"smoke": Scale("smoke", 300)},
        scale="smoke",
    )


def broken(charter: Charter, files: dict, text: str | None = None, more: dict[str, str] | None = None) -> list[str]:
    texts = {PATH: TRAIN.replace("0.02", "0.04") if text is None else text, **(more or {})}
    changed = {PATH: ("100644", "b" * 40), **files}
    tree = {path: entry for path, entry in {**BASE, **changed}.items() if entry is not None}
    found = rules.violations(BASE, tree, {PATH: TRAIN}, texts, charter)
    assert all(v.message and "\n" not in v.message for v in found)
    return [v.rule for v in found]


def test_constants_are_literals_at_module_level_and_the_last_one_counts() -> None:
    source = "A = 1\nB = (0.8, -2)\nC = A + 1\nlower = 3\nD: int = 4\nif True:\n    E = 5\nA = 6\nF = 'x'\n"
    found = contract.constants(source)
    assert {name: c.value for name, c in found.items()} == {"A": 6, "B": (0.8, -2), "D": 4, "F": "x"}
    assert found["A"].line == 8


@pytest.mark.slow  # two seconds of drawn texts
@given(st.text())
def test_any_text_has_constants_or_a_line(text: str) -> None:
    try:
        contract.constants(text)
    except contract.SourceError as error:
        assert error.line is None or error.line >= 0


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True), st.one_of(st.integers(), st.booleans())))
def test_constants_come_back_as_they_were_written(values: dict) -> None:
    source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    assert {name: c.value for name, c in contract.constants(source).items()} == values


def test_a_turned_knob_is_no_code_change(charter: Charter) -> None:
    found = contract.derive({PATH: TRAIN}, {PATH: TRAIN.replace("0.02", "0.04")}, charter)
    assert [(k.name, k.old, k.new, k.line) for k in found.knobs] == [("MATRIX_LR", 0.02, 0.04, 5)]
    assert (found.lines_added, found.lines_removed, found.ablations_owed, found.is_empty) == (1, 1, (), False)


def test_two_changes_owe_an_ablation_each(charter: Charter) -> None:
    text = TRAIN.replace("0.02", "0.04").replace("(0.8, 0.95)", "(0.9, 0.95)")
    assert contract.derive({PATH: TRAIN}, {PATH: text}, charter).ablations_owed == (
        "without-MATRIX_LR",
        "without-BETAS",
    )
    text = TRAIN.replace("0.02", "0.04").replace("return norm(x)", "return norm(norm(x))") + "NEW = 3\n"
    found = contract.derive({PATH: TRAIN}, {PATH: text}, charter)
    assert found.ablations_owed == ("without-MATRIX_LR", "without-code")
    assert found.new_constants == ("NEW",)


@pytest.mark.parametrize(
    "text",
    [
        TRAIN,
        TRAIN.replace("  # (B, T, C)", ""),
        TRAIN.replace("RMS norm.", "RMS."),
        TRAIN.replace("0.02", "0.020"),
        TRAIN + "\n\n",
    ],
)
def test_what_cannot_change_a_number_is_empty(charter: Charter, text: str) -> None:
    assert contract.derive({PATH: TRAIN}, {PATH: text}, charter).is_empty
    assert broken(charter, {PATH: FILE if text == TRAIN else ("100644", "c" * 40)}, text) == ["empty"]


def test_comments_are_no_lines_of_code(charter: Charter) -> None:
    """A `no-worse:lines` claim cannot be earned by deleting comments."""
    text = TRAIN.replace("    # no weights: they would be folded into the next matrix\n", "").replace("0.02", "0.03")
    found = contract.derive({PATH: TRAIN}, {PATH: text}, charter)
    assert (found.lines_added, found.lines_removed) == (1, 1)


@pytest.mark.parametrize(
    ("path", "glob", "expected"),
    [
        ("a/b.py", "a/*.py", True),
        ("a/b/c.py", "a/*.py", False),
        ("a/b/c.py", "a/**", True),
        ("a/b/c.py", "**/c.py", True),
        ("c.py", "**/c.py", True),
        ("xc.py", "**/c.py", False),
        ("a/b.py", "a/?.py", True),
        ("a//.py", "a/?.py", False),
        ("a/b.py", "a/[bc].py", True),
        ("a/b.py", "a/[!bc].py", False),
        ("a/b.py", "a/", True),
        ("a.py\n", "a.py", False),
        ("axpy", "a.py", False),
        ("[", "[", True),
    ],
)
def test_globs(path: str, glob: str, expected: bool) -> None:
    assert rules.matches(path, glob) is expected


@given(st.text(max_size=12), st.text(alphabet="a/*?[]!.^-\\", max_size=8))
def test_any_glob_gives_an_answer_and_a_star_never_crosses_a_folder(path: str, glob: str) -> None:
    assert rules.matches(path, glob) in (True, False)
    if "/" in path:
        assert not rules.matches(path, "*")


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"nanochat/prepare.py": ("100644", "c" * 40)}, "frozen"),
        ({"nanochat/prepare.py": None}, "frozen"),
        ({"README.md": FILE}, "editable-only"),
        ({"nanochat/other.py": FILE}, "editable-only"),
        ({PATH: ("120000", "c" * 40)}, "mode"),
        ({PATH: ("100755", "c" * 40)}, "mode"),
        ({"nanochat/parts": ("160000", "c" * 40)}, "mode"),
        ({"sitecustomize.py": FILE}, "look-alike"),
        ({"nanochat/parts/conftest.py": FILE}, "look-alike"),
        ({"nanochat/parts/torch.py": FILE}, "look-alike"),
        ({"torch/__init__.py": FILE}, "look-alike"),
        ({"nanochat/parts/nanochat.py": FILE}, "look-alike"),
        ({"time.py": FILE}, "look-alike"),
        ({"math/__init__.py": FILE}, "look-alike"),
        ({"nanochat/prepare/__init__.py": FILE}, "look-alike"),
        ({"nanochat/prepare.cpython-311-x86_64-linux-gnu.so": FILE}, "look-alike"),
        ({"evil.pth": FILE}, "look-alike"),
        ({"nanochat/tr\u0430in.py": FILE}, "look-alike"),
        ({"nanochat/Train.py": FILE}, "look-alike"),
    ],
)
def test_traps_are_refused(charter: Charter, files: dict, rule: str) -> None:
    assert broken(charter, files) == [rule]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"nanochat/parts/optim.py": FILE},
        {"nanochat/parts/random.py": FILE},
        {"nanochat/parts/torch_utils.py": FILE},
    ],
)
def test_benign_twins_pass(charter: Charter, files: dict) -> None:
    assert broken(charter, files, more=dict.fromkeys(files, "x = 1\n")) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [("def f(:\n", "syntax"), ("x = '\0'\n", "syntax"), ("x = 1\n" * 200_000, "size"), ("(" * 5000, "syntax")],
)
def test_a_text_that_cannot_run_is_refused(charter: Charter, text: str, rule: str) -> None:
    assert broken(charter, {}, text) == [rule]


@pytest.mark.parametrize("claim", ["better", "no-worse:lines", "no-worse:step_s"])
def test_claims(claim: str) -> None:
    assert contract.check_claim(claim) == claim
    for wrong in (claim + "x", "no-worse", "no-worse:", "best"):
        with pytest.raises(BadInput):
            contract.check_claim(wrong)


# --- comments ----------------------------------------------------------------------------------------------------


def bare(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]
    return ast.dump(tree)


@pytest.mark.parametrize(
    "lost",
    [
        "    # no weights: they would be folded into the next matrix\n",
        "  # (B, T, C)",
        '    """RMS norm."""\n',
        '"""Trains."""\n',
        "    # the clamp keeps the log finite\n",
    ],
)
def test_a_comment_lost_beside_unchanged_code_is_put_back(lost: str) -> None:
    changed = TRAIN.replace("0.02", "0.04")
    text, notices = comments.restore_comments(TRAIN, changed.replace(lost, ""))
    assert text == changed
    assert len(notices) == 1


def test_a_rewritten_comment_gets_its_old_words_and_a_new_one_stays() -> None:
    text, notices = comments.restore_comments(TRAIN, TRAIN.replace("# (B, T, C)", "# gate: approved"))
    assert text == TRAIN
    assert len(notices) == 1
    more = TRAIN.replace("def f(x):", "# what follows is new\ndef f(x):")
    assert comments.restore_comments(TRAIN, more) == (more, [])


def test_comments_of_changed_code_are_the_authors() -> None:
    text = TRAIN.replace("    # the clamp keeps the log finite\n    return norm(x)", "    return abs(norm(x))")
    assert comments.restore_comments(TRAIN, text) == (text, [])
    gone = TRAIN[: TRAIN.index("def f(x)")]
    assert comments.restore_comments(TRAIN, gone) == (gone, [])
    assert comments.restore_comments(TRAIN, "def f(:") == ("def f(:", [])


def test_a_comment_that_would_break_the_code_stays_out() -> None:
    base = "x = (1 +\n    # two\n    2\n)\n"
    candidate = "x = 1 + \\\n    2\n"
    assert comments.restore_comments(base, candidate) == (candidate, [])


def test_a_base_that_does_not_parse_can_be_mended(charter: Charter) -> None:
    tree = {**BASE, PATH: ("100644", "b" * 40)}
    assert rules.violations(BASE, tree, {PATH: "def f(:"}, {PATH: TRAIN}, charter) == []


LINES = TRAIN.split("\n")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["drop", "double", "comment", "strip"]), st.integers(0, len(LINES) - 1)), max_size=6
    )
)
def test_restoring_comments_never_changes_code(edits: list[tuple[str, int]]) -> None:
    lines = list(LINES)
    for kind, at in edits:
        at %= max(1, len(lines))
        if kind == "drop" and lines:
            del lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        elif kind == "comment":
            lines.insert(at, "# new")
        elif lines:
            lines[at] = lines[at].partition("#")[0].rstrip()
    candidate = "\n".join(lines)
    text, notices = comments.restore_comments(TRAIN, candidate)
    try:
        before = bare(candidate)
    except SyntaxError:
        assert (text, notices) == (candidate, [])
        return
    assert bare(text) == before
    assert comments.restore_comments(TRAIN, text)[0] == text, "a second pass finds nothing to do"


@pytest.mark.parametrize(
    ("line", "is_refused"),
    [
        ("import extra", True),
        ("import nanochat.extra as e", True),
        ("from nanochat import extra", True),
        ("from . import extra", True),
        ("from .extra import f", True),
        ("from ..nanochat.extra import f", True),
        ("def g():\n    import nanochat.deep", True),
        ("import math, nanochat.prepare", False),
        ("from .. import extra2", False),
        ("from nanochat.other import extra", False),
    ],
)
def test_an_import_of_what_stays_behind_is_refused(charter: Charter, line: str, is_refused: bool) -> None:
    behind = {"extra.py", "nanochat/extra.py", "nanochat/deep/__init__.py", "note.py"}
    [*found] = rules.left_behind({PATH: TRAIN}, {PATH: f"{TRAIN}\n{line}\n"}, behind, charter)
    assert bool(found) is is_refused
    assert all(v.path == PATH and "not part of the experiment" in v.message for v in found)
    assert rules.left_behind({PATH: f"{TRAIN}\n{line}\n"}, {PATH: f"{TRAIN}\n{line}\n"}, behind, charter) == []


def test_a_diff_holds_what_changed_with_three_lines_around_it() -> None:
    was = [f"line {n}" for n in range(100)]
    now = [*was[:50], "other", *was[51:]]
    lines = contract.changes("train.py", was, now)
    assert lines[:2] == ["--- a/train.py", "+++ b/train.py"] and "-line 50" in lines and "+other" in lines
    assert [line for line in lines if line.startswith(" ")] == [f" line {n}" for n in (47, 48, 49, 51, 52, 53)]
    assert (
        contract.changes("a", was, was) == []
        and "+x" in contract.changes("a", [], ["x"])
        and "-x" in contract.changes("a", ["x"], [])
    )


def test_a_diff_that_would_take_minutes_is_not_made() -> None:
    drawn = random.Random(1)
    was, now = ([drawn.choice("abcdefgh") for _ in range(100_000)] for _ in range(2))
    assert contract.TOO_LONG in in_time(lambda: contract.changes("train.py", was, now), 2)


def test_the_code_of_a_diff_has_no_word_of_its_author_and_is_bounded() -> None:
    was = '"""Doc."""\nLR = 0.02  # plain\n\n\ndef f():\n    return 1\n'
    now = '"""It surely helps."""\n\nLR = 0.04  # surely\n\ndef f():\n    """Surely."""\n    return 1\n'
    lines = contract.code_changes("train.py", was, now)
    assert "-LR = 0.02" in lines and "+LR = 0.04" in lines and "urely" not in "\n".join(lines)
    assert contract.code_changes("train.py", was, was.replace("plain", "surely")) == []
    long = "\n".join(f"A{n} = {n}" for n in range(2000))
    assert contract.TOO_LONG in contract.code_changes("train.py", long, long.replace(" = ", " = 1"))
