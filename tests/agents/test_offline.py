"""The researcher without a network in a real terminal, with an `org` that records what it is asked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pane import Pane
from tiny import make_tiny_home

from org import files, strictyaml
from org.agents.repl import PROMPT
from org.home import Home
from org.records import Seat

FAKE = str(Path(__file__).with_name("fake_org.py"))
ROOT = str(Path(__file__).parents[2])


class Org:
    """One home with seats, and the panes that were opened in it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.panes: list[Pane] = []

    def seat(self, name: str, role: str, program: str = "main") -> None:
        worktree = self.home.worktree(name)
        worktree.mkdir()
        (worktree / "train.py").write_bytes((self.home.root / "code" / "train.py").read_bytes())
        row = Seat(name, role, "offline", program, f"program/{program}/{name}", str(worktree), None, "2026-01-01")
        files.replace_json(self.home.seat_file(name), row.to_dict())

    def open(self, name: str) -> Pane:
        env = {
            **os.environ,
            "ORG_HOME": str(self.home.root),
            "ORG_SEAT": name,
            "ORG_EVENTS": str(self.home.seat_events(name)),
            "ORG_COMMAND": json.dumps([sys.executable, FAKE]),
            "PYTHONPATH": ROOT,
        }
        pane = Pane([sys.executable, "-m", "org.agents.offline"], env, Path(self.home.worktree(name)))
        self.panes.append(pane)
        return pane

    def letter(self, to: str, kind: str, body: str, sender: str = "human", **more: Any) -> None:
        number = len(list(self.home.mailbox(to).glob("*/*")))
        name = f"l-9{number:03d}"
        row = {"id": name, "from": sender, "to": to, "kind": kind, "created": f"2026-01-01T00:00:0{number}Z", **more}
        files.replace(self.home.mailbox(to) / "new" / f"{name}.md", f"---\n{strictyaml.dump(row)}---\n{body}")

    def roster(self, *names: str) -> None:
        """The facts of a launch that these seats belong to."""
        rows = [{k: files.read_json(self.home.seat_file(n))[k] for k in ("name", "role", "backend")} for n in names]
        files.replace_json(self.home.org_file, {"org": "chief-juniors", "roster": rows})

    def calls(self, *words: str, seat: str | None = None) -> list[list[str]]:
        rows, _ = files.read_lines(self.home.comms / "calls.jsonl")
        found = [row["args"] for row in rows if seat in (None, row["seat"])]
        return [args for args in found if tuple(args[: len(words)]) == words]

    def filed(self) -> list[dict[str, Any]]:
        return files.read_json(self.home.ledger) or []

    def judge(self, experiment: str, outcome: str, effect: float) -> None:
        verdict = {"outcome": outcome, "tier": "tentative" if outcome == "win" else None, "effect": effect, "se": 0.01}
        rows = self.filed()
        for row in rows:
            if row["experiment"] == experiment:
                row["verdict"] = verdict
                files.replace(self.home.ledger, json.dumps(rows))
                self.letter(row["seat"], "verdict", f"{experiment} {outcome}: effect {effect:+.4f}", about=experiment)

    def events(self, seat: str) -> list[str]:
        return [row["event"] for row in files.read_lines(self.home.seat_events(seat))[0]]


@pytest.fixture
def org(tmp_path: Path) -> Iterator[Org]:
    org = Org(make_tiny_home(tmp_path / "a home's place"))
    yield org
    for pane in org.panes:
        pane.close()


@pytest.fixture
def junior(org: Org) -> Callable[[], Pane]:
    org.seat("chief", "chief")
    org.seat("j1", "junior")
    return lambda: org.open("j1")


def changes(org: Org) -> list[tuple[str, float]]:
    return [(knob["name"], knob["new"]) for row in org.filed() for knob in row["knobs"]]


def test_a_task_becomes_experiments_that_each_change_one_constant_and_say_why(
    org: Org, junior: Callable[[], Pane]
) -> None:
    pane = junior()
    pane.until(lambda: "idle" in org.events("j1"))
    assert not org.calls("run")  # with a chief it waits for its task
    org.letter("j1", "task", "Work on the learning rate.\nKnobs: matrix_lr, warmdown_frac", "chief")
    pane.until(lambda: len(org.filed()) == 2)
    pane.until(lambda: org.events("j1")[-1] == "waiting")
    assert all(len(row["knobs"]) == 1 and row["expect"] is not None for row in org.filed())
    assert all(knob["name"].upper() in row["description"] for row in org.filed() for knob in row["knobs"])
    assert Path(org.home.worktree("j1"), "train.py").read_text() == (org.home.root / "code/train.py").read_text()
    assert "processed" in org.events("j1") and "plan" in org.events("j1")
    org.judge("E0001", "win", -0.04)
    pane.until("is a win")
    pane.until("more than I thought")
    pane.until(lambda: len(org.filed()) == 3)
    assert len(set(changes(org))) == 3


