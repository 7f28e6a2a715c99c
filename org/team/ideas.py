"""Ideas as pages: comms/ideas/I0007-slug.md, numbered without a lock. Does not judge an idea; experiments do that.

What an idea has come to is computed from facts each time it is asked for: letters about it, experiments that name it. Its
page keeps what people and seats said of it; `ideapage` has its form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from org import files
from org.errors import BadInput, Refused, did_you_mean
from org.evidence.predictions import Origin
from org.failpoint import failpoint
from org.home import Home
from org.team import assigned, ideapage, likeness, questions
from org.team.ideapage import Page
from org.team.questions import PERSON

if TYPE_CHECKING:
    from org.lab.book import Book

IDEA_PATTERN = re.compile(r"(I[0-9]{4,})-.*\.md")
MAX_TEXT_BYTES = 64 * 1024
LIVE = ("open", "assigned", "parked")


# --- writing -----------------------------------------------------------------------------------------------------


def add(home: Home, text: str, source: str, author: str = "", like: Iterable[str] = (), **more: Any) -> str:
    """Write `text` down as a new idea and return its id, such as I0007. source: what it came from; author: who writes it
    down, the source where nobody else is named; like: what it repeats; more: mechanism, expect, cost, objection,
    objection_by, as `Page` has them."""
    text = checked(text, "the idea")
    for name in ("mechanism", "cost", "objection"):
        if more.get(name):
            more[name] = _sentences(str(more[name]), f"the {name}")
    number = _reserve(home.ideas)
    failpoint("ideas.reserved")
    page: dict[str, Any] = {
        "id": number,
        "source": source,
        "author": author if author != source else "",
        "created": files.utc_now(),
    }
    page |= {"like": list(like)[: ideapage.MOST_LIKE], **more}
    files.replace(home.ideas / f"{number}-{slug(text)}.md", ideapage.render(page, text))
    return number


def object_to(home: Home, idea: str, text: str, by: str) -> str:
    """Write the strongest objection on the page; returns whose it replaces, "" where there was none."""
    return _amend(home, idea, {"objection": _sentences(text, "the objection"), "objection_by": by}).objection_by


def bury(home: Home, idea: str, why: str, by: str) -> None:
    """Mark it dead, with the reason. Whose word ends an idea is for the caller to know."""
    _amend(home, idea, {"status": "dead", "why": _sentences(why, "the reason"), "dead_by": by})


def _amend(home: Home, idea: str, changes: Mapping[str, str]) -> Page:
    """The page as it was before."""
    path = find(home, idea)
    with files.locked(home.ideas_lock):
        try:
            text = files.read_plain(path).decode()
        except UnicodeDecodeError:
            raise BadInput(f"{path} is not UTF-8 text; mend it, then try again") from None
        page = ideapage.parse(text, str(path))
        files.replace(path, ideapage.amend(text, str(path), changes))
    return page


# --- reading -----------------------------------------------------------------------------------------------------


def find(home: Home, idea: str) -> Path:
    """The page of an idea. BadInput where there is none, naming the nearest."""
    there = {number: path for number, path in reversed(list(_paths(home)))}
    if idea not in there:
        how = "`org idea` lists them, and `org idea TEXT` writes one down"
        raise BadInput(f"{idea:.60}: there is no such idea{did_you_mean(idea, there)}; {how}")
    return there[idea]


def check_assignable(home: Home, idea: str) -> None:
    """Refused, in one line that names what to do, for an idea that may not be handed out: dead, or without an objection."""
    path = find(home, idea)
    page = _page(path)
    if page.dead:
        by = f" (said {page.dead_by})" if page.dead_by else ""
        raise Refused(f"{idea} is dead: {_short(page.dead)}{by}; to revive it take `status:` off its page {path}")
    if not page.objection:
        raise Refused(
            f"{idea} has no objection yet, and an idea is sharpened before it costs runs; "
            f'write its strongest one: org idea {idea} --object "…"'
        )


def list_ideas(home: Home, book: Book | None = None) -> list[dict[str, Any]]:
    """Every idea by number, as `Page` has it, with what it has come to. book: the ledger, read where it is None.

    `status` is dead (its page says so), parked (a seat asks the person about it: `parked_by`, and the question in
    `letter`), assigned (`assigned_to`: a task letter about it is younger than its last verdict, or an experiment of it is
    under way), tried or open. `experiments`: those that name it, each with outcome, tier, effect and se, None while it is
    under way. `like`: what it repeats, as far as its page and the ledger know; `repeats`: those of them that were tried,
    handed out or given up, which is reason not to assign it unless it is `insisted`: the person wrote to a chief about
    it. A page that cannot be read is listed with status `unreadable` and the reason as its text: a typing slip must not
    hide an idea.
    """
    pages = list(_pages(home))
    if not pages:
        return []
    if book is None:
        from org.lab import ledger

        book = ledger.read(home)
    asked, tests = questions.parked(home), _tests(book)
    alive = [page.created[:10] for _, page, _ in pages if isinstance(page, Page) and not page.dead]
    told = assigned.told(home, min(alive)) if alive else assigned.Told()
    rows = [_row(number, page, path, book, tests.get(number, []), told) for number, page, path in pages]
    for row in rows:
        question = asked.get(row["id"])
        if question is not None and row["status"] in ("open", "assigned", "tried"):
            row |= {"status": "parked", "parked_by": question.sender, "letter": question.id}
    _say_repeats(rows, book)
    return rows


def order(row: Mapping[str, Any]) -> tuple[bool, bool, str]:
    """To sort rows by: what is live before what is done, the person's first, then as they came."""
    return row["status"] not in LIVE, not row["is_persons"], row["id"].zfill(12)


