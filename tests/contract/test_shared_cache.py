"""The second level: whatever is in Redis, and whatever Redis does, answers are the database's."""

import shutil
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis
from sqlalchemy import text

from store import Aggregate, Domain, Hindsight, Metrics, NewEvent, any_
from store.cache import shared
from store.errors import AggregateNotFound, InvalidSetting
from tests import servers
from tests.servers import PostgresServer, RedisServer
from tests.statements import round_trips
from tests.totals import Add, Added, Loose, Total, add, note, numbers, put, undo, unguard

pytestmark = pytest.mark.slow

Open = Callable[..., Hindsight]


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    """The empty Redis."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def opened(store_url: str, redis: Redis, redis_server: RedisServer) -> Iterator[Open]:
    """Opens the store as one more process would."""
    del redis
    stores: list[Hindsight] = []

    def open_store(domain: Domain | None = None, **options: Any) -> Hindsight:
        url = options.pop("url", store_url)
        options = {"redis_url": redis_server.url} | options
        stores.append(Hindsight(url, domain=domain or numbers(), **options))
        return stores[-1]

    yield open_store
    for store in stores:
        assert store.database.connections.in_use == 0
        store.close()


def merged() -> Domain:
    """Has no code for what is stored."""
    return Domain("x", aggregates=[Aggregate("x", initial=Total(), events=[Added], apply=add)])


def keys(redis: Redis, kind: str = "state") -> list[bytes]:
    return sorted(map(bytes, redis.keys(f"*:{kind}:*")))  # type: ignore[arg-type]


def value(redis: Redis, key: bytes) -> bytes:
    found = redis.get(key)
    assert isinstance(found, bytes)
    return found


def test_what_one_process_has_loaded_the_next_only_checks(opened: Open, tmp_path: Path) -> None:
    one, other = opened(), opened()
    put(one, *[1] * 49)
    assert one.load("a").source == "replay"
    found = []
    assert round_trips(other, tmp_path / "t", lambda: found.append(other.load("a"))) <= 4
    assert (found[0].source, found[0].folded, found[0].version) == ("l2", 0, 49)
    assert found[0].state == one.load("a").state
    assert other.load("a").source == "l1"
    put(one, 50)
    third = opened()
    loaded = third.load("a")
    assert (loaded.source, loaded.folded, loaded.state.last) == ("l2", 1, (1, 1, 50))


def test_a_key_tells_store_epoch_kind_fold_and_aggregate(opened: Open, redis: Redis) -> None:
    store = opened()
    put(store, 1, aggregate_id="a:b c")
    store.load("a:b c")
    list(store.events("a:b c"))
    with store.database.connect() as connection:
        [(store_id, epoch)] = connection.execute(text("SELECT store_id, epoch FROM store_info"))
    for kind in ("state", "history"):
        [key] = keys(redis, kind)
        parts = key.decode().split(":", 4)
        assert (parts[0], parts[1].partition("@")[0]) == (str(store_id), str(epoch))
        assert (parts[2], parts[4]) == (kind, "a:b c")
        assert 298_000 < redis.pttl(key) <= 300_000


def test_an_age_goes_for_all_processes(opened: Open, tmp_path: Path) -> None:
    one, other, writer = opened(), opened(), opened(cache=False)
    put(writer, 1)
    one.load("a")
    put(writer, 2)
    loaded = other.load("a", max_age=60)
    assert (loaded.source, loaded.version) == ("l2", 1)
    time.sleep(0.3)
    assert opened().load("a", max_age=0.2).version == 2
    assert opened().load("a", max_age=60).version == 2, "what was found out is shared"
    assert one.load("a", max_age=0.2).version == 2, "another process has asked meanwhile"


def test_who_takes_any_age_asks_no_database_in_either_level(opened: Open, tmp_path: Path) -> None:
    one, other = opened(), opened()
    put(one, 1)
    put(one, 1, aggregate_id="b")
    one.load("a")
    list(one.events("a"))
    other.load("b")  # reads the store's generation, once
    found: list[Any] = []

    def again() -> None:
        found.append(other.load("a", max_age=60))
        found.extend(other.events("a", max_age=60))
        found.append(other.load("a", max_age=60))

    assert round_trips(other, tmp_path / "t", again) == 0
    assert [found[0].source, found[2].source] == ["l2", "l1"]
    assert found[1] == next(one.log.events("a"))


def test_a_process_sees_its_own_writes_though_redis_does_not(opened: Open) -> None:
    one, other = opened(), opened()
    put(one, 1)
    one.load("a")
    put(other, 2)
    assert other.load("a", max_age=60).version == 2
    other.execute("a", Add(3))
    assert other.load("a", max_age=60).version == 3


def test_the_newer_version_stays_whoever_comes_last(opened: Open, redis: Redis) -> None:
    one = opened()
    put(one, 1)
    one.load("a")
    [key] = keys(redis)
    old = value(redis, key)
    put(one, 2)
    opened().load("a")
    new = value(redis, key)
    assert old != new
    cache = one.cache
    assert cache is not None
    assert cache._shared is not None
    _, now = cache._shared.get("state", [])
    assert now is not None
    cache._shared.put(key.decode(), 1, old[shared._HEAD :], now)
    assert redis.get(key) == new
    cache._shared.put(key.decode(), 2, new[shared._HEAD :], now - 100_000)
    assert redis.pttl(key) <= 200_000


def test_what_redis_comes_to_do_late_does_not_look_new(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the order already, and is held up; whoever gave it has gone on."""
    one, writer = opened(), opened(cache=False)
    put(writer, 1)
    cache = one.cache
    assert cache is not None
    assert cache._shared is not None
    ask = cache._shared._ask

    def late(script: str, *given: Any, read: Callable[[Any], Any]) -> Any:
        if script is shared._SET_IF_NEWER:
            time.sleep(0.5)
        return ask(script, *given, read=read)

    monkeypatch.setattr(cache._shared, "_ask", late)
    one.load("a")
    put(writer, 2)
    assert opened().load("a", max_age=0.4).version == 2


