"""PyPI's `eventsourcing` on the same server, in two ways.

`Peer` is what its tutorial shows: an application that saves aggregates, which are in memory
already. `FastPeer` is its event store without aggregates, inserting by a database function, with
JSON by msgspec.
"""

import threading
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, DomainEvent, datetime_now_with_tzinfo, event
from eventsourcing.persistence import IntegrityError, Transcoder
from psycopg.conninfo import conninfo_to_dict

from benchmarks.workload import ACTOR, BATCH, Conflict, payloads


class Ticket(Aggregate):
    """The aggregate of the workload: it keeps what came last."""

    @event("Opened")
    def __init__(self, ticket_id: UUID, data: dict[str, Any], actor: str) -> None:
        self.ticket_id, self.last, self.last_actor = ticket_id, data, actor

    @staticmethod
    def create_id(ticket_id: UUID, **_: Any) -> UUID:
        """The caller's id."""
        return ticket_id

    @event("CommentAdded")
    def add_comment(self, data: dict[str, Any], actor: str) -> None:
        """Keep it."""
        self.last, self.last_actor = data, actor


class CommentAdded(DomainEvent):
    """The same event without an aggregate; the package makes it a dataclass."""

    data: dict[str, Any]
    actor: str


class FastTranscoder(Transcoder):
    """JSON by msgspec instead of the standard library; times come back as text."""

    def encode(self, obj: Any) -> bytes:
        """See `Transcoder.encode`."""
        return msgspec.json.encode(obj)

    def decode(self, data: bytes) -> Any:
        """See `Transcoder.decode`."""
        return msgspec.json.decode(data)


class FastApplication(Application[UUID]):
    """An application with the quicker transcoder."""

    def construct_transcoder(self) -> Transcoder:
        """See `Application.construct_transcoder`."""
        return FastTranscoder()


class Peer:
    """See `Contender`."""

    def __init__(self, url: str, *, create: bool = False) -> None:
        self.application = Application[UUID](_environment(url, create=create))
        self._thread = threading.local()

    def append(self, aggregate_id: str, expected: int, count: int) -> None:
        """See `Contender.append`."""
        originator, (first, *rest) = UUID(aggregate_id), payloads(expected, count)
        if expected:
            ticket = self._tickets[originator]
            ticket.add_comment(first, ACTOR)
        else:
            ticket = self._tickets[originator] = Ticket(originator, first, ACTOR)
        for payload in rest:
            ticket.add_comment(payload, ACTOR)
        try:
            self.application.save(ticket)
        except IntegrityError as conflict:
            raise Conflict from conflict

    def reload(self, aggregate_id: str, version: int) -> int:
        """See `Contender.reload`; there is no way but from the start."""
        originator = UUID(aggregate_id)
        try:
            ticket: Ticket = self.application.repository.get(originator)
        except AggregateNotFoundError:
            return version
        self._tickets[originator] = ticket
        return ticket.version

    def scan(self) -> int:
        """See `Contender.scan`."""
        return _scan(self.application)

    def close(self) -> None:
        """See `Contender.close`."""
        self.application.close()

    @property
    def _tickets(self) -> dict[UUID, Ticket]:
        """This thread's own."""
        tickets: dict[UUID, Ticket] = self._thread.__dict__.setdefault("tickets", {})
        return tickets


class FastPeer:
    """See `Contender`."""

    def __init__(self, url: str, *, create: bool = False) -> None:
        functions = {"POSTGRES_ENABLE_DB_FUNCTIONS": "yes"}
        self.application = FastApplication(_environment(url, create=create) | functions)

    def append(self, aggregate_id: str, expected: int, count: int) -> None:
        """See `Contender.append`."""
        originator = UUID(aggregate_id)
        now = datetime_now_with_tzinfo()
        events = [
            CommentAdded(  # type: ignore[call-arg]  # the metaclass adds the fields
                originator_id=originator,
                originator_version=version,
                timestamp=now,
                data=payload,
                actor=ACTOR,
            )
            for version, payload in enumerate(payloads(expected, count), start=expected + 1)
        ]
        try:
            self.application.events.put(events)
        except IntegrityError as conflict:
            raise Conflict from conflict

    def reload(self, aggregate_id: str, version: int) -> int:
        """See `Contender.reload`."""
        for missed in self.application.events.get(UUID(aggregate_id), gt=version):
            version = missed.originator_version
        return version

    def scan(self) -> int:
        """See `Contender.scan`."""
        return _scan(self.application)

    def close(self) -> None:
        """See `Contender.close`."""
        self.application.close()


def _environment(url: str, *, create: bool) -> dict[str, str]:
    place = conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(place["dbname"]),
        "POSTGRES_HOST": str(place["host"]),
        "POSTGRES_USER": str(place["user"]),
        "POSTGRES_PASSWORD": "",
        "POSTGRES_POOL_SIZE": "8",
        # Always is the package's default, which fails where processes start at once.
        "CREATE_TABLE": "yes" if create else "no",
    }


def _scan(application: Application[UUID]) -> int:
    recorder, mapper = application.recorder, application.mapper
    start = count = 0
    while notifications := recorder.select_notifications(start + 1, BATCH):
        events = [mapper.to_domain_event(notification) for notification in notifications]
        start = int(notifications[-1].id)
        count += len(events)
    return count
