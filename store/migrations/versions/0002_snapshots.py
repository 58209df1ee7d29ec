"""Snapshots of states, and which folds are about."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

POSTGRESQL = (
    """
    CREATE TABLE snapshots (
        aggregate_id text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        fingerprint text NOT NULL,
        upcasters text NOT NULL,
        state json NOT NULL,
        digest text NOT NULL,
        event_digest bytea NOT NULL,
        taken_at timestamptz NOT NULL,
        CONSTRAINT snapshots_pkey PRIMARY KEY (aggregate_id, version, fingerprint)
    )
    """,
    "CREATE INDEX snapshots_fingerprint_idx ON snapshots (fingerprint)",
    """
    CREATE TABLE folds (
        fingerprint text NOT NULL,
        aggregate_type text NOT NULL,
        seen_at timestamptz NOT NULL,
        CONSTRAINT folds_pkey PRIMARY KEY (fingerprint)
    )
    """,
    # Who reads events reads snapshots of them, and who appends takes some.
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
            EXECUTE format('GRANT SELECT ON TABLE snapshots, folds TO %I', v_role);
        END LOOP;
        FOR v_role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events'
            AND privilege_type = 'INSERT' AND grantee NOT IN ('PUBLIC', current_user)
        LOOP
            EXECUTE format(
                'GRANT INSERT, UPDATE, DELETE ON TABLE snapshots, folds TO %I', v_role
            );
        END LOOP;
    END
    $$
    """,
)

SQLITE = (
    """
    CREATE TABLE snapshots (
        aggregate_id TEXT NOT NULL,
        version BIGINT NOT NULL,
        fingerprint TEXT NOT NULL,
        upcasters TEXT NOT NULL,
        state TEXT NOT NULL,
        digest TEXT NOT NULL,
        event_digest BLOB NOT NULL,
        taken_at VARCHAR(27) NOT NULL,
        CONSTRAINT snapshots_pkey PRIMARY KEY (aggregate_id, version, fingerprint)
    )
    """,
    "CREATE INDEX snapshots_fingerprint_idx ON snapshots (fingerprint)",
    """
    CREATE TABLE folds (
        fingerprint TEXT NOT NULL,
        aggregate_type TEXT NOT NULL,
        seen_at VARCHAR(27) NOT NULL,
        CONSTRAINT folds_pkey PRIMARY KEY (fingerprint)
    )
    """,
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement))


def downgrade() -> None:
    for table in ("snapshots", "folds"):
        op.execute(f"DROP TABLE {table}")
