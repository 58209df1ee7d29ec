"""One real history in each kind of source: all give the same answers as the file of it."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from store import Hindsight, migrate
from store.application import open_source
from store.errors import AggregateNotFound, InvalidEvent
from store.records import AggregateOrder, AggregateSummary, Event, FeedFilter
from store.sources import EventSource
from store.sources.foreign import ForeignSource
from store.sources.ndjson import NdjsonSource
from store.transfer import import_events
from tests import foreign
from tests.servers import PostgresServer

ORDERS: tuple[AggregateOrder, ...] = get_args(AggregateOrder)
LONGEST = "case-9289"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SINCE, UNTIL = datetime(2011, 8, 31, 13, tzinfo=UTC), datetime(2011, 9, 6, tzinfo=UTC)


@pytest.fixture(scope="module")
def path(data_sets: Path) -> Path:
    return data_sets / "receipt_wabo" / "events.ndjson.gz"


@pytest.fixture(
    scope="module", params=["sqlite", "postgresql", "file", "message-db", "marten", "marten-plain"]
)
def opened_twice(
    request: pytest.FixtureRequest, path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EventSource, NdjsonSource]]:
    """The log in each kind of source, and as a file of what that can hold; nothing writes to it."""
    folder = tmp_path_factory.mktemp("source")
    with ExitStack() as opened:
        if request.param in {"sqlite", "postgresql", "file"}:
            file = opened.enter_context(NdjsonSource(path))
        if request.param == "file":
            yield file, file
            return
        url = f"sqlite:///{folder / 'store.db'}"
        if request.param != "sqlite":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            server.execute("CREATE DATABASE event_source")
            opened.callback(server.execute, "DROP DATABASE event_source")
            url = server.url("event_source")
        if request.param in {"sqlite", "postgresql"}:
            migrate(url)
            store = opened.enter_context(Hindsight(url))
            with path.open("rb") as stream:
                import_events(store.log, stream)
            yield store.log, file
            return
        lines = foreign_log(request.param, url, list(foreign.lines_of(path)))
        file = opened.enter_context(NdjsonSource(foreign.write_file(folder / "log", lines)))
        yield opened.enter_context(open_source(url)), file


def foreign_log(kind: str, url: str, lines: list[foreign.Line]) -> list[foreign.Line]:
    """Fill a table of another system; what it can hold of the lines."""
    if kind == "message-db":
        lines = [foreign.as_messages(line) for line in lines]
        foreign.build_message_db(url)
        foreign.fill_message_db(url, lines)
    elif kind == "marten":
        foreign.build_marten(url)
        foreign.fill_marten(url, lines)
    else:
        lines = [{**line, "metadata": {}} for line in lines]
        foreign.build_marten(url, schema="plain", optional="")
        foreign.fill_marten(url, lines, schema="plain", optional=False)
    return lines


@pytest.fixture
def source(opened_twice: tuple[EventSource, NdjsonSource]) -> EventSource:
    return opened_twice[0]


@pytest.fixture
def file(opened_twice: tuple[EventSource, NdjsonSource]) -> NdjsonSource:
    return opened_twice[1]


def alike(source: EventSource, events: Iterator[Event]) -> list[Event]:
    """The events without what the source they are in decides."""
    decided: dict[str, Any] = {"recorded_at": None, "digest": None}
    if isinstance(source, ForeignSource):
        # jsonb has an order of keys of its own.
        decided |= {"raw_data": b"", "raw_metadata": b""}
    return [msgspec.structs.replace(event, **decided) for event in events]


def unrecorded(head: AggregateSummary) -> AggregateSummary:
    return msgspec.structs.replace(head, last_recorded_at=None)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"after": 8_570},
        {"after": 100, "before": 900, "batch_size": 7},
        {"after": -5, "before": 4},
        {"before": 100_000, "backward": True, "limit": 1_000},
        {"backward": True, "after": 8_000, "before": 8_100, "batch_size": 9},
        {"limit": 0},
        {"limit": 501},
        {"where": FeedFilter(aggregate_type="permit_application"), "limit": 5},
        {"where": FeedFilter(aggregate_type="case"), "limit": 5},
        {"where": FeedFilter(aggregate_type="nothing")},
        {"where": FeedFilter(event_types=("ConfirmationOfReceipt",)), "batch_size": 100},
        {"where": FeedFilter(event_types=("T18AdjustReportYToStopIndicition", "nothing"))},
        {"where": FeedFilter(since=SINCE, until=UNTIL), "backward": True},
        {"where": FeedFilter(correlation_id="nothing")},
    ],
)
def test_the_feed(source: EventSource, file: NdjsonSource, query: dict[str, Any]) -> None:
    assert alike(source, source.feed(**query)) == alike(source, file.feed(**query))


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"backward": True, "batch_size": 4},
        {"from_version": 5, "to_version": 9},
        {"from_version": 9, "to_version": 5},
        {"from_version": -3, "to_version": 99},
        {"from_version": 20, "backward": True},
        {"since": SINCE, "until": UNTIL},
        {"since": SINCE, "from_version": 10, "batch_size": 3, "backward": True},
    ],
)
def test_a_history(source: EventSource, file: NdjsonSource, query: dict[str, Any]) -> None:
    found, wanted = source.events(LONGEST, **query), file.events(LONGEST, **query)
    assert alike(source, found) == alike(source, wanted)


def test_only_events_with_a_recorded_time_are_on_that_axis(source: EventSource) -> None:
    past = datetime(2000, 1, 1, tzinfo=UTC)
    recorded = list(source.events(LONGEST, since=past, axis="recorded"))
    assert len(recorded) == (0 if isinstance(source, NdjsonSource) else 25)
    assert list(source.events(LONGEST, until=past, axis="recorded")) == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 250},
        {"limit": 100, "prefix": "case-9"},
        {"limit": 3, "prefix": "case-92", "aggregate_type": "permit_application"},
        {"limit": 3, "prefix": "case-92", "aggregate_type": "case"},
        {"limit": 50, "aggregate_type": "case"},
        {"limit": 10, "prefix": "nothing"},
        {"limit": 10, "aggregate_type": "nothing"},
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_listings_page_by_page(
    source: EventSource, file: NdjsonSource, order: AggregateOrder, query: dict[str, Any]
) -> None:
    assert list(pages(source, order=order, **query)) == list(pages(file, order=order, **query))


def pages(source: EventSource, **query: Any) -> Iterator[list[AggregateSummary]]:
    after = None
    while True:
        page = source.aggregates(after=after, **query)
        yield [unrecorded(head) for head in page.items]
        after = page.next
        if after is None:
            return


def test_every_head(source: EventSource, file: NdjsonSource) -> None:
    for head in file.aggregates(limit=2_000).items:
        assert unrecorded(source.aggregate(head.aggregate_id)) == head


def test_an_unknown_aggregate(source: EventSource) -> None:
    with pytest.raises(AggregateNotFound):
        source.aggregate("nobody")
    assert list(source.events("nobody")) == []


def test_counts_and_info(source: EventSource, file: NdjsonSource) -> None:
    assert source.counts() == file.counts()
    assert source.info.first_version == file.info.first_version


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"order": "oldest"}, {"order": "longest", "after": "?"}]
)
def test_an_impossible_listing_is_refused(source: EventSource, query: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        source.aggregates(**query)


def test_a_bound_without_a_time_zone_is_refused(source: EventSource) -> None:
    naive = SINCE.replace(tzinfo=None)
    with pytest.raises(InvalidEvent, match="has no time zone"):
        list(source.events(LONGEST, since=naive))
    with pytest.raises(InvalidEvent, match="has no time zone"):
        list(source.feed(where=FeedFilter(until=naive)))


def test_iterators_may_be_left_early(source: EventSource) -> None:
    assert len(list(islice(source.feed(batch_size=10), 15))) == 15
    assert len(list(islice(source.feed(batch_size=10), 15))) == 15


def test_stored_schema_versions_are_counted(source: EventSource, file: NdjsonSource) -> None:
    found = source.written()
    assert found == file.written()
    assert sum(written.events for written in found) == 8_577
    [aggregate_type] = source.counts().aggregates_by_type
    assert {(w.aggregate_type, w.event_version) for w in found} == {(aggregate_type, 1)}
    assert {w.event_type: w.events for w in found} == source.counts().events_by_type


def test_an_outline_tells_when_which_events_occurred(source: EventSource) -> None:
    events = list(source.events(LONGEST))
    whole = [
        (each.version, each.event_type, (each.occurred_at - EPOCH) // timedelta(microseconds=1))
        for each in events
    ]
    assert [row for rows in source.outline(LONGEST) for row in rows] == whole
    some = [row for rows in source.outline(LONGEST, after=3, to_version=9) for row in rows]
    assert some == [row for row in whole if 3 < row[0] <= 9]
    assert len(some) == 6
    assert list(source.outline("nobody")) == []
