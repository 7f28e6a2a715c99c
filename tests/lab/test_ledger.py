"""The record says when another hand was in it: every edit, cut, swap or addition is found; a torn tail is set aside."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from whole import run

from org import charter as charters
from org import files
from org.cli import results
from org.errors import BadInput, OrgError
from org.evidence import ladder, stack
from org.home import Home
from org.lab import archive, fidelity, gate, ledger, record
from org.lab.rows import parsed
from org.world import git


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


@pytest.mark.slow
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


def reshaped(value: object, dice: random.Random) -> object:
    """JSON with one thing in it, at any depth, gone, renamed, doubled or of another type."""
    inside = isinstance(value, dict | list) and len(value) > 0
    if not inside or dice.random() < 0.15:
        return dice.choice((None, 3, -0.5, 1e999, "x", "", [], {}, [value], {"a": value}, True, "../..", [[{}]]))
    if isinstance(value, list):
        at = dice.randrange(len(value))
        return [*value[:at], reshaped(value[at], dice), *value[at + 1 :]]
    assert isinstance(value, dict)
    name = dice.choice(sorted(value))
    match dice.randrange(4):
        case 0:
            return {key: of for key, of in value.items() if key != name}
        case 1:
            return {(key + "x" if key == name else key): of for key, of in value.items()}
        case _:
            return {**value, name: reshaped(value[name], dice)}


def sealed(rows: list[object]) -> bytes:
    """Lines as the org seals them, whatever they hold."""
    lines, before = [], ""
    for row in rows:
        if isinstance(row, dict):
            line, before = ledger._sealed({k: v for k, v in row.items() if k != "sum"}, before)
        else:
            line = json.dumps(row)
        lines.append(line.encode() + b"\n")
    return b"".join(lines)


def read_all(home: Home) -> None:
    """Everything that a reader may ask of the ledger; OrgError is one line that names another."""
    book = ledger.read(home)
    for facts in (book.experiments, book.launches, book.results, book.verdicts):
        for name in facts:
            with contextlib.suppress(OrgError):
                _ = facts[name]
    for ask in (lambda: list(book.rows), book.open, book.out, lambda: list(stack.credits(book.moves))):
        with contextlib.suppress(OrgError):
            ask()
    for program in book.heads:
        ladder.in_force(book.moves, program)
        stack.owing(book.moves, program)
    with contextlib.suppress(OrgError):
        archive.tsv(book, "val_bpb")
    with contextlib.suppress(OrgError):
        results.rows(book)


@pytest.mark.slow  # each line is broken some dozens of times
@pytest.mark.parametrize("is_sealed", [False, True])
def test_no_shape_of_a_line_is_a_traceback(measured: Home, monkeypatch, is_sealed: bool) -> None:
    writer = ledger.Ledger(measured)
    commit = git.resolve(measured.record, "refs/heads/base")
    head = {
        "program": "main",
        "commit": commit,
        "tree": "t",
        "experiment": "E0001",
        "members": ["E0001"],
        "was": commit,
    }
    writer.append("head", "head:E0001", {**head, "seeds": [7], "effect": -0.1, "se": 0.01})
    writer.append("credit", "credit:1", {"program": "main", "experiment": "E0001", "commit": commit, "member": "E0001",
                  "tree": "t", "outcome": "helps", "effect": 0.1, "se": 0.1, "z": 1.0, "runs": []})  # fmt: skip
    writer.append("head", "retract:E0002", {**head, "experiment": "E0002", "retracts": ["E0001"], "scale": "demo"})
    rows, dice = [json.loads(line) for line in measured.ledger.read_bytes().splitlines()], random.Random(7)
    monkeypatch.setattr(ledger, "_sealed", functools.partial(loosely, ledger._sealed))
    for _ in range(300):
        at = dice.randrange(len(rows))
        changed = [*rows[:at], reshaped(rows[at], dice), *rows[at + 1 :]]
        plain = b"".join(json.dumps(row).encode() + b"\n" for row in changed)
        measured.ledger.write_bytes(sealed(changed) if is_sealed else plain)
        found = fidelity.problems(measured)
        assert found and all(str(problem["what"]).strip() for problem in found), changed[at]
        read_all(measured)


def loosely(seal, row, before):
    """Not as the org writes: infinities too."""
    body = json.dumps(row)
    total = hashlib.sha256(f"{before}{body}".encode()).hexdigest()[:16]
    return f'{body[:-1]}, "sum": "{total}"}}', total


def _says_the_same(a: bytes, b: bytes) -> bool:
    return a.splitlines() == b.splitlines() and a[-1:] == b[-1:]


def _difference(a: bytes, b: bytes) -> str:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return f"at byte {at} of {len(a)}: {a[max(0, at - 40) : at + 20]!r} -> {b[max(0, at - 40) : at + 20]!r}"


@pytest.mark.slow
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


FOREIGN = [
    b'{"kind":"verdict"}',
    b"no line",
    b'{"seq": 1, "kind": "org", "t": "2026"}',
    b'{"seq": "x", "kind": "head"}',
    b'{"seq": 7000000000000000000000, "kind": "org", "t": "2026"}',
    b'{"seq": 3, "kind": "launch", "key": "launch:E0001/x", "t": "2026", "org": "", "run": "E0001/x", ',
]


@pytest.mark.parametrize("line", FOREIGN)
def test_what_another_hand_appended_is_named_and_the_count_goes_on(tiny_home: Home, line: bytes) -> None:
    for key in "ab":
        ledger.Ledger(tiny_home).append("org", key, {})
    files.append_line(tiny_home.ledger, line.decode())
    writer = ledger.Ledger(tiny_home)
    for key in "cd":
        writer.append("org", key, {})
    ours = [row for row in map(parsed, tiny_home.ledger.read_bytes().splitlines()) if row and "sum" in row]
    assert [row["key"] for row in ours] == ["a", "b", "c", "d"]
    assert sorted({row["seq"] for row in ours}) == [row["seq"] for row in ours], "no number is given twice"
    assert 3 in {problem["line"] for problem in fidelity.problems(tiny_home)}
    assert (writer.book.damage() == "the ledger was written by another hand: line 3") == (line != FOREIGN[-1])
    assert ledger.read(tiny_home).damage() == writer.book.damage()


def test_a_line_that_begins_as_ours_and_is_broken_stops_nobody_who_reads_on_and_is_named(tiny_home: Home) -> None:
    ledger.Ledger(tiny_home).append("org", "a", {})
    files.append_line(tiny_home.ledger, FOREIGN[-1].replace(b'"seq": 3', b'"seq": 2').decode())
    ledger.Ledger(tiny_home).append("org", "b", {})
    book = ledger.read(tiny_home)
    assert [row["key"] for row in book.rows[0:]] == ["a", "b"] and len(book.rows) == 3
    assert book.damage() == "the ledger was written by another hand: line 2"
    with pytest.raises(OrgError, match="line 2 is damaged"):
        _ = book.rows[1]


def test_a_line_that_is_none_is_one_problem(tiny_home: Home) -> None:
    writer = ledger.Ledger(tiny_home)
    writer.append("org", "a", {})
    files.append_line(tiny_home.ledger, '{"kind":"verdict"}')
    writer.append("org", "b", {})
    seals = [problem for problem in fidelity.problems(tiny_home) if problem["kind"] in ("seal", "tip")]
    assert [(problem["line"], problem["what"]) for problem in seals] == [(2, "is not a ledger line")]
    assert ledger.Ledger(tiny_home).refresh().rows.after(1)[0]["key"] == "b"


def test_a_ledger_of_our_own_shows_no_other_hand(measured: Home) -> None:
    assert ledger.read(measured).damage() == ""


def test_a_writer_killed_between_line_and_tip_leaves_no_problem(tiny_home: Home) -> None:
    ledger.Ledger(tiny_home).append("org", "a", {})
    code = "from org.lab import ledger; ledger.Ledger(home).append('org', 'b', {})"
    assert run(code, tiny_home, point="ledger.tip") == -signal.SIGKILL
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
    named = {"line": 2, "what": "differs from the record's copy", "kind": "record"}
    assert named in fidelity.problems(tiny_home)
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


def test_lines_are_named_by_their_number_in_the_file_where_one_before_is_unreadable(measured: Home) -> None:
    def said(home: Home) -> str:
        return " | ".join(f"{p['line']}: {p['what']}" for p in fidelity.problems(home))

    run = next(iter(ledger.read(measured).results))
    path = measured.run(run) / "result.json"
    files.replace_json(path, {**json.loads(path.read_text()), "seed": 77})
    line = ledger.read(measured).results.line(run)
    assert f"{line}: {run}: seed is" in said(measured)
    lines = measured.ledger.read_bytes().splitlines(keepends=True)
    measured.ledger.write_bytes(b"".join([lines[0], b"no line\n", *lines[1:]]))
    assert f"{line + 1}: {run}: seed is" in said(measured)
    clean = json.loads(lines[line - 1])
    clean["ended"] = "2099-01-01T00:00:00.000Z"
    measured.ledger.write_bytes(b"".join([b"no line\n", *lines[: line - 1], json.dumps(clean).encode() + b"\n"]))
    assert [p["line"] for p in fidelity.problems(measured) if p["kind"] == "clock"] == [line + 1]
    measured.ledger.write_bytes(b"".join([b"no line\n", *lines]).replace(b'"arm": "', b'"arm": 7, "x": "'))
    with pytest.raises(OrgError, match=f"line {line + 1} is no result: its arm cannot be 7"):
        _ = ledger.read(measured).results[run]


def test_a_charter_of_another_metric_is_refused_and_named(measured: Home, make_seat, edit) -> None:
    judged = [json.loads(line) for line in measured.ledger.read_bytes().splitlines() if b'"kind": "verdict"' in line]
    assert {row["metric"] for row in judged} == {"val_bpb:lower"}
    assert {row["charter"] for row in judged} == {charters.charter_hash(measured)}
    text = measured.charter.read_text()
    measured.charter.write_text(text.replace("direction: lower", "direction: higher"))
    seat = make_seat("late")
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.03")
    with pytest.raises(BadInput, match=r"metric is val_bpb:higher, and E0001 was judged by val_bpb:lower; .*org init"):
        gate.submit(measured, seat, "under another direction")
    assert len(ledger.read(measured).experiments) == 2 and not measured.contract("E0003").exists()
    with pytest.raises(BadInput, match="judged by"):
        ledger.Ledger(measured).append("verdict", "verdict:E0003", {"experiment": "E0003"})
    measured.charter.write_text(text)
    gate.submit(measured, seat, "under the same")
    row = json.loads(measured.ledger.read_bytes().splitlines()[-1])
    assert row["charter"] == charters.charter_hash(measured)
