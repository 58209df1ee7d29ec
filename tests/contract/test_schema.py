"""What the migrations build, what the schema itself refuses, and which schemas are opened."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Inspector, Table, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from store import Hindsight, NewEvent, any_, migrate, migrations
from store.application import connect, migrate_down, parse_url
from store.errors import InvalidSource, SchemaError, StoreUnavailable
from store.records import Event
from tests.archiving import archive_all_but
from tests.servers import PostgresServer


@pytest.fixture
def blank_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with nothing in it."""
    name = f"blank_{uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.url(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def blank_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind with nothing in it; on SQLite not even a file."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'blank.db'}"
    url: str = request.getfixturevalue("blank_postgres")
    return url


def write_two(url: str) -> list[Event]:
    with Hindsight(url) as store:
        events = [NewEvent("Created", {"n": 1}), NewEvent("Renamed", {"n": 2})]
        return list(store.append("user", "u", events, expected=any_()).events)


def stored(url: str) -> list[Event]:
    with Hindsight(url) as store:
        return list(store.feed())


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in one transaction of the store's own; the last one's rows."""
    database = connect(parse_url(url))
    try:
        with database.transaction() as connection:
            for statement in statements:
                result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        database.close()


def with_connection(url: str, question: Callable[[Connection], Any]) -> Any:
    database = connect(parse_url(url))
    try:
        with database.engine.connect() as connection:
            return question(connection)
    finally:
        database.close()


def keys_of(inspector: Inspector, table: str) -> set[tuple[str | None, ...]]:
    """The keys, checks and indexes of a table: each one's name and columns."""
    primary = inspector.get_pk_constraint(table)
    unique = inspector.get_unique_constraints(table)
    indexes = inspector.get_indexes(table)
    return {
        (primary["name"], *primary["constrained_columns"]),
        *((key["name"], *key["column_names"]) for key in unique),
        *((index["name"], *index["column_names"]) for index in indexes),
        *((check["name"],) for check in inspector.get_check_constraints(table)),
    }


def test_migrations_build_the_tables_that_the_code_declares(store: Hindsight) -> None:
    with store.database.engine.connect() as connection:
        options = {
            "version_table": migrations.VERSION_TABLE,
            "compare_type": True,
            # What is made month by month is no table of its own.
            "include_name": lambda name, _, __: not str(name).startswith("events_archive_default"),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, store.database.tables) == []


@pytest.mark.parametrize(
    "table",
    [
        "events",
        "aggregates",
        "snapshots",
        "folds",
        "conflicts",
        "metric_samples",
        "outbox",
        "operations",
        "inbox",
        "rollup",
        "event_totals",
        "event_counts",
        "history_lengths",
        "store_info",
        "archive",
        "archive_batches",
        "archive_restored",
        "events_archive",
    ],
)
def test_migrations_give_keys_checks_and_indexes_the_declared_names(
    store: Hindsight, table: str
) -> None:
    migrated = keys_of(inspect(store.database.engine), table)
    with store.database.transaction() as connection:
        connection.execute(text(f"DROP TABLE {table}"))
        store.database.tables.tables[table].create(connection)
    assert keys_of(inspect(store.database.engine), table) == migrated


def test_migrations_allow_null_where_the_code_declares_it(store: Hindsight) -> None:
    def nullable(table: Table) -> set[str]:
        return {column.name for column in table.columns if column.nullable}

    inspector = inspect(store.database.engine)
    for table in store.database.tables.sorted_tables:
        found = {c["name"] for c in inspector.get_columns(table.name) if c["nullable"]}
        assert found == nullable(table), table.name


def test_the_revisions_are_those_that_alembic_finds() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    found = [script.revision for script in scripts.walk_revisions()]
    assert found[::-1] == migrations.REVISIONS
    assert scripts.get_current_head() == migrations.REVISIONS[-1]


