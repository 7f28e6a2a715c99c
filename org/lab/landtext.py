"""What a landing says of itself: commit messages and its page, rendered from the ledger. Pure; no number is made here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from org import files
from org.evidence import stack
from org.evidence.stack import Step
from org.lab import credits
from org.lab.book import Book
from org.records import Charter, Verdict

WIDTH = 76
GONE = "was retracted"  # how a message speaks of what did not carry to another scale
TRUST = {
    "referee": "referee: scored by the org's own code",
    "reported": "reported: printed by the code under study, replicated by the org and not scored by it",
}


def subject(program: str, metric: str, steps: Sequence[Step], book: Book) -> str:
    """`optimizer: val_bpb -0.0812, verified as E0005`, at most 72 characters; what was retracted of it stands before the
    names, which may be cut."""
    effects = [verdict.effect for verdict in (book.verdicts[s.experiment] for s in steps) if verdict.effect is not None]
    what = f"{metric} {effects[-1]:+.4f}" if effects else metric
    names = ", ".join(step.experiment for step in steps)
    gone = [name for step in steps for name in (step.experiment, *step.members) if name in book.retracted]
    mark = f", {gone[0]} retracted" if gone else ""
    mark = f"{mark} (+{len(gone) - 1})" if len(gone) > 1 else mark
    return one_line(f"{program}: {what}{mark}, verified as {names}", 72)


def taken_back(book: Book, charter: Charter, name: str) -> str:
    """`retracted at demo by E0005: effect +0.0102 ± 0.0040 val_bpb, z -2.5, n 4`; "" for what stands."""
    row = book.retracted.get(name)
    if row is None:
        return ""
    verdict = book.verdicts.get(str(row.get("experiment")))
    measured = numbers(verdict, charter.metric.name) if verdict else "no verdict"
    return f"retracted at {one_line(str(row.get('scale')), 40)} by {row.get('experiment')}: {measured}"


def message(
    program: str,
    charter: Charter,
    book: Book,
    steps: Sequence[Step],
    differs: Sequence[tuple[str, str]],
    trailers: Mapping[str, str],
) -> str:
    """The whole commit message: what was verified, how the files differ from those measured, where it comes from."""
    paragraphs = [subject(program, charter.metric.name, steps, book)]
    paragraphs += ["\n".join(_wrapped(stack_lines(book, charter, step))) for step in steps]
    paragraphs.append("\n".join(_wrapped(differing(differs))))
    paragraphs.append("\n".join(f"{name}: {value}" for name, value in trailers.items()))
    return "\n\n".join(paragraphs) + "\n"


def page(
    title: str,
    facts: Iterable[str],
    charter: Charter,
    book: Book,
    changes: Sequence[tuple[str, Sequence[Step]]],
    differs: Sequence[tuple[str, str]],
) -> str:
    """The same as a page. changes: (commit, the stacks it brings)."""
    unit = f"Numbers are the ledger's, {charter.metric.name}, {charter.metric.direction} is better."
    parts = [f"# {title}", f"_{unit}_", "\n".join(facts)]
    for commit, steps in changes:
        parts.append(f"## Commit {commit[:12]}")
        parts += ["\n".join(stack_lines(book, charter, step)) for step in steps]
    parts.append("## As measured?")
    parts.append("\n".join(differing(differs)))
    return "\n\n".join(parts) + "\n"


def stack_lines(book: Book, charter: Charter, step: Step) -> Iterator[str]:
    """A verified stack and its members, one fact a line."""
    contract, verdict = book.experiments[step.experiment], book.verdicts[step.experiment]
    name = step.experiment
    yield f"- {name} verified: {numbers(verdict, charter.metric.name)}"
    if back := taken_back(book, charter, name):
        yield f"- {name} was {back}; it is here because later stacks stand on it"
    yield (
        f"- on fresh seeds, split {verdict.split}, scale {contract.scale}, equal {verdict.matched_on}, against head "
        f"{contract.baseline_commit[:7]}; trust {TRUST[verdict.trust]}"
    )
    if step.effect is not None:
        left = " and less what left it" if step.removed else ""
        passing = f"less what passing at z >= {charter.rules.verified_z:g} selects{left}"
        yield f"- to be expected of it: {step.effect:+.4f}, {passing}"
    if contract.expect is not None:
        yield f"- predicted for {name}: {contract.expect:+.4f}"
    additivity = credits.additivity(book, name)
    if additivity is not None and len(contract.members) > 1:
        yield f"- additivity {additivity:.2f}: the stack's effect over the sum of its members' credits"
    found = stack.credits(book.moves)
    for member in step.members:
        yield from _member_lines(book, charter, member, found.get(member), is_alone=len(contract.members) == 1)
    for member in step.removed:
        yield f"- {member} left it: {_described(book, member)}; its removal did not hurt"


def numbers(verdict: Verdict, metric: str) -> str:
    """`effect -0.0812 ± 0.0021 val_bpb, z 33.1, n 4`."""
    if verdict.effect is None or verdict.se is None or verdict.z is None:
        return "no number"
    return f"effect {verdict.effect:+.4f} ± {verdict.se:.4f} {metric}, z {verdict.z:.1f}, n {verdict.n}"


def differing(differs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Which landed files are not those that were measured, and why: nobody has measured that code."""
    if not differs:
        yield "Every file of the code is byte for byte as it was measured."
        return
    yield "The code as it lands was not measured. It differs from what was:"
    for path, reason in differs:
        yield f"- {one_line(path, 200)}: {reason}"


def one_line(text: str, limit: int) -> str:
    """Words of an agent or a name of a file as they may stand in a line."""
    return " ".join(files.printable(text, limit * 4).split())[:limit]


def _member_lines(
    book: Book, charter: Charter, member: str, credit: stack.Credit | None, is_alone: bool
) -> Iterator[str]:
    contract, verdict = book.experiments.get(member), book.verdicts.get(member)
    yield f"- {member} {_described(book, member)}" + (f", by {contract.seat}" if contract else "")
    if contract and contract.expect is not None:
        yield f"  predicted {contract.expect:+.4f} for {member}"
    if verdict:
        yield f"  {member} in the search: {numbers(verdict, charter.metric.name)}"
    if back := taken_back(book, charter, member):
        yield f"  {member} was {back}"
    if is_alone:
        yield f"  {member} was verified by itself"
    elif credit is None:
        yield f"  what {member} is worth by its removal is not measured yet"
    else:
        yield f"  leave-one-out: {credits.credit_sentence(credit.to_dict(), charter.metric.name)}"


def _described(book: Book, name: str) -> str:
    contract = book.experiments.get(name)
    return f"`{one_line(contract.description, 200).replace('`', chr(39))}`" if contract else "(not in the ledger)"


def _wrapped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip(" -")))
        yield from textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
