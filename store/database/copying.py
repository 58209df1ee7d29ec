"""Many events into PostgreSQL at once: COPY costs a fraction of what arrays cost."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import psycopg
from msgspec import Struct
from psycopg.rows import TupleRow
from psycopg.types.numeric import Int8
from psycopg.types.string import BytesBinaryDumper

from store.database.batch import Batch, EncodedAppend, EncodedEvent, Refused
from store.digest import digest_behind, digest_prefix, microseconds

Cursor = psycopg.Cursor[TupleRow]

_LOCK = """
    SELECT aggregate_id, aggregate_type, version, last_recorded_at, archived_through
    FROM aggregates
    WHERE aggregate_id = ANY (string_to_array(%s, E'\\n')) ORDER BY aggregate_id FOR UPDATE
"""
_ADVANCE = """
    UPDATE aggregates a SET
        version = h.version,
        first_occurred_at = least(a.first_occurred_at, h.first),
        last_occurred_at = greatest(a.last_occurred_at, h.last),
        last_recorded_at = h.recorded
    FROM unnest(%s::text[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
        AS h (id, version, first, last, recorded)
    WHERE a.aggregate_id = h.id
"""
_CREATE = """
    COPY aggregates (
        aggregate_id, aggregate_type, version, first_occurred_at, last_occurred_at,
        last_recorded_at
    ) FROM STDIN (FORMAT binary)
"""
_HEAD_TYPES = ("text", "text", "int8", "timestamptz", "timestamptz", "timestamptz")
_EVENTS = """
    COPY events (
        version, occurred_at, recorded_at, event_id, event_version, aggregate_id, aggregate_type,
        event_type, data, metadata, correlation_id, causation_id, actor, digest
    ) FROM STDIN (FORMAT binary)
"""
# COPY looks at bytes, not at types: json and uuid travel as bytea, times as int8 microseconds.
# For those types the driver has compiled code.
_EVENT_TYPES = (
    *("int8", "int8", "int8", "bytea", "int4", "text", "text"),
    *("text", "bytea", "bytea", "text", "text", "text", "bytea"),
)


class HeadArchived(Exception):
    """Nothing was written: the slower way has to look into the archive."""


class _Head(Struct, frozen=True, gc=False):
    """An aggregate before and after the batch; `earliest` bounds what is recorded now."""

    append: EncodedAppend
    base: int
    earliest: datetime

    def recorded_at(self, event: EncodedEvent) -> datetime:
        return event.recorded_at or self.earliest

    def row(self) -> tuple[Any, ...]:
        occurred = [event.occurred_at for event in self.append.events]
        return (
            self.append.aggregate_id,
            self.append.aggregate_type,
            self.base + len(occurred),
            min(occurred),
            max(occurred),
            max(map(self.recorded_at, self.append.events)),
        )


def copy(
    cursor: Cursor,
    batch: Batch,
    order: Sequence[int],
    clock: datetime | None,
    meanwhile: Callable[[], None],
) -> Refused | None:
    """Write the batch in the cursor's transaction; see `Database.load`.

    Refused where a head is not as expected, without a look at the event ids.

    Raises:
        HeadArchived: an aggregate has events in the archive, where ids are not unique by an index.
        psycopg.errors.UniqueViolation: an event id is known, or a head was created meanwhile.
    """
    ids = [append.aggregate_id for append in batch]
    # No id has a newline in it, and one text costs the driver far less than an array of them.
    found = {row[0]: row[1:] for row in cursor.execute(_LOCK, ["\n".join(ids)])}
    types = [found[i][0] if i in found else None for i in ids]
    versions = [found[i][1] if i in found else 0 for i in ids]
    for append, actual_type, version in zip(batch, types, versions, strict=True):
        if append.expected not in {None, version} or append.aggregate_type != (
            actual_type or append.aggregate_type
        ):
            return Refused(types, versions, [frozenset()] * len(batch))
    if any(archived_through for *_, archived_through in found.values()):
        raise HeadArchived
    # Drawn after the heads are locked, so an aggregate's times never run backwards.
    now = clock or _now(cursor)
    heads = [
        _Head(append, version, max(now, found[i][2]) if i in found else now)
        for append, i, version in zip(batch, ids, versions, strict=True)
    ]
    _write_heads(cursor, heads)
    # Else the driver takes a dumper written in Python for each bytea.
    cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    with cursor.copy(_EVENTS) as copied:
        copied.set_types(_EVENT_TYPES)
        for row in _event_rows(heads, order):
            copied.write_row(row)
            # The server takes longer for a row than it takes to make one.
            meanwhile()
    return None


def _now(cursor: Cursor) -> datetime:
    [(now,)] = cursor.execute("SELECT clock_timestamp()").fetchall()
    moment: datetime = now
    return moment


def _write_heads(cursor: Cursor, heads: Sequence[_Head]) -> None:
    with cursor.copy(_CREATE) as copied:
        copied.set_types(_HEAD_TYPES)
        for head in heads:
            if head.base == 0:
                copied.write_row(head.row())
    advanced = [head.row() for head in heads if head.base > 0]
    if advanced:
        ids, _, versions, *moments = (list(column) for column in zip(*advanced, strict=True))
        cursor.execute(_ADVANCE, [ids, [Int8(version) for version in versions], *moments])


def _event_rows(heads: Sequence[_Head], order: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    # Nothing but bytes and numbers is kept for a head: there may be one for each event.
    written = [0] * len(heads)
    now = [microseconds(head.earliest) for head in heads]
    prefixes = [digest_prefix(head.append.aggregate_id) for head in heads]
    for index in order:
        head = heads[index]
        event = head.append.events[written[index]]
        written[index] += 1
        version = head.base + written[index]
        event_id, occurred_at = event.event_id.bytes, microseconds(event.occurred_at)
        yield (
            version,
            occurred_at,
            microseconds(event.recorded_at) if event.recorded_at else now[index],
            event_id,
            event.event_version,
            head.append.aggregate_id,
            head.append.aggregate_type,
            event.event_type,
            event.data,
            event.metadata,
            event.correlation_id,
            event.causation_id,
            event.actor,
            digest_behind(
                prefixes[index],
                version,
                event_id,
                event.event_type,
                event.event_version,
                occurred_at,
                event.data,
                event.metadata,
            ),
        )
