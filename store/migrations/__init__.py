"""The schema's history: each revision goes up and down, on both databases."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

VERSION_TABLE = "event_store_schema"
"""Ours, so that a service with migrations of its own keeps `alembic_version`."""


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema up to `revision`; does nothing where it is there already."""
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema down to `revision`; "base" removes the store and every event in it."""
    command.downgrade(_config(connection), revision)


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
