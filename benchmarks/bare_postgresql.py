"""Hand-written code on psycopg alone: one prepared statement an append, binary rows."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
from psycopg.pq import Format
from psycopg.rows import TupleRow
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8
from psycopg.types.string import ByteaBinaryLoader
from uuid_utils.compat import uuid7

from benchmarks.digest import digest
from benchmarks.workload import ACTOR, AGGREGATE_TYPE, BATCH, EVENT_TYPE, Conflict, payloads

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode

_INSERT = """
    INSERT INTO events (version, occurred_at, recorded_at, event_id, event_version, aggregate_id,
        aggregate_type, event_type, data, metadata, actor, digest)
"""
_CREATE = """
    WITH head AS (
        INSERT INTO aggregates
        VALUES ($1::text, $2::text, $3::bigint, $4::timestamptz, $4, clock_timestamp())
        ON CONFLICT DO NOTHING RETURNING last_recorded_at
    )
"""
_ADVANCE = """
    WITH head AS (
        UPDATE aggregates SET version = version + $3::bigint,
            first_occurred_at = least(first_occurred_at, $4::timestamptz),
            last_occurred_at = greatest(last_occurred_at, $4),
            last_recorded_at = greatest(last_recorded_at, clock_timestamp())
        WHERE aggregate_id = $1::text AND aggregate_type = $2::text AND version = $5::bigint
        RETURNING last_recorded_at
    )
"""
_ONE = """
    SELECT {expected} + 1, $4, last_recorded_at, {e}::uuid, 1, $1, $2, {f}::text, {g}::text::json,
        {h}::text::json, {i}::text, {j}::bytea
    FROM head RETURNING position, recorded_at
"""
_MANY = """
    SELECT e.version, $4, last_recorded_at, e.id, 1, $1, $2, e.type, e.data::json,
        e.metadata::json, e.actor, e.digest
    FROM head, unnest({e}::bigint[], {f}::uuid[], {g}::text[], {h}::text[], {i}::text[],
        {j}::text[], {k}::bytea[]) AS e (version, id, type, data, metadata, actor, digest)
    RETURNING position, recorded_at
"""


def _statement(head: str, events: str, expected: str, first: int) -> str:
    names = {name: f"${number}" for number, name in enumerate("efghijk", start=first)}
    return head + _INSERT + events.format(expected=expected, **names)


_CREATE_ONE = _statement(_CREATE, _ONE, "0", 5)
_CREATE_MANY = _statement(_CREATE, _MANY, "0", 5)
_ADVANCE_ONE = _statement(_ADVANCE, _ONE, "$5", 6)
_ADVANCE_MANY = _statement(_ADVANCE, _MANY, "$5", 6)

_COLUMNS = """
    position, version, occurred_at, recorded_at, event_id, event_version, aggregate_id,
    aggregate_type, event_type, data, metadata, correlation_id, causation_id, actor, digest
"""
_RELOAD = f"""
    SELECT {_COLUMNS} FROM events WHERE aggregate_id = $1::text AND version > $2::bigint
    ORDER BY version
"""
_SCAN = f"""
    SELECT {_COLUMNS} FROM events WHERE position > $1::bigint ORDER BY position LIMIT {BATCH}
"""


class BarePostgreSQL:
    """See `Contender`. Each thread has a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = threading.local()
        self._connections: list[psycopg.Connection[TupleRow]] = []

    def append(self, aggregate_id: str, expected: int, count: int) -> None:
        """See `Contender.append`."""
        now = datetime.now(UTC)
        head = [aggregate_id, AGGREGATE_TYPE, Int8(count), now]
        if expected:
            head.append(Int8(expected))
        if count == 1:
            statement = _ADVANCE_ONE if expected else _CREATE_ONE
            [[_, *values]] = _events(aggregate_id, expected, count, now)
        else:
            statement = _ADVANCE_MANY if expected else _CREATE_MANY
            values = list(map(list, zip(*_events(aggregate_id, expected, count, now), strict=True)))
        if len(self._rows(statement, [*head, *values])) < count:
            raise Conflict

    def reload(self, aggregate_id: str, version: int) -> int:
        """See `Contender.reload`."""
        events = [_decoded(row) for row in self._rows(_RELOAD, (aggregate_id, Int8(version)))]
        return int(events[-1][1]) if events else version

    def scan(self) -> int:
        """See `Contender.scan`."""
        position = count = 0
        while events := [_decoded(row) for row in self._rows(_SCAN, (Int8(position),))]:
            position = events[-1][0]
            count += len(events)
        return count

    def close(self) -> None:
        """See `Contender.close`."""
        for connection in self._connections:
            connection.close()

    def _rows(self, sql: str, parameters: Sequence[Any]) -> list[TupleRow]:
        cursor = getattr(self._thread, "cursor", None) or self._connect()
        return cursor.execute(sql.encode(), parameters, prepare=True).fetchall()

    def _connect(self) -> psycopg.RawCursor[TupleRow]:
        connection = psycopg.connect(self._url, autocommit=True)
        connection.adapters.register_loader("json", ByteaBinaryLoader)
        connection.execute("SET timezone TO 'UTC'")
        connection.adapters.register_dumper(list, ListBinaryDumper)  # the text one escapes by regex
        cursor = psycopg.RawCursor(connection)
        cursor.format = Format.BINARY
        self._connections.append(connection)
        self._thread.cursor = cursor
        return cursor


def _events(aggregate_id: str, expected: int, count: int, now: datetime) -> list[tuple[Any, ...]]:
    events = []
    for version, payload in enumerate(payloads(expected, count), start=expected + 1):
        event_id, data, metadata = uuid7(), _encode(payload), _encode({"actor": ACTOR})
        fingerprint = digest(aggregate_id, version, event_id.bytes, EVENT_TYPE, now, data, metadata)
        events.append(
            (version, event_id, EVENT_TYPE, data.decode(), metadata.decode(), ACTOR, fingerprint)
        )
    return events


def _decoded(row: TupleRow) -> TupleRow:
    return (*row[:9], _decode(row[9]), _decode(row[10]), *row[11:])
