"""SQLite: one writer at a time, in WAL mode, every commit synced."""

import platform
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from msgspec import convert, json
from msgspec.structs import astuple
from sqlalchemy import URL, Connection, Engine, Select, TextualSelect, create_engine
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from store import tables
from store.database.archiving import INSERT_PACK, MARK_HEAD, PUT_BACK, VISIBLE
from store.database.batch import Batch, EncodedAppend, Inserted, Refused
from store.database.claiming import (
    CLAIM_ON_SQLITE,
    RENEW_ON_SQLITE,
    SETTLE_ON_SQLITE,
    TRIM_ON_SQLITE,
    Claim,
    Claimed,
    Settlement,
    Taken,
    in_order,
)
from store.database.connections import MAX_OVERFLOW, POOL_SIZE, Connections
from store.errors import (
    AccessDenied,
    DatabaseBusy,
    EventStoreError,
    InvalidSource,
    SchemaError,
    StatementTimeout,
    StoreUnavailable,
)
from store.packs import Pack, each_id
from store.records import Event, EventHeader, Holder
from store.tables import moment_text

T = TypeVar("T")
_Head: TypeAlias = tuple[str | None, int, str, int]
"""Type, version, when the last event was recorded, what is archived; no type where nothing is."""

MINIMUM_SQLITE = (3, 40, 0)
BUSY_TIMEOUT = 30.0
"""Seconds to wait for another writer."""

_UNNOTICED = 0.1
"""Seconds for which what another process has written goes unnoticed: to look is microseconds."""
_ATTENTION = 0.05
"""Seconds until one who waits for a notification looks whether to stop."""
_STEPS = 100_000
"""Of SQLite's machine between two looks at the clock: some milliseconds."""

_INSERT = """
    INSERT INTO events (
        version, occurred_at, recorded_at, event_id, event_version, aggregate_id, aggregate_type,
        event_type, data, metadata, correlation_id, causation_id, actor, digest
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# Nobody else is writing: what lies behind the first position is of this append.
_NOTE = """
    INSERT INTO outbox (aggregate_id, version, position, event_id, created_at)
    SELECT aggregate_id, version, position, event_id, recorded_at FROM events WHERE position >= ?
"""
_HEAD = """
    SELECT aggregate_type, version, last_recorded_at, archived_through FROM aggregates
    WHERE aggregate_id = ?
"""
_KNOWN = """
    SELECT event_id FROM events
    WHERE aggregate_id = ? AND event_id IN (SELECT value FROM json_each(?))
"""
_COMMITS = "PRAGMA data_version"
_ARCHIVED = "SELECT event_ids FROM events_archive WHERE aggregate_id = ?"
_VERSION = "SELECT version FROM aggregates WHERE aggregate_id = ?"
_CREATE = "INSERT INTO aggregates VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING"
_ADVANCE_FROM = """
    UPDATE aggregates SET version = ?, first_occurred_at = min(first_occurred_at, ?),
        last_occurred_at = max(last_occurred_at, ?), last_recorded_at = max(last_recorded_at, ?)
    WHERE aggregate_id = ? AND aggregate_type = ? AND version = ?
    RETURNING last_recorded_at, archived_through
"""
_ADVANCE = """
    UPDATE aggregates SET version = ?, first_occurred_at = min(first_occurred_at, ?),
        last_occurred_at = max(last_occurred_at, ?), last_recorded_at = max(last_recorded_at, ?)
    WHERE aggregate_id = ?
