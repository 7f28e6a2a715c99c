"""How many traps the gate catches, and how many benign twins it takes for traps: `scripts/bench traps [--json]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from traps import all_traps
from traps.play import Stage, outcome

stage: Stage


def main() -> int:
    """Play every trap and every twin; exit 1 when one is missed or a twin is refused."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--json", action="store_true")
    flags.add_argument("--only", default="", help="part of an id or of a family")
    args = flags.parse_args()
    begun = time.monotonic()
    table: dict[str, list[str]] = {"caught": [], "missed": [], "false_alarms": []}
    chosen = [t for t in all_traps.TRAPS if args.only in t.id or args.only in t.family]
    with (
        tempfile.TemporaryDirectory(prefix="org-traps-") as folder,
        ProcessPoolExecutor(os.cpu_count(), initializer=_begin, initargs=(folder,)) as workers,
    ):
        played = workers.map(_play, [(trap.id, is_twin) for trap in chosen for is_twin in (False, True)])
        for number, (name, is_twin, is_well, said) in enumerate(played, 1):
            print(f"\r{number}/{2 * len(chosen)} {name:40.40}", end="", file=sys.stderr, flush=True)
            if not is_twin:
                table["caught" if is_well else "missed"].append(name)
            elif not is_well:
                table["false_alarms"].append(name)
            if not is_well:
                print(f"\r{'false alarm' if is_twin else 'missed'}: {name}: {said}", file=sys.stderr)
    print("\r" + " " * 50 + "\r", end="", file=sys.stderr)
    known = {miss.id: miss.why for miss in all_traps.KNOWN_MISSED}
    if args.json:
        counts = {f"{name}_count": len(ids) for name, ids in table.items()}
        print(json.dumps({**table, "known_missed": known, **counts, "seconds": round(time.monotonic() - begun, 1)}))
    else:
        _print_table(chosen, table, known)
    return 1 if table["missed"] or table["false_alarms"] else 0


def _begin(folder: str) -> None:
    """A stage for each worker: plays share a machine, and no home."""
    global stage
    place = Path(folder).resolve() / str(os.getpid())
    place.mkdir()
    stage = Stage(place)


def _play(what: tuple[str, bool]) -> tuple[str, bool, bool, str]:
    name, is_twin = what
    trap = next(t for t in all_traps.TRAPS if t.id == name)
    return name, is_twin, *outcome(stage, trap, is_twin)


def _print_table(chosen: list, table: dict[str, list[str]], known: dict[str, str]) -> None:
    families = dict.fromkeys(t.family for t in chosen)
    print(f"{'family':28} {'traps':>6} {'caught':>7} {'missed':>7} {'false alarms':>13}")
    for family in families:
        ids = {t.id for t in chosen if t.family == family}
        row = [len(ids & set(table[name])) for name in ("caught", "missed", "false_alarms")]
        print(f"{family:28} {len(ids):6} {row[0]:7} {row[1]:7} {row[2]:13}")
    for name in ("missed", "false_alarms"):
        if table[name]:
            print(f"{name}: {', '.join(table[name])}")
    for name, why in known.items():
        print(f"known to be missed: {name}: {why}")


if __name__ == "__main__":
    sys.exit(main())
