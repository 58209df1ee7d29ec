"""PostgreSQL: appends are one statement, and one round trip when nothing stands in the way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.numeric import Int4, Int8
from psycopg.types.string import ByteaBinaryLoader
from sqlalchemy import URL, Connection, Select, create_engine
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from store import payload, tables
from store.database.batch import (
    Batch,
    ConnectionLost,
    EncodedAppend,
    EncodedEvent,
    Inserted,
    Refused,
)
from store.database.copying import copy
from store.errors import (
    AccessDenied,
    DatabaseBusy,
    Deadlock,
    EventStoreError,
    SchemaError,
    StoreUnavailable,
    VersionConflict,
)
from store.records import Event

Cursor = psycopg.Cursor[TupleRow]

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

_COLUMNS = (
    "version, occurred_at, recorded_at, event_id, event_version, aggregate_id, aggregate_type,"
    " event_type, data, metadata, correlation_id, causation_id, actor, digest"
)
_ONE_EVENT = """
    (SELECT 1 AS number, %(event_id)s::uuid AS id, %(event_type)s::text AS type,
        %(event_version)s::int AS version, %(data)s::text AS data, %(metadata)s::text AS metadata,
        %(correlation)s::text AS correlation, %(causation)s::text AS causation,
        %(actor)s::text AS actor, %(occurred)s::timestamptz AS occurred) AS e
"""
_MANY_EVENTS = """
    unnest(%(event_id)s::uuid[], %(event_type)s::text[], %(event_version)s::int[],
        %(data)s::text[], %(metadata)s::text[], %(correlation)s::text[], %(causation)s::text[],
        %(actor)s::text[], %(occurred)s::timestamptz[])
    WITH ORDINALITY AS e (id, type, version, data, metadata, correlation, causation, actor,
        occurred, number)
"""
# Both refuse by finding no head: whoever committed in between raised the version, so what the
# statement's snapshot says of ids and versions still holds for a head that is found.
_CREATE = """
    INSERT INTO aggregates
    VALUES (%(id)s, %(type)s, %(count)s, %(first)s, %(last)s,
        coalesce(%(clock)s::timestamptz, clock_timestamp()))
    ON CONFLICT (aggregate_id) DO NOTHING
    RETURNING 0::bigint AS base, last_recorded_at AS recorded_at
"""
_ADVANCE = """
    UPDATE aggregates SET
        version = version + %(count)s,
        first_occurred_at = least(first_occurred_at, %(first)s),
        last_occurred_at = greatest(last_occurred_at, %(last)s),
        last_recorded_at = greatest(last_recorded_at,
            coalesce(%(clock)s::timestamptz, clock_timestamp()))
    WHERE aggregate_id = %(id)s AND aggregate_type = %(type)s AND version = {expected}
    AND NOT EXISTS (
        SELECT FROM events k WHERE k.aggregate_id = %(id)s AND k.event_id {known}
    )
    RETURNING version - %(count)s AS base, last_recorded_at AS recorded_at
"""
_EXPECTED = {
    False: "%(expected)s::bigint",
    True: "(SELECT version FROM aggregates WHERE aggregate_id = %(id)s)",
}


def _statement(head: str, events: str) -> str:
    return f"""
        WITH head AS ({head})
        INSERT INTO events ({_COLUMNS})
        SELECT head.base + e.number, e.occurred, head.recorded_at, e.id, e.version, %(id)s,
            %(type)s, e.type, e.data::json, e.metadata::json, e.correlation, e.causation, e.actor,
            event_digest(%(id)s, head.base + e.number, e.id, e.type, e.version, e.occurred,
                e.data, e.metadata)
        FROM head, {events}
        ORDER BY e.number
        RETURNING position, recorded_at, version, digest
    """  # noqa: S608 (fixed fragments)


def _statements(events: str, known: str) -> dict[str, str]:
    return {
        "create": _statement(_CREATE, events),
        "advance": _statement(_ADVANCE.format(expected=_EXPECTED[False], known=known), events),
        "extend": _statement(_ADVANCE.format(expected=_EXPECTED[True], known=known), events),
    }


_APPEND_ONE = _statements(_ONE_EVENT, "= %(event_id)s::uuid")
_APPEND_MANY = _statements(_MANY_EVENTS, "= ANY (%(event_id)s::uuid[])")
_APPEND_EVENTS = """
    SELECT * FROM append_events(
        %s::timestamptz, %s::text[], %s::text[], %s::bigint[], %s::int[], %s::timestamptz[],
        %s::timestamptz[], %s::timestamptz[], %s::int[], %s::int[], %s::uuid[], %s::text[],
        %s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[],
        %s::timestamptz[])
