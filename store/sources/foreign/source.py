"""An event table of another system as an `EventSource`: a batch a query, each by an index."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from store import payload
from store.database import Database, Row
from store.errors import AggregateNotFound, InvalidEvent, InvalidSource
from store.folding import HistoryRow
from store.identifiers import is_storable
from store.records import (
    AggregateOrder,
    AggregatePage,
    AggregateSummary,
    Axis,
    Counts,
    Event,
    FeedFilter,
    OutlineRow,
    Tally,
    Watermark,
    Written,
    utc,
)
from store.sources import EVERYTHING, SourceInfo, check_reading, check_width
from store.sources.foreign.fence import Fence
from store.sources.foreign.layout import Condition, Fields, Layout
from store.sources.foreign.listing import Listing
from store.sources.foreign.query import Query
from store.sources.tallying import Counted, tallied

HISTORY_BATCH = 2_000
OUTLINE_BATCH = 50_000
NEAR = 50_000
"""Positions around an event within which a page looks for those of the same correlation id."""


class ForeignSource:
    """The events of a table with a `layout`. Safe to share between threads.

    There is one time, that of the writing: an event occurred and was recorded then. Its schema
    version is 1, and it has no digest.
    """

    def __init__(self, database: Database, layout: Layout, *, name: str) -> None:
        self.info = SourceInfo(
            name=f"{layout.table.title} of {layout.system} in {name}",
            first_version=layout.first_version,
            # Neither layout has an index on the length of a stream, or on correlation ids.
            quick_orders=("id", "recent"),
            near=NEAR,
        )
        self.database = database
        self._layout = layout
        self._fields = layout.fields
        self._events = f"{layout.table.sql} AS e"
        self._listing = Listing(database, layout)
        last = f"SELECT coalesce(max({self._fields.position}), 0) FROM {self._events}"  # noqa: S608 (placeholders)
        self._fence = Fence(database, oid=layout.table.oid, last=last)

    def aggregate(self, aggregate_id: str) -> AggregateSummary:
        """See `EventSource.aggregate`; active from its first event in versions to its last."""
        key = self._key_of(aggregate_id)
        heads = [] if key is None else self._listing.heads([key])
        if not heads:
            raise AggregateNotFound(aggregate_id)
        return heads[0]

    def aggregates(
        self,
        *,
        prefix: str = "",
        aggregate_type: str | None = None,
        order: AggregateOrder = "id",
        after: str | None = None,
        limit: int = 100,
    ) -> AggregatePage:
        """See `EventSource.aggregates`.

        By id and by newest event up to 10,000 are looked at for a page; one that found few of them
        wanted is short, and `next` goes on. By length, the whole table is read.
        """
        if limit < 1:
            raise InvalidEvent(f"limit: {limit} is not a number from 1")
        if not is_storable(prefix + (aggregate_type or "")):
            return AggregatePage(items=(), next=None)
        return self._listing.page(
            prefix=prefix, aggregate_type=aggregate_type, order=order, after=after, limit=limit
        )

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
        fields = self._fields
        bounds = [
            *_bound(fields.version, ">=", from_version),
            *_bound(fields.version, "<=", to_version),
            *_bound(fields.moment, ">=", since and utc("since", since)),
            *_bound(fields.moment, "<", until and utc("until", until)),
        ]
        key = self._key_of(aggregate_id)
        if key is None:
            return iter(())
        return self._walk(
            [*self._of(key), *bounds],
            by=fields.version,
            backward=backward,
            batch_size=batch_size,
        )

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
        check_reading(axis=axis)
        fields = self._fields
        first = self._layout.first_version
        # All events of a stream are of its type, which may have to be looked up.
        once = f"CASE WHEN {fields.version} = {first} THEN {fields.aggregate_type} END"
        columns = f"{fields.version}, {fields.event_type}, {fields.data}, {once}, 1"
        bounds = [
            *_bound(fields.version, "<=", to_version),
            *_bound(fields.moment, "<=", as_of and utc("as_of", as_of)),
        ]
        for rows in self._batches(aggregate_id, columns, bounds, after, HISTORY_BATCH):
            yield cast("Sequence[HistoryRow]", rows)

    def outline(
        self, aggregate_id: str, *, after: int | None = None, to_version: int | None = None
    ) -> Iterator[Sequence[OutlineRow]]:
        """See `EventSource.outline`."""
        fields = self._fields
        moment = self.database.microseconds(fields.moment)
        columns = f"{fields.version}, {fields.event_type}, {moment}"
        bounds = _bound(fields.version, "<=", to_version)
        for rows in self._batches(aggregate_id, columns, bounds, after, OUTLINE_BATCH):
            yield cast("Sequence[OutlineRow]", rows)

    def _batches(
        self,
        aggregate_id: str,
        columns: str,
        bounds: Sequence[Condition],
        after: int | None,
        size: int,
    ) -> Iterator[list[Row]]:
        """Rows of a stream by version, which comes first in them."""
        key = self._key_of(aggregate_id)
        if key is None:
            return
        version = self._fields.version
        while rows := self._rows(
            columns,
            [*self._of(key), *bounds, *_bound(version, ">", after)],
            order=version,
            size=size,
        ):
            yield rows
            if len(rows) < size:
                return
            after = rows[-1][0]

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
        """See `EventSource.feed`; of what it filters by, only event ids may have an index."""
        check_reading(axis=where.axis, batch_size=batch_size, limit=limit)
        conditions = self._wanted(after, before, where)
        if conditions is None:
            return iter(())
        return self._walk(
            conditions,
            by=self._fields.position,
            backward=backward,
            batch_size=batch_size,
            limit=limit,
        )

    def counts(self) -> Counts:
        """See `EventSource.counts`. Reads every event: seconds where there are millions."""
        fields, keys = self._fields, ", ".join(f"e.{name}" for name in self._layout.key)
        by_type = self.database.rows(
            f"SELECT {fields.event_type}, count(*), max({fields.position})"  # noqa: S608 (placeholders)
            f" FROM {self._events} GROUP BY 1",
            {},
        )
        aggregates = self.database.rows(
            f"SELECT {fields.aggregate_type}, count(*)"  # noqa: S608 (placeholders)
            f" FROM (SELECT DISTINCT {keys} FROM {self._events}) AS e GROUP BY 1",
            {},
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
        fields = self._fields
        rows = self.database.rows(
            f"SELECT {fields.aggregate_type}, {fields.event_type}, count(*)"  # noqa: S608 (placeholders)
            f" FROM {self._events} GROUP BY 1, 2",
            {},
        )
        # In Python, as databases sort by collations of their own.
        return [
            Written(aggregate_type=row[0], event_type=row[1], event_version=1, events=row[2])
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
        conditions = self._wanted(after, before, where)
        if conditions is None:
            return []
        query = Query(self.database)
        counted = Counted(
            moment=self._fields.moment,
            position=self._fields.position,
            aggregate_type=self._fields.aggregate_type,
            event_type=self._fields.event_type,
            events=f"{self._events} WHERE {query.all(conditions)}",
            parameters=query.parameters,
        )
        return tallied(self.database, counted, width)

    def rolled_up(self) -> int:
        """See `EventSource.rolled_up`."""
        return 0

    def watermark(self) -> Watermark:
        """See `EventSource.watermark`; it names nobody who holds readers."""
        return self._fence.read()

    def _key_of(self, aggregate_id: str) -> tuple[Any, ...] | None:
        return self._layout.key_of(aggregate_id) if is_storable(aggregate_id) else None

    def _of(self, key: tuple[Any, ...]) -> list[Condition]:
        return [
            (f"e.{name}", "=", (value,)) for name, value in zip(self._layout.key, key, strict=True)
        ]

    def _wanted(self, after: int, before: int | None, where: FeedFilter) -> list[Condition] | None:
        """The events that pass the filter; None where none can."""
        fields = self._fields
        types = [name for name in where.event_types if is_storable(name)]
        texts = [where.aggregate_type, where.correlation_id, where.actor]
        if (where.event_types and not types) or not all(map(is_storable, filter(None, texts))):
            return None
        return [
            (fields.position, ">", (after,)),
            *_bound(fields.position, "<", before),
            *_bound(fields.aggregate_type, "=", where.aggregate_type),
            *_bound(fields.event_type, "= ANY", types or None),
            *_bound(fields.moment, ">=", where.since and utc("since", where.since)),
            *_bound(fields.moment, "<", where.until and utc("until", where.until)),
            *_bound(fields.correlation_id, "=", where.correlation_id),
            *_bound(fields.actor, "=", where.actor),
            *_bound(fields.event_id, "=", where.event_id),
        ]

    def _walk(
        self,
        conditions: Sequence[Condition],
        *,
        by: str,
        backward: bool,
        batch_size: int,
        limit: int | None = None,
    ) -> Iterator[Event]:
        """Events that fulfil the conditions in the order of `by`, by keyset: a batch a query."""
        columns = ", ".join(getattr(self._fields, name) for name in Fields.__struct_fields__)
        moving: list[Condition] = []
        left = limit
        while left is None or left > 0:
            size = batch_size if left is None else min(batch_size, left)
            rows = self._rows(
                columns,
                [*conditions, *moving],
                order=f"{by} DESC" if backward else by,
                size=size,
            )
            events = [self._event(row) for row in rows]
            yield from events
            if len(rows) < size:
                return
            last = events[-1]
            reached = last.version if by == self._fields.version else last.position
            moving = [(by, "<" if backward else ">", (reached,))]
            left = None if left is None else left - len(rows)

    def _rows(
        self, columns: str, conditions: Iterable[Condition], *, order: str, size: int
    ) -> list[Row]:
        query = Query(self.database)
        return query.rows(
            f"SELECT {columns} FROM {self._events} WHERE {query.all(conditions)}"  # noqa: S608 (placeholders)
            f" ORDER BY {order} LIMIT {query.holder(size)}"
        )

    def _event(self, row: Row) -> Event:
        position, version, event_id, aggregate_id, aggregate_type, event_type, moment = row[:7]
        raw_data, raw_metadata, correlation_id, causation_id, actor = row[7:]
        place = f"{aggregate_id!r} version {version}"
        _check(place, "data", raw_data)
        _check(place, "metadata", raw_metadata)
        return Event(
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            version=version,
            position=position,
            event_id=event_id,
            event_type=event_type,
            event_version=1,
            schema_version=1,
            correlation_id=correlation_id,
            causation_id=causation_id,
            actor=actor,
            occurred_at=moment,
            recorded_at=moment,
            raw_data=raw_data,
            raw_metadata=raw_metadata,
            digest=None,
        )


def _bound(expression: str, operator: str, value: Any) -> list[Condition]:
    """A condition, if there is a value for it."""
    return [] if value is None else [(expression, operator, (value,))]


def _check(place: str, field: str, raw: bytes) -> None:
    try:
        payload.decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        # The database takes numbers of any size, and any depth.
        raise InvalidSource(f"{place}: its {field} cannot be read: {error}") from None
