"""Invariants 1 to 3 on every database: all or nothing, one winner, idempotent by event id."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from store import Append, Context, Hindsight, NewEvent, any_, exact, none
from store.digest import event_digest
from store.errors import (
    AccessDenied,
    AggregateTypeMismatch,
    DuplicateEventId,
    EventStoreError,
    InvalidEvent,
    PartialDuplicate,
    VersionConflict,
)
from store.records import Event
from store.versions import ExpectedVersion
from tests.statements import round_trips


@pytest.fixture
def store(store_url: str, *, measured: bool) -> Iterator[Hindsight]:
    with Hindsight(store_url, metrics=measured) as opened:
        yield opened
        assert opened.database.connections.in_use == 0


@pytest.fixture
def transaction(store: Hindsight, store_url: str) -> Iterator[Connection]:
    """A transaction on the service's own engine."""
    engine = create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def some(count: int, event_type: str = "Happened") -> list[NewEvent]:
    return [NewEvent(event_type, {"number": number}) for number in range(count)]


def add(
    store: Hindsight,
    aggregate_id: str,
    count: int = 1,
    expected: ExpectedVersion | None = None,
    connection: Connection | None = None,
) -> list[Event]:
    appended = store.append(
        "thing", aggregate_id, some(count), expected=expected or any_(), connection=connection
    )
    return list(appended.events)


def last_position(store: Hindsight) -> int:
    return store.database.last_position()


@pytest.mark.parametrize("expected", [none(), any_(), exact(0)])
@pytest.mark.parametrize("count", [1, 3])
def test_the_first_append_starts_at_version_one(
    store: Hindsight, expected: ExpectedVersion, count: int
) -> None:
    appended = store.append("thing", "a", some(count), expected=expected)
    assert [event.version for event in appended.events] == list(range(1, count + 1))
    assert (appended.version, appended.position, appended.duplicate) == (count, count, False)


@pytest.mark.parametrize("expected", [exact(2), any_()])
@pytest.mark.parametrize("count", [1, 3])
def test_a_later_append_continues_the_versions(
    store: Hindsight, expected: ExpectedVersion, count: int
) -> None:
    add(store, "a", 2)
    appended = store.append("thing", "a", some(count), expected=expected)
    assert [event.version for event in appended.events] == list(range(3, count + 3))


@pytest.mark.parametrize("count", [1, 2])
def test_what_append_answers_is_what_is_stored(store: Hindsight, count: int) -> None:
    first = add(store, "a", count)
    second = add(store, "a", count)
    assert first + second == list(store.events("a")) == list(store.feed())


def test_an_event_keeps_everything_it_was_given(store: Hindsight) -> None:
    occurred_at = datetime(2024, 2, 29, 23, 59, 59, 999_999, timezone(timedelta(hours=5.75)))
    given = NewEvent(
        "Renamed",
        {"name": "Zoë"},
        event_id=uuid4(),
        schema_version=7,
        metadata={"actor": "zoe", "trace": [1, None]},
        occurred_at=occurred_at,
    )
    context = Context(actor="import", correlation_id="c-1", causation_id="k-1")
    [stored] = store.append("thing", "a", [given], expected=none(), context=context).events
    assert (stored.event_type, stored.event_id, stored.data) == (
        given.event_type,
        given.event_id,
        given.data,
    )
    assert (stored.event_version, stored.schema_version) == (7, 7)
    assert stored.occurred_at == occurred_at
    assert stored.occurred_at.tzinfo == UTC
    assert stored.metadata == {
        "actor": "zoe",
        "trace": [1, None],
        "correlation_id": "c-1",
        "causation_id": "k-1",
    }
    assert (stored.actor, stored.correlation_id, stored.causation_id) == ("zoe", "c-1", "k-1")
    assert stored.raw_data == '{"name":"Zoë"}'.encode()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("expected", [none(), any_(), exact(1)])