"""
_WRITERS = """
    SELECT pg_is_in_recovery(), array(
        SELECT DISTINCT virtualtransaction FROM pg_locks
        WHERE locktype = 'relation' AND relation = 'events'::regclass
        AND mode = 'RowExclusiveLock' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""


class PostgreSQL:
    """See `Database`."""

    event_columns = f"position, {_COLUMNS}"

    def __init__(self, url: URL, *, read_only: bool = False) -> None:
        self.tables = tables.define(position_is_key=False)
        self.engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            pool_size=10,
            max_overflow=20,
            connect_args={"application_name": "hindsight"} | dict(url.query),
        )
        listen(self.engine, "connect", _prepare_connection)
        if read_only:
            listen(self.engine, "connect", _only_read)

    def bind(self, name: str) -> str:
        return f"%({name})s"

    def value(self, value: Any) -> Any:
        return value

    def rows(
        self, sql: str, parameters: Mapping[str, Any], connection: Connection | None = None
    ) -> list[TupleRow]:
        if connection is not None:
            with _foreign_cursor(connection) as cursor:
                return cursor.execute(sql, parameters).fetchall()

        def run() -> list[TupleRow]:
            with self._cursor() as cursor:
                return cursor.execute(sql, parameters).fetchall()

        return self._read_again_if_lost(run)

    def select(self, statement: Select[Any]) -> list[TupleRow]:
        def run() -> list[TupleRow]:
            try:
                with self.engine.connect() as connection:
                    return [tuple(row) for row in connection.execute(statement)]
            except DBAPIError as error:
                raise _named(error.orig) from error

        return self._read_again_if_lost(run)

    def _read_again_if_lost(self, read: Callable[[], list[TupleRow]]) -> list[TupleRow]:
        try:
            return read()
        except ConnectionLost:
            # A restart kills the whole pool at once; reading again changes nothing.
            self.engine.dispose()
        try:
            return read()
        except ConnectionLost as error:
            raise StoreUnavailable(f"connection lost while reading: {error}") from error

    def event(self, row: TupleRow) -> Event:
        return Event(
            position=row[0],
            version=row[1],
            occurred_at=row[2],
            recorded_at=row[3],
            event_id=row[4],
            event_version=row[5],
            schema_version=row[5],
            aggregate_id=row[6],
            aggregate_type=row[7],
            event_type=row[8],
            data=payload.decode(row[9]),
            metadata=payload.decode(row[10]),
            correlation_id=row[11],
            causation_id=row[12],
            actor=row[13],
            raw_data=row[9],
            raw_metadata=row[10],
            digest=row[14],
        )

    def insert(self, batch: Batch, clock: datetime | None) -> Inserted | Refused:
        with self._cursor() as cursor, _conflict_if_serialized(batch):
            if len(batch) == 1:
                return _insert_one(cursor, batch[0], clock)
            with cursor.connection.transaction() as transaction:
                outcome = _insert_many(cursor, batch, clock)
                if isinstance(outcome, Refused):
                    raise psycopg.Rollback(transaction)
            return outcome

    def load(self, batch: Batch, order: Sequence[int], clock: datetime | None) -> Refused | None:
        with self._cursor() as cursor:
            try:
                with cursor.connection.transaction():
                    return copy(cursor, batch, order, clock)
            except pg.UniqueViolation:
                pass  # a known id or a new head is in the way; the slow way tells which
        outcome = self.insert(batch, clock)
        return outcome if isinstance(outcome, Refused) else None

    def insert_within(
        self, connection: Connection, batch: Batch, clock: datetime | None
    ) -> Inserted | Refused:
        # The driver's own cursor skips SQLAlchemy, so that must be told a transaction began.
        if not connection.in_transaction():
            connection.begin()
        with _foreign_cursor(connection) as cursor, _conflict_if_serialized(batch):
            if len(batch) == 1:
                return _insert_one(cursor, batch[0], clock)
            cursor.execute("SAVEPOINT event_store_append")
            outcome = _insert_many(cursor, batch, clock)
            if isinstance(outcome, Refused):
                cursor.execute("ROLLBACK TO SAVEPOINT event_store_append")
            cursor.execute("RELEASE SAVEPOINT event_store_append")
            return outcome

    def last_position(self) -> int:
        # Not pg_sequences: that says NULL, not "permission denied", to a role without rights.
        [(last, called)] = self.rows("SELECT last_value, is_called FROM events_position_seq", {})
        return int(last) if called else 0

    def writers(self) -> frozenset[str]:
        [(is_replica, transactions)] = self.rows(_WRITERS, {})
        if is_replica:
            raise EventStoreError("a replica cannot see who writes; follow the primary")
        return frozenset(transactions)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            named = _named(error.orig)
            if isinstance(named, ConnectionLost):
                named = StoreUnavailable(f"no connection: {named}")
            raise named from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with (
            self.connect() as plain,
            plain.execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        pooled = self._checkout()
        connection: psycopg.Connection[TupleRow] = pooled.driver_connection  # type: ignore[assignment]
        try:
            with _translated(), connection.cursor(binary=True) as cursor:
                yield cursor
        except (ConnectionLost, KeyboardInterrupt, SystemExit) as error:
            # Also who is interrupted leaves a connection behind that is still at work.
            pooled.invalidate(error)
            raise
        finally:
            pooled.close()

    def _checkout(self) -> PoolProxiedConnection:
        try:
            return self.engine.raw_connection()
        except psycopg.Error as error:
            raise StoreUnavailable(f"no connection: {_first_line(error)}") from error


class _UtcLoader(Loader):
    """Times in UTC whatever zone the session is in: in some, the year 9999 has no last hours."""

    format = psycopg.pq.Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return _EPOCH + timedelta(microseconds=int.from_bytes(data, signed=True))


@contextmanager
def _foreign_cursor(connection: Connection) -> Iterator[Cursor]:
    """A cursor of our own kind on the caller's connection, in the caller's transaction."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise EventStoreError(
            f"the store is on PostgreSQL, the connection on {connection.dialect.name}"
        )
    if driver.autocommit:
        raise EventStoreError("the connection is in autocommit mode; begin a transaction")
    try:
        with _translated(), psycopg.Cursor(driver, row_factory=tuple_row) as cursor:
            cursor.adapters.register_loader("json", ByteaBinaryLoader)
            cursor.adapters.register_loader("timestamptz", _UtcLoader)
            cursor.format = psycopg.pq.Format.BINARY
            yield cursor
    except ConnectionLost as error:
        connection.invalidate(error)  # else SQLAlchemy would roll back where nobody listens
        raise StoreUnavailable(f"the transaction ended with its connection: {error}") from error


def _prepare_connection(connection: Any, _record: object) -> None:
    connection.adapters.register_loader("json", ByteaBinaryLoader)
    connection.execute("SET timezone TO 'UTC'")


def _only_read(connection: Any, _record: object) -> None:
    connection.execute("SET default_transaction_read_only TO on")
    connection.execute("SET statement_timeout TO '30s'")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _named(error) from error


def _named(error: BaseException | None) -> Exception:
    """The store's error for the driver's."""
    message = _first_line(error)
    match error:
        case pg.DeadlockDetected():
            return Deadlock(message)
        case pg.LockNotAvailable():
            return DatabaseBusy(message)
        case pg.UndefinedTable() | pg.UndefinedFunction() | pg.UndefinedColumn():
            return SchemaError(f"{message}; run: hindsight migrate")
        case pg.InsufficientPrivilege() | pg.ReadOnlySqlTransaction():
            return AccessDenied(message)
        case psycopg.OperationalError() | psycopg.InterfaceError() if _lost(error):
            return ConnectionLost(message)
    return EventStoreError(message)


def _lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone: the driver says so itself, or the server is going down."""
    if error.sqlstate is None:
        return True
    return error.sqlstate.startswith(("08", "57P"))


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _conflict_if_serialized(batch: Batch) -> Iterator[None]:
    """Above READ COMMITTED the database refuses a changed head itself, without telling more."""
    try:
        yield
    except pg.SerializationFailure as error:
        raise VersionConflict(
            aggregate_id=batch[0].aggregate_id, expected=batch[0].expected, actual=None
        ) from error


def _insert_one(
    cursor: Cursor, append: EncodedAppend, clock: datetime | None
) -> Inserted | Refused:
    return _insert_at_once(cursor, append, clock) or _insert_many(cursor, [append], clock)


def _insert_at_once(
    cursor: Cursor, append: EncodedAppend, clock: datetime | None
) -> Inserted | None:
    """The common case in one statement; None where it cannot be settled by that."""
    if append.events[0].recorded_at is not None:
        return None
    kind = {None: "extend", 0: "create"}.get(append.expected, "advance")
    several = len(append.events) > 1
    statement = (_APPEND_MANY if several else _APPEND_ONE)[kind]
    parameters = _head_parameters(append, clock) | (
        _event_columns(append.events) if several else _event_scalars(append)
    )
    rows = cursor.execute(statement, parameters).fetchall()
    if not rows:
        return None
    rows.sort()
    positions, recorded, versions, digests = zip(*rows, strict=True)
    return Inserted([versions[0] - 1], positions, [_utc(time) for time in recorded], digests)


def _head_parameters(append: EncodedAppend, clock: datetime | None) -> dict[str, Any]:
    occurred = [event.occurred_at for event in append.events]
    return {
        "id": append.aggregate_id,
        "type": append.aggregate_type,
        # Wrapped, for the driver would otherwise prepare one statement for each size of number.
        "expected": None if append.expected is None else Int8(append.expected),
        "count": Int8(len(append.events)),
        "first": min(occurred),
        "last": max(occurred),
        "clock": clock,
    }


def _event_scalars(append: EncodedAppend) -> dict[str, Any]:
    event = append.events[0]
    return {
        "event_id": event.event_id,
        "event_type": event.event_type,
        "event_version": Int4(event.event_version),
        "data": event.data.decode(),
        "metadata": event.metadata.decode(),
        "correlation": event.correlation_id,
        "causation": event.causation_id,
        "actor": event.actor,
        "occurred": event.occurred_at,
    }


def _event_columns(events: Sequence[EncodedEvent]) -> dict[str, Any]:
    return {
        "event_id": [event.event_id for event in events],
        "event_type": [event.event_type for event in events],
        "event_version": [Int4(event.event_version) for event in events],
        "data": [event.data.decode() for event in events],
        "metadata": [event.metadata.decode() for event in events],
        "correlation": [event.correlation_id for event in events],
        "causation": [event.causation_id for event in events],
        "actor": [event.actor for event in events],
        "occurred": [event.occurred_at for event in events],
    }


def _insert_many(cursor: Cursor, batch: Batch, clock: datetime | None) -> Inserted | Refused:
    heads = list(chain.from_iterable([i] * len(a.events) for i, a in enumerate(batch, start=1)))
    offsets = list(chain.from_iterable(range(1, len(a.events) + 1) for a in batch))
    events = list(chain.from_iterable(append.events for append in batch))
    recorded = [event.recorded_at for event in events]
    [row] = cursor.execute(
        _APPEND_EVENTS,
        [clock, *_heads(batch), heads, offsets, *_event_columns(events).values(), recorded],
    ).fetchall()
    types, versions, known_heads, known_ids, positions, times, digests = row
    if positions is not None:
        return Inserted(versions, positions, [_utc(time) for time in times], digests)
    known: list[set[Any]] = [set() for _ in batch]
    for head, event_id in zip(known_heads or (), known_ids or (), strict=True):
        known[head - 1].add(event_id)
    return Refused(types, versions, [frozenset(ids) for ids in known])


def _heads(batch: Batch) -> Sequence[list[Any]]:
    occurred = [[event.occurred_at for event in append.events] for append in batch]
    recorded = [
        max((e.recorded_at for e in append.events if e.recorded_at is not None), default=None)
        for append in batch
    ]
    return (
        [append.aggregate_id for append in batch],
        [append.aggregate_type for append in batch],
        [append.expected for append in batch],
        [len(append.events) for append in batch],
        [min(times) for times in occurred],
        [max(times) for times in occurred],
        recorded,
    )


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)
