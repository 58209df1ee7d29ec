"""A topic: some streams of one Redis, the keys beside them, and the way there."""

from typing import Any
from zlib import crc32

from store.cache.cache import needing_redis
from store.errors import InvalidSetting, RedisUnavailable

with needing_redis():
    from redis.exceptions import RedisError

    from store.cache.shared import connect

PATIENCE = 5.0
"""Seconds that Redis may take to connect, and for an answer."""
REFUSALS = (RedisError, OSError)
"""What comes of a Redis that is away, full, for reading only, or none at all."""


class Topic:
    """The topic of that name in the Redis at `url`, which is not asked yet.

    Its streams are `name.0`, `name.1` and so on, one a shard; `name.shards` has their number. Safe
    to share between threads.

    Raises:
        InvalidSetting: the URL or the name is none, or the packages for Redis are not installed.
    """

    def __init__(self, url: str, name: str) -> None:
        if not name:
            raise InvalidSetting("a topic needs a name")
        self.name = name
        self.client = connect(url, PATIENCE)
        self.shards_key = f"{name}.shards"

    def stream(self, shard: int) -> str:
        """The key of a shard."""
        return f"{self.name}.{shard}"

    def group(self, group: str, what: str) -> str:
        """The key of what the consumers of a group agree upon."""
        return f"{self.name}.group.{group}.{what}"

    def run(self, script: str, keys: list[str], *arguments: str | int) -> Any:
        """What a script answers.

        Raises:
            RedisUnavailable: Redis does not answer, or refuses.
        """
        try:
            return self.client.eval(script, len(keys), *keys, *arguments)
        except REFUSALS as error:
            raise RedisUnavailable(f"topic {self.name!r}: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def shard_of(aggregate_id: str, shards: int) -> int:
    """Which shard an aggregate's events are in, in every process and on every machine."""
    return crc32(aggregate_id.encode()) % shards
