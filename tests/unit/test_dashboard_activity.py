"""How much happened when: as many events as the feed has, however they are counted."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dashboard import activity, rolling
from dashboard.activity import Activity, Histogram
from dashboard.moments import to_microseconds
from dashboard.rollup import HOUR, WIDTHS, round_width
from dashboard.searching import Bounds
from store import Context, Hindsight, NewEvent, any_
from store.errors import StoreUnavailable
from store.records import Event, FeedFilter, Tally, Watermark
from store.sources import EventSource
from store.sources.ndjson import NdjsonSource

SETS = ("receipt_wabo", "gh_bitcoin_gui")
PATIENT = 60.0
START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
EVERYTHING = FeedFilter()

many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
moments = st.datetimes().map(lambda moment: moment.replace(tzinfo=UTC))


@pytest.fixture(autouse=True)
def _as_new_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer looks at the source again, and waits for a small one."""
    monkeypatch.setattr(rolling, "SHORTEST_AGE", 0.0)
    monkeypatch.setattr(rolling, "AGE_PER_COST", 0.0)
    monkeypatch.setattr(rolling, "WAIT", 20.0)


@pytest.fixture(scope="module", params=SETS)
def log(
    request: pytest.FixtureRequest, data_sets: Path
) -> Iterator[tuple[NdjsonSource, list[Event], Activity]]:
    """A real log, what is in it, and its rollup."""
    with NdjsonSource(data_sets / request.param / "events.ndjson.gz") as source:
        opened = Activity(source)
        yield source, list(source.feed()), opened
        opened.close()


@pytest.fixture
def started() -> Iterator[Callable[[EventSource], Activity]]:
    """Starts a rollup that is closed when the test is over."""
    running: list[Activity] = []

    def start(source: EventSource, **options: Any) -> Activity:
        running.append(Activity(source, **options))
        return running[-1]

    yield start
    for each in running:
        each.close()


def append(store: Hindsight, *moments: datetime, event_type: str = "Happened") -> None:
    events = [NewEvent(event_type, {}, occurred_at=moment) for moment in moments]
    store.append("thing", "t", events, expected=any_(), context=Context(actor="ann"))


def is_of(event: Event, where: FeedFilter) -> bool:
    return (
        where.aggregate_type in {None, event.aggregate_type}
        and (not where.event_types or event.event_type in where.event_types)
        and where.actor in {None, event.actor}
    )


def by_hand(events: Sequence[Event], found: Histogram) -> dict[str, list[int]]:
    """What the bars should hold, for each type that has any."""
    counts: dict[str, list[int]] = {}
    for event in events:
        bar = (to_microseconds(event.occurred_at) - found.start) // found.width
        if 0 <= bar < found.bars:
            counts.setdefault(event.event_type, [0] * found.bars)[bar] += 1
    return counts


def check(events: Sequence[Event], found: Histogram) -> None:
    counts = by_hand(events, found)
    ranked = sorted(counts, key=lambda name: (-sum(counts[name]), name))
    assert list(found.event_types) == ranked
    assert [list(row) for row in found.counts] == [counts[name] for name in ranked]
    assert found.start % found.width == 0
    assert found.complete
    assert found.counted_from is None


Log = tuple[NdjsonSource, list[Event], Activity]


def test_the_bars_of_all_time_hold_every_event(log: Log) -> None:
    _, events, rollup = log
    found = rollup.histogram(EVERYTHING)
    check(events, found)
    assert sum(map(sum, found.counts)) == len(events)
    assert found.progress == 1
    assert found.bars <= 120


def test_figures_are_those_of_a_count(log: Log) -> None:
    source, events, rollup = log
    assert rollup.types() == source.counts().events_by_type
    assert list(rollup.types().values()) == sorted(rollup.types().values(), reverse=True)
    assert rollup.aggregate_types() == Counter(event.aggregate_type for event in events)
    assert rollup.events == len(events)
    assert rollup.complete


