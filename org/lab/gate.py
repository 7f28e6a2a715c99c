"""What may become an experiment. Files a worktree's editable paths into the record, derives the contract, refuses or accepts.

    submit: read the worktree -> commit in the record -> derive -> check -> pin, contract.yaml, ledger line

Knows no agents, no mail, no tmux. Never runs git in a folder an agent can write, except for the hub to fetch.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from org import charter as charters
from org import files, strictyaml
from org.errors import BadInput, Refused, did_you_mean
from org.evidence import contract as contracts
from org.evidence import control as controls
from org.evidence import ladder, matching, refute, rules
from org.failpoint import failpoint
from org.home import EXPERIMENT_PATTERN, Home
from org.lab import checks, edits, intents
from org.lab.book import Book
from org.lab.ledger import Ledger
from org.lab.record import program_head
from org.lab.spec import digest_of
from org.records import BANK, PERSON, Charter, Contract, KnobChange, Seat, Violation
from org.words import finite
from org.world import devices, git

MAX_WHY = 2_000


def submit(
    home: Home,
    seat: Seat,
    why: str,
    expect: float | None = None,
    claim: str = "better",
    idea: str | None = None,
    cites: tuple[str, ...] = (),
    scale: str | None = None,
    dry: bool = False,
    control: str = "",
) -> Contract:
    """File what stands in the seat's worktree as an experiment; one line for the agent, the rest is derived.
    Raises Refused with every violation, BadInput for a bad argument. `dry` writes nothing the record keeps. control:
    `flops` gives the candidate the budget that spends the baseline's FLOPs."""
    charter = charters.load(home)
    why = _checked(home, charter, why, claim, scale, control)
    _check_named(home, idea, cites)
    with filing(home):
        return _submit(home, charter, seat, why, expect, claim, idea, cites, scale or charter.scale, dry, control)


def filing(home: Home) -> AbstractContextManager[int]:
    """One filer at a time, from the look at the ledger to the line in it."""
    return files.locked(home.leases / "gate")


def _submit(
    home: Home,
    charter: Charter,
    seat: Seat,
    why: str,
    expect: float | None,
    claim: str,
    idea: str | None,
    cites: tuple[str, ...],
    scale: str,
    dry: bool,
    control: str,
) -> Contract:
    ledger = Ledger(home)
    book = ledger.refresh()
    head, head_tree = program_head(home, seat.program)
    tip = edits.seat_tip(home, seat) or head
    found_there, texts, notices = edits.editable_texts(home, charter, seat, head, tip)
    notices += edits.not_filed(home, charter, seat, tip)
    if not git.is_ancestor(home.record, head, tip):
        how = f"`org seat {seat.name} --sync` brings it here"
        notices.append(f"the head of {seat.program} moved since this worktree was laid, so the diff undoes it; {how}")
    tree = git.tree_with(home.record, git.tree_of(home.record, tip), texts)
    base_texts, new_texts = texts_of(home, charter, head), texts_of(home, charter, tree)
    touched = _touched(home, base_texts, new_texts)
    found = _violations(home, charter, head, tree) + _intent_violations(touched, cites, seat)
    found += _queue_full(charter, book, seat)
    fell: list[tuple[str, str]] = []
    if not found:
        derived = contracts.derive(base_texts, new_texts, charter)
        code, question = contracts.code_digest(new_texts, charter), (head_tree, scale, claim, control)
        same = _same_code(home, charter, book, question, tree, new_texts, derived, code)
        fell = _fallen(book, same)
        found += _duplicate(book, same, fell, control)
        found += rules.check_why(why, base_texts, derived)
        others = edits.paths(Path(seat.worktree), ("**/*.py",)) - {e.path for e in git.list_tree(home.record, tree)}
        found += rules.left_behind(base_texts, new_texts, others, charter)
    if not found:
        found += checks.violations(home, charter, tree)
    found = [edits.one_line(v) for v in found]
    if found:
        if not dry:
            _record_refusal(ledger, seat, why, found)
        raise Refused(
            f"refused: {found[0].message}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""), found
        )
    if fell:
        carry = "; a win is to carry there before it is stacked" if any(at for at, _ in fell) else ""
        notices.append(f"this code was {_by(fell)}{carry}")
    commit = git.commit(home.record, tree, [tip], f"{why}\n\nseat: {seat.name}")
    draft = Contract(
        experiment="E????",
        why=why,
        claim=claim,
        expect=expect,
        seat=seat.name,
        program=seat.program,
        commit=commit,
        tree=tree,
        baseline_commit=head,
        baseline_tree=head_tree,
        scale=scale,
        stage="search",
        matched=control or charter.matched,
        control=control,
        knobs=derived.knobs,
        new_constants=derived.new_constants,
        lines_added=derived.lines_added,
        lines_removed=derived.lines_removed,
        ablations_owed=derived.ablations_owed,
        idea=idea,
        idea_expect=_predicted(home, idea) if idea else None,
        cites=tuple(cites),
        demands=tuple(f"{intent.id}: {intent.demand}" for intent, _ in touched if intent.demand),
        owed_scales=_owed_scales(home, charter, [intent for intent, _ in touched], scale, {at for at, _ in fell}),
        notices=tuple(edits.clean(said) for said in notices),
        backend=seat.backend,
        created=files.utc_now(),
        code=code,
    )
    draft = _with_budget(home, charter, book, draft) if control else draft
    if dry:
        return replace(draft, seeds=_search_seeds(charter, book, draft, 1))
    filed = file(home, ledger, draft, charter)
    failpoint("gate.filed")
    edits.give_back(home, seat, filed, found_there, texts)
    return filed


