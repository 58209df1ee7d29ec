"""PostgreSQL: its connections, errors and rows; how it appends is in `appending`."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, TypeVar, cast
from uuid import UUID

import psycopg
from msgspec.structs import asdict
from psycopg import errors as pg
from psycopg.rows import TupleRow, tuple_row
from sqlalchemy import URL, Connection, Select, TextualSelect, create_engine
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from store import tables
from store.database import adaption, appending
from store.database.archiving import VISIBLE, copy_back, copy_packs
from store.database.batch import Batch, ConnectionLost, Inserted, Refused
from store.database.claiming import (
    CLAIM_ON_POSTGRESQL,
    RENEW_ON_POSTGRESQL,
    SETTLE_ON_POSTGRESQL,
    TRIM_ON_POSTGRESQL,
    Claim,
    Claimed,
    Settlement,
    Taken,
    in_order,
)
from store.database.connections import MAX_OVERFLOW, POOL_SIZE, Connections
from store.database.copying import HeadArchived, copy
from store.database.prepared import Prepared
from store.errors import (
    AccessDenied,
    DatabaseBusy,
    Deadlock,
    EventStoreError,
    SchemaError,
    StatementTimeout,
    StoreUnavailable,
    VersionConflict,
)
from store.packs import Pack
from store.records import Event, EventHeader, Holder

T = TypeVar("T")
_NAMED = re.compile(r"%\((\w+)\)s")
_APPENDING = "appending"
"""Where a pooled connection keeps its cursor for appends."""
_READING = "reading"
"""And that for reads, which costs a read from a snapshot a tenth less than a new one."""
_PREPARED = "prepared"
"""And its statements for what is answered at once."""
_FEW = 64
"""A cursor keeps its last answer; one with more rows is not kept waiting for the next read."""

_EVENT_COLUMNS = f"position, {appending.COLUMNS}"
_CLAIM = CLAIM_ON_POSTGRESQL.format(
    columns=", ".join(f"e.{column}" for column in _EVENT_COLUMNS.split(", "))
)
_WRITERS = """
    SELECT pg_is_in_recovery(), array(
        SELECT DISTINCT virtualtransaction FROM pg_locks
        WHERE locktype = 'relation' AND relation = 'events'::regclass
        AND mode = 'RowExclusiveLock' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""

_OLDEST = """
    SELECT held.pid, coalesce(activity.xact_start, prepared.prepared) AS since
    FROM (
        SELECT virtualtransaction, pid, array_agg(transactionid) AS ids,
            max(age(transactionid)) AS age
        FROM pg_locks WHERE virtualtransaction = ANY (%(writers)s) AND granted
        GROUP BY virtualtransaction, pid
    ) AS held
    LEFT JOIN pg_stat_activity AS activity ON activity.pid = held.pid
    LEFT JOIN pg_prepared_xacts AS prepared ON prepared.transaction = ANY (held.ids)
    ORDER BY since NULLS LAST, held.age DESC NULLS LAST LIMIT 1
"""
# An append locks its head before it draws a position, so it has its transaction id by then: what
# was drawn before the oldest of the ids was given is none of theirs. Who else wrote behind a
# position, having an older id, was either done by then or one of the few that were open at once.
_FIRST_ID = """
    SELECT coalesce(
        (SELECT transactionid FROM pg_locks
            WHERE virtualtransaction = ANY (%(writers)s) AND locktype = 'transactionid'
            AND mode = 'ExclusiveLock' AND granted ORDER BY age(transactionid) DESC LIMIT 1),
        pg_snapshot_xmax(pg_current_snapshot())::xid
    )::text, current_setting('max_connections')::int
        + current_setting('max_prepared_transactions')::int
"""
_DRAWN_BEFORE = """
    WITH newest AS MATERIALIZED (
        SELECT position, xmin AS writer, age(xmin) > age(%(first)s::text::xid) AS is_older
        FROM events ORDER BY position DESC LIMIT %(size)s
    )
    SELECT
        (SELECT max(position) FROM newest WHERE is_older
            GROUP BY writer ORDER BY 1 DESC OFFSET %(open)s LIMIT 1),
        (SELECT position FROM newest WHERE is_older
            ORDER BY position DESC OFFSET %(rows)s LIMIT 1),
        (SELECT count(*) FROM newest)
"""
READ_LIMIT = 30.0
"""Seconds that a reader's statement may take: a long one keeps dead rows from being removed."""
OLDER_ROWS = 100_000
"""More than a transaction draws between two others, an import's batch included."""

_CHANNEL = "event_store_outbox"
_ATTENTION = 0.2
"""Seconds until one who waits for a notification looks whether to stop."""
_CONNECTING = {"application_name": "hindsight"}
# Who may wait a short time only must not wait longer for a server that does not answer at all.
_WATCHED = {"connect_timeout": 2, "tcp_user_timeout": 2_000}

_BYTES_USED = """
    SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint FROM pg_class
    JOIN pg_namespace ON pg_namespace.oid = relnamespace AND nspname = current_schema()
    WHERE relname = ANY(%(tables)s) OR pg_class.oid IN (
        SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events_archive'::regclass
    )
"""


class PostgreSQL:
    """See `Database`."""

    is_remote = True
    now = "statement_timestamp()"
    event_columns = _EVENT_COLUMNS
    header_columns = f"{', '.join(EventHeader.__struct_fields__)}, data"

    def __init__(self, url: URL, *, read_only: bool, time_limit: float | None) -> None:
        self.tables = tables.define(position_is_key=False)
        self.engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            pool_size=POOL_SIZE,
            max_overflow=MAX_OVERFLOW,
            # Nothing to roll back: who begins a transaction here ends it before going.
            pool_reset_on_return=None,
            connect_args=_CONNECTING | (_WATCHED if time_limit else {}) | dict(url.query),
        )
        listen(self.engine, "connect", _prepare_connection)
        self.connections = Connections(self.engine)
        if read_only:
            listen(self.engine, "connect", _only_read)
            time_limit = time_limit or READ_LIMIT
        if time_limit is not None:
            listen(self.engine, "connect", partial(_limit_statements, time_limit))

    def bind(self, name: str) -> str:
        return f"%({name})s"

    def value(self, value: Any) -> Any:
        return value

    def json(self, column: str) -> str:
        return column

    def size(self, column: str) -> str:
        return f"octet_length({column}::text)"

    def microseconds(self, column: str) -> str:
        return f"(extract(epoch FROM {column}) * 1000000)::bigint"

    def rows(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        connection: Connection | None = None,
        *,
        at_once: bool = False,
    ) -> list[TupleRow]:
        if connection is not None:
            with _foreign(connection) as driver:
                cursor = psycopg.Cursor(driver, row_factory=tuple_row)
                adaption.register_foreign(cursor)
                return cursor.execute(sql, parameters, binary=True).fetchall()

        query, names = _positional(sql)
        values = [parameters[name] for name in names]

        def run(pooled: PoolProxiedConnection) -> list[TupleRow]:
            if at_once and (found := pooled.info[_PREPARED].rows(query, values)) is not None:
                return cast("list[TupleRow]", found)
            cursor: appending.Cursor = pooled.info[_READING]
            rows = cursor.execute(query, values).fetchall()
            if len(rows) > _FEW:
                pooled.info[_READING] = appending.open_cursor(cursor.connection)
            return rows

        return self._read_again_if_lost(lambda: self._run(run))

    def commits(self) -> None:
        """To ask for it would take as long as any query."""

    def select(self, statement: Select[Any] | TextualSelect) -> list[TupleRow]:
        def run() -> list[TupleRow]:
            try:
                with self.connections.connect() as connection:
                    return [tuple(row) for row in connection.execute(statement).all()]
            except DBAPIError as error:
                raise _named(error.orig) from error

        return self._read_again_if_lost(run)

    def _read_again_if_lost(self, read: Callable[[], list[TupleRow]]) -> list[TupleRow]:
        try:
            return read()
        except ConnectionLost:
            # A restart kills the whole pool at once; reading again changes nothing.
            self.connections.close()
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
            correlation_id=row[11],
            causation_id=row[12],
            actor=row[13],
            raw_data=row[9],
            raw_metadata=row[10],
            digest=row[14],
        )

    def header(self, row: TupleRow) -> EventHeader:
        return EventHeader(*row[:-1])

    def pack(self, row: TupleRow) -> Pack:
        return Pack(
            aggregate_id=row[0],
            first_version=row[1],
            last_version=row[2],
            last_position=row[3],
            recorded_at=row[4],
            event_ids=b"".join(event_id.bytes for event_id in row[5]),
            digest=bytes(row[6]),
            events=bytes(row[7]),
        )

    def contains(self, column: str, name: str) -> str:
        return f"position(%({name})s::bytea IN {column}) > 0"

    def among(self, column: str, name: str) -> str:
        return f"{column} = ANY (%({name})s)"

    def listed(self, values: Sequence[str] | Sequence[int] | Sequence[UUID]) -> Any:
        return list(values)

    @contextmanager
    def archiving(self, *, patience: float) -> Iterator[Connection]:
        with self.transaction() as connection:
            self.rows(
                "SELECT set_config('event_store.archiving', 'on', true),"
                " set_config('lock_timeout', %(patience)s, true)",
                {"patience": f"{round(1_000 * patience)}ms"},
                connection,
            )
            yield connection

    def insert_packs(self, connection: Connection, packs: Sequence[Pack]) -> None:
        with _foreign(connection) as driver:
            copy_packs(driver.cursor(binary=True), packs)

    def put_back(self, connection: Connection, events: Sequence[Event]) -> None:
        with _foreign(connection) as driver:
            copy_back(driver.cursor(binary=True), events)

    def insert(self, batch: Batch, clock: datetime | None, *, publish: bool) -> Inserted | Refused:
        def run(pooled: PoolProxiedConnection) -> Inserted | Refused:
            return appending.insert(pooled.info[_APPENDING], batch, clock, publish=publish)

        return self._run(run, batch)

    def load(
        self,
        batch: Batch,
        order: Sequence[int],
        clock: datetime | None,
        meanwhile: Callable[[], None],
    ) -> Refused | None:
        def run(pooled: PoolProxiedConnection) -> Refused | None:
            cursor: appending.Cursor = pooled.info[_APPENDING]
            try:
                with cursor.connection.transaction():
                    copier = cursor.connection.cursor(binary=True)
                    return copy(copier, batch, order, clock, meanwhile)
            except (pg.UniqueViolation, HeadArchived):
                # A known id or a new head is in the way; the slow way tells which.
                outcome = appending.insert(cursor, batch, clock, publish=False)
                return outcome if isinstance(outcome, Refused) else None

        return self._run(run, batch)

    def insert_within(
        self, connection: Connection, batch: Batch, clock: datetime | None, *, publish: bool
    ) -> Inserted | Refused:
        # The driver's own cursor skips SQLAlchemy, so that must be told a transaction began.
        if not connection.in_transaction():
            connection.begin()
        with _foreign(connection, batch) as driver:
            return appending.insert_within(driver, batch, clock, publish=publish)

    def claim(self, claim: Claim) -> Sequence[Taken]:
        rows = self.rows(_CLAIM, asdict(claim))
        return in_order(
            Taken(row[0], row[1], row[2], None if row[3] is None else self.event(row[3:]))
            for row in rows
        )

    def renew(self, claim: Claim, claimed: Sequence[Claimed]) -> None:
        columns = {
            "aggregate_ids": [each.event.aggregate_id for each in claimed],
            "versions": [each.event.version for each in claimed],
        }
        given = {"lease": claim.lease, "seconds": claim.seconds, "now": claim.now}
        self.rows(RENEW_ON_POSTGRESQL, given | columns)

    def settle(
        self, lease: UUID, settlements: Sequence[Settlement], now: datetime | None
    ) -> frozenset[tuple[str, int]]:
        columns = {
            "aggregate_ids": [each.aggregate_id for each in settlements],
            "versions": [each.version for each in settlements],
            "statuses": [each.status for each in settlements],
            "opens": [each.is_open for each in settlements],
            "attempts": [each.attempts for each in settlements],
            "delays": [each.delay for each in settlements],
            "errors": [each.error for each in settlements],
        }
        rows = self.rows(SETTLE_ON_POSTGRESQL, {"lease": lease, "now": now, **columns})
        return frozenset((aggregate_id, version) for aggregate_id, version in rows)

    def trim(self, seconds: float, *, limit: int) -> int:
        [(trimmed,)] = self.rows(TRIM_ON_POSTGRESQL, {"seconds": seconds, "limit": limit})
        return int(trimmed)

    def notify(self) -> None:
        self.rows(f"SELECT pg_notify('{_CHANNEL}', '')", {})

    @contextmanager
    def listen(self) -> Iterator["_Listener"]:
        pooled = self._checkout()
        # The pool would hand it on, listening.
        driver: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
        pooled.detach()
        try:
            driver.execute(f"LISTEN {_CHANNEL}")
            yield _Listener(driver)
        except psycopg.Error as error:
            raise StoreUnavailable(f"no connection: {_first_line(error)}") from error
        finally:
            driver.close()

    def last_position(self) -> int:
        # Not pg_sequences: that says NULL, not "permission denied", to a role without rights.
        [(last, called)] = self.rows("SELECT last_value, is_called FROM events_position_seq", {})
        return int(last) if called else 0

    def writers(self) -> frozenset[str]:
        [(is_replica, transactions)] = self.rows(_WRITERS, {})
        if is_replica:
            raise EventStoreError("a replica cannot see who writes; follow the primary")
        return frozenset(transactions)

    def oldest(self, writers: frozenset[str]) -> Holder | None:
        found = self.rows(_OLDEST, {"writers": list(writers)})
        return Holder(pid=found[0][0], since=found[0][1]) if found else None

    def drawn_before(self, writers: frozenset[str]) -> int:
        [(first, open_at_once)] = self.rows(_FIRST_ID, {"writers": list(writers)})
        # A savepoint has an id of its own.
        bounds = {"first": first, "open": 2 * open_at_once, "rows": OLDER_ROWS}
        size = 2_000
        while True:
            [(by_writers, by_rows, looked_at)] = self.rows(_DRAWN_BEFORE, bounds | {"size": size})
            if by_writers is not None or by_rows is not None:
                return int(max(by_writers or 0, by_rows or 0))
            if looked_at < size:
                return 0
            size *= 4

    def visible_position(self) -> int:
        [(last,)] = self.rows(VISIBLE, {})
        return int(last)

    def bytes_used(self) -> int:
        [(used,)] = self.rows(_BYTES_USED, {"tables": list(self.tables.tables)})
        return int(used)

    def bytes_of(self, table: str, *, at_once: bool = False) -> int | None:
        del at_once  # it always is
        sql = """
            SELECT (pg_total_relation_size(%(table)s::text::regclass) + coalesce(sum(
                pg_total_relation_size(inhrelid)
            ), 0))::bigint FROM pg_inherits WHERE inhparent = %(table)s::text::regclass
        """
        [(used,)] = self.rows(sql, {"table": table})
        return int(used)

    def estimated_rows(self, table: str) -> int | None:
        sql = "SELECT reltuples::bigint FROM pg_class WHERE oid = %(table)s::text::regclass"
        [(rows,)] = self.rows(sql, {"table": table})
        return int(rows) if rows >= 0 else None

    def is_replica(self) -> bool:
        [(is_replica,)] = self.rows("SELECT pg_is_in_recovery()", {})
        return bool(is_replica)

    def place(self) -> str:
        # A copy of the whole server has its identifier, but was not started at the same moment.
        [(place,)] = self.rows(
            "SELECT oid::text || ' ' || extract(epoch FROM pg_postmaster_start_time())::text"
            " FROM pg_database WHERE datname = current_database()",
            {},
        )
        return str(place)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        try:
            with self.connections.connect() as connection:
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

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        options: dict[str, Any] = {
            "isolation_level": "REPEATABLE READ",
            "postgresql_readonly": True,
        }
        with (
            self.connect() as plain,
            plain.execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    def close(self) -> None:
        self.connections.close()

    def _run(self, action: Callable[[PoolProxiedConnection], T], batch: Batch = ()) -> T:
        pooled = self._checkout()
        try:
            return action(pooled)
        except psycopg.Error as error:
            named = _named(error, batch)
            if isinstance(named, ConnectionLost):
                pooled.invalidate(error)
            raise named from error
        except (KeyboardInterrupt, SystemExit) as error:
            # Who is interrupted leaves a connection behind that is still at work.
            pooled.invalidate(error)
            raise
        finally:
            self.connections.give_back(pooled)

    def _checkout(self) -> PoolProxiedConnection:
        try:
            return self.connections.take()
        except psycopg.Error as error:
            raise StoreUnavailable(f"no connection: {_first_line(error)}") from error
        except DBAPIError as error:
            # The toolkit asks the first connection what server that is.
            raise StoreUnavailable(f"no connection: {_first_line(error.orig)}") from error


class _Listener:
    """See `Listener`."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self._driver = driver

    def wait(self, seconds: float, stop: threading.Event) -> None:
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            # Several that wait already are one.
            for _ in self._driver.notifies(timeout=min(left, _ATTENTION), stop_after=1):
                return


@contextmanager
def _foreign(connection: Connection, batch: Batch = ()) -> Iterator[psycopg.Connection[Any]]:
    """The driver's connection below the caller's, in the caller's transaction."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise EventStoreError(
            f"the store is on PostgreSQL, the connection on {connection.dialect.name}"
        )
    if driver.autocommit:
        raise EventStoreError("the connection is in autocommit mode; begin a transaction")
    try:
        yield driver
    except psycopg.Error as error:
        named = _named(error, batch)
        if not isinstance(named, ConnectionLost):
            raise named from error
        connection.invalidate(error)  # else SQLAlchemy would roll back where nobody listens
        raise StoreUnavailable(f"the transaction ended with its connection: {named}") from error


