"""What a batch of events makes of rows. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

from msgspec import Struct

from store.domain import Aggregate, Domains
from store.projection import Key, Projection, Row, RowHandler
from store.records import EventHeader, FeedFilter


class Fault(Struct, frozen=True):
    """An event that a projection could not take; `handler` is None where it could not be read."""

    event: EventHeader
    handler: str | None
    error: Exception


class Taken(Struct, frozen=True, gc=False):
    """An event as a handler takes it, and the key of the row that it changes."""

    event: EventHeader
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


class Intake:
    """Which events a projection takes, and as what: others need not even be readable."""

    def __init__(self, projection: Projection, domains: Domains) -> None:
        self._projection = projection
        stored = {each: _stored_types(each, projection) for each in domains.aggregates}
        self._wanted = {
            (each.aggregate_type, event_type): each.decoders
            for each, event_types in stored.items()
            for event_type in event_types
        }

    @property
    def where(self) -> FeedFilter:
        """What has to be read of the feed: not what is of other aggregates, where there is one."""
        kinds = {aggregate_type for aggregate_type, _ in self._wanted}
        return FeedFilter(aggregate_type=kinds.pop() if len(kinds) == 1 else None)

    def taken(
        self, events: Sequence[tuple[EventHeader, bytes | str]]
    ) -> tuple[Sequence[Taken], Fault | None]:
        """Those of the events, with their data, that the projection handles.

        They end in front of one that cannot be read.
        """
        found: list[Taken] = []
        handlers, key = self._projection.handlers, self._projection.key
        for event, raw_data in events:
            decoders = self._wanted.get((event.aggregate_type, event.event_type))
            if decoders is None:
                continue
            name = None
            try:
                data = decoders[event.event_version][event.event_type](raw_data)
                if (handler := handlers.get(type(data))) is not None:
                    name = handler.__name__
                    taken = Taken(event, data, handler, key(data, event))
                    hash(taken.key)
                    found.append(taken)
            except Exception as error:  # noqa: BLE001 (upcasters and keys are somebody else's code)
                return found, Fault(event, name, error)
        return found, None


def _stored_types(aggregate: Aggregate[Any], projection: Projection) -> set[str]:
    """What events that the projection handles are called where they are stored, then and now."""
    names = {event.__name__ for event in aggregate.events if event in projection.handlers}
    upcasting = aggregate.upcasting
    return names | {
        name
        for name, version in upcasting.sources
        if upcasting.path(name, version)[-1].target[0] in names
    }


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
