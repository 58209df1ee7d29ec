"""State from events: newest, at a version, as of a time on either axis; equal to real histories."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from store import Aggregate, Domain, Hindsight, NewEvent, any_
from store.errors import (
    AggregateNotFound,
    ApplyFailed,
    HistoryGap,
    InvalidDomain,
    InvalidEvent,
    NoEventYet,
    VersionNotFound,
)
from store.records import Axis
from tests.histories import PACKAGES, imported, lines

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Added(Struct, frozen=True):
    number: int


class Total(Struct, frozen=True):
    total: int = 0


def add(state: Total, event: Added) -> Total:
    if event.number == 13:
        raise ValueError("thirteen")
    return Total(state.total + event.number)


TOTAL = Aggregate("total", initial=Total(), events=[Added], apply=add)
NUMBERS = Domain("numbers", aggregates=[TOTAL])


@pytest.fixture
def clock() -> list[datetime]:
    """The store's clock: the last of these."""
    return [NOON]


@pytest.fixture
def numbers(store_url: str, clock: list[datetime], *, measured: bool) -> Iterator[Hindsight]:
    with Hindsight(store_url, domain=NUMBERS, clock=lambda: clock[-1], metrics=measured) as store:
        yield store


def adding(*numbers: int, kind: str = "Added", at: datetime | None = None) -> list[NewEvent]:
    return [NewEvent(kind, {"number": number}, occurred_at=at) for number in numbers]


def test_the_newest_state_comes_with_its_version(numbers: Hindsight) -> None:
    numbers.append("total", "a", adding(1, 2, 3), expected=any_())
    loaded = numbers.load("a")
    assert (loaded.state, loaded.version, loaded.source) == (Total(6), 3, "replay")
    assert (loaded.aggregate_type, loaded.generic, loaded.left_out) == ("total", False, 0)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_state_at_a_version_is_that_after_its_event(numbers: Hindsight, version: int) -> None:
    numbers.append("total", "a", adding(1, 10, 100), expected=any_())
    assert numbers.load("a", version=version).state == Total([1, 11, 111][version - 1])


@pytest.mark.parametrize("version", [4, 99, 2**40])
def test_a_version_that_is_not_there_is_named(numbers: Hindsight, version: int) -> None:
    numbers.append("total", "a", adding(1, 2, 3), expected=any_())
    with pytest.raises(VersionNotFound, match=f"no version {version}; it is at 3"):
        numbers.load("a", version=version)


@pytest.mark.parametrize("version", [0, -1])
def test_there_is_no_version_before_the_first(numbers: Hindsight, version: int) -> None:
    numbers.append("total", "a", adding(1), expected=any_())
    with pytest.raises(InvalidEvent, match="version"):
        numbers.load("a", version=version)


@pytest.mark.parametrize("bound", [{}, {"version": 1}, {"as_of": NOON}])
def test_an_aggregate_without_events_is_not_found(
    numbers: Hindsight, bound: dict[str, Any]
) -> None:
    with pytest.raises(AggregateNotFound):
        numbers.load("a", **bound)


@pytest.mark.parametrize("axis", ["occurred", "recorded"])
@pytest.mark.parametrize(("hours", "total"), [(0, 1), (0.5, 1), (1, 3), (9, 7)])
def test_as_of_a_time_counts_what_was_there_by_then(
    numbers: Hindsight, clock: list[datetime], axis: Axis, hours: float, total: int
) -> None:
    for hour, number in enumerate([1, 2, 4]):
        clock.append(NOON + hour * HOUR)
        numbers.append("total", "a", adding(number), expected=any_())
    loaded = numbers.load("a", as_of=NOON + hours * HOUR, axis=axis)
    assert (loaded.state, loaded.left_out) == (Total(total), 0)


@pytest.mark.parametrize("axis", ["occurred", "recorded"])
def test_before_its_first_event_an_aggregate_has_no_state(numbers: Hindsight, axis: Axis) -> None:
    numbers.append("total", "a", adding(1), expected=any_())
    with pytest.raises(NoEventYet, match="'a' has no event by 2026-01-01T11:00:00"):
        numbers.load("a", as_of=NOON - HOUR, axis=axis)


