"""What the outbox costs an append, and how fast relays bring events to Redis Streams."""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from statistics import quantiles
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4
from zlib import crc32

import psycopg
from msgspec import Struct
from psycopg.types.string import ByteaBinaryLoader
from redis import Redis
from sqlalchemy import text

from benchmarks.rounds import Speeds, interleave
from benchmarks.stores import BARE, OURS
from benchmarks.workload import AGGREGATE_TYPE, EVENT_TYPE, new_id, payloads
from store import Hindsight, NewEvent, any_, exact, none
from store.outbox.streams import RedisStreams
from tests.servers import redis

WITHOUT = "without"
RELAYS = (1, 2, 4)
_TOPIC, _SHARDS = "bench", 8
_RUN = 5
_BATCH = 500
_REFILL = """
    INSERT INTO outbox (aggregate_id, version, position, event_id, created_at)
    SELECT aggregate_id, version, position, event_id, recorded_at FROM events
"""
_CLAIM = """
    UPDATE outbox o SET attempts = o.attempts + 1, attempted_at = now(), lease = %(lease)s,
        leased_by = 'bare', leased_until = now() + interval '30 seconds'
    FROM (
        SELECT aggregate_id, version FROM outbox WHERE open
        ORDER BY aggregate_id, version LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS due JOIN events e USING (aggregate_id, version)
    WHERE o.aggregate_id = due.aggregate_id AND o.version = due.version
    RETURNING e.aggregate_id, e.version, e.event_id, e.event_type, e.occurred_at, e.recorded_at,
        e.aggregate_type, e.event_version, e.position, e.data, e.metadata
"""
_MARK = """
    UPDATE outbox o SET status = 'published', open = false, finished_at = now(), lease = NULL,
        leased_until = NULL
    FROM unnest(%(ids)s::text[], %(versions)s::bigint[]) AS m (aggregate_id, version)
    WHERE o.aggregate_id = m.aggregate_id AND o.version = m.version AND o.lease = %(lease)s
"""


class Latency(Struct, frozen=True):
    """Milliseconds from the call of an append until a consumer has its event."""

    median: float
    p99: float


def appends(url: str, rounds: int, times: int, threads: int) -> Speeds:
    """Appends a second with the outbox and without, by so many threads."""
    with (
        Hindsight(url, outbox=True, cache=False) as noted,
        Hindsight(url, outbox=False, cache=False) as plain,
    ):
        stores = {OURS: noted, WITHOUT: plain}
        runs = {
            name: partial(_append_by_threads, store, times, threads)
            for name, store in stores.items()
        }
        return interleave(runs, rounds)


def _append_by_threads(store: Hindsight, times: int, threads: int) -> float:
    working = [threading.Thread(target=_append, args=(store, times)) for _ in range(threads)]
    started = perf_counter()
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    return threads * times / (perf_counter() - started)


def _append(store: Hindsight, times: int) -> None:
    aggregate_id, [payload] = new_id(), payloads(0, 1)
    for version in range(times):
        expected = exact(version) if version else none()
        events = [NewEvent(EVENT_TYPE, payload)]
        store.append(AGGREGATE_TYPE, aggregate_id, events, expected=expected)