"""


class SQLite:
    """See `Database`."""

    is_remote = False
    # It tells milliseconds; times have a fixed width.
    now = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')"
    event_columns = (
        "position, version, occurred_at, recorded_at, event_id, event_version, aggregate_id,"
        " aggregate_type, event_type, CAST(data AS BLOB), CAST(metadata AS BLOB), correlation_id,"
        " causation_id, actor, digest"
    )
    header_columns = f"{', '.join(EventHeader.__struct_fields__)}, data"

    def __init__(self, url: URL, *, read_only: bool, time_limit: float | None) -> None:
        if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
            raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old; 3.40 is needed")
        self.tables = tables.define(position_is_key=True)
        self._turn = threading.Lock()
        self._notices = _notices_of(str(Path(url.database or "").resolve()))
        self.engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_size=POOL_SIZE,
            max_overflow=MAX_OVERFLOW,
            # Nothing to roll back: who begins a transaction here ends it before going.
            pool_reset_on_return=None,
            connect_args={"timeout": 0, "check_same_thread": False, "cached_statements": 256},
        )
        listen(self.engine, "connect", _prepare_connection)
        self.connections = Connections(self.engine)
        self._commits = _Commits(self.engine)
        if read_only:
            listen(self.engine, "connect", _only_read)
        if time_limit is not None:
            listen(self.engine, "connect", partial(_limit_statements, time_limit))

    def bind(self, name: str) -> str:
        return f":{name}"

    def value(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return moment_text(value)
        if isinstance(value, int):  # a bound beyond what SQLite counts to is as good as the last
            return max(-(2**63), min(value, 2**63 - 1))
        return str(value) if isinstance(value, UUID) else value

    def json(self, column: str) -> str:
        return f"CAST({column} AS BLOB)"

    def size(self, column: str) -> str:
        return f"length({self.json(column)})"

    def microseconds(self, column: str) -> str:
        # SQLite's own reading of a fraction rounds to milliseconds.
        return f"(unixepoch(substr({column}, 1, 19)) * 1000000 + substr({column}, 21, 6))"

    def rows(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        connection: Connection | None = None,
        *,
        at_once: bool = False,
    ) -> list[tuple[Any, ...]]:
        del at_once  # each is
        if connection is not None:
            with _translated():
                return _own_driver(connection).execute(sql, parameters).fetchall()
        return self._run(
            lambda driver: _patiently(lambda: driver.execute(sql, parameters).fetchall())
        )

    def commits(self) -> int | None:
        return self._commits.number()

    def select(self, statement: Select[Any] | TextualSelect) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            with self.connections.connect() as connection:
                return [tuple(row) for row in connection.execute(statement).all()]

        return _patiently(run)

    def event(self, row: tuple[Any, ...]) -> Event:
        return Event(
            position=row[0],
            version=row[1],
            occurred_at=datetime.fromisoformat(row[2]),
            recorded_at=datetime.fromisoformat(row[3]),
            event_id=convert(row[4], UUID),  # a third of what UUID itself takes
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

    def header(self, row: tuple[Any, ...]) -> EventHeader:
        position, version, occurred_at, recorded_at, *rest, _ = row
        moments = datetime.fromisoformat(occurred_at), datetime.fromisoformat(recorded_at)
        return EventHeader(position, version, *moments, *rest)

    def pack(self, row: tuple[Any, ...]) -> Pack:
        return Pack(
            aggregate_id=row[0],
            first_version=row[1],
            last_version=row[2],
            last_position=row[3],
            recorded_at=datetime.fromisoformat(row[4]),
            event_ids=row[5],
            digest=row[6],
            events=row[7],
        )

    def contains(self, column: str, name: str) -> str:
        return f"instr({column}, :{name}) > 0"

    def among(self, column: str, name: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(:{name}))"  # noqa: S608 (placeholders)

    def listed(self, values: Sequence[str] | Sequence[int] | Sequence[UUID]) -> Any:
        return json.encode(values).decode()

    @contextmanager
    def archiving(self, *, patience: float) -> Iterator[Connection]:
        del patience  # nobody waits longer for the only writer than `BUSY_TIMEOUT`
        with self.transaction() as connection:
            driver = _own_driver(connection)
            driver.create_function("event_store_archiving", 0, lambda: 1)
            try:
                yield connection
            finally:
                driver.create_function("event_store_archiving", 0, lambda: 0)

    def insert_packs(self, connection: Connection, packs: Sequence[Pack]) -> None:
        driver = _own_driver(connection)
        driver.executemany(MARK_HEAD, [(pack.last_version, pack.aggregate_id) for pack in packs])
        driver.executemany(
            INSERT_PACK,
            [(*values[:4], moment_text(values[4]), *values[5:]) for values in map(astuple, packs)],
        )

    def put_back(self, connection: Connection, events: Sequence[Event]) -> None:
        _own_driver(connection).executemany(PUT_BACK, map(_row_of, events))

    def insert(self, batch: Batch, clock: datetime | None, *, publish: bool) -> Inserted | Refused:
        return self._write(lambda driver: _insert_alone(driver, batch, clock, publish=publish))

    def load(
        self,
        batch: Batch,
        order: Sequence[int],
        clock: datetime | None,
        meanwhile: Callable[[], None],
    ) -> Refused | None:
        del meanwhile  # SQLite works in this thread; there is nothing to wait for
        outcome = self._write(lambda driver: _insert_alone(driver, batch, clock, order))
        return outcome if isinstance(outcome, Refused) else None

    def insert_within(
        self, connection: Connection, batch: Batch, clock: datetime | None, *, publish: bool
    ) -> Inserted | Refused:
        driver = _own_driver(connection)
        # The driver's own cursor skips SQLAlchemy, so that must be told a transaction began.
        if not connection.in_transaction():
            connection.begin()
        with _translated():
            if not driver.in_transaction:
                if driver.isolation_level is None:
                    raise EventStoreError(
                        "the connection is in autocommit mode; begin a transaction"
                    )
                _patiently(lambda: driver.execute("BEGIN IMMEDIATE"))
            refused = _refused(driver, batch)
            if any(refused.known):
                return refused
            return _insert(driver, batch, clock, publish=publish)

    def claim(self, claim: Claim) -> Sequence[Taken]:
        if not self.rows("SELECT 1 FROM outbox WHERE open LIMIT 1", {}):
            return ()  # who only looks need not wait for who writes
        now = claim.now or datetime.now(UTC)
        parameters = {
            "after": claim.after,
            "now": moment_text(now),
            "heads": claim.heads,
            "run": claim.run,
            "lease": str(claim.lease),
            "by": claim.by,
            "until": moment_text(now + timedelta(seconds=claim.seconds)),
        }

        def run(driver: sqlite3.Connection) -> Sequence[Taken]:
            with _immediate(driver):
                taken = driver.execute(CLAIM_ON_SQLITE, parameters).fetchall()
            # What was written is there for good: it may be read behind the transaction.
            wanted = (json.encode([position for position, *_ in taken]).decode(),)
            rows = driver.execute(
                f"SELECT {self.event_columns} FROM events WHERE position IN"  # noqa: S608 (columns)
                " (SELECT value FROM json_each(?))",
                wanted,
            )
            events = {event.position: event for event in map(self.event, rows)}
            return in_order(
                Taken(attempt, aggregate_id, version, events.get(position))
                for position, attempt, aggregate_id, version in taken
            )

        return self._write(run)

    def renew(self, claim: Claim, claimed: Sequence[Claimed]) -> None:
        until = (claim.now or datetime.now(UTC)) + timedelta(seconds=claim.seconds)
        rows = [
            (moment_text(until), each.event.aggregate_id, each.event.version, str(claim.lease))
            for each in claimed
        ]

        def run(driver: sqlite3.Connection) -> None:
            with _immediate(driver):
                driver.executemany(RENEW_ON_SQLITE, rows)

        self._write(run)

    def settle(
        self, lease: UUID, settlements: Sequence[Settlement], now: datetime | None
    ) -> frozenset[tuple[str, int]]:
        moment = now or datetime.now(UTC)

        def settle(driver: sqlite3.Connection, each: Settlement) -> bool:
            due = None if each.delay is None else moment + timedelta(seconds=each.delay)
            parameters = {
                "status": each.status,
                "open": each.is_open,
                "attempts": each.attempts,
                "next_attempt_at": due and moment_text(due),
                "now": moment_text(moment),
                "error": each.error,
                "aggregate_id": each.aggregate_id,
                "version": each.version,
                "lease": str(lease),
            }
            return driver.execute(SETTLE_ON_SQLITE, parameters).rowcount == 1

        def run(driver: sqlite3.Connection) -> frozenset[tuple[str, int]]:
            with _immediate(driver):
                held = [each for each in settlements if settle(driver, each)]
            return frozenset((each.aggregate_id, each.version) for each in held)

        return self._write(run)

    def trim(self, seconds: float, *, limit: int) -> int:
        before = moment_text(datetime.now(UTC) - timedelta(seconds=seconds))
        parameters = {"before": before, "limit": limit}
        return self._write(lambda driver: _trim(driver, parameters))

    def notify(self) -> None:
        self._notices.add()

    @contextmanager
    def listen(self) -> Iterator["_Listener"]:
        yield _Listener(self._notices)

    def last_position(self) -> int:
        return self.visible_position()

    def writers(self) -> frozenset[str]:
        """Nobody: with one writer, positions become visible in the order they are drawn."""
        return frozenset()

    def oldest(self, writers: frozenset[str]) -> Holder | None:
        del writers  # there are none
        return None

    def drawn_before(self, writers: frozenset[str]) -> int:
        del writers
        return self.visible_position()

    def visible_position(self) -> int:
        [(last,)] = self.rows(VISIBLE, {})
        return int(last)

    def bytes_used(self) -> int:
        sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        [(used,)] = self.rows(sql, {})
        return int(used)

    def bytes_of(self, table: str, *, at_once: bool = False) -> int | None:
        if at_once:
            return None  # each page of the table is looked at
        sql = """
            SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 AND name IN (
                SELECT name FROM sqlite_master WHERE tbl_name = :table
            )
        """
        try:
            [(used,)] = self.rows(sql, {"table": table})
        except SchemaError:
            return None  # SQLite may be built without that table
        return int(used or 0)

    def estimated_rows(self, table: str) -> int | None:
        del table
        return None

    def is_replica(self) -> bool:
        return False

    def place(self) -> str:
        found = Path(self.engine.url.database or "").stat()
        return f"{platform.node()} {found.st_dev} {found.st_ino}"

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        try:
            with self.connections.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise _named(error.orig) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with (
            self.connect() as connection,
            _translated(),
            _immediate(_own_driver(connection)),
        ):
            # Nothing to the driver; who finds a transaction begun commits none of its own.
            connection.begin()
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        with (
            self.connect() as connection,
            _translated(),
            _unchanging(_own_driver(connection)),
        ):
            connection.begin()
            yield connection

    def close(self) -> None:
        self._commits.close()
        self.connections.close()

    def _write(self, action: Callable[[sqlite3.Connection], T]) -> T:
        # Polled as the file's lock is, at less cost. A queue would serve first who has waited
        # longest, and so expects the oldest version.
        deadline = time.monotonic() + BUSY_TIMEOUT
        while not self._turn.acquire(blocking=False):
            _pause_before(deadline)
        try:
            return self._run(action)
        finally:
            self._turn.release()

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        pooled = self._checkout()
        try:
            return action(pooled.driver_connection)  # type: ignore[arg-type]
        except sqlite3.Error as error:
            raise _named(error) from error
        finally:
            self.connections.give_back(pooled)

    def _checkout(self) -> PoolProxiedConnection:
        try:
            return self.connections.take()
        except sqlite3.Error as error:
            raise _named(error) from error


class _Commits:
    """Asks SQLite whether anybody has committed. Safe to share between threads.

    On a connection of its own that never writes: SQLite counts what others have committed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # Who is interrupted to collect garbage may have to close a store.
        self._asking = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def number(self) -> int | None:
        """See `Database.commits`; who finds another thread asking does not wait for it."""
        if not self._asking.acquire(blocking=False):
            return None
        try:
            if self._connection is None:
                self._connection = self._connect()
            [(number,)] = self._connection.execute(_COMMITS).fetchall()
            return int(number)
        except sqlite3.Error:
            return None  # as where the file is locked; who queries waits for that, or is told
        finally:
            self._asking.release()

    def _connect(self) -> sqlite3.Connection:
        dialect = self._engine.dialect
        place, options = dialect.create_connect_args(self._engine.url)
        given = {**options, "timeout": 0, "check_same_thread": False}
        return dialect.connect(*place, **given)  # type: ignore[return-value]

    def close(self) -> None:
        with self._asking:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class _Notices:
    """How often this process has been told that somebody wrote. Safe to share between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def add(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def beyond(self, known: int, seconds: float) -> int:
        """How many there are: more than `known`, or so many seconds are over."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > known, seconds)
            return self._count


