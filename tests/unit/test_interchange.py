"""Lines of import and export files: what goes through unchanged, and why others are refused."""

import gzip
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
import pytest

from store.errors import InvalidEvent, InvalidSource
from store.interchange import MAX_LINE_BYTES, format_line, parse_line, read_lines
from store.payload import MAX_DEPTH, MAX_PAYLOAD_BYTES
from store.records import Event

OWN: dict[str, Any] = {
    "event_id": "c9e44c79-3171-53f1-b5f9-dd27774c3e97",
    "aggregate_type": "user",
    "aggregate_id": "user-1",
    "version": 3,
    "event_type": "UserRenamed",
    "schema_version": 2,
    "data": {"name": "Zoë"},
    "metadata": {"actor": "ann", "correlation_id": "c-1", "causation_id": "k-1"},
    "occurred_at": "2026-01-02T03:04:05.678901Z",
}
CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/shop/orders",
    "type": "OrderPlaced",
    "subject": "order-7",
    "time": "2026-01-02T05:04:05+02:00",
    "aggregatetype": "order",
    "aggregateversion": 1,
    "schemaversion": 4,
    "data": {"total": 12},
}


def own(**changes: object) -> Event:
    return parse_line(json.dumps(OWN | changes).encode(), position=1)


def cloud(**changes: object) -> Event:
    return parse_line(json.dumps(CLOUD | changes).encode(), position=1)


def stream_of(text: bytes) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(text)))


def own_with(field: str, raw: bytes) -> bytes:
    """A line in our format where `field` is exactly `raw`."""
    line = json.dumps(OWN | {field: "HERE"}).encode()
    return line.replace(b'"HERE"', raw)


def test_a_line_becomes_an_event_at_the_position_given() -> None:
    event = parse_line(json.dumps(OWN).encode(), position=7)
    assert (event.aggregate_type, event.aggregate_id, event.version) == ("user", "user-1", 3)
    assert (event.position, event.event_type) == (7, "UserRenamed")
    assert event.event_id == UUID(OWN["event_id"])
    assert (event.event_version, event.schema_version) == (2, 2)
    assert event.data == {"name": "Zoë"}
    assert event.occurred_at == datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    assert event.recorded_at is None
    assert event.digest is None


def test_who_and_why_are_lifted_out_of_the_metadata() -> None:
    event = own()
    assert (event.actor, event.correlation_id, event.causation_id) == ("ann", "c-1", "k-1")


def test_an_actor_that_is_no_text_stays_in_the_metadata_only() -> None:
    event = own(metadata={"actor": {"id": 5}})
    assert event.actor is None
    assert event.metadata == {"actor": {"id": 5}}


def test_schema_version_and_metadata_may_be_left_out() -> None:
    line = {name: OWN[name] for name in OWN if name not in {"schema_version", "metadata"}}
    event = parse_line(json.dumps(line).encode(), position=1)
    assert (event.schema_version, event.metadata, event.raw_metadata) == (1, {}, b"{}")


def test_data_keeps_the_very_bytes_it_came_with() -> None:
    raw = b'{ "b":1.50,"a" : 18446744073709551617, "z":"\\u0000\\u00e9", "a2":[ ] }'
    event = parse_line(own_with("data", raw), position=1)
    assert event.raw_data == raw
    assert event.data["a"] == 18446744073709551617


def test_times_of_other_zones_come_out_in_utc() -> None:
    event = own(occurred_at="2026-01-02T03:04:05+02:00", recorded_at="2026-01-02T03:04:05-01:00")
    assert event.occurred_at == datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)
    assert event.occurred_at.tzinfo is UTC
    assert event.recorded_at == datetime(2026, 1, 2, 4, 4, 5, tzinfo=UTC)


def test_nanoseconds_are_rounded_to_microseconds() -> None:
    event = own(occurred_at="2026-01-02T03:04:05.123456789Z")
    assert event.occurred_at.microsecond == 123457


