"""The outbox's hot path: which records a relay takes, and what became of them.

A record is open while later events of its aggregate wait for it. The first open record of an
aggregate, its head, is claimed if it is due; what follows comes with it. So one aggregate is with
one relay at a time, and its events stay in order.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from msgspec import Struct

from store.records import Event

Status: TypeAlias = Literal["pending", "published", "failed", "skipped"]


class Claim(Struct, frozen=True, kw_only=True):
    """A relay asks for up to `heads` aggregates, of each up to `run` versions.

    They are those behind the aggregate id `after`, and the relay `by` has them for `seconds`; the
    lease tells it from whoever has them later. `now` replaces the database's clock.
    """

    lease: UUID
    by: str
    seconds: float
    heads: int
    run: int
    after: str = ""
    now: datetime | None = None


class Claimed(Struct, frozen=True):
    """An event to be published, and the how-manieth attempt that is."""

    attempt: int
    event: Event


class Taken(Struct, frozen=True):
    """A record that was claimed; its event is None where that is in the archive."""

    attempt: int
    aggregate_id: str
    version: int
    event: Event | None


class Settlement(Struct, frozen=True, kw_only=True):
    """What has become of a claimed record; `delay` is in seconds, where it is to be tried again."""

    aggregate_id: str
    version: int
    status: Status
    is_open: bool
    attempts: int
    delay: float | None = None
    error: str | None = None


# Aggregates are stepped through by the index of what is open, so what it costs does not grow with
# what waits behind a head, nor with what was published: neither may statistics, or none, have the
# database look at all that is open, so each step is written as the only way there is. What was with
# a relay that did not come back is suspected to have killed it, and claimed with nothing beside it:
# so the one that does is found, and no other is given up for it.
_WAITING = """
    waiting (aggregate_id) AS (
        SELECT min(aggregate_id) FROM outbox WHERE open AND aggregate_id > {after}
        UNION ALL
        SELECT (
            SELECT min(o.aggregate_id) FROM outbox o
            WHERE o.open AND o.aggregate_id > w.aggregate_id
        )
        FROM waiting w WHERE w.aggregate_id IS NOT NULL
    )
"""
_IS_DUE = """
    o.open AND o.status = 'pending'
    AND (o.next_attempt_at IS NULL OR o.next_attempt_at <= {now})
    AND (o.leased_until IS NULL OR o.leased_until <= {now})
"""
# The first, or those before the first that is suspected.
_CHOSEN = """
    chosen AS (
        SELECT aggregate_id, version, attempts FROM (
            SELECT aggregate_id, version, attempts, row_number() OVER by_id AS place,
                count(*) FILTER (WHERE suspected) OVER by_id AS suspects
            FROM heads WINDOW by_id AS (ORDER BY aggregate_id)
        ) AS counted
        WHERE place = 1 OR suspects = 0
    )
"""
_END = """
    coalesce(
        (
            SELECT min(p.version) FROM outbox p{by_index}
            WHERE p.open AND p.aggregate_id = h.aggregate_id AND p.version > h.version
            AND p.version < h.version + {run}
            AND p.attempts > 0
        ),
        h.version + CASE WHEN h.attempts > 0 THEN 1 ELSE {run} END
    )
"""

_POSTGRESQL_NOW = "coalesce(%(now)s::timestamptz, statement_timestamp())"

# A subquery that locks, or has a limit, is run for each row of what stands before it.
CLAIM_ON_POSTGRESQL = f"""
    WITH RECURSIVE {_WAITING.format(after="%(after)s::text")}, heads AS (
        SELECT o.aggregate_id, o.version, o.attempts, o.lease IS NOT NULL AS suspected
        FROM waiting w CROSS JOIN LATERAL (
            SELECT o.aggregate_id, o.version, o.attempts, o.lease FROM outbox o
            WHERE o.aggregate_id = w.aggregate_id AND o.version = (
                SELECT min(p.version) FROM outbox p WHERE p.open AND p.aggregate_id = w.aggregate_id
            )
            AND {_IS_DUE.format(now=_POSTGRESQL_NOW)}
            FOR UPDATE SKIP LOCKED
        ) o LIMIT %(heads)s::int
    ), {_CHOSEN}, runs AS (
        SELECT o.aggregate_id, o.version
        FROM chosen h CROSS JOIN LATERAL (
            SELECT o.aggregate_id, o.version FROM outbox o
            WHERE o.open AND o.aggregate_id = h.aggregate_id AND o.version >= h.version
            AND o.version < {_END.format(by_index="", run="%(run)s::int")}
            ORDER BY o.version LIMIT %(run)s::int
        ) o
    )
    UPDATE outbox SET attempts = outbox.attempts + 1, attempted_at = {_POSTGRESQL_NOW},
        lease = %(lease)s::uuid, leased_by = %(by)s::text,
        leased_until = {_POSTGRESQL_NOW} + %(seconds)s::float8 * interval '1 second'
    FROM unnest(ARRAY(SELECT aggregate_id FROM runs), ARRAY(SELECT version FROM runs))
        AS r (aggregate_id, version)
    LEFT JOIN events e ON e.aggregate_id = r.aggregate_id AND e.version = r.version
    WHERE outbox.aggregate_id = r.aggregate_id AND outbox.version = r.version
    AND outbox.open AND outbox.status = 'pending'
    RETURNING outbox.attempts, outbox.aggregate_id, outbox.version, {{columns}}
