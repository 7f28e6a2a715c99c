"""What reaches a seat's model from outside: letters are looked at, put into the conversation, and only then acknowledged, so
that a kill between any two of these loses none and repeats none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from org.agents import told
from org.agents.tools import Reply

if TYPE_CHECKING:
    from org.agents.thinker import Thinker


class Post:
    """The way of a letter, and of a typed line: `waiting` of the brain, then its conversation."""

    def __init__(self, brain: Thinker) -> None:
        self.brain = brain

    def tell(self, news: list[dict[str, Any]]) -> None:
        """What waits goes into the conversation, each letter acknowledged once it stands there."""
        brain = self.brain
        if any(row["who"] == "person" for row in news) or not brain.is_turn:
            brain.steps = 0
        for row in news:
            brain.waiting.remove(row)
            letters = [one for one in row["letters"] if (brain.mailbox.folder / "new" / f"{one}.md").exists()]
            if row["letters"] and not letters:
                continue  # the model read it meanwhile, by `org inbox`
            brain.talk.add("user", row["text"], who=row["who"], letters=letters)
            brain.meter.grew(len(row["text"]))
            brain.is_turn = True
            brain.is_asked |= row["who"] == "person"
            for letter in letters:
                brain.letters.append(letter)
                brain.calls.add("inbox", "--json", "--", letter)

    def look(self) -> None:
        brain = self.brain
        unread = brain.mailbox.unread()
        if unread:
            brain.mailbox.asked |= unread
            brain.calls.add("inbox", "--peek", "--json", done=self.on_inbox, first=True)

    def on_inbox(self, reply: Reply) -> None:
        brain = self.brain
        if not reply.is_ok or not isinstance(reply.value, list):
            brain.mailbox.asked.clear()
            brain._mail_at = brain.clock() + brain.back_off()
            brain.say(f"I cannot read my mail: {reply.error or f'exit code {reply.code}'}", "bad")
            return
        told_before, known = brain.talk.letters(), {letter for row in brain.waiting for letter in row["letters"]}
        for letter in reply.value:
            name = str(letter.get("id")) if isinstance(letter, dict) else ""
            if name in told_before:  # a kill came between telling and acknowledging
                brain.calls.add("inbox", "--json", "--", name)
            elif name and name not in known:
                brain.waiting.append(
                    {"text": told.letter(letter, brain.is_order(letter)), "who": "letter", "letters": [name]}
                )
                brain.say(f"✉ {letter.get('from')}: {str(letter.get('body')).strip()[:200]}", "ask")
