"""Two times an event has: when it happened, and when the store took it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from itertools import pairwise
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, make_url

from store import Append, Event, FeedFilter, Hindsight, NewEvent, any_
from store.errors import InvalidEvent
from tests.servers import PostgresServer

START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
KATHMANDU = ZoneInfo("Asia/Kathmandu")


class Clock:
    """Says what it was set to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clocked(store_url: str, clock: Clock) -> Iterator[Hindsight]:
    """A store that lives by `clock`."""
    with Hindsight(store_url, clock=clock) as store:
        yield store


@pytest.fixture
def own_engine(store_url: str) -> Iterator[Engine]:
    """A service's own engine on the store's database, with the server's own time zone."""
    url = make_url(store_url)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def in_one_append(store: Hindsight, *events: NewEvent) -> list[Event]:
    return list(store.append("a", "a", events, expected=any_()).events)


def one_by_one(store: Hindsight, *events: NewEvent) -> list[Event]:
    return [event for new in events for event in in_one_append(store, new)]


def beside_another(store: Hindsight, *events: NewEvent) -> list[Event]:
    """In an append_all with another aggregate."""
    appends = [
        Append(aggregate_type="a", aggregate_id=aggregate_id, events=news, expected=any_())
        for aggregate_id, news in (("b", [NewEvent("E", 1)]), ("a", events))
    ]
    return list(store.append_all(appends)[1].events)


Write = Callable[..., list[Event]]
every_way = pytest.mark.parametrize("write", [in_one_append, one_by_one, beside_another])


def at(moment: datetime | None) -> NewEvent:
    return NewEvent("E", 1, occurred_at=moment)


def test_the_test_server_is_not_in_utc(postgres_server: PostgresServer) -> None:
    assert postgres_server.execute("SHOW timezone") == [("Asia/Kathmandu",)]


@every_way
def test_an_event_is_recorded_when_the_clock_says(
    clocked: Hindsight, clock: Clock, write: Write
) -> None:
    clock.now = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
    events = write(clocked, at(None), at(None))
    assert [event.recorded_at for event in events] == [clock.now, clock.now]
    assert list(clocked.events("a")) == events


@every_way
def test_recorded_times_never_run_backwards(clocked: Hindsight, clock: Clock, write: Write) -> None:
    for step in (0, -60, 5, -1, 5, 6):
        clock.now = START + timedelta(seconds=step)
        write(clocked, at(None))
    recorded = [event.recorded_at for event in clocked.events("a")]
    seconds = [(moment - START).total_seconds() for moment in recorded if moment]
    assert seconds == [0, 0, 5, 5, 5, 6]


def test_a_clock_that_runs_backwards_holds_back_its_own_aggregate_only(
    clocked: Hindsight, clock: Clock
) -> None:
    in_one_append(clocked, at(None))
    clock.now = START - timedelta(days=1)
    [event] = clocked.append("a", "other", [at(None)], expected=any_()).events
    assert event.recorded_at == clock.now


def test_the_head_knows_when_it_was_last_recorded(clocked: Hindsight, clock: Clock) -> None:
    in_one_append(clocked, at(None))
    clock.now = START - timedelta(days=1)
    in_one_append(clocked, at(None))
    assert clocked.aggregate("a").last_recorded_at == START


@every_way
def test_an_event_without_an_own_time_happened_when_the_clock_says(
    clocked: Hindsight, clock: Clock, write: Write
) -> None:
    write(clocked, at(None))
    clock.now = START - timedelta(hours=1)
    write(clocked, at(None))
    assert [event.occurred_at for event in clocked.events("a")] == [START, clock.now]


def test_a_clock_in_another_zone_means_the_same_moment(clocked: Hindsight, clock: Clock) -> None:
    clock.now = START.astimezone(KATHMANDU)
    [event] = in_one_append(clocked, at(None))
    assert (event.recorded_at, event.occurred_at) == (START, START)
    assert list(clocked.events("a")) == [event]


def test_a_clock_without_a_zone_is_refused(clocked: Hindsight, clock: Clock) -> None:
    clock.now = datetime(2026, 1, 1)  # noqa: DTZ001 (that is the point)
    with pytest.raises(InvalidEvent, match=r"^clock: 2026-01-01T00:00:00 has no time zone"):
        in_one_append(clocked, at(START))
    assert clocked.counts().events == 0


@every_way
def test_the_real_clock_is_the_present_in_utc(store: Hindsight, write: Write) -> None:
    before = datetime.now(UTC)
    events = write(store, at(None), at(None))
    after = datetime.now(UTC)
    for moment in [m for event in events for m in (event.occurred_at, event.recorded_at) if m]:
        assert before <= moment <= after
        assert moment.utcoffset() == timedelta(0)


def test_recorded_times_do_not_run_backwards_on_the_real_clock(store: Hindsight) -> None:
    for _ in range(20):
        in_one_append(store, at(None), at(None))
    recorded = [event.recorded_at for event in store.events("a")]
    assert all(one <= two for one, two in pairwise(recorded) if one and two)


