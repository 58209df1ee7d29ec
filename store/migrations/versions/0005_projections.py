"""How far projections have come, and which events they could not take."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

POSTGRESQL = (
    """
    CREATE TABLE checkpoints (
        projection text NOT NULL,
        target text NOT NULL,
        version integer NOT NULL,
        fingerprint text NOT NULL,
        generation integer NOT NULL,
        position bigint NOT NULL,
        goal bigint,
        moved_at timestamptz NOT NULL,
        moved_by text NOT NULL,
        checked_at timestamptz,
        drift bigint,
        CONSTRAINT checkpoints_pkey PRIMARY KEY (projection, target)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE projection_failures (
        projection text NOT NULL,
        position bigint NOT NULL,
        aggregate_id text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        event_type text NOT NULL,
        handler text,
        error text NOT NULL,
        failed_at timestamptz NOT NULL,
        skipped boolean NOT NULL,
        CONSTRAINT projection_failures_pkey PRIMARY KEY (projection, position)
    )
    """,
    # Who reads events may see how far projections are; who appends may run them.
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
            EXECUTE format('GRANT SELECT ON TABLE checkpoints, projection_failures TO %I', v_role);
        END LOOP;
        FOR v_role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events'
            AND privilege_type = 'INSERT' AND grantee NOT IN ('PUBLIC', current_user)
        LOOP
            EXECUTE format(
                'GRANT INSERT, UPDATE, DELETE ON TABLE checkpoints, projection_failures TO %I',
                v_role
            );
        END LOOP;
    END
    $$
    """,
)

SQLITE = (
    """
    CREATE TABLE checkpoints (
        projection TEXT NOT NULL,
        target TEXT NOT NULL,
        version INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        generation INTEGER NOT NULL,
        position BIGINT NOT NULL,
        goal BIGINT,
        moved_at VARCHAR(27) NOT NULL,
        moved_by TEXT NOT NULL,
        checked_at VARCHAR(27),
        drift BIGINT,
        CONSTRAINT checkpoints_pkey PRIMARY KEY (projection, target)
    )
    """,
    """
    CREATE TABLE projection_failures (
        projection TEXT NOT NULL,
        position BIGINT NOT NULL,
        aggregate_id TEXT NOT NULL,
        version BIGINT NOT NULL,
        event_type TEXT NOT NULL,
        handler TEXT,
        error TEXT NOT NULL,
        failed_at VARCHAR(27) NOT NULL,
        skipped BOOLEAN NOT NULL,
        CONSTRAINT projection_failures_pkey PRIMARY KEY (projection, position)
    )
    """,
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    op.execute("DROP TABLE projection_failures")
    op.execute("DROP TABLE checkpoints")