GARBAGE: dict[str, Callable[[Redis, bytes], object]] = {
    "nothing": lambda redis, key: redis.set(key, b""),
    "text": lambda redis, key: redis.set(key, "hello" * 20),
    "a higher version": lambda redis, key: redis.setrange(key, 0, "9" * 20),
    "a lower version": lambda redis, key: redis.setrange(key, 0, "0" * 20),
    "no version": lambda redis, key: redis.setrange(key, 5, "x"),
    "no time": lambda redis, key: redis.setrange(key, 25, "x"),
    "a later time": lambda redis, key: redis.setrange(key, 27, "9"),
    "another digest": lambda redis, key: redis.setrange(key, 45, b"\0\1\2"),
    "another body": lambda redis, key: redis.setrange(key, 60, b"\0\1\2"),
    "half of it": lambda redis, key: redis.set(key, redis.getrange(key, 0, 50)),
    "only the head": lambda redis, key: redis.set(key, redis.getrange(key, 0, 35)),
    "more than it": lambda redis, key: redis.append(key, b"x"),
    "8 MB": lambda redis, key: redis.set(key, b"0" * 8_000_000),
    "a list": lambda redis, key: (redis.delete(key), redis.rpush(key, "x")),
    "a hash": lambda redis, key: (redis.delete(key), redis.hset(key, "a", "b")),
    "a stream": lambda redis, key: (redis.delete(key), redis.xadd(key, {"a": "b"})),
    "another aggregate's": lambda redis, key: redis.set(key, redis.get(key[:-1] + b"b") or b"?"),
    "another kind's": lambda redis, key: redis.set(
        key, redis.get(key.replace(b"state", b"history")) or redis.get(keys(redis)[0]) or b"?"
    ),
    "64 MB": lambda redis, key: redis.set(key, b"0" * 64_000_000),
    "without an end": lambda redis, key: redis.persist(key),
    "with a later end": lambda redis, key: redis.expire(key, 10_000),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("kind", ["state", "history"])
def test_garbage_is_no_answer_and_goes(opened: Open, redis: Redis, kind: str, garbage: str) -> None:
    one = opened()
    put(one, 1, 2, 3)
    put(one, 9, 9, aggregate_id="b")
    for aggregate_id in "ab":
        one.load(aggregate_id)
        list(one.events(aggregate_id))
    key = next(each for each in keys(redis, kind) if each.endswith(b":a"))
    right = value(redis, key)
    GARBAGE[garbage](redis, key)

    def read(store: Hindsight, max_age: float | None = None) -> Any:
        if kind == "state":
            return store.load("a", max_age=max_age).state
        return list(store.events("a", max_age=max_age))

    expected = read(opened(cache=False))
    assert read(opened(), 60) == expected
    assert read(opened()) == expected
    healed = value(redis, key)
    assert (healed[:20], healed[shared._HEAD :]) == (right[:20], right[shared._HEAD :])
    assert read(opened(), 60) == expected


def test_a_value_well_made_but_of_another_state_goes(opened: Open, redis: Redis) -> None:
    """As a fold of equal fingerprint may have left it that called other code."""
    one = opened()
    put(one, 1)
    one.load("a")
    [key] = keys(redis)
    cache = one.cache
    assert cache is not None
    assert cache._shared is not None
    redis.delete(key)
    for body in (b"", b'\x93\xa5total\xa1x\xc4\x03{"x', b"\x93\xa5other\xa1x\xc4\x02{}", b"\xc0"):
        cache._shared.put(key.decode(), 1, body, int(1_000 * time.time()))
        assert opened().load("a", max_age=60).state == Total(1, (1,))
        assert len(value(redis, key)) > 60


def test_other_code_has_keys_of_its_own(opened: Open, redis: Redis) -> None:
    def subtract(state: Total, event: Added) -> Total:
        return Total(state.total - event.number)

    one, other = opened(), opened(numbers(apply=subtract))
    put(one, 5)
    assert (one.load("a").state.total, other.load("a").state.total) == (5, -5)
    assert len(keys(redis)) == 2
    strange = opened(merged())
    assert strange.load("a").state == {"number": 5}
    assert opened().load("a", max_age=60).state.total == 5
    assert opened(merged()).load("a", max_age=60).state == {"number": 5}


def test_states_that_may_be_changed_are_each_callers_own(opened: Open) -> None:
    domain = numbers(initial=Loose(), apply=note)
    one, other = opened(domain), opened(domain)
    put(one, 1)
    one.load("a").state.numbers.append(9)
    for max_age in (None, 60, 60):
        loaded = other.load("a", max_age=max_age)
        assert loaded.state.numbers == [1]
        loaded.state.numbers.append(9)


def test_a_new_epoch_has_keys_of_its_own(opened: Open, redis: Redis) -> None:
    one, other = opened(), opened()
    put(one, 1, 2)
    one.load("a")
    with one.database.transaction() as connection:
        unguard(connection)
        connection.execute(
            text("UPDATE events SET data = :data WHERE version = 1"), {"data": '{"number":7}'}
        )
        connection.execute(text("UPDATE store_info SET epoch = epoch + 1"))
    assert opened().load("a", max_age=60).state.total == 9
    assert other.load("a").state.total == 9
    assert one.load("a").state.total == 9
    assert [key.split(b":")[1].partition(b"@")[0] for key in keys(redis)] == [b"2"]


def test_a_database_restored_to_an_earlier_point_is_believed(opened: Open, redis: Redis) -> None:
    one, writer = opened(), opened(cache=False)
    put(one, 1, 2, 3)
    one.load("a")
    list(one.events("a"))
    undo(writer, after=1)
    assert opened().load("a").version == 1
    assert len(list(opened().events("a"))) == 1
    put(writer, 20, 30)
    for _ in range(2):
        assert opened().load("a").state.total == 51
        assert [event.data["number"] for event in opened().events("a")] == [1, 20, 30]
    assert one.load("a").state.total == 51


def test_a_copy_of_a_store_is_another_store(
    opened: Open,
    store_url: str,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    tmp_path: Path,
) -> None:
    one = opened()
    put(one, 1)
    if store_url.startswith("sqlite"):
        path = Path(store_url.removeprefix("sqlite:///"))
        with one.database.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        url = f"sqlite:///{shutil.copy(path, tmp_path / 'copy.db')}"
        copied(one, store_url, url, redis_server.url)
        return
    name = str(one.database.engine.url.database)
    one.close()
    postgres_server.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name} STRATEGY file_copy")
    try:
        copied(opened(), store_url, postgres_server.url(f"{name}_copy"), redis_server.url)
    finally:
        postgres_server.execute(f"DROP DATABASE {name}_copy WITH (FORCE)")


