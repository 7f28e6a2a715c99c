"""The doorbell: one short typed line that says which letters wait, and only where no person is working. Carries no mail.

Pure (`decide`): from what was told before and what is seen now, the next thing to do in one pane. `team.ringer` does
it. A line is written down before it is typed, its Enter is repeated until the program's own event confirms it, and its text
is never typed twice on a guess: the office may be killed anywhere in between.

    nothing -> typing (written down) -> typed -> entered -> confirmed by the program's event, or by the letters' being read
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from org import files
from org.home import ID_PATTERN, Home
from org.words import counted
from org.world.tmux import MAX_LINE

AGAIN_S = 60.0  # a letter that stays unread is told of again after this, then after twice as long, and so on
AGAIN_LIMIT_S = 1800.0
IDS_NAMED = 8  # in one line; the others get the next one
ECHO_S = 0.3  # a program that does not show what was typed gets its Enter after this all the same
ENTER_AGAIN_S = (1.0, 1.0, 2.0, 4.0, 8.0)  # until it is confirmed: one Enter too many on an empty line is nothing
RESTORED_S = 8.0  # the same where the line's end brings a draft back: an Enter that is one too many would submit that
QUEUE_S = 30.0  # a program's own queue may be looked at only every 10 s
CONFIRMING = ("processed",)  # events that name the letters of a submitted line
SUBMITTED = ("processed", "submitted", "working")  # events after which nothing stands in the program's box any more
SETTLING_S = 1.0  # from the first key to Enter nobody can have come in between

Told = Literal["typed", "accepted"]
Do = Literal["type", "enter", "look"]


@dataclass(frozen=True)
class Notice:
    """What is known of one waiting letter: that a line named it, or that the program took that line; when (Unix seconds) and
    how often."""

    told: Told
    at: float
    times: int = 1


@dataclass(frozen=True)
class Line:
    """A line on its way into a pane. `typing`: written down, and perhaps typed; `typed`: stands in the program's box;
    `entered`: submitted, as far as keys go. `is_queued`: handed to the program's own queue, no key involved."""

    letters: tuple[str, ...]
    text: str
    at: float  # Unix seconds
    phase: Literal["typing", "typed", "entered"] = "typing"
    enters: int = 0
    entered_at: float = 0.0
    is_queued: bool = False


@dataclass(frozen=True)
class Bell:
    """All that is kept of one seat's doorbell."""

    letters: Mapping[str, Notice] = field(default_factory=dict)
    line: Line | None = None


@dataclass(frozen=True)
class Facts:
    """What is seen of one seat now. `quiet`: why nothing may be typed, None when it may. `reports`: the program says in
    events what it does. `confirmed`: letters that its events named. `is_idle`: it waits for input. `on_screen`: two
    agreeing looks say whether the line's text stands in the pane; None: not known."""

    now: float
    waiting: Sequence[str]
    quiet: str | None = None
    reports: bool = True
    confirmed: frozenset[str] = frozenset()
    is_idle: bool = True
    started: float = 0.0  # when the program was started, Unix seconds
    echoed: bool = False  # the cursor has moved since the text was typed
    gap_s: float = 0.2  # between text and Enter at least: a program may take both at once for a pasted line break
    on_screen: bool | None = None
    restores: bool = False  # a draft that was put aside comes back into the box once the line is taken
    is_handed: bool = False  # the program's own queue or session holds the line's text since it was written down


@dataclass(frozen=True)
class Step:
    """`do` it and keep `bell`; None: nothing now. `wake_s`: look again after so many seconds at the latest."""

    bell: Bell
    do: Do | None = None
    wake_s: float | None = None


def decide(bell: Bell, facts: Facts) -> Step:
    """What to do in the pane now. Pure. The step's bell is to be written down before it is done."""
    waiting = [letter for letter in facts.waiting if ID_PATTERN.fullmatch(letter)]
    bell = _by_this_clock(bell, facts.now)
    letters = {letter: notice for letter, notice in bell.letters.items() if letter in waiting}
    for letter in facts.confirmed & set(waiting):
        old = letters.get(letter)
        if old is None or old.told == "typed":
            letters[letter] = Notice("accepted", facts.now, old.times if old else 1)
    step = _go_on(Bell(letters, bell.line), facts, waiting)
    return step if step.bell.line is not None or facts.quiet is not None else _begin(step.bell, facts, waiting)


