"""What Prometheus is told of projections."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Hindsight, Metrics, NewEvent, any_
from store.errors import AccessDenied, ProjectionFailed, SchemaError, StatementTimeout
from tests import prometheus, sums
from tests.sums import project, put

Value = Callable[..., float | None]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def store(store_url: str, registry: CollectorRegistry) -> Iterator[Hindsight]:
    with Hindsight(store_url, domain=sums.domain, metrics=Metrics(registry)) as opened:
        yield opened


@pytest.fixture
def value(store: Hindsight, registry: CollectorRegistry) -> Value:
    """What a metric of the projection tells now."""
    return lambda name, **labels: told(store, registry, name, **labels)


def told(store: Hindsight, registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    store._gauges._again = 0.0
    named = {"projection": "sums", **labels}
    return registry.get_sample_value(f"event_store_projection_{name}", named)


def test_there_is_nothing_to_tell_before_there_is_a_table(store: Hindsight, value: Value) -> None:
    put(store, "a", 1)
    assert value("lag_events") is None
    assert b"event_store_size_bytes" in store.exposition()


def test_it_is_told_how_far_each_is_behind(store: Hindsight, value: Value) -> None:
    project(store)
    assert (value("lag_events"), value("lag_seconds")) == (0, 0)
    put(store, "a", 1, 2)
    put(store, "b", 3)
    assert value("lag_events") == 3
    lag = value("lag_seconds")
    assert lag is not None
    assert 0 < lag < 60
    project(store)
    assert (value("lag_events"), value("lag_seconds")) == (0, 0)


def test_the_age_is_that_of_the_oldest_event_that_was_not_taken(
    store_url: str, registry: CollectorRegistry
) -> None:
    now = [datetime.now(UTC) - timedelta(hours=2)]
    metrics = Metrics(registry)
    with Hindsight(store_url, domain=sums.domain, metrics=metrics, clock=lambda: now[0]) as store:
        put(store, "a", 1)
        project(store)
        now[0] += timedelta(hours=1)
        put(store, "a", 2)
        now[0] += timedelta(minutes=30)
        put(store, "b", 3)
        lag = told(store, registry, "lag_seconds")
        assert lag == pytest.approx(3_600, abs=60)


def test_the_lag_is_there_while_a_transaction_holds_readers(
    postgres_url: str, registry: CollectorRegistry
) -> None:
    """The watermark stands still, and all that may be taken is taken: that is no lag of zero."""
    with Hindsight(postgres_url, domain=sums.domain, metrics=Metrics(registry)) as store:
        put(store, "a", 1)
        project(store)
        with store.database.transaction() as connection:
            late = [NewEvent("Added", {"number": 5})]
            store.append("total", "late", late, expected=any_(), connection=connection)
            put(store, "a", 2, 4)
            project(store)
            assert store.watermark().position == 1
            assert told(store, registry, "lag_events") == 2
            assert told(store, registry, "lag_seconds") != 0
        project(store)
        assert told(store, registry, "lag_events") == 0


def test_more_events_than_are_counted_are_counted_as_so_many(
    store: Hindsight, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("store.projections.standing"), "COUNTED", 2)
    project(store)
    put(store, "a", 1, 2, 3)
    assert value("lag_events") == 2


def test_events_that_could_not_be_taken_are_counted(
    store: Hindsight, value: Value, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(store)
    assert (value("failures", kind="waiting"), value("failures", kind="skipped")) == (0, 0)
    put(store, "a", 13, 13, 1, 13)
    with pytest.raises(ProjectionFailed):
        project(store)
    assert (value("failures", kind="waiting"), value("failures", kind="skipped")) == (1, 0)
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    with Hindsight(store_url, domain=sums.domain, metrics=False) as skipping:
        project(skipping)
    assert (value("failures", kind="waiting"), value("failures", kind="skipped")) == (0, 3)


def test_drift_is_told_where_it_was_looked_for(store: Hindsight, value: Value) -> None:
    put(store, "a", 1)
    put(store, "b", 1)
    project(store)
    assert value("drift_rows") is None
    assert store.projections.check("sums").compared.drift == 0
    assert value("drift_rows") == 0
    with store.database.transaction() as connection:
        connection.execute(text("UPDATE sums SET total = 7"))
    store.projections.check("sums")
    assert value("drift_rows") == 2
    store.projections.rebuild("sums")
    assert value("drift_rows") == 0


def test_what_is_being_built_is_no_projection_of_its_own(store: Hindsight) -> None:
    put(store, "a", 1)
    project(store)
    columns = "projection, version, fingerprint, generation, moved_at, moved_by"
    with store.database.transaction() as connection:
        connection.execute(
            text(
                f"INSERT INTO checkpoints ({columns}, target, position)"
                f" SELECT {columns}, 'rebuild', 0 FROM checkpoints"
            )
        )
    lines = store.exposition().splitlines()
    [line] = [line for line in lines if line.startswith(b"event_store_projection_lag_events{")]
    assert line == b'event_store_projection_lag_events{projection="sums"} 0.0'


def test_who_has_no_code_of_it_tells_of_it_too(store: Hindsight, store_url: str) -> None:
    project(store)
    put(store, "a", 1)
    registry = CollectorRegistry()
    with Hindsight(store_url, metrics=Metrics(registry), read_only=True) as other:
        assert told(other, registry, "lag_events") == 1


@pytest.mark.parametrize("error", [StatementTimeout, AccessDenied, SchemaError])
def test_who_may_not_know_is_told_the_rest(
    store: Hindsight, value: Value, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    project(store)
    put(store, "a", 1)
    assert value("lag_events") == 1
    put(store, "a", 2)
    kept = store._aside.select

    def select(statement: object) -> object:
        if "checkpoints" in str(statement):
            raise error("canceling statement")
        return kept(statement)  # type: ignore[arg-type]

    monkeypatch.setattr(store._aside, "select", select)
    monkeypatch.setattr(store._aside, "bytes_used", lambda: 12_345)
    assert value("lag_events") == 1
    assert b"event_store_size_bytes 12345.0" in store.exposition()


def test_a_schema_that_knows_no_projections_yet_breaks_nothing(
    store: Hindsight, value: Value
) -> None:
    with store.database.transaction() as connection:
        connection.execute(text("DROP TABLE projection_failures"))
        connection.execute(text("DROP TABLE checkpoints"))
    assert value("lag_events") is None
    assert b"event_store_size_bytes" in store.exposition()


def test_promtool_finds_nothing_wrong(store: Hindsight) -> None:
    put(store, "a", 1)
    project(store)
    store.projections.check("sums")
    exposition = store.exposition()
    assert b"event_store_projection_drift_rows" in exposition
    assert prometheus.complaints(exposition) == ""
