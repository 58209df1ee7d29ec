"""Reading events and aggregates, through every `EventSource` there is."""

import random
import tracemalloc
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any, get_args
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import Append, Event, FeedFilter, Hindsight, NewEvent, any_, migrate
from store.errors import AggregateNotFound, InvalidEvent
from store.interchange import format_line
from store.records import AggregateOrder, AggregatePage, AggregateSummary, Axis
from store.sources import EventSource
from store.sources.ndjson import NdjsonSource
from tests.archiving import archive_all_but
from tests.servers import PostgresServer

ORDERS: tuple[AggregateOrder, ...] = get_args(AggregateOrder)
AXES: tuple[Axis, ...] = get_args(Axis)
NO_AXIS: Any = "position"
START = datetime(2026, 1, 1, tzinfo=UTC)
# The last characters of one byte, two and three in UTF-8, those around the surrogates, and what
# means something to LIKE, to SQL and to JSON.
EDGES = "\x7e\xa0\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff%_'\"\\aAz 0"
many = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Shelf:
    """A store to write to, and a source that has what was written."""

    def __init__(self, store: Hindsight, source: Callable[[], EventSource]) -> None:
        self.store = store
        self.source = source


KINDS = [
    "sqlite",
    "postgresql",
    "archived in sqlite",
    pytest.param("archived in postgresql", marks=pytest.mark.soak),
    "file",
]


