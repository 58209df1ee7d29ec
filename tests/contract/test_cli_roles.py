"""The PostgreSQL role a service runs under: everything it needs, nothing more."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Append, Hindsight, NewEvent, any_, exact, migrate, none
from store.application import migrate_down
from store.cli import hindsight
from store.errors import AccessDenied, VersionConflict
from store.metric_history import Window
from store.metrics import Metrics
from store.outbox.inbox import Inbox
from store.verification import verify
from tests import sums
from tests.servers import PostgresServer
from tests.sums import project, put
from users import domain as users_domain
from users.commands import ChangeEmail, CreateUser

pytestmark = pytest.mark.slow

CREATED = NewEvent("Created", {})


@pytest.fixture
def role(postgres_server: PostgresServer, postgres_url: str) -> Iterator[str]:
    """A role of its own, that `migrate --app-role` has let in."""
    name = f'app "{uuid4().hex}" 100%'
    quoted = '"' + name.replace('"', '""') + '"'
    database = postgres_url.partition("@/")[2].partition("?")[0]
    postgres_server.execute(f"CREATE ROLE {quoted} LOGIN")
    result = CliRunner().invoke(hindsight, ["migrate", "--url", postgres_url, "--app-role", name])
    assert result.exit_code == 0, result.output
    yield name
    postgres_server.execute(f"DROP OWNED BY {quoted} CASCADE", database=database)
    postgres_server.execute(f"DROP ROLE {quoted}")


@pytest.fixture
def service(role: str, postgres_url: str) -> Iterator[Hindsight]:
    """The store, opened by that role."""
    with Hindsight(postgres_url.replace("postgres@", f"{quote(role)}@")) as store:
        yield store


def test_the_role_appends_reads_and_follows(service: Hindsight) -> None:
    service.append("user", "a", [CREATED], expected=none())
    parts = [
        Append(
            aggregate_type="user", aggregate_id=name, events=[NewEvent("E", {})], expected=any_()
        )
        for name in "ab"
    ]
    service.append_all(parts)
    assert [event.position for event in islice(service.follow(), 3)] == [1, 2, 3]
    assert len(list(service.events("a"))) == 2
    assert service.counts().aggregates == len(service.aggregates().items) == 2
    assert verify(service.log).finding_count == 0


def test_the_role_keeps_rollups_and_counts_with_them(service: Hindsight) -> None:
    service.append("user", "a", [CREATED], expected=none())
    service.rollups.roll_up(service.watermark().position)
    assert service.log.rolled_up() == 1
    service.rollups.rebuild(1)
    assert service.counts().events == 1
    assert service.rollups.check().differences == ()


def test_the_role_notes_what_it_has_handled_and_forgets_it(service: Hindsight) -> None:
    [event] = service.append("user", "a", [CREATED], expected=none()).events
    inbox = Inbox(service.database, "mail", kept=timedelta(0))
    assert [inbox.handle(event, lambda _: None) for _ in range(2)] == [True, False]
    assert inbox.trim() == 1


def test_the_role_takes_and_uses_snapshots(role: str, postgres_url: str) -> None:
    url = postgres_url.replace("postgres@", f"{quote(role)}@")
    with Hindsight(url, domain="users:domain", cache=False) as service:
        create = CreateUser(
            username="ada",
            email="ada@a.example",
            full_name="Ada",
            password_hash="…",  # noqa: S106
        )
        service.execute("ada", create)
        for number in range(100):
            service.execute("ada", ChangeEmail(email=f"ada@{number}.example"))
        assert service.load("ada").source == "snapshot"
        assert service.snapshots.prune() == 0
        assert service.snapshots.drop("ada") == 1


def test_who_was_let_in_before_there_were_snapshots_is_let_on(
    postgres_server: PostgresServer, role: str, postgres_url: str
) -> None:
    reader = f"reader_{uuid4().hex}"
    database = postgres_url.partition("@/")[2].partition("?")[0]
    postgres_server.execute(f"CREATE ROLE {reader} LOGIN")
    try:
        migrate_down(postgres_url, "0001")
        granted = "SELECT ON events, aggregates, store_info, event_store_schema"
        postgres_server.execute(f"GRANT {granted} TO {reader}", database=database)
        migrate(postgres_url)
        test_the_role_takes_and_uses_snapshots(role, postgres_url)
        with Hindsight(postgres_url.replace("postgres@", f"{quote(role)}@")) as service:
            service.rollups.roll_up(service.watermark().position)
        url = postgres_url.replace("postgres@", f"{reader}@")
        with Hindsight(url, domain="users:domain", read_only=True) as store:
            assert store.load("ada").state.email == "ada@99.example"
            assert store.counts().events == store.log.rolled_up() == 101
            assert store.aggregates(order="longest").items[0].version == 101
    finally:
        postgres_server.execute(f"DROP OWNED BY {reader} CASCADE", database=database)
        postgres_server.execute(f"DROP ROLE {reader}")


def test_the_role_is_told_of_conflicts_and_duplicates(service: Hindsight) -> None:
    service.append("user", "a", [CREATED], expected=none())
    assert service.append("user", "a", [CREATED], expected=none()).duplicate
    with pytest.raises(VersionConflict):
        service.append("user", "a", [NewEvent("E", {})], expected=exact(4))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET event_type = 'x'",
        "DELETE FROM events",
        "TRUNCATE events",
        "DELETE FROM aggregates",
        "TRUNCATE aggregates",
        "UPDATE store_info SET epoch = 2",
        "DELETE FROM event_store_schema",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TABLE events",
        "SELECT setval('events_position_seq', 1)",
        "CREATE TABLE mine ()",
    ],
)
def test_the_role_may_do_nothing_else(service: Hindsight, sql: str) -> None:
    service.append("user", "a", [CREATED], expected=none())
    with pytest.raises(AccessDenied), service.database.transaction() as connection:
        connection.execute(text(sql))


def test_a_role_must_exist(postgres_url: str) -> None:
    arguments = ["migrate", "--url", postgres_url, "--app-role", "nobody"]
    result = CliRunner().invoke(hindsight, arguments)
    assert (result.exit_code, result.stderr) == (2, "error: no role 'nobody'\n")


def test_an_uninvited_role_is_told_in_one_line(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = f"stranger_{uuid4().hex}"
    postgres_server.execute(f"CREATE ROLE {name} LOGIN")
    url = postgres_url.replace("postgres@", f"{name}@")
    result = CliRunner().invoke(hindsight, ["stats", "--url", url])
    postgres_server.execute(f"DROP ROLE {name}")
    assert result.exit_code == 2
    assert result.stderr == "error: permission denied for table event_store_schema\n"


def test_the_role_writes_down_conflicts_and_samples(role: str, postgres_url: str) -> None:
    url = postgres_url.replace("postgres@", f"{quote(role)}@")
    with Hindsight(url, metrics=Metrics(CollectorRegistry())) as service:
        service.append("user", "a", [CREATED], expected=none())
        with pytest.raises(VersionConflict):
            service.append("user", "a", [NewEvent("E", {})], expected=exact(7))
        assert service.recorder is not None
        service.recorder.flush()  # and a second time into the same row
        service.append("user", "a", [NewEvent("E", {})], expected=any_())
        assert b"event_store_size_bytes" in service.exposition()
    with Hindsight(url, read_only=True) as reader:
        assert len(reader.conflicts.newest()) == 1
        window = Window.until(datetime.now(UTC), step=timedelta(minutes=1), steps=2)
        grown = reader.history.increases("event_store_events_total", window)
        assert sum(grown[()]) == 2


def test_a_role_that_may_not_write_them_down_works_all_the_same(
    role: str,
    postgres_server: PostgresServer,
    postgres_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And writes down what waits once it may."""
    quoted = '"' + role.replace('"', '""') + '"'
    database = postgres_url.partition("@/")[2].partition("?")[0]
    postgres_server.execute(
        f"REVOKE INSERT ON conflicts, metric_samples FROM {quoted}", database=database
    )
    with Hindsight(postgres_url.replace("postgres@", f"{quote(role)}@")) as service:
        for _ in range(2):
            with pytest.raises(VersionConflict):
                service.append("user", "a", [NewEvent("E", {})], expected=exact(7))
            assert service.recorder is not None
            service.recorder.flush()
        service.append("user", "a", [CREATED], expected=none())
        assert service.recorder is not None
        service.recorder.flush()
        assert list(service.conflicts.newest()) == []
        postgres_server.execute(
            f"GRANT INSERT ON conflicts, metric_samples TO {quoted}", database=database
        )
        monkeypatch.setattr("store.recorder.monotonic", lambda: time.monotonic() + 61)
        service.recorder.flush()
        assert len(service.conflicts.newest()) == 2
    assert caplog.text.count("conflicts are written down later: permission denied") == 1
    assert caplog.text.count("metrics are written down later: permission denied") == 1


