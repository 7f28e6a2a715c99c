"""A question never blocks a device: the seat that asks holds none, what it filed runs on, its idea is parked."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from waiting import wait_for

from org import files
from org.home import Home
from org.lab import gate, ledger
from org.team import ideas, mail, office, roster, seats


@pytest.mark.slow  # two experiments are trained and judged
def test_what_an_asking_seat_filed_and_what_others_file_runs_on_its_device(tiny_home: Home) -> None:
    begun = files.utc_now()
    roster.update(tiny_home, org="chief-juniors", since=begun, roster=[], devices_spec="cpu:1")
    number = ideas.add(tiny_home, "a larger step", "j1")
    for name, value in (("j1", "0.04"), ("j2", "0.03")):
        seat = seats.create(tiny_home, name, "junior", "cmd:true", "main", "cpu0")
        path = Path(seat.worktree) / "train.py"
        path.write_text(path.read_text().replace("MATRIX_LR = 0.02", f"MATRIX_LR = {value}"))
        gate.submit(tiny_home, seat, "larger", expect=-0.04, idea=number if name == "j1" else None)
    files.append_line(tiny_home.seat_events("j1"), json.dumps({"t": files.utc_now(), "event": "asking"}))
    mail.send(tiny_home, "j1", "human", "May I?", kind="question", about=number)
    at_work = office.Office(tiny_home, None, lambda home: None)
    now = time.time()

    def judged() -> bool:
        nonlocal now
        now += 2
        at_work.pass_once(now)
        return len(ledger.read(tiny_home).verdicts) >= 2

    try:
        wait_for(judged, 180, "both experiments judged")
    finally:
        at_work.close()
    assert [row["status"] for row in ideas.list_ideas(tiny_home)] == ["parked"]
    judged = ledger.read(tiny_home)
    assert {judged.experiments[name].seat for name in judged.verdicts} == {"j1", "j2"}
    # the verification of the wins may be under way
    wait_for(lambda: not files.is_locked(tiny_home.lease("cpu0")), what="the end of the run under way")
