"""What counting and timing costs an append and a load."""

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter

from prometheus_client import CollectorRegistry

from benchmarks.loading import DOMAIN, TAIL
from benchmarks.rounds import Speeds, interleave
from benchmarks.stores import OURS
from benchmarks.workload import AGGREGATE_TYPE, EVENT_TYPE, new_id, payloads
from store import Context, Hindsight, Metrics, NewEvent, any_, exact

UNMEASURED = "unmeasured"
_LENGTH = 100


def appends(url: str, rounds: int, times: int) -> Speeds:
    """Appends of one event a second, measured and not."""
    return _compared(url, rounds, times, _append)


def loads(url: str, rounds: int, times: int) -> Speeds:
    """Loads a second of an aggregate with a snapshot, measured and not."""
    return _compared(url, rounds, times, _load)


def _compared(
    url: str, rounds: int, times: int, prepare: Callable[[Hindsight], Callable[[int], object]]
) -> Speeds:
    metrics = Metrics(CollectorRegistry())
    with (
        Hindsight(url, domain=DOMAIN, metrics=metrics, cache=False) as measured,
        Hindsight(url, domain=DOMAIN, metrics=False, cache=False) as unmeasured,
    ):
        stores = {OURS: measured, UNMEASURED: unmeasured}
        runs = {
            name: partial(_speed, prepare(store), iter(range(rounds + 1)), times)
            for name, store in stores.items()
        }
        return interleave(runs, rounds)


def _append(store: Hindsight) -> Callable[[int], object]:
    aggregate_id, context = new_id(), Context(actor="bench")
    [payload] = payloads(0, 1)

    def append(number: int) -> object:
        events = [NewEvent(EVENT_TYPE, payload)]
        return store.append(
            AGGREGATE_TYPE, aggregate_id, events, expected=exact(number), context=context
        )

    return append


def _load(store: Hindsight) -> Callable[[int], object]:
    aggregate_id = new_id()
    for count in (_LENGTH, TAIL):
        events = [NewEvent("CommentAdded", payload) for payload in payloads(0, count)]
        store.append(AGGREGATE_TYPE, aggregate_id, events, expected=any_())
        if count == _LENGTH:
            store.snapshot(aggregate_id)

    def load(_: int) -> object:
        loaded = store.load(aggregate_id)
        assert loaded.folded == TAIL
        return loaded

    return load


def _speed(act: Callable[[int], object], rounds: Iterator[int], times: int) -> float:
    first = next(rounds) * times
    started = perf_counter()
    for number in range(first, first + times):
        act(number)
    return times / (perf_counter() - started)
