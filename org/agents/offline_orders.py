"""How the researchers without a network obey an order in words: what changes in them, and the sentence they answer with.

An order is a letter of the chief's or the person's whose first line asks for something (`obey`); a task with a `Knobs:` line
is none. A restarted researcher reads its old orders again: `is_replay` changes what it knows and calls nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from org.agents import decisions, obey, reasons
from org.agents import knobs as knobs_
from org.agents.decisions import Post
from org.agents.knobs import Value
from org.agents.obey import Meaning
from org.agents.tools import Reply, seats
from org.agents.wishes import Wish, is_one_idea
from org.records import Charter, Knob

if TYPE_CHECKING:
    from org.agents.brain import Brain
    from org.agents.offline import Junior
    from org.agents.offline_chief import Chief


@dataclass(frozen=True)
class Order:
    """`text`: the line that asks. knobs: those it names; programs: those of the charter that it names, whole words."""

    letter: str
    sender: str
    text: str
    rest: str
    meant: Meaning
    knobs: tuple[Knob, ...]
    settings: tuple[tuple[Knob, Value], ...]
    programs: tuple[str, ...]
    is_replay: bool = False

    @property
    def origin(self) -> str:
        """In the words of an experiment's why: the page finds by it what came of the order."""
        return f"{self.sender} asked for it in {self.letter}:"


def read(letter: dict[str, Any], charter: Charter, names: Sequence[str], is_replay: bool = False) -> Order | None:
    """The order in a letter, None for a task with knobs, a question, or words that ask for nothing known."""
    body = str(letter.get("body") or "")
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines or any(line.lower().lstrip("-* ").startswith("knobs:") for line in lines):
        return None
    meant = obey.meaning(lines[0], names, charter.scales)
    if meant.verb in ("other", "question"):
        return None
    groups = list(dict.fromkeys([*charter.programs, *(knob.group for knob in charter.knobs.values())]))
    return Order(
        str(letter.get("id") or ""),
        str(letter.get("from") or ""),
        lines[0].strip(),
        "\n".join(lines[1:]),
        meant,
        tuple(charter.knobs[name] for name in knobs_.named_in(lines[0], charter.knobs)),
        tuple(knobs_.settings_in(lines[0], charter.knobs)),
        tuple(knobs_.named_in(lines[0], groups)),
        is_replay,
    )


def answer(brain: Brain, order: Order, text: str) -> None:
    """Tell the person what is done about it; the chief's own orders are answered by what follows."""
    brain.say(text, "bold")
    if order.sender == "human" and order.letter and not order.is_replay:
        brain.calls.add("send", "human", "--json", "--kind", "report", "--reply-to", order.letter, "--", text)


# --- a junior ----------------------------------------------------------------------------------------------------


def of_letter(me: Junior, letter: dict[str, Any], is_replay: bool = False) -> Order | None:
    """The order in a letter to a junior. A chief's note that names a setting is a wish, which waits its turn, and a task
    that has it try what an idea names is that idea's."""
    kind, is_page = letter.get("kind"), str(letter.get("id") or "").startswith("review-")
    if not me.is_order(letter) or not (kind == "task" or (kind == "note" and is_page)):
        return None
    order = read(letter, me.charter, [seat.name for seat in seats(me.home)], is_replay)
    return None if order is not None and order.meant.verb == "try" and is_one_idea(letter) else order


def obeyed(me: Junior, letter: dict[str, Any], is_replay: bool = False) -> bool:
    """Whether it was an order, which is then done and answered. Of what the org did itself only note is taken."""
    order = of_letter(me, letter, is_replay)
    if order is not None and letter.get("kind") == "task":
        answer(me, order, junior(me, order))
    return order is not None


