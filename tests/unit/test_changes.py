"""The changes between two documents: they lead there and back, and lists keep their items."""

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.analysis.changes import PatchFailed, apply, as_patch, diff, undone
from store.analysis.document import is_same

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.5, 1.0, float("nan"), 2**70])
    | st.text("a~/0", max_size=3)
)
KEYS = st.sampled_from(["", "a", "b~", "c/d", "id", "0"])


def items(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.integers(0, 6), unique=True, max_size=6).flatmap(
        lambda ids: st.tuples(
            *[st.fixed_dictionaries({"id": st.just(each), "v": inner}) for each in ids]
        ).map(list)
    )


DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | items(inner)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.fixed_dictionaries({"lines": items(inner)})
    ),
    max_leaves=15,
)
# The judge takes 1, 1.0 and True for one value, and NaN for none.
JUDGED = st.recursive(
    st.none() | st.integers(2, 5) | st.text("a~/0", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | items(inner) | st.dictionaries(KEYS, inner),
    max_leaves=15,
)


@given(DOCUMENTS, DOCUMENTS)
def test_changes_lead_from_one_to_the_other_and_back(one: Any, other: Any) -> None:
    before, after = copy.deepcopy(one), copy.deepcopy(other)
    changes = diff(one, other)
    assert is_same(apply(changes, one), other)
    assert is_same(apply(undone(changes), other), one)
    assert is_same(one, before)
    assert is_same(other, after)
    assert (changes == []) == is_same(one, other)


@given(JUDGED, JUDGED)
def test_another_reader_of_json_patch_gets_to_the_same(one: Any, other: Any) -> None:
    patch = as_patch(diff(one, other))
    assert jsonpatch.JsonPatch(patch).apply(copy.deepcopy(one)) == other


def lines(*ids: object) -> list[dict[str, object]]:
    return [{"id": each, "price": 1} for each in ids]


@pytest.mark.parametrize(
    ("one", "other", "patch"),
    [
        ({"a": 1}, {"a": 1.0}, [{"op": "replace", "path": "/a", "value": 1.0}]),
        ({"a": None}, {}, [{"op": "remove", "path": "/a"}]),
        ({}, {"a/b": None}, [{"op": "add", "path": "/a~1b", "value": None}]),
        (lines(1, 2), lines(0, 1, 2), [{"op": "add", "path": "/0", "value": lines(0)[0]}]),
        (lines(1, 2, 3), lines(2, 3), [{"op": "remove", "path": "/0"}]),
        (lines(1, 2, 3, 4), lines(2, 3, 4, 1), [{"op": "move", "from": "/0", "path": "/3"}]),
        (lines(1, 2, 3, 4), lines(4, 1, 2, 3), [{"op": "move", "from": "/3", "path": "/0"}]),
        (["x", "y"], ["w", "x", "y"], [{"op": "add", "path": "/0", "value": "w"}]),
        (["x", "y", "z"], ["x", "z"], [{"op": "remove", "path": "/1"}]),
        (
            [{"id": 1, "price": 1}, {"id": 2, "price": 1}],
            [{"id": 2, "price": 7}],
            [{"op": "remove", "path": "/0"}, {"op": "replace", "path": "/0/price", "value": 7}],
        ),
        (1, [1], [{"op": "replace", "path": "", "value": [1]}]),
    ],
)
def test_a_change_is_as_small_as_it_reads(one: Any, other: Any, patch: list[Any]) -> None:
    assert as_patch(diff(one, other)) == patch


def test_lists_are_matched_by_the_field_that_is_named() -> None:
    one = [{"sku": "a", "count": 1}, {"sku": "b", "count": 1}]
    other = [{"sku": "c", "count": 1}, *one]
    assert len(diff(one, other, identities=["sku"])) == 1
    renamed = [{"sku": "b", "count": 5}, {"sku": "a", "count": 1}]
    named = as_patch(diff(one, renamed, identities=["sku"]))
    assert [each["op"] for each in named] == ["move", "replace"]
    twice = [{"id": 1, "v": 1}, {"id": 1, "v": 2}]  # an identity that is none
    assert as_patch(diff(twice, twice[::-1])) != []
    assert apply(diff(twice, twice[::-1]), twice) == twice[::-1]


def test_lists_too_long_to_be_aligned_are_compared_place_by_place() -> None:
    one = [index % 3 for index in range(3_000)]
    other = [9, *one[2:], 8]
    assert len(diff(one[:60], [9, *one[2:60], 8])) < 5
    changes = diff(one, other)
    assert len(changes) > 1_000
    assert apply(changes, one) == other
    inserted = [*one[:1_500], -1, *one[1_500:]]  # however long, what is around it is the same
    assert [change.path for change in diff(one, inserted)] == ["/1500"]


@pytest.mark.parametrize("path", ["/b", "/a/0", "/l/3", "/l/x", "/l/-1"])
def test_a_change_that_does_not_fit_is_refused(path: str) -> None:
    change = diff({"x": 1}, {"x": 2})[0]
    misplaced = type(change)(op="replace", path=path, before=1, after=2)
    with pytest.raises(PatchFailed, match=path.rpartition("/")[2]):
        apply([misplaced], {"a": 1, "l": [1, 2, 3]})
