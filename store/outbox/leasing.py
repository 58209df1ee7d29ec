"""Who reads which shard: leases in Redis, one consumer of a group to a shard at a time."""

from collections.abc import Mapping

from store.outbox.topic import Topic

# Shares follow from the names of who lives, so nobody negotiates: of three consumers the first has
# shards 0, 3, 6 and so on. What is somebody else's share is given back, and taken once it is free.
# A full Redis refuses what may need memory unless the script has written before; removing first,
# consumers go on there, and let go of what fills it.
# The token of a later holder is higher, also in a Redis that was emptied: it is the time in µs.
_SHARE = """
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local me, ends, takes = ARGV[1], now + ARGV[2], ARGV[3] == 'take'
    redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
    redis.call('ZADD', KEYS[2], ends, me)
    local names = redis.call('ZRANGE', KEYS[2], 0, -1)
    table.sort(names)
    local held = {}
    for shard = 0, (tonumber(redis.call('GET', KEYS[1])) or 0) - 1 do
        local lease = redis.call('HGET', KEYS[3], shard) or '0 0 '
        local token, until_, owner = string.match(lease, '^(%d+) (%d+) (.*)$')
        local mine = names[shard % #names + 1] == me
        if owner ~= me and takes and mine and tonumber(until_) <= now then
            token = string.format('%.0f', math.max(token + 1, time[1] * 1000000 + time[2]))
            owner = me
        elseif owner == me and takes and not mine then
            redis.call('HDEL', KEYS[3], shard)
            owner = ''
        end
        if owner == me then
            redis.call('HSET', KEYS[3], shard, string.format('%s %.0f %s', token, ends, me))
            table.insert(held, shard)
            table.insert(held, token)
        end
    end
    return held
"""
_LEAVE = """
    redis.call('ZREM', KEYS[1], ARGV[1])
    local leases = redis.call('HGETALL', KEYS[2])
    for place = 1, #leases, 2 do
        if string.match(leases[place + 1], '^%d+ %d+ (.*)$') == ARGV[1] then
            redis.call('HDEL', KEYS[2], leases[place])
        end
    end
"""
HOLDS = """
    local function holds(leases, shard, token)
        local lease = redis.call('HGET', leases, shard)
        return lease and string.match(lease, '^%d+') == token
    end
"""
"""For scripts: whether a shard's lease is still the one of that token."""


class Leases:
    """The shards that the consumer `name`, which nobody else has, holds for its group.

    Safe to share between threads.
    """

    def __init__(self, topic: Topic, group: str, name: str, seconds: float) -> None:
        self.key = topic.group(group, "leases")
        self._topic = topic
        self._members = topic.group(group, "members")
        self._name = name
        self._milliseconds = int(seconds * 1_000)

    def share(self) -> Mapping[int, int]:
        """Renew, give back and take, so that each live consumer has its share; tokens by shard.

        Raises:
            RedisUnavailable: Redis does not answer, or refuses.
        """
        return self._ask("take")

    def renew(self) -> None:
        """Renew what is held; raises as `share` does."""
        self._ask("renew")

    def leave(self) -> None:
        """Give everything back; raises as `share` does."""
        self._topic.run(_LEAVE, [self._members, self.key], self._name)

    def _ask(self, what: str) -> Mapping[int, int]:
        keys = [self._topic.shards_key, self._members, self.key]
        told = self._topic.run(_SHARE, keys, self._name, self._milliseconds, what)
        return {shard: int(token) for shard, token in zip(told[::2], told[1::2], strict=True)}
