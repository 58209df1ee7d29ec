"""A history step by step, the same from each database and from a file."""

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from store import Aggregate, Domain, Hindsight, NewEvent, any_
from store.analysis import Step, Stepper, apply, document
from store.analysis.document import is_same
from store.analysis.stepping import EVERY
from store.application import open_repository
from store.domain import Domains
from store.errors import AggregateNotFound, HistoryGap, InvalidDomain
from store.repository import Repository
from store.transfer import export_events
from tests.histories import PACKAGES, imported, lines

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Added(Struct, frozen=True):
    number: int


class Total(Struct, frozen=True):
    total: int = 0
    seen: frozenset[int] = frozenset()


def add(state: Total, event: Added) -> Total:
    if event.number == 13:
        raise ValueError("thirteen")
    return Total(state.total + event.number, state.seen | {event.number})


NUMBERS = Domain(
    "numbers", aggregates=[Aggregate("total", initial=Total(), events=[Added], apply=add)]
)


@contextmanager
def opened(kind: str, url: str, folder: Path, numbers: Sequence[int]) -> Iterator[Repository]:
    """A total to which those numbers were added, an hour apart."""
    events = [
        NewEvent("Added", {"number": number}, occurred_at=NOON + index * timedelta(hours=1))
        for index, number in enumerate(numbers)
    ]
    with Hindsight(url, domain=NUMBERS) as store:
        store.append("total", "t", events, expected=any_())
        if kind == "store":
            yield store.repository
            return
        file = folder / "events.ndjson"
        with file.open("wb") as stream:
            export_events(store.log, stream)
    with open_repository(str(file), Domains([NUMBERS])) as repository:
        yield repository


@pytest.fixture(params=["store", "file"])
def opening(request: pytest.FixtureRequest, store_url: str, tmp_path: Path) -> Callable[..., Any]:
    return lambda numbers: opened(request.param, store_url, tmp_path, numbers)


def versions(steps: Sequence[Step]) -> list[int]:
    return [step.event.version for step in steps]


def test_each_step_has_both_documents_and_what_leads_from_one_to_the_other(
    opening: Callable[..., Any],
) -> None:
    with opening([8, 16, 16, 0]) as repository:
        steps = list(Stepper(repository, "t").steps())
    assert versions(steps) == [1, 2, 3, 4]
    assert steps[0].before == {"total": 0, "seen": []}
    assert steps[-1].after == {"total": 40, "seen": [0, 8, 16]}
    assert [change.as_patch() for change in steps[2].changes] == [
        {"op": "replace", "path": "/total", "value": 40}
    ]
    for step, following in pairwise(steps):
        assert step.after == following.before
    for step in steps:
        assert apply(step.changes, step.before) == step.after
        assert 0 < step.took < 10
        assert step.error is None
    hour = timedelta(hours=1)
    assert [step.elapsed for step in steps] == [None, hour, hour, hour]


def test_an_event_that_cannot_be_applied_is_marked_and_the_next_goes_on(
    opening: Callable[..., Any],
) -> None:
    with opening([1, 13, 4]) as repository:
        steps = list(Stepper(repository, "t").steps())
    assert [step.after["total"] for step in steps] == [1, 1, 5]
    assert [bool(step.error) for step in steps] == [False, True, False]
    assert "'t' version 2 (Added, position 2): ValueError: thirteen" in str(steps[1].error)
    assert steps[1].changes == ()


@pytest.mark.parametrize("every", [1, 3, 1_000])
def test_a_window_is_a_part_of_the_whole(opening: Callable[..., Any], every: int) -> None:
    with opening([*range(1, 12), 13, *range(14, 20)]) as repository:
        whole = list(Stepper(repository, "t").steps())
        stepper = Stepper(repository, "t", every=every)
        for first, last in [(7, 9), (1, 3), (15, 30), (18, 18), (12, 13), (3, 3), (7, 9)]:
            window = list(stepper.steps(first, last))
            wanted = [step for step in whole if first <= step.event.version <= last]
            assert [(s.event, s.before, s.after, s.changes, s.elapsed) for s in window] == [
                (s.event, s.before, s.after, s.changes, s.elapsed) for s in wanted
            ]
            assert [step.error for step in window] == [step.error for step in wanted]
        assert stepper.state(0) == {"total": 0, "seen": []}
        for step in whole:
            assert stepper.state(step.event.version) == step.after
            assert Stepper(repository, "t").state(step.event.version) == step.after
        assert list(Stepper(repository, "t", every=every).failures()) == [12]
        assert [(event.version, state) for event, state in stepper.states()] == [
            (step.event.version, step.after) for step in whole
        ]


