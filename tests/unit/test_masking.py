"""Masking: no personal value is left, and what is left has the shape it had."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import users
from store.errors import InvalidEvent
from store.interchange import format_line, parse_line
from store.trace.masking import Masking

NAMES = ("email", "phone")
SECRET = st.text(min_size=3, max_size=12).map(lambda text: f"§{text}")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.sampled_from([*NAMES, "id", "items", "note", "a/b", "~"])


def documents(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(KEYS | SECRET, inner, max_size=4)
        ),
        max_leaves=12,
    )


def texts(value: Any, *, hidden: bool = False) -> set[str]:
    """What stands, as text, in a personal field."""
    if isinstance(value, str):
        return {value} if hidden else set()
    found: set[str] = set()
    if isinstance(value, dict):
        for key, item in value.items():
            found |= {key} if hidden else set()
            found |= texts(item, hidden=hidden or key in NAMES)
    elif isinstance(value, list):
        for item in value:
            found |= texts(item, hidden=hidden)
    return found


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [shape(item) for item in value.values()]
    if isinstance(value, list):
        return [[], *map(shape, value)]
    return type(value)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def masked(*values: Any, names: Any = NAMES, **options: Any) -> list[Any]:
    masking = Masking(names, **options)
    for value in values:
        masking.learn(value)
    return [masking.document(value) for value in values]


@given(documents(SCALARS | SECRET), documents(SCALARS | SECRET))
@example({"email": "ada"}, {"note": "told ada", "ada": 1})
@example({"email": {"ada": ["lovelace"]}}, ["xlovelacex", {"id": "ada"}])
@example({"email": ["abc", "abcdef"]}, "abcdef abc")
def test_no_personal_text_is_left_anywhere(one: Any, other: Any) -> None:
    personal = (texts(one) | texts(other)) - {"", *NAMES}
    for before, after in zip((one, other), masked(one, other), strict=True):
        assert shape(after) == shape(before)
        for text in set(strings(after)) - set(NAMES):
            assert text not in personal
            rest = text.replace("•", "")
            assert not [each for each in personal if len(each) >= 4 and each in rest]


@given(st.lists(SCALARS | SECRET, min_size=1))
def test_what_was_the_same_is_the_same_and_what_differed_differs(values: list[Any]) -> None:
    texts_only = [value for value in values if isinstance(value, str)]
    found = masked({"email": texts_only})[0]["email"]
    assert len(set(found)) == len(set(texts_only))
    places = dict(zip(texts_only, found, strict=True))
    assert [places[value] for value in texts_only] == found


def test_a_masked_value_is_of_the_type_it_was() -> None:
    [found] = masked({"email": [True, 7, 9, 7, 2.5, None, "", "x", {}, []]})
    assert found == {"email": [False, 1, 2, 1, 3.0, None, "", "••1••", {}, []]}
    assert [type(each) for each in found["email"][:5]] == [bool, int, int, int, float]


def test_a_text_that_runs_into_a_digit_stays_another() -> None:
    many = [f"name-{n:02}" for n in range(12)]
    found = masked({"email": many}, {f"{many[0]}2": 1, many[11]: 2})[1]
    assert len(found) == 2


def test_a_field_is_named_by_pointer_too_in_lists_by_a_star() -> None:
    [found] = masked(
        {"items": [{"sku": "left"}, {"sku": "right"}], "sku": "up", "a/b": "slash"},
        names=(),
        pointers=["/items/*/sku", "/a~1b"],
    )
    assert found == {
        "items": [{"sku": "••1••"}, {"sku": "••2••"}],
        "sku": "up",
        "a/b": "••3••",
    }
    [found] = masked({"items": ["left", "right"]}, names=(), pointers=["/items/1"])
    assert found == {"items": ["left", "••1••"]}


@pytest.mark.parametrize("pointer", ["items", "a/b"])
def test_what_is_no_pointer_is_named(pointer: str) -> None:
    with pytest.raises(InvalidEvent, match="is no JSON pointer"):
        Masking(pointers=[pointer])


def test_a_pointer_may_name_everything() -> None:
    assert masked({"a": "left"}, names=(), pointers=[""]) == [{"••1••": "••2••"}]


def test_a_field_of_the_domain_keeps_its_name_and_a_key_that_is_data_does_not() -> None:
    masking = Masking.of(users.user)
    event = {"client": {"ip_address": "192.0.2.7", "extra": "x"}, "email": "status"}
    masking.learn(event)
    assert masking.document(event)["client"] == {"ip_address": "••1••", "••2••": "••3••"}
    assert masking.document({"status": 1, "email": "b@c.example"}).keys() == {"••4••", "email"}


def test_nothing_named_masks_nothing() -> None:
    assert not Masking().active
    assert Masking.of(users.user).active
    assert Masking(pointers=["/a"]).active
    value = {"email": "a", "n": 1.0}
    assert Masking().document(value) is value


def test_masked_json_is_json_again() -> None:
    value = {"email": '\u2028"<script>', "n": 2**70, "note": 'a \u2028"<script> b'}
    [found] = masked(value)
    assert msgspec.json.decode(msgspec.json.encode(found)) == {
        "email": "••1••",
        "n": float(2**70),
        "note": "a ••1•• b",
    }


def test_within_a_text_three_characters_are_recognised_the_longest_first() -> None:
    found = masked({"email": ["abc", "abcdef", "xy"]}, "-abcdef-abc-xy", "xy")
    assert found[1:] == ["-••2••-••1••-xy", "••3••"]


def test_what_is_learned_later_is_masked_from_then_on() -> None:
    masking = Masking(NAMES)
    assert masking.text("told ada") == "told ada"
    masking.learn({"email": "ada"})
    assert masking.text("told ada") == "told ••1••"


def test_the_name_of_a_field_is_no_value() -> None:
    assert masked({"email": "phone", "phone": "email", "x": "email"}) == [
        {"email": "••1••", "phone": "••2••", "x": "••2••"}
    ]


def test_an_event_is_as_if_it_had_been_stored_so() -> None:
    text = (
        b'{"event_id":"00000000-0000-7000-8000-000000000001","aggregate_id":"of-ada",'
        b'"aggregate_type":"t","version":1,"event_type":"Set","occurred_at":"2026-01-01T00:00:00Z",'
        b'"data":{"email":"secret","email":null,"of":"ada"},"metadata":{"actor":"ada",'
        b'"correlation_id":"c-ada","causation_id":"d-ada","email":"ada"}}'
    )
    event = parse_line(text, position=1)
    masking = Masking(NAMES)
    masking.learn(event.metadata)
    found = masking.event(event)
    assert (found.aggregate_id, found.actor) == ("of-••1••", "••1••")
    assert (found.correlation_id, found.causation_id) == ("c-••1••", "d-••1••")
    assert (found.raw_data, found.digest) == ('{"email":null,"of":"••1••"}'.encode(), None)
    assert parse_line(format_line(found), position=1) == found
    assert Masking().event(event) is event


def test_a_value_that_is_there_twice_under_one_key_is_gone() -> None:
    text = (
        b'{"event_id":"00000000-0000-7000-8000-000000000001","aggregate_id":"a",'
        b'"aggregate_type":"t","version":1,"event_type":"Set","occurred_at":"2026-01-01T00:00:00Z",'
        b'"data":{"email":"secret","email":null}}'
    )
    assert b"secret" not in format_line(Masking(NAMES).event(parse_line(text, position=1)))
