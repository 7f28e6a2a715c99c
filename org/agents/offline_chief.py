"""The chief of an organisation without a network: splits the knobs into programs, hands out tasks, has wins verified.

The edge only; what it decides is in `decisions`. It keeps nothing between starts: task letters say who works on what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from org.agents import decisions, reasons
from org.agents import knobs as knobs_
from org.agents.brain import Brain, heard
from org.agents.decisions import Decision, Post
from org.agents.search import Trial
from org.agents.tools import Mailbox, Reply, seats
from org.errors import BadInput, did_you_mean
from org.records import Seat


class Chief(Brain):
    """One chief. It never files experiments of its own: every idea goes through a junior and the gate."""

    commands = {  # noqa: RUF012 - what `help` prints
        "help": "this list",
        "status": "programs, juniors, and what came of it",
        "pause": "hand out and verify nothing; juniors go on",
        "resume": "go on",
        "try NAME=VALUE": "ask the junior who owns that knob to run it next",
        "stack PROGRAM": "verify a program's tentative wins together now",
        "idea TEXT": "write an idea down for the organisation",
        "quit": "leave this program; the organisation may start it again",
    }

    def start(self) -> None:
        super().start()
        self.posts: dict[str, Post] = {}
        self.ideas: list[tuple[str, str]] | None = None  # (id, text), a person's first
        self.declined: dict[str, tuple[str, ...]] = {}
        self.moved_at: dict[str, int] = {}
        self.is_idle = False
        self.is_news = True
        self._seen: list[str] = []
        self.say(f"I am {self.name}. I split the work, hand out tasks and have wins verified.", "bold")
        self.say("Type help for what I understand.", "dim")

    # --- the loop, one thing a turn

    def step(self) -> None:
        if self.clock() < self.not_before:
            return
        if self.is_paused:
            self.events.become("paused", "paused by the person at the pane")
        elif (leader := self.chief()) != self.name:
            self.intend(f"stand by: {leader} leads")
            self.events.become("idle", f"{leader} leads")
        elif self.ideas is None:
            self._read_ideas()
        elif newcomers := self._newcomers():
            self._assign(newcomers)
        elif self.is_news or self.has_news(10.0):
            self.is_news = False
            self.refresh()
            self.calls.add("status", "--json", done=self._on_status)
        else:
            self.intend(
                "read verdicts as they come, verify tentative wins together, move juniors off dry programs"
                if self.posts
                else "wait for juniors"
            )
            self.events.become("waiting" if self.posts else "idle", "for verdicts" if self.posts else "no junior yet")

    def _newcomers(self) -> list[Seat]:
        """Juniors without a post, once the roster has looked the same twice: a launch adds seats one by one."""
        juniors = [seat for seat in seats(self.home) if seat.role == "junior"]
        names = [seat.name for seat in juniors]
        is_settled, self._seen = names == self._seen, names
        for seat in juniors:
            if seat.name not in self.posts and (post := self._remembered(seat)):
                self.posts[seat.name] = post
        return [seat for seat in juniors if seat.name not in self.posts] if is_settled else []

    def _remembered(self, seat: Seat) -> Post | None:
        """The post that the last task letter to this junior describes, if it says a chief or the person wrote it. Only to
        know what was handed out: the junior holds the letter's signature against its sender's, this does not."""
        letters = Mailbox(self.home.mailbox(seat.name)).letters("task")
        for _, body in [(head, body) for head, body in letters if head.get("from") in ("human", self.chief())][-1:]:
            line = next((ln for ln in body.splitlines() if ln.lower().startswith("knobs:")), "")
            return Post(seat.name, seat.program, tuple(knobs_.named_in(line, self.knobs)))
        return None

    def _assign(self, newcomers: list[Seat]) -> None:
        """Split the charter's groups over all juniors; those who have a post keep it."""
        everyone = [seat.name for seat in seats(self.home) if seat.role == "junior"]
        plan = {post.seat: post for post in decisions.split(self.groups(), everyone)}
        programs = sorted({post.program for post in plan.values()})
        self.events.become("working", "handing out tasks")
        self.say(
            f"{len(self.knobs)} knobs in {len(self.groups())} groups, {len(everyone)} juniors: I make "
            f"{len(programs)} programs ({', '.join(programs)}), so that no two juniors turn the same knob.",
            "plain",
        )
        for seat in newcomers:
            self._send_to(seat, plan[seat.name], "")
        self._tell_person(f"{len(newcomers)} juniors have their tasks on {', '.join(programs)}.")

    def _send_to(self, seat: Seat, post: Post, why: str) -> None:
        self.posts[seat.name] = post
        if seat.program != post.program:
            self.calls.add("seat", seat.name, "--program", post.program, "--json", done=self._unless_ok(seat.name))
        letter = ["send", seat.name, "--json", "--kind", "task", "--", self.task(post, why)]
        self.calls.add(*letter, done=self._unless_ok(seat.name))
        self.say(f"{seat.name} works on {post.program}: {', '.join(post.knobs) or 'whatever it finds'}.", "plain")

    def task(self, post: Post, why: str = "") -> str:
        """The letter that makes a post. Its `Knobs:` line is what a restarted junior or chief reads again."""
        about = self.charter.programs.get(post.program, "")
        lines = [f"Program {post.program}{f': {about}' if about else ''}.", f"Knobs: {', '.join(post.knobs)}"]
        if why:
            lines.append(f"You move because {why}.")
        for name, text in self.ideas or ():
            if set(knobs_.named_in(text, post.knobs)):
                lines.append(f"First, idea {name}: {' '.join(text.split())[:300]}")
        lines.append(
            "One change an experiment. Say why and predict the effect before you run it; leave other knobs alone."
        )
        return "\n".join(lines)

    def _decide(self) -> None:
        """After new results: verify first, then move one junior at most."""
        posts = list(self.posts.values())
        for program in dict.fromkeys(post.program for post in posts):
            owned = [name for post in posts if post.program == program for name in post.knobs]
            due = decisions.stack_due(
                program, self.trials, owned, is_idle=self.is_idle, declined=self.declined.get(program, ())
            )
            if due is not None:
                self._stack(due)
        move = decisions.move_due(posts, self.trials, self.moved_at)
        seat = next((s for s in seats(self.home) if move is not None and s.name == move.subject), None)
        if move is None or seat is None:
            return
        old = self.posts[seat.name].program
        self.moved_at[old] = sum(t.program == old and not t.is_open and not t.is_stack for t in self.trials)
        self.say(f"I move {seat.name} to {move.program}: {move.why}.", "ask")
        self._send_to(seat, decisions.moved(posts, seat.name, move.program, self.trials), move.why)
        self._tell_person(f"{seat.name} moves to {move.program}: {move.why}.")

    def _stack(self, due: Decision) -> None:
        program = due.subject
        self.declined[program] = tuple(t.experiment for t in decisions.waiting_keeps(program, self.trials))
        self.say(f"I have {program} verified: {due.why}.", "plain")

        def done(reply: Reply) -> None:
            name = reply.value.get("experiment") if isinstance(reply.value, dict) else None
            if reply.is_ok and name:
                self.say(f"{name} verifies {program} with fresh seeds.", "win")
                self._tell_person(f"{name} verifies {program}: {due.why}.")
            elif reply.is_ok:
                self.say(f"There is nothing to verify in {program} yet.", "dim")
            else:
                self.declined.pop(program, None)
                self.complain(f"The stack of {program} did not start", reply)
                self.is_news = True

        self.calls.add("stack", program, "--no-wait", "--json", done=done)

    # --- what arrives

    def on_letter(self, letter: dict[str, Any]) -> None:
        if letter.get("kind") == "verdict":
            body = str(letter.get("body") or "")
            self.say(heard(letter), "win" if " win" in body.partition("\n")[0] else "dim")
            self.is_news = True
            return
        self.say(heard(letter), "ask" if letter.get("from") == "human" else "plain")
        for knob, value in self.settings(letter):
            self._pass_on(knob.name, value, f"{letter.get('from')} asks for it")

    def on_results(self, before: dict[str, Trial]) -> None:
        for trial in self.trials:
            was = before.get(trial.experiment)
            if trial.is_stack and not trial.is_open and was is not None and was.is_open:
                kept = trial.outcome in ("win", "holds")
                result = "the head moves" if kept else "it does not hold together; the head stays"
                self.say(
                    f"{trial.experiment}, the stack of {trial.program}: {trial.outcome}; {result}.",
                    "win" if kept else "ask",
                )
                self._tell_person(
                    f"Stack {trial.experiment} of {trial.program}: {trial.outcome}, {{{trial.experiment}.effect}}."
                )

    def _on_status(self, reply: Reply) -> None:
        if isinstance(reply.value, dict):
            devices = [row for row in reply.value.get("devices") or () if isinstance(row, dict)]
            waiting = [row for row in reply.value.get("queue") or () if isinstance(row, dict) and not row.get("run")]
            self.is_idle = not waiting and any(not row.get("run") for row in devices)
        if self.has_results:
            self._decide()

    def _read_ideas(self) -> None:
        def done(reply: Reply) -> None:
            rows = reply.value if isinstance(reply.value, list) else []
            found = [row for row in rows if isinstance(row, dict)]
            found.sort(key=lambda row: "human" not in str(row.get("source")) and "person" not in str(row.get("source")))
            self.ideas = [
                (str(r.get("id") or r.get("idea")), str(r.get("text") or r.get("title") or "")) for r in found
            ]

        self.calls.add("idea", "--json", done=done)

    # --- what it says of itself

    def type_try(self, rest: str) -> None:
        knob, value = knobs_.parse(rest, self.knobs)
        self._pass_on(knob.name, value, "the person at my pane asks for it")

    def type_stack(self, rest: str) -> None:
        programs = sorted({post.program for post in self.posts.values()})
        if rest not in programs:
            raise BadInput(
                f"no program {rest!r:.40}{did_you_mean(rest, programs)}; programs: {', '.join(programs) or 'none yet'}"
            )
        self._stack(Decision(rest, "the person at my pane asks for it"))

    def _pass_on(self, name: str, value: knobs_.Value, why: str) -> None:
        owner = next((post.seat for post in self.posts.values() if name in post.knobs), next(iter(self.posts), None))
        if owner is None:
            self.say("There is no junior to run it yet.", "bad")
            return
        text = f"Try {name}={reasons.show(value)} next; {why}."
        self.calls.add("send", owner, "--json", "--", text, done=self._after(f"{owner} has it: {text}"), first=True)

    def status(self) -> list[str]:
        lines = [f"{post.seat}: {post.program}, {', '.join(post.knobs) or 'no knobs'}." for post in self.posts.values()]
        for program in dict.fromkeys(post.program for post in self.posts.values()):
            judged = [t for t in self.trials if t.program == program and not t.is_open]
            keeps = decisions.waiting_keeps(program, self.trials)
            lines.append(f"{program}: {len(judged)} judged, {len(keeps)} tentative wins wait for a stack.")
        return lines or ["No junior has a task yet."]

    def report(self) -> str:
        judged = [t for t in self.trials if not t.is_open]
        wins = [t for t in judged if t.outcome in ("win", "holds")]
        named = ", ".join(f"{t.experiment} ({{{t.experiment}.effect}}, {t.tier})" for t in wins[-5:]) or "none yet"
        programs = ", ".join(dict.fromkeys(post.program for post in self.posts.values())) or "none"
        waiting = [
            t
            for p in dict.fromkeys(p.program for p in self.posts.values())
            for t in decisions.waiting_keeps(p, self.trials)
        ]
        learned = f"wins: {named}" if wins else "no win yet; the nulls are in the record"
        following = f"verify {', '.join(t.experiment for t in waiting)}" if waiting else self.plan or "hand out tasks"
        return f"Did: {len(judged)} verdicts on programs {programs}.\nLearned: {learned}.\nNext: {following}."

    def groups(self) -> dict[str, list[str]]:
        """Knobs by group, in the charter's order."""
        groups: dict[str, list[str]] = {}
        for name, knob in self.knobs.items():
            groups.setdefault(knob.group, []).append(name)
        return groups

    def _tell_person(self, text: str) -> None:
        self.calls.add("send", "human", "--json", "--kind", "report", "--", text)

    def _unless_ok(self, seat: str) -> Callable[[Reply], None]:
        """A task that did not reach its junior is handed out again."""

        def done(reply: Reply) -> None:
            if not reply.is_ok:
                self.posts.pop(seat, None)
                self.complain(f"{seat} could not be given its task", reply)

        return done
