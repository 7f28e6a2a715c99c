"""The constants research may turn, as text and as numbers: read, set, round, step. Pure; keeps no file and no history."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable
from typing import Any

from org.errors import BadInput, did_you_mean
from org.records import Knob

Value = bool | int | float | str


# --- in the source text --------------------------------------------------------------------------------------------


def read(source: str, name: str) -> Value | None:
    """The literal that `NAME = ` is set to at the start of a line, or None when there is none or it is no plain literal."""
    found = _assignment(source, name)
    if found is None:
        return None
    try:
        value = ast.literal_eval(found["value"])
    except (ValueError, SyntaxError):
        return None  # an expression such as 2**16: not ours to turn
    return value if isinstance(value, bool | int | float | str) else None


def spelled(source: str, name: str) -> str:
    """The constant's name as the code has it, or `name` when it is not there."""
    found = _assignment(source, name)
    return found["name"] if found else name


def write(source: str, name: str, value: Value) -> str:
    """`source` with the constant set to `value`; everything else, its comment too, byte for byte.
    Raises BadInput when `read` finds no literal there."""
    old, found = read(source, name), _assignment(source, name)
    if old is None or found is None:
        raise BadInput(f"{name} is not set to a plain value at the start of a line of the code")
    literal = repr(float(value)) if isinstance(old, float) and _is_number(value) else repr(value)
    return source[: found.start("value")] + literal + source[found.end("value") :]


def _assignment(source: str, name: str) -> re.Match[str] | None:
    """The last assignment counts, as it does for Python. UPPER_CASE is preferred to the name as the charter spells it."""
    for word in dict.fromkeys((name.upper(), name)):
        pattern = rf"^(?P<name>{re.escape(word)})(?:[ \t]*:[^=\n]+)?[ \t]*=[ \t]*(?P<value>'[^'\n]*'|\"[^\"\n]*\"|[^#\n=]*?)[ \t\r]*(?:#.*)?$"
        matches = list(re.finditer(pattern, source, re.MULTILINE))
        if matches:
            return matches[-1]
    return None


# --- as numbers ----------------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Equal as settings: 0 is 0.0 and a thousandth of difference is none; True is not 1."""
    if _is_number(a) and _is_number(b):
        return math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-9)
    return type(a) is type(b) and a == b


def rounded(knob: Knob, value: float, digits: int = 2) -> int | float:
    """`value` to `digits` significant digits, inside the range, whole when the knob is."""
    assert knob.low is not None and knob.high is not None
    value = min(max(value, knob.low), knob.high)
    if knob.integer:
        return min(max(round(value), math.ceil(knob.low)), math.floor(knob.high))
    if value == 0:
        return 0.0
    short = float(f"{value:.{digits}g}")
    return short if knob.low <= short <= knob.high else value


def is_outside(knob: Knob, value: Value | None) -> bool:
    """Whether a ranged knob stands where its own range does not reach: the strongest hint that it is set wrong."""
    return not knob.choices and _is_number(value) and not _low(knob) <= float(value or 0) <= _high(knob)


def is_inside(knob: Knob, value: Value | None) -> bool:
    """Whether the charter allows the knob to stand there."""
    return any(same(value, choice) for choice in knob.choices) if knob.choices else not is_outside(knob, value)


def position(knob: Knob, value: Value | None) -> float:
    """Where `value` stands in its range, 0..1 (0.5 when it is no number or the knob has choices)."""
    if knob.choices or not _is_number(value):
        return 0.5
    low, high, at = _low(knob), _high(knob), float(value or 0)
    if knob.log:
        low, high, at = math.log(low), math.log(high), math.log(max(at, 1e-12))
    return min(max((at - low) / (high - low), 0.0), 1.0)


def at(knob: Knob, where: float) -> int | float:
    """The value at `where` (0..1) of a ranged knob's span, rounded."""
    low, high = _low(knob), _high(knob)
    if knob.log:
        return rounded(knob, math.exp(math.log(low) + where * (math.log(high) - math.log(low))))
    return rounded(knob, low + where * (high - low))