@pytest.fixture(scope="module", params=KINDS)
def new_shelf(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], Shelf]]:
    """Makes shelves of each kind; the clock of what is written goes an hour with every append."""
    with ExitStack() as opened:

        def make() -> Shelf:
            folder, name = tmp_path_factory.mktemp("shelf"), f"reads_{uuid4().hex}"
            url = f"sqlite:///{folder / 'store.db'}"
            if request.param.endswith("postgresql"):
                postgres_server.execute(f"CREATE DATABASE {name}")
                url = postgres_server.url(name)
            migrate(url)
            hours = count()
            clock = lambda: START + timedelta(hours=next(hours))  # noqa: E731
            store = opened.enter_context(Hindsight(url, clock=clock))

            def as_file() -> EventSource:
                path = folder / "events.ndjson"
                with path.open("wb") as file:
                    file.writelines(map(format_line, store.feed()))
                return opened.enter_context(NdjsonSource(path))

            def partly_archived() -> EventSource:
                size = sum(1 for _ in store.feed())
                archive_all_but(store, size // 3, batch=max(7, size // 50))
                return store.log

            sources = {"file": as_file, "archived": partly_archived}
            return Shelf(store, sources.get(request.param.split()[0], lambda: store.log))

        yield make


def fill(store: Hindsight, size: int = 60) -> list[Event]:
    """Events of five aggregates as they come, which happened in another order."""
    chance = random.Random(7)
    events: list[Event] = []
    for _ in range(size):
        number = chance.choice((1, 1, 1, 2, 2, 3, 4, 5))
        new = NewEvent(
            chance.choice(("Created", "Renamed", "Moved")),
            {"n": chance.random()},
            metadata=chance.choice(({}, {"correlation_id": "c1"}, {"correlation_id": "c2"})),
            occurred_at=START + timedelta(minutes=chance.randrange(20)),
        )
        kind = "order" if number > 3 else "user"
        events += store.append(kind, f"{kind}-{number}", [new], expected=any_()).events
    return events


@pytest.fixture(scope="module")
def filled(new_shelf: Callable[[], Shelf]) -> tuple[EventSource, list[Event]]:
    """A source, which no test writes to, and what is in it."""
    shelf = new_shelf()
    history = fill(shelf.store)
    return shelf.source(), history


@pytest.fixture
def source(filled: tuple[EventSource, list[Event]]) -> EventSource:
    """A source with events in it."""
    return filled[0]


@pytest.fixture
def history(filled: tuple[EventSource, list[Event]]) -> list[Event]:
    """What `source` has."""
    return filled[1]


def positions(events: Iterator[Event]) -> list[int]:
    return [event.position for event in events]


def versions(events: Iterator[Event]) -> list[int]:
    return [event.version for event in events]


def undigested(events: Sequence[Event]) -> list[Event]:
    """The events without what a file does not keep."""
    return [msgspec.structs.replace(event, digest=None) for event in events]


def test_every_source_has_the_very_same_events(source: EventSource, history: list[Event]) -> None:
    assert undigested(list(source.feed())) == undigested(history)


def test_a_database_keeps_the_digest(store: Hindsight) -> None:
    history = fill(store, 10)
    assert all(event.digest for event in history)
    assert list(store.feed()) == history


# One aggregate's history


def test_a_history_is_read_forward_and_backward(source: EventSource, history: list[Event]) -> None:
    own = undigested([event for event in history if event.aggregate_id == "user-1"])
    assert undigested(list(source.events("user-1"))) == own
    assert undigested(list(source.events("user-1", backward=True))) == own[::-1]


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 59, 60, 61, 10_000])
def test_the_size_of_a_batch_does_not_matter(
    source: EventSource,
    size: int,
    backward: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    feed = list(source.feed(backward=backward))
    assert list(source.feed(batch_size=size, backward=backward)) == feed
    own = [event for event in feed if event.aggregate_id == "user-1"]
    assert list(source.events("user-1", batch_size=size, backward=backward)) == own


def in_window(event: Event, axis: Axis, since: datetime | None, until: datetime | None) -> bool:
    moment = event.occurred_at if axis == "occurred" else event.recorded_at
    assert moment
    return (since is None or since <= moment) and (until is None or moment < until)


numbers = st.none() | st.integers(-2, 30)
minutes = st.none() | st.integers(-1, 21).map(lambda minute: START + timedelta(minutes=minute))
hours = st.none() | st.integers(-1, 61).map(lambda hour: START + timedelta(hours=hour))
Window = tuple[Axis, datetime | None, datetime | None]


def windows() -> st.SearchStrategy[Window]:
    """A window on either axis, with or without a start and an end."""
    occurred: st.SearchStrategy[Axis] = st.just("occurred")
    recorded: st.SearchStrategy[Axis] = st.just("recorded")
    return st.tuples(occurred, minutes, minutes) | st.tuples(recorded, hours, hours)


@many
@given(
    first=numbers, last=numbers, window=windows(), backward=st.booleans(), size=st.integers(1, 9)
)
def test_a_history_is_bounded_by_version_and_time(
    *,
    source: EventSource,
    history: list[Event],
    first: int | None,
    last: int | None,
    window: Window,
    backward: bool,
    size: int,
) -> None:
    axis, since, until = window
    wanted = [
        event.version
        for event in history
        if event.aggregate_id == "user-1"
        and (first is None or first <= event.version)
        and (last is None or event.version <= last)
        and in_window(event, axis, since, until)
    ]
    found = source.events(
        "user-1",
        from_version=first,
        to_version=last,
        since=since,
        until=until,
        axis=axis,
        backward=backward,
        batch_size=size,
    )
    assert versions(found) == (wanted[::-1] if backward else wanted)


@pytest.mark.parametrize("axis", AXES)
def test_a_window_has_its_start_and_not_its_end(
    source: EventSource, history: list[Event], axis: Axis
) -> None:
    moments = sorted({getattr(event, f"{axis}_at") for event in history})
    since, until = moments[3], moments[9]
    where = FeedFilter(since=since, until=until, axis=axis)
    found = {getattr(event, f"{axis}_at") for event in source.feed(where=where)}
    assert found == set(moments[3:9])


def test_a_window_may_be_said_in_any_zone(source: EventSource) -> None:
    since = START + timedelta(minutes=5)
    elsewhere = since.astimezone().astimezone(tz=None)
    assert positions(source.feed(where=FeedFilter(since=elsewhere))) == positions(
        source.feed(where=FeedFilter(since=since))
    )


IMPOSSIBLE = ["", "nobody", "user", "USER-1", "user-1 ", "\x00", "user-1\x00", "\ud800", "x" * 9999]


@pytest.mark.parametrize("aggregate_id", IMPOSSIBLE)
def test_an_unknown_aggregate_has_no_events(source: EventSource, aggregate_id: str) -> None:
    assert list(source.events(aggregate_id)) == []


@pytest.mark.parametrize("aggregate_id", IMPOSSIBLE)
def test_an_unknown_aggregate_has_no_head(source: EventSource, aggregate_id: str) -> None:
    with pytest.raises(AggregateNotFound):
        source.aggregate(aggregate_id)


@pytest.mark.parametrize("far", [2**31, 2**63 - 1, 2**63, 2**70])
def test_bounds_out_of_this_world_are_bounds(
    source: EventSource, history: list[Event], far: int
) -> None:
    own = [event.version for event in history if event.aggregate_id == "user-1"]
    assert versions(source.events("user-1", from_version=-far, to_version=far)) == own
    assert versions(source.events("user-1", from_version=far)) == []
    assert positions(source.feed(after=far)) == []
    assert positions(source.feed(after=-far, before=far)) == [e.position for e in history]


# The feed


def is_wanted(event: Event, where: FeedFilter) -> bool:
    return (
        where.aggregate_type in {None, event.aggregate_type}
        and (not where.event_types or event.event_type in where.event_types)
        and where.correlation_id in {None, event.correlation_id}
        and in_window(event, where.axis, where.since, where.until)
    )


@st.composite
def filters(draw: st.DrawFn) -> FeedFilter:
    # Mostly with few conditions, so that there is more than a batch to find.
    anything: Window = ("occurred", None, None)
    axis, since, until = draw(st.one_of(st.just(anything), st.just(anything), windows()))
    types = st.sampled_from(["Created", "Renamed", "Moved", "Nothing", "\x00", "\ud800"])
    return FeedFilter(
        aggregate_type=draw(st.sampled_from([None, None, None, "user", "user", "order", "\x00"])),
        event_types=draw(st.just(()) | st.lists(types, max_size=3, unique=True).map(tuple)),
        since=since,
        until=until,
        axis=axis,
        correlation_id=draw(st.sampled_from([None, None, None, None, "c1", "c2", "\ud800"])),
    )


@many
@given(
    where=filters(),
    after=st.integers(-1, 65),
    before=st.none() | st.integers(-1, 65),
    backward=st.booleans(),
    limit=st.none() | st.integers(0, 70),
    size=st.integers(1, 9),
)
def test_the_feed_is_bounded_and_filtered(
    *,
    source: EventSource,
    history: list[Event],
    where: FeedFilter,
    after: int,
    before: int | None,
    backward: bool,
    limit: int | None,
    size: int,
) -> None:
    wanted = [
        event.position
        for event in history
        if after < event.position
        and (before is None or event.position < before)
        and is_wanted(event, where)
    ]
    found = source.feed(
        after=after, before=before, where=where, backward=backward, limit=limit, batch_size=size
    )
    assert positions(found) == (wanted[::-1] if backward else wanted)[:limit]


@pytest.mark.parametrize(
    "where",
    [
        FeedFilter(aggregate_type="order"),
        FeedFilter(event_types=("Renamed",)),
        FeedFilter(event_types=("Renamed", "Moved")),
        FeedFilter(correlation_id="c1"),
        FeedFilter(since=START + timedelta(minutes=10)),
        FeedFilter(until=START + timedelta(minutes=10)),
        FeedFilter(since=START + timedelta(hours=10), axis="recorded"),
        FeedFilter(until=START + timedelta(hours=10), axis="recorded"),
    ],
)
def test_each_filter_alone_takes_some_and_leaves_some(
    source: EventSource, history: list[Event], where: FeedFilter
) -> None:
    found = positions(source.feed(where=where))
    assert found == [event.position for event in history if is_wanted(event, where)]
    assert 0 < len(found) < len(history)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_size": 0}, "batch_size: 0 is not a number from 1"),
        ({"batch_size": -1}, "batch_size: -1 is not a number from 1"),
        ({"limit": -1}, "limit: -1 is not a number from 0"),
        ({"where": FeedFilter(axis=NO_AXIS)}, "axis: 'position' is none of occurred, recorded"),
    ],
)
def test_a_reading_that_makes_no_sense_is_refused_at_once(
    source: EventSource, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidEvent) as refused:
        source.feed(**options)
    assert str(refused.value) == reason


