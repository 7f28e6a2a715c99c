"""Pages are found by their words, and none is overwritten."""

import pytest
from books import Story, night
from hypothesis import given
from hypothesis import strategies as st
from patience import in_time

from org.errors import BadInput
from org.home import Home
from org.team import claims, wiki


def test_pages_are_found_by_all_words_most_mentions_first(tmp_path):
    home = Home(tmp_path)
    wiki.add(home, "# Muon\n\nMomentum above 0.95 diverges at depth 2.", "j1")
    wiki.add(home, "Muon and muon again: momentum 0.9 is safe", "chief")
    wiki.add(home, "Softcap\n\nmay go", "j2")
    found = wiki.find(home, "MUON momentum")
    assert [(page["title"], page["by"], page["mentions"]) for page in found] == [
        ("Muon and muon again: momentum 0.9 is safe", "chief", 3),
        ("Muon", "j1", 2),
    ]
    assert wiki.find(home, "muon softcap") == []
    assert len(wiki.find(home, "")) == 3


def test_a_taken_name_gets_a_number(tmp_path):
    home = Home(tmp_path)
    paths = [wiki.add(home, f"One title\n\ntext {i}", "j1") for i in range(3)]
    assert [path.name for path in paths] == ["one-title.md", "one-title-2.md", "one-title-3.md"]
    assert [path.read_text().splitlines()[-1] for path in paths] == ["text 0", "text 1", "text 2"]
    assert sorted(path.name for path in home.wiki.iterdir()) == sorted(path.name for path in paths)


def test_what_a_terminal_shows_is_harmless(tmp_path):
    home = Home(tmp_path)
    wiki.add(home, "escape \x1b[2J here", "j1")
    [page] = wiki.find(home, "escape")
    assert "\x1b" not in page["title"] + page["excerpt"]


def test_an_empty_home_has_no_pages_and_an_empty_page_is_refused(tmp_path):
    assert wiki.find(Home(tmp_path), "anything") == []
    with pytest.raises(BadInput):
        wiki.add(Home(tmp_path), "  ", "j1")


# --- what contradicts --------------------------------------------------------------------------------------------

KNOBS = ("matrix_lr", "warmdown_frac")


def book():
    """E0001 and E0004 won, E0002 is null, E0003 crashed; E0004 was retracted later."""
    story = Story()
    story.book = night()
    story.clock = 500
    story.line(
        "head", program="main", commit="9" * 40, tree="9", experiment="E0009", retracts=["E0004"], scale="std", why="x"
    )
    return story.book


def doubted(text: str, *older: str, kind: str = "") -> list[str]:
    def said(body: str) -> list[claims.Statement]:
        return claims.statements(body, KNOBS, is_question=claims.kind_of(body) == "open-question")

    b = book()
    return claims.doubts(said(text), b.verdicts, b.retracted, [(f"p{i}.md", said(one)) for i, one in enumerate(older)])


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("A larger MATRIX_LR helps (E0001)", ""),
        ("Widening helps (E0002)", "says that it helps, but E0002 is null"),
        ("The new activation won (E0003).", "says that it helps, but E0003 is crash"),
        ("Doubling it hurts (E0001).", "says that it does not help, but E0001 is win (tentative)"),
        ("Doubling it does not help (E0001)", "says that it does not help, but E0001"),
        ("There is no gain in doubling it, E0001", "says that it does not help, but E0001"),
        ("Warming down wins: E0004", "says that it helps, but E0004 was retracted at std by E0009"),
        ("Warming down does not help, E0004", ""),  # so says its retraction
        ("Widening brings nothing (E0002)", ""),
        ("Widening does not hurt (E0002)", ""),
        ("Widening may help (E0002)", ""),
        ("Does widening help (E0002)?", ""),
        ("It works: E0001, E0002 show it", ""),  # one of them bears it out
        ("Doubling helps (E0001) but widening hurts (E0002)", ""),
        ("E0077 helps", ""),  # the lint of numbers says that there is no such verdict
        ("helps", ""),
    ],
)
def test_what_a_page_says_of_an_experiment_is_held_against_its_verdict(text: str, mark: str) -> None:
    found = doubted(text)
    assert (not found) if not mark else (len(found) == 1 and found[0].startswith(mark))