@pytest.mark.parametrize(
    "field", [name for name in OWN if name not in {"schema_version", "metadata"}]
)
def test_a_missing_field_is_named(field: str) -> None:
    line = json.dumps({name: value for name, value in OWN.items() if name != field}).encode()
    with pytest.raises(InvalidEvent, match=rf"^{field}: missing$"):
        parse_line(line, position=1)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("event_id", "user-1", "event_id: invalid UUID"),
        ("event_id", 5, "event_id: expected uuid, got int"),
        ("aggregate_type", None, "aggregate_type: expected str, got null"),
        ("aggregate_type", "", "aggregate_type: empty"),
        ("aggregate_id", "a\nb", "aggregate_id: control character U+000A at 1"),
        ("aggregate_id", "é" * 257, "aggregate_id: 514 bytes of UTF-8; the limit is 512"),
        ("event_type", "x" * 513, "event_type: 513 bytes of UTF-8; the limit is 512"),
        ("version", "3", "version: expected int, got str"),
        ("version", 3.0, "version: expected int, got float"),
        ("version", True, "version: expected int, got bool"),
        ("version", -1, "version: expected int >= 0"),
        ("version", 2**31, "version: expected int <= 2147483647"),
        ("schema_version", 0, "schema_version: expected int >= 1"),
        ("metadata", [1], "metadata: not a JSON object"),
        ("occurred_at", "2026-01-02T03:04:05", "occurred_at: expected datetime with a timezone"),
        ("occurred_at", "yesterday", "occurred_at: invalid RFC3339 encoded datetime"),
        ("occurred_at", 1767322800, "occurred_at: expected datetime, got int"),
        ("occurred_at", "0001-01-01T00:00:00+14:00", "out of range in UTC"),
        ("recorded_at", "2026-01-02T03:04:05", "recorded_at: expected datetime with a timezone"),
        ("position", "1", "position: expected int | null, got str"),
        ("metdata", {}, "metdata: unknown field"),
    ],
)
def test_a_wrong_field_is_refused_with_its_reason(field: str, value: object, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refusal:
        own(**{field: value})
    assert reason in str(refusal.value)
    assert str(refusal.value).startswith(field)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a":[1,NaN]}', "data.a[1]: nan is not JSON"),
        (b'{"a":-Infinity}', "data.a: -inf is not JSON"),
        (b'{"a":1e400}', "data.a: inf is not JSON"),
        (b"9" * 5000, "Integer value out of range"),
        (b'{"a":"\\ud800"}', "data.a: half of a surrogate pair is not text"),
        (b'{"\\udfff":1}', "data: key '\\udfff': half of a surrogate pair is not text"),
        (b'"\xff"', "not UTF-8: byte "),
        (b"{'a':1}", "JSON is malformed: expected '\"'"),
        (b"01", "JSON is malformed: invalid number"),
        (b'"\x01"', "JSON is malformed: invalid character"),
        (b"[" * 5000 + b"]" * 5000, "nested too deep"),
    ],
)
def test_data_that_is_not_json_is_refused_with_its_place(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refusal:
        parse_line(own_with("data", raw), position=1)
    assert reason in str(refusal.value)


def test_the_shortest_payload_nested_too_deep_is_refused() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_line(own_with("data", deepest), position=1).raw_data == deepest
    with pytest.raises(InvalidEvent, match="data: nested more than 200 deep"):
        parse_line(own_with("data", b"[" + deepest + b"]"), position=1)


def test_metadata_is_checked_like_data() -> None:
    with pytest.raises(InvalidEvent, match=r"metadata\.a: nan is not JSON"):
        parse_line(own_with("metadata", b'{"a":NaN}'), position=1)


@pytest.mark.parametrize("field", ["data", "metadata"])
def test_a_payload_over_the_limit_is_refused(field: str) -> None:
    raw = b'{"a":"' + b"x" * (MAX_PAYLOAD_BYTES - 7) + b'"}'
    with pytest.raises(InvalidEvent, match=rf"^{field} is 8,388,609 bytes of JSON"):
        parse_line(own_with(field, raw), position=1)


def test_a_payload_at_the_limit_is_taken() -> None:
    raw = b'"' + b"x" * (MAX_PAYLOAD_BYTES - 2) + b'"'
    assert parse_line(own_with("data", raw), position=1).raw_data == raw


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[]", "expected object, got array"),
        (b'{"event_id":', "Input data was truncated"),
        (json.dumps(OWN).encode() + b"{}", "JSON is malformed: trailing characters"),
        (b"\xef\xbb\xbf{}", "JSON is malformed"),
        (b'{"a\\nb":1}', "a b: unknown field"),
        (b'{"specversion":"1.0"', "Input data was truncated"),
    ],
)
def test_what_is_no_object_of_ours_is_refused_in_one_line(line: bytes, reason: str) -> None:
    with pytest.raises(InvalidEvent) as refusal:
        parse_line(line, position=1)
    assert reason.lower() in str(refusal.value).lower()
    assert "\n" not in str(refusal.value)


def test_a_cloud_event_becomes_an_event() -> None:
    event = cloud()
    assert (event.aggregate_type, event.aggregate_id, event.version) == ("order", "order-7", 1)
    assert (event.event_type, event.schema_version) == ("OrderPlaced", 4)
    assert event.raw_data == b'{"total": 12}'
    assert event.occurred_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_cloud_events_id_and_source_give_its_event_id() -> None:
    expected = uuid5(uuid5(NAMESPACE_URL, "/shop/orders"), "A234-1234-1234")
    assert cloud().event_id == expected
    assert cloud(source="/shop/returns").event_id != expected


def test_a_cloud_events_uuid_stays() -> None:
    assert cloud(id=OWN["event_id"]).event_id == UUID(OWN["event_id"])


