"""Consuming a topic of Redis Streams: in order, at least once, each shard by one at a time.

A consumer of a group holds leases on shards; reading and acknowledging ask in Redis whether it
still does. What was read and not acknowledged, by whomever, comes before anything new.
"""

import logging
import os
import platform
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any
from uuid import uuid4

from msgspec import Struct

from store.errors import RedisUnavailable
from store.outbox.leasing import HOLDS, Leases
from store.outbox.message import Entry, Message, read_entry
from store.outbox.topic import REFUSALS, Topic

__all__ = ["ATTEMPTS", "LEASE", "Consumer", "Counts", "Handler", "Held", "Message"]

_log = logging.getLogger(__name__)

Handler = Callable[[Message], object]

LEASE = 30.0
"""Seconds after which others take over from a consumer that died."""
ATTEMPTS = 4
"""As many are logged one by one; from then on the shard counts as held, and goes on trying."""
FIRST_DELAY = 1.0
"""Seconds until the second attempt; each further one waits twice as long."""
LONGEST_DELAY = 60.0
BATCH = 100
"""Entries that are read of a shard at once."""
_ATTENTION = 0.25
"""Seconds within which a waiting consumer sees that it is to stop."""
_RECONNECT = 0.5
_FIRST_SHARD = 0.5
"""Seconds between two looks of who has no shard yet, or of whose topic there is nothing yet."""

# What is pending is claimed one by one: Redis 6.2 has XAUTOCLAIM, but does not tell by it which
# entries are gone from the stream, and those would be pending for ever.
_READ = f"""
    {HOLDS}
    local stream, group, me, most = KEYS[1], ARGV[3], ARGV[4], ARGV[5]
    if not holds(KEYS[2], ARGV[1], ARGV[2]) then
        return false
    end
    local found = redis.pcall('XPENDING', stream, group, '-', '+', most)
    if found.err then
        -- Its first write may need no memory, or a full Redis refuses.
        redis.call('HDEL', KEYS[2], '')
        redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
        found = {{}}
    end
    local entries = {{}}
    for _, each in ipairs(found) do
        local claimed = redis.call('XCLAIM', stream, group, me, 0, each[1])[1]
        if claimed then
            table.insert(entries, claimed)
        else
            redis.call('XACK', stream, group, each[1])
        end
    end
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
        if each[2] ~= me and each[4] == 0 then
            redis.call('XGROUP', 'DELCONSUMER', stream, group, each[2])
        end
    end
    if #found == 0 then
        local read = redis.call('XREADGROUP', 'GROUP', group, me, 'COUNT', most,
            'STREAMS', stream, '>')
        entries = read and read[1][2] or {{}}
    end
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    return {{newest and newest[1] or '0-0', entries}}
"""
_ACKNOWLEDGE = f"""
    {HOLDS}
    return holds(KEYS[2], ARGV[1], ARGV[2]) and redis.call('XACK', KEYS[1], ARGV[3], ARGV[4])
"""


class Held(Struct, frozen=True, kw_only=True):
    """A shard that waits for its first entry to be handled, how often that failed, and why."""

    shard: int
    entry_id: str
    attempts: int
    error: str


class Counts(Struct, frozen=True, kw_only=True):
    """What a consumer did since it was made; `lost` counts leases that others had meanwhile."""

    handled: int = 0
    failed: int = 0
    lost: int = 0


class _Shard:
    """A shard in hand: what was read of it and is still to be handled, and what failed first."""

    def __init__(self, number: int, token: int) -> None:
        self.number = number
        self.token = token
        self.entries: deque[Entry] = deque()
        self.newest = b"0-0"
        self.failing = b""
        self.attempts = 0
        self.retry_at = -inf
        self.error = ""

    @property
    def is_waiting(self) -> bool:
        return monotonic() < self.retry_at

    def settle(self) -> None:
        """What failed did so no more, or is gone."""
        self.failing, self.attempts, self.retry_at, self.error = b"", 0, -inf, ""


