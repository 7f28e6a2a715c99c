"""The storm over a small organisation, once with a seed of its own; what it says happens, and what it takes for a violation."""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chaos import finish, parse
from repos import sh
from storm import invariants, post, schedule
from storm.disk import Disk
from storm.place import AGENTS, PERSON, Place, missing
from storm.watch import DOUBLE_S, Watch

from org import files
from org.home import Home
from org.lab import ledger
from org.team import mail, seats

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # three minutes of faults, and the calm after them
def test_an_organisation_under_three_minutes_of_random_faults_keeps_every_promise() -> None:
    seed = str(random.SystemRandom().randrange(1, 100_000))
    print(f"chaos seed {seed}")
    # a machine that other tests keep busy brings things back later than one that does not
    argv = [sys.executable, "-P", str(ROOT / "tests" / "chaos.py"), seed, "3", "--recover", "180"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=1500)
    assert done.returncode == 0, (
        f"seed {seed}: run scripts/chaos {seed} 3\n{done.stdout[-12_000:]}{done.stderr[-3000:]}"
    )
    assert "0 violations" in done.stdout


# --- the schedule


def some(seed: int, count: int = 200, **options: tuple[str, ...]) -> list[schedule.Step]:
    return list(itertools.islice(schedule.steps(seed, **options), count))


def test_the_schedule_is_a_function_of_the_seed() -> None:
    assert some(7) == some(7)
    assert some(7) != some(8)


def test_every_fault_comes_once_before_any_comes_twice() -> None:
    drawn = [(fault.kind, fault.target) for step in some(3) for fault in step.faults]
    deck = schedule.known()
    for at in range(0, len(drawn) - len(deck), len(deck)):
        assert sorted(drawn[at : at + len(deck)]) == sorted(deck)
    assert {len(step.faults) for step in some(3)} == {1, 2, 3}


def test_only_the_kinds_that_were_asked_for_come() -> None:
    assert {fault.kind for step in some(1, kinds=("kill", "full")) for fault in step.faults} == {"kill", "full"}
    with pytest.raises(ValueError, match="floods"):
        some(1, kinds=("floods",))


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("1-10", list(range(1, 11))), ("3-3", [3])])
def test_seeds(text: str, seeds: list[int]) -> None:
    assert schedule.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "x", "-3", "5-1", "1-", "1-x", "1.5", "\u0663"])
def test_what_is_no_seed_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="SEED"):
        schedule.parse_seeds(text)
    with pytest.raises(SystemExit):
        parse([f" {text}"])
    assert "SEED" in capsys.readouterr().err


def test_a_seed_that_ends_without_a_result_is_a_violation(tmp_path: Path) -> None:
    row = finish(7, tmp_path, -9)
    assert row["problems"] == ["the storm itself ended with status -9 and no result"]
    assert tmp_path.is_dir()


