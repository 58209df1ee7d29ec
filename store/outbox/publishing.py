"""Where a relay hands events to; whatever takes them is behind this."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from store.records import Event


class Publisher(Protocol):
    """Takes events to their subscribers."""

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        """Publish events; why some could not be, by position.

        Those of an aggregate stand in the order of their versions. Behind one that could not be
        published none of its aggregate is, and need not be told. An event may come again: who takes
        it knows it by aggregate id and version. What this raises holds for all of them.
        """
        ...


class Several:
    """Publishes to one after the other. See `Publisher`.

    What the first has not taken, nor what stands behind it, goes to no further one; what one of
    them could not publish comes to all of them again.
    """

    def __init__(self, publishers: Sequence[Publisher]) -> None:
        self._publishers = tuple(publishers)

    def __str__(self) -> str:
        return " and ".join(map(str, self._publishers))

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        """See `Publisher.publish`."""
        failures: dict[int, Exception] = {}
        for publisher in self._publishers:
            failed = publish(publisher, events)
            failures |= failed
            events = _before(events, failed)
        return failures


def publish(publisher: Publisher, events: Sequence[Event]) -> Mapping[int, Exception]:
    try:
        return publisher.publish(events) if events else {}
    except Exception as error:  # noqa: BLE001 (somebody else's code; the relay writes it down)
        return {event.position: error for event in events}


def _before(events: Sequence[Event], failures: Mapping[int, Exception]) -> Sequence[Event]:
    """Those that stand before the first failure of their aggregate."""
    failed: set[str] = set()
    taken = []
    for event in events:
        if event.position in failures:
            failed.add(event.aggregate_id)
        if event.aggregate_id not in failed:
            taken.append(event)
    return taken
