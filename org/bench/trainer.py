"""T1's runs: the real trainer with its constants turned, one process a core under the lab's guards, and what they printed.

A run is known by its constants, its seed and what made it (trainer, tokens, torch), and is trained once, whoever wants it and
however often the bench is started. Decides nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from org import files
from org.bench import design, measure
from org.bench.design import Config
from org.errors import RunFailed
from org.lab import guard

DEADLINE_S = 900.0  # of one run: a hundred times what it takes on a quiet core
LOCK_S = 10.0  # a bench that was killed still holds its folder while its guards end what they had begun


@dataclass(frozen=True)
class Want:
    """A run of the trainer: the constants that are not the base's, and the seed it is given."""

    config: Config
    seed: int


@dataclass(frozen=True)
class Ran:
    """What came of it. `value` is None when the loss diverged."""

    value: float | None
    cpu_s: float
    data: str = ""


class Book:
    """Every run that ended, in `runs.jsonl` of the bench's folder: a line each, appended when it has ended."""

    def __init__(self, folder: Path, code: Path, tokens: int) -> None:
        self.path, self.made_by = folder / "runs.jsonl", made_by(code, tokens)
        self.known: dict[Want, Ran] = {}
        for row in files.read_lines(self.path)[0]:
            if row.get("made_by") == self.made_by:  # others are of another trainer
                config = tuple((name, value) for name, value in row["config"])
                self.known[Want(config, row["seed"])] = Ran(row["val_bpb"], row["cpu_s"], row["data"])

    def add(self, want: Want, ran: Ran) -> None:
        row = {
            "made_by": self.made_by,
            "config": want.config,
            "seed": want.seed,
            "val_bpb": ran.value,
            "cpu_s": ran.cpu_s,
            "data": ran.data,
        }
        files.append_line(self.path, json.dumps(row))
        self.known[want] = ran


def made_by(code: Path, tokens: int) -> str:
    """Hash of all that a number depends on beside the constants that a run names and its seed: those it does not name are the
    base's."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "none"
    found = hashlib.sha256(f"{tokens} {torch} {json.dumps(design.base())}".encode())
    for path in sorted(code.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


class Crew:
    """One guard a core. Whatever becomes of the bench, its guards end what they run."""

    def __init__(self, folder: Path, code: Path, tokens: int, cores: int) -> None:
        self.folder, self.code, self.tokens = folder, code, tokens
        self.free: list[guard.Guard] = []
        self.busy: dict[guard.Guard, tuple[Want, Path]] = {}
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.guards = [guard.start(nothing) for _ in range(cores)]
        os.close(nothing)
        self.free = list(self.guards)

    def begin(self, want: Want) -> None:
        """Start a run on a core that is free."""
        keeper = self.free.pop()
        place = self.folder / str(self.guards.index(keeper))
        shutil.rmtree(place, ignore_errors=True)
        measure.lay(place, want.config, self.code)
        argv, environment = measure.command(place, want.seed, self.tokens)
        self.busy[keeper] = want, place
        keeper.ask(argv, environment, place, place / "log.txt", DEADLINE_S)

    def wait(self, limit_s: float) -> list[tuple[Want, Ran]]:
        """The runs that have ended, after the first of them or `limit_s`. Raises RunFailed for one that printed no number
        for another reason than that it diverged."""
        found = []
        for keeper in select.select(list(self.busy), [], [], limit_s)[0]:
            want, place = self.busy.pop(keeper)
            ended = keeper.answer()
            self.free.append(keeper)
            shutil.rmtree(place, ignore_errors=True)
            found.append((want, ran(want, ended)))
        return found

    def end(self) -> None:
        # the last one first: it was forked with the lifelines of those before it, and holds them open until it is gone
        for keeper in reversed(self.guards):
            keeper.end()


def ran(want: Want, ended: guard.Ended) -> Ran:
    """How an ended process is read."""
    where = f"{dict(want.config) or 'the base'} with seed {want.seed}"
    if ended.timed_out:
        raise RunFailed(f"{where} trained for {DEADLINE_S:.0f} s and was ended; try it on a machine that is less busy")
    try:
        summary = measure.read(ended.returncode, ended.tail)
    except RuntimeError as error:
        raise RunFailed(f"{where}: {error}") from None
    if summary is None:
        return Ran(None, ended.cpu_s)
    return Ran(float(summary["val_bpb"]), ended.cpu_s, str(summary.get("data_hash", "")))


@contextmanager
def crew(folder: Path, code: Path, tokens: int, cores: int) -> Iterator[tuple[Book, Crew]]:
    """The runs of `folder` and who makes further ones, for one bench at a time. Nothing half-made is left behind; what a
    killed bench left is removed by the next. Raises Busy."""
    folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / "lock", limit_s=LOCK_S):
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        workers = Crew(work, code, tokens, cores)
        try:
            yield Book(folder, code, tokens), workers
        finally:
            workers.end()
            shutil.rmtree(work, ignore_errors=True)
