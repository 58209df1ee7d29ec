"""Appends on PostgreSQL: one statement when nothing stands in the way, a function when it does."""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import Any, TypeAlias

import psycopg
from psycopg.pq import Format
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.numeric import Int4, Int8

from store.database import adaption
from store.database.batch import Batch, EncodedAppend, EncodedEvent, Inserted, Refused

Cursor: TypeAlias = psycopg.RawCursor[TupleRow]

COLUMNS = (
    "version, occurred_at, recorded_at, event_id, event_version, aggregate_id, aggregate_type,"
    " event_type, data, metadata, correlation_id, causation_id, actor, digest"
)

# In all statements: $1 id, $2 type, $3 count, $4 first and $5 last time, $6 clock, $7 to $15 the
# events' columns, $16 the expected version where there is one.
_ONE_EVENT = """
    (SELECT 1 AS number, $7::uuid AS id, $8::text AS type, $9::int AS version, $10::text AS data,
        $11::text AS metadata, $12::text AS correlation, $13::text AS causation,
        $14::text AS actor, $15::timestamptz AS occurred) AS e
"""
_MANY_EVENTS = """
    unnest($7::uuid[], $8::text[], $9::int[], $10::text[], $11::text[], $12::text[], $13::text[],
        $14::text[], $15::timestamptz[])
    WITH ORDINALITY AS e (id, type, version, data, metadata, correlation, causation, actor,
        occurred, number)
"""
# Both refuse by finding no head: whoever committed in between raised the version, so what the
# statement's snapshot says of ids and versions still holds for a head that is found.
_CREATE = """
    INSERT INTO aggregates
    VALUES ($1::text, $2::text, $3::bigint, $4::timestamptz, $5::timestamptz,
        coalesce($6::timestamptz, clock_timestamp()))
    ON CONFLICT (aggregate_id) DO NOTHING
    RETURNING 0::bigint AS base, last_recorded_at AS recorded_at
"""
_ADVANCE = """
    UPDATE aggregates SET
        version = version + $3::bigint,
        first_occurred_at = least(first_occurred_at, $4::timestamptz),
        last_occurred_at = greatest(last_occurred_at, $5::timestamptz),
        last_recorded_at = greatest(last_recorded_at,
            coalesce($6::timestamptz, clock_timestamp()))
    WHERE aggregate_id = $1::text AND aggregate_type = $2::text AND version = {expected}
    AND NOT EXISTS (SELECT FROM events k WHERE k.aggregate_id = $1::text AND k.event_id {known})
    RETURNING version - $3::bigint AS base, last_recorded_at AS recorded_at
"""
_AS_SEEN = "(SELECT version FROM aggregates WHERE aggregate_id = $1::text)"


def _statement(head: str, events: str) -> bytes:
    return f"""
        WITH head AS ({head})
        INSERT INTO events ({COLUMNS})
        SELECT head.base + e.number, e.occurred, head.recorded_at, e.id, e.version, $1::text,
            $2::text, e.type, e.data::json, e.metadata::json, e.correlation, e.causation, e.actor,
            event_digest($1::text, head.base + e.number, e.id, e.type, e.version, e.occurred,
                e.data, e.metadata)
        FROM head, {events}
        ORDER BY e.number
        RETURNING position, recorded_at, version, digest
    """.encode()  # noqa: S608 (fixed fragments)


def _statements(events: str, known: str) -> dict[str, bytes]:
    return {
        "create": _statement(_CREATE, events),
        "advance": _statement(_ADVANCE.format(expected="$16::bigint", known=known), events),
        "extend": _statement(_ADVANCE.format(expected=_AS_SEEN, known=known), events),
    }


_APPEND_ONE = _statements(_ONE_EVENT, "= $7::uuid")
_APPEND_MANY = _statements(_MANY_EVENTS, "= ANY ($7::uuid[])")
_FACTS = b"""
    SELECT a.aggregate_type, coalesce(a.version, 0), array(
        SELECT k.event_id FROM events k
        WHERE k.aggregate_id = $1::text AND k.event_id = ANY ($2::uuid[])
    )
    FROM (VALUES (1)) AS one LEFT JOIN aggregates a ON a.aggregate_id = $1::text
"""
_APPEND_EVENTS = b"""
    SELECT * FROM append_events(
        $1::timestamptz, $2::text[], $3::text[], $4::bigint[], $5::int[], $6::timestamptz[],
        $7::timestamptz[], $8::timestamptz[], $9::int[], $10::int[], $11::uuid[], $12::text[],
        $13::int[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
        $19::timestamptz[], $20::timestamptz[])
"""


def _cursor(connection: psycopg.Connection[Any]) -> Cursor:
    cursor: Cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
    cursor.format = Format.BINARY
    return cursor


