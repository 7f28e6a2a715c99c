"""Every run is one mark, the line is the best kept arm, and the picture is the size it says."""

import re
import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "team"))
from books import CHARTER, Book, Story, night

from org.cli import plot
from org.home import Home
from org.records import Charter, Metric

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"


def drawn(path: Path) -> dict[str, int]:
    """Group id -> how many marks it draws."""
    root = ElementTree.parse(path).getroot()
    counts = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("id") in ("baseline", "discarded", "kept", "failed", "verified"):
            uses = len([use for use in group.iter(f"{SVG}use") if use.get(XLINK)])
            counts[group.get("id")] = uses
    return counts


def test_every_run_of_the_scale_is_one_mark():
    found = plot.marks(night(), CHARTER)
    assert [mark.x for mark in found] == list(range(1, 14))  # 14 ran, one of them at another scale
    assert {kind: sum(m.kind == kind for m in found) for kind in ("baseline", "discarded", "kept", "failed")} == {
        "baseline": 4,
        "discarded": 1,
        "kept": 7,
        "failed": 1,
    }
    book = night()
    assert all(mark.y == book.results[mark.run].metric for mark in found)


def test_the_line_starts_at_the_baseline_and_follows_the_best_kept_arm():
    line = plot.steps(night(), CHARTER)
    assert [(s.x, round(s.best, 6), s.is_verified) for s in line] == [
        (1, 2.1, False),
        (6, 2.055, False),
        (13, 2.03, True),
    ]
    assert line[1].label == "MATRIX_LR 0.02→0.04"


def test_a_control_and_its_probe_are_on_no_curve():
    story = Story()
    bank = story.bank(2.10, 2.11)
    story.experiment("E0001", control="flops", why="a third layer", tree="f")
    story.run("E0001/probe-s1", 4.0, "f", steps=15)
    own = [story.run("E0001/candidate-s1", 1.9, "f", steps=150)]
    story.verdict("E0001", "win", own + bank, -0.2, 0.01, "tentative")
    story.experiment("E0002", control="flops", members=("E0001",), stage="verify", tree="f")
    story.run("E0002/baseline-s11", 2.105, "b", stage="verify")
    story.verdict("E0002", "win", [story.run("E0002/candidate-s11", 1.9, "f", stage="verify")], -0.2, 0.01, "verified")
    assert [mark.kind for mark in plot.marks(story.book, CHARTER)] == ["baseline"] * 3
    assert [round(step.best, 3) for step in plot.steps(story.book, CHARTER)] == [2.105]


def test_higher_is_better_turns_the_line_round():
    charter = Charter.from_dict({**vars(CHARTER), "metric": Metric("accuracy", "higher")})
    line = plot.steps(night(), charter)
    assert [round(s.best, 6) for s in line] == [2.1, 2.1]  # only the verified star, at the best so far
    assert line[1].is_verified


def test_the_picture_holds_as_many_marks_as_the_ledger_has_runs(tmp_path):
    svg, png = plot.draw(Home(tmp_path), night(), CHARTER)
    assert svg == tmp_path / "comms/plot/progress.svg" and png == tmp_path / "comms/plot/progress.png"
    assert drawn(svg) == {"baseline": 4, "discarded": 1, "kept": 7, "failed": 1, "verified": 1}
    assert struct.unpack(">II", png.read_bytes()[16:24]) == (1200, 700)
    text = " ".join(ElementTree.parse(svg).getroot().itertext())
    assert "val_bpb: Lower the loss & <cost> of $x_1$ at equal tokens." in text
    assert "13 runs" in text and "4 experiments" in text and "2 kept" in text and "1 verified" in text
    assert "MATRIX_LR 0.02→0.04, warm down" in text


def test_the_same_ledger_makes_the_same_picture(tmp_path):
    first = [path.read_bytes() for path in plot.draw(Home(tmp_path / "a"), night(), CHARTER)]
    assert first == [path.read_bytes() for path in plot.draw(Home(tmp_path / "b"), night(), CHARTER)]


def only_crashes() -> Book:
    story = Story()
    story.run("E0000/baseline-s1", None, "b", stage="bank", status="crash")
    return story.book


def one_run() -> Book:
    story = Story()
    story.bank(2.1)
    return story.book


def one_went_wild() -> Book:
    story = Story()
    story.bank(2.1, 2.11, 2.09)
    story.experiment("E0001", why="\x1b[2J$\\frac{", tree="c")
    story.run("E0001/candidate-s1", 1e30, "c")
    return story.book


@pytest.mark.parametrize(
    ("book", "marks"),
    [
        (Book(), {}),
        (only_crashes(), {"failed": 1}),
        (one_run(), {"baseline": 1}),
        (one_went_wild(), {"baseline": 3, "discarded": 1}),
    ],
    ids=["no run", "only crashes", "one run", "one went wild"],
)
def test_odd_ledgers_are_drawn_too(tmp_path, book, marks):
    svg, png = plot.draw(Home(tmp_path), book, CHARTER)
    assert drawn(svg) == marks and png.stat().st_size > 1000
    assert ("no runs yet" in svg.read_text()) == (not marks)


def test_a_run_that_went_wild_does_not_flatten_the_rest(tmp_path):
    svg, _ = plot.draw(Home(tmp_path), one_went_wild(), CHARTER)
    ticks = [float(t) for t in re.findall(r">(\d\.\d+)</text>", svg.read_text())]
    assert max(ticks) < 3


def test_matplotlib_is_loaded_by_drawing_only():
    import subprocess

    code = "import sys, org.cli.plot; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
