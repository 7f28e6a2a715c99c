"""The organisation that the storm goes over: its home, its processes by their part, its commands, what was taken from it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tiny import TINY_CHARTER, TINY_TRAIN, make_tiny_home
from whole import office_pid

from org import files
from org.home import Home
from org.world import process

ROOT = Path(__file__).parents[2]
AGENT = Path(__file__).with_name("agent.py")
OFFLINE, READERS = ("chief", "j1", "j2", "j3"), ("j4", "j5")
AGENTS = (*OFFLINE, *READERS)
PERSON = "me"
SENDERS = ("human", "office", "org")
BUDGET = "10h"
TRAIN = TINY_TRAIN.replace("SLEEP_S = 0.0", "SLEEP_S = 0.2 + 0.8 * random.random()")
CALL_S = 90.0


@dataclass
class Place:
    """root: a folder outside of the disk, for what the storm itself writes down. disk: where the home lies."""

    root: Path
    disk: Path
    seed: int
    home: Home = field(init=False)
    frozen: set[int] = field(default_factory=set)  # processes that are stopped at the moment
    planted: dict[str, str] = field(default_factory=dict)  # text that must not be lost -> where it was written
    lock: threading.Lock = field(default_factory=threading.Lock)
    count: int = 0

    def __post_init__(self) -> None:
        self.home = Home(self.disk / "an org's home")
        for folder in (self.trash, self.read, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def trash(self) -> Path:
        """What was removed from the home: on the same disk, so that a rename takes it out in one piece."""
        return self.disk / "trash"

    @property
    def read(self) -> Path:
        return self.root / "read"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def make(self) -> None:
        make_tiny_home(self.home.root, charter=TINY_CHARTER, train=TRAIN)

    # --- commands

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ORG_", "GIT_"))}
        return clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"}

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "org", "--home", str(self.home.root), *words]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words),
            env=self.environment(),
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def org(self, *words: str, limit_s: float = CALL_S) -> tuple[int, str]:
        """Exit code and output of a command; 124 when it was not done in time."""
        child = self.start(*words)
        try:
            out = child.communicate(timeout=limit_s)[0]
        except subprocess.TimeoutExpired:
            child.kill()
            return 124, (child.communicate()[0] + f"\n`org {' '.join(words)}` was not done in {limit_s:g} s").strip()
        return child.returncode, out.strip()

    def launch_words(self) -> list[str]:
        fake = f"cmd:{shlex.join([sys.executable, str(AGENT), str(self.read)])}"
        agents = f"offline:{len(OFFLINE) - 1},{fake}"  # of the juniors; the chief gets the first kind
        counts = ["--chief", "1", "--juniors", str(len(AGENTS) - 1)]
        return ["launch", "--detach", *counts, "--agents", agents, "--devices", "cpu:2", "--budget", BUDGET]

    def sender(self, name: str, finish: bool = False) -> subprocess.Popen[bytes]:
        words = [str(self.home.root), name, str(self.sent(name)), str(self.seed), *(["finish"] if finish else [])]
        with (self.logs / f"sender-{name}.txt").open("ab") as log:
            argv = [sys.executable, "-m", "storm.post", *words]
            return subprocess.Popen(argv, env=self.environment(), cwd=self.root, stdout=log, stderr=log)

    def sent(self, name: str) -> Path:
        return self.root / f"sent-{name}.jsonl"

    # --- processes

    def marked(self) -> list[int]:
        """Every process of the organisation, the senders and commands of the storm left out."""
        return process.find_marked(f"ORG_KEY={self.home.key}")

    def agents(self) -> dict[str, list[int]]:
        """Seat -> its programs. What a program started for itself is none."""
        found: dict[str, list[int]] = {name: [] for name in AGENTS}
        for name in AGENTS:
            for pid in process.find_marked(f"ORG_EVENTS={self.home.seat_events(name)}"):
                words = command_of(pid)
                if "org.agents.offline" in words or str(AGENT) in words:
                    found[name].append(pid)
        return found

    def office(self) -> int | None:
        return office_pid(self.home)

    def offices(self) -> list[int]:
        return [pid for pid in self.marked() if command_of(pid)[-2:] == ["org", "office"]]

    def server(self) -> list[int]:
        """The tmux server: by its name, since one that is stopped answers nobody."""
        found = []
        for pid in _pids():
            words = command_of(pid)
            if self.home.socket in words and name_of(pid) == "tmux: server":
                found.append(pid)
        return found

    def of_part(self, part: str) -> list[int]:
        """Living processes of one part, in a stable order."""
        match part:
            case "office":
                return [pid for pid in (self.office(),) if pid]
            case "agent":
                return sorted(pid for pids in self.agents().values() for pid in pids)
            case "tmux":
                return self.server()
        root, found = str(self.home.root), []
        runners = {pid for pid in _pids() if "org.lab.runner" in command_of(pid) and root in command_of(pid)}
        if part in ("runner", "guard"):
            below = {pid for of in runners for pid in process.descendants(of)} & runners
            return sorted(below if part == "guard" else runners - below)
        for pid in _pids():
            words = command_of(pid)
            is_trainer = "train.py" in words and any(root in word for word in words)
            is_git = bool(words) and words[0] == "git" and any(root in word for word in words)
            if (part == "trainer" and is_trainer) or (part == "git" and is_git):
                found.append(pid)
        return sorted(found)

    # --- what is taken, and what must stay

    def take(self, path: Path) -> Path | None:
        """Take `path` out of the home in one piece; where it is now. None when it is not there."""
        with self.lock:
            self.count += 1
            target = self.trash / f"{self.count:03d}" / path.name
        target.parent.mkdir(parents=True)
        try:
            path.rename(target)
        except FileNotFoundError:
            return None
        return target

    def plant(self, path: Path, is_append: bool = False) -> str | None:
        """Leave work in a worktree that is in no commit; its text, or None when the folder is not there."""
        with self.lock:
            self.count += 1
            text = f"planted-{self.seed}-{self.count:04d}"
        try:
            if is_append:
                with path.open("r+b") as file:
                    file.seek(0, os.SEEK_END)
                    file.write(f"# {text}\n".encode())
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"{text}\n")
        except OSError:
            return None
        self.planted[text] = str(path)
        return text

    def keep(self, target: Path) -> None:
        """A copy for the person who looks at a violation."""
        for folder in (self.home.root, self.trash):
            shutil.copytree(folder, target / folder.name, symlinks=True, dirs_exist_ok=True)


def panes(home: Home, limit_s: float = 5.0) -> list[dict[str, str]]:
    """The panes of the organisation by a tmux of our own; empty when none answers."""
    form = json.dumps({"seat": "#{@seat}", "dead": "#{pane_dead}", "window": "#{window_name}", "pid": "#{pane_pid}"})
    argv = ["env", "-u", "TMUX", "-u", "TMUX_TMPDIR", "tmux", "-L", home.socket, "list-panes", "-a", "-F", form]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=limit_s)
        return [json.loads(line) for line in done.stdout.splitlines()]
    except (subprocess.TimeoutExpired, ValueError):
        return []


def command_of(pid: int) -> list[str]:
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).rstrip("\0").split("\0")
    except OSError:
        return []


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
    except OSError:
        return False


def missing(place: Place) -> str:
    """What is not as a launched organisation has it; "" when all of it is there."""
    home = place.home
    office = place.office()
    if office is None:
        return "no office"
    if is_stopped(office):
        return "the office is stopped"
    there = panes(home)
    if not there:
        return "tmux does not answer"
    living = [pane["seat"] for pane in there if pane["dead"] == "0" and pane["window"].startswith("grid")]
    for name, pids in place.agents().items():
        if living.count(name) != 1:
            return f"{name} has {living.count(name)} living panes"
        if len(pids) != 1:
            return f"{name} has {len(pids)} programs"
    for name in (*AGENTS, PERSON):
        if not isinstance(files.read_json(home.seat_file(name)), dict):
            return f"{name} has no seat.json"
        if not (home.worktree(name) / ".git").is_file() or not (home.worktree(name) / "train.py").is_file():
            return f"{name} has no worktree"
    if files.is_locked(home.launch_lock):
        return "a launch is at work"
    return ""


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]
