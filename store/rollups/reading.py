"""Counts from the rollups and, behind the position they end at, from the events themselves."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Select,
    Table,
    and_,
    case,
    cast,
    false,
    func,
    not_,
    select,
    true,
    union_all,
)

from store.database import Database
from store.identifiers import is_storable
from store.records import FeedFilter, Tally
from store.rollups import counting
from store.rollups.counting import DAY, HOUR
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
    def by_day(self) -> bool:
        """Whether whole days are fine enough, but for those that it cuts."""
        return self.by_hour and not self.width % DAY

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

    Whole hours, or days, come from the rollups. For all else they say between which positions it
    lies, so that no other events are read.
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
    counted = _days(table, asked) if asked.by_day else _hours(table, asked)
    cells = counted.subquery()
    # All in one statement, as what is read of days and hours is to end at the same position.
    query = select(rollup.c.position, *cells.c).select_from(rollup.outerjoin(cells, true()))
    rows = database.select(query)
    return _Cells(
        position=rows[0][0],
        whole=[row[2:] for row in rows if row[1]],
        cut={
            row[2:5]: asked.positions(row[6], row[7])
            for row in rows
            if row[1] is not None and not row[1]
        },
    )


def _hours(table: Table, asked: Asked) -> Select[Any]:
    """Whether it is whole, and a `StretchRow`: of hours that a bound cuts the hour itself."""
    touched, inside = _conditions(table, asked, HOUR)
    if not asked.by_hour:
        return _counts(table, HOUR, HOUR, false()).where(*touched)
    return _counts(table, HOUR, asked.width, and_(true(), *inside)).where(*touched)


def _days(table: Table, asked: Asked) -> Select[Any] | CompoundSelect[Any]:
    """What `_hours` says, by the rows of hours only where a bound cuts their day."""
    touched, inside = _conditions(table, asked, DAY)
    if not inside:
        return _counts(table, DAY, asked.width, true()).where(*touched)
    days = select(*table.c, and_(*inside).label("is_inside")).where(*touched).cte("days")
    cut = select(days.c.hour).where(not_(days.c.is_inside)).distinct().cte("cut")
    whole = days.c.hour.not_in(select(cut.c.hour))
    within = and_(table.c.hour >= cut.c.hour, table.c.hour < cut.c.hour + DAY // HOUR)
    return union_all(
        _counts(days, DAY, asked.width, true()).where(whole),
        _hours(table, asked).select_from(cut.join(table, within)),
    )


def _counts(
    rows: FromClause, unit: timedelta, width: timedelta, is_whole: ColumnElement[bool]
) -> Select[Any]:
    """Rows of hours or days, the `unit`, added up to stretches of a width where they are whole."""
    own = rows.c
    number = case((is_whole, stretch_of(own.hour, HOUR, width)), else_=own.hour)
    key = (is_whole.label("is_whole"), number.label("number"), own.aggregate_type, own.event_type)
    if width == unit:
        return select(*key, own.events, own.first_position, own.last_position)
    return select(
        *key,
        cast(func.sum(own.events), BigInteger),
        func.min(own.first_position),
        func.max(own.last_position),
    ).group_by("is_whole", "number", *key[2:])


def _conditions(
    table: Table, asked: Asked, unit: timedelta
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """Which rows of hours or days share an event with what is asked for, perhaps.

    And which of these are all within it: all, if no bound can cut one.
    """
    where, of = asked.where, table.c
    touched = [of.axis == where.axis, of.hours == unit // HOUR]
    inside: list[ColumnElement[bool]] = []
    if asked.after > 0:
        after = _possible(asked.after)
        touched.append(of.last_position > after)
        inside.append(of.first_position > after)
    if asked.before is not None:
        before = _possible(asked.before)
        touched.append(of.first_position < before)
        inside.append(of.last_position < before)
    if where.since is not None:
        touched.append(of.hour >= _holding(where.since, unit))
        inside.append(of.hour >= _following(where.since, unit))
    if where.until is not None:
        touched.append(of.hour < _following(where.until, unit))
        inside.append(of.hour < _holding(where.until, unit))
    if where.aggregate_type is not None:
        touched.append(of.aggregate_type == where.aggregate_type)
    if where.event_types:
        touched.append(of.event_type.in_(list(filter(is_storable, where.event_types))))
    return touched, inside


def _possible(position: int) -> int:
    """A bound that databases can count to, as good as one beyond."""
    return max(-(2**63), min(position, 2**63 - 1))


def _holding(moment: datetime, unit: timedelta) -> int:
    """The first hour of the hour or day that holds a moment."""
    return (moment - _EPOCH) // unit * (unit // HOUR)


def _following(moment: datetime, unit: timedelta) -> int:
    """The first hour of the first hour or day that begins at a moment or behind it."""
    return -((_EPOCH - moment) // unit) * (unit // HOUR)


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
