"""The cache of a store, for all that is kept of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from store.cache.histories import Histories, HistoryKind
from store.cache.levels import Kind, TwoLevels
from store.cache.local import Value
from store.cache.states import Extend, StateKind, States
from store.cache.tails import Tails
from store.cache.writes import Writes
from store.database import Database
from store.domain import Domains
from store.errors import InvalidSetting
from store.metrics import Metrics
from store.reader import EventReader

if TYPE_CHECKING:
    from store.cache.shared import Shared


class Cache:
    """Two levels for states and two for histories; without a `redis_url` there is only the first.

    Safe to share between threads.

    Raises:
        InvalidSetting: the URL is none, or the packages for Redis are not installed.
    """

    def __init__(self, database: Database, metrics: Metrics, redis_url: str | None) -> None:
        self.writes = Writes()
        self._tails = Tails(database)
        self._database = database
        self._metrics = metrics
        self._shared = None if redis_url is None else _shared(redis_url, metrics)
        self._levels: list[TwoLevels[Any]] = []

    @property
    def size(self) -> int:
        """How many bytes of JSON this process keeps."""
        return sum(levels.local.size for levels in self._levels)

    @property
    def is_redis_away(self) -> bool:
        """Whether Redis is left alone just now, as it did not answer."""
        return self._shared is not None and self._shared.is_away()

    def states(self, domains: Domains, extend: Extend) -> States:
        """Keeps the states that `domains` make, and `extend` goes on with."""
        kind = StateKind(self._tails, domains, extend)
        return States(kind, self._two_levels(kind))

    def histories(self, reader: EventReader) -> Histories:
        """Keeps histories as `reader` reads them."""
        kind = HistoryKind(self._tails)
        return Histories(reader, self._two_levels(kind))

    def _two_levels(self, kind: Kind[Value]) -> TwoLevels[Value]:
        levels = TwoLevels(kind, self._tails, self.writes, self._metrics, self._shared)
        self._levels.append(levels)
        return levels

    def close(self) -> None:
        """Close the connections to Redis."""
        if self._shared is not None:
            self._shared.close()


def _shared(redis_url: str, metrics: Metrics) -> "Shared":
    with needing_redis():
        from store.cache.shared import Shared  # noqa: PLC0415 (its packages are an extra)
    return Shared(redis_url, metrics)


@contextmanager
def needing_redis() -> Iterator[None]:
    """Tell who imports what needs the extra packages that they are not there.

    Raises:
        InvalidSetting: they are not.
    """
    try:
        yield
    except ImportError as error:
        raise InvalidSetting(
            f"EVENT_STORE_REDIS_URL: {error.name} is not installed;"
            " run: pip install 'hindsight-event-store[redis]'"
        ) from error