def alike(home: Home, text: str, book: Book) -> list[str]:
    """What an idea of these words would repeat: experiments with the same settings, ideas in the same words."""
    wanted = likeness.settings(text)
    found = likeness.experiments(wanted, book.experiments.values()) if wanted else []
    pages = [(number, page) for number, page, _ in _pages(home) if isinstance(page, Page)]
    same = [n for n, page in pages if likeness.is_alike(text, page.text)]
    if wanted:
        same += [n for n, page in pages if likeness.settings(page.text) == wanted and n not in same]
    return [*found, *sorted(same)][-ideapage.MOST_LIKE :]


def said(name: str, rows: Mapping[str, Mapping[str, Any]], book: Book) -> str:
    """An experiment or idea that another one is like, with what came of it: `E0004 loss +0.0210 ± 0.0040`."""
    if name not in rows:
        return _verdict_words(_test(name, book)) if name in book.experiments else name
    tests = ", ".join(_verdict_words(test) for test in rows[name]["experiments"])
    return f"{name} {rows[name]['status']}{f' ({tests})' if tests else ''}"


def origins(home: Home) -> dict[str, Origin]:
    """Whose each idea is, by its id. Looks at no mail."""
    pages = ((number, page) for number, page, _ in _pages(home) if isinstance(page, Page))
    return {number: Origin(page.source, page.author) for number, page in pages}


def slug(text: str) -> str:
    """The first words of `text` as a file name may carry them."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(words)[:40].strip("-") or "idea"


# --- the parts ---------------------------------------------------------------------------------------------------


def _paths(home: Home) -> Iterator[tuple[str, Path]]:
    for path in sorted(home.ideas.glob("I*.md")) if home.ideas.is_dir() else []:
        match = IDEA_PATTERN.fullmatch(path.name)
        if match:
            yield match[1], path


def _pages(home: Home) -> Iterator[tuple[str, Page | str, Path]]:
    """Every idea by number: its page, or why it cannot be read."""
    for number, path in _paths(home):
        try:
            yield number, _page(path), path
        except (BadInput, OSError) as error:
            yield number, str(error), path


def _page(path: Path) -> Page:
    return ideapage.parse(files.read_plain(path).decode(errors="replace"), str(path))


def _tests(book: Book) -> dict[str, list[dict[str, Any]]]:
    """Idea -> the experiments that name it, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, contract in book.experiments.items():
        if contract.idea:
            found.setdefault(contract.idea, []).append(_test(name, book))
    return found


