"""The first level: what this process keeps of the aggregates it used last."""

from threading import RLock
from typing import Any, Generic, Protocol, TypeVar

from cachetools import LRUCache
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
_SHARE = BYTES // AGGREGATES


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


def _weight(kept: Entry[Any]) -> int:
    """Each takes at least its share, so that the one bound is both that of bytes and of number."""
    size: int = kept.value.size
    return max(size, _SHARE)


class _Weighed(LRUCache[str, Entry[Any]]):
    """Adds up the sizes of what it holds."""

    total = 0

    def __setitem__(self, key: str, entry: Entry[Any], *more: Any) -> None:
        if key in self:
            del self[key]
        super().__setitem__(key, entry, *more)
        self.total += entry.value.size

    def __delitem__(self, key: str, *more: Any) -> None:
        self.total -= self[key].value.size
        super().__delitem__(key, *more)

    def clear(self) -> None:
        super().clear()
        self.total = 0


class Local(Generic[Value]):
    """The aggregates used last, by id, of one generation. Safe to share between threads."""

    def __init__(self) -> None:
        # Who is interrupted to collect garbage may have to close a store, which asks for the size.
        self._lock = RLock()
        self._generation: Generation | None = None
        # Not the one that also looks at the time: it takes three times as long to be asked.
        self._kept = _Weighed(BYTES, _weight)

    def get(self, aggregate_id: str, generation: Generation, now: float) -> Entry[Value] | None:
        """What is kept of it and of that generation, at a monotonic time."""
        with self._lock:
            if generation is not self._generation:
                self._kept.clear()
                self._generation = generation
            kept = self._kept.get(aggregate_id)
            if kept is None or now - kept.kept_at < SECONDS:
                return kept
            del self._kept[aggregate_id]
            return None

    def put(self, aggregate_id: str, kept: Entry[Value]) -> None:
        """Keep it, but for what is too large, of another generation, or older than what is kept."""
        with self._lock:
            if kept.generation != self._generation:
                return
            found = self._kept.get(aggregate_id)
            if kept.value.size > LARGEST:
                self._kept.pop(aggregate_id, None)
                return
            if found is None or found.value.version <= kept.value.version:
                self._kept[aggregate_id] = kept

    def drop(self, aggregate_id: str) -> None:
        """Keep it no more."""
        with self._lock:
            self._kept.pop(aggregate_id, None)

    @property
    def size(self) -> int:
        """How many bytes of JSON are kept; waits for nobody, as whoever asks may hold up others."""
        return self._kept.total