def relays(url: str, rounds: int, events: int) -> tuple[Speeds, Speeds]:
    """Events a second to Redis Streams: beside a bare pipeline, and by several relays.

    The second has the number of relays for its names.
    """
    with redis() as server, server.client() as client, Hindsight(url, cache=False) as store:
        for _ in range(events // _RUN):
            made = [NewEvent(EVENT_TYPE, payload) for payload in payloads(0, _RUN)]
            store.append(AGGREGATE_TYPE, new_id(), made, expected=any_())

        def after_refill(drain: Callable[[], int]) -> float:
            _refill(store, client)
            started = perf_counter()
            drained = drain()
            return drained / (perf_counter() - started)

        publisher = RedisStreams(server.url, topic=_TOPIC, source="bench", shards=_SHARDS)
        relay = store.relay(publisher)
        bare = _Bare(url, client)
        runs: dict[str, Callable[[], int]] = {
            OURS: partial(_drain, relay.once),
            BARE: bare.drain,
        }
        beside = {name: partial(after_refill, run) for name, run in runs.items()}
        found = interleave(beside, rounds)
        bare.close()
        with _processes(url, server.url, max(RELAYS)) as pipes:
            several = {
                str(number): partial(after_refill, partial(_drain_by, pipes[:number]))
                for number in RELAYS
            }
            return found, interleave(several, rounds)


def _refill(store: Hindsight, client: Redis) -> None:
    client.flushall()
    with store.database.transaction() as connection:
        connection.execute(text("TRUNCATE outbox"))
        connection.execute(text(_REFILL))


def _drain(once: Callable[[], Any]) -> int:
    drained = 0
    while (relayed := once()).claimed:
        drained += relayed.published
    return drained


class _Bare:
    """Claims by SKIP LOCKED, adds to streams, marks: what a relay does, in as few words."""

    def __init__(self, url: str, client: Redis) -> None:
        self._redis = client
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.adapters.register_loader("json", ByteaBinaryLoader)

    def drain(self) -> int:
        drained = 0
        while rows := self._claimed(lease := uuid4()):
            pipeline = self._redis.pipeline(transaction=False)
            for row in rows:
                pipeline.xadd(f"{_TOPIC}.{crc32(row[0].encode()) % _SHARDS}", _fields(row))
            pipeline.execute()
            ids, versions = [row[0] for row in rows], [row[1] for row in rows]
            marks = {"lease": lease, "ids": ids, "versions": versions}
            self._connection.execute(_MARK, marks, binary=True)
            drained += len(rows)
        return drained

    def close(self) -> None:
        self._connection.close()

    def _claimed(self, lease: UUID) -> Sequence[Any]:
        given = {"lease": lease, "limit": _BATCH}
        return sorted(self._connection.execute(_CLAIM, given, binary=True).fetchall())


def _fields(row: Sequence[Any]) -> dict[Any, Any]:
    return {
        "specversion": "1.0",
        "id": str(row[2]),
        "source": "bench",
        "type": row[3],
        "subject": row[0],
        "time": row[4].isoformat(),
        "datacontenttype": "application/json",
        "aggregatetype": row[6],
        "aggregateversion": row[1],
        "schemaversion": row[7],
        "position": row[8],
        "recordedtime": row[5].isoformat(),
        "data": row[9],
        "metadata": row[10],
    }


@contextmanager
def _processes(url: str, redis_url: str, number: int) -> Iterator[Sequence[Connection]]:
    """Relays in processes of their own: each answers a message with what it has published."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(number)]
    working = [
        context.Process(target=_relay, args=(url, redis_url, theirs), daemon=True)
        for _, theirs in pipes
    ]
    for process in working:
        process.start()
    try:
        for ours, _ in pipes:
            ours.recv()
        yield [ours for ours, _ in pipes]
    finally:
        for process in working:
            process.terminate()
            process.join()


def _relay(url: str, redis_url: str, asked: Connection) -> None:
    with Hindsight(url, cache=False) as store:
        publisher = RedisStreams(redis_url, topic=_TOPIC, source="bench", shards=_SHARDS)
        relay = store.relay(publisher)
        asked.send("ready")
        while asked.recv():
            asked.send(_drain(relay.once))


def _drain_by(pipes: Sequence[Connection]) -> int:
    for pipe in pipes:
        pipe.send("go")
    return sum(pipe.recv() for pipe in pipes)


def latency(url: str, appends: int) -> Latency:
    """How long an event is on its way, with one relay and an append each 5 ms."""
    stop, sent, arrived = threading.Event(), dict[str, float](), dict[str, float]()
    with redis() as server, server.client() as client, Hindsight(url, cache=False) as store:
        publisher = RedisStreams(server.url, topic=_TOPIC, source="bench", shards=1)
        relay = store.relay(publisher)
        _drain(relay.once)
        consuming = threading.Thread(target=_consume, args=(client, stop, arrived))
        relaying = threading.Thread(target=relay.run, args=(stop,))
        consuming.start()
        relaying.start()
        [payload] = payloads(0, 1)
        for _ in range(appends):
            aggregate_id = new_id()
            sent[aggregate_id] = perf_counter()
            events = [NewEvent(EVENT_TYPE, payload)]
            store.append(AGGREGATE_TYPE, aggregate_id, events, expected=any_())
            time.sleep(0.005)
        while len(arrived) < appends:
            time.sleep(0.01)
        stop.set()
        relaying.join()
        consuming.join()
    taken = [1_000 * (arrived[each] - sent[each]) for each in sent]
    cuts = quantiles(taken, n=100)
    return Latency(median=cuts[49], p99=cuts[98])


def _consume(client: Redis, stop: threading.Event, arrived: dict[str, float]) -> None:
    last: Any = "0"
    while not stop.is_set():
        found: Any = client.xread({f"{_TOPIC}.0": last}, block=200)
        now = perf_counter()
        for _, entries in found or ():
            last = entries[-1][0]
            arrived.update((fields[b"subject"].decode(), now) for _, fields in entries)
