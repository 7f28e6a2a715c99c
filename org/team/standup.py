"""The morning page, comms/standup/<date>.md: what the ledger says, then what people and agents say. Makes no number.

`page` is a pure function of the book; `write` gathers the words, keeps what the person wrote below `## Review`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from org import files, times
from org.errors import BadInput
from org.evidence import ladder, predictions, standing
from org.evidence.progress import is_on_the_curve
from org.home import Home
from org.lab import credits
from org.lab.tally import REFUTED, Standing, is_change, tally, worth
from org.records import Charter, Contract, Letter, Verdict
from org.team import (
    breaches,
    costs,
    devicetime,
    facts,
    hands,
    ideas,
    mail,
    orders,
    review,
    roster,
    states,
    steering,
    tokens,
)
from org.team.breaches import Breaches
from org.team.prose import SPAN, Reader, cell, quote, table
from org.words import counted

if TYPE_CHECKING:
    from org.agents.usage import Usage
    from org.lab.book import Book

ANSWER_SIZE = 1700  # characters, so that where the rest lies is not cut off by `prose.quote`
ANSWER_TOKENS = 400  # of one seat's answer on the page: three times three sentences take half of it
EVENTS_READ = 4 * 1024 * 1024  # bytes of a seat's events: a night of them is a quarter of that
NOTHING = "-"  # in a cell: not known


@dataclass(frozen=True)
class Words:
    """What people and agents say: text, not numbers. Seat -> text; letters and notes for the person."""

    answers: dict[str, str] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    questions: Sequence[Letter] = ()
    notes: Sequence[tuple[str, str]] = ()  # (seat, text)
    hands: Sequence[hands.Spell] = ()  # who took a pane over
    post: Mapping[str, tokens.Sum] = field(default_factory=dict)  # box -> the letters it received
    used: Mapping[str, Usage] = field(default_factory=dict)  # what each seat's model has used
    limits: Sequence[str] = ()  # what is used of the limits of the launch, and what they cannot hold
    breaches: Breaches = field(default_factory=Breaches)
    steering: Mapping[tuple[str, str], steering.Count] = field(default_factory=dict)  # by backend and role
    orders: Sequence[orders.Fate] = ()  # what the person wrote on the last page, and what came of it


# --- the page ----------------------------------------------------------------------------------------------------


def write(home: Home, book: Book, charter: Charter, now: str, answers: dict[str, str]) -> Path:
    """Make today's page from the ledger, the seats' events and the person's mail; returns its path. It covers what
    happened since the page of an earlier day. What stands below `## Review` in today's page is kept to the letter."""
    date = times.utc(now)[:10]
    path = home.standup(date)
    since = _covered(home, date)
    plans, notes, denied = _from_events(home, since)
    questions = [letter for letter in mail.peek(home, "human") if letter.kind == "question"]
    sources = ideas.origins(home)
    used, limits = costs.page_of(home)
    words = Words(
        _bounded(home, answers, since),
        plans,
        questions,
        notes,
        hands.spells(home, since),
        tokens.received(home, since or ""),
        used,
        limits,
        Breaches(denied, breaches.forged(home, since)),
        steering.of_home(home, since, times.moment(now).timestamp(), EVENTS_READ),
        orders.fates(home, since, date),
    )
    text = page(book, charter, now, words, since, sources)
    there = _there(path).decode(errors="surrogateescape")
    head, made = review.SECTION.search(there), review.SECTION.search(text)
    kept = text[: made.start()] + there[head.start() :] if head and made else text
    files.replace(path, kept.encode(errors="surrogateescape"))
    return path


