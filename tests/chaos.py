"""A small offline organisation under random faults, and what is true of it afterwards. `scripts/chaos SEED MINUTES` runs it.

Six seats (a chief, three juniors, two programs of other makes) on two cores, with real tmux, git and processes, letters in
flight the whole time. What happens is a function of the seed; when, is not. Exit 1 on a violation, with what led to it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from storm import disk, schedule
from storm.run import RECOVER_S, Run

from org import files
from org.world import process

MINUTES = 3.0


def main(argv: list[str]) -> int:
    options = parse(argv)
    if options.one:
        return one(options)
    state = Path(options.state) if options.state else None
    done = {row["seed"]: row for row in (files.read_lines(state)[0] if state else ())}
    left = [seed for seed in options.seeds if seed not in done]
    print(
        f"chaos: seed {options.text}, {options.minutes:g} min each, {len(left)} of {len(options.seeds)} to run",
        flush=True,
    )
    rows = [done[seed] for seed in options.seeds if seed in done]
    children: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}
    try:
        while left or children:
            while left and len(children) < options.jobs:
                seed = left.pop(0)
                children[seed] = start(seed, options, is_alone=options.jobs == 1)
            for seed, (child, folder) in list(children.items()):
                if child.poll() is None:
                    continue
                del children[seed]
                rows.append(finish(seed, folder, child.returncode))
                if state:
                    files.append_line(state, json.dumps(rows[-1]))
                print(verdict(rows[-1]), flush=True)
            time.sleep(0.1)
    except KeyboardInterrupt:
        for child, _ in children.values():
            child.send_signal(signal.SIGINT)
        for child, _ in children.values():
            child.wait()
        return 130
    bad = [row["seed"] for row in rows if row["problems"]]
    if len(rows) > 1:
        print(f"chaos: {len(rows)} seeds, {sum(row['faults'] for row in rows)} faults, violations in {bad or 'none'}")
    return 1 if bad else 0


def parse(argv: list[str]) -> argparse.Namespace:
    words = argparse.ArgumentParser(prog="chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("seed", nargs="?", help="7, or 1-10; default: a random one, which is printed")
    words.add_argument("minutes", nargs="?", type=float, default=MINUTES, help="of faults, for each seed; default 3")
    words.add_argument("--state", metavar="FILE", help="one JSON line a seed; those that it has are not run again")
    words.add_argument("--jobs", type=int, default=1, help="so many seeds at the same time")
    words.add_argument("--kinds", default=",".join(schedule.KINDS), help="which faults; default: all of them")
    words.add_argument(
        "--recover", type=float, default=RECOVER_S, metavar="S", help="everything is back within S seconds"
    )
    words.add_argument("--no-mount", action="store_true", help="limit the size of files instead of filling a disk")
    words.add_argument("--one", metavar="FOLDER", help=argparse.SUPPRESS)
    options = words.parse_args(argv)
    options.text = options.seed if options.seed is not None else str(random.SystemRandom().randrange(1, 100_000))
    try:
        options.seeds = schedule.parse_seeds(options.text)
        schedule.known(options.kinds.split(","))
    except ValueError as error:
        words.error(str(error))
    if options.minutes <= 0 or options.jobs < 1:
        words.error("MINUTES and --jobs are larger than 0")
    return options


def start(seed: int, options: argparse.Namespace, is_alone: bool) -> tuple[subprocess.Popen[bytes], Path]:
    """One seed in a process of its own, and where it works: mounts of its own go with it, whatever becomes of us."""
    folder = Path(tempfile.mkdtemp(prefix=f"org-chaos-{seed}-"))
    words = [str(seed), str(options.minutes), "--one", str(folder), "--kinds", options.kinds]
    words += ["--recover", str(options.recover), *(["--no-mount"] if options.no_mount else [])]
    argv = [sys.executable, "-P", __file__, *words]
    out = None if is_alone else (folder / "said.txt").open("wb")
    child = subprocess.Popen(argv if options.no_mount else disk.apart(argv), stdout=out, stderr=out)
    if out is not None:
        out.close()
        print(f"chaos: seed {seed} begins; it says what it does in {folder / 'said.txt'}", flush=True)
    return child, folder


def finish(seed: int, folder: Path, status: int) -> dict[str, Any]:
    """What the seed's process wrote down; its folder goes when all was well."""
    row = files.read_json(folder / "result.json")
    if not isinstance(row, dict):
        said = f"the storm itself ended with status {status} and no result"
        row = {"seed": seed, "problems": [said], "faults": 0, "kept": str(folder)}
    if not row["problems"]:
        shutil.rmtree(folder, ignore_errors=True)
    return row


def verdict(row: dict[str, Any]) -> str:
    if not row["problems"]:
        return (
            f"chaos: seed {row['seed']}: {row['faults']} faults, {row['letters']} letters, {row['results']} runs, "
            f"back within {row['slowest_s']:g} s; 0 violations"
        )
    lines = [f"chaos: seed {row['seed']}: {len(row['problems'])} VIOLATIONS; what is left lies in {row['kept']}"]
    lines += [f"  {problem}" for problem in row["problems"][:20]]
    return "\n".join(lines)


def one(options: argparse.Namespace) -> int:
    """The process of one seed."""
    [seed], folder = options.seeds, Path(options.one)
    process.set_subreaper()  # what the storm orphans becomes ours and is seen to end
    run = Run(seed, options.minutes * 60, folder, options.kinds.split(","), options.recover, not options.no_mount)
    row = run.all()
    files.replace_json(folder / "result.json", row)
    return 1 if row["problems"] else 0


if __name__ == "__main__":
    os.environ.pop("ORG_HOME", None)
    os.environ.pop("ORG_SEAT", None)
    sys.exit(main(sys.argv[1:]))
