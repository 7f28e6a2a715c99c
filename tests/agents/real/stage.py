"""Real agent programs under a real office, and what the model service heard of them. Everything stays on loopback.

The truth is what the model server received: no screen and no word of the office counts. A test asks for `stage`, which
installs the pinned programs (`scripts/agents`), skips with the reason where they cannot be had, and gives the programs a
home folder without a login, a model server, and a proxy that refuses and writes down whatever would leave loopback.
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents.model_server import ModelServer, RefusingProxy
from team.conftest import Org
from tiny import make_tiny_home
from waiting import wait_for

from org import files
from org.records import Letter, Seat
from org.team import doorbell, launch, mail, seats
from org.world import tmux

ROOT = Path(__file__).parents[3]
FULL = os.environ.get("ORG_FULL") == "1"  # the whole figures; else about a fifth, which is what CI runs
KEY = "sk-ant-no-real-key-00000000000000000000"  # of the form that programs expect; the model server takes any
HIDDEN = ("ANTHROPIC", "CLAUDE", "OPENAI", "CODEX")  # a person's own settings never reach a test


def counted(full: int) -> int:
    """How often a measure is taken: all of it, or a fifth."""
    return full if FULL else max(1, round(full / 5))


@functools.cache
def installed() -> tuple[Path | None, str]:
    """The folder with `claude` and `codex`, and why there is none."""
    done = subprocess.run([ROOT / "scripts" / "agents"], capture_output=True, text=True, check=False)
    lines = done.stdout.split("\n") if done.returncode == 0 else done.stderr.split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "scripts/agents said nothing")
    return (Path(said), "") if done.returncode == 0 else (None, said)


class RealOrg(Org):
    """An organisation of real programs, each of which talks to `server`."""

    def __init__(self, root: Path, server: ModelServer) -> None:
        super().__init__(make_tiny_home(root / "home"), "offline")
        self.server = server
        self.chance = random.Random(root.name)

    # --- starting

    def start(self, agents: str, juniors: int = 1, chief: int = 0) -> None:
        """Launched, and every junior at rest after its first turn."""
        from org.agents.base import parse_agents

        self.launch(chief=chief, juniors=juniors, agents=parse_agents(agents))
        for number in range(1, juniors + 1):
            seat = f"j{number}"
            wait_for(lambda seat=seat: self.ended(seat), 60, f"the end of {seat}'s first turn")  # type: ignore[misc]
            self.wait_state(seat, "ready")

    def ended(self, seat: str) -> int:
        """How many turns its program says have ended."""
        return sum(row.get("event") == "idle" for row in self.events(seat))

    # --- what the office says

    def status(self, seat: str) -> dict[str, Any]:
        return files.read_json(self.home.seat_state(seat)) or {}

    def state(self, seat: str) -> str:
        return str(self.status(seat).get("state"))

    def wait_state(self, seat: str, state: str, limit_s: float = 20) -> None:
        try:
            wait_for(lambda: self.state(seat) == state, limit_s, f"{seat} to be {state}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.state(seat)} and shows:\n{self.screen(seat)}") from None

    def seat(self, name: str) -> Seat:
        return seats.require(self.home, name)

    # --- its pane

    def pane(self, seat: str) -> str:
        return self.look().panes[seat].id

    def pid(self, seat: str) -> int:
        """Of the program itself: it is what the pane was started with."""
        return self.look().panes[seat].pid

    def wait_restarted(self, seat: str, pid: int, limit_s: float = 30) -> None:
        """Until another program than `pid` lives in its pane. No state tells: `gone` lasts as long as the office takes to
        start it again, which may be less than one look."""

        def is_another() -> bool:
            pane = self.look().panes.get(seat)
            return pane is not None and not pane.dead and pane.pid != pid

        wait_for(is_another, limit_s, f"{seat} to be started again")

    def screen(self, seat: str) -> str:
        text = tmux.Server(self.home.socket).capture(self.pane(seat))
        return "\n".join(line for line in text.split("\n") if line.strip())

    def keys(self, seat: str, *keys: str) -> None:
        """Pressed as no person: nobody's client is attached, so the office does not stay away."""
        self.tmux("send-keys", "-t", self.pane(seat), *keys)

    def order(self, seat: str, text: str, gap_s: float = 0.4) -> None:
        """Typed and submitted as a person would, who sees what they typed: an Enter that a busy program reads together with
        the text is a line break to it."""
        shown = self.screen(seat).count(text[:24])
        self.tmux("send-keys", "-t", self.pane(seat), "-l", "--", text)
        wait_for(lambda: self.screen(seat).count(text[:24]) > shown, 30, f"{text[:24]!r} on the screen of {seat}")
        time.sleep(gap_s)
        self.keys(seat, "Enter")

    # --- letters

    def letter(self, seat: str, body: str = "read this when you are free") -> Letter:
        return mail.send(self.home, "human", seat, body)[0]

    def is_unread(self, seat: str, letter: str) -> bool:
        return (self.home.mailbox(seat) / "new" / f"{letter}.md").exists()

    def acknowledge(self, seat: str, letter: str) -> None:
        """Read, as the seat's own `org inbox` does it: it is not told of again."""
        mail.acknowledge(self.home, seat, letter)

    def events(self, seat: str = "") -> Any:  # type: ignore[override]
        if not seat:
            return super().events()
        path = self.home.seat_events(seat)
        return files.read_lines(path, 0)[0] if path.is_file() else []

    # --- what the model service received

    def told(self, seat: str) -> list[str]:
        """Every text that stands in the seat's latest request as the person's or a tool's: a whole history."""
        turns = self.server.turns(seat)
        return [text for who, text in turns[-1].texts if who in ("user", "result")] if turns else []

    def was_sent(self, text: str) -> bool:
        """Whether any request held `text`, wherever: a hook's words are the system's in one program, a developer's in the
        other."""
        return any(text in json.dumps(request.body, ensure_ascii=False) for request in self.server.requests)

    def heard(self, seat: str, text: str) -> int:
        """How often `text` stands in what the model was last sent."""
        return sum(part.count(text) for part in self.told(seat))


