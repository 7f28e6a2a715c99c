"""A seat with a model behind an API, in a real terminal, with the real `org` and a model server of ours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from agents import warm
from agents.model_server import ModelServer
from agents.pane import Pane
from tiny import make_tiny_home

from org import files
from org.agents import usage
from org.home import Home
from org.records import Seat
from org.team import mail

ROOT = str(Path(__file__).parents[2])
MODELS = """\
stub-small: {input: 1, output: 10, cached: 0.1, context: 10000, answer: 1000}
stub*: {input: 1, output: 10, cached: 0.1, context: 100000, answer: 1000}
"""


class ApiSeat:
    """`j1` of a tiny home, whose program is ours over `spec`."""

    def __init__(self, root: Path, server: ModelServer, spec: str = "anthropic:stub-1") -> None:
        self.server, self.spec = server, spec
        self.home: Home = make_tiny_home(root / "a home's place")
        (self.home.prompts / "models.yaml").write_text(MODELS)
        self.worktree = self.home.worktree("j1")
        self.worktree.mkdir()
        for name in ("train.py", "README.md"):
            (self.worktree / name).write_bytes((self.home.root / "code" / name).read_bytes())
        for name, role, backend in (("j1", "junior", spec), ("chief", "chief", "offline")):
            worktree = str(self.home.worktree(name))
            row = Seat(name, role, backend, "main", f"program/main/{name}", worktree, None, "2026-01-01T00:00:00Z")
            files.replace_json(self.home.seat_file(name), row.to_dict())
        (self.home.seat("j1") / "role.md").write_text("You are seat `j1` (junior) of a research organisation.\n")
        self.panes: list[Pane] = []
        self.env: dict[str, str] = {}
        self.is_cold = False  # whether it is started as a pane of tmux starts it, two seconds later

    def open(self, **env: str) -> Pane:
        keys = {
            "ANTHROPIC_API_KEY": "sk-test-key-of-nobody",
            "ANTHROPIC_BASE_URL": self.server.url,
            "OPENAI_API_KEY": "sk-test-key-of-nobody",
            "OPENAI_BASE_URL": f"{self.server.url}/v1",
        }
        own = {"ORG_HOME": str(self.home.root), "ORG_SEAT": "j1", "ORG_EVENTS": str(self.home.seat_events("j1"))}
        base = {name: value for name, value in os.environ.items() if not name.startswith(("ORG_", "TMUX"))}
        proxy = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
        argv = [sys.executable, "-m", "org.agents.api"]
        environment = {**base, **keys, **own, **proxy, "PYTHONPATH": ROOT, **self.env, **env}
        pane = Pane(argv, environment, self.worktree, 100, None if self.is_cold else warm.start)
        self.panes.append(pane)
        return pane

    def ready(self, **env: str) -> Pane:
        """Open, and past the first turn."""
        pane = self.open(**env)
        self.until_idle(pane, 1)
        return pane

    def until_idle(self, pane: Pane, times: int, limit: float = 30.0) -> None:
        pane.until(lambda: self.states().count("idle") >= times, limit)

    def letter(self, text: str, sender: str = "human") -> str:
        return mail.send(self.home, sender, "j1", text)[0].id

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        rows = files.read_lines(self.home.seat_events("j1"))[0]
        return [row for row in rows if kind in (None, row["event"])]

    def states(self) -> list[str]:
        known = ("ready", "idle", "working", "limited", "asking", "paused", "exit")
        return [row["event"] for row in self.events() if row["event"] in known]

    def talk(self) -> list[dict[str, Any]]:
        paths = sorted(self.home.seat_talks("j1").glob("*.jsonl"))
        return files.read_lines(paths[-1])[0] if paths else []

    def results(self) -> list[dict[str, Any]]:
        return [row for row in self.talk() if row["kind"] == "tool"]

    def used(self) -> usage.Usage | None:
        return usage.total(usage.of_seat(self.home, "j1"))

    def all_files(self) -> str:
        """Everything that was written below the home, as one text."""
        paths = [path for path in self.home.root.rglob("*") if path.is_file()]
        return "\n".join(path.read_bytes().decode(errors="replace") for path in paths)

    def close(self) -> None:
        for pane in self.panes:
            pane.close()


def tool(name: str, **given: Any) -> str:
    """The script for one call."""
    return f"[[tool: {name} {json.dumps(given)}]]"
