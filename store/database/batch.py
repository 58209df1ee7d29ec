"""What the log hands to a database, and what the database answers."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from msgspec import Struct

from store.digest import digest_behind, digest_prefix, microseconds


class EncodedEvent(Struct, frozen=True, gc=False):
    """An event as its row will hold it. `recorded_at` is None but where history is restored."""

    event_id: UUID
    event_type: str
    event_version: int
    data: bytes
    metadata: bytes
    correlation_id: str | None
    causation_id: str | None
    actor: str | None
    occurred_at: datetime
    recorded_at: datetime | None


class EncodedAppend(Struct, frozen=True, gc=False):
    """Events for one aggregate; `expected` is None where any version will do."""

    aggregate_type: str
    aggregate_id: str
    expected: int | None
    events: Sequence[EncodedEvent]

    def moments(self) -> list[int]:
        """When the events occurred, in `microseconds`."""
        return [microseconds(event.occurred_at) for event in self.events]

    def digests(self, base: int, moments: Sequence[int]) -> list[bytes]:
        """The events' digests, stored behind version `base`."""
        prefix = digest_prefix(self.aggregate_id)
        return [
            digest_behind(
                prefix,
                version,
                event.event_id.bytes,
                event.event_type,
                event.event_version,
                moment,
                event.data,
                event.metadata,
            )
            for version, (event, moment) in enumerate(
                zip(self.events, moments, strict=True), start=base + 1
            )
        ]


Batch: TypeAlias = Sequence[EncodedAppend]
"""Appends to different aggregates in the byte order of their ids, in which heads are locked."""


class Inserted(Struct, frozen=True):
    """All was written: each aggregate's version before; each event's position, time and digest."""

    base_versions: Sequence[int]
    positions: Sequence[int]
    recorded: Sequence[datetime]
    digests: Sequence[bytes]


class Refused(Struct, frozen=True):
    """Nothing was written: what each aggregate is, and which of the event ids it knows already.

    An aggregate that does not exist has type None and version 0.
    """

    types: Sequence[str | None]
    versions: Sequence[int]
    known: Sequence[frozenset[UUID]]


class ConnectionLost(Exception):
    """The connection ended under a statement; whether that took effect is unknown."""
