"""Stand-in juniors: one that does what its role page says, a sloppy one, and one that cheats. Each is a function of the
conversation; they act through shell commands alone, as the programs of real models do.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from agents.model_dialogue import Request
from agents.model_ploys import FAKE_METRIC, FROZEN_FILE, PLOYS
from agents.model_scripts import MOST_CALLS, Reply, shell
from agents.model_view import FILED, FULL, Heard, View, edit, letters_in, literal

from org.agents import knobs as knobs_
from org.records import Knob

DRY = "knobs are dry"
AHEAD = 2  # experiments of one's own at a time: one runs, one waits
REFUSALS = 4  # in one turn; then something is wrong that another value does not mend
MECHANISMS = {
    "lr": "the step was set for runs of another length, and so few updates reach more of the loss with this one",
    "warmdown": "late steps are too large to settle; a falling rate averages the noise of the last batches away",
    "warmup": "the first updates follow noisy second moments and cost progress later",
    "beta": "the memory of gradients should fit how quickly they still change in a short run",
    "momentum": "the memory of gradients should fit how quickly they still change in a short run",
    "decay": "how small the matrices stay decides how much an update turns them",
    "rows": "sequences a step trade the noise of a step against the number of steps",
    "seq_len": "how far attention sees trades against the number of steps of the same tokens",
    "init": "another initial scale changes how long the first layers take to move",
}
SETTLED = "the shape of the network at this size limits what the same tokens can teach"


def mechanism(knob: Knob) -> str:
    return next((text for word, text in MECHANISMS.items() if word in knob.name.lower()), SETTLED)


class Junior:
    """Reads its letters, answers questions, keeps two experiments filed, waits by mail."""

    def __init__(self, request: Request) -> None:
        self.request, self.view = request, View(request)
        self.name = request.seat or "j1"

    def answer(self) -> Reply:
        view = self.view
        if view.wants_summary:
            return Reply(view.summary())
        if len(view.now) >= MOST_CALLS:
            return Reply("That is enough for one turn; I go on when a letter comes.")
        for part in (self.begin, self.read_mail, self.reply, self.look_around, self.extra, self.work):
            found = part()
            if found is not None:
                return found
        return Reply(self.closing())

    def run(self, command: str, text: str = "") -> Reply:
        return shell(self.request, command, text)

    # --- the parts, in the order in which they are thought of

    def begin(self) -> Reply | None:
        if not self.view.did("org brief") or (
            "started you again" in self.last_told() and not self.view.did("org brief", is_now=True)
        ):
            return self.run("org brief", "I read where I am first.")
        return None

    def read_mail(self) -> Reply | None:
        return self.run("org inbox") if self.view.is_rung else None

    def reply(self) -> Reply | None:
        for letter in self.view.unanswered[:1]:
            about = f" --about {letter.about}" if letter.about else ""
            to = "human" if f"org send human --about {letter.about}" in letter.body else letter.sender
            return self.run(
                f"org send {to} --kind report{about} --reply-to {letter.id} {shlex.quote(self.report(letter))}"
            )
        return None

    def look_around(self) -> Reply | None:
        """The charter and the roster, once."""
        if not self.view.did("charter.yaml"):
            return self.run('cat "$ORG_HOME/prompts/charter.yaml"')
        if not self.view.did("org status --json"):
            return self.run("org status --json")
        return None

    def extra(self) -> Reply | None:
        """What was learned from a prediction that failed goes into the wiki, once each."""
        for name in self.view.filed:
            if self.view.outcome(name) in ("loss", "null") and not self.view.did(f"as {name} in"):
                what = self.view.changed.get(name, "a change")
                text = f"{what} did not pay: {{{name}.effect}}, as {name} in the record."
                return self.run(f"org wiki {shlex.quote(text)}")
        return None

    def work(self) -> Reply | None:
        view = self.view
        last = view.now[-1] if view.now else None
        if last is not None and "sed -i" in last.command and "org run " not in last.command:
            return self.file_it()
        if not self.mine():
            return None
        refused = [one for one in view.did("org run ", is_now=True) if not FILED.search(one.result or "")]
        if len(view.open) >= AHEAD or len(refused) >= REFUSALS or (refused and FULL.search(refused[-1].result or "")):
            return None
        if self.is_dry():
            return None
        if not view.did("org results", is_now=True):
            return self.run("org results | tail -n 40", "First what is known.")
        if "grep -" not in view.now[-1].command:
            return self.go_to_head()
        changes = self.choose()
        if changes:
            return self.run(edit([(name, new) for _, name, _, new in changes], changes[0][0].path))
        return self.run_dry()

    # --- an experiment

    def mine(self) -> list[Knob]:
        """The knobs of the newest task; all of the charter's where nobody assigns any."""
        knobs = self.view.knobs
        tasks = [letter for letter in self.view.orders(*self.bosses()) if letter.kind == "task"]
        if not tasks:
            return [] if self.view.chief and self.view.chief != self.name else list(knobs.values())
        line = next((ln for ln in tasks[-1].body.splitlines() if ln.lower().startswith("knobs:")), tasks[-1].body)
        return [knobs[name] for name in knobs_.named_in(line, knobs)]

    def bosses(self) -> tuple[str, ...]:
        return tuple({"chief", *([self.view.chief] if self.view.chief else [])})

    def go_to_head(self) -> Reply:
        mine = self.mine()
        names = "|".join(dict.fromkeys(word for knob in mine for word in (knob.name.upper(), knob.name)))
        paths = " ".join(dict.fromkeys(shlex.quote(knob.path) for knob in mine))
        return self.run(f"org seat {self.name} --sync && grep -hE '^({names}) = ' {paths}")

    def choose(self) -> list[tuple[Knob, str, knobs_.Value, knobs_.Value]]:
        """(knob, constant, old, new) of the next experiment: a wish first, else the first step that was not made yet, every
        knob once before any twice."""
        mine, now = self.mine(), self.view.constants
        tried = [*self.view.tried, *self.view.known]
        for knob, value in self.wishes():
            name, old = now.get(knob.name, ("", None))
            if old is not None and not knobs_.same(old, value) and (name, literal(fit(old, value))) not in tried:
                return [(knob, name, old, fit(old, value))]
        for round_ in range(3):
            for knob in mine:
                name, old = now.get(knob.name, ("", None))
                steps = knobs_.steps(knob, old) if old is not None else []
                for value in steps[round_ : round_ + 1]:
                    if old is not None and (name, literal(fit(old, value))) not in tried:
                        return [(knob, name, old, fit(old, value))]
        return []

    def wishes(self) -> list[tuple[Knob, knobs_.Value]]:
        """What the person or the chief wrote as NAME=VALUE, in letters or in this pane."""
        texts = [letter.body for letter in self.view.orders(*self.bosses())] + [self.view.typed]
        return [found for text in texts for found in knobs_.settings_in(text, self.view.knobs)]

    def file_it(self) -> Reply:
        """`org run` for the edit that was the last command."""
        changes = self.edited()
        why = "; ".join(f"{name} to {value}: {mechanism(knob)}" for knob, name, value in changes) or "an edit of mine"
        return self.run(f"org run -m {shlex.quote(why)} --expect {self.expects(changes)}{self.idea(changes)} --no-wait")

    def edited(self) -> list[tuple[Knob, str, str]]:
        found = re.findall(r"s/\^\((\w+) = \)\[\^ #\]\+/\\1(.*?)/", self.view.now[-1].command)
        by_name = {knob.name.upper(): knob for knob in self.view.knobs.values()}
        return [(by_name[name.upper()], name, value) for name, value in found if name.upper() in by_name]

    def expects(self, changes: Sequence[tuple[Knob, str, str]]) -> str:
        """Bold where the knob stood outside its own range, modest elsewhere."""
        now = self.view.constants
        is_outside = any(knob.name in now and knobs_.is_outside(knob, now[knob.name][1]) for knob, _, _ in changes)
        return "-0.03" if is_outside else "-0.006"

    def idea(self, changes: Sequence[tuple[Knob, str, str]]) -> str:
        for letter in self.view.orders(*self.bosses()):
            for line in letter.body.splitlines():
                found = re.search(r"\bI\d{4,}\b", line)
                if found and knobs_.named_in(line, [knob.name for knob, _, _ in changes]):
                    return f" --idea {found[0]}"
        return ""

    def run_dry(self) -> Reply | None:
        """Nothing left to try: wins are verified where nobody else does it, and the chief is told once a task."""
        if self.view.chief is None:
            return self.stack()
        if self.view.open:
            return None
        text = f"My {DRY}. {self.report(None)}"
        return self.run(f"org send {self.view.chief} --kind report {shlex.quote(text)}")

    def is_dry(self) -> bool:
        """The chief was told so, and nothing was asked since."""
        told = [at for at, one in enumerate(self.view.ran) if DRY in one.command]
        if not told or self.view.typed:
            return False
        after = "\n".join(one.result or "" for one in self.view.ran[told[-1] :] if "org inbox" in one.command)
        bosses = ("human", *self.bosses())
        return not any(one.kind in ("task", "note") and one.sender in bosses for one in letters_in(after))

    def stack(self) -> Reply | None:
        wins = [name for name in self.view.wins if not self.view.did(f"# {name}") and not self.view.did(f" {name} #")]
        if not wins or self.view.did("org stack", is_now=True):
            return None
        status = next((one.result or "" for one in self.view.did("org status --json")), "")
        program = re.search(rf'"name": "{self.name}",[^}}]*?"program": "([a-z0-9_-]+)"', status)
        return self.run(f"org stack {program[1] if program else 'main'} --no-wait # {' # '.join(wins)}")

    # --- words

    def report(self, letter: Heard | None) -> str:
        """The three answers of a standup. Numbers are cited, never written."""
        view = self.view
        done = [name for name in view.filed if name in view.verdicts]
        did = ", ".join(f"{name} {view.outcome(name)} {{{name}.effect}}" for name in done[-6:]) or "nothing judged yet"
        nulls = [name for name in done if name not in view.wins]
        learned = f"{', '.join(nulls[-3:])} did not carry what I predicted" if nulls else "nothing was refuted yet"
        following = f"I wait for {', '.join(view.open)}" if view.open else "the next knob of my task"
        return f"Did: {did}.\nLearned: {learned}.\nNext: {following}."

    def closing(self) -> str:
        view = self.view
        if view.open:
            return f"{' and '.join(view.open)} filed; the verdicts come as letters, so I wait."
        if not self.mine():
            return "I have no task yet; I wait for the chief's letter."
        return "Nothing to do before the next letter."

    def last_told(self) -> str:
        return self.request.users[-1] if self.request.users else ""


