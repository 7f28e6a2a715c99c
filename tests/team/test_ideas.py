"""Ideas get one number each, whoever writes at the same moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from patience import in_time

from org import strictyaml
from org.errors import BadInput
from org.evidence import predictions
from org.home import Home
from org.team import ideas

WRITER = """
import sys; from pathlib import Path
from org.home import Home; from org.team import ideas
for i in range(10): print(ideas.add(Home(Path(sys.argv[1])), f"idea {i} of {sys.argv[2]}", "j1"))
"""


def test_an_idea_is_a_page_with_its_facts(tmp_path):
    home = Home(tmp_path)
    assert ideas.add(home, "Warm the LR down to 0!\n\nBecause: it was never tried.", "human") == "I0001"
    path = home.ideas / "I0001-warm-the-lr-down-to-0-because-it-was-nev.md"
    fields, body = strictyaml.front_matter(path.read_text(), str(path))
    assert (fields["id"], fields["source"]) == ("I0001", "human")
    assert body == "Warm the LR down to 0!\n\nBecause: it was never tried.\n"
    [row] = ideas.list_ideas(home)
    assert row["title"] == "Warm the LR down to 0!" and row["path"] == str(path)


def test_what_is_no_page_is_listed_with_the_reason_and_waited_for_by_nobody(tmp_path):
    home = Home(tmp_path)
    ideas.add(home, "a good one", "j1")
    os.mkfifo(home.ideas / "I0002-pipe.md")
    (home.ideas / "I0003-folder.md").mkdir()
    (home.ideas / "I0004-big.md").touch()
    os.truncate(home.ideas / "I0004-big.md", 1 << 40)
    (home.ideas / "I0005-odd.md").write_text('---\nsource: "j1\\n\\u001b[2Jfake"\nstatus: open\n---\nx\n')
    rows = in_time(lambda: ideas.list_ideas(home))
    assert [row["status"] for row in rows] == ["open", "unreadable", "unreadable", "unreadable", "open"]
    assert "\x1b" not in rows[4]["source"] and "\n" not in rows[4]["source"]


def test_a_text_that_looks_like_front_matter_stays_text(tmp_path):
    home = Home(tmp_path)
    text = "---\nid: I9999\nstatus: done\n---\n\x1b[2J 'quoted': [yaml"
    ideas.add(home, text, "j1: [evil")
    [row] = ideas.list_ideas(home)
    assert (row["id"], row["status"], row["text"], row["source"]) == ("I0001", "open", text, "j1: [evil")
    assert "\x1b" not in row["title"]


@pytest.mark.slow  # eight processes
def test_eight_writers_get_eighty_numbers(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(8)]
    ids = [line for writer in writers for line in writer.communicate(timeout=20)[0].split()]
    assert sorted(ids) == [f"I{n:04d}" for n in range(1, 81)]
    assert len({row["id"] for row in ideas.list_ideas(Home(tmp_path))}) == 80


def test_a_page_people_wrote_or_broke_is_listed_and_its_number_taken(tmp_path):
    home = Home(tmp_path)
    home.ideas.mkdir(parents=True)
    (home.ideas / "I0041-by-hand.md").write_text("no head at all\n")
    (home.ideas / "I0042-broken.md").write_text("---\nid: [\n---\ntext\n")
    (home.ideas / "I0043-bytes.md").write_bytes(b"\xff\xfe")
    (home.ideas / "notes.md").write_text("not an idea")
    assert ideas.add(home, "next", "j1") == "I0044"
    assert [(r["id"], r["status"]) for r in ideas.list_ideas(home)] == [
        ("I0041", "open"),
        ("I0042", "unreadable"),
        ("I0043", "open"),
        ("I0044", "open"),
    ]


def test_a_writer_killed_in_between_leaves_a_gap_and_no_half_page(tmp_path):
    home = Home(tmp_path)
    command = [sys.executable, "-c", WRITER, str(tmp_path), "x"]
    environ = {**os.environ, "ORG_FAILPOINT": "ideas.reserved:2"}
    assert subprocess.run(command, env=environ, check=False, timeout=20, stdout=-3).returncode == -signal.SIGKILL
    assert ideas.add(home, "after", "j1") == "I0003"
    assert [row["id"] for row in ideas.list_ideas(home)] == ["I0001", "I0003"]


@pytest.mark.parametrize("text", ["", " \n\t", "x" * (64 * 1024 + 1)])
def test_nothing_and_too_much_are_refused(tmp_path, text):
    with pytest.raises(BadInput):
        ideas.add(Home(tmp_path), text, "j1")
    assert not Home(tmp_path).ideas.exists()


def test_where_ideas_came_from_is_said_without_a_look_at_the_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    ideas.add(home, "shorter warmup", "paper")
    monkeypatch.setattr(ideas.questions, "parked", lambda home: pytest.fail("every letter to the person was opened"))
    assert ideas.origins(home) == {"I0001": predictions.Origin("paper", "paper")}
