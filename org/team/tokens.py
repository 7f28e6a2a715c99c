"""How many tokens a letter is, for everybody who reads it: counted once a letter in comms/mail/tokens.jsonl. Nothing is downloaded.

The vocabulary is our own, 4,096 entries learned from this repository's text (`scripts/vocabulary` makes the same bytes
again), applied by tiktoken with nearly the split pattern of GPT-4's tokenizer: 3.5 bytes a token on this repository's own
text. A model's vocabulary is 25 to 50 times larger and makes fewer tokens of the same letter, so this is an estimate on the
high side of what any model counts; it compares letters and seats with one another, whatever reads them.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import re
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from org import files
from org.errors import BadInput, Busy
from org.failpoint import failpoint
from org.home import ID_PATTERN, Home
from org.records import Letter
from org.team import boxes, envelope

SIZE = 4096
VOCABULARY = Path(__file__).with_name("tokens.tiktoken")
# As GPT-4's, but numbers in groups of two: a small vocabulary has no three digits to spare. After nanochat.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
PIECE = 8192  # characters counted at a time: a letter of one long word costs 30 ms, not seconds
AT_ONCE = 200  # letters in one call, and no more of them than TALLY_S allows; the next call takes the next
TALLY_S = 0.3  # the office does nothing else meanwhile; a letter of 64 KB takes up to 10 ms
PAGE_S = 3.0  # a page waits so long for the count of what nobody has counted yet
FRESH_S = 0.1  # a folder changed this recently may change again within one tick of the file system's clock
LOCK_S = 1.0  # an agent can hold the lock for ever


def count(text: str) -> int:
    """Tokens of `text`. Whatever stands in it is text: no token is special."""
    encoding = _encoding()
    return sum(len(encoding.encode_ordinary(text[i : i + PIECE])) for i in range(0, len(text), PIECE))


def cut(text: str, most: int) -> tuple[str, int]:
    """(the beginning of `text` in at most `most` tokens, how many the whole has). One that fits is the text itself."""
    encoding, kept, total = _encoding(), "", 0
    for piece in (text[i : i + PIECE] for i in range(0, len(text), PIECE)):
        found = encoding.encode_ordinary(piece)
        if total < most:
            room = most - total
            kept += piece if len(found) <= room else encoding.decode(found[:room], errors="ignore")
        total += len(found)
    return kept, total


@functools.cache
def _encoding() -> Any:
    import tiktoken

    # Not by tiktoken's own loader: it keeps a copy by name in the temporary folder, where anybody may change it.
    return tiktoken.Encoding("org", pat_str=PATTERN, mergeable_ranks=_ranks(), special_tokens={})


@functools.cache
def _ranks() -> dict[bytes, int]:
    rows = (line.split() for line in VOCABULARY.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in rows}


# --- without tiktoken --------------------------------------------------------------------------------------------

# PATTERN as `re` reads it: it has no \p{L} and no \p{N}. Where the two differ (a Roman numeral) a piece is a token more or less.
_PIECES = re.compile(
    r"'(?i:[sdmt]|ll|ve|re)|(?:[^\w\r\n]|_)?+[^\W\d_]+|\d{1,2}| ?(?:[^\w\s]|_)++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_LONGEST = 48  # bytes of a piece merged at a time: one long word must not cost the square of its length


def estimate(text: str) -> int:
    """`count` without loading tiktoken, for pages that a verb bounds: the same merges in Python, 5 ms for a page. A piece of
    more than 48 bytes is merged in parts and so counts a little more."""
    return sum(_cost(piece) for piece in _PIECES.findall(text))


@functools.cache
def _cost(piece: str) -> int:
    data = piece.encode()
    return sum(_merged(data[i : i + _LONGEST]) for i in range(0, len(data), _LONGEST))


def _merged(data: bytes) -> int:
    """How many tokens byte pair encoding leaves of one piece: the pair learned first is merged first."""
    ranks = _ranks()
    if data in ranks:
        return 1
    parts = [data[i : i + 1] for i in range(len(data))]
    while len(parts) > 1:
        pairs = [(ranks.get(a + b, SIZE), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        rank, at = min(pairs)
        if rank == SIZE:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return len(parts)


# --- the count of every letter -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """What one box received."""

    letters: int = 0
    tokens: int = 0
    bytes: int = 0


def tally(home: Home) -> int:
    """Count the letters that no line tells of yet, each in each box once, and return how many those were. For the office,
    as often as it likes: with nothing new it looks at one folder a box. Safe to be killed in and to be run twice at once."""
    return _counter(home.root).run()


def per_seat(home: Home, since: str = "") -> dict[str, Sum]:
    """Box -> what it received from `since` (UTC ISO-8601) on, as far as it is counted."""
    sums: dict[str, Sum] = {}
    for row in files.read_lines(home.mail_tokens)[0]:
        box, tokens, size = row.get("to"), row.get("tokens"), row.get("bytes")
        if not isinstance(box, str) or not isinstance(tokens, int) or not isinstance(size, int):
            continue
        # a token is a byte at least; agents can write into this file, and a sum of theirs must stay a number that prints
        if (
            0 <= tokens <= size <= envelope.MAX_BODY_BYTES
            and ID_PATTERN.fullmatch(box)
            and str(row.get("created", "")) >= since
        ):
            old = sums.get(box, Sum())
            sums[box] = Sum(old.letters + 1, old.tokens + tokens, old.bytes + size)
    return sums


def received(home: Home, since: str = "") -> dict[str, Sum]:
    """The same, with everything counted first; what cannot be counted in time, or because a counter was stopped, is left
    out."""
    end = time.monotonic() + PAGE_S
    try:
        while tally(home) and time.monotonic() < end:
            pass
    except Busy:
        pass  # a page with fewer letters is better than none
    return per_seat(home, since)


class _Counter:
    """What this process knows of the count: which letters have a line, and which boxes did not change since."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.known: dict[str, set[str]] = {}  # box -> ids with a line
        self.skip: set[Path] = set()  # in new/, and no letter
        self.settled: dict[str, int] = {}  # box -> when its new/ was last changed, all that is in it counted
        self.offset = 0

    def run(self) -> int:
        try:
            there = list(os.scandir(self.home.mail))
        except FileNotFoundError:
            return 0
        mine = (entry for entry in there if ID_PATTERN.fullmatch(entry.name))
        changed = {entry.name: at for entry in mine if (at := self._changed(entry)) is not None}
        if not changed:
            return 0
        with files.locked(self.home.leases / "tokens", limit_s=LOCK_S):
            self._catch_up()
            lines, is_all = self._lines(changed)
            if lines:
                failpoint("tokens.count")
                files.append_line(self.home.mail_tokens, "\n".join(lines))
                failpoint("tokens.counted")
                self._catch_up()
        if is_all:
            self.settled |= {box: at for box, at in changed.items() if time.time() - at / 1e9 > FRESH_S}
        return len(lines)

    def _lines(self, changed: Mapping[str, int]) -> tuple[list[str], bool]:
        """Lines for letters without one, and whether those were all."""
        end = time.monotonic() + TALLY_S
        lines: list[str] = []
        for box, letter in _once(self._uncounted(changed)):
            lines.append(json.dumps(_row(box, letter)))
            if len(lines) >= AT_ONCE or time.monotonic() > end:
                return lines, False
        return lines, True

    def _changed(self, entry: os.DirEntry[str]) -> int | None:
        """When a letter last came to this box, if that is after the last count. A letter comes by way of new/."""
        try:
            at = Path(entry.path, "new").stat().st_mtime_ns
        except OSError:
            return None  # no folder; its seat's affair
        return None if self.settled.get(entry.name) == at else at

    def _catch_up(self) -> None:
        rows, self.offset = files.read_lines(self.home.mail_tokens, self.offset)
        for row in rows:
            self.known.setdefault(str(row.get("to")), set()).add(str(row.get("id")))

    def _uncounted(self, changed: Mapping[str, int]) -> Iterator[tuple[str, Letter]]:
        """Letters without a line. The archive is looked through the first time only: what goes there was counted."""
        for box in changed:
            known = self.known.setdefault(box, set())
            since = "" if box not in self.settled else "9999"
            try:
                paths = boxes.all_of(self.home, box, since)
                yield from ((box, letter) for path in paths if (letter := self._letter(box, path, known)))
            except OSError:
                continue  # a folder that cannot be listed must not keep the others uncounted

    def _letter(self, box: str, path: Path, known: Container[str]) -> Letter | None:
        if path.stem in known or path in self.skip:
            return None
        try:
            return boxes.read(self.home, box, path)
        except FileNotFoundError:
            return None  # moved on: seen again there
        except (OSError, BadInput):
            self.skip.add(path)
            return None


def _row(box: str, letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "to": box,
        "from": letter.sender,
        "kind": letter.kind,
        "created": letter.created,
        "tokens": count(letter.body),
        "bytes": len(letter.body.encode()),
    }


def _once(letters: Iterable[tuple[str, Letter]]) -> Iterator[tuple[str, Letter]]:
    """Each once: one that moved on while the box was looked through is seen twice."""
    seen = set()
    for box, letter in letters:
        if (box, letter.id) not in seen:
            seen.add((box, letter.id))
            yield box, letter


@functools.cache
def _counter(root: Path) -> _Counter:
    return _Counter(Home(root))
