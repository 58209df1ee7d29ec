"""What the log hands to a database, and what the database answers."""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeAlias, TypeVar
from uuid import UUID

from msgspec import Struct

T = TypeVar("T")


class EncodedEvent(Struct, frozen=True):
    """An event as its row will hold it. `recorded_at` is None but where history is restored.

    A batch's events get their positions by `place`, then in the batch's order: what comes from a
    feed of many aggregates keeps its order.
    """

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
    place: int = 0


class EncodedAppend(Struct, frozen=True):
    """Events for one aggregate; `expected` is None where any version will do."""

    aggregate_type: str
    aggregate_id: str
    expected: int | None
    events: Sequence[EncodedEvent]


Batch: TypeAlias = Sequence[EncodedAppend]
"""Appends to different aggregates in the byte order of their ids, in which heads are locked."""


def by_place(batch: Batch) -> list[int]:
    """The indices of the batch's events in the order they are to be written."""
    places = [event.place for append in batch for event in append.events]
    return sorted(range(len(places)), key=places.__getitem__)


def in_batch_order(order: Sequence[int], written: Sequence[T]) -> list[T]:
    """What was written in `order`, as the batch has it."""
    return [value for _, value in sorted(zip(order, written, strict=True), key=itemgetter(0))]


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
