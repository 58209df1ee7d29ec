"""The fingerprint that ties an event's bytes to its place in its history."""

import struct
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def event_digest(
    *,
    aggregate_id: str,
    version: int,
    event_id: UUID,
    event_type: str,
    event_version: int,
    occurred_at: datetime,
    data: bytes,
    metadata: bytes,
) -> bytes:
    """SHA-256 over the fields in the order above, 32 bytes.

    Texts and `data` are UTF-8 behind their length (4 bytes), `metadata` closes the message without
    one; version and time are 8 bytes, the event version 4, all big-endian; the time counts
    microseconds from 2000-01-01 UTC, as PostgreSQL does. The SQL function `event_digest` of the
    first migration computes the same.
    """
    aggregate = aggregate_id.encode()
    kind = event_type.encode()
    return sha256(
        b"".join(
            (
                struct.pack(">I", len(aggregate)),
                aggregate,
                struct.pack(">q16sI", version, event_id.bytes, len(kind)),
                kind,
                struct.pack(
                    ">iqI", event_version, (occurred_at - _EPOCH) // _MICROSECOND, len(data)
                ),
                data,
                metadata,
            )
        )
    ).digest()
