"""Reading events and aggregates from a database, a batch a query."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import func, select

from store import listings
from store.database import Database, Row
from store.database.fence import Gauge
from store.errors import AggregateNotFound, InvalidEvent
from store.folding import HistoryRow
from store.identifiers import is_storable
from store.records import (
    AggregateOrder,
    AggregatePage,
    AggregateSummary,
    Axis,
    Counts,
    Event,
    EventHeader,
    FeedFilter,
    OutlineRow,
    Tally,
    Watermark,
    Written,
    utc,
)
from store.sources import EVERYTHING, SourceInfo, check_reading, check_width
from store.sources.tallying import Counted, tallied

HISTORY_BATCH = 2_000
OUTLINE_BATCH = 50_000
# All events of an aggregate are of its type: to read it with each costs a replay a twentieth.
HISTORY_COLUMNS = (
    "version, event_type, data, CASE WHEN version = 1 THEN aggregate_type END, event_version"
)


def mark(database: Database) -> str:
    """SQL for what tells an event from any other that was ever at its version.

    Its id alone does not: who repeats an append behind a restored backup gives the same one.
    """
    moment = database.microseconds("recorded_at")
    return f"CAST(event_id AS text) || ' ' || CAST({moment} AS text)"


class EventReader:
    """The `EventSource` over a database. Safe to share between threads."""

    def __init__(self, database: Database, *, name: str) -> None:
        self.info = SourceInfo(name=name)
        self.database = database
        self._gauge = Gauge(database)

    def aggregate(self, aggregate_id: str) -> AggregateSummary:
        """See `EventSource.aggregate`."""
        heads = self.heads([aggregate_id])
        if aggregate_id not in heads:
            raise AggregateNotFound(aggregate_id)
        return heads[aggregate_id]

    def heads(self, aggregate_ids: Sequence[str]) -> dict[str, AggregateSummary]:
        """The heads of those aggregates that exist."""
        table = self.database.tables.tables["aggregates"]
        rows = self.database.select(
            select(*table.columns).where(
                table.c.aggregate_id.in_(list(filter(is_storable, aggregate_ids)))
            )
        )
        return {row[0]: listings.summary(row) for row in rows}

    def aggregates(
        self,
        *,
        prefix: str = "",
        aggregate_type: str | None = None,
        order: AggregateOrder = "id",
        after: str | None = None,
        limit: int = 100,
    ) -> AggregatePage:
        """See `EventSource.aggregates`."""
        if limit < 1:
            raise InvalidEvent(f"limit: {limit} is not a number from 1")
        if not is_storable(prefix + (aggregate_type or "")):
            return AggregatePage(items=(), next=None)
        query = listings.aggregates(
            self.database.tables, prefix=prefix, aggregate_type=aggregate_type
        )
        query = listings.ordered(self.database.tables, query, order, after).limit(limit + 1)
        return listings.page(self.database.select(query), order, limit)

    def events(
        self,
        aggregate_id: str,
        *,
        from_version: int | None = None,
        to_version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        axis: Axis = "occurred",
        backward: bool = False,
        batch_size: int = 500,
    ) -> Iterator[Event]:
        """See `EventSource.events`."""
        check_reading(axis=axis, batch_size=batch_size)
        bounds = {
            "aggregate_id =": aggregate_id,
            "version >=": from_version,
            "version <=": to_version,
            f"{axis}_at >=": since and utc("since", since),
            f"{axis}_at <": until and utc("until", until),
        }
        return self._walk(bounds, key="version", backward=backward, batch_size=batch_size)

    def history(
        self,
        aggregate_id: str,
        *,
        after: int | None = None,
        to_version: int | None = None,
        as_of: datetime | None = None,
        axis: Axis = "occurred",
    ) -> Iterator[Sequence[HistoryRow]]:
        """See `EventSource.history`."""
        check_reading(axis=axis, batch_size=HISTORY_BATCH)
        bounds = {
            "aggregate_id =": aggregate_id,
            "version >": after,
            "version <=": to_version,
            f"{axis}_at <=": as_of and utc("as_of", as_of),
        }
        while rows := self._rows(
            bounds, order="version", size=HISTORY_BATCH, columns=HISTORY_COLUMNS
        ):
            yield cast("list[HistoryRow]", rows)
            if len(rows) < HISTORY_BATCH:
                return
            bounds["version >"] = rows[-1][0]

    def outline(
        self, aggregate_id: str, *, after: int | None = None, to_version: int | None = None
    ) -> Iterator[Sequence[OutlineRow]]:
        """See `EventSource.outline`."""
        columns = f"version, event_type, {self.database.microseconds('occurred_at')}"
        bounds = {"aggregate_id =": aggregate_id, "version >": after, "version <=": to_version}
        while rows := self._rows(bounds, order="version", size=OUTLINE_BATCH, columns=columns):
            yield cast("list[OutlineRow]", rows)
            if len(rows) < OUTLINE_BATCH:
                return
            bounds["version >"] = rows[-1][0]

    def feed(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        where: FeedFilter = EVERYTHING,
        backward: bool = False,
        limit: int | None = None,
        batch_size: int = 500,
    ) -> Iterator[Event]:
        """See `EventSource.feed`."""
        check_reading(axis=where.axis, batch_size=batch_size, limit=limit)
        bounds = _feed_bounds(after, before, where)
        return self._walk(
            bounds, key="position", backward=backward, batch_size=batch_size, limit=limit
        )

    def headers(
        self, *, after: int, before: int, where: FeedFilter, limit: int
    ) -> Sequence[tuple[EventHeader, bytes | str]]:
        """What `feed` yields, of each event no more than where it stands and the JSON of its data.

        For who reads many: a third of what whole events cost.
        """
        database = self.database
        rows = self._rows(
            _feed_bounds(after, before, where),
            order="position",
            size=limit,
            columns=database.header_columns,
        )
        header = database.header
        return [(header(row), row[-1]) for row in rows]

    def _walk(
        self,
        bounds: dict[str, Any],
        *,
        key: str,
        backward: bool,
        batch_size: int,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """Events within `bounds` in the order of `key`, by keyset: a batch a query."""
        moving = f"{key} <" if backward else f"{key} >"
        left = limit
        while left is None or left > 0:
            size = batch_size if left is None else min(batch_size, left)
            rows = self._rows(bounds, order=f"{key} DESC" if backward else key, size=size)
            events = [self.database.event(row) for row in rows]
            yield from events
            if len(rows) < size:
                return
            last = events[-1]
            bounds = bounds | {moving: last.version if key == "version" else last.position}
            left = None if left is None else left - len(rows)

    def _rows(
        self, bounds: Mapping[str, Any], *, order: str, size: int, columns: str | None = None
    ) -> list[Row]:
        conditions = self._conditions(bounds)
        if conditions is None:
            return []
        where, parameters = conditions
        return self.database.rows(
            f"SELECT {columns or self.database.event_columns} FROM events {where}"  # noqa: S608 (placeholders)
            f" ORDER BY {order} LIMIT {self.database.bind('size')}",
            parameters | {"size": size},
        )

    def _conditions(self, bounds: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """The WHERE clause of `bounds` and its parameters; None where no event can be within."""
        database = self.database
        conditions: list[str] = []
        parameters: dict[str, Any] = {}
        for condition, value in bounds.items():
            if value is None:
                continue
            values = value if isinstance(value, tuple) else (value,)
            values = tuple(v for v in values if not isinstance(v, str) or is_storable(v))
            if not values:
                return None
            names = [f"p{len(parameters) + i}" for i in range(len(values))]
            parameters.update(zip(names, map(database.value, values), strict=True))
            holders = ", ".join(map(database.bind, names))
            is_list = condition.endswith("IN")
            conditions.append(f"{condition} ({holders})" if is_list else f"{condition} {holders}")
        return f"WHERE {' AND '.join(conditions)}" if conditions else "", parameters

    def counts(self) -> Counts:
        """See `EventSource.counts`. Reads every event's type: seconds where there are millions."""
        heads = self.database.tables.tables["aggregates"]
        events = self.database.tables.tables["events"]
        by_type = self.database.select(
            select(events.c.event_type, func.count(), func.max(events.c.position)).group_by(
                events.c.event_type
            )
        )
        aggregates = self.database.select(
            select(heads.c.aggregate_type, func.count()).group_by(heads.c.aggregate_type)
        )
        return Counts(
            events=sum(row[1] for row in by_type),
            aggregates=sum(row[1] for row in aggregates),
            last_position=max((row[2] for row in by_type), default=0),
            events_by_type={row[0]: row[1] for row in by_type},
            aggregates_by_type={row[0]: row[1] for row in aggregates},
        )

    def written(self) -> Sequence[Written]:
        """See `EventSource.written`."""
        events = self.database.tables.tables["events"]
        kind = [events.c.aggregate_type, events.c.event_type, events.c.event_version]
        rows = self.database.select(select(*kind, func.count()).group_by(*kind))
        # In Python, as databases sort by collations of their own.
        return [
            Written(aggregate_type=row[0], event_type=row[1], event_version=row[2], events=row[3])
            for row in sorted(rows)
        ]

    def tally(
        self,
        *,
        width: timedelta,
        where: FeedFilter = EVERYTHING,
        after: int = 0,
        before: int | None = None,
    ) -> Sequence[Tally]:
        """See `EventSource.tally`."""
        width = check_width(width)
        check_reading(axis=where.axis)
        conditions = self._conditions(_feed_bounds(after, before, where))
        if conditions is None:
            return []
        clause, parameters = conditions
        counted = Counted(
            moment=f"{where.axis}_at",
            position="position",
            aggregate_type="aggregate_type",
            event_type="event_type",
            events=f"events {clause}",
            parameters=parameters,
        )
        return tallied(self.database, counted, width)

    def watermark(self) -> Watermark:
        """See `EventSource.watermark`. A replica shows nobody who holds, only what has arrived."""
        return self._gauge.read()


def _feed_bounds(after: int, before: int | None, where: FeedFilter) -> dict[str, Any]:
    return {
        "position >": after,
        "position <": before,
        "aggregate_type =": where.aggregate_type,
        "event_type IN": where.event_types or None,
        f"{where.axis}_at >=": where.since and utc("since", where.since),
        f"{where.axis}_at <": where.until and utc("until", where.until),
        "correlation_id =": where.correlation_id,
        "actor =": where.actor,
        "event_id =": where.event_id,
    }
