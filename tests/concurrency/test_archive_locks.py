"""Archiving on PostgreSQL beside transactions that wait, and such that are open for long."""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from store import Append, Hindsight, NewEvent, any_, exact
from store.archive.moving import lock_heads
from store.errors import DatabaseBusy, PartialDuplicate, VersionConflict
from store.interchange import format_line
from store.transfer import import_events
from tests.archiving import archive_all_but, archiver, keeping
from tests.waiting import until

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"
Again = Callable[[Hindsight, NewEvent], object]


@pytest.fixture
def store(postgres_url: str) -> Iterator[Hindsight]:
    with Hindsight(postgres_url, metrics=False) as opened:
        yield opened


@pytest.fixture
def other(postgres_url: str) -> Iterator[Hindsight]:
    """Another process's store."""
    with Hindsight(postgres_url, metrics=False) as opened:
        yield opened


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """The service's own engine, for transactions that hold more than an append."""
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


# Who repeats an append waits for the head while that very event is archived


def append(store: Hindsight, event: NewEvent) -> object:
    return store.append("thing", "a", [event], expected=exact(3))


def append_whatever(store: Hindsight, event: NewEvent) -> object:
    return store.append("thing", "a", [event], expected=any_())


def append_in_part(store: Hindsight, event: NewEvent) -> object:
    return store.append("thing", "a", [event, NewEvent("Happened", {})], expected=exact(3))


def append_all(store: Hindsight, event: NewEvent) -> object:
    parts = [
        Append(aggregate_type="thing", aggregate_id=name, events=[each], expected=any_())
        for name, each in (("a", event), ("b", NewEvent("Happened", {})))
    ]
    return store.append_all(parts)


def append_within(store: Hindsight, event: NewEvent) -> object:
    with store.database.transaction() as connection:
        return store.append("thing", "a", [event], expected=exact(3), connection=connection)


def append_in_an_old_snapshot(store: Hindsight, event: NewEvent) -> object:
    options = {"isolation_level": "REPEATABLE READ"}
    with (
        store.database.connect() as plain,
        plain.execution_options(**options) as connection,
        connection.begin(),
    ):
        return store.append("thing", "a", [event], expected=exact(3), connection=connection)


def import_behind(store: Hindsight, event: NewEvent) -> object:
    """The id comes once more, as the version that is next."""
    line = next(line for line in map(format_line, store.events("a")) if b'"version":1,' in line)
    raw: Any = io.BytesIO(line.replace(b'"version":1,', b'"version":4,'))
    del event
    return import_events(store.log, io.BufferedReader(raw)).rejected


ENDS: dict[Again, Callable[[Future[Any]], bool]] = {
    append: lambda done: bool(done.result(30).duplicate),
    append_whatever: lambda done: bool(done.result(30).duplicate),
    append_in_part: lambda done: isinstance(done.exception(30), PartialDuplicate),
    append_all: lambda done: isinstance(done.exception(30), PartialDuplicate),
    append_within: lambda done: bool(done.result(30).duplicate),
    append_in_an_old_snapshot: lambda done: (
        isinstance(done.exception(30), VersionConflict) or bool(done.result(30).duplicate)
    ),
    import_behind: lambda done: bool(done.result(30) == 1),
}
"""How it must end: as a duplicate, or refused."""


@pytest.mark.parametrize("again", ENDS, ids=lambda again: again.__name__)
def test_who_waits_for_what_is_archived_stores_nothing_twice(
    store: Hindsight,
    other: Hindsight,
    engine: Engine,
    background: ThreadPoolExecutor,
    again: Again,
) -> None:
    events = [NewEvent("Happened", {"n": number}) for number in range(3)]
    for event in events:
        other.append("thing", "a", [event], expected=any_())
    before = list(other.feed())
    moving = archiver(other)
    batch = moving._next(moving.bound(keeping(0)))
    assert batch is not None
    with other.database.archiving(patience=1.0) as connection:
        lock_heads(other.database, connection, ["a"])
        moving._move(connection, batch)
        waiting = background.submit(again, store, events[0])
        # Who has looked the id up before waiting does not have to.
        until(lambda: waiting.done() or plain(engine, WAITING) == [(1,)])
    assert ENDS[again](waiting)
    stored = [(event.event_id, event.version) for event in other.events("a")]
    assert stored == [(event.event_id, event.version) for event in before]


# Positions of transactions that are open for long


def test_nothing_is_archived_behind_an_event_that_commits_late(
    store: Hindsight, engine: Engine
) -> None:
    for name in ("a", "b"):
        store.append("thing", name, [NewEvent("Happened", {})], expected=any_())
    with engine.connect() as late:
        store.append("thing", "late", [NewEvent("Late", {})], expected=any_(), connection=late)
        for name in ("a", "b", "c"):
            store.append("thing", name, [NewEvent("Happened", {})], expected=any_())
        assert [each.last_position for each in archive_all_but(store, 0, batch=1)] == [1, 2]
        followed = store.follow(poll_interval=0.01)
        assert [next(followed).position for _ in range(2)] == [1, 2]
        late.commit()
    archive_all_but(store, 0, batch=2)
    assert [next(followed).position for _ in range(4)] == [3, 4, 5, 6]
    assert [event.event_type for event in store.feed()] == [
        *["Happened"] * 2,
        "Late",
        *["Happened"] * 3,
    ]
    assert plain(engine, "SELECT count(*) FROM events") == [(0,)]


def test_a_bound_from_before_an_open_transaction_holds(store: Hindsight, engine: Engine) -> None:
    """The position is drawn before, and committed behind, what the archiver was told is settled."""
    store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())
    with engine.connect() as late:
        store.append("thing", "late", [NewEvent("Late", {})], expected=any_(), connection=late)
        store.append("thing", "b", [NewEvent("Happened", {})], expected=any_())
        moving = archiver(store, batch=10)
        bound = moving.bound(keeping(0))
        assert bound.settled == 1
        late.commit()
    assert [each.last_position for each in moving.run(bound)] == [1]
    assert [event.position for event in store.feed()] == [1, 2, 3]


def test_who_writes_for_long_is_waited_for_a_moment_only(
    store: Hindsight, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.archive.moving.PATIENCE", 0.05)
    monkeypatch.setattr("store.archive.moving.ATTEMPTS", 2)
    store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())
    moving = archiver(store)
    bound = moving.bound(keeping(0))
    with engine.connect() as writer:
        store.append("thing", "a", [NewEvent("More", {})], expected=any_(), connection=writer)
        with pytest.raises(DatabaseBusy):
            list(moving.run(bound))
        store.append("thing", "a", [NewEvent("More", {})], expected=any_(), connection=writer)
        writer.commit()
    assert [each.events for each in moving.run(bound)] == [1]
    assert [event.version for event in store.events("a")] == [1, 2, 3]


def plain(engine: Engine, sql: str) -> list[tuple[int, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]
