"""How long each history is and where it ends, in orders that listings read."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# As long as it was where the rollups end: versions have no gaps.
FILL = """
    INSERT INTO history_lengths (aggregate_id, aggregate_type, version, last_position)
    SELECT kept.aggregate_id, kept.aggregate_type, kept.version, coalesce(
        (
            SELECT e.position FROM events AS e
            WHERE e.aggregate_id = kept.aggregate_id AND e.version = kept.version
        ), (
            SELECT p.last_position FROM events_archive AS p
            WHERE p.aggregate_id = kept.aggregate_id AND p.last_version = kept.version
        ), 0
    )
    FROM (
        SELECT
            a.aggregate_id, a.aggregate_type, a.version - coalesce(behind.events, 0) AS version
        FROM aggregates AS a LEFT JOIN (
            SELECT aggregate_id, count(*) AS events FROM events
            WHERE position > (SELECT position FROM rollup) GROUP BY aggregate_id
        ) AS behind ON behind.aggregate_id = a.aggregate_id
    ) AS kept
    WHERE kept.version > 0
"""

INDEXES = (
    "CREATE INDEX history_lengths_version_idx ON history_lengths (version DESC, aggregate_id)",
    """
    CREATE INDEX history_lengths_aggregate_type_version_idx
    ON history_lengths (aggregate_type, version DESC, aggregate_id)
    """,
    "CREATE INDEX history_lengths_last_position_idx ON history_lengths (last_position)",
    """
    CREATE INDEX history_lengths_aggregate_type_last_position_idx
    ON history_lengths (aggregate_type, last_position)
    """,
)

POSTGRESQL = (
    """
    CREATE TABLE history_lengths (
        aggregate_id text COLLATE "C" NOT NULL,
        aggregate_type text NOT NULL,
        version bigint NOT NULL,
        last_position bigint NOT NULL,
        CONSTRAINT history_lengths_pkey PRIMARY KEY (aggregate_id)
    )
    """,
    FILL,
    *INDEXES,
    # Who reads events may read how many there are; who appends may count them.
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
            EXECUTE format('GRANT SELECT ON TABLE history_lengths TO %I', v_role);
        END LOOP;
        FOR v_role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events'
            AND privilege_type = 'INSERT' AND grantee NOT IN ('PUBLIC', current_user)
        LOOP
            EXECUTE format(
                'GRANT INSERT, UPDATE, DELETE ON TABLE history_lengths TO %I', v_role
            );
        END LOOP;
    END
    $$
    """,
)

SQLITE = (
    """
    CREATE TABLE history_lengths (
        aggregate_id TEXT NOT NULL,
        aggregate_type TEXT NOT NULL,
        version BIGINT NOT NULL,
        last_position BIGINT NOT NULL,
        CONSTRAINT history_lengths_pkey PRIMARY KEY (aggregate_id)
    ) WITHOUT ROWID
    """,
    FILL,
    *INDEXES,
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    op.execute("DROP TABLE history_lengths")
