"""Hand-written code on sqlite3 alone, with the store's own durability: WAL, synced commits."""

import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from benchmarks.digest import digest
from benchmarks.workload import ACTOR, AGGREGATE_TYPE, BATCH, EVENT_TYPE, Conflict, payloads

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode

_CREATE = "INSERT INTO aggregates VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING"
_ADVANCE = """
    UPDATE aggregates SET version = version + ?, first_occurred_at = min(first_occurred_at, ?),
        last_occurred_at = max(last_occurred_at, ?), last_recorded_at = max(last_recorded_at, ?)
    WHERE aggregate_id = ? AND aggregate_type = ? AND version = ? RETURNING last_recorded_at
"""
_INSERT = """
    INSERT INTO events (version, occurred_at, recorded_at, event_id, event_version, aggregate_id,
        aggregate_type, event_type, data, metadata, actor, digest)
    VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)
"""
_COLUMNS = """
    position, version, occurred_at, recorded_at, event_id, event_version, aggregate_id,
    aggregate_type, event_type, data, metadata, correlation_id, causation_id, actor, digest
"""
_RELOAD = f"""
    SELECT {_COLUMNS} FROM events WHERE aggregate_id = ? AND version > ? ORDER BY version
"""
_SCAN = f"SELECT {_COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT {BATCH}"


class BareSQLite:
    """See `Contender`. Each thread has a connection of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = threading.local()
        self._connections: list[sqlite3.Connection] = []

    def append(self, aggregate_id: str, expected: int, count: int) -> None:
        """See `Contender.append`."""
        driver = self._driver()
        with _immediate(driver):
            now = datetime.now(UTC)
            moment = now.isoformat(timespec="microseconds")[:26] + "Z"
            recorded = _advance(driver, aggregate_id, expected, count, moment)
            driver.executemany(
                _INSERT, _rows(aggregate_id, expected, count, now, (moment, recorded))
            )

    def reload(self, aggregate_id: str, version: int) -> int:
        """See `Contender.reload`."""
        rows = self._driver().execute(_RELOAD, (aggregate_id, version)).fetchall()
        events = [_decoded(row) for row in rows]
        return int(events[-1][1]) if events else version

    def scan(self) -> int:
        """See `Contender.scan`."""
        driver = self._driver()
        position = count = 0
        while events := [_decoded(row) for row in driver.execute(_SCAN, (position,)).fetchall()]:
            position = events[-1][0]
            count += len(events)
        return count

    def close(self) -> None:
        """See `Contender.close`."""
        for connection in self._connections:
            connection.close()

    def _driver(self) -> sqlite3.Connection:
        driver: sqlite3.Connection | None = getattr(self._thread, "driver", None)
        return driver or self._connect()

    def _connect(self) -> sqlite3.Connection:
        driver = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False
        )
        driver.execute("PRAGMA synchronous = FULL")
        self._connections.append(driver)
        self._thread.driver = driver
        return driver


@contextmanager
def _immediate(driver: sqlite3.Connection) -> Iterator[None]:
    # Short random pauses, as the store's: the driver's own busy handler leaves the lock idle.
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(random.uniform(0.0001, 0.002))
        else:
            break
    try:
        yield
    except BaseException:
        driver.execute("ROLLBACK")
        raise
    driver.execute("COMMIT")


def _advance(
    driver: sqlite3.Connection, aggregate_id: str, expected: int, count: int, moment: str
) -> str:
    """Write the head; when its events are recorded."""
    key = (aggregate_id, AGGREGATE_TYPE)
    if expected:
        times = (moment, moment, moment)
        found = driver.execute(_ADVANCE, (count, *times, *key, expected)).fetchone()
        if not found:
            raise Conflict
        return str(found[0])
    if not driver.execute(_CREATE, (*key, count, moment, moment, moment)).rowcount:
        raise Conflict
    return moment


def _rows(
    aggregate_id: str, expected: int, count: int, now: datetime, times: tuple[str, str]
) -> Iterator[tuple[Any, ...]]:
    for version, payload in enumerate(payloads(expected, count), start=expected + 1):
        event_id, data, metadata = uuid7(), _encode(payload), _encode({"actor": ACTOR})
        yield (
            version,
            *times,
            str(event_id),
            aggregate_id,
            AGGREGATE_TYPE,
            EVENT_TYPE,
            data.decode(),
            metadata.decode(),
            ACTOR,
            digest(aggregate_id, version, event_id.bytes, EVENT_TYPE, now, data, metadata),
        )


def _decoded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    position, version, occurred_at, recorded_at, event_id, *middle, data, metadata = row[:11]
    return (
        position,
        version,
        datetime.fromisoformat(occurred_at),
        datetime.fromisoformat(recorded_at),
        UUID(event_id),
        *middle,
        _decode(data),
        _decode(metadata),
        *row[11:],
    )
