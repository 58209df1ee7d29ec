"""The schema's history: each revision goes up and down, on both databases."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, func, select, text

from store.errors import SchemaError

VERSION_TABLE = "event_store_schema"
"""Ours, so that a service with migrations of its own keeps `alembic_version`."""

_LOCK = 0x68696E6473696768  # "hindsigh": an advisory lock has 8 bytes


def upgrade(connection: Connection, revision: str = "head") -> str | None:
    """Bring the schema up to `revision`; does nothing where it is there already.

    Returns the revision before, None where there was no store.

    Raises:
        SchemaError: there is no way from the one revision to the other.
    """
    return _migrate(command.upgrade, connection, revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema down to `revision`; "base" removes the store and every event in it.

    Raises:
        SchemaError: there is no way from the one revision to the other.
    """
    _migrate(command.downgrade, connection, revision)
    if current_revision(connection) is None:
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


def _migrate(
    step: Callable[[Config, str], None], connection: Connection, revision: str
) -> str | None:
    if connection.dialect.name == "postgresql":
        # Who start together migrate in turn; on SQLite the transaction itself sees to it.
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    before = current_revision(connection)
    try:
        step(_config(connection), revision)
    except CommandError as error:
        raise SchemaError(f"cannot migrate from {before} to {revision}: {error}") from None
    return before


def head_revision() -> str:
    """The newest revision this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the package ships at least one migration"  # noqa: S101
    return head


def knows(revision: str) -> bool:
    """Whether this code ships that revision."""
    return any(
        script.revision == revision
        for script in ScriptDirectory.from_config(_config()).walk_revisions()
    )


def current_revision(connection: Connection) -> str | None:
    """The revision the database is at, None where there is no store."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
