"""Letters under kill -9, and how soon a waiting reader has one: `scripts/bench mail [--letters 10000 --writers 8 --kills 200] [--json]`.

The storm counts what is lost, torn or done twice when writers and readers are killed at random. An effect is keyed by its
letter's id; what is counted as twice is a letter that was acknowledged twice, lies in two folders, or is whole in two places.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from whole import environment

from bench import start
from org import files
from org.home import Home
from org.records import Seat
from org.team import arrival, boxes, mail

FORK = multiprocessing.get_context("fork")
READERS = 4
BOXES = ("j1", "j2", "j3")


def make_home(root: Path) -> Home:
    home = Home(root.resolve())
    for name in ("chief", *BOXES):
        seat = Seat(name, "junior", "offline", "main", f"program/main/{name}", "", None, files.utc_now())
        files.replace_json(home.seat_file(name), seat.to_dict())
    files.replace(home.prompts / "charter.yaml", "")
    return home


# --- the storm ---------------------------------------------------------------------------------------------------


def body_of(name: str) -> str:
    """What the letter of this id says: any reader can tell whether it came whole."""
    seed = hashlib.sha256(name.encode()).hexdigest()
    return f"{seed}\n---\n" + seed * (1 + int(seed[:2], 16) // 4) + "\x1b[201~\r;"


def write(home: Home, letters: list[tuple[str, str]], progress: Path) -> None:
    """Send each, remembering how far it came: after a kill it goes on one letter too early, never too late."""
    for number in range(int(progress.read_text() or 0) if progress.exists() else 0, len(letters)):
        box, name = letters[number]
        mail.send(home, "human", box, body_of(name), letter_id=name)
        files.replace(progress, str(number + 1))


def read(home: Home, log: Path, done: Path) -> None:
    """Read, act once by the letter's id, acknowledge; put old letters away now and then."""
    now = datetime.now(UTC) + timedelta(days=2)
    while True:
        has_ended = done.exists()
        found = 0
        for box in BOXES:
            for letter in mail.peek(home, box, is_tidy=True):
                found += 1
                is_torn = letter.body != body_of(letter.id) or not letter.verified
                temporary = log / f".{os.getpid()}"
                temporary.write_text("torn" if is_torn else box)
                try:
                    (log / f"effect-{letter.id}").hardlink_to(temporary)
                except FileExistsError:
                    pass  # done before, by one that was killed or is beside me
                temporary.unlink(missing_ok=True)
                if mail.acknowledge(home, box, letter.id):
                    files.append_line(log / "acknowledged", letter.id)
        if random.random() < 0.05:
            boxes.archive(home, now)
        if has_ended and not found:
            return
        if not found:
            time.sleep(0.005)


def storm(root: Path, letters: int, writers: int, kills: int, seed: int = 1) -> dict[str, Any]:
    """`letters` from `writers` to three boxes, `kills` random processes of writers and readers killed on the way."""
    home, rng = make_home(root / "home"), random.Random(seed)
    log, done = root / "log", root / "done"
    log.mkdir()
    wanted = [(BOXES[number % len(BOXES)], f"w{number % writers}-{number:06d}") for number in range(letters)]
    jobs = [
        (write, (home, [w for w in wanted if w[1].startswith(f"w{n}-")], root / f"progress-{n}"))
        for n in range(writers)
    ]
    jobs += [(read, (home, log, done))] * READERS
    begun = time.monotonic()
    running = [_start(*job) for job in jobs]
    killed = 0
    while any(process.exitcode != 0 for process in running[:writers]):
        time.sleep(rng.uniform(0.0, 0.04))
        victim = rng.randrange(len(jobs))
        if killed < kills and running[victim].is_alive():
            os.kill(running[victim].pid or 0, signal.SIGKILL)
            running[victim].join()
            killed += 1
        for number, process in enumerate(running):
            if process.exitcode not in (None, 0):
                assert process.exitcode == -signal.SIGKILL, "a writer or a reader failed by itself"
                running[number] = _start(*jobs[number])
    done.touch()
    for process in running[writers:]:
        process.join(120)
        assert process.exitcode == 0, "a reader did not end"
    wall_s = time.monotonic() - begun
    return {**_count(home, wanted, log), "letters": letters, "writers": writers, "kills": killed,
            "letters_per_s": round(letters / wall_s), "wall_s": round(wall_s, 1)}  # fmt: skip


def _start(job: Any, arguments: tuple[Any, ...]) -> Any:
    process = FORK.Process(target=job, args=arguments, daemon=True)
    process.start()
    return process


def _count(home: Home, wanted: list[tuple[str, str]], log: Path) -> dict[str, int]:
    acknowledged = Counter((log / "acknowledged").read_text().split())
    places = Counter(path.stem for box in BOXES for path in boxes.all_of(home, box))
    effects = {path.name.removeprefix("effect-"): path.read_text() for path in log.glob("effect-*")}
    found = [mail.find(home, box, name) for box, name in wanted]
    bad = sum(1 for box in BOXES for _ in (home.mailbox(box) / "bad").glob("*"))
    return {
        "lost": sum(name not in effects or letter is None for (_, name), letter in zip(wanted, found, strict=True)),
        "torn": bad + sum(what == "torn" for what in effects.values()) + sum(
            letter is not None and (letter.body != body_of(letter.id) or not letter.verified) for letter in found
        ),
        "twice": sum(count > 1 for count in acknowledged.values()) + sum(count > 1 for count in places.values()),
        "unread": sum(mail.waiting(home, box) for box in BOXES),
    }  # fmt: skip