def zones() -> st.SearchStrategy[tzinfo]:
    offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
    return st.timezones() | offsets.map(timezone)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    moments=st.lists(
        st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=zones()),  # noqa: DTZ001
        min_size=1,
        max_size=3,
    )
)
def test_any_moment_comes_back_equal_to_the_microsecond_and_in_utc(
    store: Hindsight, moments: list[datetime]
) -> None:
    aggregate_id = str(uuid4())
    appended = store.append("a", aggregate_id, [at(m) for m in moments], expected=any_())
    read = list(store.events(aggregate_id))
    # In UTC, for two local times of one zone compare without looking at the offset.
    assert [e.occurred_at for e in read] == [moment.astimezone(UTC) for moment in moments]
    assert {e.occurred_at.utcoffset() for e in (*read, *appended.events)} == {timedelta(0)}
    assert read == list(appended.events)


@every_way
def test_the_first_and_the_last_moment_there_are_come_back_equal(
    store: Hindsight, write: Write
) -> None:
    events = write(store, at(FIRST), at(LAST))
    assert [event.occurred_at for event in events] == [FIRST, LAST]
    assert list(store.events("a")) == events
    head = store.aggregate("a")
    assert (head.first_occurred_at, head.last_occurred_at) == (FIRST, LAST)


def test_the_first_and_the_last_moment_are_found_by_time(store: Hindsight) -> None:
    first, last = in_one_append(store, at(FIRST), at(LAST))
    assert list(store.events("a", since=FIRST, until=LAST)) == [first]
    assert list(store.events("a", since=LAST)) == [last]
    assert list(store.feed(where=FeedFilter(since=FIRST + timedelta(microseconds=1)))) == [last]


@pytest.mark.parametrize("year", [1, 99, 999, 1969, 1970, 2000, 9999])
def test_events_of_all_ages_are_found_by_time(store: Hindsight, year: int) -> None:
    years = (1, 99, 999, 1969, 1970, 2000, 9999)
    in_one_append(store, *(at(datetime(y, 6, 1, tzinfo=UTC)) for y in years))
    since, until = (datetime(year, month, 1, tzinfo=UTC) for month in (1, 12))
    found = store.events("a", since=since, until=until)
    assert [event.occurred_at.year for event in found] == [year]


def test_the_head_spans_its_events_in_whatever_order_they_happened(store: Hindsight) -> None:
    one_by_one(store, *(at(START + timedelta(days=day)) for day in (5, 9, 2, 7)))
    head = store.aggregate("a")
    assert head.first_occurred_at == START + timedelta(days=2)
    assert head.last_occurred_at == START + timedelta(days=9)


def test_times_are_in_utc_on_a_connection_of_another_zone(
    store: Hindsight, own_engine: Engine
) -> None:
    news = [at(FIRST), at(LAST), at(None)]
    with own_engine.begin() as connection:
        events = store.append("a", "a", news, expected=any_(), connection=connection).events
    assert list(store.events("a")) == list(events)
    moments = [m for event in events for m in (event.occurred_at, event.recorded_at) if m]
    assert {moment.utcoffset() for moment in moments} == {timedelta(0)}


def test_known_events_are_in_utc_on_a_connection_of_another_zone(
    store: Hindsight, own_engine: Engine
) -> None:
    news = [at(FIRST), at(LAST)]
    written = store.append("a", "a", news, expected=any_())
    with own_engine.begin() as connection:
        again = store.append("a", "a", news, expected=any_(), connection=connection)
    assert again.duplicate
    assert again.events == written.events
    moments = [m for event in again.events for m in (event.occurred_at, event.recorded_at) if m]
    assert {moment.utcoffset() for moment in moments} == {timedelta(0)}


class Nowhere(tzinfo):
    """A time zone that does not say where it is: Python counts such a time as naive."""

    def utcoffset(self, _moment: datetime | None, /) -> None:
        return None

    def dst(self, _moment: datetime | None, /) -> None:
        return None

    def tzname(self, _moment: datetime | None, /) -> None:
        return None


NAIVE = [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=Nowhere())]  # noqa: DTZ001


@pytest.mark.parametrize("moment", NAIVE, ids=["naive", "nowhere"])
def test_a_time_without_a_zone_is_refused(moment: datetime) -> None:
    with pytest.raises(InvalidEvent, match=r"^occurred_at: 2026-01-01T00:00:00 has no time zone"):
        at(moment)


@pytest.mark.parametrize("value", ["2026-01-01T00:00:00Z", 1_767_225_600, START.date()])
def test_what_is_no_datetime_is_refused(value: Any) -> None:
    with pytest.raises(InvalidEvent, match=r"^occurred_at: .* is not a datetime"):
        at(value)


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=KATHMANDU),
        datetime.max.replace(tzinfo=timezone(-timedelta(microseconds=1))),
    ],
)
def test_a_time_out_of_range_in_utc_is_refused(moment: datetime) -> None:
    with pytest.raises(InvalidEvent, match=r"^occurred_at: .* is out of range in UTC"):
        at(moment)


@pytest.mark.parametrize("bound", ["since", "until"])
def test_a_bound_without_a_zone_is_refused(store: Hindsight, bound: str) -> None:
    window: dict[str, Any] = {bound: NAIVE[0]}
    with pytest.raises(InvalidEvent, match=f"^{bound}: .* has no time zone"):
        list(store.events("a", **window))
    with pytest.raises(InvalidEvent, match=f"^{bound}: .* has no time zone"):
        list(store.feed(where=FeedFilter(**window)))
