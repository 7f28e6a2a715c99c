"""What real agent programs cost: ready times side by side, memory, processor time at rest, a hook, and deliveries.

scripts/bench agents [--agents claude:9] [--seconds 60] [--deliveries 0] [--json]

On loopback, against the tests' model server; what would leave it is refused, and counted. `--deliveries 50` rings so many
doorbells of each kind (at rest, in a tool call, in a stream, behind a half-typed draft) and names what went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = str(ROOT)  # for the office and the hooks

import pytest
from agents.model_server import ModelServer, RefusingProxy
from agents.real import deliveries
from agents.real.stage import RealOrg, installed, lead_to, surround
from waiting import wait_for

from org import times
from org.agents.base import parse_agents
from org.agents.hook import command as hook_command
from org.team import launch
from org.world import process

READY_S = 120.0
HOOKS = 30


def rows(agents: str = "claude:9", seconds: float = 60.0, letters: int = 0) -> list[dict[str, Any]]:
    folder, reason = installed()
    if folder is None:
        raise SystemExit(f"the agent programs cannot be installed: {reason}")
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch, RefusingProxy() as proxy:
        surround(patch, folder, proxy, Path(root) / "person")
        with ModelServer() as server:
            lead_to(patch, server)
            org = RealOrg(Path(root), server)
            try:
                found = _measured(org, agents, seconds, letters)
            finally:
                launch.stop(org.home, lambda line: None)
        return [
            *found,
            {"what": "tries to leave loopback", "refused": len(proxy.attempts), "asked": proxy.attempts[:9]},
        ]


def _measured(org: RealOrg, agents: str, seconds: float, letters: int) -> list[dict[str, Any]]:
    seats = [f"j{number}" for number in range(1, sum(count or 1 for _, count in parse_agents(agents)) + 1)]
    free = _free_mb()
    began, wall = time.monotonic(), time.time()
    org.launch(chief=0, juniors=len(seats), agents=parse_agents(agents))
    wait_for(lambda: all(org.ended(seat) for seat in seats), READY_S, "every first turn")
    turned = time.monotonic() - began
    first = sorted(_first(org, seat) - wall for seat in seats)
    wait_for(lambda: all(org.state(seat) == "ready" for seat in seats), READY_S, "every seat at rest")
    time.sleep(5)
    found: list[dict[str, Any]] = [
        {
            "what": f"start of {agents}",
            "first_ready_s": round(first[0], 2),
            "last_ready_s": round(first[-1], 2),
            "first_turns_s": round(turned, 2),
        },
        {"what": "memory at rest", **_memory(org, seats), "free_moved_mb": free - _free_mb()},
        _idle(org, seats, seconds),
        _hook(org),
    ]
    for kind in deliveries.KINDS if letters else ():
        measured = deliveries.measure(org, seats[:2], [kind] * letters)
        row = deliveries.summary(measured)
        found.append({"what": f"letters, {kind}", **row.get(kind, {}), "faults": row["faults"]})
    return found


def _first(org: RealOrg, seat: str) -> float:
    """When its program first said anything, Unix seconds."""
    return min(times.seconds(row.get("t")) or 0.0 for row in org.events(seat))


def _memory(org: RealOrg, seats: Iterable[str]) -> dict[str, Any]:
    """Megabytes of the programs and what they started, by seat: resident, and with shared pages divided."""
    resident, divided = [], []
    for seat in seats:
        texts = [_read(f"/proc/{pid}/smaps_rollup") for pid in process.find_marked(_marker(org, seat))]
        resident.append(sum(_kb(text, "Rss:") for text in texts) // 1024)
        divided.append(sum(_kb(text, "Pss:") for text in texts) // 1024)
    return {"rss_mb": resident, "pss_mb": divided, "pss_all_mb": sum(divided)}


def _idle(org: RealOrg, seats: Iterable[str], seconds: float) -> dict[str, Any]:
    """Processor time at rest, in percent of one core, and what was asked of the model meanwhile."""
    office = json.loads(org.home.office_lock.read_text())["pid"]
    pids = {"office": [office], **{seat: process.find_marked(_marker(org, seat)) for seat in seats}}
    calls, before = len(org.server.requests), {name: _cpu_s(each) for name, each in pids.items()}
    time.sleep(seconds)
    used = {name: round(100 * (_cpu_s(each) - before[name]) / seconds, 2) for name, each in pids.items()}
    return {
        "what": f"{seconds:.0f} s at rest",
        "office_percent": used.pop("office"),
        "program_percent": used,
        "all_percent": round(sum(used.values()), 2),
        "model_calls": len(org.server.requests) - calls,
    }


def _hook(org: RealOrg) -> dict[str, Any]:
    """Wall time of one hook, the best and the middle of some: the program waits for each."""
    env = {**os.environ, "ORG_HOME": str(org.home.root), "ORG_SEAT": "j1", "ORG_EVENTS": os.devnull}
    text = json.dumps({"hook_event_name": "UserPromptSubmit", "session_id": "0" * 36, "prompt": "word " * 100})
    times = []
    for _ in range(HOOKS):
        began = time.monotonic()
        subprocess.run(shlex.split(hook_command()), input=text, text=True, env=env, check=True)
        times.append(1000 * (time.monotonic() - began))
    return {"what": "one hook", "best_ms": round(min(times), 1), "middle_ms": round(sorted(times)[HOOKS // 2], 1)}


def _marker(org: RealOrg, seat: str) -> str:
    return f"ORG_EVENTS={org.home.seat_events(seat)}"


def _cpu_s(pids: Iterable[int]) -> float:
    used = 0.0
    for pid in pids:
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else 0.0
    return used


def _free_mb() -> int:
    return _kb(_read("/proc/meminfo"), "MemAvailable:") // 1024


def _kb(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.split("\n") if line.startswith(name)), 0)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has ended
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--agents", default="claude:9", help="as `org launch --agents`, with counts")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--deliveries", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = rows(options.agents, options.seconds, options.deliveries)
    for row in found if not options.json else ():
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if options.json:
        print(json.dumps({"rows": found}, ensure_ascii=False))
    return 1 if any(row.get("faults") for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