@cache
def _notices_of(path: str) -> _Notices:
    del path  # each has its own
    return _Notices()


class _Listener:
    """See `Listener`."""

    def __init__(self, notices: _Notices) -> None:
        self._notices = notices
        self._known = notices.beyond(-1, 0)

    def wait(self, seconds: float, stop: threading.Event) -> None:
        deadline = time.monotonic() + min(seconds, _UNNOTICED)
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            known = self._notices.beyond(self._known, min(left, _ATTENTION))
            if known > self._known:
                self._known = known
                return


def require_file(url: URL) -> None:
    """Opening an absent file would create an empty one; a reader wants to be told instead."""
    if not url.database or url.database == ":memory:" or not Path(url.database).is_file():
        raise SchemaError(f"no event store in {url.database or 'memory'}; run: hindsight migrate")


def ensure_folder(url: URL) -> None:
    """Make the folder a new file goes to."""
    if not url.database or url.database == ":memory:":
        raise InvalidSource("an event store needs a file: sqlite:///PATH")
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSource(f"{folder}: {error.strerror}") from None


def _trim(driver: sqlite3.Connection, parameters: Mapping[str, Any]) -> int:
    with _immediate(driver):
        return driver.execute(TRIM_ON_SQLITE, parameters).rowcount


def _own_driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise EventStoreError(
            f"the store is on SQLite, the connection on {connection.dialect.name}"
        )
    return driver


