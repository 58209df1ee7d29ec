"""Moving an aggregate's events back from the archive, and there again; a part a transaction.

While it is restored it is held: what is active of an aggregate always begins where its archived
versions end, or with the first. So the newest archived come back first, and the oldest go first.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, select, update

from store.archive.moving import (
    LARGEST_BATCH,
    PATIENCE,
    first_active,
    lock_archive,
    lock_heads,
)
from store.archive.partitions import Partitions
from store.archived import Archived, Stretch
from store.database import Database
from store.errors import AggregateNotFound
from store.packs import LONGEST, Pack, checked, pack, runs
from store.records import Event

_PACKS = LARGEST_BATCH // LONGEST


class Restored(Struct, frozen=True, kw_only=True):
    """An aggregate that was taken back from the archive, and is held."""

    aggregate_id: str
    restored_at: datetime
    restored_by: str


class Restorer:
    """Restores aggregates, and gives them back. `by` says who did it."""

    def __init__(self, database: Database, *, by: str) -> None:
        self._database = database
        self._archived = Archived(database)
        self._partitions = Partitions(database)
        self._by = by

    def restored(self, most: int | None = None) -> Sequence[Restored]:
        """Those that are held, by id: the first `most`, else all."""
        table = self._database.tables.tables["archive_restored"]
        query = select(table.c.aggregate_id, table.c.restored_at, table.c.restored_by)
        found = self._database.select(query.order_by(table.c.aggregate_id).limit(most))
        return [
            Restored(aggregate_id=row[0], restored_at=row[1], restored_by=row[2]) for row in found
        ]

    def restore(self, aggregate_id: str) -> int:
        """Take all archived events of an aggregate back; how many there were.

        It is held from then on: none of its events is archived until it is given back.

        Raises:
            AggregateNotFound: there is none.
            ArchiveBusy: somebody else archives or restores.
            DatabaseBusy: somebody writes to it for long.
        """
        self._check(aggregate_id)
        restored = 0
        while some := self._restore_some(aggregate_id):
            restored += some
        return restored

    def give_back(self, aggregate_id: str) -> int:
        """Archive again what was restored of an aggregate; how many events.

        What it has got since is archived when its turn comes. Raises as `restore` does.
        """
        self._check(aggregate_id)
        moved = 0
        while some := self._give_some_back(aggregate_id):
            moved += some
        return moved

    def archived(self) -> Iterable[str]:
        """The ids of all aggregates that have events in the archive."""
        packs = self._database.tables.tables["events_archive"]
        after = ""
        while True:
            query = select(packs.c.aggregate_id).where(packs.c.aggregate_id > after)
            found = self._database.select(query.order_by(packs.c.aggregate_id).limit(1))
            if not found:
                return
            after = found[0][0]
            yield after

    def _check(self, aggregate_id: str) -> None:
        heads = self._database.tables.tables["aggregates"]
        query = select(heads.c.version).where(heads.c.aggregate_id == aggregate_id)
        if not self._database.select(query):
            raise AggregateNotFound(aggregate_id)

    def _restore_some(self, aggregate_id: str) -> int:
        packs = self._database.tables.tables["events_archive"]
        own = packs.c.aggregate_id == aggregate_id
        with self._database.archiving(patience=PATIENCE) as connection:
            self._lock(aggregate_id, connection)
            self._hold(aggregate_id, connection)
            newest = (
                select(packs.c.first_version, packs.c.last_position, func.length(packs.c.events))
                .where(own)
                .order_by(packs.c.first_version.desc())
                .limit(_PACKS)
            )
            found = connection.execute(newest).all()
            if not found:
                return 0
            first = found[-1][0]
            events = list(self._archived.events(aggregate_id, connection, first=first))
            connection.execute(delete(packs).where(own, packs.c.first_version >= first))
            self._database.put_back(connection, events)
            for stretch, some in self._by_stretch(events, connection):
                sizes = [size for _, place, size in found if stretch.has(place)]
                counted = Counted(events=-len(some), packs=-len(sizes), bytes=-sum(sizes))
                self._count(stretch, counted, connection)
        return len(events)

    def _give_some_back(self, aggregate_id: str) -> int:
        database = self._database
        table, held = database.tables.tables["events"], database.tables.tables["archive_restored"]
        self._partitions.create(self._oldest(aggregate_id))
        with database.archiving(patience=PATIENCE) as connection:
            self._lock(aggregate_id, connection)
            events = self._oldest(aggregate_id, connection)
            if not events:
                connection.execute(delete(held).where(held.c.aggregate_id == aggregate_id))
                return 0
            last = events[-1].version
            connection.execute(
                delete(table).where(table.c.aggregate_id == aggregate_id, table.c.version <= last)
            )
            for stretch, found in self._by_stretch(events, connection):
                dictionary = self._archived.dictionary(stretch.last_position, connection)
                packs = [checked(run, pack(run, dictionary), dictionary) for run in runs(found)]
                database.insert_packs(connection, packs)
                self._count(stretch, _sizes(packs), connection)
        return len(events)

    def _oldest(self, aggregate_id: str, connection: Connection | None = None) -> list[Event]:
        """The first active events of an aggregate at positions that the archive has got beyond."""
        bind = self._database.bind
        return first_active(
            self._database,
            f"aggregate_id = {bind('id')} AND position <= {bind('position')}",
            {"id": aggregate_id, "position": self._archived.position(connection)},
            connection,
            order="version",
            limit=LARGEST_BATCH,
        )

    def _by_stretch(
        self, events: Sequence[Event], connection: Connection
    ) -> list[tuple[Stretch, list[Event]]]:
        """The events by the batches that they are of."""
        grouped: list[tuple[Stretch, list[Event]]] = []
        for event in sorted(events, key=attrgetter("position")):
            if not grouped or not grouped[-1][0].has(event.position):
                stretch = self._archived.following(event.position - 1, connection)
                assert stretch is not None, "what was restored was in a batch"  # noqa: S101
                grouped.append((stretch, []))
            grouped[-1][1].append(event)
        return grouped

    def _count(self, stretch: Stretch, sizes: "Counted", connection: Connection) -> None:
        batches = self._database.tables.tables["archive_batches"]
        connection.execute(
            update(batches)
            .where(batches.c.last_position == stretch.last_position)
            .values(
                events=batches.c.events + sizes.events,
                packs=batches.c.packs + sizes.packs,
                bytes=batches.c.bytes + sizes.bytes,
            )
        )

    def _lock(self, aggregate_id: str, connection: Connection) -> None:
        lock_archive(self._database, connection)
        lock_heads(self._database, connection, [aggregate_id])

    def _hold(self, aggregate_id: str, connection: Connection) -> None:
        held = self._database.tables.tables["archive_restored"]
        own = select(held.c.aggregate_id).where(held.c.aggregate_id == aggregate_id)
        if connection.execute(own).first() is None:
            values: dict[str, Any] = {"restored_at": datetime.now(UTC), "restored_by": self._by}
            connection.execute(insert(held).values(aggregate_id=aggregate_id, **values))


class Counted(Struct, frozen=True, kw_only=True):
    """How much more there is in a batch."""

    events: int
    packs: int
    bytes: int


def _sizes(packs: Sequence[Pack]) -> Counted:
    return Counted(
        events=sum(each.last_version - each.first_version + 1 for each in packs),
        packs=len(packs),
        bytes=sum(len(each.events) for each in packs),
    )
