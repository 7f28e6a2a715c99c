"""Stacks: tentative wins put on a head together, measured afresh, and the head moved when they hold.

Programs that stand on one head share their stacks (`lab.together`), so that what is verified is always one configuration. A stack is an experiment like any other; what is special is its merge, its fresh seeds and what its verdict may do.
"""

from __future__ import annotations

from collections.abc import Sequence

from org import charter as charters
from org import files
from org.errors import BadInput, OrgError
from org.evidence import contract as contracts
from org.evidence import stack as stacks
from org.failpoint import failpoint
from org.home import Home
from org.lab import gate, record, together
from org.lab.book import Book
from org.lab.ledger import Ledger
from org.lab.record import candidate_ref, main_ref, program_head
from org.records import KEPT, Charter, Contract
from org.world import git

VERIFY_SEED = 101  # verification seeds begin here, above every bank


def stack(home: Home, program: str, by: str = "human") -> Contract | None:
    """Put the tentative wins of a program, and of those that stand on its head, on that head together: one experiment on
    fresh seeds and the hidden split. None when there is nothing to verify or one of their stacks is still being measured."""
    charter = charters.load(home)
    with gate.filing(home):
        ledger = Ledger(home)
        book = ledger.refresh()
        head, _ = program_head(home, program)
        group = together.of(home, book, charter, program)
        if together.verifying(book, group):
            return None
        same = stacks.same_head(book.moves, program, head)
        known, out = (book.experiments, book.verdicts), book.out()
        half = stacks.half_due(*known, group, same, out, charter.scale)
        new = stacks.members(*known, book.heads, group, same, out=out, scale=charter.scale)
        for wanted in (half, new):
            members, tree = _merge(home, book, head, wanted)
            if members:
                why = f"stack of {', '.join(members)}: do they hold together, on fresh seeds?"
                runs = stacks.verification_runs(charter.rules, members, book.verdicts)
                owners = {book.experiments[name].program for name in members}
                of = owners.pop() if len(owners) == 1 else program  # what falls with a program's own win is its head
                return _file_verification(home, ledger, charter, of, by, members, tree, why, runs)
    return None


def left_out(home: Home, program: str) -> dict[str, str]:
    """When there is nothing to stack: each tentative win of the program -> why it waits or is passed over, to follow its
    name."""
    charter = charters.load(home)
    book = Ledger(home).refresh()
    head, _ = program_head(home, program)
    same = stacks.same_head(book.moves, program, head)
    found = stacks.standing(book.experiments, book.verdicts, program, same, book.out(), charter.scale)
    fits = "does not merge with the head; file it again there"
    if under_way := together.verifying(book, together.of(home, book, charter, program)):
        fits = f"waits until {under_way[0].experiment} is measured"
        found |= {
            name: f"is being measured in {c.experiment}" for c in under_way for name in c.members if name in found
        }
    return {name: why or fits for name, why in found.items()}