def _prepare_connection(connection: sqlite3.Connection, _record: object) -> None:
    # A file that others create, or close for the last time, just now is locked for a moment.
    _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute("PRAGMA synchronous = FULL")
    # A second pair of hands for the sort behind a GROUP BY of very many rows.
    connection.execute("PRAGMA threads = 2")
    # The delete trigger asks; only the archiver's connections answer yes.
    connection.create_function("event_store_archiving", 0, lambda: 0)


def _only_read(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA query_only = ON")


def _limit_statements(seconds: float, connection: sqlite3.Connection, _record: object) -> None:
    deadline = float("inf")

    def begin(_statement: str) -> None:
        nonlocal deadline
        deadline = time.monotonic() + seconds

    connection.set_trace_callback(begin)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)


@contextmanager
def _immediate(driver: sqlite3.Connection) -> Iterator[None]:
    # IMMEDIATE takes the write lock now; a deferred transaction could only fail when it upgrades.
    _patiently(partial(driver.execute, "BEGIN IMMEDIATE"))
    try:
        yield
    except BaseException:
        driver.execute("ROLLBACK")
        raise
    _patiently(driver.commit)


@contextmanager
def _unchanging(driver: sqlite3.Connection) -> Iterator[None]:
    """What was committed when it is first read is read all through."""
    driver.execute("BEGIN")
    try:
        yield
    finally:
        driver.rollback()


