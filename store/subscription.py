"""Following the feed without missing an event that commits late.

A position is drawn before its transaction commits, so 43 may be visible while 42 is not. Rows that
follow one another without a hole hide nothing. At a hole the reader notes the last position drawn
and then the transactions that write to the events table; once none of those is left, whatever is
still missing up to that position was rolled back. A transaction that starts writing later draws a
higher position. Nobody is locked, and a transaction that does not append is not waited for.
"""

import threading
import time
from collections.abc import Iterator

from store.database import Database
from store.errors import DatabaseBusy
from store.log import EventLog
from store.records import Event, FeedFilter
from store.sources import EVERYTHING

LOOK_AHEAD = 5_000
"""Positions looked at for a hole in one query."""


class SafeBound:
    """How far the feed may be read. One reader's own; not to be shared between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settled = 0
        self._fence: tuple[int, frozenset[str]] | None = None

    def beyond(self, position: int) -> int:
        """The highest position, from `position` on, up to which nothing can appear any more.

        Never waits: answers `position` itself while a writer may still fill the next one.
        """
        if self._settled > position:
            return self._settled
        contiguous = self._contiguous(position)
        if contiguous > position:
            return contiguous
        self._settled = self._pass_fence(position)
        return self._settled

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


def follow(
    log: EventLog,
    *,
    after: int = 0,
    where: FeedFilter = EVERYTHING,
    poll_interval: float = 0.2,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Every event after a position, in order, for ever or until `stop` is set.

    An aggregate's events come in version order, and none is skipped however late it commits.
    `poll_interval` is in seconds.
    """
    stop = stop or threading.Event()
    bound = SafeBound(log.database)
    position = after
    while not stop.is_set():
        safe = bound.beyond(position)
        if safe > position:
            yield from log.feed(after=position, before=safe + 1, where=where)
            position = safe
        else:
            stop.wait(poll_interval)


def settled_position(log: EventLog, *, timeout: float = 30.0, poll_interval: float = 0.02) -> int:
    """The last position drawn, once nothing can appear before it any more.

    Raises:
        DatabaseBusy: a transaction that appends stayed open for `timeout` seconds.
    """
    database = log.database
    last, awaited = database.last_position(), database.writers()
    deadline = time.monotonic() + timeout
    while awaited:
        if time.monotonic() > deadline:
            raise DatabaseBusy(f"a transaction that appends stays open for over {timeout:.0f} s")
        time.sleep(poll_interval)
        awaited &= database.writers()
    return last
