"""`python -m org.bench.measure`: fill T0's table by real runs of the real trainer, a line a run. Some four hours of one core.

Killed and started again, it goes on with the first run that has no line. Steps are fixed, so a busy machine changes no number.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from org import files
from org.agents import knobs
from org.bench import design
from org.bench.design import Config, Point

TABLE = Path(__file__).parent / "surface.csv"
CODE = Path(__file__).parents[2] / "nanochat"
TOKENS = 307_200  # 300 steps of the base recipe
HEAD = ("part", "depth", "seed", "config", "val_bpb", "params", "steps", "flops", "train_s", "data", "torch")


def rows(path: Path = TABLE) -> list[dict[str, str]]:
    """The table's lines as they stand; half a last line, of one that was killed, is left out."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row["torch"]]


def main() -> int:
    found = rows()
    with tempfile.NamedTemporaryFile("w", dir=TABLE.parent, delete=False, encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEAD, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(TABLE)
    todo = list(_missing(found))
    began = time.monotonic()
    for n, point in enumerate(todo):
        row = {**_named(point), **_measured(point)}
        with TABLE.open("a", encoding="utf-8", newline="") as table:
            csv.DictWriter(table, HEAD, lineterminator="\n").writerow(row)
        left = (time.monotonic() - began) / (n + 1) * (len(todo) - n - 1)
        print(
            f"{n + 1}/{len(todo)} {point.part} {row['config']} seed {point.seed}: {row['val_bpb'] or 'diverged'}; {left / 60:.0f} min left",
            flush=True,
        )
    return 0


def _missing(found: list[dict[str, str]]) -> Iterator[Point]:
    there = {(row["depth"], row["seed"], row["config"]) for row in found}
    for point in design.points():
        named = _named(point)
        if (named["depth"], named["seed"], named["config"]) not in there:
            yield point


def _named(point: Point) -> dict[str, str]:
    return {
        "part": point.part,
        "depth": str(point.depth),
        "seed": str(point.seed),
        "config": json.dumps(dict(point.config), separators=(",", ":")),
    }


def _measured(point: Point) -> dict[str, str]:
    """One run of the trainer with these constants in its source. A run that diverges has no number; anything else that
    ends it is an error of ours. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="org-measure-") as folder:
        lay(Path(folder), point.config)
        argv, environment = command(Path(folder), point.seed, TOKENS, point.depth)
        done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    summary = read(done.returncode, done.stderr if done.returncode else done.stdout)
    if summary is None:
        return {"val_bpb": "", "torch": "-"}
    return {
        "val_bpb": f"{summary['val_bpb']:.6f}",
        "params": str(summary["params"]),
        "steps": str(summary["steps"]),
        "flops": f"{summary['flops_total']:.4g}",
        "train_s": f"{summary['train_s']:.2f}",
        "data": summary["data_hash"],
        "torch": summary["torch"],
    }


def lay(folder: Path, config: Config, code: Path = CODE) -> None:
    """Put the trainer into `folder`, with the base's constants in its source but for those of `config`."""
    package = folder / "nanochat"
    package.mkdir(parents=True)
    for path in code.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "train.py":
            text = _turned(text, config)
        (package / path.name).write_text(text, encoding="utf-8")


def command(folder: Path, seed: int, tokens: int, depth: int = 2) -> tuple[list[str], dict[str, str]]:
    """The command line and the environment of one run of the trainer that lies in `folder`."""
    argv = [sys.executable, "-m", "nanochat.train", "--tokens", str(tokens), "--depth", str(depth), "--seed", str(seed)]
    return argv, {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(folder)}


def read(returncode: int, output: str) -> dict[str, Any] | None:
    """The summary that a run printed; None when it diverged. Raises RuntimeError for any other end, and for no summary."""
    if returncode and "the loss is" in output:
        return None
    summary = yaml.safe_load(output.rpartition("---\n")[2]) if not returncode and "---\n" in output else None
    if not isinstance(summary, dict) or "val_bpb" not in summary:
        raise RuntimeError(f"the trainer ended with exit {returncode}: {files.printable(output[-300:])}")
    return summary


def _turned(source: str, config: Config) -> str:
    for name, value in {**design.base(), **dict(config)}.items():
        source = knobs.write(source, name, value)
    return source


if __name__ == "__main__":
    sys.exit(main())
