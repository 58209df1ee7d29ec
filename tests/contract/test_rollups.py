"""Counts from rollups: what a plain count says, wherever they end and whoever moves them."""

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from itertools import product
from pathlib import Path
from threading import Event as Flag
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from sqlalchemy import text

from store import FeedFilter, Hindsight, NewEvent, any_
from store.cli import hindsight
from store.database import Database
from store.errors import ArchiveBusy
from store.interchange import format_line
from store.records import Axis, Event, Tally
from store.rollups import Checked, Difference, Total, counting, keeping, reading, totals
from store.transfer import import_events
from store.work import beside, work, work_once
from tests.archiving import archive_all_but, archiver
from tests.archiving import keeping as keeping_newest
from tests.waiting import until

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 11, 22, 9, 34, tzinfo=UTC)

few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of events are many here."""
    monkeypatch.setattr(reading, "FEW", 0)
    monkeypatch.setattr(reading, "NEAR", 0)
    monkeypatch.setattr(keeping, "SLICE", 7)
    monkeypatch.setattr(keeping, "LONG_SLICE", 5)


def append(store: Hindsight, events: int = 1, aggregate_id: str = "a") -> None:
    for _ in range(events):
        store.append("thing", aggregate_id, [NewEvent("Happened", {})], expected=any_())


def roll_up(store: Hindsight, settled: int) -> None:
    while store.rollups.roll_up(settled):
        pass


class Line(Struct, frozen=True):
    """An event to import; one that goes `on` is of the aggregate of the one before."""

    event_type: str
    schema_version: int
    occurred_at: datetime
    recorded_at: datetime
    goes_on: bool


def near(*moments: datetime) -> st.SearchStrategy[datetime]:
    """Times days, hours or microseconds away, with many on the hour."""
    ticks = st.integers(-3, 3) | st.integers(-4 * 10**6 * 3600, 4 * 10**6 * 3600)
    hours = st.sampled_from([-DAY, -HOUR, 0 * HOUR, HOUR, DAY])
    return st.builds(
        lambda moment, hour, tick: moment + hour + tick * timedelta(microseconds=1),
        st.sampled_from(moments),
        hours,
        ticks,
    )


HOURS = (EPOCH, START.replace(minute=0), START.replace(hour=0, minute=0))
lines = st.lists(
    st.builds(
        Line,
        st.sampled_from(["Created", "Öffnet", "z"]),
        st.integers(1, 2),
        near(*HOURS),
        near(*HOURS),
        st.booleans(),
    ),
    max_size=30,
)


def imported(store: Hindsight, wanted: list[Line]) -> None:
    """The events with the times that were recorded, which within an aggregate never go back."""
    texts, aggregate, version, recorded = list[bytes](), 0, 0, EPOCH
    for number, each in enumerate(wanted):
        goes_on = each.goes_on and version > 0
        aggregate, version = (aggregate, version + 1) if goes_on else (aggregate + 1, 1)
        recorded = max(recorded, each.recorded_at) if goes_on else each.recorded_at
        fields = {
            "event_id": str(UUID(int=number + 1)),
            "aggregate_type": ("user", "order")[aggregate % 2],
            "aggregate_id": f"a{aggregate}",
            "version": version,
            "event_type": each.event_type,
            "schema_version": each.schema_version,
            "data": {},
            "metadata": {"actor": ("ann", "bob")[number % 2]},
            "occurred_at": each.occurred_at.isoformat(),
            "recorded_at": recorded.isoformat(),
        }
        texts.append(json.dumps(fields).encode() + b"\n")
    stream: io.BufferedReader = io.BufferedReader(cast("io.RawIOBase", io.BytesIO(b"".join(texts))))
    assert import_events(store.log, stream, restore=True).imported == len(wanted)


def moment(event: Event, axis: Axis) -> datetime:
    found = event.occurred_at if axis == "occurred" else event.recorded_at
    assert found is not None
    return found


def expected(events: list[Event], where: FeedFilter, width: timedelta) -> list[Tally]:
    """What `tally` is to say of these events."""
    groups: dict[tuple[datetime, str, str], list[int]] = {}
    for event in events:
        at = moment(event, where.axis)
        start = EPOCH + (at - EPOCH) // width * width
        groups.setdefault((start, event.aggregate_type, event.event_type), []).append(
            event.position
        )
    return [
        Tally(
            start=start,
            aggregate_type=aggregate_type,
            event_type=event_type,
            events=len(positions),
            first_position=min(positions),
            last_position=max(positions),
        )
        for (start, aggregate_type, event_type), positions in sorted(groups.items())
    ]


def plain_totals(events: list[Event]) -> list[Total]:
    groups: dict[tuple[str, str, int], list[Event]] = {}
    for event in events:
        assert event.event_version is not None
        key = (event.aggregate_type, event.event_type, event.event_version)
        groups.setdefault(key, []).append(event)
    return [
        Total(
            aggregate_type=key[0],
            event_type=key[1],
            event_version=key[2],
            events=len(found),
            aggregates=sum(event.version == 1 for event in found),
            last_position=max(event.position for event in found),
        )
        for key, found in sorted(groups.items())
    ]


KATHMANDU = timezone(timedelta(hours=5, minutes=45))
maybe = st.none() | near(*HOURS) | near(*HOURS).map(lambda at: at.astimezone(KATHMANDU))
filters = st.builds(
    FeedFilter,
    aggregate_type=st.none() | st.sampled_from(["user", "order", "no", "\x00"]),
    event_types=st.just(()) | st.sampled_from([("z",), ("z", "Created"), ("\ud800",)]),
    since=maybe,
    until=maybe,
    axis=st.sampled_from(["occurred", "recorded"]),
    actor=st.none() | st.none() | st.just("ann"),
)
widths = st.sampled_from([timedelta(minutes=1), HOUR, 2 * HOUR, DAY, 36 * HOUR, 2 * DAY, 7 * DAY])
bounds = st.just((0, None)) | st.tuples(st.integers(-1, 31), st.none() | st.integers(-1, 31))


@few
@given(
    history=lines,
    steps=st.lists(st.integers(0, 31), max_size=4),
    asked=st.lists(st.tuples(filters, widths, bounds), min_size=1, max_size=8),
)
def test_counts_are_the_same_wherever_the_rollups_end(
    fresh_url: Callable[[], str],
    history: list[Line],
    steps: list[int],
    asked: list[tuple[FeedFilter, timedelta, tuple[int, int | None]]],
) -> None:
    with Hindsight(fresh_url()) as store:
        imported(store, history)
        events = list(store.feed())
        for step in (0, *steps):
            roll_up(store, min(step, len(events)))
            assert totals(store.database) == plain_totals(events)
            assert store.counts().aggregates == len({event.aggregate_id for event in events})
            for where, width, (after, before) in asked:
                wanted = list(store.feed(where=where, after=after, before=before))
                found = store.tally(width=width, where=where, after=after, before=before)
                assert list(found) == expected(wanted, where, width)
        assert store.log.rolled_up() == max(0, *(min(step, len(events)) for step in (0, *steps)))
        assert store.rollups.check().differences == ()
        store.rollups.rebuild(len(events))
        assert store.rollups.check().differences == ()
        assert totals(store.database) == plain_totals(events)


@pytest.mark.parametrize("unit", [HOUR, DAY])
def test_every_bound_cuts_where_it_says(store: Hindsight, unit: timedelta) -> None:
    """Positions and times cut hours, or days, at and off their start, in an order not of time."""
    begin = EPOCH - unit  # from where numbers are rounded down, too
    parts = (10, 190, 70, 59, 61, 130, 0, 60, 119, 120, 179, 180)
    at = [begin + part * unit / 60 for part in parts]
    imported(
        store,
        [
            Line("z" if number % 3 else "Created", 1, each, each + unit / 2, goes_on=False)
            for number, each in enumerate(at)
        ],
    )
    roll_up(store, 10)
    halves = [begin + each * unit / 2 for each in (0, 1, 2, 3, 5, 6)]
    off = [begin + 61 * unit / 60 + timedelta(minutes=1)]
    events = list(store.feed())
    asked = product(
        (unit, 2 * unit, unit / 3),
        keeping.AXES,
        (None, *halves, *off),
        (None, *halves, *off),
        (0, 2, 5),
        (None, 5, 9, 12),
    )
    for width, axis, since, end, after, before in asked:
        where = FeedFilter(since=since, until=end, axis=axis)
        wanted = [
            event
            for event in events
            if after < event.position < (before or 99)
            and (since or begin) <= moment(event, axis) < (end or begin + 99 * unit)
        ]
        found = store.tally(width=width, where=where, after=after, before=before)
        assert list(found) == expected(wanted, where, width), (width, where, after, before)


@few
@given(history=lines, settled=st.integers(1, 30))
def test_a_rebuild_puts_right_what_was_wrong(
    fresh_url: Callable[[], str], history: list[Line], settled: int
) -> None:
    with Hindsight(fresh_url()) as store:
        imported(store, history)
        events = list(store.feed())
        roll_up(store, len(events))
        damage(store)
        settled = min(settled, len(events))
        store.rollups.rebuild(settled)
        assert store.rollups.check() == Checked(position=settled, differences=())
        assert totals(store.database) == plain_totals(events)


def damage(store: Hindsight) -> None:
    with store.database.transaction() as connection:
        for statement in (
            "UPDATE event_counts SET events = events + 1 WHERE axis = 'recorded'",
            "UPDATE event_totals SET aggregates = 7",
            "DELETE FROM event_counts WHERE axis = 'occurred'",
            "INSERT INTO event_totals VALUES ('ghost', 'Happened', 1, 2, 1, 3)",
            "UPDATE history_lengths SET version = version + 2",
            "INSERT INTO history_lengths VALUES ('ghost', 'thing', 1, 1)",
        ):
            connection.execute(text(statement))


def test_a_check_tells_each_row_that_is_wrong(store: Hindsight) -> None:
    store.append("thing", "a", [NewEvent("Happened", {}, occurred_at=START)], expected=any_())
    store.rollups.roll_up(1)
    damage(store)
    [event] = store.feed()
    assert event.recorded_at is not None
    recorded = event.recorded_at.replace(minute=0, second=0, microsecond=0)
    occurred = START.replace(minute=0)
    thing = {"aggregate_type": "thing", "event_type": "Happened"}
    one = {"events": 1, "first_position": 1, "last_position": 1}
    total = {"events": 1, "aggregates": 1, "last_position": 1}
    assert store.rollups.check() == Checked(
        position=1,
        differences=(
            Difference(
                table="event_totals",
                key={"aggregate_type": "ghost", "event_type": "Happened", "event_version": 1},
                kept={"events": 2, "aggregates": 1, "last_position": 3},
                counted=None,
            ),
            Difference(
                table="event_totals",
                key=thing | {"event_version": 1},
                kept=total | {"aggregates": 7},
                counted=total,
            ),
            *(
                Difference(
                    table="event_counts",
                    key={"axis": "occurred", "hours": hours, "hour": hour} | thing,
                    kept=None,
                    counted=one,
                )
                for hours, hour in ((1, occurred), (24, occurred.replace(hour=0)))
            ),
            *(
                Difference(
                    table="event_counts",
                    key={"axis": "recorded", "hours": hours, "hour": hour} | thing,
                    kept=one | {"events": 2},
                    counted=one,
                )
                for hours, hour in ((1, recorded), (24, recorded.replace(hour=0)))
            ),
            Difference(
                table="history_lengths",
                key={"aggregate_type": "thing", "aggregate_id": "a"},
                kept={"version": 3, "last_position": 1},
                counted={"version": 1, "last_position": 1},
            ),
            Difference(
                table="history_lengths",
                key={"aggregate_type": "thing", "aggregate_id": "ghost"},
                kept={"version": 1, "last_position": 1},
                counted=None,
            ),
        ),
    )


def test_a_check_misses_a_length(store: Hindsight) -> None:
    append(store, 2)
    store.rollups.roll_up(2)
    with store.database.transaction() as connection:
        connection.execute(text("UPDATE history_lengths SET aggregate_type = 'other'"))
    append(store, 3)
    key = {"aggregate_id": "a"}
    assert store.rollups.check().differences == (
        Difference(
            table="history_lengths",
            key={"aggregate_type": "other"} | key,
            kept={"version": 2, "last_position": 2},
            counted=None,
        ),
        Difference(
            table="history_lengths",
            key={"aggregate_type": "thing"} | key,
            kept=None,
            counted={"version": 2, "last_position": 2},
        ),
    )


def test_a_slice_at_a_time_is_rolled_up(store: Hindsight) -> None:
    append(store, 16)
    assert [store.rollups.roll_up(15) for _ in range(4)] == [True, True, False, False]
    assert store.log.rolled_up() == 15
    assert store.rollups.check().differences == ()


def test_an_append_touches_no_rollup(store: Hindsight) -> None:
    append(store, 2)
    assert (store.log.rolled_up(), store.rollups.check()) == (
        0,
        Checked(position=0, differences=()),
    )
    assert store.counts().events == 2


def test_who_finds_another_at_work_leaves_it_to_that_one(postgres_url: str) -> None:
    with Hindsight(postgres_url) as store:
        append(store, 3)
        with store.database.transaction() as other:
            other.execute(text("UPDATE rollup SET position = 0"))
            assert store.rollups.roll_up(3) is False
        assert store.log.rolled_up() == 0
        assert store.rollups.roll_up(3) is False
        assert store.log.rolled_up() == 3


def test_who_comes_to_a_position_that_has_moved_counts_nothing(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, 20)

    def position(database: Database) -> int:
        found = reading.position(database)
        with monkeypatch.context() as patch:
            patch.setattr(keeping, "reading", reading)
            assert store.rollups.roll_up(20)
        return found

    monkeypatch.setattr(keeping, "reading", SimpleNamespace(position=position))
    assert store.rollups.roll_up(20) is False
    assert store.log.rolled_up() == keeping.SLICE
    assert store.rollups.check().differences == ()


def test_a_worker_rolls_up_what_is_settled(store: Hindsight) -> None:
    append(store, 16)
    work_once(store)
    assert store.log.rolled_up() == 16
    stop = Flag()
    append(store, 16)
    with beside(stop, [("worker", partial(work, store, stop=stop, report=lambda _: None))]):
        until(lambda: store.log.rolled_up() == 32)
        append(store, 9)
        until(lambda: store.log.rolled_up() == 41)
    assert store.rollups.check().differences == ()


def test_events_that_were_committed_late_are_counted_once(postgres_url: str) -> None:
    """A position that is drawn, and not committed, holds the rollups before it."""
    with Hindsight(postgres_url) as store:
        append(store, 2)
        with store.database.transaction() as connection:
            late = [NewEvent("Late", {})]
            store.append("thing", "late", late, expected=any_(), connection=connection)
            append(store, 5)
            work_once(store)
            assert store.log.rolled_up() == 2
            assert (store.counts().events, store.counts().last_position) == (7, 8)
        assert store.counts().events == 8
        work_once(store)
        assert store.log.rolled_up() == 8
        assert store.counts().events_by_type == {"Happened": 7, "Late": 1}
        assert store.rollups.check().differences == ()


def test_rollups_that_move_on_behind_a_reader_change_no_count(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, 5)
    roll_up(store, 3)

    def kinds(database: Database, after: int) -> Any:
        append(store, 4)
        roll_up(store, 9)
        archive_all_but(store, 2)
        return counting.kinds(database, after)

    monkeypatch.setattr(reading, "counting", SimpleNamespace(kinds=kinds))
    [total] = totals(store.database)
    assert total.events == 5


def test_what_is_archived_while_all_is_counted_anew_stays_counted(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, 5)
    roll_up(store, 5)
    count = keeping.Rollups._counted_anew
    moves = iter([4])

    def counted_anew(self: keeping.Rollups, *given: Any) -> Any:
        found = count(self, *given)
        for events in moves:
            append(store, events)
            roll_up(store, 9)
            archive_all_but(store, 1)
        return found

    monkeypatch.setattr(keeping.Rollups, "_counted_anew", counted_anew)
    store.rollups.rebuild(5)
    assert store.log.rolled_up() >= 8
    assert store.counts().events == 9
    assert store.rollups.check().differences == ()


def test_nothing_is_archived_that_is_not_counted_any_more(store: Hindsight) -> None:
    append(store, 9)
    roll_up(store, 9)
    moving = archiver(store)
    bound = moving.bound(keeping_newest(1))
    store.rollups.rebuild(3)
    with pytest.raises(ArchiveBusy):
        moving.once(bound)
    assert store.counts().events == 9
    archive_all_but(store, 1)
    assert store.counts().events == 9


def test_rollups_that_move_on_behind_a_reader_change_no_tally(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(store, 5)
    roll_up(store, 3)
    read = reading._cells

    def cells(*asked: Any) -> Any:
        found = read(*asked)
        append(store, 4)
        roll_up(store, len(list(store.feed())))
        archive_all_but(store, 2)
        return found

    monkeypatch.setattr(reading, "_cells", cells)
    for width, events in ((DAY, 9), (HOUR, 13)):
        assert sum(tally.events for tally in store.tally(width=width)) == events


def test_days_are_read_as_days_but_for_those_that_a_bound_cuts(store: Hindsight) -> None:
    """What is kept is put wrong, so that each count tells which rows it is from."""
    begin = START.replace(hour=0, minute=0)
    at = [begin + number * DAY / 2 for number in range(8)]  # two events a day, for four days
    imported(store, [Line("z", 1, each, each, goes_on=True) for each in at])
    roll_up(store, 8)
    with store.database.transaction() as connection:
        connection.execute(text("UPDATE event_counts SET events = events + 10 WHERE hours = 1"))
        connection.execute(text("UPDATE event_counts SET events = events + 100 WHERE hours = 24"))

    def counts(width: timedelta, **bounds: Any) -> list[int]:
        where = FeedFilter(since=bounds.pop("since", None), until=bounds.pop("until", None))
        return [tally.events for tally in store.tally(width=width, where=where, **bounds)]

    assert counts(DAY) == [102] * 4
    assert counts(DAY, since=begin + DAY, until=begin + 3 * DAY) == [102] * 2
    assert counts(DAY, since=begin + HOUR, until=begin + 3 * DAY + HOUR) == [11, 102, 102, 11]
    assert counts(DAY, since=begin + HOUR / 2) == [11, 102, 102, 102]
    assert counts(DAY, until=begin + 3 * DAY + HOUR / 2) == [102, 102, 102, 1]
    assert counts(DAY, after=1, before=8) == [11, 102, 102, 11]
    assert counts(DAY, after=2, before=7) == [102, 102]
    assert counts(12 * HOUR) == [11] * 8
    assert counts(7 * DAY) == [408]  # from Sunday to Wednesday; the first week began on a Thursday


# `hindsight stats --exact`, `--rebuild`


def stats(url: str, *options: str) -> Result:
    result = CliRunner().invoke(hindsight, ["stats", "--url", url, *options])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def test_stats_compare_the_rollups_with_the_events(store: Hindsight, store_url: str) -> None:
    append(store, 3)
    store.rollups.roll_up(2)
    result = stats(store_url, "--exact")
    assert result.exit_code == 0
    assert "events         3" in result.stdout
    assert "rollups        exact up to #2" in result.stdout
    told = json.loads(stats(store_url, "--exact", "--json").stdout)
    assert told["rollups"] == {"position": 2, "differences": []}
    assert "rollups  " not in stats(store_url).stdout
    assert "rollups" not in json.loads(stats(store_url, "--json").stdout)


def test_stats_tell_what_is_wrong_and_put_it_right(store: Hindsight, store_url: str) -> None:
    new = NewEvent("Happened\u202e", {}, occurred_at=START)
    store.append("thing", "a", [new], expected=any_())
    store.rollups.roll_up(1)
    damage(store)
    result = stats(store_url, "--exact")
    assert result.exit_code == 1
    recorded = next(store.feed()).recorded_at
    assert recorded is not None
    hour, day = (recorded.strftime(f"%Y-%m-%d {hour}:00:00") for hour in ("%H", "00"))
    assert "rollups        8 wrong up to #1" in result.stdout
    assert [line for line in result.stdout.splitlines() if line.startswith("wrong: ")] == [
        "wrong: event_totals ghost Happened 1: of no event",
        "wrong: event_totals thing Happened\ufffd 1: aggregates 7, not 1",
        "wrong: event_counts occurred 1 h 2026-11-22 09:00:00 thing Happened\ufffd: missing",
        "wrong: event_counts occurred 24 h 2026-11-22 00:00:00 thing Happened\ufffd: missing",
        f"wrong: event_counts recorded 1 h {hour} thing Happened\ufffd: events 2, not 1",
        f"wrong: event_counts recorded 24 h {day} thing Happened\ufffd: events 2, not 1",
        "wrong: history_lengths thing a: version 3, not 1",
        "wrong: history_lengths thing ghost: of no event",
    ]
    told = json.loads(stats(store_url, "--exact", "--json").stdout)["rollups"]["differences"]
    assert told[2] == {
        "table": "event_counts",
        "key": {
            "axis": "occurred",
            "hours": 1,
            "hour": "2026-11-22T09:00:00Z",
            "aggregate_type": "thing",
            "event_type": "Happened\u202e",
        },
        "kept": None,
        "counted": {"events": 1, "first_position": 1, "last_position": 1},
    }
    assert stats(store_url, "--rebuild", "--exact").exit_code == 0
    assert store.rollups.check().differences == ()


def test_a_file_has_no_rollups(tmp_path: Path, store: Hindsight) -> None:
    append(store, 1)
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"".join(map(format_line, store.feed())))
    for option in ("--exact", "--rebuild"):
        result = CliRunner().invoke(hindsight, ["stats", "--url", str(path), option])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {path.name} has no rollups; a store has")
        assert result.stderr.count("\n") == 1