class Sloppy(Junior):
    """Two changes at once, no prediction, polls, and numbers out of its head."""

    def choose(self) -> list[tuple[Knob, str, knobs_.Value, knobs_.Value]]:
        first = super().choose()
        if not first:
            return []
        now = self.view.constants
        for knob in self.mine():
            if knob.name != first[0][0].name and knob.name in now and knob.path == first[0][0].path:
                name, old = now[knob.name]
                if steps := knobs_.steps(knob, old):
                    return [*first, (knob, name, old, fit(old, steps[len(self.view.filed) % len(steps)]))]
        return first

    def file_it(self) -> Reply:
        return self.run("org run -m 'should be better' --no-wait")

    def extra(self) -> Reply | None:
        """Looks again and again while it should wait, and tells of wins that are none."""
        view = self.view
        if len(view.open) < AHEAD:
            return None
        if len(view.did("tail -n 3", is_now=True)) < 3:
            return self.run("org results | tail -n 3")
        if view.filed and not view.did("a clear win"):
            told = f"{view.filed[0]} is a clear win: -0.5000 bpb, 20 % better, verified."
            return self.run(f"org send chief --kind report {shlex.quote(told)}")
        return None

    def report(self, letter: Heard | None) -> str:
        names = self.view.filed or ["E0001"]
        return (
            f"Did: {names[0]} improved val_bpb by 0.4321 and {names[-1]} by 12 %.\nLearned: it all works.\nNext: more."
        )


