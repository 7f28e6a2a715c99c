"""Words beside numbers: what the ledger does not carry is marked wherever a person reads, and citations are filled in."""

from __future__ import annotations

import pytest
from books import night
from hypothesis import given, settings
from hypothesis import strategies as st

from org.team.prose import Reader

BOOK = night()
NAME = next(name for name, verdict in BOOK.verdicts.items() if verdict.effect is not None)
VERDICT = BOOK.verdicts[NAME]


def read(text: str) -> str:
    return Reader(BOOK, "val_bpb").read(text)


def test_a_citation_is_what_the_ledger_has_and_is_not_marked() -> None:
    assert read(f"{NAME}: {{{NAME}.effect}} bpb") == f"{NAME}: {VERDICT.effect:+.4f} bpb"
    assert read("{E9999.effect}") == "[E9999.effect: no verdict]"


def test_a_number_that_no_line_carries_is_marked_where_it_stands() -> None:
    assert read(f"{NAME} is better by 0.7771 bpb") == f"{NAME} is better by 0.7771 [not in the ledger] bpb"
    assert (
        read(f"{NAME} effect is 0.7771") == f"{NAME} effect is 0.7771 [the ledger: {NAME} effect {VERDICT.effect:+.4g}]"
    )
    assert read("we made 12 experiments") == f"we made 12 experiments [the ledger: {len(BOOK.experiments)} experiments]"
    assert read("no number here, 3 o'clock") == "no number here, 3 o'clock"


@pytest.mark.parametrize("text", ["we made 12 experiments", f"{NAME} gained 9.99 bpb", "effect 0.5 and 0.5, 12 runs"])
def test_what_is_marked_is_not_marked_twice(text: str) -> None:
    assert read(read(text)).count("[") == read(text).count("[")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_and_loses_nothing_but_its_citations(text: str) -> None:
    shown = read(text)
    assert len(shown.split("\n")) == len(text.split("\n"))
    if "{" not in text:
        position = 0
        for character in text:  # the words are still there, in their order
            position = shown.index(character, position) + 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["E0001", " ", "0.5 bpb", "\n", "`", "|", "double it", " [the ledger: ", "]", "12 runs", "…"])
    )
)
def test_any_page_is_linted_line_by_line(parts: list[str]) -> None:
    page = "".join(parts)
    assert all(1 <= mark.line <= page.count("\n") + 1 for mark in Reader(BOOK, "val_bpb").marks(page))


@pytest.mark.parametrize(
    "text",
    ["12 runs [the ledger: 12 runs]", "[the ledger: 12 runs]", "E0001 gained 0.9 bpb [the ledger: E0001 effect 0.9]"],
)
def test_a_page_cannot_speak_for_the_ledger(text: str) -> None:
    assert Reader(BOOK, "val_bpb").marks(text)
