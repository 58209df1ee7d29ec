"""Listings of aggregates are those of a plain sort, wherever rollups and the archive end."""

import io
import json
from collections import Counter
from collections.abc import Callable
from typing import Any, cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from sqlalchemy import MetaData, text

from store import Append, Hindsight, NewEvent, any_, listings
from store.records import AggregateSummary, Event
from store.rollups import lengths
from store.transfer import import_events
from tests.archiving import archive_all_but

pytestmark = pytest.mark.slow

TYPES = {"a": "even", "aa": "odd", "ab": "even", "b": "odd", "ba": "odd", "ä": "even", "z": "odd"}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of events are many here."""
    monkeypatch.setattr(listings, "FEW", 1)
    monkeypatch.setattr(listings, "WALKED", 4)
    monkeypatch.setattr(lengths, "WALKED", 4)
    monkeypatch.setattr(lengths, "TAIL", 8)


def append(store: Hindsight, name: str, events: int = 1) -> None:
    store.append(TYPES[name], name, news(events), expected=any_())


def news(events: int) -> list[NewEvent]:
    return [NewEvent("E", {}) for _ in range(events)]


def bring_in(store: Hindsight, name: str, events: int) -> None:
    """Import what follows on an aggregate's events."""
    known = Counter(event.aggregate_id for event in store.feed())[name]
    fields = {
        "aggregate_type": TYPES[name],
        "aggregate_id": name,
        "event_type": "E",
        "schema_version": 1,
        "data": {},
        "metadata": {},
        "occurred_at": "2026-11-22T09:34:00Z",
    }
    lines = [
        json.dumps(fields | {"event_id": str(uuid4()), "version": known + number}) + "\n"
        for number in range(1, events + 1)
    ]
    raw = cast("io.RawIOBase", io.BytesIO("".join(lines).encode()))
    stream: io.BufferedReader = io.BufferedReader(raw)
    assert import_events(store.log, stream).imported == events


def roll_up(store: Hindsight, share: float) -> None:
    """Have the rollups hold some more of what they do not."""
    after, last = store.log.rolled_up(), store.watermark().position
    store.rollups.roll_up(after + round(share * (last - after)))


def rebuild(store: Hindsight) -> None:
    store.rollups.rebuild(store.watermark().position)


def take_back(store: Hindsight, name: str) -> None:
    """Restore an aggregate from the archive, if there is such a one."""
    if name in {head.aggregate_id for head in store.aggregates().items}:
        store.archive.restore(name)


class Step(Struct, frozen=True):
    """Something that happens to a store."""

    action: Callable[..., Any]
    given: tuple[Any, ...]


def some(action: Callable[..., Any], *given: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just(action), st.tuples(*given))


names, numbers = st.sampled_from(sorted(TYPES)), st.integers(1, 5)
appends = some(append, names, numbers)
shares = st.sampled_from([0.3, 0.7, 1.0, 1.0])
steps = st.lists(
    st.one_of(
        appends,
        appends,
        some(bring_in, names, numbers),
        some(roll_up, shares),
        some(roll_up, shares),
        some(rebuild),
        some(archive_all_but, st.integers(0, 9)),
        some(take_back, names),
    ),
    min_size=3,
    max_size=12,
)
queries = st.fixed_dictionaries(
    {
        "order": st.sampled_from(["longest", "longest", "recent", "recent", "id"]),
        "prefix": st.sampled_from(["", "", "a", "ab", "b", "ä", "nobody"]),
        "aggregate_type": st.sampled_from([None, None, "even", "odd", "other"]),
        "limit": st.integers(1, 8),
    }
)
Query = dict[str, Any]


def sorted_heads(store: Hindsight, query: Query) -> list[AggregateSummary]:
    """The heads that a listing has, by a sort of all there are."""
    newest: dict[str, Event] = {event.aggregate_id: event for event in store.feed()}
    keys: dict[str, Callable[[Event], Any]] = {
        "id": lambda last: last.aggregate_id.encode(),
        "recent": lambda last: -last.position,
        "longest": lambda last: (-last.version, last.aggregate_id.encode()),
    }
    return [
        store.aggregate(last.aggregate_id)
        for last in sorted(newest.values(), key=keys[query["order"]])
        if last.aggregate_id.startswith(query["prefix"])
        and query["aggregate_type"] in {None, last.aggregate_type}
    ]


