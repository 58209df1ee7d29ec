"""The event log: events, aggregates, store_info."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MINIMUM_VERSION = "0.1.0"
"""The oldest code that may run on this schema."""

POSTGRESQL = (
    """
    CREATE TABLE events (
        position bigint GENERATED ALWAYS AS IDENTITY,
        version bigint NOT NULL,
        occurred_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL,
        event_id uuid NOT NULL,
        event_version integer NOT NULL,
        aggregate_id text COLLATE "C" NOT NULL,
        aggregate_type text NOT NULL,
        event_type text NOT NULL,
        data json NOT NULL,
        metadata json NOT NULL,
        correlation_id text,
        causation_id text,
        actor text,
        digest bytea NOT NULL,
        CONSTRAINT events_pkey PRIMARY KEY (aggregate_id, version),
        CONSTRAINT events_aggregate_id_event_id_key UNIQUE (aggregate_id, event_id)
    )
    """,
    "CREATE INDEX events_position_idx ON events (position)",
    "CREATE INDEX events_recorded_at_idx ON events USING brin (recorded_at)",
    """
    CREATE INDEX events_correlation_id_idx ON events (correlation_id, position)
    WHERE correlation_id IS NOT NULL
    """,
    # Room on each page lets the head of a busy aggregate be updated in place.
    """
    CREATE TABLE aggregates (
        aggregate_id text COLLATE "C" NOT NULL,
        aggregate_type text NOT NULL,
        version bigint NOT NULL,
        first_occurred_at timestamptz NOT NULL,
        last_occurred_at timestamptz NOT NULL,
        last_recorded_at timestamptz NOT NULL,
        CONSTRAINT aggregates_pkey PRIMARY KEY (aggregate_id)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE INDEX aggregates_aggregate_type_aggregate_id_idx
    ON aggregates (aggregate_type, aggregate_id)
    """,
    """
    CREATE TABLE store_info (
        id integer NOT NULL,
        store_id uuid NOT NULL,
        epoch integer NOT NULL,
        minimum_version text NOT NULL,
        CONSTRAINT store_info_pkey PRIMARY KEY (id),
        CONSTRAINT store_info_single_row_check CHECK (id = 1)
    )
    """,
    """
    CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'events are immutable: % refused', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER events_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()
    """,
    # STABLE, as convert_to is: a stricter promise would keep the planner from inlining it.
    """
    CREATE FUNCTION event_digest(
        aggregate_id text, version bigint, event_id uuid, event_type text, event_version integer,
        occurred_at timestamptz, data text, metadata text
    ) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE RETURN sha256(
        int4send(octet_length(aggregate_id)) || convert_to(aggregate_id, 'UTF8')
        || int8send(version) || uuid_send(event_id)
        || int4send(octet_length(event_type)) || convert_to(event_type, 'UTF8')
        || int4send(event_version) || timestamptz_send(occurred_at)
        || int4send(octet_length(data)) || convert_to(data, 'UTF8')
        || convert_to(metadata, 'UTF8')
    )
    """,
    # Locks every head in id order, looks at all of them, and writes only if all are as expected.
    # Aggregates that do not exist yet are created while they are being locked: where it then
    # refuses, the caller rolls back to before the call. One head alone is refused unwritten.
    """
    CREATE FUNCTION append_events(
        p_clock timestamptz, p_ids text[], p_types text[], p_expected bigint[], p_counts integer[],
        p_firsts timestamptz[], p_lasts timestamptz[], p_recorded timestamptz[],
        e_heads integer[], e_offsets integer[], e_ids uuid[], e_types text[], e_versions integer[],
        e_data text[], e_metadata text[], e_correlations text[], e_causations text[],
        e_actors text[], e_occurred timestamptz[], e_recorded timestamptz[],
        OUT actual_types text[], OUT actual_versions bigint[],
        OUT known_heads integer[], OUT known_ids uuid[],
        OUT positions bigint[], OUT recorded timestamptz[], OUT digests bytea[]
    ) LANGUAGE plpgsql AS $$
    #variable_conflict use_column
    DECLARE
        v_created text[];
        v_now timestamptz;
    BEGIN
        PERFORM 1 FROM aggregates WHERE aggregate_id = ANY (p_ids)
        ORDER BY aggregate_id FOR UPDATE;
        WITH created AS (
            INSERT INTO aggregates
            SELECT h.id, h.type, h.count, h.first, h.last,
                coalesce(h.recorded, p_clock, clock_timestamp())
            FROM unnest(p_ids, p_types, p_expected, p_counts, p_firsts, p_lasts, p_recorded)
                AS h (id, type, expected, count, first, last, recorded)
            WHERE coalesce(h.expected, 0) = 0
            AND NOT EXISTS (SELECT FROM aggregates a WHERE a.aggregate_id = h.id)
            ORDER BY h.id
            ON CONFLICT (aggregate_id) DO NOTHING
            RETURNING aggregate_id
        )
        SELECT coalesce(array_agg(aggregate_id), '{}') INTO v_created FROM created;
        IF cardinality(v_created) < cardinality(p_ids) THEN
            PERFORM 1 FROM aggregates
            WHERE aggregate_id = ANY (p_ids) AND aggregate_id <> ALL (v_created)
            ORDER BY aggregate_id FOR UPDATE;
        END IF;
        v_now := coalesce(p_clock, clock_timestamp());

        SELECT array_agg(a.aggregate_type ORDER BY h.number),
            array_agg(CASE WHEN h.id = ANY (v_created) THEN 0 ELSE coalesce(a.version, 0) END
                ORDER BY h.number)
        INTO actual_types, actual_versions
        FROM unnest(p_ids) WITH ORDINALITY AS h (id, number)
        LEFT JOIN aggregates a ON a.aggregate_id = h.id;
        SELECT array_agg(e.head), array_agg(e.id) INTO known_heads, known_ids
        FROM unnest(e_heads, e_ids) AS e (head, id)
        WHERE actual_versions[e.head] > 0 AND EXISTS (
            SELECT FROM events k WHERE k.aggregate_id = p_ids[e.head] AND k.event_id = e.id
        );
        IF known_ids IS NOT NULL OR EXISTS (
            SELECT FROM unnest(p_types, p_expected, actual_types, actual_versions)
                AS h (type, expected, actual_type, actual_version)
            WHERE h.type <> h.actual_type OR h.expected <> h.actual_version
        ) THEN
            RETURN;
        END IF;

        UPDATE aggregates a SET
            version = a.version + h.count,
            first_occurred_at = least(a.first_occurred_at, h.first),
            last_occurred_at = greatest(a.last_occurred_at, h.last),
            last_recorded_at = greatest(a.last_recorded_at, coalesce(h.recorded, v_now))
        FROM unnest(p_ids, p_counts, p_firsts, p_lasts, p_recorded)
            AS h (id, count, first, last, recorded)
        WHERE a.aggregate_id = h.id AND h.id <> ALL (v_created);
        WITH inserted AS (
            INSERT INTO events (
                version, occurred_at, recorded_at, event_id, event_version, aggregate_id,
                aggregate_type, event_type, data, metadata, correlation_id, causation_id, actor,
                digest
            )
            SELECT actual_versions[e.head] + e.offset, e.occurred,
                coalesce(e.recorded, a.last_recorded_at), e.id, e.version, a.aggregate_id,
                a.aggregate_type, e.type, e.data::json, e.metadata::json, e.correlation,
                e.causation, e.actor,
                event_digest(a.aggregate_id, actual_versions[e.head] + e.offset, e.id, e.type,
                    e.version, e.occurred, e.data, e.metadata)
            FROM unnest(e_heads, e_offsets, e_ids, e_types, e_versions, e_data, e_metadata,
                    e_correlations, e_causations, e_actors, e_occurred, e_recorded)
                WITH ORDINALITY AS e (head, "offset", id, type, version, data, metadata,
                    correlation, causation, actor, occurred, recorded, number)
            JOIN aggregates a ON a.aggregate_id = p_ids[e.head]
            ORDER BY e.number
            RETURNING position, recorded_at, digest
        )
        SELECT array_agg(i.position ORDER BY i.position),
            array_agg(i.recorded_at ORDER BY i.position), array_agg(i.digest ORDER BY i.position)
        INTO positions, recorded, digests FROM inserted i;
    END
    $$
    """,
)

SQLITE = (
    """
    CREATE TABLE events (
        position INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        version BIGINT NOT NULL,
        occurred_at VARCHAR(27) NOT NULL,
        recorded_at VARCHAR(27) NOT NULL,
        event_id VARCHAR(36) NOT NULL,
        event_version INTEGER NOT NULL,
        aggregate_id TEXT NOT NULL,
        aggregate_type TEXT NOT NULL,
        event_type TEXT NOT NULL,
        data TEXT NOT NULL,
        metadata TEXT NOT NULL,
        correlation_id TEXT,
        causation_id TEXT,
        actor TEXT,
        digest BLOB NOT NULL,
        CONSTRAINT events_aggregate_id_version_key UNIQUE (aggregate_id, version),
        CONSTRAINT events_aggregate_id_event_id_key UNIQUE (aggregate_id, event_id)
    )
    """,
    """
    CREATE INDEX events_correlation_id_idx ON events (correlation_id, position)
    WHERE correlation_id IS NOT NULL
    """,
    """
    CREATE TABLE aggregates (
        aggregate_id TEXT NOT NULL,
        aggregate_type TEXT NOT NULL,
        version BIGINT NOT NULL,
        first_occurred_at VARCHAR(27) NOT NULL,
        last_occurred_at VARCHAR(27) NOT NULL,
        last_recorded_at VARCHAR(27) NOT NULL,
        CONSTRAINT aggregates_pkey PRIMARY KEY (aggregate_id)
    )
    """,
    """
    CREATE INDEX aggregates_aggregate_type_aggregate_id_idx
    ON aggregates (aggregate_type, aggregate_id)
    """,
    """
    CREATE TABLE store_info (
        id INTEGER NOT NULL,
        store_id VARCHAR(36) NOT NULL,
        epoch INTEGER NOT NULL,
        minimum_version TEXT NOT NULL,
        CONSTRAINT store_info_pkey PRIMARY KEY (id),
        CONSTRAINT store_info_single_row_check CHECK (id = 1)
    )
    """,
    """
    CREATE TRIGGER events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are immutable: UPDATE refused'); END
    """,
    # REPLACE deletes what is in its way without asking the trigger below.
    """
    CREATE TRIGGER events_no_replace BEFORE INSERT ON events
    WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
    OR EXISTS (
        SELECT 1 FROM events WHERE aggregate_id = NEW.aggregate_id AND version = NEW.version
    )
    OR EXISTS (
        SELECT 1 FROM events WHERE aggregate_id = NEW.aggregate_id AND event_id = NEW.event_id
    )
    BEGIN SELECT RAISE(ABORT, 'events are immutable: this one exists'); END
    """,
    # Only the archiver's connections have the function say yes; a connection without it cannot
    # even prepare the statement.
    """
    CREATE TRIGGER events_no_delete BEFORE DELETE ON events
    WHEN NOT event_store_archiving()
    BEGIN SELECT RAISE(ABORT, 'events are immutable: DELETE refused'); END
    """,
)

DOWN = {
    "postgresql": (
        "DROP FUNCTION append_events",
        "DROP TABLE events, aggregates, store_info",
        "DROP FUNCTION event_digest",
        "DROP FUNCTION refuse_event_change",
    ),
    "sqlite": ("DROP TABLE events", "DROP TABLE aggregates", "DROP TABLE store_info"),
}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement.replace(":", r"\:")))
    op.get_bind().execute(
        sa.text("INSERT INTO store_info VALUES (1, :store_id, 1, :minimum_version)"),
        {"store_id": str(uuid4()), "minimum_version": MINIMUM_VERSION},
    )


def downgrade() -> None:
    for statement in DOWN[op.get_bind().dialect.name]:
        op.execute(statement)