def test_a_history_on_no_axis_is_refused(source: EventSource) -> None:
    with pytest.raises(InvalidEvent, match=r"^axis: .* is none of occurred, recorded"):
        source.events("user-1", since=START, axis=NO_AXIS)


# Aggregates


def walk(source: EventSource, **query: Any) -> list[AggregateSummary]:
    """The aggregates of all pages."""
    found: list[AggregateSummary] = []
    cursors: list[str | None] = [None]
    while len(cursors) == len(set(cursors)):
        page = source.aggregates(after=cursors[-1], **query)
        assert len(page.items) <= query.get("limit", 100)
        found += page.items
        cursors.append(page.next)
    assert cursors[-1] is None, "a page leads back to an earlier one"
    return found


def ids(found: Sequence[AggregateSummary]) -> list[str]:
    return [head.aggregate_id for head in found]


def test_a_head_sums_up_its_history(source: EventSource, history: list[Event]) -> None:
    own = [event for event in history if event.aggregate_id == "user-2"]
    assert source.aggregate("user-2") == AggregateSummary(
        aggregate_id="user-2",
        aggregate_type="user",
        version=len(own),
        first_occurred_at=min(event.occurred_at for event in own),
        last_occurred_at=max(event.occurred_at for event in own),
        last_recorded_at=own[-1].recorded_at,
    )


