"""The first level of the cache: whatever it holds, a load answers as one without it would."""

import gc
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct
from sqlalchemy import Connection, text

from store import Aggregate, CommandRejected, Domain, Hindsight, NewEvent, exact
from store.cache import local
from store.database.sqlite import SQLite
from store.errors import AggregateNotFound, ApplyFailed, InvalidEvent, VersionConflict
from tests.statements import round_trips
from tests.totals import Add, Added, Loose, Total, add, note, numbers, put, undo, unguard

pytestmark = pytest.mark.slow

Open = Callable[..., Hindsight]


@pytest.fixture(
    params=[None, pytest.param(2, marks=pytest.mark.slow)], ids=["replays", "snapshots"]
)
def every(request: pytest.FixtureRequest) -> int | None:
    """How often there is a snapshot, behind which the cache is filled in another way."""
    every: int | None = request.param
    return every


@pytest.fixture
def opened(store_url: str, *, measured: bool) -> Iterator[Open]:
    """Opens the store, as each process would for itself."""
    stores: list[Hindsight] = []

    def open_store(domain: Domain | None = None, **options: Any) -> Hindsight:
        options = {"metrics": measured} | options
        stores.append(Hindsight(store_url, domain=domain or numbers(), **options))
        return stores[-1]

    yield open_store
    for store in stores:
        assert store.database.connections.in_use == 0
        store.close()


@pytest.fixture
def store(opened: Open, every: int | None) -> Hindsight:
    return opened(numbers(every))


@pytest.fixture
def other(opened: Open) -> Hindsight:
    """What another process does, without a cache of its own."""
    return opened(cache=False)


def test_what_was_loaded_is_loaded_again_with_one_look_at_the_end(
    store: Hindsight, tmp_path: Path
) -> None:
    put(store, 1, 2, 3)
    first = store.load("a")
    assert first.source in {"replay", "snapshot"}
    again = []
    assert round_trips(store, tmp_path / "trace", lambda: again.append(store.load("a"))) == 1
    assert (again[0].source, again[0].folded) == ("l1", 0)
    assert (
        (again[0].state, again[0].version)
        == (first.state, first.version)
        == (Total(6, (1, 2, 3)), 3)
    )


def test_no_query_is_made_on_sqlite_until_somebody_commits(
    store: Hindsight, other: Hindsight, tmp_path: Path
) -> None:
    put(store, 1)
    store.load("a"), store.load("a")

    def queried() -> bool:
        return round_trips(store, tmp_path / "trace", lambda: store.load("a")) > 0

    always = store.database.is_remote
    assert [queried(), queried()] == [always, always]
    put(other, 5, aggregate_id="b")
    assert [queried(), queried()] == [True, always]
    put(store, 2)
    assert [store.load("a").version, store.load("a").version] == [2, 2]
    with pytest.raises(ZeroDivisionError), other.database.transaction() as connection:
        append_and_fail(other, connection)
    assert [queried(), store.load("a").version] == [always, 2]


def append_and_fail(store: Hindsight, connection: Connection) -> None:
    added = [NewEvent("Added", {"number": 3})]
    store.append("total", "a", added, expected=exact(2), connection=connection)
    raise ZeroDivisionError


