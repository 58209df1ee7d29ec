"""Invariant 4 on PostgreSQL: a reader of the feed never skips an event that commits late.

Each case forces the interleaving with locks and open transactions, and asserts that a reader by
plain position order would have gone wrong there.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from store import Append, Hindsight, NewEvent, any_, exact, none
from store.database.fence import LOOK_AHEAD
from store.records import Watermark
from store.roles import grant_application
from store.subscription import SafeBound
from tests.servers import PostgresServer

PAUSE = 4711
"""The advisory lock that an event of type Paused waits for, after its position is drawn."""

SLOW_TRIGGER = f"""
    CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock({PAUSE});
        RETURN NEW;
    END $$;
    CREATE TRIGGER pause BEFORE INSERT ON events
    FOR EACH ROW WHEN (NEW.event_type = 'Paused') EXECUTE FUNCTION pause()
"""


@pytest.fixture
def store(postgres_url: str) -> Iterator[Hindsight]:
    with Hindsight(postgres_url) as opened:
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


def test_a_position_drawn_before_a_slow_insert_is_waited_for(
    store: Hindsight, engine: Engine, background: ThreadPoolExecutor
) -> None:
    with engine.begin() as setup:
        setup.execute(text(SLOW_TRIGGER))
    with engine.connect() as gate:
        gate.execute(text(f"SELECT pg_advisory_xact_lock({PAUSE})"))
        paused = background.submit(append, store, "a", "Paused")
        wait_for_lock(engine)
        append(store, "b", "Free")
        bound = SafeBound(store.database)
        assert visible(store) == ["b1"], "the hole is there for a plain reader to skip"
        assert [bound.beyond(0) for _ in range(3)] == [0, 0, 0]
        gate.rollback()
        paused.result()
    assert read_safely(store, bound) == ["a1", "b1"]


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_second_append_of_the_same_transaction_hides_no_other(
    store: Hindsight, engine: Engine, isolation: str
) -> None:
    start = fill(store, engine)
    isolated = engine.execution_options(isolation_level=isolation)
    with isolated.connect() as a, isolated.connect() as b:
        append(store, "z", connection=b)
        append(store, "a", connection=a)
        append(store, "z", connection=b)
        b.commit()
        bound = SafeBound(store.database)
        assert visible(store, start) == ["z1", "z2"], "a plain reader resumes behind the hole"
        assert read_safely(store, bound, start) == ["z1"]
        assert bound.beyond(start + 1) == start + 1
        a.commit()
    assert read_safely(store, bound, start + 1) == ["a1", "z2"]


def test_versions_stay_in_order_when_the_older_transaction_appends_later(
    store: Hindsight, engine: Engine
) -> None:
    with engine.begin() as setup:
        setup.execute(text("CREATE TABLE notes (note text)"))
    with engine.connect() as b:
        b.execute(text("INSERT INTO notes VALUES ('b has the lower transaction id')"))
        append(store, "s")
        store.append("thing", "s", [NewEvent("Happened", {})], expected=exact(1), connection=b)
        b.commit()
    by_version = plain(engine, "SELECT xmin::text::bigint FROM events ORDER BY version")
    transactions = [row[0] for row in by_version]
    assert transactions[0] > transactions[1], "transaction order would deliver version 2 first"
    assert read_safely(store, SafeBound(store.database)) == ["s1", "s2"]


def test_an_unrelated_transaction_that_stays_open_delays_nobody(
    store: Hindsight, engine: Engine
) -> None:
    with engine.begin() as setup:
        setup.execute(text("CREATE TABLE notes (note text)"))
    with engine.connect() as unrelated:
        unrelated.execute(text("INSERT INTO notes VALUES ('open for minutes')"))
        roll_back_an_append(store, engine)
        append(store, "a")
        [[holds_back]] = plain(
            engine,
            "SELECT count(*) FROM events WHERE xmin::text::bigint"
            " < pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
        )
        assert holds_back == 0, "a reader below the oldest transaction would see nothing"
        assert read_safely(store, SafeBound(store.database)) == ["a1"]


def test_a_reader_with_an_open_snapshot_delays_nobody(store: Hindsight, engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as analyst:
        analyst.execute(text("SELECT count(*) FROM events"))
        roll_back_an_append(store, engine)
        append(store, "a")
        assert read_safely(store, SafeBound(store.database)) == ["a1"]


def test_a_rolled_back_hole_is_passed_at_once(store: Hindsight, engine: Engine) -> None:
    append(store, "a")
    roll_back_an_append(store, engine)
    append(store, "b")
    assert positions(store) == [1, 3]
    assert read_safely(store, SafeBound(store.database)) == ["a1", "b1"]


def test_a_savepoint_rolled_back_with_its_append_holds_nobody(
    store: Hindsight, engine: Engine
) -> None:
    with engine.connect() as connection, connection.begin():
        with connection.begin_nested() as savepoint:
            append(store, "a", connection=connection)
            savepoint.rollback()
        append(store, "b")
        assert positions(store) == [2]
        assert read_safely(store, SafeBound(store.database)) == ["b1"]


def test_a_prepared_transaction_is_waited_for(store: Hindsight, engine: Engine) -> None:
    append(store, "a")
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        append(store, "b", connection=connection)
        transaction.prepare()
        append(store, "c")
        bound = SafeBound(store.database)
        assert read_safely(store, bound) == ["a1"]
        assert bound.beyond(1) == 1
        transaction.commit()
        assert read_safely(store, bound, after=1) == ["b1", "c1"]


def test_a_later_writer_is_not_waited_for(store: Hindsight, engine: Engine) -> None:
    """Only the writers seen when the fence was put up are awaited, or it would never come down."""
    with engine.connect() as first, engine.connect() as second:
        append(store, "first", connection=first)
        append(store, "b")
        bound = SafeBound(store.database)
        assert bound.beyond(0) == 0
        append(store, "second", connection=second)
        first.rollback()
        assert bound.beyond(0) == 2
        second.rollback()


def test_following_yields_each_event_once_and_stops(store: Hindsight, engine: Engine) -> None:
    stop = threading.Event()
    with engine.connect() as late:
        append(store, "late", connection=late)
        append(store, "b")
        followed = store.follow(poll_interval=0.01, stop=stop)
        threading.Timer(0.2, late.commit).start()
        give_up = threading.Timer(10, stop.set)
        give_up.start()
        first, second = next(followed), next(followed)
        assert (first.aggregate_id, second.aggregate_id) == ("late", "b")
        stop.set()
        assert list(followed) == []
        give_up.cancel()


# The watermark: how far a follower may read that has read all it could


@pytest.mark.parametrize("behind", ["a hole", "the last position"])
def test_an_open_writer_holds_readers(store: Hindsight, engine: Engine, behind: str) -> None:
    append(store, "a")
    begun = datetime.now(UTC)
    with engine.connect() as late:
        append(store, "late", connection=late)
        if behind == "a hole":
            append(store, "b")
        held = store.watermark()
        assert held.position == 1
        assert held.holder
        assert held.holder.pid == pid(late)
        assert held.holder.since
        assert begun - timedelta(seconds=1) < held.holder.since < datetime.now(UTC)
        assert store.watermark() == held
        late.commit()
    assert store.watermark() == free(at=3 if behind == "a hole" else 2)


def test_a_position_drawn_before_a_slow_insert_holds_readers(
    store: Hindsight, engine: Engine, background: ThreadPoolExecutor
) -> None:
    with engine.begin() as setup:
        setup.execute(text(SLOW_TRIGGER))
    with engine.connect() as gate:
        gate.execute(text(f"SELECT pg_advisory_xact_lock({PAUSE})"))
        paused = background.submit(append, store, "a", "Paused")
        wait_for_lock(engine)
        append(store, "b")
        held = store.watermark()
        gate.rollback()
        paused.result()
    assert held.position == 0
    assert held.holder is not None
    assert store.watermark() == free(at=2)


def test_a_rolled_back_hole_holds_nobody(store: Hindsight, engine: Engine) -> None:
    with engine.begin() as setup:
        setup.execute(text("CREATE TABLE notes (note text)"))
    with engine.connect() as unrelated, engine.connect() as analyst:
        unrelated.execute(text("INSERT INTO notes VALUES ('open for minutes')"))
        analyst.execute(text("SELECT count(*) FROM events"))
        append(store, "a")
        roll_back_an_append(store, engine)
        append(store, "b")
        assert store.watermark() == free(at=3)
        roll_back_an_append(store, engine)
        assert store.watermark() == free(at=4)


def test_a_savepoint_rolled_back_holds_nobody(store: Hindsight, engine: Engine) -> None:
    with engine.connect() as connection, connection.begin():
        with connection.begin_nested() as savepoint:
            append(store, "a", connection=connection)
            savepoint.rollback()
        append(store, "b")
        assert store.watermark() == free(at=2)


def test_a_prepared_transaction_holds_without_a_process(store: Hindsight, engine: Engine) -> None:
    append(store, "a")
    begun = datetime.now(UTC)
    with engine.connect() as connection:
        transaction = connection.begin_twophase()
        append(store, "b", connection=connection)
        transaction.prepare()
        append(store, "c")
        held = store.watermark()
        assert held.position == 1
        assert held.holder
        assert held.holder.pid is None
        assert held.holder.since
        assert held.holder.since > begun - timedelta(seconds=1)
        transaction.commit()
    assert store.watermark() == free(at=3)


def test_the_oldest_holder_is_named_and_then_the_next(store: Hindsight, engine: Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        second.execute(text("SELECT 1"))
        append(store, "first", connection=first)
        append(store, "second", connection=second)
        append(store, "b")
        assert holder(store.watermark()) == (0, pid(second)), "began earlier, if it wrote later"
        second.rollback()
        assert holder(store.watermark()) == (0, pid(first))
        first.rollback()
    assert store.watermark() == free(at=3)


def test_a_hole_older_than_the_writers_holds_nobody_for_long(
    store: Hindsight, engine: Engine
) -> None:
    """While there is always a writer, each of them holds only what it may have drawn."""
    with engine.connect() as first, engine.connect() as second:
        append(store, "first", connection=first)
        append(store, "b")
        assert holder(store.watermark()) == (0, pid(first))
        append(store, "second", connection=second)
        first.rollback()
        assert holder(store.watermark()) == (2, pid(second))


def test_a_new_reader_of_a_long_store_finds_what_holds_it(
    store: Hindsight, postgres_url: str, engine: Engine
) -> None:
    """However far back that is; holes that were there long before the writer are none of its."""
    roll_back_an_append(store, engine)
    for number in range(500):
        append(store, f"short-{number}")
    with engine.connect() as late:
        append(store, "late", connection=late)
        drawn = 502
        last = [fill(store, engine, f"after-{number}-") for number in range(3)][-1]
        assert last - drawn > LOOK_AHEAD
        for _ in range(2):
            with Hindsight(postgres_url, read_only=True) as reader:
                assert holder(reader.watermark()) == (drawn - 1, pid(late))
        assert store.watermark().position == drawn - 1
        late.commit()
    assert store.watermark() == free(at=last)


def test_an_older_transaction_that_writes_on_proves_nothing(
    store: Hindsight, postgres_url: str, engine: Engine
) -> None:
    with engine.connect() as older, engine.connect() as late:
        append(store, "a", connection=older)
        append(store, "late", connection=late)
        append(store, "b", connection=older)
        older.commit()
        last = [fill(store, engine, f"after-{number}-") for number in range(3)][-1]
        assert last > LOOK_AHEAD
        with Hindsight(postgres_url, read_only=True) as reader:
            assert holder(reader.watermark()) == (1, pid(late))


def test_what_a_watermark_says_is_never_taken_back(
    store: Hindsight, postgres_url: str, background: ThreadPoolExecutor, engine: Engine
) -> None:
    """Nothing appears up to it later, whoever asks and whatever transactions do meanwhile."""
    done = threading.Event()

    def write(seed: int) -> None:
        chance = Random(seed)
        for number in range(60):
            with engine.connect() as connection:
                append(store, f"{seed}-{number % 7}", connection=connection)
                done.wait(chance.random() / 100)
                (connection.rollback if chance.random() < 0.3 else connection.commit)()

    def look(source: Hindsight) -> list[tuple[int, list[int]]]:
        seen = []
        while not done.is_set():
            position = source.watermark().position
            seen.append((position, [p for p in positions(source) if p <= position]))
        return seen

    with Hindsight(postgres_url, read_only=True) as other:
        looks = [background.submit(look, source) for source in (store, store, other)]
        writers = [background.submit(write, seed) for seed in range(4)]
        for writer in writers:
            writer.result()
        done.set()
        final = positions(store)
        for seen in looks:
            for position, there in seen.result():
                assert there == [p for p in final if p <= position]
    assert store.watermark().position >= final[-1]


def test_a_role_without_rights_sees_who_holds_but_not_since_when(
    store: Hindsight, postgres_url: str, postgres_server: PostgresServer, engine: Engine
) -> None:
    role = f"reader_{uuid4().hex}"
    database = postgres_url.partition("@/")[2].partition("?")[0]
    with engine.begin() as setup:
        setup.execute(text(f"CREATE ROLE {role} LOGIN"))
        grant_application(setup, role)
    url = postgres_url.replace("postgres@", f"{role}@")
    append(store, "a")
    with Hindsight(url, read_only=True) as reader, engine.connect() as late:
        assert reader.watermark() == free(at=1)
        append(store, "late", connection=late)
        append(store, "b")
        held = reader.watermark()
        assert holder(held) == (1, pid(late))
        assert held.holder
        assert held.holder.since is None
    postgres_server.execute(f"DROP OWNED BY {role} CASCADE", database=database)
    postgres_server.execute(f"DROP ROLE {role}")


def free(*, at: int) -> Watermark:
    return Watermark(position=at, holder=None)


def holder(watermark: Watermark) -> tuple[int, int | None]:
    assert watermark.holder
    return watermark.position, watermark.holder.pid


def pid(connection: Connection) -> int:
    return int(connection.connection.driver_connection.info.backend_pid)  # type: ignore[union-attr]


def append(
    store: Hindsight,
    aggregate_id: str,
    event_type: str = "Happened",
    connection: Connection | None = None,
) -> None:
    store.append(
        "thing", aggregate_id, [NewEvent(event_type, {})], expected=any_(), connection=connection
    )


def roll_back_an_append(store: Hindsight, engine: Engine) -> None:
    with engine.connect() as connection:
        store.append(
            "thing", "gone", [NewEvent("Undone", {})], expected=none(), connection=connection
        )
        connection.rollback()


def read_safely(store: Hindsight, bound: SafeBound, after: int = 0) -> list[str]:
    """What a reader is given without waiting."""
    names: list[str] = []
    while (safe := bound.beyond(after)) > after:
        names += [f"{e.aggregate_id}{e.version}" for e in store.feed(after=after, before=safe + 1)]
        after = safe
    return names


def visible(store: Hindsight, after: int = 0) -> list[str]:
    return [f"{event.aggregate_id}{event.version}" for event in store.feed(after=after)]


def fill(store: Hindsight, engine: Engine, prefix: str = "m") -> int:
    """Enough rows for index lookups of different aggregates to touch different pages.

    On a small table SERIALIZABLE locks everything and would abort the writer that the case needs.
    """
    filler = [
        Append(
            aggregate_type="thing",
            aggregate_id=f"{prefix}{number}",
            events=[NewEvent("Happened", {})],
            expected=none(),
        )
        for number in range(2000)
    ]
    position = max(appended.position for appended in store.append_all(filler))
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    return position


def positions(store: Hindsight) -> list[int]:
    return [event.position for event in store.feed()]


def plain(engine: Engine, sql: str) -> list[tuple[int, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def wait_for_lock(engine: Engine) -> None:
    """Until a backend waits for the advisory lock: its position is drawn by then."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    done = threading.Event()
    for _ in range(3000):
        if plain(engine, waiting) == [(1,)]:
            return
        done.wait(0.01)
    pytest.fail("the paused append never reached its trigger")
