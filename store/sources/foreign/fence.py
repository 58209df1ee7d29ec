"""How far a table that others write to may be read without missing a row that commits late.

A writer locks the table before it draws a position. Once those are gone that wrote when a position
was the last to be seen, nothing can appear up to it any more.
"""

from threading import Lock

from store.database import Database
from store.records import Watermark

LATE = 100_000
"""Positions at the end that are not taken for settled while somebody writes at the first look."""

_WRITERS = """
    SELECT pg_is_in_recovery(), array(
        SELECT DISTINCT virtualtransaction FROM pg_locks
        WHERE locktype = 'relation' AND relation = %(oid)s::bigint::oid
        AND mode = 'RowExclusiveLock' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
"""


class Fence:
    """The settled position of a table. Safe to share between threads."""

    def __init__(self, database: Database, *, oid: int, last: str) -> None:
        self._database = database
        self._oid = oid
        self._last = last
        self._settled: int | None = None
        self._awaited: tuple[int, frozenset[str]] | None = None
        self._lock = Lock()

    def read(self) -> Watermark:
        """The watermark now, without waiting for anybody who writes; a replica shows no writers."""
        with self._lock:
            # In this order: whoever locks the table after we looked draws a higher position.
            [(last,)] = self._database.rows(self._last, {})
            [(is_replica, found)] = self._database.rows(_WRITERS, {"oid": self._oid})
            writers = frozenset[str]() if is_replica else frozenset(found)
            self._settled = self._pass(last, writers)
            return Watermark(position=self._settled, holder=None)

    def _pass(self, last: int, writers: frozenset[str]) -> int:
        settled = max(last - LATE, 0) if self._settled is None else self._settled
        if not writers:
            self._awaited = None
            return last
        noted, awaited = self._awaited or (last, writers)
        awaited &= writers
        if awaited:
            self._awaited = noted, awaited
            return settled
        self._awaited = last, writers
        return max(settled, noted)
