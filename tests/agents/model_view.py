"""What a stand-in researcher knows from a conversation alone: what it ran, what came back, its letters, the charter's knobs.

It keeps nothing between requests. Where a program compacts its context, what it must not forget goes into the summary.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml
from agents.model_dialogue import REMINDER, Piece, Request

from org.agents import knobs as knobs_
from org.records import Knob

BELL = re.compile(r"You have (?:a letter|\d+ letters) \(|Run `org brief`|\bNew mail\b")
STEERED = "The user sent a new message while you were working:"  # Claude Code, at the end of a tool's result
COMPACT = re.compile(
    r"CONTEXT CHECKPOINT COMPACTION|detailed summary of (?:the|this|our) conversation|summar(?:y|ize) (?:of )?the conversation",
    re.IGNORECASE,
)
MEMO = "What I must not forget: "
KEPT_IN_MEMO = re.compile(r"org (?:brief|run|stack|send|inbox|status|seat)\b|charter\.yaml|\bsed -i|^grep ")
HEAD = re.compile(
    r"^(?P<id>[a-z0-9][a-z0-9_-]{0,40})  (?P<kind>task|report|question|review|note|verdict) from (?P<sender>[a-z0-9_-]+)"
    r"(?P<unverified> \(unverified\))?(?:  about (?P<about>\S+))?(?:  answers (?P<answers>\S+))?  \d{4}-\d\d-\d\dT\S+$",
    re.MULTILINE,
)
FILED = re.compile(r"^(E\d{4,}) ", re.MULTILINE)
FULL = re.compile(r"waiting already|is busy")  # no room in the queue: the same can be filed later
EDIT = re.compile(r"s/\^\((\w+) = \)\[\^ #\]\+/\\1(.*?)/")
KNOB = re.compile(r"^ {1,8}([A-Za-z_]\w*): (\{path: .*\})\s*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """A command, and what it printed (None: it is not known). `is_now`: in the turn that goes on."""

    command: str
    result: str | None
    is_now: bool = False


@dataclass(frozen=True)
class Heard:
    """A letter as `org inbox` shows it."""

    id: str
    kind: str
    sender: str
    is_verified: bool
    about: str | None
    body: str


class View:
    def __init__(self, request: Request) -> None:
        self.request = request

    # --- what happened

    @cached_property
    def ran(self) -> list[Ran]:
        """Every command so far, oldest first; those of a compacted past from the memo in its summary."""
        pieces, turn = self.request.pieces, self.request.turn
        results = {piece.id: piece.text for piece in pieces if piece.who == "result"}
        first = len(pieces) - len(turn)
        found: list[Ran] = []
        for at, piece in enumerate(pieces):
            if piece.who == "user" and MEMO in piece.text:
                found += _remembered(piece.text)
            elif piece.who == "user" and HEAD.search(piece.text):  # a program that hands letters on by itself
                found.append(Ran("org inbox", piece.text, at >= first))
            elif piece.who == "call":
                found.append(Ran(_command(piece), results.get(piece.id), at >= first))
        return found

    @cached_property
    def now(self) -> list[Ran]:
        return [one for one in self.ran if one.is_now]

    def did(self, words: str, *, is_now: bool = False) -> list[Ran]:
        """The commands that contain `words`."""
        return [one for one in (self.now if is_now else self.ran) if words in one.command]

    @cached_property
    def is_rung(self) -> bool:
        """The doorbell rang, or the session began, and the mail was not read since."""
        rung = False
        for piece in self.request.turn:
            if piece.who == "call" and "org inbox" in _command(piece):
                rung = False
            elif piece.who in ("user", "result"):
                told = piece.text if piece.who == "user" else piece.text.partition(STEERED)[2]
                rung = rung or bool(BELL.search(told))
        return rung

    @cached_property
    def typed(self) -> str:
        """What a person typed in this turn, the doorbell's lines left out."""
        texts = [REMINDER.sub("", piece.text) for piece in self.request.turn if piece.who == "user"]
        marks = (BELL, HEAD)
        own = (text for text in texts if MEMO not in text and not any(mark.search(text) for mark in marks))
        return "\n".join(text.strip() for text in own if text.strip())

    @property
    def wants_summary(self) -> bool:
        last = self.request.pieces[-1] if self.request.pieces else None
        return last is not None and last.who == "user" and bool(COMPACT.search(last.text))

    def summary(self) -> str:
        """For a compaction: words, and the commands from which the work can go on."""
        rows = [[one.command, (one.result or "")[:1500]] for one in self.ran if KEPT_IN_MEMO.search(one.command)]
        while len(json.dumps(rows)) > 60_000:
            rows.pop(len(rows) // 2)
        return f"I did what my letters say and go on when the next one comes.\n{MEMO}{json.dumps(rows)}"

    # --- letters

    @cached_property
    def letters(self) -> list[Heard]:
        """Every letter that was read, oldest first, each once."""
        found: dict[str, Heard] = {}
        for one in self.ran:
            if one.result and "org inbox" in one.command:
                for letter in letters_in(one.result):
                    found.setdefault(letter.id, letter)
        return list(found.values())

    def orders(self, *senders: str) -> list[Heard]:
        """Verified letters of the person's and these senders', tasks and notes."""
        return [letter for letter in self.letters if letter.is_verified and letter.sender in ("human", *senders)]

    @property
    def unanswered(self) -> list[Heard]:
        asked = [letter for letter in self.letters if letter.kind == "question" and letter.is_verified]
        return [letter for letter in asked if not self.did(f"--reply-to {letter.id}")]

    @cached_property
    def verdicts(self) -> dict[str, Heard]:
        """Experiment -> the letter with its verdict."""
        return {letter.about: letter for letter in self.letters if letter.kind == "verdict" and letter.about}

    def outcome(self, experiment: str) -> str:
        """`win`, `null` and so on, as the verdict's letter says; empty before it."""
        letter = self.verdicts.get(experiment)
        found = re.match(rf"{experiment} ([a-z]+)", letter.body) if letter else None
        return found[1] if found else ""

    # --- experiments

    @cached_property
    def filed(self) -> list[str]:
        return list(dict.fromkeys(name for one in self.did("org run ") for name in FILED.findall(one.result or "")))

    @property
    def open(self) -> list[str]:
        return [name for name in self.filed if name not in self.verdicts]

    @property
    def wins(self) -> list[str]:
        return [name for name in self.filed if self.outcome(name) in ("win", "holds")]

    @cached_property
    def tried(self) -> list[tuple[str, str]]:
        """(constant, value as written) of every edit that the gate answered, refusals for other reasons than room included."""
        found, edits = [], []
        for one in self.ran:
            if matches := EDIT.findall(one.command):
                edits = matches
            elif "org run " in one.command and edits:
                if one.result is None or not FULL.search(one.result) or FILED.search(one.result):
                    found += edits
                edits = []
        return found

    @property
    def known(self) -> list[tuple[str, str]]:
        """(constant, value) of the experiments that the last `org results` of this turn showed."""
        shown = next((one.result or "" for one in reversed(self.now) if "org results" in one.command), "")
        return re.findall(r"(\w+) \S+\u2192([^\s,;]+)", shown)

    @property
    def changed(self) -> dict[str, str]:
        """Experiment -> what was changed, as its filing printed it."""
        shown = "\n".join(one.result or "" for one in self.did("org run "))
        return dict(re.findall(r"^(E\d{4,}) (.*?)(?: \(|$)", shown, re.MULTILINE))

    # --- the charter

    @cached_property
    def knobs(self) -> dict[str, Knob]:
        """The charter's knobs, as `cat charter.yaml` printed them."""
        found = {}
        for one in self.did("charter.yaml"):
            for name, text in KNOB.findall(one.result or ""):
                try:
                    row = yaml.safe_load(text)
                    found[name] = Knob(**{"name": name, **row, "choices": tuple(row.get("choices") or ())})
                except (yaml.YAMLError, TypeError, AttributeError):
                    continue  # not a charter's line
        return found

    @property
    def constants(self) -> dict[str, tuple[str, knobs_.Value]]:
        """Knob -> the constant's name and value, as the last `grep` of this turn showed them."""
        shown = next((one.result or "" for one in reversed(self.now) if "grep -" in one.command), "")
        found = {}
        for name in self.knobs:
            value = knobs_.read(shown, name)
            if value is not None:
                found[name] = (knobs_.spelled(shown, name), value)
        return found

    @cached_property
    def juniors(self) -> list[str]:
        shown = next((one.result or "" for one in reversed(self.ran) if "org status --json" in one.command), "")
        return re.findall(r'"name": "([a-z0-9_-]+)",\s*"role": "junior"', shown)

    @cached_property
    def chief(self) -> str | None:
        for one in reversed(self.did("org status --json")):
            if found := re.search(r'"name": "([a-z0-9_-]+)",\s*"role": "chief"', one.result or ""):
                return found[1]
        return None


def edit(changes: list[tuple[str, Any]], path: str) -> str:
    """The command that sets constants and touches nothing else, comments included."""
    scripts = [f"s/^({name} = )[^ #]+/\\1{literal(value)}/" for name, value in changes]
    return (
        f"sed -i -E {' '.join(f'-e {shlex.quote(script)}' for script in scripts)} {shlex.quote(path)} && git diff -U0"
    )


def literal(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _command(piece: Piece) -> str:
    """The command of a shell's call; of another tool's the name and its arguments."""
    try:
        arguments = json.loads(piece.text)
    except ValueError:
        arguments = None
    if isinstance(arguments, dict):
        for field in ("command", "cmd"):
            if isinstance(arguments.get(field), str):
                return str(arguments[field])
    return f"{piece.name} {piece.text}"


def letters_in(text: str) -> Iterator[Heard]:
    heads = list(HEAD.finditer(text))
    for at, head in enumerate(heads):
        end = heads[at + 1].start() if at + 1 < len(heads) else len(text)
        body = text[head.end() : end].strip()
        yield Heard(head["id"], head["kind"], head["sender"], not head["unverified"], head["about"], body)


def _remembered(text: str) -> list[Ran]:
    try:
        rows, _ = json.JSONDecoder().raw_decode(text.partition(MEMO)[2].lstrip())
        return [Ran(str(command), str(result)) for command, result in rows]
    except (ValueError, TypeError):
        return []  # somebody shortened it
