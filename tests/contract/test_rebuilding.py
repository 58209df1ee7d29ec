"""Read models compared with their events, and made anew beside the one that serves."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
    inspect,
    text,
)

from store import Aggregate, Domain, EventHeader, Hindsight, Moment, NewEvent, Projection, Row, any_
from store.database.read_models import put_in_place
from store.errors import (
    DatabaseBusy,
    ProjectionFailed,
    ProjectionNotBuilt,
    ProjectionOutdated,
    ReadModelInUse,
    RebuildInterrupted,
)
from store.projections import Projector, building, rebuilding
from store.projections.checkpoints import Checkpoint, Checkpoints, Target
from store.projections.comparing import Difference, compared
from store.projections.projector import BATCH
from tests.servers import PostgresServer
from tests.totals import Added, Total, add

pytestmark = pytest.mark.slow


def sums(*more: Any) -> Table:
    return Table(
        "sums",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("total", Integer, nullable=False, index=True),
        Column("events", Integer, nullable=False),
        *more,
    )


def note_sum(row: Row | None, added: Added, event: EventHeader) -> Row:
    if added.number == 13:
        raise ValueError("unlucky")
    before = row or {"total": 0, "events": 0}
    return {
        "id": event.aggregate_id,
        "total": before["total"] + added.number,
        "events": before["events"] + 1,
    }


def summing(handler: Callable[..., Any] = note_sum, **options: Any) -> Domain:
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    table = options.pop("table", None)
    projection = Projection(
        "sums", table=sums() if table is None else table, handlers={Added: handler}, **options
    )
    return Domain("totals", aggregates=[total], projections=[projection])


def others() -> Table:
    return Table("sums_too", MetaData(), Column("id", Text, primary_key=True))


def summing_too(projection: Projection) -> Domain:
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    return Domain("totals", aggregates=[total], projections=[projection])


def put(store: Hindsight, name: str, *numbers: int) -> int:
    events = [NewEvent("Added", {"number": number}) for number in numbers]
    return store.append("total", name, events, expected=any_()).position


def catch_up(store: Hindsight) -> None:
    projector = store.projections.projector("sums")
    while projector.once().is_behind:
        pass


def execute(store: Hindsight, sql: str) -> None:
    with store.database.transaction() as connection:
        connection.execute(text(sql))


def rows(store: Hindsight) -> dict[str, int]:
    return {row["id"]: row["total"] for row in store.read_model("sums").query().rows}


@pytest.fixture
def filled(store_url: str) -> Iterator[Hindsight]:
    """Three sums, with their table."""
    with Hindsight(store_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1, 2)
        put(store, "b", 3)
        put(store, "c", 4, 5, 6)
        catch_up(store)
        yield store
        assert store.database.connections.in_use == 0


def tables(store: Hindsight) -> set[str]:
    with store.database.connect() as connection:
        return {name for name in inspect(connection).get_table_names() if name.startswith("sums")}


def test_a_table_that_is_as_the_events_have_it_shows_no_drift(filled: Hindsight) -> None:
    checked = filled.projections.check("sums")
    assert (checked.position, checked.compared.rows, checked.compared.drift) == (6, 3, 0)
    assert tables(filled) == {"sums"}
    [standing] = filled.projections.standing()
    assert standing.checkpoint is not None
    assert (standing.checkpoint.drift, standing.comparing) == (0, None)
    assert standing.checkpoint.checked_at is not None


def test_only_whole_tables_are_read_in_portions(filled: Hindsight) -> None:
    """On PostgreSQL a portion takes a cursor on the server: more for a look at some keys."""
    portions: dict[str, Any] = {}

    def note(*given: Any) -> None:
        statement, context = given[2], given[4]
        kind = "keys" if "WHERE" in statement else "rows"
        if "FROM sums" in statement and "count" not in statement:
            portions[kind] = context.execution_options.get("yield_per")

    event.listen(filled.database.engine, "after_cursor_execute", note)
    filled.projections.check("sums")
    assert portions == {"rows": 1_000, "keys": None}


def test_missing_extra_and_differing_rows_are_told_with_the_event_that_touched_them(
    filled: Hindsight,
) -> None:
    execute(filled, "DELETE FROM sums WHERE id = 'b'")
    execute(filled, "UPDATE sums SET total = 99 WHERE id = 'c'")
    execute(filled, "INSERT INTO sums VALUES ('z', 7, 1)")
    checked = filled.projections.check("sums")
    found = checked.compared
    assert (found.rows, found.missing, found.extra, found.differing) == (3, 1, 1, 1)
    by_key = {each.difference.key: each for each in checked.drifted}
    assert by_key["c",].difference == Difference(
        kind="differing",
        key=("c",),
        columns=["total"],
        found={"id": "c", "total": 99, "events": 3},
        expected={"id": "c", "total": 15, "events": 3},
    )
    touched = {key: each.touched_by and each.touched_by.position for key, each in by_key.items()}
    assert touched == {("b",): 3, ("c",): 6, ("z",): None}
    [standing] = filled.projections.standing()
    assert standing.checkpoint is not None
    assert standing.checkpoint.drift == 3


def test_what_is_projected_during_a_check_is_no_drift(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison sees the table as it was when its checkpoint stood where the other's does."""
    reach = building.Builder.reach

    def meanwhile(self: building.Builder, goal: int, progress: Any) -> None:
        put(filled, "a", 100)
        put(filled, "new", 1)
        catch_up(filled)
        reach(self, goal, progress)

    monkeypatch.setattr(building.Builder, "reach", meanwhile)
    checked = filled.projections.check("sums")
    assert checked.compared.drift == 0
    monkeypatch.undo()
    assert filled.projections.check("sums").compared.drift == 0
    assert rows(filled)["new"] >= 1


