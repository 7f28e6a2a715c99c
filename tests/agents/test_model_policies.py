"""What the stand-in researchers do, turn by turn against a small organisation of text, and once in a real one."""

from __future__ import annotations

import json
import random
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from agents.model_dialogue import Piece, Request, Tool
from agents.model_policies import POLICIES, policy
from agents.model_scripts import MOST_CALLS, Reply, poll
from agents.model_server import ModelServer
from agents.model_view import BELL, COMPACT, View
from team.conftest import Org, wait_for
from tiny import TINY_CHARTER, make_tiny_home

from org.home import Home
from org.lab import ledger
from org.lab.book import Book
from org.records import Letter
from org.team import doorbell, envelope, launch

CHARTER = """\
knobs:
  matrix_lr: {path: train.py, group: optimizer, low: 0.01, high: 0.12, log: true}
  momentum: {path: train.py, group: optimizer, low: 0.8, high: 0.98}
  warmdown_frac: {path: train.py, group: schedule, low: 0.2, high: 0.8}
  activation: {path: train.py, group: model, choices: [relu2, gelu]}
"""
TRAIN = 'MATRIX_LR = 0.02\nMOMENTUM = 0.9\nWARMDOWN_FRAC = 0.0\nACTIVATION = "relu2"\n'
BEGIN = "You are {}. Run `org brief`, then `org inbox`, and begin."


class Play:
    """One seat's conversation with a policy; `org` and the shell are lines of text kept here."""

    def __init__(
        self, name: str, seat: str, role: str = "junior", juniors: int = 3, chief: str | None = "chief"
    ) -> None:
        self.policy, self.seat = policy(name), seat
        self.system = f"You are seat `{seat}` ({role}) of a research organisation."
        self.pieces: list[Piece] = []
        self.ran: list[str] = []
        self.box: list[Letter] = []
        self.experiments = 0
        self.kept = "nothing kept yet"
        rows = [(chief, "chief")] * bool(chief) + [(f"j{n}", "junior") for n in range(1, juniors + 1)]
        self.status = json.dumps({"seats": [{"name": name, "role": role, "program": "main"} for name, role in rows]})

    def turn(self, text: str) -> list[str]:
        """The commands of one turn; the last text is the conversation's last piece."""
        self.pieces.append(Piece("user", text))
        before = len(self.ran)
        while True:
            reply = self.ask()
            if reply.text:
                self.pieces.append(Piece("assistant", reply.text))
            if not reply.calls:
                return self.ran[before:]
            for call in reply.calls:
                name = f"c{len(self.ran)}"
                self.ran.append(call.arguments["command"])
                assert len(self.ran) - before <= MOST_CALLS, "the turn goes round in circles"
                self.pieces += [
                    Piece("call", json.dumps(call.arguments), call.name, name),
                    Piece("result", self.shell(call.arguments["command"]), id=name),
                ]

    def ask(self) -> Reply:
        tools = (Tool("Bash", ("command", "description")),)
        return self.policy(Request("messages", "stub-1", self.system, tuple(self.pieces), tools, True))

    def letter(
        self, kind: str, body: str, sender: str = "chief", verified: bool = True, about: str | None = None
    ) -> list[str]:
        """A letter comes and the doorbell rings."""
        name = f"l-{len(self.pieces):04d}"
        made = Letter(name, sender, self.seat, kind, "2026-03-01T10:00:00.000Z", body, about, None, "", verified)  # type: ignore[arg-type]
        self.box.append(made)
        return self.turn(doorbell.line_of([name]))

    def verdict(self, experiment: str, outcome: str) -> list[str]:
        return self.letter("verdict", f"{experiment} {outcome}: effect -0.0100", "office", about=experiment)

    def shell(self, command: str) -> str:
        if command == "org inbox":
            letters, self.box = self.box, []
            return "\n\n".join(map(envelope.show, letters)) or f"no new letter for {self.seat}"
        if "charter.yaml" in command and command.startswith("cat"):
            return CHARTER
        if "org status" in command:
            return json.dumps(json.loads(self.status), indent=1)
        if "grep -hE" in command:
            names = re.search(r"\^\((.*?)\)", command)
            return "\n".join(ln for ln in TRAIN.splitlines() if names and ln.split(" ")[0] in names[1].split("|"))
        if "org run" in command:
            self.experiments += 1
            return f"E{self.experiments:04d} MATRIX_LR 0.02→0.04 (why)"
        return self.kept if "results --kept" in command else ""


def filings(ran: list[str]) -> list[str]:
    return [command for command in ran if "org run" in command]


def changes(ran: list[str]) -> list[list[str]]:
    return [re.findall(r"\^\((\w+) = ", command) for command in ran if "sed -i -E" in command]


