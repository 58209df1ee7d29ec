"""The log of version conflicts, and samples of the metrics."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

POSTGRESQL = (
    """
    CREATE TABLE conflicts (
        id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
        occurred_at timestamptz NOT NULL,
        aggregate_type text NOT NULL,
        aggregate_id text COLLATE "C",
        expected bigint,
        actual bigint,
        losing text NOT NULL,
        command text,
        event_types text NOT NULL,
        winning text,
        winners text NOT NULL,
        attempt integer NOT NULL,
        outcome text NOT NULL,
        verdict text NOT NULL,
        actor text,
        correlation_id text,
        process text NOT NULL,
        weight bigint NOT NULL,
        CONSTRAINT conflicts_pkey PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX conflicts_occurred_at_idx ON conflicts (occurred_at)",
    """
    CREATE TABLE metric_samples (
        taken_at timestamptz NOT NULL,
        sampler text NOT NULL,
        process text NOT NULL,
        written_at timestamptz NOT NULL,
        data text NOT NULL,
        CONSTRAINT metric_samples_pkey PRIMARY KEY (taken_at, sampler)
    )
    """,
    # Who reads events reads of conflicts, and who appends has some.
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
            EXECUTE format('GRANT SELECT ON TABLE conflicts, metric_samples TO %I', v_role);
        END LOOP;
        FOR v_role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events'
            AND privilege_type = 'INSERT' AND grantee NOT IN ('PUBLIC', current_user)
        LOOP
            EXECUTE format('GRANT INSERT, DELETE ON TABLE conflicts TO %I', v_role);
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON TABLE metric_samples TO %I', v_role);
        END LOOP;
    END
    $$
    """,
)

SQLITE = (
    """
    CREATE TABLE conflicts (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        occurred_at VARCHAR(27) NOT NULL,
        aggregate_type TEXT NOT NULL,
        aggregate_id TEXT,
        expected BIGINT,
        actual BIGINT,
        losing TEXT NOT NULL,
        command TEXT,
        event_types TEXT NOT NULL,
        winning TEXT,
        winners TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        verdict TEXT NOT NULL,
        actor TEXT,
        correlation_id TEXT,
        process TEXT NOT NULL,
        weight BIGINT NOT NULL
    )
    """,
    "CREATE INDEX conflicts_occurred_at_idx ON conflicts (occurred_at)",
    """
    CREATE TABLE metric_samples (
        taken_at VARCHAR(27) NOT NULL,
        sampler TEXT NOT NULL,
        process TEXT NOT NULL,
        written_at VARCHAR(27) NOT NULL,
        data TEXT NOT NULL,
        CONSTRAINT metric_samples_pkey PRIMARY KEY (taken_at, sampler)
    )
    """,
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement))


def downgrade() -> None:
    for table in ("metric_samples", "conflicts"):
        op.execute(f"DROP TABLE {table}")
