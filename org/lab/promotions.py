"""Promotions: what won at one scale of the ladder measured again at another, and taken back where it does not carry.

    promote -> an experiment of stage `promote`: the same two trees, fresh seeds, one look -> carried
                                                                      -> fell: head back, ledger line, hub, program's page

A re-test never moves a head forward: stacks at the charter's scale do. What a retracted stack made stays in the record.
State is the ledger's, so a dispatcher may die anywhere here and the next one goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from org import charter as charters
from org import files
from org.errors import BadInput, Busy
from org.evidence import ladder
from org.failpoint import failpoint
from org.home import Home
from org.lab import gate, record, stacks
from org.lab.book import Book
from org.lab.ledger import Ledger
from org.records import Charter, Contract
from org.world import git


def promote(home: Home, experiments: Sequence[str], scale: str, by: str = "human") -> list[Contract]:
    """File a re-test of each at `scale`: all of them, or none with BadInput naming what is possible."""
    charter = charters.load(home)
    names = list(dict.fromkeys(experiments))
    with gate.filing(home):
        ledger = Ledger(home)
        book = ledger.refresh()
        for name in names:
            if why := ladder.problem(book.experiments, book.verdicts, book.moves, charter.scales, name, scale):
                raise BadInput(why)
        gate.check_devices(home, charter, scale)
        return [file(home, ledger, charter, name, scale, by) for name in names]


def file(home: Home, ledger: Ledger, charter: Charter, name: str, scale: str, by: str) -> Contract:
    """The re-test of one experiment; the caller holds `gate.filing`."""
    book = ledger.refresh()
    original, verdict = book.experiments[name], book.verdicts[name]
    draft = original.measured_again(
        why=f"re-test of {name} at {scale}: does it carry?",
        seat=by,
        scale=scale,
        stage="promote",
        promotes=name,
        seeds=stacks.fresh_seeds(book, ladder.runs(charter.rules, verdict)),
        created=files.utc_now(),
    )
    failpoint("promotions.file")
    return gate.file(home, ledger, draft, charter)


class Promotions:
    """What follows from the verdicts of re-tests; each step looks whether it is done already."""

    def __init__(self, home: Home, ledger: Ledger) -> None:
        self.home, self.ledger = home, ledger
        self._seen = -1  # ledger lines when there was last nothing to do

    def step(self, charter: Charter) -> list[str]:
        """Sentences saying what was taken back, and which re-tests were filed because an intent asks for them."""
        book = self.ledger.refresh()
        if len(book.rows) == self._seen:
            return []
        done = {row["experiment"] for row in book.moves if row.get("retracts")}
        fell = [
            (contract, verdict)
            for name, contract in book.experiments.items()
            if contract.promotes and name not in done and (verdict := book.verdicts.get(name))
            if ladder.takes_back(contract, verdict)
        ]
        said = []
        # what made the present head first: whoever was killed may have moved the ref for it already
        for contract, verdict in sorted(
            fell, key=lambda one: _goes_back_to(book, one[0], str(one[0].promotes))[1] is None
        ):
            of = str(contract.promotes)
            why = f"{of} did not carry to {contract.scale}: {verdict.outcome}, {verdict.reasons[0]}"
            said += take_back(self.home, self.ledger, contract, of, why)
        owed = self._file_owed(charter)
        if not said and owed == []:
            self._seen = len(book.rows)
        return said + (owed or [])

    def _file_owed(self, charter: Charter) -> list[str] | None:
        """The next re-test of each tentative win that owes one, under the seat that filed it; None when somebody files at
        the moment, since a filing may wait for the charter's checks."""
        book, limit = self.ledger.refresh(), charter.rules.max_attempts
        if not ladder.due(book.experiments, book.verdicts, limit):
            return []
        said = []
        try:
            with files.locked(self.home.leases / "gate", wait=False):
                book = self.ledger.refresh()
                for name, scale in ladder.due(book.experiments, book.verdicts, limit):
                    if not self._can_run(charter, scale):
                        continue
                    filed = file(self.home, self.ledger, charter, name, scale, book.experiments[name].seat)
                    said.append(f"{filed.experiment} filed: {name} owes a re-test at {scale}")
        except Busy:
            return None
        return said

    def _can_run(self, charter: Charter, scale: str) -> bool:
        """The charter or the devices may have changed since the filing; the win then waits."""
        try:
            gate.check_devices(self.home, charter, scale)
        except BadInput:
            return False
        return True


def take_back(home: Home, ledger: Ledger, by: Contract, of: str, why: str) -> list[str]:
    """Retract `of`, because of what `by` measured: take the head back by compare-and-swap where it is what `of` made, then
    write it down; once, however often it is called. Returns what happened."""
    book, program = ledger.book, by.program
    names, back = _goes_back_to(book, by, of)
    ref = record.main_ref(program)
    at, _ = record.program_head(home, program)
    made = str((book.heads.get(program) or {}).get("commit"))
    failpoint("promotions.retract")
    if back is not None and at == made:
        git.update_ref(home.record, ref, back, at)
        failpoint("promotions.head")
    elif at != back:
        back = None  # not what they made, or moved by another hand meanwhile
    record.note_head(home, program)
    commit = back or at
    whys = [why]
    if back:
        whys.append(f"the head of {program} goes back to {commit[:7]}")
    elif on_it := ladder.stands_on(book.experiments, book.verdicts, book.moves, program, names):
        whys.append(f"the head of {program} stays: {', '.join(on_it)} stands on it")
    row = {
        "program": program,
        "commit": commit,
        "tree": git.tree_of(home.record, commit),
        "experiment": by.experiment,
        "retracts": list(names),
        "scale": by.scale,
        "was": made if back else commit,
        "why": "; ".join(whys),
        **({"attack": by.attack} if by.attack else {}),
    }
    if ledger.append("head", f"retract:{by.experiment}", row) is None:
        return []
    return [f"{', '.join(names)} retracted: {row['why']}"]


def _goes_back_to(book: Book, by: Contract, of: str) -> tuple[tuple[str, ...], str | None]:
    """What falls with `of`, and the commit to which that takes the head back, if it does."""
    names = ladder.same_claim(book.experiments, book.verdicts, of)
    return names, ladder.goes_back_to(book.moves, by.program, names)
