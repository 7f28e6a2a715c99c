"""Times and spans: what is written is read back, and what anybody may have written raises nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org import files, times

AT = 1_772_323_205.123  # 2026-03-01T00:00:05.123Z


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T00:00:05.123Z", AT),
        ("2026-03-01T00:00:05.123", AT),  # no zone: UTC, whatever this machine's is
        ("2026-03-01T02:00:05.123+02:00", AT),
        ("2026-03-01", AT - 5.123),
        ("", None),
        ("yesterday", None),
        ("1969-12-31T23:59:59Z", None),
        ("9999-12-31T23:59:59.999999-23:59", None),
        ("0001-01-01T00:00:00+23:59", None),
        (None, None),
        (17, None),
        (["2026-03-01"], None),
    ],
)
def test_a_text_is_a_time_or_none(text: object, expected: float | None) -> None:
    assert times.seconds(text) == expected


@given(st.text(max_size=40) | st.datetimes().map(str))
def test_whatever_stands_there_is_read_without_an_error_and_can_be_written_again(text: str) -> None:
    found = times.seconds(text)
    assert found is None or times.utc(text) == times.utc(found)


@given(st.integers(0, 8_000_000_000_000))
def test_a_written_time_is_read_back_to_the_millisecond(ms: int) -> None:
    text = times.utc(ms / 1000)
    assert times.utc(text) == text
    assert times.seconds(text) == pytest.approx(ms / 1000, abs=0.0011)


def test_now_is_written_like_every_other_time() -> None:
    now = files.utc_now()
    assert times.utc(now) == now and now.endswith("Z")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0 s"), (0, "0 s"), (99, "99 s"), (100, "2 min"), (600, "10 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_a_span_as_people_read_it(seconds: float, said: str) -> None:
    assert times.span(seconds) == said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1.5h", 5400), ("2 d", 172_800), ("0s", None), ("5", None), ("m", None), ("-5m", None),
     ("1e3s", None), ("5y", None), ("\uff11m", None), ("5  m", None), ("", None)],
)  # fmt: skip
def test_a_span_as_people_write_it(text: str, seconds: float | None) -> None:
    assert times.length(text) == seconds
