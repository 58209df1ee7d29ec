"""What is to take as long on a large store as on a small one."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import cycle
from statistics import median
from typing import Any, TypeAlias

from benchmarks.scale.filling import ORDERS, PAGE, Sized
from dashboard.searching import Bounds, Wanted, search
from store import NewEvent, exact
from store.records import AggregateOrder, FeedFilter

Action: TypeAlias = Callable[[], Any]
Taken: TypeAlias = Mapping[int, Sequence[float]]
"""What was measured in each round, by the events of the store."""

FEED_PAGE = 100
_TURNS = 40
_SECONDS = 0.5
"""A round has so many turns, or as many as fit into so long."""
_FAILED = {"at": "2026-11-28T00:00:00Z", "ip_address": "198.51.100.7", "reason": "wrong password"}


def measure(make: Callable[[Sized], Action], stores: Sequence[Sized], rounds: int) -> Taken:
    """Milliseconds of a call, in the median of each round.

    The stores take turns call by call, so that whatever else happens slows all of them down.
    """
    actions = {each.events: make(each) for each in stores}
    _turns(actions)
    found = [_turns(actions) for _ in range(rounds)]
    return {events: [each[events] for each in found] for events in actions}


def _turns(actions: Mapping[int, Action]) -> Mapping[int, float]:
    taken: dict[int, list[float]] = {events: [] for events in actions}
    order = deque(actions)
    deadline = time.perf_counter() + _SECONDS
    for _ in range(_TURNS):
        for events in order:
            taken[events].append(_timed(actions[events]))
        order.rotate()
        if time.perf_counter() > deadline:
            break
    return {events: median(each) for events, each in taken.items()}


def _timed(action: Action) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1_000


def load(sized: Sized) -> Action:
    """Of an aggregate of about twenty events, without a snapshot."""
    coming = cycle(sized.picked)
    return lambda: sized.store.load(next(coming))


def _append(sized: Sized) -> Action:
    versions = {each: sized.store.aggregate(each).version for each in sized.picked}
    coming = cycle(versions)

    def append() -> None:
        aggregate_id = next(coming)
        event = NewEvent("LoginFailed", _FAILED)
        expected = exact(versions[aggregate_id])
        sized.store.append("user", aggregate_id, [event], expected=expected)
        versions[aggregate_id] += 1

    return append


def _listing(sized: Sized, **options: Any) -> Action:
    return lambda: sized.store.aggregates(limit=PAGE, **options)


def _feed(sized: Sized, **options: Any) -> Action:
    return lambda: list(sized.store.feed(limit=FEED_PAGE, **options))


def _search(sized: Sized, wanted: Wanted) -> Action:
    return lambda: search(sized.store.log, wanted, bounds=Bounds())


def _days(sized: Sized) -> Action:
    return lambda: sized.store.tally(width=timedelta(days=1))


def _minutes(sized: Sized) -> Action:
    where = FeedFilter(since=sized.hour[0], until=sized.hour[1])
    return lambda: sized.store.tally(width=timedelta(minutes=1), where=where)


def _deep_listing(sized: Sized, order: AggregateOrder) -> Action:
    return _listing(sized, order=order, after=sized.cursors[order])


def _by_prefix(sized: Sized, order: AggregateOrder) -> Action:
    return _listing(sized, order=order, prefix=sized.prefix)


def _listings() -> Iterator[tuple[str, Callable[[Sized], Action]]]:
    for order in ORDERS:
        yield f"aggregates by {order}, page 1", partial(_listing, order=order)
        yield f"aggregates by {order}, page 1,000", partial(_deep_listing, order=order)


MEASURES: Mapping[str, Callable[[Sized], Action]] = {
    "append of 1 event": _append,
    "load of 20 events": load,
    **dict(_listings()),
    "search: ids by prefix, 111 of them": partial(_by_prefix, order="recent"),
    "search: ids by prefix, all": partial(_listing, order="recent", prefix="u"),
    "search: ids by prefix, 111 of them, longest": partial(_by_prefix, order="longest"),
    "search: ids by prefix, all, longest": partial(_listing, order="longest", prefix="u"),
    "search: one event type": partial(
        _search, wanted=Wanted(where=FeedFilter(event_types=("AccountLocked",)))
    ),
    "search: one actor": partial(_search, wanted=Wanted(where=FeedFilter(actor="support-7"))),
    "search: text in the data": partial(_search, wanted=Wanted(contains="chrome")),
    "feed, newest 100": partial(_feed, backward=True),
    "feed, 100 in the middle": lambda sized: _feed(sized, after=sized.events // 2),
    "histogram of days": _days,
    "histogram of an hour's minutes": _minutes,
    "counts": lambda sized: sized.store.counts,
}
