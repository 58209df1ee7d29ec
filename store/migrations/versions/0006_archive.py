# ruff: noqa: S608
"""The archive: events that are packed, and no longer in the table that is written to."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0006"
down_revision = "0005"

_EVENT_LOG = import_module("store.migrations.versions.0001_event_log")
_OUTBOX = import_module("store.migrations.versions.0004_outbox")
_APPEND = next(each for each in _OUTBOX.POSTGRESQL if "CREATE FUNCTION append_events" in each)
_REFUSE = next(each for each in _EVENT_LOG.POSTGRESQL if "FUNCTION refuse_event_change(" in each)
_REFUSES = "        IF known_ids IS NOT NULL OR EXISTS ("
_APPEND_LOOKING_INTO_ARCHIVE = _APPEND.replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
).replace(
    _REFUSES,
    """        -- The archive has many partitions: only who has events there pays for a look.
        IF EXISTS (
            SELECT FROM aggregates a WHERE a.aggregate_id = ANY (p_ids) AND a.archived_through > 0
        ) THEN
            SELECT coalesce(known_heads || array_agg(e.head), known_heads),
                coalesce(known_ids || array_agg(e.id), known_ids)
            INTO known_heads, known_ids
            FROM unnest(e_heads, e_ids) AS e (head, id)
            WHERE EXISTS (
                SELECT FROM events_archive k
                WHERE k.aggregate_id = p_ids[e.head] AND e.id = ANY (k.event_ids)
            );
        END IF;