def test_a_listing_has_the_very_heads(source: EventSource) -> None:
    for head in walk(source):
        assert source.aggregate(head.aggregate_id) == head


def in_order(history: Sequence[Event], order: AggregateOrder) -> list[str]:
    """The ids of the aggregates in the order a source should have."""
    newest = {event.aggregate_id: event for event in history}
    keys: dict[AggregateOrder, Callable[[Event], Any]] = {
        "id": lambda last: last.aggregate_id.encode(),
        "recent": lambda last: -last.position,
        "longest": lambda last: (-last.version, last.aggregate_id.encode()),
    }
    return [last.aggregate_id for last in sorted(newest.values(), key=keys[order])]


@pytest.fixture(scope="module")
def edgy_ids() -> list[str]:
    """Ids of one to three characters at the edges, each once and in no order."""
    found = {a + b + c for a in EDGES for b in ("", *EDGES) for c in ("", "\ud7ff", "\U0010ffff")}
    return random.Random(3).sample(sorted(found), len(found))


@pytest.fixture(scope="module")
def edgy(new_shelf: Callable[[], Shelf], edgy_ids: list[str]) -> EventSource:
    """A source with an aggregate of each of these ids, some longer than others."""
    shelf = new_shelf()
    shelf.store.append_all(
        [
            Append(
                aggregate_type="even" if number % 2 == 0 else "odd",
                aggregate_id=aggregate_id,
                events=[NewEvent("E", n) for n in range(1 + number % 3)],
                expected=any_(),
            )
            for number, aggregate_id in enumerate(edgy_ids)
        ]
    )
    return shelf.source()


@pytest.mark.parametrize("order", ORDERS)
def test_aggregates_are_listed_in_order(edgy: EventSource, order: AggregateOrder) -> None:
    assert ids(walk(edgy, order=order)) == in_order(list(edgy.feed()), order)


@many
@given(prefix=st.text(EDGES, max_size=4), size=st.integers(1, 400))
def test_a_prefix_finds_the_ids_that_start_with_it(
    edgy: EventSource, edgy_ids: list[str], prefix: str, size: int
) -> None:
    wanted = sorted(filter(lambda i: i.startswith(prefix), edgy_ids), key=str.encode)
    assert ids(walk(edgy, prefix=prefix, limit=size)) == wanted


@pytest.mark.slow
@many
@given(
    order=st.sampled_from(ORDERS),
    aggregate_type=st.sampled_from([None, "even", "odd", "other"]),
    prefix=st.text(EDGES, max_size=1),
    size=st.integers(1, 9) | st.integers(40, 1_000),
)
def test_pages_of_any_size_have_each_aggregate_once(
    *,
    edgy: EventSource,
    edgy_ids: list[str],
    order: AggregateOrder,
    aggregate_type: str | None,
    prefix: str,
    size: int,
) -> None:
    query: dict[str, Any] = {"order": order, "aggregate_type": aggregate_type, "prefix": prefix}
    found = walk(edgy, limit=size, **query)
    wanted = [
        aggregate_id
        for number, aggregate_id in enumerate(edgy_ids)
        if aggregate_type in {None, ("even", "odd")[number % 2]} and aggregate_id.startswith(prefix)
    ]
    assert sorted(ids(found)) == sorted(wanted)
    assert found == walk(edgy, limit=1_000, **query)


