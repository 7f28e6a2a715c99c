"""A line that a person writes on the standup changes what a junior does next, and the following page says so. Real office,
real tmux, offline researchers; only the trainer is small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Org
from test_standup import section
from waiting import wait_for

from org.home import Home
from org.lab import ledger
from org.team import orders

pytestmark = pytest.mark.slow  # four interpreters and a dozen runs on two cores

STANDUP = """---
when: daily 07:00
who: all
answers_within: 30s
writes: comms/standup/{date}.md
---
Standup. What did you do, what did you learn, what next?
"""


def command(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    argv = [sys.executable, "-m", "org", "--home", str(home.root), *words]
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120, check=False)


def turned(home: Home, seat: str) -> list[str]:
    book = ledger.read(home)
    return [knob.name.lower() for c in book.experiments.values() if c.seat == seat for knob in c.knobs]


def test_a_review_line_changes_what_a_junior_does_next_and_the_next_page_says_so(org: Org) -> None:
    home = org.home
    (home.org_folder("chief-juniors") / "processes" / "standup.md").write_text(STANDUP)
    org.launch(chief=1, juniors=1, agents=[("offline", None)])
    wait_for(lambda: len(ledger.read(home).verdicts) >= 3, 180, lambda: org.events()[-2000:])

    done = command(home, "standup", "now")
    assert done.returncode == 0, done.stderr
    assert "asked chief, j1" in done.stderr and "j1 answered" in done.stderr and "no answer" not in done.stderr
    assert "## In their words" in done.stdout and "**j1**" in done.stdout
    page = next(home.standups.glob("*.md"))
    assert set(turned(home, "j1")) == {"matrix_lr", "warmdown_frac"}

    text = page.read_text()
    mine = "- @j1 stop matrix_lr\n- @j1 try warmdown_frac=0.4321\n- why no stack yet?\n"
    page.write_text(text + mine)
    wait_for(lambda: len([o for o in orders.placed(home).values() if o.closed]) == 3, 30, lambda: org.events()[-2000:])
    wait_for(
        lambda: all(fate.answers for fate in orders.fates(home, None, page.stem)), 60, "every order to be answered"
    )
    stopped = ledger.read(home)
    mark = max(stopped.experiments)
    wait_for(lambda: len(after(home, mark)) >= 3, 180, lambda: f"{turned(home, 'j1')} {org.events()[-2000:]}")
    # one more may have been under way when the letter was read
    assert {knob for _, knob, _ in after(home, mark)[1:]} == {"warmdown_frac"}
    assert any(new == 0.4321 for _, _, new in orders_of(home, "0.4321"))

    done = command(home, "standup", "now")
    assert done.returncode == 0, done.stderr
    told = section(done.stdout, "Your orders").splitlines()
    assert len(told) == 3
    stop, wish, why = told
    assert "stop matrix_lr" in stop and "to j1 (read 20" in stop and "j1 answered: I leave matrix_lr alone" in stop
    name = orders_of(home, "0.4321")[0][0]
    assert f"filed since: {name} (" in wish
    assert "to chief (read 20" in why and "chief answered: Did:" in why
    assert page.read_text().endswith(mine)
    assert len(orders.placed(home)) == 3


def after(home: Home, mark: str) -> list[tuple[str, str, object]]:
    return [row for row in filed(home) if row[0] > mark]


def orders_of(home: Home, value: str) -> list[tuple[str, str, object]]:
    return [row for row in filed(home) if str(row[2]) == value]


def filed(home: Home) -> list[tuple[str, str, object]]:
    book = ledger.read(home)
    return [(c.experiment, k.name.lower(), k.new) for c in book.experiments.values() if c.seat == "j1" for k in c.knobs]
