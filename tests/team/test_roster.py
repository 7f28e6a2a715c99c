"""The facts of a launch: written whole, and never over what is torn."""

from __future__ import annotations

import pytest

from org.errors import OrgError
from org.home import Home
from org.team import roster
from org.team.roster import PlannedSeat


def seat(name: str, role: str = "junior", backend: str = "offline") -> PlannedSeat:
    return PlannedSeat(name, role, backend, "main", f"program/main/{name}", f"/w/{name}", None, 1, 0)


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        ([seat("chief", "chief"), seat("j1")], ""),
        ([seat("chief", "chief"), seat("j1"), seat("j2")], "j2 is new"),
        ([seat("j1", backend="claude=opus")], "j1 is claude=opus, was offline; chief is left out"),
        ([seat("chief", "chief"), seat("j1", "solo", "codex")], "j1 is solo codex, was junior offline"),
        ([seat("chief", "chief"), *(seat(f"j{n}") for n in range(1, 8))], "j2, j3, j4 and 3 more are new"),
        ([seat(f"x{n}") for n in range(3)], "x0, x1 and x2 are new; chief and j1 are left out"),
    ],
)
def test_what_is_another_in_a_roster_is_named(planned: list[PlannedSeat], said: str) -> None:
    before = [seat("chief", "chief").to_dict(), seat("j1").to_dict()]
    assert roster.changes(before, planned) == said


def test_a_change_of_one_fact_leaves_the_others(tiny_home: Home) -> None:
    roster.update(tiny_home, roster=[{"name": "j1"}], budget={"seconds": 60})
    assert roster.update(tiny_home, ended="t") == roster.facts(tiny_home)
    assert roster.facts(tiny_home) == {"roster": [{"name": "j1"}], "budget": {"seconds": 60}, "ended": "t"}


def test_facts_that_are_torn_are_not_written_over_as_if_there_were_none(tiny_home: Home) -> None:
    roster.update(tiny_home, roster=[{"name": "j1"}], budget={"seconds": 60})
    torn = tiny_home.org_file.read_bytes()[:30]
    tiny_home.org_file.write_bytes(torn)
    with pytest.raises(OrgError, match=r"org\.json is torn; `org launch`"):
        roster.update(tiny_home, ended="t")
    assert tiny_home.org_file.read_bytes() == torn
