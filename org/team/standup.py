"""The morning page, comms/standup/<date>.md: what the ledger says, then what people and agents say. Makes no number.

`page` is a pure function of the book; `write` gathers the words, keeps what the person wrote below `## Review`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from org import files
from org.evidence import predictions
from org.evidence import stack as stacks
from org.home import Home
from org.lab import credits
from org.records import KEPT, Charter, Contract, Letter, RunResult, Verdict
from org.team import ideas, mail, roster
from org.team.prose import Reader, cell, quote

if TYPE_CHECKING:
    from org.lab.ledger import Book

REFUTED = ("null", "loss", "crash", "invalid")
REVIEW = "## Review"
REVIEW_HINT = (
    "_Write below this line: questions, vetoes, what to try next. It stays here when the page is made again;\n"
    "`org send chief TEXT` carries it to the chief._\n"
)
NOTHING = "-"  # in a cell: not known
COVERS = re.compile(r"<!-- covers to ([0-9T:.Z-]+) -->")


@dataclass(frozen=True)
class Words:
    """What people and agents say: text, not numbers. Seat -> text; letters and notes for the person."""

    answers: dict[str, str] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    questions: Sequence[Letter] = ()
    notes: Sequence[tuple[str, str]] = ()  # (seat, text)


# --- the page ----------------------------------------------------------------------------------------------------


def write(home: Home, book: Book, charter: Charter, now: str, answers: dict[str, str]) -> Path:
    """Make today's page from the ledger, the seats' events and the person's mail; returns its path. It covers what
    happened since the page of an earlier day. What stands below `## Review` in today's page is kept to the letter."""
    date = _utc(now)[:10]
    path = home.standup(date)
    since = _covered(home, date)
    plans, notes = _from_events(home, since)
    questions = [letter for letter in mail.peek(home, "human") if letter.kind == "question"]
    sources = ideas.sources(home)
    text = page(book, charter, now, Words(answers, plans, questions, notes), since, sources)
    try:
        _, mark, below = path.read_bytes().partition(f"\n{REVIEW}\n".encode())
    except FileNotFoundError:
        mark = below = b""
    top = text.partition(f"\n{REVIEW}\n")[0].encode()
    files.replace(path, top + mark + below if mark else text)
    return path


