"""The fingerprint that ties an event's bytes to its place in its history."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct
from uuid import UUID

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LENGTH = Struct(">I").pack
_EVENT = Struct(">q16sI").pack
_TIME = Struct(">iqI").pack


def microseconds(moment: datetime) -> int:
    """Microseconds since 2000-01-01 UTC, as PostgreSQL keeps a time."""
    return (moment - _EPOCH) // _MICROSECOND


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
    return digest_behind(
        digest_prefix(aggregate_id),
        version,
        event_id.bytes,
        event_type,
        event_version,
        microseconds(occurred_at),
        data,
        metadata,
    )


def snapshot_digest(*, aggregate_id: str, version: int, fingerprint: str, state: bytes) -> str:
    """SHA-256, in hex, over the fields in the order above, as UTF-8 with a NUL behind each but one.

    No id has a NUL in it.
    """
    return sha256(f"{aggregate_id}\0{version}\0{fingerprint}\0".encode() + state).hexdigest()


def digest_prefix(aggregate_id: str) -> bytes:
    """What the digests of all events of an aggregate begin with."""
    encoded = aggregate_id.encode()
    return _LENGTH(len(encoded)) + encoded


def digest_behind(  # noqa: PLR0917 (once an event; keywords would cost)
    prefix: bytes,
    version: int,
    event_id: bytes,
    event_type: str,
    event_version: int,
    occurred_at: int,
    data: bytes,
    metadata: bytes,
) -> bytes:
    """`event_digest` behind a `digest_prefix`; the time in `microseconds`."""
    kind = event_type.encode()
    return sha256(
        b"".join(
            (
                prefix,
                _EVENT(version, event_id, len(kind)),
                kind,
                _TIME(event_version, occurred_at, len(data)),
                data,
                metadata,
            )
        )
    ).digest()
