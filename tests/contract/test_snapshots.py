"""Snapshots: taken when due, used by loads, never wrong, never in the way."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from sqlalchemy import text

from store import Aggregate, Domain, Hindsight, NewEvent, any_, exact
from store.errors import AggregateNotFound, HistoryGap, SnapshotAhead, VersionNotFound
from tests.statements import round_trips

Open = Callable[..., Hindsight]


class Added(Struct, frozen=True):
    number: int


class Total(Struct, frozen=True):
    total: int = 0
    last: tuple[int, ...] = ()


class Add(Struct, frozen=True):
    numbers: tuple[int, ...] = (1,)

    def decide(self, state: Any) -> Sequence[Struct]:
        del state
        return [Added(number) for number in self.numbers]

    def recorded(self) -> Mapping[str, Any]:
        return {}


def add(state: Total, event: Added) -> Total:
    return Total(state.total + event.number, (*state.last, event.number)[-3:])


def numbers(every: int | None = 3, *, initial: Any = Total(), apply: Any = add) -> Domain:  # noqa: B008 (frozen)
    total: Aggregate[Any] = Aggregate(
        "total",
        initial=initial,
        events=[Added],
        apply=apply,
        commands=[Add],
        snapshot_every=every,
    )
    return Domain("numbers", aggregates=[total])


@pytest.fixture
def opened(store_url: str) -> Iterator[Open]:
    """Opens the store with a domain that takes a snapshot every 3 versions, or as it is told."""
    stores: list[Hindsight] = []

    def open_store(domain: Domain | None = None, **options: Any) -> Hindsight:
        options = {"cache": False} | options  # nothing but snapshots spares a replay
        stores.append(Hindsight(store_url, domain=domain or numbers(), **options))
        return stores[-1]

    yield open_store
    for store in stores:
        assert store.database.connections.in_use == 0
        store.close()


@pytest.fixture
def totals(opened: Open) -> Hindsight:
    return opened()


def kept(store: Hindsight, aggregate_id: str = "a") -> list[int]:
    """The versions of an aggregate's snapshots, whoever's they are."""
    return [one.version for one in store.snapshots.list(aggregate_id)]


def execute(store: Hindsight, statement: str, **parameters: Any) -> None:
    with store.database.transaction() as connection:
        connection.execute(text(statement), parameters)


# When they are taken


@pytest.mark.parametrize(
    ("commands", "versions"),
    [
        ([1, 1], []),
        ([1, 1, 1], [3]),
        ([2, 3], [5]),  # at the version reached, not at the one that is due
        ([1, 1, 1, 1, 1], [3]),
        ([10], [10]),
        ([3, 3, 1], [3, 6]),
        ([3, 1, 1, 1, 1, 1, 1], [6, 9]),  # two are kept
    ],
)
def test_one_is_taken_when_the_version_passes_a_multiple(
    totals: Hindsight, commands: list[int], versions: list[int]
) -> None:
    for count in commands:
        totals.execute("a", Add((7,) * count))
    assert kept(totals) == versions


def test_by_default_it_is_every_100_events(opened: Open) -> None:
    total = Aggregate("total", initial=Total(), events=[Added], apply=add, commands=[Add])
    store = opened(Domain("numbers", aggregates=[total]))
    store.execute("a", Add((1,) * 99))
    assert kept(store) == []
    store.execute("a", Add((1,) * 2))
    assert kept(store) == [101]


def test_an_aggregate_type_may_have_none(opened: Open) -> None:
    store = opened(numbers(every=None))
    store.execute("a", Add((1,) * 200))
    assert kept(store) == []


def test_a_bare_append_takes_none(totals: Hindsight) -> None:
    totals.append("total", "a", [NewEvent("Added", {"number": 1})] * 1, expected=any_())
    for version in range(1, 7):
        event = NewEvent("Added", {"number": version})
        totals.append("total", "a", [event], expected=exact(version))
    assert kept(totals) == []


def test_one_may_be_taken_by_hand(totals: Hindsight) -> None:
    totals.append("total", "a", [NewEvent("Added", {"number": n}) for n in (1, 2)], expected=any_())
    assert (totals.snapshot("a").version, kept(totals)) == (2, [2])
    assert (totals.load("a").source, totals.load("a").state) == ("snapshot", Total(3, (1, 2)))


def test_of_an_aggregate_that_is_not_there_none_is_taken(totals: Hindsight) -> None:
    with pytest.raises(AggregateNotFound):
        totals.snapshot("a")


# How they are used


def test_a_load_folds_only_what_came_after(totals: Hindsight) -> None:
    totals.execute("a", Add((1, 2, 3)))
    totals.execute("a", Add((4,)))
    loaded = totals.load("a")
    assert (loaded.state, loaded.version) == (Total(10, (2, 3, 4)), 4)
    assert (loaded.source, loaded.folded, loaded.left_out) == ("snapshot", 1, 0)


@pytest.mark.parametrize(
    ("version", "source", "folded"),
    [(2, "replay", 2), (3, "snapshot", 0), (5, "snapshot", 2), (6, "snapshot", 0)],
)
def test_a_load_takes_the_newest_up_to_its_version(
    totals: Hindsight, version: int, source: str, folded: int
) -> None:
    for number in range(1, 8):
        totals.execute("a", Add((number,)))
    loaded = totals.load("a", version=version)
    assert (loaded.version, loaded.source, loaded.folded) == (version, source, folded)
    assert loaded.state.total == sum(range(1, version + 1))


def test_a_command_decides_on_a_snapshot_and_what_came_after(totals: Hindsight) -> None:
    totals.execute("a", Add((1, 2, 3)))
    executed = totals.execute("a", Add((4,)))
    assert (executed.state, executed.version) == (Total(10, (2, 3, 4)), 4)


def test_a_version_beyond_the_snapshot_that_is_not_there_is_named(totals: Hindsight) -> None:
    totals.execute("a", Add((1, 2, 3)))
    with pytest.raises(VersionNotFound, match="no version 5; it is at 3"):
        totals.load("a", version=5)


def test_a_tail_longer_than_a_batch_is_folded_whole(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.snapshots.HISTORY_BATCH", 5)
    monkeypatch.setattr("store.reader.HISTORY_BATCH", 5)
    totals = opened()
    totals.execute("a", Add((1, 1, 1)))
    events = [NewEvent("Added", {"number": 1}) for _ in range(17)]
    totals.append("total", "a", events, expected=exact(3))
    loaded = totals.load("a")
    assert (loaded.state.total, loaded.version, loaded.folded) == (20, 20, 17)


def test_they_can_be_switched_off(opened: Open) -> None:
    opened().execute("a", Add((1, 1, 1)))
    off = opened(snapshots=False)
    loaded = off.load("a")
    assert (loaded.state.total, loaded.source) == (3, "replay")
    off.execute("a", Add((1, 1, 1)))
    assert kept(off) == [3]


def test_the_environment_switches_them_off(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_STORE_SNAPSHOTS", "off")
    store = opened()
    store.execute("a", Add((1, 1, 1)))
    assert kept(store) == []


@pytest.mark.parametrize("tail", [0, 2])
@pytest.mark.parametrize("version", [None, 3])
def test_a_load_is_one_round_trip_or_two_statements_where_none_is_made(
    totals: Hindsight, tmp_path: Path, tail: int, version: int | None
) -> None:
    statements = 1 if totals.database.is_remote else 2
    # Where nothing is behind a snapshot it may have been archived between the two.
    nothing_behind = statements == 2 and (version == 3 or not tail)
    for name, numbers in (("with", (1, 2, 3)), ("without", (1, 2))):
        totals.execute(name, Add(numbers))
    for _ in range(tail):
        totals.append("total", "with", [NewEvent("Added", {"number": 1})], expected=any_())
    count = partial(round_trips, totals, tmp_path / "trace")
    with_snapshot = count(lambda: totals.load("with", version=version))
    assert with_snapshot == statements + nothing_behind
    assert count(lambda: totals.load("without", version=version and 2)) == statements


def test_a_command_with_a_snapshot_waits_for_a_load_and_an_append(
    postgres_url: str, tmp_path: Path
) -> None:
    with Hindsight(postgres_url, domain=numbers()) as store:
        store.execute("a", Add((1, 2, 3)))
        waits = round_trips(store, tmp_path / "trace", lambda: store.execute("a", Add()))
    assert waits == 2  # the load, the append


# Whose they are


def other_add(state: Total, event: Added) -> Total:
    return Total(state.total - event.number)


def test_those_of_another_fold_are_neither_used_nor_removed(opened: Open) -> None:
    old, new = opened(), opened(numbers(apply=other_add))
    old.execute("a", Add((1, 2, 3)))
    assert (new.load("a").state, new.load("a").source) == (Total(-6), "replay")
    for number in (4, 5, 6, 7, 8, 9, 10, 11, 12):
        new.execute("a", Add((number,)))
    assert sorted(kept(new)) == [3, 9, 12]
    assert (old.load("a").state.total, old.load("a").folded) == (78, 9)
    assert new.load("a").folded == 0


def test_both_folds_keep_their_own_at_one_version(opened: Open) -> None:
    old, new = opened(), opened(numbers(apply=other_add))
    old.execute("a", Add((1, 2, 3)))
    new.snapshot("a")
    assert kept(old) == [3, 3]
    assert [store.load("a").state.total for store in (old, new)] == [6, -6]


# What is wrong with them costs time, not the answer


def wrong(statement: str) -> Any:
    return pytest.param(statement, id=statement.partition(" SET ")[2])


BREAKS = [
    wrong("UPDATE snapshots SET state = '{\"total\": 4}'"),  # another state, and valid
    wrong('UPDATE snapshots SET state = \'{"total": "x"}\''),
    wrong("UPDATE snapshots SET state = '[]'"),
    wrong("UPDATE snapshots SET digest = 'x'"),
    wrong("UPDATE snapshots SET event_digest = (SELECT digest FROM events WHERE version = 2)"),
]


@pytest.mark.parametrize("statement", BREAKS)
def test_one_that_is_not_as_it_was_written_is_ignored_and_replaced(
    totals: Hindsight, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    totals.execute("a", Add((1, 2, 3)))
    execute(totals, statement)
    with caplog.at_level(logging.WARNING, logger="store"):
        loaded = totals.load("a")
    assert (loaded.state.total, loaded.source) == (6, "replay")
    assert loaded.ignored is not None
    assert "snapshot of 'a' at version 3" in caplog.text
    again = totals.load("a")
    assert (again.state.total, again.source, again.ignored) == (6, "snapshot", None)


def test_one_that_is_replaced_by_a_newer_one_is_gone(totals: Hindsight) -> None:
    totals.execute("a", Add((1, 2, 3)))
    execute(totals, "UPDATE snapshots SET digest = 'x'")
    totals.append("total", "a", [NewEvent("Added", {"number": 4})], expected=exact(3))
    assert totals.load("a").ignored is not None
    assert kept(totals) == [4]
    assert (totals.load("a", version=3).source, totals.load("a").source) == ("replay", "snapshot")


@pytest.mark.parametrize("statement", BREAKS)
def test_a_reader_ignores_it_and_writes_nothing(
    totals: Hindsight, opened: Open, statement: str
) -> None:
    totals.execute("a", Add((1, 2, 3)))
    execute(totals, statement)
    reader = opened(read_only=True)
    for _ in range(2):
        loaded = reader.load("a")
        assert (loaded.state.total, loaded.source) == (6, "replay")
        assert loaded.ignored is not None


def test_one_ahead_of_the_events_is_an_error(totals: Hindsight) -> None:
    totals.execute("a", Add((1, 2, 3)))
    execute(totals, "UPDATE snapshots SET version = 9")
    with pytest.raises(SnapshotAhead, match="'a': a snapshot at version 9, events up to 3"):
        totals.load("a")
    assert totals.load("a", version=3).state.total == 6


def test_a_gap_behind_a_snapshot_is_an_error(totals: Hindsight) -> None:
    totals.execute("a", Add((1, 2, 3)))
    totals.execute("a", Add((4, 5)))
    remove_event(totals, version=4)
    with pytest.raises(HistoryGap, match="version 5 comes after version 3"):
        totals.load("a")


def remove_event(store: Hindsight, *, version: int) -> None:
    with store.database.transaction() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER events_no_delete"))
        else:
            connection.execute(text("DROP TRIGGER events_immutable ON events"))
        connection.execute(text("DELETE FROM events WHERE version = :v"), {"v": version})


# Taking one never fails a command


class Bag(Struct, frozen=True):
    numbers: Any = ()


def fill(state: Bag, event: Added) -> Bag:
    return Bag((*state.numbers, event.number))


def test_a_state_that_would_come_back_changed_is_not_kept(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(numbers(initial=Bag(), apply=fill))
    with caplog.at_level(logging.WARNING, logger="store"):
        executed = store.execute("a", Add((1, 2, 3)))
    assert executed.state == Bag((1, 2, 3))
    assert kept(store) == []
    assert "/numbers" in caplog.text
    assert store.load("a").state == Bag((1, 2, 3))


def hide(state: Bag, event: Added) -> Bag:
    return Bag({event.number: object()})


def test_a_state_that_is_no_json_is_not_kept(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(numbers(initial=Bag(), apply=hide))
    with caplog.at_level(logging.WARNING, logger="store"):
        store.execute("a", Add((1, 2, 3)))
    assert kept(store) == []
    assert "snapshot of 'a' at version 3" in caplog.text


def test_a_database_that_takes_none_takes_the_events(
    totals: Hindsight, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_snapshots(totals)
    with caplog.at_level(logging.WARNING, logger="store"):
        executed = totals.execute("a", Add((1, 2, 3)))
    assert (executed.version, kept(totals)) == (3, [])
    assert "snapshot of 'a' at version 3 is not kept: no room" in caplog.text


REFUSALS = {
    "sqlite": """
        CREATE TRIGGER full BEFORE INSERT ON snapshots BEGIN SELECT RAISE(ABORT, 'no room'); END
    """,
    "postgresql": """
        CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no room'; END $$;
        CREATE TRIGGER no_room BEFORE INSERT ON snapshots
        FOR EACH ROW EXECUTE FUNCTION no_room()
    """,
}


def refuse_snapshots(store: Hindsight) -> None:
    with store.database.transaction() as connection:
        connection.exec_driver_sql(REFUSALS[connection.dialect.name])
