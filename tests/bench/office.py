"""Every figure of the office in one go: mail, doorbells, launches, idling, kills. Half an hour on two quiet cores.

    scripts/bench office [--only mail,idle,…] [--quick] [--json]

Each part is a bench of its own (`scripts/bench mail`, …) with its counts as arguments; here they run at full size, or with
--quick at a tenth. Ratios compare two things of the same run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

Rows = list[dict[str, Any]]


def parts(scale: float) -> dict[str, Callable[[], Rows]]:
    """Name -> what measures it; `scale` 1 is full size."""

    def sized(count: int, least: int = 1) -> int:
        return max(least, round(count * scale))

    def bench(name: str) -> Any:
        return importlib.import_module(f"bench.{name}")

    return {
        "mail": lambda: bench("mail").rows(letters=sized(10_000), writers=8, kills=sized(200), times=sized(200, 20)),
        "doorbell": lambda: bench("doorbell").rows(
            doorbells=sized(1000), attempts=sized(500), latencies=sized(100, 20), kills=sized(20, 2)
        ),
        "launch": lambda: bench("launch").rows([9, 33] if scale == 1 else [9], times=5 if scale == 1 else 1),
        "idle": lambda: bench("idle").rows(seats=33, seconds=60.0 if scale == 1 else 10.0),
        "recovery": lambda: bench("recovery").rows(
            tmux_cycles=sized(20, 2),
            office_cycles=sized(50, 3),
            count=9,
            rounds=sized(5),
            many=64 if scale == 1 else 16,
            committers=24 if scale == 1 else 8,
        ),
    }


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--only", default="", help="parts, between commas")
    flags.add_argument("--quick", action="store_true")
    flags.add_argument("--json", action="store_true")
    given = flags.parse_args()
    for name in [name for name in os.environ if name.startswith("ORG_")]:
        del os.environ[name]  # typed in a seat's pane it must not act as that seat
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    known = parts(0.1 if given.quick else 1)
    wanted = given.only.split(",") if given.only else list(known)
    if unknown := [name for name in wanted if name not in known]:
        flags.error(f"--only {','.join(unknown)}: no such part; there are {', '.join(known)}")
    document: dict[str, Rows] = {}
    for name in wanted:
        document[name] = known[name]()
        if not given.json:
            for row in document[name]:
                print(f"{name:9} " + "  ".join(f"{key} {_shown(value)}" for key, value in row.items()), flush=True)
    if given.json:
        print(json.dumps(document))
    return 0


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
