"""How much happened when: the figures and bars of a whole store, without making anybody wait.

They come from a rollup by the hour. What an hour is too coarse for is counted by the source, over
those positions only that the hours say it lies between.
"""

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from dashboard.moments import from_microseconds, to_microseconds
from dashboard.rolling import CHUNK, Known, Rolling
from dashboard.rollup import EMPTY, HOUR, Rollup, round_width
from dashboard.searching import PATIENCE, Bounds, Pace
from store.records import Axis, Event, FeedFilter, utc
from store.sources import EVERYTHING, EventSource

MAX_BARS = 120
FIRST_CHUNK = 50_000
KEPT_COUNTS = 16
TRIMS = 2

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
        """The same with its open sides where the events of a rollup end.

        Beyond the events it is as long as a row of the rollup is wide.
        """
        start, end = self.start, self.end
        if self.open_start:
            start = int(rollup.starts.min())
            start = start if self.open_end else min(start, end - width)
        if self.open_end:
            end = max(int(rollup.starts.max()), start) + width
        return replace(self, start=start, end=end)


_Kept: TypeAlias = OrderedDict[tuple[FeedFilter, int], _Counted]


class Activity:
    """How much happened when in a source. Safe to share between threads.

    Every question may raise what the source raised since the last one; the next one tries again.
    """

    def __init__(self, source: EventSource, *, chunk: int = CHUNK) -> None:
        self._source = source
        self._rolling = Rolling(source, chunk=chunk)
        self._lock = Lock()
        self._counted: _Kept = OrderedDict()

    def close(self) -> None:
        """Count no more; waits for the query that is under way."""
        self._rolling.close()

    @property
    def progress(self) -> float:
        """How much is counted, 0 to 1; it never falls."""
        return self._rolling.look().progress

    @property
    def complete(self) -> bool:
        """Whether every event is counted."""
        return self._rolling.look().complete

    @property
    def events(self) -> int:
        """How many events there are, as far as they are counted."""
        return int(self._rolling.look().rollup.events.sum())

    def types(self) -> dict[str, int]:
        """Events by event type, as far as they are counted, the most frequent first."""
        return self._rolling.look().rollup.by_name(1)

    def aggregate_types(self) -> dict[str, int]:
        """Events by aggregate type, as far as they are counted, the most frequent first."""
        return self._rolling.look().rollup.by_name(0)

    def bounds(
        self, since: datetime | None, until: datetime | None, *, axis: Axis = "occurred"
    ) -> Bounds:
        """Positions between which the events of a time window lie, by whole hours.

        Without bounds while not every event is counted, and on another axis than occurred.
        """
        known = self._rolling.look()
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
        known = self._rolling.look()
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

    def _trimmed(self, known: Known, window: _Window, bars: int, patience: float) -> _Window:
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
        self, known: Known, where: FeedFilter, window: _Window, width: int, patience: float
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
        self, known: Known, where: FeedFilter, window: _Window, left: range
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
            is_part = missing.lasts >= left.stop
            hour = int(missing.starts[is_part].max(initial=_BEFORE))
            whole = int(missing.starts[~is_part].max(initial=_BEFORE))
            moment = max(min(max(moment, hour), hour + HOUR), whole + HOUR)
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
