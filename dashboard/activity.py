"""How much happened when: the figures and bars of a whole store, without making anybody wait.

Events are counted by hour and type in a thread of its own, the newest first, and from then on only
what is new. Whatever an hour is too coarse for is counted by the source, over those positions only
that the hours say it lies between.
"""

import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from threading import Lock
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from dashboard.moments import from_microseconds, to_microseconds
from dashboard.rollup import EMPTY, HOUR, Rollup, round_width
from dashboard.searching import PATIENCE, Bounds, Pace
from store.records import Axis, Event, FeedFilter, utc
from store.sources import EVERYTHING, EventSource

MAX_BARS = 120
CHUNK = 100_000
"""Positions the thread tallies in one query."""
FIRST_CHUNK = 50_000
WAIT = 0.2
SHORTEST_AGE = 1.0
AGE_PER_COST = 10
"""Events that are not settled yet are tallied anew once their tally is so many times as old as
taking it took."""
KEPT_COUNTS = 16
TRIMS = 2

_HOUR = timedelta(microseconds=HOUR)
_FIRST = to_microseconds(datetime.min.replace(tzinfo=UTC))
_LAST = to_microseconds(datetime.max.replace(tzinfo=UTC))

_BEFORE = _FIRST - HOUR


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Events in bars, side by side from `start`, each `width` wide, in UTC µs.

    `counts` has a row for each of the `event_types`, the most frequent first, and in it a number
    for each of the bars. `progress`, 0 to 1, says how much of the source is counted at all.
    `counted_from` says that patience ended: the bars from there on are counted, as far as positions
    follow time, and those before lack events. With `complete` nothing is missing.

    `start` is no datetime, as the bar of the first events there can be begins before year 1.
    """

    start: int = 0
    width: int = HOUR
    bars: int = 0
    event_types: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    progress: float
    complete: bool
    counted_from: datetime | None = None


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is rolled up: positions up to `top`, but for those of `pending`, the newest last."""

    rollup: Rollup = EMPTY
    floor: int = 0
    top: int | None = None
    pending: tuple[range, ...] = ()
    progress: float = 0.0

    @property
    def complete(self) -> bool:
        return self.top is not None and not self.pending

    def measured(self) -> "_Known":
        """The same with its progress, which never falls."""
        total, left = (self.top or 0) - self.floor, sum(map(len, self.pending))
        share = 1 - left / total if total else 1.0
        return replace(self, progress=max(self.progress, share))


class _Tail(msgspec.Struct, frozen=True, kw_only=True):
    """The events beyond the settled position `top`, as of a moment."""

    top: int
    rollup: Rollup
    due: float


class _Counted(msgspec.Struct, frozen=True, kw_only=True):
    """A narrow count of the positions up to `top`, but for those `left`."""

    rollup: Rollup
    top: int
    left: range


class _Window(msgspec.Struct, frozen=True, kw_only=True):
    """The time to show, in UTC µs; a side nobody asked for is open: it ends with the events."""

    start: int
    end: int
    open_start: bool
    open_end: bool

    def aligned(self, width: int) -> "_Window":
        """The same in whole bars."""
        start, end = self.start // width * width, -(-self.end // width) * width
        return replace(self, start=start, end=end)

    def asked(self, where: FeedFilter) -> FeedFilter:
        """The filter for the time alone that was asked for, as far as there is such a time."""
        return replace(
            where,
            event_types=tuple(where.event_types),
            since=None if self.open_start or self.start < _FIRST else from_microseconds(self.start),
            until=None if self.open_end or self.end > _LAST else from_microseconds(self.end),
        )

    def fitted(self, rollup: Rollup, width: int) -> "_Window":
        """The same with its open sides where the events of a rollup end."""
        start = int(rollup.starts.min()) if self.open_start else self.start
        end = int(rollup.starts.max()) + width if self.open_end else self.end
        start, end = min(start, end - 1), max(end, start + 1)
        return replace(self, start=start, end=end)


Counts: TypeAlias = OrderedDict[tuple[FeedFilter, int], _Counted]


