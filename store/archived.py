"""Reading the archive: one aggregate's events by version, and all by position.

Events are archived by batches, each of them all there is to archive in a stretch of positions; the
stretches follow one another from 1 on. Who was restored from the archive, or held back from it, has
events in the active table below the last of these positions. So up to there, and below the version
that an aggregate's head is archived through, both are asked, in one snapshot; beyond it the active
table alone. Neither bound ever goes down: an event that is missed where it was active is found
below the bound that is read after that.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from lru import LRU
from msgspec import Struct
from sqlalchemy import Connection

from store.database import Database
from store.folding import HistoryRow
from store.identifiers import is_storable
from store.packs import Pack, Unpacked, correlation, expanded
from store.records import Event, FeedFilter, OutlineRow

_DICTIONARIES = 256
"""Kept at hand, of up to 32 kB each."""
_ZLIB_HEADER = 6
PACKS = 32
"""Read in one query."""
_LOOKS = 3
"""For events that are being moved: they are found at the second, unless they are moved twice."""
LAST = 2**63 - 1
"""A version that no event has."""

# Behind what `Database.pack` reads comes the batch, whose dictionary it is.
_COLUMNS = """
    aggregate_id, first_version, last_version, last_position, recorded_at, event_ids, digest,
    events, (
        SELECT min(b.last_position) FROM archive_batches b
        WHERE b.last_position >= events_archive.last_position
    )
