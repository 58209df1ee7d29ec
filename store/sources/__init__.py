"""The read side that pages, analysis and CLI readers use, whatever keeps the events."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, get_args

from msgspec import Struct

from store.errors import InvalidEvent
from store.folding import HistoryRow
from store.records import (
    AggregateOrder,
    AggregatePage,
    AggregateSummary,
    Axis,
    Counts,
    Event,
    FeedFilter,
    OutlineRow,
    Tally,
    Watermark,
    Written,
)

EVERYTHING = FeedFilter()
MICROSECOND = timedelta(microseconds=1)
WIDEST = timedelta(microseconds=10**18)
"""A stretch that holds every time there is before 1970, or from then on; no other is wider."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


ORDERS: tuple[AggregateOrder, ...] = get_args(AggregateOrder)


class SourceInfo(Struct, frozen=True, kw_only=True):
    """What a source is: a short name for people, and the number of an aggregate's first event.

    By an order that is not among `quick_orders` every event is read to list aggregates. With `near`
    it has no index on correlation ids, and whoever must not wait looks for one within so many
    positions only.
    """

    name: str
    first_version: int = 1
    quick_orders: tuple[AggregateOrder, ...] = ORDERS
    near: int | None = None


class EventSource(Protocol):
    """Event histories to read. "At version n" means after event n.

    Iterators fetch in batches and hold no connection between two of them.
    """

    @property
    def info(self) -> SourceInfo: ...

    def aggregate(self, aggregate_id: str) -> AggregateSummary:
        """The aggregate's head.

        Raises:
            AggregateNotFound: no event of it is stored.
        """
        ...

    def aggregates(
        self,
        *,
        prefix: str = "",
        aggregate_type: str | None = None,
        order: AggregateOrder = "id",
        after: str | None = None,
        limit: int = 100,
    ) -> AggregatePage:
        """Aggregates whose id starts with `prefix`; `after` is the previous page's `next`."""
        ...

    def events(
        self,
        aggregate_id: str,
        *,
        from_version: int | None = None,
        to_version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        axis: Axis = "occurred",
        backward: bool = False,
        batch_size: int = 500,
    ) -> Iterator[Event]:
        """One aggregate's events by version.

        Versions are inclusive; `since` is inclusive and `until` exclusive, on `axis`.
        An unknown aggregate has none.
        """
        ...

    def history(
        self,
        aggregate_id: str,
        *,
        after: int | None = None,
        to_version: int | None = None,
        as_of: datetime | None = None,
        axis: Axis = "occurred",
    ) -> Iterator[Sequence[HistoryRow]]:
        """What a fold needs of one aggregate's events by version, in batches.

        `after` is exclusive, `to_version` inclusive, and so is `as_of`, on `axis`.
        """
        ...

    def outline(
        self, aggregate_id: str, *, after: int | None = None, to_version: int | None = None
    ) -> Iterator[Sequence[OutlineRow]]:
        """When which of one aggregate's events occurred, by version, in batches.

        No payload is read, so a history of 100,000 events is there in a moment. `after` is
        exclusive, `to_version` inclusive.
        """
        ...

    def feed(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        where: FeedFilter = EVERYTHING,
        backward: bool = False,
        limit: int | None = None,
        batch_size: int = 500,
    ) -> Iterator[Event]:
        """The store's events by position, both bounds exclusive.

        What is committed is shown; `subscription.follow` is for readers that must miss nothing.
        """
        ...

    def counts(self) -> Counts:
        """Events and aggregates, in all and by type."""
        ...

    def written(self) -> Sequence[Written]:
        """Which schema versions are stored, by aggregate type, event type and version."""
        ...

    def tally(
        self,
        *,
        width: timedelta,
        where: FeedFilter = EVERYTHING,
        after: int = 0,
        before: int | None = None,
    ) -> Sequence[Tally]:
        """How many events of each type fall into each stretch of `width`, on `where.axis`.

        Of the events between two positions, both exclusive. Ordered by start, aggregate type and
        event type; a stretch or type without events is not there, nor is an event without a time on
        the axis. A source that keeps no rollups reads every event within the bounds: seconds where
        there are millions.

        Raises:
            InvalidEvent: `width` is less than a microsecond.
        """
        ...

    def rolled_up(self) -> int:
        """Up to which position `tally` by the hour reads no events; 0 where it always does."""
        ...

    def watermark(self) -> Watermark:
        """How far readers that must miss nothing may read, and who holds them there."""
        ...


def check_reading(*, axis: Axis, batch_size: int = 1, limit: int | None = None) -> None:
    """Raise `InvalidEvent` where a reader asks for what no source has."""
    if axis not in get_args(Axis):
        raise InvalidEvent(f"axis: {axis!r} is none of {', '.join(get_args(Axis))}")
    if batch_size < 1:
        raise InvalidEvent(f"batch_size: {batch_size} is not a number from 1")
    if limit is not None and limit < 0:
        raise InvalidEvent(f"limit: {limit} is not a number from 0")


def check_width(width: timedelta) -> timedelta:
    """The width to tally by; raise `InvalidEvent` where it is no stretch of time."""
    if width < MICROSECOND:
        raise InvalidEvent(f"width: {width} is less than a microsecond")
    return min(width, WIDEST)


def start_of(stretch: int, width: timedelta) -> datetime:
    """When stretch number `stretch` starts, the first from 1970 on being number 0."""
    try:
        return _EPOCH + stretch * width
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
