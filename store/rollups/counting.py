"""Counting stored events anew, between two positions."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
)

from store.database import Database
from store.listings import newest_position
from store.records import Axis, Event
from store.sources import MICROSECOND
from store.sources.tallying import stretch_of

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WIDTHS = (1, DAY // HOUR)
"""Of how many hours there are rows in `event_counts`."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row: TypeAlias = tuple[Any, ...]


def counts(database: Database, axis: Axis, after: int, until: int) -> CompoundSelect[Any]:
    """Rows of `event_counts`: the events behind `after` up to `until`, on one axis.

    Days are added up from the hours, so that the events are read once.
    """
    events = database.tables.tables["events"]
    moment: ColumnElement[int] = literal_column(database.microseconds(f"{axis}_at"), BigInteger)
    kind = [events.c.aggregate_type, events.c.event_type]
    hours = (
        select(
            stretch_of(moment, MICROSECOND, HOUR).label("hour"),
            *kind,
            func.count().label("events"),
            func.min(events.c.position).label("first_position"),
            func.max(events.c.position).label("last_position"),
        )
        .where(events.c.position > after, events.c.position <= until)
        .group_by("hour", *kind)
        .cte("hours")
    )
    own = hours.c
    one, day = WIDTHS
    days = select(
        literal(axis),
        literal(day),
        (stretch_of(own.hour, HOUR, DAY) * day).label("first_hour"),
        own.aggregate_type,
        own.event_type,
        cast(func.sum(own.events), BigInteger),
        func.min(own.first_position),
        func.max(own.last_position),
    ).group_by("first_hour", own.aggregate_type, own.event_type)
    return select(literal(axis), literal(one), *own).union_all(days)


def kinds(database: Database, after: int, until: int | None = None) -> Select[Any]:
    """Rows of `event_totals`: the events behind `after` up to `until`, or all that are committed.

    An aggregate is counted where it begins.
    """
    events = database.tables.tables["events"]
    kind = [events.c.aggregate_type, events.c.event_type, events.c.event_version]
    query = select(
        *kind,
        func.count(),
        func.count(case((events.c.version == 1, 1))),
        func.max(events.c.position),
    ).where(events.c.position > after)
    if until is not None:
        query = query.where(events.c.position <= until)
    return query.group_by(*kind)


def lengths(database: Database, after: int, until: int) -> Select[Any]:
    """Rows of `history_lengths`: the aggregates of the events behind `after` up to `until`."""
    events = database.tables.tables["events"]
    own = (events.c.aggregate_id, events.c.aggregate_type)
    return (
        select(*own, func.max(events.c.version), func.max(events.c.position))
        .where(events.c.position > after, events.c.position <= until)
        .group_by(*own)
    )


def all_lengths(database: Database, until: int) -> Select[Any]:
    """Rows of `history_lengths`: every aggregate as it was at the position `until`.

    It is as much shorter than its head as it has events behind that, for versions have no gaps. In
    the rollups is what is archived; so none of these is, and who ends in the archive ends with its
    last pack.
    """
    events, heads = (database.tables.tables[name] for name in ("events", "aggregates"))
    behind = (
        select(events.c.aggregate_id, func.count().label("events"))
        .where(events.c.position > until)
        .group_by(events.c.aggregate_id)
        .subquery()
    )
    version = heads.c.version - func.coalesce(behind.c.events, 0)
    own = behind.c.aggregate_id == heads.c.aggregate_id
    names = (heads.c.aggregate_id, heads.c.aggregate_type)
    kept = select(*names, version.label("version")).outerjoin(behind, own).subquery()
    position = newest_position(database.tables, kept.c.aggregate_id, kept.c.version)
    return select(*kept.c, position.label("last_position")).where(kept.c.version > 0)


def counts_of(events: Iterable[Event], axis: Axis) -> list[Row]:
    """`counts` of events in hand."""
    found: dict[Row, tuple[int, int, int]] = {}
    for event in events:
        moment = event.occurred_at if axis == "occurred" else event.recorded_at
        assert moment is not None, "our tables keep it"  # noqa: S101
        hour = (moment - _EPOCH) // HOUR
        for hours in WIDTHS:
            key = (axis, hours, hour // hours * hours, event.aggregate_type, event.event_type)
            count, first, last = found.get(key, (0, event.position, event.position))
            found[key] = (count + 1, min(first, event.position), max(last, event.position))
    return [(*key, *values) for key, values in found.items()]


def kinds_of(events: Iterable[Event]) -> list[Row]:
    """`kinds` of events in hand."""
    found: dict[Row, tuple[int, int, int]] = {}
    for event in events:
        key = (event.aggregate_type, event.event_type, event.event_version)
        count, begun, last = found.get(key, (0, 0, 0))
        found[key] = (count + 1, begun + (event.version == 1), max(last, event.position))
    return [(*key, *values) for key, values in found.items()]
