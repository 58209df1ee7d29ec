"""An effect and the note that it happened are in one transaction: it happens once."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from store import Event, Hindsight, NewEvent, any_
from store.outbox.inbox import Inbox


@pytest.fixture
def effects(store: Hindsight) -> Callable[[Event], Callable[[Connection], object]]:
    """Makes the effect of an event: a row that nothing keeps from being there twice."""
    with store.database.transaction() as connection:
        connection.execute(text("CREATE TABLE effects (aggregate_id TEXT, version INTEGER)"))
    insert = text("INSERT INTO effects VALUES (:aggregate_id, :version)")

    def make(event: Event) -> Callable[[Connection], object]:
        named = {"aggregate_id": event.aggregate_id, "version": event.version}
        return lambda connection: connection.execute(insert, named)

    return make


Effects = Callable[[Event], Callable[[Connection], object]]


def put(store: Hindsight, aggregate_id: str, count: int) -> list[Event]:
    events = [NewEvent("Made", {}) for _ in range(count)]
    return list(store.append("thing", aggregate_id, events, expected=any_()).events)


def rows(store: Hindsight, what: str = "aggregate_id, version FROM effects") -> list[Any]:
    return sorted(store.database.rows(f"SELECT {what}", {}))


def test_what_comes_again_takes_effect_once(store: Hindsight, effects: Effects) -> None:
    inbox = Inbox(store.database, "mail")
    events = [*put(store, "a", 2), *put(store, "b", 1)]
    told = [inbox.handle(event, effects(event)) for _ in range(2) for event in events]
    assert told == [True] * 3 + [False] * 3
    assert rows(store) == [("a", 1), ("a", 2), ("b", 1)]


def test_a_dead_letter_that_is_redriven_behind_later_versions_takes_effect(
    store: Hindsight, effects: Effects
) -> None:
    inbox = Inbox(store.database, "mail")
    first, dead, third = put(store, "a", 3)
    for event in (first, third, dead, dead, third):
        inbox.handle(event, effects(event))
    assert rows(store) == [("a", 1), ("a", 2), ("a", 3)]


def test_each_consumer_has_its_own(store: Hindsight, effects: Effects) -> None:
    [event] = put(store, "a", 1)
    for name in ("mail", "search", "mail"):
        Inbox(store.database, name).handle(event, effects(event))
    assert rows(store) == [("a", 1)] * 2


def test_an_effect_that_fails_is_not_noted_and_leaves_nothing(
    store: Hindsight, effects: Effects
) -> None:
    inbox = Inbox(store.database, "mail")
    [event] = put(store, "a", 1)

    def fail(connection: Connection) -> None:
        effects(event)(connection)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        inbox.handle(event, fail)
    assert rows(store) == []
    assert inbox.handle(event, effects(event))
    assert rows(store) == [("a", 1)]


def test_an_append_may_be_the_effect(store: Hindsight) -> None:
    inbox = Inbox(store.database, "process")
    [event] = put(store, "a", 1)

    def react(connection: Connection) -> None:
        made = [NewEvent("Reacted", {})]
        store.append("other", "b", made, expected=any_(), connection=connection)

    for _ in range(2):
        inbox.handle(event, react)
    assert len(list(store.events("b"))) == 1


@pytest.mark.parametrize("outcome", ["commits", "fails"])
def test_who_has_the_same_event_in_hand_waits_for_what_becomes_of_it(
    store: Hindsight, effects: Effects, outcome: str
) -> None:
    inbox = Inbox(store.database, "mail")
    [event] = put(store, "a", 1)
    entered, told = threading.Event(), list[bool]()

    def other() -> None:
        entered.wait(5)
        told.append(inbox.handle(event, effects(event)))

    thread = threading.Thread(target=other)
    thread.start()

    def effect(connection: Connection) -> None:
        effects(event)(connection)
        entered.set()
        thread.join(0.3)
        assert told == []
        if outcome == "fails":
            raise ValueError("no")

    if outcome == "fails":
        with pytest.raises(ValueError, match="no"):
            inbox.handle(event, effect)
    else:
        assert inbox.handle(event, effect)
    thread.join(10)
    assert told == [outcome == "fails"]
    assert rows(store) == [("a", 1)]


def test_what_is_old_is_forgotten(
    store: Hindsight, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.outbox.inbox._BATCH", 2)
    other = Inbox(store.database, "other")
    forgetful = Inbox(store.database, "mail", kept=timedelta(0))
    events = put(store, "a", 5)
    for event in events:
        forgetful.handle(event, effects(event))
        other.handle(event, effects(event))
    assert other.trim() == 0
    assert forgetful.trim() == 5
    assert rows(store, "consumer, version FROM inbox") == [("other", n) for n in range(1, 6)]


def test_handling_forgets_now_and_then(
    store: Hindsight, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.outbox.inbox.TRIM_EVERY", 0.0)
    inbox = Inbox(store.database, "mail", kept=timedelta(0))
    for event in put(store, "a", 5):
        inbox.handle(event, effects(event))
    assert rows(store, "version FROM inbox") == [(5,)]
