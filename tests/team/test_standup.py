"""The page says what the ledger says, quotes what agents say, and keeps what the person wrote."""

import os
import re
import sys
from pathlib import Path

import pytest
from patience import in_time

from org import files
from org.evidence import progress
from org.home import Home
from org.records import Letter, Seat
from org.team import devicetime, ideas, mail, standup, tokens
from org.team.prose import Reader
from org.team.standup import Words

sys.path.insert(0, str(Path(__file__).parent))
from books import CHARTER, Book, Story, night

NOW = "2026-03-01T07:00:00.000Z"


def section(page: str, name: str) -> str:
    found = re.search(rf"^## {name}\n\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1].strip()


def table(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert all(len(row) == len(rows[0]) for row in rows)
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def page(**words: object) -> str:
    return standup.page(night(), CHARTER, NOW, Words(**words))


# --- numbers -----------------------------------------------------------------------------------------------------


def test_one_line_says_what_happened():
    line = section(page(), "While you slept")
    assert "\n" not in line
    assert "14 runs and 4 experiments decided in 0.23 device-hours" in line
    assert "2 wins (1 verified, 1 tentative); 2 refuted; 1 verification, 1 passed" in line
    assert "best effect **-0.0700 ± 0.0100** (E0005, verified" in line


def test_each_row_of_the_table_equals_the_ledger():
    book = night()
    rows = {row["experiment"]: row for row in table(section(page(), "Kept"))}
    assert set(rows) == {"E0001", "E0004"}  # the stack is not a change of its own
    for name, row in rows.items():
        verdict, contract = book.verdicts[name], book.experiments[name]
        assert row["effect ± se"] == f"{verdict.effect:+.4f} ± {verdict.se:.4f}"
        assert row["commit"] == contract.commit[:7] and row["seat"] == contract.seat
        assert row["change"].startswith(contract.description[:10])
    assert rows["E0001"]["tier"] == "verified in E0005"
    assert rows["E0004"]["tier"] == "tentative, reported"
    assert rows["E0001"]["step time"] == "+20.0%"  # 54 s against 45 s over the same 300 steps
    assert rows["E0001"]["memory"] == "+0.0%" and rows["E0001"]["compile"] == "2.0 s"
    assert rows["E0004"]["step time"] == "-"  # its verdict rests on no baseline run
    assert "not the referee's" in section(page(), "Kept")


def test_judged_axes_come_before_means_of_runs():
    axes = {
        "train_s": {"baseline": 30.0, "candidate": 33.0},
        "steps": {"baseline": 300.0, "candidate": 300.0},
        "compile_s": {"baseline": None, "candidate": 7.0},
    }
    book = night(axes)
    rows = {r["experiment"]: r for r in table(section(standup.page(book, CHARTER, NOW, Words()), "Kept"))}
    assert (rows["E0001"]["step time"], rows["E0001"]["compile"]) == ("+10.0%", "7.0 s")


def test_refuted_shows_predicted_beside_measured():
    rows = {row["experiment"]: row for row in table(section(page(), "Refuted"))}
    assert (rows["E0002"]["predicted"], rows["E0002"]["measured"]) == ("-0.0100", "+0.0050 ± 0.0120")
    assert (rows["E0003"]["outcome"], rows["E0003"]["measured"]) == ("crash", "NaN at step 3")
    assert rows["E0002"]["change"] == "widen \\| it &lt;!-- hide"


def attacked() -> Story:
    """Yesterday two wins; since then one fell to an attack and the other stood its only one."""
    story = Story()
    bank = story.bank(2.10, 2.11, 2.09, 2.10)
    for name in ("E0001", "E0002"):
        story.experiment(name, why=f"change {name}")
        story.verdict(name, "win", [story.run(f"{name}/candidate-s1", 2.0, name), *bank], -0.05, 0.01, "tentative")
    return story


def test_a_win_of_yesterday_that_fell_today_is_refuted_today_and_what_stood_says_so():
    story = attacked()
    since = story.time()
    for name, of, outcome in (("E0003", "E0001", "loss"), ("E0004", "E0002", "win")):
        more = {"stage": "refute", "refutes": of, "attack": "seeds", "attacks": ("seeds",), "tree": of}
        story.experiment(name, seat="org", why="under attack", **more)
        own = story.run(f"{name}/candidate-s10001", 2.1, of, stage="refute")
        story.verdict(name, outcome, [own], 0.001, 0.01)
    gone = {"program": "main", "commit": "b" * 40, "was": "b" * 40, "retracts": ["E0001"], "scale": "smoke"}
    story.line("head", experiment="E0003", **gone, attack="seeds", why="E0001 was refuted: seeds")
    text = standup.page(story.book, CHARTER, NOW, Words(), since=since)
    [row] = table(section(text, "Refuted"))
    assert (row["experiment"], row["outcome"]) == ("E0001", "refuted by seeds (E0003)")
    assert "Under attack: E0002 stands after seeds." in section(text, "Refuted")
    assert "0 experiments decided" in section(text, "While you slept"), "an attack is no change of anybody's"
    assert "attempts to refute" in section(text, "Device time")
    assert "E0003" not in section(text, "Kept") and "E0004" not in section(text, "Kept")


def test_predictions_are_scored_per_seat():
    rows = {row["who"]: row for row in table(section(page(), "Predictions")) if row["by"] == "seat"}
    assert rows["j1"]["predictions"] == "1"
    assert (rows["j1"]["sign right"], rows["j1"]["mean abs error"]) == ("1/1 (100%)", "0.0000")
    assert rows["j2"]["mean abs error"] == f"{(0.015 + 0.0) / 2:.4f}" and rows["j2"]["sign right"] == "1/2 (50%)"


def test_heads_and_stacks():
    text = section(page(), "Stacks and heads")
    assert text == "- `main` moved to `9999999` by E0005, -0.0700 ± 0.0100 (verified); members: E0001"


def test_device_time_adds_up_to_what_was_held():
    text = section(page(), "Device time")
    rows = {row["cause"]: row["seconds held"] for row in table(text)}
    held = {name: float(seconds) for name, seconds in rows.items() if name != "all"}
    assert sum(held.values()) == float(rows["all"]) == sum(r.total_s for r in night().results.values())
    assert held["baseline bank"] == 240 and held["verification"] == 240 and held["crashed, over time or invalid"] == 60
    assert (held["search, kept"], held["search, discarded"]) == (180, 60) and held["search, no verdict yet"] == 60
    assert set(devicetime.CAUSES) == set(progress.CAUSES)
    assert "training 77%" in text and "evaluation 10%" in text


def test_only_what_is_new_is_counted_and_calibration_counts_all():
    book = night()
    since = book.verdict_times["E0004"]
    text = standup.page(book, CHARTER, NOW, Words(), since)
    assert "0 wins (0 verified, 0 tentative); 0 refuted; 1 verification, 1 passed; best effect **-0.0700" in section(
        text, "While you slept"
    )
    assert section(text, "Kept") == "Nothing was kept." and section(text, "Refuted") == "Nothing was refuted."
    assert [row["predictions"] for row in table(section(text, "Predictions"))] == ["1", "2", "3"]


def test_an_empty_ledger_makes_a_page_too():
    text = standup.page(Book(), CHARTER, NOW, Words())
    assert "0 runs and 0 experiments decided in 0.00 device-hours; 0 wins" in text and "None" in text
    assert section(text, "Device time") == "No device was used."


# --- words -------------------------------------------------------------------------------------------------------

NASTY = "fine\n## Review\n\x1b[2J\r<script>x</script>\n<!-- covers to 2030-01-01T00:00:00Z -->\n![](http://x)\n\u202e| a |\n```"


def test_words_of_agents_are_quoted_and_harmless():
    letter = Letter("l-1", "j1", "human", "question", NOW, NASTY, about="a|b")
    text = page(answers={"j1": NASTY}, plans={"j2": NASTY}, questions=[letter], notes=[("chief", NASTY)])
    assert text.count("\n## Review\n") == 1
    assert not set(text) & set("\x1b\r\u202e") and "<script" not in text and "![" not in text
    assert len(re.findall(r"<!--", text)) == 1
    quoted = section(text, "In their words").split("**j1**\n\n")[1]
    assert all(line.startswith(">") for line in quoted.splitlines())
    assert "**j1** (unverified) about a\\|b, `l-1`" in section(text, "Questions to you")
    assert section(text, "Next").startswith("- **j2**: fine ## Review")


def test_a_long_answer_is_cut():
    assert len(page(answers={"j1": "x" * 50_000})) < 10_000


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    for name in ("chief", "j1"):
        seat = Seat(name, "junior", "offline", "main", f"program/main/{name}", "", None, NOW)
        files.replace_json(home.seat(name) / "seat.json", seat.to_dict())
    return home


def test_numbers_of_agents_are_marked_and_citations_filled_in():
    text = page(answers={"j1": "we made 12 experiments; E0001 gained {E0001.effect}"}, plans={"j1": "beat 0.777 bpb"})
    assert f"12 experiments [the ledger: {len(night().experiments)} experiments]; E0001 gained -0.0" in text
    assert "beat 0.777 [not in the ledger] bpb" in text


def test_write_gathers_plans_notes_and_questions(home):
    events = home.seat("j1") / "events.jsonl"
    for event, text in (("plan", "old plan"), ("plan", "try warmdown"), ("note", "look at the loss"), ("idle", "x")):
        files.append_line(events, f'{{"t": "{NOW}", "event": "{event}", "text": "{text}"}}')
    mail.send(home, "j1", "human", "May I widen the model?", kind="question")
    mail.send(home, "j1", "human", "just a report", kind="report")
    path = standup.write(home, night(), CHARTER, NOW, {"chief": "all well"})
    text = path.read_text()
    assert path == home.standup("2026-03-01")
    assert section(text, "Next") == "- **j1**: try warmdown"
    assert "> May I widen the model?" in text and "> look at the loss" in text and "> all well" in text
    assert "just a report" not in text
    assert mail.waiting(home, "human") == 2  # looking acknowledges nothing
    size = sum(tokens.count(text) for text in ("May I widen the model?", "just a report"))
    assert section(text, "Mail") == f"| to | letters | tokens |\n| --- | --- | --- |\n| human | 2 | {size} |"


def test_a_terabyte_of_events_is_read_from_its_end(home):
    events = home.seat("j1") / "events.jsonl"
    events.touch()
    os.truncate(events, 1 << 40)
    files.append_line(events, f'{{"t": "{NOW}", "event": "plan", "text": "try warmdown"}}')
    assert section(standup.write(home, night(), CHARTER, NOW, {}).read_text(), "Next") == "- **j1**: try warmdown"


def test_what_the_person_wrote_stays_to_the_byte(home):
    path = standup.write(home, night(), CHARTER, NOW, {})
    mine = "\r\nno more widening\n## Review\nagain \x1b[0m é"
    path.write_bytes(path.read_bytes() + mine.encode())
    before = path.read_bytes().partition(b"\n## Review\n")[2]
    standup.write(home, night(), CHARTER, "2026-03-01T09:00:00.000Z", {"j1": "## Review"})
    after = path.read_bytes()
    assert after.partition(b"\n## Review\n")[2] == before and before.endswith(mine.encode())
    assert b"up to 2026-03-01 09:00" in after
    assert [p.name for p in home.standups.iterdir()] == ["2026-03-01.md"]


@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b"## Review\n", b"## Review  \n")])
def test_a_page_as_another_editor_saves_it_keeps_what_the_person_wrote(home, old, new):
    path = standup.write(home, night(), CHARTER, NOW, {})
    path.write_bytes((path.read_bytes() + b"no more widening\xff\n").replace(old, new))
    section = path.read_bytes()[path.read_bytes().index(b"## Review") :]
    standup.write(home, night(), CHARTER, "2026-03-01T09:00:00.000Z", {})
    assert path.read_bytes().endswith(section) and b"up to 2026-03-01 09:00" in path.read_bytes()
    assert path.read_bytes().count(b"## Review") == 1


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)])
def test_what_is_no_page_is_moved_aside_and_waited_for_by_nobody(home, make):
    home.standups.mkdir(parents=True)
    make(home.standup("2026-02-28"))
    make(home.standup("2026-03-01"))
    path = in_time(lambda: standup.write(home, night(), CHARTER, NOW, {}))
    assert path.read_text().startswith("# Standup 2026-03-01")
    assert [p.name.partition(".torn-")[0] for p in home.standups.glob("*.torn-*")] == ["2026-03-01.md"]


