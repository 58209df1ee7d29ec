"""An event's JSON is decoded when it is asked for, and never somebody else's."""

from copy import copy
from datetime import UTC, datetime
from uuid import UUID

from msgspec.structs import replace

from store import Event

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(**fields: object) -> Event:
    named: dict[str, object] = {
        "aggregate_type": "user",
        "aggregate_id": "u",
        "version": 1,
        "position": 1,
        "event_id": UUID(int=1),
        "event_type": "UserCreated",
        "event_version": 1,
        "schema_version": 1,
        "correlation_id": None,
        "causation_id": None,
        "actor": None,
        "occurred_at": NOON,
        "recorded_at": NOON,
        "raw_data": b'{"names":["Ann"]}',
        "raw_metadata": b'{"source":"web"}',
        "digest": None,
    }
    return Event(**(named | fields))  # type: ignore[arg-type]


def test_data_and_metadata_are_the_json_and_stay_the_events_own() -> None:
    one = event()
    assert (one.data, one.metadata) == ({"names": ["Ann"]}, {"source": "web"})
    assert one.data is one.data
    assert one.metadata is one.metadata


def test_a_copy_made_before_shares_nothing() -> None:
    kept = event()
    given = copy(kept)
    given.data["names"].append("Eve")
    given.metadata["source"] = "elsewhere"
    assert (kept.data, kept.metadata) == ({"names": ["Ann"]}, {"source": "web"})


def test_other_bytes_are_other_values_though_the_first_were_decoded() -> None:
    one = event()
    assert one.data
    assert one.metadata
    other = replace(one, raw_data=b"[1]", raw_metadata=b"{}")
    assert (other.data, other.metadata) == ([1], {})
    assert replace(other, upcast_data=b'{"n":1}').data == {"n": 1}


def test_metadata_that_are_no_object_are_empty() -> None:
    assert event(raw_metadata=b"[]").metadata == {}


def test_equal_is_what_was_stored_equally_whatever_has_been_decoded() -> None:
    one, other = event(), event()
    assert one.data
    assert one == other
    assert one != event(raw_data=b"{}")
    assert one != "event"
    assert repr(one) == repr(other)
    assert 'raw_data=b\'{"names":["Ann"]}\'' in repr(one)
    assert "_data" not in repr(one).replace("raw_data", "").replace("upcast_data", "")