class Activity:
    """How much happened when in a source. Safe to share between threads.

    Every question may raise what the source raised since the last one; the next one tries again.
    Where counting began within the last 0.2 seconds it is waited for until it took so long.
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
        self._known = _Known()
        self._tail: _Tail | None = None
        self._counted: Counts = OrderedDict()

    def close(self) -> None:
        """Count no more; waits for the query that is under way."""
        self._closing.set()
        self._thread.shutdown()

    @property
    def progress(self) -> float:
        """How much is counted, 0 to 1; it never falls."""
        return self._look().progress

    @property
    def complete(self) -> bool:
        """Whether every event is counted."""
        return self._look().complete

    @property
    def events(self) -> int:
        """How many events there are, as far as they are counted."""
        return int(self._look().rollup.events.sum())

    def types(self) -> dict[str, int]:
        """Events by event type, as far as they are counted, the most frequent first."""
        return self._look().rollup.by_name(1)

    def aggregate_types(self) -> dict[str, int]:
        """Events by aggregate type, as far as they are counted, the most frequent first."""
        return self._look().rollup.by_name(0)

    def bounds(
        self, since: datetime | None, until: datetime | None, *, axis: Axis = "occurred"
    ) -> Bounds:
        """Positions between which the events of a time window lie, by whole hours.

        Without bounds while not every event is counted, and on another axis than occurred.
        """
        known = self._look()
        if not known.complete or axis != "occurred" or (since is None and until is None):
            return Bounds()
        start = None if since is None else to_microseconds(utc("since", since))
        end = None if until is None else to_microseconds(utc("until", until))
        span = _extent(known.rollup.within(start, end))
        if until is None:
            return Bounds(first=span.start if span else (known.top or 0) + 1)
        return Bounds(first=span.start, last=span.stop - 1) if span else Bounds(last=0)

    def histogram(
        self,
        where: FeedFilter,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        bars: int = MAX_BARS,
        patience: float = PATIENCE,
    ) -> Histogram:
        """Events by time and type in at most `bars` bars, at least two, of one round width.

        `since` and `until`, or the filter's own, are widened to whole bars; a side that is not
        given ends with the events. Bars below an hour, and of filters on more than types, are
        counted by the source for `patience` seconds; asked again, it goes on where it ended.
        """
        known = self._look()
        window = _window(known.rollup, where, since, until)
        if window is not None:
            window = self._trimmed(known, window, bars, patience)
        if window is None:
            return Histogram(progress=known.progress, complete=known.complete)
        width = round_width(window.start, window.end, bars)
        window = window.aligned(width)
        rollup, counted_from = known.rollup.of(where), None
        if width % HOUR or not _is_rolled_up(where):
            rollup, left = self._count(known, where, window, width, patience)
            counted_from = self._counted_from(known, where, window, left) if left else None
        count = (window.end - window.start) // width
        event_types, counts = rollup.bars(window.start, width, count)
        return Histogram(
            start=window.start,
            width=width,
            bars=count,
            event_types=event_types,
            counts=counts,
            progress=known.progress,
            complete=known.complete and counted_from is None,
            counted_from=counted_from,
        )

    def _look(self) -> _Known:
        """What is known by now, with the events that are not settled."""
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
            rest, chunk = newest[: -self._chunk], newest[-self._chunk :]
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

    def _trimmed(self, known: _Known, window: _Window, bars: int, patience: float) -> _Window:
        """The same, its open sides less than an hour from the events; all of them, not some."""
        for _ in range(TRIMS):
            width = round_width(window.start, window.end, bars)
            if width >= HOUR or not (window.open_start or window.open_end):
                break
            rollup, left = self._count(known, EVERYTHING, window.aligned(width), width, patience)
            if left or not len(rollup):
                break
            window = window.fitted(rollup, width)
        return window

    def _count(
        self, known: _Known, where: FeedFilter, window: _Window, width: int, patience: float
    ) -> tuple[Rollup, range]:
        """Events by bar, as the source tallies them; the positions that were not come to."""
        top = known.top
        if top is None:
            return EMPTY, range(0)
        asked = window.asked(where)
        step = timedelta(microseconds=width)
        span = range(known.floor + 1, top + 1)
        if known.complete and where.axis == "occurred":
            extent = _extent(known.rollup.of(where).within(window.start, window.end))
            span = range(extent.start, min(extent.stop, top + 1))
        with self._lock:
            kept = self._counted.get((asked, width))
        pace = Pace(FIRST_CHUNK, patience)
        if kept is None or kept.top > top or top - kept.top > FIRST_CHUNK:
            kept = _Counted(rollup=EMPTY, top=top, left=span)
        rollup = kept.rollup
        left = range(max(kept.left.start, span.start), min(kept.left.stop, span.stop))
        if top > kept.top:
            newer = self._source.tally(width=step, where=asked, after=kept.top, before=top + 1)
            rollup = rollup.extended(newer)
        while left:
            left, chunk = left[: -pace.size], left[-pace.size :]
            tallies = self._source.tally(
                width=step, where=asked, after=chunk.start - 1, before=chunk.stop
            )
            rollup = rollup.extended(tallies)
            if not pace.went_on():
                break
        rollup = rollup.compact()
        self._keep(asked, width, _Counted(rollup=rollup, top=top, left=left))
        tail = self._source.tally(width=step, where=asked, after=top)
        return rollup.extended(tail), left

    def _keep(self, asked: FeedFilter, width: int, counted: _Counted) -> None:
        with self._lock:
            self._counted[asked, width] = counted
            self._counted.move_to_end((asked, width))
            if len(self._counted) > KEPT_COUNTS:
                self._counted.popitem(last=False)

    def _counted_from(
        self, known: _Known, where: FeedFilter, window: _Window, left: range
    ) -> datetime | None:
        """From when on the bars are counted while positions are `left`; None: nothing is in them.

        Exact to the hour; within the hour where counting ended, as far as positions follow time.
        """
        newest = next(iter(self._source.feed(before=left.stop, backward=True, limit=1)), None)
        if newest is None:
            return None
        moment = to_microseconds(_moment(newest, where.axis)) + 1
        if known.complete and where.axis == "occurred":
            missing = known.rollup.of(where).within(window.start, window.end)
            missing = missing.only(missing.firsts < left.stop)
            if not len(missing):
                return None
            parts = missing.starts[missing.lasts >= left.stop]
            wholes = missing.starts[missing.lasts < left.stop]
            hour = int(parts.max(initial=_BEFORE))
            moment = (
                max(int(wholes.max(initial=_BEFORE)), min(max(moment - HOUR, hour - HOUR), hour))
                + HOUR
            )
        return from_microseconds(min(max(moment, window.start, _FIRST), window.end, _LAST))


def _window(
    rollup: Rollup, where: FeedFilter, since: datetime | None, until: datetime | None
) -> _Window | None:
    """The time to show; None where it is none, or there is no event to tell it from."""
    sinces = [to_microseconds(utc("since", m)) for m in (since, where.since) if m]
    untils = [to_microseconds(utc("until", m)) for m in (until, where.until) if m]
    if sinces and untils:
        start, end = max(sinces), min(untils)
        window = _Window(start=start, end=end, open_start=False, open_end=False)
        return window if start < end else None
    if not len(rollup):
        return None
    window = _Window(
        start=max(sinces, default=0),
        end=min(untils, default=0),
        open_start=not sinces,
        open_end=not untils,
    )
    return window.fitted(rollup, HOUR)


def _is_rolled_up(where: FeedFilter) -> bool:
    """Whether the hours and types are all that is asked for."""
    rest = replace(where, aggregate_type=None, event_types=(), since=None, until=None)
    return rest == EVERYTHING


def _extent(rollup: Rollup) -> range:
    """The positions between which the events of a rollup lie."""
    if not len(rollup):
        return range(0)
    return range(int(rollup.firsts.min()), int(rollup.lasts.max()) + 1)


def _moment(event: Event, axis: Axis) -> datetime:
    recorded = event.recorded_at if axis == "recorded" else None
    return recorded or event.occurred_at
