"""A publisher that keeps what it was given, and fails where it is told to."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import text

from store import Hindsight
from store.outbox import ATTEMPTS, OnDeadLetter, Relay
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
        self.refusal: Exception | None = None
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
                told = Refused(f"no {event.event_type} today")
                failures[event.position] = self.refusal or told
            else:
                self.events.append(event)
        return failures

    def versions(self) -> dict[str, list[int]]:
        """What has been published of each aggregate, in that order."""
        found: defaultdict[str, list[int]] = defaultdict(list)
        for event in self.events:
            found[event.aggregate_id].append(event.version)
        return dict(found)


def relay_all(
    store: Hindsight,
    *,
    dead: Mapping[str, int] | None = None,
    on_dead_letter: OnDeadLetter = "hold",
) -> None:
    """Publish what is due, but for one version of some aggregates: those become dead letters."""
    failing = set((dead or {}).items())
    last = "UPDATE outbox SET attempts = :made WHERE aggregate_id = :id AND version = :version"
    with store.database.transaction() as connection:
        for aggregate_id, version in failing:
            made = {"made": ATTEMPTS - 1, "id": aggregate_id, "version": version}
            connection.execute(text(last), made)
    publisher = Recording(lambda event: (event.aggregate_id, event.version) in failing)
    relay = Relay(store.database, publisher, on_dead_letter=on_dead_letter)
    while relay.once().claimed:
        pass
