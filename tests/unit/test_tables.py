"""How values are kept in columns."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from store.tables import moment_text


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 28, 9, 30, tzinfo=UTC), "2026-11-28T09:30:00.000000Z"),
        (datetime(2026, 11, 28, 9, 30, 1, 120_000, tzinfo=UTC), "2026-11-28T09:30:01.120000Z"),
        (datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "0001-01-01T00:00:00.000001Z"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999Z"),
        (
            datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
            "2025-12-31T18:15:00.000000Z",
        ),
    ],
)
def test_a_moment_is_a_text_of_fixed_width_in_utc(moment: datetime, text: str) -> None:
    assert moment_text(moment) == text
    assert datetime.fromisoformat(text) == moment