def page(
    book: Book,
    charter: Charter,
    now: str,
    words: Words,
    since: str | None = None,
    sources: Mapping[str, predictions.Origin] | None = None,
) -> str:
    """The page as Markdown. Counts what became known after `since` (None: since the launch) up to `now`; calibration
    counts everything. sources: idea -> whose it is. Every number is the ledger's; words of agents are quoted and made harmless."""
    view = _View(book, charter, since)
    reader = Reader(book, charter.metric.name, sources)
    until = times.utc(now)
    span = f"{_since(since)} up to {_clock(until)} UTC"
    unit = f"Numbers are the ledger's, {charter.metric.name}, {charter.metric.direction} is better."
    sections = [
        f"# Standup {until[:10]}\n\n_{span}. {unit}_\n<!-- covers {f'from {since} ' if since else ''}to {until} -->",
        "## While you slept\n\n" + _summary(view),
        *(["## Your orders\n\n" + orders.section(words.orders, book, reader, view.said)] if words.orders else []),
        "## Kept\n\n" + _kept(view),
        "## Stacks and heads\n\n" + _heads(view),
        "## Refuted\n\n" + _refuted(view),
        "## Predictions\n\n" + _predictions(view, sources or {}),
        "## Questions to you\n\n" + _questions(words, reader),
        *(["## Denied and forged\n\n" + breaches.section(words.breaches)] if words.breaches else []),
        *(["## Changed pages\n\n" + changed] if (changed := _changed(view)) else []),
        *(["## By hand\n\n" + hands.section(words.hands)] if words.hands else []),
        *(["## Steering\n\n" + said] if (said := steering.section(words.steering)) else []),
        "## Device time\n\n" + devicetime.section(view.results, view.book.verdicts),
        *(["## Models\n\n" + costs.section(words.used, words.limits)] if words.used or words.limits else []),
        *(["## Mail\n\n" + _post(words.post)] if words.post else []),
        "## Next\n\n" + _next(words, reader),
        *(["## In their words\n\n" + _answers(words, reader)] if words.answers else []),
        f"{review.HEADING}\n\n{review.HINT}",
    ]
    return "\n\n".join(section.rstrip("\n") for section in sections) + "\n"


class _View:
    """The part of the book that a page is about."""

    def __init__(self, book: Book, charter: Charter, since: str | None) -> None:
        self.book, self.charter, self.since = book, charter, since
        self.results = [r for r in book.results.values() if self.is_new(r.ended)]
        self.refusals = [row for row in book.refusals if self.is_new(row.get("t"))]
        self.verdicts = [v for name, v in book.verdicts.items() if self.is_new(book.verdict_times.get(name))]
        made = [row for row in book.moves if row.get("kind") == "head" and not row.get("follows")]  # others go along
        self.heads = [row for row in made if self.is_new(row.get("t"))]
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
        return ladder.gone(gone) if gone else verdict.outcome

    def effect(self, verdict: Verdict) -> str:
        if verdict.effect is None:
            return "not measured"
        return f"{verdict.effect:+.4f}" + (f" ± {verdict.se:.4f}" if verdict.se is not None else "")

    def said(self, verdict: Verdict) -> str:
        return ", ".join(part for part in (self.outcome(verdict), self.tier(verdict), self.effect(verdict)) if part)

    def percent(self, verdict: Verdict, axis: str) -> str:
        more = facts.share(self.book, verdict, axis)
        return NOTHING if more is None else f"{more:+.1%}"


# --- sections ----------------------------------------------------------------------------------------------------


def _summary(view: _View) -> str:
    """One line. Counts changes; a stack is no change of its own, but its effect may be the best."""
    told = tally(view.book, view.since)
    parts = [
        f"{counted(told.runs, 'run')} and {counted(told.decided, 'experiment')} decided in {told.held_s / 3600:.2f} device-hours",
        f"{counted(told.wins, 'win')} ({told.verified} verified, {told.wins - told.verified} tentative)",
        *([f"{told.holds} held (no-worse shown)"] if told.holds else []),
        *([f"{told.controls} kept under a control"] if told.controls else []),
        f"{told.refuted} refuted",
        *([f"{counted(told.verifications, 'verification')}, {told.passed} passed"] if told.verifications else []),
        *([f"{counted(told.refusals, 'refusal')} by the gate"] if told.refusals else []),
    ]
    measured = [v for v in view.verdicts if v.outcome == "win" and v.tier and v.effect is not None and view.is_kept(v)]
    measured = [v for v in measured if is_on_the_curve(view.contract(v), view.charter.scale)]
    if measured:
        best = max(measured, key=lambda v: -view.charter.metric.sign * (v.effect or 0.0))
        parts.append(f"best effect **{view.effect(best)}** ({best.experiment}, {view.tier(best)}: {view.change(best)})")
    damage = view.book.damage()
    warning = f"\n\n**{damage[:1].upper()}{damage[1:]}; `org results --check` says what is wrong.**" if damage else ""
    return "; ".join(parts) + "." + warning


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
    return table(head, rows) + note


