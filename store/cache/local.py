"""The first level: what this process keeps of the aggregates it used last."""

from threading import RLock
from typing import Generic, Protocol, TypeVar

from lru import LRU
from msgspec import Struct

from store.cache.tails import Generation


class Keepable(Protocol):
    """What is known of an aggregate up to a version, and of the event there."""

    @property
    def version(self) -> int:
        """The version of the last event in it."""
        ...

    @property
    def mark(self) -> str:
        """What tells that event from any other."""
        ...

    @property
    def size(self) -> int:
        """How many bytes of JSON it takes."""
        ...


Value = TypeVar("Value", bound=Keepable)

AGGREGATES = 100
"""How many are kept, of each kind."""
SECONDS = 60.0
"""How long one is kept, from when something new of it was."""
BYTES = 32 * 2**20
"""How much JSON is kept, of each kind; as Python objects it is some times that."""
LARGEST = BYTES // 8
"""How much JSON one may have, so that a few large ones do not drive out all others."""


class Entry(Struct, Generic[Value]):
    """What is kept of an aggregate, and in which generation of the store it was read.

    `checked_at` is the monotonic time up to which nothing newer was stored, and changes, as does
    `commits`, the number of commits with which it was the newest; `kept_at` is the time of when
    this was made.
    """

    generation: Generation
    value: Value
    checked_at: float
    kept_at: float
    commits: int | None = None


class Local(Generic[Value]):
    """The aggregates used last, by id, of one generation. Safe to share between threads.

    `size` is how many bytes of JSON are kept; whoever asks waits for nobody, as he may hold up
    others.
    """

    def __init__(self) -> None:
        # Who is interrupted to collect garbage may have to close a store, which asks for the size.
        self._lock = RLock()
        self._generation: Generation | None = None
        # One more than are kept, so that none goes without its size being taken off.
        self._kept: LRU[str, Entry[Value]] = LRU(AGGREGATES + 1)
        self.size = 0

    def get(self, aggregate_id: str, generation: Generation, now: float) -> Entry[Value] | None:
        """What is kept of it and of that generation, at a monotonic time."""
        with self._lock:
            if generation is not self._generation:
                self._clear()
                self._generation = generation
            kept = self._kept.get(aggregate_id)
            if kept is None or now - kept.kept_at < SECONDS:
                return kept
            self._remove(aggregate_id)
            return None

    def put(self, aggregate_id: str, kept: Entry[Value]) -> None:
        """Keep it, but for what is too large, of another generation, or older than what is kept."""
        with self._lock:
            if kept.generation != self._generation:
                return
            found = self._kept.get(aggregate_id)
            if kept.value.size > LARGEST:
                self._remove(aggregate_id)
            elif found is None or found.value.version <= kept.value.version:
                self._remove(aggregate_id)
                self._add(aggregate_id, kept)

    def drop(self, aggregate_id: str) -> None:
        """Keep it no more."""
        with self._lock:
            self._remove(aggregate_id)

    def _add(self, aggregate_id: str, kept: Entry[Value]) -> None:
        self._kept[aggregate_id] = kept
        self.size += kept.value.size
        while len(self._kept) > AGGREGATES or self.size > BYTES:
            _, gone = self._kept.popitem(least_recent=True)
            self.size -= gone.value.size

    def _remove(self, aggregate_id: str) -> None:
        kept = self._kept.pop(aggregate_id, None)
        if kept is not None:
            self.size -= kept.value.size

    def _clear(self) -> None:
        self._kept.clear()
        self.size = 0
