"""What seats may use: read, summed and held against what was used, with what is unknown said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org import schema
from org.agents.usage import Usage
from org.errors import BadInput
from org.home import Home
from org.records import Seat
from org.team import caps, clock, costs, roster
from org.team.caps import Cap, Limits, Spent

CHARTER: Any = None


@pytest.mark.parametrize(("text", "usd"), [("5", 5.0), ("$2.50", 2.5), ("0.01", 0.01)])
def test_dollars_are_read_as_people_write_them(text: str, usd: float) -> None:
    assert caps.parse_usd(text) == usd


@pytest.mark.parametrize(("text", "tokens"), [("500000", 500_000), ("500k", 500_000), ("2.5M", 2_500_000)])
def test_tokens_are_read_as_people_write_them(text: str, tokens: int) -> None:
    assert caps.parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "0", "-1", "5 $", "1e9", "nan", "ten", "0.0001k"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--max-tokens"):
        caps.parse_tokens(text)
    if text not in ("0.0001k",):
        with pytest.raises(BadInput, match="--max-usd"):
            caps.parse_usd(text)


@pytest.mark.parametrize(
    ("limit", "used", "said"),
    [
        (Cap(), Spent(10**9, 1e6), ""),
        (Cap(max_usd=2.0), Spent(5, 1.99), ""),
        (Cap(max_usd=2.0), Spent(5, 2.0), "$2.00 of $2.00 are used"),
        (Cap(max_tokens=1000), Spent(999, 50.0), ""),
        (Cap(max_tokens=1000), Spent(1500, 0.0, 1500), "1.5k of 1.0k tokens are used"),
    ],
)
def test_a_limit_is_passed_when_all_of_it_is_used(limit: Cap, used: Spent, said: str) -> None:
    assert caps.passed(limit, used) == said


def test_a_session_without_a_price_is_counted_apart() -> None:
    sessions = [Usage("a", input_tokens=10, output_tokens=5, cost_usd=0.5), Usage("b", input_tokens=100)]
    assert caps.spent(sessions) == Spent(115, 0.5, 100)
    assert caps.spent([Usage("c", cost_usd=None)]).unpriced == 0  # it has asked nothing yet


@pytest.mark.parametrize(
    ("limit", "counts", "used", "said"),
    [
        (Cap(max_usd=1.0), {"j1": "cost"}, {}, ""),
        (Cap(max_tokens=1), {"j1": "tokens"}, {}, ""),
        (Cap(max_usd=1.0), {"j1": "tokens", "j2": "cost"}, {}, "the price of what j1 uses is not known"),
        (Cap(max_usd=1.0), {"j1": "cost"}, {"j1": Spent(9, 0.0, 9)}, "the price of what j1 uses is not known"),
        (Cap(max_tokens=1), {"j1": "nothing"}, {}, "nothing is known of what j1 uses"),
        (Cap(max_tokens=1), {"j1": "nothing"}, {"j1": Spent(9)}, ""),  # it writes its usage itself
        (Cap(), {"j1": "nothing"}, {}, ""),
    ],
)
def test_what_a_limit_cannot_hold_is_said(
    limit: Cap, counts: dict[str, str], used: dict[str, Spent], said: str
) -> None:
    found = caps.unknown(limit, counts, used)
    assert found.startswith(said) and bool(found) == bool(said)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda v: st.lists(v, max_size=3)))
def test_what_is_no_limit_in_org_json_is_none(value: Any) -> None:
    row = {"limits": {"max_usd": value, "max_tokens": value, "seats": value, "before": {"j1": value}}}
    for found in (caps.limits(row), caps.limits({"limits": value})):
        assert found.org.max_usd is None or found.org.max_usd > 0
        assert found.before.get("j1", Spent()).tokens >= 0


def test_limits_survive_org_json() -> None:
    made = Limits(Cap(5.0, 1000), {"j1": Cap(max_usd=1.0)}, {"j1": Spent(3, 0.5, 1)}, "2026-03-01T00:00:00Z")
    assert caps.limits({"limits": made.to_dict()}) == made


def test_what_is_said_goes_before_what_stands() -> None:
    assert caps.over(None, Cap(1.0, 5)) == Cap(1.0, 5)
    assert caps.over(Cap(max_usd=2.0), Cap(1.0, 5)) == Cap(2.0, 5)


@pytest.mark.parametrize(
    ("facts", "running", "phase"),
    [
        ({}, 1, "draining"),
        ({}, 0, "closing"),
        ({"budget_ended": "t"}, 0, "closing"),
        ({"budget": {"seconds": 9e9, "from": "2026-03-01T00:00:00Z"}}, 1, "draining"),
        ({"budget_ended": "t", "ended": "t"}, 0, "ended"),
    ],
)
def test_a_limit_that_is_reached_ends_the_launch_as_a_budget_does(
    facts: dict[str, Any], running: int, phase: str
) -> None:
    assert clock.phase({**facts, "limit_reached": {"why": "x"}}, None, running, 1.8e9) == phase


def org_yaml(home: Home, text: str) -> dict[str, Any]:
    folder = home.org_folder("chief-juniors")
    (folder / "org.yaml").write_text(text)
    return schema.org_folder(folder)


def test_org_yaml_limits_all_seats_and_each(tiny_home: Home) -> None:
    folder = org_yaml(
        tiny_home,
        "limits: {max_usd: 20, max_tokens: 5000000}\n"
        "seats:\n  - {role: chief, name: chief}\n  - {role: junior, count: 2, names: 'j{n}', max_usd: 2.5}\n",
    )
    none: list[Seat] = []
    plan = roster.plan(tiny_home, CHARTER, folder, roster.Options(), none, ["cpu0"])
    assert caps.cap(plan.caps) == Cap(20.0, 5_000_000) and plan.cap is None
    assert {name: caps.cap(row) for name, row in plan.caps["seats"].items()} == {
        "chief": Cap(), "j1": Cap(2.5), "j2": Cap(2.5),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["limits: {max_usd: 0}", "limits: {usd: 1}", "limits: {max_tokens: 1.5}"])
def test_a_limit_that_is_none_is_refused_by_its_name(tiny_home: Home, text: str) -> None:
    with pytest.raises(BadInput, match=r"limits\.(max_)?(usd|tokens)"):
        org_yaml(tiny_home, f"{text}\nseats:\n  - {{role: chief}}\n")


def test_the_page_has_a_row_a_seat_and_their_sum() -> None:
    used = {
        "chief": Usage("a", "opus", 1_200_000, 900_000, 30_000, 4.5, 50_000, 200_000),
        "j1": Usage("b", "gpt|5", 10_000, 0, 500, None),
    }
    lines = costs.section(used, ["used since 2026: $4.50 of $5.00"]).splitlines()
    assert lines[2] == "| chief | opus | 1.20M | 900.0k | 30.0k | $4.50 | 25% |"
    assert lines[3] == "| j1 | gpt\\|5 | 10.0k | 0 | 500 | unknown | - |"
    assert lines[4] == "| all | | 1.21M | 900.0k | 30.5k | $4.50 and 1 unknown | |"
    assert lines[-1] == "- used since 2026: $4.50 of $5.00"