def _worth(view: _View) -> list[str]:
    """What each head is worth against the base, measured: not the sum of what its moves claimed."""
    stand: dict[str, list[str]] = {}
    for program, row in view.book.heads.items():
        stand.setdefault(str(row["commit"]), []).append(f"`{program}`")
    lines = []
    for commit, programs in stand.items():
        row = next(row for row in view.book.heads.values() if row["commit"] == commit)
        if (found := worth(view.book, row, view.charter.metric.sign)) is not None:
            said = f"{found.effect:+.4f} ± {found.se:.4f} {view.charter.metric.name} against the base"
            lines.append(f"- the head of {', '.join(programs)}, `{commit[:7]}`: {said}, n {found.n} fresh runs")
    return lines


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
        if contract and not is_change(contract) and not contract.refutes and verdict.experiment not in moved:
            members = ", ".join(contract.members)
            what = (
                f"{f'control ({contract.control})' if contract.control else 'stack'} {verdict.experiment} of {members}"
            )
            if contract.promotes:
                what = f"re-test {verdict.experiment} of {contract.promotes} at {contract.scale}"
            lines.append(f"- {what}: {verdict.outcome}, {view.effect(verdict)}")
    lines += [f"- {line}" for line in _credits(view)]
    if lines:
        lines += _worth(view)
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
    gone = {str(name) for row in view.heads for name in row.get("retracts") or ()}  # of this span, whenever it had won
    older = [v for name in gone if (v := view.book.verdicts.get(name)) is not None and v not in view.verdicts]
    for verdict in sorted([*view.verdicts, *older], key=lambda v: v.experiment):
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
    head = ["change", "outcome", "predicted", "measured", "experiment", "seat"]
    return "\n\n".join([table(head, rows) if rows else "Nothing was refuted.", *_attacked(view)])


def _attacked(view: _View) -> list[str]:
    """What the wins came to that were attacked in this span, those that fell left out: they stand in the table."""
    contracts = view.book.experiments
    now = {c.refutes for v in view.verdicts if (c := view.contract(v)) is not None and c.refutes}
    ended = standing.standings(contracts, view.book.verdicts) if now else {}
    known = [
        (name, one) for name, one in sorted(ended.items()) if name in now and one.outcome != "refuted" and one.said
    ]
    return ["Under attack: " + "; ".join(f"{name} {one.said}" for name, one in known) + "."] if known else []


def _changed(view: _View) -> str:
    """Edits of the org folder, the skills or the charter: what is compared from then on is another organisation."""
    rows = [row for row in view.book.org if row.get("event") == "changed" and view.is_new(row.get("t"))]
    named = [names for row in rows if isinstance(names := row.get("pages"), list | tuple)]
    pages = list(dict.fromkeys(cell(str(name), 200) for names in named for name in names))
    if not rows:
        return ""
    said = ", ".join(f"`{page}`" for page in pages[:20]) or "the org folder or the charter, while no office looked"
    return f"Edited while the org ran, each seat told at its next turn: {said}."


def _predictions(view: _View, sources: Mapping[str, predictions.Origin]) -> str:
    """Over the whole ledger: calibration needs more than one night."""
    found = predictions.scores(view.book.experiments, view.book.verdicts, sources)
    if not found:
        return "No prediction was scored yet."
    rows = [[s.by, cell(s.who, 60), str(s.n), predictions.signs(s), f"{s.error:.4f}"] for s in found]
    return table(["by", "who", "predictions", "sign right", "mean abs error"], rows)


