"""The second level: what the processes of a service keep together, in Redis.

Redis may be slow, away, or full of something else: that costs time, and no answer.
"""

import logging
from collections.abc import Sequence
from hashlib import blake2b, sha1
from math import inf
from time import monotonic
from typing import Any, NamedTuple

import redis.exceptions
from circuitbreaker import CircuitBreaker
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from store.errors import InvalidSetting
from store.metrics import Lookup, Metrics, Moved

_log = logging.getLogger(__name__)

SECONDS = 300
"""How long something is kept, from when the database last bore it out."""
PATIENCE = 0.1
"""Seconds that Redis may take to connect, and to answer."""
REST: float = 5
"""Seconds for which Redis is left alone once it has not answered."""
LARGEST = 2**20
"""Bytes; what is larger takes Redis longer than the others should wait."""

_AWAY = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
_DIGITS = 20
_HEAD = _DIGITS + 16
"""A value begins with its version, in digits, and a digest of its key and all the rest."""

# Redis 6.2 knows no functions; a script is one round trip, and nothing comes in between.
# What is read from the database behind an answer is at least as new as Redis' time in it.
_GET = """
    local now = redis.call('TIME')
    now = now[1] * 1000 + math.floor(now[2] / 1000)
    for index, key in ipairs(KEYS) do
        local value = redis.pcall('GET', key)
        if type(value) == 'string' then
            return string.format('%.0f %d %d ', now, redis.call('PTTL', key), index - 1) .. value
        end
    end
    return string.format('%.0f', now)
"""
# Until a moment, not for a while: who knows when Redis comes to do it.
_SET_IF_NEWER = """
    local kept = redis.pcall('GETRANGE', KEYS[1], 0, 19)
    if type(kept) == 'string' and #kept == 20 and not string.find(kept, '%D') and kept > ARGV[1]
    then
        return 0
    end
    redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
    return 1
"""
_DROP = """
    if redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then
        return redis.call('UNLINK', KEYS[1])
    end
    return 0
"""
_DIGESTS = {
    script: sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (_GET, _SET_IF_NEWER, _DROP)
}
"""By which Redis knows a script that it was sent before."""


class Found(NamedTuple):
    """A value, which of the keys asked for it is, and its head.

    `checked_at` is the monotonic time up to which nothing newer was stored, `asked_at` that of the
    question.
    """

    place: int
    key: str
    version: int
    body: bytes
    head: bytes
    checked_at: float
    asked_at: float


class Shared:
    """Values in Redis by key, each of a version. Safe to share between threads.

    Raises:
        InvalidSetting: the URL is none.
    """

    def __init__(self, url: str, metrics: Metrics) -> None:
        self.client = connect(url)
        self._metrics = metrics
        self._circuit = CircuitBreaker(1, REST, _AWAY)
        self._is_away = False
        self._complained_at = -inf

    def get(self, kind: str, keys: Sequence[str]) -> tuple[Found | None, int | None]:
        """The value of the first of the keys that has one, and Redis' time in ms, if it answers."""
        started = monotonic()
        answer = self._ask(_GET, keys)
        if answer is None:
            self._metrics.looked_up(Lookup("l2", kind, "error"))
            return None, None
        now, *found = answer.split(b" ", 3)
        if not found:
            self._metrics.looked_up(Lookup("l2", kind, "miss"))
            return None, int(now)
        left, place, value = int(found[0]), int(found[1]), found[2]
        self._metrics.moved(Moved("read", len(value)))
        key, head, body = keys[place], value[:_HEAD], value[_HEAD:]
        version = _version(head)
        if head != _head(key, version, body):
            self.drop(kind, key, head)
            return None, int(now)
        # Where somebody else has set how long it is kept, nobody knows how old it is.
        is_ours = 0 <= left <= 1_000 * SECONDS
        age = SECONDS - (left - 1) / 1_000 if is_ours else SECONDS
        return Found(place, key, version, body, head, started - age, started), int(now)

    def put(self, key: str, version: int, body: bytes, at: int) -> None:
        """Keep a value, but where a newer version is kept.

        Nothing newer was stored at Redis' time `at`, in ms.
        """
        if len(body) > LARGEST:
            return
        value = _head(key, version, body) + body
        if self._ask(_SET_IF_NEWER, [key], value[:_DIGITS], value, at + 1_000 * SECONDS):
            self._metrics.moved(Moved("written", len(value)))

    def drop(self, kind: str, key: str, head: bytes) -> None:
        """Keep a value no more that begins like that: it is not what the database bears out."""
        self._metrics.looked_up(Lookup("l2", kind, "dropped"))
        self._ask(_DROP, [key], head)

    def is_away(self) -> bool:
        """Whether Redis is left alone just now, as it did not answer."""
        return self._is_away and self._circuit.opened

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _ask(self, script: str, keys: Sequence[str], *more: bytes | int) -> Any:
        """What a script answers; None where Redis does not."""
        if self._circuit.opened:
            return None
        try:
            with self._circuit:
                answer = self._run(script, keys, *more)
        except _AWAY as error:
            self._is_away = True
            self._complain(f"is left alone for {REST:g} s: {error}")
            return None
        except RedisError as error:  # full, for reading only, …: it may answer the next question
            self._complain(f"refused: {error}")
            return None
        if self._is_away:
            self._is_away = False
            self._complained_at = -inf
            _log.warning("Redis answers again")
        return answer

    def _run(self, script: str, keys: Sequence[str], *more: bytes | int) -> Any:
        try:
            return self.client.evalsha(_DIGESTS[script], len(keys), *keys, *more)
        except NoScriptError:  # it was started anew, or told to forget
            return self.client.eval(script, len(keys), *keys, *more)

    def _complain(self, what: str) -> None:
        """Log it, but not for each thread that has met it."""
        if monotonic() - self._complained_at >= REST:
            self._complained_at = monotonic()
            _log.warning("Redis %s", what)


def connect(url: str, patience: float = PATIENCE) -> Redis:
    """A client of the Redis at a URL, which is not asked yet; `patience` is in seconds.

    Raises:
        InvalidSetting: it is no URL of one.
    """
    try:
        client = Redis.from_url(
            url,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
    except (ValueError, TypeError) as error:
        raise InvalidSetting(f"EVENT_STORE_REDIS_URL: {error}") from None
    return client


def _version(head: bytes) -> int:
    digits = head[:_DIGITS]
    return int(digits) if digits.isdigit() and len(digits) == _DIGITS else -1


def _head(key: str, version: int, body: bytes) -> bytes:
    digits = b"%020d" % max(version, 0)
    whole = b"\0".join((digits, key.encode(), body))
    return digits + blake2b(whole, digest_size=_HEAD - _DIGITS).digest()
