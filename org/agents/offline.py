"""`python -m org.agents.offline`: a researcher that needs no network, at a terminal. This file is the junior's edge.

It chooses one knob change after another (`search`), edits that constant in its worktree, files it with `org run` and learns
from the verdicts. It keeps nothing between starts: letters, results and the worktree say where it was.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections import deque
from pathlib import Path
from typing import Any

from org import files
from org.agents import decisions, reasons, search
from org.agents import knobs as knobs_
from org.agents.brain import Brain, heard
from org.agents.decisions import Decision
from org.agents.knobs import Value
from org.agents.repl import Repl
from org.agents.search import Proposal, Trial
from org.agents.tools import Reply, load_seat, org_argv, seats
from org.errors import OrgError
from org.home import find_home
from org.records import Knob

IDEA = re.compile(r"\bI\d{4,}\b")
REFRESH_S = 60.0  # while waiting: a verdict's letter may have been lost
AT_PANE = "The person at my pane asked for it:"
IN_TASK = "My task names it:"

Wish = tuple[Knob, Value, str]  # what was ordered, and in whose words


class Junior(Brain):
    """One seat that turns knobs: its task's, or all of them where there is no chief."""

    def start(self) -> None:
        super().start()
        self.mine: list[Knob] = []
        self.ideas: dict[str, str] = {}  # knob -> the idea that names it
        self.wishes: deque[Wish] = deque()
        self.barred: list[tuple[str, Any]] = []
        self.open: set[str] = set()
        self.is_stale = True  # the worktree may hold half an edit of a former life
        self.synced: dict[Path, bytes] = {}  # what stands in the worktree as far as I know; all else is somebody's work
        self.tasks = [
            str(head.get("id")) for head, _ in self.mailbox.letters("task", ("cur",))
        ]  # told in a former life
        self.is_dry = False
        self.full_until = 0.0
        self.offset = 0
        self.is_alone = False  # no chief has wins verified for me
        self.declined: tuple[str, ...] = ()
        self._watched = self._stamp()
        self.say(f"I am {self.name}, a researcher without a network, on program {self.seat.program}.", "bold")
        self.say("Type help for what I understand.", "dim")

    # --- the loop, one thing a turn

    def step(self) -> None:
        stamp = self._stamp()
        if stamp != self._watched:
            self._watched, self.is_stale = stamp, True
            self.barred.clear()  # refused against another head
            self.seat = load_seat(self.home, self.name)
        now = self.clock()
        if now < self.not_before:
            return
        wish = self._next_wish() if now >= self.full_until else None
        if self.tasks:
            self._remember(self.tasks.pop())
        elif self.is_paused and wish is None:  # the worktree is left alone too: the person may be at work in it
            self.events.become("paused", "paused by the person at the pane")
        elif self.is_stale:
            self._sync()
        elif not self.has_results:
            self.refresh()
        elif wish is not None and not self._is_edited():
            self.wishes.remove(wish)
            self._try(*wish)
        elif not self.mine and not self._serve_alone():
            self.intend("wait for a task from the chief")
            self.events.become("idle", "no task yet")
        elif len(self.open) > self.charter.rules.queue_ahead or now < self.full_until:
            self.events.become("waiting", f"for {', '.join(sorted(self.open)) or 'a place in the queue'}")
            if self.has_news(REFRESH_S):
                self.refresh()
        elif self.has_news():
            self.refresh()
        elif self.is_alone and (due := self._stack_due()):
            self._stack(due)
        elif not self.is_dry and not self._is_edited():
            self._next()

    def _next_wish(self) -> Wish | None:
        """The oldest order; while paused only one that was typed at this pane."""
        return next((wish for wish in self.wishes if not self.is_paused or wish[2] == AT_PANE), None)

    def _remember(self, letter: str) -> None:
        """Read a task of a former life again: it counts like a new one, so only if it is an order."""

        def done(reply: Reply) -> None:
            rows = reply.value if reply.is_ok and isinstance(reply.value, list) else []
            if rows and isinstance(rows[0], dict) and self.is_order(rows[0]):  # else the one before it may be an order
                self.take(str(rows[0].get("body") or ""))
                self.say(f"I remember my task: {', '.join(k.name for k in self.mine) or 'no knobs'}.", "dim")

        self.calls.add("inbox", "--json", "--", letter, done=done)

    def _next(self) -> None:
        chosen = search.propose(
            self.mine,
            self.current(),
            self.trials,
            metric=self.charter.metric,
            seed=search.seed_of(self.name, len(self.trials) + len(self.barred)),
            offset=self.offset,
            first=tuple(self.ideas),
            barred=self.barred,
            size=self.charter.margin or search.PRIOR,
        )
        if chosen is not None:
            self._file(chosen)
            return
        self.is_dry = True  # until a letter, a head or a verdict changes what there is to try
        self.intend("nothing left to try with my knobs; wait for another task")
        self.say("Everything sensible with my knobs was tried.", "ask")
        self.events.become("waiting" if self.open else "idle", "nothing left to try")
        if self.mine and not self.open and (chief := self.chief()):
            self.calls.add("send", chief, "--json", "--kind", "report", "--", f"My knobs are dry. {self.report()}")

    def _try(self, knob: Knob, value: Value, origin: str) -> None:
        current = self.current()
        if current.get(knob.name) is None:
            self.say(f"{knob.name} is not set to a plain value in {knob.path}; I cannot turn it.", "bad")
            return
        if knobs_.same(value, current[knob.name]):
            self.say(f"{knob.name} stands at {reasons.show(value)} already; there is nothing to test.", "ask")
            return
        size = self.charter.margin or search.PRIOR
        metric = self.charter.metric
        self._file(search.proposal(knob, value, current, self.trials, metric=metric, why=origin, size=size), origin)

    def _file(self, chosen: Proposal, origin: str = "") -> None:
        """Edit the constant, file the experiment, put the constant back: one experiment is one change."""
        path = Path(self.seat.worktree) / chosen.knob.path
        before = path.read_bytes().decode()
        after = knobs_.write(before, chosen.knob.name, chosen.new)
        self.intend(f"try {chosen.text} and compare {self.charter.metric.name} with my prediction")
        self.events.become("working", chosen.text)
        self.say(chosen.why, "dim")
        self.say(f"I try {chosen.text} and predict {chosen.expect:+.4f} {self.charter.metric.name}.", "plain")
        why = chosen.why.replace(
            chosen.knob.name, knobs_.spelled(before, chosen.knob.name), 1
        )  # as tables will name it
        files.replace(path, after)

        def done(reply: Reply) -> None:
            is_mine = path.is_file() and path.read_bytes().decode(errors="replace") == after
            if is_mine:  # else somebody edited it meanwhile, or the seat was moved
                files.replace(path, before)
            if reply.code == 3 and not is_mine:  # what was refused is not what I wrote
                self.say(f"{path.name} changed while I filed {chosen.text}; I begin again.", "ask")
                self.back_off()
                self.is_stale = True
                if origin:
                    self.wishes.appendleft((chosen.knob, chosen.new, origin))
                return
            self._filed(chosen, reply, origin)

        idea = self.ideas.get(chosen.knob.name)
        if idea and not any(self.home.ideas.glob(f"{idea}-*.md")):
            idea = None  # a letter named it, and nobody wrote it down
        args = ["run", "--no-wait", "--json", "-m", why, f"--expect={chosen.expect:g}"]
        self.calls.add(*args, *(["--idea", idea] if idea else []), done=done)

    def _filed(self, chosen: Proposal, reply: Reply, origin: str) -> None:
        value = reply.value if isinstance(reply.value, dict) else {}
        if reply.is_ok and value.get("experiment"):
            name = str(value["experiment"])
            self.failures, self.not_before = 0, 0.0
            self.open.add(name)
            change = (chosen.knob.name.lower(), chosen.old, chosen.new)
            self.trials.append(Trial(name, self.seat.program, self.name, (change,), expect=chosen.expect))
            self.say(f"{name} is filed: {chosen.text}.", "plain")
            self.events.become("waiting", f"for {', '.join(sorted(self.open))}")
            return
        violations = [v for v in value.get("violations") or () if isinstance(v, dict)]
        is_full = reply.code == 4 or any("queue" in str(v.get("rule")) for v in violations)
        if reply.code == 3 and not is_full:
            self.barred.append((chosen.knob.name, chosen.new))
            self.is_stale = True
        why = "; ".join(str(v.get("message")) for v in violations) or reply.error or f"exit code {reply.code}"
        wait = self.back_off()
        if is_full:
            self.full_until = self.clock() + max(wait, 5.0)
            if origin:
                self.wishes.append((chosen.knob, chosen.new, origin))
        verb = "has no place yet" if is_full else "was refused" if reply.code == 3 else "could not be filed"
        self.say(f"{chosen.text} {verb}: {why}", "bad")

    def _sync(self) -> None:
        kept = self._saved()

        def done(reply: Reply) -> None:
            self.is_stale = False
            if not reply.is_ok:
                self.complain("I cannot bring my worktree to the program's head", reply)
                self.is_stale = reply.code != 2 and self.failures < 4  # then go on with what lies there
                self.synced = self._texts()
                return
            self.is_dry = False
            self.seat = load_seat(self.home, self.name)
            self.synced = self._texts()
            if new := self._saved() - kept:
                self.say(f"What was not filed in my worktree is kept in {max(new)}.", "ask")

        self.calls.add("seat", self.name, "--sync", "--json", done=done)

    def _stack_due(self) -> Decision | None:
        return decisions.stack_due(
            self.seat.program, self.trials, [k.name for k in self.mine], is_idle=self.is_dry, declined=self.declined
        )

    def _stack(self, due: Decision) -> None:
        self.declined = tuple(t.experiment for t in decisions.waiting_keeps(due.subject, self.trials))
        self.say(f"I have my wins verified: {due.why}.", "plain")
        self.calls.add("stack", due.subject, "--no-wait", "--json", done=self._after("The stack is asked for"))

    # --- what arrives

    def on_letter(self, letter: dict[str, Any]) -> None:
        kind, body = letter.get("kind"), str(letter.get("body") or "")
        self.is_dry = False
        if kind == "verdict":
            self.is_stale = self.is_stale or "head" in body.lower()
            self.full_until = 0.0
            self._results_at = -100.0
            self.refresh()
            return
        self.say(heard(letter), "ask" if kind == "task" else "plain")
        if kind == "task" and self.is_order(letter):
            self.take(body)
            names = ", ".join(k.name for k in self.mine) or "none that I know"
            self.say(f"My knobs are now: {names}.", "bold")
        for knob, value in self.settings(letter):
            if kind != "task":
                self.wishes.append((knob, value, f"{letter.get('from')} asked for it:"))

    def take(self, body: str) -> None:
        """A task letter's words: its `Knobs:` line, else the knobs it names, else those of my program's group."""
        line = next((ln for ln in body.splitlines() if ln.lower().lstrip("-* ").startswith("knobs:")), body)
        names = knobs_.named_in(line, self.knobs)
        names = names or [n for n, k in self.knobs.items() if k.group == self.seat.program] or list(self.knobs)
        self.mine = [self.knobs[name] for name in names]
        self.tasks.clear()
        self.is_dry, self.offset = False, 0
        self.ideas = {}
        for said in body.splitlines():
            if idea := IDEA.search(said):
                self.ideas.update(dict.fromkeys(knobs_.named_in(said, self.knobs), idea[0]))
        for knob, value in knobs_.settings_in(body, self.knobs):
            if not any(
                knobs_.same(value, new) for t in self.trials for n, _, new in t.changes if n == knob.name.lower()
            ):
                self.wishes.append((knob, value, IN_TASK))

    def on_results(self, before: dict[str, Trial]) -> None:
        self.open = {t.experiment for t in self.trials if t.seat == self.name and t.is_open}
        known = {(knob.name, value) for knob, value, origin in self.wishes if origin == IN_TASK}
        done = {(n, v) for n, v in known for t in self.trials for k, _, new in t.changes if k == n.lower() and new == v}
        self.wishes = deque(w for w in self.wishes if (w[0].name, w[1]) not in done)
        for trial in self.trials:
            was = before.get(trial.experiment)
            if trial.seat != self.name or trial.is_open or (was is not None and not was.is_open):
                continue
            style = {"win": "win", "holds": "win", "crash": "bad", "invalid": "bad"}.get(trial.outcome or "", "plain")
            self.say(reasons.lesson(trial, self.charter.metric), style)
        judged = sum(not t.is_open for t in self.trials)
        if judged != sum(not t.is_open for t in before.values()):
            self.is_dry, self.full_until = False, 0.0

    # --- what it says of itself

    def type_try(self, rest: str) -> None:
        knob, value = knobs_.parse(rest, self.knobs)
        self.wishes.appendleft((knob, value, AT_PANE))
        self.not_before = self.full_until = 0.0  # a person does not wait for my caution
        self.say(f"I try {knob.name}={reasons.show(value)} next.", "plain")

    def status(self) -> list[str]:
        judged = self._judged()
        wins = sum(t.outcome in ("win", "holds") for t in judged)
        return [
            f"{self.name} on program {self.seat.program}; knobs: {', '.join(k.name for k in self.mine) or 'none yet'}.",
            f"{len(judged)} experiments judged, {wins} kept; open: {', '.join(sorted(self.open)) or 'none'}.",
            f"{'Paused. ' if self.is_paused else ''}Next: {self.plan or 'not decided'}.",
        ]

    def report(self) -> str:
        judged = self._judged()
        did = "; ".join(
            f"{t.experiment} {_what(t)}: {t.outcome}, effect {{{t.experiment}.effect}}" for t in judged[-3:]
        )
        keeps = [t for t in judged if t.outcome in ("win", "holds")]
        sign = self.charter.metric.sign
        best = min(keeps, key=lambda t: sign * (t.effect or 0.0), default=None)
        learned = (
            f"{_what(best)} is the best of mine ({{{best.experiment}.effect}}, {best.tier})"
            if best
            else "no gain among my knobs yet"
            if judged
            else "nothing yet"
        )
        running = f" Running: {', '.join(sorted(self.open))}." if self.open else ""
        return f"Did: {did or 'no verdict yet'}.{running}\nLearned: {learned}.\nNext: {self.plan or 'not decided'}."

    def current(self) -> dict[str, Value | None]:
        """Every knob's value in the worktree; None where the code sets no plain value."""
        texts: dict[str, str] = {}
        for knob in self.knobs.values():
            path = Path(self.seat.worktree) / knob.path
            if knob.path not in texts:
                texts[knob.path] = path.read_bytes().decode(errors="replace") if path.is_file() else ""
        return {name: knobs_.read(texts[knob.path], name) for name, knob in self.knobs.items()}

    def _texts(self) -> dict[Path, bytes]:
        """Every file that `org run` would file, and perhaps a few more; links left out."""
        globs = [f"{glob}*" if glob.endswith("/") else glob.replace("**/", "*") for glob in self.charter.editable]
        found = {}
        for folder, folders, names in os.walk(self.seat.worktree):
            folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
            for path in (Path(folder) / name for name in names):
                inside = path.relative_to(self.seat.worktree).as_posix()
                if (
                    any(fnmatch.fnmatchcase(inside, glob) for glob in globs)
                    and path.is_file()
                    and not path.is_symlink()
                ):
                    found[path] = path.read_bytes()
        return found

    def _is_edited(self) -> bool:
        """Whether somebody works in my worktree: to file it under my sentence would be wrong. It is put aside."""
        now = self._texts()
        changed = sorted(
            str(path.relative_to(self.seat.worktree))
            for path in now.keys() | self.synced.keys()
            if now.get(path) != self.synced.get(path)
        )
        if not changed:
            return False
        self.say(
            f"{', '.join(changed)} is not as I left it: somebody works in my worktree. I put that aside and start from the "
            "head; `pause` makes me leave the worktree alone.",
            "ask",
        )
        self.is_stale = True
        return True

    def _saved(self) -> set[Path]:
        """Folders of unfiled work that `org seat --sync` copied aside."""
        return set(self.home.seat(self.name).glob("saved-*"))

    def _judged(self) -> list[Trial]:
        return [t for t in self.trials if t.seat == self.name and not t.is_open]

    def _serve_alone(self) -> bool:
        """Without a chief all knobs are mine; seats beside me begin at different ones."""
        if self.chief() is not None or not self.knobs:
            return False
        self.mine, self.is_alone = list(self.knobs.values()), True
        peers = [seat.name for seat in seats(self.home)]
        self.offset = peers.index(self.name) if self.name in peers else 0
        self.say("There is no chief here, so every knob of the charter is mine.", "plain")
        return True

    def _stamp(self) -> tuple[bytes, ...]:
        """Changes when the seat was moved or its program's head was."""
        paths = (self.home.seat_file(self.name), self.home.program(self.seat.program))
        return tuple(path.read_bytes() if path.is_file() else b"" for path in paths)


def _what(trial: Trial) -> str:
    return ", ".join(f"{n} {reasons.show(a)}→{reasons.show(b)}" for n, a, b in trial.changes) or trial.description[:80]


def main() -> int:
    """Sit in $ORG_SEAT of $ORG_HOME until told to leave. Exit codes as everywhere."""
    environ = dict(os.environ)
    try:
        home = find_home(None, environ, Path.cwd())
        name = environ.get("ORG_SEAT") or "human"
        kind: type[Brain] = Junior
        if load_seat(home, name).role.startswith("chief"):
            from org.agents.offline_chief import Chief

            kind = Chief
        repl = Repl()
        brain = kind(home, name, say=repl.say, leave=repl.leave, environ=environ, argv=org_argv(environ))
    except OrgError as error:
        print(f"org: {error}", file=sys.stderr)
        return error.exit_code
    brain.start()
    try:
        repl.run(brain.on_line, brain.poll)
    finally:
        brain.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
