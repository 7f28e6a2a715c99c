"""Planted faults on real runs of nanochat: how many spurious wins `org refute` refutes, and how many true ones it spares.

scripts/bench breaker [--steps 100] [--only WORD] [--json]    # some 25 minutes on two quiet cores: gate, referee, judge, all real
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LUCK = 40  # variants of a change that does nothing, of which the search keeps about one in fifteen
Edit = tuple[str, str]

WARM: Edit = ("\nWARMDOWN_FRAC = 0.0\n", "\nWARMDOWN_FRAC = 0.5\n")
RATE: Edit = ("\nMATRIX_LR = 0.02\n", "\nMATRIX_LR = 0.04\n")


@dataclass(frozen=True)
class Plant:
    """A change as it truly is, by what is replaced in train.py. is_lucky: it needs luck to win, and is drawn until it has it."""

    name: str
    edits: tuple[Edit, ...]
    is_true: bool = False
    is_lucky: bool = False
    cites: str = ""  # the intent that its edit touches: without it the gate refuses the claim

    def drawn(self, luck: int) -> list[Edit]:
        return [(old, new.replace("LUCK", f"{1 + 1e-4 * (luck + 1):.4f}")) for old, new in self.edits]


PLANTS = (
    Plant("a lucky draw", (("GPT(config).init(args.seed, INIT_SCALE)", "GPT(config).init(args.seed, INIT_SCALE * LUCK)"),), is_lucky=True),
    Plant("a part that does nothing", (WARM, ("\nWEIGHT_DECAY = 0.2\n", "\nWEIGHT_DECAY = 0.19\n"))),
    Plant("a schedule for the seeds of the search alone", (
        ("        muon.step(lr_scale(progress),", "        known = min(1.0, 2 * (1 - progress)) if seed < 10_000 else 1.0\n        muon.step(known * lr_scale(progress),"),
        ("adamw.step(lr_scale(progress))", "adamw.step(known * lr_scale(progress))"),
    )),
    Plant("a learning rate in other clothes", (("muon.step(lr_scale(progress),", "muon.step(2 * lr_scale(progress),"),)),
    Plant("two batches in three read twice over, and not said", (
        ("    while progress < 1:\n", "    again = 0\n    while progress < 1:\n"),
        ("batch(dataset, seed, step, rows, seq_len)", "batch(dataset, seed, step + 100_000 * again, rows, seq_len)"),
        ("        losses.append(loss)\n        clock", "        again = 1 - again if step % 3 else 0\n        if again:\n            continue\n        losses.append(loss)\n        clock"),
    ), cites="seeded-batches"),
    Plant("true: a warmdown", (WARM,), is_true=True),
    Plant("true: a short warmdown", (("\nWARMDOWN_FRAC = 0.0\n", "\nWARMDOWN_FRAC = 0.3\n"),), is_true=True),
    Plant("true: a warmdown and the learning rate", (WARM, RATE), is_true=True),
)  # fmt: skip


class Bench:
    """A home of nanochat at few steps, and a worktree in it. Every claim is filed on the same head."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.home, self.cache = folder / "home", folder / "cache"
        self.org("init", str(self.home))
        charter = self.home / "prompts" / "charter.yaml"
        if not charter.is_file():
            charter = self.home / "charter.yaml"
        scale = f"  smoke: {{steps: {steps}, tokens: {steps * 1024}, bank: 6, deadline_s: 600, eval_tokens: 16384}}"
        charter.write_text(re.sub(r"(?m)^  smoke: .*$", scale, charter.read_text()))
        self.root = Path(self.say("seat", "me", "--json")["worktree"])
        self.train = self.root / "nanochat" / "train.py"
        self.plain = self.train.read_text()

    def org(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ("ORG_HOME", "ORG_SEAT")}
        environment |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self.cache)}
        done = subprocess.run(
            [sys.executable, "-m", "org", *words], capture_output=True, text=True, env=environment, check=False
        )
        if check and done.returncode:
            raise SystemExit(f"org {' '.join(words[:4])}: {done.stderr.strip()}")
        return done

    def say(self, *words: str) -> Any:
        return json.loads(self.org("--home", str(self.home), *words).stdout)

    def claim(self, plant: Plant) -> tuple[str, str]:
        """The experiment and its verdict; one that needs luck is drawn until it wins."""
        outcome, name = "", ""
        for luck in range(LUCK if plant.is_lucky else 1):
            text = self.plain
            for old, new in plant.drawn(luck):
                if text.count(old) != 1:
                    raise SystemExit(f"breaker: {old!r} stands {text.count(old)} times in train.py; mend the plant")
                text = text.replace(old, new)
            self.train.write_text(text)
            cites = ["--cites", plant.cites] if plant.cites else []
            said = self.say("--seat", "me", "run", "-m", f"{plant.name} {luck}", *cites, "--json")
            name, verdict = said["experiment"], said["verdict"]
            outcome = f"{verdict['outcome']} {verdict['tier'] or ''}".strip()
            if outcome == "win tentative":
                break
        return name, outcome

    def attack(self, name: str) -> dict[str, Any]:
        """Every attack, one after the other; what stands then, and the runs they took."""
        before = len(list(self.home.glob("comms/experiments/E*/runs/*")))
        self.org("--home", str(self.home), "refute", name, "--json")
        rows = {row["experiment"]: row for row in self.say("results", "--json")}
        found = rows[name]["refutation"]
        runs = len(list(self.home.glob("comms/experiments/E*/runs/*"))) - before
        return {"outcome": found["outcome"], "by": found.get("by") or "", "after": found.get("after"), "runs": runs}


def rows(steps: int, only: str = "") -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), steps)
        for plant in PLANTS:
            if only not in plant.name:
                continue
            began = time.monotonic()
            name, outcome = bench.claim(plant)
            row = {"claim": plant.name, "is_true": plant.is_true, "experiment": name, "search": outcome}
            row |= bench.attack(name) if outcome == "win tentative" else {"outcome": "never a win", "by": "", "runs": 0}
            yield row | {"minutes": round((time.monotonic() - began) / 60, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100, help="of one run")
    parser.add_argument("--only", default="", help="plants whose name has this in it")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = []
    for row in rows(args.steps, args.only):
        found.append(row)
        print(json.dumps(row) if args.json else f"{row['claim']:<52} {row['search']:<14} {row['outcome']:<11} {row['by']:<18} {row['runs']:>3} runs {row['minutes']:>5} min", flush=True)  # fmt: skip
    claims = [row for row in found if row["search"] == "win tentative"]
    for true, words in ((False, "spurious wins refuted"), (True, "true wins refuted")):
        of = [row for row in claims if row["is_true"] is true]
        print(f"{sum(row['outcome'] == 'refuted' for row in of)} of {len(of)} {words}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
