"""An event file looked at through the EventSource protocol."""

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, get_args
from uuid import NAMESPACE_URL, uuid5

import pytest

from store.errors import AggregateNotFound, InvalidEvent, InvalidSource
from store.records import AggregateOrder, AggregateSummary, Event, FeedFilter
from store.sources import EventSource
from store.sources.ndjson import NdjsonSource

SETS = {  # events, aggregates, event types, longest history, as each SOURCE.md says
    "gh_bitcoin_gui": (22_790, 878, 35, 293, "bitcoin-core/gui#178"),
    "receipt_wabo": (8_577, 1_434, 27, 25, "case-9289"),
    "scoop_main": (24_635, 604, 8, 1_225, "main/aws"),
    "wikipedia_edits": (39_199, 35_235, 3, 33, "de.wikipedia:Wikipedia:Vandalismusmeldung"),
}
START = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS: tuple[AggregateOrder, ...] = get_args(AggregateOrder)


def line(aggregate_id: str, version: int, minute: int = 0, **changes: Any) -> str:
    fields = {
        "event_id": str(uuid5(NAMESPACE_URL, f"{aggregate_id}-{version}")),
        "aggregate_type": "user",
        "aggregate_id": aggregate_id,
        "version": version,
        "event_type": "UserRenamed" if version > 1 else "UserCreated",
        "data": {"n": version},
        "occurred_at": (START + timedelta(minutes=minute)).isoformat(),
    }
    return json.dumps(fields | changes)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes lines to a file and returns its path."""

    def to_file(*lines: str, name: str = "events.ndjson") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{text}\n" for text in lines))
        return path

    return to_file


@pytest.fixture
def small(write: Write) -> Iterator[EventSource]:
    """Two users and an order; `b` has its lines out of order and its times run backwards."""
    path = write(
        line("a", 1, minute=1, recorded_at="2026-02-01T00:00:00Z"),
        line("b", 2, minute=2),
        line("b", 1, minute=3),
        line("a", 2, minute=4, recorded_at="2026-02-02T00:00:00Z"),
        line("a", 3, minute=5, metadata={"correlation_id": "c"}),
        line("o", 1, minute=6, aggregate_type="order", event_type="OrderPlaced"),
    )
    with NdjsonSource(path) as source:
        yield source


def versions(events: Iterator[Event]) -> list[int]:
    return [event.version for event in events]


def positions(events: Iterator[Event]) -> list[int]:
    return [event.position for event in events]


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


@pytest.mark.parametrize("name", SETS)
def test_real_logs_hold_what_their_source_says(data_sets: Path, name: str) -> None:
    with NdjsonSource(data_sets / name / "events.ndjson.gz") as source:
        counts = source.counts()
        longest = source.aggregates(order="longest", limit=1).items[0]
    found = (counts.events, counts.aggregates, len(counts.events_by_type))
    assert (*found, longest.version, longest.aggregate_id) == SETS[name]
    assert counts.last_position == counts.events == sum(counts.events_by_type.values())
    assert counts.aggregates == sum(counts.aggregates_by_type.values())


@pytest.mark.parametrize("name", SETS)
def test_the_feed_of_a_real_log_is_its_lines(data_sets: Path, name: str) -> None:
    path = data_sets / name / "events.ndjson.gz"
    with gzip.open(path) as lines, NdjsonSource(path) as source:
        for number, (text, event) in enumerate(zip(lines, source.feed(), strict=True), 1):
            expected = json.loads(text)
            assert event.position == number
            assert (str(event.event_id), event.version) == (
                expected["event_id"],
                expected["version"],
            )
            assert event.data == expected["data"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SETS)
@pytest.mark.slow
def test_paging_visits_every_aggregate_once_in_order(
    data_sets: Path, name: str, order: AggregateOrder
) -> None:
    with NdjsonSource(data_sets / name / "events.ndjson.gz") as source:
        seen = list(walk(source, order=order, limit=997))
        newest = {event.aggregate_id: event.position for event in source.feed()}
    keys: dict[AggregateOrder, Callable[[AggregateSummary], Any]] = {
        "id": lambda head: head.aggregate_id.encode(),
        "recent": lambda head: -newest[head.aggregate_id],
        "longest": lambda head: (-head.version, head.aggregate_id.encode()),
    }
    assert len({head.aggregate_id for head in seen}) == len(seen) == SETS[name][1]
    assert seen == sorted(seen, key=keys[order])


@pytest.mark.parametrize("name", SETS)
@pytest.mark.slow
def test_every_history_of_a_real_log_is_whole_both_ways(data_sets: Path, name: str) -> None:
    with NdjsonSource(data_sets / name / "events.ndjson.gz") as source:
        total = 0
        for head in walk(source, limit=5_000):
            numbers = versions(source.events(head.aggregate_id))
            assert numbers == list(range(1, head.version + 1))
            if head.version > 1:
                backward = versions(source.events(head.aggregate_id, backward=True))
                assert backward == numbers[::-1]
            total += len(numbers)
    assert total == SETS[name][0]


def test_opening_39199_lines_takes_well_under_two_seconds(data_sets: Path) -> None:
    started = perf_counter()
    NdjsonSource(data_sets / "wikipedia_edits" / "events.ndjson.gz").close()
    assert perf_counter() - started < 2


def walk(source: EventSource, **query: Any) -> Iterator[AggregateSummary]:
    after = None
    while True:
        page = source.aggregates(after=after, **query)
        assert len(page.items) <= query["limit"]
        yield from page.items
        after = page.next
        if after is None:
            return


def test_a_head_tells_type_version_and_times(small: EventSource) -> None:
    assert small.aggregate("a") == AggregateSummary(
        aggregate_id="a",
        aggregate_type="user",
        version=3,
        first_occurred_at=at(1),
        last_occurred_at=at(5),
        last_recorded_at=datetime(2026, 2, 2, tzinfo=UTC),
    )


def test_an_unknown_aggregate_is_an_error_and_has_no_events(small: EventSource) -> None:
    with pytest.raises(AggregateNotFound):
        small.aggregate("nobody")
    assert list(small.events("nobody")) == []


def test_lines_out_of_order_are_read_by_version(small: EventSource) -> None:
    events = list(small.events("b"))
    assert [(event.version, event.position) for event in events] == [(1, 3), (2, 2)]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"from_version": 2}, [2, 3]),
        ({"to_version": 2}, [1, 2]),
        ({"from_version": 2, "to_version": 2}, [2]),
        ({"from_version": 3, "to_version": 1}, []),
        ({"from_version": 4}, []),
        ({"to_version": 0}, []),
        ({"from_version": -5, "to_version": 99, "backward": True}, [3, 2, 1]),
        ({"since": at(4)}, [2, 3]),
        ({"until": at(4)}, [1]),
        ({"since": at(1), "until": at(5), "backward": True}, [2, 1]),
        ({"since": datetime(2026, 2, 2, tzinfo=UTC), "axis": "recorded"}, [2]),
        ({"until": datetime(2026, 2, 2, tzinfo=UTC), "axis": "recorded"}, [1]),
        ({"from_version": 2, "until": at(5)}, [2]),
        ({"batch_size": 1}, [1, 2, 3]),
    ],
)
def test_a_history_is_bounded(
    small: EventSource, bounds: dict[str, Any], expected: list[int]
) -> None:
    assert versions(small.events("a", **bounds)) == expected


def test_a_time_bound_picks_events_not_a_prefix(small: EventSource) -> None:
    assert versions(small.events("b", until=at(3))) == [2]


def test_a_bound_without_a_zone_is_refused(small: EventSource) -> None:
    with pytest.raises(InvalidEvent, match="since: 2026-01-01T00:00:00 has no time zone"):
        list(small.events("a", since=START.replace(tzinfo=None)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"after": 2, "before": 5}, [3, 4]),
        ({"after": 6}, []),
        ({"before": 1}, []),
        ({"before": 99, "after": 4}, [5, 6]),
        ({"backward": True, "limit": 2}, [6, 5]),
        ({"backward": True, "before": 4, "batch_size": 1}, [3, 2, 1]),
        ({"limit": 0}, []),
        ({"where": FeedFilter(aggregate_type="order")}, [6]),
        ({"where": FeedFilter(aggregate_type="nothing")}, []),
        ({"where": FeedFilter(event_types=("UserCreated",))}, [1, 3]),
        ({"where": FeedFilter(event_types=("OrderPlaced", "UserRenamed"))}, [2, 4, 5, 6]),
        ({"where": FeedFilter(event_types=("Nothing",))}, []),
        ({"where": FeedFilter(since=at(2), until=at(4))}, [2, 3]),
        ({"where": FeedFilter(since=datetime(2026, 2, 2, tzinfo=UTC), axis="recorded")}, [4]),
        ({"where": FeedFilter(correlation_id="c")}, [5]),
        ({"where": FeedFilter(correlation_id="x"), "limit": 3}, []),
        ({"where": FeedFilter(aggregate_type="user", since=at(4)), "backward": True}, [5, 4]),
    ],
)
def test_the_feed_is_bounded_and_filtered(
    small: EventSource, query: dict[str, Any], expected: list[int]
) -> None:
    assert positions(small.feed(**query)) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_listings_keep_prefix_and_type_on_every_page(write: Write, order: AggregateOrder) -> None:
    lines = [line(f"user-{n:02}", 1, minute=n * 7 % 20) for n in range(20)]
    lines += [line(f"user-{n:02}x", 1, aggregate_type="order") for n in range(20)]
    lines += [line(f"usher-{n:02}", 1) for n in range(20)]
    with NdjsonSource(write(*lines)) as source:
        found = walk(source, prefix="user-", aggregate_type="user", order=order, limit=3)
        assert sorted(head.aggregate_id for head in found) == [f"user-{n:02}" for n in range(20)]


def test_a_last_full_page_has_no_next(small: EventSource) -> None:
    assert small.aggregates(limit=3).next is None
    assert small.aggregates(limit=2).next is not None


def test_a_cursor_of_another_listing_is_refused(small: EventSource) -> None:
    with pytest.raises(InvalidEvent, match="'zzz' is no cursor of this file"):
        small.aggregates(after="zzz")


def test_a_file_from_version_0_keeps_its_numbers(write: Write) -> None:
    with NdjsonSource(write(line("a", 0), line("a", 1), line("b", 0))) as source:
        assert source.info.first_version == 0
        assert source.aggregate("a").version == 1
        assert versions(source.events("a", to_version=0)) == [0]
        assert versions(source.events("a", from_version=1)) == [1]


def test_blank_lines_count_as_lines_only(write: Write) -> None:
    with NdjsonSource(write("", line("a", 1), "  ", line("a", 2))) as source:
        assert positions(source.feed()) == [2, 4]
        assert (source.counts().events, source.counts().last_position) == (2, 4)
        assert source.info.first_version == 1


def test_an_empty_file_is_a_source_without_events(write: Write) -> None:
    with NdjsonSource(write()) as source:
        assert source.counts().events == 0
        assert source.aggregates().items == ()
        assert list(source.feed()) == []


def test_a_gzipped_file_is_known_by_its_content(write: Write, tmp_path: Path) -> None:
    packed = tmp_path / "packed.ndjson"
    packed.write_bytes(gzip.compress(write(line("a", 1), line("a", 2)).read_bytes()))
    with NdjsonSource(packed) as source:
        assert source.info.name == "packed.ndjson"
        assert versions(source.feed()) == [1, 2]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([line("a", 1), "{"], "line 2: Input data was truncated"),
        ([line("a", 1), line("a", 2, occurred_at="now")], "line 2: occurred_at: invalid RFC3339"),
        (
            [line("a", 1), line("b", 1), line("a", 1)],
            "line 3: 'a' has its version 1 on line 1 already",
        ),
        (
            [line("a", 1), line("a", 4), line("a", 3)],
            "line 3: 'a' has version 3, but its version 2 is nowhere in the file",
        ),
        ([line("a", 5)], "line 1: 'a' has version 5, but its version 1 is nowhere in the file"),
        (
            [line("a", 0), line("b", 1)],
            "line 2: 'b' has version 1, but its version 0 is nowhere in the file",
        ),
        (
            [line("a", 1), line("a", 2, aggregate_type="order")],
            "line 2: 'a' is of type 'user', not 'order'",
        ),
    ],
)
def test_a_damaged_file_says_line_and_reason(write: Write, lines: list[str], reason: str) -> None:
    path = write(*lines)
    with pytest.raises(InvalidSource) as refusal:
        NdjsonSource(path)
    assert str(refusal.value).startswith(f"{path}: {reason}")
    assert "\n" not in str(refusal.value)


def test_a_missing_file_a_folder_and_cut_gzip_are_refused(write: Write, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(write(line("a", 1)).read_bytes())[:-9])
    for path, reason in {
        tmp_path / "absent.ndjson": "No such file or directory",
        tmp_path: "Is a directory",
        cut: "after line 0: damaged gzip data: Compressed file ended before",
    }.items():
        with pytest.raises(InvalidSource) as refusal:
            NdjsonSource(path)
        assert str(refusal.value).startswith(f"{path}: {reason}")


def test_a_file_changed_under_an_open_source_is_noticed(write: Write) -> None:
    path = write(line("a", 1))
    with NdjsonSource(path) as source:
        path.write_text("x" * 500)
        with pytest.raises(InvalidSource, match="line 1 has changed"):
            list(source.feed())


def test_a_closed_source_cannot_be_read(write: Write) -> None:
    source = NdjsonSource(write(line("a", 1)))
    source.close()
    with pytest.raises(ValueError, match="closed file"):
        list(source.feed())


def test_threads_may_share_a_source(data_sets: Path) -> None:
    with NdjsonSource(data_sets / "receipt_wabo" / "events.ndjson.gz") as source:

        def read(_: int) -> list[int]:
            return positions(source.feed(batch_size=7))

        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(read, range(4)))
    assert results == [list(range(1, 8_578))] * 4