def copied(one: Hindsight, one_url: str, url: str, redis_url: str) -> None:
    """Both live on, and neither hears of the other."""
    with Hindsight(url, domain=numbers(), redis_url=redis_url) as other:
        put(one, 2)
        put(other, 3)
        for _ in range(2):
            for store, own_url, total in ((one, one_url, 3), (other, url, 4)):
                assert store.load("a").state.total == total
                assert len(list(store.events("a"))) == 2
                with Hindsight(own_url, domain=numbers(), redis_url=redis_url) as fresh:
                    assert fresh.load("a", max_age=60).state.total == total


def test_what_is_too_large_stays_in_the_process(opened: Open, redis: Redis) -> None:
    one = opened(merged())
    events = [NewEvent("Grown", {"text": "x" * 1_100_000})]
    one.append("text", "a", events, expected=any_())
    assert one.load("a").source == "replay"
    assert one.load("a").source == "l1"
    assert keys(redis) == []


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_it_runs_on(kind: servers.RedisKind, sqlite_url: str) -> None:
    if servers.redis_program(kind) is None and kind == "redis":
        pytest.xfail("there is no such wheel for this Python")
    with servers.redis(kind) as server:
        stores = [Hindsight(sqlite_url, domain=numbers(), redis_url=server.url) for _ in range(2)]
        put(stores[0], 1)
        assert [store.load("a").source for store in stores] == ["replay", "l2"]
        put(stores[1], 2)
        assert [store.load("a").state.total for store in stores] == [3, 3]
        for store in stores:
            store.close()


