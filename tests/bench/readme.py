"""Make the README's table and picture anew: `scripts/bench readme [--repeats 200] [--seed 1]`, in one command.

T0 is played; its table and its picture go between the marks of README.md, what it met and missed between those of
docs/bench.md. `--t1 DIR` puts a T1 that was played into DIR (`org bench t1 --out DIR`) into docs/bench.md too.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ORGS = ["all", "chief-juniors:1", "tpe:8"]


class Page(NamedTuple):
    """The parts of what `org bench` leaves in a folder."""

    title: str
    table: str
    said: str
    picture: str
    caption: str


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("orgs", nargs="*", default=ORGS, help="default: %(default)s")
    flags.add_argument("--repeats", type=int, default=200)
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--t1", type=Path, metavar="DIR")
    args = flags.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="org-bench-") as folder:
        argv = ["bench", "t0", *args.orgs, "--repeats", str(args.repeats), "--seed", str(args.seed), "--out", folder]
        subprocess.run([sys.executable, "-m", "org", *argv], check=True, cwd=ROOT)
        found = read(Path(folder) / "t0.md")
        shutil.copyfile(Path(folder) / "t0.svg", root / "docs" / "t0.svg")
    picture = "![T0: true and claimed gain against device-hours](docs/t0.svg)"
    put(root / "README.md", "t0", f"{found.table}\n\n{picture}\n\n{found.caption}")
    put(root / "docs" / "bench.md", "t0", f"{found.said}\n\n{found.caption}")
    if args.t1:
        found = read(args.t1 / "t1.md")
        shutil.copyfile(args.t1 / "t1.svg", root / "docs" / "t1.svg")
        picture = "![T1: claimed gain, and what is left of it on fresh seeds](t1.svg)"
        put(root / "docs" / "bench.md", "t1", f"{found.table}\n\n{found.said}\n\n{picture}\n\n{found.caption}")
    return 0


def read(path: Path) -> Page:
    return Page(*path.read_text(encoding="utf-8").strip().split("\n\n"))


def put(path: Path, name: str, new: str) -> None:
    """Replace what stands between the two marks of this name. SystemExit where they do not stand there, once each."""
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise SystemExit(f"{path} has no place for {name}: put `{begin}` and `{end}` there, a line each")
    path.write_text(f"{text.partition(begin)[0]}{begin}\n{new}\n{end}{text.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
