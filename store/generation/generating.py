"""Filling an empty store with histories, as many events as one likes."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from random import Random

from msgspec import Struct

from store.database.batch import ConnectionLost
from store.domain import Domains
from store.errors import InvalidDomain, InvalidSource, StoreUnavailable
from store.generation import orders
from store.generation.lives import LONGEST, Kind, Life, lengths
from store.log import EventLog

SPAN = timedelta(days=730)
"""The time over which the events of a store are spread."""
BATCH = 20_000
"""Events that are written in a transaction."""


class Generated(Struct, frozen=True, kw_only=True):
    """How much a store was filled with."""

    events: int
    aggregates: int


def generate(
    log: EventLog,
    kinds: Sequence[Kind],
    *,
    events: int,
    until: datetime,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Generated:
    """Fill the store with so many events of aggregates of these kinds, recorded in two years.

    The last is recorded by `until`. Nothing is published, and no handler runs. `progress` hears how
    many events are written. The same seed makes the same events, as long before `until`.

    Raises:
        InvalidSource: the store has events already.
        InvalidDomain: a history makes an event that is none of its aggregate's, or ends early.
        StoreUnavailable: the database went away.
    """
    if next(log.feed(limit=1), None) is not None:
        raise InvalidSource("the store has events already; to generate some takes an empty one")
    random = Random(seed)  # noqa: S311 (a story)
    sizes = lengths(random, events)
    lives = _lives(random, kinds, sizes, until)
    writing = _Writing(log, _in_order(lives))
    while writing.write_batch():
        progress(writing.written)
    return Generated(events=writing.written, aggregates=len(sizes))


def kinds_of(domains: Domains) -> Sequence[Kind]:
    """The aggregates of the domains that have histories; where there is no domain, orders.

    Raises:
        InvalidDomain: there are domains, and no aggregate of theirs has a history.
    """
    if not domains.domains:
        versions = {event.__name__: 1 for event in orders.EVENTS}
        return [Kind(orders.AGGREGATE_TYPE, orders.history, versions)]
    kinds = [
        Kind(each.aggregate_type, each.history, dict(each.schema_versions))
        for each in domains.aggregates
        if each.history is not None
    ]
    if not kinds:
        names = ", ".join(repr(domain.name) for domain in domains.domains)
        raise InvalidDomain(f"domain {names}: no aggregate has a history")
    return kinds


def _lives(
    random: Random, kinds: Sequence[Kind], sizes: Sequence[int], until: datetime
) -> Iterator[Life]:
    """The aggregates in the order in which they begin, the longer the earlier."""
    begun = sorted((random.random() * (1 - length / LONGEST), length) for length in sizes)
    first = begun[0][0]
    for number, (start, length) in enumerate(begun, start=1):
        yield Life(
            random,
            random.choice(kinds),
            number,
            length=length,
            start=until - SPAN * (1 - start + first),
            end=until,
        )


def _in_order(lives: Iterator[Life]) -> Iterator[Life]:
    """The life that the next event of all is taken from, event by event."""
    going: list[tuple[datetime, int, Life]] = []
    for number, begun in enumerate(lives):
        while going and going[0][0] <= begun.at:
            yield from _step(going)
        heapq.heappush(going, (begun.at, number, begun))
    while going:
        yield from _step(going)


def _step(going: list[tuple[datetime, int, Life]]) -> Iterator[Life]:
    _, number, life = going[0]
    yield life
    if life.next is None:
        heapq.heappop(going)
    else:
        heapq.heapreplace(going, (life.at, number, life))


class _Writing:
    """Batches on their way into the store; while the database writes one, the next is made."""

    def __init__(self, log: EventLog, coming: Iterator[Life]) -> None:
        self.written = 0
        self._log = log
        self._coming = coming
        self._active: list[Life] = []
        self._order: list[int] = []

    def write_batch(self) -> bool:
        """Write some events; False where there are none left."""
        for life in islice(self._coming, BATCH - len(self._order)):
            self._take(life)
        order = self._order
        if not order:
            return False
        batch = [life.append() for life in self._active]
        self._active, self._order = [], []
        try:
            refused = self._log.database.load(batch, order, None, self._meanwhile)
        except ConnectionLost as error:
            raise StoreUnavailable(f"{error}; begin again with an empty store") from error
        if refused is not None:
            raise InvalidSource("somebody else writes to the store; begin again with an empty one")
        self.written += len(order)
        return True

    def _take(self, life: Life) -> None:
        if not life.taken:
            life.place = len(self._active)
            self._active.append(life)
        self._order.append(life.place)
        life.take()

    def _meanwhile(self) -> None:
        if len(self._order) < BATCH:
            life = next(self._coming, None)
            if life is not None:
                self._take(life)