def test_without_a_chief_every_knob_is_its_own_and_it_has_its_wins_verified(org: Org) -> None:
    org.seat("j1", "junior", "j1")
    pane = org.open("j1")
    pane.until(lambda: len(org.filed()) == 2)
    assert {name for name, _ in changes(org)} == {"matrix_lr", "warmdown_frac"}
    org.judge("E0001", "win", -0.04)
    org.judge("E0002", "win", -0.03)
    pane.until(lambda: org.calls("stack", "j1"))


def test_try_files_exactly_that_at_once_and_a_draft_survives_the_output(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until(lambda: "idle" in org.events("j1"))
    pane.type("try matr")
    org.letter("j1", "note", "Good morning, all of you.")
    pane.until("Good morning")
    pane.until(lambda: pane.seen.rindex(PROMPT + "try matr") > pane.seen.rindex("Good morning"))
    pane.type("ix_lr=0.05\r")
    pane.until(lambda: changes(org) == [("matrix_lr", 0.05)])
    pane.type("try matrix_lr=7\rtry matrx_lr=0.05\r")
    pane.until("use 0.005..0.16")
    pane.until("did you mean 'matrix_lr'")
    assert len(org.filed()) == 1


def test_pause_starts_nothing_new_and_resume_goes_on(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until("Type help")
    pane.type("pause\r")
    pane.until("Paused")
    org.letter("j1", "task", "Knobs: matrix_lr, warmdown_frac", "chief")
    pane.until("My knobs are now")
    pane.type("status\r")
    pane.until("Paused. Next")
    org.letter("j1", "question", "What did you do?")  # a paused seat still answers
    pane.until(lambda: org.calls("send", "human", "--json", "--kind", "report"))
    assert not org.calls("run") and org.events("j1")[-1] == "processed"
    pane.type("resume\r")
    pane.until(lambda: org.calls("run"))


def test_a_pause_outlives_the_program_until_it_is_resumed(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until("Type help")
    pane.type("pause\r")
    pane.until("Paused")
    pane.kill()
    org.letter("j1", "task", "Knobs: matrix_lr, warmdown_frac", "chief")
    again = junior()
    again.until("My knobs are now")
    assert not org.calls("run") and "ready" not in org.events("j1")[org.events("j1").index("paused") :]
    again.type("resume\r")
    again.until(lambda: org.calls("run"))


@pytest.mark.slow  # a researcher at work for seconds
def test_killed_and_started_again_it_goes_on_where_it_was(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    org.letter("j1", "task", "Knobs: matrix_lr, warmdown_frac", "chief")
    pane.until(lambda: len(org.filed()) == 2)
    pane.kill()
    worktree = org.home.worktree("j1") / "train.py"
    worktree.write_text(worktree.read_text().replace("MATRIX_LR = 0.02", "MATRIX_LR = 0.1"))  # killed in mid-edit
    again = junior()
    again.until("I remember my task: matrix_lr, warmdown_frac")
    again.until(lambda: org.events("j1")[-1] == "waiting")
    assert "MATRIX_LR = 0.02" in worktree.read_text()
    assert len(org.filed()) == 2  # both still run: nothing is filed twice
    org.judge("E0002", "null", 0.001)
    again.until("too small to tell from noise")
    again.until(lambda: len(org.filed()) == 3)
    assert len(set(changes(org))) == 3


@pytest.mark.slow  # a researcher at work for seconds
def test_a_refusal_is_shown_and_never_loops_hot(org: Org, junior: Callable[[], Pane]) -> None:
    (org.home.comms / "refuse").write_text("this touches a \x1b[31mdesign intent")
    pane = junior()
    org.letter("j1", "task", "Knobs: matrix_lr, warmdown_frac", "chief")
    pane.until("was refused")
    pane.until(lambda: len(org.calls("run")) == 2)
    values = [args[args.index("-m") + 1].partition(":")[0] for args in org.calls("run")]
    assert len(set(values)) == 2 and "\x1b[31mdesign" not in pane.seen
    assert len(org.calls("run")) <= 2


def test_the_standup_is_answered_with_references_instead_of_numbers(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    org.letter("j1", "task", "Knobs: matrix_lr", "chief")
    pane.until(lambda: len(org.filed()) == 2)
    org.judge("E0001", "win", -0.04)
    pane.until("is a win")
    org.letter("j1", "question", "Standup: three questions.", about="standup-2026-01-01-1")
    pane.until(lambda: org.calls("send", "human"))
    answer = org.calls("send", "human")[0]
    assert answer[answer.index("--about") + 1] == "standup-2026-01-01-1" and "--reply-to" in answer
    assert "{E0001.effect}" in answer[-1] and "-0.0" not in answer[-1]
    assert all(word in answer[-1] for word in ("Did:", "Learned:", "Next:"))


def test_other_words_are_noted_and_sent_to_the_chief(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until("Type help")
    pane.type("is the warmup worth it?\ridea -x tie the embeddings\rhelp\rquit\r")
    assert pane.process.wait(20) == 0
    pane.read()
    assert org.calls("send", "chief")[0][-1].endswith("is the warmup worth it?")
    assert "note" in org.events("j1") and org.events("j1")[-1] == "exit"
    assert "try NAME=VALUE" in pane.seen


@pytest.mark.slow  # a researcher at work for seconds
def test_a_chief_splits_the_knobs_moves_the_juniors_and_remembers_it(org: Org) -> None:
    org.seat("chief", "chief")
    org.seat("j1", "junior")
    org.seat("j2", "junior")
    pane = org.open("chief")
    pane.until(lambda: org.calls("send", "human"))
    programs = {files.read_json(org.home.seat_file(j))["program"] for j in ("j1", "j2")}
    assert programs == {"optimizer", "schedule"}
    tasks = [args[-1] for args in org.calls("send") if "task" in args]
    assert len(tasks) == 2 and sum("Knobs: matrix_lr" in t for t in tasks) == 1
    pane.kill()
    before = len(org.events("chief"))  # its last one may say `waiting` too
    again = org.open("chief")
    again.until(lambda: org.events("chief")[before:][-1:] == ["waiting"])
    assert len([args for args in org.calls("send") if "task" in args]) == 2
    again.type("try warmdown_frac=0.5\rstack nothing\rstatus\r")
    again.until("programs: optimizer, schedule")
    again.until(lambda: any("warmdown_frac=0.5" in args[-1] for args in org.calls("send")))
    row = {"program": "optimizer", "seat": "j1", "commit": "c", "claim": "better", "expect": None, "members": []}
    win = {"outcome": "win", "tier": "tentative", "effect": -0.03, "se": 0.01}
    knob = {"name": "matrix_lr", "old": 0.02}
    rows = [
        {**row, "experiment": f"E000{n}", "knobs": [{**knob, "new": n}], "verdict": win, "description": "x"}
        for n in range(1, 5)
    ]
    files.replace(org.home.ledger, json.dumps(rows))
    org.letter("chief", "verdict", "E0004 win (tentative): effect -0.03", about="E0004")
    again.until(lambda: org.calls("stack", "optimizer", "--no-wait"))
    again.until("E0900 verifies optimizer")
    assert len(org.calls("stack")) == 1


def test_a_chief_of_an_earlier_launch_does_not_exist(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until(lambda: "idle" in org.events("j1"))  # no roster yet: every seat counts
    pane.close()
    org.letter("j1", "task", "Knobs: warmdown_frac", "chief")
    box = org.home.mailbox("j1")
    (box / "cur").mkdir()
    (box / "new" / "l-9000.md").rename(box / "cur" / "l-9000.md")  # read in a former life
    org.roster("j1")
    again = junior()
    again.until("There is no chief here")
    again.until(lambda: org.calls("run"))
    again.type("what about the embeddings?\r")
    again.until(lambda: org.calls("send", "human"))
    assert not org.calls("send", "chief")


def test_a_chief_gives_no_work_to_a_seat_of_an_earlier_launch(org: Org) -> None:
    for name, role in (("chief", "chief"), ("j1", "junior"), ("j2", "junior")):
        org.seat(name, role)
    org.roster("chief", "j1")
    pane = org.open("chief")
    pane.until(lambda: org.calls("send", "human"))
    tasks = [args for args in org.calls("send") if "task" in args]
    assert [args[1] for args in tasks] == ["j1"]
    assert "matrix_lr" in tasks[0][-1] and "warmdown_frac" in tasks[0][-1]  # all of them: nobody else turns any


def test_a_letter_whose_signature_does_not_hold_is_no_order(org: Org, junior: Callable[[], Pane]) -> None:
    box = org.home.mailbox("j1")
    org.letter("j1", "task", "Knobs: matrix_lr", "chief", verified=False)
    (box / "cur").mkdir()
    (box / "new" / "l-9000.md").rename(box / "cur" / "l-9000.md")  # as if it had been read in a former life
    pane = junior()
    org.letter("j1", "task", "Knobs: matrix_lr", "chief", verified=False)
    org.letter("j1", "note", "Try matrix_lr=0.05 next.", "human", verified=False)
    pane.until("human (unverified): Try")
    org.letter("j1", "note", "Well?", "chief")
    pane.until("chief: Well?")
    pane.until(lambda: "no task yet" in org.home.seat_events("j1").read_text())
    assert "My knobs are now" not in pane.seen and "I remember" not in pane.seen and not org.calls("run")
    org.letter("j1", "note", "Try matrix_lr=0.06 next.", "human")
    pane.until(lambda: changes(org) == [("matrix_lr", 0.06)])


def test_while_paused_only_what_is_typed_here_runs(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until(lambda: "idle" in org.events("j1"))
    pane.type("pause\r")
    pane.until("Paused")
    org.letter("j1", "note", "Try matrix_lr=0.05 next.", "human")
    pane.until("human: Try")
    pane.type("try warmdown_frac=0.5\r")
    pane.until(lambda: changes(org) == [("warmdown_frac", 0.5)])
    pane.until("E0001 is filed")
    org.letter("j1", "question", "And now?")  # answered after another turn
    pane.until(lambda: org.calls("send", "human", "--json", "--kind", "report"))
    assert len(org.filed()) == 1
    pane.type("resume\r")
    pane.until(lambda: changes(org)[1:] == [("matrix_lr", 0.05)])


@pytest.mark.slow  # a researcher at work for seconds
def test_a_persons_half_made_edit_is_kept_and_not_filed_under_my_sentence(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until(lambda: "idle" in org.events("j1"))
    worktree = org.home.worktree("j1") / "train.py"
    edited = worktree.read_text().replace("SLEEP_S = 0.0", "SLEEP_S = 0.1  # is it the")
    worktree.write_text(edited)
    pane.type("try matrix_lr=0.05\r")
    pane.until("train.py is not as I left it")
    pane.until("is kept in")
    pane.until(lambda: org.filed())
    assert changes(org) == [("matrix_lr", 0.05)]
    (saved,) = org.home.seat("j1").glob("saved-*/train.py")
    assert saved.read_text() == edited
    worktree.write_text(edited)  # an own choice would be no better
    org.letter("j1", "task", "Knobs: warmdown_frac", "chief")
    pane.until(lambda: len(org.filed()) >= 2)
    assert all(len(row["knobs"]) == 1 and row["knobs"][0]["name"] != "sleep_s" for row in org.filed())


@pytest.mark.slow  # a researcher at work for seconds
def test_an_order_outlives_a_move_of_the_seat_in_the_middle_of_its_filing(org: Org, junior: Callable[[], Pane]) -> None:
    pane = junior()
    pane.until(lambda: "idle" in org.events("j1"))
    (org.home.comms / "move").touch()
    pane.type("try matrix_lr=0.05\r")
    pane.until("I begin again")
    pane.until(lambda: changes(org) == [("matrix_lr", 0.05)])


def test_importing_the_researcher_is_light() -> None:
    import subprocess

    code = (
        "import org.agents.offline, org.agents.offline_chief, re, sys;"
        "heavy = {'torch', 'optuna', 'pydantic', 'rich', 'numpy', 'libtmux', 'anthropic', 'openai'} & set(sys.modules);"
        "peak = re.search(r'VmHWM:\\s+([0-9]+)', open('/proc/self/status').read());"  # ru_maxrss counts the parent's too
        "print(sorted(heavy), int(peak[1]) // 1024)"
    )
    env = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    heavy, _, rss_mb = done.stdout.rpartition(" ")
    assert heavy == "[]" and int(rss_mb) < 60