def test_migrating_says_what_was_there_before(blank_url: str) -> None:
    assert migrate(blank_url) is None
    assert migrate(blank_url) == migrations.REVISIONS[-1]


def test_migrating_again_changes_nothing(store_url: str) -> None:
    written = write_two(store_url)
    before = execute(store_url, "SELECT * FROM store_info")
    migrate(store_url)
    assert stored(store_url) == written
    assert execute(store_url, "SELECT * FROM store_info") == before


def leftovers(connection: Connection) -> set[str]:
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("SELECT name FROM sqlite_master")
        return {name for (name,) in found} - {"sqlite_sequence"}  # SQLite's own, for ever
    return {
        name
        for catalogue, column in (("class", "rel"), ("proc", "pro"), ("type", "typ"))
        for (name,) in connection.exec_driver_sql(
            f"SELECT {column}name FROM pg_{catalogue}"
            f" WHERE {column}namespace = 'public'::regnamespace"
        )
    }


def test_migrating_down_leaves_nothing_behind(store_url: str) -> None:
    write_two(store_url)
    migrate_down(store_url, "base")
    assert with_connection(store_url, leftovers) == set()


def test_a_store_works_after_up_down_and_up(store_url: str) -> None:
    write_two(store_url)
    migrate_down(store_url, "base")
    assert migrate(store_url) is None
    written = write_two(store_url)
    assert [event.version for event in written] == [1, 2]
    assert stored(store_url) == written


@pytest.mark.slow
def test_processes_that_migrate_at_once_all_end_well(blank_url: str) -> None:
    code = f"import sys, store; sys.stdin.read(1); store.migrate({blank_url!r})"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(migrations.__file__).parents[2])},
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("g")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 4
    assert write_two(blank_url)[-1].version == 2


_COLUMNS = (
    "version, occurred_at, recorded_at, event_id, event_version, aggregate_id, aggregate_type,"
    " event_type, data, metadata, correlation_id, causation_id, actor, digest"
)
_OTHER_ID = "'00000000-0000-4000-8000-000000000000'"
_AGAIN = f"INTO events ({_COLUMNS}) SELECT {_COLUMNS} FROM events WHERE true"
_SAME_VERSION = f"INTO events ({_COLUMNS}) SELECT {_COLUMNS}".replace(
    "SELECT version, occurred_at, recorded_at, event_id",
    f"SELECT version, occurred_at, recorded_at, {_OTHER_ID}",
)
_SAME_EVENT_ID = f"INTO events ({_COLUMNS}) SELECT {_COLUMNS}".replace(
    "SELECT version", "SELECT version + 10"
)
_SAME_POSITION = f"INTO events (position, {_COLUMNS}) SELECT position, {_COLUMNS}".replace(
    "SELECT position, version, occurred_at, recorded_at, event_id",
    f"SELECT position, version + 10, occurred_at, recorded_at, {_OTHER_ID}",
)
_UPSERT = f"INSERT {_AGAIN} ON CONFLICT (aggregate_id, version) DO UPDATE SET actor = 'x'"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'x'",
        "UPDATE events SET version = version",
        "DELETE FROM events",
        "DELETE FROM events WHERE version = 2",
        "TRUNCATE events",
        "TRUNCATE events RESTART IDENTITY CASCADE",
        "WITH gone AS (DELETE FROM events RETURNING 1) SELECT * FROM gone",
        _UPSERT,
        "MERGE INTO events e USING aggregates a USING_ON WHEN MATCHED THEN DELETE",
        "MERGE INTO events e USING aggregates a USING_ON WHEN MATCHED THEN UPDATE SET actor = 'x'",
    ],
)
def test_postgresql_refuses_to_change_an_event(postgres_url: str, statement: str) -> None:
    written = write_two(postgres_url)
    joined = statement.replace("USING_ON", "ON a.aggregate_id = e.aggregate_id")
    database = connect(parse_url(postgres_url))
    with (
        pytest.raises(DBAPIError, match="events are immutable"),
        database.engine.connect() as connection,
    ):
        connection.exec_driver_sql(joined)
    database.close()
    assert stored(postgres_url) == written


