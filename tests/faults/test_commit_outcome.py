"""Invariant 3: a connection that dies at COMMIT is resolved to what really happened.

The server is killed at a moment that is forced: before the commit record by a deferred trigger that
waits, after it by a synchronous standby that does not exist, for which the backend waits with the
commit already on disk.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psutil
import psycopg
import pytest
from sqlalchemy import Connection, create_engine, text

from store import Append, Appended, Hindsight, NewEvent, any_, exact, migrate, none
from store.errors import Deadlock, EventStoreError, OutcomeUnknown, StoreUnavailable
from tests.servers import PostgresServer

PAUSE = 4711
DEFERRED_TRIGGER = f"""
    CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock({PAUSE}); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER pause AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION pause()
"""

Write = Callable[[Hindsight], tuple[Appended, ...]]


@pytest.fixture
def server(own_postgres: PostgresServer) -> PostgresServer:
    migrate(own_postgres.url())
    return own_postgres


@pytest.fixture
def store(server: PostgresServer) -> Iterator[Hindsight]:
    with Hindsight(server.url()) as opened:
        yield opened


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def write_one(store: Hindsight) -> tuple[Appended, ...]:
    return (store.append("thing", "a", [NewEvent("Happened", {})], expected=none()),)


def write_several(store: Hindsight) -> tuple[Appended, ...]:
    events = [NewEvent("Happened", {"number": number}) for number in range(3)]
    return store.append_all(
        [
            Append(aggregate_type="thing", aggregate_id="a", events=events, expected=none()),
            Append(aggregate_type="thing", aggregate_id="b", events=events, expected=any_()),
        ]
    )


def pull_the_plug(server: PostgresServer) -> None:
    server.kill()


def kill_the_backend(server: PostgresServer) -> None:
    """The server notices, ends every other backend too, and recovers by itself."""
    [[pid]] = server.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'hindsight'"
        " AND wait_event IN ('advisory', 'SyncRep')"
    )
    psutil.Process(pid).kill()


@pytest.mark.parametrize("write", [write_one, write_several])
@pytest.mark.parametrize("kill", [pull_the_plug, kill_the_backend])
def test_a_server_killed_before_the_commit_is_written_gets_the_events_again(
    server: PostgresServer,
    store: Hindsight,
    background: ThreadPoolExecutor,
    write: Write,
    kill: Callable[[PostgresServer], None],
) -> None:
    server.execute(DEFERRED_TRIGGER)
    engine = create_engine(server.url().replace("postgresql:", "postgresql+psycopg:"))
    gate = engine.connect()
    gate.execute(text(f"SELECT pg_advisory_xact_lock({PAUSE})"))
    pending = background.submit(write, store)
    wait_for(server, "advisory")
    kill(server)
    gate.invalidate()
    bring_back(server)
    check_written_once(store, pending)
    gate.close()
    engine.dispose()


@pytest.mark.parametrize("write", [write_one, write_several])
@pytest.mark.parametrize("kill", [pull_the_plug, kill_the_backend])
def test_a_server_killed_after_the_commit_is_written_keeps_the_events_once(
    server: PostgresServer,
    store: Hindsight,
    background: ThreadPoolExecutor,
    write: Write,
    kill: Callable[[PostgresServer], None],
) -> None:
    hold_commits(server)
    store.counts()
    pending = background.submit(write, store)
    wait_for(server, "SyncRep")
    (server.directory / "data" / "postgresql.auto.conf").write_text("")
    kill(server)
    bring_back(server)
    check_written_once(store, pending)


def test_an_outcome_that_cannot_be_learned_in_time_is_named(
    server: PostgresServer, background: ThreadPoolExecutor
) -> None:
    hold_commits(server)
    event = NewEvent("Happened", {})
    with Hindsight(server.url(), outcome_timeout=0.5) as store:
        pending = background.submit(store.append, "thing", "a", [event], expected=none())
        wait_for(server, "SyncRep")
        server.kill()
        with pytest.raises(OutcomeUnknown) as unknown:
            pending.result(20)
        assert unknown.value.event_ids == (event.event_id,)
        (server.directory / "data" / "postgresql.auto.conf").write_text("")
        server.start()
        again = store.append("thing", "a", [event], expected=none())
    assert (again.version, again.duplicate) == (1, True)


def test_a_server_that_is_not_there_is_named_at_once(server: PostgresServer) -> None:
    with Hindsight(server.url()) as store:
        store.database.connections.close()
        server.stop()
        with pytest.raises(StoreUnavailable):
            write_one(store)
        with pytest.raises(StoreUnavailable):
            list(store.feed())


def test_a_restart_between_two_calls_is_not_noticed(
    server: PostgresServer, store: Hindsight, background: ThreadPoolExecutor
) -> None:
    barrier = threading.Barrier(5)

    def fill_the_pool(number: int) -> None:
        barrier.wait()
        store.append("thing", f"before-{number}", [NewEvent("Happened", {})], expected=none())

    list(background.map(fill_the_pool, range(5)))
    server.restart("immediate")
    assert len(list(store.feed())) == 5
    server.restart("immediate")
    assert store.counts().events == 5
    server.restart("immediate")
    [appended] = write_one(store)
    assert not appended.duplicate


def test_a_connection_lost_in_the_callers_transaction_is_named(
    server: PostgresServer, store: Hindsight
) -> None:
    engine = create_engine(server.url().replace("postgresql:", "postgresql+psycopg:"))
    with (
        pytest.raises(StoreUnavailable, match="the transaction ended"),
        engine.begin() as connection,
    ):
        lose_and_append(server, store, connection)
    engine.dispose()
    assert not list(store.feed())


@pytest.mark.parametrize("victim", ["store", "caller"])
def test_a_deadlock_is_retried_by_the_owner_of_the_transaction(
    server: PostgresServer, store: Hindsight, background: ThreadPoolExecutor, victim: str
) -> None:
    write_several(store)
    both = [
        Append(
            aggregate_type="thing", aggregate_id=name, events=[NewEvent("H", 1)], expected=any_()
        )
        for name in ("a", "b")
    ]
    engine = create_engine(server.url().replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as caller:
        patience = {"store": "1h", "caller": "10ms"}[victim]
        caller.execute(text(f"SET deadlock_timeout = '{patience}'"))
        store.append("thing", "b", [NewEvent("H", 2)], expected=exact(3), connection=caller)
        pending = background.submit(store.append_all, both)
        wait_for(server, "transactionid")

        def last() -> Appended:
            return store.append(
                "thing", "a", [NewEvent("H", 2)], expected=exact(3), connection=caller
            )

        if victim == "caller":
            with pytest.raises(Deadlock):
                last()
            caller.rollback()
        else:
            assert last().version == 4
            caller.commit()
    versions = [appended.version for appended in pending.result(20)]
    assert versions == ([5, 5] if victim == "store" else [4, 4])
    engine.dispose()


def hold_commits(server: PostgresServer) -> None:
    """From now on a commit that is on disk waits for a standby that does not exist.

    By a restart, for after a reload commits go on until the checkpointer has noticed.
    """
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.restart()


def wait_for(server: PostgresServer, event: str) -> None:
    """Until a backend of the store waits for `event`."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        f" WHERE application_name = 'hindsight' AND wait_event = '{event}'"
    )
    deadline = time.monotonic() + 20
    while server.execute(waiting) != [(1,)]:
        assert time.monotonic() < deadline, f"no backend waits for {event}"


def lose_and_append(server: PostgresServer, store: Hindsight, connection: Connection) -> None:
    connection.execute(text("SELECT 1"))
    server.restart("immediate")
    store.append("thing", "a", [NewEvent("H", 1)], expected=none(), connection=connection)


def bring_back(server: PostgresServer) -> None:
    """Start the server, or wait until it has recovered by itself and reads its settings again."""
    if not server.running:
        server.start()
    deadline = time.monotonic() + 20
    while not reloads(server):
        assert time.monotonic() < deadline, server.log


def reloads(server: PostgresServer) -> bool:
    try:
        return server.execute("SELECT pg_reload_conf()") == [(True,)]
    except psycopg.OperationalError:
        return False


def check_written_once(store: Hindsight, pending: Future[tuple[Appended, ...]]) -> None:
    appended = pending.result(40)
    assert not any(each.duplicate for each in appended)
    stored = sorted(store.feed(), key=lambda event: (event.aggregate_id, event.version))
    assert stored == [event for each in appended for event in each.events]
    with pytest.raises(EventStoreError):
        store.append("thing", "a", [NewEvent("Happened", {})], expected=none())
