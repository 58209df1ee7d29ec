"""The rollup of a source by the hour, filled by a thread of its own, the newest events first."""

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from threading import Event as Flag
from threading import Lock

import msgspec
from msgspec.structs import replace

from dashboard.rollup import EMPTY, HOUR, Rollup
from store.sources import EventSource

CHUNK = 100_000
"""Positions the thread tallies in one query; the source's own rollups are no work."""
WAIT = 0.2
SHORTEST_AGE = 1.0
AGE_PER_COST = 10
"""Events that are not settled yet are tallied anew once their tally is so many times as old as
taking it took."""

_HOUR = timedelta(microseconds=HOUR)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is rolled up: positions up to `top`, but for those of `pending`, the newest last."""

    rollup: Rollup = EMPTY
    floor: int = 0
    top: int | None = None
    pending: tuple[range, ...] = ()
    progress: float = 0.0

    @property
    def complete(self) -> bool:
        return self.top is not None and not self.pending

    def measured(self) -> "Known":
        """The same with its progress, which never falls."""
        total, left = (self.top or 0) - self.floor, sum(map(len, self.pending))
        share = 1 - left / total if total else 1.0
        return replace(self, progress=max(self.progress, share))


class _Tail(msgspec.Struct, frozen=True, kw_only=True):
    """The events beyond the settled position `top`, as of a moment."""

    top: int
    rollup: Rollup
    due: float


class Rolling:
    """Rolls a source up, for many threads to look at.

    Where counting began within the last 0.2 seconds it is waited for until it took so long. What is
    settled is counted once; what is not, at every look.
    """

    def __init__(self, source: EventSource, *, chunk: int = CHUNK) -> None:
        self._source = source
        self._chunk = chunk
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="activity")
        self._closing = Flag()
        self._lock = Lock()
        self._running: Future[None] | None = None
        self._started = 0.0
        self._due = 0.0
        self._known = Known()
        self._tail: _Tail | None = None

    def close(self) -> None:
        """Count no more; waits for the query that is under way."""
        self._closing.set()
        self._thread.shutdown()

    def look(self) -> Known:
        """What is known by now, with the events that are not settled.

        Raises:
            EventStoreError: what the source raised since the last look; the next one tries again.
        """
        with self._lock:
            if self._running is None and time.monotonic() >= self._due:
                self._started = time.monotonic()
                self._running = self._thread.submit(self._roll_up)
            running, until = self._running, self._started + WAIT
        if running is not None:
            wait([running], max(until - time.monotonic(), 0))
            self._finish(running)
        known = self._known
        if known.top is None:
            return known
        return replace(known, rollup=known.rollup.joined(self._beyond(known.top)))

    def _finish(self, running: Future[None]) -> None:
        if running.done():
            with self._lock:
                if self._running is running:
                    self._running = None
            running.result()

    def _roll_up(self) -> None:
        """Count what is settled and not counted yet; in the thread, which alone sets `_known`."""
        self._note_settled()
        looked = time.monotonic()
        while self._known.pending and not self._closing.is_set():
            *older, newest = self._known.pending
            size = self._at_once(newest)
            rest, chunk = newest[:-size], newest[-size:]
            tallies = self._source.tally(width=_HOUR, after=chunk.start - 1, before=chunk.stop)
            self._known = replace(
                self._known,
                rollup=self._known.rollup.extended(tallies).compact(),
                pending=(*older, rest) if rest else tuple(older),
            ).measured()
            if time.monotonic() - looked >= SHORTEST_AGE:
                self._note_settled()
                looked = time.monotonic()
        self._due = time.monotonic() + SHORTEST_AGE

    def _at_once(self, newest: range) -> int:
        """How many of the positions, from the last one back, are tallied in one query."""
        beyond = newest[-1] - self._source.rolled_up()
        return len(newest) if beyond <= self._chunk else self._chunk

    def _note_settled(self) -> None:
        settled = self._source.watermark().position
        known, top = self._known, self._known.top
        if top is None:
            first = next(iter(self._source.feed(limit=1)), None)
            top = settled if first is None else min(first.position - 1, settled)
            known = replace(known, floor=top, top=top)
        if settled > top:
            added = range(top + 1, settled + 1)
            known = replace(known, top=settled, pending=(*known.pending, added))
        self._known = known.measured()

    def _beyond(self, top: int) -> Rollup:
        """The events beyond the settled position, as they are now or were a moment ago."""
        tail = self._tail
        if tail is None or tail.top != top or time.monotonic() >= tail.due:
            begun = time.monotonic()
            rollup = EMPTY.extended(self._source.tally(width=_HOUR, after=top))
            now = time.monotonic()
            tail = _Tail(top=top, rollup=rollup, due=now + AGE_PER_COST * (now - begun))
            self._tail = tail
        return tail.rollup