@pytest.mark.parametrize("nothing", ["x", "\x00", "a\x00", "\ud800", "a\udfff", "a" * 600])
def test_a_prefix_or_type_of_no_aggregate_finds_none(edgy: EventSource, nothing: str) -> None:
    none = AggregatePage(items=(), next=None)
    assert edgy.aggregates(prefix=nothing) == none
    assert edgy.aggregates(aggregate_type=nothing) == none


def test_a_page_that_takes_the_last_one_has_no_next(source: EventSource) -> None:
    for order in ORDERS:
        assert source.aggregates(order=order, limit=5).next is None
        assert source.aggregates(order=order, limit=4).next is not None


@pytest.mark.parametrize("order", ["longest", "recent"])
@pytest.mark.parametrize(
    "cursor", ["", "x", "-1", "1.5", "²", "٣", "9" * 40, "5\x00", "\ud800", "1;", "3 ", "' OR 1"]
)
def test_a_cursor_nobody_gave_is_refused(
    source: EventSource, order: AggregateOrder, cursor: str
) -> None:
    with pytest.raises(InvalidEvent, match=r"^after: .* is no cursor of this (store|file)$"):
        source.aggregates(order=order, after=cursor)


@pytest.mark.parametrize("cursor", ["5\x00", "\ud800"])
def test_a_cursor_that_is_no_id_is_refused(source: EventSource, cursor: str) -> None:
    with pytest.raises(InvalidEvent, match=r"^after: .* is no cursor of this (store|file)$"):
        source.aggregates(after=cursor)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"limit": 0}, "limit: 0 is not a number from 1"),
        ({"limit": -1}, "limit: -1 is not a number from 1"),
        ({"order": "newest"}, "order: 'newest' is none of id, recent, longest"),
    ],
)
def test_a_listing_that_makes_no_sense_is_refused(
    source: EventSource, query: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidEvent) as refused:
        source.aggregates(**query)
    assert str(refused.value) == reason


@pytest.mark.parametrize("order", ORDERS)
def test_a_listing_meanwhile_appended_to_shows_no_aggregate_twice(
    store: Hindsight, order: AggregateOrder
) -> None:
    fill(store)
    page = store.aggregates(order=order, limit=1)
    seen = ids(page.items)
    while page.next is not None:
        store.append("user", "user-3", [NewEvent("E", 1)], expected=any_())
        store.append("user", str(uuid4()), [NewEvent("E", 1)], expected=any_())
        page = store.aggregates(order=order, limit=1, after=page.next)
        seen += ids(page.items)
        if len(seen) > 20:
            break
    assert len(set(seen)) == len(seen)


# Counts


def test_counts_are_those_of_the_events(source: EventSource, history: list[Event]) -> None:
    counts = source.counts()
    kinds = {event.aggregate_id: event.aggregate_type for event in history}
    assert counts.events == len(history)
    assert counts.aggregates == len(kinds)
    assert counts.last_position == history[-1].position
    assert counts.events_by_type == Counter(event.event_type for event in history)
    assert counts.aggregates_by_type == Counter(kinds.values())


def test_an_empty_source_has_nothing(new_shelf: Callable[[], Shelf]) -> None:
    source = new_shelf().source()
    counts = source.counts()
    assert (counts.events, counts.aggregates, counts.last_position) == (0, 0, 0)
    assert (counts.events_by_type, counts.aggregates_by_type) == ({}, {})
    assert list(source.feed()) == []
    for order in ORDERS:
        assert source.aggregates(order=order) == AggregatePage(items=(), next=None)


# What reading costs


def checked_out(store: Hindsight) -> int:
    return store.database.connections.in_use


