"""From the events a caller hands in to the columns of their rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

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
    inherited = _inherited(context)
    encoded = [_encode_event(event, inherited, now) for event in events]
    if len(encoded) > 1 and len({event.event_id for event in encoded}) < len(encoded):
        raise InvalidEvent(f"{aggregate_id!r}: the same event_id twice in one append")
    return EncodedAppend(aggregate_type, aggregate_id, expected.version, encoded)


class _Metadata(Struct, frozen=True, gc=False):
    """Metadata and what of it has columns."""

    fields: Mapping[str, Any]
    encoded: bytes
    correlation_id: str | None
    causation_id: str | None
    actor: str | None


def _inherited(context: Context) -> _Metadata:
    if context is NO_CONTEXT:
        return _NOTHING
    fields = context.as_metadata()
    encoded = payload.encode("metadata", fields)
    return _Metadata(fields, encoded, context.correlation_id, context.causation_id, context.actor)


def _metadata(event: NewEvent, inherited: _Metadata) -> _Metadata:
    """The event's own metadata, and what it inherits beside them."""
    own = event.metadata
    if type(own) is not dict and not isinstance(own, Mapping):
        raise InvalidEvent(f"metadata: {type(own).__name__} is not a JSON object")
    if not own:
        return inherited
    fields = {**inherited.fields, **own}
    return _Metadata(
        fields,
        payload.encode("metadata", fields),
        lifted(fields, "correlation_id"),
        lifted(fields, "causation_id"),
        lifted(fields, "actor"),
    )


def _encode_event(event: NewEvent, inherited: _Metadata, now: datetime) -> EncodedEvent:
    metadata = _metadata(event, inherited)
    return EncodedEvent(
        event.event_id,
        event.event_type,
        event.schema_version,
        payload.encode("data", event.data),
        metadata.encoded,
        metadata.correlation_id,
        metadata.causation_id,
        metadata.actor,
        event.occurred_at.astimezone(UTC) if event.occurred_at else now,
        None,
    )


_NOTHING = _Metadata({}, b"{}", None, None, None)


def lifted(metadata: Mapping[str, Any], name: str) -> str | None:
    """The metadata field as its column holds it: what is no proper text stays in the JSON only."""
    value = metadata.get(name)
    if not isinstance(value, str):
        return None
    try:
        return check_text(name, value)
    except InvalidEvent:
        return None