def listed(store: Hindsight, query: Query) -> list[AggregateSummary]:
    """The aggregates of all pages."""
    page = store.aggregates(**query)
    found = [*page.items]
    while page.next is not None:
        assert len(page.items) == query["limit"]
        assert len(found) < len(TYPES), "a page leads back to an earlier one"
        page = store.aggregates(after=page.next, **query)
        found += page.items
    return found


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(happens=steps, asked=st.lists(queries, min_size=4, max_size=8))
def test_a_listing_is_a_sort_of_the_heads_whatever_has_happened(
    fresh_url: Callable[[], str], happens: list[Step], asked: list[Query]
) -> None:
    with Hindsight(fresh_url()) as store:
        for step in happens:
            step.action(store, *step.given)
            for query in asked:
                assert listed(store, query) == sorted_heads(store, query), query
        assert store.rollups.check().differences == ()


@pytest.fixture
def sorts(monkeypatch: pytest.MonkeyPatch) -> list[listings.Listing]:
    """The listings for which the database was asked to put heads in order."""
    asked: list[listings.Listing] = []
    ordered = listings.ordered

    def noted(tables: MetaData, listing: listings.Listing) -> Any:
        asked.append(listing)
        return ordered(tables, listing)

    monkeypatch.setattr(listings, "ordered", noted)
    return asked


def fill(store: Hindsight) -> None:
    """Aggregates of one to seven events, by id, all of them in the rollups."""
    for events, name in enumerate(sorted(TYPES), start=1):
        append(store, name, events)
    roll_up(store, 1.0)


def first(store: Hindsight, **query: Any) -> list[tuple[str, int]]:
    return [(head.aggregate_id, head.version) for head in store.aggregates(**query).items]


def test_the_longest_are_those_of_the_rollups_and_who_has_grown(
    store: Hindsight, sorts: list[listings.Listing]
) -> None:
    fill(store)
    assert first(store, order="longest", limit=3) == [("ä", 7), ("z", 6), ("ba", 5)]
    append(store, "a", 6)
    append(store, "aa", 2)
    assert first(store, order="longest", limit=3) == [("a", 7), ("ä", 7), ("z", 6)]
    assert first(store, order="longest", after="7 a", limit=2) == [("ä", 7), ("z", 6)]
    assert first(store, order="longest", after="6 z", limit=9) == [
        ("ba", 5),
        ("aa", 4),
        ("b", 4),
        ("ab", 3),
    ]
    assert first(store, order="longest", aggregate_type="odd", limit=2) == [("z", 6), ("ba", 5)]
    assert sorts == []


@pytest.mark.parametrize("size", range(1, 8))
def test_who_has_grown_since_the_rollups_leaves_no_page_short(store: Hindsight, size: int) -> None:
    fill(store)
    append(store, "ba", 4)
    append(store, "ab", 2)
    query = {"order": "longest", "prefix": "", "aggregate_type": None, "limit": size}
    assert listed(store, query) == sorted_heads(store, query)


@pytest.mark.parametrize("prefix", ["", "a", "b"])
def test_those_as_long_are_listed_by_id(store: Hindsight, prefix: str) -> None:
    for name in TYPES:
        append(store, name, 3)
    roll_up(store, 1.0)
    query = {"order": "longest", "prefix": prefix, "aggregate_type": None, "limit": 1}
    assert listed(store, query) == sorted_heads(store, query)


@pytest.mark.parametrize(("behind", "are_sorted"), [(8, False), (9, True)])
def test_heads_are_sorted_where_many_events_are_behind_the_rollups(
    store: Hindsight, sorts: list[listings.Listing], *, behind: int, are_sorted: bool
) -> None:
    fill(store)
    append(store, "a", behind)
    assert first(store, order="longest", limit=2) == [("a", 1 + behind), ("ä", 7)]
    assert bool(sorts) is are_sorted


