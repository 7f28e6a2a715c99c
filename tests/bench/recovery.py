"""What a home is like after its processes were killed again and again, and after many worked in it at once.

scripts/bench recovery [--tmux-cycles 20] [--office-cycles 50] [--seats 9] [--rounds 5] [--many 64] [--committers 24] [--json]

Each row counts what must not happen (agents started twice, runs lost or doubled, seats that failed, commits lost) and
the slowest way back. It exits with 1 when one of them did.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tiny import make_tiny_home
from waiting import wait_for
from whole import environment, kill_office, office_pid

from org import files
from org.cli.launch import make_plan
from org.home import Home
from org.lab import fidelity, gate, ledger
from org.records import Seat
from org.team import launch, panes, roster, seats
from org.world import git, process

BACK_S = 30.0
LIMIT_S = 180.0
SLEEPER = f"cmd:{sys.executable} -c 'import time; time.sleep(1e6)'"


def rows(
    tmux_cycles: int = 20,
    office_cycles: int = 50,
    count: int = 9,
    rounds: int = 5,
    many: int = 64,
    committers: int = 24,
    agents: str = SLEEPER,
) -> list[dict[str, Any]]:
    """One row a measure; `bad` is how much of it must not be."""
    found = []
    for measure in (
        lambda: killed_tmux(tmux_cycles, count, agents),
        lambda: killed_office(office_cycles),
        lambda: made_at_once(many, rounds),
        lambda: collected(committers),
    ):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="org-bench-") as folder:
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
            found.append({**measure_in(measure, Path(folder)), "took_s": time.monotonic() - begun})
    return found


def measure_in(measure: Callable[[], dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The measure, its home in `folder`."""
    global HOME
    HOME = make_tiny_home(folder / "home")
    try:
        return measure()
    finally:
        launch.stop(HOME, lambda line: None)
        assert process.find_marked(f"ORG_KEY={HOME.key}") == [], "something outlived `org stop`"


HOME: Home


def start(home: Home, **options: Any) -> float:
    """Launch; the seconds it took."""
    begun = time.monotonic()
    launch.launch(home, make_plan(home, roster.Options(**options)), lambda line: None)
    return time.monotonic() - begun


def doubles(home: Home) -> int:
    """Programs more than one, or fewer, of each seat: by the marker of its own process and not of those it started."""
    found = 0
    for seat in seats.present(home):
        pids = set(process.find_marked(f"ORG_EVENTS={home.seat_events(seat.name)}"))
        found += abs(len(pids - {below for pid in pids for below in process.descendants(pid)}) - 1)
    return found


def killed_tmux(cycles: int, count: int, agents: str) -> dict[str, Any]:
    """SIGKILL of the tmux server, then a launch, `cycles` times with `count` seats."""
    start(HOME, chief=1, juniors=count - 1, agents=[(agents, None)], devices="cpu:2")
    slowest, twice = 0.0, 0
    for _ in range(cycles):
        server = panes.server_of(HOME).pid()
        assert server is not None
        os.kill(server, signal.SIGKILL)
        wait_for(lambda server=server: process.identity(server) is None, LIMIT_S, "the tmux server's end")
        slowest = max(slowest, start(HOME))
        twice += doubles(HOME)
    late = int(slowest > BACK_S)
    return {"what": f"tmux killed, {count} seats", "cycles": cycles, "slowest_s": slowest, "bad": twice + late}


def killed_office(cycles: int, runs: int = 8) -> dict[str, Any]:
    """kill -9 of the office while `runs` experiments train; their results are counted at the end."""
    path = HOME.root / "code" / "train.py"
    path.write_text(path.read_text().replace("SLEEP_S = 0.0", "SLEEP_S = 2.0"))
    start(HOME, chief=0, juniors=runs, agents=[(SLEEPER, None)], devices=f"cpu:{runs}")
    slowest, bad = 0.0, 0
    value = 0.03
    for cycle in range(cycles):
        for name in [f"j{n}" for n in range(1, runs + 1)] if cycle % 5 == 0 else []:
            value += 0.0001
            _file(HOME, seats.require(HOME, name), value)
        office = wait_for(lambda: kill_office(HOME), LIMIT_S, "an office")
        slowest = max(slowest, start(HOME))
        wait_for(lambda old=office: office_pid(HOME) not in (None, old), LIMIT_S, "the new office")
        bad += _doubled_leases(HOME)
    wait_for(lambda: not ledger.read(HOME).open(), LIMIT_S, "every verdict")
    book = ledger.read(HOME)
    results = list(book.results.values())
    bad += len(results) - len({(r.tree, r.seed, r.arm) for r in results if r.status == "ok"})
    bad += len(book.rows) - len({row["key"] for row in book.rows}) + len(fidelity.problems(HOME))
    name = f"office killed, {runs} at once"
    return {"what": name, "cycles": cycles, "slowest_s": slowest, "results": len(results), "bad": bad}


def _file(home: Home, seat: Seat, value: float) -> None:
    path = Path(seat.worktree) / "train.py"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("MATRIX_LR"))
    lines[at] = f"MATRIX_LR = {value:.4f}  # best at 0.04"
    path.write_text("\n".join(lines) + "\n")
    gate.submit(home, seat, f"try {value:.4f}")


