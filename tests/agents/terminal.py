"""A terminal agent that behaves: raw mode, a composer line, turns, dialogs, limits, stalls, crashes; every byte it got is kept.

A program of its own, after Claude Code and Codex; standard library only. Beside $ORG_EVENTS it keeps the ground truth:

    bytes.bin        every byte read, in order, through all its starts
    reads.jsonl      {"wall", "mono", "at", "size"} of each read: when which bytes of bytes.bin came
    starts.jsonl     {"wall", "mono", "pid", "at"} of each start: which bytes of bytes.bin were there before
    submitted.jsonl  {"wall", "mono", "text", "queued"} of each line that was submitted
    dialogs.jsonl    {"wall", "mono", "keys", "answer", "open_s"} of each key press that a dialog took
    control          a FIFO: commands of a test, one a line (`tell`), so that typed input stays what others typed

Commands: busy S, stall S, swallow N, dialog [TEXT], limit [S], clear, crash, exit [STATUS]. `--random SEED` draws them by
itself, the same ones for the same seed. It has no model: it does with letters what `--read` says.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import json
import os
import random
import re
import select
import signal
import sys
import termios
import time
import tty
import unicodedata
from datetime import datetime, timezone
from pathlib import Path

BEAT_S = 0.5  # the random schedule draws once a beat
PROMPT = "\u203a "  # as Codex draws it
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧"
KINDS = ("stall", "busy", "dialog", "limit", "crash")  # what a beat may bring, in the order of its draws
ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
TOKEN = re.compile(
    rb"\x1b\[200~(?P<paste>.*?)\x1b\[201~|\x1b\[[0-9;?<>=]*[ -/]*[@-~]|\x1bO[@-~]"
    rb"|(?P<key>[\x00-\x1f\x7f])|(?P<text>[^\x00-\x1f\x7f]+)",
    re.DOTALL,
)
HALF = re.compile(rb"\x1b(\[[0-9;?<>=]*[ -/]*|O)\Z")  # an escape sequence that the end of a read cut
NAMES = {b"\r": "enter", b"\n": "newline", b"\x7f": "backspace", b"\x08": "backspace", b"\x15": "kill", b"\x03": "interrupt",
         b"\x1b": "escape", b"\x13": "stash"}  # fmt: skip


def tell(folder: Path, command: str, limit_s: float = 15.0) -> None:
    """Give the program whose files lie in `folder` a command. Waits until it listens; TimeoutError when it does not."""
    end = time.monotonic() + limit_s
    while True:
        try:
            pipe = os.open(folder / "control", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:  # not made yet, or nobody reads it: the program is starting, or gone
            if time.monotonic() > end:
                raise TimeoutError(f"no terminal agent listens at {folder / 'control'}") from error
            time.sleep(0.02)
            continue
        with os.fdopen(pipe, "w") as file:
            file.write(command + "\n")
        return


def named(text: str, mailbox: Path | None) -> list[str]:
    """The letters of this mailbox that the text names, as a hook finds them."""
    words = dict.fromkeys(ID.findall(text)) if mailbox else {}
    return [w for w in words if any((mailbox / part / f"{w}.md").exists() for part in ("new", "cur"))]


class Keys:
    """Bytes in, keys out: (name, text). What the end of a read cut in half waits for its rest. Pure."""

    def __init__(self) -> None:
        self.rest = b""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        data, self.rest = self.rest + data, b""
        keys, at = [], 0
        while at < len(data):
            found = TOKEN.match(data, at)
            left = data[at:]
            if HALF.match(left) or (left.startswith(b"\x1b[200~") and b"\x1b[201~" not in left):
                self.rest = left
                break
            if found is None:  # no byte is without a token; kept so that a change of TOKEN cannot loop
                at += 1
                continue
            at = found.end()
            if found["text"] is not None:
                keys.append(("text", self.decoder.decode(found["text"])))
            elif found["paste"] is not None:
                keys.append(("paste", found["paste"].decode(errors="replace").replace("\r", "\n")))
            elif found["key"] is not None:
                keys.append((NAMES.get(found["key"], "other"), ""))
        return keys


class Agent:
    def __init__(self, options: argparse.Namespace, events: Path) -> None:
        self.options, self.events, self.folder = options, events, events.parent
        home, seat = os.environ.get("ORG_HOME"), os.environ.get("ORG_SEAT")
        self.mailbox = Path(home, "comms", "mail", seat) if home and seat else None
        self.keys, self.draft, self.stashed = Keys(), "", ""
        self.queue: list[str] = []
        self.letters: list[str] = []  # of the turn that runs
        self.is_in_turn = False
        self.question: str | None = None
        self.swallow = 0
        self.stalled_until = self.busy_until = self.limited_until = self.question_until = 0.0
        self.interrupted_at = self.asked_at = 0.0
        starts = self.folder / "starts.jsonl"
        self.keep(starts.name, {"pid": os.getpid(), "at": self.size()})
        with starts.open() as file:
            count = sum(1 for _ in file)
        self.schedule = random.Random(f"{options.random} {seat} {count} schedule")
        self.enters = random.Random(f"{options.random} {seat} {count} enters")
        self.next_beat = time.monotonic() + BEAT_S
        self.row_count, self.columns = 24, 80

    # --- what it leaves for others

    def keep(self, name: str, row: dict[str, object]) -> None:
        line = json.dumps({"wall": time.time(), "mono": time.monotonic(), **row}, ensure_ascii=False) + "\n"
        self.append(self.folder / name, line.encode())

    def size(self) -> int:
        path = self.folder / "bytes.bin"
        return path.stat().st_size if path.exists() else 0

    def event(self, name: str, **more: object) -> None:
        if not self.options.quiet_events:
            now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")  # noqa: UP017
            self.append(self.events, (json.dumps({"t": now, "event": name, **more}) + "\n").encode())

    @staticmethod
    def append(path: Path, data: bytes) -> None:
        """In one write, so that lines never mix."""
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, data)
        finally:
            os.close(file)

    # --- the screen: output scrolls above two rows, the status and the composer

    def resize(self, *_: object) -> None:
        self.row_count, self.columns = os.get_terminal_size(1)[::-1]
        self.put(f"\x1b[1;{max(2, self.row_count - 2)}r")
        self.draw()

    def put(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(1, data) :]

    def say(self, text: str) -> None:
        shown = "".join(c if c.isprintable() else " " for c in text)[: self.columns - 1]
        self.put(f"\x1b[{max(1, self.row_count - 2)};1H\r\n{shown}")
        self.draw()

    def draw(self) -> None:
        shown, room = [], self.columns - 4
        for c in reversed(self.draft.replace("\n", "↵")):  # the end of a long draft is what one sees
            room -= 2 if unicodedata.east_asian_width(c) in "WF" else 1
            if room < 0:
                break
            shown.append(c)
        composer = "" if self.question else PROMPT + "".join(reversed(shown))
        status = f"\x1b[{self.row_count - 1};1H\x1b[K{self.status()[: self.columns - 1]}"
        self.put(f"{status}\x1b[{self.row_count};1H\x1b[K{composer}")

    def status(self) -> str:
        now = time.monotonic()
        if self.question:
            return f"{self.question} (y/n)"
        if now < self.limited_until:
            return f"Rate limited until {datetime.fromtimestamp(time.time() + self.limited_until - now):%H:%M}"
        if now < self.busy_until:
            return f"{SPINNER[int(now * 5) % len(SPINNER)]} Working" + (
                f" · {len(self.queue)} queued" * bool(self.queue)
            )
        return "? for shortcuts"

    # --- the keyboard

    def read(self) -> None:
        data = os.read(0, 65536)
        if not data:
            raise EOFError
        self.keep("reads.jsonl", {"at": self.size(), "size": len(data)})
        self.append(self.folder / "bytes.bin", data)
        had_text = False
        for name, text in self.keys.feed(data):
            if self.question is not None:
                self.answer(name, text)
            elif name == "enter" and self.options.burst and had_text:
                self.draft += "\n"  # as a paste that came without its brackets
            else:
                self.press(name, text)
            had_text = had_text or name == "text"
        self.draw()

    def press(self, name: str, text: str) -> None:
        now = time.monotonic()
        if name in ("text", "paste"):
            self.draft += text
        elif name == "newline":
            self.draft += "\n"
        elif name == "backspace":
            self.draft = self.draft[:-1]
        elif name == "kill":
            self.draft = ""
        elif name == "stash" and self.options.stash:
            self.stashed, self.draft = self.draft or self.stashed, ""
        elif name == "interrupt":
            if not self.draft and now - self.interrupted_at < 1.0:
                raise SystemExit(0)
            self.draft, self.interrupted_at = "", now
        elif name == "escape" and self.is_in_turn:
            self.is_in_turn, self.busy_until, self.letters = False, 0.0, []  # says so in no event, as Claude Code does
        elif name == "enter" and self.draft.strip():
            self.enter(now)

    def enter(self, now: float) -> None:
        if self.swallow or self.enters.random() < self.options.swallow:
            self.swallow = max(0, self.swallow - 1)
            return
        line, self.draft, self.stashed = self.draft.strip(), self.stashed, ""
        waits = self.is_in_turn or now < max(self.busy_until, self.limited_until)
        self.keep("submitted.jsonl", {"text": line, "queued": waits})
        self.queue.append(line)
        self.say(f"> {line}")

    def answer(self, name: str, text: str) -> None:
        """A dialog takes every key; one of them answers it, the rest of a word is lost on it."""
        answer = {"enter": "y", "escape": "n"}.get(name) or next((c for c in text.lower() if c in "yn12"), None)
        open_s = round(time.monotonic() - self.asked_at, 3)
        self.keep("dialogs.jsonl", {"keys": text or name, "answer": answer, "open_s": open_s})
        if answer:
            self.close_dialog()

    def close_dialog(self) -> None:
        self.question, self.question_until = None, 0.0
        self.event("working" if self.is_in_turn else "idle", text="the question was answered")

    # --- turns

    def tick(self, now: float) -> None:
        """Whatever the time brings: the end of a dialog, a limit or a turn, and the next line of the queue."""
        if self.question is not None:
            if not self.question_until or now < self.question_until:
                return
            self.close_dialog()
        if self.limited_until:
            if now < self.limited_until:
                return
            self.limited_until = 0.0
            self.event("idle", text="the limit is over")
        if now < self.busy_until:
            return
        if self.is_in_turn:
            self.finish()
        if self.queue:
            self.take(now)

    def take(self, now: float) -> None:
        """Begin a turn with everything that was queued. Hooks speak here: a queued line is named when it is taken up."""
        lines, self.queue = self.queue, []
        self.is_in_turn, self.busy_until = True, now + self.options.turn
        self.event("working", text=lines[0][:300])
        for line in lines:
            letters = named(line, self.mailbox)
            self.letters += letters
            self.event("processed", letters=letters) if letters else self.event("submitted", text=line[:300])
        self.draw()

    def finish(self) -> None:
        """The end of a turn: its letters are read as `org inbox ID` would, by a rename."""
        new = sorted(p.stem for p in (self.mailbox / "new").glob("*.md")) if self.mailbox else []
        wanted = {"ack": self.letters, "all": new if self.letters else [], "never": []}[self.options.read]
        for letter in wanted:
            assert self.mailbox is not None
            with contextlib.suppress(FileNotFoundError):  # read before
                (self.mailbox / "cur").mkdir(exist_ok=True)
                (self.mailbox / "new" / f"{letter}.md").rename(self.mailbox / "cur" / f"{letter}.md")
        self.is_in_turn, self.letters = False, []
        self.say("● done" + (f": read {', '.join(wanted)}" if wanted else ""))
        self.event("idle", text="done")

    # --- commands and chance

    def obey(self, command: str) -> None:
        name, _, rest = command.partition(" ")
        now = time.monotonic()
        if name == "busy":
            if not self.is_in_turn:
                self.event("working", text="told to")
            self.is_in_turn, self.busy_until = True, max(self.busy_until, now + float(rest))
        elif name == "stall":
            self.stalled_until = max(self.stalled_until, now + float(rest))
        elif name == "swallow":
            self.swallow = int(rest)
        elif name == "dialog":
            self.question, self.question_until, self.asked_at = rest or "Do you want to proceed?", 0.0, now
            self.event("asking", text=self.question)
        elif name == "limit":
            self.limited_until = now + float(rest or 3600)
            self.event("limited", text=self.status())
            self.say(self.status())
        elif name == "clear":
            self.swallow, self.stalled_until, self.busy_until = 0, 0.0, min(self.busy_until, now)
            if self.question is not None:
                self.close_dialog()
            self.limited_until = min(self.limited_until, now)
        elif name == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name == "exit":
            raise SystemExit(int(rest or 0))
        else:
            print(f"terminal: no command {command!r}", file=sys.stderr)
        self.draw()

    def beat(self, now: float) -> None:
        """One draw a kind, whatever goes on, so that the seed alone says what comes when."""
        self.next_beat += BEAT_S
        for kind in KINDS:
            comes, length = self.schedule.random() < getattr(self.options, kind), self.schedule.uniform(0.1, 1.0)
            if not comes or self.options.random is None or self.question is not None or self.limited_until:
                continue
            seconds = length * self.options.longest
            self.obey(kind if kind in ("crash", "dialog") else f"{kind} {seconds:.3f}")
            if kind == "dialog":
                self.question_until = now + seconds  # answered elsewhere, in the end
        if self.is_in_turn:
            self.say(f"  ⎿ step {int(now / BEAT_S) % 1000}: loss {2 + 1 / (1 + now % 60):.4f}")

    # --- the loop

    def run(self, control: int) -> None:
        commands = b""
        if self.options.start:
            self.event("starting")
            time.sleep(self.options.start)
        self.event("ready")
        while True:
            now = time.monotonic()
            self.tick(now)
            while now >= self.next_beat:
                self.beat(now)
            stalled = now < self.stalled_until
            wake = [self.next_beat, *(t for t in (self.stalled_until, self.question_until) if t > now)]
            wake += [t for t in (self.busy_until, self.limited_until) if t > now]
            wake += [now] if self.is_in_turn and now >= self.busy_until and self.question is None else []
            ready = select.select([control] if stalled else [0, control], [], [], max(0.0, min(wake) - now))[0]
            if 0 in ready:
                self.read()
            elif self.is_in_turn:
                self.draw()
            if control in ready:
                *lines, commands = (commands + os.read(control, 4096)).split(b"\n")
                for line in lines:
                    self.obey(line.decode())


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--read", choices=("ack", "all", "never"), default="ack", help="which letters a line makes it read"
    )
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds until it is ready")
    parser.add_argument(
        "--turn", type=float, default=0.0, metavar="S", help="seconds that a submitted line keeps it busy"
    )
    parser.add_argument("--burst", action="store_true", help="Enter in one read with text is a line break")
    parser.add_argument(
        "--stash", action="store_true", help="C-s puts the draft aside until the next line is submitted"
    )
    parser.add_argument("--quiet-events", action="store_true", help="a plain program: no event is written")
    parser.add_argument("--random", type=int, metavar="SEED", help="draw the following, once every half second")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=float, default=0.0, metavar="P", help=f"how probable a {kind} is")
    parser.add_argument("--longest", type=float, default=1.5, metavar="S", help="the longest of what is drawn")
    parser.add_argument(
        "--swallow", type=float, default=0.0, metavar="P", help="how probable it is that an Enter is lost"
    )
    return parser.parse_args(words)


def main() -> int:
    options = arguments()
    if "ORG_EVENTS" not in os.environ or not sys.stdin.isatty():
        print("terminal: needs a terminal, and ORG_EVENTS naming its file of events", file=sys.stderr)
        return 2
    events = Path(os.environ["ORG_EVENTS"])
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSANOW)  # not flushed: what was typed while it started is read
    with contextlib.suppress(FileExistsError):
        os.mkfifo(events.parent / "control")
    control = os.open(events.parent / "control", os.O_RDWR | os.O_NONBLOCK)
    agent = Agent(options, events)
    signal.signal(signal.SIGWINCH, agent.resize)
    status = 0
    try:
        agent.put("\x1b[?2004h")
        agent.resize()
        agent.run(control)
    except SystemExit as ended:
        status = int(ended.code or 0)
    except (EOFError, OSError):
        status = 1  # its terminal has gone
    agent.event("exit", text=f"status {status}")
    with contextlib.suppress(OSError):  # as above
        agent.put("\x1b[?2004l\x1b[r\r\n")
        termios.tcsetattr(0, termios.TCSANOW, before)
    return status


if __name__ == "__main__":
    sys.exit(main())