"""


class Stretch(Struct, frozen=True, kw_only=True):
    """A batch of the archive: the positions it is all of, both included."""

    first_position: int
    last_position: int

    @property
    def size(self) -> int:
        """How many positions there are."""
        return self.last_position - self.first_position + 1

    def has(self, position: int) -> bool:
        """Whether a position is one of them."""
        return self.first_position <= position <= self.last_position


class Archived:
    """What is in the archive. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dictionaries: LRU[tuple[int, bytes], bytes] = LRU(_DICTIONARIES)
        bind = database.bind
        self._through = f"SELECT archived_through FROM aggregates WHERE aggregate_id = {bind('id')}"  # noqa: S608 (placeholders)
        sql = f"""
            SELECT {_COLUMNS} FROM events_archive WHERE aggregate_id = {bind("id")}
            AND last_version >= {bind("first")} AND first_version <= {bind("last")}
            ORDER BY first_version {{}} LIMIT {PACKS}
        """  # noqa: S608 (placeholders)
        self._sql_forward, self._sql_backward = sql.format(""), sql.format("DESC")

    def position(self, connection: Connection | None = None) -> int:
        """The position up to which events may be archived; 0 where none is."""
        sql = "SELECT coalesce(max(last_position), 0) FROM archive_batches"
        [(position,)] = self._database.rows(sql, {}, connection, at_once=connection is None)
        return int(position)

    def version(self, aggregate_id: str) -> int:
        """The version up to which an aggregate's events may be archived; 0 where none is."""
        if not is_storable(aggregate_id):
            return 0
        rows = self._database.rows(self._through, {"id": aggregate_id}, at_once=True)
        return int(rows[0][0]) if rows else 0

    def packs(
        self,
        aggregate_id: str,
        connection: Connection,
        *,
        first: int = 1,
        last: int = LAST,
        backward: bool = False,
    ) -> Iterator[Unpacked]:
        """The packs that have an aggregate's versions between two, both included, in order.

        Raises:
            PackDamaged: one cannot be read.
        """
        while first <= last and is_storable(aggregate_id):
            found = self._packs(aggregate_id, connection, first, last, backward=backward)
            for packed, batch in found:
                yield self.unpacked(packed, batch, connection)
            if len(found) < PACKS:
                return
            end = found[-1][0]
            first = first if backward else end.last_version + 1
            last = end.first_version - 1 if backward else last

    def few(self, aggregate_id: str, *, first: int, last: int) -> list[Unpacked] | None:
        """The `packs` between two versions, without a snapshot; None where there are many."""
        found = self._packs(aggregate_id, None, first, last)
        if len(found) == PACKS:
            return None
        return [self.unpacked(packed, batch) for packed, batch in found]

    def _packs(
        self,
        aggregate_id: str,
        connection: Connection | None,
        first: int,
        last: int,
        *,
        backward: bool = False,
    ) -> list[tuple[Pack, int | None]]:
        database = self._database
        bounds = {"id": aggregate_id, "first": first, "last": last}
        named = {name: database.value(value) for name, value in bounds.items()}
        sql = self._sql_backward if backward else self._sql_forward
        rows = database.rows(sql, named, connection, at_once=connection is None)
        return [(database.pack(row), row[-1]) for row in rows]

    def stored(
        self,
        connection: Connection,
        *,
        after: tuple[str, int],
        last: str | None,
        until: tuple[str, int] | None,
    ) -> list[tuple[Pack, int | None]]:
        """The first packs, of any aggregate, in the order of ids and versions; see `unpacked`.

        Those behind an aggregate's version; up to an aggregate, or up to a version of one.
        """
        database, bind = self._database, self._database.bind
        bounds: dict[str, Any] = {"id": after[0], "version": after[1]}
        upper = ""
        if last is not None:
            upper += f"AND aggregate_id <= {bind('last')} "
            bounds["last"] = last
        if until is not None:
            upper += f"AND (aggregate_id, first_version) <= ({bind('end')}, {bind('number')})"
            bounds |= {"end": until[0], "number": until[1]}
        sql = f"""
            SELECT {_COLUMNS} FROM events_archive
            WHERE aggregate_id >= {bind("id")}
            AND (aggregate_id, last_version) > ({bind("id")}, {bind("version")}) {upper}
            ORDER BY aggregate_id, first_version LIMIT {PACKS}
        """  # noqa: S608 (placeholders)
        return [(database.pack(row), row[-1]) for row in database.rows(sql, bounds, connection)]

    def of_time(
        self,
        connection: Connection,
        *,
        after: tuple[str, int],
        since: datetime,
        until: datetime | None,
    ) -> list[tuple[Pack, int | None]]:
        """The first packs, as `stored` has them, whose first event was recorded between two times.

        Before the later one, if there is one.
        """
        database, bind = self._database, self._database.bind
        bounds: dict[str, Any] = {"id": after[0], "version": after[1]}
        bounds["since"], upper = database.value(since), ""
        if until is not None:
            bounds["until"], upper = database.value(until), f"AND recorded_at < {bind('until')}"
        sql = f"""
            SELECT {_COLUMNS} FROM events_archive
            WHERE recorded_at >= {bind("since")} {upper}
            AND aggregate_id >= {bind("id")}
            AND (aggregate_id, last_version) > ({bind("id")}, {bind("version")})
            ORDER BY aggregate_id, first_version LIMIT {PACKS}
        """  # noqa: S608 (placeholders)
        return [(database.pack(row), row[-1]) for row in database.rows(sql, bounds, connection)]

    def unpacked(
        self, packed: Pack, batch: int | None, connection: Connection | None = None
    ) -> Unpacked:
        """What is in a pack of a batch.

        Raises:
            PackDamaged: it cannot be read.
        """
        if batch is None:
            return Unpacked(packed, b"")  # there is no dictionary any more, and zlib says so
        # It begins with what tells the dictionary: behind a restored backup the same batch may have
        # another one.
        key = batch, packed.events[:_ZLIB_HEADER]
        dictionary = self._dictionaries.get(key)
        if dictionary is None:
            dictionary = self._dictionaries[key] = self.dictionary(batch, connection)
        return Unpacked(packed, dictionary)

    def events(
        self,
        aggregate_id: str,
        connection: Connection,
        *,
        first: int = 1,
        last: int = LAST,
        backward: bool = False,
    ) -> Iterator[Event]:
        """An aggregate's archived events between two versions, both included, in order."""
        found = self.packs(aggregate_id, connection, first=first, last=last, backward=backward)
        for unpacked in found:
            events = unpacked.events()
            for event in reversed(events) if backward else events:
                if first <= event.version <= last:
                    yield event

    def history(
        self, aggregate_id: str, connection: Connection, *, first: int, last: int
    ) -> Iterator[HistoryRow]:
        """An aggregate's archived events as a fold takes them; see `events`."""
        for unpacked in self.packs(aggregate_id, connection, first=first, last=last):
            yield from (row for row in unpacked.history() if first <= row[0] <= last)

    def outline(
        self, aggregate_id: str, connection: Connection, *, first: int, last: int
    ) -> Iterator[OutlineRow]:
        """When which of an aggregate's archived events occurred; see `events`."""
        for unpacked in self.packs(aggregate_id, connection, first=first, last=last):
            yield from (row for row in unpacked.outline() if first <= row[0] <= last)

    def at(
        self, keys: Iterable[tuple[str, int]], connection: Connection
    ) -> dict[tuple[str, int], Event]:
        """The events of those aggregates and versions that are archived, or have come back."""
        wanted: dict[str, set[int]] = {}
        for aggregate_id, version in keys:
            wanted.setdefault(aggregate_id, set()).add(version)
        found: dict[tuple[str, int], Event] = {}
        for aggregate_id, versions in wanted.items():
            stored = self.events(aggregate_id, connection, first=min(versions), last=max(versions))
            own = {event.version: event for event in stored if event.version in versions}
            for event in self._active(aggregate_id, "version", versions - own.keys(), connection):
                own[event.version] = event
            found |= {(aggregate_id, version): event for version, event in own.items()}
        return found

    def known(
        self, aggregate_id: str, event_ids: Iterable[UUID], connection: Connection
    ) -> dict[UUID, Event]:
        """The events, which are archived, or come back.

        In a transaction whose statements each read what is committed by then they may be moved
        between two of them, so these are repeated.
        """
        wanted, found = set(event_ids), dict[UUID, Event]()
        for _ in range(_LOOKS):
            stored = self.events(aggregate_id, connection)
            found |= {event.event_id: event for event in stored if event.event_id in wanted}
            missing = wanted - found.keys()
            for event in self._active(aggregate_id, "event_id", missing, connection):
                found[event.event_id] = event
            if len(found) == len(wanted):
                break
        return found

    def _active(
        self, aggregate_id: str, column: str, values: Collection[Any], connection: Connection
    ) -> list[Event]:
        """The active events of an aggregate that have one of the values in a column."""
        database = self._database
        if not values:
            return []
        rows = database.rows(
            f"SELECT {database.event_columns} FROM events"  # noqa: S608 (placeholders)
            f" WHERE aggregate_id = {database.bind('id')} AND {database.among(column, 'values')}",
            {"id": aggregate_id, "values": database.listed(list(values))},
            connection,
        )
        return list(map(database.event, rows))

    def following(self, position: int, connection: Connection) -> Stretch | None:
        """The first batch that goes beyond a position."""
        sql = "WHERE last_position > {} ORDER BY last_position LIMIT 1"
        return self._stretch(sql, position, connection)

    def preceding(self, position: int, connection: Connection) -> Stretch | None:
        """The last batch that begins before a position."""
        sql = "WHERE first_position < {} ORDER BY last_position DESC LIMIT 1"
        return self._stretch(sql, position, connection)

    def beyond(self, position: int) -> tuple[int, int | None]:
        """How many archived events are behind a position, and when the first was recorded.

        Of the batch that has the position all count; the time is in microseconds from 1970, None
        where there are none.
        """
        database = self._database
        earliest = database.microseconds("min(earliest_recorded_at)")
        [(events, moment)] = database.rows(
            f"SELECT coalesce(sum(events), 0), {earliest} FROM archive_batches"  # noqa: S608 (placeholders)
            f" WHERE last_position > {database.bind('position')} AND events > 0",
            {"position": database.value(position)},
        )
        return int(events), moment

    def _stretch(self, sql: str, position: int, connection: Connection) -> Stretch | None:
        database = self._database
        rows = database.rows(
            "SELECT first_position, last_position FROM archive_batches "  # noqa: S608 (placeholders)
            + sql.format(database.bind("position")),
            {"position": database.value(position)},
            connection,
        )
        return Stretch(first_position=rows[0][0], last_position=rows[0][1]) if rows else None

    def of_stretch(
        self, stretch: Stretch, connection: Connection, where: FeedFilter | None = None
    ) -> list[Event]:
        """The archived events of a batch, in no order.

        Those that `where` is not about may be left out.
        """
        database, bind = self._database, self._database.bind
        bounds: dict[str, Any] = {"first": stretch.first_position, "last": stretch.last_position}
        # Within so little time there are few partitions to look into.
        narrow = """
            AND recorded_at >= (
                SELECT earliest_recorded_at FROM archive_batches WHERE last_position = {last}
            )
            AND recorded_at <= (
                SELECT latest_recorded_at FROM archive_batches WHERE last_position = {last}
            )
        """.format(last=bind("last"))  # noqa: S608 (placeholders)
        if where is not None and where.correlation_id is not None:
            if not is_storable(where.correlation_id):
                return []
            bounds["note"] = correlation(where.correlation_id)
            narrow += f"""
                AND EXISTS (SELECT 1 FROM archive_batches WHERE last_position = {bind("last")}
                AND {database.contains("correlations", "note")})
            """  # noqa: S608 (placeholders)
        rows = database.rows(
            f"""
            SELECT {_COLUMNS} FROM events_archive
            WHERE last_position >= {bind("first")} AND last_position <= {bind("last")} {narrow}
            """,  # noqa: S608 (placeholders)
            bounds,
            connection,
        )
        found: list[Event] = []
        for row in rows:
            found += self.unpacked(database.pack(row), row[-1], connection).events()
        return found

    def dictionary(self, batch: int, connection: Connection | None = None) -> bytes:
        """What the packs of a batch, which its last position names, were compressed by."""
        database = self._database
        [(packed,)] = database.rows(
            "SELECT dictionary FROM archive_batches"  # noqa: S608 (placeholders)
            f" WHERE last_position = {database.bind('batch')}",
            {"batch": batch},
            connection,
        )
        return expanded(bytes(packed))
