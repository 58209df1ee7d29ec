"""Metrics over time without a Prometheus server: what processes write, and what is read of it."""

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from sqlalchemy import text

from store import Hindsight, NewEvent, any_, exact
from store.errors import StoreUnavailable, VersionConflict
from store.metric_history import Window, filled, quantile
from store.metrics import SECONDS, Met, Metrics, Saved
from store.samples import EVERY, SampledHistory, Sampler

EVENTS = "event_store_events_total"
OUTCOMES = "event_store_conflict_outcomes_total"
SAVES = "event_store_save_duration_seconds"
MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    """The sampler's clock, moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.now -= timedelta(seconds=self.now.second % 10)

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    class Moved(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return clock.now.astimezone(tz)

    monkeypatch.setattr("store.samples.datetime", Moved)
    return clock


@pytest.fixture
def quiet(store_url: str) -> Iterator[Hindsight]:
    """A store whose own recorder writes nothing."""
    with Hindsight(store_url, metrics=False) as store:
        yield store


def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def rows(store: Hindsight) -> list[tuple[Any, ...]]:
    with store.database.connect() as connection:
        found = connection.execute(text("SELECT taken_at, process, data FROM metric_samples"))
        return sorted(tuple(row) for row in found)


def grown(store: Hindsight, metric: str, *by: str, until: datetime | None = None) -> dict[Any, Any]:
    """What each series has grown by in the last ten minutes."""
    window = Window.until(until or datetime.now(UTC), step=MINUTE, steps=10)
    found = SampledHistory(store.database, name="here").increases(metric, window, by=by)
    return {key: sum(steps) for key, steps in found.items() if sum(steps)}


# Writing


def test_a_row_tells_what_has_grown_in_ten_seconds(quiet: Hindsight, clock: Clock) -> None:
    counted = metrics()
    sampler = Sampler(quiet.database, counted, process="host:1")
    counted.saved(Saved(0.001, ["Created", "Created", "Renamed"]))
    clock.move(9)
    sampler.sample()
    assert rows(quiet) == []
    clock.move(1)
    sampler.sample()
    [(_, process, data)] = rows(quiet)
    assert process == "host:1"
    increases = json.loads(data)[0]
    assert increases[EVENTS] == [[{"event_type": "Created"}, 2], [{"event_type": "Renamed"}, 1]]
    assert "event_store_conflicts_total" not in increases
    assert len(data) < 1_000


def test_without_a_change_nothing_is_written(quiet: Hindsight, clock: Clock) -> None:
    counted = metrics()
    sampler = Sampler(quiet.database, counted, process="host:1")
    for _ in range(5):
        clock.move(10)
        sampler.sample()
    assert rows(quiet) == []
    counted.saved(Saved(0.001, ["Created"]))
    for _ in range(5):
        clock.move(10)
        sampler.sample()
    assert len(rows(quiet)) == 1


def test_conflicts_are_written_at_once_into_the_one_row(quiet: Hindsight, clock: Clock) -> None:
    counted = metrics()
    sampler = Sampler(quiet.database, counted, process="host:1")
    for number in range(1, 4):
        counted.met(Met("escaped", "thing"))
        clock.move(2)
        sampler.sample()
        assert grown(quiet, OUTCOMES, "outcome", until=clock.now) == {("escaped",): number}
    counted.saved(Saved(0.001, ["Created"]))
    clock.move(3)
    sampler.sample()
    assert grown(quiet, EVENTS, until=clock.now) == {}
    clock.move(1)
    sampler.sample()
    counted.saved(Saved(0.001, ["Created"]))
    clock.move(10)
    sampler.sample()
    assert len(rows(quiet)) == 2
    assert grown(quiet, EVENTS, until=clock.now) == {(): 2}
    assert grown(quiet, OUTCOMES, until=clock.now) == {(): 3}


def test_a_clock_that_is_put_back_replaces_no_row(quiet: Hindsight, clock: Clock) -> None:
    counted = metrics()
    sampler = Sampler(quiet.database, counted, process="host:1")
    for move in (10, 10, -20, 10, 10, -15, 10):
        counted.saved(Saved(0.001, ["Created"]))
        clock.move(move)
        sampler.sample()
    clock.move(30)
    sampler.sample()
    assert grown(quiet, EVENTS, until=clock.now + MINUTE) == {(): 7}


def test_what_grows_while_nothing_can_be_written_is_of_the_time_when_it_can_again(
    quiet: Hindsight, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader has long settled what the outage's first seconds were."""
    counted = metrics()
    sampler = Sampler(quiet.database, counted, process="host:1")
    with monkeypatch.context() as outage:
        outage.setattr(sampler, "_write", refuse)
        for _ in range(30):
            counted.saved(Saved(0.001, ["Created"]))
            clock.move(10)
            with pytest.raises(StoreUnavailable):
                sampler.sample()
    for _ in range(2):
        clock.move(10)
        sampler.sample()
    window = Window.until(clock.now, step=MINUTE, steps=2)
    steps = SampledHistory(quiet.database, name="here").increases(EVENTS, window)[()]
    assert sum(steps) >= 29
    assert grown(quiet, EVENTS, until=clock.now) == {(): 30}


