"""The pooled connections that hot statements run on."""

from collections import deque
from collections.abc import Callable
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from store.errors import DatabaseBusy

T = TypeVar("T")

POOL_SIZE = 10
MAX_OVERFLOW = 20


class Connections:
    """The connections of an engine. Safe to share between threads.

    As many as the pool would keep open stay checked out between two uses: the pool's own
    book-keeping for each use costs more than encoding an event does.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle: deque[PoolProxiedConnection] = deque()

    @property
    def in_use(self) -> int:
        """How many connections run something just now, whoever took them."""
        return self._pool.checkedout() - len(self._idle)

    @property
    def _pool(self) -> QueuePool:
        return cast("QueuePool", self._engine.pool)

    def take(self) -> PoolProxiedConnection:
        """A connection, opened where none is idle; the driver's errors are the caller's.

        Raises:
            DatabaseBusy: as many as are allowed were in use for 30 seconds.
        """
        try:
            return self._idle.pop()
        except IndexError:
            pass
        return self._from_pool(self._engine.raw_connection)

    def connect(self) -> Connection:
        """A connection with SQLAlchemy's face, to be closed; raises as `take` does."""
        if self._is_exhausted():
            self._release_idle()
        return self._from_pool(self._engine.connect)

    def give_back(self, connection: PoolProxiedConnection) -> None:
        """Keep what was taken for its next use, but for one that is broken or too many.

        Where all are taken somebody may be waiting, and only the pool can tell whom to wake.
        """
        if connection.is_valid and len(self._idle) < POOL_SIZE and not self._is_exhausted():
            self._idle.append(connection)
        else:
            connection.close()

    def _is_exhausted(self) -> bool:
        # The first question takes no lock; only where all connections exist can all be taken.
        pool = self._pool
        return pool.overflow() >= MAX_OVERFLOW and pool.checkedout() >= POOL_SIZE + MAX_OVERFLOW

    def close(self) -> None:
        """Close those not in use, here and in the pool."""
        self._release_idle()
        self._engine.dispose()

    def _release_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _from_pool(self, take: Callable[[], T]) -> T:
        try:
            return take()
        except PoolTimeout as error:
            raise DatabaseBusy(
                f"all {POOL_SIZE + MAX_OVERFLOW} connections of this process have been in use"
                " for 30 s"
            ) from error