"""
    + _REFUSES,
)

POSTGRESQL = (
    "ALTER TABLE aggregates ADD COLUMN archived_through bigint NOT NULL DEFAULT 0",
    """
    CREATE TABLE archive (
        id integer NOT NULL,
        ran_at timestamptz,
        CONSTRAINT archive_pkey PRIMARY KEY (id),
        CONSTRAINT archive_single_row_check CHECK (id = 1)
    )
    """,
    """
    CREATE TABLE archive_batches (
        last_position bigint NOT NULL,
        first_position bigint NOT NULL,
        events integer NOT NULL,
        packs integer NOT NULL,
        bytes bigint NOT NULL,
        earliest_occurred_at timestamptz NOT NULL,
        latest_occurred_at timestamptz NOT NULL,
        earliest_recorded_at timestamptz NOT NULL,
        latest_recorded_at timestamptz NOT NULL,
        dictionary bytea NOT NULL,
        correlations bytea NOT NULL,
        archived_at timestamptz NOT NULL,
        archived_by text NOT NULL,
        CONSTRAINT archive_batches_pkey PRIMARY KEY (last_position)
    )
    """,
    """
    CREATE TABLE archive_restored (
        aggregate_id text COLLATE "C" NOT NULL,
        restored_at timestamptz NOT NULL,
        restored_by text NOT NULL,
        CONSTRAINT archive_restored_pkey PRIMARY KEY (aggregate_id)
    )
    """,
    # What is packed cannot be compressed once more; the server would try.
    "ALTER TABLE archive_batches ALTER COLUMN dictionary SET STORAGE EXTERNAL",
    "ALTER TABLE archive_batches ALTER COLUMN correlations SET STORAGE EXTERNAL",
    """
    CREATE TABLE events_archive (
        recorded_at timestamptz NOT NULL,
        first_version bigint NOT NULL,
        last_version bigint NOT NULL,
        last_position bigint NOT NULL,
        aggregate_id text COLLATE "C" NOT NULL,
        event_ids uuid[] NOT NULL,
        digest bytea NOT NULL,
        events bytea NOT NULL,
        CONSTRAINT events_archive_pkey PRIMARY KEY (aggregate_id, first_version, recorded_at)
    ) PARTITION BY RANGE (recorded_at)
    """,
    "ALTER TABLE events_archive ALTER COLUMN events SET STORAGE EXTERNAL",
    "CREATE INDEX events_archive_last_position_idx ON events_archive (last_position)",
    "CREATE TABLE events_archive_default PARTITION OF events_archive DEFAULT",
    """
    CREATE OR REPLACE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' AND current_setting('event_store.archiving', true) = 'on' THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'events are immutable: % refused', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER events_archive_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON events_archive
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()
    """,
    """
    CREATE TRIGGER events_archive_immutable BEFORE UPDATE OR DELETE OR TRUNCATE
    ON events_archive_default FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()
    """,
    # Only a table's owner may add partitions to it, and who archives is not. A statement trigger of
    # the whole does not fire for what is done to a part.
    """
    CREATE FUNCTION create_archive_partition(month timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    DECLARE
        v_first timestamptz := date_trunc('month', month, 'UTC');
        v_name text := 'events_archive_' || to_char(v_first AT TIME ZONE 'UTC', 'YYYY_MM');
    BEGIN
        IF to_regclass(quote_ident(v_name)) IS NOT NULL THEN
            RETURN false;
        END IF;
        -- Attached, as readers of the whole would have to wait for one that is created in it.
        EXECUTE format('CREATE TABLE %I (LIKE events_archive INCLUDING ALL)', v_name);
        EXECUTE format(
            'ALTER TABLE events_archive ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            v_name, v_first, (v_first AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
        );
        EXECUTE format(
            'CREATE TRIGGER events_archive_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_event_change()', v_name
        );
        RETURN true;
    END
    $$
    """,
    "REVOKE EXECUTE ON FUNCTION create_archive_partition FROM PUBLIC",
    _APPEND_LOOKING_INTO_ARCHIVE,
    # Who reads events reads those in the archive, too.
    """
    DO $$
    DECLARE
        v_role name;
    BEGIN
        FOR v_role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events'
            AND privilege_type = 'SELECT' AND grantee NOT IN ('PUBLIC', current_user)
        LOOP
            EXECUTE format(
                'GRANT SELECT ON TABLE archive, archive_batches, archive_restored, events_archive,'
                ' events_archive_default TO %I', v_role
            );
        END LOOP;
    END
    $$
    """,
)

SQLITE = (
    "ALTER TABLE aggregates ADD COLUMN archived_through BIGINT NOT NULL DEFAULT 0",
    """
    CREATE TABLE archive (
        id INTEGER NOT NULL,
        ran_at VARCHAR(27),
        CONSTRAINT archive_pkey PRIMARY KEY (id),
        CONSTRAINT archive_single_row_check CHECK (id = 1)
    )
    """,
    """
    CREATE TABLE archive_batches (
        last_position INTEGER NOT NULL,
        first_position BIGINT NOT NULL,
        events INTEGER NOT NULL,
        packs INTEGER NOT NULL,
        bytes BIGINT NOT NULL,
        earliest_occurred_at VARCHAR(27) NOT NULL,
        latest_occurred_at VARCHAR(27) NOT NULL,
        earliest_recorded_at VARCHAR(27) NOT NULL,
        latest_recorded_at VARCHAR(27) NOT NULL,
        dictionary BLOB NOT NULL,
        correlations BLOB NOT NULL,
        archived_at VARCHAR(27) NOT NULL,
        archived_by TEXT NOT NULL,
        CONSTRAINT archive_batches_pkey PRIMARY KEY (last_position)
    )
    """,
    """
    CREATE TABLE archive_restored (
        aggregate_id TEXT NOT NULL,
        restored_at VARCHAR(27) NOT NULL,
        restored_by TEXT NOT NULL,
        CONSTRAINT archive_restored_pkey PRIMARY KEY (aggregate_id)
    )
    """,
    """
    CREATE TABLE events_archive (
        recorded_at VARCHAR(27) NOT NULL,
        first_version BIGINT NOT NULL,
        last_version BIGINT NOT NULL,
        last_position INTEGER NOT NULL,
        aggregate_id TEXT NOT NULL,
        event_ids BLOB NOT NULL,
        digest BLOB NOT NULL,
        events BLOB NOT NULL,
        CONSTRAINT events_archive_pkey PRIMARY KEY (last_position),
        CONSTRAINT events_archive_aggregate_id_first_version_key
            UNIQUE (aggregate_id, first_version)
    )
    """,
    """
    CREATE TRIGGER events_archive_no_update BEFORE UPDATE ON events_archive
    BEGIN SELECT RAISE(ABORT, 'events are immutable: UPDATE refused'); END
    """,
    # REPLACE deletes what is in its way without asking the trigger below.
    """
    CREATE TRIGGER events_archive_no_replace BEFORE INSERT ON events_archive
    WHEN EXISTS (SELECT 1 FROM events_archive WHERE last_position = NEW.last_position)
    OR EXISTS (
        SELECT 1 FROM events_archive
        WHERE aggregate_id = NEW.aggregate_id AND first_version = NEW.first_version
    )
    BEGIN SELECT RAISE(ABORT, 'events are immutable: this one exists'); END
    """,
    """
    CREATE TRIGGER events_archive_no_delete BEFORE DELETE ON events_archive
    WHEN NOT event_store_archiving()
    BEGIN SELECT RAISE(ABORT, 'events are immutable: DELETE refused'); END
    """,
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement.replace(":", r"\:")))
    op.execute("INSERT INTO archive (id) VALUES (1)")


def downgrade() -> None:
    connection = op.get_bind()
    if connection.scalar(sa.text("SELECT EXISTS (SELECT 1 FROM events_archive)")):
        raise CommandError("archived events need this schema; run: hindsight archive restore --all")
    if connection.dialect.name == "postgresql":
        for statement in (_APPEND, _REFUSE):
            replaced = statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
            op.execute(sa.text(replaced.replace(":", r"\:")))
        op.execute("DROP TABLE events_archive")
        op.execute("DROP FUNCTION create_archive_partition")
    else:
        op.execute("DROP TABLE events_archive")
    op.execute("DROP TABLE archive_batches")
    op.execute("DROP TABLE archive_restored")
    op.execute("DROP TABLE archive")
    op.execute("ALTER TABLE aggregates DROP COLUMN archived_through")
