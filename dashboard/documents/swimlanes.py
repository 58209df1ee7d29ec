"""Several aggregates on one time axis, and which event caused which."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

import msgspec
import numpy as np
from starlette.datastructures import QueryParams

from dashboard import resources
from dashboard.axis import Axis, axis_of
from dashboard.literal import summary
from dashboard.moments import to_microseconds
from dashboard.parameters import InvalidAddress, stretch
from dashboard.searching import Bounds, Wanted, search
from store.records import Event, FeedFilter
from store.sources import EventSource

MOST_EVENTS = 5_000
MOST_BYTES = 64_000_000
READ_BATCH = 50
MOST_LANES = 40
MOST_ROWS = 500
MOST_ARROWS = 400
BINS = 240


class SwimLane(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate and how many of its events are shown."""

    aggregate_id: str
    aggregate_type: str
    events: int


class SwimMark(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one lane side by side; without an `event_type` they are of several."""

    lane: int
    place: float
    events: int
    version: int
    event_type: str | None
    last_moment: int


class SwimRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the list below the lanes."""

    aggregate_id: str
    version: int
    position: int
    occurred_at: datetime
    event_type: str
    summary: str


class Swimlanes(msgspec.Struct, frozen=True, kw_only=True):
    """Lanes in the order of their first events; `arrows` are lane and place of cause and effect.

    `cut` says that there are older events, `left_out` how many aggregates have no lane.
    """

    axis: Axis
    whole: tuple[int, int]
    lanes: tuple[SwimLane, ...]
    marks: tuple[SwimMark, ...]
    arrows: tuple[tuple[int, float, int, float], ...]
    rows: tuple[SwimRow, ...]
    events: int
    cut: bool
    left_out: int


def swimlanes(params: QueryParams) -> Swimlanes:
    """The aggregates `lane`, given repeatedly, or those with events of `correlation`.

    `since`, `until` and `idle=shown` are as for one history.
    """
    events, cut = _asked(params)
    since, until = stretch(params)
    shown = [event for event in events if _within(event, since, until)]
    moments = np.array([to_microseconds(event.occurred_at) for event in events], dtype=np.int64)
    whole = (int(moments.min()), int(moments.max()) + 1) if len(moments) else (0, 1)
    axis = axis_of(
        np.array([to_microseconds(event.occurred_at) for event in shown], dtype=np.int64),
        whole[0] if since is None else to_microseconds(since),
        whole[1] if until is None else to_microseconds(until),
        collapse=params.get("idle") != "shown",
    )
    lanes = _lanes(events, shown)
    places = _places(axis, shown)
    return Swimlanes(
        axis=axis,
        whole=whole,
        lanes=lanes,
        marks=_marks(shown, lanes, places),
        arrows=_arrows(shown, lanes, places),
        rows=tuple(_row(event) for event in reversed(shown[-MOST_ROWS:])),
        events=len(shown),
        cut=cut,
        left_out=len({event.aggregate_id for event in events}) - len(lanes),
    )


def _asked(params: QueryParams) -> tuple[list[Event], bool]:
    """The events in order of occurrence, and whether there are more."""
    source = resources.source()
    ids = params.getlist("lane")
    if len(ids) > MOST_LANES:
        raise InvalidAddress(f"lane: at most {MOST_LANES} fit on one axis")
    if ids:
        share = MOST_EVENTS // len(ids)
        room = MOST_BYTES // len(ids)
        histories = [_bounded(_newest(one), share, room) for one in dict.fromkeys(ids)]
        cut = any(more for _, more in histories)
        found = [event for history, _ in histories for event in history]
    elif correlation := params.get("correlation"):
        found, cut = _correlated(source, correlation)
    else:
        raise InvalidAddress("lane: which aggregates? Add lane=ID or correlation=ID")
    return sorted(found, key=lambda event: (event.occurred_at, event.position)), cut


def _correlated(source: EventSource, correlation_id: str) -> tuple[list[Event], bool]:
    """The newest events of a correlation id, and whether there may be more."""
    where = FeedFilter(correlation_id=correlation_id)
    if source.info.near is None:
        feed = source.feed(where=where, backward=True, batch_size=READ_BATCH)
        return _bounded(feed, MOST_EVENTS, MOST_BYTES)
    # Without an index, those that are found before patience ends.
    found = search(source, Wanted(where=where), bounds=Bounds(), limit=MOST_EVENTS)
    events, cut = _bounded(iter(found.events), MOST_EVENTS, MOST_BYTES)
    return events, cut or not found.finished


def _bounded(events: Iterator[Event], most: int, room: int) -> tuple[list[Event], bool]:
    """The first of the events, as many and as many bytes as may be, and whether there are more."""
    found: list[Event] = []
    for event in events:
        room -= len(event.raw_data)
        if len(found) == most or (room < 0 and found):
            return found, True
        found.append(event)
    return found, False


def _newest(aggregate_id: str) -> Iterator[Event]:
    source = resources.source()
    source.aggregate(aggregate_id)
    return source.events(aggregate_id, backward=True, batch_size=READ_BATCH)


def _within(event: Event, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or event.occurred_at >= since) and (
        until is None or event.occurred_at < until
    )


def _lanes(events: Sequence[Event], shown: Sequence[Event]) -> tuple[SwimLane, ...]:
    """A lane for each aggregate: looking closer takes none away."""
    types = {event.aggregate_id: event.aggregate_type for event in events}
    counts = Counter(event.aggregate_id for event in shown)
    return tuple(
        SwimLane(aggregate_id=one, aggregate_type=kind, events=counts[one])
        for one, kind in islice(types.items(), MOST_LANES)
    )


def _places(axis: Axis, events: Sequence[Event]) -> list[float]:
    moments = np.array([to_microseconds(event.occurred_at) for event in events], dtype=np.int64)
    places: list[float] = axis.places(moments).round(5).tolist()
    return places


def _marks(
    events: Sequence[Event], lanes: Sequence[SwimLane], places: Sequence[float]
) -> tuple[SwimMark, ...]:
    number = {lane.aggregate_id: index for index, lane in enumerate(lanes)}
    cells: dict[tuple[int, int], list[int]] = {}
    for index, event in enumerate(events):
        lane = number.get(event.aggregate_id)
        if lane is not None:
            cells.setdefault((lane, int(places[index] * BINS)), []).append(index)
    return tuple(
        _mark(lane, [events[i] for i in indexes], [places[i] for i in indexes])
        for (lane, _), indexes in cells.items()
    )


def _mark(lane: int, events: Sequence[Event], places: Sequence[float]) -> SwimMark:
    last = max(events, key=lambda event: event.version)
    types = {event.event_type for event in events}
    return SwimMark(
        lane=lane,
        place=(min(places) + max(places)) / 2,
        events=len(events),
        version=last.version,
        event_type=last.event_type if len(types) == 1 else None,
        last_moment=to_microseconds(last.occurred_at),
    )


def _arrows(
    events: Sequence[Event], lanes: Sequence[SwimLane], places: Sequence[float]
) -> tuple[tuple[int, float, int, float], ...]:
    number = {lane.aggregate_id: index for index, lane in enumerate(lanes)}
    at = {str(event.event_id): index for index, event in enumerate(events)}
    found = []
    for effect, event in enumerate(events):
        cause = at.get(event.causation_id or "")
        if cause is None or cause == effect:
            continue
        ends = number.get(events[cause].aggregate_id), number.get(event.aggregate_id)
        if ends[0] is not None and ends[1] is not None:
            found.append((ends[0], places[cause], ends[1], places[effect]))
    return tuple(found[:MOST_ARROWS])


def _row(event: Event) -> SwimRow:
    return SwimRow(
        aggregate_id=event.aggregate_id,
        version=event.version,
        position=event.position,
        occurred_at=event.occurred_at,
        event_type=event.event_type,
        summary=summary(event.data),
    )
