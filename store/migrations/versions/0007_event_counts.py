"""How many events there are, of which kind and in which hour and day."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

BEGIN = "INSERT INTO rollup VALUES (1, 0)"

POSTGRESQL = (
    """
    CREATE TABLE rollup (
        id integer NOT NULL,
        position bigint NOT NULL,
        CONSTRAINT rollup_pkey PRIMARY KEY (id),
        CONSTRAINT rollup_single_row_check CHECK (id = 1)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE event_totals (
        aggregate_type text NOT NULL,
        event_type text NOT NULL,
        event_version integer NOT NULL,
        events bigint NOT NULL,
        aggregates bigint NOT NULL,
        last_position bigint NOT NULL,
        CONSTRAINT event_totals_pkey PRIMARY KEY (aggregate_type, event_type, event_version)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE event_counts (
        axis text NOT NULL,
        hours integer NOT NULL,
        hour integer NOT NULL,
        aggregate_type text NOT NULL,
        event_type text NOT NULL,
        events bigint NOT NULL,
        first_position bigint NOT NULL,
        last_position bigint NOT NULL,
        CONSTRAINT event_counts_pkey
            PRIMARY KEY (axis, hours, hour, aggregate_type, event_type)
    )
    """,
    BEGIN,
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
            EXECUTE format(
                'GRANT SELECT ON TABLE rollup, event_totals, event_counts TO %I', v_role
            );
        END LOOP;
        FOR v_role IN
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = current_schema() AND table_name = 'events'
            AND privilege_type = 'INSERT' AND grantee NOT IN ('PUBLIC', current_user)
        LOOP
            EXECUTE format('GRANT UPDATE ON TABLE rollup TO %I', v_role);
            EXECUTE format(
                'GRANT INSERT, UPDATE, DELETE ON TABLE event_totals, event_counts TO %I', v_role
            );
        END LOOP;
    END
    $$
    """,
)

SQLITE = (
    """
    CREATE TABLE rollup (
        id INTEGER NOT NULL,
        position BIGINT NOT NULL,
        CONSTRAINT rollup_pkey PRIMARY KEY (id),
        CONSTRAINT rollup_single_row_check CHECK (id = 1)
    )
    """,
    """
    CREATE TABLE event_totals (
        aggregate_type TEXT NOT NULL,
        event_type TEXT NOT NULL,
        event_version INTEGER NOT NULL,
        events BIGINT NOT NULL,
        aggregates BIGINT NOT NULL,
        last_position BIGINT NOT NULL,
        CONSTRAINT event_totals_pkey PRIMARY KEY (aggregate_type, event_type, event_version)
    )
    """,
    """
    CREATE TABLE event_counts (
        axis TEXT NOT NULL,
        hours INTEGER NOT NULL,
        hour INTEGER NOT NULL,
        aggregate_type TEXT NOT NULL,
        event_type TEXT NOT NULL,
        events BIGINT NOT NULL,
        first_position BIGINT NOT NULL,
        last_position BIGINT NOT NULL,
        CONSTRAINT event_counts_pkey
            PRIMARY KEY (axis, hours, hour, aggregate_type, event_type)
    )
    """,
    BEGIN,
)


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[dialect]:
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    op.execute("DROP TABLE event_counts")
    op.execute("DROP TABLE event_totals")
    op.execute("DROP TABLE rollup")
