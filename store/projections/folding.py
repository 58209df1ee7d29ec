"""What a batch of events makes of rows. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from msgspec import Struct

from store.domain import Domains
from store.errors import UnknownEventType
from store.projection import Key, Projection, Row, RowHandler
from store.records import Event


class Fault(Struct, frozen=True):
    """An event that a projection could not take; `handler` is None where it could not be read."""

    event: Event
    handler: str | None
    error: Exception


class Taken(Struct, frozen=True, gc=False):
    """An event as a handler takes it, and the key of the row that it changes."""

    event: Event
    data: Any
    handler: RowHandler
    key: Key


class Folded(Struct, frozen=True):
    """Rows after events, None where there is none any more, and the event that ended it early.

    `timings` has, by each handler's name, the seconds that it took each time.
    """

    rows: Mapping[Key, Row | None]
    timings: Mapping[str, Sequence[float]]
    fault: Fault | None


def taken(
    projection: Projection, domains: Domains, events: Sequence[Event]
) -> tuple[Sequence[Taken], Fault | None]:
    """Those of the events that the projection handles, up to one that cannot be read."""
    found: list[Taken] = []
    for event in events:
        aggregate = domains.aggregate(event.aggregate_type)
        if aggregate is None:
            continue
        try:
            data = aggregate.decode(event.event_type, event.raw_data, event.event_version)
        except UnknownEventType:
            continue  # nor does any handler know it
        except Exception as error:  # noqa: BLE001 (upcasters are somebody else's code)
            return found, Fault(event, None, error)
        handler = projection.handlers.get(type(data))
        if handler is None:
            continue
        try:
            key = projection.key(data, event)
        except Exception as error:  # noqa: BLE001 (so is the key)
            return found, Fault(event, handler.__name__, error)
        found.append(Taken(event, data, handler, key))
    return found, None


def folded(
    projection: Projection, events: Sequence[Taken], before: Mapping[Key, Row | None]
) -> Folded:
    """The rows that the events change, given those that there are `before`."""
    rows: dict[Key, Row | None] = {}
    timings = defaultdict[str, list[float]](list)
    for each in events:
        key, handler = each.key, each.handler
        row = rows[key] if key in rows else before.get(key)
        started = perf_counter()
        try:
            after = handler(row, each.data, each.event)
            rows[key] = None if after is None else projection.checked(key, after)
        except Exception as error:  # noqa: BLE001 (handlers are somebody else's code)
            return Folded(rows, timings, Fault(each.event, handler.__name__, error))
        finally:
            timings[handler.__name__].append(perf_counter() - started)
    return Folded(rows, timings, None)
