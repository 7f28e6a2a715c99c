"""Traps of one family are caught and their benign twins pass; `scripts/bench traps` counts the same plays."""

from __future__ import annotations

import pytest

from traps import reporting
from traps.cases import cases, check
from traps.play import Stage, Trap


@pytest.mark.parametrize(("trap", "is_twin"), cases(reporting.TRAPS))
def test_caught_and_no_false_alarm(stage: Stage, trap: Trap, is_twin: bool) -> None:
    check(stage, trap, is_twin)
