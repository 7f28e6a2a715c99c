"""How a seat's conversation ends and the next begins, so that its context never runs out: a note, then a fresh start on
the role, `org brief` and the note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from org import files
from org.agents.tools import Reply
from org.agents.work import Job

if TYPE_CHECKING:
    from org.agents.thinker import Thinker

LEAST_ANSWERS = 2  # a conversation that is full at once would hand over for ever
SLIM = 60_000  # characters of the end of a conversation that no longer fits; halved until it does
NOTE_MOST = 12_000  # characters of a note that are kept
ASK = (
    "Your context is nearly full. Write a handover note to yourself, at most a page: what you were told to do and by whom, "
    "what you tried and learned (by experiment ids), what is open or running, what you would do next, and what in the "
    "worktree is half done. Only this note, your role and `org brief` will be left. Call no tool."
)


class Handover:
    """`press` makes it due; so does a context that is nearly full."""

    def __init__(self, brain: Thinker) -> None:
        self.brain = brain
        self.is_pressed = False
        self.slim = 0  # characters of the conversation's end that are shown instead of the whole; 0: the whole

    @property
    def is_due(self) -> bool:
        return self.is_pressed or (self.brain.meter.is_full and self.brain.talk.answers >= LEAST_ANSWERS)

    def press(self) -> None:
        self.is_pressed, self.slim = True, self.slim or SLIM

    def ask(self) -> None:
        """Ask for the note. Nothing of this stands in the conversation: a kill asks again."""
        brain = self.brain
        brain.events.become("working", "its context is nearly full: it writes a handover note")
        brain.said = "writing a handover note"
        brain.say("My context is nearly full: I write a note to myself and begin afresh.", "ask")
        if self.slim:
            text = f"The end of your conversation, which was cut:\n\n{brain.talk.tail(self.slim)}\n\n{ASK}"
            rows = [{"kind": "user", "text": text}]
        else:
            rows = [*brain.talk.rows, {"kind": "user", "text": ASK}]
        brain.job = Job("note", lambda job: brain.model.ask(brain.question(rows, job, may_call=False)))

    def on_too_long(self, is_note: bool) -> bool:
        """The service says that it does not fit. False when nothing can be left out any more."""
        if not is_note:
            if not self.brain.talk.answers:
                return False
            self.press()
            return True
        self.is_pressed, self.slim = True, self.slim // 2 if self.slim else SLIM
        if self.slim < 2000:
            self.on_note("(The conversation was too long for a note. Its end was:)\n" + self.brain.talk.tail(4000))
        return True

    def on_note(self, text: str) -> None:
        """Keep the note and begin afresh with it; what nobody has answered yet is told again."""
        brain = self.brain
        note = text.strip()[:NOTE_MOST] or f"(No note came. The conversation's end was:)\n{brain.talk.tail(4000)}"
        files.replace(brain.home.handover(brain.name), note + "\n")
        brain.repl.stream("\n")
        self.is_pressed, self.slim = False, 0
        brain.failures = 0
        brain.events.note("handover", "its context was full: a fresh conversation begins")
        self.open_talk(
            f"You are {brain.name}. Your last conversation was full; this is the note you wrote for yourself:\n\n{note}",
            end="Carry on from the note.",
        )

    def open_talk(self, first: str, end: str = "Begin.") -> None:
        """Begin a conversation with `first`, what `org brief` says, and what nobody has answered in the old one. Until the
        page is there the old one is in force: a seat killed meanwhile writes its note again."""
        brain = self.brain
        brain.is_opening = True

        def done(reply: Reply) -> None:
            said = files.printable(reply.text.strip())[:20_000] if reply.is_ok else ""
            page = f"`org brief` says:\n\n{said}" if said else "Run `org brief` first."
            brain.talk.fresh(f"{first}\n\n{page}\n\n{end}")
            brain.meter.begin()
            brain.meter.grew(sum(len(row["text"]) for row in brain.talk.rows))
            brain.is_opening = False

        brain.calls.add("brief", done=done, first=True)
