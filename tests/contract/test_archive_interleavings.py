"""Whatever moves to the archive, or back, between two statements: nobody notices."""

import io
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import text

from store import Append, Event, FeedFilter, Hindsight, NewEvent, any_, exact, none, payload
from store.errors import ArchiveBusy, DatabaseBusy
from store.interchange import format_line
from store.outbox import Relay
from store.transfer.importing import import_events
from store.verification import verify
from tests import totals
from tests.archiving import archive_all_but
from tests.interruptions import Interruptions
from tests.published import Recording

START = datetime(2023, 1, 30, tzinfo=UTC)
NAMES = ("a0", "a1", "a2")
Do = Callable[[Hindsight], object]


class Clock:
    """Goes on by an hour with every look."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(hours=1)
        return self.now


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of events are several pages, and nobody waits long for a lock."""
    for module in ("reader", "snapshots", "cache.tails"):
        monkeypatch.setattr(f"store.{module}.HISTORY_BATCH", 3)
    monkeypatch.setattr("store.reader.OUTLINE_BATCH", 3)
    monkeypatch.setattr("store.archive.restoring.PATIENCE", 0.02)
    monkeypatch.setattr("store.archive.moving.PATIENCE", 0.02)
    monkeypatch.setattr("store.archive.moving.ATTEMPTS", 1)
    monkeypatch.setattr("store.archive.moving.SHARE", 1)
    monkeypatch.setattr("store.database.sqlite.BUSY_TIMEOUT", 0.1)


@pytest.fixture
def other(store_url: str) -> Iterator[Hindsight]:
    """Another process's store."""
    with Hindsight(
        store_url, domain=totals.numbers(5), clock=Clock(), cache=False, metrics=False
    ) as opened:
        yield opened


@pytest.fixture
def store(store_url: str, other: Hindsight) -> Iterator[Hindsight]:
    """A store with some events in the archive, which is interrupted."""
    for number in range(18):
        totals.put(other, number % 9 + 1, aggregate_id=NAMES[number % 3])
    archive(other)
    with Hindsight(
        store_url, domain=totals.numbers(5), clock=Clock(), cache=False, metrics=False
    ) as opened:
        yield opened
        assert opened.database.connections.in_use == 0


@pytest.fixture
def interruptions(store: Hindsight, monkeypatch: pytest.MonkeyPatch) -> Interruptions:
    return Interruptions(monkeypatch, store)


# What happens


def restore(store: Hindsight) -> None:
    for name in NAMES:
        store.archive.restore(name)


def give_back(store: Hindsight) -> None:
    for name in NAMES:
        store.archive.give_back(name)


def restore_and_give_back(store: Hindsight) -> None:
    restore(store)
    give_back(store)


def archive(store: Hindsight) -> None:
    archive_all_but(store, 2)


def be_without_archive(store: Hindsight) -> None:
    """As if nothing had ever been archived."""
    restore(store)
    with store.database.transaction() as connection:
        for table in ("archive_restored", "archive_batches"):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("UPDATE aggregates SET archived_through = 0"))


MOVES: dict[str, tuple[Do, Do]] = {
    "archived": (be_without_archive, archive),
    "archived again": (restore, give_back),
    "restored": (give_back, restore),
    "restored and archived": (give_back, restore_and_give_back),
}
"""How it is at first, and what happens then."""
SELDOM = frozenset({"archived again", "restored and archived"})
MOVED = [pytest.param(each, marks=pytest.mark.soak if each in SELDOM else ()) for each in MOVES]


def unless_busy(move: Do, store: Hindsight) -> None:
    """Whoever waits for a lock that the interrupted one holds would wait for ever."""
    try:
        move(store)
    except (ArchiveBusy, DatabaseBusy):
        return


# What is read, or written again, meanwhile


def own(before: Sequence[Event], name: str = "a1") -> list[Event]:
    return [event for event in before if event.aggregate_id == name]


def read_events(store: Hindsight, before: Sequence[Event]) -> None:
    assert list(store.events("a1", batch_size=2)) == own(before)


