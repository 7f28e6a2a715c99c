"""The one way in which tests and benches wait: for a condition, with a limit. Knows no test and nothing of an org."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T], limit_s: float = 60.0, what: object | Callable[[], object] = "", step_s: float = 0.02
) -> T:
    """The first true value of `condition`. AssertionError with `what` and the seconds when none came in `limit_s`; a `what`
    that is called says then how things stand. The limit costs nothing where all is well: it is for a slow machine."""
    end = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s:g} s: {(what() if callable(what) else what) or condition}")
        time.sleep(step_s)
    return value
