"""Events counted by stretch of time and type, and found by actor and event id, in every source."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import get_args
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from store import Event, FeedFilter, Hindsight, NewEvent, any_, migrate
from store.cli import hindsight
from store.errors import InvalidEvent
from store.interchange import format_line
from store.log import EventLog
from store.records import Axis, Tally
from store.rollups import Rollups, reading
from store.sources import EventSource
from store.sources.ndjson import NdjsonSource
from tests.archiving import archive_all_but
from tests.servers import PostgresServer

AXES: tuple[Axis, ...] = get_args(Axis)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
# Many of them where rounding, truncation and a float's precision go wrong.
MOMENTS = [
    EPOCH,
    EPOCH - TICK,
    EPOCH + TICK,
    EPOCH - HOUR,
    EPOCH - HOUR - TICK,
    EPOCH + HOUR - TICK,
    FIRST,
    FIRST + TICK,
    FIRST + HOUR,
    LAST,
    LAST - TICK,
    LAST.replace(microsecond=0),
    LAST.replace(microsecond=499_999),
    datetime(1900, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_500, tzinfo=UTC),
    datetime(2000, 2, 29, 12, tzinfo=UTC),
    datetime(2026, 11, 22, 9, 34, 0, 1, tzinfo=UTC),
    datetime(2026, 11, 22, 9, 34, 59, 999_999, tzinfo=UTC),
    datetime(2026, 11, 22, 9, 35, tzinfo=UTC),
    datetime(2026, 11, 22, 9, 35, tzinfo=UTC),
]
EVENT_TYPES = ("Created", "renamed", "Öffnet", "Z", "a")
ACTORS = ("ann", "bob", None)

many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(store: Hindsight) -> list[Event]:
    """An event at each of the moments, of aggregates of three types."""
    events: list[Event] = []
    for number, moment in enumerate(MOMENTS):
        actor = ACTORS[number % 3]
        new = NewEvent(
            EVENT_TYPES[number % 5],
            {"n": number},
            metadata={"correlation_id": f"c{number % 4}"} | ({"actor": actor} if actor else {}),
            occurred_at=moment,
        )
        kind = ("user", "order", "Zug")[number % 3]
        events += store.append(kind, f"{kind}-{number % 7 // 3}", [new], expected=any_()).events
    return events


KINDS = [
    "sqlite",
    "postgresql",
    "archived in sqlite",
    pytest.param("archived in postgresql", marks=pytest.mark.soak),
    "file",
]


@pytest.fixture(scope="module", params=KINDS)
def filled(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[EventSource, list[Event]]]:
    """A source of each kind, which no test writes to, and what is in it."""
    folder, name = tmp_path_factory.mktemp("tally"), f"tally_{uuid4().hex}"
    url = f"sqlite:///{folder / 'store.db'}"
    if request.param.endswith("postgresql"):
        postgres_server.execute(f"CREATE DATABASE {name}")
        url = postgres_server.url(name)
    migrate(url)
    hours = count()
    clock: Callable[[], datetime] = lambda: EPOCH + (next(hours) - 9) * HOUR - TICK  # noqa: E731
    with ExitStack() as opened:
        store = opened.enter_context(Hindsight(url, clock=clock))
        history = write(store)
        source: EventSource = store.log
        if request.param.startswith("archived"):
            archive_all_but(store, 6, batch=4)
        if request.param == "file":
            path = folder / "events.ndjson"
            path.write_bytes(b"".join(map(format_line, history)))
            source = opened.enter_context(NdjsonSource(path))
        yield source, history


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty events are many here, and two apart are far from one another."""
    monkeypatch.setattr(reading, "FEW", 0)
    monkeypatch.setattr(reading, "NEAR", 0)


@pytest.fixture
def source(filled: tuple[EventSource, list[Event]]) -> EventSource:
    return filled[0]


@pytest.fixture
def history(filled: tuple[EventSource, list[Event]]) -> list[Event]:
    return filled[1]