def test_a_table_that_was_replaced_meanwhile_is_compared_again(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot has the rows as they were, but not which table they were in."""

    def replaced(*given: Any) -> Any:
        monkeypatch.undo()
        filled.projections.rebuild("sums")
        return compared(*given)

    monkeypatch.setattr(rebuilding, "compared", replaced)
    assert filled.projections.check("sums").compared.drift == 0
    [standing] = filled.projections.standing()
    assert standing.checkpoint is not None
    assert standing.checkpoint.drift == 0


def test_a_check_leaves_out_what_was_left_out(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    with Hindsight(store_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1, 13, 2)
        catch_up(store)
        assert store.projections.check("sums").compared.drift == 0
        execute(store, "UPDATE sums SET total = 4")
        assert store.projections.check("sums").compared.differing == 1


def test_what_ends_in_front_of_its_work_leaves_nothing_behind(
    filled: Hindsight, store_url: str
) -> None:
    def failing(row: Row | None, added: Added, event: EventHeader) -> Row:
        if added.number == 5:
            raise ValueError("unlucky")
        return note_sum(row, added, event)

    with Hindsight(store_url, domain=summing(failing)) as store:
        with pytest.raises(ProjectionFailed):
            store.projections.check("sums")
        assert tables(store) == {"sums"}
    projection = Projection("others", table=others(), handlers={Added: note_sum})
    with Hindsight(store_url, domain=summing_too(projection)) as store:
        with pytest.raises(ProjectionNotBuilt):
            store.projections.rebuild("others")
        assert [each.building for each in store.projections.standing()] == [None]


def test_a_rebuild_puts_right_what_was_wrong(filled: Hindsight) -> None:
    execute(filled, "DELETE FROM sums WHERE id = 'b'")
    execute(filled, "UPDATE sums SET total = 99 WHERE id = 'c'")
    rebuilt = filled.projections.rebuild("sums")
    assert (rebuilt.checked.compared.drift, rebuilt.position) == (2, 6)
    assert rows(filled) == {"a": 3, "b": 3, "c": 15}
    put(filled, "a", 10)
    catch_up(filled)
    assert rows(filled) == {"a": 13, "b": 3, "c": 15}
    assert filled.projections.check("sums").compared.drift == 0
    [standing] = filled.projections.standing()
    assert (standing.state, standing.building) == ("up to date", None)


def test_the_old_table_serves_until_the_new_one_is_whole(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(filled, "UPDATE sums SET total = 99 WHERE id = 'c'")
    seen: list[dict[str, int]] = []

    def put_it(*given: Any) -> None:
        if filled.database.engine.dialect.name == "postgresql":
            put(filled, "d", 1)  # SQLite has one writer
        seen.append(rows(filled))
        put_in_place(*given)

    monkeypatch.setattr(rebuilding, "put_in_place", put_it)
    filled.projections.rebuild("sums")
    assert seen == [{"a": 3, "b": 3, "c": 99}]
    assert rows(filled) == {"a": 3, "b": 3, "c": 15}
    catch_up(filled)
    assert filled.projections.check("sums").compared.drift == 0


def test_the_new_table_looks_as_the_old_one_did(store_url: str) -> None:
    table = sums(Index("sums_both", "total", "events"))
    with Hindsight(store_url, domain=summing(table=table)) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
        before = described(store)
        for _ in range(2):
            store.projections.rebuild("sums")
            assert described(store) == before
        assert tables(store) == {"sums"}


def test_a_table_with_long_names_is_made_anew(store_url: str) -> None:
    """Those that are as long as may be, and those that the toolkit makes up and cuts."""
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    name, column, other = "sums" * 10, "n" * 40, "m" * 40
    table = Table(
        name,
        MetaData(),
        Column("id", Text, primary_key=True),
        Column(column, Integer, index=True),
        Column(other, Integer),
        Index(None, other, "id"),
        Index("i" * 54, column),
        UniqueConstraint("id", column, name="u" * 54),
    )

    def note(row: Row | None, added: Added, event: EventHeader) -> Row:
        del row
        return {"id": event.aggregate_id, column: added.number}

    projection = Projection("sums", table=table, handlers={Added: note})
    domain = Domain("totals", aggregates=[total], projections=[projection])
    with Hindsight(store_url, domain=domain) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
        for _ in range(2):
            store.projections.rebuild("sums")
        assert tables(store) == {name}
        with store.database.connect() as connection:
            found = inspect(connection)
            keys = [each["name"] for each in found.get_unique_constraints(name)]
            indexes = [each["name"] for each in found.get_indexes(name)]
        assert "i" * 54 in indexes
        assert not [index for index in indexes if index and "__rebuild" in index]
        if store.database.engine.dialect.name == "postgresql":  # SQLite renames no constraint
            assert keys == ["u" * 54]


def described(store: Hindsight) -> Any:
    with store.database.connect() as connection:
        found = inspect(connection)
        indexes = sorted(
            (str(index["name"]), index["column_names"]) for index in found.get_indexes("sums")
        )
        columns = [(each["name"], str(each["type"])) for each in found.get_columns("sums")]
        return columns, found.get_pk_constraint("sums"), indexes


def test_a_batch_that_was_begun_before_the_new_table_came_writes_nothing_into_it(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows were made from what the old table had wrong."""
    execute(filled, "UPDATE sums SET total = 99 WHERE id = 'c'")
    put(filled, "c", 1)
    projector = filled.projections.projector("sums")
    found = projector._rows

    def held(*given: Any) -> Any:
        rows = found(*given)
        monkeypatch.undo()
        filled.projections.rebuild("sums")
        return rows

    monkeypatch.setattr(projector, "_rows", held)
    assert projector.once().stands_by
    catch_up(filled)
    assert rows(filled)["c"] == 16


def test_a_table_that_somebody_dropped_is_made_anew(filled: Hindsight) -> None:
    execute(filled, "DROP TABLE sums")
    assert filled.projections.check("sums").compared.missing == 3
    assert filled.projections.rebuild("sums").checked.compared.missing == 3
    assert rows(filled) == {"a": 3, "b": 3, "c": 15}


def test_a_rebuild_that_died_is_gone_on_with(filled: Hindsight) -> None:
    numbers = [1] * (2 * BATCH + 10)
    put(filled, "long", *numbers)
    catch_up(filled)
    projection = filled.projections.projection("sums")
    seen: list[int] = []

    class Died(BaseException):
        pass

    def die(reached: int, goal: int) -> None:
        seen.append(reached)
        if reached >= BATCH:
            raise Died

    with pytest.raises(Died):
        filled.projections.rebuild("sums", progress=die)
    [standing] = filled.projections.standing()
    assert standing.building is not None
    assert (standing.building.position, standing.building.goal) == (BATCH, 2 * BATCH + 16)
    assert standing.state == "up to date"
    again: list[tuple[int, int]] = []
    filled.projections.rebuild("sums", progress=lambda *moved: again.append(moved))
    assert again[0] == (2 * BATCH, 2 * BATCH + 16)
    assert rows(filled)["long"] == len(numbers)
    assert tables(filled) == {"sums"}
    assert projection.name == "sums"


def test_what_other_code_began_is_begun_anew(filled: Hindsight, store_url: str) -> None:
    put(filled, "long", *[1] * BATCH)
    catch_up(filled)

    def doubled(row: Row | None, added: Added, event: EventHeader) -> Row:
        before = row or {"total": 0, "events": 0}
        total = before["total"] + 2 * added.number
        return {"id": event.aggregate_id, "total": total, "events": before["events"] + 1}

    class Died(BaseException):
        pass

    def die(reached: int, goal: int) -> None:
        raise Died

    with pytest.raises(Died):
        filled.projections.rebuild("sums", progress=die)
    with Hindsight(store_url, domain=summing(doubled, version=2)) as newer:
        newer.projections.rebuild("sums")
        assert rows(newer) == {"a": 6, "b": 6, "c": 30, "long": 2 * BATCH}


def test_a_new_version_may_have_other_columns(filled: Hindsight, store_url: str) -> None:
    def noted(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {**note_sum(row, added, event), "last": added.number}

    table = sums(Column("last", Integer))
    with Hindsight(store_url, domain=summing(noted, version=2, table=table)) as newer:
        with pytest.raises(ProjectionOutdated):
            newer.read_model("sums").get("a")
        rebuilt = newer.projections.rebuild("sums")
        assert rebuilt.checked.compared.drift == 0  # of the columns that both have
        assert newer.read_model("sums").get("a") == {"id": "a", "total": 3, "events": 2, "last": 2}
        assert newer.projections.check("sums").compared.drift == 0


def test_a_new_version_may_have_another_key(filled: Hindsight, store_url: str) -> None:
    table = Table(
        "sums",
        MetaData(),
        Column("number", Integer, primary_key=True),
        Column("events", Integer, nullable=False),
    )

    def counted(row: Row | None, added: Added, event: EventHeader) -> Row:
        del event
        return {"number": added.number, "events": (row["events"] if row else 0) + 1}

    domain = summing(counted, version=2, table=table, key=lambda added, _: added.number)
    with Hindsight(store_url, domain=domain) as newer:
        found = newer.projections.rebuild("sums").checked.compared
        assert (found.rows, found.missing, found.extra, found.differences) == (6, 6, 3, ())
        assert len(newer.read_model("sums").query().rows) == 6


def test_a_rebuild_stops_at_an_event_that_cannot_be_taken(
    filled: Hindsight, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though who follows skips it: a table with a hole in it is no answer to drift."""
    put(filled, "b", 13)
    put(filled, "b", 1)
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    with Hindsight(store_url, domain=summing()) as store:
        catch_up(store)
        assert rows(store)["b"] == 4
        with pytest.raises(ProjectionFailed, match="of 'b' version 2"):
            store.projections.rebuild("sums")
        assert rows(store)["b"] == 4
        [standing] = store.projections.standing()
        assert (standing.state, standing.skipped) == ("up to date", 1)

    def mended(row: Row | None, added: Added, event: EventHeader) -> Row:
        before = row or {"total": 0, "events": 0}
        total = before["total"] + added.number
        return {"id": event.aggregate_id, "total": total, "events": before["events"] + 1}

    with Hindsight(store_url, domain=summing(mended)) as store:
        assert store.projections.rebuild("sums").checked.compared.differing == 1
        assert rows(store)["b"] == 17
        [standing] = store.projections.standing()
        assert standing.skipped == 0


def test_of_two_rebuilds_one_gives_in(filled: Hindsight, monkeypatch: pytest.MonkeyPatch) -> None:
    put(filled, "long", *[1] * (3 * BATCH))
    catch_up(filled)
    once = Projector.once
    entered = threading.Event()

    def other_first(self: Projector, **given: Any) -> Any:
        if self._target == "rebuild" and not entered.is_set():
            once(self, **given)
            entered.set()
            filled.projections.rebuild("sums")
        return once(self, **given)

    monkeypatch.setattr(Projector, "once", other_first)
    with pytest.raises(RebuildInterrupted, match="somebody else builds it, too"):
        filled.projections.rebuild("sums")
    assert rows(filled)["long"] == 3 * BATCH
    assert filled.projections.check("sums").compared.drift == 0


def test_of_two_rebuilds_begun_at_once_one_gives_in(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find nothing begun; who comes second finds what the first has begun, and leaves it."""
    read, reach_live = Checkpoints.read, building.Builder.reach_live
    both_looked, one_gave_in = threading.Barrier(2), threading.Event()
    looked = threading.local()

    def read_together(self: Checkpoints, name: str, target: Target = "live", **given: Any) -> Any:
        found = read(self, name, target, **given)
        if target == "rebuild" and not hasattr(looked, "is_done"):
            looked.is_done = True
            both_looked.wait(20)
        return found

    def reach_when_alone(self: building.Builder, progress: Any) -> None:
        assert one_gave_in.wait(20)
        reach_live(self, progress)

    def rebuild() -> str:
        try:
            filled.projections.rebuild("sums")
        except RebuildInterrupted:
            one_gave_in.set()
            return "gave in"
        return "rebuilt"

    monkeypatch.setattr(Checkpoints, "read", read_together)
    monkeypatch.setattr(building.Builder, "reach_live", reach_when_alone)
    with ThreadPoolExecutor(2) as pool:
        outcomes = [each.result() for each in [pool.submit(rebuild), pool.submit(rebuild)]]
    assert sorted(outcomes) == ["gave in", "rebuilt"]
    monkeypatch.undo()
    assert filled.projections.check("sums").compared.drift == 0


def test_of_two_checks_one_that_is_left_without_its_table_gives_in(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach = building.Builder.reach

    def overtaken(self: building.Builder, goal: int, progress: Any) -> None:
        reach(self, goal, progress)
        monkeypatch.undo()
        assert filled.projections.check("sums").compared.drift == 0

    monkeypatch.setattr(building.Builder, "reach", overtaken)
    with pytest.raises(RebuildInterrupted):
        filled.projections.check("sums")
    assert tables(filled) == {"sums"}


def test_of_two_checks_one_that_compares_when_its_table_goes_gives_in(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(*given: Any) -> Any:
        monkeypatch.undo()
        filled.projections.check("sums")
        return compared(*given)

    monkeypatch.setattr(rebuilding, "compared", overtaken)
    with pytest.raises(RebuildInterrupted):
        filled.projections.check("sums")
    assert tables(filled) == {"sums"}


def test_of_two_checks_one_whose_table_went_on_gives_in(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with the table as it was before, what came since would be drift."""
    reach = building.Builder.reach

    def overtaken(self: building.Builder, goal: int, progress: Any) -> None:
        reach(self, goal, progress)
        end = put(filled, "a", 100)
        catch_up(filled)
        step(filled, "check", end)

    monkeypatch.setattr(building.Builder, "reach", overtaken)
    with pytest.raises(RebuildInterrupted):
        filled.projections.check("sums")
    monkeypatch.undo()
    assert filled.projections.check("sums").compared.drift == 0


@pytest.mark.parametrize("moment", ["before", "within"])
def test_of_two_checks_one_that_finds_another_table_begun_gives_in(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Compared with one that is empty yet, every row would be drift."""
    reach = building.Builder.reach

    def begin_another() -> None:
        monkeypatch.undo()
        filled.projections.check("sums")
        building.begin(filled.database, filled.projections.projection("sums"), "check")

    def before(self: building.Builder, goal: int, progress: Any) -> None:
        reach(self, goal, progress)
        begin_another()

    def within(*given: Any) -> Any:
        begin_another()
        return compared(*given)

    if moment == "before":
        monkeypatch.setattr(building.Builder, "reach", before)
    else:
        monkeypatch.setattr(rebuilding, "compared", within)
    with pytest.raises(RebuildInterrupted):
        filled.projections.check("sums")
    assert tables(filled) == {"sums", "sums__check"}
    assert filled.projections.check("sums").compared.drift == 0
    assert tables(filled) == {"sums"}


def test_a_check_that_ends_leaves_the_table_of_the_next_one(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another(*given: Any) -> Any:
        del given
        monkeypatch.undo()
        filled.projections.check("sums")
        building.begin(filled.database, filled.projections.projection("sums"), "check")
        return {}

    monkeypatch.setattr(rebuilding, "_touching", another)
    assert filled.projections.check("sums").compared.drift == 0
    assert tables(filled) == {"sums", "sums__check"}


def test_of_checks_at_once_none_tells_drift(filled: Hindsight) -> None:
    def check(_: int) -> int | None:
        try:
            return filled.projections.check("sums").compared.drift
        except RebuildInterrupted:
            return None

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(check, range(30)))
    assert set(found) <= {0, None}
    assert 0 in found


@pytest.mark.parametrize("version", [1, 2])
def test_what_another_code_has_begun_is_not_filled(
    filled: Hindsight, store_url: str, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    once, begun = Projector.once, list[Checkpoint]()

    def outrun(self: Projector, **given: Any) -> Any:
        if not begun:
            begun.append(another_begun(store_url, version))
        return once(self, **given)

    monkeypatch.setattr(Projector, "once", outrun)
    with pytest.raises(RebuildInterrupted):
        filled.projections.rebuild("sums")
    assert Checkpoints(filled.database).read("sums", "rebuild") == begun[0]


@pytest.mark.parametrize("version", [1, 2])
def test_what_another_code_has_begun_is_not_put_in_place(
    filled: Hindsight, store_url: str, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    execute(filled, "UPDATE sums SET total = 99 WHERE id = 'c'")
    begun: list[Checkpoint] = []

    def outrun(*given: Any) -> Any:
        del given
        begun.append(another_begun(store_url, version))
        return {}

    monkeypatch.setattr(rebuilding, "_touching", outrun)
    with pytest.raises(RebuildInterrupted):
        filled.projections.rebuild("sums")
    assert rows(filled) == {"a": 3, "b": 3, "c": 99}
    assert Checkpoints(filled.database).read("sums", "rebuild") == begun[0]


def test_what_another_code_has_begun_in_the_last_moment_is_not_put_in_place(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Checkpoints.lock

    def outrun(self: Checkpoints, connection: Any, projection: str, target: Any) -> Any:
        if target == "live":
            another_begun(postgres_url, 1)
        return lock(self, connection, projection, target)

    with Hindsight(postgres_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
        monkeypatch.setattr(Checkpoints, "lock", outrun)
        with pytest.raises(RebuildInterrupted):
            store.projections.rebuild("sums")
        assert rows(store) == {"a": 1}


def test_a_table_that_is_another_by_now_is_not_replaced(
    filled: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(filled, "UPDATE sums SET total = 99 WHERE id = 'c'")
    lock = Checkpoints.lock

    def stale(self: Checkpoints, connection: Any, projection: str, target: Any) -> Any:
        found = lock(self, connection, projection, target)
        return structs.replace(found, generation=0) if found and target == "live" else found

    monkeypatch.setattr(Checkpoints, "lock", stale)
    with pytest.raises(RebuildInterrupted):
        filled.projections.rebuild("sums")
    assert rows(filled)["c"] == 99
    assert tables(filled) == {"sums", "sums__rebuild"}


def another_begun(store_url: str, version: int) -> Checkpoint:
    """What other code begins to build."""

    def note_one(row: Row | None, added: Added, event: EventHeader) -> Row:
        del row
        return {"id": event.aggregate_id, "total": added.number, "events": 1}

    with Hindsight(store_url, domain=summing(note_one, version=version)) as other:
        return building.begin(other.database, other.projections.projection("sums"), "rebuild")


def step(store: Hindsight, target: Target, goal: int) -> None:
    """What another process does to the table that is built."""
    projection = store.projections.projection("sums")
    Projector(store.database, store.projections._domains, projection, target=target).once(goal=goal)


def test_a_reader_that_ends_lets_the_new_table_in(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database.read_models.LOCK_TIMEOUT", 100)
    with Hindsight(postgres_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
        put(store, "a", 2)
        lock = Checkpoints.lock

        def moved(self: Checkpoints, connection: Any, projection: str, target: Any) -> Any:
            if target == "live":
                catch_up(store)  # there is something left for the last moment
            return lock(self, connection, projection, target)

        monkeypatch.setattr(Checkpoints, "lock", moved)
        with store.database.transaction() as reader:
            reader.execute(text("SELECT * FROM sums"))
            monkeypatch.setattr("time.sleep", lambda _: reader.rollback())
            assert store.projections.rebuild("sums").position == 2
        assert rows(store) == {"a": 3}


def test_rights_are_kept_on_postgresql(postgres_server: PostgresServer, postgres_url: str) -> None:
    for role in ("watcher", "clerk"):
        postgres_server.execute(f"DROP ROLE IF EXISTS {role}")
        postgres_server.execute(f"CREATE ROLE {role}")
    with Hindsight(postgres_url, domain=summing()) as store:
        execute(store, "GRANT SELECT ON events TO watcher")
        store.projections.build_missing()
        execute(store, "GRANT UPDATE, DELETE ON sums TO clerk WITH GRANT OPTION")
        execute(store, "GRANT SELECT (total) ON sums TO clerk")
        execute(store, "GRANT SELECT ON sums TO PUBLIC")
        put(store, "a", 1)
        catch_up(store)
        before = rights(store)
        assert ("watcher", None, "SELECT", False) in before
        assert ("clerk", None, "UPDATE", True) in before
        assert ("clerk", "total", "SELECT", False) in before
        store.projections.rebuild("sums")
        assert rights(store) == before
    with Hindsight(postgres_url, domain=summing()) as store:
        execute(store, "DROP TABLE sums")
        execute(store, "REVOKE ALL ON events FROM watcher")
    for role in ("watcher", "clerk"):
        postgres_server.execute(f"DROP ROLE {role}")


def rights(store: Hindsight) -> set[tuple[Any, ...]]:
    sql = """
        SELECT coalesce(r.rolname, 'PUBLIC'), NULL, a.privilege_type, a.is_grantable
        FROM pg_class, aclexplode(relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE relname = 'sums'
        UNION ALL
        SELECT coalesce(r.rolname, 'PUBLIC'), attname, a.privilege_type, a.is_grantable
        FROM pg_attribute, aclexplode(attacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE attrelid = 'sums'::regclass
    """
    return {tuple(row) for row in store.database.rows(sql, {})}


def test_a_view_on_the_table_is_told_and_nothing_is_replaced(store_url: str) -> None:
    with Hindsight(store_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
        execute(store, "CREATE VIEW lately AS SELECT * FROM Sums")
        told = (
            "^table 'sums': view lately depends on table sums; drop it, and create it again after"
        )
        with pytest.raises(ReadModelInUse, match=told):
            store.projections.rebuild("sums")
        assert rows(store) == {"a": 1}
        execute(store, "DROP VIEW lately")
        store.projections.rebuild("sums")
        put(store, "a", 2)
        catch_up(store)
        assert rows(store) == {"a": 3}


def test_what_keeps_sqlite_from_renaming_is_told(sqlite_url: str) -> None:
    with Hindsight(sqlite_url, domain=summing()) as store:
        store.projections.build_missing()
        execute(store, "CREATE VIEW broken AS SELECT * FROM nowhere")
        told = "no table while there is an error in view broken: no such table: main.nowhere"
        with pytest.raises(ReadModelInUse, match=told):
            store.projections.rebuild("sums")
        execute(store, "DROP VIEW broken")
        execute(
            store,
            "CREATE TRIGGER noted AFTER INSERT ON aggregates BEGIN DELETE FROM sums; END",
        )
        with pytest.raises(ReadModelInUse, match="trigger noted depends on table sums"):
            store.projections.rebuild("sums")


def test_who_reads_for_long_keeps_the_old_table_and_nobody_else_waits_for_long(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database.read_models.LOCK_TIMEOUT", 100)
    monkeypatch.setattr(rebuilding, "PAUSE", 0.01)
    with Hindsight(postgres_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
        with store.database.transaction() as reader:
            reader.execute(text("SELECT * FROM sums"))
            with pytest.raises(DatabaseBusy, match="table 'sums' is in use"):
                store.projections.rebuild("sums")
        assert rows(store) == {"a": 1}
        assert store.projections.rebuild("sums").position == 1


def test_nobody_is_waited_for_below_what_the_table_has(postgres_url: str) -> None:
    """At a position that was drawn for nothing, a builder meets writers that are none of its."""
    with Hindsight(postgres_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        with store.database.connect() as plain:
            connection = plain.execution_options(isolation_level="READ COMMITTED")
            connection.begin()
            store.append(
                "total",
                "a",
                [NewEvent("Added", {"number": 2})],
                expected=any_(),
                connection=connection,
            )
            connection.rollback()
        put(store, "a", 3)
        catch_up(store)
        with store.database.transaction() as connection:
            store.append(
                "total",
                "b",
                [NewEvent("Added", {"number": 4})],
                expected=any_(),
                connection=connection,
            )
            assert store.projections.check("sums").compared.drift == 0
            assert store.projections.rebuild("sums").position == 3
        catch_up(store)
        assert rows(store) == {"a": 4, "b": 4}


def test_code_that_was_mended_begins_a_rebuild_anew(filled: Hindsight, store_url: str) -> None:
    factor = [1]

    def scaled(number: int) -> int:
        return factor[0] * number

    def by_another(row: Row | None, added: Added, event: EventHeader) -> Row:
        if added.number == 7 and factor[0] == 1:
            raise ValueError("unlucky")
        before = row or {"total": 0, "events": 0}
        total = before["total"] + scaled(added.number)
        return {"id": event.aggregate_id, "total": total, "events": before["events"] + 1}

    put(filled, "long", *[1] * BATCH, 7)
    catch_up(filled)
    with Hindsight(store_url, domain=summing(by_another, version=2)) as store:
        with pytest.raises(ProjectionFailed):
            store.projections.rebuild("sums")
        factor[0] = 10
        store.projections.rebuild("sums")
        assert rows(store)["long"] == 10 * (BATCH + 7)
        assert store.projections.check("sums").compared.drift == 0


def test_a_check_during_an_upgrade_tells_no_drift(
    filled: Hindsight, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(row: Row | None, added: Added, event: EventHeader) -> Row:
        before = row or {"total": 0, "events": 0}
        total = before["total"] + 2 * added.number
        return {"id": event.aggregate_id, "total": total, "events": before["events"] + 1}

    reach = building.Builder.reach

    def upgraded(self: building.Builder, goal: int, progress: Any) -> None:
        monkeypatch.undo()
        with Hindsight(store_url, domain=summing(doubled, version=2)) as newer:
            newer.projections.rebuild("sums")
        reach(self, goal, progress)

    monkeypatch.setattr(building.Builder, "reach", upgraded)
    with pytest.raises(ProjectionOutdated):
        filled.projections.check("sums")
    [standing] = filled.projections.standing()
    assert standing.checkpoint is not None
    assert standing.checkpoint.drift == 0


def test_a_column_may_become_one_of_another_type(store_url: str) -> None:
    def named(row: Row | None, added: Added, event: EventHeader) -> Row:
        del row
        return {"id": event.aggregate_id, "noted": f"n{added.number}"}

    def timed(row: Row | None, added: Added, event: EventHeader) -> Row:
        del row, added
        return {"id": event.aggregate_id, "noted": event.occurred_at}

    def noting(kind: Any) -> Table:
        return Table(
            "sums", MetaData(), Column("id", Text, primary_key=True), Column("noted", kind)
        )

    with Hindsight(store_url, domain=summing(named, table=noting(Text))) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
    newer = summing(timed, table=noting(Moment), version=2)
    with Hindsight(store_url, domain=newer) as store:
        store.projections.rebuild("sums")
        [event] = store.events("a")
        assert store.read_model("sums").get("a") == {"id": "a", "noted": event.occurred_at}


def test_who_has_read_the_old_table_reads_the_new_one(postgres_url: str) -> None:
    wide = Table(
        "sums",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("total", BigInteger, nullable=False, index=True),
        Column("events", Integer, nullable=False),
    )
    with Hindsight(postgres_url, domain=summing()) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        catch_up(store)
        for _ in range(10):
            store.read_model("sums").get("a")
        with Hindsight(postgres_url, domain=summing(table=wide, version=2)) as newer:
            newer.projections.rebuild("sums")
        assert store.read_model("sums").get("a") == {"id": "a", "total": 1, "events": 1}
