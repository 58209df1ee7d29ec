"""Documents of the whole store's events: how much happened when, which there are, what is new."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import msgspec
from starlette.datastructures import QueryParams

from dashboard import resources
from dashboard.activity import Histogram
from dashboard.literal import summary
from dashboard.parameters import InvalidAddress, number, stretch
from dashboard.searching import MOST_COUNTED, PAGE_EVENTS, Bounds, Wanted, later, search
from store.interchange import format_line
from store.records import Event, FeedFilter


class FeedRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a list of the store's."""

    position: int
    aggregate_id: str
    version: int
    event_type: str
    occurred_at: datetime
    actor: str | None
    summary: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Events found, newest first; `full` says that the page has no room for more."""

    rows: tuple[FeedRow, ...]
    reached: int
    finished: bool
    scanned: int
    full: bool


def activity(params: QueryParams) -> Histogram:
    """The histogram of what the filters let through, payload filters aside."""
    wanted = _wanted(params)
    return resources.activity().histogram(wanted.where)


def page(params: QueryParams) -> Page:
    """A page of the events that pass the filters, `before` or `after` a position."""
    limit = min(number(params, "limit") or PAGE_EVENTS, PAGE_EVENTS)
    found = search(
        resources.source(),
        _wanted(params),
        before=number(params, "before"),
        after=number(params, "after"),
        bounds=_bounds(params),
        limit=limit,
    )
    return Page(
        rows=tuple(_row(event) for event in found.events),
        reached=found.reached,
        finished=found.finished,
        scanned=found.scanned,
        full=len(found.events) == limit,
    )


def newer(params: QueryParams) -> dict[str, int]:
    """How many events beyond `after` pass the filters, counted up to a thousand."""
    after = number(params, "after") or 0
    return {"count": later(resources.source(), _wanted(params), after=after, limit=MOST_COUNTED)}


def export(params: QueryParams) -> Iterator[bytes]:
    """Every event that passes the filters, oldest first, as lines that can be imported."""
    wanted, bounds = _wanted(params), _bounds(params)
    last = resources.source().watermark().position
    return _lines(wanted, bounds, last)


def _lines(wanted: Wanted, bounds: Bounds, last: int) -> Iterator[bytes]:
    after = 0
    while True:
        found = search(resources.source(), wanted, after=after, bounds=bounds)
        # What lies beyond the watermark may have holes that fill later.
        settled = [event for event in reversed(found.events) if event.position <= last]
        yield b"".join(map(format_line, settled))
        after = found.reached
        if found.finished or after >= last:
            return


def _wanted(params: QueryParams) -> Wanted:
    since, until = stretch(params)
    return Wanted(
        where=FeedFilter(
            aggregate_type=params.get("kind") or None,
            event_types=tuple(params.getlist("type")),
            since=since,
            until=until,
            correlation_id=params.get("correlation") or None,
            actor=params.get("actor") or None,
            event_id=_event_id(params.get("event")),
        ),
        contains=params.get("contains") or None,
        path=params.get("path") or None,
        equals=params.get("equals") or None,
    )


def _event_id(text: str | None) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise InvalidAddress(f"event: {text[:40]!r} is not a UUID") from None


def _bounds(params: QueryParams) -> Bounds:
    since, until = stretch(params)
    return Bounds() if since is until is None else resources.activity().bounds(since, until)


def _row(event: Event) -> FeedRow:
    return FeedRow(
        position=event.position,
        aggregate_id=event.aggregate_id,
        version=event.version,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        actor=event.actor,
        summary=summary(event.data),
    )