def test_the_digest_covers_the_place_in_the_history(
    store: Hindsight, expected: ExpectedVersion, count: int
) -> None:
    if expected == exact(1):
        add(store, "ä")
    store.append("thing", "ä", some(count, "Ürgent"), expected=expected)
    for event in store.events("ä"):
        assert event.digest == event_digest(
            aggregate_id="ä",
            version=event.version,
            event_id=event.event_id,
            event_type=event.event_type,
            event_version=event.event_version,
            occurred_at=event.occurred_at,
            data=event.raw_data,
            metadata=event.raw_metadata,
        )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("there", "expected", "told"),
    [(2, exact(1), 1), (2, exact(3), 3), (2, none(), 0), (0, exact(4), 4)],
)
def test_a_conflict_tells_expected_and_actual_and_burns_no_position(
    store: Hindsight, there: int, expected: ExpectedVersion, told: int, count: int
) -> None:
    add(store, "other")
    if there:
        add(store, "a", there)
    before = last_position(store)
    with pytest.raises(VersionConflict) as conflict:
        store.append("thing", "a", some(count), expected=expected)
    assert (conflict.value.aggregate_id, conflict.value.expected, conflict.value.actual) == (
        "a",
        told,
        there,
    )
    assert last_position(store) == before
    assert add(store, "other")[0].position == before + 1


def test_one_of_two_writers_with_the_same_expectation_wins(store: Hindsight) -> None:
    add(store, "a")

    def attempt(_: int) -> str:
        try:
            return f"won {store.append('thing', 'a', some(1), expected=exact(1)).version}"
        except VersionConflict as conflict:
            return f"lost against {conflict.actual}"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    assert sorted(outcomes) == [*["lost against 2"] * 7, "won 2"]
    assert [event.position for event in store.feed()] == [1, 2]


def test_writers_that_expect_nothing_all_succeed_without_a_gap(store: Hindsight) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: add(store, "a")[0].version, range(64)))
    assert sorted(versions) == list(range(1, 65))


@pytest.mark.parametrize("expected", [none(), any_(), exact(0), exact(3), exact(9)])
@pytest.mark.parametrize("count", [1, 3])
def test_the_same_events_again_are_a_success(
    store: Hindsight, expected: ExpectedVersion, count: int
) -> None:
    events = some(count)
    first = store.append("thing", "a", events, expected=none())
    add(store, "a")
    before = last_position(store)
    again = store.append("thing", "a", events, expected=expected)
    assert again.duplicate
    assert again.events == first.events
    assert (again.version, again.position) == (count, count)
    assert last_position(store) == before


