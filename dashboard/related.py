"""Which events belong together, and which of them caused which."""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from uuid import UUID

import msgspec

from store.records import Event, FeedFilter
from store.sources import EventSource

MAX_EVENTS = 500


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An event among its causes and effects; `children` are the positions of its effects.

    `depth` counts the causes above it. The tree is no nest of records: chains of events are longer
    than JSON may be deep.
    """

    aggregate_type: str
    aggregate_id: str
    version: int
    position: int
    event_type: str
    occurred_at: datetime
    depth: int
    children: tuple[int, ...]
    chosen: bool


class Related(msgspec.Struct, frozen=True, kw_only=True):
    """The events of a correlation id, oldest first, and the same as a tree, each below its cause.

    `cut` says that there are more. `cause` is what caused the chosen event, if it is among them.
    """

    correlation_id: str | None
    events: tuple[Event, ...]
    tree: tuple[Node, ...]
    cause: Event | None
    cut: bool


NOTHING = Related(correlation_id=None, events=(), tree=(), cause=None, cut=False)


def related(source: EventSource, event: Event, *, limit: int = MAX_EVENTS) -> Related:
    """The events of the same correlation id as `event`, itself always among them.

    Of more than `limit` these are the oldest. Without an index they are those near the event.
    """
    if event.correlation_id is None:
        return NOTHING
    where = FeedFilter(correlation_id=event.correlation_id)
    near = source.info.near
    after, before = (0, None) if near is None else (event.position - near, event.position + near)
    feed = source.feed(
        after=after, before=before, where=where, limit=limit + 1, batch_size=limit + 1
    )
    events = list(feed)
    cut = len(events) > limit
    events = events[:limit]
    places = {each.position: place for place, each in enumerate(events)}
    if event.position not in places:
        events[limit - 1 :] = [event]
        places[event.position] = len(events) - 1
    causes = _causes(events)
    cause = causes[places[event.position]]
    return Related(
        correlation_id=event.correlation_id,
        events=tuple(events),
        tree=tuple(_tree(events, causes, chosen=event.position)),
        cause=None if cause is None else events[cause],
        cut=cut,
    )


def _causes(events: Sequence[Event]) -> list[int | None]:
    """For each event the place of its cause among them, as its causation id says."""
    places: dict[UUID, int] = {}
    for place, event in enumerate(events):
        # An id is one event's within an aggregate only: the first that has it stands for it.
        places.setdefault(event.event_id, place)
    return [_place_of(event.causation_id, places) for event in events]


def _place_of(causation_id: str | None, places: dict[UUID, int]) -> int | None:
    try:
        return None if causation_id is None else places.get(UUID(causation_id))
    except ValueError:
        return None


def _tree(events: Sequence[Event], causes: Sequence[int | None], *, chosen: int) -> list[Node]:
    """Each event once, behind its cause; effects of one cause in the order of the events."""
    effects: list[list[int]] = [[] for _ in events]
    for place, cause in enumerate(causes):
        if cause is not None:
            effects[cause].append(place)
    roots = [place for place, cause in enumerate(causes) if cause is None]
    found: list[Node] = []
    seen: set[int] = set()
    # Behind the roots everybody: who is not seen by then is in a circle, or below one.
    for root in chain(roots, _in_circles(causes)):
        waiting = [(root, 0)]
        seen.add(root)
        while waiting:
            place, depth = waiting.pop()
            children = [child for child in effects[place] if child not in seen]
            seen.update(children)
            waiting += [(child, depth + 1) for child in reversed(children)]
            found.append(_node(events, place, depth, children, chosen))
    return found


def _in_circles(causes: Sequence[int | None]) -> list[int]:
    """The first event of each circle of events that cause one another."""
    firsts = []
    met: dict[int, int] = {}
    for start in range(len(causes)):
        place: int | None = start
        while place is not None and place not in met:
            met[place] = start
            place = causes[place]
        if place is not None and met[place] == start:
            firsts.append(_first_of_circle(place, causes))
    return sorted(firsts)


def _first_of_circle(place: int, causes: Sequence[int | None]) -> int:
    first, other = place, causes[place]
    while other is not None and other != place:
        first, other = min(first, other), causes[other]
    return first


def _node(
    events: Sequence[Event], place: int, depth: int, children: Sequence[int], chosen: int
) -> Node:
    event = events[place]
    return Node(
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        position=event.position,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        depth=depth,
        children=tuple(events[child].position for child in children),
        chosen=event.position == chosen,
    )
