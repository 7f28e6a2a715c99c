"""What an idle office costs: processor time of its process and processes it starts, with a seat's program in every pane.

scripts/bench idle [--seats 33] [--seconds 60] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

QUIET = "import sys; [None for _ in sys.stdin]"
# every process that the office's Python starts adds one byte to a file
COUNTER = """\
import os, sys
if "office" in sys.orig_argv:
    counts = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    starts = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system")
    sys.addaudithook(lambda event, args: event in starts and os.write(counts, b"."))
"""


def rows(seats: int = 33, seconds: float = 60.0) -> list[dict[str, Any]]:
    from team.conftest import Org
    from tiny import make_tiny_home

    from org.team import pages as pages_

    with tempfile.TemporaryDirectory() as folder:
        home = make_tiny_home(Path(folder) / "home")
        pages = ROOT / "prompts" / "orgs" / "chief-juniors" / "processes"
        for page in pages.glob("*.md"):  # the processes of the real organisation are parsed and looked at too
            (home.org_folder("chief-juniors") / "processes" / page.name).write_bytes(page.read_bytes())
        assert pages_.load(home.org_folder("chief-juniors"))
        counts = Path(folder) / "counts"
        (Path(folder) / "sitecustomize.py").write_text(COUNTER.format(path=str(counts)))
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, str(ROOT)])  # handed on to the office
        org = Org(home, f"cmd:{shlex.join([sys.executable, '-c', QUIET])}")
        try:
            org.launch(chief=1, juniors=seats - 1)
            org.wait_for(lambda: (home.experiments / "E0000").is_dir(), 60, "the baseline bank")
            org.wait_for(lambda: _is_calm(org), 120, "the end of the baseline's runs")
            pid = json.loads(home.office_lock.read_text())["pid"]
            used, children, started = _cpu_s(pid), _children_s(pid), counts.stat().st_size
            time.sleep(seconds)
            return [
                {
                    "what": f"idle office, {seats} seats, {seconds:.0f} s",
                    "office_percent": 100 * (_cpu_s(pid) - used) / seconds,
                    "children_percent": 100 * (_children_s(pid) - children) / seconds,
                    "processes_per_s": (counts.stat().st_size - started) / seconds,
                    "limits": "0.5 % and 1 per second",
                }
            ]
        finally:
            org.stop()


def _is_calm(org: Any) -> bool:
    from org.lab import ledger

    book = ledger.read(org.home)
    return len(book.results) >= 3 and set(book.launches) == set(book.results)


def _cpu_s(pid: int) -> float:
    """User and system seconds of the process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _children_s(pid: int) -> float:
    """Of children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / 100


if __name__ == "__main__":
    flags = argparse.ArgumentParser()
    flags.add_argument("--seats", type=int, default=33)
    flags.add_argument("--seconds", type=float, default=60.0)
    flags.add_argument("--json", action="store_true")
    given = flags.parse_args()
    found = rows(given.seats, given.seconds)
    if given.json:
        print(json.dumps(found))
    else:
        for row in found:
            print(
                "  ".join(
                    f"{name} {value:.3f}" if isinstance(value, float) else f"{value}" for name, value in row.items()
                )
            )
