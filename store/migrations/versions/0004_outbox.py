"""The outbox: what is to be published, written with the events; and what consumers have handled."""

import importlib

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_EVENT_LOG = importlib.import_module("store.migrations.versions.0001_event_log")
_APPEND = next(each for each in _EVENT_LOG.POSTGRESQL if "CREATE FUNCTION append_events" in each)
_WRITTEN = "RETURNING position, recorded_at, digest\n        )"
# Code of before calls it without the last parameter, and writes no outbox.
_APPEND_AND_NOTE = _APPEND.replace(
    "e_recorded timestamptz[],\n", "e_recorded timestamptz[], p_publish boolean DEFAULT false,\n"
).replace(
    _WRITTEN,
    """RETURNING position, recorded_at, digest, aggregate_id, version, event_id
        ), noted AS (
            INSERT INTO outbox (aggregate_id, version, position, event_id, created_at)
            SELECT aggregate_id, version, position, event_id, recorded_at
            FROM inserted WHERE p_publish
        )""",
)

# Rows change often and go soon, so they have room on their page, and are cleared away early.
POSTGRESQL = (
    """
    CREATE TABLE outbox (
        aggregate_id text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        position bigint NOT NULL,
        event_id uuid NOT NULL,
        status text NOT NULL DEFAULT 'pending',
        open boolean NOT NULL DEFAULT true,
        attempts integer NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL,
        next_attempt_at timestamptz,
        attempted_at timestamptz,
        finished_at timestamptz,
        last_error text,
        lease uuid,
        leased_by text,
        leased_until timestamptz,
        CONSTRAINT outbox_pkey PRIMARY KEY (aggregate_id, version)
    ) WITH (
        fillfactor = 80,
        autovacuum_vacuum_scale_factor = 0.01,
        autovacuum_vacuum_insert_scale_factor = 0.1
    )
    """,
    "CREATE INDEX outbox_open_idx ON outbox (aggregate_id, version) WHERE open",
    "CREATE INDEX outbox_failed_idx ON outbox (aggregate_id, version) WHERE status = 'failed'",
    "CREATE INDEX outbox_skipped_idx ON outbox (aggregate_id, version) WHERE status = 'skipped'",
    "CREATE INDEX outbox_finished_at_idx ON outbox (finished_at) WHERE status = 'published'",
    """
    CREATE TABLE operations (
        id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
        occurred_at timestamptz NOT NULL,
        actor text NOT NULL,
        action text NOT NULL,
        aggregate_id text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        reason text NOT NULL,
        CONSTRAINT operations_pkey PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX operations_aggregate_id_id_idx ON operations (aggregate_id, id)",
    """
    CREATE TABLE inbox (
        consumer text NOT NULL,
        aggregate_id text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        handled_at timestamptz NOT NULL,
        CONSTRAINT inbox_pkey PRIMARY KEY (consumer, aggregate_id, version)
    )
    """,
    "CREATE INDEX inbox_handled_at_idx ON inbox USING brin (handled_at)",
    "DROP FUNCTION append_events",
    _APPEND_AND_NOTE,
    # Who reads events may see what became of them; who appends, and who relays, writes here.
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
            EXECUTE format('GRANT SELECT ON TABLE outbox, operations, inbox TO %I', v_role);
        END LOOP;
        FOR v_role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events'
            AND privilege_type = 'INSERT' AND grantee NOT IN ('PUBLIC', current_user)
        LOOP
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON TABLE outbox TO %I', v_role);
            EXECUTE format('GRANT INSERT ON TABLE operations TO %I', v_role);
            EXECUTE format('GRANT INSERT, DELETE ON TABLE inbox TO %I', v_role);
            EXECUTE format('GRANT EXECUTE ON FUNCTION append_events TO %I', v_role);
        END LOOP;
    END
    $$
    """,
)

SQLITE = (
    """
    CREATE TABLE outbox (
        aggregate_id TEXT NOT NULL,
        version BIGINT NOT NULL,
        position INTEGER NOT NULL,
        event_id VARCHAR(36) NOT NULL,
        status TEXT NOT NULL DEFAULT 'pending',
        open BOOLEAN NOT NULL DEFAULT 1,
        attempts INTEGER NOT NULL DEFAULT 0,
        created_at VARCHAR(27) NOT NULL,
        next_attempt_at VARCHAR(27),
        attempted_at VARCHAR(27),
        finished_at VARCHAR(27),
        last_error TEXT,
        lease VARCHAR(36),
        leased_by TEXT,
        leased_until VARCHAR(27),
        CONSTRAINT outbox_pkey PRIMARY KEY (aggregate_id, version)
    )
    """,
    "CREATE INDEX outbox_open_idx ON outbox (aggregate_id, version) WHERE open",
    "CREATE INDEX outbox_failed_idx ON outbox (aggregate_id, version) WHERE status = 'failed'",
    "CREATE INDEX outbox_skipped_idx ON outbox (aggregate_id, version) WHERE status = 'skipped'",
    "CREATE INDEX outbox_finished_at_idx ON outbox (finished_at) WHERE status = 'published'",
    """
    CREATE TABLE operations (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        occurred_at VARCHAR(27) NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        aggregate_id TEXT NOT NULL,
        version BIGINT NOT NULL,
        reason TEXT NOT NULL
    )
    """,
    "CREATE INDEX operations_aggregate_id_id_idx ON operations (aggregate_id, id)",
    """
    CREATE TABLE inbox (
        consumer TEXT NOT NULL,
        aggregate_id TEXT NOT NULL,
        version BIGINT NOT NULL,
        handled_at VARCHAR(27) NOT NULL,
        CONSTRAINT inbox_pkey PRIMARY KEY (consumer, aggregate_id, version)
    )
    """,
    "CREATE INDEX inbox_handled_at_idx ON inbox (handled_at)",
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION append_events")
        op.execute(sa.text(_APPEND.replace(":", r"\:")))
    op.execute("DROP TABLE operations")
    op.execute("DROP TABLE inbox")
    op.execute("DROP TABLE outbox")
