"""The record holds what the ledger says, and files are as they were: what was moved, gutted or edited is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from persons import LR, Work

from org.home import Home
from org.lab import archive, fidelity, ledger, record
from org.world import git


def said(home: Home) -> str:
    return " | ".join(f"{p['line']}: {p['what']}" for p in fidelity.problems(home))


@pytest.mark.slow  # two experiments, and each way to gut their record
def test_a_record_that_was_moved_gutted_or_taken_away_is_named(measured: Home, tmp_path: Path) -> None:
    record_git, book = measured.record, ledger.read(measured)
    filed = book.experiments["E0001"]
    where = {ref: sha for ref, sha in git.list_refs(record_git, "refs").items()}

    def moved(ref: str, to: str | None, *words: str) -> None:
        if to is None:
            git.delete_ref(record_git, ref)
        else:
            git.update_ref(record_git, ref, to)
        text = said(measured)
        assert all(word in text for word in words), (ref, to, text)
        git.update_ref(record_git, ref, where[ref])
        assert said(measured) == ""

    base, main, pin = "refs/heads/base", "refs/heads/program/main/main", "refs/org/experiments/E0001"
    moved(main, filed.commit, f"the head of main is at {filed.commit[:7]}", where[base][:7])
    moved(main, None, "the head of main is gone")
    moved(base, filed.commit, "branch `base` is at")
    moved(base, None, "no branch `base`")
    moved(pin, None, f"{book.experiments.line('E0001')}: E0001 has no pin in the record")
    moved(pin, where[base], "E0001 pins")
    moved(archive.BRANCH, None, "no branch `ledger`")
    moved(archive.BRANCH, git.resolve(record_git, f"{archive.BRANCH}~1"), "branch `ledger` was moved")
    lost = record_git / "objects" / filed.commit[:2] / filed.commit[2:]
    lost.rename(tmp_path / "lost")
    assert "0: the record" in said(measured)
    (tmp_path / "lost").rename(lost)
    record_git.rename(tmp_path / "elsewhere.git")
    assert "record.git is gone" in said(measured)
    (tmp_path / "elsewhere.git").rename(record_git)
    assert said(measured) == ""


def test_a_head_that_is_ahead_of_its_line_is_well_and_one_set_back_is_not(work: Work) -> None:
    name = work.plant(LR)
    home, main = work.home, record.main_ref("main")
    head, base = git.resolve(home.record, main), git.resolve(home.record, record.BASE)
    git.update_ref(home.record, main, base)
    assert f"the head of main is at {base[:7]} in the record, and the ledger's last line of it says {head[:7]}" in said(
        home
    )
    git.update_ref(home.record, main, head)
    lines = home.ledger.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["kind"] == "head" and json.loads(lines[-1])["experiment"] == name
    home.ledger.write_bytes(b"".join(lines[:-1]))  # as if the dispatcher were between ref and line
    home.ledger_tip.write_text(f"{len(lines) - 1} {json.loads(lines[-2])['sum']}\n")
    assert said(home) == ""


def test_the_table_bears_the_metric_of_the_charter(measured: Home) -> None:
    table = measured.results_tsv.read_text()
    measured.results_tsv.write_text(table.replace("val_bpb", "val_xyz", 1))
    assert "results.tsv is not what the ledger says" in said(measured)
    measured.results_tsv.write_text(table)
    assert said(measured) == ""


def test_a_spec_or_a_log_that_was_edited_is_named(measured: Home) -> None:
    run = next(name for name in ledger.read(measured).results if name.startswith("E0001/"))
    line = ledger.read(measured).launches.line(run)
    for name, old, new in (("spec.json", '"steps": 10', '"steps": 90'), ("log.txt", "val_bpb: 1", "val_bpb: 0")):
        path = measured.run(run) / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        assert f"{run}: {name}" in said(measured)
        assert name != "spec.json" or f"{line}: " in said(measured)
        path.write_text(text)
    assert said(measured) == ""


def test_an_experiment_has_one_verdict_and_the_first_stands(measured: Home) -> None:
    verdict = ledger.read(measured).verdicts["E0002"]
    other = {**verdict.to_dict(), "outcome": "win", "tier": "verified", "effect": -9.0}
    assert ledger.Ledger(measured).append("verdict", "verdict:E0002b", other) is not None
    assert "has key 'verdict:E0002b' and is the verdict of E0002" in said(measured)
    book = ledger.read(measured)
    assert (
        book.verdicts["E0002"] == verdict and "E0002b" not in book.verdicts and book.wins.get("E0002", ("", 0))[1] > -9
    )
    text = measured.ledger.read_text().replace("verdict:E0002b", "verdict:E0002")
    measured.ledger.write_text(text)
    assert "is a second verdict of E0002" in said(measured)
    assert ledger.read(measured).verdicts["E0002"] == verdict
