"""Pages are found by their words, and none is overwritten."""

import pytest

from org.errors import BadInput
from org.home import Home
from org.team import wiki


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