def _doubled_leases(home: Home) -> int:
    """Runs that train on a device where another one does."""
    held: list[str] = []
    for path in home.experiments.glob("*/runs/*/status.json"):
        row = files.read_json(path) or {}
        if (
            row.get("phase") == "train"
            and process.identity(int(row.get("pid") or 0))
            and files.is_locked(path.parent / "lock")
        ):
            spec = files.read_json(path.parent / "spec.json") or {}
            held += spec.get("devices") or [spec.get("device")]
    return len(held) - len(set(map(str, held)))


def made_at_once(many: int, rounds: int) -> dict[str, Any]:
    """`many` processes of `org seat sN` at the same moment, each round with names of its own."""
    slowest, bad = 0.0, 0
    for turn in range(rounds):
        begun = time.monotonic()
        names = [f"s{turn}-{n}" for n in range(many)]
        words = [sys.executable, "-m", "org", "--home", str(HOME.root), "seat"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started = [subprocess.Popen([*words, name], env=environment(), **pipes) for name in names]  # type: ignore[call-overload]
        for name, child in zip(names, started, strict=True):
            said, _ = child.communicate(timeout=LIMIT_S)
            if child.returncode or _git(HOME.worktree(name), "status", "--porcelain"):
                print(f"bench: {name}: {said.decode(errors='replace').strip()}", file=sys.stderr)
                bad += 1
        slowest = max(slowest, time.monotonic() - begun)
        for name in names:
            (HOME.worktree(name) / "note").write_text(name)
            _git(HOME.worktree(name), "add", "note")
            _git(HOME.worktree(name), "commit", "-qm", name)
            bad += _git(HOME.worktree(name), "log", "-1", "--format=%s") != name
    bad += sum(bool(_git(place, "fsck", "--no-dangling")) for place in (HOME.hub, HOME.record))
    return {"what": f"{many} seats at once", "cycles": rounds, "slowest_s": slowest, "bad": bad}


def collected(committers: int, commits: int = 20) -> dict[str, Any]:
    """`git gc --prune=now` again and again in one worktree while the others commit and file."""
    names = ["gc", *(f"f{n}" for n in range(4)), *(f"c{n}" for n in range(committers))]
    made = seats.create_all(HOME, [seats.Wanted(name) for name in names])
    filing, working = made[1:5], made[5:]
    who = "git -c user.name=x -c user.email=x@x"
    loop = f"for i in $(seq {commits}); do echo $i > note; {who} add note && {who} commit -qm $i || exit 1; done"
    begun = time.monotonic()
    with subprocess.Popen(
        ["sh", "-c", "while :; do git gc -q --prune=now; git prune --expire=now; done"],
        cwd=made[0].worktree,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as gc:
        try:
            at_work = [subprocess.Popen(["sh", "-c", loop], cwd=seat.worktree) for seat in working]
            for number, seat in enumerate(filing):
                _file(HOME, seat, 0.05 + number / 1000)
            bad = sum(child.wait(LIMIT_S) != 0 for child in at_work)
        finally:
            os.killpg(gc.pid, signal.SIGKILL)
    bad += sum(git.resolve(HOME.record, c.commit) is None for c in ledger.read(HOME).experiments.values())
    for seat in working:
        there = _git(Path(seat.worktree), "rev-list", "--count", "HEAD").strip()
        bad += there != str(commits + 1)
        log = (HOME.hub / "worktrees" / seat.name / "logs" / "HEAD").read_text().splitlines()
        bad += len(git.missing(HOME.hub, [line.split()[1] for line in log]))
    bad += sum(bool(_git(place, "fsck", "--no-dangling")) for place in (HOME.hub, HOME.record))
    return {
        "what": f"gc while {committers} commit",
        "cycles": commits,
        "slowest_s": time.monotonic() - begun,
        "bad": bad,
    }


def _git(place: Path, *words: str) -> str:
    who = {f"GIT_{role}_{part}": "x" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", *words], cwd=place, env={**os.environ, **who}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() + (done.stderr.strip() if done.returncode else "")


def main() -> None:
    flags = argparse.ArgumentParser()
    for name, value in {
        "tmux-cycles": 20,
        "office-cycles": 50,
        "seats": 9,
        "rounds": 5,
        "many": 64,
        "committers": 24,
    }.items():
        flags.add_argument(f"--{name}", type=int, default=value)
    flags.add_argument("--agents", default=SLEEPER, help="what runs in the panes; offline works too")
    flags.add_argument("--json", action="store_true")
    w = flags.parse_args()
    for name in [n for n in os.environ if n.startswith("ORG_")]:
        del os.environ[name]
    os.environ["PYTHONPATH"] = str(ROOT)
    found = rows(w.tmux_cycles, w.office_cycles, w.seats, w.rounds, w.many, w.committers, w.agents)
    if w.json:
        print(json.dumps(found, indent=1))
    else:
        for row in found:
            print(f"{row['what']:28} {row['cycles']:4} cycles, slowest {row['slowest_s']:6.1f} s, {row['bad']} bad")
    sys.exit(any(row["bad"] for row in found))


if __name__ == "__main__":
    main()