def read_events_backward(store: Hindsight, before: Sequence[Event]) -> None:
    assert list(store.events("a1", backward=True, batch_size=2)) == own(before)[::-1]


def read_some_events(store: Hindsight, before: Sequence[Event]) -> None:
    for backward in (False, True):
        found = list(
            store.events("a1", from_version=2, to_version=5, backward=backward, batch_size=3)
        )
        assert sorted(found, key=lambda event: event.version) == own(before)[1:5]


def read_events_of_a_time(store: Hindsight, before: Sequence[Event]) -> None:
    since = own(before)[2].occurred_at
    assert list(store.events("a1", since=since, batch_size=2)) == own(before)[2:]


def read_history(store: Hindsight, before: Sequence[Event]) -> None:
    rows = [row for rows in store.log.history("a1") for row in rows]
    assert [(row[0], payload.decode(row[2])) for row in rows] == [
        (event.version, event.data) for event in own(before)
    ]


def read_outline(store: Hindsight, before: Sequence[Event]) -> None:
    rows = [row for rows in store.log.outline("a1") for row in rows]
    assert [row[0] for row in rows] == [event.version for event in own(before)]


def read_feed(store: Hindsight, before: Sequence[Event]) -> None:
    assert list(store.feed(batch_size=4)) == before


def read_feed_backward(store: Hindsight, before: Sequence[Event]) -> None:
    assert list(store.feed(backward=True, batch_size=4)) == before[::-1]


def read_some_of_the_feed(store: Hindsight, before: Sequence[Event]) -> None:
    where = FeedFilter(until=before[-3].occurred_at)
    for backward in (False, True):
        found = list(store.feed(after=2, before=16, where=where, backward=backward, batch_size=3))
        assert sorted(found, key=lambda event: event.position) == before[2:15]


def read_headers(store: Hindsight, before: Sequence[Event]) -> None:
    found = store.log.headers(after=3, before=17, where=FeedFilter(), limit=12)
    assert [header for header, _ in found] == [event.header for event in before[3:15]]


def load(store: Hindsight, before: Sequence[Event]) -> None:
    for name in NAMES:
        loaded, events = store.load(name), own(before, name)
        total = sum(event.data["number"] for event in events)
        assert (loaded.version, loaded.state.total) == (len(events), total)


def load_old_versions(store: Hindsight, before: Sequence[Event]) -> None:
    for version in (1, 4, 5, 6):
        loaded = store.load("a1", version=version)
        total = sum(event.data["number"] for event in own(before)[:version])
        assert (loaded.version, loaded.state.total) == (version, total)


def load_as_of(store: Hindsight, before: Sequence[Event]) -> None:
    event = own(before)[3]
    assert event.recorded_at is not None
    assert store.load("a1", as_of=event.occurred_at).version == 4
    assert store.load("a1", as_of=event.recorded_at, axis="recorded").version == 4


def again(event: Event) -> NewEvent:
    return NewEvent(event.event_type, event.data, event_id=event.event_id)


def append_again(store: Hindsight, before: Sequence[Event]) -> None:
    event = own(before)[2]
    for expected in (any_(), none(), exact(2), exact(6)):
        answer = store.append("total", "a1", [again(event)], expected=expected)
        assert (answer.duplicate, answer.events) == (True, (event,))


def append_several_again(store: Hindsight, before: Sequence[Event]) -> None:
    events = own(before)[1:4]
    answer = store.append("total", "a1", list(map(again, events)), expected=exact(1))
    assert answer.events == tuple(events)
    parts = [
        Append(
            aggregate_type="total",
            aggregate_id=name,
            events=[again(own(before, name)[1])],
            expected=exact(1),
        )
        for name in NAMES
    ]
    answers = store.append_all(parts)
    assert [each.events for each in answers] == [(own(before, name)[1],) for name in NAMES]


def append_again_within(store: Hindsight, before: Sequence[Event]) -> None:
    event = own(before)[2]
    with store.database.transaction() as connection:
        for expected in (any_(), exact(2), exact(6)):
            answer = store.append(
                "total", "a1", [again(event)], expected=expected, connection=connection
            )
            assert (answer.duplicate, answer.events) == (True, (event,))


