"""Intervals of a predicate: they are the history of its answers, however often it flips."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.analysis import Answer, Bisection, Evaluation, Expression, Step, bisect, watch
from store.analysis.bisect import _intervals
from store.errors import ExpressionTooCostly, HistoryGap, NotAPredicate
from store.records import Event

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOLDS = Expression("holds")


def steps(documents: Sequence[Any], *, first: int = 1, failing: Sequence[int] = ()) -> list[Step]:
    return [
        Step(
            event=Event(
                event_id=UUID(int=version),
                event_type="Set",
                event_version=1,
                schema_version=1,
                correlation_id=None,
                causation_id=None,
                actor=None,
                occurred_at=NOON,
                aggregate_type="thing",
                aggregate_id="a",
                version=version,
                position=version,
                recorded_at=NOON,
                raw_data=b"{}",
                raw_metadata=b"{}",
                digest=None,
            ),
            before=None,
            after=after,
            changes=(),
            elapsed=None,
            took=0.0,
            error="no" if version in failing else None,
        )
        for version, after in enumerate(documents, first)
    ]


@pytest.fixture(scope="module")
def evaluation() -> Iterator[Evaluation]:
    with Evaluation(HOLDS) as opened:
        yield opened


@settings(deadline=None)  # the first starts a process
@given(
    values=st.lists(
        st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=1)
        | st.lists(st.sampled_from([True, False]), max_size=5),
        max_size=30,
    ).map(lambda runs: [value for run in runs for value in run]),
    first=st.integers(0, 3),
)
def test_intervals_are_the_sequence(
    evaluation: Evaluation, values: list[bool | None], first: int
) -> None:
    documents = [{} if value is None else {"holds": value} for value in values]
    found = Bisection(intervals=tuple(_intervals(steps(documents, first=first), evaluation)))
    again = [
        (interval.answer.value, version)
        for interval in found.intervals
        for version in range(interval.first, interval.last + 1)
    ]
    assert again == list(zip(values, range(first, first + len(values)), strict=True))
    assert [interval.event.version for interval in found.intervals] == [
        interval.first for interval in found.intervals
    ]
    for one, other in zip(found.intervals, found.intervals[1:], strict=False):
        assert not one.answer.is_same(other.answer)
    held = [value is True for value in values]
    assert (found.held, found.seen) == (sum(held), len(held))
    assert [interval.first for interval in found.flips] == [
        version + first for version in range(1, len(held)) if held[version] != held[version - 1]
    ]


def test_each_kind_of_answer_is_an_interval_of_its_own() -> None:
    documents = [{}, {"n": 1}, {"n": 3}, {"n": 4}, {"n": "x"}, {"n": 3}, {"n": 1}]
    found = bisect(steps(documents, failing=[3, 4]), Expression("n > 2"))
    assert [(each.first, each.last, each.answer, each.holds) for each in found.intervals] == [
        (1, 1, Answer("undefined"), False),
        (2, 2, Answer("value", value=False), False),
        (3, 4, Answer("value", value=True), True),
        (
            *(5, 5),
            Answer("error", error="No matching overloads found : _>_(string, int64)"),
            False,
        ),
        (6, 6, Answer("value", value=True), True),
        (7, 7, Answer("value", value=False), False),
    ]
    assert [each.first for each in found.flips] == [3, 5, 6, 7]
    assert [each.first for each in found.holding] == [3, 6]
    assert (found.held, found.seen, found.unapplied) == (3, 7, 2)
    assert [each.unapplied for each in found.intervals] == [0, 0, 2, 0, 0, 0]


def test_no_steps_are_no_intervals() -> None:
    found = bisect([], HOLDS)
    assert (found.intervals, found.flips, found.held, found.seen) == ((), (), 0, 0)


@pytest.mark.parametrize("value", [3, None, "x" * 200, {"a": []}, 1.0])
def test_an_answer_that_is_neither_is_refused(value: Any) -> None:
    with pytest.raises(NotAPredicate) as caught:
        bisect(steps([{"holds": True}, {"holds": value}]), HOLDS)
    assert caught.value.version == 2
    told = str(caught.value)
    assert told.startswith("'holds' is ")
    assert told.endswith(" at version 2, neither true nor false; use watch")
    assert len(told) < 200


def test_one_is_not_true() -> None:
    with pytest.raises(NotAPredicate, match=r"^'holds' is 1 at version 1, neither"):
        bisect(steps([{"holds": 1}, {"holds": True}]), HOLDS)


def test_watch_tells_where_a_value_changed() -> None:
    values = ["a", "a", "b", 1, 1.0, True, None, None, {"x": [1]}, {"x": [1]}, "a"]
    documents = [{"holds": value} for value in values]
    found = list(watch(steps([*documents, {}]), HOLDS))
    assert [(each.first, each.last) for each in found] == [
        *((1, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 8), (9, 10), (11, 11)),
        (12, 12),
    ]
    assert [repr(each.answer.value) for each in found[2:5]] == ["1", "1.0", "True"]
    assert [each.first for each in found if each.holds] == [6]
    assert (found[-2].answer.kind, found[-1].answer.kind) == ("value", "undefined")


def test_watch_comes_as_it_is_read() -> None:
    def endless() -> Iterator[Step]:
        version = 0
        while True:
            version += 1
            yield from steps([{"holds": version // 10}], first=version)

    walk = watch(endless(), HOLDS)
    assert [next(walk).answer.value for _ in range(3)] == [0, 1, 2]
    walk.close()  # type: ignore[attr-defined]


def test_a_gap_is_raised_and_ends_the_process() -> None:
    def broken() -> Iterator[Step]:
        yield from steps([{"holds": True}])
        raise HistoryGap(aggregate_id="a", after=1, found=3)

    with pytest.raises(HistoryGap):
        bisect(broken(), HOLDS)


def test_a_costly_expression_is_ended() -> None:
    documents = [{"a": list(range(90)), "n": n} for n in range(100_000)]
    costly = Expression("a.all(b, a.all(c, b + c + n >= 0))")
    with pytest.raises(ExpressionTooCostly, match=r"longer than 0.2 s"):
        bisect(steps(documents), costly, seconds=0.2)
    with pytest.raises(ExpressionTooCostly, match=r"longer than 0.2 s"):
        list(watch(steps(documents), costly, seconds=0.2))