def check_devices(home: Home, charter: Charter, scale: str) -> None:
    """BadInput when a run at `scale` holds more devices than this org has: it would wait for ever. And when the charter has
    that scale no longer."""
    if scale not in charter.scales:
        raise BadInput(f"scale {scale} is no longer in the charter; it has {', '.join(charter.scales)}")
    needed = charter.scales[scale].devices
    if needed > 1 and needed > len(there := devices.of_one_kind(home)):
        fits = [name for name, rung in charter.scales.items() if rung.devices <= len(there)]
        have = f"this org has {len(there)} ({', '.join(device.name for device in there)})"
        raise BadInput(
            f"a run at {scale} holds {needed} devices and {have}; what fits: {', '.join(fits) or 'no scale'}"
        )


def _checked(home: Home, charter: Charter, why: str, claim: str, scale: str | None, control: str) -> str:
    why = files.printable(" ".join(why.split()), MAX_WHY)
    if not why:
        raise BadInput('an experiment says why it is made: org run -m "why"')
    if scale is not None and scale not in charter.scales:
        raise BadInput(f"scale '{scale}' is not in the charter; it has {', '.join(charter.scales)}")
    check_devices(home, charter, scale or charter.scale)
    contracts.check_claim(claim)
    if control and not controls.can_cut(charter, scale or charter.scale):
        raise BadInput(
            "a control cuts the run's budget, and the charter's command has neither {steps} nor {tokens} in it"
        )
    if control and claim == "no-worse:flops":
        raise BadInput("at equal FLOPs no FLOPs can be gained; leave out --control, or claim another axis")
    return why


def _check_named(home: Home, idea: str | None, cites: tuple[str, ...]) -> None:
    """BadInput for an idea without a page or an intent that is not in the registry: nobody would find it again."""
    known = [intent.id for intent in intents.load(home.intents)] if cites and home.intents.is_file() else []
    for name in cites:
        if name not in known:
            there = f"{home.intents} has {', '.join(known) or 'none'}"
            raise BadInput(f"--cites '{name:.60}': there is no such intent{did_you_mean(name, known)}; {there}")
    if idea is None:
        return
    pages = [page.name.partition("-")[0] for page in home.ideas.glob("I*-*.md")]
    if idea not in pages:
        how = "`org idea` lists them, and `org idea TEXT` writes one down"
        raise BadInput(f"--idea '{idea:.60}': there is no such idea{did_you_mean(idea, pages)}; {how}")


def _predicted(home: Home, idea: str) -> float | None:
    """The effect that the page of an idea predicts now: what it is changed to after the verdict predicts nothing."""
    path = min(home.ideas.glob(f"{idea}-*.md"))
    try:
        fields, _ = strictyaml.front_matter(files.read_plain(path).decode(errors="replace"), str(path))
    except (BadInput, OSError):
        return None
    return finite(fields.get("expect"))


def _with_budget(home: Home, charter: Charter, book: Book, draft: Contract) -> Contract:
    """The draft, with a notice of what its control will do."""
    draft = replace(draft, seeds=_search_seeds(charter, book, draft, 1))
    digest = digest_of(charter, draft.scale, devices.in_force(home)[0].kind)
    found = controls.plan(draft, book.results.values(), charter, digest)
    said = controls.sentence(found, charter.scales[draft.scale])
    return replace(draft, notices=(*draft.notices, edits.clean(said)))


