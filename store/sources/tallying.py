"""Counting a table's events by stretch of time and type, in one query."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import BigInteger, ColumnElement, literal

from store.database import Database
from store.records import Axis, Event, Tally
from store.sources import MICROSECOND, WIDEST, start_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

StretchRow: TypeAlias = tuple[int, str, str, int, int, int]
"""A stretch's number, aggregate type, event type, how many events, their first and last position.
"""


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
    return tallies(stretches(database, counted, width), width)


def stretches(database: Database, counted: Counted, width: timedelta) -> list[StretchRow]:
    """How many of the events are in which stretch, in no order."""
    moment = f"{database.microseconds(counted.moment)} + {database.bind('shift')}"
    position, before = counted.position, _stretches_before(width)
    rows = database.rows(
        f"SELECT ({moment}) / {database.bind('width')},"  # noqa: S608 (placeholders)
        f" {counted.aggregate_type}, {counted.event_type}, count(*),"
        f" min({position}), max({position}) FROM {counted.events} GROUP BY 1, 2, 3",
        {
            **counted.parameters,
            "width": width // MICROSECOND,
            "shift": before * width // MICROSECOND,
        },
    )
    return [(number - before, *row) for number, *row in rows]


def stretches_of(events: Iterable[Event], width: timedelta, *, axis: Axis) -> list[StretchRow]:
    """`stretches` of events in hand."""
    rows: list[StretchRow] = []
    for event in events:
        moment = event.occurred_at if axis == "occurred" else event.recorded_at
        if moment is not None:
            kind = (event.aggregate_type, event.event_type)
            rows.append(((moment - _EPOCH) // width, *kind, 1, event.position, event.position))
    return rows


def stretch_of(moment: ColumnElement[int], unit: timedelta, width: timedelta) -> ColumnElement[int]:
    """The number of the stretch that holds a moment, given in whole units since 1970."""
    before, size = _stretches_before(width), width // unit
    shifted = moment + literal(before * size, BigInteger)
    return shifted // literal(size, BigInteger) - literal(before, BigInteger)


def _stretches_before(width: timedelta) -> int:
    # Whole stretches added to every time make all numbers positive: dividing rounds down.
    return -(-WIDEST // width)


def tallies(rows: Iterable[StretchRow], width: timedelta) -> Sequence[Tally]:
    """The counts in order; those of the same stretch and types are added up."""
    sums: dict[tuple[int, str, str], tuple[int, int, int]] = {}
    for number, aggregate_type, event_type, events, first, last in rows:
        key = (number, aggregate_type, event_type)
        if (before := sums.get(key)) is not None:
            events += before[0]  # noqa: PLW2901
            first, last = min(first, before[1]), max(last, before[2])  # noqa: PLW2901
        sums[key] = (events, first, last)
    starts = {number: start_of(number, width) for number in {key[0] for key in sums}}
    # By code point, which no two databases agree on.
    return [
        Tally(
            start=starts[key[0]],
            aggregate_type=key[1],
            event_type=key[2],
            events=events,
            first_position=first,
            last_position=last,
        )
        for key, (events, first, last) in sorted(sums.items())
    ]