def refuse(_: object) -> None:
    raise StoreUnavailable("no connection")


def test_buckets_come_back_as_they_were(quiet: Hindsight, clock: Clock) -> None:
    counted = metrics()
    sampler = Sampler(quiet.database, counted, process="host:1")
    for seconds in (0.00005, 0.3, 0.3, 0.4, 99.0):
        counted.saved(Saved(seconds, ["Created"]))
    with counted.handling("welcome"):
        pass
    clock.move(10)
    sampler.sample()
    found = grown(quiet, f"{SAVES}_bucket", "le", until=clock.now)
    assert found == {("0.0001",): 1, ("0.5",): 4, ("+Inf",): 5}
    buckets = filled({float(bound): count for (bound,), count in found.items()}, SECONDS)
    assert {bound: buckets[bound] for bound in (0.0001, 0.25, 0.5, 30.0)} == {
        0.0001: 1,
        0.25: 1,
        0.5: 4,
        30.0: 4,
    }
    assert quantile(0.5, buckets) == pytest.approx(0.25 + 0.25 * 1.5 / 3)
    handlers = grown(
        quiet, "event_handler_duration_seconds_bucket", "handler", "le", until=clock.now
    )
    assert {name: count for (name, _), count in handlers.items()} == {"welcome": 1}


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([0, 1, 9, 10, 25, -7, -30]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_whatever_fails_nothing_is_lost_or_counted_twice(
    steps: Sequence[tuple[int, int, bool, bool]],
) -> None:
    """Rows are what their last writing said; some writings fail, before or after they took hold."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()

        class Moved(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return clock.now.astimezone(tz)

        patch.setattr("store.samples.datetime", Moved)
        counted = metrics()
        sampler = Sampler(None, counted, process="host:1")  # type: ignore[arg-type]
        stored: dict[tuple[str, datetime], float] = {}
        events = 0
        for appended, seconds, conflict, fails in [*steps, (0, 10, True, False)]:
            for _ in range(appended):
                counted.saved(Saved(0.001, ["Created"]))
            events += appended
            if conflict:
                counted.met(Met("escaped", "thing"))

            def write(row: Any, *, fails: bool = fails) -> None:
                created = row.increases.get((EVENTS, (("event_type", "Created"),)), 0)
                stored[row.sampler, row.taken_at] = created
                if fails:
                    raise OSError

            patch.setattr(sampler, "_write", write)
            clock.move(seconds)
            try:
                sampler.sample()
            except OSError:
                assert fails
        sampler.sample(last=True)
    assert sum(stored.values()) == events


def test_rows_older_than_a_day_go(quiet: Hindsight, clock: Clock) -> None:
    counted = metrics()
    sampler = Sampler(quiet.database, counted, process="host:1")
    for hours in (0, 12, 11.99, 0.02):
        clock.move(3_600 * hours)
        sampler.sample()
        counted.saved(Saved(0.001, ["Created"]))
        clock.move(10)
        sampler.sample()
    assert len(rows(quiet)) == 3


def test_a_store_writes_by_itself_and_the_rest_when_it_is_closed(store_url: str) -> None:
    with Hindsight(store_url, metrics=metrics()) as store:
        store.append("thing", "a", [NewEvent("Created", {})], expected=any_())
        store.load("a")
    with Hindsight(store_url, read_only=True) as store:
        assert grown(store, EVENTS, "event_type") == {("Created",): 1}
        assert grown(store, "event_store_replay_events_sum") == {(): 1}


def test_conflicts_are_written_before_the_ten_seconds_are_over(store_url: str) -> None:
    with Hindsight(store_url, metrics=metrics()) as store:
        assert store.recorder is not None
        for _ in range(2):
            with pytest.raises(VersionConflict):
                store.append("thing", "a", [NewEvent("E", {})], expected=exact(9))
            store.recorder.flush()
        found = grown(store, OUTCOMES, "outcome")
        assert found == {("escaped",): 2}
        assert len(rows(store)) <= 2


def test_two_stores_of_a_process_write_its_metrics_once(store_url: str) -> None:
    shared = metrics()
    with (
        Hindsight(store_url, metrics=shared) as one,
        Hindsight(store_url, metrics=shared) as other,
    ):
        for store in (one, other):
            store.append("thing", "a", [NewEvent("E", {})], expected=any_())
    with Hindsight(store_url, metrics=shared) as store:
        assert grown(store, EVENTS) == {(): 2}
        store.append("thing", "a", [NewEvent("E", {})], expected=any_())
    with Hindsight(store_url, read_only=True) as store:
        assert grown(store, EVENTS) == {(): 3}


def test_where_the_first_store_ends_the_next_goes_on(store_url: str) -> None:
    shared = metrics()
    one, other = (Hindsight(store_url, metrics=shared) for _ in range(2))
    with other:
        with one:
            one.append("thing", "a", [NewEvent("E", {})], expected=any_())
        for _ in range(7):
            other.append("thing", "a", [NewEvent("E", {})], expected=any_())
    with Hindsight(store_url, read_only=True) as store:
        assert grown(store, EVENTS) == {(): 8}


def _append(url: str, times: int) -> None:
    with Hindsight(url, metrics=metrics()) as store:
        for _ in range(times):
            store.append("thing", "a", [NewEvent("E", {})], expected=any_())


@pytest.mark.slow
def test_processes_add_up_and_a_restart_takes_nothing_away(store_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    for counts in ((3, 4), (5,)):
        processes = [context.Process(target=_append, args=(store_url, count)) for count in counts]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    with Hindsight(store_url, read_only=True) as store:
        assert grown(store, EVENTS, "event_type") == {("E",): 12}
        assert len({process for _, process, _ in rows(store)}) == 3


# Reading


def write(store: Hindsight, at: datetime, process: str, events: dict[str, float]) -> None:
    increases = {EVENTS: [[{"event_type": name}, count] for name, count in events.items()]}
    with store.database.transaction() as connection:
        table = store.database.tables.tables["metric_samples"]
        connection.execute(
            table.insert().values(
                taken_at=at,
                sampler=process,
                process=process,
                written_at=at + EVERY,
                data=json.dumps([increases, {"event_store_size_bytes": float(at.second)}]),
            )
        )


def test_rows_fall_into_the_steps_they_were_taken_in(quiet: Hindsight) -> None:
    write(quiet, NOON, "a", {"E": 1})
    write(quiet, NOON + timedelta(seconds=50), "a", {"E": 2})
    write(quiet, NOON + timedelta(seconds=50), "b", {"E": 3, "F": 4})
    write(quiet, NOON + MINUTE, "a", {"E": 5})
    write(quiet, NOON + 2 * MINUTE, "a", {"E": 100})
    window = Window(start=NOON - MINUTE, step=MINUTE, steps=3)
    history = SampledHistory(quiet.database, name="here")
    assert history.increases(EVENTS, window) == {(): [0, 10, 5]}
    assert history.increases(EVENTS, window, by=["event_type"]) == {
        ("E",): [0, 6, 5],
        ("F",): [0, 4, 0],
    }
    assert history.levels("event_store_size_bytes", window) == [None, 50, 0]
    assert history.increases("nothing", window) == {}


def test_more_rows_than_are_read_at_once_are_all_read(
    quiet: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.samples._BATCH", 3)
    for second in range(0, 50, 10):
        for process in "abcd":
            write(quiet, NOON + timedelta(seconds=second), process, {"E": 1})
    window = Window(start=NOON, step=MINUTE, steps=1)
    assert SampledHistory(quiet.database, name="here").increases(EVENTS, window) == {(): [20]}


def test_the_newest_sample_names_its_process(quiet: Hindsight) -> None:
    history = SampledHistory(quiet.database, name="here")
    assert history.newest() is None
    write(quiet, NOON, "a", {"E": 1})
    write(quiet, NOON + MINUTE, "b", {"E": 1})
    newest = history.newest()
    assert newest is not None
    assert (newest.at, newest.process) == (NOON + MINUTE + EVERY, "b")


def test_what_is_settled_is_not_read_again_and_what_is_not_is(
    quiet: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.samples._FRESH", 0.0)
    now = datetime.now(UTC)
    window = Window.until(now, step=MINUTE, steps=10)
    write(quiet, window.start, "a", {"E": 1})
    history = SampledHistory(quiet.database, name="here")
    assert history.increases(EVENTS, window) == {(): [1, *[0] * 9]}
    write(quiet, window.start, "late", {"E": 1})
    write(quiet, window.end - MINUTE, "a", {"E": 7})
    assert history.increases(EVENTS, window) == {(): [1, *[0] * 8, 7]}
    wider = Window(start=window.start, step=2 * MINUTE, steps=5)
    assert history.increases(EVENTS, wider) == {(): [2, 0, 0, 0, 7]}


def test_a_window_ends_with_the_step_under_way() -> None:
    window = Window.until(NOON + timedelta(seconds=61), step=MINUTE, steps=3)
    assert (window.start, window.end) == (NOON - MINUTE, NOON + 2 * MINUTE)


# Quantiles


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1.5), min_size=1, max_size=50),
    st.sampled_from([0.5, 0.95, 0.99]),
)
def test_a_quantile_lies_in_the_bucket_of_the_exact_one(values: list[float], rank: float) -> None:
    bounds = (0.1, 0.25, 0.5, 1.0)
    registry = CollectorRegistry()
    histogram = Histogram("h", "…", buckets=bounds, registry=registry)
    for value in values:
        histogram.observe(value)
    buckets = {
        float(bound): registry.get_sample_value("h_bucket", {"le": bound}) or 0.0
        for bound in ("0.1", "0.25", "0.5", "1.0", "+Inf")
    }
    found = quantile(rank, buckets)
    ranked = sorted(values)
    exact_one = ranked[min(max(-int(-rank * len(ranked) // 1) - 1, 0), len(ranked) - 1)]
    upper = next((bound for bound in bounds if exact_one <= bound), None)
    lower = max((bound for bound in (0.0, *bounds) if bound < exact_one), default=0.0)
    assert found is not None
    assert (found == bounds[-1]) if upper is None else lower <= found <= upper


@pytest.mark.parametrize(
    ("buckets", "median"),
    [
        ({1.0: 10, 2.0: 10, float("inf"): 10}, 0.5),
        ({1.0: 0, 2.0: 10, float("inf"): 10}, 1.5),
        ({1.0: 0, 2.0: 0, float("inf"): 10}, 2.0),
        ({1.0: 0, float("inf"): 0}, None),
        ({}, None),
    ],
)
def test_a_median_is_told_as_prometheus_tells_it(
    buckets: dict[float, float], median: float | None
) -> None:
    assert quantile(0.5, buckets) == median