def counted(events: Sequence[Event], width: timedelta, axis: Axis) -> list[Tally]:
    """What `tally` should say of these events."""
    groups: dict[tuple[int, str, str], list[int]] = {}
    for event in events:
        moment = event.occurred_at if axis == "occurred" else event.recorded_at
        assert moment
        key = ((moment - EPOCH) // width, event.aggregate_type, event.event_type)
        groups.setdefault(key, []).append(event.position)
    return [
        Tally(
            start=start_of(number, width),
            aggregate_type=kind,
            event_type=event_type,
            events=len(positions),
            first_position=min(positions),
            last_position=max(positions),
        )
        for (number, kind, event_type), positions in sorted(groups.items())
    ]


def start_of(number: int, width: timedelta) -> datetime:
    try:
        return EPOCH + number * width
    except OverflowError:
        return FIRST


moments = st.none() | st.sampled_from(MOMENTS) | st.datetimes().map(lambda m: m.replace(tzinfo=UTC))


@st.composite
def filters(draw: st.DrawFn) -> FeedFilter:
    nothing = st.none()
    return FeedFilter(
        aggregate_type=draw(nothing | nothing | st.sampled_from(["user", "order", "no", "\x00"])),
        event_types=draw(st.just(()) | st.just(()) | st.just(("Z", "a", "\ud800"))),
        since=draw(nothing | moments),
        until=draw(nothing | moments),
        axis=draw(st.sampled_from(AXES)),
        correlation_id=draw(nothing | nothing | st.sampled_from(["c1", "no"])),
        actor=draw(nothing | nothing | st.sampled_from(["ann", "no", "\x00", "\ud800"])),
    )


def is_wanted(event: Event, where: FeedFilter) -> bool:
    moment = event.occurred_at if where.axis == "occurred" else event.recorded_at
    assert moment
    return (
        where.aggregate_type in {None, event.aggregate_type}
        and (not where.event_types or event.event_type in where.event_types)
        and where.correlation_id in {None, event.correlation_id}
        and where.actor in {None, event.actor}
        and where.event_id in {None, event.event_id}
        and (where.since is None or where.since <= moment)
        and (where.until is None or moment < where.until)
    )


@many
@given(
    where=filters(),
    width=st.sampled_from(
        [TICK, 7 * TICK, timedelta(seconds=1), HOUR, timedelta(days=7), timedelta(days=1461)]
    )
    | st.timedeltas(min_value=TICK),
    after=st.integers(-1, 22),
    before=st.none() | st.integers(-1, 22),
    rolled_up=st.integers(0, len(MOMENTS)),
)
@example(where=FeedFilter(), width=TICK, after=0, before=None, rolled_up=15)
@example(where=FeedFilter(), width=HOUR, after=0, before=None, rolled_up=15)
@example(where=FeedFilter(), width=timedelta(days=1), after=0, before=None, rolled_up=15)
@example(where=FeedFilter(), width=timedelta(days=7), after=4, before=12, rolled_up=15)
@example(where=FeedFilter(), width=timedelta.max, after=0, before=None, rolled_up=15)
@example(where=FeedFilter(axis="recorded"), width=HOUR, after=0, before=None, rolled_up=15)
def test_a_tally_counts_what_the_feed_has(
    *,
    source: EventSource,
    where: FeedFilter,
    width: timedelta,
    after: int,
    before: int | None,
    rolled_up: int,
) -> None:
    if isinstance(source, EventLog):
        Rollups(source.database).rebuild(rolled_up)
        assert source.rolled_up() == max(rolled_up, source.archived.position())
    feed = list(source.feed(after=after, before=before, where=where))
    found = source.tally(width=width, where=where, after=after, before=before)
    assert list(found) == counted(feed, width, where.axis)


@many
@given(where=filters())
def test_the_feed_is_filtered_by_actor_with_all_else(
    source: EventSource, history: list[Event], where: FeedFilter
) -> None:
    wanted = [event.position for event in history if is_wanted(event, where)]
    assert [event.position for event in source.feed(where=where)] == wanted
    assert [event.position for event in source.feed(where=where, backward=True)] == wanted[::-1]


def test_an_actor_is_found_and_only_that_one(source: EventSource, history: list[Event]) -> None:
    found = [event.position for event in source.feed(where=FeedFilter(actor="ann"))]
    assert found == [event.position for event in history if event.actor == "ann"]
    assert 0 < len(found) < len(history)


def test_an_event_is_found_by_its_id(source: EventSource, history: list[Event]) -> None:
    for event in history[::5]:
        where = FeedFilter(event_id=event.event_id)
        assert [found.position for found in source.feed(where=where)] == [event.position]
        [tally] = source.tally(width=HOUR, where=where)
        assert (tally.events, tally.first_position) == (1, event.position)
        elsewhere = FeedFilter(event_id=event.event_id, aggregate_type="nothing")
        assert list(source.feed(where=elsewhere)) == []
        assert list(source.feed(where=where, before=event.position)) == []
    assert list(source.feed(where=FeedFilter(event_id=UUID(int=7)))) == []


@pytest.mark.parametrize("far", [2**31, 2**63 - 1, 2**63, 2**70])
def test_positions_out_of_this_world_are_bounds(
    source: EventSource, history: list[Event], far: int
) -> None:
    assert list(source.tally(width=HOUR, after=far)) == []
    found = source.tally(width=HOUR, after=-far, before=far)
    assert sum(tally.events for tally in found) == len(history)


@pytest.mark.parametrize("width", [timedelta(), -TICK, -HOUR, timedelta.min])
def test_a_width_below_a_microsecond_is_refused(source: EventSource, width: timedelta) -> None:
    with pytest.raises(InvalidEvent, match=r"^width: .* is less than a microsecond$"):
        source.tally(width=width)


def test_a_bound_without_a_zone_is_refused(source: EventSource) -> None:
    with pytest.raises(InvalidEvent, match=r"^until: .* has no time zone"):
        source.tally(width=HOUR, where=FeedFilter(until=datetime(2026, 1, 1)))  # noqa: DTZ001


def test_events_that_were_never_recorded_are_in_no_stretch(
    tmp_path: Path, history: list[Event]
) -> None:
    fields = json.loads(format_line(history[0]))
    del fields["recorded_at"]
    path = tmp_path / "events.ndjson"
    path.write_text(f"\n{json.dumps(fields)}\n")
    with NdjsonSource(path) as source:
        assert list(source.tally(width=HOUR, where=FeedFilter(axis="recorded"))) == []
        [tally] = source.tally(width=HOUR)
        assert (tally.events, tally.first_position, tally.last_position) == (1, 2, 2)


def test_following_honours_actor_and_event_id(store: Hindsight) -> None:
    history = write(store)
    where = FeedFilter(actor="bob", event_id=history[4].event_id)
    assert next(store.follow(where=where)).position == 5


def test_the_command_line_takes_both_filters(store: Hindsight, store_url: str) -> None:
    history = write(store)
    wanted = history[4]

    def found(*arguments: str) -> list[int]:
        result = CliRunner().invoke(hindsight, ["events", "--url", store_url, "--json", *arguments])
        assert result.exit_code == 0, result.output
        return [json.loads(line)["position"] for line in result.stdout.splitlines()]

    bobs = [event.position for event in history if event.actor == "bob"]
    own = [event.position for event in history if event.aggregate_id == wanted.aggregate_id]
    assert found("--actor", "bob") == bobs
    assert found(wanted.aggregate_id, "--actor", "bob") == own
    assert found(wanted.aggregate_id, "--actor", "ann") == []
    assert found("--event-id", str(wanted.event_id)) == [5]
    assert found(wanted.aggregate_id, "--event-id", str(wanted.event_id)) == [5]
    assert found("--event-id", str(wanted.event_id), "--actor", "ann") == []
    following = ("--follow", "--after", "0", "--limit", "1")
    assert found(*following, "--event-id", str(wanted.event_id)) == [5]


def test_an_event_id_that_is_none_is_refused_in_one_line(store_url: str) -> None:
    result = CliRunner().invoke(hindsight, ["events", "--url", store_url, "--event-id", "x"])
    assert result.exit_code == 2
    assert "not a valid UUID" in result.stderr