@lru_cache(512)
def _positional(sql: str) -> tuple[bytes, tuple[str, ...]]:
    """The query with numbers for its named parameters, and their names in that order."""
    names = tuple(dict.fromkeys(_NAMED.findall(sql)))
    numbers = {name: f"${number}" for number, name in enumerate(names, start=1)}
    query = _NAMED.sub(lambda found: numbers[found[1]], sql)
    return query.replace("%%", "%").encode(), names


def _prepare_connection(connection: Any, record: ConnectionPoolEntry) -> None:
    adaption.register_own(connection)
    record.info[_APPENDING] = appending.open_cursor(connection)
    record.info[_READING] = appending.open_cursor(connection)
    record.info[_PREPARED] = Prepared(connection)
    connection.execute("SET timezone TO 'UTC'")


def _only_read(connection: Any, _record: object) -> None:
    connection.execute("SET default_transaction_read_only TO on")


def _limit_statements(seconds: float, connection: Any, _record: object) -> None:
    connection.execute(f"SET statement_timeout TO {round(1_000 * seconds)}")


_NAMES: tuple[tuple[type[EventStoreError], tuple[type[psycopg.Error], ...]], ...] = (
    (Deadlock, (pg.DeadlockDetected,)),
    (DatabaseBusy, (pg.LockNotAvailable,)),
    (StatementTimeout, (pg.QueryCanceled,)),
    (AccessDenied, (pg.InsufficientPrivilege, pg.ReadOnlySqlTransaction)),
)
_NOT_OURS = (pg.UndefinedTable, pg.UndefinedFunction, pg.UndefinedColumn)


def _named(error: BaseException | None, batch: Batch = ()) -> Exception:
    """The store's error for the driver's; `batch` is what was being appended."""
    message = _first_line(error)
    if isinstance(error, pg.SerializationFailure) and batch:
        # Above READ COMMITTED the database refuses a changed head itself, and tells no more.
        first = batch[0]
        return VersionConflict(
            aggregate_id=first.aggregate_id, expected=first.expected, actual=None
        )
    if isinstance(error, _NOT_OURS):
        return SchemaError(f"{message}; run: hindsight migrate")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and _lost(error):
        return ConnectionLost(message)
    if isinstance(error, pg.FeatureNotSupported) and "cached plan" in message:
        # The table has other columns by now: a new connection has no plans of before.
        return ConnectionLost(message)
    for named, causes in _NAMES:
        if isinstance(error, causes):
            return named(message)
    return EventStoreError(message)


def _lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone: the driver says so itself, or the server is going down."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _first_line(error: BaseException | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
