"""Counting stored events anew, between two positions."""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    case,
    func,
    literal,
    literal_column,
    select,
)

from store.database import Database
from store.records import Axis
from store.sources import MICROSECOND
from store.sources.tallying import stretch_of

HOUR = timedelta(hours=1)


def hours(database: Database, axis: Axis, after: int, until: int) -> Select[Any]:
    """Rows of `event_counts`: the events behind `after` up to `until`, on one axis."""
    events = database.tables.tables["events"]
    moment: ColumnElement[int] = literal_column(database.microseconds(f"{axis}_at"), BigInteger)
    kind = [events.c.aggregate_type, events.c.event_type]
    return (
        select(
            literal(axis),
            stretch_of(moment, MICROSECOND, HOUR).label("hour"),
            *kind,
            func.count(),
            func.min(events.c.position),
            func.max(events.c.position),
        )
        .where(events.c.position > after, events.c.position <= until)
        .group_by("hour", *kind)
    )


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
