"""Where two states first differ, to whoever reads their JSON."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from store.comparison import first_difference, value_at


class Point(Struct, frozen=True):
    x: Any
    y: Any = None


@pytest.mark.parametrize(
    ("one", "other", "place"),
    [
        (1, 1, None),
        (1, 2, ""),
        (1, 1.0, ""),
        (1, True, ""),
        (0, None, ""),
        ([1], (1,), ""),
        (math.nan, math.nan, None),
        ([1, 2], [1, 3], "/1"),
        ([1], [1, 3], "/1"),
        ({"a": 1}, {"a": 1, "b": None}, "/b"),
        ({"a": {"b/c": 1}}, {"a": {"b/c": 2}}, "/a/b~1c"),
        ({"~": 1}, {"~": 2}, "/~0"),
        ({1: "x"}, {1: "y"}, "/1"),
        (Point(1), Point(1), None),
        (Point(1, [{}]), Point(1, [{"a": 0}]), "/y/0/a"),
        (Point(1), {"x": 1, "y": None}, ""),
        ({1, 2}, {2, 1}, None),
        ({1}, {2}, ""),
    ],
)
def test_the_first_place_is_told(one: Any, other: Any, place: str | None) -> None:
    assert first_difference(one, other) == place


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.text("a~/"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a~/"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_none_is_told_only_where_the_json_is_the_same(one: Any, other: Any) -> None:
    place = first_difference(one, other)
    same = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
    assert (place is None) == same
    if place is not None:
        assert value_at(one, place) != value_at(other, place) or first_difference(
            value_at(one, place), value_at(other, place)
        )


@given(JSON)
def test_a_value_is_at_its_place(value: Any) -> None:
    for pointer, found in places("", value):
        assert value_at(value, pointer) == (found,)


def places(path: str, value: Any) -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    if isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value)]
    elif isinstance(value, dict):
        items = [(key.replace("~", "~0").replace("/", "~1"), item) for key, item in value.items()]
    return [(path, value)] + [
        place for key, item in items for place in places(f"{path}/{key}", item)
    ]


def test_a_place_that_is_not_there_has_no_value() -> None:
    assert value_at({"a": []}, "/a/0") == ()
    assert value_at(Point(1), "/z") == ()
