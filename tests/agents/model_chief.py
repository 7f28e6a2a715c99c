"""A stand-in chief: splits the charter's knobs over the juniors, has tentative wins verified, moves who runs dry, answers.

A function of the conversation, through shell commands alone; who is given what is decided as the offline chief decides it.
"""

from __future__ import annotations

import re
import shlex

from agents.model_juniors import DRY, Junior
from agents.model_scripts import Reply
from agents.model_view import Heard

from org.agents import decisions
from org.agents import knobs as knobs_

STACK_OF = 3  # tentative wins of a program that are worth a stack at once
STACK_AFTER = 6  # verdicts after which one win is enough
KEPT = re.compile(
    r"^(E\d{4,})\s+(?:win|holds) \(tentative([^)]*)\)\s+\S+(?: ± \S+)?\s+\S+\s+\S+\s+(\S+)\s+(\S+)", re.MULTILINE
)


class Chief(Junior):
    def look_around(self) -> Reply | None:
        found = super().look_around()
        if found is None and not self.view.did("org idea"):
            return self.run("org idea")
        return found

    def work(self) -> Reply | None:
        for part in (self.assign, self.tell_person, self.pass_on, self.verify, self.move):
            found = part()
            if found is not None:
                return found
        return None

    # --- who does what

    def posts(self) -> list[decisions.Post]:
        groups: dict[str, list[str]] = {}
        for name, knob in self.view.knobs.items():
            groups.setdefault(knob.group, []).append(name)
        return decisions.split(groups, self.view.juniors)

    def assign(self) -> Reply | None:
        if not self.view.juniors and not self.view.did("sleep 2", is_now=True):
            return self.run("sleep 2; org status --json")  # a launch adds seats one by one
        for post in self.posts():
            if not self.view.did(f"org send {post.seat} --kind task"):
                return self.task(post.seat, post.program, post.knobs, self.ideas(post.knobs))
        return None

    def task(self, seat: str, program: str, knobs: tuple[str, ...], more: str = "") -> Reply:
        letter = (
            f"Program {program}.\nKnobs: {', '.join(knobs)}\n"
            f"First question: does {knobs[0] if knobs else 'anything here'} stand where it should? An effect below the charter's "
            f"margin would not matter.\n{more}One change an experiment; predict before you run."
        )
        return self.run(
            f"org seat {seat} --program {program} && org send {seat} --kind task - <<'EOF'\n{letter}\nEOF",
            f"{seat} gets {program}.",
        )

    def ideas(self, knobs: tuple[str, ...]) -> str:
        shown = "\n".join(one.result or "" for one in self.view.did("org idea"))
        lines = [line for line in shown.splitlines() if re.search(r"\bI\d{4,}\b", line)]
        return "".join(f"First, idea {line.strip()[:200]}\n" for line in lines if knobs_.named_in(line, knobs))

    def extra(self) -> Reply | None:
        return None

    def tell_person(self) -> Reply | None:
        if not self.view.juniors or self.view.did("org send human --kind report 'The split"):
            return None
        split = "; ".join(f"{post.seat}: {post.program}" for post in self.posts())
        return self.run(f"org send human --kind report {shlex.quote(f'The split is made. {split}.')}")

    def pass_on(self) -> Reply | None:
        """What the person wants tried goes to who owns that knob."""
        owners = {name: post.seat for post in self.posts() for name in post.knobs}
        said = [(letter.id, letter.body) for letter in self.view.orders() if letter.kind != "question"]
        for name, text in [*said, ("pane", self.view.typed)]:
            for knob, value in knobs_.settings_in(text, self.view.knobs):
                wish = f"Try {knob.name}={value} next; the person asks for it ({name})."
                if knob.name in owners and not self.view.did(wish):
                    return self.run(f"org send {owners[knob.name]} --kind note {shlex.quote(wish)}")
        return None

    # --- what came of it

    def verify(self) -> Reply | None:
        """One stack a program at a time is enough: what it was asked of stands behind the command."""
        if not self.view.now or not self.view.verdicts:
            return None
        if not self.view.did("org results --kept", is_now=True):
            return self.run("org results --kept")
        shown = self.view.did("org results --kept", is_now=True)[-1].result or ""
        waiting: dict[str, list[str]] = {}
        for name, marks, program, _ in KEPT.findall(shown):
            if not re.search(r"credited|left|no credit", marks) and not self.view.did(f"# {name}"):
                waiting.setdefault(program, []).append(name)
        for program, names in waiting.items():
            if self.view.did(f"org stack {program} ", is_now=True):
                continue
            dry = [letter for letter in self.view.letters if letter.kind == "report" and DRY in letter.body]
            if len(names) >= STACK_OF or len(self.view.verdicts) >= STACK_AFTER or dry:
                return self.run(
                    f"org stack {program} --no-wait # {' # '.join(names)}", f"{program} is worth verifying."
                )
        return None

    def move(self) -> Reply | None:
        """Who says that it is dry gets the knobs of another group, twice at most."""
        for letter in self.view.letters:
            if letter.kind != "report" or not letter.is_verified or DRY not in letter.body:
                continue
            given = self.view.did(f"org send {letter.sender} --kind task")
            asked = [old for old in self.view.letters if old.sender == letter.sender and DRY in old.body]
            posts = self.posts()
            place = next((at for at, post in enumerate(posts) if post.seat == letter.sender), None)
            if place is None or len(given) > min(len(asked), 2):
                continue
            other = posts[(place + len(given)) % len(posts)]
            if other.seat != letter.sender:
                return self.task(letter.sender, other.program, other.knobs, f"You move because your {DRY}.\n")
        return None

    def report(self, letter: Heard | None) -> str:
        view = self.view
        judged = {name: view.outcome(name) for name in view.verdicts}
        wins = [name for name, outcome in judged.items() if outcome in ("win", "holds")]
        lost = [name for name, outcome in judged.items() if outcome not in ("win", "holds", "")]
        won = ", ".join(f"{name} {{{name}.effect}}" for name in wins[-5:]) or "no win yet"
        refuted = f"{', '.join(lost[-4:])} refuted what their authors predicted" if lost else "nothing was refuted yet"
        return (
            f"Did: {len(judged)} verdicts read; {won}.\nLearned: {refuted}.\nNext: verify what is tentative in stacks."
        )

    def closing(self) -> str:
        return "The juniors are at work; I act when a verdict changes a decision."
