"""The archive: what moves, that it is read all the same, that nothing in it ever comes back."""

import gzip
import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from store import (
    Append,
    Context,
    Event,
    FeedFilter,
    Hindsight,
    NewEvent,
    any_,
    exact,
    migrate,
    none,
)
from store.application import migrate_down
from store.archive import Archiver, Policy
from store.errors import (
    AggregateNotFound,
    ArchiveBusy,
    DuplicateEventId,
    PartialDuplicate,
    SchemaError,
    VersionConflict,
)
from store.interchange import format_line
from store.outbox import Relay
from store.outbox.operations import Operations
from store.transfer.importing import import_events
from store.verification import verify
from tests import sums, totals
from tests.archiving import archive_all_but, archiver, keeping
from tests.published import Recording, relay_all
from tests.statements import round_trips

pytestmark = pytest.mark.slow

START = datetime(2023, 1, 30, tzinfo=UTC)


class Clock:
    """Goes on by nine hours with every append, which looks twice."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(hours=4.5)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def aged(store_url: str, clock: Clock) -> Iterator[Hindsight]:
    """A store whose events come nine hours after one another, of numbers that add up."""
    with Hindsight(store_url, domain=totals.numbers(5), clock=clock, cache=False) as store:
        yield store


def fill(store: Hindsight, events: int = 60) -> list[Event]:
    for number in range(events):
        totals.put(store, number % 11 + 1, aggregate_id=f"a{number % 4}")
    return list(store.feed())


def active(store: Hindsight) -> int:
    [(count,)] = store.database.rows("SELECT count(*) FROM events", {})
    return int(count)


def packed(store: Hindsight) -> int:
    [(count,)] = store.database.rows("SELECT count(*) FROM events_archive", {})
    return int(count)


def check_histories(store: Hindsight, before: list[Event]) -> None:
    """Every way to read gives what was there before, and nothing is found wrong."""
    assert list(store.feed()) == before
    assert list(store.feed(backward=True)) == before[::-1]
    for name in {event.aggregate_id for event in before}:
        own = [event for event in before if event.aggregate_id == name]
        assert list(store.events(name)) == own
        assert [row for rows in store.log.outline(name) for row in rows] == [
            (e.version, e.event_type, (e.occurred_at - datetime(1970, 1, 1, tzinfo=UTC)) // MICRO)
            for e in own
        ]
        for version in (1, len(own) // 2 or 1, len(own)):
            loaded = store.load(name, version=version)
            total = sum(event.data["number"] for event in own[:version])
            assert (loaded.version, loaded.state.total) == (version, total)
    assert verify(store.log, domains=store.domains).findings == ()


MICRO = timedelta(microseconds=1)

# What moves


def test_what_is_beyond_the_newest_moves(aged: Hindsight) -> None:
    before = fill(aged)
    moved = archive_all_but(aged, 25)
    assert [each.events for each in moved] == [7, 7, 7, 7, 7]
    assert moved[-1].last_position == before[34].position
    assert active(aged) == 25
    check_histories(aged, before)


def test_all_may_move(aged: Hindsight) -> None:
    before = fill(aged)
    archive_all_but(aged, 0)
    assert active(aged) == 0
    check_histories(aged, before)
    assert aged.watermark().position == before[-1].position
    totals.put(aged, 3, aggregate_id="a0")
    assert aged.load("a0").version == 16
    assert [event.position for event in aged.feed(after=before[-1].position)] == [61]


def test_what_is_old_moves_up_to_the_first_that_is_not(aged: Hindsight, clock: Clock) -> None:
    before = fill(aged)
    old = Policy(older_than=timedelta(days=10), keep_active=10**9)
    moving = archiver(aged)
    list(moving.run(moving.bound(old, now=clock.now)))
    young = [e for e in before if e.recorded_at and e.recorded_at >= clock.now - old.older_than]
    assert 0 < len(young) < len(before)
    assert active(aged) == len(young)
    check_histories(aged, before)


def line(version: int) -> bytes:
    return (
        b'{"event_id":"00000000-0000-4000-8000-00000000000%d","aggregate_type":"total",'
        b'"aggregate_id":"old","version":%d,"event_type":"Added","data":{"number":1},'
        b'"occurred_at":"2001-01-01T00:00:00Z","recorded_at":"2001-01-01T00:00:00Z"}\n'
    ) % (version, version)


def restored_import(store: Hindsight, lines: bytes) -> Any:
    return import_events(store.log, io.BufferedReader(io.BytesIO(lines)), restore=True)


def test_old_events_behind_younger_ones_wait_for_them(aged: Hindsight, clock: Clock) -> None:
    fill(aged, 8)
    restored_import(aged, line(1) + line(2))
    policy = Policy(older_than=clock.now - START - timedelta(hours=30), keep_active=10**9)
    moving = archiver(aged)
    bound = moving.bound(policy, now=clock.now)
    [moved] = moving.run(bound)
    assert moved.events == 3
    assert moving.once(bound) is None
    assert active(aged) == 7


def test_months_are_packed_apart(aged: Hindsight) -> None:
    before = fill(aged)
    archive_all_but(aged, 0, batch=60)
    months = {e.recorded_at and (e.recorded_at.year, e.recorded_at.month) for e in before}
    assert len(months) == 2
    assert packed(aged) == 4 * len(months)
    if aged.database.is_remote:
        rows = aged.database.rows(
            "SELECT relname FROM pg_class WHERE relname LIKE 'events_archive_20%%'"
            " AND relkind = 'r' ORDER BY 1",
            {},
        )
        made = [name.removeprefix("events_archive_") for (name,) in rows]
        assert made == ["2023_01", "2023_02", "2023_03", "2023_04"]  # two of them ahead
        assert aged.database.rows("SELECT count(*) FROM events_archive_default", {}) == [(0,)]


def test_an_event_that_was_altered_moves_as_it_is_and_is_found(aged: Hindsight) -> None:
    fill(aged, 8)
    with aged.database.transaction() as connection:
        totals.unguard(connection)
        connection.execute(text("UPDATE events SET data = '{\"number\": 7}' WHERE position = 3"))
    before = list(aged.feed())
    archive_all_but(aged, 2)
    assert list(aged.feed()) == before
    assert {finding.kind for finding in verify(aged.log).findings} == {"digest"}


def test_snapshots_go_first(aged: Hindsight, tmp_path: Path) -> None:
    fill(aged, 63)
    assert aged.snapshots.newest(["a0", "a1", "a2", "a3"]) == {}
    list(aged.archive.run(keeping(10)))
    newest = aged.snapshots.newest(["a0", "a1", "a2", "a3"])
    assert newest == {"a0": 16, "a1": 16, "a2": 16, "a3": 15}
    totals.put(aged, 1, aggregate_id="a0")
    few = 1 if aged.database.is_remote else 2
    assert round_trips(aged, tmp_path / "trace", lambda: aged.load("a0")) == few


def test_large_events_move_by_few(aged: Hindsight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.archive.moving.LARGEST_BYTES", 50)  # an event takes 14, or 15
    before = fill(aged, 12)
    assert [each.events for each in archive_all_but(aged, 0)] == [4, 4, 4]
    aged.archive.restore("a1")
    aged.archive.give_back("a1")
    monkeypatch.setattr("store.archive.moving.LARGEST_BYTES", 1)
    aged.archive.restore("a2")
    assert aged.archive.give_back("a2") == 3
    assert active(aged) == 0
    check_histories(aged, before)


def test_there_may_be_nothing_to_archive(aged: Hindsight) -> None:
    assert list(aged.archive.run(keeping(0))) == []
    fill(aged, 4)
    assert list(aged.archive.run(keeping(4))) == []
    assert [each.events for each in aged.archive.run(keeping(0))] == [4]
    assert active(aged) == 0


def test_it_is_due_once_a_day(aged: Hindsight) -> None:
    assert aged.archive.is_due()
    list(aged.archive.run())
    assert not aged.archive.is_due()
    assert aged.archive.is_due(datetime.now(UTC) + timedelta(days=1))


# What never comes back


def test_an_archived_version_is_never_written_again(aged: Hindsight) -> None:
    fill(aged)
    archive_all_but(aged, 0)
    for expected in (none(), exact(1), exact(14), exact(16)):
        with pytest.raises(VersionConflict) as conflict:
            aged.append("total", "a0", [NewEvent("Added", {"number": 1})], expected=expected)
        assert conflict.value.actual == 15
    written = aged.append("total", "a0", [NewEvent("Added", {"number": 1})], expected=exact(15))
    assert written.version == 16


@pytest.mark.parametrize("expected", [exact(15), exact(0), any_()])
def test_an_archived_event_is_known(aged: Hindsight, expected: Any) -> None:
    before = fill(aged)
    archive_all_but(aged, 20)
    first = before[0]
    again = NewEvent("Added", first.data, event_id=first.event_id)
    answer = aged.append("total", "a0", [again], expected=expected)
    assert (answer.duplicate, answer.events) == (True, (first,))
    other = NewEvent("Added", {"number": 99}, event_id=first.event_id)
    with pytest.raises(DuplicateEventId):
        aged.append("total", "a0", [other], expected=expected)
    with pytest.raises(PartialDuplicate):
        aged.append("total", "a0", [again, NewEvent("Added", {"number": 1})], expected=expected)
    part = Append(aggregate_type="total", aggregate_id="a0", events=[again], expected=expected)
    assert aged.append_all([part])[0].events == (first,)
    with aged.database.transaction() as connection:
        given = aged.append("total", "a0", [again], expected=expected, connection=connection)
        assert given.duplicate
    assert list(aged.feed()) == before
    assert aged.append("total", "other", [again], expected=none()).version == 1


def test_an_import_of_what_is_archived_changes_nothing(aged: Hindsight) -> None:
    before = fill(aged)
    lines = b"".join(map(format_line, before))
    archive_all_but(aged, 20)
    imported = restored_import(aged, lines)
    assert (imported.known, imported.imported, imported.rejected) == (60, 0, 0)
    assert list(aged.feed()) == before
    more = line(1).replace(b'"old"', b'"a0"').replace(b'"version":1,', b'"version":16,')
    stolen = more.replace(b"00000000-0000-4000-8000-000000000001", str(before[0].event_id).encode())
    assert restored_import(aged, stolen.replace(b"2001", b"2031")).rejected == 1
    assert restored_import(aged, more.replace(b"2001", b"2031")).imported == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events_archive SET digest = digest",
        "DELETE FROM events_archive",
        "DELETE FROM events",
        "UPDATE events SET actor = 'x'",
    ],
)
def test_the_database_refuses_to_change_what_is_archived(aged: Hindsight, statement: str) -> None:
    before = fill(aged, 8)
    archive_all_but(aged, 4)
    with (
        pytest.raises(Exception, match="events are immutable"),
        aged.database.transaction() as connection,
    ):
        connection.execute(text(statement))
    assert list(aged.feed()) == before


# What is read


def test_relays_take_what_is_archived(store_url: str) -> None:
    with Hindsight(store_url, domain=sums.domain, cache=False) as store:
        sums.put(store, "a", 1, 2, 3)
        sums.put(store, "b", 4, 5)
        before = list(store.feed())
        archive_all_but(store, 1, batch=2)
        assert [r.event_type for r in store.outbox.records("a")] == ["Added"] * 3
        assert {h.record.event_type for h in store.outbox.heads()} == {"Added"}
        publisher = Recording()
        while Relay(store.database, publisher).once().claimed:
            pass
        assert sorted(publisher.events, key=lambda e: e.position) == before


def test_who_redrives_is_told_of_later_events_that_are_archived(store_url: str) -> None:
    with Hindsight(store_url, domain=sums.domain, cache=False) as store:
        sums.put(store, "a", 1, 2, 3)
        relay_all(store, dead={"a": 1})
        operations = Operations(store.database, actor="ada")
        operations.skip("a", 1, reason="nobody wants it")
        archive_all_but(store, 0)
        assert not operations.redrive("a", 1, reason="somebody does").late
        operations.skip("a", 1, reason="or not")
        relay_all(store)
        assert operations.redrive("a", 1, reason="after all").late


def test_projections_are_built_from_what_is_archived(store_url: str) -> None:
    with Hindsight(store_url, domain=sums.mended, cache=False) as store:
        for number in range(40):
            sums.put(store, f"n{number % 5}", 100 + number)
        archive_all_but(store, 9)
        sums.project(store)
        sums.put(store, "n1", 1_000)
        sums.project(store)
        for name in (f"n{number}" for number in range(5)):
            row = store.read_model("sums").get(name)
            assert row is not None
            assert row["total"] == store.load(name).state.total
        assert not store.projections.check("sums").drifted


def test_an_aggregate_is_verified_alone(aged: Hindsight) -> None:
    fill(aged)
    archive_all_but(aged, 20)
    verified = verify(aged.log, "a1", domains=aged.domains)
    assert (verified.events, verified.findings) == (15, ())


def test_a_pack_that_was_damaged_is_found(aged: Hindsight) -> None:
    fill(aged)
    archive_all_but(aged, 20)
    with aged.database.transaction() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER events_archive_no_update"))
            zero = "zeroblob(9)"
        else:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            zero = "'\\x000000'::bytea"
        connection.execute(
            text(f"UPDATE events_archive SET events = {zero} WHERE aggregate_id = 'a1'")
        )
    found = verify(aged.log, domains=aged.domains)
    assert {(each.kind, each.aggregate_id) for each in found.findings} >= {("archive", "a1")}
    assert {each.aggregate_id for each in found.findings} == {"a1"}


# Back again


def test_what_is_restored_is_held_until_it_is_given_back(aged: Hindsight) -> None:
    before = fill(aged)
    archive_all_but(aged, 20)
    assert aged.archive.restore("a1") == 10
    assert [each.aggregate_id for each in aged.archive.restored()] == ["a1"]
    assert active(aged) == 30
    check_histories(aged, before)
    totals.put(aged, 5, aggregate_id="a1")
    before = list(aged.feed())
    archive_all_but(aged, 0)
    assert active(aged) == 16
    check_histories(aged, before)
    assert aged.archive.give_back("a1") == 16
    assert (active(aged), aged.archive.restored()) == (0, [])
    check_histories(aged, before)
    assert aged.archive.standing().events == 61


@pytest.mark.parametrize("batch", [1, 3, 60])
def test_who_was_held_all_the_time_is_archived_and_found(aged: Hindsight, batch: int) -> None:
    fill(aged)
    note = Context(correlation_id="c-1")
    aged.append("total", "a1", [NewEvent("Added", {"number": 1})], expected=any_(), context=note)
    before = list(aged.feed())
    assert aged.archive.restore("a1") == 0
    archive_all_but(aged, 0, batch=batch)
    assert aged.archive.give_back("a1") == 16
    assert active(aged) == 0
    check_histories(aged, before)
    assert list(aged.feed(where=FeedFilter(correlation_id="c-1"))) == before[-1:]


@pytest.mark.parametrize("meanwhile", ["restore", "give_back"])
def test_nothing_moves_where_somebody_is_held_or_given_back_meanwhile(
    aged: Hindsight, meanwhile: str
) -> None:
    before = fill(aged)
    if meanwhile == "give_back":
        aged.archive.restore("a1")
    moving = Archiver(
        aged.database,
        settled=aged.archive.settled,
        prepare=lambda _: getattr(aged.archive, meanwhile)("a1"),
    )
    with pytest.raises(ArchiveBusy):
        moving.once(moving.bound(keeping(0)))
    assert active(aged) == 60
    archive_all_but(aged, 0)
    assert active(aged) == (15 if meanwhile == "restore" else 0)
    check_histories(aged, before)


def test_what_was_held_back_is_found_once_it_is_given_back(aged: Hindsight) -> None:
    for number in range(30):
        correlation = Context(correlation_id=f"c{number % 3}")
        event = NewEvent("Added", {"number": 1})
        aged.append("total", f"a{number % 3}", [event], expected=any_(), context=correlation)
    archive_all_but(aged, 20)
    aged.archive.restore("a1")
    archive_all_but(aged, 0)
    before = list(aged.feed())
    aged.archive.give_back("a1")
    assert active(aged) == 0
    check_histories(aged, before)
    own = [event for event in before if event.aggregate_id == "a1"]
    assert list(aged.feed(where=FeedFilter(correlation_id="c1"))) == own


def test_a_long_history_comes_back_in_parts(
    aged: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.archive.restoring._PACKS", 2)
    monkeypatch.setattr("store.archive.restoring.LARGEST_BATCH", 3)
    before = fill(aged)
    archive_all_but(aged, 3)
    packs = packed(aged)
    bytes_ = aged.archive.standing().bytes
    assert aged.archive.restore("a2") == 14
    check_histories(aged, before)
    assert aged.archive.give_back("a2") == 14
    check_histories(aged, before)
    assert packed(aged) >= packs
    standing = aged.archive.standing()
    assert (standing.events, standing.packs) == (57, packed(aged))
    assert abs(standing.bytes - bytes_) < bytes_ / 4


def test_whoever_is_not_there_is_not_restored(aged: Hindsight) -> None:
    with pytest.raises(AggregateNotFound):
        aged.archive.restore("nobody")
    fill(aged, 4)
    assert aged.archive.restore("a0") == 0


def test_the_schema_goes_down_once_all_is_restored(aged: Hindsight, store_url: str) -> None:
    before = fill(aged)
    archive_all_but(aged, 20)
    with pytest.raises(SchemaError, match="archive restore --all"):
        migrate_down(store_url, "0005")
    assert dict(aged.archive.restore_all()) == dict.fromkeys(["a0", "a1", "a2", "a3"], 10)
    migrate_down(store_url, "0005")
    migrate(store_url)
    with Hindsight(store_url, domain=totals.numbers(5), cache=False) as store:
        check_histories(store, before)


def test_months_are_copied_to_files(aged: Hindsight, tmp_path: Path, sqlite_url: str) -> None:
    before = fill(aged)
    archive_all_but(aged, 20)
    exported = list(aged.archive.export(tmp_path / "copies"))
    assert [f"{each.month:%Y-%m}" for each in exported] == ["2023-01", "2023-02"]
    assert sum(each.events for each in exported) == 40
    sums_file = (tmp_path / "copies" / "SHA256SUMS").read_text().splitlines()
    for each, told in zip(exported, sums_file, strict=True):
        content = Path(each.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each.digest == told.split()[0]
    assert [each.digest for each in aged.archive.export(tmp_path / "copies")] == [
        each.digest for each in exported
    ]
    if str(aged.database.engine.url).startswith("sqlite"):
        return
    with Hindsight(sqlite_url) as other:
        for each in exported:
            restored_import(other, gzip.decompress(Path(each.path).read_bytes()))
        there = {(e.event_id, e.aggregate_id, e.version, e.digest) for e in other.feed()}
    archived = before[:40]
    assert there == {(e.event_id, e.aggregate_id, e.version, e.digest) for e in archived}


def of_year(year: int) -> bytes:
    renamed = line(1).replace(b'"old"', b'"of %04d"' % year)
    return renamed.replace(b"2001-01-01T00:00:00Z", b"%04d-12-31T23:59:59.999999Z" % year)


def test_events_of_any_time_are_archived_and_copied(aged: Hindsight, tmp_path: Path) -> None:
    years = (1, 1969, 9998, 9999)
    restored_import(aged, b"".join(map(of_year, years)))
    before = list(aged.feed())
    archive_all_but(aged, 0, batch=1)
    assert list(aged.feed()) == before
    exported = list(aged.archive.export(tmp_path))
    assert [Path(each.path).name for each in exported] == [
        f"events-{year:04d}-12.ndjson.gz" for year in years
    ]
    assert [each.events for each in exported] == [1] * 4
    assert (aged.archive.standing().missing, aged.archive.standing().default) == ([], 0)


# How it stands


def test_a_plan_says_what_would_move_and_nothing_moves(aged: Hindsight) -> None:
    fill(aged)
    plan = aged.archive.plan(keeping(20))
    assert (plan.events, plan.through_position, plan.held) == (40, 40, 0)
    assert plan.unpublished == 40
    assert active(aged) == 60
    archive_all_but(aged, 40)
    aged.archive.restore("a0")
    later = aged.archive.plan(keeping(20))
    assert (later.events, later.held) == (15, 5)
    nothing = aged.archive.plan(Policy(keep_active=100, older_than=timedelta(days=9_999)))
    assert (nothing.events, nothing.archived_bytes) == (0, 0)


def test_it_tells_how_it_stands(aged: Hindsight) -> None:
    empty = aged.archive.standing()
    assert (empty.events, empty.earliest, empty.oldest_active, empty.ran_at) == (
        0,
        None,
        None,
        None,
    )
    before = fill(aged)
    archive_all_but(aged, 20)
    standing = aged.archive.standing()
    assert (standing.events, standing.packs, standing.batches) == (40, packed(aged), 6)
    assert standing.earliest == before[0].recorded_at
    assert standing.latest == before[39].recorded_at
    assert standing.oldest_active == before[40].recorded_at
    assert standing.through_position == 40
    assert (standing.missing, standing.default) == ([], 0)
    assert standing.size
    assert standing.active_size
    list(aged.archive.run(keeping(20)))
    assert aged.archive.standing().ran_at is not None


def test_ids_are_those_of_uuids_whatever_they_look_like(aged: Hindsight) -> None:
    odd = [UUID(int=0), UUID(int=2**128 - 1), UUID(int=0x01010101010101010101010101010101)]
    for event_id in odd:
        event = NewEvent("Added", {"number": 1}, event_id=event_id)
        aged.append("total", "a", [event], expected=any_())
    archive_all_but(aged, 0)
    for event_id in odd:
        event = NewEvent("Added", {"number": 1}, event_id=event_id)
        assert aged.append("total", "a", [event], expected=any_()).duplicate
    # Half of one and half of the next is none.
    between = NewEvent("Added", {"number": 1}, event_id=UUID(int=2**64 - 1))
    assert not aged.append("total", "a", [between], expected=any_()).duplicate
