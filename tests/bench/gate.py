"""What the gate itself costs: from an edit to the queued run, from the last result to the verdict, from one run to the next.

scripts/bench gate    # a minute: a tiny home, whose trainer takes 50 ms, and a ledger of 10,000 lines
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tiny import make_tiny_home

from org import files
from org.home import Home
from org.lab import archive, dispatch, fidelity, ledger

LINES = 10_000


def org(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("ORG_HOME", "ORG_SEAT")} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "org", "--home", str(home.root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def cpu_s(work) -> float:
    """User and system seconds of the child processes that `work` starts and waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def filed(home: Home, values: list[float]) -> list[float]:
    """CPU seconds of `org run --no-wait` for each new value of a knob; each is measured before the next is filed."""
    seconds, path = [], home.worktree("me") / "train.py"
    for value in values:
        lines = path.read_text().splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("MATRIX_LR"))
        lines[at] = f"MATRIX_LR = {value}  # best at 0.04"
        path.write_text("\n".join(lines) + "\n")
        seconds.append(cpu_s(lambda value=value: org(home, "--seat", "me", "run", "-m", f"try {value}", "--no-wait")))
        settle(home)
    return seconds


VERDICT_S: list[float] = []


TICK_S: list[float] = []


def settle(home: Home) -> None:
    """Run the dispatcher until nothing is open, timing the ticks that reach a verdict: until the record holds it, and in
    all, with the merge of a win and the start of the next run."""
    dispatcher = dispatch.Dispatcher(home)
    kept: list[float] = []
    commit = archive.commit
    archive.commit = lambda *arguments: (commit(*arguments), kept.append(time.perf_counter()))[0]
    try:
        while dispatcher.ledger.refresh().open():
            known, started = len(dispatcher.ledger.book.verdicts), time.perf_counter()
            dispatcher.tick()
            if len(dispatcher.ledger.book.verdicts) > known:
                VERDICT_S.append(kept[-1] - started)
                TICK_S.append(time.perf_counter() - started)
            time.sleep(0.01)
    finally:
        archive.commit = commit


def again(home: Home) -> list[float]:
    """Seconds to write down and keep one verdict more, on the ledger as it is."""
    book, seconds = ledger.read(home), []
    verdict = next(row for row in book.rows if row["kind"] == "verdict")
    writer = ledger.Ledger(home)
    archive.commit(home, writer.refresh())
    for number in range(5):
        started = time.perf_counter()
        writer.append("verdict", f"verdict:E9{number:03d}", {**verdict, "experiment": f"E9{number:03d}"})
        archive.commit(home, writer.refresh())
        seconds.append(time.perf_counter() - started)
    return seconds


def gaps(home: Home) -> list[float]:
    """Seconds between the end of a run and the start of the next on the same device, where one was waiting."""
    by_device: dict[str, list[tuple[str, str]]] = {}
    for result in ledger.read(home).results.values():
        by_device.setdefault(result.device, []).append((result.started or "", result.ended or ""))
    found = []
    for runs in by_device.values():
        runs.sort()
        for (_, ended), (started, _) in pairwise(runs):
            found.append((datetime.fromisoformat(started) - datetime.fromisoformat(ended)).total_seconds())
    return [gap for gap in found if gap < 5]


def grow(home: Home, lines: int) -> None:
    """Repeat what was measured under new names and at later times until the ledger has `lines` lines, sealed as the org
    seals them."""
    book = ledger.read(home)
    rows = [row for row in book.rows if str(row.get("experiment", "")) not in ("", "E0000")]
    first = [row for row in rows if row["experiment"] == rows[0]["experiment"]]
    count, last, later = len(book.experiments), book.rows[-1], timedelta()
    span = datetime.fromisoformat(last["t"]) - datetime.fromisoformat(book.rows[0]["t"])
    with home.ledger.open("a", encoding="utf-8") as file:
        while last["seq"] < lines:
            count += 1
            later += span
            for row in first:
                text = json.dumps({k: v for k, v in row.items() if k != "sum"}).replace(
                    row["experiment"], f"E{count:04d}"
                )
                times = {
                    name: (datetime.fromisoformat(row[name]) + later).isoformat().replace("+00:00", "Z")
                    for name in ("t", "started", "ended")
                    if row.get(name)
                }
                last = {**json.loads(text), **times, "seq": last["seq"] + 1, "sum": last["sum"]}
                before = last.pop("sum")
                line, last["sum"] = ledger._sealed(last, before)
                file.write(line + "\n")
    files.replace(home.ledger_tip, f"{last['seq']} {last['sum']}\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = make_tiny_home(Path(folder) / "home")
        org(home, "seat", "me")
        seconds = filed(home, [0.021, 0.03, 0.035, 0.045, 0.05])
        print(f"edit to queued run      {median(seconds):6.3f} s of CPU      (at most 1)")
        print(f"record and verdict      {1e3 * median(VERDICT_S):6.1f} ms            (at most 25)")
        print(f"  the whole tick        {1e3 * median(TICK_S):6.1f} ms")
        print(f"run's end to next start {median(gaps(home)):6.3f} s             (at most 1)")
        start = min(cpu_s(lambda: org(home, "status", "--help")) for _ in range(5))
        grow(home, LINES)
        problems = fidelity.problems(home)
        names = {p["what"].split(":")[0] for p in problems}
        status = min(cpu_s(lambda: org(home, "status", "--json")) for _ in range(5))
        bare = min(cpu_s(lambda: subprocess.run([sys.executable, "-c", "0"], check=False)) for _ in range(5))
        results = min(cpu_s(lambda: org(home, "results", "--json")) for _ in range(5))
        print(
            f"status, {LINES} lines    {1e3 * (status - bare):6.0f} ms of CPU beyond the interpreter's start (at most 150)"
        )
        print(
            f"  of which the verb's own start {1e3 * (start - bare):.0f} ms; results --json {1e3 * (results - bare):.0f} ms"
        )
        strange = [name for name in names if not name.startswith("E")]
        assert not strange, strange  # copies have no files of their own; all else is whole
        print(f"  record, {LINES} lines   {1e3 * median(again(home)):6.1f} ms")


if __name__ == "__main__":
    main()
