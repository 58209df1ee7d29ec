"""What a process counts and times of its store, for Prometheus.

The names are a contract with dashboards and alerts. Labels are bounded: values that come from
outside are the known ones, 50 others, and `other`.
"""

import logging
from bisect import bisect_left, bisect_right
from collections import Counter as Counts
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from threading import Lock, RLock
from time import perf_counter
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from store.conflict import Outcome

_log = logging.getLogger(__name__)

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
OTHER = "other"
"""The label of what has no label of its own."""
STRANGERS = 50
"""How many values that nobody declared get a label of their own."""

# From a fast load to one that somebody notices; a p99 between two bounds is a guess.
SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_EVENTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000)
_BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
_MOST_WAITING = 1_000
_CONFLICTS = "event_store_conflicts_total"
_ATTEMPTS = (1, 2, 3, 4, 5, 7, 10)

M = TypeVar("M")
T = TypeVar("T")
Found: TypeAlias = Literal["hit", "miss", "invalid"]
"""What a load found of a snapshot."""
Level: TypeAlias = Literal["l1", "l2"]
"""Of the cache: what the process keeps itself, or in Redis."""
LookupResult: TypeAlias = Literal["hit", "miss", "dropped", "error"]
"""What a level of the cache had; dropped: something that the database does not bear out."""
Direction: TypeAlias = Literal["read", "written"]
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a sample and its labels."""


class Labelled(Generic[M]):
    """What `child` makes of each value of a label, once. Safe to share between threads."""

    def __init__(self, child: Callable[[str], M]) -> None:
        self._child = child
        self._children: dict[str, M] = {}
        self._strangers = 0
        self._lock = Lock()

    def declare(self, names: Iterable[str]) -> None:
        """Give these labels of their own, from 0 on: what appears later has no first increase."""
        for name in names:
            self._children.setdefault(name, self._child(name))

    def of(self, name: str) -> M:
        """The child of that name, or of `other`."""
        child = self._children.get(name)
        return self._of_stranger(name) if child is None else child

    def _of_stranger(self, name: str) -> M:
        with self._lock:
            if name in self._children:
                return self._children[name]
            if self._strangers == STRANGERS:
                return self._child(OTHER)
            self._strangers += 1
            return self._children.setdefault(name, self._child(name))


class Tally(Histogram):
    """A histogram that takes many observations at the price of one."""

    def observe_all(self, values: Sequence[float]) -> None:
        """What `observe` does of each."""
        self._sum.inc(sum(values))
        ordered, counted = sorted(values), 0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            if counted < (up_to := bisect_right(ordered, bound)):
                bucket.inc(up_to - counted)
                counted = up_to

    def observe_zeros(self, times: int) -> None:
        """What `observe` does of 0, so many times."""
        self._buckets[bisect_left(self._upper_bounds, 0)].inc(times)


class Clicks:
    """Counts the calls of `click`, by any thread.

    Without a lock, in a fiftieth of a microsecond: to take the next number is one step.
    """

    def __init__(self) -> None:
        self.click: Callable[[], int] = count().__next__
        self._next = 0

    def taken(self) -> int:
        """How many there were since this was asked last; only one thread may ask at a time."""
        reached = self.click()
        clicks, self._next = reached - self._next, reached + 1
        return clicks


class Saved(NamedTuple):
    """An append that is over; no types where nothing was written."""

    seconds: float
    event_types: Sequence[str] = ()


class Replayed(NamedTuple):
    """A load or replay that is over; `events` is None where it failed.

    `snapshot` says what was found of one, None where there is none to find. `unread` is the type of
    an event that this code cannot read.
    """

    seconds: float
    events: int | None
    snapshot: Found | None = None
    unread: str | None = None


class Met(NamedTuple):
    """A version conflict."""

    outcome: Outcome
    aggregate_type: str


class Held(NamedTuple):
    """What a store takes up in its process, and whether it leaves Redis alone."""

    connections: int
    cached_bytes: int
    is_redis_away: bool


class Lookup(NamedTuple):
    """Something looked up in the cache."""

    level: Level
    kind: str
    result: LookupResult


class Moved(NamedTuple):
    """Bytes read from Redis, or written to it."""

    direction: Direction
    size: int


class Settled(NamedTuple):
    """What came of attempts to publish: how many records of each."""

    published: int
    retried: int
    failed: int
    lost: int


class Metrics:
    """The metrics of a process in a registry. Safe to share between threads.

    Stores that share it are counted together. Who works only leaves word, which costs a tenth of
    what counting would, and cannot fail; it is counted when somebody looks, and each second.
    `sampled` is what has been written down as a sample.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._own: list[Counter | Histogram] = []
        self._sampled = Lock()
        # Who is interrupted to collect garbage may have to close a store, which counts.
        self._counting = RLock()
        self._saved: deque[Saved] = deque()
        self._replayed: deque[Replayed] = deque()
        self._met: deque[Met] = deque()
        self._attempts: deque[float] = deque()
        self._snapshots: deque[bool] = deque()
        self.at_hand = Clicks()
        """Loads whose state the process had, and made no query for: too quick to be timed."""
        self.lookups: dict[Lookup, Clicks] = {}
        """What was looked up in the cache."""
        self._moved: deque[Moved] = deque()
        self._settled: deque[Settled] = deque()
        self._untold = Clicks()
        # Asked first of all in the registry: so what waits is counted before anything is told.
        self._gauges = _Gauges(self.count)
        self._watched: list[Callable[[], Held]] = []
        registry.register(self._gauges)
        self._define_writing()
        self._define_conflicts()
        self._define_reading()
        self._define_cache()
        self._define_outbox()
        self.sampled = self.values()

    def _define_writing(self) -> None:
        events = self._counter("event_store_events", "Events appended.", "event_type")
        self._events = Labelled[Counter](events.labels)
        self._saves = self._histogram(
            "event_store_save_duration_seconds", "How long an append took, whatever came of it."
        )
        self._batches = self._histogram(
            "event_store_append_events", "How many events an append had.", buckets=_BATCH
        )
        handlers = self._histogram(
            "event_handler_duration_seconds", "How long a handler took.", "handler"
        )
        self._handlers = Labelled[Tally](handlers.labels)
        self._pool = Gauge(
            "event_store_pool_connections",
            "Database connections in use.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    def _define_conflicts(self) -> None:
        self._conflicts = self._counter(
            "event_store_conflicts", "Attempts to append that found another version."
        )
        outcomes = self._counter(
            "event_store_conflict_outcomes",
            "Conflicts by what came of them: absorbed where the command was settled all the same.",
            *("outcome", "aggregate_type"),
        )
        self._outcomes = {
            outcome: Labelled[Counter](partial(outcomes.labels, outcome))
            for outcome in ("absorbed", "escaped")
        }
        self._command_attempts = self._histogram(
            "event_store_command_attempts", "How often a command decided.", buckets=_ATTEMPTS
        )

    def _define_reading(self) -> None:
        requests = self._counter(
            "event_replay_requests", "States asked for, by whether they could be made.", "success"
        )
        self._replays = {flag: requests.labels(str(flag).lower()) for flag in (True, False)}
        self._replay_seconds = self._histogram(
            "event_replay_duration_seconds", "How long it took to make a state."
        )
        self._replay_events = self._histogram(
            "event_store_replay_events", "How many events a state took.", buckets=_EVENTS
        )
        loads = self._counter(
            "event_store_snapshot_loads",
            "Loads by the snapshot they began at: hit, miss, or invalid.",
            "result",
        )
        self._snapshot_loads = {found: loads.labels(found) for found in get_args(Found)}
        self._snapshots_kept = {
            True: self._counter("event_store_snapshots_taken", "Snapshots taken."),
            False: self._counter(
                "event_store_snapshot_failures", "Snapshots that could not be taken."
            ),
        }
        self.drift = self._counter(
            "event_store_snapshot_drift", "Snapshots found to differ from the full replay."
        )
        failures = self._counter(
            "event_store_upcast_failures", "Stored events that this code cannot read.", "event_type"
        )
        self._upcast_failures = Labelled[Counter](failures.labels)

    def _define_cache(self) -> None:
        found = self._counter(
            "event_store_cache_lookups",
            "What was looked up in a level of the cache: hit, miss, dropped, or error.",
            *("level", "kind", "result"),
        )
        self._lookups = {
            Lookup(level, kind, result): found.labels(level, kind, result)
            for level in get_args(Level)
            for kind in ("state", "history")
            for result in get_args(LookupResult)
            if (level, result) != ("l1", "error")
        }
        self.lookups.update((lookup, Clicks()) for lookup in self._lookups)
        moved = self._counter(
            "event_store_cache_redis_bytes", "Bytes read from Redis and written to it.", "direction"
        )
        self._redis_bytes = {each: moved.labels(each) for each in get_args(Direction)}
        self._cached = Gauge(
            "event_store_cache_bytes",
            "Bytes of JSON that the processes keep in their own memory.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._away = Gauge(
            "event_store_cache_redis_away",
            "Processes that leave Redis alone just now, as it did not answer.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    def _define_outbox(self) -> None:
        self._published = self._counter(
            "event_store_outbox_published", "Records of the outbox that were published."
        )
        attempts = self._counter(
            "event_store_outbox_attempts",
            "Attempts to publish: published, retried, failed for good, or lost with a lease.",
            "result",
        )
        self._outbox_attempts = {result: attempts.labels(result) for result in Settled._fields}
        self._dead_letters = self._counter(
            "event_store_outbox_dead_letters", "Records that were given up."
        )
        self._webhook_failures = self._counter(
            "event_store_outbox_webhook_failures", "Dead letters that the webhook did not take."
        )

    def declare(self, *, aggregate_types: Iterable[str], event_types: Iterable[str]) -> None:
        """Give what a domain knows labels of its own."""
        events = tuple(event_types)
        self._events.declare(events)
        self._upcast_failures.declare(events)
        kinds = tuple(aggregate_types)
        for outcome in self._outcomes.values():
            outcome.declare(kinds)

    def saved(self, saved: Saved) -> None:
        """An append is over."""
        self._leave(self._saved, saved)

    def replayed(self, replayed: Replayed) -> None:
        """A load or a replay is over."""
        self._leave(self._replayed, replayed)

    def met(self, met: Met) -> None:
        """A conflict's outcome is known."""
        self._leave(self._met, met)

    def attempted(self, attempts: int) -> None:
        """A command is over that has decided so often."""
        self._leave(self._attempts, attempts)

    def snapshot(self, *, kept: bool) -> None:
        """A snapshot was taken, or could not be."""
        self._leave(self._snapshots, kept)

    def looked_up(self, lookup: Lookup) -> None:
        """Something was looked up in the cache."""
        self.lookups[lookup].click()

    def moved(self, moved: Moved) -> None:
        """Something went from Redis, or to it."""
        self._leave(self._moved, moved)

    def relayed(self, settled: Settled) -> None:
        """A relay has settled what it claimed at once."""
        self._leave(self._settled, settled)

    def untold(self) -> None:
        """A webhook did not take a dead letter."""
        self._untold.click()

    def _leave(self, waiting: deque[T], item: T) -> None:
        waiting.append(item)
        if len(waiting) > _MOST_WAITING:
            try:
                self.count()
            except Exception:  # noqa: BLE001 (a full disk under the metrics; the work is done)
                waiting.clear()
                _log.exception("metrics are lost")

    def count(self) -> None:
        """Count what waits to be counted."""
        # Who looks while another counts waits until it has.
        with self._counting:
            if self._saved:
                self._count_saved(_taken(self._saved))
            if self._replayed:
                self._count_replayed(_taken(self._replayed))
            self._count_at_hand(self.at_hand.taken())
            if self._met or self._attempts or self._snapshots:
                self._count_commands()
            for lookup, clicks in self.lookups.items():
                self._lookups[lookup].inc(clicks.taken())
            if self._moved:
                self._count_moved(_taken(self._moved))
            self._count_settled(_taken(self._settled))
            self._webhook_failures.inc(self._untold.taken())
            watched = [watch() for watch in tuple(self._watched)]
            self._pool.set(sum(each.connections for each in watched))
            self._cached.set(sum(each.cached_bytes for each in watched))
            self._away.set(any(each.is_redis_away for each in watched))

    def _count_commands(self) -> None:
        met = _taken(self._met)
        self._conflicts.inc(len(met))
        for (outcome, aggregate_type), conflicts in Counts(met).items():
            self._outcomes[outcome].of(aggregate_type).inc(conflicts)
        self._command_attempts.observe_all(_taken(self._attempts))
        for kept, snapshots in Counts(_taken(self._snapshots)).items():
            self._snapshots_kept[kept].inc(snapshots)

    def _count_settled(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            self._published.inc(each.published)
            self._dead_letters.inc(each.failed)
            for result, records in zip(Settled._fields, each, strict=True):
                self._outbox_attempts[result].inc(records)

    def _count_saved(self, saved: Sequence[Saved]) -> None:
        self._saves.observe_all([each.seconds for each in saved])
        written = [each.event_types for each in saved if each.event_types]
        self._batches.observe_all([len(types) for types in written])
        for event_type, events in Counts(chain.from_iterable(written)).items():
            self._events.of(event_type).inc(events)

    def _count_at_hand(self, loads: int) -> None:
        if loads:
            self._replay_seconds.observe_zeros(loads)
            self._replays[True].inc(loads)
            self._replay_events.observe_zeros(loads)

    def _count_moved(self, moved: Sequence[Moved]) -> None:
        for direction, counter in self._redis_bytes.items():
            counter.inc(sum(each.size for each in moved if each.direction == direction))

    def _count_replayed(self, replayed: Sequence[Replayed]) -> None:
        self._replay_seconds.observe_all([each.seconds for each in replayed])
        made = [each for each in replayed if each.events is not None]
        self._replays[True].inc(len(made))
        self._replays[False].inc(len(replayed) - len(made))
        self._replay_events.observe_all([each.events or 0 for each in made])
        for found, loads in Counts(each.snapshot for each in replayed).items():
            if found is not None:
                self._snapshot_loads[found].inc(loads)
        for each in replayed:
            if each.unread is not None:
                self._upcast_failures.of(each.unread).inc()

    @contextmanager
    def handling(self, handler: str) -> Iterator[None]:
        """Time a handler of events, whatever comes of it."""
        started = perf_counter()
        try:
            yield
        finally:
            self._handlers.of(handler).observe(perf_counter() - started)

    def handled(self, timings: Mapping[str, Sequence[float]]) -> None:
        """Count handlers of events, by name, that ran so many seconds each time."""
        for handler, seconds in timings.items():
            self._handlers.of(handler).observe_all(seconds)

    def watch(self, gauges: Callable[[], Iterable[Metric]], held: Callable[[], Held]) -> None:
        """Ask `gauges` whenever Prometheus asks; of several, the first that is still there.

        `held` tells what a store of this process takes up.
        """
        self._gauges.sources.append(gauges)
        self._watched.append(held)

    def unwatch(self, gauges: Callable[[], Iterable[Metric]], held: Callable[[], Held]) -> None:
        """Ask them no more."""
        self._gauges.sources.remove(gauges)
        self._watched.remove(held)
        self.count()

    def values(self) -> dict[Series, float]:
        """The counters and histograms of this process as they are."""
        self.count()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for metric in self._own
            for family in metric.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def levels(self) -> dict[str, float]:
        """The gauges that tell of the store as a whole, by name."""
        return {
            sample.name: sample.value
            for family in self._gauges.collect()
            for sample in family.samples
            if not sample.labels
        }

    def has_new_conflicts(self) -> bool:
        """Whether there are conflicts that have not been written down as a sample."""
        self.count()
        [told] = [
            sample.value
            for family in self._conflicts.collect()
            for sample in family.samples
            if sample.name == _CONFLICTS
        ]
        return bool(told != self.sampled.get((_CONFLICTS, ()), 0.0))

    def claim(self) -> bool:
        """Whether the caller is to write these metrics down: of those who ask, the first."""
        return self._sampled.acquire(blocking=False)

    def release(self) -> None:
        """Let another write them down."""
        self._sampled.release()

    def exposition(self, folder: str | None = None) -> bytes:
        """Everything in the registry as Prometheus reads it; `CONTENT_TYPE` says how.

        `folder` is where several processes keep their metrics together: PROMETHEUS_MULTIPROC_DIR.
        """
        self.count()
        registry = self.registry
        if folder is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
            registry.register(self._gauges)
        return prometheus_client.generate_latest(registry)

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        counter = Counter(name, documentation, labels, registry=self.registry)
        self._own.append(counter)
        return counter

    def _histogram(
        self,
        name: str,
        documentation: str,
        *labels: str,
        buckets: tuple[float, ...] = SECONDS,
    ) -> Tally:
        histogram = Tally(name, documentation, labels, buckets=buckets, registry=self.registry)
        self._own.append(histogram)
        return histogram


class _Gauges(Collector):
    """What is read when Prometheus asks. Two stores would tell the same names twice."""

    def __init__(self, prepare: Callable[[], None]) -> None:
        self.sources: list[Callable[[], Iterable[Metric]]] = []
        self._prepare = prepare

    def collect(self) -> Iterable[Metric]:
        self._prepare()
        sources = tuple(self.sources)
        return sources[0]() if sources else ()

    def describe(self) -> Iterable[Metric]:
        """Nothing: else to register would be to ask."""
        return ()


def _taken(waiting: deque[T]) -> list[T]:
    return [waiting.popleft() for _ in range(len(waiting))]


_of_process: list[Metrics] = []
_making = Lock()


def of_process() -> Metrics:
    """Those in the registry that prometheus_client serves by default."""
    with _making:
        if not _of_process:
            _of_process.append(Metrics(prometheus_client.REGISTRY))
        return _of_process[0]
