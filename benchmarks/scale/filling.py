"""Stores of one kind and several sizes, and the places in them that are measured."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import click
from msgspec import Struct

from benchmarks.stores import PostgreSQLStores, SQLiteStores
from benchmarks.ui import filling
from store import Hindsight
from store.domain import load_domains
from store.generation import generate, kinds_of
from store.records import AggregateOrder
from store.work import roll_up

DOMAIN = "users:domain"
ORDERS: tuple[AggregateOrder, ...] = ("id", "recent", "longest")
PAGE = 50
"""Aggregates of a page, as the dashboard has it."""
_DEEP = 1_000
_PICKED = 20
_SEED = 1


class Sized(Struct, frozen=True, kw_only=True):
    """A store of so many events.

    `picked` are aggregates of a usual length, and their versions. `prefix` begins the ids of some
    hundred aggregates. `cursors` lead to page 1,000, or to the middle of what has no 2,000 pages.
    `hour` has an event of the middle of the store in it.
    """

    events: int
    url: str
    store: Hindsight
    picked: Mapping[str, int]
    prefix: str
    cursors: Mapping[AggregateOrder, str]
    hour: tuple[datetime, datetime]


@contextmanager
def opened(url: str) -> Iterator[Hindsight]:
    """The store as a service opens it, without what would answer in its place."""
    with Hindsight(url, domain=DOMAIN, cache=False, outbox=False, metrics=False) as store:
        yield store


def fill(place: PostgreSQLStores | SQLiteStores, events: int) -> str:
    """The URL of a new store of so many events as a worker leaves it, with a day of metrics."""
    url = place.new()
    begun = time.perf_counter()
    with opened(url) as store:
        kinds = kinds_of(load_domains(DOMAIN))
        generate(store.log, kinds, events=events, until=datetime.now(UTC), seed=_SEED)
        took = time.perf_counter() - begun
        roll_up(store, store.watermark().position)
    tell(
        f"{place.name}: {events:,} events generated in {took:.0f} s, {events / took:,.0f} a second"
    )
    filling.watch(url)
    place.settle(url)
    return url


def look(store: Hindsight, url: str, events: int) -> Sized:
    """Choose the places."""
    rows = store.database.rows(_PICK, {})
    middle = next(store.feed(after=events // 2, limit=1)).occurred_at
    hour = middle.replace(minute=0, second=0, microsecond=0)
    return Sized(
        events=events,
        url=url,
        store=store,
        picked=dict(rows),
        prefix=_prefix(store.log.counts().aggregates),
        cursors={order: _cursor(store, order) for order in ORDERS},
        hour=(hour, hour + timedelta(hours=1)),
    )


_PICK = f"""
    SELECT aggregate_id, version FROM aggregates WHERE version BETWEEN 15 AND 25
    ORDER BY random() LIMIT {_PICKED}
"""


def _prefix(aggregates: int) -> str:
    digits = len(str(aggregates // 2))
    return "user-" + "1234567"[: digits - 2]


def _cursor(store: Hindsight, order: AggregateOrder) -> str:
    pages = store.log.counts().aggregates // PAGE
    before = min(_DEEP - 1, pages // 2)
    found = store.aggregates(order=order, limit=before * PAGE).next
    assert found is not None
    return found


def tell(text: str) -> None:
    """Say how it goes to whoever waits."""
    click.echo(text, err=True)