def test_heads_are_sorted_for_a_long_page(
    store: Hindsight, sorts: list[listings.Listing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "MOST", 3)
    fill(store)
    assert first(store, order="longest", limit=2) == [("ä", 7), ("z", 6)]
    assert sorts == []
    assert first(store, order="longest", limit=3) == [("ä", 7), ("z", 6), ("ba", 5)]
    assert sorts != []


@pytest.mark.parametrize(
    ("query", "found", "are_sorted"),
    [
        # Two of the four longest begin with b, and the last of one is near the newest event.
        ({"order": "longest", "prefix": "b", "limit": 1}, [("ba", 5)], False),
        ({"order": "longest", "prefix": "b", "limit": 2}, [("ba", 5), ("b", 4)], True),
        ({"order": "longest", "prefix": "a", "limit": 1}, [("ab", 3)], True),
        ({"order": "longest", "prefix": "z", "limit": 1}, [("z", 6)], True),
        ({"order": "longest", "prefix": "a", "after": "5 x", "limit": 1}, [("ab", 3)], False),
        ({"order": "recent", "aggregate_type": "odd", "limit": 1}, [("z", 6)], False),
        ({"order": "recent", "aggregate_type": "even", "limit": 2}, [("ä", 7), ("ab", 3)], False),
        ({"order": "recent", "prefix": "b", "limit": 1}, [("ba", 5)], False),
        ({"order": "recent", "prefix": "a", "limit": 1}, [("ab", 3)], True),
        ({"order": "recent", "prefix": "a", "after": "16", "limit": 1}, [("ab", 3)], False),
    ],
)
def test_a_page_of_what_is_filtered_is_walked_to_where_it_is_near(
    store: Hindsight,
    sorts: list[listings.Listing],
    query: Query,
    found: list[tuple[str, int]],
    *,
    are_sorted: bool,
) -> None:
    fill(store)
    assert first(store, **query) == found
    assert bool(sorts) is are_sorted


@pytest.mark.parametrize(("limit", "are_sorted"), [(1, False), (2, False), (3, True)])
def test_lengths_are_walked_to_an_end(
    store: Hindsight,
    sorts: list[listings.Listing],
    monkeypatch: pytest.MonkeyPatch,
    *,
    limit: int,
    are_sorted: bool,
) -> None:
    monkeypatch.setattr(lengths, "WALKED", 22)
    monkeypatch.setattr(lengths, "TAIL", 0)
    ids = [f"{'xy'[number % 10 == 0]}{number}" for number in range(1, 61)]
    parts = [
        Append(aggregate_type="thing", aggregate_id=name, events=news(length), expected=any_())
        for length, name in enumerate(ids, start=1)
    ]
    store.append_all(parts)
    roll_up(store, 1.0)
    expected = [("y60", 60), ("y50", 50), ("y40", 40)][:limit]
    assert first(store, order="longest", prefix="y", limit=limit) == expected
    assert bool(sorts) is are_sorted


@pytest.mark.parametrize(
    "damage",
    [
        "INSERT INTO history_lengths VALUES ('ghost', 'thing', 99, 1)",
        "UPDATE history_lengths SET version = version + 1 WHERE aggregate_id = 'z'",
    ],
)
def test_lengths_that_cannot_be_are_not_believed(
    store: Hindsight, sorts: list[listings.Listing], damage: str
) -> None:
    fill(store)
    with store.database.transaction() as connection:
        connection.execute(text(damage))
    assert first(store, order="longest", limit=2) == [("ä", 7), ("z", 6)]
    assert sorts != []


def test_rollups_that_move_on_behind_a_reader_change_no_listing(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    append(store, "a", 6)
    read = lengths._kept

    def kept(*asked: Any) -> Any:
        append(store, "ab", 9)
        roll_up(store, 1.0)
        archive_all_but(store, 2)
        return read(*asked)

    monkeypatch.setattr(lengths, "_kept", kept)
    assert first(store, order="longest", limit=3) == [("a", 7), ("ä", 7), ("z", 6)]
    assert first(store, order="longest", limit=2) == [("ab", 12), ("a", 7)]
