"""What a process counts and times of its store, and how Prometheus reads it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil
import pytest
from msgspec import Struct, to_builtins
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Aggregate, CommandRejected, Domain, Hindsight, NewEvent, any_, exact, migrate
from store.database.connections import MAX_OVERFLOW, POOL_SIZE
from store.errors import AggregateNotFound, ApplyFailed, StatementTimeout, VersionConflict
from store.metrics import Metrics
from tests import prometheus
from tests.servers import PostgresServer


class Opened(Struct, frozen=True):
    limit: int


class Drawn(Struct, frozen=True):
    amount: int


class Account(Struct, frozen=True):
    limit: int | None = None
    drawn: int = 0


class Draw(Struct, frozen=True):
    amount: int

    def decide(self, account: Account) -> Sequence[Struct]:
        BEFORE_DECISION[-1]()
        if account.limit is not None and account.drawn + self.amount > account.limit:
            raise CommandRejected("over the limit")
        return [Drawn(self.amount)]

    def recorded(self) -> dict[str, Any]:
        fields: dict[str, Any] = to_builtins(self)
        return fields


def apply(account: Account, event: Opened | Drawn) -> Account:
    match event:
        case Opened(limit):
            return Account(limit, account.drawn)
        case Drawn(amount):
            return Account(account.limit, account.drawn + amount)


BEFORE_DECISION = [lambda: None]
BANK = Domain(
    "bank",
    aggregates=[
        Aggregate(
            "account",
            initial=Account(),
            events=[Opened, Drawn],
            apply=apply,
            commands=[Draw],
            snapshot_every=5,
        )
    ],
)
DRAWN = NewEvent("Drawn", {"amount": 1})


def drawn(count: int = 1) -> list[NewEvent]:
    return [NewEvent("Drawn", {"amount": 1}) for _ in range(count)]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def bank(store_url: str, registry: CollectorRegistry) -> Iterator[Hindsight]:
    with Hindsight(store_url, domain=BANK, metrics=Metrics(registry)) as store:
        yield store


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def meanwhile(monkeypatch: pytest.MonkeyPatch, store: Hindsight, times: int) -> None:
    """Let so many decisions find that somebody else has appended after their load."""
    left = iter(range(times))

    def append() -> None:
        if next(left, None) is not None:
            store.log.append("account", "a", drawn(), expected=any_())

    monkeypatch.setattr(f"{__name__}.BEFORE_DECISION", [append])


def test_appended_events_are_counted_by_type(bank: Hindsight, registry: CollectorRegistry) -> None:
    bank.append("account", "a", [NewEvent("Opened", {"limit": 9}), *drawn(2)], expected=any_())
    bank.execute("a", Draw(1))
    assert value(registry, "event_store_events_total", event_type="Opened") == 1
    assert value(registry, "event_store_events_total", event_type="Drawn") == 3
    assert value(registry, "event_store_append_events_sum") == 4
    assert value(registry, "event_store_save_duration_seconds_count") == 2


def test_what_was_stored_before_is_not_counted_again(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    for _ in range(2):
        bank.append("account", "a", [DRAWN], expected=any_())
    assert value(registry, "event_store_events_total", event_type="Drawn") == 1
    assert value(registry, "event_store_append_events_count") == 1


def test_known_types_are_there_from_the_start(bank: Hindsight, registry: CollectorRegistry) -> None:
    """Else the first increase of each would be none to Prometheus."""
    assert value(registry, "event_store_events_total", event_type="Opened") == 0
    labels = {"outcome": "absorbed", "aggregate_type": "account"}
    assert value(registry, "event_store_conflict_outcomes_total", **labels) == 0
    assert value(registry, "event_replay_requests_total", success="false") == 0


def test_types_that_no_domain_knows_are_fifty_and_others(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    for number in range(60):
        events = [NewEvent(f"Strange{number}", {})]
        bank.append("thing", f"thing-{number}", events, expected=any_())
    assert value(registry, "event_store_events_total", event_type="Strange49") == 1
    assert value(registry, "event_store_events_total", event_type="Strange50") is None
    assert value(registry, "event_store_events_total", event_type="other") == 10


def test_a_conflict_of_an_append_has_escaped(bank: Hindsight, registry: CollectorRegistry) -> None:
    bank.append("account", "a", drawn(), expected=any_())
    with pytest.raises(VersionConflict):
        bank.append("account", "a", drawn(), expected=exact(7))
    assert value(registry, "event_store_conflicts_total") == 1
    labels = {"outcome": "escaped", "aggregate_type": "account"}
    assert value(registry, "event_store_conflict_outcomes_total", **labels) == 1


def test_conflicts_of_a_command_are_absorbed_or_escape_as_a_whole(
    bank: Hindsight, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.append("account", "a", drawn(), expected=any_())
    meanwhile(monkeypatch, bank, 2)
    assert bank.execute("a", Draw(1)).attempts == 3
    meanwhile(monkeypatch, bank, 9)
    with pytest.raises(VersionConflict):
        bank.execute("a", Draw(1), attempts=3)
    outcome = "event_store_conflict_outcomes_total"
    assert value(registry, "event_store_conflicts_total") == 5
    assert value(registry, outcome, outcome="absorbed", aggregate_type="account") == 2
    assert value(registry, outcome, outcome="escaped", aggregate_type="account") == 3
    assert value(registry, "event_store_command_attempts_count") == 2
    assert value(registry, "event_store_command_attempts_sum") == 6


def test_loads_are_counted_and_their_length(bank: Hindsight, registry: CollectorRegistry) -> None:
    bank.append("account", "a", drawn(3), expected=any_())
    bank.load("a")
    assert value(registry, "event_replay_requests_total", success="true") == 1
    assert value(registry, "event_replay_duration_seconds_count") == 1
    assert value(registry, "event_store_replay_events_sum") == 3
    assert value(registry, "event_store_replay_events_bucket", le="2.0") == 0


def test_a_replay_that_is_walked_is_counted_once(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    bank.append("account", "a", drawn(3), expected=any_())
    assert len(list(bank.replay("a"))) == 3
    assert value(registry, "event_replay_requests_total", success="true") == 1
    assert value(registry, "event_store_replay_events_sum") == 3


def test_what_is_done_between_the_steps_of_a_replay_is_not_its_time(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    bank.append("account", "a", drawn(3), expected=any_())
    for _ in bank.replay("a"):
        time.sleep(0.1)
    assert (value(registry, "event_replay_duration_seconds_sum") or 1) < 0.1
    with pytest.raises(AggregateNotFound):
        bank.replay("nobody")  # at once, as the bare one


def test_who_asks_for_what_is_not_there_replays_nothing(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    with pytest.raises(AggregateNotFound):
        bank.load("nobody")
    assert value(registry, "event_replay_requests_total", success="true") == 0
    assert value(registry, "event_replay_requests_total", success="false") == 0


def test_an_event_that_cannot_be_read_fails_the_replay(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    newer = NewEvent("Drawn", {"amount": 1}, schema_version=9)
    bank.append("account", "a", [newer], expected=any_())
    with pytest.raises(ApplyFailed):
        bank.load("a")
    with pytest.raises(ApplyFailed):
        list(bank.replay("a"))
    assert value(registry, "event_replay_requests_total", success="false") == 2
    assert value(registry, "event_store_upcast_failures_total", event_type="Drawn") == 2


def test_snapshots_are_hit_missed_taken_and_found_invalid(
    store_url: str, registry: CollectorRegistry
) -> None:
    name = "event_store_snapshot_loads_total"
    with Hindsight(store_url, domain=BANK, metrics=Metrics(registry), cache=False) as bank:
        bank.execute("a", Draw(1))
        assert value(registry, name, result="miss") == 1
        bank.append("account", "a", drawn(3), expected=any_())
        bank.execute("a", Draw(1))
        assert value(registry, "event_store_snapshots_taken_total") == 1
        bank.load("a")
        assert value(registry, name, result="hit") == 1
        with bank.database.transaction() as connection:
            connection.execute(text("UPDATE snapshots SET digest = 'x'"))
        bank.load("a")
        assert value(registry, name, result="invalid") == 1


def test_what_the_cache_had_is_counted(
    bank: Hindsight, registry: CollectorRegistry, store_url: str
) -> None:
    def lookups(result: str, kind: str = "state") -> float | None:
        labels = {"level": "l1", "kind": kind, "result": result}
        return value(registry, "event_store_cache_lookups_total", **labels)

    bank.append("account", "a", drawn(3), expected=any_())
    snapshots = "event_store_snapshot_loads_total"
    before = value(registry, snapshots, result="miss")
    for _ in range(3):
        bank.load("a")
    bank.load("a", max_age=60)
    assert (lookups("miss"), lookups("hit"), lookups("dropped")) == (1, 3, 0)
    assert value(registry, snapshots, result="miss") == (before or 0) + 1
    assert value(registry, "event_replay_requests_total", success="true") == 4
    list(bank.events("a")), list(bank.events("a"))
    assert (lookups("miss", "history"), lookups("hit", "history")) == (1, 1)
    size = value(registry, "event_store_cache_bytes")
    assert size is not None
    assert size > sum(len(event.raw_data) for event in bank.events("a"))
    with bank.database.transaction() as connection:
        connection.execute(text("UPDATE store_info SET epoch = epoch + 1"))
    bank.load("a")
    assert (lookups("miss"), lookups("hit"), lookups("dropped")) == (2, 3, 1)


def test_states_as_of_a_time_begin_at_no_snapshot(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    bank.append("account", "a", drawn(), expected=any_())
    bank.load("a", as_of=datetime.now(UTC))
    assert value(registry, "event_replay_requests_total", success="true") == 1
    for result in ("hit", "miss", "invalid"):
        assert value(registry, "event_store_snapshot_loads_total", result=result) == 0


def test_handlers_are_timed_by_name(bank: Hindsight, registry: CollectorRegistry) -> None:
    with bank.metrics.handling("welcome"):
        pass
    with pytest.raises(ValueError, match="no"), bank.metrics.handling("welcome"):
        raise ValueError("no")
    assert value(registry, "event_handler_duration_seconds_count", handler="welcome") == 2


def test_without_metrics_nothing_is_counted(store_url: str) -> None:
    with Hindsight(store_url, domain=BANK, metrics=False) as store:
        store.execute("a", Draw(1))
        assert store.load("a").version == 1
        assert value(store.metrics.registry, "event_store_events_total", event_type="Drawn") == 0


def test_two_stores_of_a_process_share_its_metrics(
    store_url: str, registry: CollectorRegistry
) -> None:
    metrics = Metrics(registry)
    with (
        Hindsight(store_url, domain=BANK, metrics=metrics) as one,
        Hindsight(store_url, domain=BANK, metrics=metrics) as other,
    ):
        for store in (one, other):
            store.execute("a", Draw(1))
        assert value(registry, "event_store_events_total", event_type="Drawn") == 2
        check(one.exposition())


# What is asked of the database when Prometheus asks us


def test_the_largest_aggregates_and_the_size_are_told(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    for number in range(1, 31):
        bank.append("account", f"a-{number}", drawn(number), expected=any_())
    told = bank.exposition().decode()
    lines = [line for line in told.splitlines() if line.startswith("event_store_events_by_agg")]
    assert len(lines) == 20
    assert 'event_store_events_by_aggregate{aggregate_id="a-30"} 30.0' in lines
    assert (value(registry, "event_store_size_bytes") or 0) > 10_000
    assert value(registry, "event_store_feed_lag_events") == 0
    assert value(registry, "event_store_watermark_age_seconds") == 0


def test_what_is_not_rolled_up_is_told(
    bank: Hindsight, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.gauges.FRESH_FOR", 0.0)
    monkeypatch.setattr("store.gauges.SHARE", 0)
    bank.append("account", "a", drawn(3), expected=any_())
    bank.exposition()
    assert value(registry, "event_store_rollup_lag_events") == 3
    bank.rollups.roll_up(2)
    bank.exposition()
    assert value(registry, "event_store_rollup_lag_events") == 1


def test_connections_in_use_are_told(bank: Hindsight, registry: CollectorRegistry) -> None:
    with bank.database.connect():
        bank.exposition()
        assert value(registry, "event_store_pool_connections") == 1
    bank.exposition()
    assert value(registry, "event_store_pool_connections") == 0


def test_what_runs_is_told(bank: Hindsight, registry: CollectorRegistry) -> None:
    labels = {
        "version": version("hindsight-event-store"),
        "database": bank.database.engine.dialect.name,
    }
    assert value(registry, "event_store_build_info", **labels) == 1


@pytest.mark.slow
def test_a_scrape_waits_for_no_slow_reading(
    bank: Hindsight, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held readers, a locked table, ten million heads: the last levels are better than none."""
    bank.append("account", "a", drawn(), expected=any_())
    bank.exposition()
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    monkeypatch.setattr(
        "store.gauges.StoreGauges._with", lambda self, _: self._database.rows(slow, {})
    )
    monkeypatch.setattr("store.gauges.FRESH_FOR", 0.0)
    monkeypatch.setattr(bank._gauges, "_again", 0.0)
    started = time.monotonic()
    told = bank.exposition()
    waited = time.monotonic() - started
    assert 0.9 < waited < 4
    assert b'event_store_events_by_aggregate{aggregate_id="a"} 1.0' in told
    # Who comes next does not wait for it again.
    time.sleep(1)
    started = time.monotonic()
    bank.exposition()
    assert time.monotonic() - started < 0.5