class Consumer:
    """Handles a topic's events for a group; of a consumer each thread has its own.

    Any number may run, in any number of processes: a shard is with one of them, the shards are
    shared out, and who dies is replaced after its lease, of so many seconds. `handler` is given the
    events of an aggregate in the order of their versions. What it raises holds its shard: the event
    is tried again, at first after `first_delay` seconds, and nothing behind it is; so it goes on
    until it is handled. An event may come again: see `Inbox`. `name` is what Redis and the log call
    it, with some letters behind.

    Raises:
        InvalidSetting: the URL is none, or the packages for Redis are not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        topic: str,
        group: str,
        handler: Handler,
        name: str | None = None,
        lease: float = LEASE,
        first_delay: float = FIRST_DELAY,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = f"{name or f'{platform.node()}:{os.getpid()}'}:{uuid4().hex[:8]}"
        self.counts = Counts()
        self._topic = Topic(url, topic)
        self._group = group
        self._handler = handler
        self._leases = Leases(self._topic, group, self.name, lease)
        self._renew_every = lease / 3
        self._first_delay = first_delay
        self._chance = chance
        self._shards: dict[int, _Shard] = {}
        self._share_at = -inf
        self._stop = threading.Event()

    @property
    def held(self) -> tuple[Held, ...]:
        """The shards that wait for an event that could not be handled yet."""
        return tuple(
            Held(
                shard=shard.number,
                entry_id=shard.failing.decode(),
                attempts=shard.attempts,
                error=shard.error,
            )
            for shard in self._shards.values()
            if shard.attempts
        )

    @property
    def shards(self) -> frozenset[int]:
        """Those it holds."""
        return frozenset(self._shards)

    def once(self) -> int:
        """Handle what is there of its shards, some of each; how many events.

        Only `run` renews leases while a handler works.

        Raises:
            RedisUnavailable: Redis does not answer, or refuses.
        """
        handled = self.counts.handled
        if monotonic() >= self._share_at:
            self._share()
        for shard in list(self._shards.values()):
            if self._may_go_on():
                self._shards[shard.number] = self._shards.pop(shard.number)  # next time last
                self._work(shard)
        return self.counts.handled - handled

    def run(self, stop: threading.Event) -> None:
        """Handle events as they come until `stop` is set.

        What is under way is finished, and the shards are free for others. While Redis is away it is
        asked again and again.
        """
        self._stop = stop
        with self._renewing():
            while not stop.is_set():
                try:
                    if not self.once():
                        self._wait()
                except RedisUnavailable as error:
                    _log.warning("consumer %s waits for Redis: %s", self.name, error)
                    stop.wait(_RECONNECT)
        self.leave()
        self._stop = threading.Event()

    def leave(self) -> None:
        """Have others take over at once."""
        self._shards.clear()
        self._share_at = -inf
        try:
            self._leases.leave()
        except RedisUnavailable as error:
            _log.warning("others wait for the leases of %s to end: %s", self.name, error)

    def close(self) -> None:
        """Close the connections."""
        self._topic.close()

    def _share(self) -> None:
        asked_at = monotonic()
        tokens = self._leases.share()
        kept = {
            number: shard
            for number, shard in self._shards.items()
            if tokens.get(number) == shard.token
        }
        new = tokens.keys() - kept.keys()
        self._shards = kept | {number: _Shard(number, tokens[number]) for number in sorted(new)}
        pause = self._renew_every if tokens else min(self._renew_every, _FIRST_SHARD)
        self._share_at = asked_at + pause

    def _may_go_on(self) -> bool:
        """Whether another event may be handled before shards are shared out again.

        That is long before a lease ends.
        """
        return not self._stop.is_set() and monotonic() < self._share_at

    def _work(self, shard: _Shard) -> None:
        if shard.is_waiting or not self._has_entries(shard):
            return
        while shard.entries and self._may_go_on():
            if not self._handle(shard):
                return
            if not self._acknowledge(shard):
                self._lose(shard)
                return

    def _has_entries(self, shard: _Shard) -> bool:
        if not shard.entries:
            options = (shard.number, shard.token, self._group, self.name, BATCH)
            read = self._run(_READ, shard, *options)
            if read is None:
                self._lose(shard)
                return False
            shard.newest = read[0]
            shard.entries.extend((entry_id, fields) for entry_id, fields in read[1])
            if not shard.entries or shard.entries[0][0] != shard.failing:
                shard.settle()
        return bool(shard.entries)

    def _handle(self, shard: _Shard) -> bool:
        """Whether the first entry took its effect."""
        entry = shard.entries[0]
        try:
            self._handler(read_entry(entry, shard=shard.number, token=shard.token))
        except Exception as error:  # noqa: BLE001 (handlers are somebody else's code)
            self._hold(shard, error)
            return False
        self.counts = _more(self.counts, handled=1)
        return True

    def _hold(self, shard: _Shard, error: Exception) -> None:
        self.counts = _more(self.counts, failed=1)
        shard.attempts += 1
        shard.error = f"{type(error).__name__}: {error}"
        delay = _delay_behind(shard.attempts, self._first_delay, self._chance())
        shard.retry_at = monotonic() + delay
        shard.failing = shard.entries[0][0]
        shard.entries.clear()  # read again, for somebody may remove it
        told = (self._topic.stream(shard.number), shard.failing.decode(), shard.attempts)
        if shard.attempts < ATTEMPTS:
            _log.warning("%s entry %s failed, attempt %d", *told, exc_info=error)
        elif shard.attempts == ATTEMPTS:
            _log.error(
                "%s entry %s failed %d times: group %r handles nothing behind it until it succeeds",
                *told,
                self._group,
                exc_info=error,
            )

    def _acknowledge(self, shard: _Shard) -> bool:
        """Whether Redis took it from the holder of the lease."""
        entry_id = shard.entries[0][0]
        done = self._run(
            _ACKNOWLEDGE, shard, shard.number, shard.token, self._group, entry_id.decode()
        )
        if done is None:
            return False
        shard.entries.popleft()
        shard.settle()
        return True

    def _run(self, script: str, shard: _Shard, *arguments: str | int) -> Any:
        keys = [self._topic.stream(shard.number), self._leases.key]
        return self._topic.run(script, keys, *arguments)

    def _lose(self, shard: _Shard) -> None:
        _log.warning("consumer %s has lost its lease on shard %d", self.name, shard.number)
        self.counts = _more(self.counts, lost=1)
        del self._shards[shard.number]
        self._share_at = -inf

    def _wait(self) -> None:
        """Wait until there is something to read or to try again, but not for long."""
        now = monotonic()
        waiting = [shard.retry_at for shard in self._shards.values() if shard.is_waiting]
        seconds = max(min(_ATTENTION, *(at - now for at in [self._share_at, *waiting])), 0.001)
        streams: dict[Any, Any] = {
            self._topic.stream(shard.number): shard.newest
            for shard in self._shards.values()
            if not shard.is_waiting
        }
        if not streams:
            self._stop.wait(seconds)
            return
        try:
            self._topic.client.xread(streams, count=1, block=max(int(seconds * 1_000), 1))
        except REFUSALS as error:
            raise RedisUnavailable(str(error)) from error

    @contextmanager
    def _renewing(self) -> Iterator[None]:
        """Renew the leases meanwhile, however long a handler takes."""
        done = threading.Event()
        thread = threading.Thread(
            target=self._renew_until, args=(done,), name="hindsight-leases", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _renew_until(self, done: threading.Event) -> None:
        while not done.wait(self._renew_every):
            try:
                self._leases.renew()
            except RedisUnavailable as error:
                _log.warning("the leases of %s are not renewed: %s", self.name, error)


def _more(counts: Counts, *, handled: int = 0, failed: int = 0, lost: int = 0) -> Counts:
    return Counts(
        handled=counts.handled + handled,
        failed=counts.failed + failed,
        lost=counts.lost + lost,
    )


def _delay_behind(attempt: int, first: float, chance: float) -> float:
    """Seconds to wait behind a failed attempt: half of them fixed, half by chance in [0, 1)."""
    return min(first * 2.0 ** min(attempt - 1, 32), LONGEST_DELAY) * (1 + chance) / 2
