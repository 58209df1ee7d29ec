"""What is appended comes back equal, and what would not is refused before anything is written."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import Append, Context, Event, Hindsight, NewEvent, any_
from store.errors import InvalidEvent, PayloadTooLarge
from store.interchange import format_line, parse_line
from store.payload import MAX_PAYLOAD_BYTES

pytestmark = pytest.mark.slow

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
payloads = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=25
)
many = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def exactly(value: Any) -> str:
    """Tells True from 1, 1 from 1.0 and -0.0 from 0.0, which are equal in Python."""
    return repr(value)


def new_id() -> str:
    return f"aggregate-{uuid4()}"


def nested(depth: int, innermost: Any = 1) -> Any:
    value = innermost
    for level in range(depth):
        value = {"k": value} if level % 2 else [value]
    return value


def write(store: Hindsight, *payloads: Any) -> list[Event]:
    """Append the payloads in one go; their events as they are read afterwards."""
    aggregate_id = new_id()
    appended = store.append(
        "a", aggregate_id, [NewEvent("E", payload) for payload in payloads], expected=any_()
    )
    events = list(store.events(aggregate_id))
    assert events == list(appended.events)
    return events


@many
@given(data=payloads)
def test_a_payload_comes_back_equal(store: Hindsight, data: Any) -> None:
    [event] = write(store, data)
    assert exactly(event.data) == exactly(data)


@many
@given(several=st.lists(payloads, min_size=2, max_size=5))
def test_payloads_of_one_append_come_back_equal(store: Hindsight, several: list[Any]) -> None:
    assert exactly([event.data for event in write(store, *several)]) == exactly(several)


@many
@given(several=st.lists(payloads, min_size=2, max_size=4))
def test_payloads_of_several_aggregates_come_back_equal(
    store: Hindsight, several: list[Any]
) -> None:
    appends = [
        Append(
            aggregate_type="a",
            aggregate_id=new_id(),
            events=[NewEvent("E", data)],
            expected=any_(),
        )
        for data in several
    ]
    store.append_all(appends)
    read = [event.data for append in appends for event in store.events(append.aggregate_id)]
    assert exactly(read) == exactly(several)


@many
@given(metadata=st.dictionaries(texts, payloads))
def test_metadata_comes_back_equal(store: Hindsight, metadata: dict[str, Any]) -> None:
    aggregate_id = new_id()
    store.append("a", aggregate_id, [NewEvent("E", 1, metadata=metadata)], expected=any_())
    [event] = store.events(aggregate_id)
    assert exactly(event.metadata) == exactly(metadata)


@many
@given(data=payloads)
def test_the_raw_bytes_are_the_json_as_it_was_encoded(store: Hindsight, data: Any) -> None:
    [event] = write(store, data)
    assert event.raw_data == msgspec.json.encode(data)
    assert exactly(json.loads(event.raw_data)) == exactly(data)  # as any other reader sees it


@pytest.mark.parametrize(
    "data",
    [
        True,
        1,
        1.0,
        0.0,
        -0.0,
        2**53 + 1,
        2**64,
        -(2**63) - 1,
        10**4_000,
        5e-324,
        1.7976931348623157e308,
        1e16,
        0.1 + 0.2,
        "",
        "\x00",
        {"\x00": "\x00", "a\x00b": 1},
        "\U0001f600\U0010ffff\uffff\u2028\x7f",
        {"\U0001f600": {"": []}},
        [],
        {},
        [[], {}, [[]], None],
        '\\ " / \\u0000 \b\f\n\r\t',
        "[" * 1_000,
        nested(200),
        ["", {}] * 1_000,
    ],
    ids=lambda value: exactly(value)[:30] if not isinstance(value, int) else type(value).__name__,
)
def test_the_corners_of_json_come_back_equal(store: Hindsight, data: Any) -> None:
    [event] = write(store, data)
    assert exactly(event.data) == exactly(data)


def test_the_deepest_payload_is_read_from_deep_in_the_stack(store: Hindsight) -> None:
    events = write(store, nested(200))

    def read(frames: int) -> list[Event]:
        return read(frames - 1) if frames else list(store.events(events[0].aggregate_id))

    assert read(400) == events


class Colour(Enum):
    RED = "red"


def cyclic_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def cyclic_object() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


REFUSED = [
    (float("nan"), ": nan is not JSON"),
    ({"a": [1, float("inf")]}, ".a[1]: inf is not JSON"),
    ({"a": {"b": float("-inf")}}, ".a.b: -inf is not JSON"),
    ("\ud800", ": half of a surrogate pair is not text"),
    (["a", "b\udfff"], "[1]: half of a surrogate pair is not text"),
    ({"\udc00": 1}, ": key '\\udc00': half of a surrogate pair is not text"),
    ({"a": Decimal("1.5")}, ".a: Decimal is not JSON; write it as text or number"),
    ({"a": [UUID(int=1)]}, ".a[0]: UUID is not JSON; write it as text or number"),
    ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, ".a: datetime is not JSON"),
    ({"a": datetime(2026, 1, 1, tzinfo=UTC).date()}, ".a: date is not JSON"),
    (b"bytes", ": bytes is not JSON"),
    ({"a": {1, 2}}, ".a: set is not JSON"),
    (frozenset(), ": frozenset is not JSON"),
    ({"a": (1, 2)}, ".a: tuple is not JSON"),
    ([()], "[0]: tuple is not JSON"),
    (Colour.RED, ": Colour is not JSON"),
    (object(), ": object is not JSON"),
    ({"a": {1: "x"}}, ".a: key 1 is int; JSON keys are text"),
    ({None: "x"}, ": key None is NoneType; JSON keys are text"),
    ({True: "x"}, ": key True is bool; JSON keys are text"),
    ({("a", "b"): "x"}, ": key ('a', 'b') is tuple; JSON keys are text"),
    (10**5_000, "limit (4300 digits)"),
    (cyclic_list(), "nested more than 200 deep, or refers to itself"),
    (cyclic_object(), "nested more than 200 deep, or refers to itself"),
    (nested(201), "nested more than 200 deep"),
    (nested(100_000), "nested more than 200 deep"),
    (nested(150, float("nan")), ": nan is not JSON"),
]
refused = pytest.mark.parametrize(
    ("value", "reason"), REFUSED, ids=[reason.strip(": .") for _, reason in REFUSED]
)


def refusal(store: Hindsight, *events: NewEvent, context: Context | None = None) -> str:
    """Why the events are refused; nothing is written then, and no position is used up."""
    before = (list(store.feed()), store.counts(), store.database.last_position())
    with pytest.raises(InvalidEvent) as error:
        store.append("a", new_id(), events, expected=any_(), context=context or Context())
    assert (list(store.feed()), store.counts(), store.database.last_position()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@refused
def test_data_that_is_not_json_is_refused_with_its_place(
    store: Hindsight, value: Any, reason: str
) -> None:
    message = refusal(store, NewEvent("E", 1), NewEvent("E", value), NewEvent("E", 3))
    assert message.startswith("data")
    assert reason in message


@refused
def test_metadata_that_is_not_json_is_refused_with_its_place(
    store: Hindsight, value: Any, reason: str
) -> None:
    message = refusal(store, NewEvent("E", 1, metadata={"m": value}))
    assert message.startswith("metadata")
    assert reason in message.replace("metadata.m", "", 1) or "200 deep" in message


@pytest.mark.parametrize("metadata", [None, [], ["a"], "text", 1, {"a"}])
def test_metadata_that_is_no_object_is_refused(store: Hindsight, metadata: Any) -> None:
    for context in (Context(), Context(actor="ann")):
        message = refusal(store, NewEvent("E", 1, metadata=metadata), context=context)
        assert message == f"metadata: {type(metadata).__name__} is not a JSON object"


def test_a_bad_payload_refuses_the_whole_append_all(store: Hindsight) -> None:
    appends = [
        Append(
            aggregate_type="a",
            aggregate_id=new_id(),
            events=[NewEvent("E", data)],
            expected=any_(),
        )
        for data in (1, {"a": float("nan")})
    ]
    with pytest.raises(InvalidEvent, match=r"data\.a: nan is not JSON"):
        store.append_all(appends)
    assert store.counts().events == 0


def of_size(size: int) -> str:
    """A payload of that many bytes of JSON, of which a character has two."""
    return "é" * ((size - 2) // 2) + "x" * (size % 2)


def test_a_payload_of_exactly_the_limit_is_stored(store: Hindsight) -> None:
    data = of_size(MAX_PAYLOAD_BYTES)
    [event] = write(store, data)
    assert len(event.raw_data) == MAX_PAYLOAD_BYTES
    assert event.data == data


def test_metadata_of_exactly_the_limit_is_stored(store: Hindsight) -> None:
    metadata = {"m": of_size(MAX_PAYLOAD_BYTES - len('{"m":}'))}
    store.append("a", "a", [NewEvent("E", 1, metadata=metadata)], expected=any_())
    [event] = store.events("a")
    assert len(event.raw_metadata) == MAX_PAYLOAD_BYTES
    assert event.metadata == metadata


@pytest.mark.parametrize("field", ["data", "metadata"])
def test_a_payload_a_byte_over_the_limit_is_refused(store: Hindsight, field: str) -> None:
    around = 0 if field == "data" else len('{"m":}')
    value = of_size(MAX_PAYLOAD_BYTES + 1 - around)
    event = NewEvent("E", value) if field == "data" else NewEvent("E", 1, metadata={"m": value})
    with pytest.raises(PayloadTooLarge) as error:
        store.append("a", "a", [event], expected=any_())
    assert str(error.value) == f"{field} is 8,388,609 bytes of JSON; the limit is 8,388,608"
    assert (error.value.size, error.value.limit) == (MAX_PAYLOAD_BYTES + 1, MAX_PAYLOAD_BYTES)
    assert store.counts().events == 0


LIFTED = ("correlation_id", "causation_id", "actor")


def lifted(store: Hindsight, metadata: Mapping[str, Any], context: Context) -> dict[str, Any]:
    aggregate_id = new_id()
    event = NewEvent("E", 1, metadata=metadata)
    store.append("a", aggregate_id, [event], expected=any_(), context=context)
    [stored] = store.events(aggregate_id)
    return {name: getattr(stored, name) for name in LIFTED} | {"metadata": stored.metadata}


def test_who_and_what_caused_an_event_is_lifted_from_its_metadata(store: Hindsight) -> None:
    metadata = {"correlation_id": "c", "causation_id": "é" * 256, "actor": "\U0001f600"}
    assert lifted(store, metadata, Context()) == metadata | {"metadata": metadata}


def test_the_context_joins_the_metadata(store: Hindsight) -> None:
    context = Context(correlation_id="c", causation_id="d", actor="e")
    named = {"correlation_id": "c", "causation_id": "d", "actor": "e"}
    found = lifted(store, {"other": 1}, context)
    assert found == named | {"metadata": named | {"other": 1}}


def test_metadata_of_its_own_comes_before_the_context(store: Hindsight) -> None:
    found = lifted(store, {"actor": "own"}, Context(actor="ann", correlation_id="c"))
    assert (found["actor"], found["correlation_id"]) == ("own", "c")
    assert found["metadata"] == {"actor": "own", "correlation_id": "c"}


@pytest.mark.parametrize("name", LIFTED)
@pytest.mark.parametrize("value", [1, None, ["a"], "", "a\x00b", "line\n", "x" * 513, {}])
def test_what_is_no_proper_text_stays_in_the_metadata_only(
    store: Hindsight, name: str, value: Any
) -> None:
    found = lifted(store, {name: value}, Context())
    assert found[name] is None
    assert found["metadata"] == {name: value}


@pytest.mark.parametrize("field", ["data", "metadata"])
def test_a_line_of_a_file_may_nest_no_deeper_than_an_append(store: Hindsight, field: str) -> None:
    [event] = write(store, 1)
    lines = [
        format_line(msgspec.structs.replace(event, **{f"raw_{field}": msgspec.json.encode(value)}))
        for value in ({"a": nested(199)}, {"a": nested(200)})
    ]
    parse_line(lines[0], position=1)
    with pytest.raises(InvalidEvent, match=f"^{field}: nested more than 200 deep"):
        parse_line(lines[1], position=1)
