"""`org brief`: the one page that a seat begins or goes on with, also after its program forgot everything. At most LIMIT tokens.

Rendered from files alone: the same files and the same `now` make the same page. What does not fit is counted and named with
the command that shows it. Agents' words on it are one line each, without characters that nobody sees. Writes nothing and
acknowledges no letter.
"""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from org import files
from org.agents import decisions
from org.evidence import ladder, standing
from org.home import Home
from org.lab.book import Book
from org.records import Charter, Contract, Knob, Letter, Seat, Verdict
from org.team import clock, direction, ideas, mail, roster, seats, tokens, wiki
from org.team.roster import PERSON

LIMIT = 1250  # tokens of a whole page
LONGEST_PATH = 160  # of a home; a longer one is named by its variable alone
RECENT = 9  # runs whose seconds say how long one takes
SHOWN = 12  # experiments of one kind that are rendered; more never fit


@dataclass(frozen=True)
class Section:
    """A heading and its lines, the most important first. tokens: its share of the page; what it leaves goes to those
    behind it. rest: where the lines are that do not fit. more: how many there are that were not even made."""

    title: str
    lines: tuple[str, ...]
    tokens: int
    rest: str = ""
    more: int = 0


@dataclass(frozen=True)
class Page:
    """The text, and how many lines of which section are not on it."""

    text: str
    cut: Mapping[str, int]


def page(home: Home, book: Book, charter: Charter, who: str, now: float) -> Page:
    """The page of the seat `who`, or of the person. now: Unix seconds, for what is left of a budget."""
    seat = seats.load(home, who) if who != "human" else None
    facts = roster.facts(home)
    known = _Known(home, book, charter, seat, facts)
    sections = [Section("", tuple(known.place(now)), 450), known.letters()]
    if known.is_wide:
        sections.append(Section("Programs", tuple(known.programs()), 200, "`org status`, `org results`"))
    elif known.role == "breaker":
        title = "Tentative wins that no stack has tested"
        sections.append(Section(title, tuple(known.to_break()), 100, "`org results`"))
        sections.append(known.own(100))
    else:
        sections.append(known.own(200))
    sections.append(known.others())
    sections.append(Section("Open ideas", tuple(known.ideas()), 65, "`org idea`"))
    sections.append(Section("Wiki, newest first", tuple(known.wiki()), 75, "`org wiki find WORDS`"))
    sections.append(known.skills())
    assert sum(section.tokens for section in sections) <= LIMIT
    return fit(sections)


def fit(sections: Iterable[Section]) -> Page:
    """The sections that have lines, each within its share and what those before it left: no longer than all shares."""
    out: list[str] = []
    cut: dict[str, int] = {}
    used, share = 0, 0
    for section in sections:
        share += section.tokens
        if not section.lines:
            continue
        head = f"\n## {section.title}\n" if section.title else ""
        least = tokens.estimate(head) + tokens.estimate(_left_out(section, len(section.lines) + section.more))
        text, missed = _lines(section, share - used - least)
        missed += section.more
        if missed:
            cut[section.title.partition(" (")[0].partition(":")[0]] = missed
            text += _left_out(section, missed)
        out.append(head + text)
        used += tokens.estimate(out[-1])
    return Page("".join(out), cut)


def _left_out(section: Section, missed: int) -> str:
    return f"- {missed} more: {section.rest or 'cut for length'}\n"


def _lines(section: Section, room: int) -> tuple[str, int]:
    """What of a section goes into `room` tokens, and how many lines do not."""
    text, spent = "", 0
    for at, line in enumerate(section.lines):
        cost = tokens.estimate(f"{line}\n")
        if cost > room - spent:
            return text, len(section.lines) - at
        text, spent = f"{text}{line}\n", spent + cost
    return text, 0