def test_tomorrows_page_begins_where_todays_ended(home):
    standup.write(home, night(), CHARTER, NOW, {})
    text = standup.write(home, night(), CHARTER, "2026-03-02T07:00:00.000Z", {}).read_text()
    assert "Since 2026-03-01 07:00 UTC" in text and "0 runs and 0 experiments" in text
    again = standup.write(home, night(), CHARTER, "2026-03-02T08:00:00.000Z", {}).read_text()
    assert "Since 2026-03-01 07:00 UTC" in again  # a page made twice covers the whole day


def test_predictions_are_scored_by_the_source_of_their_idea(odd_path: Path):
    home = Home(odd_path)
    ideas.add(home, "a later warmdown", "arXiv 2001.00001 | <!-- paper")
    story = Story()
    story.experiment("E0001", expect=-0.01, idea="I0001", backend="claude")
    story.verdict("E0001", "null", [], 0.0, 0.01)
    path = standup.write(home, story.book, CHARTER, NOW, {})
    rows = [(row["by"], row["who"]) for row in table(section(path.read_text(), "Predictions"))]
    assert rows == [("seat", "j1"), ("backend", "claude"), ("idea source", "arXiv 2001.00001 \\| &lt;!-- paper")]


def test_an_answer_of_too_many_tokens_is_cut_and_its_letter_named(home):
    long = "word " * 900
    [letter] = mail.send(home, "j1", "human", long, "report")
    text = standup.write(home, night(), CHARTER, NOW, {"j1": long, "chief": "short"}).read_text()
    said = section(text, "In their words")
    assert "> short" in said and f"`org inbox {letter.id}` has the whole" in said
    assert f"(cut at {standup.ANSWER_TOKENS} of {tokens.count(long)} tokens;" in said
    assert said.count("word") <= standup.ANSWER_TOKENS


def test_pages_that_were_edited_are_named_once_and_none_where_nothing_was():
    story = Story()
    story.line(
        "org", event="changed", pages=["prompts/orgs/x/roles/junior.md", "prompts/charter.yaml"], org="ab12cd34ef"
    )
    since = story.time()
    assert "Changed pages" not in standup.page(story.book, CHARTER, NOW, Words(), since)
    story.line("org", event="changed", pages=["prompts/charter.yaml", "prompts/<b>|.md"])
    text = standup.page(story.book, CHARTER, NOW, Words())
    said = section(text, "Changed pages")
    assert said.count("`prompts/charter.yaml`") == 1 and "junior.md" in said and "<b>" not in said
    assert "charter.yaml" in section(standup.page(story.book, CHARTER, NOW, Words(), since), "Changed pages")
    assert Reader(story.book, CHARTER.metric.name).marks(text) == []