def test_what_comes_while_a_state_is_checked_is_in_the_next_load(
    store: Hindsight, other: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query has seen nothing of it, and the number of commits has it already by its end."""
    put(store, 1)
    store.load("a")
    states = store.repository._states
    assert states is not None
    kind = states._kind
    tail = kind.tail

    def and_then_another_appends(*given: Any) -> Any:
        found = tail(*given)
        monkeypatch.setattr(kind, "tail", tail)
        put(other, 2)
        return found

    monkeypatch.setattr(kind, "tail", and_then_another_appends)
    assert [store.load("a").version for _ in range(3)] == [1, 2, 2]


def test_a_backup_restored_into_an_open_file_is_believed(sqlite_url: str, tmp_path: Path) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    with (
        Hindsight(sqlite_url, domain=numbers()) as store,
        closing(sqlite3.connect(tmp_path / "backup.db")) as backup,
        closing(sqlite3.connect(path)) as file,
    ):
        put(store, 1)
        file.backup(backup)
        put(store, 2)
        assert [store.load("a").version for _ in range(3)] == [2, 2, 2]
        backup.backup(file)
        assert [store.load("a").version for _ in range(3)] == [1, 1, 1]


def test_who_finds_another_thread_looking_makes_a_query(sqlite_url: str, tmp_path: Path) -> None:
    with Hindsight(sqlite_url, domain=numbers()) as store:
        put(store, 1)
        for _ in range(3):
            store.load("a")
        database = store.database
        assert isinstance(database, SQLite)
        looking, go_on = threading.Event(), threading.Event()

        def look() -> None:
            with database._commits._asking:
                looking.set()
                assert go_on.wait(10)

        thread = threading.Thread(target=look)
        thread.start()
        assert looking.wait(10)
        assert database.commits() is None
        assert round_trips(store, tmp_path / "trace", lambda: store.load("a")) == 1
        go_on.set()
        thread.join()
        assert store.load("a").version == 1


def test_a_locked_file_tells_no_number_of_commits(sqlite_url: str) -> None:
    with (
        Hindsight(sqlite_url, domain=numbers()) as store,
        closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as other,
    ):
        store.database.close()
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("SELECT count(*) FROM events").fetchall()
        assert store.database.commits() is None
        other.close()
        assert store.database.commits() is not None


def test_what_others_append_is_in_the_next_load(store: Hindsight, other: Hindsight) -> None:
    put(store, 1)
    store.load("a")
    for number in range(2, 6):
        put(other, number, number)
        loaded = store.load("a")
        assert loaded.state == other.load("a").state
        assert (loaded.source, loaded.version, loaded.folded) == ("l1", 2 * number - 1, 2)
    assert store.load("a").folded == 0


def test_more_events_than_a_batch_are_in_the_next_load(store: Hindsight, other: Hindsight) -> None:
    put(store, 1)
    store.load("a")
    for _ in range(3):
        put(other, *[1] * 1_000)
    loaded = store.load("a")
    assert (loaded.source, loaded.version, loaded.state.total) == ("l1", 3_001, 3_001)


def test_who_takes_a_state_of_some_age_asks_no_database(
    store: Hindsight, other: Hindsight, tmp_path: Path
) -> None:
    put(store, 1)
    store.load("a")
    put(other, 2)
    kept = []
    action = lambda: kept.append(store.load("a", max_age=60))  # noqa: E731
    assert round_trips(store, tmp_path / "trace", action) == 0
    assert (kept[0].version, kept[0].source) == (1, "l1")
    assert store.load("a", max_age=0).version == 2
    put(other, 3)
    assert store.load("a").version == 3
    assert store.load("a", max_age=60).version == 3


def test_a_process_sees_what_it_appended_itself_whatever_age_it_takes(store: Hindsight) -> None:
    put(store, 1)
    assert store.load("a", max_age=60).version == 1
    put(store, 2)
    assert store.load("a", max_age=60).version == 2
    store.execute("a", Add(3))
    assert store.load("a", max_age=60).version == 3


def test_a_look_at_the_database_makes_what_is_kept_as_new_as_that(
    store: Hindsight, tmp_path: Path
) -> None:
    put(store, 1)
    store.load("a")
    time.sleep(0.3)
    store.load("a")
    assert round_trips(store, tmp_path / "t", lambda: store.load("a", max_age=0.2)) == 0


def test_a_database_restored_between_two_statements_of_a_load_is_believed(
    opened: Open, other: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second goes on behind a version that is another event's by then."""
    monkeypatch.setattr("store.snapshots.HISTORY_BATCH", 2)
    store = opened(numbers(100))
    put(store, 1, 2, 3)
    begin = store.snapshots.begin

    def and_then_all_is_other(*given: Any, **marked: Any) -> Any:
        begun = begin(*given, **marked)
        monkeypatch.setattr(store.snapshots, "begin", begin)
        undo(other, after=1)
        put(other, 20, 30)
        return begun

    monkeypatch.setattr(store.snapshots, "begin", and_then_all_is_other)
    for _ in range(2):
        assert store.load("a").state.total == other.load("a").state.total == 51


@pytest.mark.parametrize("max_age", [-1, float("nan"), "1", True])
def test_an_age_that_is_none_is_refused(store: Hindsight, max_age: Any) -> None:
    put(store, 1)
    with pytest.raises(InvalidEvent, match=r"^max_age: .* is not a number of seconds from 0$"):
        store.load("a", max_age=max_age)
    with pytest.raises(InvalidEvent, match=r"^max_age: "):
        list(store.events("a", max_age=max_age))


def test_states_at_a_version_and_of_a_time_are_not_taken_from_it(store: Hindsight) -> None:
    put(store, 1, 2, 3)
    newest = store.load("a")
    assert store.load("a", version=2).version == 2
    assert store.load("a", version=3).source != "l1"
    last = list(store.events("a"))[-1]
    assert store.load("a", as_of=last.occurred_at).source == "replay"
    assert store.load("a").state == newest.state


def test_what_a_caller_does_to_a_state_is_not_done_to_the_next_ones(
    opened: Open, every: int | None
) -> None:
    store = opened(numbers(every, initial=Loose(), apply=note))
    put(store, 1)
    for version in (1, 1, 2, 2):
        if version == 2 and store.load("a").version == 1:
            put(store, 2)
        loaded = store.load("a")
        assert loaded.state.numbers == [1, 2][:version]
        loaded.state.numbers.append(99)
        store.load("a", max_age=60).state.numbers.append(98)
    executed = store.execute("a", Add(3))
    executed.state.numbers.append(97)
    assert store.load("a").state.numbers == [1, 2, 3]


def test_a_merged_state_is_each_callers_own(opened: Open) -> None:
    store = opened(
        Domain("none", aggregates=[Aggregate("x", initial=Total(), events=[Added], apply=add)])
    )
    put(store, 1)
    store.load("a").state["number"] = 99
    kept = store.load("a")
    assert (kept.state, kept.generic, kept.source) == ({"number": 1}, True, "l1")
    kept.state["number"] = 98
    assert store.load("a", max_age=60).state == {"number": 1}


def test_a_state_with_a_named_time_zone_is_not_taken_from_json(opened: Open) -> None:
    """Its JSON has the offset of the day; a day later there may be another one."""

    class Due(Struct, frozen=True):
        at: datetime
        numbers: list[int] = []

    def later(state: Due, event: Added) -> Due:
        return Due(state.at + timedelta(days=event.number), [*state.numbers, event.number])

    start = datetime(2026, 3, 27, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    store = opened(numbers(initial=Due(start), apply=later))
    for number in (1, 1, 1):
        put(store, number)
        store.load("a")
    assert store.load("a").state.at == start + timedelta(days=3)
    assert store.load("a").state.at.utcoffset() == timedelta(hours=2)


def test_a_state_that_json_cannot_bring_back_is_loaded_each_time(opened: Open) -> None:
    class Odd(Struct, frozen=True):
        numbers: set[int] | list[int] = []

    def odd(state: Odd, event: Added) -> Odd:
        return Odd({event.number})

    store = opened(numbers(initial=Odd(), apply=odd))
    put(store, 1)
    assert [store.load("a").source for _ in range(3)] == ["replay"] * 3
    assert store.load("a").state == Odd({1})


def test_a_database_restored_to_an_earlier_point_is_believed(
    store: Hindsight, other: Hindsight
) -> None:
    put(store, 1, 2, 3, 4)
    assert store.load("a").state.total == 10
    undo(other, after=2)
    assert (store.load("a").version, store.load("a").state.total) == (2, 3)
    assert store.load("a").source == "l1"
    undo(other, after=1)
    put(other, 20, 30, 40)
    assert (store.load("a").version, store.load("a").state.total) == (4, 91)


def erase(other: Hindsight) -> None:
    """Change what an event said, as an erasure does; the last one is as it was."""
    with other.database.transaction() as connection:
        unguard(connection)
        connection.execute(text("DELETE FROM snapshots"))
        connection.execute(
            text("UPDATE events SET data = :data WHERE aggregate_id = 'a' AND version = 1"),
            {"data": '{"number":7}'},
        )
        connection.execute(text("UPDATE store_info SET epoch = epoch + 1"))


def test_a_new_epoch_is_noticed_by_the_next_load(store: Hindsight, other: Hindsight) -> None:
    put(store, 1, 2)
    put(store, 5, aggregate_id="b")
    store.load("a"), store.load("b")
    erase(other)
    assert store.load("a").state.total == 9
    assert store.load("b", max_age=60).source != "l1", "all that was kept is of the epoch before"
    assert store.load("a").source == "l1"


def test_what_was_read_before_an_erasure_is_not_kept_after_it(
    store: Hindsight, other: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread has read, and not kept yet, when another one hears of the new epoch."""
    put(store, 1, 2)
    put(store, 5, aggregate_id="b")
    store.load("b")
    read = store.repository._from_database

    def and_then_all_is_erased(aggregate_id: str) -> Any:
        found = read(aggregate_id)
        monkeypatch.setattr(store.repository, "_from_database", read)
        erase(other)
        store.load("b")
        return found

    monkeypatch.setattr(store.repository, "_from_database", and_then_all_is_erased)
    assert store.load("a").state.total == 3
    assert store.load("a", max_age=60).state.total == 9
    assert store.load("a").state.total == 9


def test_what_is_gone_is_gone(store: Hindsight, other: Hindsight) -> None:
    put(store, 1)
    store.load("a")
    undo(other, after=0)
    with other.database.transaction() as connection:
        connection.execute(text("DELETE FROM aggregates"))
    with pytest.raises(AggregateNotFound):
        store.load("a")
    with pytest.raises(AggregateNotFound):
        store.load("a", max_age=60)


def test_an_event_that_cannot_be_applied_is_told_as_without_a_cache(
    store: Hindsight, other: Hindsight
) -> None:
    put(store, 1, 2)
    store.load("a")
    put(other, 3, 13)
    for reader in (store, other, store):
        with pytest.raises(ApplyFailed) as failed:
            reader.load("a")
        assert (failed.value.version, failed.value.reached.version) == (4, 3)


def test_a_command_decides_on_what_is_stored(store: Hindsight, other: Hindsight) -> None:
    assert store.execute("a", Add(1)).version == 1
    put(other, 10)
    assert store.execute("a", Add(2)).state == Total(13, (1, 10, 2))
    loaded = store.load("a")
    assert (loaded.version, loaded.source, loaded.folded) == (3, "l1", 1)
    assert store.execute("a", Add(0)).events == ()
    with pytest.raises(CommandRejected):
        store.execute("a", Add(-1))
    assert store.load("a").state == other.load("a").state


def test_what_was_not_committed_is_nowhere(store: Hindsight, other: Hindsight) -> None:
    put(store, 1)
    store.load("a")
    nine = [NewEvent("Added", {"number": 9})]

    def abandoned(connection: Connection) -> None:
        store.append("total", "a", nine, expected=exact(1), connection=connection)
        assert store.load("a").version == store.load("a", max_age=60).version == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), store.database.transaction() as connection:
        abandoned(connection)
    assert store.load("a").version == store.load("a", max_age=60).version == 1
    put(other, 2)
    with pytest.raises(VersionConflict):
        store.append("total", "a", [NewEvent("Added", {"number": 3})], expected=exact(1))
    assert store.load("a").state.total == 3


def test_threads_that_want_the_same_wait_for_the_one_that_reads(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, *range(1, 13))
    reading, go_on = threading.Event(), threading.Event()
    reads = []
    read = store.repository._from_database

    def slowly(aggregate_id: str) -> Any:
        reads.append(aggregate_id)
        reading.set()
        assert go_on.wait(10)
        return read(aggregate_id)

    monkeypatch.setattr(store.repository, "_from_database", slowly)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(store.load("a"))) for _ in range(8)]
    threads[0].start()
    assert reading.wait(10)
    for thread in threads[1:]:
        thread.start()
    other = threading.Thread(target=lambda: put(store, 100))
    other.start()
    other.join()
    go_on.set()
    for thread in threads:
        thread.join()
    assert reads == ["a"]
    assert {each.version for each in found} == {13}
    assert len({each.state for each in found}) == 1


def test_who_waits_reads_itself_where_the_first_failed(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, 1)
    reading, go_on = threading.Event(), threading.Event()
    read = store.repository._from_database
    reads = []

    def failing(aggregate_id: str) -> Any:
        reads.append(aggregate_id)
        if len(reads) > 1:
            return read(aggregate_id)
        reading.set()
        assert go_on.wait(10)
        raise ZeroDivisionError

    monkeypatch.setattr(store.repository, "_from_database", failing)
    first: list[Any] = []

    def lead() -> None:
        with pytest.raises(ZeroDivisionError):
            store.load("a")
        first.append("failed")

    found: list[Any] = []
    leader = threading.Thread(target=lead)
    leader.start()
    assert reading.wait(10)
    follower = threading.Thread(target=lambda: found.append(store.load("a").version))
    follower.start()
    go_on.set()
    leader.join()
    follower.join()
    assert (first, found) == (["failed"], [1])


def test_switched_off_it_costs_but_answers_the_same(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(cache=False)
    put(store, 1)
    assert [store.load("a", max_age=60).source for _ in range(2)] == ["replay"] * 2
    assert [event.version for event in store.events("a", max_age=60)] == [1]
    monkeypatch.setenv("EVENT_STORE_CACHE", "off")
    store = opened()
    assert [store.load("a").source for _ in range(2)] == ["replay"] * 2


def test_histories_are_read_once(store: Hindsight, other: Hindsight, tmp_path: Path) -> None:
    put(store, *range(1, 1_001))
    first = list(store.events("a"))
    again: list[Any] = []
    assert round_trips(store, tmp_path / "t", lambda: again.extend(store.events("a"))) == 1
    assert again == first == list(other.events("a"))
    put(other, 1_001)
    kept: list[Any] = []
    action = lambda: kept.extend(store.events("a", max_age=60))  # noqa: E731
    assert round_trips(store, tmp_path / "t", action) == 0
    assert kept == first
    assert list(store.events("a")) == list(other.events("a"))
    put(store, 1_002)
    assert len(list(store.events("a", max_age=60))) == 1_002


def test_parts_of_a_kept_history_are_those_of_the_stored_one(
    store: Hindsight, other: Hindsight
) -> None:
    put(store, *range(1, 21))
    put(other, *range(1, 6))
    events = list(store.events("a"))
    middle = events[9].occurred_at
    for bounds in (
        {"from_version": 3},
        {"to_version": 7, "backward": True},
        {"from_version": 3, "to_version": 7, "batch_size": 2},
        {"since": middle},
        {"until": middle, "axis": "recorded", "backward": True},
        {"from_version": 30},
        {"to_version": -1},
    ):
        assert list(store.events("a", **bounds)) == list(other.events("a", **bounds)), bounds
    assert list(store.events("nobody")) == []
    with pytest.raises(InvalidEvent):
        list(store.events("a", batch_size=0))
    with pytest.raises(InvalidEvent):
        list(store.events("a", axis="moon"))  # type: ignore[arg-type]


def test_what_a_caller_does_to_an_event_is_not_done_to_the_next_ones(store: Hindsight) -> None:
    put(store, 1, 2)
    for _ in range(3):
        for event in store.events("a"):
            assert event.data == {"number": event.version}
            event.data["number"] = 99
            event.metadata["spoilt"] = True
    assert all("spoilt" not in event.metadata for event in store.events("a", max_age=60))


def test_a_history_of_a_database_restored_is_the_restored_one(
    store: Hindsight, other: Hindsight
) -> None:
    put(store, 1, 2, 3)
    assert len(list(store.events("a"))) == 3
    undo(other, after=2)
    assert len(list(store.events("a"))) == 2
    put(other, 9, 9)
    assert [event.data["number"] for event in store.events("a")] == [1, 2, 9, 9]


def test_of_a_history_too_large_to_keep_no_more_is_read_than_is_asked_for(
    store: Hindsight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.cache.histories.LARGEST", 1_000)
    put(store, *[1] * 40)
    first = lambda: next(store.events("a", batch_size=2))  # noqa: E731
    assert round_trips(store, tmp_path / "t", first) <= 2
    assert len(list(store.events("a", batch_size=2))) == 40


def test_a_history_too_long_to_keep_is_read_each_time(store: Hindsight, tmp_path: Path) -> None:
    for _ in range(7):
        put(store, *[1] * 1_000)
    assert sum(1 for _ in store.events("a")) == 7_000
    events = store.events("a")
    assert next(events).version == 1
    assert round_trips(store, tmp_path / "t", lambda: sum(1 for _ in store.events("a"))) > 7


def test_a_store_may_be_collected_while_another_keeps_something(
    opened: Open, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python collects garbage wherever something is made, with locks held."""
    store = opened()
    put(store, 1)

    class Holder:
        def __init__(self) -> None:
            self.itself = self
            self.store = Hindsight(store_url, metrics=store.metrics if store.measured else False)

    add = local.Local._add

    def collecting(self: local.Local[Any], aggregate_id: str, kept: Any) -> None:
        gc.collect()
        add(self, aggregate_id, kept)

    gc.disable()
    try:
        Holder()
        monkeypatch.setattr(local.Local, "_add", collecting)
        assert store.load("a").version == 1
    finally:
        gc.enable()
