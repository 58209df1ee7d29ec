"""Whole histories, kept as events whose data nobody has asked for."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, cast
from uuid import UUID

import msgspec
from msgspec import Struct

from store.cache.levels import TwoLevels, check_age
from store.cache.local import LARGEST
from store.cache.tails import Tail, Tails
from store.reader import EventReader
from store.records import Axis, Event, utc
from store.sources import check_reading

if TYPE_CHECKING:
    from store.cache.shared import Found

EVENTS = 5_000
"""Longer histories are read from the database each time, a batch after the other."""
_OVERHEAD = 400
"""Bytes that an event takes beside its JSON."""
_FORMAT = "1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class KeptHistory(Struct, frozen=True):
    """All events of an aggregate. They are copied before anybody gets them."""

    events: Sequence[Event]
    size: int

    @property
    def version(self) -> int:
        """The version of the last event."""
        return self.events[-1].version

    @property
    def mark(self) -> str:
        """What tells the last event from any other."""
        last = self.events[-1]
        recorded = (last.recorded_at or last.occurred_at) - _EPOCH
        return f"{last.event_id} {recorded // _MICROSECOND}"


class _InRedis(Struct, frozen=True, array_like=True, gc=False):
    """An event as L2 has it: what its aggregate does not tell."""

    version: int
    position: int
    event_id: UUID
    event_type: str
    event_version: int
    correlation_id: str | None
    causation_id: str | None
    actor: str | None
    occurred_at: datetime
    recorded_at: datetime | None
    raw_data: bytes
    raw_metadata: bytes
    digest: bytes | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, list[_InRedis]]).decode


class HistoryKind:
    """The `Kind` of histories."""

    name = "history"

    def __init__(self, tails: Tails) -> None:
        self._tails = tails

    def tail(self, aggregate_id: str, version: int) -> Tail:
        """See `Kind.tail`."""
        return self._tails.events(aggregate_id, version)

    def extended(self, aggregate_id: str, value: KeptHistory, tail: Tail) -> KeptHistory | None:
        """See `Kind.extended`."""
        del aggregate_id
        return kept_history([*value.events, *tail.rows])

    def fingerprints(self) -> Sequence[str]:
        """See `Kind.fingerprints`."""
        return [_FORMAT]

    def encoded(self, value: KeptHistory) -> tuple[str, bytes] | None:
        """See `Kind.encoded`."""
        names = _InRedis.__struct_fields__
        rows = [_InRedis(*(getattr(event, name) for name in names)) for event in value.events]
        return _FORMAT, _encode((value.events[0].aggregate_type, rows))

    def decoded(self, aggregate_id: str, fingerprint: str, found: "Found") -> KeptHistory:
        """See `Kind.decoded`."""
        del fingerprint
        aggregate_type, rows = _decode(found.body)
        kept = kept_history([_event(aggregate_type, aggregate_id, row) for row in rows])
        if kept is None or kept.version != found.version:
            raise ValueError("another history")
        return kept


def _event(aggregate_type: str, aggregate_id: str, row: _InRedis) -> Event:
    return Event(
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        version=row.version,
        position=row.position,
        event_id=row.event_id,
        event_type=row.event_type,
        event_version=row.event_version,
        schema_version=row.event_version,
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        actor=row.actor,
        occurred_at=row.occurred_at,
        recorded_at=row.recorded_at,
        raw_data=row.raw_data,
        raw_metadata=row.raw_metadata,
        digest=row.digest,
    )


class Histories:
    """Reads the events of an aggregate, from what is kept where there are `levels` to keep it.

    Safe to share between threads.
    """

    def __init__(self, reader: EventReader, levels: TwoLevels[KeptHistory] | None = None) -> None:
        self._reader = reader
        self._levels = levels

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
        max_age: float | None = None,
    ) -> Iterator[Event]:
        """See `EventSource.events`; those may be missing that came in the last `max_age` seconds.

        A part of a history is taken from the whole of it, if that is kept in this process.

        Raises:
            InvalidEvent: a bound is none.
        """
        check_reading(axis=axis, batch_size=batch_size)
        if max_age is not None:
            check_age(max_age)
        bounds = _Bounds(
            from_version,
            to_version,
            since and utc("since", since),
            until and utc("until", until),
            axis,
        )
        stored = self._reader.events(
            aggregate_id,
            from_version=from_version,
            to_version=to_version,
            since=since,
            until=until,
            axis=axis,
            backward=backward,
            batch_size=batch_size,
        )
        levels = self._levels
        if levels is None:
            return stored
        if bounds == _ALL and not backward:
            return self._whole(levels, aggregate_id, stored, max_age)
        return self._part(levels, aggregate_id, bounds, stored, max_age, backward=backward)

    def _whole(
        self,
        levels: TwoLevels[KeptHistory],
        aggregate_id: str,
        stored: Iterator[Event],
        max_age: float | None,
    ) -> Iterator[Event]:
        begun: list[Event] = []

        def read() -> KeptHistory | None:
            size = 0
            for event in stored:
                begun.append(event)
                size += _size(event)
                if len(begun) > EVENTS or size > LARGEST:
                    return None
            return kept_history(begun)

        answer = levels.at_hand(aggregate_id, max_age)
        answer = answer or levels.newest(aggregate_id, max_age, read)
        if answer is not None:
            yield from map(_given, answer.value.events)
        else:
            yield from map(_given, begun)
            yield from stored

    def _part(
        self,
        levels: TwoLevels[KeptHistory],
        aggregate_id: str,
        bounds: "_Bounds",
        stored: Iterator[Event],
        max_age: float | None,
        *,
        backward: bool,
    ) -> Iterator[Event]:
        answer = levels.at_hand(aggregate_id, max_age)
        if answer is None:
            yield from stored
            return
        events = bounds.of_versions(answer.value.events)
        within = filter(bounds.hold, reversed(events) if backward else events)
        yield from map(_given, within)


class _Bounds(NamedTuple):
    """Which events of a history are asked for."""

    from_version: int | None
    to_version: int | None
    since: datetime | None
    until: datetime | None
    axis: Axis

    def of_versions(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those of events in the order of versions whose version is within."""
        start, end = 0, len(events)
        if self.from_version is not None:
            start = bisect_left(events, self.from_version, key=_version)
        if self.to_version is not None:
            end = bisect_right(events, self.to_version, key=_version)
        return events[start:end]

    def hold(self, event: Event) -> bool:
        """Whether the event's time is within."""
        moment = event.occurred_at if self.axis == "occurred" else event.recorded_at
        if moment is None:
            return self.since is None and self.until is None
        if self.since is not None and moment < self.since:
            return False
        return self.until is None or moment < self.until


def _version(event: Event) -> int:
    return event.version


_ALL = _Bounds(None, None, None, None, "occurred")


def kept_history(events: Sequence[Event]) -> KeptHistory | None:
    """The history as it is kept; None where it is empty, or too long."""
    if not 0 < len(events) <= EVENTS:
        return None
    return KeptHistory(events, sum(map(_size, events)))


def _size(event: Event) -> int:
    return len(event.raw_data) + len(event.raw_metadata) + _OVERHEAD


def _given(event: Event) -> Event:
    return cast("Event", event.__copy__())  # type: ignore[attr-defined]  # msgspec has it