@pytest.mark.parametrize("place", ["alone", "within"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_same_events_again_at_the_current_version_are_a_success(
    store: Hindsight, count: int, place: str
) -> None:
    events = some(count)
    first = store.append("thing", "a", events, expected=none())
    with store.database.transaction() if place == "within" else nullcontext() as connection:
        again = store.append("thing", "a", events, expected=exact(count), connection=connection)
        assert again.duplicate
        assert again.events == first.events
        following = store.append("thing", "a", some(1), expected=any_(), connection=connection)
    assert following.version == count + 1
    assert tuple(store.feed()) == first.events + following.events


@pytest.mark.parametrize(
    ("event_type", "number", "schema_version"),
    [("Other", 0, 1), ("Happened", 1, 1), ("Happened", 0, 2)],
)
def test_a_known_id_with_other_content_is_an_error(
    store: Hindsight, event_type: str, number: int, schema_version: int
) -> None:
    [known] = add(store, "a")
    changed = NewEvent(
        event_type, {"number": number}, event_id=known.event_id, schema_version=schema_version
    )
    with pytest.raises(DuplicateEventId) as duplicate:
        store.append("thing", "a", [changed], expected=any_())
    assert duplicate.value.event_id == known.event_id
    assert last_position(store) == 1


def test_a_known_id_with_other_metadata_and_time_is_the_same_event(store: Hindsight) -> None:
    [known] = add(store, "a")
    retried = NewEvent("Happened", {"number": 0}, event_id=known.event_id, metadata={"try": 2})
    assert store.append("thing", "a", [retried], expected=any_()).events == (known,)


def test_a_partly_known_batch_is_an_error_that_names_both_parts(store: Hindsight) -> None:
    [known] = add(store, "a")
    new = NewEvent("Happened", {"number": 1})
    old = NewEvent("Happened", {"number": 0}, event_id=known.event_id)
    with pytest.raises(PartialDuplicate) as partial:
        store.append("thing", "a", [old, new], expected=exact(1))
    assert (partial.value.known, partial.value.new) == ((known.event_id,), (new.event_id,))
    assert list(store.feed()) == [known]
    assert store.aggregate("a").version == 1


def test_the_same_id_on_another_aggregate_is_another_event(store: Hindsight) -> None:
    [known] = add(store, "a")
    twin = NewEvent("Happened", {"number": 0}, event_id=known.event_id)
    assert not store.append("thing", "b", [twin], expected=none()).duplicate


@pytest.mark.parametrize("expected", [none(), any_(), exact(1)])
def test_an_aggregate_id_belongs_to_one_type(store: Hindsight, expected: ExpectedVersion) -> None:
    add(store, "a")
    with pytest.raises(AggregateTypeMismatch) as mismatch:
        store.append("gadget", "a", some(1), expected=expected)
    assert (mismatch.value.given, mismatch.value.actual) == ("gadget", "thing")
    assert last_position(store) == 1


@pytest.mark.parametrize(
    ("aggregate_id", "events"),
    [
        ("", some(1)),
        ("x" * 513, some(1)),
        ("a\nb", some(1)),
        ("a", []),
        ("a", [NewEvent("A", 1, event_id=uuid4())] * 2),
    ],
    ids=["empty id", "long id", "control character", "no events", "same id twice"],
)
def test_what_may_not_be_stored_is_refused_before_anything_is(
    store: Hindsight, aggregate_id: str, events: list[NewEvent]
) -> None:
    with pytest.raises(InvalidEvent):
        store.append("thing", aggregate_id, events, expected=any_())
    assert last_position(store) == 0


@pytest.mark.parametrize("version", [-1, True, 1.0, None, "1", 2**62])
def test_an_expected_version_is_a_number_that_a_version_can_be(version: Any) -> None:
    with pytest.raises(InvalidEvent, match="expected version"):
        exact(version)


def test_the_highest_version_there_can_be_may_be_expected(store: Hindsight) -> None:
    with pytest.raises(VersionConflict):
        add(store, "a", expected=exact(2**62 - 1))


def three(first: ExpectedVersion, second: ExpectedVersion, third: ExpectedVersion) -> list[Append]:
    expectations = {"c": first, "a": second, "b": third}
    return [
        Append(aggregate_type="thing", aggregate_id=name, events=some(2), expected=expected)
        for name, expected in expectations.items()
    ]


def test_several_aggregates_are_appended_together(store: Hindsight) -> None:
    add(store, "a")
    appended = store.append_all(three(none(), exact(1), any_()))
    assert [(a.events[0].aggregate_id, a.version) for a in appended] == [
        ("c", 2),
        ("a", 3),
        ("b", 2),
    ]
    assert [event.position for event in store.feed()] == list(range(1, 8))


@pytest.mark.parametrize("stale", [0, 1, 2])
def test_one_conflict_among_several_writes_nothing(store: Hindsight, stale: int) -> None:
    add(store, "a")
    expectations = [none(), exact(1), any_()]
    expectations[stale] = exact(5)
    with pytest.raises(VersionConflict):
        store.append_all(three(*expectations))
    assert [page.aggregate_id for page in store.aggregates().items] == ["a"]
    assert last_position(store) == 1
    assert add(store, "b")[0].position == 2


def test_several_appended_again_are_a_success(store: Hindsight) -> None:
    appends = three(none(), none(), none())
    first = store.append_all(appends)
    again = store.append_all(appends)
    assert [appended.events for appended in again] == [appended.events for appended in first]
    assert all(appended.duplicate for appended in again)


def test_several_of_which_one_is_known_are_a_partial_duplicate(store: Hindsight) -> None:
    appends = three(none(), none(), none())
    store.append_all(appends[:1])
    with pytest.raises(PartialDuplicate):
        store.append_all(appends)
    assert last_position(store) == 2


def test_an_aggregate_stands_once_in_an_append_all(store: Hindsight) -> None:
    with pytest.raises(InvalidEvent, match="twice"):
        store.append_all(three(any_(), any_(), any_())[:1] * 2)


def test_an_append_commits_with_the_callers_transaction(
    store: Hindsight, transaction: Connection
) -> None:
    transaction.execute(text("CREATE TABLE notes (note text)"))
    add(store, "a", connection=transaction)
    transaction.execute(text("INSERT INTO notes VALUES ('beside it')"))
    assert not list(store.feed())
    transaction.commit()
    assert [event.aggregate_id for event in store.feed()] == ["a"]


def test_an_append_rolls_back_with_the_callers_transaction(
    store: Hindsight, transaction: Connection
) -> None:
    add(store, "a", connection=transaction)
    store.append_all(three(none(), exact(1), none()), connection=transaction)
    transaction.rollback()
    assert not list(store.feed())
    assert not store.aggregates().items


@pytest.mark.parametrize("refused", [["a"], ["c", "a", "d"]])
def test_a_refused_append_leaves_the_callers_transaction_usable(
    store: Hindsight, transaction: Connection, refused: list[str]
) -> None:
    add(store, "a")
    add(store, "b", connection=transaction)
    appends = [
        Append(aggregate_type="thing", aggregate_id=name, events=some(1), expected=none())
        for name in refused
    ]
    with pytest.raises(VersionConflict):
        store.append_all(appends, connection=transaction)
    add(store, "b", expected=exact(1), connection=transaction)
    transaction.commit()
    assert [f"{e.aggregate_id}{e.version}" for e in store.feed()] == ["a1", "b1", "b2"]


def test_a_duplicate_is_recognised_within_the_transaction_that_wrote_it(
    store: Hindsight, transaction: Connection
) -> None:
    events = some(2)
    first = store.append("thing", "a", events, expected=none(), connection=transaction)
    again = store.append("thing", "a", events, expected=none(), connection=transaction)
    assert again.duplicate
    assert again.events == first.events


def test_a_connection_in_autocommit_mode_is_refused(
    store: Hindsight, transaction: Connection
) -> None:
    plain = transaction.execution_options(isolation_level="AUTOCOMMIT")
    with pytest.raises(EventStoreError, match="autocommit"):
        add(store, "a", connection=plain)


def test_a_connection_to_another_kind_of_database_is_refused(
    store: Hindsight, sqlite_url: str, postgres_url: str
) -> None:
    other = postgres_url if store.database.engine.dialect.name == "sqlite" else sqlite_url
    engine: Engine = create_engine(other.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection, pytest.raises(EventStoreError, match="the connection on"):
        add(store, "a", connection=connection)
    engine.dispose()


def test_a_store_opened_to_read_takes_no_append(store: Hindsight, store_url: str) -> None:
    add(store, "a")
    with Hindsight(store_url, read_only=True) as reader:
        assert [event.version for event in reader.events("a")] == [1]
        with pytest.raises(AccessDenied):
            add(reader, "a")
        with pytest.raises(AccessDenied):
            add(reader, "b", expected=none())
    assert last_position(store) == 1


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_change_after_the_callers_snapshot_is_a_conflict_of_unknown_version(
    postgres_url: str, isolation: str
) -> None:
    engine = create_engine(
        postgres_url.replace("postgresql:", "postgresql+psycopg:"), isolation_level=isolation
    )
    with Hindsight(postgres_url) as store, engine.connect() as connection:
        add(store, "a")
        connection.execute(text("SELECT count(*) FROM events"))
        add(store, "a")
        with pytest.raises(VersionConflict) as conflict:
            add(store, "a", expected=exact(1), connection=connection)
    assert (conflict.value.expected, conflict.value.actual) == (1, None)
    engine.dispose()


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("expected", ["none", "exact", "any"])
def test_an_append_that_meets_nobody_is_one_round_trip(
    postgres_url: str, tmp_path: Path, count: int, expected: str
) -> None:
    expectation = {"none": none(), "exact": exact(1), "any": any_()}[expected]
    with Hindsight(postgres_url) as store:
        if expected != "none":
            add(store, "a")
        waits = round_trips(store, tmp_path / "trace", lambda: add(store, "a", count, expectation))
    assert waits == 1
