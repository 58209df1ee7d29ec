"""A fold takes events one by one, names the one that fails, and never skips a version."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from store import Aggregate, Event
from store.errors import ApplyFailed, HistoryGap, UnknownEventType
from store.folding import GENERIC, Step, changed_fields, fold_rows, merge_patch, steps


class Added(Struct, frozen=True):
    number: int


class Total(Struct, frozen=True):
    total: int = 0


def apply(state: Total, event: Added) -> Total:
    if event.number == 13:
        raise ValueError("thirteen")
    return Total(state.total + event.number)


TOTAL = Aggregate("total", initial=Total(), events=[Added], apply=apply)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(version: int, data: Any, event_type: str = "Added") -> Event:
    raw = msgspec.json.encode(data)
    return Event(
        aggregate_type="total",
        aggregate_id="a",
        version=version,
        position=version,
        event_id=UUID(int=version),
        event_type=event_type,
        event_version=1,
        schema_version=1,
        correlation_id=None,
        causation_id=None,
        actor=None,
        occurred_at=NOON,
        recorded_at=NOON,
        raw_data=raw,
        raw_metadata=b"{}",
        digest=None,
    )


def adding(*numbers: int) -> list[Event]:
    return [event(version, {"number": number}) for version, number in enumerate(numbers, start=1)]


def states(found: Sequence[Step]) -> list[tuple[Any, Any]]:
    return [(step.before.total, step.after.total) for step in found]


def test_each_event_has_the_state_before_and_after_it() -> None:
    found = list(steps(TOTAL, adding(1, 2, 3)))
    assert states(found) == [(0, 1), (1, 3), (3, 6)]
    assert [step.event.version for step in found] == [1, 2, 3]
    assert {step.error for step in found} == {None}


def test_an_event_that_cannot_be_applied_ends_it_with_what_was_reached() -> None:
    reading = steps(TOTAL, adding(1, 13, 3))
    assert states([next(reading)]) == [(0, 1)]
    with pytest.raises(ApplyFailed) as failed:
        next(reading)
    assert (failed.value.version, failed.value.event_type) == (2, "Added")
    assert (failed.value.reached_version, failed.value.reached_state) == (1, Total(1))
    assert str(failed.value) == "'a' version 2 (Added, position 2): ValueError: thirteen"
    assert isinstance(failed.value.__cause__, ValueError)


def test_analysis_goes_on_from_the_state_before_and_marks_the_event() -> None:
    found = list(steps(TOTAL, adding(1, 13, 3), go_on=True))
    assert states(found) == [(0, 1), (1, 1), (1, 4)]
    assert [step.error is not None for step in found] == [False, True, False]
    assert isinstance(found[1].error, ApplyFailed)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (event(2, {}, "Subtracted"), "aggregate 'total' has no event 'Subtracted'"),
        (event(2, {"number": "x"}), "Expected `int`, got `str`"),
    ],
)
def test_what_the_domain_cannot_read_is_named_the_same_way(bad: Event, why: str) -> None:
    with pytest.raises(ApplyFailed, match="'a' version 2") as failed:
        list(steps(TOTAL, [*adding(1), bad]))
    assert why in str(failed.value)
    assert isinstance(failed.value.__cause__, UnknownEventType | msgspec.ValidationError)


def test_a_fold_without_a_case_for_an_event_is_told_by_that_event() -> None:
    def forgetful(state: Total, event: Added) -> Total:
        return Total(event.number) if event.number != 2 else None  # type: ignore[return-value]

    fold = Aggregate("total", initial=Total(), events=[Added], apply=forgetful)
    why = (
        r"'a' version 2 \(Added(, position 2)?\): apply returned NoneType, not Total; has it a case"
    )
    with pytest.raises(ApplyFailed, match=why) as failed:
        list(steps(fold, adding(1, 2, 3)))
    assert failed.value.reached_state == Total(1)
    rows = [(each.version, "Added", each.raw_data, "total", 1) for each in adding(1, 2, 3)]
    with pytest.raises(ApplyFailed, match=why) as failed:
        fold_rows(fold, "a", rows, state=Total(), version=0)
    assert failed.value.reached_state == Total(1)


@pytest.mark.parametrize("versions", [[1, 3], [2], [1, 1], [1, 2, 4]])
def test_a_gap_is_never_skipped(versions: list[int]) -> None:
    with pytest.raises(HistoryGap) as gap:
        list(steps(TOTAL, [event(version, {"number": 1}) for version in versions], go_on=True))
    assert gap.value.found == versions[-1]
    assert gap.value.after == len(versions) - 1


def test_a_subset_is_folded_where_one_is_asked_for() -> None:
    chosen = [event(1, {"number": 1}), event(4, {"number": 4})]
    assert states(list(steps(TOTAL, chosen, gaps=True))) == [(0, 1), (1, 5)]


# The examples of RFC 7396, appendix A
@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_is_that_of_the_rfc(target: Any, patch: Any, merged: Any) -> None:
    before = msgspec.json.encode([target, patch])
    assert merge_patch(target, patch) == merged
    assert msgspec.json.encode([target, patch]) == before


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)


@given(values, values)
def test_merging_twice_is_merging_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(st.lists(st.dictionaries(st.sampled_from("abc"), values), min_size=1, max_size=5))
def test_without_a_domain_data_is_merged(patches: list[Any]) -> None:
    events = [event(version, data) for version, data in enumerate(patches, start=1)]
    merged: Any = {}
    for patch in patches:
        merged = merge_patch(merged, patch)
    assert list(steps(GENERIC, events))[-1].after == merged


@pytest.mark.parametrize(("before", "after"), [(1, True), (1, 1.0), (True, 1.0)])
def test_values_that_python_calls_equal_are_told_apart(before: Any, after: Any) -> None:
    assert changed_fields({"x": before, "y": 1}, {"x": after, "y": 1}) == ["x"]