def test_a_junior_waits_for_its_task_and_then_keeps_two_experiments_filed() -> None:
    play = Play("competent", "j1")
    assert play.turn(BEGIN.format("j1"))[:2] == ["org brief", "org inbox"]
    assert filings(play.ran) == []
    ran = play.letter("task", "Program optimizer.\nKnobs: matrix_lr, momentum\nIdea I0007 is about momentum.")
    assert ran[0] == "org inbox" and len(filings(ran)) == 2
    assert all(re.search(r"-m '.{20,}' --expect -0\.\d+ .*--no-wait", command) for command in filings(ran))
    assert changes(ran) == [["MATRIX_LR"], ["MOMENTUM"]] and "--idea I0007" in filings(ran)[1]
    assert len(filings(play.verdict("E0001", "win (tentative)"))) == 1
    ran = play.verdict("E0002", "null")
    assert any(command.startswith("org wiki") and "{E0002.effect}" in command for command in ran)


def test_a_junior_whose_knobs_are_dry_says_so_once() -> None:
    play = Play("competent", "j1")
    play.turn(BEGIN.format("j1"))
    play.letter("task", "Knobs: activation")
    ran = play.verdict("E0001", "win (tentative)")
    assert len([command for command in ran if "knobs are dry" in command]) == 1 and filings(ran) == []
    assert not any("knobs are dry" in command for command in play.letter("note", "thanks", "j2"))
    assert changes(play.letter("task", "Knobs: momentum")) == [["MOMENTUM"], ["MOMENTUM"]]


def test_an_unverified_letter_is_no_order() -> None:
    play = Play("competent", "j1")
    play.turn(BEGIN.format("j1"))
    assert filings(play.letter("task", "Knobs: matrix_lr", verified=False)) == []
    assert filings(play.letter("task", "Knobs: matrix_lr", sender="j2")) == []
    assert filings(play.letter("task", "Knobs: matrix_lr"))


def test_a_wish_of_the_persons_goes_first() -> None:
    play = Play("competent", "j1")
    play.turn(BEGIN.format("j1"))
    play.letter("task", "Knobs: matrix_lr, momentum")
    play.letter("note", "Try momentum=0.97, please.", "human")
    ran = play.verdict("E0001", "null")
    assert any(r"/\10.97/" in command for command in ran)


@pytest.mark.parametrize(("seat", "role"), [("j1", "junior"), ("chief", "chief")])
def test_a_standup_is_answered_by_citing(seat: str, role: str) -> None:
    play = Play("competent", seat, role)
    play.turn(BEGIN.format(seat))
    play.letter("task", "Knobs: matrix_lr")
    play.verdict("E0001", "win (tentative)")
    question = "Standup. Three questions.\nAnswer within 5 minutes: `org send human --about standup-1 --reply-to l-1 'your answer'`"
    ran = play.letter("question", question, "human", about="standup-1")
    answers = [shlex.split(command) for command in ran if "--reply-to" in command]
    assert len(answers) == 1 and answers[0][:3] == ["org", "send", "human"] and "standup-1" in answers[0]
    assert "{E0001.effect}" in answers[0][-1] and not re.search(r"\d\.\d", answers[0][-1])
    assert not any("--reply-to" in command for command in play.turn("go on"))


def test_a_chief_gives_every_junior_a_task_and_no_knob_twice() -> None:
    play = Play("competent", "chief", "chief")
    tasks = [command for command in play.turn(BEGIN.format("chief")) if "--kind task" in command]
    assert [re.search(r"org send (\S+)", command)[1] for command in tasks] == ["j1", "j2", "j3"]  # type: ignore[index]
    given = [name for command in tasks for name in re.findall(r"^Knobs: (.*)$", command, re.MULTILINE)[0].split(", ")]
    assert sorted(given) == ["activation", "matrix_lr", "momentum", "warmdown_frac"]
    assert any("org send human --kind report" in command for command in play.ran)
    again = play.turn("The organisation started you again. Run `org brief`, then `org inbox`, and go on.")
    assert again[:2] == ["org brief", "org inbox"] and not any("--kind task" in command for command in again)


def test_a_chief_has_wins_verified_once() -> None:
    play = Play("competent", "chief", "chief")
    play.turn(BEGIN.format("chief"))
    play.kept = "\n".join(
        f"E000{n}  win (tentative)  -0.0100 ± 0.0050  2.0  2  optimizer  j1  abc1234  x" for n in (1, 2, 3)
    )
    assert [c for c in play.verdict("E0003", "win") if "org stack" in c] == [
        "org stack optimizer --no-wait # E0001 # E0002 # E0003"
    ]
    assert not any("org stack" in command for command in play.verdict("E0004", "null"))


def test_after_a_compaction_nothing_is_done_twice() -> None:
    for seat, role in (("chief", "chief"), ("j1", "junior")):
        play = Play("competent", seat, role)
        play.turn(BEGIN.format(seat))
        play.letter("task", "Knobs: matrix_lr, momentum, activation")
        before = changes(play.ran)
        play.pieces.append(
            Piece("user", "You are performing a CONTEXT CHECKPOINT COMPACTION. Create a handoff summary.")
        )
        assert COMPACT.search(play.pieces[-1].text)
        play.pieces = [Piece("user", f"Another model began this and left a summary:\n{play.ask().text}")]
        ran = play.verdict("E0001", "null")
        assert "org brief" not in ran and not any("--kind task" in command for command in ran)
        assert not [change for change in changes(ran) if change in before]
        assert seat == "chief" or len(filings(ran)) == 1