def test_seeds_that_the_state_has_are_not_run_again(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    for seed, problems in ((1, []), (2, ["a letter is lost"])):
        files.append_line(state, json.dumps({"seed": seed, "problems": problems, "faults": 5}))
    argv = [sys.executable, "-P", str(ROOT / "tests" / "chaos.py"), "1-2", "1", "--state", str(state)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "0 of 2 to run" in done.stdout and "10 faults, violations in [2]" in done.stdout


# --- the disk


def test_a_disk_that_may_not_be_mounted_is_full_by_a_limit_for_every_process(tmp_path: Path) -> None:
    writer = "import sys, pathlib\nfor line in sys.stdin:\n    pathlib.Path(line.strip()).write_text('x' * 9)\n    print('ok', flush=True)"
    child = subprocess.Popen([sys.executable, "-c", writer], stdin=-1, stdout=-1, stderr=-1, text=True)
    disk = Disk(tmp_path, False, lambda: [child.pid])
    assert child.stdin and child.stdout and child.stderr
    print(tmp_path / "before", file=child.stdin, flush=True)
    assert child.stdout.readline() == "ok\n"
    disk.fill()
    assert resource.prlimit(child.pid, resource.RLIMIT_FSIZE)[0] == 0
    disk.free()
    print(tmp_path / "freed", file=child.stdin, flush=True)
    assert child.stdout.readline() == "ok\n"
    disk.fill()
    _, said = child.communicate(f"{tmp_path / 'full'}\n")
    assert "File too large" in said and (tmp_path / "full").stat().st_size == 0


# --- what is a violation


@pytest.fixture
def place(odd_path: Path) -> Place:
    found = Place(odd_path / "outside", odd_path / "disk", 1)
    found.make()
    for name in ("j4", "j5"):
        files.replace_json(found.home.seat_file(name), {"name": name, "role": "junior"})
    return found


def sent(place: Place, *ids: str, to: str = "j4") -> tuple[dict[str, object], dict[str, list[str]]]:
    log = place.sent("human")
    for name in ids:
        row = {"do": "try", "id": name, "from": "human", "to": to, "kind": "note"}
        files.append_line(log, json.dumps(row))
        assert post.send(place.home, log, row)
    return invariants.merged([log])


def test_letters_that_wait_or_were_read_or_were_removed_are_no_violation(place: Place) -> None:
    known = sent(place, "c-1", "c-2", "c-3")
    mail.acknowledge(place.home, "j4", "c-2")
    assert invariants.letters(place.home, place.trash, *known) == []
    place.take(place.home.mailbox("j4"))
    known = sent(place, "c-4")
    assert invariants.letters(place.home, place.trash, *known) == []


def test_a_letter_that_is_lost_doubled_torn_misplaced_or_never_accepted_is_named(place: Place) -> None:
    home = place.home
    tried, boxes = sent(place, "c-lost", "c-twice", "c-torn", "c-stray", "c-fine")
    new, cur = home.mailbox("j4") / "new", home.mailbox("j4") / "cur"
    (new / "c-lost.md").unlink()
    shutil.copy(new / "c-twice.md", cur / "c-twice.md")
    (new / "c-torn.md").write_bytes((new / "c-torn.md").read_bytes()[:-20])
    (home.mailbox("j5") / "new").mkdir(parents=True)
    shutil.copy(new / "c-stray.md", home.mailbox("j5") / "new")
    tried["c-never"] = {}
    (home.mailbox("j4") / "bad").mkdir()
    (home.mailbox("j4") / "bad" / "1-ab").write_text("half")
    found = invariants.letters(home, place.trash, tried, boxes)
    for name, what in (
        ("c-lost", "to j4 is lost"),
        ("c-twice", "lies twice"),
        ("c-torn", "of j4 is torn"),
        ("c-stray", "box of j5, to which it was not sent"),
        ("c-never", "never accepted"),
        ("bad/1-ab", "taken for no letter"),
    ):
        assert [line for line in found if name in line and what in line], (name, found)
    assert not [line for line in found if "c-fine" in line]


def test_a_letter_given_to_its_reader_twice_is_named_but_not_one_sent_again_to_a_new_mailbox(place: Place) -> None:
    (place.read / "j4.txt").write_text("c-1\nc-2\nc-1\nc-3\nc-3\n")
    (place.trash / "001" / "j4" / "cur").mkdir(parents=True)
    (place.trash / "001" / "j4" / "cur" / "c-3.md").touch()
    assert invariants.read_once(place.read, place.trash) == ["j4 was given c-1 2 times"]


def test_a_sender_sends_again_what_it_does_not_know_to_be_there_and_doubles_nothing(place: Place) -> None:
    home, log = place.home, place.sent("human")
    sent(place, "c-1")
    log.write_text(log.read_text().splitlines()[0] + "\n")  # killed after the letter was there, before it was noted
    files.append_line(log, json.dumps({"do": "try", "id": "c-2", "from": "human", "to": "j5", "kind": "note"}))
    assert place.sender("human", finish=True).wait(30) == 0
    tried, boxes = invariants.merged([log])
    assert boxes == {"c-1": ["j4"], "c-2": ["j5"]}
    assert invariants.letters(home, place.trash, tried, boxes) == []


def test_unfiled_work_is_found_where_it_lies_in_a_commit_a_copy_or_the_trash_and_named_when_nowhere(
    place: Place,
) -> None:
    home = place.home
    for name in ("j1", "j2"):
        seats.create(home, name, "junior", "cmd:true", "main")
    notes = home.worktree("j1") / "notes" / "a.txt"
    texts = [place.plant(notes), place.plant(home.worktree("j2") / "train.py", is_append=True)]
    assert place.plant(home.worktree("j3") / "train.py", is_append=True) is None  # no worktree
    assert None not in texts and len(place.planted) == 2
    assert invariants.planted(home, place.trash, place.planted) == []
    seats.sync(home, seats.require(home, "j2"))  # copied aside
    assert str(texts[1]) not in (home.worktree("j2") / "train.py").read_text()
    place.take(home.worktree("j1"))
    assert invariants.planted(home, place.trash, place.planted) == []
    [kept] = seats.saved(home, "j2")
    sh("git", "add", "train.py", cwd=home.worktree("j2"))
    text = (kept / "train.py").read_text()
    (home.worktree("j2") / "train.py").write_text(text)
    sh("git", "commit", "-qam", "mine", cwd=home.worktree("j2"))
    (home.worktree("j2") / "train.py").write_text("gone\n")
    shutil.rmtree(kept)
    assert invariants.planted(home, place.trash, place.planted) == []
    shutil.rmtree(place.trash)
    [said] = invariants.planted(home, place.trash, place.planted)
    assert str(texts[0]) in said and "no copy" in said


def test_a_repository_that_misses_an_object_is_named(place: Place) -> None:
    home = place.home
    seats.create(home, "j1", "junior", "cmd:true", "main")
    assert invariants.repositories(home.hub, home.record) == []
    blob = sh("git", "rev-parse", "refs/heads/program/main/main^{tree}", cwd=home.record).strip()
    loose = home.record / "objects" / blob[:2] / blob[2:]
    for pack in (home.record / "objects" / "pack").glob("*"):
        pack.chmod(0o644)
        pack.unlink()
    loose.unlink(missing_ok=True)
    [said] = invariants.repositories(home.record)
    assert "record.git" in said


def test_half_a_document_is_named(place: Place) -> None:
    assert invariants.documents(place.home) == []
    place.home.seat_pane("j4").write_text('{"started": "2026')
    [said] = invariants.documents(place.home)
    assert "comms/seats/j4/pane.json" in said


def test_a_result_that_stands_twice_in_the_ledger_is_named(place: Place) -> None:
    book = ledger.Ledger(place.home)
    for key in ("a", "b"):
        book.append("launch", f"launch:{key}", {"run": "E0001/candidate-s1"})
    assert invariants.results(place.home) == ["E0001/candidate-s1 has 2 launch lines"]
    lines = place.home.ledger.read_text().splitlines()
    place.home.ledger.write_text(f"{lines[1]}\n{lines[0]}\n")
    assert "the ledger's numbers do not follow one another" in invariants.results(place.home)


def test_what_lives_on_is_held_or_is_left_half_made_is_no_whole_home(place: Place) -> None:
    home = place.home
    seats.create(home, "j1", "junior", "cmd:true", "main")
    ledger.Ledger(home).append("org", "a", {"event": "launch"})
    home.experiments.mkdir()
    assert invariants.whole(home) == []
    (home.seat("j1") / ".pane.json.abcdefgh").touch()
    assert ".pane.json.abcdefgh" in invariants.whole(home)[0]
    (home.seat("j1") / ".pane.json.abcdefgh").unlink()
    held = files.try_lock(home.lease("cpu0"))
    assert held is not None and "cpu0.lock" in invariants.whole(home)[0]
    os.close(held)
    child = subprocess.Popen(["sleep", "600"], cwd=home.root)
    try:
        assert "lives on" in invariants.whole(home, ending_s=0.5)[0]
    finally:
        child.kill()
        child.wait()


# --- what is seen while it goes on


def test_two_programs_of_a_seat_are_a_violation_when_they_stay_two(place: Place) -> None:
    watch = Watch(place)
    watch.double("j1 has two programs", [1, 2], 0.0)
    watch.double("j1 has two programs", [2, 3], DOUBLE_S - 1)  # a restart, and another
    watch.double("j1 has two programs", [3, 4], DOUBLE_S + 1)
    watch.double("j1 has two programs", [4], DOUBLE_S + 2)
    assert watch.problems == []
    place.frozen.add(5)
    for now in (20.0, 30.0, 40.0):
        watch.double("j1 has two programs", [4, 5], now)
    assert watch.problems == []  # one that is stopped cannot end
    place.frozen.clear()
    for now in (50.0, 51.0 + DOUBLE_S, 60.0 + DOUBLE_S):
        watch.double("j1 has two programs", [4, 5], now)
    assert len(watch.problems) == 1 and "[4, 5]" in watch.problems[0]


def test_two_programs_that_live_are_seen(place: Place) -> None:
    script = "import time; time.sleep(60)"
    env = {**os.environ, "ORG_EVENTS": str(place.home.seat_events("j4"))}
    argv = [sys.executable, "-c", script, "org.agents.offline"]
    children = [subprocess.Popen(argv, env=env) for _ in range(2)]
    other = subprocess.Popen([sys.executable, "-c", script], env=env)  # a tool of theirs
    try:
        assert sorted(place.agents()["j4"]) == sorted(child.pid for child in children)
    finally:
        for child in (*children, other):
            child.kill()
            child.wait()


def test_a_ledger_that_is_cut_and_a_clock_that_begins_anew_are_seen(place: Place) -> None:
    watch, home = Watch(place), place.home
    book = ledger.Ledger(home)
    for key in ("a", "b"):
        book.append("org", key, {"event": "launch"})
    files.replace_json(home.org_file, {"budget": {"seconds": 60, "from": "2026-03-01T00:00:00Z"}})
    watch.look_at_files()
    with home.ledger.open("ab") as file:
        file.write(b'{"half')
    files.replace_json(home.org_file, {"budget": {"seconds": 60, "from": "2026-03-01T00:00:00Z"}, "more": 1})
    watch.look_at_files()
    assert watch.problems == []
    home.ledger.write_bytes(home.ledger.read_bytes().split(b"\n")[0] + b"\n")
    files.replace_json(home.org_file, {"budget": {"seconds": 60, "from": "2026-03-01T00:09:00Z"}})
    watch.look_at_files()
    assert ["the ledger lost" in text for text in watch.problems] == [True, False]
    assert "the clock was changed" in watch.problems[1]


def test_an_organisation_without_an_office_is_not_back(place: Place) -> None:
    assert missing(place) == "no office"
    assert (*AGENTS, PERSON) == ("chief", "j1", "j2", "j3", "j4", "j5", "me")
    assert isinstance(place.home, Home)
