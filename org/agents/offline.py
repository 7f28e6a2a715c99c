"""`python -m org.agents.offline`: a researcher that needs no network, at a terminal. This file is the junior's edge.

It chooses one knob change after another (`search`), edits that constant in its worktree, files it with `org run` and learns
from the verdicts. It keeps nothing between starts: letters, results and the worktree say where it was.
"""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path
from typing import Any

from org.agents import alone, decisions, offline_orders, reasons, search, wishes
from org.agents import knobs as knobs_
from org.agents.brain import Brain, heard, sit
from org.agents.decisions import Decision
from org.agents.knobs import Value
from org.agents.repl import Repl
from org.agents.search import Proposal, Trial
from org.agents.tools import PAUSED, Reply, load_seat, org_argv, seats
from org.agents.wishes import IDEA, Wish
from org.agents.workbench import Workbench
from org.home import Home
from org.records import Knob

REFRESH_S = 60.0  # while waiting: a verdict's letter may have been lost
AT_PANE = "The person at my pane asked for it:"
IN_TASK = "My task names it:"


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
        self.bench = Workbench(self.seat.worktree, self.charter.editable)
        self.tasks = wishes.told_before([head for head, _ in self.mailbox.letters("task", ("cur",))])
        self.orders: list[dict[str, Any]] = []  # of a former life, the newest first
        self.left: set[str] = set()  # knobs that I was ordered to leave alone
        self.is_halted = False  # ordered to start nothing new
        self.is_dry = False
        self.full_until = 0.0
        self.offset = 0
        self.is_alone = False  # no chief has wins verified for me
        self.alone = alone.Ideas(self)
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
            self.events.become(*PAUSED)
        elif self.is_stale:
            self._sync()
        elif not self.has_results:
            self.refresh()
        elif wish is not None and not self._is_edited():
            self.wishes.remove(wish)
            self._try(wish)
        elif not self.mine and not self._serve_alone():
            self.intend("wait for a task from the chief")
            self.events.become("idle", "no task yet")
        elif len(self.open) > self.charter.rules.queue_ahead or now < self.full_until:
            self.events.become("waiting", f"for {', '.join(sorted(self.open)) or 'a place in the queue'}")
            if self.has_news(REFRESH_S):
                self.refresh()
        elif self.has_news():
            self.refresh()
        elif self.is_halted:
            self.intend("start nothing new until I am told to go on")
            self.events.become("waiting" if self.open else "idle", "an order stopped me")
        elif self.is_alone and self.alone.look():
            pass
        elif self.is_alone and (due := self._stack_due()):
            self._stack(due)
        elif not self.is_dry and not self._is_edited():
            self._next()

    def _next_wish(self) -> Wish | None:
        """The oldest order; while paused only one that was typed at this pane."""
        return next((wish for wish in self.wishes if not self.is_paused or wish.origin == AT_PANE), None)

    def _remember(self, letter: str) -> None:
        """Read a task of a former life again: it counts like a new one, so only if it is an order."""

        def done(reply: Reply) -> None:
            rows = reply.value if reply.is_ok and isinstance(reply.value, list) else []
            if rows and isinstance(rows[0], dict) and self.is_order(rows[0]):  # else the one before it may be an order
                if offline_orders.of_letter(self, rows[0]) is not None:
                    self.orders.append(rows[0])  # what it changes is changed once the task before it is known
                elif wishes.is_one_idea(rows[0]):
                    self.take_idea(rows[0])
                else:
                    self.take(str(rows[0].get("body") or ""))
                    self.say(f"I remember my task: {', '.join(k.name for k in self.mine) or 'no knobs'}.", "dim")
            if not self.tasks:
                for row in reversed(self.orders):
                    offline_orders.obeyed(self, row, is_replay=True)
                self.orders.clear()

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
            everything=[knob for knob in self.knobs.values() if knob.name not in self.left],
            seat=self.name,
        )
        if chosen is not None:
            self._file(chosen)
            return
        self.is_dry = True  # until a letter, a head or a verdict changes what there is to try
        if self.open:
            self.events.become("waiting", f"for {', '.join(sorted(self.open))} before the next")
            return
        self.intend("nothing left to try with my knobs; wait for another task")
        self.say("Everything sensible with my knobs was tried.", "ask")
        self.events.become("idle", "nothing left to try")
        if self.mine and (chief := self.chief()):
            self.calls.add("send", chief, "--json", "--kind", "report", "--", f"My knobs are dry. {self.report()}")

    def _try(self, wish: Wish) -> None:
        current, knob, value = self.current(), wish.knob, wish.value
        metric = self.charter.metric
        if current.get(knob.name) is None:
            self._cannot(wish, f"{knob.name} is not set to a plain value in {knob.path}; I cannot turn it")
            return
        if value is None:
            value = search.step(knob, current[knob.name], self.trials, metric, wish.towards)
            if value is None:
                self._cannot(wish, f"every step of {knob.name} that way was tried; there is nothing new to test")
                return
        if knobs_.same(value, current[knob.name]):
            self._cannot(wish, f"{knob.name} stands at {reasons.show(value)} already; there is nothing to test")
            return
        size = self.charter.margin or search.PRIOR
        self._file(search.proposal(knob, value, current, self.trials, metric=metric, why=wish.origin, size=size), wish)

    def _cannot(self, wish: Wish, why: str) -> None:
        """What nobody would learn of otherwise: an idea that was handed out and comes to nothing."""
        self.say(f"{why}.", "ask")
        if wish.idea:
            self._give_back(wish.idea, why)

    def _give_back(self, idea: str, why: str) -> None:
        if chief := self.chief():
            text = f"{wishes.NOT_TESTED} {idea}: {why}."
            self.calls.add("send", chief, "--json", "--kind", "report", "--about", idea, "--", text)

    def _file(self, chosen: Proposal, wish: Wish | None = None) -> None:
        """Edit the constants, file the experiment, put them back: one experiment is one change, or one blend."""
        edit = self.bench.turned([(knob, new) for knob, _, new in chosen.turns])
        self.intend(f"try {chosen.text} and compare {self.charter.metric.name} with my prediction")
        self.events.become("working", chosen.text)
        self.say(chosen.why, "dim")
        self.say(f"I try {chosen.text} and predict {chosen.expect:+.4f} {self.charter.metric.name}.", "plain")
        why = edit.spelled(chosen.why)
        edit.make()

        def done(reply: Reply) -> None:
            theirs = edit.take_back()
            if reply.code == 3 and theirs:  # what was refused is not what I wrote
                self.say(f"{', '.join(theirs)} changed while I filed {chosen.text}; I begin again.", "ask")
                self.back_off()
                self.is_stale = True
                if wish is not None:
                    self.wishes.appendleft(wish)
                return
            self._filed(chosen, reply, wish, idea or "")

        own = None if chosen.more else self.ideas.get(chosen.knob.name)
        idea = wish.idea if wish is not None and wish.idea else own
        if idea and not any(self.home.ideas.glob(f"{idea}-*.md")):
            idea = None  # a letter named it, and nobody wrote it down
        args = ["run", "--no-wait", "--json", "-m", why, f"--expect={chosen.expect:g}"]
        self.calls.add(*args, *(["--idea", idea] if idea else []), done=done)

    def _filed(self, chosen: Proposal, reply: Reply, wish: Wish | None, idea: str) -> None:
        value = reply.value if isinstance(reply.value, dict) else {}
        if reply.is_ok and value.get("experiment"):
            name = str(value["experiment"])
            self.failures, self.not_before = 0, 0.0
            self.open.add(name)
            changes = tuple((knob.name.lower(), old, new) for knob, old, new in chosen.turns)
            self.trials.append(Trial(name, self.seat.program, self.name, changes, expect=chosen.expect, idea=idea))
            self._spend_ideas()  # what I try of the knob later is my own
            self.say(f"{name} is filed: {chosen.text}{f', idea {idea}' if idea else ''}.", "plain")
            self.events.become("waiting", f"for {', '.join(sorted(self.open))}")
            return
        violations = [v for v in value.get("violations") or () if isinstance(v, dict)]
        is_full = reply.code == 4 or any("queue" in str(v.get("rule")) for v in violations)
        if reply.code == 3 and not is_full:
            self.barred += [(knob.name, new) for knob, _, new in chosen.turns]
            self.is_stale = True
        why = "; ".join(str(v.get("message")) for v in violations) or reply.error or f"exit code {reply.code}"
        wait = self.back_off()
        if is_full:
            self.full_until = self.clock() + max(wait, 5.0)
            if wish is not None:
                self.wishes.append(wish)
        verb = "has no place yet" if is_full else "was refused" if reply.code == 3 else "could not be filed"
        self.say(f"{chosen.text} {verb}: {why}", "bad")
        if reply.code == 3 and not is_full and wish is not None:
            self._cannot(wish, f"{chosen.text} was refused: {why}"[:400])

    def _sync(self) -> None:
        kept = self._saved()

        def done(reply: Reply) -> None:
            self.is_stale = False
            if not reply.is_ok:
                self.complain("I cannot bring my worktree to the program's head", reply)
                self.is_stale = reply.code != 2 and self.failures < 4  # then go on with what lies there
                self.bench.note()
                return
            self.is_dry = False
            self.seat = load_seat(self.home, self.name)
            self.bench.note()
            if new := self._saved() - kept:
                self.say(f"What was not filed in my worktree is kept in {max(new)}.", "ask")

        self.calls.add("seat", self.name, "--sync", "--json", done=done)

    def _stack_due(self) -> Decision | None:
        is_idle, knobs = self.is_dry and not self.open, [knob.name for knob in self.mine]
        return decisions.stack_due(self._programs(), self.trials, knobs, is_idle=is_idle, declined=self.declined)

    def _programs(self) -> tuple[str, ...]:
        """Mine first, and those that stand on its head."""
        known = [self.seat.program, *(t.program for t in self.trials)]
        return self.together(known)[0]

    def _stack(self, due: Decision) -> None:
        self.declined = decisions.unverified(self._programs(), self.trials)
        self.say(f"I have my wins verified: {due.why}.", "plain")
        self.calls.add("stack", due.subject, "--no-wait", "--json", done=self.after("The stack is asked for"))

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
        if offline_orders.obeyed(self, letter):
            return
        if kind == "task" and self.is_order(letter) and wishes.is_one_idea(letter):
            self.take_idea(letter)
        elif kind == "task" and self.is_order(letter):
            self.take(body)
            self.say(f"My knobs are now: {', '.join(k.name for k in self.mine) or 'none that I know'}.", "bold")
        for knob, value in self.settings(letter):
            if kind != "task":
                origin = f"{letter.get('from')} asked for it:"
                self.wishes.append(Wish(knob, value, origin, wishes.idea_of(letter)))

    def take_idea(self, letter: dict[str, Any]) -> None:
        """A task about an idea: what it names is tried next, and my knobs stay mine."""
        idea, found = wishes.idea_of(letter), wishes.of_idea(letter, self.knobs)
        self.wishes.extend(wish for wish in found if wish not in self.wishes)
        self.say(f"I take idea {idea}: {', '.join(w.knob.name for w in found) or 'it names no knob'}.", "bold")
        if not found:
            self._give_back(idea, "it names no constant that I can turn")
        self._spend_ideas()

    def _spend_ideas(self) -> None:
        """An idea is tested by its own experiments, once each; a restart finds them in the results."""
        tested = {trial.idea for trial in self.trials if trial.idea}
        self.ideas = {name: idea for name, idea in self.ideas.items() if idea not in tested}
        self.wishes = deque(wish for wish in self.wishes if not wishes.is_tested(wish, self.trials))

    def keep_off(self) -> None:
        """Nothing of what I was told to leave alone is mine or waits."""
        self.mine = [knob for knob in self.mine if knob.name not in self.left]
        self.wishes = deque(wish for wish in self.wishes if wish.knob.name not in self.left)

    def was_tried(self, knob: Knob, value: Value) -> bool:
        return any(knobs_.same(value, new) for t in self.trials for n, _, new in t.changes if n == knob.name.lower())

    def take(self, body: str) -> None:
        """A task letter's words: its `Knobs:` line, else the knobs it names, else those of my program's group."""
        line = next((ln for ln in body.splitlines() if ln.lower().lstrip("-* ").startswith("knobs:")), body)
        names = knobs_.named_in(line, self.knobs)
        names = names or [n for n, k in self.knobs.items() if k.group == self.seat.program] or list(self.knobs)
        self.mine = [self.knobs[name] for name in names if name not in self.left]
        self.tasks.clear()
        self.is_dry, self.offset = False, 0
        self.ideas = {}
        for said in body.splitlines():
            if idea := IDEA.search(said):
                self.ideas.update(dict.fromkeys(knobs_.named_in(said, self.knobs), idea[0]))
        for knob, value in knobs_.settings_in(body, self.knobs):
            if not self.was_tried(knob, value):
                self.wishes.append(Wish(knob, value, IN_TASK))

    def on_results(self, before: dict[str, Trial]) -> None:
        self.open = {t.experiment for t in self.trials if t.seat == self.name and t.is_open}
        known = {(wish.knob.name, wish.value) for wish in self.wishes if wish.origin == IN_TASK}
        done = {(n, v) for n, v in known for t in self.trials for k, _, new in t.changes if k == n.lower() and new == v}
        self.wishes = deque(w for w in self.wishes if w.origin != IN_TASK or (w.knob.name, w.value) not in done)
        self._spend_ideas()
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
        self.wishes.appendleft(Wish(knob, value, AT_PANE))
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
            f"{t.experiment} {reasons.turned(t)}: {t.outcome}, effect {{{t.experiment}.effect}}" for t in judged[-3:]
        )
        keeps = [t for t in judged if t.outcome in ("win", "holds")]
        sign = self.charter.metric.sign
        best = min(keeps, key=lambda t: sign * (t.effect or 0.0), default=None)
        learned = (
            f"{reasons.turned(best)} is the best of mine ({{{best.experiment}.effect}}, {best.tier})"
            if best
            else "no gain among my knobs yet"
            if judged
            else "nothing yet"
        )
        running = f" Running: {', '.join(sorted(self.open))}." if self.open else ""
        return f"Did: {did or 'no verdict yet'}.{running}\nLearned: {learned}.\nNext: {self.plan or 'not decided'}."

    def current(self) -> dict[str, Value | None]:
        """Every knob's value in the worktree; None where the code sets no plain value."""
        return self.bench.values(self.knobs)

    def _is_edited(self) -> bool:
        """Whether somebody works in my worktree: to file it under my sentence would be wrong. It is put aside."""
        changed = self.bench.edited()
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
        if self.is_alone:
            return True  # and was ordered off all of them
        self.mine, self.is_alone = [knob for knob in self.knobs.values() if knob.name not in self.left], True
        peers = [seat.name for seat in seats(self.home)]
        self.offset = peers.index(self.name) if self.name in peers else 0
        self.say("There is no chief here, so every knob of the charter is mine.", "plain")
        return True

    def _stamp(self) -> tuple[bytes, ...]:
        """Changes when the seat was moved or its program's head was."""
        paths = (self.home.seat_file(self.name), self.home.program(self.seat.program))
        return tuple(path.read_bytes() if path.is_file() else b"" for path in paths)


def main() -> int:
    return sit(_brain)


def _brain(home: Home, name: str, repl: Repl, environ: dict[str, str]) -> Brain:
    kind: type[Brain] = Junior
    role = load_seat(home, name).role
    if role.startswith("chief"):
        from org.agents.offline_chief import Chief

        kind = Chief
    elif role == "councillor":
        from org.agents.offline_councillor import Councillor

        kind = Councillor
    elif role == "breaker":
        from org.agents.offline_breaker import Breaker

        kind = Breaker
    return kind(home, name, say=repl.say, leave=repl.leave, environ=environ, argv=org_argv(environ))


if __name__ == "__main__":
    sys.exit(main())