@pytest.fixture(params=["the store's connection", "a stranger's connection"])
def sqlite_connection(
    request: pytest.FixtureRequest, sqlite_url: str
) -> Iterator[sqlite3.Connection]:
    """A connection of the store's, which has the archiver's function, or one that lacks it."""
    if request.param == "a stranger's connection":
        stranger = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
        yield stranger
        stranger.close()
    else:
        with Hindsight(sqlite_url) as store:
            pooled = store.database.engine.raw_connection()
            yield pooled.driver_connection  # type: ignore[misc]
            pooled.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'x'",
        "UPDATE OR REPLACE events SET version = 1",
        "UPDATE OR IGNORE events SET actor = 'x'",
        "DELETE FROM events",
        "DELETE FROM events WHERE version = 2",
        f"REPLACE {_AGAIN}",
        f"INSERT OR REPLACE {_SAME_VERSION} FROM events",
        f"INSERT OR REPLACE {_SAME_EVENT_ID} FROM events",
        f"INSERT OR REPLACE {_SAME_POSITION} FROM events",
        _UPSERT,
    ],
)
def test_sqlite_refuses_to_change_an_event(
    sqlite_url: str, sqlite_connection: sqlite3.Connection, statement: str
) -> None:
    written = write_two(sqlite_url)
    with pytest.raises(sqlite3.Error, match=r"immutable|event_store_archiving"):
        sqlite_connection.execute(statement)
    assert stored(sqlite_url) == written


def test_an_event_written_past_the_store_cannot_take_a_version_twice(store_url: str) -> None:
    written = write_two(store_url)
    with pytest.raises(DBAPIError):
        with_connection(store_url, lambda c: c.exec_driver_sql(f"INSERT {_AGAIN}"))
    assert stored(store_url) == written


def test_sqlite_never_gives_a_position_twice(sqlite_url: str) -> None:
    last = write_two(sqlite_url)[-1].position
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as stranger:
        stranger.execute("DROP TRIGGER events_no_delete")
        stranger.execute("DELETE FROM events WHERE position = ?", (last,))
    stranger.close()
    with Hindsight(sqlite_url) as store:
        appended = store.append("user", "other", [NewEvent("Created", 1)], expected=any_())
    assert appended.position > last


def test_sqlite_runs_with_a_write_ahead_log_and_syncs_every_commit(sqlite_url: str) -> None:
    with Hindsight(sqlite_url) as store:
        for _ in range(2):
            with store.database.engine.connect() as connection:
                connection.invalidate()  # so that the next one is new
            with store.database.engine.connect() as connection:
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_store_knows_itself_by_a_uuid_and_its_first_epoch(store_url: str) -> None:
    [(number, store_id, epoch)] = execute(store_url, "SELECT id, store_id, epoch FROM store_info")
    assert (number, epoch) == (1, 1)
    assert UUID(str(store_id)).version == 4