"""  # noqa: S608 (fixed fragments, as below)
SETTLE_ON_POSTGRESQL = f"""
    UPDATE outbox o SET status = s.status, open = s.open, attempts = s.attempts,
        next_attempt_at = {_POSTGRESQL_NOW} + s.delay * interval '1 second',
        finished_at = CASE WHEN s.status <> 'pending' THEN {_POSTGRESQL_NOW} END,
        last_error = coalesce(s.error, o.last_error), lease = NULL, leased_until = NULL
    FROM unnest(%(aggregate_ids)s::text[], %(versions)s::bigint[], %(statuses)s::text[],
        %(opens)s::bool[], %(attempts)s::int[], %(delays)s::float8[], %(errors)s::text[])
        AS s (aggregate_id, version, status, open, attempts, delay, error)
    WHERE o.aggregate_id = s.aggregate_id AND o.version = s.version
    AND o.lease = %(lease)s::uuid AND o.status = 'pending'
    RETURNING o.aggregate_id, o.version
"""  # noqa: S608
RENEW_ON_POSTGRESQL = f"""
    UPDATE outbox o SET leased_until = {_POSTGRESQL_NOW} + %(seconds)s::float8 * interval '1 second'
    FROM unnest(%(aggregate_ids)s::text[], %(versions)s::bigint[]) AS r (aggregate_id, version)
    WHERE o.aggregate_id = r.aggregate_id AND o.version = r.version
    AND o.lease = %(lease)s::uuid AND o.status = 'pending'
    RETURNING 1
"""  # noqa: S608
# The rows' places, as any other way back to them might be a look at every row.
TRIM_ON_POSTGRESQL = """
    WITH trimmed AS (
        DELETE FROM outbox WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM outbox WHERE status = 'published'
            AND finished_at < statement_timestamp() - %(seconds)s::float8 * interval '1 second'
            ORDER BY finished_at LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
        )) RETURNING 1
    )
    SELECT count(*) FROM trimmed
"""

# SQLite would put a filter of all rows there are before a search for one that equals.
_BY_INDEX = " INDEXED BY outbox_open_idx"
CLAIM_ON_SQLITE = f"""
    WITH RECURSIVE {_WAITING.format(after=":after")}, heads AS (
        SELECT o.aggregate_id, o.version, o.attempts, o.lease IS NOT NULL AS suspected
        FROM (
            SELECT (
                SELECT p.rowid FROM outbox p{_BY_INDEX}
                WHERE p.open AND p.aggregate_id = w.aggregate_id ORDER BY p.version LIMIT 1
            ) AS place FROM waiting w
        ) f CROSS JOIN outbox o NOT INDEXED
        WHERE o.rowid BETWEEN f.place AND f.place
        AND {_IS_DUE.format(now=":now")}
        LIMIT :heads
    ), {_CHOSEN}
    UPDATE outbox SET attempts = attempts + 1, attempted_at = :now, lease = :lease,
        leased_by = :by, leased_until = :until
    WHERE rowid IN (
        SELECT o.rowid FROM chosen h CROSS JOIN outbox o{_BY_INDEX}
        WHERE o.open AND (o.aggregate_id, o.version) >= (h.aggregate_id, h.version)
        AND (o.aggregate_id, o.version)
            < (h.aggregate_id, {_END.format(by_index=_BY_INDEX, run=":run")})
    )
    AND status = 'pending'
    RETURNING position, attempts, aggregate_id, version
"""  # noqa: S608
SETTLE_ON_SQLITE = """
    UPDATE outbox SET status = :status, open = :open, attempts = :attempts,
        next_attempt_at = :next_attempt_at,
        finished_at = CASE WHEN :status <> 'pending' THEN :now END,
        last_error = coalesce(:error, last_error), lease = NULL, leased_until = NULL
    WHERE aggregate_id = :aggregate_id AND version = :version
    AND lease = :lease AND status = 'pending'
"""
RENEW_ON_SQLITE = """
    UPDATE outbox SET leased_until = ?
    WHERE aggregate_id = ? AND version = ? AND lease = ? AND status = 'pending'
"""
TRIM_ON_SQLITE = """
    DELETE FROM outbox WHERE rowid IN (
        SELECT rowid FROM outbox WHERE status = 'published' AND finished_at < :before
        ORDER BY finished_at LIMIT :limit
    )
"""


def in_order(taken: Iterable[Taken]) -> list[Taken]:
    """Each aggregate's in the order of their versions, the aggregates one after the other."""
    return sorted(taken, key=lambda each: (each.aggregate_id, each.version))
