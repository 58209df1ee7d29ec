"""Connections are kept for the next use, but for broken ones and those beyond the pool."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from store import Hindsight, NewEvent, any_
from store.database import connections
from store.errors import DatabaseBusy


def test_what_was_given_back_is_used_next(store: Hindsight) -> None:
    first = store.database.connections.take()
    driver = first.driver_connection
    assert store.database.connections.in_use == 1
    store.database.connections.give_back(first)
    assert store.database.connections.in_use == 0
    again = store.database.connections.take()
    assert again.driver_connection is driver
    store.database.connections.give_back(again)


def test_a_broken_one_is_not_used_again(store: Hindsight) -> None:
    broken = store.database.connections.take()
    driver = broken.driver_connection
    broken.invalidate()
    store.database.connections.give_back(broken)
    assert store.database.connections.in_use == 0
    other = store.database.connections.take()
    assert other.driver_connection is not driver
    store.database.connections.give_back(other)


def test_those_beyond_the_pool_make_room_again(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = connections.POOL_SIZE + connections.MAX_OVERFLOW
    monkeypatch.setattr(store.database.engine.pool, "_timeout", 0.05)
    taken = [store.database.connections.take() for _ in range(allowed)]
    with pytest.raises(DatabaseBusy, match=f"all {allowed} connections"):
        store.counts()
    for connection in taken[:5]:
        store.database.connections.give_back(connection)
    assert store.counts().events == 0
    for connection in taken[5:]:
        store.database.connections.give_back(connection)
    with store.database.connect(), store.database.connect():
        store.append("thing", "a", [NewEvent("Happened", {})], expected=any_())
    assert store.database.connections.in_use == 0


def test_who_waits_is_served_by_what_is_given_back(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = connections.POOL_SIZE + connections.MAX_OVERFLOW
    monkeypatch.setattr(store.database.engine.pool, "_timeout", 20)
    taken = [store.database.connections.take() for _ in range(allowed)]
    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[object]] = [
            pool.submit(store.counts),
            pool.submit(lambda: list(store.feed())),
        ]
        time.sleep(0.3)
        started = time.monotonic()
        for connection in taken:
            store.database.connections.give_back(connection)
        for future in waiting:
            future.result()
    assert time.monotonic() - started < 10
