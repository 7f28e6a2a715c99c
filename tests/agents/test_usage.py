"""What seats used is summed from files that agents can write."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from org.agents import usage
from org.agents.usage import Usage
from org.home import Home


def test_a_session_written_twice_counts_once_and_sessions_add_up(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert usage.of_seat(home, "j1") == [] and usage.total([]) is None
    usage.write(home, "j1", Usage("b", "big", 10, 4, 5, 0.5, 100, 1000, t="2026-03-01T00:00:01Z"))
    usage.write(home, "j1", Usage("b", "big", 20, 8, 10, 1.0, 200, 1000, t="2026-03-01T00:00:03Z"))
    usage.write(home, "j1", Usage("a/../x", "old", 1, 0, 2, 0.25, 900, 1000, t="2026-03-01T00:00:02Z"))
    both = usage.of_seat(home, "j1")
    assert [one.session for one in both] == ["a/../x", "b"]
    assert usage.total(both) == Usage("b", "big", 21, 8, 12, 1.25, 200, 1000, "2026-03-01T00:00:03Z")
    assert both[-1].tokens == 30 and both[-1].context_used == 0.2
    usage.write(home, "j1", Usage("c", cost_usd=None))
    whole = usage.total(usage.of_seat(home, "j1"))
    assert whole is not None and whole.cost_usd is None, "a cost nobody knows is not nothing"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
names = st.sampled_from([*Usage.__dataclass_fields__, "other"])


@given(st.dictionaries(names, json_values) | json_values)
def test_whatever_lies_there_is_read_as_a_usage_or_left_out(tmp_path_factory, row) -> None:
    home = Home(tmp_path_factory.mktemp("home"))
    home.seat_usage("j1").mkdir(parents=True)
    (home.seat_usage("j1") / "x.json").write_text(json.dumps(row))
    for one in usage.of_seat(home, "j1"):
        assert one.tokens >= 0 and (one.cost_usd is None or one.cost_usd >= 0) and "\x1b" not in one.model
        assert one.context_used is None or 0 <= one.context_used <= 1
