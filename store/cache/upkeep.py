"""What Redis holds of a store, for who looks after it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from store.cache.holdings import Held, Holding
from store.cache.shared import connect
from store.cache.tails import Tails
from store.database import Database
from store.errors import RedisUnavailable

PATIENCE = 5.0
"""Seconds that Redis may take to answer who looks after it."""
_BATCH = 500


class Upkeep:
    """What the operator of a store may do to its cache in Redis.

    Raises:
        InvalidSetting: the URL is none.
    """

    def __init__(self, database: Database, redis_url: str) -> None:
        self._generation = Tails(database).generation
        self._client = connect(redis_url, PATIENCE)

    def look(self) -> Held:
        """What Redis holds of the store.

        Raises:
            RedisUnavailable: it does not answer.
        """
        with self._answering():
            version = str(self._client.info("server")["redis_version"])
            found = [pair for keys in self._batches() for pair in self._weighed(keys)]
        sizes: dict[tuple[bytes, bool], list[int]] = defaultdict(list)
        current = self._generation.key.encode() + b":"
        for key, size in found:
            sizes[key.split(b":", 3)[2], key.startswith(current)].append(size)
        holdings = [
            Holding(
                kind=kind.decode(errors="replace"),
                current=is_current,
                values=len(each),
                bytes=sum(each),
            )
            for (kind, is_current), each in sorted(sizes.items(), reverse=True)
        ]
        place = self._client.connection_pool.connection_kwargs
        address = place.get("path") or f"{place.get('host')}:{place.get('port')}"
        return Held(address=address, version=version, holdings=holdings)

    def clear(self) -> int:
        """Remove all that Redis holds of the store, whatever its epoch; how many values it was.

        Raises:
            RedisUnavailable: it does not answer.
        """
        with self._answering():
            return sum(int(self._client.unlink(*keys)) for keys in self._batches())

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever is at that port
            raise RedisUnavailable(f"Redis does not answer: {error}") from error

    def _batches(self) -> Iterator[Sequence[bytes]]:
        """The keys of the store, in this place."""
        generation = self._generation
        pattern = f"{generation.store_id}:*@{generation.place}:*"
        keys = self._client.scan_iter(pattern, count=_BATCH)
        while batch := [bytes(key) for key in islice(keys, _BATCH)]:
            yield batch

    def _weighed(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """What each takes, but for those that have come to their end meanwhile."""
        with self._client.pipeline(transaction=False) as asked:
            for key in keys:
                asked.memory_usage(key)
            sizes = asked.execute()
        return ((key, size) for key, size in zip(keys, sizes, strict=True) if size is not None)