def test_two_stores_have_two_ids(blank_url: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    ids = set()
    for url in (blank_url, other):
        migrate(url)
        [(store_id,)] = execute(url, "SELECT store_id FROM store_info")
        ids.add(str(store_id))
    assert len(ids) == 2


def test_a_store_describes_itself_once_only(store_url: str) -> None:
    with pytest.raises(DBAPIError):
        with_connection(
            store_url,
            lambda c: c.exec_driver_sql(
                f"INSERT INTO store_info VALUES (2, {_OTHER_ID}, 1, '0.1.0')"
            ),
        )


def refusal(url: str, kind: type[Exception]) -> str:
    with pytest.raises(kind) as refused:
        Hindsight(url)
    message = str(refused.value)
    assert message
    assert "\n" not in message
    return message


def test_a_missing_file_is_named_and_not_created(tmp_path: Path) -> None:
    path = tmp_path / "absent.db"
    assert refusal(f"sqlite:///{path}", SchemaError) == (
        f"no event store in {path}; run: hindsight migrate"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_a_store_says_run_migrate(blank_url: str) -> None:
    if blank_url.startswith("sqlite"):
        Path(str(make_url(blank_url).database)).touch()
    assert refusal(blank_url, SchemaError) == "no event store here; run: hindsight migrate"


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear reader, this is no database.\n" * 50)
    refusal(f"sqlite:///{path}", StoreUnavailable)


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    refusal(f"sqlite:///{tmp_path}", SchemaError)


def test_an_unknown_database_is_refused(postgres_server: PostgresServer) -> None:
    assert "does not exist" in refusal(postgres_server.url("nowhere"), StoreUnavailable)


def test_a_server_that_does_not_answer_is_refused(tmp_path: Path) -> None:
    refusal(f"postgresql://postgres@/store?host={tmp_path}", StoreUnavailable)


@pytest.mark.parametrize("url", ["mysql://localhost/events", "no url", "sqlite", ""])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidSource) as refused:
        parse_url(url)
    assert "sqlite:///PATH" in str(refused.value)


def pretend(url: str, *, revision: str, minimum: str) -> None:
    execute(
        url,
        f"UPDATE {migrations.VERSION_TABLE} SET version_num = '{revision}'",
        f"UPDATE store_info SET minimum_version = '{minimum}'",
    )


@pytest.mark.parametrize("minimum", ["0.0.1", "0.1.0"])
def test_a_newer_schema_that_allows_this_code_is_opened(store_url: str, minimum: str) -> None:
    pretend(store_url, revision="9999", minimum=minimum)
    assert stored(store_url) == []
    assert write_two(store_url)[-1].version == 2


@pytest.mark.parametrize("minimum", ["0.1.1", "0.10.0", "99.0.0rc1"])
def test_a_newer_schema_that_needs_newer_code_is_refused(store_url: str, minimum: str) -> None:
    pretend(store_url, revision="9999", minimum=minimum)
    assert refusal(store_url, SchemaError) == (
        f"the schema at 9999 needs version {minimum} or later of this code"
    )


def test_a_schema_of_the_future_is_not_migrated(store_url: str) -> None:
    pretend(store_url, revision="9999", minimum="0.0.1")
    with pytest.raises(SchemaError, match="9999") as refused:
        migrate(store_url)
    assert "\n" not in str(refused.value)
    assert stored(store_url) == []


def test_an_older_schema_says_run_migrate(store_url: str) -> None:
    migrate_down(store_url, "0001")
    behind = "the schema is at 0001, behind this code; run: hindsight migrate"
    assert refusal(store_url, SchemaError) == behind


def test_each_migration_goes_down_and_up_and_keeps_the_events(store_url: str) -> None:
    written = write_two(store_url)
    migrate_down(store_url, "0001")
    assert migrate(store_url) == "0001"
    assert stored(store_url) == written


def test_a_migration_fills_in_how_long_histories_were_where_the_rollups_end(
    store_url: str,
) -> None:
    def append(store: Hindsight, name: str, events: int) -> None:
        for _ in range(events):
            store.append("user", name, [NewEvent("Created", 1)], expected=any_())

    with Hindsight(store_url) as store:
        append(store, "archived", 3)
        append(store, "a", 2)
        archive_all_but(store, 2)
        append(store, "a", 4)
        append(store, "new", 1)
        kept = "SELECT * FROM history_lengths ORDER BY 1"
        before = store.database.rows(kept, {})
    assert before == [("a", "user", 2, 5), ("archived", "user", 3, 3)]
    migrate_down(store_url, "0007")
    migrate(store_url)
    with Hindsight(store_url) as store:
        assert store.database.rows(kept, {}) == before
        assert store.rollups.check().differences == ()