def junior(me: Junior, order: Order) -> str:
    """Do it; returns the answer."""
    turned = _turned(me, order)
    verb = order.meant.verb
    if verb == "stop":
        return _stop(me, [*(knob.name for knob in order.knobs), *(name for name, _ in turned)])
    if verb == "resume":
        return _resume(me, order)
    if verb == "redirect":
        return _redirect(me, order)
    if verb == "try":
        return _try(me, order)
    if verb == "veto":
        me.barred += turned
        me.ideas = {knob: idea for knob, idea in me.ideas.items() if idea not in order.meant.ideas}
        me.left |= {knob.name for knob in order.knobs}
        me.keep_off()
        what = ", ".join((*order.meant.experiments, *order.meant.ideas, *(knob.name for knob in order.knobs)))
        return f"I build nothing on {what or 'it'} and try it no more."
    if verb == "approve":
        ideas = [(name, idea) for name, idea in me.ideas.items() if idea in order.meant.ideas]
        if ideas:
            me.ideas = {**dict(ideas), **me.ideas}
            return f"{', '.join(idea for _, idea in ideas)} comes first now."
        return "Good; I go on as planned." if not order.meant.experiments else "Good; the chief has it verified."
    why = next((line.partition(": ")[2] for line in order.rest.splitlines() if "could not file" in line), "")
    return f"A configuration that was measured is not filed again by a seat. {why}".strip()


def _stop(me: Junior, names: Sequence[str]) -> str:
    running = f" {', '.join(sorted(me.open))} run to their end." if me.open else ""
    if not names:
        me.is_halted = True
        return f"I start nothing new until I am told to go on.{running}"
    me.left |= set(names)
    me.keep_off()
    following = f"I go on with {', '.join(knob.name for knob in me.mine)}." if me.mine else "I have no other knob."
    return f"I leave {', '.join(dict.fromkeys(names))} alone.{running} {following}"


def _resume(me: Junior, order: Order) -> str:
    me.is_halted = False
    back = [knob for knob in order.knobs if knob.name in me.left] if order.knobs else []
    me.left -= {knob.name for knob in back}
    me.mine += [knob for knob in back if knob not in me.mine]
    me.is_dry = False
    return f"I go on{f', also with {back[0].name}' if back else ''}."


def _redirect(me: Junior, order: Order) -> str:
    program = next((name for name in order.programs if name != me.seat.program), None)
    knobs = list(order.knobs)
    if program is not None and not knobs:
        knobs = [knob for knob in me.knobs.values() if knob.group == program]
    if not knobs:
        return f"I know no program or knob in that; I am on {me.seat.program} with {_names(me.mine)}."
    me.left -= {knob.name for knob in knobs}
    me.mine, me.ideas, me.is_dry, me.is_halted, me.offset = knobs, {}, False, False, 0
    me.wishes.clear()

    def moved(reply: Reply) -> None:
        me.is_stale = True  # the worktree lies at another head
        if not reply.is_ok:
            me.complain("I cannot go to that program", reply)

    if program is not None and not order.is_replay:
        me.calls.add("seat", me.name, "--program", program, "--json", done=moved)
    return f"I work on {program or me.seat.program} now: {_names(knobs)}."


def _try(me: Junior, order: Order) -> str:
    if order.settings:
        todo = [(k, v) for k, v in order.settings if not (order.is_replay and me.was_tried(k, v))]
        me.wishes.extendleft(Wish(knob, value, order.origin) for knob, value in reversed(todo))
        return f"I try {', '.join(f'{k.name}={reasons.show(v)}' for k, v in order.settings)} next."
    if order.knobs:
        names = {knob.name for knob in order.knobs}
        me.left -= names
        me.mine = [*order.knobs, *(knob for knob in me.mine if knob.name not in names)]
        me.ideas = {**dict.fromkeys(names, ""), **me.ideas}
        me.is_dry = False
        return f"I turn {', '.join(sorted(names))} next."
    return f"I know no knob in that; mine are {_names(me.mine)}, and `try NAME=VALUE` is an exact wish."


def _turned(me: Junior | Chief, order: Order) -> list[tuple[str, Any]]:
    """What the experiments that are named turned, and to which value."""
    found = []
    for trial in me.trials:
        if trial.experiment in order.meant.experiments:
            found += [(knob, new) for name, _, new in trial.changes for knob in me.knobs if knob.lower() == name]
    return found


