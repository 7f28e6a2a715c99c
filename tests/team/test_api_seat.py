"""A seat over a model's API in a real organisation: launched, told a letter, restarted by the office, stopped."""

from __future__ import annotations

import os
import signal

import pytest
from agents.model_server import ModelServer
from team.conftest import Org, wait_for

from org import files
from org.lab import ledger
from org.team import mail


@pytest.mark.slow  # a launched organisation for seconds
def test_an_api_seat_lives_in_the_grid(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    home = org.home
    with ModelServer() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-key-of-nobody")
        org.launch(chief=0, juniors=1, agents=[("anthropic:stub-1", None)])

        def states() -> list[str]:
            return [str(row["event"]) for row in files.read_lines(home.seat_events("j1"))[0]]

        wait_for(lambda: "idle" in states(), 40, "its first turn")
        first = server.turns("j1")[0]
        assert "You run one experiment after another" in first.system  # the role page of the folder
        mail.send(home, "human", "j1", "[[bash: echo sleeping >> told; sleep 60]]")
        told = home.worktree("j1") / "told"
        wait_for(told.exists, 30, "the letter's command")
        os.kill(org.look().panes["j1"].pid, signal.SIGKILL)
        wait_for(lambda: server.heard("interrupted: the program ended"), 60, "the restart by the office")
        wait_for(lambda: states()[-1] == "idle", 30, "the end of that turn")
        assert told.read_text() == "sleeping\n"
        assert "sk-test-key" not in org.tmux("show-environment", "-g") + org.events()
        org.stop()
        assert org.marked() == []


@pytest.mark.slow  # a bank, three arms and a stack: 45 s
def test_a_chief_and_a_junior_over_apis_come_to_a_verdict(org: Org, monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelServer("competent") as server:
        for name, url in (("ANTHROPIC", server.url), ("OPENAI", f"{server.url}/v1")):
            monkeypatch.setenv(f"{name}_BASE_URL", url)
            monkeypatch.setenv(f"{name}_API_KEY", "sk-test-key-of-nobody")
        org.launch(chief=1, juniors=1, agents=[("openai:stub-1", 1), ("anthropic:stub-1", 1)])

        def verified() -> list[str]:
            verdicts = ledger.read(org.home).verdicts
            return [name for name, verdict in verdicts.items() if verdict.tier == "verified"]

        wait_for(verified, 180, "a verified stack")
        assert {row.api for row in server.turns()} == {"messages", "responses"}
        assert server.heard("task from chief", "j1") and {seat for seat in ("chief", "j1") if server.turns(seat)} == {
            "chief",
            "j1",
        }