def test_the_role_keeps_read_models_and_makes_none(role: str, postgres_url: str) -> None:
    with Hindsight(postgres_url, domain=sums.domain) as owner:
        owner.projections.build_missing()
    url = postgres_url.replace("postgres@", f"{quote(role)}@")
    with Hindsight(url, domain=sums.domain) as service:
        put(service, "a", 1, 2)
        project(service)
        row = service.read_model("sums").get("a")
        assert row is not None
        assert row["total"] == 3
        for make in (service.projections.check, service.projections.rebuild):
            with pytest.raises(AccessDenied, match="permission denied"):
                make("sums")
    with Hindsight(url, domain=users_domain) as service:
        told = "who owns the store can: hindsight migrate --domain"
        with pytest.raises(AccessDenied, match=told):
            service.projections.build_missing()


@pytest.fixture
def archiver(postgres_server: PostgresServer, postgres_url: str) -> Iterator[str]:
    """The store's address for a role that `migrate --archiver-role` has let in."""
    name = f"archiver_{uuid4().hex}"
    database = postgres_url.partition("@/")[2].partition("?")[0]
    postgres_server.execute(f"CREATE ROLE {name} LOGIN")
    options = ["migrate", "--url", postgres_url, "--archiver-role", name]
    result = CliRunner().invoke(hindsight, options)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"{name} may append, read and archive\n")
    yield postgres_url.replace("postgres@", f"{name}@")
    postgres_server.execute(f"DROP OWNED BY {name} CASCADE", database=database)
    postgres_server.execute(f"DROP ROLE {name}")


