"""Times as people read them, and strangers' text as it is."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import literal
from dashboard.moments import (
    from_microseconds,
    relative,
    short_stamp,
    span,
    stamp,
    to_microseconds,
)
from dashboard.ticks import ticks

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC), min_value=datetime.min)  # noqa: DTZ901 - the strategy adds the zone


@given(moments)
def test_microseconds_are_exact(moment: datetime) -> None:
    assert from_microseconds(to_microseconds(moment)) == moment


@pytest.mark.parametrize(
    ("microsecond", "text"), [(0, "12:00:00"), (250_000, "12:00:00.250"), (7, "12:00:00.000007")]
)
def test_a_stamp_has_the_decimals_it_needs(microsecond: int, text: str) -> None:
    assert stamp(NOON.replace(microsecond=microsecond)) == f"2026-01-31 {text}"


def test_a_short_stamp_stops_at_milliseconds() -> None:
    assert short_stamp(NOON.replace(microsecond=123_456)) == "2026-01-31 12:00:00.123"


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0 s"),
        (timedelta(microseconds=9), "9 µs"),
        (timedelta(milliseconds=250), "250 ms"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(hours=1), "1 h"),
        (timedelta(days=3, hours=4, minutes=5), "3 d 4 h"),
        (timedelta(days=-1), "\N{MINUS SIGN}1 d"),
        (timedelta(days=800), "2 y 69 d"),
    ],
)
def test_a_span_is_told_in_two_units(duration: timedelta, text: str) -> None:
    assert span(duration) == text


def test_relative_times_look_both_ways() -> None:
    assert relative(NOON, NOON + timedelta(days=3, hours=9)) == "3 d ago"
    assert relative(NOON, NOON - timedelta(hours=2)) == "in 2 h"
    assert relative(NOON, NOON) == "just now"


@given(moments, st.timedeltas(min_value=timedelta(microseconds=10), max_value=timedelta(days=9**6)))
def test_an_axis_has_a_few_ticks_inside_its_ends(start: datetime, length: timedelta) -> None:
    first = to_microseconds(start)
    last = min(
        first + length // timedelta(microseconds=1),
        to_microseconds(datetime.max.replace(tzinfo=UTC)),
    )
    found = [moment for moment, _ in ticks(first, last)]
    assert len(found) <= 12
    assert found == sorted(set(found))
    assert all(first <= moment <= last for moment in found)


def test_times_of_day_carry_their_date_where_it_is_new() -> None:
    start = to_microseconds(datetime(2026, 1, 31, 18, tzinfo=UTC))
    labels = [label for _, label in ticks(start, start + 12 * 3_600_000_000)]
    assert labels[0] == "18:00<br>31 Jan 2026"
    assert "00:00<br>1 Feb 2026" in labels
    assert labels[1] == "20:00"


@given(st.text())
def test_a_code_span_is_closed_by_its_own_fence_only(text: str) -> None:
    span = literal.code_span(text)
    fence = span[: len(span) - len(span.lstrip("`"))]
    assert span.endswith(fence)
    assert fence not in span[len(fence) : -len(fence)]


def test_markdown_is_escaped() -> None:
    assert literal.markdown("*a*_b_<c>[d](e) :f: $g$\n# h") == (
        r"\*a\*\_b\_\<c\>\[d\]\(e\) \:f\: \$g\$ \# h"
    )


def test_plotly_sees_no_tags() -> None:
    assert literal.plotly("<b>&amp;") == "&lt;b&gt;&amp;amp;"


@given(st.text(), st.integers(4, 40))
def test_shortened_text_fits_and_keeps_both_ends(text: str, length: int) -> None:
    short = literal.shortened(text, length)
    assert len(short) <= length
    assert short[:1] == text[:1]
    assert short[-1:] == text[-1:]


def test_a_summary_is_one_line_of_the_first_fields() -> None:
    data = {"name": "x", "tags": ["a", 1], "none": None, "long": "y" * 500}
    short = literal.summary(data, 60)
    assert short.startswith('name: "x", tags: ["a",1], none: null, long: "yyy')
    assert len(short) == 60


def test_only_numbers_javascript_would_round_become_text() -> None:
    given = {"a": [2**53, 2**53 + 1, -(2**63), True, 0.5]}
    assert literal.exact_in_browser(given) == {
        "a": [2**53, str(2**53 + 1), str(-(2**63)), True, 0.5]
    }