def import_again(store: Hindsight, before: Sequence[Event]) -> None:
    lines: Any = io.BytesIO(b"".join(map(format_line, before)))
    imported = import_events(store.log, io.BufferedReader(lines))
    assert (imported.known, imported.imported, imported.rejected) == (len(before), 0, 0)


def list_what_is_to_be_published(store: Hindsight, before: Sequence[Event]) -> None:
    assert {record.event_type for record in store.outbox.records("a1")} == {"Added"}


def check_everything(store: Hindsight, before: Sequence[Event]) -> None:
    verified = verify(store.log, domains=store.domains)
    assert (verified.events, verified.findings) == (len(before), ())


def keep_a_snapshot(store: Hindsight, before: Sequence[Event]) -> None:
    for name in NAMES:
        assert store.snapshot(name).version == len(own(before, name))
    assert {each.version for each in store.snapshots.list()} == {6}
    assert store.load("a1").source == "snapshot"


READERS = (
    read_events,
    read_history,
    read_feed,
    load,
    append_again,
    import_again,
)
OTHER_READERS = (
    read_events_of_a_time,
    load_old_versions,
    check_everything,
    read_events_backward,
    read_some_events,
    read_outline,
    read_feed_backward,
    read_some_of_the_feed,
    read_headers,
    load_as_of,
    append_several_again,
    append_again_within,
    list_what_is_to_be_published,
    keep_a_snapshot,
)
"""Who goes about it much as one of these."""


def seldom(*each: object) -> list[Any]:
    """Only in the soak."""
    return [pytest.param(one, marks=pytest.mark.soak) for one in each]


@pytest.mark.slow
@pytest.mark.parametrize(
    "read", [*READERS, *seldom(*OTHER_READERS)], ids=lambda read: read.__name__
)
@pytest.mark.parametrize("moved", MOVED)
def test_nobody_notices_what_moves_between_two_statements(
    store: Hindsight,
    other: Hindsight,
    interruptions: Interruptions,
    moved: str,
    read: Callable[[Hindsight, Sequence[Event]], None],
) -> None:
    first, then = MOVES[moved]
    before = list(other.feed())
    first(other)
    steps = [
        came.at
        for came in interruptions.each(
            partial(read, store, before),
            partial(unless_busy, then, other),
            again=partial(first, other),
        )
    ]
    assert steps
    assert list(other.feed()) == before
    assert verify(other.log, domains=other.domains).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("every", [5, None], ids=["snapshots", "no snapshots"])
@pytest.mark.parametrize("moved", MOVED)
def test_nor_does_who_keeps_states(
    store_url: str, other: Hindsight, monkeypatch: pytest.MonkeyPatch, moved: str, every: int | None
) -> None:
    first, then = MOVES[moved]
    for module in ("reader", "snapshots", "cache.tails"):  # histories grow, readings must not
        monkeypatch.setattr(f"store.{module}.HISTORY_BATCH", 2_000)

    def grow(keeping: Hindsight) -> list[Event]:
        """Some states are kept, and there are events that are not in them."""
        first(other)
        for name in NAMES[1:]:
            keeping.load(name)
            list(keeping.events(name))
        for name in NAMES:
            totals.put(other, 1, 2, aggregate_id=name)
        return list(other.feed())

    for name in NAMES:
        totals.put(other, 5, aggregate_id=name)
    archive(other)
    interruptions = Interruptions(monkeypatch)
    for read in (load, read_events):
        for at in count():
            with Hindsight(store_url, domain=totals.numbers(every), metrics=False) as keeping:
                interruptions.watch(keeping)
                before = grow(keeping)
                _, happened = interruptions.once(
                    partial(read, keeping, before), partial(unless_busy, then, other), at
                )
                if not happened:
                    break