def verify(home: Home, experiment: str, by: str = "human") -> Contract:
    """Re-measure one tentative win, or one `no-worse` claim that holds, alone against its program's head, on fresh seeds;
    once on each head, since asking again until it passes would be another claim. A control is measured under the same
    control, a win at another scale at that scale: these move no head. Raises BadInput when there is nothing to verify, or
    another verification of the program is open: it may move the head that this one would be measured on."""
    charter = charters.load(home)
    with gate.filing(home):
        ledger = Ledger(home)
        book = ledger.refresh()
        contract, verdict = book.experiments.get(experiment), book.verdicts.get(experiment)
        if contract is None:
            raise BadInput(f"{experiment} is not in the ledger; `org results` lists what is")
        if verdict is None or verdict.outcome not in KEPT or verdict.tier != "tentative":
            said = f"{verdict.outcome} {verdict.tier or ''}".strip() if verdict else "not judged yet"
            raise BadInput(f"{experiment} is {said}; only a tentative win, or a claim that holds, can be verified")
        if why := book.out().get(experiment):
            raise BadInput(f"{experiment} {why}; it is not verified")
        head, _ = program_head(home, contract.program)
        for name, other in book.experiments.items():
            if other.members == (experiment,) and other.baseline_commit == head:
                past = book.verdicts.get(name)
                if past is None or past.outcome != "lost":
                    raise BadInput(f"{experiment} was put to this test as {name} ({past.outcome if past else 'open'})")
        if under_way := together.verifying(book, together.of(home, book, charter, contract.program)):
            raise BadInput(
                f"{under_way[0].experiment} is being verified on the head of {contract.program}; "
                f"`org verify {experiment}` again when it has its verdict"
            )
        members, tree = _merge(home, book, head, [experiment])
        if not members:
            raise BadInput(f"{experiment} no longer merges with the head of {contract.program}; file it again there")
        why = f"verification of {experiment} alone"
        # a harm is excluded by as many runs as excluded it before
        runs = stacks.verification_runs(charter.rules, members, book.verdicts)
        runs = max(runs, 0 if contract.claim == "better" else verdict.n)
        return _file_verification(
            home, ledger, charter, contract.program, by, members, tree, why, runs, contract.control, contract.claim
        )


def rebuild_candidate(home: Home, book: Book, program: str, head: str, wanted: Sequence[str]) -> list[str]:
    """Merge tentative wins of the program onto its head as branch `candidate`; returns those that did not merge."""
    members, tree = _merge(home, book, head, wanted)
    old = git.resolve(home.record, candidate_ref(program))
    if git.tree_of(home.record, old or head) != tree:
        what = ", ".join(members) or "nothing yet"
        commit = git.commit(home.record, tree, [head], f"candidate: {what} on {head[:7]}")
        git.update_ref(home.record, candidate_ref(program), commit, old)
        failpoint("stacks.candidate")
    return [name for name in wanted if name not in members]


def move_head(home: Home, ledger: Ledger, contract: Contract, base: str) -> bool:
    """A verified stack becomes its program's head, by compare-and-swap; once, however often it is called. False when it
    was measured on another head than the present one. Raises OrgError, moving nothing, when the branch is not where the
    ledger has the head (`base` before the first)."""
    ref = main_ref(contract.program)
    at = git.resolve(home.record, ref)
    in_force = str(ledger.book.heads.get(contract.program, {}).get("commit") or base)
    is_fit = contract.baseline_commit == in_force
    if at not in (in_force, contract.commit) and (is_fit or at == contract.baseline_commit):
        raise OrgError(
            f"the head of {contract.program} does not move to {contract.experiment}: the record has it at "
            f"{(at or 'nothing')[:7]} and the ledger at {in_force[:7]}; see `org results --check`"
        )
    if not is_fit:
        return False
    if at == in_force:
        git.update_ref(home.record, ref, contract.commit, at)
        failpoint("gate.head")
    record.note_head(home, contract.program)
    rules = charters.load(home).rules
    verdict = ledger.book.verdicts[contract.experiment]
    row = {
        "program": contract.program,
        "commit": contract.commit,
        "tree": contract.tree,
        "experiment": contract.experiment,
        "members": list(contract.members),
        "was": contract.baseline_commit,
        "seeds": list(fresh_seeds(ledger.book, rules.verify_runs)),
        "effect": stacks.reported(verdict, rules.verified_z),
        "se": verdict.se,
    }
    return ledger.append("head", f"head:{contract.experiment}", row) is not None


def _merge(home: Home, book: Book, head: str, wanted: Sequence[str]) -> tuple[list[str], str]:
    """Merge members one by one onto `head`; returns those that fit and the tree. A conflict leaves its member out, and so
    does a merge without one whose Python does not parse.
    Each member is taken as one change against the head it was measured on, whatever its branch did before."""
    members: list[str] = []
    tree = git.tree_of(home.record, head)
    for name in wanted:
        contract = book.experiments[name]
        root = contract.baseline_commit
        ours = git.commit(home.record, tree, [root], "ours")
        theirs = git.commit(home.record, contract.tree, [root], "theirs")
        merged: str | git.Conflict | None = git.merge_tree(home.record, ours, theirs)
        if not isinstance(merged, str) or not parses(home, tree, merged):
            merged = turn(home, tree, contract)
        if isinstance(merged, str) and merged != tree:
            tree, members = merged, [*members, name]
    return members, tree


