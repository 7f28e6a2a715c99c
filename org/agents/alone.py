"""Ideas where no chief hands them out: a researcher takes them itself, a person's first, and objects before it tries one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from org import files
from org.agents import assigning, search
from org.agents.assigning import Idea
from org.agents.decisions import Post
from org.agents.tools import Reply, seats

if TYPE_CHECKING:
    from org.agents.offline import Junior

EVERY_S = 3.0


class Ideas:
    """The ideas of one seat without a chief. Peers share them by number, so that no two take the same."""

    def __init__(self, brain: Junior) -> None:
        self.brain = brain
        self._seen: tuple[object, ...] | None = None
        self._at = -100.0
        self._taken: set[str] = set()

    def look(self) -> bool:
        """Whether there was something new to read; what it names is wished for when the answer is there."""
        brain = self.brain
        if brain.clock() - self._at < EVERY_S:
            return False
        self._at, stamp = brain.clock(), files.signature(brain.home.ideas)
        if stamp == self._seen:
            return False
        self._seen = stamp
        brain.calls.add("idea", "--json", done=self._read)
        return bool(stamp)

    def _read(self, reply: Reply) -> None:
        brain = self.brain
        if not reply.is_ok or not isinstance(reply.value, list):
            brain.complain("I cannot read the ideas", reply)
            self._seen = None
            return
        metric, size = brain.charter.metric, brain.charter.margin or search.PRIOR
        for idea in self._mine([row for row in reply.value if isinstance(row, dict)]):
            self._taken.add(idea.id)
            if not idea.objection:
                text = assigning.objection(idea, brain.current(), brain.trials, metric, size)
                brain.calls.add("idea", idea.id, "--json", "--object", text)
            brain.take_idea({"about": idea.id, "body": assigning.letter(idea, brain.trials)})

    def _mine(self, rows: list[dict[str, object]]) -> Iterator[Idea]:
        """Those to take now, in their order."""
        brain = self.brain
        peers = [seat.name for seat in seats(brain.home)]
        found = [idea for idea in assigning.read(rows, brain.knobs) if idea.id not in self._taken]
        found = [i for i in found if peers[int(i.id[1:]) % len(peers)] == brain.name] if brain.name in peers else found
        post = [Post(brain.name, brain.seat.program, tuple(brain.knobs))]
        while due := assigning.due(found, post, brain.charter.metric, brain.charter.margin or search.PRIOR):
            yield due[0]
            found = [idea for idea in found if idea is not due[0]]
