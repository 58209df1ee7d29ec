"""Searching the feed page by page finds what a plain look at every event finds."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard import searching
from dashboard.searching import Bounds, Found, InvalidSearch, Wanted, later, search
from store import Context, Hindsight, NewEvent, any_
from store.records import Event, FeedFilter, Tally
from store.sources import EventSource
from store.sources.ndjson import NdjsonSource

ANYWHERE = Bounds()
START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENT = 60.0
TYPES = ("Created", "Renamed", "Left")
ACTORS = ("ann", "bob", None)

many = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def line(number: int) -> str:
    metadata = {"actor": ACTORS[number % 3], "correlation_id": f"c{number % 5}"}
    return json.dumps(
        {
            "event_id": f"00000000-0000-0000-0000-{number:012}",
            "aggregate_type": "user" if number % 4 else "order",
            "aggregate_id": f"a-{number}",
            "version": 1,
            "event_type": TYPES[number % 7 % 3],
            "data": {"n": number, "name": "Ann" if number % 6 else "Zoë", "tags": [number % 3]},
            "metadata": {key: value for key, value in metadata.items() if value},
            "occurred_at": (START + timedelta(minutes=number * 7 % 50)).isoformat(),
        }
    )


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NdjsonSource]:
    """Sixty lines; each ninth and the last ten hold no event, so positions have holes."""
    path = tmp_path_factory.mktemp("search") / "events.ndjson"
    texts = ["" if number % 9 == 0 or number > 50 else line(number) for number in range(1, 61)]
    path.write_text("".join(f"{text}\n" for text in texts))
    with NdjsonSource(path) as source:
        yield source


@pytest.fixture(scope="module")
def wabo(data_sets: Path) -> Iterator[NdjsonSource]:
    with NdjsonSource(data_sets / "receipt_wabo" / "events.ndjson.gz") as source:
        yield source


def backwards(source: EventSource, wanted: Wanted, **options: Any) -> list[Found]:
    """All pages from the newest to the oldest."""
    pages, before = [], None
    while True:
        page = search(source, wanted, before=before, **options)
        pages.append(page)
        if page.finished:
            return pages
        assert before is None or page.reached < before
        before = page.reached


def forwards(source: EventSource, wanted: Wanted, **options: Any) -> list[Found]:
    """All pages from the oldest to the newest."""
    pages, after = [], 0
    while True:
        page = search(source, wanted, after=after, **options)
        pages.append(page)
        if page.finished:
            return pages
        assert page.reached > after
        after = page.reached


def positions(events: Sequence[Event]) -> list[int]:
    return [event.position for event in events]


@st.composite
def filters(draw: st.DrawFn) -> FeedFilter:
    minutes = st.none() | st.integers(0, 50).map(lambda n: START + timedelta(minutes=n))
    return FeedFilter(
        aggregate_type=draw(st.sampled_from([None, None, "user", "order", "nothing"])),
        event_types=draw(st.sampled_from([(), (), ("Left",), ("Created", "Renamed")])),
        since=draw(minutes),
        until=draw(minutes),
        correlation_id=draw(st.sampled_from([None, None, "c1", "nothing"])),
        actor=draw(st.sampled_from([None, None, "ann"])),
    )


def everything(_: object) -> bool:
    return True


# What is asked of the data, and how a plain reader would ask it.
ASKED: list[tuple[dict[str, str], Any]] = [
    ({}, everything),
    ({}, everything),
    ({"contains": "zOË"}, lambda data: data["name"] == "Zoë"),
    ({"contains": "7"}, lambda data: "7" in str(data["n"])),
    ({"path": "/name"}, everything),
    ({"path": "/tags/0", "equals": "2"}, lambda data: data["tags"] == [2]),
    ({"path": "/name", "equals": "Ann", "contains": "1"}, lambda data: data["name"] == "Ann"
     and ("1" in str(data["n"]) or data["tags"] == [1])),
]  # fmt: skip


@many
@given(
    where=filters(),
    asked=st.sampled_from(ASKED),
    limit=st.integers(1, 12),
    chunk=st.integers(1, 70),
    patience=st.sampled_from([0.0, PATIENT]),
    first=st.integers(-2, 40),
    last=st.none() | st.integers(0, 80),
)
def test_all_pages_either_way_are_what_a_plain_reader_finds(
    *,
    monkeypatch: pytest.MonkeyPatch,
    holed: NdjsonSource,
    where: FeedFilter,
    asked: tuple[dict[str, str], Any],
    limit: int,
    chunk: int,
    patience: float,
    first: int,
    last: int | None,
) -> None:
    monkeypatch.setattr(searching, "FIRST_CHUNK", chunk)
    monkeypatch.setattr(searching, "READ_BATCH", 1 + chunk % 5)
    fields, test = asked
    wanted = Wanted(where=where, **fields)
    bounds = Bounds(first=first, last=last)
    options = {"bounds": bounds, "limit": limit, "patience": patience}
    plain = [
        event.position
        for event in holed.feed(where=where)
        if test(event.data) and first <= event.position and (last is None or event.position <= last)
    ]
    older = backwards(holed, wanted, **options)
    assert [p for page in older for p in positions(page.events)] == plain[::-1]
    newer = forwards(holed, wanted, **options)
    assert [p for page in newer for p in reversed(positions(page.events))] == plain
    assert all(len(page.events) <= limit for page in older + newer)


def test_real_events_are_found_in_pages(wabo: NdjsonSource) -> None:
    where = FeedFilter(event_types=("T18AdjustReportYToStopIndicition",))
    expected = positions(list(wabo.feed(where=where, backward=True)))
    pages = backwards(wabo, Wanted(where=where), bounds=ANYWHERE, limit=7, patience=PATIENT)
    assert [p for page in pages for p in positions(page.events)] == expected


@pytest.mark.slow
def test_a_walk_ends_when_patience_does_and_is_taken_up_again(wabo: NdjsonSource) -> None:
    wanted = Wanted(contains="nowhere to be found")
    page = search(wabo, wanted, bounds=ANYWHERE, patience=0)
    assert page.events == ()
    assert not page.finished
    assert page.scanned == 1
    bounds = Bounds(first=101, last=1_100)  # as many steps as positions
    pages = backwards(wabo, wanted, bounds=bounds, patience=0)
    assert sum(page.scanned for page in pages) == 1_000


def test_positions_outside_the_bounds_are_not_walked(wabo: NdjsonSource) -> None:
    page = search(
        wabo, Wanted(contains="nowhere"), bounds=Bounds(first=101, last=300), patience=PATIENT
    )
    assert (page.scanned, page.finished) == (200, True)
    nothing = search(wabo, Wanted(), bounds=Bounds(first=1, last=0))
    assert nothing == Found(events=(), reached=nothing.reached, finished=True, scanned=0)


def test_an_empty_store_has_nothing_to_find(sqlite_url: str) -> None:
    with Hindsight(sqlite_url) as store:
        for cursor in ({}, {"before": 7}, {"after": 7}):
            page = search(store.log, Wanted(), bounds=ANYWHERE, **cursor)
            assert page.events == ()
            assert page.finished
        assert later(store.log, Wanted(), after=0) == 0


class Watched(NdjsonSource):
    """Notes what it is asked."""

    asked: list[tuple[int, int | None]]

    def feed(self, **query: Any) -> Iterator[Event]:
        self.asked.append((query.get("after", 0), query.get("before")))
        return super().feed(**query)

    def tally(self, **query: Any) -> Sequence[Tally]:
        self.asked.append((query.get("after", 0), query.get("before")))
        return super().tally(**query)


@pytest.fixture
def watched(data_sets: Path) -> Iterator[Watched]:
    with Watched(data_sets / "receipt_wabo" / "events.ndjson.gz") as source:
        source.asked = []
        yield source


def test_no_query_goes_further_than_a_chunk(watched: Watched) -> None:
    search(watched, Wanted(contains="nowhere"), bounds=ANYWHERE, patience=PATIENT)
    newest, *chunks = watched.asked
    assert newest == (0, None)
    assert chunks[0] == (3_577, 8_578)
    assert chunks[-1][0] == 0
    assert all(before is not None for _, before in chunks)


def test_chunks_grow_where_they_are_quick(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "FIRST_CHUNK", 10)
    search(watched, Wanted(where=FeedFilter(actor="nobody")), bounds=ANYWHERE, patience=PATIENT)
    assert len(watched.asked) < 15


def test_chunks_shrink_where_they_are_slow(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(searching, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(searching, "FIRST_CHUNK", 1_000)
    search(watched, Wanted(where=FeedFilter(actor="nobody")), bounds=ANYWHERE, patience=3)
    _, *chunks = watched.asked
    sizes = [before - after - 1 for after, before in chunks if before is not None]
    assert sizes[0] == 1_000
    assert sizes == [1_000, 750, 562]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"contains": "STRASSE"}, True),
        ({"contains": "straße"}, True),
        ({"contains": "stress"}, False),
        ({"contains": "cIt"}, True),
        ({"contains": "1e+20"}, False),
        ({"contains": "9007199254740993"}, True),
        ({"contains": "2.5"}, True),
        ({"contains": "true"}, False),
        ({"contains": "null"}, False),
        ({"contains": ""}, True),
        ({"path": ""}, True),
        ({"path": "/address"}, True),
        ({"path": "/address/city"}, True),
        ({"path": "/address/town"}, False),
        ({"path": "/a~1b/m~0n"}, True),
        ({"path": "/a~1b/m~01"}, False),
        ({"path": "/~01"}, True),
        ({"path": "/"}, True),
        ({"path": "/list/1"}, True),
        ({"path": "/list/2"}, False),
        ({"path": "/list/01"}, False),
        ({"path": "/list/-"}, False),
        ({"path": "/list/-1"}, False),
        ({"path": "/list/²"}, False),
        ({"path": f"/list/{'9' * 5_000}"}, False),
        ({"path": "/list/1/deeper"}, False),
        ({"path": "/none"}, True),
        ({"path": "/none", "equals": "null"}, True),
        ({"path": "/missing", "equals": "null"}, False),
        ({"path": "/address/city", "equals": "Hauptstrasse"}, False),
        ({"path": "/address/city", "equals": "Hauptstraße"}, True),
        ({"path": "/address/city", "equals": '"Hauptstraße"'}, True),
        ({"path": "/big", "equals": "9007199254740993"}, True),
        ({"path": "/big", "equals": "9007199254740992"}, False),
        ({"path": "/one", "equals": "1"}, True),
        ({"path": "/one", "equals": "1.0"}, True),
        ({"path": "/one", "equals": "true"}, False),
        ({"path": "/yes", "equals": "1"}, False),
        ({"path": "/yes", "equals": "true"}, True),
        ({"path": "/text", "equals": "1"}, False),
        ({"path": "/text", "equals": '"1"'}, True),
        ({"path": "/list", "equals": "[1, 2.5]"}, True),
        ({"path": "/list", "equals": "[true, 2.5]"}, False),
        ({"path": "/a~1b", "equals": '{"m~n": false}'}, True),
        ({"path": "/a~1b", "equals": '{"m~n": 0}'}, False),
        ({"path": "/a~1b", "equals": "{}"}, False),
        ({"path": "/empty", "equals": ""}, True),
        ({"path": "/one", "equals": "[" * 3_000}, False),
        ({"path": "/one", "equals": "[" * 3_000 + "]" * 3_000}, False),
    ],
)
def test_what_is_found_in_the_data(sqlite_url: str, fields: dict[str, Any], *, found: bool) -> None:
    data = {
        "address": {"city": "Hauptstraße"},
        "a/b": {"m~n": False},
        "": "empty key",
        "~1": "tilde",
        "list": [1, 2.5],
        "none": None,
        "big": 9007199254740993,
        "one": 1,
        "yes": True,
        "text": "1",
        "empty": "",
    }
    with Hindsight(sqlite_url) as store:
        store.append("thing", "t", [NewEvent("Happened", data)], expected=any_())
        page = search(store.log, Wanted(**fields), bounds=ANYWHERE)
        assert len(page.events) == later(store.log, Wanted(**fields), after=0) == found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "address/city"}, "path: 'address/city' .* starts with /"),
        ({"path": "/a~2"}, "path: '/a~2' .* ~0 .* ~1"),
        ({"path": "/a~"}, "path: '/a~'"),
        ({"equals": "1"}, "equals: .* path"),
        ({"path": "x" * 5_000}, "^.{0,200}$"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSearch, match=message):
        Wanted(**fields)


def test_new_events_are_counted_up_to_a_limit(sqlite_url: str) -> None:
    with Hindsight(sqlite_url) as store:
        for number in range(9):
            new = NewEvent("Even" if number % 2 == 0 else "Odd", {"n": number})
            store.append("thing", "t", [new], expected=any_(), context=Context(actor="ann"))
        source = store.log
        assert later(source, Wanted(), after=0) == 9
        assert later(source, Wanted(), after=6) == 3
        assert later(source, Wanted(), after=100) == 0
        assert later(source, Wanted(), after=0, limit=4) == 4
        assert later(source, Wanted(where=FeedFilter(event_types=("Even",))), after=3) == 3
        assert later(source, Wanted(path="/n", equals="8"), after=0) == 1
        assert later(source, Wanted(contains="8"), after=9) == 0


def test_counting_new_events_reads_no_data_it_need_not(watched: Watched) -> None:
    def unread(**query: Any) -> Iterator[Event]:
        assert query.get("limit") == 1, "events are read"
        return NdjsonSource.feed(watched, **query)

    watched.feed = unread  # type: ignore[method-assign]
    assert later(watched, Wanted(), after=8_000, limit=10_000) == 577
    before = len(watched.asked)
    assert later(watched, Wanted(), after=0, limit=10) == 10
    assert len(watched.asked) - before == 1  # a tally; the feed is not noted here
    assert later(watched, Wanted(where=FeedFilter(axis="recorded")), after=8_570) == 7
