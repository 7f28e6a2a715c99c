"""The wiki of an org that was, for the next one: its pages, marked as brought, with what their experiments showed as text.

An experiment's number means another one in another ledger, so every id is written anew: `E0042` of the home `first` is
`first_E0042`, which no ledger answers for. Reads the other home and changes nothing there.
"""

from __future__ import annotations

import re
from pathlib import Path

from org import charter as charters
from org import files
from org.errors import BadInput, OrgError
from org.evidence import ladder
from org.evidence.audit import EXPERIMENT
from org.home import Home
from org.lab import ledger
from org.lab.book import Book
from org.team import wiki

MOST = 1000  # pages
_CITATION = re.compile(r"\{(E[0-9]{4,})\.(\w+)\}")


def source(named: str) -> Home:
    """The home whose wiki is brought. A folder of pages alone is one too. Raises BadInput when there are no pages."""
    root = Path(named).expanduser().resolve()
    home = Home(root)
    if home.wiki.is_dir():
        return home
    if root.is_dir() and any(root.glob("*.md")):
        return _Folder(root)
    raise BadInput(
        f"--wiki {named}: {root} has no comms/wiki/ and no Markdown pages; name a home, or a folder of pages"
    )


class _Folder(Home):
    """Pages without an org around them: they have no ledger."""

    @property
    def wiki(self) -> Path:
        return self.root


def bring(home: Home, old: Home) -> list[Path]:
    """Every page of `old`, oldest first, added to `home`; the paths. Pages that were brought there before keep the origin they
    had. What cannot be read is left out."""
    name, book, metric = origin_of(old), _book(old), _metric(old)
    made = []
    for page in reversed(list(wiki.pages(old))[:MOST]):
        if page.is_torn or not page.body.strip():
            continue
        evidence = {
            **(page.evidence or {}),
            **{_there(name, e): _renamed(name, said(book, e, metric)) for e in page.cites},
        }
        warnings = [_renamed(name, mark) for mark in page.warnings(book)]
        more = {
            "origin": page.origin or name,
            "brought": files.utc_now(),
            **({"evidence": evidence} if evidence else {}),
        }
        text = _renamed(name, _CITATION.sub(lambda m: f"[{m[1]}.{m[2]}]", page.body))
        try:
            made.append(wiki.add(home, text, page.by, page.kind, warnings, more))
        except BadInput:
            continue  # larger than a page may be
    return made


def said(book: Book, experiment: str, metric: str) -> str:
    """What the other org measured, as one line of text."""
    verdict = book.verdicts.get(experiment)
    if verdict is None:
        return "no verdict came with it"
    gone = book.retracted.get(experiment)
    words = [verdict.outcome + (f" ({verdict.tier})" if verdict.tier else "")]
    if verdict.effect is not None:
        se = f" \u00b1 {verdict.se:.4f}" if verdict.se is not None else ""
        words.append(f"effect {verdict.effect:+.4f}{se} {metric}".rstrip())
    contract = book.experiments.get(experiment)
    words += [f"at {contract.scale}"] if contract else []
    words += [ladder.gone(gone)] if gone else []
    words += [files.printable(contract.description, 120)] if contract else []
    return ", ".join(" ".join(word.split()) for word in words)


def origin_of(old: Home) -> str:
    """The folder's name as it may stand before an id."""
    return re.sub(r"[^a-z0-9]+", "_", old.root.name.lower()).strip("_")[:24] or "earlier"


def _there(name: str, experiment: str) -> str:
    return f"{name}_{experiment}"


def _renamed(name: str, text: str) -> str:
    return EXPERIMENT.sub(lambda match: _there(name, match[0]), text)


def _book(old: Home) -> Book:
    try:
        return ledger.read(old)
    except (OrgError, OSError):
        return Book()


def _metric(old: Home) -> str:
    try:
        return charters.load(old).metric.name
    except (OrgError, OSError):
        return ""
