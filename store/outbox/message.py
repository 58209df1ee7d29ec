"""What a consumer is given: an event as it came through a topic."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from store.errors import InvalidEvent
from store.records import Event, utc


class Message(Struct, frozen=True, kw_only=True):
    """An event, where it was read, and the token of who reads there.

    Of the readers of a shard the later one has the higher `token`: what takes effects elsewhere
    than behind an `Inbox` can refuse a lower one than it has seen.
    """

    event: Event
    source: str
    shard: int
    entry_id: str
    token: int


Entry = tuple[bytes, list[bytes]]
"""An entry of a stream as Redis tells it: its id, and names and values in turn."""


def read_entry(entry: Entry, *, shard: int, token: int) -> Message:
    """The message in an entry.

    Raises:
        InvalidEvent: the entry is no event of ours; the message says why.
    """
    entry_id, parts = entry[0].decode(), entry[1]
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    try:
        event, source = _event(fields), fields[b"source"].decode()
    except KeyError as error:
        raise InvalidEvent(f"entry {entry_id}: no {error.args[0].decode()}") from None
    except ValueError as error:
        raise InvalidEvent(f"entry {entry_id}: {error}") from None
    return Message(event=event, source=source, shard=shard, entry_id=entry_id, token=token)


def _event(fields: Mapping[bytes, bytes]) -> Event:
    schema_version = int(fields[b"schemaversion"])
    recorded_at = fields.get(b"recordedtime")
    return Event(
        aggregate_type=fields[b"aggregatetype"].decode(),
        aggregate_id=fields[b"subject"].decode(),
        version=int(fields[b"aggregateversion"]),
        position=int(fields[b"position"]),
        event_id=UUID(fields[b"id"].decode()),
        event_type=fields[b"type"].decode(),
        event_version=schema_version,
        schema_version=schema_version,
        correlation_id=_optional(fields, b"correlationid"),
        causation_id=_optional(fields, b"causationid"),
        actor=_optional(fields, b"actor"),
        occurred_at=_moment(fields[b"time"]),
        recorded_at=None if recorded_at is None else _moment(recorded_at),
        raw_data=fields[b"data"],
        raw_metadata=fields[b"metadata"],
        digest=None,
    )


def _optional(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = fields.get(name)
    return None if value is None else value.decode()


def _moment(text: bytes) -> datetime:
    return utc("time", datetime.fromisoformat(text.decode()))