def fill_long_ago(url: str) -> None:
    with Hindsight(url, clock=lambda: datetime(2023, 3, 1, tzinfo=UTC)) as store:
        for name in "ab":
            put(store, name, 1, 2, 3)


def archive(url: str, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(hindsight, ["archive", *arguments, "--url", url])
    assert result.exit_code == code, result.output
    return result.output


def test_the_archiver_archives_restores_and_works(
    archiver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_long_ago(archiver)
    assert archive(archiver, "run", "--domain", "tests.sums:domain").startswith("6 events archived")
    assert "archived  6 events in 2 packs" in archive(archiver, "status")
    assert archive(archiver, "restore", "a").startswith("a: 3 events restored")
    assert archive(archiver, "plan").endswith("moves        nothing\n")
    assert archive(archiver, "give-back", "a").startswith("a: 3 events archived again")
    assert archive(archiver, "export", str(tmp_path)).endswith("6 events exported\n")
    fill_long_ago(archiver)
    monkeypatch.setattr("store.archive.Archive.is_due", lambda _: True)
    working = ["work", "--once", "--url", archiver, "--domain", "tests.sums:bare"]
    result = CliRunner().invoke(hindsight, working)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith("6 events archived\n")
    with Hindsight(archiver, read_only=True) as store:
        assert len(list(store.feed())) == 12


def test_the_application_archives_nothing_and_reads_what_is_archived(
    role: str, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = postgres_url.replace("postgres@", f"{quote(role)}@")
    fill_long_ago(service)
    archive(postgres_url, "run", "--older-than", "9999d", "--keep-active", "2")
    told = "it takes a role that was let in by: hindsight migrate --archiver-role\n"
    for refused in (["run"], ["restore", "a"], ["restore", "--all"], ["give-back", "a"]):
        output = archive(service, *refused, code=2)
        assert output.startswith("error: permission denied for ")
        assert output.endswith(told)
        assert output.count("\n") == 1
    assert caplog.messages == []
    assert "archived  4 events in 2 packs" in archive(service, "status")
    archive(postgres_url, "run")
    assert "archived  6 events in 3 packs" in archive(service, "status")
    assert archive(service, "plan").endswith("moves        nothing\n")
    assert archive(service, "export", str(tmp_path)).endswith("6 events exported\n")
    with Hindsight(service) as store:
        assert [event.position for event in store.feed()] == [1, 2, 3, 4, 5, 6]
        assert store.load("a").version == 3
        put(store, "a", 4)
        assert store.load("a").version == 4


@pytest.mark.parametrize("who", ["archiver", "role"])
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET event_type = 'x'",
        "UPDATE events_archive SET events = ''",
        "UPDATE events_archive_2023_03 SET events = ''",
        "UPDATE events_archive_default SET events = ''",
        "TRUNCATE events_archive",
        "DROP TABLE events_archive_2023_03",
        "ALTER TABLE events_archive DISABLE TRIGGER ALL",
        "UPDATE archive_restored SET restored_by = 'x'",
    ],
)
def test_nobody_changes_what_is_archived(
    request: pytest.FixtureRequest, postgres_url: str, who: str, sql: str
) -> None:
    found = request.getfixturevalue(who)
    fill_long_ago(postgres_url)
    archive(postgres_url, "run")
    url = found if who == "archiver" else postgres_url.replace("postgres@", f"{quote(found)}@")
    with (
        Hindsight(url) as store,
        pytest.raises(AccessDenied),
        store.database.archiving(patience=1.0) as connection,
    ):
        connection.execute(text(sql))


# Roles that migrate makes


@pytest.fixture
def made(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Roles by what they are for, made by one call, and made no more by a second."""
    names = {kind: f"{kind}_{uuid4().hex}" for kind in ("app", "reader", "archiver")}
    for name in names.values():
        (tmp_path / name).write_text(f"secret of {name}\n")
    options = [text for kind, name in names.items() for text in (f"--{kind}-role", name)]
    words = ["migrate", "--url", postgres_url, *options, "--create-roles", str(tmp_path)]
    for _ in range(2):
        result = CliRunner().invoke(hindsight, [*words, "--domain", "users:domain"])
        assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1:] == [
        f"{names['app']} may append and read",
        f"{names['reader']} may read",
        f"{names['archiver']} may append, read and archive",
    ]
    yield names
    database = postgres_url.partition("@/")[2].partition("?")[0]
    for name in names.values():
        postgres_server.execute(f"DROP OWNED BY {name} CASCADE", database=database)
        postgres_server.execute(f"DROP ROLE {name}")


def test_roles_are_made_with_passwords_that_the_server_never_sees(
    postgres_server: PostgresServer, made: dict[str, str]
) -> None:
    query = "SELECT rolpassword, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb FROM pg_authid"
    for name in made.values():
        [(verifier, *rights)] = postgres_server.execute(f"{query} WHERE rolname = '{name}'")
        assert verifier.startswith("SCRAM-SHA-256$")
        assert rights == [True, False, False, False]
    assert "secret of" not in postgres_server.log


def test_the_reader_reads_all_there_is_and_writes_nothing(
    made: dict[str, str], postgres_url: str
) -> None:
    with Hindsight(postgres_url, domain=users_domain) as store:
        create = CreateUser(
            username="ada",
            email="ada@a.example",
            full_name="Ada",
            password_hash="…",  # noqa: S106
        )
        position = store.execute("ada", create).events[-1].position
        for projector in store.own_projectors():
            while projector.once().events:
                pass
        store.snapshot("ada")
    url = postgres_url.replace("postgres@", f"{made['reader']}@")
    with Hindsight(url, domain=users_domain, read_only=True, metrics=False) as reader:
        assert reader.load("ada").version == 1
        assert [event.position for event in reader.feed()] == [position]
        assert reader.watermark().position == position
        assert reader.counts().events == 1
        assert reader.aggregates(order="recent").items[0].aggregate_id == "ada"
        assert [row["user_id"] for row in reader.read_model("users").query().rows] == ["ada"]
        assert reader.outbox.standing().pending == 1
        assert verify(reader.log).finding_count == 0
        assert reader.conflicts.newest() == []
    with Hindsight(url, metrics=False, cache=False) as writer:
        with pytest.raises(AccessDenied):
            writer.append("user", "bob", [CREATED], expected=none())
        for sql in (
            "DELETE FROM outbox",
            "UPDATE checkpoints SET position = 0",
            "DELETE FROM conflicts",
            "CREATE TABLE mine ()",
        ):
            with pytest.raises(AccessDenied), writer.database.transaction() as connection:
                connection.execute(text(sql))


@pytest.mark.parametrize(
    ("file", "complaint"),
    [(None, "No such file or directory"), (b" \n", "is empty"), (b"\xff", "is no text")],
)
def test_a_role_without_a_password_is_not_made(
    postgres_server: PostgresServer,
    postgres_url: str,
    tmp_path: Path,
    file: bytes | None,
    complaint: str,
) -> None:
    if file is not None:
        (tmp_path / "nobody").write_bytes(file)
    words = ["migrate", "--url", postgres_url, "--app-role", "nobody"]
    result = CliRunner().invoke(hindsight, [*words, "--create-roles", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: no password: {tmp_path}/nobody")
    assert complaint in result.stderr
    assert postgres_server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'nobody'") == []