def _by_this_clock(bell: Bell, now: float) -> Bell:
    """What is noted for a moment to come was noted before the clock was set back: it counts from now on."""
    letters, line = bell.letters, bell.line
    if any(notice.at > now for notice in letters.values()):
        letters = {letter: replace(notice, at=min(notice.at, now)) for letter, notice in letters.items()}
    if line is not None and max(line.at, line.entered_at) > now:
        line = replace(line, at=min(line.at, now), entered_at=min(line.entered_at, now))
    return bell if letters is bell.letters and line is bell.line else Bell(letters, line)


def _go_on(bell: Bell, facts: Facts, waiting: Sequence[str]) -> Step:
    """The line that is on its way; without one, or when it has arrived, a bell without a line."""
    line = bell.line
    if line is None:
        return Step(bell)
    age = facts.now - line.at
    is_lost = line.at < facts.started <= facts.now
    if facts.is_handed and (
        is_lost or line.phase == "typing"
    ):  # it was handed over, and only the note of that is missing
        notices = {letter: Notice("accepted", facts.now, _times(bell, letter)) for letter in line.letters}
        return Step(Bell({**bell.letters, **notices}))
    if is_lost:  # the program that was told is gone, and what stood in its box with it
        lost = {letter for letter in line.letters if letter not in facts.confirmed}
        return Step(Bell({k: v for k, v in bell.letters.items() if k not in lost}))
    if line.phase == "typing":  # written down by an office that died in the middle
        if facts.on_screen is None or facts.quiet is not None:
            return Step(bell, "look" if facts.quiet is None else None, SETTLING_S)
        if facts.on_screen:
            return Step(replace(bell, line=replace(line, phase="typed")), None, 0.0)
        return Step(replace(bell, line=replace(line, at=facts.now)), "type", 0.0)
    if line.phase == "typed":
        if age < SETTLING_S or facts.quiet is None:
            due = facts.gap_s if facts.echoed else max(ECHO_S, facts.gap_s)
            return _entered(bell, line, facts) if age >= due else Step(bell, None, 0.01)
        return Step(bell, None, SETTLING_S)  # a person has come while the text stood there: it waits
    is_open = any(letter in waiting and letter not in facts.confirmed for letter in line.letters)
    if not is_open or not (facts.reports or line.is_queued):
        return Step(_told(bell, line))
    if line.is_queued or line.enters > len(ENTER_AGAIN_S):
        limit = QUEUE_S if line.is_queued else ENTER_AGAIN_S[-1]
        left = limit - (facts.now - line.entered_at)
        return Step(bell, None, left) if left > 0 else Step(_told(bell, line))
    pause = max(ENTER_AGAIN_S[line.enters - 1], RESTORED_S if facts.restores else 0.0)
    left = pause - (facts.now - line.entered_at)
    if facts.quiet is not None:
        return Step(bell, None, max(left, SETTLING_S))  # a person may stay for an hour: no look ten times a second
    return _entered(bell, line, facts) if left <= 0 else Step(bell, None, left)


def _begin(bell: Bell, facts: Facts, waiting: Sequence[str]) -> Step:
    """A line for what was not told of yet; without such, for what stays unread for long."""
    new = [letter for letter in waiting if letter not in bell.letters]
    late = [] if new else [letter for letter in waiting if _is_late(bell.letters[letter], facts)]
    named = _fitting(new or late)
    if not named:
        return Step(bell)
    line = Line(named, line_of(named), facts.now)
    if facts.reports and any(bell.letters[letter].told == "typed" for letter in late):
        if facts.on_screen is None:
            return Step(bell, "look", SETTLING_S)
        if facts.on_screen:  # it stands there still: Enter is all that is missing
            return Step(replace(bell, line=replace(line, phase="typed")), None, 0.0)
    return Step(replace(bell, line=line), "type", 0.0)


