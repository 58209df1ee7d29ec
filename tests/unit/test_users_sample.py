"""The sample of users: believable, the same for everybody, and rich enough to look at."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import Struct

from store import Activity, CommandRejected
from users import user
from users.sample import sample

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def activities(count: int = 3_000) -> list[Activity]:
    return list(sample(seed=1, events=count, until=NOW))


def test_it_is_the_same_each_time() -> None:
    assert activities() == activities()


def test_it_goes_forward_in_time_over_months_and_ends_by_now() -> None:
    moments = [each.at for each in activities()]
    assert moments == sorted(moments)
    assert moments[-1] <= NOW
    assert moments[-1] - moments[0] > timedelta(days=90)


@pytest.mark.parametrize("wanted", [1, 50, 1_000, 5_000])
def test_it_makes_about_as_many_events_as_wanted(wanted: int) -> None:
    made = sum(len(events) for _, events in played(activities(wanted)))
    assert wanted * 0.9 <= made <= wanted * 1.1 + 5


def test_some_hundred_users_do_everything_users_do() -> None:
    events = [event for _, decided in played(activities()) for event in decided]
    kinds = Counter(type(event).__name__ for event in events)
    assert set(kinds) == {event.__name__ for event in user.events}
    assert len({each.aggregate_id for each in activities()}) >= 200


def test_most_commands_are_taken_and_some_are_rejected() -> None:
    outcomes = Counter(taken for taken, _ in played(activities()))
    assert 0 < outcomes[False] < 0.1 * outcomes[True]


def test_some_users_have_much_at_the_same_moment() -> None:
    """So that processes meet."""
    moments = Counter((each.aggregate_id, each.at.replace(microsecond=0)) for each in activities())
    assert sum(count >= 4 for count in moments.values()) >= 10


def played(story: list[Activity]) -> list[tuple[bool, list[Struct]]]:
    """Whether each command was taken, and its events, one command after the other."""
    states = {each.aggregate_id: user.initial for each in story}
    outcomes: list[tuple[bool, list[Struct]]] = []
    for each in story:
        try:
            events = list(each.command.decide(states[each.aggregate_id]))
        except CommandRejected:
            outcomes.append((False, []))
            continue
        for event in events:
            states[each.aggregate_id] = user.apply(states[each.aggregate_id], event)
        outcomes.append((True, events))
    return outcomes
