"""Events as lines of text: the NDJSON of import, export and event files, and CloudEvents 1.0.

A line is one JSON object with `event_id`, `aggregate_type`, `aggregate_id`, `version`,
`event_type`, `data`, `occurred_at` and, where it has them, `schema_version` (1 when left out),
`metadata` ({}), `recorded_at` and an informative `position`. Any other field is refused: a
misspelt name would lose what it holds.

An object with `specversion` is a CloudEvent: `subject` is the aggregate id, `type` the event type,
`time` when it occurred; the extensions `aggregatetype` and `aggregateversion` are needed,
`schemaversion` is 1 when left out. An `id` that is no UUID becomes uuid5(uuid5(URL, source), id).
Every other attribute, `id` and `source` among them, is kept in the metadata under its own name,
but for `correlationid` and `causationid`, which get the store's names. No data is `{}`.

Times are RFC 3339 with a zone and are rounded to the microsecond. `data` and `metadata` keep the
bytes they came with.
"""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from msgspec import Meta, Raw, Struct

from store import payload
from store.errors import InvalidEvent, InvalidSource
from store.identifiers import check_text
from store.records import Event

MAX_LINE_BYTES = 2 * payload.MAX_PAYLOAD_BYTES + 64 * 1024
"""Room for the largest `data`, the largest `metadata`, and what is around them."""

_READ_BYTES = 256 * 1024

_Moment = Annotated[datetime, Meta(tz=True)]
_Version = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_SchemaVersion = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_NonEmpty = Annotated[str, Meta(min_length=1)]


class _Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    event_id: UUID
    aggregate_type: str
    aggregate_id: str
    version: _Version
    event_type: str
    schema_version: _SchemaVersion = 1
    data: Raw
    metadata: Raw = Raw(b"{}")
    occurred_at: _Moment
    recorded_at: _Moment | None = None
    position: int | None = None


class _CloudEvent(Struct, frozen=True, kw_only=True):
    specversion: Literal["1.0"]
    id: _NonEmpty
    source: _NonEmpty
    type: str
    subject: str
    time: _Moment
    aggregatetype: str
    aggregateversion: _Version
    schemaversion: _SchemaVersion = 1
    data: Raw = Raw(b"{}")
    data_base64: Any = None


_CLOUD_METADATA = {"correlationid": "correlation_id", "causationid": "causation_id"}
_KEPT_ATTRIBUTES = {"id", "source"}
_CLOUD_FIELDS = set(_CloudEvent.__struct_fields__) - _KEPT_ATTRIBUTES

_decode_line = msgspec.json.Decoder(_Line).decode
_decode_cloud_event = msgspec.json.Decoder(_CloudEvent).decode
_decode_attributes = msgspec.json.Decoder(dict[str, Any]).decode
_decode_names = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


