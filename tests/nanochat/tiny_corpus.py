"""What the tests of nanochat share: a corpus to write, the commands to run as a person would."""

import os
import random
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def write_corpus(folder: Path, files: int = 240) -> Path:
    """About 300 kB of text in `files` files; names with spaces and quotes, words beyond ASCII, one empty file."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzéß", k=rng.randint(2, 9))) for _ in range(400)]
    folder.mkdir(parents=True)
    for i in range(files):
        lines = [" ".join(rng.choices(words, k=9)) + ".\n" for _ in range(20)]
        (folder / f"it's {i}.txt").write_text("".join(lines))
    (folder / "empty.md").write_text("")
    return folder


def command(module: str, *args: object) -> list[str]:
    return [sys.executable, "-m", f"nanochat.{module}", *map(str, args)]


def run(module: str, *args: object, **env: str) -> subprocess.CompletedProcess:
    """`python -m nanochat.MODULE ARGS` as a person would run it, from the folder that holds nanochat/."""
    return subprocess.run(
        command(module, *args), cwd=ROOT, env=os.environ | env, check=False, capture_output=True, text=True
    )


def one_line_without_traceback(done: subprocess.CompletedProcess) -> bool:
    return done.stderr.startswith("nanochat: ") and done.stderr.count("\n") == 1 and not done.stdout


def summary_of(done: subprocess.CompletedProcess) -> dict:
    """What a run that went well printed after `---`."""
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout.partition("---\n")[2])
