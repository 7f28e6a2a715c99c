"""The chief of an organisation without a network: splits the knobs into programs, hands out tasks, has wins verified.

The edge only; what it decides is in `decisions`. It keeps nothing between starts: task letters say who works on what.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from org.agents import assigning, decisions, handout, lessons, offline_orders, reasons, wishes
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
        self.ideas = handout.Ideas(self)
        self.said: set[str] = set()  # what was told once: a conflict, double work, a paper or an idea nobody can act on
        self.declined: dict[str, tuple[str, ...]] = {}
        self.moved_at: dict[str, int] = {}
        self.vetoed: set[str] = set()  # wins and ideas that the person put out
        self.approved: set[str] = set()  # ideas that the person wants first
        self.is_halted = False  # ordered to hand out and verify nothing
        # orders of a former life, the oldest last: read again before anything is handed out
        self.orders = [str(head.get("id")) for head, _ in reversed(self.mailbox.letters("task", ("cur",)))]
        self.written: set[str] | None = None  # titles of the wiki's pages
        self.is_idle = False
        self.is_news = True
        self._seen: list[str] = []
        self.say(f"I am {self.name}. I split the work, hand out tasks and have wins verified.", "bold")
        self.say("Type help for what I understand.", "dim")

    # --- the loop, one thing a turn

    def step(self) -> None:
        if self.rests():
            return
        if (leader := self.chief()) != self.name:
            self.intend(f"stand by: {leader} leads")
            self.events.become("idle", f"{leader} leads")
        elif self.orders:
            self.calls.add("inbox", "--json", "--", self.orders.pop(), done=self._remember_order)
        elif self.ideas.all is None:
            self.ideas.read()
        elif self.written is None:
            self._read_wiki()
        elif newcomers := self._newcomers() if not self.is_halted else []:
            self._assign(newcomers)
        elif self.is_news or self.has_news(10.0):
            self.is_news = False
            self.refresh()
            self.calls.add("status", "--json", done=self._on_status)
        elif self.ideas.has_news():
            self.ideas.read()
        elif self.has_results and self.posts and self.ideas.work():
            pass
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
        for head, body in reversed(Mailbox(self.home.mailbox(seat.name)).letters("task")):
            line = next((ln for ln in body.splitlines() if ln.lower().startswith("knobs:")), "")
            if line and head.get("from") in ("human", self.chief()):
                return Post(seat.name, seat.program, tuple(knobs_.named_in(line, self.knobs)))
        return None

    def _assign(self, newcomers: list[Seat]) -> None:
        """Split the charter's groups over all juniors; those who have a post keep it."""
        everyone = [seat.name for seat in seats(self.home) if seat.role == "junior"]
        open_ideas = assigning.waiting(self.ideas.all or ())
        worth = decisions.worth(
            self.knobs,
            self.trials,
            wanted={name for idea in open_ideas for name in idea.knobs},
            asked={name for idea in open_ideas if idea.is_persons for name in idea.knobs},
        )
        plan = {p.seat: p for p in decisions.split(self.groups(), everyone, worth, decisions.tied(self.trials))}
        programs = sorted({post.program for post in plan.values()})
        self.events.become("working", "handing out tasks")
        self.say(
            f"{len(self.knobs)} knobs in {len(self.groups())} groups, {len(everyone)} juniors: I make "
            f"{len(programs)} programs ({', '.join(programs)}), so that no two juniors turn the same knob.",
            "plain",
        )
        for seat in newcomers:
            self._send_to(seat, plan[seat.name], "")
        self.tell_person(f"{len(newcomers)} juniors have their tasks on {', '.join(programs)}.")

    def hand_out(self, seat: Seat, post: Post, why: str) -> None:
        """A junior goes to another post; the person is told by whoever asks for it."""
        self._send_to(seat, post, why)

    def _send_to(self, seat: Seat, post: Post, why: str, is_move: bool = True) -> None:
        self.posts[seat.name] = post
        if seat.program != post.program:
            self.calls.add("seat", seat.name, "--program", post.program, "--json", done=self.unless_ok(seat.name))
        letter = ["send", seat.name, "--json", "--kind", "task", "--", self.task(post, why, is_move)]
        self.calls.add(*letter, done=self.unless_ok(seat.name))
        self.say(f"{seat.name} works on {post.program}: {', '.join(post.knobs) or 'whatever it finds'}.", "plain")

    def task(self, post: Post, why: str = "", is_move: bool = True) -> str:
        """The letter that makes a post. Its `Knobs:` line is what a restarted junior or chief reads again."""
        about = self.charter.programs.get(post.program, "")
        lines = [f"Program {post.program}{f': {about}' if about else ''}.", f"Knobs: {', '.join(post.knobs)}"]
        if why:
            lines.append(f"{'You move' if is_move else 'Your knobs are fewer'} because {why}.")
        lines.append(assigning.evidence(post.knobs, self.trials))
        lines.append(
            "One change an experiment. Say why and predict the effect before you run it; leave other knobs alone until each "
            "of yours was turned once: then a blend of all that the record promises is one change, too. "
            "Ideas come as tasks of their own, and go before yours."
        )
        return "\n".join(lines)

    def _decide(self) -> None:
        """After new results: verify first, say what is in each other's way, then move one junior at most. Nothing while an
        order stops me."""
        if self.is_halted:
            return
        posts = list(self.posts.values())
        self._say_clashes()
        for programs in self.together(post.program for post in posts):
            owned = [name for post in posts if post.program in programs for name in post.knobs]
            declined = [name for program in programs for name in self.declined.get(program, ())]
            due = decisions.stack_due(
                programs,
                self.trials,
                owned,
                is_idle=self.is_idle,
                declined=(*declined, *self.vetoed),
            )
            if due is not None:
                self._stack(due, programs)
        move = decisions.move_due(posts, self.trials, self.moved_at)
        seat = next((s for s in seats(self.home) if move is not None and s.name == move.subject), None)
        if move is None or seat is None:
            return
        old = self.posts[seat.name].program
        self.moved_at[old] = sum(t.program == old and not t.is_open and not t.is_stack for t in self.trials)
        self.say(f"I move {seat.name} to {move.program}: {move.why}.", "ask")
        changed = decisions.handed_over(posts, seat.name, move.program, self.trials)
        self._send_to(seat, changed[0], move.why)
        for post in changed[1:]:
            there = next((s for s in seats(self.home) if s.name == post.seat), None)
            if there is not None:
                self._send_to(there, post, f"{seat.name} joins you and takes the rest", is_move=False)
        self.tell_person(f"{seat.name} moves to {move.program}: {move.why}.")

    def _say_clashes(self) -> None:
        """Wins that are in each other's way, to the person; a knob that two turn, to the one who came second."""
        for found in decisions.conflicts(self.trials):
            if self.is_new(found.why):
                self.tell_person(f"Conflicting wins in {found.program}: {found.why}; a stack can keep one of them.")
        for found in decisions.double_work(self.trials):
            if self.is_new(found.why):
                text = f"Double work: {found.why}. Let that one end, and take your next knob."
                self.calls.add("send", found.subject, "--json", "--", text)
                self.say(f"{found.subject}: {found.why}.", "ask")

    def is_new(self, words: str) -> bool:
        is_new = words not in self.said
        self.said.add(words)
        return is_new

    def _read_wiki(self) -> None:
        """What is written already, by anybody and in a former life."""

        def done(reply: Reply) -> None:
            rows = reply.value if isinstance(reply.value, list) else []
            self.written = {str(row.get("title")) for row in rows if isinstance(row, dict)}

        self.calls.add("wiki", "--json", done=done)

    def _teach(self) -> None:
        """What the verdicts have taught goes into the wiki, once each."""
        for lesson in lessons.due(self.trials, self.written or ()):
            self.written = {*(self.written or ()), lesson.title}
            done = self.after(f"Written into the wiki: {lesson.title}")
            self.calls.add("wiki", "--kind", lesson.kind, "--json", "--", lesson.page, done=done)

    def _stack(self, due: Decision, programs: tuple[str, ...]) -> None:
        program = due.subject
        self.declined[program] = decisions.unverified(programs, self.trials)
        self.say(f"I have {program} verified: {due.why}.", "plain")

        def done(reply: Reply) -> None:
            name = reply.value.get("experiment") if isinstance(reply.value, dict) else None
            if reply.is_ok and name:
                self.say(f"{name} verifies {program} with fresh seeds.", "win")
                self.tell_person(f"{name} verifies {program}: {due.why}.")
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
        if wishes.idea_of(letter):
            self.ideas.forget()  # the person may insist on it, or have answered
        if letter.get("kind") == "report" and letter.get("verified") is True:
            self.ideas.hear_back(letter)
        is_mine = letter.get("kind") == "task" and letter.get("from") == "human" and self.is_order(letter)
        if is_mine and self._obey(letter):
            return
        for knob, value in self.settings(letter):
            self._pass_on(knob.name, value, f"{letter.get('from')} asks for it", wishes.idea_of(letter))

    def _obey(self, letter: dict[str, Any], is_replay: bool = False) -> bool:
        """Whether it was an order, done or not understood; words about an idea are the person's insisting on it, too."""
        order = offline_orders.read(letter, self.charter, [seat.name for seat in seats(self.home)], is_replay)
        if order is not None:
            offline_orders.answer(self, order, offline_orders.chief(self, order))
        elif is_replay or wishes.idea_of(letter):
            return False
        else:
            text = (
                "I do not understand that: name a knob, a program, an idea, an experiment or a junior, and what to do."
            )
            letter_id = str(letter.get("id") or "")
            self.calls.add("send", "human", "--json", "--kind", "report", "--reply-to", letter_id, "--", text)
            self.say(text, "bad")
        return True

    def _remember_order(self, reply: Reply) -> None:
        for letter in reply.value if reply.is_ok and isinstance(reply.value, list) else ():
            if isinstance(letter, dict) and letter.get("from") == "human" and self.is_order(letter):
                self._obey(letter, is_replay=True)

    def verified(self, name: str) -> Callable[[Reply], None]:
        """What the person is told when a win was handed in for verification."""

        def done(reply: Reply) -> None:
            if not reply.is_ok:
                self.tell_person(f"{name} is not verified now: {reply.error or f'exit code {reply.code}'}")

        return done

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
                self.tell_person(
                    f"Stack {trial.experiment} of {trial.program}: {trial.outcome}, {{{trial.experiment}.effect}}."
                )

    def _on_status(self, reply: Reply) -> None:
        if isinstance(reply.value, dict):
            devices = [row for row in reply.value.get("devices") or () if isinstance(row, dict)]
            waiting = [row for row in reply.value.get("queue") or () if isinstance(row, dict) and not row.get("run")]
            self.is_idle = not waiting and any(not row.get("run") for row in devices)
        if self.has_results:
            self._decide()
            self._teach()

    def head_values(self) -> dict[str, knobs_.Value | None]:
        """Every knob as it stands in some junior's worktree of its program; None where nobody has one."""
        found: dict[str, knobs_.Value | None] = dict.fromkeys(self.knobs)
        for seat in seats(self.home):
            own = self.posts[seat.name].knobs if seat.name in self.posts else ()
            for name in own:
                path = Path(seat.worktree) / self.knobs[name].path
                text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
                found[name] = knobs_.read(text, name)
        return found

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
        group = self.together([rest, *programs])[0]
        self._stack(Decision(rest, "the person at my pane asks for it"), group)

    def _pass_on(self, name: str, value: knobs_.Value, why: str, idea: str = "") -> None:
        owner = next((post.seat for post in self.posts.values() if name in post.knobs), next(iter(self.posts), None))
        if owner is None:
            self.say("There is no junior to run it yet.", "bad")
            return
        text = f"Try {name}={reasons.show(value)} next; {why}."
        about = ["--about", idea] if idea else []
        args = ["send", owner, "--json", *about, "--", text]
        self.calls.add(*args, done=self.after(f"{owner} has it: {text}"), first=True)

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

    def tell_person(self, text: str, about: str = "") -> None:
        more = ["--about", about] if about else []
        self.calls.add("send", "human", "--json", "--kind", "report", *more, "--", text)

    def unless_ok(self, seat: str, what: str = "") -> Callable[[Reply], None]:
        """A task that did not reach its junior is handed out again. what: of an idea, which leaves its post alone."""

        def done(reply: Reply) -> None:
            if not reply.is_ok:
                if not what:
                    self.posts.pop(seat, None)
                self.complain(what or f"{seat} could not be given its task", reply)

        return done