# --- how soon ----------------------------------------------------------------------------------------------------


def _long_lived(home: Home, answers: Any) -> None:
    answers.send(0.0)
    while True:
        with arrival.awaited(home, "j1", lambda: mail.peek(home, "j1"), 60.0) as letters:
            at = time.monotonic()
            for letter in letters:
                mail.acknowledge(home, "j1", letter.id)
            answers.send(at)


def latency_long_lived(root: Path, times: int) -> list[float]:
    """Milliseconds from before the sending to the letter in the hands of a process that waits again and again."""
    home = make_home(root / "home")
    ours, theirs = FORK.Pipe()
    process = _start(_long_lived, (home, theirs))
    ours.recv()
    took = []
    for _ in range(times):
        time.sleep(0.2)  # it acknowledged the last one and waits again
        began = time.monotonic()
        mail.send(home, "human", "j1", "hello")
        took.append((ours.recv() - began) * 1000)
    process.kill()
    process.join()
    return took


def latency_fresh(root: Path, times: int) -> list[float]:
    """The same to the first byte that a waiting `org inbox --wait` prints, a new process for each letter."""
    home = make_home(root / "home")
    argv = [sys.executable, "-m", "org", "--home", str(home.root), "--seat", "j1", "inbox", "--wait", "60"]
    took = []
    for _ in range(times):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment()) as reader:
            assert reader.stdout is not None
            while not _watches(reader.pid):
                assert reader.poll() is None, "the reader ended before there was a letter"
                time.sleep(0.01)
            time.sleep(0.05)
            began = time.monotonic()
            mail.send(home, "human", "j1", "hello")
            reader.stdout.read(1)
            took.append((time.monotonic() - began) * 1000)
            reader.stdout.read()
    return took


def _watches(pid: int) -> bool:
    """Whether the process has an inotify descriptor: then it waits."""
    try:
        return any("inotify" in str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


# --- what starting costs -----------------------------------------------------------------------------------------


def start_ratios(root: Path) -> dict[str, float]:
    """CPU as a multiple of a bare argparse script: to start (`--help`, as `scripts/bench start` measures it), and to do the
    whole work of one letter."""
    home = make_home(root / "home")
    org = [sys.executable, "-m", "org", "--home", str(home.root)]
    verbs = {
        "start of send": [*org, "send", "--help"],
        "start of inbox": [*org, "inbox", "--help"],
        "send, a letter sent": [*org, "send", "j1", "hello"],
        "inbox, what was sent read": [*org, "--seat", "j1", "inbox"],
    }
    bare = start.cpu_s([sys.executable, "-c", start.ARGPARSE], root, times=20)
    return {verb: round(start.cpu_s(argv, root, times=20) / bare, 2) for verb, argv in verbs.items()}


# --- the table ---------------------------------------------------------------------------------------------------


def rows(letters: int = 10_000, writers: int = 8, kills: int = 200, times: int = 200) -> list[dict[str, Any]]:
    """One row a measure: its name, its value, its limit where there is one."""
    with _folder() as root:
        found = storm(root, letters, writers, kills)
    table = [{"measure": f"storm: {name}", "value": value} for name, value in found.items()]
    for row in table:
        if row["measure"].removeprefix("storm: ") in ("lost", "torn", "twice", "unread"):
            row["limit"] = 0
    for name, measure in (("long-lived reader", latency_long_lived), ("fresh reader", latency_fresh)):
        with _folder() as root:
            took = measure(root, times)
        table.append({"measure": f"{name}: p50 ms of {len(took)}", "value": round(percentile(took, 0.5), 2)})
        table.append(
            {"measure": f"{name}: p95 ms of {len(took)}", "value": round(percentile(took, 0.95), 2), "limit": 50}
        )
    with _folder() as root:
        for verb, ratio in start_ratios(root).items():
            row = {"measure": f"{verb}, x argparse", "value": ratio}
            table.append({**row, "limit": 3} if verb.startswith("start") else row)
    return table


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="org-mail-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--letters", type=int, default=10_000)
    flags.add_argument("--writers", type=int, default=8)
    flags.add_argument("--kills", type=int, default=200)
    flags.add_argument("--times", type=int, default=200, help="letters for each latency")
    flags.add_argument("--json", action="store_true")
    args = flags.parse_args()
    table = rows(args.letters, args.writers, args.kills, args.times)
    if args.json:
        print(json.dumps({"mail": table}))
    else:
        for row in table:
            print(
                f"{row['measure']:34} {row['value']:>10}" + (f"   (at most {row['limit']})" if "limit" in row else "")
            )
    return 1 if any(row["value"] > row["limit"] for row in table if "limit" in row) else 0


if __name__ == "__main__":
    sys.exit(main())
