"""The schema's history: each revision goes up and down, on both databases."""

from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, func, select, text

from store.errors import SchemaError

VERSION_TABLE = "event_store_schema"
"""Ours, so that a service with migrations of its own keeps `alembic_version`."""
REVISIONS = sorted(
    path.name.partition("_")[0] for path in Path(__file__).parent.glob("versions/[0-9]*.py")
)
"""Those that this code ships, the newest last."""

_LOCK = 0x68696E6473696768  # "hindsigh": an advisory lock has 8 bytes


def upgrade(connection: Connection, revision: str = "head") -> str | None:
    """Bring the schema up to `revision`; does nothing where it is there already.

    Returns the revision before, None where there was no store.

    Raises:
        SchemaError: there is no way from the one revision to the other.
    """
    return _migrate("upgrade", connection, revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema down to `revision`; "base" removes the store and every event in it.

    Raises:
        SchemaError: there is no way from the one revision to the other.
    """
    _migrate("downgrade", connection, revision)
    if current_revision(connection) is None:
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


def _migrate(
    step: Literal["upgrade", "downgrade"], connection: Connection, revision: str
) -> str | None:
    # A fifth of what it takes to start a command, of which few migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        # Who start together migrate in turn; on SQLite the transaction itself sees to it.
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    before = current_revision(connection)
    try:
        getattr(command, step)(config, revision)
    except CommandError as error:
        raise SchemaError(f"cannot migrate from {before} to {revision}: {error}") from None
    return before


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at, None where there is no store."""
    if not connection.dialect.has_table(connection, VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 (a constant)
    return found