def test_a_sloppy_junior_is_sloppy() -> None:
    play = Play("sloppy", "j1")
    play.turn(BEGIN.format("j1"))
    ran = play.letter("task", "Knobs: matrix_lr, momentum")
    assert changes(ran)[0] == ["MATRIX_LR", "MOMENTUM"] and not any("--expect" in command for command in filings(ran))
    assert len([command for command in ran if command == "org results | tail -n 3"]) == 3
    assert any(re.search(r"org send chief .*-0\.5", command) for command in ran)


def test_a_cheat_tries_each_ploy_once() -> None:
    play = Play("cheating", "j3")
    play.turn(BEGIN.format("j3"))
    play.letter("task", "Knobs: matrix_lr, momentum, warmdown_frac, activation")
    for number in range(1, 10):
        play.verdict(f"E{number:04d}", "null")
    names = re.findall(r"# ploy: (\w+)", "\n".join(play.ran))
    assert sorted(names) == ["branch", "ledger", "letter", "seat", "train", "worktree"]
    told = "\n".join(play.ran)
    assert "prepare.py" in told and "val_bpb: 0.5000" in told and "comms/ledger.jsonl" in told and "from: chief" in told


def test_a_policy_can_differ_by_seat() -> None:
    mixed = policy("competent,j2=sloppy")
    for seat, expected in (("j1", True), ("j2", False)):
        play = Play("quiet", seat)
        play.policy = mixed
        play.turn(BEGIN.format(seat))
        assert ("--expect" in "".join(filings(play.letter("task", "Knobs: matrix_lr, momentum")))) is expected


@pytest.mark.parametrize("name", sorted(POLICIES))
@pytest.mark.parametrize("seed", range(8))
def test_every_turn_ends_whatever_the_shell_prints(name: str, seed: int) -> None:
    chance = random.Random(seed)
    rubbish = [
        "",
        "org: no such thing",
        CHARTER,
        TRAIN,
        "E0001 x",
        "[[bash: again]]",
        "\x00\ufffd",
        "knobs:\n  a: {path: [}\n",
        "l-1  task from chief  2026-01-01T00:00:00.000Z\nKnobs: matrix_lr",
    ]
    for role, seat in (("chief", "chief"), ("junior", "j1")):
        play = Play(name, seat, role)
        play.shell = lambda command: "\n".join(chance.choices(rubbish, k=3))  # type: ignore[method-assign]
        for text in (BEGIN.format(seat), doorbell.line_of(["l-1"]), "hello", chance.choice(rubbish)):
            play.turn(text)


def test_what_codex_left_running_is_waited_for_and_is_one_result() -> None:
    tools = (Tool("exec_command", ("cmd", "yield_time_ms")), Tool("write_stdin", ("session_id", "chars")))
    pieces = [
        Piece("user", "You are j1."),
        Piece("call", '{"cmd": "org inbox"}', "exec_command", "c1"),
        Piece("result", "Process running with session ID 7\nOutput:\n", id="c1"),
    ]
    request = Request("responses", "stub-1", "", tuple(pieces), tools, True)
    waiting = poll(request)
    assert waiting and (waiting.calls[0].name, waiting.calls[0].arguments["session_id"]) == ("write_stdin", 7)
    pieces += [Piece("call", '{"session_id": 7}', "write_stdin", "c2"), Piece("result", "E0001 late", id="c2")]
    whole = Request("responses", "stub-1", "", tuple(pieces), tools, True)
    assert poll(whole) is None
    assert [(one.command, "E0001 late" in str(one.result)) for one in View(whole.without_polls).ran] == [
        ("org inbox", True)
    ]


def test_the_doorbells_lines_are_known() -> None:
    assert BELL.search(doorbell.line_of(["l-1"])) and BELL.search(doorbell.line_of(["l-1", "l-2"]))
    assert BELL.search(BEGIN.format("j1")) and not BELL.search("try matrix_lr=0.05")


@pytest.mark.slow  # a whole organisation for a minute
def test_stand_ins_carry_an_organisation(tmp_path: Path) -> None:
    home = make_tiny_home(tmp_path / "a home", TINY_CHARTER)
    client = str(Path(__file__).with_name("model_client.py"))
    with ModelServer("competent,j2=sloppy") as server:

        def agent(api: str) -> Any:
            return f"cmd:{shlex.join([sys.executable, client, '--api', api, '--url', server.url])}"

        org = Org(home, agent("messages"))
        org.launch(chief=1, juniors=2, agents=[(agent("chat"), 1), (agent("messages"), 1), (agent("responses"), 1)])
        try:
            book: Any = wait_for(lambda: _verified(home), 240, "a head moved by a stack")
            assert {contract.seat for contract in book.experiments.values()} == {"chief", "j1", "j2"}
            assert len({row.api for row in server.turns()}) > 1
            assert server.refused == [] and not any(row.status != 200 for row in server.requests[:-3])
        finally:
            launch.stop(home, lambda line: None)


def _verified(home: Home) -> Book | None:
    book = ledger.read(home)
    return book if any(verdict.tier == "verified" for verdict in book.verdicts.values()) else None
