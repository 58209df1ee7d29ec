"""How far a feed may be read without missing an event that commits late.

A position is drawn before its transaction commits, so 43 may be visible while 42 is not. Rows that
follow one another without a hole hide nothing. At a hole the reader notes the last position drawn
and then the transactions that write to the events table; once none of those is left, whatever is
still missing up to that position was rolled back. A transaction that starts writing later draws a
higher position. Nobody is locked, and a transaction that does not append is not waited for.
"""

from threading import Lock

from store.database import Database
from store.records import Watermark

_ARCHIVED = "SELECT coalesce(max(last_position), 0) FROM archive_batches"

LOOK_AHEAD = 5_000
"""Positions looked at for a hole in one query."""


class SafeBound:
    """How far the feed may be read. One reader's own; not to be shared between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settled = 0
        self._fence: tuple[int, frozenset[str]] | None = None

    def beyond(self, position: int) -> int:
        """A position, from `position` on, up to which nothing can appear any more.

        At most `LOOK_AHEAD` further, as a database that is asked for a long range may read all of
        it for its beginning. Never waits: answers `position` itself while a writer may still fill
        the next one.
        """
        if self._settled <= position:
            self._settled = self._contiguous(position)
            if self._settled == position:
                # What is archived was settled before.
                [(archived,)] = self._database.rows(_ARCHIVED, {}, at_once=True)
                self._settled = max(position, archived)
            # Who is far behind need not look through all there is, if nobody writes just now.
            if self._settled - position in {0, LOOK_AHEAD}:
                self._settled = max(self._settled, self._pass_fence(position))
        return min(self._settled, position + LOOK_AHEAD)

    def awaited(self) -> frozenset[str]:
        """The writers that hold the reader, where `beyond` has just gone no further."""
        return frozenset() if self._fence is None else self._fence[1]

    def _contiguous(self, position: int) -> int:
        database = self._database
        [(last,)] = database.rows(
            f"""
            SELECT max(position) FROM (
                SELECT position, row_number() OVER (ORDER BY position) AS number FROM (
                    SELECT position FROM events WHERE position > {database.bind("after")}
                    ORDER BY position LIMIT {database.bind("limit")}
                ) AS ahead
            ) AS numbered WHERE position - number = {database.bind("after")}
            """,  # noqa: S608 (placeholders)
            {"after": position, "limit": LOOK_AHEAD},
        )
        return position if last is None else int(last)

    def _pass_fence(self, position: int) -> int:
        if self._fence is None or self._fence[0] <= position:
            # In this order: who takes the table's lock after we looked draws a higher position.
            last = self._database.last_position()
            if last <= position:
                return position
            self._fence = (last, self._database.writers())
        else:
            last, awaited = self._fence
            self._fence = (last, awaited & self._database.writers())
        last, awaited = self._fence
        if awaited:
            return position
        self._fence = None
        return last


class Gauge:
    """How far followers may read that keep up with the store. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bound = SafeBound(database)
        self._position = 0
        self._held_at: int | None = None
        self._lock = Lock()

    def read(self) -> Watermark:
        """The watermark now, without waiting for anybody who writes."""
        database = self._database
        if database.is_replica():
            return Watermark(position=database.visible_position(), holder=None)
        with self._lock:
            # In this order, as at a fence.
            last, writers = database.last_position(), database.writers()
            position = self._settled(last, writers) if writers else last
            awaited = self._bound.awaited() if position < last else frozenset[str]()
            self._position = max(self._position, position)
            self._held_at = position if awaited else None
        return Watermark(position=position, holder=database.oldest(awaited) if awaited else None)

    def _settled(self, last: int, writers: frozenset[str]) -> int:
        """How far up to `last` a reader gets while these write."""
        position = self._position
        if last - position > LOOK_AHEAD and position != self._held_at:
            # Too much to look through for a hole, and a hole far back may be none of theirs.
            position = max(position, self._database.drawn_before(writers))
        while position < last and (further := self._bound.beyond(position)) > position:
            position = further
        return position
