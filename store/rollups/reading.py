"""Counts from the rollups and, behind the position they end at, from the events themselves."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Table,
    and_,
    case,
    cast,
    false,
    func,
    select,
    true,
)

from store.database import Database
from store.identifiers import is_storable
from store.records import FeedFilter, Tally
from store.rollups import counting
from store.rollups.counting import HOUR
from store.sources.tallying import StretchRow, stretch_of, tallies

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FEW = 10_000
"""Events that are counted as quickly as the rollups are read."""
NEAR = 1_000
"""Positions between two spans that are counted together: a query of its own takes as long."""

Scan: TypeAlias = Callable[[timedelta, int, int | None], list[StretchRow]]
"""Counts the wanted events between two positions, both exclusive, by stretches of a width."""


class Total(Struct, frozen=True, kw_only=True):
    """How many events of a type were written in one schema version.

    `aggregates` is how many began with one of them.
    """

    aggregate_type: str
    event_type: str
    event_version: int
    events: int
    aggregates: int
    last_position: int


def position(database: Database) -> int:
    """Up to where events are in the rollups."""
    [(rolled_up,)] = database.rows("SELECT position FROM rollup", {})
    return int(rolled_up)


def totals(database: Database) -> list[Total]:
    """Every event, by type and schema version."""
    rollup, table = (database.tables.tables[name] for name in ("rollup", "event_totals"))
    query = select(rollup.c.position, *table.columns).select_from(rollup.outerjoin(table, true()))
    # In one snapshot, as what is behind the rollups may be counted, and then archived, meanwhile.
    with database.snapshot() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
        behind = connection.execute(counting.kinds(database, rows[0][0])).all()
    counted = [row[1:] for row in rows if row[1] is not None]
    return _totals([*counted, *map(tuple, behind)])


def _totals(rows: Iterable[tuple[Any, ...]]) -> list[Total]:
    sums: dict[tuple[str, str, int], tuple[int, int, int]] = {}
    for *kind, events, aggregates, last in rows:
        key = (kind[0], kind[1], kind[2])
        before = sums.get(key, (0, 0, 0))
        sums[key] = (before[0] + events, before[1] + aggregates, max(before[2], last))
    # In Python, as databases sort by collations of their own.
    return [
        Total(
            aggregate_type=aggregate_type,
            event_type=event_type,
            event_version=event_version,
            events=events,
            aggregates=aggregates,
            last_position=last,
        )
        for (aggregate_type, event_type, event_version), (events, aggregates, last) in sorted(
            sums.items()
        )
    ]


class Asked(Struct, frozen=True, kw_only=True):
    """What `EventSource.tally` is asked for: bounds are positions and exclusive."""

    width: timedelta
    where: FeedFilter
    after: int
    before: int | None

    @property
    def by_hour(self) -> bool:
        """Whether the rollups are fine enough, but for where it begins and ends."""
        where = self.where
        others = (where.correlation_id, where.actor, where.event_id)
        return not self.width % HOUR and all(each is None for each in others)

    @property
    def is_bounded(self) -> bool:
        """Whether the rollups may know of events that it is not about."""
        where = self.where
        bounds = (where.aggregate_type, where.since, where.until)
        return bool(where.event_types) or any(each is not None for each in bounds)

    def positions(self, first: int, last: int) -> range:
        """Those of the positions from `first` to `last` that are asked for."""
        stop = last + 1 if self.before is None else min(last + 1, self.before)
        return range(max(first, self.after + 1), stop)


def tally(database: Database, scan: Scan, asked: Asked) -> Sequence[Tally]:
    """See `EventSource.tally`; `scan` counts what the filter wants.

    Whole hours come from the rollups. For all else they say between which positions it lies, so
    that no other events are read.
    """
    width = asked.width
    is_helped = asked.by_hour or asked.is_bounded
    if not is_helped or len(asked.positions(1, position(database))) <= FEW:
        return tallies(scan(width, asked.after, asked.before), width)
    cells = _cells(database, asked)
    rows = [*cells.whole]
    for span in _joined(cells.cut.values()):
        if asked.by_hour:
            found = scan(HOUR, span.start - 1, span.stop)
            rows += [_widened(row, width) for row in found if row[:3] in cells.cut]
        else:
            rows += scan(width, span.start - 1, span.stop)
    rows += scan(width, max(asked.after, cells.position), asked.before)
    return tallies(rows, width)


class _Cells(Struct, frozen=True, kw_only=True):
    """What the rollups, which end at `position`, have of what is asked for.

    `whole` are stretches of it. Of each hour and type in `cut` a part may be asked for, or too
    coarse a count: there are the positions between which that lies.
    """

    position: int
    whole: Sequence[StretchRow]
    cut: dict[tuple[int, str, str], range]


def _cells(database: Database, asked: Asked) -> _Cells:
    rollup, table = (database.tables.tables[name] for name in ("rollup", "event_counts"))
    touched, inside = _conditions(table, asked)
    is_whole = and_(true(), *inside) if asked.by_hour else false()
    hour = table.c.hour
    number = case((is_whole, stretch_of(hour, HOUR, asked.width)), else_=hour)
    cells = (
        select(
            is_whole.label("is_whole"),
            number.label("number"),
            table.c.aggregate_type,
            table.c.event_type,
            cast(func.sum(table.c.events), BigInteger),
            func.min(table.c.first_position),
            func.max(table.c.last_position),
        )
        .where(*touched)
        .group_by("is_whole", "number", table.c.aggregate_type, table.c.event_type)
        .subquery()
    )
    query = select(rollup.c.position, *cells.c).select_from(rollup.outerjoin(cells, true()))
    rows = [tuple(row) for row in database.select(query)]
    return _Cells(
        position=rows[0][0],
        whole=[row[2:] for row in rows if row[1]],
        cut={
            row[2:5]: asked.positions(row[6], row[7])
            for row in rows
            if row[1] is not None and not row[1]
        },
    )


def _conditions(
    table: Table, asked: Asked
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """Which rows share an event with what is asked for, perhaps, and which are all within it."""
    where, of = asked.where, table.c
    after = _possible(asked.after)
    touched = [of.axis == where.axis, of.last_position > after]
    inside = [of.first_position > after]
    if asked.before is not None:
        before = _possible(asked.before)
        touched.append(of.first_position < before)
        inside.append(of.last_position < before)
    if where.since is not None:
        touched.append(of.hour >= _hour(where.since))
        inside.append(of.hour >= _next_hour(where.since))
    if where.until is not None:
        touched.append(of.hour < _next_hour(where.until))
        inside.append(of.hour < _hour(where.until))
    if where.aggregate_type is not None:
        touched.append(of.aggregate_type == where.aggregate_type)
    if where.event_types:
        touched.append(of.event_type.in_(list(filter(is_storable, where.event_types))))
    return touched, inside


def _possible(position: int) -> int:
    """A bound that databases can count to, as good as one beyond."""
    return max(-(2**63), min(position, 2**63 - 1))


def _hour(moment: datetime) -> int:
    """The number of the hour that holds a moment."""
    return (moment - _EPOCH) // HOUR


def _next_hour(moment: datetime) -> int:
    """The number of the first hour that begins at a moment or behind it."""
    return -((_EPOCH - moment) // HOUR)


def _joined(spans: Iterable[range]) -> list[range]:
    """The spans in their order, those that overlap or are near one another as one."""
    joined: list[range] = []
    for span in sorted(spans, key=lambda each: each.start):
        if joined and span.start <= joined[-1].stop + NEAR:
            last = joined.pop()
            joined.append(range(last.start, max(last.stop, span.stop)))
        else:
            joined.append(span)
    return joined


def _widened(row: StretchRow, width: timedelta) -> StretchRow:
    """The count of an hour as one of the stretch that holds it."""
    return (row[0] // (width // HOUR), *row[1:])