def test_who_is_largest_may_take_too_long_to_know(
    bank: Hindsight, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.append("account", "a", drawn(), expected=any_())
    bank.exposition()

    def slow(_: object) -> None:
        raise StatementTimeout("canceling statement due to statement timeout")

    monkeypatch.setattr(bank._aside, "select", slow)
    monkeypatch.setattr(bank._aside, "bytes_used", lambda: 12_345)
    monkeypatch.setattr(bank._gauges, "_again", 0.0)
    told = bank.exposition()
    assert b'event_store_events_by_aggregate{aggregate_id="a"} 1.0' in told
    assert b"event_store_size_bytes 12345.0" in told


def test_a_statement_that_takes_too_long_is_ended(bank: Hindsight) -> None:
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    started = time.monotonic()
    with pytest.raises(StatementTimeout):
        bank._aside.rows(slow, {})
    assert time.monotonic() - started < 4


@pytest.mark.slow
def test_a_server_that_hangs_holds_up_no_scrape(
    own_postgres: PostgresServer, registry: CollectorRegistry
) -> None:
    url = own_postgres.url()
    migrate(url)
    with Hindsight(url, metrics=Metrics(registry)) as store:
        store.exposition()
        store._gauges._again = 0.0
        backends = psutil.Process(own_postgres.pid).children()
        for backend in backends:
            backend.suspend()
        try:
            started = time.monotonic()
            told = store.exposition()
            assert time.monotonic() - started < 3
            assert b"event_store_size_bytes" in told
        finally:
            for backend in backends:
                backend.resume()


def test_a_metric_that_cannot_be_counted_fails_no_work(
    bank: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bank.metrics, "count", full)
    monkeypatch.setattr("store.metrics._MOST_WAITING", 3)
    for _ in range(10):
        bank.execute("a", Draw(1))
    assert bank.load("a").version == 10


def test_a_scrape_takes_no_connection_from_those_who_work(
    bank: Hindsight, registry: CollectorRegistry
) -> None:
    with ExitStack() as taken:
        for _ in range(POOL_SIZE + MAX_OVERFLOW):
            taken.enter_context(bank.database.connect())
        told = bank.exposition()
    assert b"event_store_size_bytes" in told


def test_promtool_finds_nothing_wrong(bank: Hindsight) -> None:
    hostile = 'a "quoted"\\ 名前'
    bank.append("account", hostile, drawn(9), expected=any_())
    bank.append("account", "a", [NewEvent("Ünicode\\", {})], expected=any_())
    bank.execute("b", Draw(1))
    with bank.metrics.handling("welcome"):
        pass
    check(bank.exposition())


def check(exposition: bytes) -> None:
    assert b"event_store_events_total" in exposition
    assert prometheus.complaints(exposition) == ""


def test_a_store_may_be_closed_again(store_url: str, registry: CollectorRegistry) -> None:
    store = Hindsight(store_url, domain=BANK, metrics=Metrics(registry))
    for _ in range(2):
        store.close()
    assert value(registry, "event_store_build_info") is None
