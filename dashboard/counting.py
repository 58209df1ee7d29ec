"""How much a source holds, without making anybody wait for it.

A store counts by reading every event's type: milliseconds where there are thousands, seconds where
there are millions.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock

from store.records import Counts
from store.sources import EventSource

PATIENCE = 0.2
SHORTEST_AGE = 2.0
AGE_PER_COST = 30


class Counting:
    """The counts of a source, taken in a thread of their own, for many threads to look at.

    They are taken again once they are two seconds old, or thirty times as old as taking them took:
    a large store is not counted all the time.
    """

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="counting")
        self._lock = Lock()
        self._running: Future[None] | None = None
        self._started = 0.0
        self._due = 0.0
        self._latest: Counts | None = None

    def latest(self) -> Counts | None:
        """What was counted last, None before the first time.

        Counting that began within the last 0.2 seconds is waited for until it took so long.

        Raises:
            EventStoreError: the source could not be counted; the next call tries again.
        """
        with self._lock:
            if self._running is None and time.monotonic() >= self._due:
                self._started = time.monotonic()
                self._running = self._thread.submit(self._count)
            running, until = self._running, self._started + PATIENCE
        if running is not None:
            wait([running], max(until - time.monotonic(), 0))
            self._finish(running)
        return self._latest

    def close(self) -> None:
        """Count no more; waits for counting that is under way."""
        self._thread.shutdown()

    def _count(self) -> None:
        started = time.monotonic()
        self._latest = self._source.counts()
        now = time.monotonic()
        self._due = now + max(SHORTEST_AGE, AGE_PER_COST * (now - started))

    def _finish(self, running: Future[None]) -> None:
        if running.done():
            with self._lock:
                if self._running is running:
                    self._running = None
            running.result()
