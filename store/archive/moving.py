"""Moving events to the archive: the oldest first, a batch a transaction, while others write.

A batch is read and packed before its transaction, as events do not change; in it they are removed,
and their packs written, under the locks of their heads, and of the archive itself, which keeps all
but one from moving events. Who is killed has moved a batch, or not.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, delete, insert, select

from store.archive.partitions import Partitions
from store.archived import Archived
from store.database import Database
from store.errors import ArchiveBusy, DatabaseBusy, EventStoreError
from store.packs import Pack, checked, compressed, correlations, dictionary_for, pack, runs
from store.records import Event

LARGEST_BATCH = 5_000
BATCH = 2_000
"""Events moved in one transaction, for which followers of the feed, and writers of the same
aggregates, wait."""
LARGEST_BYTES = 32 * 2**20
"""What the events of a batch may take, but for the last: they are held in memory several times,
and a pack has to fit into a row."""
PATIENCE = 0.5
"""Seconds to wait for who writes to an aggregate; then a batch is tried again a little later."""
ATTEMPTS = 20
SHARE = 0.5
"""Of the time: so much is spent on moving events, the rest on waiting."""


class Policy(Struct, frozen=True, kw_only=True):
    """Which events are archived: old ones, and whatever is beyond the newest `keep_active`.

    Old is what was recorded longer ago than `older_than`, in the order of positions, up to the
    first that was not.
    """

    older_than: timedelta = timedelta(days=730)
    keep_active: int = 10_000_000


class Bound(Struct, frozen=True, kw_only=True):
    """A policy at a moment: events up to `position`, or recorded before `recorded`, are archived.

    None of those beyond `settled`.
    """

    position: int
    recorded: datetime
    settled: int

    def takes(self, event: Event) -> bool:
        """Whether the event is to be archived, if those before it are."""
        assert event.recorded_at is not None, "our tables keep it"  # noqa: S101
        return event.position <= self.position or event.recorded_at < self.recorded


class Moved(Struct, frozen=True, kw_only=True):
    """A batch that was moved: how many events, into how many packs of how many bytes."""

    events: int
    packs: int
    bytes: int
    last_position: int


class _Batch(NamedTuple):
    """The events `chosen` behind `start`, of which those `moving` are not of somebody `held`."""

    start: int
    chosen: Sequence[Event]
    held: frozenset[str]
    moving: Sequence[Event]
    packs: Sequence[Pack]
    dictionary: bytes

    @property
    def end(self) -> int:
        return self.chosen[-1].position

    @property
    def bytes(self) -> int:
        return sum(len(each.events) for each in self.packs)


Leaving = Mapping[str, int]
"""The aggregates of which events are about to be archived, and through which version."""


def _nothing(leaving: Leaving) -> None:
    del leaving


class Archiver:
    """Archives what a policy says.

    `settled` tells the position up to which nothing can appear any more. `prepare` is told which
    aggregates are about to be archived through which version: snapshots go first.
    """

    def __init__(
        self,
        database: Database,
        *,
        settled: Callable[[], int],
        prepare: Callable[[Leaving], None] = _nothing,
        batch: int = BATCH,
    ) -> None:
        self._database = database
        self._archived = Archived(database)
        self._settled = settled
        self._prepare = prepare
        self._size = min(batch, LARGEST_BATCH)
        self._partitions = Partitions(database)
        self._by = f"{platform.node()}:{os.getpid()}"

    def bound(self, policy: Policy, now: datetime | None = None) -> Bound:
        """What the policy says now."""
        events = self._database.tables.tables["events"]
        beyond = (
            select(events.c.position)
            .order_by(events.c.position.desc())
            .offset(policy.keep_active)
            .limit(1)
        )
        found = self._database.select(beyond)
        return Bound(
            position=found[0][0] if found else 0,
            recorded=(now or datetime.now(UTC)) - policy.older_than,
            settled=self._settled(),
        )

    def run(self, bound: Bound) -> Iterator[Moved]:
        """Move one batch after the other, with pauses, until there is nothing more.

        Raises:
            ArchiveBusy: somebody else is at it.
            DatabaseBusy: writers have not let go of an aggregate for long.
        """
        attempts = 0
        while True:
            started = time.monotonic()
            try:
                moved = self.once(bound)
            except DatabaseBusy:
                attempts += 1
                if attempts == ATTEMPTS:
                    raise
                time.sleep(PATIENCE)
                continue
            if moved is None:
                self._partitions.create(self._upcoming())
                return
            attempts = 0
            yield moved
            time.sleep((time.monotonic() - started) * (1 / SHARE - 1))

    def once(self, bound: Bound) -> Moved | None:
        """Move one batch; None where nothing is left to be moved.

        Raises:
            ArchiveBusy: somebody else is at it.
            DatabaseBusy: somebody writes to one of its aggregates for long.
        """
        batch = self._next(bound)
        if batch is None:
            return None
        self._prepare({each.aggregate_id: each.last_version for each in batch.packs})
        self._partitions.create(batch.moving)
        with self._database.archiving(patience=PATIENCE) as connection:
            lock_archive(self._database, connection)
            if self._archived.position(connection) != batch.start:
                raise ArchiveBusy  # it has just been somebody else's turn
            if self._counted(connection) < batch.end:
                raise ArchiveBusy  # the rollups have been counted anew, up to an earlier position
            lock_heads(self._database, connection, [each.aggregate_id for each in batch.packs])
            if self._held(batch.chosen, connection) != batch.held:
                raise ArchiveBusy  # somebody has been restored, or given back, meanwhile
            self._move(connection, batch)
        return Moved(
            events=len(batch.moving),
            packs=len(batch.packs),
            bytes=batch.bytes,
            last_position=batch.end,
        )

    def _next(self, bound: Bound) -> "_Batch | None":
        start = self._archived.position()
        chosen = self._chosen(start, bound)
        if not chosen:
            return None
        held = self._held(chosen)
        moving = [event for event in chosen if event.aggregate_id not in held]
        found = runs(moving)
        dictionary = dictionary_for(found)
        packs = [checked(run, pack(run, dictionary), dictionary) for run in found]
        return _Batch(start, chosen, held, moving, packs, dictionary)

    def _chosen(self, start: int, bound: Bound) -> list[Event]:
        bind = self._database.bind
        found = first_active(
            self._database,
            f"position > {bind('start')} AND position <= {bind('settled')}",
            {"start": start, "settled": bound.settled},
            order="position",
            limit=self._size,
        )
        return list(takewhile(bound.takes, found))

    def _upcoming(self) -> list[Event]:
        """The event that is archived next, when its time comes, once some have been."""
        database, start = self._database, self._archived.position()
        if not (start and database.is_remote):
            return []
        rows = database.rows(
            f"SELECT {database.event_columns} FROM events"  # noqa: S608 (placeholders)
            f" WHERE position > {database.bind('start')} ORDER BY position LIMIT 1",
            {"start": start},
        )
        return list(map(database.event, rows))

    def _counted(self, connection: Connection) -> int:
        """Up to where events are in the rollups, which stay there until the transaction ends."""
        rollup = self._database.tables.tables["rollup"]
        counted = select(rollup.c.position).with_for_update(read=True)
        return int(connection.execute(counted).scalar_one())

    def _held(
        self, events: Sequence[Event], connection: Connection | None = None
    ) -> frozenset[str]:
        """Those of the events' aggregates that were restored: they stay."""
        restored = self._database.tables.tables["archive_restored"]
        query = select(restored.c.aggregate_id)
        rows = connection.execute(query).all() if connection else self._database.select(query)
        return frozenset(row[0] for row in rows) & {event.aggregate_id for event in events}

    def _move(self, connection: Connection, batch: "_Batch") -> None:
        tables, moving = self._database.tables.tables, batch.moving
        events, batches = tables["events"], tables["archive_batches"]
        removed = connection.execute(
            delete(events)
            .where(events.c.position > batch.start, events.c.position <= batch.end)
            .where(events.c.aggregate_id.in_({each.aggregate_id for each in batch.packs}))
        ).rowcount
        if removed != len(moving):
            told = f"{removed} of {len(moving)} events were there"
            raise EventStoreError(f"nothing is archived behind position {batch.start}: {told}")
        self._database.insert_packs(connection, batch.packs)
        # What is held may be given back to this batch, and is to be looked for in it then.
        occurred = [event.occurred_at for event in batch.chosen]
        recorded = [event.recorded_at for event in batch.chosen if event.recorded_at]
        connection.execute(
            insert(batches).values(
                first_position=batch.start + 1,
                last_position=batch.end,
                events=len(moving),
                packs=len(batch.packs),
                bytes=batch.bytes,
                earliest_occurred_at=min(occurred),
                latest_occurred_at=max(occurred),
                earliest_recorded_at=min(recorded),
                latest_recorded_at=max(recorded),
                dictionary=compressed(batch.dictionary),
                correlations=correlations(batch.chosen),
                archived_at=datetime.now(UTC),
                archived_by=self._by,
            )
        )


