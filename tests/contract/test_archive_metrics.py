"""What Prometheus is told of the archive."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Hindsight, Metrics
from store.errors import AccessDenied, SchemaError, StatementTimeout
from tests import prometheus
from tests.archiving import keeping
from tests.totals import put

Value = Callable[..., float | None]
LONG_AGO = datetime(2023, 3, 1, tzinfo=UTC)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def store(store_url: str, registry: CollectorRegistry) -> Iterator[Hindsight]:
    clock = lambda: LONG_AGO  # noqa: E731 (of all events)
    with Hindsight(store_url, metrics=Metrics(registry), clock=clock) as opened:
        yield opened


@pytest.fixture
def value(store: Hindsight, registry: CollectorRegistry) -> Value:
    """What a metric tells now."""

    def read(name: str) -> float | None:
        store._gauges._again = 0.0
        return registry.get_sample_value(f"event_store_{name}")

    return read


def test_before_a_first_run_there_is_none(store: Hindsight, value: Value) -> None:
    put(store, 1, 2, 3)
    assert (value("archived_events"), value("archived_bytes"), value("active_rows")) == (0, 0, 3)
    assert value("archive_missing_partitions") == 0
    assert value("archive_last_run_timestamp_seconds") is None
    assert b"event_store_archive_last_run" not in store.exposition()


def test_it_is_told_how_much_is_archived(store: Hindsight, value: Value) -> None:
    put(store, *range(20, 30))
    started = datetime.now(UTC).timestamp()
    [moved] = store.archive.run(keeping(4))
    assert (value("archived_events"), value("archived_bytes")) == (6, moved.bytes)
    assert value("active_rows") == 4
    ran_at = value("archive_last_run_timestamp_seconds")
    assert ran_at is not None
    assert started <= ran_at <= datetime.now(UTC).timestamp()
    store.archive.restore("a")
    assert (value("archived_events"), value("archived_bytes"), value("active_rows")) == (0, 0, 10)


def test_what_is_active_is_what_postgresql_believes(
    postgres_url: str, registry: CollectorRegistry
) -> None:
    with Hindsight(postgres_url, metrics=Metrics(registry)) as store:
        put(store, 1, 2, 3)
        with store.database.transaction() as connection:
            connection.execute(text("ANALYZE events"))
        put(store, 4)
        store._gauges._again = 0.0
        assert registry.get_sample_value("event_store_active_rows") == 3


def test_partitions_that_are_missing_are_counted(
    postgres_url: str, registry: CollectorRegistry
) -> None:
    metrics = Metrics(registry)
    with Hindsight(postgres_url, metrics=metrics, clock=lambda: LONG_AGO) as store:
        put(store, 1, 2)
        list(store.archive.run(keeping(1)))
        name = "event_store_archive_missing_partitions"
        assert registry.get_sample_value(name) == 0
        with store.database.transaction() as connection:
            connection.execute(text("DROP TABLE events_archive_2023_04"))
        store._gauges._again = 0.0
        assert registry.get_sample_value(name) == 1


@pytest.mark.parametrize("error", [StatementTimeout, AccessDenied, SchemaError])
def test_who_may_not_know_is_told_the_rest(
    store: Hindsight, value: Value, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    put(store, 1, 2, 3)
    assert value("active_rows") == 3
    put(store, 4)
    kept = store._aside.select

    def select(statement: object) -> object:
        if "archive" in str(statement):
            raise error("canceling statement")
        return kept(statement)  # type: ignore[arg-type]

    monkeypatch.setattr(store._aside, "select", select)
    monkeypatch.setattr(store._aside, "bytes_used", lambda: 12_345)
    assert value("active_rows") == 3
    assert b"event_store_size_bytes 12345.0" in store.exposition()


def test_a_schema_that_knows_no_archive_yet_breaks_nothing(store: Hindsight, value: Value) -> None:
    with store.database.transaction() as connection:
        connection.execute(text("DROP TABLE archive"))
    assert value("active_rows") is None
    assert b"event_store_size_bytes" in store.exposition()


def test_promtool_finds_nothing_wrong(store: Hindsight) -> None:
    put(store, 1)
    list(store.archive.run(keeping(0)))
    exposition = store.exposition()
    assert b"event_store_archive_last_run_timestamp_seconds" in exposition
    assert prometheus.complaints(exposition) == ""
