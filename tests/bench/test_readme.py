"""The README's figures are made by one command, and only they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import readme

ROOT = Path(__file__).parents[2]


def test_both_pages_have_a_place_for_the_figures() -> None:
    for page, names in (("README.md", ("t0",)), ("docs/bench.md", ("t0", "t1"))):
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in names:
            assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1, (page, name)


def test_what_is_between_the_marks_is_made_anew_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "docs").mkdir()
    mine = "# Mine\n\n<!-- t0: begin -->\nold\n<!-- t0: end -->\n\nMy words.\n"
    for page in ("README.md", "docs/bench.md"):
        (tmp_path / page).write_text(mine)
    for _ in range(2):
        assert readme.main(["no-op", "greedy", "--repeats", "2", "--seed", "7"], tmp_path) == 0
        text = (tmp_path / "README.md").read_text()
        assert text.startswith("# Mine\n\n<!-- t0: begin -->\n| org |") and text.endswith("t0: end -->\n\nMy words.\n")
        assert "| greedy |" in text and "`org bench t0 no-op greedy --repeats 2 --seed 7`" in text and "old" not in text
    first = (tmp_path / "docs" / "t0.svg").read_bytes()
    assert b"seed 7" in first and b"org bench t0 no-op greedy" in first
    readme.main(["no-op", "greedy", "--repeats", "2", "--seed", "7"], tmp_path)
    assert (tmp_path / "docs" / "t0.svg").read_bytes() == first
    (tmp_path / "README.md").write_text("no place")
    with pytest.raises(SystemExit, match="has no place for t0"):
        readme.put(tmp_path / "README.md", "t0", "x")