def parses(home: Home, before: str, after: str) -> bool:
    """Whether the Python files of `after` that are not as in `before` parse: a textual merge may leave half a block."""
    paths = [path for status, path in git.diff_names(home.record, before, after) if status != "D"]
    texts = git.read_files(home.record, after, [path for path in paths if path.endswith(".py")])
    try:
        for data in texts.values():
            contracts.parse(data.decode(errors="replace"))
    except contracts.SourceError:
        return False
    return True


def turn(home: Home, tree: str, contract: Contract, back: bool = False) -> str | None:
    """The tree with a pure knob change applied by name, or taken `back`. Neighbouring lines conflict in a textual merge
    though the knobs are independent. None when the change is more than its knobs, or a knob stands elsewhere by now."""
    if len(contract.knobs) != contract.lines_added or len(contract.knobs) != contract.lines_removed:
        return None
    changes: dict[str, bytes | None] = {}
    texts = git.read_files(home.record, tree, {knob.path for knob in contract.knobs})
    for knob in contract.knobs:
        old, new = (knob.new, knob.old) if back else (knob.old, knob.new)
        text = (changes.get(knob.path) or texts.get(knob.path) or b"").decode(errors="surrogateescape")
        try:
            there = contracts.constants(text).get(knob.name)
        except contracts.SourceError:
            return None
        if there is None or there.value != old:
            return None
        turned = record.set_constant(text, knob.name, new)
        if turned is None:
            return None
        changes[knob.path] = turned.encode(errors="surrogateescape")
    return git.tree_with(home.record, tree, changes)


def _file_verification(
    home: Home,
    ledger: Ledger,
    charter: Charter,
    program: str,
    by: str,
    members: list[str],
    tree: str,
    why: str,
    runs: int,
    control: str = "",
    claim: str = "better",
) -> Contract:
    book = ledger.book
    scale = book.experiments[members[0]].scale
    gate.check_devices(home, charter, scale)
    head, head_tree = program_head(home, program)
    commits = [book.experiments[name].commit for name in members]
    commit = git.commit(home.record, tree, [head, *commits], why)
    texts, new_texts = gate.texts_of(home, charter, head), gate.texts_of(home, charter, tree)
    derived = contracts.derive(texts, new_texts, charter)
    draft = Contract(
        experiment="E????",
        why=why,
        claim=claim,
        expect=sum(v.effect or 0.0 for v in (book.verdicts[m] for m in members)),
        seat=by,
        program=program,
        commit=commit,
        tree=tree,
        baseline_commit=head,
        baseline_tree=head_tree,
        scale=scale,
        stage="verify",
        matched=control or charter.matched,
        control=control,
        knobs=derived.knobs,
        new_constants=derived.new_constants,
        lines_added=derived.lines_added,
        lines_removed=derived.lines_removed,
        seeds=fresh_seeds(book, runs),
        members=tuple(members),
        notices=(f"this moves no head: heads move at {charter.scale}",) if scale != charter.scale else (),
        created=files.utc_now(),
    )
    return gate.file(home, ledger, draft, charter)


def fresh_seeds(book: Book, count: int) -> tuple[int, ...]:
    """Seeds that no search and no earlier verification has used, of whichever program: heads are shared. The runs there
    become the bank of the head they make, so a later search may draw them and a later verification may not."""
    used = [s for c in book.experiments.values() if not c.refutes for s in c.seeds]
    used += [s for row in book.moves if row.get("kind") == "head" for s in row.get("seeds") or ()]
    first = max([VERIFY_SEED - 1, *used]) + 1
    return tuple(range(first, first + count))
