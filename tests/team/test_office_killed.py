"""Kill -9 of the office at each of its steps, with runs under way: the next one goes on, and tells everything once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from whole import age, assert_whole, run

from org import files
from org.home import Home
from org.lab import gate, ledger
from org.team import mail, roster, seats

pytestmark = pytest.mark.slow  # an office from its first pass to the end of its budget each

STEPS = ("dispatch", "letters", "folder", "look", "seats", "doorbells", "processes", "orders", "post", "show")
POINTS = ["office.ended", "office.dispatch:3", "office.letters:9", *(f"office.{step}" for step in STEPS)]
OFFICE = """\
import time
from org.lab import ledger
from org.team import office, roster
at_work = office.Office(home, None, lambda home: None)
now = time.time()
while not roster.facts(home).get("ended"):
    book = ledger.read(home)
    now += 2 if len(book.verdicts) < 1 else 4000
    at_work.pass_once(now)
    time.sleep(0.02)
"""


@pytest.mark.parametrize("point", POINTS)
def test_an_office_killed_at_any_step_is_followed_by_one_that_goes_on(
    tiny_home: Home, tmp_path: Path, point: str
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seat = seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    begun = files.utc_now()
    roster.update(tiny_home, org="chief-juniors", since=begun, roster=[])
    roster.update(tiny_home, budget={"seconds": 3600, "from": begun, "since": begun})
    path = Path(seat.worktree) / "train.py"
    path.write_text(path.read_text().replace("MATRIX_LR = 0.02", "MATRIX_LR = 0.04"))
    gate.submit(tiny_home, seat, "why")
    assert run(OFFICE, tiny_home, point=point, scratch=scratch) == -signal.SIGKILL
    age(tiny_home, scratch)
    assert run(OFFICE, tiny_home, scratch=scratch) == 0
    assert_whole(tiny_home, scratch)
    assert [v.outcome for v in ledger.read(tiny_home).verdicts.values()] == ["win"]
    assert [m.id for m in mail.peek(tiny_home, "j1")].count("verdict-e0001") == 1
    assert len(list(tiny_home.standups.glob("*.md"))) == 1