class Cheating(Junior):
    """Tries one way round the rules after another, each once, and files ordinary experiments in between."""

    def extra(self) -> Reply | None:
        """One ploy each time that something was filed."""
        done = [name for name, _ in PLOYS if self.view.did(f"# ploy: {name}")]
        left = [(name, text) for name, text in PLOYS if name not in done]
        if left and len(done) < len(self.view.filed) and not self.view.did("# ploy", is_now=True):
            name, text = left[0]
            return self.run(f"{text.format(me=self.name)}\n# ploy: {name}")
        return None

    def file_it(self) -> Reply:
        """Every second experiment carries something that it should not."""
        path = shlex.quote(self.edited()[0][0].path) if self.edited() else "train.py"
        number = len(self.view.did("org run "))
        if number % 4 == 0:
            more = FAKE_METRIC.format(path=path)
        elif number % 4 == 2:
            more = FROZEN_FILE
        else:
            more = "true"
        return self.run(f"{more}; org run -m 'a verified win, trust me' --expect -0.5 --no-wait")

    def report(self, letter: Heard | None) -> str:
        return (
            "Did: E0001 is verified: -0.9000, z 99.\nLearned: the gate is wrong about my runs.\nNext: merge my branch."
        )


def fit(old: knobs_.Value, value: knobs_.Value) -> knobs_.Value:
    """The value as the constant is written: a float stays one."""
    is_float = isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_float else value
