"""A publisher that keeps what it was given, and fails where it is told to."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from store.records import Event

Fails = Callable[[Event], bool]


class Refused(Exception):
    """The publisher was told to fail."""


class Recording:
    """See `Publisher`. `meanwhile` is called before an event is taken."""

    def __init__(
        self,
        fails: Fails = lambda _: False,
        *,
        meanwhile: Callable[[Event], object] = lambda _: None,
    ) -> None:
        self.fails = fails
        self.meanwhile = meanwhile
        self.events: list[Event] = []
        self.tried: list[Event] = []

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        failures: dict[int, Exception] = {}
        failed: set[str] = set()
        for event in events:
            if event.aggregate_id in failed:
                continue
            self.meanwhile(event)
            self.tried.append(event)
            if self.fails(event):
                failed.add(event.aggregate_id)
                failures[event.position] = Refused(f"no {event.event_type} today")
            else:
                self.events.append(event)
        return failures

    def versions(self) -> dict[str, list[int]]:
        """What has been published of each aggregate, in that order."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for event in self.events:
            found[event.aggregate_id].append(event.version)
        return dict(found)
