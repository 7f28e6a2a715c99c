"""How much CPU a verb costs to start, as a multiple of a bare argparse script. Agents and hooks call some all day."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ALL_DAY = ("status", "run", "send", "inbox", "results", "brief", "idea")
OTHERS = ("launch", "stop", "seat", "standup", "plot", "doctor", "init", "stack")
ARGPARSE = "import argparse; p = argparse.ArgumentParser(); p.add_argument('--x'); p.parse_args()"


def cpu_s(argv: list[str], cwd: Path, times: int = 7) -> float:
    """User and system seconds of the quickest of `times` runs, byte code cached."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("ORG_")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    best = float("inf")
    for _ in range(times + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return best


def ratios(verbs: tuple[str, ...], cwd: Path) -> dict[str, float]:
    """`org VERB --help` against argparse: the verb's own file and what it loads at its top."""
    bare = cpu_s([sys.executable, "-c", ARGPARSE], cwd)
    return {verb: cpu_s([sys.executable, "-m", "org", verb, "--help"], cwd) / bare for verb in verbs}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for verb, ratio in ratios(ALL_DAY + OTHERS, Path(folder)).items():
            print(f"{verb:10} {ratio:5.1f} x argparse   (at most {3 if verb in ALL_DAY else 8})")
