"""Addresses and views are the same thing, said twice."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.view import InvalidView, View

moments = st.datetimes(timezones=st.just(UTC), min_value=datetime.min)  # noqa: DTZ901 - the strategy adds the zone
versions = st.none() | st.integers(0, 2**63 - 1)


views = st.builds(
    View,
    aggregate=st.text(min_size=1),
    version=versions,
    at=versions,
    since=st.none() | moments,
    newest_first=st.booleans(),
)


@given(views)
def test_a_view_survives_its_address(view: View) -> None:
    params = {name: value for name, value in view.to_params().items() if isinstance(value, str)}
    assert View.from_params(params) == view


def test_the_start_needs_no_parameters() -> None:
    assert all(value == [] for value in View().to_params().values())


def test_other_parameters_are_nobody_s_business_here() -> None:
    assert View.from_params({"q": "main/", "order": "Longest"}) == View()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"aggregate": "a", "version": "-1"}, "version: '-1'"),
        ({"aggregate": "a", "version": "٣"}, "version: '٣'"),
        ({"aggregate": "a", "version": "9" * 30}, "version: '999"),
        ({"version": "3"}, "which aggregate's?"),
        ({"since": "2026-01-31"}, "since: '2026-01-31'"),
        ({"since": "2026-01-31T12:00:00Z", "until": "2026-01-31T12:00:00Z"}, "before until"),
    ],
)
def test_what_cannot_be_shown_is_named(params: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidView, match=message.replace("?", r"\?")):
        View.from_params(params)
