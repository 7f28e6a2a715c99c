"""What an own brain works with: `org` subprocesses that never block it, its events file, its mailbox folder.

The only module of the room that starts processes of the organisation. Reads mail only to see that there is some.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from org import files, strictyaml
from org.errors import BadInput
from org.home import Home
from org.records import Seat

RESUMED = "resumed"  # the text of the event that ends a pause
PAUSED = "paused", "paused by the person at the pane"  # the event that begins one
PAUSE_TAIL = 1_048_576  # bytes of the events file in which the last pause is looked for
CALL_LIMIT_S = 300.0  # an `org` command that takes longer is ended; the gate's own locks wait far less


@dataclass(frozen=True)
class Reply:
    """How one `org` command ended: its exit code, its JSON document (None when it printed none), its line on stderr."""

    code: int
    value: Any
    error: str
    text: str = ""  # all of stdout

    @property
    def is_ok(self) -> bool:
        return self.code == 0


@dataclass
class _Call:
    args: Sequence[str]
    done: Callable[[Reply], None]


class Calls:
    """`org` commands, one after another, in the background. `poll` delivers what has ended; nothing here waits."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], clock: Callable[[], float]) -> None:
        self.argv, self.env, self.clock = list(argv), dict(env), clock
        self.waiting: deque[_Call] = deque()
        self.running: _Call | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._out: IO[bytes] | None = None
        self._err: IO[bytes] | None = None
        self._since = 0.0

    @property
    def is_busy(self) -> bool:
        return self.running is not None or bool(self.waiting)

    def add(self, *args: str, done: Callable[[Reply], None] | None = None, first: bool = False) -> None:
        """Run `org *args` when its turn comes; `done` gets the reply. `first` goes before what waits."""
        call = _Call(args, done or (lambda reply: None))
        if first:
            self.waiting.appendleft(call)
        else:
            self.waiting.append(call)
        self._start()

    def poll(self) -> None:
        """Deliver the running command's reply if it has ended, and start the next."""
        if self.running is None or self._process is None:
            self._start()
            return
        code = self._process.poll()
        if code is None:
            if self.clock() - self._since > CALL_LIMIT_S:
                self._process.kill()
            return
        call, out, error = self.running, self._text(self._out), self._text(self._err)
        self.running = self._process = None
        try:
            value = json.loads(out)
        except ValueError:
            value = None
        call.done(Reply(code, value, error.strip().splitlines()[-1] if error.strip() else "", out))
        self._start()

    def close(self) -> None:
        """Drop what waits. The command that runs is left to end by itself: half a filing is worse than a late one."""
        self.waiting.clear()

    def _start(self) -> None:
        if self.running is not None or not self.waiting:
            return
        self.running = self.waiting.popleft()
        # files instead of pipes: a large answer never blocks the command, and nothing has to be read meanwhile
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed in _text
        self._since = self.clock()
        try:
            self._process = subprocess.Popen(
                [*self.argv, *self.running.args],
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                env=self.env,
                start_new_session=True,  # Ctrl-C in the pane is for the researcher, not for a filing half done
            )
        except OSError as error:
            call, self.running = self.running, None
            call.done(Reply(127, None, f"cannot start {self.argv[0]}: {error}"))

    @staticmethod
    def _text(file: IO[bytes] | None) -> str:
        if file is None:
            return ""
        with file:
            file.seek(0)
            return file.read().decode(errors="replace")


class Events:
    """The seat's events file: one line for each thing that happened, a state only when it changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = ""

    def note(self, event: str, text: str = "", **more: Any) -> None:
        row = {"t": files.utc_now(), "event": event, "text": text, **more}
        try:
            files.append_line(self.path, json.dumps(row, ensure_ascii=False))
        except OSError:
            pass  # a full disk must not end the researcher; the office sees the silence

    def was_paused(self) -> bool:
        """Whether the last life was paused and not resumed: a person's pause outlives the program."""
        words = [(row.get("event"), row.get("text")) for row in files.read_tail(self.path, PAUSE_TAIL)]
        turns = [
            event == "paused" for event, text in words if event == "paused" or (event, text) == ("working", RESUMED)
        ]
        return bool(turns) and turns[-1]

    def become(self, state: str, text: str = "") -> None:
        """Say the state if it differs from the last one said."""
        if (state, text) != (self.state, getattr(self, "_text", "")):
            self.state, self._text = state, text
            self.note(state, text)


class Mailbox:
    """One seat's mailbox folder, looked at by name only: the letters are read through `org inbox`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: set[str] = set()

    def unread(self) -> set[str]:
        """Names of the letters in new/ that were not handed to `org inbox` yet."""
        try:
            names = {entry.name for entry in os.scandir(self.folder / "new") if not entry.name.startswith(".")}
        except FileNotFoundError:
            return set()
        self.asked &= names
        return names - self.asked

    def letters(self, kind: str, parts: Sequence[str] = ("cur", "new")) -> list[tuple[dict[str, Any], str]]:
        """Letters of one kind lying here, read (`cur`, put away ones too) and unread (`new`), oldest first: what a
        restarted seat was told before. Signatures are not looked at: before anything is obeyed it is read through
        `org inbox`."""
        found = []
        for part in parts:
            put_away = self.folder.glob("archive/*/*") if part == "cur" else ()
            for path in sorted([*(self.folder / part).glob("*"), *put_away]):
                try:
                    text = files.read_plain(path, strictyaml.MAX_BYTES).decode()
                    fields, body = strictyaml.front_matter(text, str(path))
                except (OSError, UnicodeDecodeError, BadInput):
                    continue  # a torn or hostile letter: `org doctor` speaks about those
                if fields.get("kind") == kind:
                    found.append((fields, body))
        return sorted(found, key=lambda letter: str(letter[0].get("created", "")))


def org_argv(environ: Mapping[str, str]) -> list[str]:
    """The command every call begins with: $ORG_COMMAND (a JSON list) if set, else this Python's `-m org`."""
    given = environ.get("ORG_COMMAND")
    if not given:
        return [sys.executable, "-m", "org"]
    try:
        argv = json.loads(given)
    except ValueError:
        argv = shlex.split(given)
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise BadInput('ORG_COMMAND must be a JSON list of words, such as ["org"]')
    return argv


def load_seat(home: Home, name: str) -> Seat:
    """The seat's identity from its file. Raises BadInput when the seat does not exist."""
    row = files.read_json(home.seat_file(name))
    if not isinstance(row, dict):
        raise BadInput(f"no seat {name!r:.40} in {home.root}; make one with `org seat {name}`")
    return Seat.from_dict(row)


def seats(home: Home) -> list[Seat]:
    """Every seat of the organisation, by name, j2 before j10; those of the roster where a launch wrote one. A seat that an
    earlier launch made, and this one does not, keeps its folder and is no member."""
    facts = files.read_json(home.org_file)
    rows = facts.get("roster") if isinstance(facts, dict) else None
    members = {row.get("name") for row in rows if isinstance(row, dict)} if isinstance(rows, list) and rows else None
    found = []
    for path in home.seats.glob("*/seat.json"):
        row = files.read_json(path)
        if isinstance(row, dict):
            try:
                found.append(Seat.from_dict(row))
            except TypeError:
                continue  # half of a seat: being made right now
    found = [seat for seat in found if members is None or seat.name in members]
    return sorted(found, key=lambda seat: (len(seat.name), seat.name))