@pytest.mark.slow
@pytest.mark.parametrize("moved", MOVED)
def test_what_moves_while_it_is_relayed_is_published_in_order(
    store: Hindsight, other: Hindsight, interruptions: Interruptions, moved: str
) -> None:
    first, then = MOVES[moved]
    first(other)
    published = Recording()
    while Relay(store.database, published).once().claimed:
        pass
    for at in count():
        for name in NAMES:
            totals.put(other, 1, 2, 3, aggregate_id=name)
        other.archive.give_back("a0")
        archive_all_but(other, 0)
        first(other)
        relay = Relay(store.database, published)
        _, happened = interruptions.once(relay.once, partial(unless_busy, then, other), at)
        while relay.once().claimed:
            pass
        if not happened:
            break
    assert sorted(published.events, key=lambda event: event.position) == list(other.feed())
    for name in NAMES:
        versions = [event.version for event in own(published.events, name)]
        assert versions == list(range(1, len(versions) + 1))


# Who moves is interrupted


def places(store: Hindsight) -> list[tuple[str, int]]:
    """Aggregate and version of each event that is stored, as often as it is."""
    found = store.database.rows("SELECT aggregate_id, version FROM events", {})
    with store.database.snapshot() as connection:
        for name in NAMES:
            found += [(name, e.version) for e in store.log.archived.events(name, connection)]
    return sorted(found)


def hold_some(store: Hindsight) -> None:
    """Some of one aggregate's events were restored, others were held back since."""
    be_without_archive(store)
    archive_all_but(store, 11)
    store.archive.restore("a1")


def archive_all(store: Hindsight) -> None:
    archive_all_but(store, 0)


def give_one_back(store: Hindsight) -> None:
    store.archive.give_back("a1")


def restore_one(store: Hindsight) -> None:
    store.archive.restore("a1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "moves",
    [
        (be_without_archive, archive_all, archive_all),
        (give_back, restore_one, archive_all),
        *seldom(
            (hold_some, give_one_back, restore_one),
            (be_without_archive, archive_all, restore_one),
            (hold_some, archive_all, archive_all),
            (hold_some, archive_all, give_one_back),
            (hold_some, give_one_back, archive_all),
            (give_back, restore_one, give_one_back),
        ),
    ],
    ids=lambda moves: "-".join(move.__name__ for move in moves),
)
def test_two_who_move_do_not_get_into_each_other_s_way(
    store: Hindsight,
    other: Hindsight,
    interruptions: Interruptions,
    monkeypatch: pytest.MonkeyPatch,
    moves: tuple[Do, Do, Do],
) -> None:
    at_first, mover, then = moves
    monkeypatch.setattr("store.archive.restoring._PACKS", 2)
    monkeypatch.setattr("store.archive.restoring.LARGEST_BATCH", 3)
    before = list(other.feed())
    every = sorted((event.aggregate_id, event.version) for event in before)
    at_first(other)
    move, meanwhile = partial(unless_busy, mover, store), partial(unless_busy, then, other)
    for _ in interruptions.each(move, meanwhile, again=lambda: None):
        assert places(other) == every
        archive_all(other)
        assert places(other) == every
        read_feed(store, before)
        read_history(store, before)
        load(store, before)
        at_first(other)
    assert verify(other.log, domains=other.domains).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_first", "mover"),
    [(be_without_archive, archive), (restore_one, give_one_back), (give_one_back, restore_one)],
    ids=lambda move: move.__name__,
)
def test_while_somebody_moves_everybody_reads(
    store: Hindsight, other: Hindsight, monkeypatch: pytest.MonkeyPatch, at_first: Do, mover: Do
) -> None:
    monkeypatch.setattr("store.archive.restoring._PACKS", 1)
    monkeypatch.setattr("store.archive.restoring.LARGEST_BATCH", 3)
    before = list(store.feed())

    def look() -> None:
        for read in (read_feed, read_feed_backward, read_events_backward, load):
            read(store, before)

    at_first(other)
    interruptions = Interruptions(monkeypatch, other)
    for _ in interruptions.each(partial(mover, other), look, again=partial(at_first, other)):
        look()