def insert(
    connection: psycopg.Connection[Any], batch: Batch, clock: datetime | None
) -> Inserted | Refused:
    """Append in a transaction of its own; `connection` is in autocommit mode."""
    cursor = _cursor(connection)
    if len(batch) == 1:
        return _insert_one(cursor, batch[0], clock)
    with connection.transaction() as transaction:
        outcome = _insert_many(cursor, batch, clock)
        if isinstance(outcome, Refused):
            raise psycopg.Rollback(transaction)
    return outcome


def insert_within(
    connection: psycopg.Connection[Any], batch: Batch, clock: datetime | None
) -> Inserted | Refused:
    """Append in the transaction that `connection` is in, leaving it usable when refused."""
    cursor = _cursor(connection)
    adaption.register_foreign(cursor)
    if len(batch) == 1:
        return _insert_one(cursor, batch[0], clock)
    cursor.execute(b"SAVEPOINT event_store_append")
    outcome = _insert_many(cursor, batch, clock)
    if isinstance(outcome, Refused):
        cursor.execute(b"ROLLBACK TO SAVEPOINT event_store_append")
    cursor.execute(b"RELEASE SAVEPOINT event_store_append")
    return outcome


def _insert_one(
    cursor: Cursor, append: EncodedAppend, clock: datetime | None
) -> Inserted | Refused:
    # The facts are read without a lock: under contention a loser must not queue for the head, and
    # commit a lock to disk, only to be told that it lost. Where they show nothing in the way, a
    # race is over or undecided, and the function waits for the head.
    return (
        _insert_at_once(cursor, append, clock)
        or _obstacle(cursor, append)
        or _insert_many(cursor, [append], clock)
    )


def _insert_at_once(
    cursor: Cursor, append: EncodedAppend, clock: datetime | None
) -> Inserted | None:
    """The common case in one statement; None where it cannot be settled by that."""
    if append.events[0].recorded_at is not None:
        return None
    several = len(append.events) > 1
    occurred = [event.occurred_at for event in append.events]
    parameters = [
        append.aggregate_id,
        append.aggregate_type,
        # Wrapped, for the driver would otherwise prepare one statement for each size of number.
        Int8(len(append.events)),
        min(occurred),
        max(occurred),
        clock,
        *(_event_columns(append.events) if several else _event_scalars(append.events[0])),
    ]
    kind = {None: "extend", 0: "create"}.get(append.expected, "advance")
    if kind == "advance":
        parameters.append(Int8(append.expected or 0))
    statement = (_APPEND_MANY if several else _APPEND_ONE)[kind]
    rows = cursor.execute(statement, parameters).fetchall()
    if not rows:
        return None
    rows.sort()
    positions, recorded, versions, digests = zip(*rows, strict=True)
    return Inserted([versions[0] - 1], positions, recorded, digests)


def _obstacle(cursor: Cursor, append: EncodedAppend) -> Refused | None:
    ids = [event.event_id for event in append.events]
    [(actual_type, version, known)] = cursor.execute(_FACTS, (append.aggregate_id, ids)).fetchall()
    fits = actual_type in {None, append.aggregate_type} and append.expected in {None, version}
    if fits and not known:
        return None
    return Refused([actual_type], [version], [frozenset(known)])


def _event_scalars(event: EncodedEvent) -> tuple[Any, ...]:
    return (
        event.event_id,
        event.event_type,
        Int4(event.event_version),
        event.data.decode(),
        event.metadata.decode(),
        event.correlation_id,
        event.causation_id,
        event.actor,
        event.occurred_at,
    )


def _event_columns(events: Sequence[EncodedEvent]) -> tuple[list[Any], ...]:
    return (
        [event.event_id for event in events],
        [event.event_type for event in events],
        [event.event_version for event in events],
        [event.data.decode() for event in events],
        [event.metadata.decode() for event in events],
        [event.correlation_id for event in events],
        [event.causation_id for event in events],
        [event.actor for event in events],
        [event.occurred_at for event in events],
    )


def _insert_many(cursor: Cursor, batch: Batch, clock: datetime | None) -> Inserted | Refused:
    heads = list(chain.from_iterable([i] * len(a.events) for i, a in enumerate(batch, start=1)))
    offsets = list(chain.from_iterable(range(1, len(a.events) + 1) for a in batch))
    events = list(chain.from_iterable(append.events for append in batch))
    recorded = [event.recorded_at for event in events]
    [row] = cursor.execute(
        _APPEND_EVENTS, [clock, *_heads(batch), heads, offsets, *_event_columns(events), recorded]
    ).fetchall()
    types, versions, known_heads, known_ids, positions, times, digests = row
    if positions is not None:
        return Inserted(versions, positions, times, digests)
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
