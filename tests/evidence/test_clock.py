"""No ledger may say that a device did two things at once: honest ones are clean, each way to lie is named with its line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from org.evidence import clock

BEGUN = datetime(2026, 3, 1, tzinfo=UTC)
Rows = list[dict[str, Any]]


def at(second: float) -> str:
    return (BEGUN + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def later(text: str, by: float) -> str:
    return at((datetime.fromisoformat(text) - BEGUN).total_seconds() + by)


@st.composite
def honest(draw: st.DrawFn, least: int = 0) -> Rows:
    """Runs one after the other on two devices, some on both, a few lost; the clock is a second wrong here and there."""
    free = {"cpu0": 0.0, "cpu1": 0.0}
    rows: Rows = []
    for number in range(draw(st.integers(least, 12))):
        names = draw(st.sampled_from((("cpu0",), ("cpu1",), ("cpu0", "cpu1"))))
        start = max(free[name] for name in names) + draw(st.floats(0.0, 50.0))
        length = draw(st.floats(8.0, 5000.0))
        end = start + length
        free |= dict.fromkeys(names, end)
        lost = draw(st.booleans()) and draw(st.booleans()) and number > 1
        wrong = [draw(st.floats(-0.45, 0.45)) for _ in range(3)]
        rows.append(
            {
                "kind": "result",
                "run": f"E0001/candidate-s{number}",
                "device": "+".join(names),
                "status": "lost" if lost else "ok",
                "started": None if lost else at(start + wrong[0]),
                "ended": at(end + wrong[1]),
                "t": at(end + 0.1 + wrong[2]),
                "total_s": None if lost else length * draw(st.floats(0.9, 1.0)),
                "at": end,
            }
        )
    rows.sort(key=lambda row: row.pop("at"))
    if rows:
        runs = [row["run"] for row in rows if row["status"] == "ok"]
        rows.append({"kind": "verdict", "experiment": "E0001", "runs": runs, "t": later(rows[-1]["t"], 0.5)})
    return rows


@given(honest())
def test_an_honest_ledger_is_clean(rows: Rows) -> None:
    assert clock.problems(rows) == []


LIES = ("overlap", "longer", "backwards", "before", "no start", "not yet", "never")


@given(rows=honest(least=3), data=st.data(), lie=st.sampled_from(LIES))
def test_a_lie_about_the_clock_is_named_with_its_line(rows: Rows, data: st.DataObject, lie: str) -> None:
    line = data.draw(st.sampled_from([i for i, row in enumerate(rows, 1) if row.get("status") == "ok"]))
    row, lines = rows[line - 1], {line}
    match lie:
        case "overlap":  # another run, well within this one
            first, last = sorted((later(row["started"], 2), later(row["ended"], -1)))
            rows.append({**row, "run": "E0002/candidate-s1", "started": first, "ended": last, "total_s": 0.1})
            rows[-1] |= {"t": rows[-2]["t"]}
            lines = {len(rows)}
        case "longer":
            row["total_s"] *= 1.3
            row["total_s"] += 3
        case "backwards":
            row["started"], row["ended"] = row["ended"], row["started"]
        case "before":
            row["t"] = later(row["ended"], -3)
        case "no start":
            row["started"] = data.draw(st.sampled_from((None, "", "yesterday", 7, [], "9" * 40)))
        case "not yet":
            rows[-1]["t"] = later(row["ended"], -3)
            lines = {len(rows)}
        case "never":
            rows.insert(0, rows.pop())
            lines = {1}
    assert lines <= {where for where, _ in clock.problems(rows)}


def test_many_short_overlaps_add_up() -> None:
    rows = [
        {"kind": "result", "run": f"r{i}", "device": "gpu0", "status": "ok", "started": at(i), "ended": at(i + 1.9),
         "t": at(i + 2), "total_s": 1.9} for i in range(20)
    ]  # fmt: skip
    assert [line for line, _ in clock.problems(rows)] == [20]
    assert clock.problems([{**row, "device": f"gpu{i % 2}"} for i, row in enumerate(rows)]) == []


@pytest.mark.parametrize(("device", "is_one"), [("cpu0", True), ("cpu1", False), ("cpu2+cpu0", True)])
def test_a_gang_holds_each_of_its_devices(device: str, is_one: bool) -> None:
    row = {"kind": "result", "run": "a", "device": "cpu0", "status": "ok", "total_s": 9.0, "t": at(10)}
    rows = [{**row, "started": at(0), "ended": at(10)}, {**row, "run": "b", "started": at(0), "ended": at(10)}]
    rows[1]["device"] = device
    assert bool(clock.problems(rows)) is is_one


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(("kind", "run", "device", "status", "started", "ended", "t", "total_s", "runs")),
       st.one_of(st.none(), st.text(), st.floats(), st.booleans(), st.sampled_from(("result", "verdict", at(0), at(99))),
                 st.lists(st.text()))), max_size=6))  # fmt: skip
def test_nonsense_is_read_without_a_fall(rows: Rows) -> None:
    clock.problems(rows)
