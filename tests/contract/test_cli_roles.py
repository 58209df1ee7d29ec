"""The PostgreSQL role a service runs under: everything it needs, nothing more."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
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