def steps(knob: Knob, current: Value | None) -> list[Value]:
    """Bold first moves away from `current`, the best guess first: the middle of the range when `current` lies outside it,
    twice or half for a log range, a third of the span otherwise, towards the roomier side first; then the other side."""
    if knob.choices:
        choices = list(knob.choices)
        here = next((i for i, choice in enumerate(choices) if same(choice, current)), -1)
        order = sorted(range(len(choices)), key=lambda i: (abs(i - here), i < here))
        return [choices[i] for i in order if i != here]
    if is_outside(knob, current) or not _is_number(current):
        moves = [at(knob, 0.5), at(knob, 0.25), at(knob, 0.75)]
    else:
        now, where = float(current or 0), position(knob, current)
        up = rounded(knob, now * 2) if knob.log else at(knob, where + 1 / 3)
        down = rounded(knob, now / 2) if knob.log else at(knob, where - 1 / 3)
        moves = [up, down] if where < 0.5 else [down, up]
    return list(dict.fromkeys(m for m in moves if not same(m, current)))


# --- as a person writes them ---------------------------------------------------------------------------------------


def allowed(knob: Knob) -> str:
    """The form a value may take, for messages: `0.01..0.12` or `relu2 or gelu`."""
    if knob.choices:
        return " or ".join(str(choice) for choice in knob.choices)
    return f"{knob.low:g}..{knob.high:g}{' (whole)' if knob.integer else ''}"


def parse(text: str, charter_knobs: dict[str, Knob]) -> tuple[Knob, Value]:
    """`matrix_lr=0.05` as a knob and a value it allows. Raises BadInput with the allowed form."""
    name, separator, word = (part.strip() for part in text.partition("="))
    if not separator or not name or not word:
        raise BadInput("write it as NAME=VALUE, for example " + _example(charter_knobs))
    by_name = {known.lower(): knob for known, knob in charter_knobs.items()}
    knob = by_name.get(name.lower())
    if knob is None:
        hint = did_you_mean(name.lower(), by_name) or f"; known: {', '.join(by_name) or 'none'}"
        raise BadInput(f"no knob {name!r:.40} in the charter{hint}")
    wrong = BadInput(f"{knob.name} = {word!r:.40} is not allowed; use {allowed(knob)}")
    if knob.choices:
        for choice in knob.choices:
            if str(choice).lower() == word.strip("'\"").lower() or same(choice, _number(word)):
                return knob, choice
        raise wrong
    number = _number(word)
    if number is None or not _low(knob) <= number <= _high(knob) or (knob.integer and number != int(number)):
        raise wrong
    return knob, int(number) if knob.integer else number


def named_in(text: str, known: Iterable[str]) -> list[str]:
    """The knobs that `text` names as whole words, any case, in the order in which they come first."""
    lower = text.lower()
    found = {name: re.search(rf"(?<![\w]){re.escape(name.lower())}(?![\w])", lower) for name in known}
    return sorted((n for n, m in found.items() if m), key=lambda n: found[n].start())  # type: ignore[union-attr]


def settings_in(text: str, charter_knobs: dict[str, Knob]) -> list[tuple[Knob, Value]]:
    """Every `name = value` in `text` that names a knob and a value it allows."""
    found = []
    for name, word in assigned_in(text):
        try:
            found.append(parse(f"{name}={word}", charter_knobs))
        except BadInput:
            continue  # prose, or a value out of range: not an order
    return found


def assigned_in(text: str) -> list[tuple[str, str]]:
    """Every `name = value` in `text`, whatever it names, as it is written; Markdown's backticks around either do not count."""
    found = re.finditer(r"\b([A-Za-z_]\w*)`?\s*=\s*`?([^\s,;`]+)", text)
    return [(match[1], match[2].rstrip(".)")) for match in found]


def _example(charter_knobs: dict[str, Knob]) -> str:
    for knob in charter_knobs.values():
        return f"{knob.name}={knob.choices[-1] if knob.choices else at(knob, 0.5)}"
    return "matrix_lr=0.05"


def _number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _low(knob: Knob) -> float:
    return 0.0 if knob.low is None else knob.low


def _high(knob: Knob) -> float:
    return 1.0 if knob.high is None else knob.high
