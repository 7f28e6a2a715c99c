"""`python -m storm.post HOME SENDER LOG SEED`: sends letters without end, each under an id it has written down before.

Killed anywhere and started again it first sends again what it does not know to be there, under the same id. SIGTERM ends it
after the letter in hand. With `finish` as a fifth word it sends nothing new.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from org import files
from org.errors import OrgError
from org.home import Home
from org.team import mail

TO = ("chief", "j1", "j2", "j3", "j4", "j4", "j5", "j5", "human", "human", "junior", "all")
FINISH_S = 60.0
KINDS = ("note", "note", "note", "report", "question")


def body_of(letter: str) -> str:
    """The text of the letter with this id: the reader of a file can tell whether all of it is there."""
    size = int(hashlib.sha256(letter.encode()).hexdigest()[:4], 16) % 3000
    return f"chaos letter {letter}\n" + "".join(f"{letter} {n}\n" for n in range(size // 12)) + f"end of {letter}\n"


def load(log: Path) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Letters that were tried, and the boxes of those that are known to be delivered."""
    tried: dict[str, dict[str, Any]] = {}
    sent: dict[str, list[str]] = {}
    for row in files.read_lines(log)[0]:
        if row["do"] == "try":
            tried[row["id"]] = row
        elif row["do"] == "sent":
            sent[row["id"]] = row["boxes"]
    return tried, sent


def send(home: Home, log: Path, row: dict[str, Any]) -> bool:
    try:
        letters = mail.send(home, row["from"], row["to"], body_of(row["id"]), row["kind"], letter_id=row["id"])
    except (OSError, OrgError) as error:
        files.append_line(log, json.dumps({"do": "failed", "id": row["id"], "why": str(error)[:200]}))
        return False
    files.append_line(log, json.dumps({"do": "sent", "id": row["id"], "boxes": [letter.to for letter in letters]}))
    return True


def main(home: Home, sender: str, log: Path, seed: int, is_last: bool) -> int:
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    tried, sent = load(log)
    left = [row for letter, row in tried.items() if letter not in sent]
    dice = random.Random(f"{seed} {sender} {len(tried)}")
    end = time.monotonic() + FINISH_S
    while left and (is_last or not ending) and time.monotonic() < end:
        left = [row for row in left if not send(home, log, row)]
        time.sleep(0.1 if left else 0)
    number = len(tried)
    while not is_last and not ending:
        number += 1
        row = {"do": "try", "id": f"c-{sender}-{number:05d}", "from": sender, "to": dice.choice(TO)}
        row["kind"] = dice.choice(KINDS)
        files.append_line(log, json.dumps(row))
        while not send(home, log, row) and not ending:
            time.sleep(0.2)
        time.sleep(dice.expovariate(1.5))
    return 1 if left else 0


if __name__ == "__main__":
    words = sys.argv[1:]
    os.nice(5)
    sys.exit(main(Home(Path(words[0])), words[1], Path(words[2]), int(words[3]), "finish" in words[4:]))