def _test(name: str, book: Book) -> dict[str, Any]:
    verdict = book.verdicts.get(name)
    fields = {field: getattr(verdict, field, None) for field in ("outcome", "tier", "effect", "se")}
    return {"experiment": name, "seat": book.experiments[name].seat, **fields}


def _row(
    number: str, page: Page | str, path: Path, book: Book, tests: list[dict[str, Any]], told: assigned.Told
) -> dict[str, Any]:
    is_there = isinstance(page, Page)
    known = page if isinstance(page, Page) else Page(page)
    row = {name: getattr(known, name) for name in Page.__dataclass_fields__}
    row |= {"id": number, "title": known.title or path.stem, "path": str(path), "experiments": tests}
    row |= {"like": list(known.like), "repeats": [], "insisted": number in told.insisted, "assigned_to": None}
    row["is_persons"] = PERSON in (known.source, known.author)
    row["status"], row["assigned_to"] = _status(known, tests, told, number, book) if is_there else ("unreadable", None)
    return row


def _status(
    page: Page, tests: list[dict[str, Any]], told: assigned.Told, number: str, book: Book
) -> tuple[str, str | None]:
    task = told.tasks.get(number)
    judged = [book.verdict_times.get(test["experiment"], "") for test in tests if test["outcome"]]
    under_way = [test["seat"] for test in tests if not test["outcome"]]
    if page.dead:
        return "dead", None
    if under_way:
        return "assigned", under_way[-1]
    if task is not None and task.created > max(judged, default=""):
        return "assigned", task.to
    return ("tried", None) if judged else ("open", None)


def _say_repeats(rows: list[dict[str, Any]], book: Book) -> None:
    """Fill in what each open idea repeats by now, and which of that is more than talk."""
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        if row["status"] not in LIVE:
            continue
        own = {test["experiment"] for test in row["experiments"]}
        wanted = likeness.settings(row["text"])
        later = likeness.experiments(wanted, book.experiments.values()) if wanted else []
        row["like"] = list(dict.fromkeys([*row["like"], *(name for name in later if name not in own)]))
        row["repeats"] = [
            name
            for name in row["like"]
            if name in book.experiments or (name in by_id and by_id[name]["status"] in ("assigned", "tried", "dead"))
        ]


def _verdict_words(test: Mapping[str, Any]) -> str:
    if test["outcome"] is None:
        return f"{test['experiment']} under way"
    marks = f" ({test['tier']})" if test["tier"] else ""
    number = "" if test["effect"] is None else f" {test['effect']:+.4f}"
    number += f" ± {test['se']:.4f}" if number and test["se"] is not None else ""
    return f"{test['experiment']} {test['outcome']}{marks}{number}"


def _reserve(folder: Path) -> str:
    """The next free number. The exclusive creation of a file in .numbers/ decides between two that ask at once; a
    writer that dies here leaves a gap, never two ideas with one number."""
    numbers = folder / ".numbers"
    numbers.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name[1:].partition("-")[0]) for p in (*folder.iterdir(), *numbers.iterdir()) if _is_number(p.name)]
    number = max(taken, default=0) + 1
    while True:
        name = f"I{number:04d}"
        try:
            os.close(os.open(numbers / name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            return name
        except FileExistsError:
            number += 1


def _is_number(name: str) -> bool:
    return re.match(r"I[0-9]{4,}(-|$)", name) is not None


def _short(text: str) -> str:
    return ideapage.line(text)


def _sentences(text: str, what: str) -> str:
    text = checked(text, what)
    if len(text) > ideapage.LONG:
        raise BadInput(f"{what} has {len(text)} characters, the limit is {ideapage.LONG}; name an experiment instead")
    return files.printable(text, ideapage.LONG)


def checked(text: str, what: str) -> str:
    text = text.strip().encode("utf-8", "replace").decode()
    if not text:
        raise BadInput(f"{what} is empty; write at least one sentence")
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise BadInput(f"{what} has {len(text.encode()) / 1024:.0f} KB, the limit is {MAX_TEXT_BYTES // 1024} KB")
    return text