def texts_of(home: Home, charter: Charter, tree: str) -> dict[str, str]:
    names = [
        e.path
        for e in git.list_tree(home.record, tree)
        if e.type == "blob" and rules.matches_any(e.path, charter.editable)
    ]
    return {p: d.decode(errors="replace") for p, d in git.read_files(home.record, tree, names).items()}


def _violations(home: Home, charter: Charter, head: str, tree: str) -> list[Violation]:
    base_files = {e.path: (e.mode, e.sha) for e in git.list_tree(home.record, head)}
    new_files = {e.path: (e.mode, e.sha) for e in git.list_tree(home.record, tree)}
    base_texts, new_texts = texts_of(home, charter, head), texts_of(home, charter, tree)
    return rules.violations(base_files, new_files, base_texts, new_texts, charter)


def _touched(home: Home, base_texts: dict[str, str], new_texts: dict[str, str]) -> list[tuple[intents.Intent, str]]:
    """Intents whose code the experiment changes, or binds anew, and which of the two."""
    registry = intents.load(home.intents) if home.intents.is_file() else []
    changed = [i for p in base_texts for i in intents.touched(registry, base_texts[p], new_texts.get(p, ""), p)]
    again = [i for i in intents.rebound(registry, base_texts, new_texts) if i not in changed]
    return [(i, "touches") for i in changed] + [(i, "binds anew what is watched by") for i in again]


def _intent_violations(
    touched: list[tuple[intents.Intent, str]], cites: tuple[str, ...], seat: Seat
) -> list[Violation]:
    """A touched intent is cited; one that is off-limits is a person's to change, cited or not."""
    found = []
    for intent, how in touched:
        why = f"{intent.path} {how} '{intent.id}'"
        if intent.status == "off-limits" and seat.backend != PERSON:
            why += f", which is off-limits: {intent.why}; a person decides, so propose it: `org send human TEXT`"
        elif intent.id not in cites:
            why += f": {intent.why}; cite it with --cites {intent.id}"
        else:
            continue
        found.append(Violation("intent", intent.path, None, " ".join(why.split())))
    return found


def _owed_scales(
    home: Home, charter: Charter, touched: list[intents.Intent], scale: str, fell: set[str]
) -> tuple[str, ...]:
    """What the touched intents ask for and where the same code fell before, in the ladder's order. Raises BadInput for one that the charter does not have or this org is too small for."""
    intents.check_scales(touched, charter.scales, home.intents)
    asked = fell.union(*(i.scales for i in touched))
    owed = tuple(name for name in charter.scales if name != scale and name in asked)
    for name in owed:
        check_devices(home, charter, name)
    return owed


def _queue_full(charter: Charter, book: Book, seat: Seat) -> list[Violation]:
    waiting = [c.experiment for c in book.open() if c.seat == seat.name and c.stage == "search"]
    if len(waiting) <= charter.rules.queue_ahead:
        return []
    message = f"{seat.name} has {' and '.join(waiting)} waiting already; the next one can be filed when a verdict is in"
    return [Violation("queue", None, None, message)]


def _same_code(
    home: Home,
    charter: Charter,
    book: Book,
    question: tuple[str, str, str, str],
    tree: str,
    texts: dict[str, str],
    derived: contracts.Derived,
    code: str,
) -> list[Contract]:
    """What was filed before with the same code, in this layout or another, with these comments or others. question:
    baseline's tree, scale, claim and control, since under another of them it is another question."""
    mine, form = _turned(derived.knobs), code.partition("-")[0]
    found = []
    for other in book.experiments.values():
        asked = other.baseline_tree, other.scale, other.claim, other.control
        if asked != question or _turned(other.knobs) != mine:
            continue
        is_same = other.tree == tree or other.code == code
        if not is_same and other.code.partition("-")[0] != form:  # of a time before the digest, or of another form
            is_same = contracts.same_code(texts_of(home, charter, other.tree), texts, charter)
        if is_same:
            found.append(other)
    return found


