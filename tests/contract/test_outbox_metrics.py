"""What Prometheus is told of the outbox."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Hindsight, Metrics, NewEvent, any_
from store.errors import AccessDenied, StatementTimeout
from store.outbox import ATTEMPTS
from tests.published import Recording, relay_all

Value = Callable[..., float | None]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counted(store_url: str, registry: CollectorRegistry) -> Iterator[Hindsight]:
    with Hindsight(store_url, metrics=Metrics(registry)) as store:
        yield store


@pytest.fixture
def value(counted: Hindsight, registry: CollectorRegistry) -> Value:
    """What a metric of the outbox tells now."""

    def read(name: str, **labels: str) -> float | None:
        counted._gauges._again = 0.0
        counted.metrics.count()
        return registry.get_sample_value(f"event_store_outbox_{name}", labels)

    return read


def put(store: Hindsight, aggregate_id: str, events: int = 1) -> None:
    new = [NewEvent("Made", {"n": 1}) for _ in range(events)]
    store.append("thing", aggregate_id, new, expected=any_())


def test_relays_count_what_they_did(counted: Hindsight, value: Value) -> None:
    put(counted, "a", 3)
    put(counted, "b")
    put(counted, "c")
    with counted.database.transaction() as connection:
        last = {"made": ATTEMPTS - 1}
        sql = "UPDATE outbox SET attempts = :made WHERE aggregate_id = 'b'"
        connection.execute(text(sql), last)
    relay = counted.relay(Recording(lambda event: event.aggregate_id in {"b", "c"}))
    while relay.once().claimed:
        pass
    assert value("published_total") == 3
    assert value("dead_letters_total") == 1
    results = ("published", "retried", "failed", "lost")
    found = [value("attempts_total", result=result) for result in results]
    assert found == [3, 1, 1, 0]
    assert value("webhook_failures_total") == 0


def test_what_waits_is_told(counted: Hindsight, value: Value) -> None:
    assert (value("pending"), value("failed"), value("oldest_age_seconds")) == (0, 0, 0)
    put(counted, "a", 3)
    put(counted, "b", 2)
    relay_all(counted, dead={"a": 2})
    assert (value("pending"), value("failed")) == (1, 1)
    age = value("oldest_age_seconds")
    assert age is not None
    assert 0 < age < 60
    written = counted.database.value(datetime(2026, 1, 1, tzinfo=UTC))
    with counted.database.transaction() as connection:
        sql = "UPDATE outbox SET created_at = :written WHERE status = 'failed'"
        connection.execute(text(sql), {"written": written})
    age = value("oldest_age_seconds")
    expected = (datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)).total_seconds()
    assert age == pytest.approx(expected, abs=60)


@pytest.mark.parametrize("error", [StatementTimeout, AccessDenied])
def test_who_may_not_know_is_told_the_rest(
    counted: Hindsight, value: Value, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    put(counted, "a", 3)
    assert value("pending") == 3
    put(counted, "a")
    kept = counted._aside.rows

    def rows(sql: str, parameters: dict[str, object]) -> object:
        if "outbox" in sql and "FILTER" in sql:
            raise error("canceling statement")
        return kept(sql, parameters)

    monkeypatch.setattr(counted._aside, "rows", rows)
    monkeypatch.setattr(counted._aside, "bytes_used", lambda: 12_345)
    assert value("pending") == 3
    assert counted.levels() is not None
    assert b"event_store_size_bytes 12345.0" in counted.exposition()


def test_a_store_that_is_not_measured_counts_nothing(store_url: str) -> None:
    with Hindsight(store_url, metrics=False) as store:
        put(store, "a")
        assert store.relay(Recording()).once().published == 1
        metrics = store.metrics.values()
    assert metrics["event_store_outbox_published_total", ()] == 0