def parse_line(line: bytes, *, position: int) -> Event:
    """The event a line tells of, at `position`; its `digest` is None.

    Raises:
        InvalidEvent: the line is not such an event; the message is one line that says why.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InvalidEvent(f"line: over the limit of {MAX_LINE_BYTES:,} bytes")
    try:
        return _event(_read_either(line), position)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(_reason(line, error)) from None


def format_line(event: Event) -> bytes:
    """`event` as it was written, as one line with its newline."""
    line = _Line(
        event_id=event.event_id,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        event_type=event.event_type,
        schema_version=event.event_version,
        data=_on_one_line(event.raw_data),
        metadata=_on_one_line(event.raw_metadata),
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        position=event.position,
    )
    return _encode(line) + b"\n"


def is_gzipped(stream: io.BufferedReader) -> bool:
    """Whether what comes next in `stream` is gzip data; nothing is consumed."""
    return stream.peek(2)[:2] == b"\x1f\x8b"


def read_lines(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """The lines of a plain or gzipped stream with their numbers from 1, each with its newline.

    Of a line over the limit comes a part that `parse_line` refuses.

    Raises:
        InvalidSource: the gzip data is damaged or ends early.
    """
    if is_gzipped(stream):
        # BufferedReader takes whatever can readinto(); the stub asks for a RawIOBase.
        unzipped = cast("io.RawIOBase", gzip.GzipFile(fileobj=stream))
        stream = io.BufferedReader(unzipped, _READ_BYTES)
    number = 0
    try:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            yield number, line
            while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidSource(f"after line {number}: damaged gzip data: {error}") from None


def _read_either(line: bytes) -> _Line:
    try:
        return _decode_line(line)
    except msgspec.ValidationError:
        if b'"specversion"' in line and "specversion" in _decode_names(line):
            return _from_cloud_event(line)
        raise


def _from_cloud_event(line: bytes) -> _Line:
    cloud = _decode_cloud_event(line)
    if cloud.data_base64 is not None:
        raise InvalidEvent("data_base64: binary data is not taken; give JSON in data")
    attributes = _decode_attributes(line).items()
    metadata = {
        _CLOUD_METADATA.get(name, name): value
        for name, value in attributes
        if name not in _CLOUD_FIELDS
    }
    return _Line(
        event_id=_cloud_event_id(cloud.source, cloud.id),
        aggregate_type=cloud.aggregatetype,
        aggregate_id=cloud.subject,
        version=cloud.aggregateversion,
        event_type=cloud.type,
        schema_version=cloud.schemaversion,
        data=cloud.data,
        metadata=Raw(_encode(metadata)),
        occurred_at=cloud.time,
    )


def _cloud_event_id(source: str, identifier: str) -> UUID:
    try:
        return msgspec.convert(identifier, UUID)
    except msgspec.ValidationError:
        return uuid5(uuid5(NAMESPACE_URL, source), identifier)


def _event(line: _Line, position: int) -> Event:
    raw_data, raw_metadata = bytes(line.data), bytes(line.metadata)
    _decoded("data", raw_data)
    metadata = _decoded("metadata", raw_metadata)
    if not isinstance(metadata, dict):
        raise InvalidEvent("metadata: not a JSON object")
    return Event(
        aggregate_type=check_text("aggregate_type", line.aggregate_type),
        aggregate_id=check_text("aggregate_id", line.aggregate_id),
        version=line.version,
        position=position,
        event_id=line.event_id,
        event_type=check_text("event_type", line.event_type),
        event_version=line.schema_version,
        schema_version=line.schema_version,
        correlation_id=_lifted(metadata, "correlation_id"),
        causation_id=_lifted(metadata, "causation_id"),
        actor=_lifted(metadata, "actor"),
        occurred_at=_in_utc("occurred_at", line.occurred_at),
        recorded_at=line.recorded_at and _in_utc("recorded_at", line.recorded_at),
        raw_data=raw_data,
        raw_metadata=raw_metadata,
        digest=None,
    )


def _decoded(field: str, raw: bytes) -> Any:
    payload.check_size(field, raw)
    value = payload.decode(raw)
    if len(raw) > 2 * payload.MAX_DEPTH:  # a level takes two bytes
        payload.check_depth(field, raw, value)
    return value


def _lifted(metadata: dict[str, Any], name: str) -> str | None:
    """The metadata field where it is a proper text, as the store's column would hold it."""
    value = metadata.get(name)
    if value is None:
        return None
    try:
        return check_text(name, value)
    except InvalidEvent:
        return None


def _in_utc(name: str, moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidEvent(f"{name}: {moment.isoformat()} is out of range in UTC") from None


def _on_one_line(encoded: bytes) -> Raw:
    # In JSON a newline can only stand between tokens, where a space means the same.
    return Raw(encoded.replace(b"\n", b" "))


def _reason(line: bytes, error: Exception) -> str:
    """Why the codec refused the line, in words that name the place."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    try:
        text = line.decode()
    except UnicodeDecodeError as fault:
        return f"not UTF-8: byte {fault.start} is {line[fault.start]:#04x}"
    return " ".join((_value_no_json_has(text) or _reworded(str(error))).splitlines())


def _value_no_json_has(text: str) -> str | None:
    """The NaN, infinity or lone surrogate that Python reads and the codec calls malformed."""
    try:
        payload.encode("", json.loads(text))
    except InvalidEvent as fault:
        return _reworded(str(fault).lstrip(".: "))
    except (ValueError, RecursionError):
        return None
    return None


def _reworded(message: str) -> str:
    """`version: expected int, got str`, from the codec's way of saying it."""
    if named := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"{named[1]}: missing"
    if named := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return f"{named[1]}: unknown field"
    if placed := re.fullmatch(r"(.*) - at `\$\.(.*)`", message):
        what = placed[1][0].lower() + placed[1][1:]
        return f"{placed[2]}: {what}".replace("`", "")
    return message.replace("`", "")
