"""Counting a table's events by stretch of time and type, in one query."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from msgspec import Struct

from store.database import Database
from store.records import Tally
from store.sources import MICROSECOND, WIDEST, start_of


class Counted(Struct, frozen=True, kw_only=True):
    """The events to count, as SQL: what their fields are and, behind FROM, which they are."""

    moment: str
    position: str
    aggregate_type: str
    event_type: str
    events: str
    parameters: Mapping[str, Any]


def tallied(database: Database, counted: Counted, width: timedelta) -> Sequence[Tally]:
    """See `EventSource.tally`; `width` is one that `check_width` has let through."""
    # Whole stretches added to every time make all numbers positive: dividing rounds down.
    stretches_before = -(-WIDEST // width)
    stretch = (
        f"({database.microseconds(counted.moment)} + {database.bind('shift')})"
        f" / {database.bind('width')}"
    )
    position = counted.position
    rows = database.rows(
        f"SELECT {stretch}, {counted.aggregate_type}, {counted.event_type}, count(*),"  # noqa: S608 (placeholders)
        f" min({position}), max({position}) FROM {counted.events} GROUP BY 1, 2, 3",
        {
            **counted.parameters,
            "width": width // MICROSECOND,
            "shift": stretches_before * width // MICROSECOND,
        },
    )
    rows.sort(key=lambda row: row[:3])  # by code point, which no two databases agree on
    return [
        Tally(
            start=start_of(row[0] - stretches_before, width),
            aggregate_type=row[1],
            event_type=row[2],
            events=row[3],
            first_position=row[4],
            last_position=row[5],
        )
        for row in rows
    ]
