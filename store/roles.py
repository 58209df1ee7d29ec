"""What the roles of a store may do on PostgreSQL, and nothing more."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from psycopg import Connection as Driver
from psycopg import errors as pg
from psycopg.sql import Identifier
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from store.errors import NotFound
from store.migrations import VERSION_TABLE

GRANTS = (
    "USAGE ON SCHEMA {schema}",
    "SELECT, INSERT ON TABLE events",
    # Locking a head is an UPDATE to PostgreSQL even where nothing is changed.
    "SELECT, INSERT, UPDATE ON TABLE aggregates",
    "SELECT, INSERT, UPDATE, DELETE ON TABLE snapshots, folds, outbox",
    "SELECT, INSERT, UPDATE, DELETE ON TABLE checkpoints, projection_failures",
    "SELECT, UPDATE ON TABLE rollup",
    "SELECT, INSERT, UPDATE, DELETE ON TABLE event_totals, event_counts, history_lengths",
    "SELECT, INSERT ON TABLE operations",
    # Packs in the default partition are counted there.
    "SELECT ON TABLE archive, archive_batches, archive_restored, events_archive",
    "SELECT ON TABLE events_archive_default",
    "SELECT, INSERT, DELETE ON TABLE conflicts, inbox",
    "SELECT, INSERT, UPDATE, DELETE ON TABLE metric_samples",
    f"SELECT ON TABLE store_info, {VERSION_TABLE}",
    # Followers ask for the last position drawn; drawing one takes no right on an identity.
    "SELECT ON SEQUENCE events_position_seq",
    "EXECUTE ON FUNCTION append_events, event_digest",
)


ARCHIVER = (
    # To lock, and to count, what others wrote is an UPDATE or SELECT; to move it, a DELETE.
    "SELECT, INSERT, DELETE ON TABLE events, events_archive, archive_restored",
    "SELECT, INSERT, UPDATE ON TABLE archive_batches",
    "SELECT, UPDATE ON TABLE archive",
    "EXECUTE ON FUNCTION create_archive_partition",
)


READER = (
    "USAGE ON SCHEMA {schema}",
    "SELECT ON TABLE events, aggregates, snapshots, folds, outbox, operations, inbox",
    "SELECT ON TABLE checkpoints, projection_failures, conflicts, metric_samples",
    "SELECT ON TABLE rollup, event_totals, event_counts, history_lengths",
    "SELECT ON TABLE archive, archive_batches, archive_restored, events_archive",
    f"SELECT ON TABLE events_archive_default, store_info, {VERSION_TABLE}",
    # Without it the last position drawn is unknown, which is an error and not 0.
    "SELECT ON SEQUENCE events_position_seq",
    "EXECUTE ON FUNCTION event_digest",
)


def create_roles(connection: Connection, roles: Iterable[str], folder: Path) -> None:
    """Make those roles that are not there yet, which may log in.

    The file of a role's name in `folder` has its password, of which the server is told only a
    verifier.

    Raises:
        NotFound: there is no such file, or no text in it.
    """
    known = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
    driver = connection.connection.driver_connection
    assert isinstance(driver, Driver)  # noqa: S101
    passwords = {role: _password(folder / role) for role in roles if role not in known}
    for role, password in passwords.items():
        verifier = driver.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        ).decode()
        connection.exec_driver_sql(f"CREATE ROLE {_quoted(role)} LOGIN PASSWORD '{verifier}'")


def _password(file: Path) -> str:
    try:
        password = file.read_text().strip()
    except OSError as error:
        raise NotFound(f"no password: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NotFound(f"no password: {file} is no text") from None
    if not password:
        raise NotFound(f"no password: {file} is empty")
    return password


def grant_reader(connection: Connection, role: str) -> None:
    """Let an existing role read all there is, and write nothing.

    Raises:
        NotFound: there is no such role.
    """
    _grant(connection, role, READER)


def grant_archiver(connection: Connection, role: str) -> None:
    """Let an existing role move events to the archive and back, beside what services may.

    Raises:
        NotFound: there is no such role.
    """
    _grant(connection, role, GRANTS + ARCHIVER)


def grant_application(connection: Connection, role: str) -> None:
    """Let an existing role append and read; events it can neither change nor remove.

    Raises:
        NotFound: there is no such role.
    """
    _grant(connection, role, GRANTS)


def _grant(connection: Connection, role: str, grants: Sequence[str]) -> None:
    schema = _quoted(str(connection.scalar(text("SELECT current_schema()"))))
    try:
        for grant in grants:
            connection.exec_driver_sql(f"GRANT {grant.format(schema=schema)} TO {_quoted(role)}")
    except DBAPIError as error:
        if isinstance(error.orig, pg.UndefinedObject):
            raise NotFound(f"no role {role!r}") from None
        raise


def _quoted(name: str) -> str:
    # A percent sign would be a placeholder to the driver.
    return Identifier(name).as_string().replace("%", "%%")