class _Known:
    """What there is to say to one seat, section by section."""

    def __init__(self, home: Home, book: Book, charter: Charter, seat: Seat | None, facts: Mapping[str, Any]) -> None:
        self.home, self.book, self.charter, self.seat, self.facts = home, book, charter, seat, facts
        self.role = seat.role if seat and seat.backend != PERSON else "person"
        self.is_wide = roster.leads(self.role) or seat is None  # looks at every program, files nothing
        self.org = str(facts.get("org") or roster.DEFAULT_ORG)
        self.attacked = standing.standings(book.experiments, book.verdicts)

    # --- where it is

    def place(self, now: float) -> Iterator[str]:
        seat, charter, metric = self.seat, self.charter, self.charter.metric
        who = f"{seat.name}, {self.role} on program {seat.program}" if seat else "the person"
        yield f"# Brief: {who}"
        yield ""
        yield f"Task: {clip(charter.task, 110)}"
        yield f"Metric {metric.name}, {metric.direction} is better; arms are held equal in {charter.matched}."
        yield from self._work()
        yield self._scale()
        yield self._budget(now)
        path = str(self.home.root)
        yield f"Home: $ORG_HOME{f' = {line(path, 400)}' if len(path) <= LONGEST_PATH else ''}"
        charter_file = self.home.charter.relative_to(self.home.root).as_posix()
        pages = [f"$ORG_HOME/{charter_file}"]
        if self.home.intents.is_file():
            pages.append("$ORG_HOME/prompts/intents.yaml (why lines are as they are)")
        yield f"In full: {', '.join(pages)}"
        yield from self._role()

    def _work(self) -> Iterator[str]:
        seat, charter = self.seat, self.charter
        frozen = f"frozen paths: {len(charter.frozen)}" if charter.frozen else "nothing else"
        if not seat:
            return
        yield f"Worktree {line(_from_home(self.home, seat.worktree), 200)}, device {seat.device or 'none'}."
        if self.is_wide:
            return
        yield f"Edit {clip(', '.join(charter.editable), 60)}; {frozen}."
        about = charter.programs.get(seat.program)
        head = self._head(seat.program)
        yield f"Program {seat.program}{f': {clip(about, 30)}' if about else ''}. Its head: {head}."
        mine = [name for name, knob in charter.knobs.items() if knob.group == seat.program] or list(charter.knobs)
        if mine:
            yield clip(f"Knobs: {', '.join(_knob(name, charter.knobs[name]) for name in mine)}", 130)

    def _head(self, program: str) -> str:
        head = self.book.heads.get(program)
        if head is None:
            return "the start, nothing is verified yet"
        verdict = self.book.verdicts.get(str(head.get("experiment")))
        return f"{head.get('experiment')} ({said(verdict)})" if verdict else str(head.get("experiment"))

    def _scale(self) -> str:
        scale = self.charter.scale
        there = [
            r for name in reversed(list(self.book.results)) if (r := self.book.results[name]).scale == scale and r.is_ok
        ]
        held = [run.total_s for run in there[:RECENT] if run.total_s]
        lasts = f"a run takes {max(1.0, statistics.median(held)):.0f} s" if held else "no run has ended yet"
        for name in reversed(list(self.book.verdicts)):
            verdict = self.book.verdicts[name]
            contract = self.book.experiments.get(name)
            if verdict.sigma is not None and contract is not None and contract.scale == scale:
                lasts += f"; sigma of one run {verdict.sigma:.2g} {self.charter.metric.name}"
                break
        margin = f"; a no-worse claim excludes {self.charter.margin:g} of harm" if self.charter.margin else ""
        return f"Scale {scale}: {lasts}{margin}."

    def _budget(self, now: float) -> str:
        budget = self.facts.get("budget") or {}
        if self.facts.get("ended") or self.facts.get("budget_ended"):
            return "Budget: ended, no run is started any more."
        left = []
        if budget.get("seconds") is not None:
            rest = max(0.0, float(budget["seconds"]) - (clock.used_s(self.facts, now) or 0.0))
            left.append(f"{rest / 60:.0f} of {float(budget['seconds']) / 60:.0f} min")
        if (runs := clock.runs_left(self.facts, self.book)) is not None:
            left.append(f"{runs} of {budget['runs']} runs")
        devices = len(self.facts.get("devices") or ())
        return f"Budget left: {' and '.join(left) or 'no limit'}" + (f"; devices: {devices}." if devices else ".")

    def _role(self) -> Iterator[str]:
        if self.role == "person" or self.seat is None:
            return
        path = self.home.org_folder(self.org) / "roles" / f"{self.role}.md"
        if not path.is_file():
            return
        told = self.home.seat(self.seat.name) / "role.md"
        is_new = told.is_file() and path.read_text(encoding="utf-8", errors="replace").strip() not in told.read_text(
            encoding="utf-8", errors="replace"
        )
        edited = " was EDITED since you were started: read it" if is_new else ""
        yield f"Your role page: {_from_home(self.home, path)}{edited}"

    # --- mail

    def letters(self) -> Section:
        """What is waiting, orders first, each kind oldest first."""
        there = mail.peek(self.home, self.seat.name if self.seat else "human")
        if not there:
            return Section("Mail", ("- no letter waits",), 130)
        chiefs = [name for name, role in roster.members(self.home).items() if roster.is_chief(role)]
        there.sort(key=lambda letter: not (letter.verified and letter.sender in ("human", *chiefs)))
        title = f"Mail: {len(there)} waiting, `org inbox` reads and acknowledges"
        return Section(title, tuple(map(_letter, there)), 130, "`org inbox`")

    # --- experiments

    def own(self, share: int) -> Section:
        assert self.seat is not None
        name = self.seat.name
        waiting = [c for c in self.book.open() if c.seat == name]
        room = self.charter.rules.queue_ahead + 1 - sum(c.stage == "search" for c in waiting)
        found = [f"- {c.experiment} is queued or runs: {line(c.description, 120)}" for c in waiting[:SHOWN]]
        refused = [row for row in self.book.refusals if row.get("seat") == name]
        if refused and (self._last_moment(name) or "") < str(refused[-1].get("t")):
            found.append(f"- your last filing was refused: {_refusal(refused[-1])}")
        judged = self._contracts(lambda c: c.seat == name)
        found += [self._judged(c) for c in judged[:SHOWN]]
        title = f"Your experiments ({f'{room} may be filed now' if room > 0 else 'the queue is full'})"
        more = max(0, len(waiting) - SHOWN) + max(0, len(judged) - SHOWN)
        return Section(title, tuple(found) or ("- none yet",), share, "`org results`", more)

    def _last_moment(self, seat: str) -> str | None:
        return next(
            (
                c.created
                for name in reversed(list(self.book.experiments))
                if (c := self.book.experiments[name]).seat == seat
            ),
            None,
        )

    def others(self) -> Section:
        seat = self.seat
        if self.is_wide or seat is None:
            title, found = "Last verdicts", self._contracts(lambda c: True)
        else:
            title = "Last verdicts of others on the program"
            found = self._contracts(lambda c: c.seat != seat.name and c.program == seat.program)
        rows = tuple(self._judged(contract, with_seat=True) for contract in found[:SHOWN])
        return Section(title, rows, 110, "`org results`", max(0, len(found) - SHOWN))

    def to_break(self) -> Iterator[str]:
        tested = {m for c in self.book.experiments.values() for m in c.members}
        for name in reversed(list(self.book.wins)):
            if self.book.wins[name][0] == "tentative" and name not in tested and name not in self.book.retracted:
                contract = self.book.experiments[name]
                yield f"{self._judged(contract, with_seat=True, words=change(contract))} [{contract.program}]"

    def programs(self) -> Iterator[str]:
        """One line each: its head, what was judged, who sits there with how much waiting."""
        judged = [self.book.experiments[name] for name in self.book.verdicts if name in self.book.experiments]
        searched = Counter(c.program for c in judged if c.stage == "search")
        tested = {m for c in self.book.experiments.values() for m in c.members}
        wins = [n for n, (tier, _) in self.book.wins.items() if tier == "tentative" and n not in tested]
        waiting = Counter(self.book.experiments[n].program for n in wins if n not in self.book.retracted)
        queued = Counter(c.seat for c in self.book.open())
        done = direction.trials(self.book)
        yield from (f"- {text}" for text in direction.clashes(done))
        here: dict[str, list[str]] = {}
        for seat in seats.present(self.home):
            if seat.backend != PERSON and not roster.leads(seat.role):
                here.setdefault(seat.program, []).append(f"{seat.name} ({queued[seat.name]} open)")
        for name in sorted({*here, *searched, *self.charter.programs}):
            who = ", ".join(here.get(name, ())) or "nobody"
            yield (
                f"- {name}: head {self._head(name)}; {searched[name]} judged, {waiting[name]} tentative wins wait "
                f"for a stack{f'; dry: {decisions.DRY_AFTER} verdicts without a win' * decisions.is_dry(name, done)}; {who}"
            )

    def _contracts(self, keep: Callable[[Contract], bool]) -> list[Contract]:
        """Those that were judged and that `keep` says to, newest first; the bank is nobody's."""
        judged = [
            self.book.experiments[name] for name in reversed(list(self.book.verdicts)) if name in self.book.experiments
        ]
        return [contract for contract in judged if contract.stage != "bank" and keep(contract)]

    def _judged(self, contract: Contract, with_seat: bool = False, words: str = "") -> str:
        name = contract.experiment
        gone = self.book.retracted.get(name)
        verdict = self.book.verdicts[name]
        ended = self.attacked.get(name)
        later = f", {ladder.gone(gone)}" if gone else f", {ended.said}" if ended and ended.said else ""
        expected = f", predicted {contract.expect:+.4g}" if contract.expect is not None else ""
        by = f" of {contract.seat}" if with_seat else ""
        return f"- {name} {said(verdict)}{later}{expected}{by}: {line(words or contract.description, 120)}"

    # --- what is known

    def ideas(self) -> Iterator[str]:
        """The person's first; those about which somebody asked the person are parked. Who leads sees the papers too that
        nobody made an idea of, behind the person's."""
        known = ideas.list_ideas(self.home, self.book)
        rows = sorted((row for row in known if row["status"] in ("open", "parked")), key=ideas.order)
        yield from (_idea(row) for row in rows if row["is_persons"])
        papers = direction.unread(self.home, known) if self.is_wide else []
        if papers:
            yield f"- papers that no idea cites: {line(', '.join(f'prompts/papers/{name}' for name in papers), 160)}"
        yield from (_idea(row) for row in rows if not row["is_persons"])

    def wiki(self) -> Iterator[str]:
        """The newest first, those that something contradicts last."""
        pages = [(page, page.warnings(self.book)) for page in wiki.pages(self.home)]
        for page, warnings in sorted(pages, key=lambda row: bool(row[1])):
            doubt = f"; DOUBTFUL: {line(warnings[0], 60)}" if warnings else ""
            origin = f" of {line(page.origin, 20)}" if page.origin else ""
            yield f"- {page.kind}{origin}: {line(page.title, 100)} ({line(page.path.name, 60)}{doubt})"

    def skills(self) -> Section:
        found = skills(self.home, self.org)
        shared = [(n, p) for n, p in found.items() if p.parent == self.home.skills]
        own = [(n, p) for n, p in found.items() if p.parent != self.home.skills]
        rows = [f"- {name}: {line(summary(path), 110)}" for name, path in shared]
        rows += [f"- {_from_home(self.home, path)}: {line(summary(path), 110)}" for _, path in own]
        title = "Skills: pages to read when you need one, $ORG_HOME/prompts/skills/NAME.md"
        return Section(title, tuple(rows), 220, "`ls` there")


