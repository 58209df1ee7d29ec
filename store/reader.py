"""Reading events and aggregates from a database, a batch a query."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import Connection, select

from store import listings, rollups
from store.archived import LAST, Archived, Stretch
from store.database import Database, Row
from store.database.fence import Gauge
from store.errors import AggregateNotFound, InvalidEvent
from store.folding import HistoryRow
from store.identifiers import is_storable
from store.listings import Listing
from store.packs import Unpacked
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
from store.sources import EVERYTHING, MICROSECOND, SourceInfo, check_reading, check_width
from store.sources.tallying import Counted, StretchRow, stretches, stretches_of

T = TypeVar("T")

HISTORY_BATCH = 2_000
OUTLINE_BATCH = 50_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


def mark_of(event: Event) -> str:
    """The `mark` of an event."""
    assert event.recorded_at is not None, "our tables keep it"  # noqa: S101
    return f"{event.event_id} {(event.recorded_at - _EPOCH) // MICROSECOND}"


class EventReader:
    """The `EventSource` over a database. Safe to share between threads."""

    def __init__(self, database: Database, *, name: str) -> None:
        self.info = SourceInfo(name=name)
        self.database = database
        self.archived = Archived(database)
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
        listing = listings.Listing(
            prefix=prefix, aggregate_type=aggregate_type, order=order, after=after
        )
        return listings.page(self._heads(listing, limit + 1), order, limit)

    def _heads(self, listing: Listing, limit: int) -> list[Row]:
        """The first heads of a listing."""
        rows = self._unsorted(listing, limit)
        if rows is not None:
            return rows
        ordered = listings.ordered(self.database.tables, listing)
        return self.database.select(ordered.limit(limit))

    def _unsorted(self, listing: Listing, limit: int) -> list[Row] | None:
        """The first heads found in their order; None where they had better be sorted.

        For where a database would sort all that match, however many do.
        """
        match listing.order:
            case "longest" if not listing.prefix or self._are_many(listing):
                return rollups.longest(self.database, listing, limit)
            case "recent" if not listing.is_filtered or self._are_many(listing):
                return self._newest(listing, limit)
        return None

    def _newest(self, listing: Listing, limit: int) -> list[Row] | None:
        newest = partial(listings.newest, self.database.tables, listing, limit)
        if not listing.prefix:
            return self.database.select(newest())
        # SQLite looks at all of them, however soon there are enough.
        for within in (min(4 * limit, listings.WALKED), listings.WALKED):
            rows = self.database.select(newest(within))
            if len(rows) == limit:
                return rows
        return None

    def _are_many(self, listing: Listing) -> bool:
        [(found,)] = self.database.select(listings.up_to_few(self.database.tables, listing))
        return bool(found > listings.FEW)

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
        times = _Times(axis, since and utc("since", since), until and utc("until", until))
        wanted = _Versions(aggregate_id, from_version, to_version, times)
        return self._walk(wanted, backward=backward, batch_size=batch_size)

    def _walk(self, wanted: "_Versions", *, backward: bool, batch_size: int) -> Iterator[Event]:
        while events := self._page(wanted, backward=backward, size=batch_size):
            yield from events
            if len(events) < batch_size:
                return
            wanted = wanted.before(events[-1]) if backward else wanted.behind(events[-1].version)

    def _page(self, wanted: "_Versions", *, backward: bool, size: int) -> list[Event]:
        """The first, or last, events of those: from the archive as well, where it may have some."""
        order = "version DESC" if backward else "version"

        def active(connection: Connection | None = None) -> list[Event]:
            rows = self._rows(wanted.bounds, order=order, size=size, connection=connection)
            return list(map(self.database.event, rows))

        events = active()
        if not backward and events and events[0].version == wanted.first:
            return events
        through = self.archived.version(wanted.aggregate_id)
        if through < wanted.first or (
            backward and len(events) == size and events[-1].version > through
        ):
            return events
        if not backward and wanted.times.are_any:
            quick = self._whole(wanted, through, events, Unpacked.events, attrgetter("version"))
            if quick is not None:
                return quick[:size]
        with self.database.snapshot() as connection:
            archived = self.archived.events(
                wanted.aggregate_id,
                connection,
                first=wanted.first,
                last=wanted.last,
                backward=backward,
            )
            found = [*islice(filter(wanted.times.hold, archived), size), *active(connection)]
        return sorted(found, key=attrgetter("version"), reverse=backward)[:size]

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
        times = _Times(axis, through=as_of and utc("as_of", as_of))
        wanted = _Versions(aggregate_id, None, to_version, times).behind(after)
        while rows := self._history_page(wanted):
            yield rows
            if len(rows) < HISTORY_BATCH:
                return
            wanted = wanted.behind(rows[-1][0])

    def _history_page(self, wanted: "_Versions") -> list[HistoryRow]:
        def archived(connection: Connection) -> Iterator[HistoryRow]:
            reader, aggregate_id = self.archived, wanted.aggregate_id
            if wanted.times.are_any:
                return reader.history(
                    aggregate_id, connection, first=wanted.first, last=wanted.last
                )
            events = reader.events(aggregate_id, connection, first=wanted.first, last=wanted.last)
            return map(history_row, filter(wanted.times.hold, events))

        return cast(
            "list[HistoryRow]",
            self._rows_of(wanted, HISTORY_COLUMNS, HISTORY_BATCH, archived, Unpacked.history),
        )

    def _whole(
        self,
        wanted: "_Versions",
        through: int,
        active: Sequence[T],
        unpacked: Callable[[Unpacked], Sequence[T]],
        version: Callable[[T], int],
    ) -> list[T] | None:
        """The active and archived of those without a snapshot, which takes many round trips more.

        None where that cannot be told: who asks for one after the other may find what was archived
        meanwhile in both, and what was restored in neither.
        """
        packs = self.archived.few(wanted.aggregate_id, first=wanted.first, last=wanted.last)
        if packs is None:
            return None
        both = [*chain.from_iterable(map(unpacked, packs)), *active]
        found = {version(each): each for each in both if wanted.has(version(each))}
        ends = min(wanted.last, max(through, wanted.first - 1 + len(found)))
        if list(found) == list(range(wanted.first, ends + 1)):
            return list(found.values())
        return None

    def outline(
        self, aggregate_id: str, *, after: int | None = None, to_version: int | None = None
    ) -> Iterator[Sequence[OutlineRow]]:
        """See `EventSource.outline`."""
        columns = f"version, event_type, {self.database.microseconds('occurred_at')}"
        wanted = _Versions(aggregate_id, None, to_version).behind(after)
        while rows := self._outline_page(wanted, columns):
            yield rows
            if len(rows) < OUTLINE_BATCH:
                return
            wanted = wanted.behind(rows[-1][0])

    def _outline_page(self, wanted: "_Versions", columns: str) -> list[OutlineRow]:
        def archived(connection: Connection) -> Iterator[OutlineRow]:
            return self.archived.outline(
                wanted.aggregate_id, connection, first=wanted.first, last=wanted.last
            )

        return cast("list[OutlineRow]", self._rows_of(wanted, columns, OUTLINE_BATCH, archived))

    def _rows_of(
        self,
        wanted: "_Versions",
        columns: str,
        size: int,
        archived: Callable[[Connection], Iterable[Row]],
        unpacked: Callable[[Unpacked], Sequence[Row]] | None = None,
    ) -> list[Row]:
        """The first rows of those, which begin with the version, as `_page` has events."""

        def active(connection: Connection | None = None) -> list[Row]:
            return self._rows(
                wanted.bounds, order="version", size=size, columns=columns, connection=connection
            )

        rows = active()
        if rows and rows[0][0] == wanted.first:
            return rows
        through = self.archived.version(wanted.aggregate_id)
        if through < wanted.first:
            return rows
        if unpacked is not None and wanted.times.are_any:
            quick = self._whole(wanted, through, rows, unpacked, itemgetter(0))
            if quick is not None:
                return quick[:size]
        with self.database.snapshot() as connection:
            rows = [*islice(archived(connection), size), *active(connection)]
        return sorted(rows, key=itemgetter(0))[:size]

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
        wanted = _Positions(max(after, 0), before, where)
        return self._feed(wanted, backward=backward, limit=limit, batch_size=batch_size)

    def _feed(
        self, wanted: "_Positions", *, backward: bool, limit: int | None, batch_size: int
    ) -> Iterator[Event]:
        if limit == 0:
            return
        size = min(batch_size, limit or batch_size)
        pages = self._backward(wanted, size) if backward else self._forward(wanted, size)
        yield from islice(chain.from_iterable(pages), limit)

    def _forward(self, wanted: "_Positions", size: int) -> Iterator[list[Event]]:
        while not wanted.is_empty:
            rows = self._rows(wanted.bounds, order="position", size=size)
            # Asked afterwards: what was active no more when the rows were read is below it.
            through = self.archived.position()
            if wanted.after >= through:
                yield list(map(self.database.event, rows))
                if len(rows) < size:
                    return
                wanted = wanted.behind(rows[-1][0])
            while wanted.after < through and not wanted.is_empty:
                stretch, events = self._archived_page(wanted)
                yield events
                wanted = wanted.behind(stretch.last_position)

    def _backward(self, wanted: "_Positions", size: int) -> Iterator[list[Event]]:
        while True:
            rows = self._rows(wanted.bounds, order="position DESC", size=size)
            through = max(self.archived.position(), wanted.after)
            events = [event for event in map(self.database.event, rows) if event.position > through]
            yield events
            if len(events) < size:
                break
            wanted = wanted.before_position(events[-1].position)
        wanted = wanted.before_position(through + 1)
        while not wanted.is_empty:
            stretch, events = self._archived_page(wanted, backward=True)
            yield events[::-1]
            wanted = wanted.before_position(stretch.first_position)

    def _archived_page(
        self, wanted: "_Positions", *, backward: bool = False
    ) -> tuple[Stretch, list[Event]]:
        """The events of the first, or last, batch that has wanted positions, archived or not."""
        with self.database.snapshot() as connection:
            stretch = (
                self.archived.preceding(wanted.end, connection)
                if backward
                else self.archived.following(wanted.after, connection)
            )
            assert stretch is not None, "batches follow one another from 1 on"  # noqa: S101
            within = wanted.within(stretch)
            rows = self._rows(
                within.bounds, order="position", size=stretch.size, connection=connection
            )
            archived = self.archived.of_stretch(stretch, connection, wanted.where)
        found = [*filter(within.hold, archived), *map(self.database.event, rows)]
        return stretch, sorted(found, key=attrgetter("position"))

    def headers(
        self, *, after: int, before: int, where: FeedFilter, limit: int
    ) -> Sequence[tuple[EventHeader, bytes | str]]:
        """What `feed` yields, of each event no more than where it stands and the JSON of its data.

        For who reads many: a third of what whole events cost.
        """
        wanted, database = _Positions(after, before, where), self.database
        rows = self._rows(
            wanted.bounds, order="position", size=limit, columns=database.header_columns
        )
        if after >= self.archived.position():
            header = database.header
            return [(header(row), row[-1]) for row in rows]
        found = islice(chain.from_iterable(self._forward(wanted, limit)), limit)
        return [(event.header, event.raw_data) for event in found]

    def _rows(
        self,
        bounds: Mapping[str, Any],
        *,
        order: str,
        size: int,
        columns: str | None = None,
        connection: Connection | None = None,
    ) -> list[Row]:
        conditions = self._conditions(bounds)
        if conditions is None:
            return []
        where, parameters = conditions
        return self.database.rows(
            f"SELECT {columns or self.database.event_columns} FROM events {where}"  # noqa: S608 (placeholders)
            f" ORDER BY {order} LIMIT {self.database.bind('size')}",
            parameters | {"size": size},
            connection,
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
        """See `EventSource.counts`."""
        totals = rollups.totals(self.database)
        events, aggregates = Counter[str](), Counter[str]()
        for total in totals:
            events[total.event_type] += total.events
            aggregates[total.aggregate_type] += total.aggregates
        return Counts(
            events=events.total(),
            aggregates=aggregates.total(),
            last_position=max((total.last_position for total in totals), default=0),
            events_by_type=dict(events),
            aggregates_by_type=dict(aggregates),
        )

    def written(self) -> Sequence[Written]:
        """See `EventSource.written`."""
        return [
            Written(
                aggregate_type=total.aggregate_type,
                event_type=total.event_type,
                event_version=total.event_version,
                events=total.events,
            )
            for total in rollups.totals(self.database)
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
        if self._conditions(_Positions(after, before, where).bounds) is None:
            return []
        asked = rollups.Asked(width=width, where=where, after=after, before=before)
        return rollups.tally(self.database, partial(self._stretches, where), asked)

    def _stretches(
        self, where: FeedFilter, width: timedelta, after: int, before: int | None
    ) -> list[StretchRow]:
        wanted = _Positions(max(after, 0), before, where)
        rows: list[StretchRow] = []
        while wanted.after < self.archived.position() and not wanted.is_empty:
            stretch, events = self._archived_page(wanted)
            rows += stretches_of(events, width, axis=where.axis)
            wanted = wanted.behind(stretch.last_position)
        counted = self._active_stretches(wanted, width)
        if wanted.after < self.archived.position() and not wanted.is_empty:
            return rows + self._stretches(where, width, wanted.after, before)
        return rows + counted

    def _active_stretches(self, wanted: "_Positions", width: timedelta) -> list[StretchRow]:
        where, conditions = wanted.where, self._conditions(wanted.bounds)
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
        return stretches(self.database, counted, width)

    def rolled_up(self) -> int:
        """See `EventSource.rolled_up`."""
        return rollups.position(self.database)

    def watermark(self) -> Watermark:
        """See `EventSource.watermark`. A replica shows nobody who holds, only what has arrived."""
        return self._gauge.read()


class _Times(NamedTuple):
    """Between which times events are wanted: from `since`, before `until`, not after `through`."""

    axis: Axis = "occurred"
    since: datetime | None = None
    until: datetime | None = None
    through: datetime | None = None

    @property
    def are_any(self) -> bool:
        return self.since is None and self.until is None and self.through is None

    @property
    def bounds(self) -> dict[str, Any]:
        column = f"{self.axis}_at"
        return {f"{column} >=": self.since, f"{column} <": self.until, f"{column} <=": self.through}

    def hold(self, event: Event) -> bool:
        """Whether the event is wanted."""
        moment = event.occurred_at if self.axis == "occurred" else event.recorded_at
        assert moment is not None, "our tables keep it"  # noqa: S101
        return (
            (self.since is None or moment >= self.since)
            and (self.until is None or moment < self.until)
            and (self.through is None or moment <= self.through)
        )


_ANY_TIME = _Times()


class _Versions:
    """Which of an aggregate's events are wanted: those between two versions, both included."""

    def __init__(
        self, aggregate_id: str, first: int | None, last: int | None, times: _Times = _ANY_TIME
    ) -> None:
        self.aggregate_id = aggregate_id
        self.first = max(1, 1 if first is None else first)
        self.last = LAST if last is None else last
        self.times = times

    @property
    def bounds(self) -> dict[str, Any]:
        return {
            "aggregate_id =": self.aggregate_id,
            "version >=": self.first,
            "version <=": None if self.last == LAST else self.last,
            **self.times.bounds,
        }

    def has(self, version: int) -> bool:
        """Whether a version is between the two."""
        return self.first <= version <= self.last

    def behind(self, version: int | None) -> "_Versions":
        """Those of them with a higher version."""
        first = self.first if version is None else version + 1
        return _Versions(self.aggregate_id, first, self.last, self.times)

    def before(self, event: Event) -> "_Versions":
        """Those of them before an event."""
        return _Versions(self.aggregate_id, self.first, event.version - 1, self.times)


