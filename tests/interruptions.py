"""Having something happen between any two statements of a store."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Generic, TypeVar

import psycopg
import pytest
from msgspec import Struct
from sqlalchemy.event import listen

from store import Hindsight
from store.database.prepared import Prepared

T = TypeVar("T")


class Came(Struct, Generic[T], frozen=True):
    """What an action came to; `at` is the statement before which something happened."""

    at: int
    result: T


class Interruptions:
    """Counts what stores say to their databases, in this thread, and interrupts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *stores: Hindsight) -> None:
        self._thread: int | None = None
        self._left = 0
        self._intrude: Callable[[], object] = lambda: None
        self._error: BaseException | None = None
        for kind, name in ((psycopg.Cursor, "execute"), (Prepared, "rows")):
            monkeypatch.setattr(kind, name, self._before(getattr(kind, name)))
        monkeypatch.setattr(psycopg.Connection, "commit", self._before(psycopg.Connection.commit))
        for store in stores:
            self.watch(store)

    def watch(self, store: Hindsight) -> None:
        """Count what this one says, too."""
        store.database.connections.close()
        listen(store.database.engine, "connect", self._trace)

    def each(
        self, action: Callable[[], T], intrude: Callable[[], object], *, again: Callable[[], object]
    ) -> Iterator[Came[T]]:
        """What the action comes to, time after time, with something else before each statement.

        `again` puts everything back as it was before.
        """
        for at in count():
            came, happened = self.once(action, intrude, at)
            if not happened:
                return
            yield Came(at, came)
            again()

    def once(
        self, action: Callable[[], T], intrude: Callable[[], object], at: int
    ) -> tuple[T, bool]:
        """What the action comes to, and whether there was such a statement."""
        self._left, self._intrude, self._error = at, intrude, None
        self._thread = threading.get_ident()
        try:
            result = action()
        finally:
            happened, self._thread = self._thread is None, None
            if self._error is not None:
                raise self._error
        return result, happened

    def _trace(self, connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_trace_callback(lambda _statement: self._step())

    def _before(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            self._step()
            return method(*given, **named)

        return counted

    def _step(self) -> None:
        if self._thread != threading.get_ident():
            return
        self._left -= 1
        if self._left >= 0:
            return
        self._thread = None
        try:
            self._intrude()
        except BaseException as error:  # noqa: BLE001 (a trace has nobody to raise to)
            self._error = error