def _questions(words: Words, reader: Reader) -> str:
    lines = []
    for letter in words.questions:
        mark = "" if letter.verified else " (unverified)"
        about = f" about {cell(letter.about, 40)}" if letter.about else ""
        lines.append(f"**{cell(letter.sender, 32)}**{mark}{about}, `{letter.id}`:\n\n{reader.read(quote(letter.body))}")
    lines += [f"**{cell(seat, 32)}** noted:\n\n{reader.read(quote(text))}" for seat, text in words.notes]
    return "\n\n".join(lines) or "None."


def _post(post: Mapping[str, tokens.Sum]) -> str:
    """Letters and tokens that each box received: what reading its mail cost a seat."""
    names = [
        *sorted((name for name in post if name != "human"), key=roster.by_name),
        *(["human"] if "human" in post else []),
    ]
    rows = [[cell(name, 32), str(post[name].letters), str(post[name].tokens)] for name in names]
    return table(["to", "letters", "tokens"], rows)


def _next(words: Words, reader: Reader) -> str:
    if not words.plans:
        return "No seat has said."
    return "\n".join(f"- **{seat}**: {reader.read(cell(text, 300))}" for seat, text in sorted(words.plans.items()))


def _answers(words: Words, reader: Reader) -> str:
    said = [f"**{seat}**\n\n{reader.read(quote(text))}" for seat, text in sorted(words.answers.items())]
    return "\n\n".join(["_Quoted; what stands in brackets is the ledger's word on the number before it._", *said])


# --- small things ------------------------------------------------------------------------------------------------


def _from_events(
    home: Home, since: str | None
) -> tuple[dict[str, str], list[tuple[str, str]], dict[str, breaches.Denials]]:
    """What each seat said it does next (its last plan); the notes people typed into panes and the tool calls that were denied
    since the last page."""
    denied = {}
    plans: dict[str, str] = {}
    notes: list[tuple[str, str]] = []
    for seat in roster.members(home):
        rows = states.last_events(home, seat, EVENTS_READ)
        if (found := breaches.denials(rows, since)) is not None:
            denied[seat] = found
        for row in rows:
            text = str(row.get("text") or "").strip()
            if row.get("event") == "plan" and text:
                plans[seat] = text
            elif row.get("event") == "note" and text and (since is None or str(row.get("t")) > since):
                notes.append((seat, text))
    return plans, notes, denied


def _bounded(home: Home, answers: Mapping[str, str], since: str | None) -> dict[str, str]:
    """Each answer within ANSWER_TOKENS; one that is cut says so, and which letter holds the whole of it."""
    found = {}
    for seat, text in answers.items():
        found[seat], size = tokens.cut(text, ANSWER_TOKENS)
        if size > ANSWER_TOKENS or len(text) > ANSWER_SIZE:
            letters = [one for one in mail.received(home, "human", since or breaches.ALL) if one.sender == seat]
            whole = next((f"; `org inbox {one.id}` has the whole" for one in letters if one.body == text), "")
            found[seat] = f"{found[seat][:ANSWER_SIZE].rstrip()} …\n\n(cut at {ANSWER_TOKENS} of {size} tokens{whole})"
    return found


def _there(path: Path) -> bytes:
    """Today's page as it lies there. What is no page is moved aside, not waited for or written over."""
    try:
        return files.read_plain(path)
    except FileNotFoundError:
        return b""
    except (BadInput, OSError):
        files.move(path, path.with_name(f"{path.name}.torn-{times.stamp()}"))
        return b""


def _covered(home: Home, date: str) -> str | None:
    """Up to when the newest page of an earlier day reaches."""
    if not home.standups.is_dir():
        return None
    for path in sorted(home.standups.glob("[0-9]*.md"), reverse=True):
        if path.stem >= date:
            continue
        try:
            match = SPAN.search(files.read_plain(path).decode(errors="replace"))
        except (BadInput, OSError):
            continue  # no page
        if match:
            return match[2]
    return None


def _has_reported(verdicts: Iterable[Verdict]) -> bool:
    return any(verdict.trust == "reported" for verdict in verdicts)


def _since(since: str | None) -> str:
    return f"Since {_clock(since)} UTC" if since else "Since the launch"


def _clock(moment: str) -> str:
    return moment[:16].replace("T", " ")
