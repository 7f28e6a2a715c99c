"""An organisation of fake terminal agents under a real office, and what is wrong with what they heard.

The ground truth is the agents' own files (`terminal`); nothing here looks at a screen or asks the office.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from team.conftest import Org
from tiny import make_tiny_home
from waiting import wait_for
from whole import environment

from org import files
from org.home import Home
from org.team import doorbell, launch

TERMINAL = Path(__file__).with_name("terminal.py")
ROOT = Path(__file__).parents[2]
LETTER = re.compile(r"\bl-[a-z0-9-]+")
CALM = "--burst --turn 0.05 --random {seed}"
STORM = CALM + " --stall 0.3 --swallow 0.25 --busy 0.1 --longest 1.2"
SENDER = """\
import json, random, subprocess, sys, time
from pathlib import Path
from org.errors import OrgError
from org.home import Home
from org.team import mail
root, me, seed, count, pause_s, verb_share, *seats = sys.argv[1:]
home, chance = Home(Path(root)), random.Random(f"{seed} {me}")
for number in range(int(count)):
    to = chance.choice([seat for seat in seats if seat != me])
    text = f"{me} says {number}"
    by_verb = chance.random() < float(verb_share)
    end = time.monotonic() + 120
    while True:
        if by_verb:
            argv = [sys.executable, "-m", "org", "--home", root, "--seat", me, "send", to, text, "--json"]
            done = subprocess.run(argv, capture_output=True, text=True)
            row = json.loads(done.stdout) if done.returncode == 0 else {}
            letter = row.get("id") if row.get("delivery") != "refused" else None
        else:
            try:
                letter = mail.send(home, me, to, text)[0].id
            except OrgError as error:  # a limit of the mail's: the letter is sent later, as an agent would
                letter, done = None, error
        if letter:
            break
        if time.monotonic() > end:
            sys.exit(f"{me} could not send to {to}: {done}")
        time.sleep(0.2)
    print(json.dumps([to, letter]), flush=True)
    time.sleep(chance.expovariate(1 / float(pause_s)))
"""


class Stage(Org):
    """`root` is empty and ours. Launched at the start of the block, stopped at its end."""

    def __init__(self, root: Path, count: int, options: str = "") -> None:
        argv = [sys.executable, str(TERMINAL), *options.split()]
        super().__init__(make_tiny_home(root / "home"), f"cmd:{shlex.join(argv)}")
        self.seats = [f"j{n}" for n in range(1, count + 1)]

    def __enter__(self) -> Self:
        self.launch(chief=0, juniors=len(self.seats))
        for seat in self.seats:
            wait_for((self.home.seat(seat) / "control").exists, what=f"{seat} to start")
        return self

    def __exit__(self, *_: object) -> None:
        launch.stop(self.home, lambda line: None)

    # --- who is where

    def pane(self, seat: str) -> str:
        return self.look().panes[seat].id

    def hold(self, seat: str, is_on: bool) -> None:
        argv = [sys.executable, "-m", "org", "--home", str(self.home.root), "hold", seat, *([] if is_on else ["--off"])]
        subprocess.run(argv, check=True, capture_output=True, env=environment())

    # --- letters

    def send_all(self, senders: int, letters: int, seed: int, pause_s: float, verb_share: float = 0.02) -> list[Any]:
        """Processes that write `letters` in all to random seats; `verb_share` of them by the `org send` command."""
        found = []
        for number in range(senders):
            mine = letters // senders + (number < letters % senders)
            words = [str(self.home.root), self.seats[number % len(self.seats)], str(seed), str(mine), str(pause_s)]
            argv = [sys.executable, "-c", SENDER, *words, str(verb_share), *self.seats]
            found.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment()))
        return found

    @staticmethod
    def sent_by(senders: Iterable[Any]) -> dict[str, set[str]]:
        """Seat -> the letters that went to it; waits for the senders."""
        sent: dict[str, set[str]] = {}
        for sender in senders:
            out, _ = sender.communicate()
            assert sender.returncode == 0
            for line in out.splitlines():
                to, letter = json.loads(line)
                sent.setdefault(to, set()).add(letter)
        return sent

    def unread(self, seats: Sequence[str] | None = None) -> list[str]:
        found = []
        for seat in seats or self.seats:
            found += [path.stem for path in (self.home.mailbox(seat) / "new").glob("*.md")]
        return found

    def wait_read(self, limit_s: float = 120.0) -> list[str]:
        """Until no letter waits anywhere; those that still do after the limit."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.unread(), limit_s, step_s=0.05)
        return self.unread()

    def heard(self, seat: str) -> Heard:
        return Heard(self.home, seat)


