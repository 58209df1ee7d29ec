"""Connections are kept for the next use, but for broken ones and those beyond the pool."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy import Connection

from store import Hindsight, NewEvent, any_
from store.application import connect, parse_url
from store.database import connections
from store.errors import DatabaseBusy, StoreUnavailable
from tests.servers import PostgresServer


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


def test_one_that_is_lost_while_it_is_made_is_none(
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toolkit asks the first one what server that is."""
    database = connect(parse_url(postgres_url))
    initialize = database.engine.dialect.initialize

    def killed(connection: Connection) -> None:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        postgres_server.execute(f"SELECT pg_terminate_backend({pid})")
        initialize(connection)

    with monkeypatch.context() as patch:
        patch.setattr(database.engine.dialect, "initialize", killed)
        with pytest.raises(StoreUnavailable, match="no connection"):
            database.rows("SELECT 1", {})
    assert database.rows("SELECT 1", {}) == [(1,)]
    database.close()
