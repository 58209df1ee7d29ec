"""What is gained by keeping states and histories at hand, and what that costs."""

import sqlite3
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import msgspec
import psycopg
from msgspec import Struct
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader

from benchmarks.loading import DOMAIN, TAIL
from benchmarks.replaying import Discussion
from benchmarks.rounds import Speeds, interleave
from benchmarks.stores import BARE, OURS, PostgreSQLStores, SQLiteStores
from benchmarks.workload import AGGREGATE_TYPE, new_id, payloads
from store import Hindsight, NewEvent, any_
from store.cache.local import AGGREGATES, BYTES
from tests.servers import redis

SNAPSHOT_AT = 100
HISTORY = 1_000
UNCACHED = "uncached"
_LIMIT = 2_000
_DECODE = msgspec.json.Decoder(Discussion).decode


class Found(Struct, frozen=True, kw_only=True):
    """The speeds of each comparison, by its name."""

    checked: Speeds
    aged: Speeds
    shared: Speeds
    shared_and_checked: Speeds
    cold: Speeds
    histories: Speeds
    decoded: Speeds


def lookups(stores: PostgreSQLStores | SQLiteStores, url: str, rounds: int, times: int) -> Found:
    """Loads and history queries a second, of an aggregate with `TAIL` events behind its snapshot.

    And of one of `HISTORY` events.
    """
    with (
        redis() as server,
        stores.on_one_core(server.pid),
        Hindsight(url, domain=DOMAIN, redis_url=server.url) as store,
        Hindsight(url, domain=DOMAIN, cache=False) as without,
        server.client() as client,
    ):
        short, strange = (_filled(without, SNAPSHOT_AT, TAIL) for _ in range(2))
        long = _filled(without, HISTORY, 0)
        stores.settle(url)
        loaded = store.load(short)
        for _ in store.events(long):
            pass
        client.set("bare", msgspec.json.encode(loaded.state))
        tail = _bare_tail(stores, url, short, loaded.version)

        store.load(strange)
        [key] = client.keys(f"*:state:*:{strange}")

        def forget(aggregate_id: str) -> None:
            for levels in store.cache._levels if store.cache else ():  # noqa: SLF001
                levels.local.drop(aggregate_id)

        def removed() -> int:
            forget(strange)
            return int(client.delete(key))

        def cold() -> object:
            removed()
            return store.load(strange)

        def from_redis(max_age: float | None) -> object:
            forget(short)
            found = store.load(short, max_age=max_age)
            assert found.source == "l2"
            return found

        def decoded(reader: Hindsight) -> list[Any]:
            events = reader.events(long, max_age=60)
            return [(event.data, event.metadata) for event in events]

        few = max(times // 20, 1)
        runs: dict[str, Callable[[], float]] = {
            "bare tail": partial(_speed, tail, times),
            "checked": partial(_speed, lambda: store.load(short), times),
            "aged": partial(_speed, lambda: store.load(short, max_age=60), 10 * times),
            UNCACHED: partial(_speed, lambda: without.load(short), times),
            "bare get": partial(_speed, lambda: _DECODE(client.get("bare")), times),
            "from redis": partial(_speed, lambda: from_redis(60), times),
            "from redis, checked": partial(_speed, lambda: from_redis(None), times),
            "removed": partial(_speed, removed, times),
            "cold": partial(_speed, cold, times),
            "history": partial(_speed, lambda: list(store.events(long, max_age=60)), few),
            "history uncached": partial(_speed, lambda: list(without.events(long)), few),
            "decoded": partial(_speed, lambda: decoded(store), few),
            "decoded uncached": partial(_speed, lambda: decoded(without), few),
        }
        found = interleave(runs, rounds)
    pairs = zip(found["cold"], found["removed"], strict=True)
    cold_alone = [1 / (1 / each - 1 / removed) for each, removed in pairs]
    return Found(
        checked={OURS: found["checked"], BARE: found["bare tail"]},
        aged={OURS: found["aged"], UNCACHED: found[UNCACHED]},
        shared={OURS: found["from redis"], BARE: found["bare get"]},
        shared_and_checked={OURS: found["from redis, checked"], UNCACHED: found[UNCACHED]},
        cold={OURS: cold_alone, UNCACHED: found[UNCACHED]},
        histories={OURS: found["history"], UNCACHED: found["history uncached"]},
        decoded={OURS: found["decoded"], UNCACHED: found["decoded uncached"]},
    )


def memory(url: str) -> Mapping[str, float]:
    """Megabytes of Python objects once L1 is full, by what it is full of: states and histories."""
    sizes = {
        f"{AGGREGATES} histories of 100 events": (AGGREGATES, 100),
        f"{BYTES >> 20} MB of histories of 5,000 events": (40, 5_000),
    }
    return {title: _memory(url, *size) for title, size in sizes.items()}


def _memory(url: str, aggregates: int, events: int) -> float:
    with Hindsight(url, domain=DOMAIN) as store, Hindsight(url, cache=False) as writer:
        ids = [_filled(writer, events, 0, snapshot=False) for _ in range(aggregates)]
        store.load(ids[0])
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for aggregate_id in ids:
            store.load(aggregate_id)
            for _ in store.events(aggregate_id):
                pass
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    return taken / 2**20


def _filled(store: Hindsight, length: int, tail: int, *, snapshot: bool = True) -> str:
    aggregate_id = new_id()
    for start in range(0, length + tail, 50):
        events = [NewEvent("CommentAdded", payload) for payload in payloads(start, 50)]
        store.append(AGGREGATE_TYPE, aggregate_id, events, expected=any_())
        if snapshot and start + 50 == length:
            store.snapshot(aggregate_id)
    return aggregate_id


def _speed(action: Callable[[], object], times: int) -> float:
    started = perf_counter()
    for _ in range(times):
        action()
    return times / (perf_counter() - started)


def _bare_tail(
    stores: PostgreSQLStores | SQLiteStores, url: str, aggregate_id: str, version: int
) -> Callable[[], object]:
    """What there is from a version on, on a connection of its own."""
    sql = """
        SELECT version, event_type, data, event_id FROM events
        WHERE aggregate_id = {id} AND version >= {version} ORDER BY version LIMIT {limit}
    """
    given = (aggregate_id, version, _LIMIT)
    if isinstance(stores, SQLiteStores):
        driver = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        query = sql.format(id="?1", version="?2", limit="?3")
        return lambda: driver.execute(query, given).fetchall()
    connection = psycopg.connect(url, autocommit=True)
    connection.adapters.register_loader("json", ByteaBinaryLoader)
    cursor = psycopg.RawCursor(connection)
    cursor.format = Format.BINARY
    prepared = sql.format(id="$1::text", version="$2::bigint", limit="$3::bigint").encode()
    return lambda: cursor.execute(prepared, given, prepare=True).fetchall()
