"""The event log: appends under optimistic locking, idempotent by event id."""

import random
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from store import payload
from store.database import Database
from store.database.batch import (
    Batch,
    ConnectionLost,
    EncodedAppend,
    Inserted,
    Refused,
)
from store.encoding import NO_CONTEXT, encode_append
from store.errors import (
    AggregateTypeMismatch,
    Deadlock,
    DuplicateEventId,
    InvalidEvent,
    OutcomeUnknown,
    PartialDuplicate,
    StoreUnavailable,
    VersionConflict,
)
from store.reader import EventReader
from store.records import (
    Append,
    Appended,
    Context,
    Event,
    NewEvent,
    utc,
)
from store.versions import ExpectedVersion

Clock = Callable[[], datetime]

DEADLOCK_ATTEMPTS = 5


class EventLog(EventReader):
    """Events in a database: an `EventSource` that takes appends. Safe to share between threads.

    `clock` replaces the database's clock for `recorded_at`, and ours for `occurred_at`.
    `outcome_timeout` is how many seconds to wait for a database that went away under a commit.
    `wrote` is told of the aggregates that were written to. With `wake` what is appended goes to the
    outbox, and that is called once it is committed; in a caller's transaction it is the caller's.
    """

    def __init__(
        self,
        database: Database,
        *,
        name: str,
        clock: Clock | None = None,
        outcome_timeout: float = 30.0,
        wrote: Callable[[Sequence[str]], None] | None = None,
        wake: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(database, name=name)
        self.wake = wake
        self._publish = wake is not None
        self._wrote = wrote
        self._clock = clock
        self._outcome_timeout = outcome_timeout

    def append(
        self,
        aggregate_type: str,
        aggregate_id: str,
        events: Sequence[NewEvent],
        *,
        expected: ExpectedVersion,
        context: Context = NO_CONTEXT,
        connection: Connection | None = None,
    ) -> Appended:
        """Append events to one aggregate, all or none.

        Alone it is a transaction of its own; with `connection` it becomes part of the caller's,
        which stays usable whatever is raised but `Deadlock` and `VersionConflict(actual=None)`.

        Raises:
            VersionConflict: the aggregate is not at the expected version.
            DuplicateEventId, PartialDuplicate: event ids are in use. Ids are looked at before the
                version: the very same events again are a success, with `duplicate` set.
            AggregateTypeMismatch: the aggregate id belongs to another type.
            InvalidEvent: an event may not be stored.
            OutcomeUnknown: the connection died during the commit, and the database with it.
        """
        now = self._now()
        encoded = encode_append(aggregate_type, aggregate_id, events, expected, context, now)
        return self.write([encoded], connection=connection)[aggregate_id]

    def append_all(
        self,
        appends: Sequence[Append],
        *,
        context: Context = NO_CONTEXT,
        connection: Connection | None = None,
    ) -> tuple[Appended, ...]:
        """Append to several aggregates, all or none; answers in the order of `appends`.

        Raises as `append` does, for the first aggregate in id order that stands in the way.
        """
        now = self._now()
        encoded = [
            encode_append(
                append.aggregate_type,
                append.aggregate_id,
                append.events,
                append.expected,
                context,
                now,
            )
            for append in appends
        ]
        written = self.write(sorted(encoded, key=_lock_order), connection=connection)
        return tuple(written[append.aggregate_id] for append in encoded)

    def write(self, batch: Batch, *, connection: Connection | None = None) -> dict[str, Appended]:
        """`append_all` of what is encoded already, by aggregate id."""
        if not batch:
            raise InvalidEvent("an append without aggregates")
        if len(batch) > 1 and len({append.aggregate_id for append in batch}) < len(batch):
            raise InvalidEvent("the same aggregate twice in one append_all")
        if connection is None:
            outcome, resolved = self._insert(batch)
        else:
            clock = self._clock and self._now()
            outcome = self.database.insert_within(connection, batch, clock, publish=self._publish)
            resolved = False
        if self._wrote is not None:
            self._wrote([append.aggregate_id for append in batch])
        if isinstance(outcome, Inserted):
            if self.wake is not None and connection is None:
                self.wake()
            return _appended(batch, outcome)
        return self._known(batch, outcome, resolved=resolved, connection=connection)

    def _insert(self, batch: Batch) -> tuple[Inserted | Refused, bool]:
        """The outcome, and whether an earlier attempt may have been what wrote the events.

        A connection lost during commit is resolved by appending again: the ids are looked up under
        the lock that the lost attempt held, so they tell for certain whether it took effect.
        """
        lost_at: float | None = None
        deadlocks = 0
        while True:
            clock = self._clock and self._now()
            try:
                inserted = self.database.insert(batch, clock, publish=self._publish)
            except ConnectionLost as error:
                lost_at = lost_at or time.monotonic()
                cause: Exception = error
            except StoreUnavailable as error:
                if lost_at is None:
                    raise
                cause = error
            except Deadlock:
                deadlocks += 1
                if deadlocks == DEADLOCK_ATTEMPTS:
                    raise
            else:
                return inserted, lost_at is not None
            if lost_at and time.monotonic() - lost_at > self._outcome_timeout:
                ids = [event.event_id for append in batch for event in append.events]
                raise OutcomeUnknown(event_ids=ids) from cause
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 (jitter)

    def _known(
        self,
        batch: Batch,
        refused: Refused,
        *,
        resolved: bool,
        connection: Connection | None,
    ) -> dict[str, Appended]:
        """The events as they were stored before, or the error that says why they cannot be."""
        facts = list(zip(batch, refused.types, refused.versions, refused.known, strict=True))
        for append, actual_type, _, _ in facts:
            if actual_type not in {None, append.aggregate_type}:
                raise AggregateTypeMismatch(
                    aggregate_id=append.aggregate_id,
                    given=append.aggregate_type,
                    actual=str(actual_type),
                )
        if not any(refused.known):
            raise next(
                VersionConflict(
                    aggregate_id=append.aggregate_id, expected=append.expected, actual=version
                )
                for append, _, version, _ in facts
                if append.expected not in {None, version}
            )
        for append, _, _, known in facts:
            _check_all_known(append, known)
        return {
            append.aggregate_id: self._stored(append, resolved=resolved, connection=connection)
            for append in batch
        }

    def _stored(
        self, append: EncodedAppend, *, resolved: bool, connection: Connection | None
    ) -> Appended:
        database = self.database
        ids = {f"id{i}": database.value(event.event_id) for i, event in enumerate(append.events)}
        sql = f"""
            SELECT {database.event_columns} FROM events
            WHERE aggregate_id = {database.bind("aggregate_id")}
            AND event_id IN ({", ".join(map(database.bind, ids))})
        """  # noqa: S608 (placeholders)
        rows = database.rows(sql, {"aggregate_id": append.aggregate_id, **ids}, connection)
        stored = {event.event_id: event for event in map(database.event, rows)}
        wanted = {event.event_id for event in append.events} - stored.keys()
        if wanted:
            stored |= self._archived(append.aggregate_id, wanted, connection)
        for given in append.events:
            event = stored[given.event_id]
            if (event.event_type, event.event_version, event.data) != (
                given.event_type,
                given.event_version,
                payload.decode(given.data),
            ):
                raise DuplicateEventId(aggregate_id=append.aggregate_id, event_id=given.event_id)
        events = tuple(stored[given.event_id] for given in append.events)
        last = max(events, key=lambda event: event.version)
        return Appended(
            version=last.version,
            position=last.position,
            duplicate=not resolved,
            stored=lambda: events,
        )

    def _archived(
        self, aggregate_id: str, event_ids: Collection[UUID], connection: Connection | None
    ) -> dict[UUID, Event]:
        if connection is not None:
            return self.archived.known(aggregate_id, event_ids, connection)
        with self.database.snapshot() as reading:
            return self.archived.known(aggregate_id, event_ids, reading)

    def _now(self) -> datetime:
        return utc("clock", self._clock()) if self._clock else datetime.now(UTC)


def _lock_order(append: EncodedAppend) -> bytes:
    return append.aggregate_id.encode()


def _appended(batch: Batch, inserted: Inserted) -> dict[str, Appended]:
    written: dict[str, Appended] = {}
    end = 0
    for append, base in zip(batch, inserted.base_versions, strict=True):
        start, end = end, end + len(append.events)
        written[append.aggregate_id] = Appended(
            version=base + end - start,
            position=inserted.positions[end - 1],
            duplicate=False,
            stored=partial(_stored_events, append, base, inserted, start),
        )
    return written


def _stored_events(
    append: EncodedAppend, base: int, inserted: Inserted, start: int
) -> tuple[Event, ...]:
    """The events of `append`, whose rows begin at `start`, as a reader would get them."""
    return tuple(
        Event(
            aggregate_type=append.aggregate_type,
            aggregate_id=append.aggregate_id,
            version=base + 1 + index,
            position=inserted.positions[start + index],
            event_id=event.event_id,
            event_type=event.event_type,
            event_version=event.event_version,
            schema_version=event.event_version,
            correlation_id=event.correlation_id,
            causation_id=event.causation_id,
            actor=event.actor,
            occurred_at=event.occurred_at,
            recorded_at=inserted.recorded[start + index],
            raw_data=event.data,
            raw_metadata=event.metadata,
            digest=inserted.digests[start + index],
        )
        for index, event in enumerate(append.events)
    )


def _check_all_known(append: EncodedAppend, known: frozenset[Any]) -> None:
    if len(known) < len(append.events):
        ids = [event.event_id for event in append.events]
        raise PartialDuplicate(
            aggregate_id=append.aggregate_id,
            known=[event_id for event_id in ids if event_id in known],
            new=[event_id for event_id in ids if event_id not in known],
        )