class Heard:
    """What a seat's program got, by its own files."""

    def __init__(self, home: Home, seat: str) -> None:
        self.folder, self.seat = home.seat(seat), seat

    def rows(self, name: str) -> list[dict[str, Any]]:
        path = self.folder / name
        return files.read_lines(path, 0)[0] if path.exists() else []

    @property
    def bytes(self) -> bytes:
        path = self.folder / "bytes.bin"
        return path.read_bytes() if path.exists() else b""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return self.rows("submitted.jsonl")

    def named(self) -> Counter[str]:
        """Letter -> in how many submitted lines it stands."""
        return Counter(letter for row in self.lines for letter in set(LETTER.findall(row["text"])))

    def faults(self, sent: set[str], person: bytes = b"", lines: Sequence[str] = ()) -> list[str]:
        """What is wrong with it, in sentences. `person` and `lines`: what a person typed and submitted there.

        Each letter stands in exactly one submitted line; each line is one that the doorbell makes, or the person's; and
        every byte is the person's, part of such a line, or an Enter. A program that ended takes an unsubmitted line with it.
        """
        named, found = self.named(), []
        found += [
            f"{self.seat}: {letter} stands in {named[letter]} lines" for letter in sorted(sent) if named[letter] != 1
        ]
        found += [f"{self.seat}: {letter} was never sent to it" for letter in sorted(named.keys() - sent)]
        theirs = Counter(lines)
        for row in self.lines:
            if theirs[row["text"]]:
                theirs[row["text"]] -= 1
            elif not is_a_bell(row["text"]):
                found.append(f"{self.seat}: submitted {row['text']!r}")
        found += [f"{self.seat}: the person's line {text!r} was not submitted" for text in theirs.elements()]
        found += [
            f"{self.seat}: {row['keys'][:40]!r} went to a dialog that was open for {row['open_s']} s"
            for row in self.rows("dialogs.jsonl")
        ]
        return found + self._strays(person)

    def _strays(self, person: bytes) -> list[str]:
        """Bytes that are neither a person's nor of a bell; Enters are not looked at: they may be pressed again."""
        found, whole, rows = [], self.bytes, self.rows("starts.jsonl") or [{"mono": 0.0, "at": 0}]
        ends = [*(row["at"] for row in rows[1:]), len(whole)]
        rest = b""
        for row, end in zip(rows, ends, strict=True):
            part = whole[row["at"] : end]
            for line in self.lines:
                text = line["text"].encode()
                if row["mono"] <= line["mono"] and is_a_bell(line["text"]):
                    part = part.replace(text, b"", 1)
            if end != len(whole):  # it ended there, with what stood in its composer
                part = re.sub(rb"You have [^\r]*\Z", b"", part)
            rest += part
        if rest.replace(b"\r", b"") != person.replace(b"\r", b""):
            found.append(f"{self.seat}: besides bells it got {rest[-300:]!r}, and a person typed {person[-300:]!r}")
        return found


def is_a_bell(text: str) -> bool:
    """Whether the doorbell makes exactly this line of the letters it names."""
    letters = LETTER.findall(text)
    return bool(letters) and len(set(letters)) == len(letters) and doorbell.line_of(letters) == text


def shuffled(items: Sequence[Any], seed: object) -> list[Any]:
    found = list(items)
    random.Random(str(seed)).shuffle(found)
    return found
