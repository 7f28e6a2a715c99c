"""Traps and twins as test cases: those that train are marked slow, together they take minutes."""

from __future__ import annotations

import pytest

from traps.play import Stage, Trap, outcome


def cases(traps: list[Trap]) -> list:
    found = []
    for trap in traps:
        for is_twin, expect in ((False, trap.expect), (True, trap.twin_expect)):
            trains = expect.until != "filed" or (trap.first is not None and not is_twin)
            marks = [pytest.mark.slow] if trains else []
            found.append(pytest.param(trap, is_twin, id=f"{trap.id}{'-twin' if is_twin else ''}", marks=marks))
    return found


def check(stage: Stage, trap: Trap, is_twin: bool) -> None:
    is_well, said = outcome(stage, trap, is_twin)
    assert is_well, f"{'the benign twin of: ' if is_twin else ''}{trap.about}: {said}"
