"""Appends on PostgreSQL: one statement when nothing stands in the way, a function when it does."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, TypeAlias

import psycopg
from psycopg import errors as pg
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

# In all statements: $1 id, $2 type, $3 clock, $4 to $13 the events' columns. Then come, where there
# are several events, their count, first and last time; then the expected version, if there is one.
# Where the versions are known before, the digests come along: to compute them costs the server
# twice what it costs the client.
_ONE_EVENT = """
    (SELECT 1 AS number, $4::uuid AS id, $5::text AS type, $6::int AS version, $7::text AS data,
        $8::text AS metadata, $9::text AS correlation, $10::text AS causation, $11::text AS actor,
        $12::timestamptz AS occurred, $13::bytea AS digest) AS e
"""
_MANY_EVENTS = """
    unnest($4::uuid[], $5::text[], $6::int[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::timestamptz[], $13::bytea[])
    WITH ORDINALITY AS e (id, type, version, data, metadata, correlation, causation, actor,
        occurred, digest, number)
"""
# A head with events in the archive is left to the function, which looks for their ids there: a plan
# that had the archive's partitions in it would cost every append.
# All refuse by finding no head: whoever committed in between raised the version, so what the
# statement's snapshot says of ids and versions still holds for a head that is found.
_CREATE = """
    INSERT INTO aggregates
    VALUES ($1::text, $2::text, {count}, {first}, {last},
        coalesce($3::timestamptz, clock_timestamp()))
    ON CONFLICT (aggregate_id) DO NOTHING
    RETURNING 0::bigint AS base, last_recorded_at AS recorded_at
"""
_ADVANCE = """
    UPDATE aggregates SET
        version = version + {count},
        first_occurred_at = least(first_occurred_at, {first}),
        last_occurred_at = greatest(last_occurred_at, {last}),
        last_recorded_at = greatest(last_recorded_at,
            coalesce($3::timestamptz, clock_timestamp()))
    WHERE aggregate_id = $1::text AND aggregate_type = $2::text AND version = {expected}
        AND archived_through = 0 {unknown}
    RETURNING version - {count} AS base, last_recorded_at AS recorded_at
"""
# To look the ids up costs a tenth of an append. One that is alone leaves it to the unique index,
# whose refusal fails the statement; in a caller's transaction that would be the end of it.
_UNKNOWN = """
    AND NOT EXISTS (SELECT FROM events k WHERE k.aggregate_id = $1::text AND k.event_id {known})
"""
_ONE = {
    "events": _ONE_EVENT,
    "known": "= $4::uuid",
    "count": "1::bigint",
    "first": "$12::timestamptz",
    "last": "$12::timestamptz",
    "expected": "$14::bigint",
}
_MANY = {
    "events": _MANY_EVENTS,
    "known": "= ANY ($4::uuid[])",
    "count": "$14::bigint",
    "first": "$15::timestamptz",
    "last": "$16::timestamptz",
    "expected": "$17::bigint",
}
_AS_SEEN = {"expected": "(SELECT version FROM aggregates WHERE aggregate_id = $1::text)"}
_GIVEN_DIGEST = "e.digest"
_COMPUTED_DIGEST = """
    event_digest($1::text, head.base + e.number, e.id, e.type, e.version, e.occurred, e.data,
        e.metadata)
"""


_INSERT = """
    INSERT INTO events ({columns})
    SELECT head.base + e.number, e.occurred, head.recorded_at, e.id, e.version, $1::text,
        $2::text, e.type, e.data::json, e.metadata::json, e.correlation, e.causation, e.actor,
        {digest}
    FROM head, {events}
    ORDER BY e.number
    RETURNING {written}
"""
_WRITTEN = "position, recorded_at, version, digest"
_INSERT_AND_NOTE = f"""
    , written AS ({{insert}}), noted AS (
        INSERT INTO outbox (aggregate_id, version, position, event_id, created_at)
        SELECT $1::text, version, position, event_id, recorded_at FROM written
    )
    SELECT {_WRITTEN} FROM written
"""  # noqa: S608 (fixed fragments)


def _statement(head: str, parts: Mapping[str, str], digest: str, *, publish: bool) -> bytes:
    written = f"{_WRITTEN}, event_id" if publish else _WRITTEN
    insert = _INSERT.format(columns=COLUMNS, digest=digest, events=parts["events"], written=written)
    rest = _INSERT_AND_NOTE.format(insert=insert) if publish else insert
    return f"WITH head AS ({head.format_map(parts)}) {rest}".encode()


def _statements(parts: Mapping[str, str], *, publish: bool) -> dict[str, bytes]:
    unknown = {**parts, "unknown": _UNKNOWN.format_map(parts)}
    kinds = {
        "create": (_CREATE, parts, _GIVEN_DIGEST),
        "advance": (_ADVANCE, {**parts, "unknown": ""}, _GIVEN_DIGEST),
        "advance_within": (_ADVANCE, unknown, _GIVEN_DIGEST),
        "extend": (_ADVANCE, unknown | _AS_SEEN, _COMPUTED_DIGEST),
    }
    return {kind: _statement(*given, publish=publish) for kind, given in kinds.items()}


_APPEND_ONE = {publish: _statements(_ONE, publish=publish) for publish in (False, True)}
_APPEND_MANY = {publish: _statements(_MANY, publish=publish) for publish in (False, True)}
_FACTS = b"""
    SELECT a.aggregate_type, coalesce(a.version, 0), coalesce(a.archived_through, 0), array(
        SELECT k.event_id FROM events k
        WHERE k.aggregate_id = $1::text AND k.event_id = ANY ($2::uuid[])
    )
    FROM (VALUES (1)) AS one LEFT JOIN aggregates a ON a.aggregate_id = $1::text
"""
# Both in one statement, as events may come back from the archive meanwhile.
_KNOWN_ANYWHERE = b"""
    SELECT k.event_id FROM events k
    WHERE k.aggregate_id = $1::text AND k.event_id = ANY ($2::uuid[])
    UNION ALL
    SELECT k.id FROM events_archive, unnest(event_ids) AS k (id)
    WHERE aggregate_id = $1::text AND event_ids && $2::uuid[] AND k.id = ANY ($2::uuid[])
"""
_APPEND_EVENTS = b"""
    SELECT * FROM append_events(
        $1::timestamptz, $2::text[], $3::text[], $4::bigint[], $5::int[], $6::timestamptz[],
        $7::timestamptz[], $8::timestamptz[], $9::int[], $10::int[], $11::uuid[], $12::text[],
        $13::int[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
        $19::timestamptz[], $20::timestamptz[], $21::bool)
"""


def open_cursor(connection: psycopg.Connection[Any]) -> Cursor:
    """A cursor that, kept with its connection, keeps what it has learnt of the types."""
    cursor: Cursor = psycopg.RawCursor(connection, row_factory=tuple_row)
    cursor.format = Format.BINARY
    return cursor


def insert(
    cursor: Cursor, batch: Batch, clock: datetime | None, *, publish: bool
) -> Inserted | Refused:
    """Append in a transaction of its own; the connection is in autocommit mode."""
    if len(batch) == 1:
        return _insert_one(cursor, batch[0], clock, "advance", publish=publish)
    with cursor.connection.transaction() as transaction:
        outcome = _insert_many(cursor, batch, clock, publish=publish)
        if isinstance(outcome, Refused):
            raise psycopg.Rollback(transaction)
    return outcome


def insert_within(
    connection: psycopg.Connection[Any], batch: Batch, clock: datetime | None, *, publish: bool
) -> Inserted | Refused:
    """Append in the transaction that `connection` is in, leaving it usable when refused."""
    cursor = open_cursor(connection)
    adaption.register_foreign(cursor)
    if len(batch) == 1:
        return _insert_one(cursor, batch[0], clock, "advance_within", publish=publish)
    cursor.execute(b"SAVEPOINT event_store_append")
    outcome = _insert_many(cursor, batch, clock, publish=publish)
    if isinstance(outcome, Refused):
        cursor.execute(b"ROLLBACK TO SAVEPOINT event_store_append")
    cursor.execute(b"RELEASE SAVEPOINT event_store_append")
    return outcome


def _insert_one(
    cursor: Cursor, append: EncodedAppend, clock: datetime | None, advance: str, *, publish: bool
) -> Inserted | Refused:
    # The facts are read without a lock: under contention a loser must not queue for the head, and
    # commit a lock to disk, only to be told that it lost. Where they show nothing in the way, a
    # race is over or undecided, and the function waits for the head.
    return (
        _insert_at_once(cursor, append, clock, advance, publish=publish)
        or _obstacle(cursor, append)
        or _insert_many(cursor, [append], clock, publish=publish)
    )


def _insert_at_once(
    cursor: Cursor, append: EncodedAppend, clock: datetime | None, advance: str, *, publish: bool
) -> Inserted | None:
    """The common case in one statement; None where it cannot be settled by that."""
    if append.events[0].recorded_at is not None:
        return None
    several = len(append.events) > 1
    kind = {None: "extend", 0: "create"}.get(append.expected, advance)
    parameters: list[Any] = [append.aggregate_id, append.aggregate_type, clock]
    parameters += _several(append) if several else _single(append)
    if kind == advance:
        # Wrapped, for the driver would otherwise prepare one statement for each size of number.
        parameters.append(Int8(append.expected or 0))
    statement = (_APPEND_MANY if several else _APPEND_ONE)[publish][kind]
    try:
        rows = cursor.execute(statement, parameters).fetchall()
    except pg.UniqueViolation:  # an event id is known, at the expected version
        return None
    if not rows:
        return None
    rows.sort()
    positions, recorded, versions, digests = zip(*rows, strict=True)
    return Inserted([versions[0] - 1], positions, recorded, digests)


def _obstacle(cursor: Cursor, append: EncodedAppend) -> Refused | None:
    ids = [event.event_id for event in append.events]
    asked = (append.aggregate_id, ids)
    [(actual_type, version, archived, known)] = cursor.execute(_FACTS, asked).fetchall()
    if archived:
        known = [row[0] for row in cursor.execute(_KNOWN_ANYWHERE, asked).fetchall()]
    fits = actual_type in {None, append.aggregate_type} and append.expected in {None, version}
    if fits and not known:
        return None
    return Refused([actual_type], [version], [frozenset(known)])


def _digests(append: EncodedAppend) -> list[bytes] | None:
    """The digests the events will have at the expected versions."""
    if append.expected is None:
        return None
    return append.digests(append.expected, append.moments())


def _single(append: EncodedAppend) -> list[Any]:
    [event], digests = append.events, _digests(append)
    return [
        event.event_id,
        event.event_type,
        Int4(event.event_version),
        event.data.decode(),
        event.metadata.decode(),
        event.correlation_id,
        event.causation_id,
        event.actor,
        event.occurred_at,
        digests and digests[0],
    ]


def _several(append: EncodedAppend) -> list[Any]:
    *columns, occurred = _event_columns(append.events)
    count = Int8(len(append.events))
    return [*columns, occurred, _digests(append), count, min(occurred), max(occurred)]


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


def _insert_many(
    cursor: Cursor, batch: Batch, clock: datetime | None, *, publish: bool
) -> Inserted | Refused:
    heads = list(chain.from_iterable([i] * len(a.events) for i, a in enumerate(batch, start=1)))
    offsets = list(chain.from_iterable(range(1, len(a.events) + 1) for a in batch))
    events = list(chain.from_iterable(append.events for append in batch))
    recorded = [event.recorded_at for event in events]
    columns = (*_heads(batch), heads, offsets, *_event_columns(events), recorded)
    [row] = cursor.execute(_APPEND_EVENTS, [clock, *columns, publish]).fetchall()
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
