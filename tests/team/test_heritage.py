"""The next org begins with what the last one knew: marked as brought, its numbers as text, and no id that means another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from persons import LR, Work
from tiny import make_tiny_home

from org import files
from org.cli import main
from org.errors import BadInput
from org.home import Home
from org.lab import ledger
from org.team import heritage, prose, wiki


@pytest.fixture
def old(tiny_home: Home, tmp_path: Path) -> Home:
    work = Work(tiny_home, tmp_path / "theirs")
    work.commit()
    work.plant(LR)
    wiki.add(tiny_home, "MATRIX_LR 0.04 helps (E0001), by {E0001.effect}", "chief")
    wiki.add(tiny_home, "Dead end: widening (E0099)", "j1", marks=["says that it helps, but E0001 is win"])
    return tiny_home


def test_pages_come_with_their_evidence_as_text(old: Home, tmp_path: Path) -> None:
    new = make_tiny_home(tmp_path / "new")
    before = files.signature(old.root)
    assert len(heritage.bring(new, heritage.source(str(old.root)))) == 2
    assert files.signature(old.root) == before
    pages = {page.kind: page for page in wiki.pages(new)}
    won, dead = pages["finding"], pages["dead-end"]
    assert (won.origin, won.by, won.cites) == ("home", "chief", [])
    assert won.body.strip() == "MATRIX_LR 0.04 helps (home_E0001), by [home_E0001.effect]"
    [text] = won.evidence.values()
    assert text.startswith(
        "win (tentative), effect -0.0500 ± 0.0041 val_bpb, at tiny, MATRIX_LR 0.02→0.04 (turn MATRIX_LR"
    )
    assert "\x1b" not in text
    assert dead.evidence == {"home_E0099": "no verdict came with it"}
    assert dead.marks == ("says that it helps, but home_E0001 is win",)
    assert prose.reader(new).book.verdicts == {} and dead.warnings(ledger.read(new)) == list(dead.marks)
    third = make_tiny_home(tmp_path / "third")
    heritage.bring(third, new)
    again = {page.kind: page for page in wiki.pages(third)}["finding"]
    assert (again.origin, again.body.strip(), again.evidence) == (won.origin, won.body.strip(), won.evidence)


def test_what_was_refuted_there_is_said_without_an_id_that_means_another_here(old: Home, tmp_path: Path) -> None:
    gone = {"program": "main", "commit": "c", "experiment": "E0050", "retracts": ["E0001"], "attack": "seeds"}
    ledger.Ledger(old).append("head", "retract:E0050", gone)
    heritage.bring(new := make_tiny_home(tmp_path / "new"), old)
    won = next(page for page in wiki.pages(new) if page.kind == "finding")
    assert ", refuted by seeds (home_E0050), " in won.evidence["home_E0001"]
    assert won.marks == ("cites home_E0001, refuted by seeds (home_E0050)",)


def test_a_folder_of_pages_is_enough_and_what_is_no_page_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "Our notes!"
    folder.mkdir()
    (folder / "a.md").write_text("# Warm up longer\n\nE0007 shows it.\n")
    (folder / "b.md").write_bytes(b"\xff\x00binary")
    (folder / "empty.md").write_text("---\nby: x\n---\n")
    (folder / "loop.md").symlink_to("loop.md")
    os.mkfifo(folder / "pipe.md")
    new = make_tiny_home(tmp_path / "new")
    heritage.bring(new, heritage.source(str(folder)))
    bodies = {page.title: page for page in wiki.pages(new)}
    assert bodies["Warm up longer"].evidence == {"our_notes_E0007": "no verdict came with it"}
    assert all(page.origin == "our_notes" for page in bodies.values())
    assert not {"loop", "pipe", "empty"} & set(bodies) and len(bodies) == 2


def test_where_there_are_no_pages_nothing_is_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="no comms/wiki/ and no Markdown pages"):
        heritage.source(str(tmp_path))
    assert main.call(["init", str(tmp_path / "home"), "--wiki", str(tmp_path / "nowhere")]) == 2
    assert not (tmp_path / "home").exists() and "name a home, or a folder of pages" in capfd.readouterr().err


def test_init_begins_with_them(old: Home, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["init", str(tmp_path / "next"), "--code", str(old.root / "code"), "--wiki", str(old.root), "--json"]
    assert main.call(words) == 0
    assert json.loads(capfd.readouterr().out)["wiki"] == 2
    assert main.call(["--home", str(tmp_path / "next"), "wiki"]) == 0
    said = capfd.readouterr().out
    assert "[finding, brought from home] MATRIX_LR 0.04 helps (home_E0001)" in said
    assert "home_E0001: win (tentative), effect -0.0500" in said and "[not in the ledger]" not in said
    assert main.call(["--home", str(tmp_path / "next"), "brief"]) == 0
    assert "- finding of home: MATRIX_LR 0.04 helps" in capfd.readouterr().out
