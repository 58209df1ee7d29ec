"""Following the feed without missing an event that commits late."""

import threading
import time
from collections.abc import Iterator

from store.database.fence import SafeBound
from store.errors import DatabaseBusy
from store.log import EventLog
from store.records import Event, FeedFilter
from store.sources import EVERYTHING

__all__ = ["SafeBound", "follow", "settled_position"]


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
