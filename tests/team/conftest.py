"""A running organisation in the tiny home: real tmux on a socket of its own, and a small program that behaves like an agent."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from org import charter as charters
from org import schema
from org.home import Home
from org.team import launch, roster, seats, states
from org.world import devices, process

# Reads what is typed, keeps it and its environment where a test finds them; on `die` it ends, on `work` it says so.
FAKE = """\
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["ORG_EVENTS"]).parent
(folder / "env.json").write_text(json.dumps(dict(os.environ) | {"CWD": os.getcwd()}))
for line in sys.stdin:
    with (folder / "typed.txt").open("a") as file:
        file.write(line)
    if line.strip() == "die":
        sys.exit(3)
"""


class Org:
    """The tiny home with what a test asks of it."""

    wait_for = staticmethod(wait_for)

    def __init__(self, home: Home, fake: str) -> None:
        self.home, self.fake = home, fake
        self.said: list[str] = []

    def plan(self, **options: Any) -> roster.Plan:
        charter = charters.load(self.home)
        folder = schema.org_folder(self.home.org_folder("chief-juniors"))
        previous = roster.facts(self.home)
        spec = options.get("devices") or previous.get("devices_spec") or "cpu:2"
        there = [d.name for d in devices.discover(spec)]
        given = roster.Options(**{"devices": "cpu:2", **options})
        return roster.plan(self.home, charter, folder, given, seats.all_seats(self.home), there, previous)

    def launch(self, **options: Any) -> list[str]:
        """Launch with fake agents unless the options say otherwise; returns what was said."""
        self.said = []
        if "chief" in options or "juniors" in options:
            options.setdefault("agents", [(self.fake, None)])
        launch.launch(self.home, self.plan(**options), self.said.append)
        return self.said

    def stop(self, **options: Any) -> str:
        self.said = []
        launch.stop(self.home, self.said.append, **options)
        return self.said[-1]

    def look(self) -> states.Look:
        return states.look(self.home, time.time())

    def env(self, seat: str) -> dict[str, str]:
        path = self.home.seat(seat) / "env.json"
        return wait_for(lambda: json.loads(path.read_text()) if path.is_file() and path.stat().st_size else None)  # type: ignore[no-any-return]

    def typed(self, seat: str) -> str:
        path = self.home.seat(seat) / "typed.txt"
        return path.read_text() if path.is_file() else ""

    def events(self) -> str:
        return self.home.events.read_text() if self.home.events.is_file() else ""

    def tmux(self, *words: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self.home.socket, *words], capture_output=True, text=True, check=True
        ).stdout

    def marked(self) -> list[int]:
        return process.find_marked(f"ORG_KEY={self.home.key}")


@pytest.fixture
def org(tiny_home: Home, odd_path: Path) -> Iterator[Org]:
    script = odd_path / "fake agent.py"
    script.write_text(FAKE)
    made = Org(tiny_home, f"cmd:{shlex.join([sys.executable, str(script)])}")
    yield made
    launch.stop(tiny_home, lambda line: None)
    assert made.marked() == []
