"""The connections to Redis that commands of the cache run on."""

from collections import deque
from os import getpid
from typing import Any

from redis import ConnectionPool
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError


class Connections:
    """Connections such as a pool of redis-py makes. Safe to share between threads.

    The pool's own book-keeping for each use costs as much as Redis does.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._idle: deque[Any] = deque()

    def ask(self, *command: bytes) -> Any:
        """The answer to a command that does no harm if it is executed twice.

        Raises:
            RedisError: there is none, or it is an error.
        """
        packed = _packed(command)
        connection = self._take()
        if connection is not None:
            try:
                return self._answer(connection, packed)
            except Disconnected:
                pass  # while it was idle, as when Redis is started anew
        connection = self._pool.connection_class(**self._pool.connection_kwargs)
        connection.connect()
        return self._answer(connection, packed)

    def close(self) -> None:
        """Close those not in use."""
        while (connection := self._take()) is not None:
            connection.disconnect()

    def _take(self) -> Any:
        """A connection that is idle; None where there is none."""
        try:
            while (connection := self._idle.pop()).pid != getpid():
                pass  # before a fork this was the parent, whose it is
        except IndexError:
            return None
        return connection

    def _answer(self, connection: Any, packed: bytes) -> Any:
        try:
            connection.send_packed_command((packed,))
            answer = connection.read_response()
        except ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            connection.disconnect()  # the answer may come yet
            raise
        self._idle.append(connection)
        return answer


def _packed(command: tuple[bytes, ...]) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(part), part) for part in command]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))
