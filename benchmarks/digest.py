"""The store's digest as hand-written code computes it."""

import struct
from datetime import UTC, datetime, timedelta
from hashlib import sha256

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_pack_length = struct.Struct(">I").pack
_pack_middle = struct.Struct(">q16sI").pack
_pack_time = struct.Struct(">iqI").pack


def digest(  # noqa: PLR0917 (called once an event; keywords would cost)
    aggregate_id: str,
    version: int,
    event_id: bytes,
    event_type: str,
    occurred_at: datetime,
    data: bytes,
    metadata: bytes,
    schema_version: int = 1,
) -> bytes:
    """See `store.digest.event_digest`."""
    aggregate, kind = aggregate_id.encode(), event_type.encode()
    moment = (occurred_at - _EPOCH) // _MICROSECOND
    return sha256(
        _pack_length(len(aggregate))
        + aggregate
        + _pack_middle(version, event_id, len(kind))
        + kind
        + _pack_time(schema_version, moment, len(data))
        + data
        + metadata
    ).digest()
