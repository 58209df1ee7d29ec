"""Writing to the archive, and back."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8
from psycopg.types.string import BytesBinaryDumper

from store.packs import Pack, each_id
from store.records import Event

# Where all there is has been archived, the last position is one of the archive's.
VISIBLE = """
    SELECT coalesce(max(position), 0) FROM (
        SELECT max(position) AS position FROM events
        UNION ALL SELECT max(last_position) FROM archive_batches
    ) AS ends
"""
INSERT_PACK = """
    INSERT INTO events_archive (
        aggregate_id, first_version, last_version, last_position, recorded_at, event_ids, digest,
        events
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
MARK_HEAD = """
    UPDATE aggregates SET archived_through = max(archived_through, ?) WHERE aggregate_id = ?
"""
PUT_BACK = """
    INSERT INTO events (
        position, version, occurred_at, recorded_at, event_id, event_version, aggregate_id,
        aggregate_type, event_type, data, metadata, correlation_id, causation_id, actor, digest
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_MARK_HEADS = """
    UPDATE aggregates a SET archived_through = greatest(a.archived_through, m.version)
    FROM (
        SELECT id, max(version) AS version
        FROM unnest(%s::text[], %s::bigint[]) AS n (id, version) GROUP BY id
    ) AS m
    WHERE a.aggregate_id = m.id
"""
_COPY_PACKS = """
    COPY events_archive (
        aggregate_id, first_version, last_version, last_position, recorded_at, event_ids, digest,
        events
    ) FROM STDIN (FORMAT binary)
"""
_PACK_TYPES = ("text", "int8", "int8", "int8", "timestamptz", "uuid[]", "bytea", "bytea")
# COPY keeps positions that are given, where INSERT would have to be told to.
_COPY_BACK = """
    COPY events (
        position, version, occurred_at, recorded_at, event_id, event_version, aggregate_id,
        aggregate_type, event_type, data, metadata, correlation_id, causation_id, actor, digest
    ) FROM STDIN (FORMAT binary)
"""
_EVENT_TYPES = (
    *("int8", "int8", "timestamptz", "timestamptz", "uuid", "int4", "text", "text", "text"),
    *("bytea", "bytea", "text", "text", "text", "bytea"),
)


def copy_packs(cursor: psycopg.Cursor[TupleRow], packs: Sequence[Pack]) -> None:
    """Write packs to PostgreSQL; the heads are locked."""
    versions = [Int8(pack.last_version) for pack in packs]
    cursor.adapters.register_dumper(list, ListBinaryDumper)
    cursor.execute(_MARK_HEADS, [[pack.aggregate_id for pack in packs], versions])
    cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    with cursor.copy(_COPY_PACKS) as copied:
        copied.set_types(_PACK_TYPES)
        for pack in packs:
            copied.write_row(_pack_row(pack))


def _pack_row(pack: Pack) -> tuple[Any, ...]:
    ids = [UUID(bytes=event_id) for event_id in each_id(pack.event_ids)]
    return (
        pack.aggregate_id,
        pack.first_version,
        pack.last_version,
        pack.last_position,
        pack.recorded_at,
        ids,
        pack.digest,
        pack.events,
    )


def copy_back(cursor: psycopg.Cursor[TupleRow], events: Sequence[Event]) -> None:
    """Write events to PostgreSQL as they were."""
    cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    with cursor.copy(_COPY_BACK) as copied:
        copied.set_types(_EVENT_TYPES)
        for event in events:
            copied.write_row(
                (
                    event.position,
                    event.version,
                    event.occurred_at,
                    event.recorded_at,
                    event.event_id,
                    event.event_version,
                    event.aggregate_id,
                    event.aggregate_type,
                    event.event_type,
                    event.raw_data,
                    event.raw_metadata,
                    event.correlation_id,
                    event.causation_id,
                    event.actor,
                    event.digest,
                )
            )