def test_as_of_occurred_leaves_out_what_happened_later_and_says_so(numbers: Hindsight) -> None:
    for number, at in ((1, NOON), (2, NOON + 2 * HOUR), (4, NOON - HOUR), (8, NOON + HOUR)):
        numbers.append("total", "a", adding(number, at=at), expected=any_())
    loaded = numbers.load("a", as_of=NOON)
    assert (loaded.state, loaded.version, loaded.left_out) == (Total(5), 3, 1)
    loaded = numbers.load("a", as_of=NOON + HOUR)
    assert (loaded.state, loaded.version, loaded.left_out) == (Total(13), 4, 1)
    assert numbers.load("a", as_of=NOON + HOUR, axis="recorded").state == Total(15)


@pytest.mark.parametrize("axis", ["occurred", "recorded"])
def test_the_end_of_time_is_a_time(numbers: Hindsight, axis: Axis) -> None:
    end = datetime.max.replace(tzinfo=UTC)
    numbers.append("total", "a", adding(1, 2), expected=any_())
    assert numbers.load("a", as_of=end, axis=axis).version == 2
    assert len(list(numbers.replay("a", as_of=end, axis=axis))) == 2


def test_a_lost_version_is_named_as_of_a_recorded_time(numbers: Hindsight) -> None:
    numbers.append("total", "a", adding(1, 2, 4), expected=any_())
    guards = {
        "sqlite": "DROP TRIGGER events_no_delete",
        "postgresql": "ALTER TABLE events DISABLE TRIGGER USER",
    }
    with numbers.database.engine.connect() as connection:
        connection.exec_driver_sql(guards[numbers.database.engine.dialect.name])
        connection.exec_driver_sql("DELETE FROM events WHERE version = 2")
    for bound in ({}, {"as_of": NOON + HOUR, "axis": "recorded"}, {"version": 3}):
        with pytest.raises(HistoryGap):
            numbers.load("a", **bound)
        with pytest.raises(HistoryGap):
            list(numbers.replay("a", **bound))


@pytest.mark.parametrize(
    "bounds",
    [
        {"version": 1, "as_of": NOON},
        {"as_of": datetime(2026, 1, 1)},  # noqa: DTZ001 (what is refused)
        {"as_of": NOON, "axis": "sideways"},
        {"version": True},
    ],
)
def test_bounds_that_mean_nothing_are_refused(numbers: Hindsight, bounds: dict[str, Any]) -> None:
    numbers.append("total", "a", adding(1), expected=any_())
    with pytest.raises(InvalidEvent):
        numbers.load("a", **bounds)