class _Positions(NamedTuple):
    """Which events of the feed are wanted: those between two positions, both excluded."""

    after: int
    before: int | None
    where: FeedFilter

    @property
    def end(self) -> int:
        return LAST if self.before is None else self.before

    @property
    def is_empty(self) -> bool:
        return self.end - self.after <= 1

    @property
    def bounds(self) -> dict[str, Any]:
        where = self.where
        return {
            "position >": self.after,
            "position <": self.before,
            "aggregate_type =": where.aggregate_type,
            "event_type IN": where.event_types or None,
            **_times(where).bounds,
            "correlation_id =": where.correlation_id,
            "actor =": where.actor,
            "event_id =": where.event_id,
        }

    def behind(self, position: int) -> "_Positions":
        """Those of them with a higher position."""
        return self._replace(after=max(self.after, position))

    def before_position(self, position: int) -> "_Positions":
        """Those of them with a lower position."""
        return self._replace(before=min(self.end, position))

    def within(self, stretch: Stretch) -> "_Positions":
        """Those of them in a batch of the archive."""
        return self.behind(stretch.first_position - 1).before_position(stretch.last_position + 1)

    def hold(self, event: Event) -> bool:
        """Whether the event is one of them."""
        where = self.where
        return (
            self.after < event.position < self.end
            and where.aggregate_type in {None, event.aggregate_type}
            and (not where.event_types or event.event_type in where.event_types)
            and where.correlation_id in {None, event.correlation_id}
            and where.actor in {None, event.actor}
            and where.event_id in {None, event.event_id}
            and _times(where).hold(event)
        )


def _times(where: FeedFilter) -> _Times:
    since, until = where.since, where.until
    return _Times(where.axis, since and utc("since", since), until and utc("until", until))


def history_row(event: Event) -> HistoryRow:
    """An event as a fold takes it."""
    kind = event.aggregate_type if event.version == 1 else None
    return event.version, event.event_type, event.raw_data, kind, event.event_version