@pytest.mark.parametrize(
    ("new", "old", "on"),
    [
        ("MATRIX_LR above its start helps", "A larger matrix_lr hurts.", "matrix_lr"),
        ("matrix_lr=0.04 helps", "MATRIX_LR = 0.04 does not help", "matrix_lr"),
        ("matrix_lr=0.04 helps", "matrix_lr=0.16 hurts", None),  # both may be true
        ("matrix_lr helps", "warmdown_frac hurts", None),
        ("matrix_lr helps", "Does matrix_lr hurt?", None),
        ("it helps, says E0001", "E0001 hurts", "E0001"),
        ("matrix_lr helps", "matrix_lr helps", None),
        ("matrix_lr_min helps", "matrix_lr hurts", None),
    ],
)
def test_what_an_older_page_says_otherwise_is_named(new: str, old: str, on: str | None) -> None:
    found = [mark for mark in doubted(new, "nothing of it", old) if mark.startswith("contradicts")]
    assert len(found) == (on is not None)
    assert on is None or found[0].startswith(f"contradicts p1.md on {on}: ")


WORDS = [
    "helps",
    "hurts",
    "not",
    "E0001",
    "E0002",
    "E0004",
    "MATRIX_LR",
    "=",
    "0.04",
    ";",
    ".",
    "\n",
    "?",
    "no gain",
    "\x1b[2J",
    "but",
    "'t",
]


@given(st.one_of(st.text(max_size=300), st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)))
def test_whatever_a_page_holds_is_read_and_its_doubts_are_bounded_lines(text: str) -> None:
    found = doubted(text, "matrix_lr helps", text)
    assert len(found) <= claims.SHOWN and all("\n" not in mark and "\x1b" not in mark for mark in found)
    assert claims.kind_of(text) in claims.KINDS
    assert doubted(text) == doubted(text)
    assert not claims.statements(text, KNOBS, is_question=True)


def test_a_page_as_long_as_allowed_is_read_in_no_time() -> None:
    for text in ("matrix_lr " + "1" * 60_000, "matrix_lr 1, " * 5_000, "no " * 20_000 + "helps", "-1e" * 20_000):
        assert isinstance(in_time(lambda text=text: claims.statements(text, KNOBS)), list)


def test_what_was_refuted_is_said_to_be_and_not_to_have_fallen_at_a_scale(tmp_path) -> None:
    ledger = book()
    ledger.retracted = {"E0004": {**ledger.retracted["E0004"], "attack": "seeds"}}
    found = claims.statements("Warming down wins: E0004", KNOBS)
    [doubt] = claims.doubts(found, ledger.verdicts, ledger.retracted, [])
    assert doubt == "says that it helps, but E0004 was refuted by seeds (E0009)"
    page = wiki.Page(tmp_path, "Warming down wins: E0004")
    assert page.warnings(ledger) == ["cites E0004, refuted by seeds (E0009)"]


def test_marks_stay_with_the_page_and_a_retraction_shows_by_itself(tmp_path) -> None:
    home, ledger = Home(tmp_path), book()
    marks = wiki.doubts(home, "Widening helps (E0002)", ledger, KNOBS)
    wiki.add(home, "Widening helps (E0002)", "j1", marks=marks)
    wiki.add(home, "Dead end: warm down (E0004)", "j1")
    wiki.add(home, "Is the head tied?", "j2")
    pages = {page.kind: page for page in wiki.pages(home)}
    assert set(pages) == set(claims.KINDS)
    assert pages["finding"].warnings(ledger) == ["says that it helps, but E0002 is null"]
    assert pages["dead-end"].warnings(ledger) == ["cites E0004, retracted at std by E0009"]
    assert pages["dead-end"].warnings(night()) == [] and pages["open-question"].warnings(ledger) == []
    [row] = wiki.find(home, "widening")
    assert wiki.warnings(row, ledger) == list(pages["finding"].marks) == row["marks"]
    with pytest.raises(BadInput, match="did you mean 'finding'"):
        wiki.add(home, "x", "j1", "findng")


@pytest.mark.parametrize(
    "head", ["kind: 5\nmarks: 7", "marks: [[1], {a: 2}]\nby: [x]", "kind: x\ncreated: {}", ": : :", "evidence: []"]
)
def test_a_head_with_slips_is_a_page_all_the_same(tmp_path, head: str) -> None:
    home = Home(tmp_path)
    home.wiki.mkdir(parents=True)
    (home.wiki / "odd.md").write_text(f"---\n{head}\n---\nDead end: it (E0004)\n")
    [page] = wiki.pages(home)
    assert all(isinstance(mark, str) and "\n" not in mark for mark in page.warnings(book()))
    assert len(wiki.find(home, "")) == 1
