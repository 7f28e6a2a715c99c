"""Traps of one family are caught and their benign twins pass; `scripts/bench traps` counts the same plays."""

from __future__ import annotations

import pytest

from traps import all_traps, governance, planted
from traps.cases import cases, check
from traps.play import Stage, Trap


@pytest.mark.slow  # 90 plays
@pytest.mark.parametrize(("trap", "is_twin"), cases([*planted.TRAPS, *governance.TRAPS]))
def test_caught_and_no_false_alarm(stage: Stage, trap: Trap, is_twin: bool) -> None:
    check(stage, trap, is_twin)


def test_the_suite_is_wide_enough() -> None:
    families = {trap.family for trap in all_traps.TRAPS}
    assert len(all_traps.TRAPS) >= 40 and len(families) == 5
    ids = [item.id for item in (*all_traps.TRAPS, *all_traps.KNOWN_MISSED)]
    assert len(ids) == len(set(ids))
