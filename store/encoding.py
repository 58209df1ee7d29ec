"""From the events a caller hands in to the columns of their rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from store import payload
from store.database.batch import EncodedAppend, EncodedEvent
from store.errors import InvalidEvent
from store.identifiers import check_text
from store.records import Context, NewEvent
from store.versions import ExpectedVersion

NO_CONTEXT = Context()


def encode_append(  # noqa: PLR0917 (the hot path's own, called in two places)
    aggregate_type: str,
    aggregate_id: str,
    events: Sequence[NewEvent],
    expected: ExpectedVersion,
    context: Context,
    now: datetime,
) -> EncodedAppend:
    """The append as rows; `now` is when events without an own time occurred.

    Raises:
        InvalidEvent: something in it may not be stored; nothing was.
    """
    check_text("aggregate_type", aggregate_type)
    check_text("aggregate_id", aggregate_id)
    if not events:
        raise InvalidEvent(f"{aggregate_id!r}: an append without events")
    inherited = {} if context is NO_CONTEXT else context.as_metadata()
    encoded = [encode_event(event, inherited, now) for event in events]
    if len(encoded) > 1 and len({event.event_id for event in encoded}) < len(encoded):
        raise InvalidEvent(f"{aggregate_id!r}: the same event_id twice in one append")
    return EncodedAppend(aggregate_type, aggregate_id, expected.version, encoded)


def encode_event(event: NewEvent, inherited: Mapping[str, Any], now: datetime) -> EncodedEvent:
    """The event as a row; `inherited` metadata gives way to the event's own."""
    if type(event.metadata) is not dict and not isinstance(event.metadata, Mapping):
        raise InvalidEvent(f"metadata: {type(event.metadata).__name__} is not a JSON object")
    metadata = {**inherited, **event.metadata} if inherited else event.metadata
    return EncodedEvent(
        event.event_id,
        event.event_type,
        event.schema_version,
        payload.encode("data", event.data),
        payload.encode("metadata", metadata) if metadata else b"{}",
        lifted(metadata, "correlation_id") if "correlation_id" in metadata else None,
        lifted(metadata, "causation_id") if "causation_id" in metadata else None,
        lifted(metadata, "actor") if "actor" in metadata else None,
        event.occurred_at.astimezone(UTC) if event.occurred_at else now,
        None,
    )


def lifted(metadata: Mapping[str, Any], name: str) -> str | None:
    """The metadata field as its column holds it: what is no proper text stays in the JSON only."""
    value = metadata.get(name)
    if not isinstance(value, str):
        return None
    try:
        return check_text(name, value)
    except InvalidEvent:
        return None