def test_an_id_given_again_behind_a_restored_backup_is_another_event(opened: Open) -> None:
    """Who repeats what the backup had lost may give it the id that it had."""
    one, writer = opened(), opened(cache=False)
    put(writer, 1)
    again = [NewEvent("Added", {"number": 3})]
    put(writer, 2)
    writer.append("total", "a", again, expected=any_())
    for store in (one, opened()):
        store.load("a")
        list(store.events("a"))
    undo(writer, after=1)
    put(writer, 50)
    writer.append("total", "a", again, expected=any_())
    for store in (one, opened()):
        assert store.load("a").state.total == 54
        assert [event.data["number"] for event in store.events("a")] == [1, 50, 3]


def test_a_value_kept_by_somebody_else_is_as_old_as_it_is(opened: Open, redis: Redis) -> None:
    one, writer = opened(), opened(cache=False)
    put(writer, 1)
    one.load("a")
    [key] = keys(redis)
    redis.expire(key, 250)
    put(writer, 2)
    time.sleep(0.3)
    assert opened().load("a", max_age=0.2).version == 2
    assert type(next(opened().events("a"))) is type(next(writer.events("a")))


def test_a_value_is_not_taken_for_newer_than_it_is_by_a_part_of_a_millisecond(
    redis: Redis, redis_server: RedisServer
) -> None:
    del redis
    cache = shared.Shared(redis_server.url, Metrics(CollectorRegistry()))
    for number in range(50):
        _, clock = cache.get("state", [f"key {number}"])
        told_at = time.monotonic()
        assert clock is not None
        cache.put(f"key {number}", 1, b"value", clock)
        found, _ = cache.get("state", [f"key {number}"])
        assert found is not None
        assert found.checked_at <= told_at
    cache.close()


@pytest.mark.parametrize("aggregate_id", ["\ud800", "", "a\0", "x" * 600])
def test_ids_that_there_cannot_be_are_not_found(opened: Open, aggregate_id: str) -> None:
    store = opened()
    with pytest.raises(AggregateNotFound):
        store.load(aggregate_id, max_age=60)
    assert list(store.events(aggregate_id)) == []
    assert store.cache is not None
    assert not store.cache.is_redis_away


ANSWERS = [
    b"+OK\r\n",
    b":5\r\n",
    b"*1\r\n",
    b"$3\r\nabc\r\n",
    b"HTTP/1.1 400\r\n\r\n",
    b"-ERR no\r\n",
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_is_at_its_port_is_no_answer(sqlite_url: str, answer: bytes) -> None:
    class Odd(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65_536):
                self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Odd) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"redis://127.0.0.1:{server.server_address[1]}"
        with Hindsight(sqlite_url, domain=numbers(), redis_url=url) as store:
            put(store, 1)
            assert store.load("a").version == store.load("a", max_age=60).version == 1
            assert len(list(store.events("a"))) == 1
        server.shutdown()


