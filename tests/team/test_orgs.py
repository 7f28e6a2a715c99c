"""Every shipped org is launched as a person does it, with offline seats; a page written by following the docs runs unchanged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_for

from org import files
from org.home import Home
from org.lab import ledger
from org.team import mail, pages, processes, roster
from org.world import process

pytestmark = pytest.mark.slow  # a whole organisation from its launch to its last page each

ROOT = Path(__file__).parents[2]
ORGS = sorted(path.parent.name for path in ROOT.glob("prompts/orgs/*/org.yaml"))


class Job:
    """A home with the shipped prompts, asked only through the command and its files."""

    def __init__(self, home: Home) -> None:
        self.home = home
        for part in ("orgs", "skills"):
            shutil.rmtree(home.prompts / part, ignore_errors=True)
            shutil.copytree(ROOT / "prompts" / part, home.prompts / part)
        self.env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def org(self, *words: str) -> str:
        argv = [sys.executable, "-m", "org", "--home", str(self.home.root), *words]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.env, timeout=180, check=False)
        assert done.returncode == 0, f"org {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def launch(self, name: str, budget: str, *more: str) -> None:
        self.org("launch", "--org", name, "--devices", "cpu:2", "--budget", budget, "--detach", *more)

    def events(self) -> str:
        return self.home.events.read_text()

    def page(self, pattern: str, limit_s: float = 240) -> str:
        [path, *_] = wait_for(
            lambda: list(self.home.comms.glob(pattern)), limit_s, lambda: f"{pattern}\n{self.events()}"
        )
        return path.read_text()


@pytest.fixture
def job(tiny_home: Home) -> Iterator[Job]:
    made = Job(tiny_home)
    yield made
    made.org("stop")
    assert process.find_marked(f"ORG_KEY={made.home.key}") == []


@pytest.mark.parametrize("name", ORGS)
def test_every_org_is_launched_works_and_answers_its_pages(job: Job, name: str) -> None:
    job.launch(name, "24runs")
    seats = roster.members(job.home)
    wait_for(lambda: roster.facts(job.home).get("ended"), 300, lambda: f"the end\n{job.events()}")
    page = job.page("standup/*.md")
    assert all(f"**{seat}**" in page for seat in seats), "each answered the standup"
    book = ledger.read(job.home)
    assert book.verdicts and not [row for row in book.refusals if "role" in str(row)]
    asked = {row.name: processes.asks(job.home, row.name) for row in pages.load(job.home.org_folder(name))}
    tentative = [v for v in book.verdicts.values() if v.outcome == "win" and v.tier == "tentative"]
    assert tentative, "the tiny trainer is easily bettered"
    of_wins = [row for rows in asked.values() for row in rows if row.occasion.startswith("tentative:")]
    has_readers = name in ("chief-juniors", "council", "pairs")
    assert bool(of_wins) is has_readers, job.events()
    for row in of_wins:
        author = book.experiments[row.subject].seat
        assert row.author == author and len(row.first) == 1 and author not in row.first
        if name == "pairs":
            assert row.first == (author.replace("j", "b"),), "every proposer has a breaker of its own"
        assert book.experiments[row.subject].why not in row.facts, "the code and the numbers, not the author's words"
        assert "### Diff" in row.facts and "| candidate |" in row.facts and "    +" in row.facts
    answered = [row for row in of_wins if row.past and row.past[0].answers]
    assert bool(answered) is has_readers
    for row in answered[:1]:
        told = [each for each in mail.received(job.home, row.author, "2020-01-01T00:00:00Z") if each.kind == "review"]
        assert any(each.about == row.subject and each.sender == "office" for each in told), "the author has it"
    assert "trouble" not in job.events(), job.events()


def test_a_question_from_a_shell_becomes_a_page_with_its_dissent_and_a_letter(job: Job) -> None:
    job.launch("council", "2000runs")
    wait_for(lambda: len(ledger.read(job.home).verdicts) > 2, 120, "something on record")
    said = job.org("send", "council", "Go on with optimizer, or stop it? E0001 is all we have.")
    assert "to council: queued" in said and "the office" in said
    page = job.page("council/*.md")
    for heading in ("## Question", "## Synthesis", "## Dissent", "## Ranking", "## Answers", "## Who wrote what"):
        assert heading in page
    assert "By chief." in page and "4 of 4 answered" in page and "> Answer " in page
    assert len(set(re.findall(r"^### Answer ([A-D])$", page, re.MULTILINE))) == 4
    letter = wait_for(lambda: [each for each in mail.peek(job.home, "human") if each.sender == "office"], 30)[0]
    assert "Dissent:" in letter.body and "comms/council/" in letter.body
    assert "comms/council/" in job.org("inbox")


def test_a_sixth_process_written_by_following_the_docs_works_unchanged(job: Job) -> None:
    text = (ROOT / "docs" / "orgs.md").read_text().partition("### A sixth process")[2]
    name = re.search(r"`processes/([a-z]+\.md)`", text)
    page = re.search(r"```markdown\n(.*?)```", text, re.DOTALL)
    assert name and page
    job.launch("solo", "2000runs")
    wait_for(lambda: ledger.read(job.home).verdicts, 120, "the org at work")
    files.replace(job.home.org_folder("solo") / "processes" / name[1], page[1])
    written = job.page("deadends/*.md")
    assert "About solo." in written and "The program solo is dry" in written and "## solo" in written
    assert re.search(r"^> .*E\d{4}", written.partition("## solo")[2], re.MULTILINE), "answered from the record"
    changed = [row for row in ledger.read(job.home).org if row["event"] == "changed"]
    assert changed and changed[-1]["org"] == roster.facts(job.home)["org_hash"]