def _duplicate(book: Book, same: list[Contract], fell: list[tuple[str, str]], control: str) -> list[Violation]:
    """The same code was filed before, and may not be again. What the org lost may be; and what was retracted, once."""
    for other in same:
        name = other.experiment
        verdict, gone = book.verdicts.get(name), book.retracted.get(name)
        if verdict is not None and verdict.outcome == "lost":
            continue  # the org's fault: it may be filed again
        if gone is not None and len(fell) < 2:
            continue
        article = "" if verdict and verdict.outcome == "invalid" else "a "
        said = "is being measured" if verdict is None else f"was {article}{verdict.outcome}"
        if verdict and verdict.effect is not None and verdict.se is not None:
            said += f" ({verdict.effect:+.4f} ± {verdict.se:.4f})"
        back = f" ({_by(fell)})" if gone is not None else ""
        is_unequal = verdict is not None and matching.CONTROL in " ".join(verdict.reasons)
        then = matching.CONTROL if is_unequal and not control else "try another"
        message = f"this very configuration {said} as {name}{back} of {other.seat}: {other.description}; {then}"
        return [Violation("duplicate", None, None, message)]
    return []


def _fallen(book: Book, same: list[Contract]) -> list[tuple[str, str]]:
    """Of every time this code was retracted, the scale that it did not carry to ("" where it was refuted), and the words."""
    gone = [book.retracted[c.experiment] for c in same if c.experiment in book.retracted]
    return list(dict.fromkeys(("" if row.get("attack") else str(row.get("scale")), ladder.gone(row)) for row in gone))


def _by(fell: list[tuple[str, str]]) -> str:
    return " and ".join(words for _, words in fell)


def _turned(knobs: tuple[KnobChange, ...]) -> set[tuple[str, str]]:
    return {(knob.name, repr(knob.new)) for knob in knobs}


def _record_refusal(ledger: Ledger, seat: Seat, why: str, found: list[Violation]) -> None:
    count = len(ledger.book.refusals)
    ledger.append(
        "experiment",
        f"refusal:{seat.name}:{count}:{files.utc_now()}",
        {
            "experiment": None,
            "refused": True,
            "seat": seat.name,
            "program": seat.program,
            "why": why,
            "violations": [v.to_dict() for v in found],
        },
    )


def file(home: Home, ledger: Ledger, draft: Contract, charter: Charter) -> Contract:
    """Number it, pin its commit for ever, write the contract, and only then the ledger line that makes it real."""
    ledger.check_metric()
    _take_back(home, ledger.refresh())
    number, name = _allocate(home)
    failpoint("gate.allocated")
    filed = replace(draft, experiment=name)
    if filed.stage == "search":
        filed = replace(filed, seeds=_search_seeds(charter, ledger.book, filed, number))
    git.update_ref(home.record, f"refs/org/experiments/{name}", filed.commit)
    failpoint("gate.pinned")
    files.replace(home.contract(name), strictyaml.dump(filed.page()))
    failpoint("gate.contract")
    ledger.append("experiment", f"experiment:{name}", filed.to_dict())
    return filed


def _take_back(home: Home, book: Book) -> None:
    """A filer killed before its ledger line left a number that names nothing: its ref and its folder go, and the next one
    has the number. The caller is the one filer there is."""
    for folder in sorted(home.experiments.iterdir()) if home.experiments.is_dir() else ():
        name = folder.name
        if name == BANK or name in book.experiments or not EXPERIMENT_PATTERN.fullmatch(name):
            continue
        if {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= {"contract.yaml"}:
            git.delete_ref(home.record, f"refs/org/experiments/{name}")
            shutil.rmtree(folder)


def _allocate(home: Home) -> tuple[int, str]:
    """The next experiment's number and folder; `mkdir` decides between two that ask at once."""
    home.experiment(BANK).mkdir(parents=True, exist_ok=True)
    numbers = [int(p.name[1:]) for p in home.experiments.iterdir() if EXPERIMENT_PATTERN.fullmatch(p.name)]
    number = max(numbers)
    while True:
        number += 1
        try:
            home.experiment(f"E{number:04d}").mkdir()
        except FileExistsError:
            continue
        return number, f"E{number:04d}"


def _search_seeds(charter: Charter, book: Book, contract: Contract, number: int) -> tuple[int, ...]:
    """Seeds the org chose: those the head is measured on, in an order that turns from experiment to experiment, so that
    no seed decides more than its share."""
    scale = charter.scales[contract.scale]
    measured = {
        r.seed
        for r in book.results.values()
        if r.is_ok and r.tree == contract.baseline_tree and r.scale == contract.scale and not refute.is_fresh(r.seed)
    }
    seeds = sorted(measured) if len(measured) >= 2 else list(range(1, scale.bank + 1))
    turn = number % len(seeds)
    return tuple(seeds[turn:] + seeds[:turn])
