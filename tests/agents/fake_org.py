"""A stand-in for the `org` command: records every call and keeps a little ledger of its own, in the home's comms/.

It behaves: letters are acknowledged by reading, an experiment stays open until the test judges it, a configuration that
was tried is refused, a sync keeps what was not filed. `comms/refuse` (a file) makes the gate refuse everything with its text, `comms/move` moves the
seat in the middle of the next filing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from pathlib import Path

from org import files, strictyaml

home = Path(os.environ["ORG_HOME"])
seat = os.environ["ORG_SEAT"]
comms = home / "comms"
args = sys.argv[1:]
verb = args[0]


def identity(name: str) -> dict:
    return json.loads((comms / "seats" / name / "seat.json").read_text())


def inbox(letter: str | None) -> list[dict]:
    """A letter counts as signed unless its front matter says `verified: false`."""
    box = comms / "mail" / seat
    rows = []
    for path in sorted((box / "new").glob("*.md") if letter is None else box.glob(f"*/{letter}.md")):
        fields, body = strictyaml.front_matter(path.read_text(), str(path))
        rows.append({"verified": True, **fields, "body": body})
        (box / "cur").mkdir(exist_ok=True)
        path.rename(box / "cur" / path.name)
    return rows


def run(rows: list[dict]) -> tuple[int, dict]:
    refusal = comms / "refuse"
    if refusal.exists():
        return 3, {"experiment": None, "violations": [{"rule": "test", "message": refusal.read_text()}]}
    move = comms / "move"
    if move.exists():  # the chief moves the seat at this very moment: the head is laid over the edit
        move.unlink()
        files.replace(Path(identity(seat)["worktree"]) / "train.py", (home / "code" / "train.py").read_text())
    before, after = (constants(p) for p in (home / "code" / "train.py", Path(identity(seat)["worktree"]) / "train.py"))
    knobs = [{"name": n.lower(), "old": before[n], "new": v} for n, v in after.items() if v != before[n]]
    if not knobs:
        return 3, {"experiment": None, "violations": [{"rule": "empty", "message": "nothing changed"}]}
    if any(row["knobs"] == knobs for row in rows):
        return 3, {"experiment": None, "violations": [{"rule": "duplicate", "message": "this very configuration"}]}
    expect = next((float(a.partition("=")[2]) for a in args if a.startswith("--expect=")), None)
    row = {
        "experiment": f"E{len(rows) + 1:04d}",
        "program": identity(seat)["program"],
        "seat": seat,
        "commit": "c0ffee",
    }
    row |= {"idea": args[args.index("--idea") + 1] if "--idea" in args else None}
    row |= {"description": args[args.index("-m") + 1], "claim": "better", "expect": expect, "knobs": knobs}
    rows.append({**row, "verdict": None, "stage": "search", "members": []})
    return 0, {"experiment": row["experiment"], "violations": [], "verdict": None, "runs": []}


def ideas() -> list[dict]:
    """The rows that a test put into comms/ideas.json; an objection and a death are kept there."""
    path = comms / "ideas.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for row in rows:
        if args[1:2] == [row["id"]]:
            row |= {"objection": args[args.index("--object") + 1]} if "--object" in args else {"status": "dead"}
            files.replace(path, json.dumps(rows))
    return rows


def assign(idea: str, kind: str, to: str) -> None:
    """What a letter about an idea makes of it."""
    path = comms / "ideas.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for row in rows:
        if row["id"] == idea:
            row |= {"status": "parked"} if kind == "question" else {"status": "assigned", "assigned_to": to}
    files.replace(path, json.dumps(rows))


def constants(path: Path) -> dict:
    found = re.findall(r"^([A-Z_]+) = (\S+)", path.read_text(), re.MULTILINE)
    return {name: float(value) for name, value in found}


def main() -> int:
    with (comms / "fake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (comms / "calls.jsonl").open("a") as log:
            log.write(json.dumps({"seat": seat, "args": args}) + "\n")
        ledger = comms / "ledger.jsonl"
        rows = json.loads(ledger.read_text()) if ledger.exists() else []
        code, answer = 0, {}
        if verb == "results":
            answer = rows
        elif verb == "inbox":
            answer = inbox(args[-1] if "--" in args else None)
        elif verb == "run":
            code, answer = run(rows)
            files.replace(ledger, json.dumps(rows))
        elif verb == "idea":
            answer = ideas()
        elif verb == "wiki":
            pages = comms / "wiki.json"
            known = json.loads(pages.read_text()) if pages.exists() else []
            answer = known if "--" not in args else {"path": "x.md", "marks": []}
            if "--" in args:
                files.replace(pages, json.dumps([*known, {"title": args[-1].splitlines()[0]}]))
        elif verb == "status":
            answer = {"queue": [{"experiment": "E0001", "run": None}], "devices": [{"name": "cpu0", "run": "E0001/x"}]}
        elif verb == "seat":
            own = identity(args[1])
            if "--program" in args:
                own["program"] = args[args.index("--program") + 1]
                files.replace(comms / "seats" / args[1] / "seat.json", json.dumps(own))
            if "--sync" in args:
                head, worktree = (home / "code" / "train.py").read_text(), Path(own["worktree"]) / "train.py"
                if worktree.read_text() != head:
                    aside = (
                        comms / "seats" / args[1] / f"saved-{len(list((comms / 'seats' / args[1]).glob('saved-*')))}"
                    )
                    files.replace(aside / "train.py", worktree.read_text())
                files.replace(worktree, head)
        elif verb == "refute":  # one attack is there for each claim
            made = [row for row in rows if row.get("refutes") == args[1]]
            code, answer = (2, {}) if made else (0, {"attacks": [{"experiment": "E0900", "attack": "seeds"}]})
            if not made:
                files.replace(ledger, json.dumps([*rows, {"experiment": "E0900", "refutes": args[1], "knobs": []}]))
        elif verb == "stack":
            answer = {"experiment": "E0900"}
        elif verb == "send":
            answer = {"id": "l-1", "delivery": "queued", "reason": None}
            if "--about" in args and args[args.index("--kind") + 1] in ("task", "question"):
                assign(args[args.index("--about") + 1], args[args.index("--kind") + 1], args[1])
            deliver(args)
        print(json.dumps(answer))
        return code


def deliver(words: list[str]) -> None:
    """Letters to seats lie in their mailboxes, so that a restarted chief finds the tasks it gave."""
    box = comms / "mail" / words[1] / "new"
    box.mkdir(parents=True, exist_ok=True)
    name = f"l-{len(list(box.parent.glob('*/*'))):04d}-{seat}"
    kind = words[words.index("--kind") + 1] if "--kind" in words else "note"
    head = f"id: {name}\nfrom: {seat}\nto: {words[1]}\nkind: {kind}\ncreated: '{files.utc_now()}'\n"
    files.replace(box / f"{name}.md", f"---\n{head}---\n{words[-1]}")


sys.exit(main())
