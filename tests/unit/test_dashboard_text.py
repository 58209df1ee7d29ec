"""Times as people read them, and strangers' text as it is."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dashboard import literal
from dashboard.moments import from_microseconds, to_microseconds

moments = st.datetimes(timezones=st.just(UTC), min_value=datetime.min)  # noqa: DTZ901 - the strategy adds the zone


@given(moments)
def test_microseconds_are_exact(moment: datetime) -> None:
    assert from_microseconds(to_microseconds(moment)) == moment


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