def _is_late(notice: Notice, facts: Facts) -> bool:
    """A program that took the line and is busy will come to its letters; an idle one has forgotten them."""
    pause = min(AGAIN_S * 2 ** min(notice.times - 1, 10), AGAIN_LIMIT_S)  # no power of what was told for weeks
    return facts.now - notice.at >= pause and (facts.is_idle or notice.told == "typed")


def _entered(bell: Bell, line: Line, facts: Facts) -> Step:
    entered = replace(line, phase="entered", enters=line.enters + 1, entered_at=facts.now)
    return Step(replace(_told(bell, line), line=entered), "enter", ENTER_AGAIN_S[0] if facts.reports else 0.0)


def _times(bell: Bell, letter: str) -> int:
    """Of how often the letter was told once it is told now."""
    old = bell.letters.get(letter)
    return old.times + 1 if old else 1


def _told(bell: Bell, line: Line) -> Bell:
    """Every letter of the line was told of once more; one that was confirmed stays so."""
    letters = dict(bell.letters)
    for letter in line.letters:
        old = letters.get(letter)
        if old is None or (old.told == "typed" and old.at < line.at):
            letters[letter] = Notice("typed", line.at, old.times + 1 if old else 1)
        elif old.told == "accepted" and old.at < line.at:
            letters[letter] = Notice("accepted", line.at, old.times + 1)
    return Bell(letters)


def _fitting(letters: Sequence[str]) -> tuple[str, ...]:
    """As many of the letters, oldest first, as one line names in full."""
    count = min(len(letters), IDS_NAMED)
    while count > 1 and len(line_of(letters[:count])) > MAX_LINE:
        count -= 1
    return tuple(letters[:count])


def line_of(letters: Sequence[str]) -> str:
    """`You have 2 letters (l-…, l-…): read with …` Below the limit of a typed line."""
    return f"You have {counted(len(letters), 'letter', one='a')} ({', '.join(letters)}): read with `org inbox` and act on what it says."


# --- what is kept ------------------------------------------------------------------------------------------------


def load(home: Home, seat: str) -> Bell:
    """An empty bell where nothing readable lies: then everything that waits is told of (again). What the seat's program may
    have written there itself is never typed: a line is believed when it names letters in the words that we use."""
    row = files.read_json(home.bell(seat))
    try:
        return _from_row(row)
    except (TypeError, ValueError, KeyError, AttributeError):
        return Bell()


def _from_row(row: Any) -> Bell:
    letters = {name: _notice(told) for name, told in row["letters"].items() if ID_PATTERN.fullmatch(name)}
    return Bell(letters, None if row["line"] is None else _line(row["line"]))


def _notice(row: Mapping[str, Any]) -> Notice:
    if row["told"] not in get_args(Told):
        raise ValueError(row["told"])
    return Notice(row["told"], _finite(row["at"]), max(1, int(_finite(row["times"]))))


def _line(row: Mapping[str, Any]) -> Line:
    letters = tuple(row["letters"])
    if not letters or not all(ID_PATTERN.fullmatch(letter) for letter in letters) or row["text"] != line_of(letters):
        raise ValueError("no line of ours")
    if row["phase"] not in ("typing", "typed", "entered"):
        raise ValueError(row["phase"])
    enters = max(0, int(_finite(row["enters"])))
    entered_at, is_queued = _finite(row["entered_at"]), row["is_queued"] is True
    return Line(letters, row["text"], _finite(row["at"]), row["phase"], enters, entered_at, is_queued)


def _finite(number: Any) -> float:
    value = float(number)
    if not 0 <= value < 1e12:  # not a number is in no range
        raise ValueError(number)
    return value


def save(home: Home, seat: str, bell: Bell) -> None:
    line = None if bell.line is None else {**vars(bell.line), "letters": list(bell.line.letters)}
    row = {"letters": {letter: vars(notice) for letter, notice in bell.letters.items()}, "line": line}
    files.replace_json(home.bell(seat), row)
