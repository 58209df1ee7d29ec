"""Processes that look things up in both levels of the cache, and what they counted."""

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack

from prometheus_client import CollectorRegistry

from store import Hindsight, Metrics
from tests.servers import RedisServer
from tests.totals import numbers, put

LOOKUPS = "event_store_cache_lookups_total"
BYTES = "event_store_cache_redis_bytes_total"
IDS = ("a", "b", "c")

Counted = Mapping[tuple[str, ...], float]
"""By level and result, and by direction."""


def process(url: str, redis_url: str | None = None) -> Hindsight:
    """The store as a process of its own has it."""
    metrics = Metrics(CollectorRegistry())
    return Hindsight(url, domain=numbers(), redis_url=redis_url, metrics=metrics)


def look_up(url: str, redis: RedisServer) -> Counted:
    """Have processes find things in L1, in L2, and in neither; then garbage; then no Redis."""
    with ExitStack() as opened:
        one, other, third = (opened.enter_context(process(url, redis.url)) for _ in range(3))
        for aggregate_id in IDS:
            put(one, 1, 2, aggregate_id=aggregate_id)
            for store in (one, one, one, other):
                store.load(aggregate_id)
                list(store.events(aggregate_id))
        with redis.client() as client:
            for key in client.keys("*:a"):
                client.set(key, "garbage")
        third.load("a")
        redis.kill()
        third.load("b")
        return counted(one, other, third)


def counted(*stores: Hindsight) -> Counted:
    """What their registries say together."""
    found: Counter[tuple[str, ...]] = Counter()
    for store in stores:
        for (name, labels), value in store.metrics.values().items():
            told = dict(labels)
            if name == LOOKUPS:
                found[told["level"], told["result"]] += int(value)
            elif name == BYTES:
                found[(told["direction"],)] += int(value)
    return found
