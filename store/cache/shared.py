"""The second level: what the processes of a service keep together, in Redis.

Redis may be slow, away, or full of something else: that costs time, and no answer.
"""

import logging
from collections.abc import Callable, Sequence
from hashlib import blake2b, sha1
from math import inf
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from circuitbreaker import CircuitBreaker
from redis import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from store.cache.connections import Connections
from store.errors import InvalidSetting
from store.metrics import Lookup, Metrics, Moved

T = TypeVar("T")

_log = logging.getLogger(__name__)

SECONDS = 300
"""How long something is kept, from when the database last bore it out."""
PATIENCE = 0.1
"""Seconds that Redis may take to connect, and for each part of an answer; what takes twice as long
in all counts as none."""
REST: float = 5
"""Seconds for which Redis is left alone once it has not answered."""
LARGEST = 2**20
"""Bytes; what is larger takes Redis longer than the others should wait."""

_SLOW = 2 * PATIENCE
_DIGITS = 20
_HEAD = 2 * _DIGITS + 16
"""A value begins with its version and Redis' time in ms, in digits; up to that time nothing newer
was stored. Behind them stands a digest of its key and of all the rest."""

# Redis 6.2 knows no functions; a script is one round trip, and nothing comes in between.
# What is read from the database behind an answer is at least as new as Redis' time in it.
_GET = f"""
    local now = redis.call('TIME')
    now = now[1] * 1000 + math.floor(now[2] / 1000)
    for index, key in ipairs(KEYS) do
        local size = redis.pcall('STRLEN', key)
        if type(size) == 'number' and size > 0 then
            local value = size <= {LARGEST + _HEAD} and redis.call('GET', key) or ''
            return string.format('%.0f %d ', now, index - 1) .. value
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
    if ARGV[1] == '' or redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then
        return redis.call('UNLINK', KEYS[1])
    end
    return 0
"""
_DIGESTS = {
    script: sha1(script.encode(), usedforsecurity=False).hexdigest().encode()
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
        self._connections = Connections(connect(url).connection_pool)
        self._metrics = metrics
        self._circuit = CircuitBreaker(1, REST)
        self._failed_at = -inf
        self._complained_at = -inf

    def get(self, kind: str, keys: Sequence[str]) -> tuple[Found | None, int | None]:
        """The value of the first of the keys that has one, and Redis' time in ms, if it answers."""
        started = monotonic()
        answer = self._ask(_GET, keys, read=_split)
        if answer is None:
            self._metrics.looked_up(Lookup("l2", kind, "error"))
            return None, None
        now, place, value = answer
        if place is None:
            self._metrics.looked_up(Lookup("l2", kind, "miss"))
            return None, now
        self._metrics.moved(Moved("read", len(value)))
        key, head, body = keys[place], value[:_HEAD], value[_HEAD:]
        version, at = _number(head[:_DIGITS]), _number(head[_DIGITS : 2 * _DIGITS])
        if head != _head(key, version, at, body):
            self.drop(kind, key, head)
            return None, now
        # Its clock may have been put back, and tells no part of a millisecond.
        checked_at = started - (max(now - at, 0) + 1) / 1_000
        return Found(place, key, version, body, head, checked_at, started), now

    def put(self, key: str, version: int, body: bytes, at: int) -> None:
        """Keep a value, but where a newer version is kept.

        Nothing newer was stored at Redis' time `at`, in ms.
        """
        if len(body) > LARGEST:
            return
        value = _head(key, version, at, body) + body
        more = (value[:_DIGITS], value, at + 1_000 * SECONDS)
        if self._ask(_SET_IF_NEWER, [key], *more, read=int):
            self._metrics.moved(Moved("written", len(value)))

    def drop(self, kind: str, key: str, head: bytes) -> None:
        """Keep a value no more that begins like that: it is not what the database bears out."""
        self._metrics.looked_up(Lookup("l2", kind, "dropped"))
        self._ask(_DROP, [key], head, read=int)

    def is_away(self) -> bool:
        """Whether Redis is left alone just now, as it did not answer."""
        return bool(self._circuit.opened)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _ask(
        self, script: str, keys: Sequence[str], *more: bytes | int, read: Callable[[Any], T]
    ) -> T | None:
        """What is read in a script's answer; None where Redis has none."""
        if self._circuit.opened:
            return None
        started, was_away = monotonic(), self._failed_at > -inf
        try:
            with self._circuit:
                answer = self._answer(script, keys, *more, read=read)
                self._check_pace(started)
        except Exception as error:  # noqa: BLE001 (who knows what is at that port, and what redis-py makes of it)
            self._failed_at = monotonic()
            self._complain(f"is left alone for {REST:g} s: {error}")
            return None
        if was_away and answer is not None:
            self._failed_at = -inf
            _log.warning("Redis answers again")
        return answer

    def _answer(
        self, script: str, keys: Sequence[str], *more: bytes | int, read: Callable[[Any], T]
    ) -> T | None:
        try:
            return read(self._run(script, keys, *more))
        except ResponseError as error:  # full, for reading only, …: it may answer the next question
            self._complain(f"refused: {error}")
        return None

    def _check_pace(self, started: float) -> None:
        """Raise where the answer came too late, or was asked for before Redis ceased to answer."""
        took = monotonic() - started
        if took > _SLOW:
            raise TimeoutError(f"it took {took:.1f} s")
        if started < self._failed_at:
            raise TimeoutError("others had no answer meanwhile")

    def _run(self, script: str, keys: Sequence[str], *more: bytes | int) -> Any:
        arguments = (b"%d" % len(keys), *map(str.encode, keys), *map(_argument, more))
        try:
            return self._connections.ask(b"EVALSHA", _DIGESTS[script], *arguments)
        except NoScriptError:  # it was started anew, or told to forget
            return self._connections.ask(b"EVAL", script.encode(), *arguments)

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
    settings: dict[str, Any] = {
        "socket_timeout": patience,
        "socket_connect_timeout": patience,
        "retry_on_timeout": False,
        "decode_responses": False,
    }
    try:
        client = Redis.from_url(url, protocol=2, driver_info=None)
        pool = client.connection_pool
        # What stands in the URL would win over what is given beside it.
        pool.connection_kwargs |= settings
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, AttributeError, RedisError):
        # Its own message may have a part of the password in it.
        raise InvalidSetting(
            "EVENT_STORE_REDIS_URL: no URL of a Redis; use redis://HOST:PORT/0, and escape / # ? @"
            " in a password"
        ) from None
    return client


def _argument(value: bytes | int) -> bytes:
    return value if isinstance(value, bytes) else b"%d" % value


def _split(answer: Any) -> tuple[int, int | None, bytes]:
    """Redis' time in ms, which key has a value, and the value."""
    now, *found = answer.split(b" ", 2)
    return (int(now), int(found[0]), found[1]) if found else (int(now), None, b"")


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) == _DIGITS else 0


def _head(key: str, version: int, at: int, body: bytes) -> bytes:
    digits = b"%020d%020d" % (version, at)
    whole = b"\0".join((digits, key.encode(), body))
    return digits + blake2b(whole, digest_size=_HEAD - len(digits)).digest()