def bell(*letters: str) -> str:
    """The exact line that the doorbell types."""
    return doorbell.line_of(letters)


# --- fixtures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with the pinned programs."""
    folder, reason = installed()
    if folder is None:
        pytest.skip(f"the agent programs cannot be installed: {reason}")
    return folder


@pytest.fixture
def proxy() -> Iterator[RefusingProxy]:
    """What would leave loopback is refused, and fails the test."""
    with RefusingProxy() as made:
        yield made
        assert made.attempts == [], f"it tried to leave loopback: {made.attempts[:9]}"


def surround(patch: pytest.MonkeyPatch, programs: Path, proxy: RefusingProxy, person: Path) -> None:
    """The environment of a person without a login, whose programs reach nothing but loopback."""
    for name in [name for name in os.environ if name.startswith(HIDDEN)]:
        patch.delenv(name)
    person.mkdir()
    patch.setenv("HOME", str(person))
    patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    for name, value in proxy.env().items():
        patch.setenv(name, value)


def lead_to(patch: pytest.MonkeyPatch, server: ModelServer) -> None:
    """Both programs ask this server, with a key that is none."""
    patch.setenv("ANTHROPIC_BASE_URL", server.url)
    patch.setenv("ANTHROPIC_API_KEY", KEY)
    patch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    patch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def place(programs: Path, proxy: RefusingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a home, in such an environment."""
    surround(monkeypatch, programs, proxy, tmp_path / "person")
    return tmp_path


@pytest.fixture
def server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer() as made:
        lead_to(monkeypatch, made)
        yield made


@pytest.fixture
def stage(place: Path, server: ModelServer) -> Iterator[RealOrg]:
    """Nothing is started yet: `stage.start("claude")`."""
    made = RealOrg(place, server)
    yield made
    launch.stop(made.home, lambda line: None)
    assert made.marked() == []
    shutil.rmtree(made.home.root, ignore_errors=True)  # a session's files are large, and pytest keeps folders
