"""The page of an idea, however it was written: read or refused in one line, and mended without a byte of its body lost."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from org import files, strictyaml
from org.errors import BadInput
from org.team import ideapage

LINES = st.sampled_from(
    [
        "---", "id: I0007", "source: human", "expect: 1e999", "expect: '-0.004'", "expect: [1]", "expect: true",
        "expect: -.5", "objection: |", "  a line", "objection: a", "objection_by: \"j1\\u001b[2J\\u202e\"", "like: [E0001]",
        "like:", "- E0004", "- {a: b}", "like: E0004", "status: dead", "status: open", "why: \x1b]0;x\x07", "a: &x [*x]",
        "# a comment", "mechanism: 'it's", "\ttab", "cost: >-", "  folded", "", "objection: {by: x}", "? x", ": y",
        "created: 2026-01-01", "text\r", "\N{RIGHT-TO-LEFT OVERRIDE}", "source: " + "x" * 5000,
    ]
)  # fmt: skip
HOSTILE = st.one_of(
    st.text(max_size=200),
    st.lists(LINES, max_size=12).map("\n".join),
    st.lists(LINES, max_size=12).map(lambda rows: "\n".join(["---", *rows, "---", "the body", "---", "more\n\n"])),
)
FIELD = st.text(min_size=1, max_size=60).map(lambda text: files.printable(text).strip()).filter(bool)


@given(HOSTILE)
@example('---\nobjection: "a\\u001b[2J"\nmechanism: "\\u202e"\ncost: "\\0"\nstatus: dead\nwhy: "\\x9b"\n---\nx')
def test_a_hostile_page_is_refused_in_one_line_or_read_into_harmless_fields(text: str) -> None:
    try:
        page = ideapage.parse(text, "I0007-x.md")
    except BadInput as error:
        assert "I0007-x.md" in str(error)
        return
    for name in ("title", "source", "author", "created", "objection_by", "dead_by"):
        value = getattr(page, name)
        assert value == files.printable(value) and "\n" not in value and len(value) <= 200, name
    for name in ("mechanism", "cost", "objection", "dead"):
        value = getattr(page, name)
        assert value == files.printable(value) and len(value) <= ideapage.LONG + 10, name
    assert page.expect is None or math.isfinite(page.expect)
    assert all(ideapage.NAMED.fullmatch(one) for one in page.like)


@example("---\n{objection: old, source: human}\n---\nbody\n", [("new", "j2")])
@example("---\n? objection\n: old\nsource: human\n---\nbody\n", [("new", "j2")])
@given(HOSTILE, st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=3))
def test_mending_a_page_sets_two_fields_and_changes_nothing_else(text: str, edits: list[tuple[str, str]]) -> None:
    try:
        fields, body = strictyaml.front_matter(text, "x")
    except BadInput:
        return
    for words, who in edits:
        text = ideapage.amend(text, "x", {"objection": words, "objection_by": who})
    assert strictyaml.front_matter(text, "x") == (
        {**fields, "objection": edits[-1][0], "objection_by": edits[-1][1]},
        body,
    )


@given(FIELD, FIELD, st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=80))
def test_what_is_rendered_is_read_back(mechanism: str, cost: str, expect: float, text: str) -> None:
    page = ideapage.parse(ideapage.render({"mechanism": mechanism, "cost": cost, "expect": expect}, text), "x")
    assert (page.mechanism, page.cost, page.expect) == (mechanism, cost, expect)
    assert page.text == text.strip("\n")


def test_a_persons_comments_and_order_in_the_head_stay() -> None:
    text = "---\n# mine\nsource: human  # me\nobjection: old\n  and long\nexpect: -0.01\n---\nbody\n\n"
    made = ideapage.amend(text, "x", {"objection": "new", "objection_by": "j2"})
    assert made == "---\n# mine\nsource: human  # me\nexpect: -0.01\nobjection: new\nobjection_by: j2\n---\nbody\n\n"


@pytest.mark.parametrize(
    ("status", "dead"),
    [("", ""), ("open", ""), ("tried", ""), ("assigned", ""), ("dead", "too dear"), ("done", "too dear")],
)
def test_only_that_an_idea_is_over_is_its_pages_to_say(status: str, dead: str) -> None:
    page = ideapage.parse(f"---\nstatus: {status}\nwhy: too dear\ndead_by: human\n---\nx\n", "x")
    assert (page.dead, page.dead_by) == (dead, "human" if dead else "")
