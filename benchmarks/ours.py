"""The store as a service uses it."""

from benchmarks.workload import ACTOR, AGGREGATE_TYPE, BATCH, EVENT_TYPE, Conflict, payloads
from store import Context, Hindsight, NewEvent, exact
from store.errors import VersionConflict


class Ours:
    """See `Contender`."""

    def __init__(self, url: str) -> None:
        # None of the others writes an outbox; what that costs is a measure of its own.
        self.store = Hindsight(url, outbox=False)

    def append(self, aggregate_id: str, expected: int, count: int) -> None:
        """See `Contender.append`."""
        try:
            self.store.append(
                AGGREGATE_TYPE,
                aggregate_id,
                [NewEvent(EVENT_TYPE, payload) for payload in payloads(expected, count)],
                expected=exact(expected),
                context=Context(actor=ACTOR),
            )
        except VersionConflict as conflict:
            raise Conflict from conflict

    def reload(self, aggregate_id: str, version: int) -> int:
        """See `Contender.reload`."""
        for event in self.store.events(aggregate_id, from_version=version + 1):
            version = event.version
        return version

    def scan(self) -> int:
        """See `Contender.scan`."""
        decoded = ((event.data, event.metadata) for event in self.store.feed(batch_size=BATCH))
        return sum(1 for _ in decoded)

    def close(self) -> None:
        """See `Contender.close`."""
        self.store.close()