def _patiently(action: Callable[[], T]) -> T:
    """Repeat `action` while another connection holds the lock.

    SQLite's own busy handler sleeps ever longer, up to 100 ms; under contention short random
    pauses keep the lock in use.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            return action()
        except (sqlite3.OperationalError, DBAPIError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if not _is_busy(cause):
                raise _named(cause) from error
        _pause_before(deadline)


def _pause_before(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise DatabaseBusy(f"locked by another writer for {BUSY_TIMEOUT:.0f} s")
    time.sleep(random.uniform(0.0001, 0.002))  # noqa: S311 (jitter)


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _named(error) from error


def _named(error: BaseException | None) -> Exception:
    message = str(error)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if "no such table" in message or "no such column" in message:
        return SchemaError(f"{message}; run: hindsight migrate")
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR}:
        return StoreUnavailable(message)
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
        return AccessDenied(message)
    if code == sqlite3.SQLITE_INTERRUPT:
        return StatementTimeout(message)
    if _is_busy(error):
        return DatabaseBusy(message)
    return EventStoreError(message)


def _insert_alone(
    driver: sqlite3.Connection,
    batch: Batch,
    clock: datetime | None,
    order: Sequence[int] | None = None,
    *,
    publish: bool = False,
) -> Inserted | Refused:
    """Append in a transaction of its own.

    Known ids are left to the unique index: to look each up first would cost as much as to write it.
    """
    try:
        with _immediate(driver):
            if len(batch) == 1 and batch[0].events[0].recorded_at is None:
                return _insert_one(driver, batch[0], clock, publish=publish)
            return _insert(driver, batch, clock, order, publish=publish)
    except sqlite3.IntegrityError:
        with _unchanging(driver):
            refused = _refused(driver, batch)
        if not any(refused.known):
            raise
        return refused


def _insert_one(
    driver: sqlite3.Connection, append: EncodedAppend, clock: datetime | None, *, publish: bool
) -> Inserted | Refused:
    """`_insert` for what is recorded now, of one aggregate, in as few statements as will do."""
    occurred = _occurred_texts(append)
    now = moment_text(clock or datetime.now(UTC))
    moved = _move_head(driver, append, min(occurred), max(occurred), now)
    if moved is None:
        return _refused(driver, [append])
    base, recorded, archived_through = moved
    if archived_through:
        _check_not_archived(driver, append)
    count = len(occurred)
    digests = append.digests(base, append.moments())
    rows = _event_rows(append, base, occurred, [recorded] * count, digests)
    if count == 1:
        last_position = driver.execute(_INSERT, next(rows)).lastrowid or 0
        positions = range(last_position, last_position + 1)
    else:
        driver.executemany(_INSERT, rows)
        positions = _last_positions(driver, count)
    if publish:
        driver.execute(_NOTE, (positions[0],))
    return Inserted([base], positions, [datetime.fromisoformat(recorded)] * count, digests)


def _move_head(
    driver: sqlite3.Connection, append: EncodedAppend, first: str, last: str, now: str
) -> tuple[int, str, int] | None:
    """Write the head: its version before, when the events are recorded, and what is archived.

    None where it is not as expected, and nothing was written.
    """
    aggregate_id, kind, base = append.aggregate_id, append.aggregate_type, append.expected
    if base is None:
        found = driver.execute(_VERSION, (aggregate_id,)).fetchone()
        base = found[0] if found else 0
    version = base + len(append.events)
    if base == 0:
        created = driver.execute(_CREATE, (aggregate_id, kind, version, first, last, now))
        return (0, now, 0) if created.rowcount else None
    key = (aggregate_id, kind, base)
    advanced = driver.execute(_ADVANCE_FROM, (version, first, last, now, *key)).fetchall()
    return (base, *advanced[0]) if advanced else None


def _insert(
    driver: sqlite3.Connection,
    batch: Batch,
    clock: datetime | None,
    order: Sequence[int] | None = None,
    *,
    publish: bool = False,
) -> Inserted | Refused:
    """Append in the transaction under way.

    Raises:
        sqlite3.IntegrityError: an event id is known; some of the batch may be written.
    """
    heads = _heads(driver, batch)
    fit = all(
        append.expected in {None, head[1]} and head[0] in {None, append.aggregate_type}
        for append, head in zip(batch, heads, strict=True)
    )
    if not fit:
        return _refused(driver, batch)
    for append, head in zip(batch, heads, strict=True):
        if head[3]:
            _check_not_archived(driver, append)
    rows = _write(driver, batch, heads, moment_text(clock or datetime.now(UTC)), order)
    moments = {text: datetime.fromisoformat(text) for text in {row[2] for row in rows}}
    recorded = [moments[row[2]] for row in rows]
    positions = _last_positions(driver, len(rows))
    if publish:
        driver.execute(_NOTE, (positions[0],))
    versions = [version for _, version, *_ in heads]
    return Inserted(versions, positions, recorded, [row[-1] for row in rows])


def _heads(driver: sqlite3.Connection, batch: Batch) -> list[_Head]:
    found = [driver.execute(_HEAD, (append.aggregate_id,)).fetchone() for append in batch]
    return [head or (None, 0, "", 0) for head in found]


def _refused(driver: sqlite3.Connection, batch: Batch) -> Refused:
    heads = _heads(driver, batch)
    return Refused(
        [kind for kind, *_ in heads],
        [version for _, version, *_ in heads],
        [_known_ids(driver, append) for append in batch],
    )


def _write(
    driver: sqlite3.Connection,
    batch: Batch,
    heads: Sequence[_Head],
    now: str,
    order: Sequence[int] | None,
) -> list[tuple[Any, ...]]:
    """Write heads and events; the rows of the events as they got their positions."""
    histories = [
        _rows_under_head(driver, append, head, now)
        for append, head in zip(batch, heads, strict=True)
    ]
    rows = list(chain.from_iterable(histories))
    if order is not None:
        coming = [iter(history) for history in histories]
        rows = [next(coming[index]) for index in order]
    driver.executemany(_INSERT, rows)
    return rows


def _known_ids(driver: sqlite3.Connection, append: EncodedAppend) -> frozenset[UUID]:
    ids = json.encode([str(event.event_id) for event in append.events]).decode()
    found = driver.execute(_KNOWN, (append.aggregate_id, ids))
    return _archived_ids(driver, append) | {UUID(event_id) for (event_id,) in found}


def _archived_ids(driver: sqlite3.Connection, append: EncodedAppend) -> frozenset[UUID]:
    wanted = {event.event_id.bytes: event.event_id for event in append.events}
    return frozenset(
        wanted[event_id]
        for (event_ids,) in driver.execute(_ARCHIVED, (append.aggregate_id,))
        for event_id in each_id(event_ids)
        if event_id in wanted
    )


def _check_not_archived(driver: sqlite3.Connection, append: EncodedAppend) -> None:
    """Raise what the unique index does for ids of events that are not archived."""
    if _archived_ids(driver, append):
        raise sqlite3.IntegrityError("an event id is archived")


def _rows_under_head(
    driver: sqlite3.Connection,
    append: EncodedAppend,
    head: _Head,
    now: str,
) -> list[tuple[Any, ...]]:
    """Write the head; the rows of its events, to be written."""
    base, latest = head[1], max(head[2], now)
    recorded = [
        moment_text(event.recorded_at) if event.recorded_at else latest for event in append.events
    ]
    occurred = _occurred_texts(append)
    version, first, last = base + len(recorded), min(occurred), max(occurred)
    if base:
        driver.execute(_ADVANCE, (version, first, last, max(recorded), append.aggregate_id))
    else:
        key = (append.aggregate_id, append.aggregate_type)
        driver.execute(_CREATE, (*key, version, first, last, max(recorded)))
    digests = append.digests(base, append.moments())
    return list(_event_rows(append, base, occurred, recorded, digests))


def _occurred_texts(append: EncodedAppend) -> list[str]:
    """When the events occurred, as columns hold it: mostly the same moment for all."""
    moments = {event.occurred_at for event in append.events}
    texts = {moment: moment_text(moment) for moment in moments}
    return [texts[event.occurred_at] for event in append.events]


def _event_rows(
    append: EncodedAppend,
    base: int,
    occurred: Sequence[str],
    recorded: Sequence[str],
    digests: Sequence[bytes],
) -> Iterator[tuple[Any, ...]]:
    columns = zip(append.events, occurred, recorded, digests, strict=True)
    for version, (event, occurred_at, recorded_at, digest) in enumerate(columns, start=base + 1):
        yield (
            version,
            occurred_at,
            recorded_at,
            str(event.event_id),
            event.event_version,
            append.aggregate_id,
            append.aggregate_type,
            event.event_type,
            event.data.decode(),
            event.metadata.decode(),
            event.correlation_id,
            event.causation_id,
            event.actor,
            digest,
        )


def _row_of(event: Event) -> tuple[Any, ...]:
    assert event.recorded_at is not None, "our tables keep it"  # noqa: S101
    return (
        event.position,
        event.version,
        moment_text(event.occurred_at),
        moment_text(event.recorded_at),
        str(event.event_id),
        event.event_version,
        event.aggregate_id,
        event.aggregate_type,
        event.event_type,
        event.raw_data.decode(),
        event.raw_metadata.decode(),
        event.correlation_id,
        event.causation_id,
        event.actor,
        event.digest,
    )


def _last_positions(driver: sqlite3.Connection, count: int) -> range:
    """The positions just drawn: AUTOINCREMENT counts by one, and nobody else is writing."""
    [(last,)] = driver.execute("SELECT last_insert_rowid()").fetchall()
    return range(last - count + 1, last + 1)