def skills(home: Home, org: str) -> dict[str, Path]:
    """Name -> page of every skill that the org named `org` has, by name: what all orgs share, an org's own before it."""
    found: dict[str, Path] = {}
    for folder in (home.skills, home.org_folder(org) / "skills"):
        found.update({path.stem: path for path in folder.glob("*.md")})
    return dict(sorted(found.items()))


def summary(path: Path) -> str:
    """A page's first line of text below its heading."""
    rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((row for row in rows if row.strip() and not row.startswith("#")), "")


def change(contract: Contract) -> str:
    """What was changed, in no words of who did it: a breaker is not to be talked round."""
    return ", ".join(f"{k.name} {k.old}→{k.new}" for k in contract.knobs) or "a change of code"


def said(verdict: Verdict) -> str:
    """`win (tentative) -0.0412 ± 0.0113`."""
    marks = [mark for mark in (verdict.tier, "reported" if verdict.trust == "reported" else None) if mark]
    text = verdict.outcome + (f" ({', '.join(marks)})" if marks else "")
    if verdict.effect is None:
        return text
    return f"{text} {verdict.effect:+.4f}" + (f" ± {verdict.se:.4f}" if verdict.se is not None else "")


def line(text: str, limit: int) -> str:
    """Somebody's words on one line, at most `limit` characters, with nothing in them that is not seen."""
    shown = " ".join(files.printable(text).split())
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cf", "Co", "Cs", "Cn") else c for c in shown
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def clip(text: str, most: int) -> str:
    """`text` on one line, in at most `most` tokens."""
    shown = line(text, 6 * most)
    while tokens.estimate(shown) > most:
        shown = shown[: len(shown) * 4 // 5] + "…"
    return shown


def _idea(row: Mapping[str, Any]) -> str:
    marks = [f"parked: {line(row['parked_by'], 40)} asked the person"] if row["status"] == "parked" else []
    marks += [f"repeats {', '.join(row['repeats'][:3])}"] if row["repeats"] and not row["insisted"] else []
    said = f" ({'; '.join(marks)})" if marks else ""
    return f"- {row['id']} of {line(row['source'], 40)}{said}: {line(row['title'], 100)}"


def _letter(letter: Letter) -> str:
    first = next((row for row in letter.body.splitlines() if row.strip()), "")
    doubt = "" if letter.verified else " (unverified, no order)"
    about = f" about {letter.about}" if letter.about else ""
    return f"- {letter.id} {letter.kind} from {letter.sender}{doubt}{about}: {line(first, 100)}"


def _refusal(row: Mapping[str, Any]) -> str:
    found = [v for v in row.get("violations") or () if isinstance(v, dict)]
    return "; ".join(f"[{line(str(v.get('rule')), 20)}] {line(str(v.get('message')), 140)}" for v in found[:2])


def _knob(name: str, knob: Knob) -> str:
    if knob.choices:
        return f"{name} {'|'.join(map(str, knob.choices))}"
    return f"{name} {knob.low:g}..{knob.high:g}"


def _from_home(home: Home, path: Path | str) -> str:
    """The path as a seat's shell knows it, the home by its variable."""
    there = Path(path)
    return f"$ORG_HOME/{there.relative_to(home.root).as_posix()}" if there.is_relative_to(home.root) else str(there)
