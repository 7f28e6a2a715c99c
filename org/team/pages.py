"""What people write in `processes/` of an org folder: pages, read strictly. Asks nobody; `processes` does.

A page is Markdown with front matter. Its text is what is asked; level-2 headings `## Round 2: everyone` make several
rounds of it, and each later round is handed what was answered before, without names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from org import files, strictyaml, times
from org.errors import BadInput, did_you_mean
from org.home import ID_PATTERN, Home
from org.team import roster

KEYS = ("when", "who", "input", "writes", "answers_within")
WHEN_FORM = (
    "`daily 07:00`, `weekly mon 09:00`, `every 2h`, `end`, `on tentative`, `on stalemate`, `on asked`, "
    "or several with commas"
)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVENTS = ("tentative", "stalemate", "asked")
DRY = 6  # verdicts without a kept one that make a program dry, where the page names no number
FACTS = ("diff", "claim", "runs", "question", "ledger")  # what `input` may hand over beside files
OF_AN_EXPERIMENT = ("diff", "claim", "runs")
EVERYONE, CHAIR, PEER = (
    "everyone",
    "chair",
    "peer",
)  # of a round: all that the page asks, its first; of a page: a colleague
OF_AUTHOR = re.compile(rf"({ID_PATTERN.pattern}) of author")  # the seat of that role that belongs to the author
MAX_ROUNDS = 9
STANDUP = "standup"  # the one page that facts join: the morning page
# folders of comms/ that the org keeps its own facts in
KEPT = ("mail", "seats", "experiments", "record.git", "leases", "referee", "programs", "ideas", "processes", "plot")
_ROUND = re.compile(r"^## Round ([0-9]+)(?::[ \t]*(.*?))?[ \t]*$", re.MULTILINE)
_PLACE = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class Round:
    """One question of a page. who: seats and roles, `everyone`, `chair`, `ROLE of author`; empty: everyone."""

    who: tuple[str, ...]
    body: str


@dataclass(frozen=True)
class Process:
    """One page of `processes/`. `body` is all of its text; what is asked is in `rounds`."""

    name: str
    when: tuple[str, ...]  # as in WHEN_FORM
    who: tuple[str, ...]  # seats, roles, "all", "peer", "ROLE of author"
    input: tuple[str, ...]  # files of the home that the asked should read first, and FACTS
    writes: str | None  # what the answers become, such as comms/retro/{date}.md
    answers_within_s: float  # for each round
    body: str

    @property
    def rounds(self) -> tuple[Round, ...]:
        """What is asked, one round after the other. Text above the first heading begins every round."""
        marks = list(_ROUND.finditer(self.body))
        if not marks:
            return (Round((), self.body),)
        lead = self.body[: marks[0].start()].strip()
        ends = [mark.start() for mark in marks[1:]] + [len(self.body)]
        texts = [self.body[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
        return tuple(
            Round(_parts(mark[2] or ""), f"{lead}\n\n{text}".strip()) for mark, text in zip(marks, texts, strict=True)
        )

    @property
    def is_asked(self) -> bool:
        """Whether people and seats may write to it."""
        return "on asked" in self.when

    @property
    def dry_after(self) -> int | None:
        """How many verdicts without a kept one make `on stalemate`; None where the page does not wait for one."""
        part = next((part for part in self.when if part.startswith("on stalemate")), None)
        return None if part is None else int(part.partition("stalemate")[2] or DRY)


def load(folder: Path) -> list[Process]:
    """The processes of an org folder (`prompts/orgs/<name>`), by name. Raises BadInput naming file and field."""
    pages = folder / "processes"
    return [read(path) for path in sorted(pages.glob("*.md"))] if pages.is_dir() else []


def check(folder: Path, seats: Iterable[str] = ()) -> None:
    """Every page, and that it names who can be there. seats: names of org.yaml. Raises BadInput naming file and field."""
    roles = [page.stem for page in sorted((folder / "roles").glob("*.md"))]
    known = [*seats, *roles, "all"]
    for page in load(folder):
        path = folder / "processes" / f"{page.name}.md"
        if page.is_asked and page.name in known:
            raise BadInput(
                f"{path}: letters to '{page.name}' go to the seat; give a process that is `on asked` another name"
            )
        of_rounds = [name for each in page.rounds for name in each.who if name not in (EVERYONE, CHAIR)]
        for name in (*page.who, *of_rounds):
            author = OF_AUTHOR.fullmatch(name)
            bare = author[1] if author else name
            if bare not in known and name != PEER:
                raise BadInput(
                    f"{path}: who: '{bare}' is no seat or role of this org{did_you_mean(bare, known)}; "
                    f"known: {', '.join(known[:12])}"
                )


def asked(home: Home, name: str) -> Process | None:
    """The page `name` of the org folder in force, if letters may be written to it. One with a slip is none: the office's
    board shows that."""
    if not ID_PATTERN.fullmatch(name):
        return None
    path = home.org_folder(roster.facts(home).get("org") or roster.DEFAULT_ORG) / "processes" / f"{name}.md"
    if not path.is_file():
        return None
    try:
        page = read(path)
    except (BadInput, OSError):
        return None
    return page if page.is_asked else None


def read(path: Path) -> Process:
    """One page. Raises BadInput naming file and field."""
    try:
        fields, body = strictyaml.front_matter(files.read_plain(path).decode(), str(path))
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text") from None
    if not ID_PATTERN.fullmatch(path.stem):
        raise BadInput(f"{path}: a process is named with a-z 0-9 _ - only; rename the file")
    for key in fields:
        if key not in KEYS:
            raise BadInput(f"{path}: unknown key '{key}'{did_you_mean(str(key), KEYS)}; known here: {', '.join(KEYS)}")
    for key in ("when", "who", "answers_within"):
        if fields.get(key) in (None, "", []):
            raise BadInput(f"{path}: '{key}' is missing; a process says when, who and answers_within")
    if not body.strip():
        raise BadInput(f"{path}: the page has no text below its front matter; write what is asked")
    when = tuple(" ".join(part.split()) for part in _texts(path, "when", fields["when"]))
    for part in when:
        _check_when(path, part)
    who = _texts(path, "who", fields["who"])
    for name in who:
        _check_who(path, "who", name)
        if (name == PEER or OF_AUTHOR.fullmatch(name)) and when != ("on tentative",):
            raise BadInput(f"{path}: who: '{name}' belongs to `when: on tentative`, which has an author")
    inputs = _texts(path, "input", fields.get("input") or [])
    writes = fields.get("writes")
    for name in (*inputs, *([writes] if writes is not None else [])):
        if not isinstance(name, str) or name.startswith("/") or ".." in Path(name).parts or not name.isprintable():
            raise BadInput(f"{path}: '{name!s:.60}' must be a path inside the home, such as comms/results.tsv")
    _check_input(path, inputs, when)
    if writes is not None:
        _check_writes(path, writes, when)
    within = times.length(str(fields["answers_within"]).strip())
    if within is None:
        raise BadInput(
            f"{path}: answers_within: '{fields['answers_within']!s:.40}' is no duration; write 90s, 5m or 2h"
        )
    page = Process(path.stem, when, who, inputs, writes, within, body.strip())
    _check_rounds(path, page)
    return page


# --- each field --------------------------------------------------------------------------------------------------


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) and part.strip() for part in parts):
        raise BadInput(f"{path}: {key} must be a text or a list of texts, not {value!r:.60}")
    return tuple(part.strip() for part in parts)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_when(path: Path, part: str) -> None:
    kind, _, rest = part.partition(" ")
    day, _, at = rest.partition(" ")
    event, _, number = rest.partition(" ")
    is_number = re.fullmatch(r"[1-9][0-9]{0,2}", number) is not None
    if (
        part == "end"
        or (kind == "every" and times.length(rest))
        or (kind == "daily" and clock(rest))
        or (kind == "weekly" and day in DAYS and clock(at))
        or (kind == "on" and event in EVENTS and (not number or (event == "stalemate" and is_number)))
    ):
        return
    raise BadInput(f"{path}: when: '{part:.40}' is not known; write {WHEN_FORM}")


def clock(text: str) -> tuple[int, int] | None:
    """Hour and minute of `07:00`."""
    match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text.strip())
    return (int(match[1]), int(match[2])) if match else None


def _check_who(path: Path, where: str, name: str) -> None:
    if not ID_PATTERN.fullmatch(name) and not OF_AUTHOR.fullmatch(name):
        raise BadInput(f"{path}: {where}: '{name:.40}' is no seat or role")


def _check_input(path: Path, inputs: tuple[str, ...], when: tuple[str, ...]) -> None:
    events = {part.split()[1] for part in when if part.startswith("on ")}
    for name in inputs:
        if name in OF_AN_EXPERIMENT and "tentative" not in events:
            raise BadInput(f"{path}: input: '{name}' is of an experiment; it belongs to `when: on tentative`")
        if name == "question" and not events & {"asked", "stalemate"}:
            raise BadInput(f"{path}: input: 'question' belongs to `when: on asked` or `on stalemate`")
        if name not in FACTS and "/" not in name and "." not in name:
            known = did_you_mean(name, FACTS)
            raise BadInput(
                f"{path}: input: '{name:.40}' is neither a file nor a fact{known}; facts are {', '.join(FACTS)}"
            )


def _check_writes(path: Path, writes: str, when: tuple[str, ...]) -> None:
    for found in _PLACE.finditer(writes):
        if found[1] not in ("date", "id"):
            raise BadInput(f"{path}: writes: nothing is put in for {found[0]:.40}; known are {{date}} and {{id}}")
    parts = Path(writes).parts
    if len(parts) < 3 or parts[0] != "comms" or parts[1] in KEPT or not writes.endswith(".md"):
        raise BadInput(
            f"{path}: writes: '{writes:.60}' is no page of its own; write comms/FOLDER/{{date}}.md, FOLDER none of "
            f"{', '.join(KEPT)}"
        )
    if (parts[1] == STANDUP) != (path.stem == STANDUP):
        raise BadInput(f"{path}: writes: comms/{STANDUP}/ holds the morning pages, which the process {STANDUP} writes")
    is_often = any(part.startswith(("on ", "every ")) for part in when)
    if is_often and "{id}" not in writes and path.stem != STANDUP:
        raise BadInput(f"{path}: writes: it may run several times a day; put {{id}} into the name of its page")


def _check_rounds(path: Path, page: Process) -> None:
    numbers = [int(mark[1]) for mark in _ROUND.finditer(page.body)]
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) > MAX_ROUNDS:
        raise BadInput(f"{path}: rounds must be `## Round 1`, `## Round 2` and so on, {MAX_ROUNDS} at most")
    for number, (each, mark) in enumerate(zip(page.rounds, _ROUND.finditer(page.body), strict=False), 1):
        rest = page.body[mark.end() :]
        if not _ROUND.split(rest)[0].strip():
            raise BadInput(f"{path}: round {number} has no text; write what is asked in it")
        for name in each.who:
            _check_who(path, f"round {number}", name)