def test_what_stands_in_the_url_changes_no_budget() -> None:
    url = "redis://localhost/0?socket_timeout=30&retry_on_timeout=true&decode_responses=true"
    settings = shared.connect(url).connection_pool.connection_kwargs
    assert settings["socket_timeout"] == shared.PATIENCE
    assert (settings["retry_on_timeout"], settings["decode_responses"]) == (False, False)


# Redis that does not answer


def test_without_redis_it_costs_some_time(
    sqlite_url: str, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.kill()
    with Hindsight(sqlite_url, domain=numbers(), redis_url=own_redis.url) as store:
        started = time.monotonic()
        for number in range(20):
            put(store, 2, aggregate_id=f"a{number}")
            assert store.load(f"a{number}").state.total == 2
            assert store.load(f"a{number}", max_age=60).version == 1
        assert time.monotonic() - started < 1
    told = [record.message for record in caplog.records if "Redis" in record.message]
    assert len(told) == 1
    assert told[0].startswith("Redis is left alone for 5 s: ")


def test_redis_that_says_nothing_holds_up_nobody_for_long(
    sqlite_url: str, own_redis: RedisServer
) -> None:
    with Hindsight(sqlite_url, domain=numbers(), redis_url=own_redis.url) as store:
        put(store, 1)
        store.load("a")
        own_redis.suspend()
        took = []
        for number in range(20):
            put(store, 2, aggregate_id=f"a{number}")
            started = time.monotonic()
            assert store.load(f"a{number}").state.total == 2
            took.append(time.monotonic() - started)
        assert shared.PATIENCE <= took[0] < 3 * shared.PATIENCE
        assert max(took[1:]) < shared.PATIENCE, "it is asked once, and then left alone"
        assert store.cache is not None
        assert store.cache.is_redis_away
        own_redis.resume()


def test_redis_that_comes_back_is_used_again(
    sqlite_url: str,
    own_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(shared, "REST", 0.2)
    stores = [Hindsight(sqlite_url, domain=numbers(), redis_url=own_redis.url) for _ in range(2)]
    one, other = stores
    put(one, 1)
    assert (one.load("a").source, other.load("a").source) == ("replay", "l2")
    own_redis.kill()
    for number in range(5):
        put(one, 1, aggregate_id=f"b{number}")
        assert one.load(f"b{number}").version == 1
    assert one.cache is not None
    assert one.cache.is_redis_away
    own_redis.start()
    time.sleep(0.3)
    put(one, 1, aggregate_id="c")
    assert one.load("c").version == 1
    assert not one.cache.is_redis_away
    assert "Redis answers again" in caplog.text
    assert other.load("c").source == "l2"
    for store in stores:
        store.close()


def test_a_full_redis_is_read_though_it_takes_nothing(
    sqlite_url: str, own_redis: RedisServer
) -> None:
    with own_redis.client() as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
    with Hindsight(sqlite_url, domain=numbers(), redis_url=own_redis.url) as store:
        for number in range(10):
            put(store, 2, aggregate_id=f"a{number}")
            assert store.load(f"a{number}").state.total == 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://localhost", "EVENT_STORE_REDIS_URL: "),
        ("redis://:secret@localhost:port", "EVENT_STORE_REDIS_URL: "),
        ("redis://:secret@localhost/0?timeout=x&socket_timeout=y", "EVENT_STORE_REDIS_URL: "),
        ("redis://:secret/x@localhost", "EVENT_STORE_REDIS_URL: "),
        ("redis://localhost?foo=bar", "EVENT_STORE_REDIS_URL: "),
    ],
)
def test_a_url_that_is_none_is_refused(sqlite_url: str, url: str, told: str) -> None:
    with pytest.raises(InvalidSetting, match=told) as refused:
        Hindsight(sqlite_url, redis_url=url)
    assert "secret" not in str(refused.value)


def test_without_its_packages_it_says_what_to_do(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "store.cache.shared", None)
    with pytest.raises(InvalidSetting, match=r"pip install 'hindsight-event-store\[redis\]'"):
        Hindsight(sqlite_url, redis_url="redis://localhost")
    Hindsight(sqlite_url, redis_url="redis://localhost", cache=False).close()