@pytest.mark.slow
@many
@given(data=st.data(), bars=st.integers(2, 150))
def test_any_window_and_filter_is_counted_as_by_hand(
    log: Log, data: st.DataObject, bars: int
) -> None:
    _, events, rollup = log
    some = st.sampled_from(events)
    near = some.map(lambda event: event.occurred_at) | st.none()
    length = st.integers(0, 40).map(lambda n: timedelta(microseconds=2**n)) | st.none()
    since, lasts = data.draw(near), data.draw(length)
    until = since + lasts if since and lasts else data.draw(near)
    where = FeedFilter(
        aggregate_type=data.draw(st.sampled_from([None, events[0].aggregate_type, "nothing"])),
        event_types=data.draw(st.sampled_from([(), (events[0].event_type, "nothing")])),
        actor=data.draw(st.none() | some.map(lambda event: event.actor)),
    )
    found = rollup.histogram(where, since=since, until=until, bars=bars, patience=PATIENT)
    check([event for event in events if is_of(event, where)], found)
    assert found.bars <= bars
    if since and until and since >= until:
        assert found.bars == 0
        return
    if since:
        assert found.start <= to_microseconds(since)
    if until:
        assert to_microseconds(until) <= found.start + found.bars * found.width


@given(
    start=moments,
    length=st.timedeltas(min_value=timedelta(microseconds=1)),
    bars=st.integers(2, 400),
)
@example(start=FIRST, length=LAST - FIRST, bars=2)
@example(start=FIRST, length=LAST - FIRST, bars=120)
def test_a_width_is_the_smallest_round_one_that_is_enough(
    start: datetime, length: timedelta, bars: int
) -> None:
    first = to_microseconds(start)
    end = first + length // timedelta(microseconds=1)
    end = min(end, to_microseconds(LAST))
    if end <= first:
        return
    width = round_width(first, end, bars)
    needed = {each: -(-end // each) - first // each for each in WIDTHS}
    assert needed[width] <= bars
    assert all(needed[smaller] > bars for smaller in WIDTHS if smaller < width)


def test_widths_are_parts_or_multiples_of_an_hour() -> None:
    assert list(WIDTHS) == sorted(set(WIDTHS))
    assert all(HOUR % width == 0 or width % HOUR == 0 for width in WIDTHS)


@many
@given(places=st.lists(moments | st.sampled_from([FIRST, LAST, START]), min_size=1, max_size=8))
@example(places=[FIRST, LAST])
@example(places=[LAST])
@example(places=[FIRST])
def test_times_at_the_ends_of_the_calendar_are_counted(
    tmp_path: Path, places: list[datetime]
) -> None:
    lines = [
        {
            "event_id": f"00000000-0000-0000-0000-{number:012}",
            "aggregate_type": "thing",
            "aggregate_id": f"t-{number}",
            "version": 1,
            "event_type": "Happened",
            "data": {},
            "metadata": {"actor": "ann"},
            "occurred_at": moment.isoformat(),
        }
        for number, moment in enumerate(places)
    ]
    path = tmp_path / "events.ndjson"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with NdjsonSource(path) as source:
        rollup = Activity(source)
        try:
            for where in (EVERYTHING, FeedFilter(actor="ann")):
                for since in (None, places[0]):
                    found = rollup.histogram(where, since=since, patience=PATIENT)
                    check(list(source.feed()), found)
            assert sum(map(sum, rollup.histogram(EVERYTHING).counts)) == len(places)
        finally:
            rollup.close()


@many
@given(data=st.data())
def test_the_bounds_of_a_window_leave_no_event_of_it_out(log: Log, data: st.DataObject) -> None:
    _, events, rollup = log
    near = st.none() | st.sampled_from(events).map(lambda event: event.occurred_at)
    since, until = data.draw(near), data.draw(near)
    bounds = rollup.bounds(since, until)
    within = [
        event.position
        for event in events
        if (since is None or since <= event.occurred_at)
        and (until is None or event.occurred_at < until)
    ]
    last = len(events) if bounds.last is None else bounds.last
    assert all(bounds.first <= position <= last for position in within)
    if not within:
        assert last - bounds.first < len(events) - 1


def test_bounds_are_narrow(log: Log) -> None:
    _, events, rollup = log
    middle = events[len(events) // 2].occurred_at
    bounds = rollup.bounds(middle, middle + timedelta(days=1))
    assert bounds.last is not None
    assert bounds.last - bounds.first < len(events) / 10
    assert rollup.bounds(None, None) == Bounds()
    assert rollup.bounds(middle, None).last is None
    assert rollup.bounds(middle, None, axis="recorded") == Bounds()


def test_an_empty_store_has_no_bars(
    store: Hindsight, started: Callable[[EventSource], Activity]
) -> None:
    rollup = started(store.log)
    found = rollup.histogram(EVERYTHING)
    assert (found.bars, found.event_types, found.counts) == (0, (), ())
    assert (found.complete, found.progress) == (True, 1)
    assert (rollup.types(), rollup.aggregate_types(), rollup.events) == ({}, {}, 0)
    append(store, START)
    check(list(store.feed()), rollup.histogram(EVERYTHING))
    assert rollup.events == 1


def test_what_is_appended_between_two_looks_is_counted(
    store: Hindsight, started: Callable[[EventSource], Activity]
) -> None:
    rollup = started(store.log)
    for number in range(1, 13):
        # Later events of earlier times, too, in hours that were counted before.
        append(store, *(START + timedelta(minutes=m * 37 % 500) for m in range(number)))
        for where in (EVERYTHING, FeedFilter(actor="ann"), FeedFilter(event_types=("Happened",))):
            for since, until in [(None, None), (START, START + timedelta(hours=3))]:
                found = rollup.histogram(where, since=since, until=until)
                check(list(store.feed()), found)
        assert rollup.events == number * (number + 1) // 2


@pytest.mark.parametrize(("rolled_up", "queries"), [(0, 6), (7, 3), (10, 1), (12, 1)])
def test_what_the_store_has_rolled_up_is_one_query(
    sqlite_url: str,
    started: Callable[..., Activity],
    monkeypatch: pytest.MonkeyPatch,
    rolled_up: int,
    queries: int,
) -> None:
    with Hindsight(sqlite_url) as store:
        append(store, *(START + timedelta(minutes=47 * number) for number in range(12)))
        store.rollups.rebuild(rolled_up)
        asked: list[int | None] = []
        tally = store.log.tally

        def noted(**query: Any) -> Sequence[Tally]:
            asked.append(query.get("before"))
            return tally(**query)

        monkeypatch.setattr(store.log, "tally", noted)
        rollup = started(store.log, chunk=2)
        assert (rollup.events, rollup.complete) == (12, True)
        assert len([before for before in asked if before is not None]) == queries
        check(list(store.feed()), rollup.histogram(EVERYTHING))


class Unsettled(NdjsonSource):
    """A file of which readers may see some lines only, and rely on fewer still."""

    settled = 0
    hidden: frozenset[int] = frozenset()

    def watermark(self) -> Watermark:
        return Watermark(position=self.settled, holder=None)

    def tally(self, **query: Any) -> Sequence[Tally]:
        after, before = query.get("after", 0), query.get("before")
        shown = set(range(after + 1, before or 10_000)) - self.hidden
        pieces = [super(Unsettled, self).tally(**query | {"after": p - 1, "before": p + 1})
                  for p in sorted(shown) if p <= 50]  # fmt: skip
        return [tally for piece in pieces for tally in piece]


def test_an_event_that_commits_late_is_counted(
    data_sets: Path, tmp_path: Path, started: Callable[[EventSource], Activity]
) -> None:
    with NdjsonSource(data_sets / "receipt_wabo" / "events.ndjson.gz") as real:
        texts = [json.dumps(line(event)) for event in real.feed(limit=50)]
    path = tmp_path / "events.ndjson"
    path.write_text("".join(f"{text}\n" for text in texts))
    with Unsettled(path) as source:
        source.settled, source.hidden = 30, frozenset({31, 40})
        rollup = started(source)
        assert (rollup.events, rollup.complete) == (48, True)
        source.hidden = frozenset({31})
        assert rollup.events == 49
        source.settled, source.hidden = 50, frozenset()
        assert rollup.events == 50
        check(list(source.feed()), rollup.histogram(EVERYTHING))


def test_a_transaction_that_commits_late_is_counted(
    postgres_url: str, started: Callable[[EventSource], Activity]
) -> None:
    late = NewEvent("Late", {}, occurred_at=START)
    with Hindsight(postgres_url) as store:
        append(store, START)
        rollup = started(store.log)
        assert rollup.events == 1
        with store.database.transaction() as connection:
            store.append("thing", "late", [late], expected=any_(), connection=connection)
            for appended in range(3):
                append(store, START + timedelta(hours=appended))
                assert rollup.events == 2 + appended
                assert rollup.complete
                found = rollup.histogram(FeedFilter(actor="ann"))
                check(list(store.feed()), found)
                assert sum(map(sum, found.counts)) == 2 + appended
        assert rollup.events == 5
        assert rollup.types() == {"Happened": 4, "Late": 1}
        check(list(store.feed()), rollup.histogram(EVERYTHING))


def line(event: Event) -> dict[str, Any]:
    return {
        "event_id": str(event.event_id),
        "aggregate_type": event.aggregate_type,
        "aggregate_id": f"only-{event.position}",
        "version": 1,
        "event_type": event.event_type,
        "data": {},
        "occurred_at": event.occurred_at.isoformat(),
    }


class Gated(NdjsonSource):
    """A file whose tallies wait to be let through, one at a time, and may fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Semaphore(0)
        self.open = False
        self.fails = False
        self.asked: list[tuple[int, int | None]] = []

    def tally(self, **query: Any) -> Sequence[Tally]:
        if query.get("before") is None:  # the tail
            return []
        self.asked.append((query["after"], query["before"]))
        assert self.open or self.gate.acquire(timeout=20)
        if self.fails:
            raise StoreUnavailable("the database went away")
        return super().tally(**query)


@pytest.fixture
def gated(data_sets: Path) -> Iterator[Gated]:
    with Gated(data_sets / "receipt_wabo" / "events.ndjson.gz") as source:
        yield source


def eventually(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _has_counted(rollup: Activity, events: int) -> bool:
    return rollup.events >= events


def test_progress_is_told_newest_first_while_it_counts(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "WAIT", 0.0)
    rollup = Activity(gated, chunk=1_000)
    try:
        assert (rollup.progress, rollup.complete, rollup.events) == (0, False, 0)
        assert rollup.bounds(START, START) == Bounds()
        seen = [0.0]
        for done in range(1, 10):
            gated.gate.release()
            eventually(partial(_has_counted, rollup, min(done * 1_000, 8_577)))
            found = rollup.histogram(EVERYTHING)
            seen.append(found.progress)
            assert found.complete == rollup.complete == (done == 9)
            assert sum(map(sum, found.counts)) == rollup.events
        assert seen == sorted(seen)
        assert seen[1] == pytest.approx(1_000 / 8_577)
        assert seen[-1] == 1
        assert gated.asked[:2] == [(7_577, 8_578), (6_577, 7_578)]
        assert gated.asked[-1] == (0, 578)
    finally:
        gated.open = True
        gated.gate.release(100)
        rollup.close()


def test_a_source_that_fails_is_told_of_and_tried_again(
    gated: Gated, started: Callable[[EventSource], Activity]
) -> None:
    gated.open = gated.fails = True
    rollup = started(gated)
    with pytest.raises(StoreUnavailable, match="went away"):
        rollup.histogram(EVERYTHING)
    with pytest.raises(StoreUnavailable, match="went away"):
        rollup.types()
    gated.fails = False
    assert rollup.events == 8_577


def test_closing_waits_for_no_more_than_one_tally(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "WAIT", 0.0)
    rollup = Activity(gated, chunk=10)
    assert rollup.events == 0
    eventually(lambda: gated.asked)
    gated.open = True
    gated.gate.release()
    rollup.close()
    assert len(gated.asked) < 800


def test_a_source_is_looked_at_once_a_second(
    gated: Gated, started: Callable[[EventSource], Activity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "SHORTEST_AGE", 1_000.0)
    looked = []
    gated.open = True
    watermark = gated.watermark
    gated.watermark = lambda: looked.append(1) or watermark()  # type: ignore[method-assign, func-returns-value]
    rollup = started(gated)
    for _ in range(20):
        rollup.histogram(EVERYTHING)
    assert len(looked) == 1


def test_narrow_bars_say_how_far_they_were_counted_and_go_on_when_asked_again(
    data_sets: Path,
    started: Callable[[EventSource], Activity],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "FIRST_CHUNK", 1_000)
    with NdjsonSource(data_sets / "receipt_wabo" / "events.ndjson.gz") as source:
        rollup = started(source)
        events = list(source.feed())
        since, until = events[0].occurred_at, events[-1].occurred_at
        by_actor = FeedFilter(actor=events[-1].actor)
        plain = list(source.feed(where=by_actor))
        seen = []
        for _ in range(50):
            found = rollup.histogram(by_actor, since=since, until=until, patience=0)
            if found.counted_from is None:
                break
            assert not found.complete
            seen.append(found.counted_from)
            check_from(plain, found, found.counted_from)
        check(plain, found)
        assert len(seen) > 2
        assert seen[0] <= events[-1_000].occurred_at + timedelta(hours=1)
        assert seen == sorted(seen, reverse=True)
        assert all(since <= moment for moment in seen)


def check_from(events: Sequence[Event], found: Histogram, moment: datetime) -> None:
    """Bars that begin at or after `moment` hold all their events."""
    complete = by_hand(events, found)
    first = -(-(to_microseconds(moment) - found.start) // found.width)
    for name, bars in complete.items():
        row = dict(zip(found.event_types, found.counts, strict=True)).get(name, (0,) * found.bars)
        assert list(row[first:]) == bars[first:]


def test_a_window_beyond_the_events_is_empty_and_stays_where_it_is(log: Log) -> None:
    _, _, rollup = log
    for moment in (FIRST, datetime(3000, 1, 1, 0, 30, tzinfo=UTC), LAST):
        windows: list[dict[str, Any]] = [{"since": moment}, {"until": moment}]
        for window in windows:
            found = rollup.histogram(EVERYTHING, **window)
            if (moment == FIRST) == ("since" in window):
                assert found.event_types
                continue
            assert (found.event_types, found.counts) == ((), ())
            edge = found.start if "since" in window else found.start + found.bars * found.width
            assert abs(edge - to_microseconds(moment)) <= found.width
            assert found.bars > 0


def test_bars_of_the_recorded_time_are_counted_by_the_source(
    store: Hindsight, started: Callable[[EventSource], Activity]
) -> None:
    append(store, START, START + timedelta(days=300))
    recorded = [event.recorded_at for event in store.feed() if event.recorded_at]
    found = started(store.log).histogram(
        FeedFilter(axis="recorded"), since=recorded[0], until=recorded[-1] + timedelta(minutes=1)
    )
    assert sum(map(sum, found.counts)) == 2


def test_progress_never_falls() -> None:
    known = rolling.Known(top=10, progress=1.0, pending=(range(6, 11),))
    assert known.measured().progress == 1
    assert not known.complete


def test_a_young_store_fills_its_bars(
    store: Hindsight, started: Callable[[EventSource], Activity]
) -> None:
    for number in range(20):
        append(store, START + timedelta(seconds=300 + number))
    found = started(store.log).histogram(EVERYTHING)
    check(list(store.feed()), found)
    assert found.width <= 1_000_000
    assert found.bars > 15


class Large(NdjsonSource):
    """A file whose tally is as long as that of ten million events in 12,700 hours."""

    def tally(self, **query: Any) -> Sequence[Tally]:
        if query.get("before") is None:
            return []
        return [
            Tally(
                start=START + timedelta(hours=hour),
                aggregate_type="thing",
                event_type=f"Type{kind}",
                events=79,
                first_position=hour * 790 + 1,
                last_position=hour * 790 + 790,
            )
            for hour in range(12_700)
            for kind in range(10)
        ]


def test_a_large_rollup_answers_at_once(
    data_sets: Path, started: Callable[[EventSource], Activity], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "SHORTEST_AGE", 1_000.0)
    with Large(data_sets / "receipt_wabo" / "events.ndjson.gz") as source:
        rollup = started(source)
        assert rollup.events == 127_000 * 79
        spent = []
        for _ in range(20):
            begun = time.perf_counter()
            found = rollup.histogram(FeedFilter(event_types=("Type3", "Type4")))
            spent.append(time.perf_counter() - begun)
        assert sum(map(sum, found.counts)) == 2 * 12_700 * 79
        assert min(spent) < 0.05  # 3 ms where nothing else runs
