"""The record says when another hand was in it: every edit, cut, swap or addition is found; a torn tail is set aside."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from org import charter as charters
from org import files
from org.home import Home
from org.lab import archive, fidelity, follow, gate, ledger, record
from org.world import git


@pytest.fixture
def measured(tiny_home: Home, make_seat, edit) -> Home:
    """Two experiments with their verdicts, one refusal, the bank, and lines after the last commit to the record."""
    seat = make_seat()
    for old, new in (("0.02", "0.04"), ("0.04", "0.05")):
        edit(seat, f"MATRIX_LR = {old}", f"MATRIX_LR = {new}")
        contract = gate.submit(tiny_home, seat, f"the learning rate {new}")
        follow.drive(tiny_home, contract.experiment, lambda line: None, poll_s=0.05)
    book = ledger.Ledger(tiny_home)
    for i in range(3):
        book.append("org", f"org:test-{i}", {"event": "test", "number": i})
    assert fidelity.problems(tiny_home) == []
    return tiny_home


def other_value(value: object, dice: random.Random) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + dice.choice((1, -1, 1e-9 if isinstance(value, float) else 2))
        case str():
            return value + "x" if not value or dice.random() < 0.5 else value[:-1]
        case None:
            return 0.5
        case list():
            return [*value, 1]
        case _:
            return {**value, "new": 1}  # type: ignore[dict-item]


def mutate_ledger(data: bytes, dice: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    i = dice.randrange(len(lines))
    match dice.randrange(9):
        case 0:  # one byte
            at = dice.randrange(len(data) - 1)
            changed = data[:at] + bytes([data[at] ^ (1 << dice.randrange(7))]) + data[at + 1 :]
            return changed
        case 1:
            del lines[i]
        case 2:
            j = dice.randrange(len(lines) - 1)
            lines[j], lines[j + 1] = lines[j + 1], lines[j]
        case 3:
            lines.insert(dice.randrange(len(lines) + 1), lines[i])
        case 4:  # cut anywhere, between lines or within one
            return data[: dice.randrange(len(data))]
        case 5:
            return b"".join(lines[:i])
        case 6:  # the first lines are gone
            return b"".join(lines[i + 1 :])
        case 7:  # a value of one line, re-written as good JSON, its sum as it was
            row = json.loads(lines[i])
            name = dice.choice(sorted(set(row) - {"sum"}))
            row[name] = other_value(row[name], dice)
            lines[i] = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        case 8:  # a line of one's own at the end, well-formed, without a sum or with an old one
            row = json.loads(lines[-1])
            row |= {"seq": row["seq"] + 1, "key": "org:mine"}
            if dice.random() < 0.5:
                del row["sum"]
            lines.append(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return b"".join(lines)


def test_every_mutation_of_the_ledger_is_found(measured: Home) -> None:
    whole, dice, tried = measured.ledger.read_bytes(), random.Random(1), 0
    while tried < 200:
        changed = mutate_ledger(whole, dice)
        if changed == whole or _says_the_same(changed, whole):
            continue
        tried += 1
        measured.ledger.write_bytes(changed)
        assert fidelity.problems(measured), (tried, _difference(whole, changed))
    measured.ledger.write_bytes(whole)
    assert fidelity.problems(measured) == []


def _says_the_same(a: bytes, b: bytes) -> bool:
    return a.splitlines() == b.splitlines() and a[-1:] == b[-1:]


def _difference(a: bytes, b: bytes) -> str:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"at byte {at} of {len(a)}: {a[max(0, at - 40) : at + 20]!r} -> {b[max(0, at - 40) : at + 20]!r}"


def test_every_mutation_of_a_result_file_is_found(measured: Home) -> None:
    dice, paths = random.Random(2), sorted(measured.experiments.glob("*/runs/*/result.json"))
    assert len(paths) >= 6
    for tried in range(200):
        path = dice.choice(paths)
        whole = path.read_bytes()
        result = json.loads(whole)
        match tried % 5:
            case 0:
                name = dice.choice(sorted(result))
                files.replace_json(path, {**result, name: other_value(result[name], dice)})
            case 1:
                files.replace_json(
                    path, {k: v for k, v in result.items() if k != dice.choice(sorted(result))} | {"x": 1}
                )
            case 2:
                path.unlink()
            case 3:
                path.write_bytes(whole[: dice.randrange(len(whole) - 2)])
            case 4:
                path.write_bytes(dice.choice(paths[: paths.index(path)] + paths[paths.index(path) + 1 :]).read_bytes())
        assert fidelity.problems(measured), (path, tried)
        path.write_bytes(whole)
    assert fidelity.problems(measured) == []


def test_contracts_tables_and_runs_without_a_line_are_found(measured: Home) -> None:
    def said() -> str:
        return " | ".join(p["what"] for p in fidelity.problems(measured))

    contract = measured.contract("E0001")
    text = contract.read_text()
    contract.write_text(text.replace("seeds:\n- ", "seeds:\n- 1"))
    assert "E0001: contract.yaml is not the contract that was filed" in said()
    contract.unlink()
    assert "contract.yaml cannot be read" in said()
    contract.write_text(text)

    table = measured.results_tsv.read_text()
    measured.results_tsv.write_text(table.replace("keep", "best"))
    assert "results.tsv is not what the ledger says" in said()
    measured.results_tsv.write_text(table)

    run = next(measured.experiments.glob("E0001/runs/*"))
    invented = run.with_name("candidate-s77")
    files.replace(invented / "result.json", (run / "result.json").read_text())
    assert "E0001/candidate-s77 has a result.json and no result line" in said()
    (invented / "result.json").unlink()
    assert said() == ""


def test_a_ledger_without_its_tip_is_named(measured: Home) -> None:
    tip = measured.ledger_tip.read_text()
    measured.ledger_tip.unlink()
    assert "ledger.tip is missing" in fidelity.problems(measured)[0]["what"]
    measured.ledger_tip.write_text("many\n")
    assert fidelity.problems(measured)
    measured.ledger_tip.write_text(tip)
    assert fidelity.problems(measured) == []


def test_a_torn_tail_is_set_aside_and_the_line_is_said_again(tiny_home: Home) -> None:
    book = ledger.Ledger(tiny_home)
    book.append("org", "a", {"text": "first"})
    with tiny_home.ledger.open("ab") as file:
        file.write(b'{"seq": 2, "kind": "org", "key": "b", "te')
    assert "has no end" in fidelity.problems(tiny_home)[0]["what"]
    assert ledger.Ledger(tiny_home).append("org", "b", {"text": "second"}) is not None
    assert [row["key"] for row in ledger.read(tiny_home).rows] == ["a", "b"]
    assert tiny_home.ledger_torn.read_text().startswith('{"seq": 2')
    assert fidelity.problems(tiny_home) == []


def test_a_writer_killed_between_line_and_tip_leaves_no_problem(tiny_home: Home) -> None:
    ledger.Ledger(tiny_home).append("org", "a", {})
    code = "import sys; from pathlib import Path; from org.home import Home; from org.lab import ledger; "
    code += "ledger.Ledger(Home(Path(sys.argv[1]))).append('org', 'b', {})"
    environment = os.environ | {"ORG_FAILPOINT": "ledger.tip"}
    done = subprocess.run([sys.executable, "-c", code, str(tiny_home.root)], env=environment, check=False)
    assert done.returncode != 0
    assert len(ledger.read(tiny_home).rows) == 2
    assert fidelity.problems(tiny_home) == []
    ledger.Ledger(tiny_home).append("org", "c", {})
    assert fidelity.problems(tiny_home) == []


def test_two_writers_at_once_make_one_chain(tiny_home: Home, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from org.home import Home; from org.lab import ledger\n"
    code += "book = ledger.Ledger(Home(Path(sys.argv[1])))\n"
    code += "for i in range(40): book.append('org', f'{sys.argv[2]}-{i}', {}, sync=False)"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tiny_home.root), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(ledger.read(tiny_home).rows) == 80
    assert fidelity.problems(tiny_home) == []


def test_what_the_record_has_kept_is_not_written_again(tiny_home: Home, monkeypatch) -> None:
    record.ensure_record(tiny_home, charters.load(tiny_home))
    monkeypatch.setattr(archive, "PART", 4)
    writer = ledger.Ledger(tiny_home)
    for i in range(10):
        writer.append("org", f"org:test-{i}", {"event": "test", "number": i})
        archive.commit(tiny_home, writer.refresh())
    assert archive.kept_lines(tiny_home) == tiny_home.ledger.read_bytes().splitlines()
    whole = archive.kept_lines(tiny_home)
    tiny_home.ledger.write_bytes(tiny_home.ledger.read_bytes().replace(b'"number": 1,', b'"number": 7,'))
    again = ledger.Ledger(tiny_home)
    for i in range(10, 14):
        again.append("org", f"org:test-{i}", {"event": "test", "number": i})
        archive.commit(tiny_home, again.refresh())
    assert archive.kept_lines(tiny_home)[:10] == whole, "an edit of an old line stays out of the record"
    assert {"line": 2, "what": "differs from the record's copy"} in fidelity.problems(tiny_home)
    before = git.resolve(tiny_home.record, archive.BRANCH)
    archive.commit(tiny_home, again.refresh())
    assert git.resolve(tiny_home.record, archive.BRANCH) == before, "nothing new makes no commit"


def test_two_processes_keep_the_ledger_in_turn(tiny_home: Home) -> None:
    record.ensure_record(tiny_home, charters.load(tiny_home))
    writers = [ledger.Ledger(tiny_home), ledger.Ledger(tiny_home)]
    for i in range(6):
        writers[i % 2].append("org", f"org:test-{i}", {"event": "test", "number": i})
        archive.commit(tiny_home, writers[i % 2].refresh())
    assert archive.kept_lines(tiny_home) == tiny_home.ledger.read_bytes().splitlines()
    assert fidelity.problems(tiny_home) == []


def test_wins_are_known_without_parsing_their_lines(measured: Home) -> None:
    lazy, whole = ledger.read(measured), ledger.Book()
    for line in measured.ledger.read_bytes().splitlines():
        whole.add(json.loads(line))
    assert (
        lazy.wins
        == whole.wins
        == {
            n: (v.tier, v.effect)
            for n, v in whole.verdicts.items()
            if v.outcome == "win" and v.tier and v.effect is not None
        }
    )
    assert lazy.wins, "the fixture has a win"


def test_what_is_out_is_worked_out_once_for_each_line(measured: Home, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(ledger.ladder, "out", lambda *known: asked.append(known) or {})
    book = ledger.read(measured)
    for _ in range(3):
        book.out()
    assert len(asked) == 1
    book.add({"kind": "org", "key": "org:later"})
    book.out()
    assert len(asked) == 2
