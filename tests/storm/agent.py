"""`agent.py READ ROOT`: a program in a pane that reads its letters when it is rung, and writes down each it has read.

Stands for any program that `cmd:` names. READ: a folder outside of the home, one file a seat, one letter id a line.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

LOOK_S = 20.0  # its own look at the mailbox: a ring may be for letters that another look has read


def read(folder: Path, seat: str) -> None:
    argv = [sys.executable, "-m", "org", "inbox", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        print(f"inbox: {done.stderr.strip()[:300]}", flush=True)
        return
    rows = json.loads(done.stdout)
    with (folder / f"{seat}.txt").open("a") as file:
        file.writelines(f"{row['id']}\n" for row in rows)
    print(f"read {len(rows)} letters", flush=True)


def main() -> None:
    folder, seat = Path(sys.argv[1]), os.environ["ORG_SEAT"]
    print(f"{seat} reads its letters when it is rung", flush=True)
    looked = time.monotonic()
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], 1.0)
        if ready and not os.read(sys.stdin.fileno(), 4096):
            return  # the terminal is gone
        if ready or time.monotonic() - looked > LOOK_S:
            read(folder, seat)
            looked = time.monotonic()


if __name__ == "__main__":
    main()