def page(
    book: Book,
    charter: Charter,
    now: str,
    words: Words,
    since: str | None = None,
    sources: Mapping[str, str] | None = None,
) -> str:
    """The page as Markdown. Counts what became known after `since` (None: since the launch) up to `now`; calibration
    counts everything. sources: idea -> where it came from. Every number is the ledger's; words of agents are quoted and made harmless."""
    view = _View(book, charter, since)
    reader = Reader(book, charter.metric.name)
    until = _utc(now)
    span = f"{_since(since)} up to {_clock(until)} UTC"
    unit = f"Numbers are the ledger's, {charter.metric.name}, {charter.metric.direction} is better."
    sections = [
        f"# Standup {until[:10]}\n\n_{span}. {unit}_\n<!-- covers to {until} -->",
        "## While you slept\n\n" + _summary(view),
        "## Kept\n\n" + _kept(view),
        "## Stacks and heads\n\n" + _heads(view),
        "## Refuted\n\n" + _refuted(view),
        "## Predictions\n\n" + _predictions(view, sources or {}),
        "## Questions to you\n\n" + _questions(words, reader),
        "## Device time\n\n" + _device_time(view),
        "## Next\n\n" + _next(words, reader),
        *(["## In their words\n\n" + _answers(words, reader)] if words.answers else []),
        f"{REVIEW}\n\n{REVIEW_HINT}",
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n"


class _View:
    """The part of the book that a page is about."""

    def __init__(self, book: Book, charter: Charter, since: str | None) -> None:
        self.book, self.charter, self.since = book, charter, since
        self.results = [r for r in book.results.values() if self.is_new(r.ended)]
        self.refusals = [row for row in book.refusals if self.is_new(row.get("t"))]
        self.verdicts = [v for name, v in book.verdicts.items() if self.is_new(book.verdict_times.get(name))]
        self.heads = [row for row in book.rows if row.get("kind") == "head" and self.is_new(row.get("t"))]
        self.credits = stacks.credits(book.moves)
        self.stack_of: dict[str, str] = {}  # member -> the stack that brought it into a head
        self.alone: set[str] = set()  # members that were a stack's only one: its verification was theirs
        for row in book.moves:
            if row.get("kind") == "head" and not (
                row.get("removed") or row.get("retracts") or row.get("experiment") in book.retracted
            ):
                members = [str(member) for member in row.get("members") or ()]
                self.stack_of |= dict.fromkeys(members, str(row.get("experiment")))
                self.alone |= set(members) if len(members) == 1 else set()

    def is_new(self, moment: str | None) -> bool:
        return self.since is None or moment is None or moment > self.since

    def contract(self, verdict: Verdict) -> Contract | None:
        return self.book.experiments.get(verdict.experiment)

    def change(self, verdict: Verdict, limit: int = 90) -> str:
        contract = self.contract(verdict)
        return cell(contract.description, limit) if contract else "?"

    def tier(self, verdict: Verdict) -> str:
        """`verified` is earned in a stack too, by the member whose removal hurts; then the stack is named."""
        stack, credit = self.stack_of.get(verdict.experiment), self.credits.get(verdict.experiment)
        if verdict.tier == "verified" or stack is None:
            return verdict.tier or ""
        if verdict.experiment in self.alone or (credit and credit.outcome == "helps"):
            return f"verified in {stack}"
        if credit and credit.outcome == "inert":
            return f"tentative, no part of {stack}"
        return f"tentative, in {stack} without a credit yet"

    def is_kept(self, verdict: Verdict) -> bool:
        return verdict.outcome in KEPT and verdict.experiment not in self.book.retracted

    def outcome(self, verdict: Verdict) -> str:
        gone = self.book.retracted.get(verdict.experiment)
        return f"retracted at {gone.get('scale')} by {gone.get('experiment')}" if gone else verdict.outcome

    def effect(self, verdict: Verdict) -> str:
        if verdict.effect is None:
            return "not measured"
        return f"{verdict.effect:+.4f}" + (f" ± {verdict.se:.4f}" if verdict.se is not None else "")

    def arms(self, verdict: Verdict, axis: str) -> tuple[float | None, float | None]:
        """(baseline, candidate) on one axis: as judged, else the mean of the runs the verdict rests on."""
        if axis == "step_s":
            seconds, counts = self.arms(verdict, "train_s"), self.arms(verdict, "steps")
            return _ratio(seconds[0], counts[0]), _ratio(seconds[1], counts[1])
        judged = verdict.matching.get(axis)
        if judged:
            return judged.get("baseline"), judged.get("candidate")
        contract = self.contract(verdict)
        if contract is None:
            return None, None
        runs = [self.book.results[run] for run in verdict.runs if run in self.book.results]
        base, own = (
            [getattr(run, axis) for run in runs if run.tree == tree] for tree in (contract.baseline_tree, contract.tree)
        )
        return _mean(base), _mean(own)

    def percent(self, verdict: Verdict, axis: str) -> str:
        base, own = self.arms(verdict, axis)
        return f"{(own - base) / base:+.1%}" if base and own is not None else NOTHING


# --- sections ----------------------------------------------------------------------------------------------------


def _summary(view: _View) -> str:
    """One line. Counts changes; a stack is no change of its own, but its effect may be the best."""
    changes = [v for v in view.verdicts if not _is_stack(view.contract(v))]
    stacks = [v for v in view.verdicts if _is_stack(view.contract(v))]
    kept = [v for v in changes if view.is_kept(v)]
    wins = [v for v in kept if v.outcome == "win"]
    verified = sum(view.tier(v).startswith("verified") for v in wins)
    holds = len(kept) - len(wins)
    refuted = sum(v.outcome in REFUTED or v.experiment in view.book.retracted for v in changes)
    hours = sum(r.held_s for r in view.results) / 3600
    decided = _count(len(changes), "experiment")
    passed = [v for v in stacks if v.outcome in KEPT]
    shown = [v for v in passed if v.tier and view.is_kept(v)]  # a re-test at another scale is no gain of its own
    parts = [
        f"{_count(len(view.results), 'run')} and {decided} decided in {hours:.2f} device-hours",
        f"{_count(len(wins), 'win')} ({verified} verified, {len(wins) - verified} tentative)",
        *([f"{holds} held (no-worse shown)"] if holds else []),
        f"{refuted} refuted",
        *([f"{_count(len(stacks), 'verification')}, {len(passed)} passed"] if stacks else []),
        *([f"{_count(len(view.refusals), 'refusal')} by the gate"] if view.refusals else []),
    ]
    measured = [v for v in wins + shown if v.effect is not None]
    if measured:
        best = max(measured, key=lambda v: -view.charter.metric.sign * (v.effect or 0.0))
        parts.append(f"best effect **{view.effect(best)}** ({best.experiment}, {view.tier(best)}: {view.change(best)})")
    return "; ".join(parts) + "."


def _kept(view: _View) -> str:
    kept = [v for v in view.verdicts if view.is_kept(v) and not _is_stack(view.contract(v))]
    if not kept:
        return "Nothing was kept."
    head = ["change", "effect ± se", "tier", "step time", "memory", "compile", "commit", "experiment", "seat"]
    rows = []
    for verdict in sorted(kept, key=lambda v: v.experiment):
        contract = view.contract(verdict)
        _, compile_s = view.arms(verdict, "compile_s")
        tier = view.tier(verdict) + (" (holds)" if verdict.outcome == "holds" else "")
        rows.append(
            [
                view.change(verdict),
                view.effect(verdict),
                tier + (", reported" if verdict.trust == "reported" else ""),
                view.percent(verdict, "step_s"),
                view.percent(verdict, "vram_mb"),
                f"{compile_s:.1f} s" if compile_s is not None else NOTHING,
                contract.commit[:7] if contract else "?",
                verdict.experiment,
                contract.seat if contract else "?",
            ]
        )
    note = "\n\n`reported`: the number is the code's own print, not the referee's." if _has_reported(kept) else ""
    return _table(head, rows) + note


def _heads(view: _View) -> str:
    lines = []
    for row in view.heads:
        program, commit, name = str(row.get("program")), str(row.get("commit"))[:7], str(row.get("experiment"))
        if row.get("retracts"):
            lines.append(f"- {', '.join(row['retracts'])} retracted: {cell(str(row.get('why')), 300)}")
            continue
        if row.get("removed"):
            left = ", ".join(str(member) for member in row["removed"])
            lines.append(f"- `{program}` moved to `{commit}`: {left} left {name}, the head is no worse without it")
            continue
        verdict = view.book.verdicts.get(name)
        members = ", ".join(str(m) for m in row.get("members") or ()) or "itself"
        said = f", {view.effect(verdict)} ({verdict.tier})" if verdict else ""
        lines.append(f"- `{program}` moved to `{commit}` by {name}{said}; members: {members}")
    moved = {row.get("experiment") for row in view.heads}
    for verdict in view.verdicts:
        contract = view.contract(verdict)
        if _is_stack(contract) and contract and verdict.experiment not in moved:
            members = ", ".join(contract.members)
            what = (
                f"{f'control ({contract.control})' if contract.control else 'stack'} {verdict.experiment} of {members}"
            )
            if contract.promotes:
                what = f"re-test {verdict.experiment} of {contract.promotes} at {contract.scale}"
            lines.append(f"- {what}: {verdict.outcome}, {view.effect(verdict)}")
    lines += [f"- {line}" for line in _credits(view)]
    return "\n".join(lines) or "No head moved."


def _credits(view: _View) -> list[str]:
    """What each member of a passed stack is worth, measured by taking it out; and whether the members add up."""
    lines = []
    told = [row for row in view.book.moves if row.get("kind") == "credit" and view.is_new(row.get("t"))]
    lines += [credits.credit_sentence(row, view.charter.metric.name) for row in told]
    for name in dict.fromkeys(str(row.get("experiment")) for row in told):
        ratio = credits.additivity(view.book, name)
        if ratio is not None:
            lines.append(f"{name} measured {ratio:.2f} of the sum of its members' credits")
    return lines


def _refuted(view: _View) -> str:
    rows = []
    for verdict in sorted(view.verdicts, key=lambda v: v.experiment):
        contract = view.contract(verdict)
        is_refuted = verdict.outcome in REFUTED or verdict.experiment in view.book.retracted
        if not is_refuted or _is_stack(contract):
            continue
        measured = view.effect(verdict)
        if verdict.effect is None and verdict.reasons:
            measured = cell(verdict.reasons[0], 80)
        expect = contract.expect if contract else None
        predicted = f"{expect:+.4f}" if expect is not None else NOTHING
        seat = contract.seat if contract else "?"
        rows.append([view.change(verdict), view.outcome(verdict), predicted, measured, verdict.experiment, seat])
    if not rows:
        return "Nothing was refuted."
    return _table(["change", "outcome", "predicted", "measured", "experiment", "seat"], rows)


def _predictions(view: _View, sources: Mapping[str, str]) -> str:
    """Over the whole ledger: calibration needs more than one night."""
    found = predictions.scores(view.book.experiments, view.book.verdicts, sources)
    if not found:
        return "No prediction was scored yet."
    rows = [[s.by, cell(s.who, 60), str(s.n), predictions.signs(s), f"{s.error:.4f}"] for s in found]
    return _table(["by", "who", "predictions", "sign right", "mean abs error"], rows)


def _device_time(view: _View) -> str:
    """Seconds that devices were held, by cause, and what they spent them on."""
    held: dict[str, float] = {}
    for run in view.results:
        held[_cause(run)] = held.get(_cause(run), 0.0) + run.held_s
    total = sum(held.values())
    if not total:
        return "No device was used."
    rows = [[cause, f"{s:.0f}", f"{s / total:.0%}"] for cause, s in sorted(held.items(), key=lambda i: -i[1])]
    inside = {
        name: sum((getattr(r, axis) or 0.0) * len(r.devices) for r in view.results)
        for name, axis in (("training", "train_s"), ("compilation", "compile_s"), ("evaluation", "eval_s"))
    }
    rest = max(0.0, total - sum(inside.values()))
    parts = [f"{name} {seconds / total:.0%}" for name, seconds in {**inside, "start and other": rest}.items()]
    table = _table(["cause", "seconds held", "share"], [*rows, ["all", f"{total:.0f}", "100%"]])
    return f"{table}\n\nOf all of it: {', '.join(parts)}.{_busy(view, total)}"


def _busy(view: _View, total: float) -> str:
    """Share of the time between the first start and the last end in which the devices that ran anything were held."""
    starts = [datetime.fromisoformat(r.started) for r in view.results if r.started]
    ends = [datetime.fromisoformat(r.ended) for r in view.results if r.ended]
    devices = len({device for r in view.results for device in r.devices})
    window = (max(ends) - min(starts)).total_seconds() * devices if starts and ends else 0.0
    return f" {_count(devices, 'device')}, busy {min(1.0, total / window):.0%}." if window > 0 else ""


def _questions(words: Words, reader: Reader) -> str:
    lines = []
    for letter in words.questions:
        mark = "" if letter.verified else " (unverified)"
        about = f" about {cell(letter.about, 40)}" if letter.about else ""
        lines.append(f"**{cell(letter.sender, 32)}**{mark}{about}, `{letter.id}`:\n\n{quote(reader.read(letter.body))}")
    lines += [f"**{cell(seat, 32)}** noted:\n\n{quote(reader.read(text))}" for seat, text in words.notes]
    return "\n\n".join(lines) or "None."


def _next(words: Words, reader: Reader) -> str:
    if not words.plans:
        return "No seat has said."
    return "\n".join(f"- **{seat}**: {cell(reader.read(text), 300)}" for seat, text in sorted(words.plans.items()))


def _answers(words: Words, reader: Reader) -> str:
    said = [f"**{seat}**\n\n{quote(reader.read(text))}" for seat, text in sorted(words.answers.items())]
    return "\n\n".join(["_Quoted; what stands in brackets is the ledger's word on the number before it._", *said])


# --- small things ------------------------------------------------------------------------------------------------


def _from_events(home: Home, since: str | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What each seat said it does next (its last plan), and the notes people typed into panes since the last page."""
    plans: dict[str, str] = {}
    notes: list[tuple[str, str]] = []
    for seat in roster.members(home):
        rows, _ = files.read_lines(home.seat(seat) / "events.jsonl")
        for row in rows:
            text = str(row.get("text") or "").strip()
            if row.get("event") == "plan" and text:
                plans[seat] = text
            elif row.get("event") == "note" and text and (since is None or str(row.get("t")) > since):
                notes.append((seat, text))
    return plans, notes


def _covered(home: Home, date: str) -> str | None:
    """Up to when the newest page of an earlier day reaches."""
    if not home.standups.is_dir():
        return None
    for path in sorted(home.standups.glob("[0-9]*.md"), reverse=True):
        match = COVERS.search(path.read_text(encoding="utf-8", errors="replace")) if path.stem < date else None
        if match:
            return match[1]
    return None


def _cause(run: RunResult) -> str:
    if run.status == "lost":
        return "lost by the org"
    if run.status != "ok":
        return "crashed, over time or invalid"
    if run.stage == "bank":
        return "baseline bank"
    if run.stage == "verify":
        return "verification"
    if run.stage == "promote":
        return "re-tests at another scale"
    return f"search, {'ablations' if run.arm.startswith('ablation') else run.arm}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ratio(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None


def _is_stack(contract: Contract | None) -> bool:
    """Whether the experiment measures earlier ones again, one or several, and is no change of its own."""
    return contract is not None and bool(contract.members or contract.promotes)


def _has_reported(verdicts: Iterable[Verdict]) -> bool:
    return any(verdict.trust == "reported" for verdict in verdicts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _since(since: str | None) -> str:
    return f"Since {_clock(since)} UTC" if since else "Since the launch"


def _clock(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _utc(moment: str) -> str:
    when = datetime.fromisoformat(moment).astimezone(UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