def test_a_later_window_is_read_from_the_nearest_checkpoint(
    opening: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opening(range(20, 60)) as repository:
        stepper = Stepper(repository, "t", every=10)
        list(stepper.steps())
        folded: list[int | None] = []
        history = repository.source.history

        def counted(*given: Any, after: int | None = None, **named: Any) -> Any:
            folded.append(after)
            return history(*given, after=after, **named)

        monkeypatch.setattr(repository.source, "history", counted)
        list(stepper.steps(25, 30))
        stepper.state(40)
        list(stepper.steps(31, 32))
        assert folded == [20]
        prepared = Stepper(repository, "t", every=10)
        list(prepared.failures())
        folded.clear()
        assert [step.event.version for step in prepared.steps(31, 33)] == [31, 32, 33]
        assert folded == []


def test_checkpoints_lie_where_they_should_behind_an_event_that_cannot_be_applied(
    opening: Callable[..., Any],
) -> None:
    with opening([*range(1, 12), 13, *range(14, 30)]) as repository:
        stepper = Stepper(repository, "t", every=5)
        list(stepper.failures())
        assert list(stepper._checkpoints) == [5, 10, 15, 20, 25]


def test_checkpoints_are_dropped_where_they_take_too_much(opening: Callable[..., Any]) -> None:
    with opening(range(20, 120)) as repository:
        stepper = Stepper(repository, "t", every=1, keep_bytes=2_000)
        steps = list(stepper.steps())
        assert 1 < len(stepper._checkpoints) < 20
        assert [stepper.state(version) for version in (1, 50, 100)] == [
            steps[version - 1].after for version in (1, 50, 100)
        ]


def test_an_unknown_aggregate_and_a_gap_are_named(sqlite_url: str, tmp_path: Path) -> None:
    with opened("store", sqlite_url, tmp_path, [1, 2, 3, 4]) as repository:
        with pytest.raises(AggregateNotFound):
            Stepper(repository, "nobody")
        events = repository.source.events
        source: Any = repository.source
        source.events = lambda *a, **k: (e for e in events(*a, **k) if e.version != 3)
        walk = Stepper(repository, "t").steps()
        assert versions([next(walk), next(walk)]) == [1, 2]
        with pytest.raises(HistoryGap):
            next(walk)


class Item(Struct, frozen=True):
    id: int
    amount: int = 0


class Basket(Struct, frozen=True):
    items: tuple[Item, ...] = ()


BASKETS = Domain(
    "baskets",
    aggregates=[
        Aggregate(
            "basket",
            initial=Basket(),
            events=[Added],
            apply=lambda state, event: Basket((Item(event.number), *state.items)),
        )
    ],
)


def test_a_state_is_what_its_json_reads(store_url: str) -> None:
    with Hindsight(store_url, domain=BASKETS) as store:
        events = [NewEvent("Added", {"number": number}) for number in (1, 2, 3)]
        store.append("basket", "b", events, expected=any_())
        *_, step = Stepper(store.repository, "b").steps()
    assert step.after == {"items": [{"id": number, "amount": 0} for number in (3, 2, 1)]}
    assert [change.as_patch() for change in step.changes] == [
        {"op": "add", "path": "/items/0", "value": {"id": 3, "amount": 0}}
    ]


@pytest.mark.parametrize(
    ("state", "shown"),
    [({1: "a"}, {"1": "a"}), ((1, {2.5}), [1, [2.5]]), ({"x": 3j}, {"x": "3j"}), (2**70, 2**70)],
)
def test_a_document_is_plain(state: Any, shown: Any) -> None:
    assert is_same(document(state), shown)


@pytest.mark.parametrize("state", [{(1, 2): "a"}, "\ud800"])
def test_what_json_cannot_say_at_all_is_named(state: Any) -> None:
    with pytest.raises(InvalidDomain, match="cannot be shown as JSON"):
        document(state)


class Last(Struct, frozen=True):
    text: str = ""


LONG = Domain(
    "long",
    aggregates=[
        Aggregate(
            "long",
            initial=Last(),
            events=[Added],
            apply=lambda _, event: Last(f"{event.number:05}" * 200),
        )
    ],
)


class WithoutAVersion:
    """A source that has lost an event."""

    def __init__(self, source: Any, version: int) -> None:
        self._source, self._version = source, version

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def events(self, *given: Any, **named: Any) -> Iterator[Any]:
        return (e for e in self._source.events(*given, **named) if e.version != self._version)

    def history(self, *given: Any, **named: Any) -> Iterator[Any]:
        for rows in self._source.history(*given, **named):
            yield [row for row in rows if row[0] != self._version]


@pytest.mark.parametrize("first", [1, 5, 6, 7, 9])
@pytest.mark.parametrize("every", [2, 5, 1_000])
def test_no_window_behind_a_gap_is_read(sqlite_url: str, first: int, every: int) -> None:
    with Hindsight(sqlite_url, domain=NUMBERS) as store:
        events = [NewEvent("Added", {"number": number}) for number in range(20, 32)]
        store.append("total", "t", events, expected=any_())
        broken: Any = WithoutAVersion(store.log, 6)
        stepper = Stepper(Repository(broken, store.domains), "t", every=every)
        for _ in range(2):
            found: list[int] = []
            with pytest.raises(HistoryGap):
                found.extend(step.event.version for step in stepper.steps(first))
            with pytest.raises(HistoryGap):
                found.extend(stepper.failures())
        assert max(stepper._checkpoints, default=0) <= 5


def test_many_events_that_cannot_be_applied_are_read_once(sqlite_url: str) -> None:
    with Hindsight(sqlite_url, domain=NUMBERS) as store:
        events = [NewEvent("Added", {"number": 13 if n % 2 else n}) for n in range(100)]
        store.append("total", "t", events, expected=any_())
        asked: list[Any] = []
        history = store.log.history
        store.log.history = lambda *a, **k: asked.append(k) or history(*a, **k)  # type: ignore[method-assign,func-returns-value]
        stepper = Stepper(Repository(store.log, store.domains), "t", every=7)
        assert list(stepper.failures()) == [*range(2, 101, 2)]
        assert len(asked) == 1
        assert stepper.state(100) == Stepper(store.repository, "t", every=1_000).state(100)


@pytest.mark.slow
def test_a_history_of_100_000_events_is_walked_in_bounded_memory(sqlite_url: str) -> None:
    events = 100_000
    with Hindsight(sqlite_url, domain=LONG, snapshots=False) as store:
        for start in range(0, events, 5_000):
            some = [NewEvent("Added", {"number": start + number}) for number in range(5_000)]
            store.append("long", "l", some, expected=any_())
        stepper = Stepper(store.repository, "l")
        tracemalloc.start()
        walked = sum(1 for _ in stepper.steps())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert walked == events
        assert len(stepper._checkpoints) == events // EVERY
        # All documents together have over 100 MB.
        assert peak < 12_000_000
        [step] = stepper.steps(73_210, 73_210)
        assert step.after == {"text": "73209" * 200}


@pytest.mark.slow
def test_the_steps_of_scoop_pass_through_every_known_state(store_url: str, data_sets: Path) -> None:
    folder = data_sets / "scoop_main"
    known = lines(folder / "expected_at_version.ndjson.gz")
    with imported(store_url, folder, PACKAGES) as store:
        for expected in known:
            stepper = Stepper(store.repository, expected["aggregate_id"])
            version = expected["version"]
            *_, step = stepper.steps(max(version - 1, 1), version)
            assert is_same(step.after, document(expected["state"]))
            assert is_same(apply(step.changes, step.before), step.after)
            assert is_same(stepper.state(version), step.after)
    assert len(known) == 172