def test_a_cloud_events_other_attributes_are_kept_as_metadata() -> None:
    event = cloud(traceparent="00-abc", datacontenttype="application/json")
    assert event.metadata == {
        "id": "A234-1234-1234",
        "source": "/shop/orders",
        "traceparent": "00-abc",
        "datacontenttype": "application/json",
    }


def test_a_cloud_events_correlation_and_causation_get_our_names() -> None:
    event = cloud(correlationid="c-1", causationid="k-1")
    assert (event.correlation_id, event.causation_id) == ("c-1", "k-1")
    assert event.metadata["correlation_id"] == "c-1"


def test_a_cloud_event_without_data_has_an_empty_object() -> None:
    line = json.dumps({name: CLOUD[name] for name in CLOUD if name != "data"}).encode()
    assert parse_line(line, position=1).data == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data_base64": "AAA="}, "data_base64: binary data is not taken; give JSON in data"),
        ({"specversion": "0.3"}, "specversion: invalid enum value '0.3'"),
        ({"id": ""}, "id: expected str of length >= 1"),
        ({"subject": None}, "subject: expected str, got null"),
        ({"subject": ""}, "aggregate_id: empty"),
        ({"aggregateversion": "1"}, "aggregateversion: expected int, got str"),
        ({"time": "2026-01-02T05:04:05"}, "time: expected datetime with a timezone component"),
        ({"data": float("nan")}, "data: nan is not JSON"),
    ],
)
def test_a_wrong_cloud_event_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidEvent) as refusal:
        cloud(**changes)
    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    "field", ["time", "subject", "aggregatetype", "aggregateversion", "source"]
)
def test_a_missing_attribute_of_a_cloud_event_is_named(field: str) -> None:
    line = json.dumps({name: CLOUD[name] for name in CLOUD if name != field}).encode()
    with pytest.raises(InvalidEvent, match=rf"^{field}: missing$"):
        parse_line(line, position=1)


def test_a_line_of_ours_may_hold_a_cloud_event_in_its_data() -> None:
    assert own(data=CLOUD).data == CLOUD
    with pytest.raises(InvalidEvent, match=r"^version: expected int, got str$"):
        own(data=CLOUD, version="1")


def test_a_formatted_event_is_one_line_that_parses_to_it() -> None:
    event = own(recorded_at="2026-01-02T03:04:06Z")
    line = format_line(event)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert parse_line(line, position=event.position) == event


def test_a_line_is_formatted_with_every_field_in_the_documented_order() -> None:
    names = list(json.loads(format_line(own())))
    assert names == [*OWN, "recorded_at", "position"]


def test_payloads_that_span_lines_are_formatted_on_one() -> None:
    spread = msgspec.structs.replace(own(), raw_data=b'{\n"name": "Zo\\n"\r\n}')
    assert format_line(spread).count(b"\n") == 1
    assert parse_line(format_line(spread), position=1).data == {"name": "Zo\n"}


@pytest.mark.parametrize(
    "name", ["gh_bitcoin_gui", "receipt_wabo", "scoop_main", "wikipedia_edits"]
)
def test_real_logs_come_out_as_they_went_in(data_sets: Path, name: str) -> None:
    with (data_sets / name / "events.ndjson.gz").open("rb") as stream:
        for number, line in read_lines(stream):
            event = parse_line(line, position=number)
            expected = json.loads(line)
            written = json.loads(format_line(event))
            assert written["data"] == expected["data"]
            assert written["metadata"] == expected["metadata"]
            assert parse_line(format_line(event), position=number) == event


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_are_numbered_from_one_plain_or_gzipped(pack: Callable[[bytes], bytes]) -> None:
    stream = stream_of(pack(b"a\n\nc"))
    assert list(read_lines(stream)) == [(1, b"a\n"), (2, b"\n"), (3, b"c")]


def test_an_overlong_line_is_cut_and_the_next_one_is_whole() -> None:
    text = b"x" * (3 * MAX_LINE_BYTES) + b"\n" + b"next\n"
    (_, first), second = read_lines(stream_of(text))
    assert second == (2, b"next\n")
    with pytest.raises(InvalidEvent, match=r"^line: over the limit of 16,842,752 bytes$"):
        parse_line(first, position=1)


def test_a_cut_gzip_stream_says_behind_which_line() -> None:
    packed = gzip.compress(b"".join(b"%d\n" % n for n in range(100_000)))
    stream = stream_of(packed[: len(packed) // 2])
    with pytest.raises(InvalidSource, match=r"^after line \d+: damaged gzip data: Compressed file"):
        list(read_lines(stream))


def test_a_damaged_gzip_stream_is_refused() -> None:
    packed = bytearray(gzip.compress(b"line\n" * 1000))
    packed[12] ^= 0xFF
    with pytest.raises(InvalidSource, match="damaged gzip data"):
        list(read_lines(stream_of(bytes(packed))))
