"""Ideas as a chief hands them out: read again when they change, papers read, each objected to, then one by one to juniors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from org import files
from org.agents import assigning, search, wishes
from org.agents.assigning import Idea
from org.agents.tools import Reply
from org.errors import BadInput

if TYPE_CHECKING:
    from org.agents.offline_chief import Chief

PAPER_CHARACTERS = 200_000  # of a paper that are read
EVERY_S = 3.0


class Ideas:
    """What one chief knows of the ideas. `all`: by number, None before they were read."""

    def __init__(self, chief: Chief) -> None:
        self.chief = chief
        self.all: list[Idea] | None = None
        self._seen: tuple[object, ...] | None = None  # None: to be read again at once
        self._at = -100.0

    def forget(self) -> None:
        """Read them again at once: something of them has just changed."""
        self._seen = None

    def has_news(self) -> bool:
        """Whether a page of an idea, a paper or the ledger, which says what was tried, changed since they were read; asked
        at most every so often, unless I changed something myself."""
        chief = self.chief
        is_mine = self._seen is None
        if not is_mine and chief.clock() - self._at < EVERY_S:
            return False
        self._at = chief.clock()
        return is_mine or self._stamp() != self._seen

    def _stamp(self) -> tuple[object, ...]:
        chief = self.chief
        return (*files.signature(chief.home.ideas, chief.home.papers), chief.ledger())

    def read(self) -> None:
        chief = self.chief
        stamp = self._stamp()

        def done(reply: Reply) -> None:
            if not reply.is_ok or not isinstance(reply.value, list):
                self.all = self.all or []
                chief.complain("I cannot read the ideas", reply)
                return
            self.all = assigning.read([row for row in reply.value if isinstance(row, dict)], chief.knobs)
            self._seen = stamp

        chief.calls.add("idea", "--json", done=done)

    def work(self) -> bool:
        """One step: a paper is read, an idea that nobody can act on is asked about, one is objected to, or one handed out."""
        chief = self.chief
        metric, size = chief.charter.metric, chief.charter.margin or search.PRIOR
        ideas = [
            replace(idea, is_persons=True, insisted=True) if idea.id in chief.approved else idea
            for idea in self.all or ()
            if idea.id not in chief.vetoed
        ]
        return (
            self._read_paper()
            or self._ask_what_is_meant()
            or (not chief.is_halted and self._hand_out(assigning.due(ideas, list(chief.posts.values()), metric, size)))
        )

    def _read_paper(self) -> bool:
        """What a paper proposes and nobody wrote down yet becomes ideas with the paper as their source."""
        chief = self.chief
        known = {idea.text for idea in self.all or ()}
        for path in sorted(chief.home.papers.glob("*.md")):
            try:
                text = files.read_plain(path).decode(errors="replace")
            except (OSError, BadInput) as error:
                if chief.is_new(str(error)):
                    chief.say(str(error), "bad")
                continue
            found = assigning.drafts(files.printable(text, PAPER_CHARACTERS), chief.knobs)
            fresh = [draft for draft in found if draft.text not in known and chief.is_new(f"{path.name} {draft.text}")]
            if not found and chief.is_new(path.name):
                chief.say(f"{path.name} names no constant of the charter; somebody else has to read it.", "dim")
            for draft in fresh:
                more = ["--mechanism", draft.mechanism] if draft.mechanism else []
                more += [f"--expect={draft.expect:g}"] if draft.expect is not None else []
                chief.calls.add("idea", "--json", "--source", f"{path.name}", *more, "--", draft.text)
            if fresh:
                chief.say(f"I read {path.name}: {len(fresh)} ideas in it.", "plain")
                return True
        return False

    def _ask_what_is_meant(self) -> bool:
        """A person's idea that names no constant: only they can say which. The idea is parked until they do."""
        chief = self.chief
        for idea in self.all or ():
            if (
                idea.is_persons
                and idea.status == "open"
                and not idea.knobs
                and not idea.insisted
                and chief.is_new(idea.id)
            ):
                text = (
                    f"I can only turn constants ({', '.join(chief.knobs)}), and {idea.id} names none: which, and to what? "
                    "Answer with NAME=VALUE, or give it to who writes code."
                )
                chief.calls.add("send", "human", "--json", "--kind", "question", "--about", idea.id, "--", text)
                self.forget()
                return True
        return False

    def _hand_out(self, due: tuple[Idea, str] | None) -> bool:
        """An idea goes to its junior; one without an objection gets that first."""
        chief = self.chief
        if due is None:
            return False
        idea, seat = due
        self.forget()
        if not idea.objection:
            metric, size = chief.charter.metric, chief.charter.margin or search.PRIOR
            text = assigning.objection(idea, chief.head_values(), chief.trials, metric, size)
            chief.calls.add(
                "idea", idea.id, "--json", "--object", text, done=chief.after(f"Objected to {idea.id}: {text}")
            )
            return True
        chief.say(f"{seat} gets idea {idea.id} of {idea.source}.", "plain")
        args = [
            "send",
            seat,
            "--json",
            "--kind",
            "task",
            "--about",
            idea.id,
            "--",
            assigning.letter(idea, chief.trials),
        ]
        chief.calls.add(*args, done=chief.unless_ok(seat, f"{seat} could not be given {idea.id}"))
        return True

    def hear_back(self, letter: dict[str, Any]) -> None:
        """An idea that a junior gives back: it is given up with the reason, and a person's is told to them."""
        chief = self.chief
        idea, body = wishes.idea_of(letter), " ".join(str(letter.get("body") or "").split())
        if not idea or not body.startswith(wishes.NOT_TESTED):
            return
        why = body.partition(": ")[2][:300] or body
        chief.calls.add("idea", idea, "--json", "--dead", why)
        chief.tell_person(f"{idea} comes to nothing: {why}", idea)
        self.forget()
