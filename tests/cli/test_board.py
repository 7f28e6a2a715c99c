"""The board fits its window, says what counts, and shows an agent's words as words."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from org.cli import board


def shot(seats: int = 9, verdicts: int = 8, flags: int = 1) -> dict[str, Any]:
    states = ["working", "ready", "asking", "held", "gone", "waiting-for-run", "starting", "person"]
    return {
        "org": {
            "home": "/tmp/x", "name": "chief-juniors", "since": "2026-03-01T00:00:00Z",
            "phase": "draining", "budget": {"seconds": 300.0, "from": "2026-03-01T00:00:00Z"},
        },
        "seats": [
            {"name": f"j{n}", "role": "junior", "backend": "offline", "program": "optimizer", "device": "cpu0", "pane": f"%{n}",
             "state": states[n % len(states)], "held": False, "experiment": f"E{n:04d}", "mail_waiting": n}
            for n in range(seats)
        ],
        "devices": [{"name": f"cpu{n}", "kind": "cpu", "holder": "j1", "run": "E0001/candidate-s1"} for n in range(2)],
        "queue": [{"experiment": "E0009", "run": None, "seat": "j2", "waiting_for": "a device"}],
        "best": {"verified": None, "tentative": {"experiment": "E0002", "effect": -0.0811, "se": 0.0108}},
        "runs": 56,
        "metric": {"name": "val_bpb", "direction": "lower"},
        "verdicts": [
            {"experiment": f"E{n:04d}", "seat": "j1", "program": "main", "outcome": "win", "tier": "tentative", "effect": -0.04,
             "se": 0.01, "z": 4.0, "trust": "reported", "description": "[bold red]not markup[/] \x1b[31mnor colour " + "x" * 200}
            for n in range(verdicts)
        ],
        "progress": {
            "points": [(n, 1.66 - n / 100, "kept") for n in range(90)], "verified": [],
            "claimed": [(0, 1.66), (9, 1.58)],
        },
        "flags": [f"j{n} ended 5 times" for n in range(flags)],
    }  # fmt: skip


def drawn(snapshot: dict[str, Any], width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(board.render(snapshot), end="")
    return captured.get().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(100, 40), (200, 50), (80, 24), (60, 16), (40, 10)])
@pytest.mark.parametrize("seats", [1, 9, 65])
def test_the_board_fits_the_window(width: int, height: int, seats: int) -> None:
    lines = drawn(shot(seats, flags=20), width, height)
    assert len(lines) <= height and max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "j0" in text or "j2" in text
    assert "ended 5 times" in text


def test_a_usual_window_shows_all_of_it() -> None:
    text = "\n".join(drawn(shot(), 100, 40))
    for part in (
        "E0002 -0.0811 ± 0.0108",
        "56 runs",
        "[draining]",
        "1.6600 → 1.5800",
        "waiting-for-run",
        "cpu1",
        "E0009",
        "E0007",
    ):
        assert part in text
    assert text.count("win tentative") == 8


def test_an_empty_organisation_has_a_board_too() -> None:
    empty = shot(0, 0, 0) | {"devices": [], "queue": [], "best": {"verified": None, "tentative": None}}
    empty["progress"] = {"points": [], "verified": [], "claimed": []}
    assert drawn(empty, 100, 40)


def test_an_agents_words_are_neither_markup_nor_terminal_codes() -> None:
    text = "\n".join(drawn(shot(), 200, 50))
    assert "[bold red]not markup" in text and "\x1b" not in text


@pytest.mark.parametrize(
    ("values", "columns", "is_lower", "expected"),
    [([3.0, 2.0, 1.0], 10, True, "▁▅█"), ([1.0, 2.0], 10, False, "▁█"), ([5.0, 5.0], 9, True, "▁▁"), ([], 9, True, ""),
     ([9.0, 3.0, 2.0, 1.0], 3, True, "▁▅█")],
)  # fmt: skip
def test_a_better_value_is_a_higher_bar(values: list[float], columns: int, is_lower: bool, expected: str) -> None:
    assert board.sparkline(values, columns, is_lower) == expected