def _names(knobs: Sequence[Knob]) -> str:
    return ", ".join(knob.name for knob in knobs) or "no knobs"


# --- a chief -----------------------------------------------------------------------------------------------------


def chief(me: Chief, order: Order) -> str:
    """Do it or give it to the junior whose knobs it names; returns the answer."""
    verb, meant = order.meant.verb, order.meant
    if verb == "redirect":
        return _move(me, order)
    if verb == "veto" and (meant.experiments or meant.ideas):
        me.vetoed |= {*meant.experiments, *meant.ideas}
        me.approved -= me.vetoed
        return f"{', '.join((*meant.experiments, *meant.ideas))} is out: I assign it to nobody and have no stack made for it."
    if verb == "approve" and meant.experiments:
        for name in meant.experiments if not order.is_replay else ():
            me.calls.add("verify", name, "--no-wait", "--json", done=me.verified(name))
        return f"I have {', '.join(meant.experiments)} verified on fresh seeds."
    if verb == "approve" and meant.ideas:
        return _approve(me, order)
    if order.knobs:
        return _pass_on(me, order)
    if verb in ("stop", "resume"):
        me.is_halted = verb == "stop"
        me.is_news = True
        return "I hand out and verify nothing until I am told to go on." if me.is_halted else "I go on."
    return "I do not know how to do that: name a knob, a program, an idea or a junior."


def _pass_on(me: Chief, order: Order) -> str:
    """To those whose knobs it names. A replayed one was given to them then, and their mailbox has it."""
    owners = [post.seat for post in me.posts.values() if {knob.name for knob in order.knobs} & set(post.knobs)]
    owners = owners or list(me.posts)[:1]
    if not owners:
        return "There is no junior to do it yet."
    for owner in owners if not order.is_replay else ():
        text = f"{order.text}\n\nThe person ordered it in {order.letter}."
        me.calls.add("send", owner, "--json", "--kind", "task", "--", text, first=True)
    return f"{', '.join(owners)} {'has' if len(owners) == 1 else 'have'} it: {_names(order.knobs)} is theirs."


def _move(me: Chief, order: Order) -> str:
    """A junior who is named has the letter too and moves by itself; else the one whose program promises least goes."""
    there = [seat for seat in seats(me.home) if seat.name in me.posts]
    named = [seat for seat in there if seat.name in knobs_.named_in(order.text, [seat.name])]
    program = next(iter(order.programs), None) or next((knob.group for knob in order.knobs), None)
    if program is None:
        return "I know no program or knob in that."
    knobs = tuple(k.name for k in order.knobs) or tuple(n for n, k in me.knobs.items() if k.group == program)
    for seat in named:
        me.posts[seat.name] = Post(seat.name, program, knobs)
    if named or order.is_replay:
        return f"{', '.join(seat.name for seat in named) or 'who was moved'} is on {program} from now on."
    posts = list(me.posts.values())
    free = [seat for seat in there if me.posts[seat.name].program != program]
    if not free:
        return _pass_on(me, order) if order.knobs else f"Everybody is on {program} already."
    judged = {s.name: sum(t.seat == s.name and t.outcome in ("win", "holds") for t in me.trials) for s in free}
    seat = min(free, key=lambda one: (judged[one.name], -there.index(one)))
    post = decisions.moved([*posts, Post("", program, knobs)], seat.name, program, me.trials)
    me.hand_out(seat, post, f"the person ordered it in {order.letter}")
    return f"{seat.name} goes to {program}."


def _approve(me: Chief, order: Order) -> str:
    """It goes before all others, like an idea of the person's own, and also if it repeats one that was tried."""
    me.approved |= set(order.meant.ideas)
    me.vetoed -= set(order.meant.ideas)
    known = {idea.id: idea for idea in me.ideas.all or ()}
    deaf = [name for name in order.meant.ideas if name in known and not known[name].knobs]
    first = f"{', '.join(order.meant.ideas)} comes first now."
    return f"{first} {', '.join(deaf)} names no constant: which, and to what?" if deaf else first
