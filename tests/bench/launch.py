"""A launch against the least that could be done by hand, measured in the same run, turn about.

scripts/bench launch [--seats 9 33] [--times 5] [--json]

The floor: `git worktree add --no-checkout` once a seat under one lock, its files and its index laid in, the same panes
(seats, office, shell) with the same programs by one chained tmux call, and the wait until each program says `ready` and
the office holds its lock. What both need beforehand (a record and a hub with the base commit, the facts of the launch)
is there before the clock starts in the floor; ours makes it too, so it stands in our time and not in the floor's.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tiny import make_tiny_home

from org import charter as charters
from org import files
from org.cli.launch import make_plan
from org.home import Home
from org.lab import record
from org.records import Seat
from org.team import launch, panes, roster
from org.world import git, gitcall, tmuxwords

LIMITS = {9: 1.3, 33: 1.5}
RELAUNCH_S = 0.5
LIMIT_S = 120.0
PARTS = ("worktrees", "panes", "ready")


def rows(counts: list[int] | None = None, times: int = 5) -> list[dict[str, Any]]:
    """For each number of seats: seconds of ours and of the floor (medians), their parts, the ratio, processes of git and
    tmux that ours started, and a launch again with everything alive."""
    found = []
    for count in counts or list(LIMITS):
        ours, floors = [], []
        for _ in range(times):
            ours.append(measured(count, by_hand=False))
            floors.append(measured(count, by_hand=True))
        row: dict[str, Any] = {"seats": count, "times": times, "limit": LIMITS.get(count)}
        for name, taken in (("ours", ours), ("floor", floors)):
            row |= {f"{name}_{part}_s": median(one[part] for one in taken) for part in ("all", *PARTS)}
        row["ratio"] = row["ours_all_s"] / row["floor_all_s"]
        row |= {name: median(one[name] for one in ours) for name in ("relaunch_s", "git", "tmux", "git_again")}
        found.append(row)
    return found


def measured(count: int, by_hand: bool) -> dict[str, float]:
    """Seconds of one launch of `count` seats in a home of its own, in all and by part."""
    with tempfile.TemporaryDirectory(prefix="org-bench-") as folder, _private(Path(folder)):
        home = make_tiny_home(Path(folder) / "home")
        charters.load(home)
        try:
            return _floor(home, count) if by_hand else _ours(home, count)
        finally:
            launch.stop(home, lambda line: None)


def _plan(home: Home, count: int) -> roster.Plan:
    return make_plan(home, roster.Options(chief=1, juniors=count - 1, agents=[("offline", None)], devices="cpu:2"))


def _ours(home: Home, count: int) -> dict[str, float]:
    plan = _plan(home, count)
    with _counted() as calls:
        parts = _launched(home, plan)
        first = dict(calls)
        again = _launched(home, plan)
    assert len(list(home.seats.glob("*/seat.json"))) == count
    more = {"relaunch_s": again["all"], "git_again": calls["git"] - first["git"]}
    return {**parts, **more, "git": first["git"], "tmux": first["tmux"]}


def _launched(home: Home, plan: roster.Plan) -> dict[str, float]:
    """Seconds of `launch.launch` in all and by part, as its own steps begin and end."""
    marks: dict[str, float] = {}
    steps = {"panes": (panes, "start"), "ready": (launch, "_wait_ready")}
    kept = {name: getattr(*place) for name, place in steps.items()}

    def timed(name: str) -> Any:
        def step(*arguments: Any) -> Any:
            marks[name] = time.perf_counter()
            return kept[name](*arguments)

        return step

    for name, (module, step) in steps.items():
        setattr(module, step, timed(name))
    try:
        begun = time.perf_counter()
        launch.launch(home, plan, lambda line: None)
        ended = time.perf_counter()
    finally:
        for name, (module, step) in steps.items():
            setattr(module, step, kept[name])
    worktrees, started = marks["panes"] - begun, marks["ready"] - marks["panes"]
    return {"all": ended - begun, "worktrees": worktrees, "panes": started, "ready": ended - marks["ready"]}


def _floor(home: Home, count: int) -> dict[str, float]:
    """By hand, with nothing looked at twice."""
    plan = _plan(home, count)
    charter = charters.load(home)
    record.ensure_record(home, charter)
    head = record.ensure_program(home, "main")
    launch._write_facts(home, plan, running=False)
    tree = git.read_files(home.record, head, [entry.path for entry in git.list_tree(home.record, head)])
    there = [
        Seat(s.name, s.role, s.backend, s.program, s.branch, s.worktree, s.device, files.utc_now()) for s in plan.seats
    ]
    for seat in there:
        files.replace_json(home.seat_file(seat.name), seat.to_dict())
    commands = [(seat.name, panes.seat_pane(home, seat)) for seat in there]
    commands += [("office", panes.office_pane(home, there)), ("shell", panes.shell_pane(home))]
    server, environment = panes.server_of(home), gitcall._environment({})

    begun = time.perf_counter()
    with (home.hub / "org.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for seat in there:
            words = ["worktree", "add", "--quiet", "--no-checkout", "--no-track", "-b", seat.branch, seat.worktree]
            subprocess.run(["git", f"--git-dir={home.hub}", *words, head], env=environment, check=True)
            for path, data in tree.items():
                (Path(seat.worktree) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(seat.worktree) / path).write_bytes(data)
            subprocess.run(["git", "read-tree", "HEAD"], cwd=seat.worktree, env=environment, check=True)
    worktrees = time.perf_counter()
    chain: list[list[str]] = [["start-server"], *tmuxwords.defaults("200x50", "screen-256color")]
    for number, (name, pane) in enumerate(commands):
        page, place = divmod(number, 9) if number < count else (name, 0)
        window = f"grid-{page}" if number < count else name
        variables = [word for key, value in pane.env.items() for word in ("-e", f"{key}={value}")]
        tail = ["-c", str(pane.cwd), *variables, "exec " + shlex.join(pane.argv)]
        if number == 0:
            chain.append(["new-session", "-d", "-s", "org", "-n", window, "-x", "200", "-y", "50", *tail])
        elif place == 0:
            chain.append(["new-window", "-d", "-t", "=org:", "-n", window, *tail])
        else:
            chain.append(["split-window", "-d", "-t", f"=org:={window}", *tail])
        if number < count:
            chain.append(["select-layout", "-t", f"=org:={window}", "tiled"])
    server.run(*chain)
    started = time.perf_counter()
    waiting = {seat.name for seat in there}
    while waiting or not files.is_locked(home.office_lock):
        for name in list(waiting):
            events, _ = files.read_lines(home.seat_events(name))
            if any(row.get("event") != "starting" for row in events):
                waiting.discard(name)
        assert time.perf_counter() - started < LIMIT_S, f"not ready: {waiting or 'the office'}"
        time.sleep(0.01)
    ended = time.perf_counter()
    parts = {"worktrees": worktrees - begun, "panes": started - worktrees, "ready": ended - started}
    return {"all": ended - begun, **parts}


# --- around it ---------------------------------------------------------------------------------------------------


@contextmanager
def _private(folder: Path) -> Iterator[None]:
    """Nothing of a surrounding org, and this code in every pane."""
    kept = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("ORG_")]:
        del os.environ[name]
    os.environ |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@contextmanager
def _counted() -> Iterator[dict[str, int]]:
    """Processes of git and tmux that this process starts."""
    counts = {"git": 0, "tmux": 0}
    start = subprocess.Popen.__init__

    def counting(self: Any, argv: Any, *arguments: Any, **keywords: Any) -> None:
        name = Path(argv[0]).name
        if name in counts:
            counts[name] += 1
        start(self, argv, *arguments, **keywords)

    subprocess.Popen.__init__ = counting  # type: ignore[method-assign]
    try:
        yield counts
    finally:
        subprocess.Popen.__init__ = start  # type: ignore[method-assign]


def main() -> None:
    flags = argparse.ArgumentParser()
    flags.add_argument("--seats", type=int, nargs="+", default=list(LIMITS))
    flags.add_argument("--times", type=int, default=5)
    flags.add_argument("--json", action="store_true")
    wanted = flags.parse_args()
    found = rows(wanted.seats, wanted.times)
    if wanted.json:
        print(json.dumps(found, indent=1))
        return
    for row in found:
        limit = f" (at most {row['limit']}x)" if row["limit"] else ""
        print(
            f"{row['seats']} seats   {row['ours_all_s']:.2f} s, floor {row['floor_all_s']:.2f} s: {row['ratio']:.2f}x{limit}"
        )
        for part in PARTS:
            print(f"  {part:10} {row[f'ours_{part}_s']:6.2f} s, floor {row[f'floor_{part}_s']:6.2f} s")
        print(f"  processes  {row['git']:.0f} of git, {row['tmux']:.0f} of tmux")
        print(f"  again      {row['relaunch_s']:6.2f} s, {row['git_again']:.0f} of git (at most {RELAUNCH_S} s)")


if __name__ == "__main__":
    main()