def first_active(
    database: Database,
    where: str,
    parameters: Mapping[str, Any],
    connection: Connection | None = None,
    *,
    order: str,
    limit: int,
) -> list[Event]:
    """The first active events, no more than can be moved at once."""
    bytes_ = f"{database.size('data')} + {database.size('metadata')}"
    rows = database.rows(
        f"""
        SELECT {database.event_columns} FROM events WHERE {where} AND {order} <= (
            SELECT max(place) FROM (
                SELECT place, sum(bytes) OVER (ORDER BY place) - bytes AS before FROM (
                    SELECT {order} AS place, {bytes_} AS bytes FROM events WHERE {where}
                    ORDER BY {order} LIMIT {database.bind("limit")}
                ) AS first
            ) AS summed WHERE before < {database.bind("bytes")}
        ) ORDER BY {order}
        """,  # noqa: S608 (placeholders)
        {**parameters, "limit": limit, "bytes": LARGEST_BYTES},
        connection,
    )
    return list(map(database.event, rows))


def lock_archive(database: Database, connection: Connection) -> None:
    """Let nobody else move events until the transaction ends.

    Raises:
        ArchiveBusy: somebody else does.
    """
    archive = database.tables.tables["archive"]
    lock = select(archive.c.id).with_for_update(skip_locked=True)
    if connection.execute(lock).first() is None:
        raise ArchiveBusy


def lock_heads(database: Database, connection: Connection, aggregate_ids: Sequence[str]) -> None:
    """Let nobody append to the aggregates until the transaction ends; in the order of writers."""
    if not database.is_remote:
        return  # nobody else writes
    heads = database.tables.tables["aggregates"]
    connection.execute(
        select(heads.c.aggregate_id)
        .where(heads.c.aggregate_id.in_(set(aggregate_ids)))
        .order_by(heads.c.aggregate_id)
        .with_for_update(key_share=True)
    ).all()
