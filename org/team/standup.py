"""The morning page, comms/standup/<date>.md: what the ledger says, then what people and agents say. Makes no number.

`page` is a pure function of the book; `write` gathers the words, keeps what the person wrote below `## Review`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from org import files
from org.evidence import predictions, progress
from org.evidence.progress import is_on_the_curve
from org.home import Home
from org.lab import credits
from org.lab.tally import REFUTED, Standing, is_change, tally
from org.records import Charter, Contract, Letter, Verdict
from org.team import facts, ideas, mail, roster
from org.team.prose import SPAN, Reader, cell, quote

if TYPE_CHECKING:
    from org.lab.ledger import Book

REVIEW = "## Review"
REVIEW_HINT = (
    "_Write below this line: questions, vetoes, what to try next. It stays here when the page is made again;\n"
    "`org send chief TEXT` carries it to the chief._\n"
)
NOTHING = "-"  # in a cell: not known
CAUSES = {  # of `progress.device_time`, for people
    "bank": "baseline bank",
    "search kept": "search, kept",
    "search discarded": "search, discarded",
    "search open": "search, no verdict yet",
    "verify": "verification",
    "promote": "re-tests at another scale",
    "crash": "crashed, over time or invalid",
    "lost": "lost by the org",
}


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
    reader = Reader(book, charter.metric.name, sources)
    until = _utc(now)
    span = f"{_since(since)} up to {_clock(until)} UTC"
    unit = f"Numbers are the ledger's, {charter.metric.name}, {charter.metric.direction} is better."
    sections = [
        f"# Standup {until[:10]}\n\n_{span}. {unit}_\n<!-- covers {f'from {since} ' if since else ''}to {until} -->",
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
        self.standing = Standing(book.moves)

    def is_new(self, moment: str | None) -> bool:
        return self.since is None or moment is None or moment > self.since

    def contract(self, verdict: Verdict) -> Contract | None:
        return self.book.experiments.get(verdict.experiment)

    def change(self, verdict: Verdict, limit: int = 90) -> str:
        contract = self.contract(verdict)
        return cell(contract.description, limit) if contract else "?"

    def tier(self, verdict: Verdict) -> str:
        return self.standing.tier(verdict)

    def is_kept(self, verdict: Verdict) -> bool:
        return self.standing.is_kept(verdict)

    def outcome(self, verdict: Verdict) -> str:
        gone = self.book.retracted.get(verdict.experiment)
        return f"retracted at {gone.get('scale')} by {gone.get('experiment')}" if gone else verdict.outcome

    def effect(self, verdict: Verdict) -> str:
        if verdict.effect is None:
            return "not measured"
        return f"{verdict.effect:+.4f}" + (f" ± {verdict.se:.4f}" if verdict.se is not None else "")

    def percent(self, verdict: Verdict, axis: str) -> str:
        more = facts.share(self.book, verdict, axis)
        return NOTHING if more is None else f"{more:+.1%}"


# --- sections ----------------------------------------------------------------------------------------------------


def _summary(view: _View) -> str:
    """One line. Counts changes; a stack is no change of its own, but its effect may be the best."""
    told = tally(view.book, view.since)
    parts = [
        f"{_count(told.runs, 'run')} and {_count(told.decided, 'experiment')} decided in {told.held_s / 3600:.2f} device-hours",
        f"{_count(told.wins, 'win')} ({told.verified} verified, {told.wins - told.verified} tentative)",
        *([f"{told.holds} held (no-worse shown)"] if told.holds else []),
        *([f"{told.controls} kept under a control"] if told.controls else []),
        f"{told.refuted} refuted",
        *([f"{_count(told.verifications, 'verification')}, {told.passed} passed"] if told.verifications else []),
        *([f"{_count(told.refusals, 'refusal')} by the gate"] if told.refusals else []),
    ]
    measured = [v for v in view.verdicts if v.outcome == "win" and v.tier and v.effect is not None and view.is_kept(v)]
    measured = [v for v in measured if is_on_the_curve(view.contract(v), view.charter.scale)]
    if measured:
        best = max(measured, key=lambda v: -view.charter.metric.sign * (v.effect or 0.0))
        parts.append(f"best effect **{view.effect(best)}** ({best.experiment}, {view.tier(best)}: {view.change(best)})")
    return "; ".join(parts) + "."


def _kept(view: _View) -> str:
    kept = [v for v in view.verdicts if view.is_kept(v) and is_change(view.contract(v))]
    if not kept:
        return "Nothing was kept."
    head = ["change", "effect ± se", "tier", "step time", "memory", "compile", "commit", "experiment", "seat"]
    rows = []
    for verdict in sorted(kept, key=lambda v: v.experiment):
        contract = view.contract(verdict)
        _, compile_s = facts.arms(view.book, verdict, "compile_s")
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
        if contract and not is_change(contract) and verdict.experiment not in moved:
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
        if not is_refuted or not is_change(contract):
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
    held = progress.device_time(view.results, view.book.verdicts)
    total = sum(held.values())
    if not total:
        return "No device was used."
    causes = sorted((cause for cause in held if held[cause]), key=lambda cause: -held[cause])
    rows = [[CAUSES[cause], f"{held[cause]:.0f}", f"{held[cause] / total:.0%}"] for cause in causes]
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
        lines.append(f"**{cell(letter.sender, 32)}**{mark}{about}, `{letter.id}`:\n\n{reader.read(quote(letter.body))}")
    lines += [f"**{cell(seat, 32)}** noted:\n\n{reader.read(quote(text))}" for seat, text in words.notes]
    return "\n\n".join(lines) or "None."


def _next(words: Words, reader: Reader) -> str:
    if not words.plans:
        return "No seat has said."
    return "\n".join(f"- **{seat}**: {reader.read(cell(text, 300))}" for seat, text in sorted(words.plans.items()))


def _answers(words: Words, reader: Reader) -> str:
    said = [f"**{seat}**\n\n{reader.read(quote(text))}" for seat, text in sorted(words.answers.items())]
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
        match = SPAN.search(path.read_text(encoding="utf-8", errors="replace")) if path.stem < date else None
        if match:
            return match[2]
    return None


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