def test_a_long_history_is_read_in_batches(
    numbers: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.reader.HISTORY_BATCH", 3)
    for _ in range(3):
        numbers.append("total", "a", adding(1, 1, 1), expected=any_())
    numbers.append("total", "b", adding(50), expected=any_())
    assert numbers.load("a").state == Total(9)
    assert numbers.load("a", version=7).state == Total(7)


def test_an_event_that_cannot_be_applied_is_named_with_what_was_reached(
    numbers: Hindsight,
) -> None:
    numbers.append("total", "a", adding(1, 2, 13, 4), expected=any_())
    with pytest.raises(ApplyFailed) as failed:
        numbers.load("a")
    assert str(failed.value) == "'a' version 3 (Added, position 3): ValueError: thirteen"
    assert (failed.value.reached_version, failed.value.reached_state) == (2, Total(3))
    assert numbers.load("a", version=2).state == Total(3)


def test_an_aggregate_no_domain_knows_is_merged_and_labelled(numbers: Hindsight) -> None:
    data: Sequence[Any] = [{"a": 1, "b": {"c": 1}}, {"b": {"c": None, "d": 2}}]
    events = [NewEvent("Changed", each) for each in data]
    numbers.append("thing", "t", events, expected=any_())
    loaded = numbers.load("t")
    assert (loaded.state, loaded.generic) == ({"a": 1, "b": {"d": 2}}, True)


def test_steps_have_the_state_before_and_after_each_event(numbers: Hindsight) -> None:
    numbers.append("total", "a", adding(1, 13, 2), expected=any_())
    found = list(numbers.replay("a", go_on=True))
    assert [step.after for step in found] == [Total(1), Total(1), Total(3)]
    assert [step.event.version for step in found if step.error] == [2]
    with pytest.raises(ApplyFailed):
        list(numbers.replay("a"))
    with pytest.raises(AggregateNotFound):
        list(numbers.replay("b"))


def test_a_domain_is_found_by_path_flag_or_environment(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hindsight(store_url, domain=f"{__name__}:NUMBERS") as store:
        assert store.domains.aggregate("total") is TOTAL
    monkeypatch.setenv("EVENT_STORE_DOMAIN", f"{__name__}:NUMBERS")
    with Hindsight(store_url) as store:
        assert store.domains.aggregate("total") is TOTAL
    with pytest.raises(InvalidDomain, match="not MODULE:NAME"):
        Hindsight(store_url, domain="numbers")


# Real histories


@pytest.mark.slow
def test_every_package_of_scoop_is_as_expected_at_every_known_version(
    store_url: str, data_sets: Path
) -> None:
    folder = data_sets / "scoop_main"
    with imported(store_url, folder, PACKAGES) as store:
        final = lines(folder / "expected_state.ndjson.gz")
        for expected in final:
            loaded = store.load(expected["aggregate_id"])
            assert loaded.version == expected["version"]
            assert msgspec.to_builtins(loaded.state) == expected["state"]
        then = lines(folder / "expected_at_version.ndjson.gz")
        for expected in then:
            at = store.load(expected["aggregate_id"], version=expected["version"])
            as_of = datetime.fromisoformat(expected["as_of"])
            by_time = store.load(expected["aggregate_id"], as_of=as_of)
            assert msgspec.to_builtins(at.state) == expected["state"]
            assert (by_time.state, by_time.version) == (at.state, at.version)
    assert (len(final), len(then)) == (604, 172)


class Issue(Struct, frozen=True):
    title: str = ""
    state: str = "open"
    labels: frozenset[str] = frozenset()
    assignees: frozenset[str] = frozenset()
    locked: bool = False
    milestone: str | None = None
    merged: bool = False
    draft: bool = False
    comments: int = 0


ISSUE_FIELDS = ["title", "draft", "rename", "label", "assignee", "milestone"]


def change_issue(issue: Issue, event: Any) -> Issue:
    change = CHANGES.get(type(event).__name__)
    return replace(issue, **change(issue, event)) if change else issue


CHANGES: Mapping[str, Callable[[Issue, Any], dict[str, Any]]] = {
    "IssueOpened": lambda _, event: {"title": event.title},
    "PullRequestOpened": lambda _, event: {"title": event.title, "draft": bool(event.draft)},
    "Renamed": lambda _, event: {"title": event.rename["to"]},
    "Labeled": lambda issue, event: {"labels": issue.labels | {event.label["name"]}},
    "Unlabeled": lambda issue, event: {"labels": issue.labels - {event.label["name"]}},
    "Assigned": lambda issue, event: {"assignees": issue.assignees | {event.assignee}},
    "Unassigned": lambda issue, event: {"assignees": issue.assignees - {event.assignee}},
    "Milestoned": lambda _, event: {"milestone": event.milestone["title"]},
    "Demilestoned": lambda _, __: {"milestone": None},
    "Closed": lambda _, __: {"state": "closed"},
    "Reopened": lambda _, __: {"state": "open"},
    "Merged": lambda _, __: {"state": "closed", "merged": True},
    "Locked": lambda _, __: {"locked": True},
    "Unlocked": lambda _, __: {"locked": False},
    "ConvertToDraft": lambda _, __: {"draft": True},
    "ReadyForReview": lambda _, __: {"draft": False},
    "Commented": lambda issue, _: {"comments": issue.comments + 1},
}


@pytest.mark.slow
def test_every_issue_of_a_real_repository_is_as_expected(store_url: str, data_sets: Path) -> None:
    folder = data_sets / "gh_bitcoin_gui"
    names = {line["event_type"] for line in lines(folder / "events.ndjson.gz")}
    events = [
        msgspec.defstruct(name, [(field, Any, None) for field in ISSUE_FIELDS], frozen=True)
        for name in sorted(names)
    ]
    kinds = [
        Aggregate(kind, initial=Issue(), events=events, apply=change_issue)
        for kind in ("issue", "pull_request")
    ]
    expected = lines(folder / "expected_state.ndjson.gz")
    with imported(store_url, folder, Domain("github", aggregates=kinds)) as store:
        for each in expected:
            found = msgspec.to_builtins(store.load(each["aggregate_id"]).state)
            found |= {name: sorted(found[name]) for name in ("labels", "assignees")}
            assert {name: found[name] for name in each["folded"]} == each["folded"]
    assert len(expected) == 878