def readings(source: EventSource) -> list[Iterator[Event]]:
    """Each way to iterate over events, three to a batch."""
    where = FeedFilter(aggregate_type="user")
    return [
        source.events("user-1", batch_size=3),
        source.events("user-1", batch_size=3, backward=True),
        source.feed(batch_size=3),
        source.feed(batch_size=3, backward=True, where=where, limit=50),
    ]


def test_no_connection_is_held_between_two_events(store: Hindsight) -> None:
    fill(store)
    for reading in readings(store.log):
        assert {checked_out(store) for _ in reading} == {0}


@pytest.mark.parametrize(
    ("options", "queries"),
    [
        ({"batch_size": 60}, 2),  # a full batch may not be the last
        ({"batch_size": 61}, 1),
        ({"batch_size": 7}, 9),
        ({"batch_size": 7, "backward": True}, 9),
        ({"batch_size": 7, "limit": 14}, 2),
        ({"batch_size": 7, "limit": 15}, 3),
        ({"limit": 0}, 0),
    ],
)
def test_a_reading_takes_a_query_a_batch(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], queries: int
) -> None:
    fill(store)
    asked: list[str] = []
    ask = store.database.rows

    def counting(sql: str, *arguments: Any, **options: Any) -> Any:
        if "archive" not in sql:  # with each it is asked whether there is anything in the archive
            asked.append(sql)
        return ask(sql, *arguments, **options)

    monkeypatch.setattr(store.database, "rows", counting)
    deque(store.feed(**options), maxlen=0)
    assert len(asked) == queries


def test_nothing_is_read_before_it_is_wanted(store: Hindsight) -> None:
    fill(store, 10)
    events = store.feed(batch_size=5)
    store.append("late", "late", [NewEvent("E", 1)], expected=any_())
    assert positions(events)[-1] == 11


def peak(reading: Iterator[Event]) -> int:
    """The most bytes that are allocated while the events are read."""
    tracemalloc.start()
    try:
        deque(reading, maxlen=0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_reading_20_000_events_keeps_no_more_than_a_batch(
    new_shelf: Callable[[], Shelf],
) -> None:
    shelf = new_shelf()
    for number in range(10):
        events = [NewEvent("E", {"text": "x" * 100, "n": n}) for n in range(2_000)]
        shelf.store.append("a", f"a-{number}", events, expected=any_())
    source = shelf.source()
    deque(source.feed(limit=1_000), maxlen=0)  # what is cached for ever is cached now
    few = peak(source.feed(limit=1_000, batch_size=500))
    assert peak(source.feed(batch_size=500)) < 2 * few


# Reading while others write or read


def test_a_reader_sees_what_is_appended_while_it_reads(store: Hindsight) -> None:
    before = fill(store, 10)
    events = store.feed(batch_size=4)
    seen = list(islice(events, 3))
    late = store.append("user", "user-1", [NewEvent("Late", 1)], expected=any_()).events
    assert seen + list(events) == before + list(late)


def test_a_reader_backward_is_not_disturbed_by_appends(store: Hindsight) -> None:
    before = fill(store, 10)
    events = store.feed(batch_size=4, backward=True)
    seen = [next(events)]
    for _ in range(3):
        store.append("user", "user-1", [NewEvent("Late", 1)], expected=any_())
        seen += islice(events, 3)
    assert seen == before[::-1]


def test_a_history_may_grow_while_it_is_read(store: Hindsight) -> None:
    read = 0
    store.append("user", "u", [NewEvent("E", 1), NewEvent("E", 2)], expected=any_())
    for event in store.log.events("u", batch_size=2):
        read += 1
        assert event.version == read
        if read <= 7:
            store.append("user", "u", [NewEvent("E", read)], expected=any_())
    assert read == 9


def test_a_reading_may_be_left_before_its_end(store: Hindsight) -> None:
    fill(store)
    for reading in readings(store.log):
        next(reading)
        reading.close()  # type: ignore[attr-defined]  # a generator, as every reading is
    assert checked_out(store) == 0
    assert store.append("user", "user-1", [NewEvent("E", 1)], expected=any_()).version > 1


def test_threads_may_share_a_source(source: EventSource, history: list[Event]) -> None:
    wanted = [event.position for event in history]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda size: positions(source.feed(batch_size=size)), range(1, 21))
        assert all(read == wanted for read in found)
