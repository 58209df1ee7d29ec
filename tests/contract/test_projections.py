"""Read models that follow the events: each event takes effect once, and what cannot is told."""

import random
import string
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec import Struct
from sqlalchemy import (
    CHAR,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    inspect,
    text,
)

from store import (
    Aggregate,
    Domain,
    EventHeader,
    Hindsight,
    Moment,
    NewEvent,
    Projection,
    Row,
    any_,
)
from store.database.read_models import find
from store.errors import (
    InvalidDomain,
    KeyAltered,
    ProjectionBehind,
    ProjectionFailed,
    ProjectionNotBuilt,
    ProjectionOutdated,
    ProjectionUnknown,
    ReadModelInUse,
)
from store.projections import Projector
from store.projections.checkpoints import Checkpoints
from store.projections.failures import Failures
from store.transfer import export_events, import_events
from tests.totals import Added, Total, add
from tests.waiting import until
from users import domain as users_domain
from users.commands import ChangeEmail, CreateUser, LockAccount, RecordFailedLogin, RecordLogin
from users.read_model import user_read_model, users
from users.state import User

pytestmark = pytest.mark.slow


class Moved(Struct, frozen=True):
    to: int


AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)


def created(name: str) -> CreateUser:
    return CreateUser(
        username=name,
        email=f"{name}@a.example",
        full_name=name.title(),
        password_hash="x",  # noqa: S106
    )


def caught_up(projector: Projector) -> int:
    """Project until there is nothing more; how many steps that took."""
    steps = 0
    while projector.once().is_behind:
        steps += 1
    return steps


def expected_row(store: Hindsight, user_id: str) -> dict[str, Any]:
    """The row of a user as its events, replayed, have it."""
    user: User = store.load(user_id).state
    events = list(store.events(user_id))
    return {
        "user_id": user_id,
        "username": user.username,
        "email": user.email,
        "full_name": user.full_name,
        "total_logins": user.total_logins,
        "last_login_at": user.last_login_at,
        "failed_login_attempts": user.failed_login_attempts,
        "account_locked": user.account_locked,
        "version": len(events),
        "created_at": events[0].occurred_at,
        "updated_at": events[-1].occurred_at,
    }


@pytest.fixture
def people(store_url: str) -> Iterator[Hindsight]:
    """A store of the users domain, with its read model."""
    with Hindsight(store_url, domain=users_domain) as opened:
        opened.projections.build_missing()
        yield opened
        assert opened.database.connections.in_use == 0


def test_of_two_that_create_the_table_at_once_one_does(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, both_looked = Checkpoints.read, threading.Barrier(2)

    def read_together(self: Checkpoints, *given: Any, **more: Any) -> Any:
        found = read(self, *given, **more)
        both_looked.wait(20)
        return found

    with Hindsight(store_url, domain=totals_domain()) as store:
        monkeypatch.setattr(Checkpoints, "read", read_together)
        with ThreadPoolExecutor(2) as pool:
            made = [pool.submit(store.projections.build_missing) for _ in range(2)]
            assert sorted(list(each.result()) for each in made) == [[], ["totals"]]


def totals_table(*more: Any) -> Table:
    return Table(
        "totals",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("total", Integer, nullable=False),
        *more,
    )


def note_total(row: Row | None, added: Added, event: EventHeader) -> Row:
    if added.number == 13:
        raise ValueError("unlucky")
    return {"id": event.aggregate_id, "total": (row["total"] if row else 0) + added.number}


def totals_domain(
    handler: Callable[..., Any] = note_total, *, table: Table | None = None, **options: Any
) -> Domain:
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    projection = Projection(
        "totals",
        table=totals_table() if table is None else table,
        handlers={Added: handler},
        **options,
    )
    return Domain("totals", aggregates=[total], projections=[projection])


@pytest.fixture
def totals(store_url: str) -> Iterator[Hindsight]:
    """A store with a read model of sums, and nothing in it."""
    with Hindsight(store_url, domain=totals_domain()) as opened:
        opened.projections.build_missing()
        yield opened


def put(store: Hindsight, name: str, *numbers: int) -> int:
    """Append the numbers; the last position."""
    events = [NewEvent("Added", {"number": number}) for number in numbers]
    return store.append("total", name, events, expected=any_()).position


def test_the_users_read_model_has_these_columns_and_a_handler_for_each_event() -> None:
    assert user_read_model.name == "user_read_model"
    assert user_read_model.columns.keys() == [
        *("user_id", "username", "email", "full_name", "total_logins", "last_login_at"),
        *("failed_login_attempts", "account_locked", "version", "created_at", "updated_at"),
    ]
    assert [handler.__name__ for handler in users.handlers.values()] == [
        *("user_created", "profile_updated", "email_changed", "password_changed"),
        *("login_info_updated", "login_failed", "account_locked", "account_unlocked"),
    ]
    [aggregate] = users_domain.aggregates
    assert set(users.handlers) == set(aggregate.events)


def test_a_row_is_what_the_events_of_its_user_make_of_it(people: Hindsight) -> None:
    for name in ("ada", "bob", "eve"):
        people.execute(name, created(name))
    people.execute("ada", RecordLogin(at=AT, ip_address="10.0.0.1"))
    people.execute("bob", ChangeEmail(email="rob@a.example"))
    for _ in range(5):
        people.execute("eve", RecordFailedLogin(at=AT, ip_address="10.0.0.2"))
    caught_up(people.projections.projector("users"))
    found = people.read_model("users")
    for name in ("ada", "bob", "eve"):
        assert found.get(name) == expected_row(people, name)
    assert found.get("nobody") is None
    eve = found.get("eve")
    assert eve is not None
    assert eve["account_locked"] is True


def test_the_store_creates_the_table_as_it_is_declared(people: Hindsight) -> None:
    with people.database.connect() as connection:
        found = inspect(connection)
        assert [column["name"] for column in found.get_columns("user_read_model")] == (
            user_read_model.columns.keys()
        )
        assert found.get_pk_constraint("user_read_model")["constrained_columns"] == ["user_id"]
        assert {index["name"] for index in found.get_indexes("user_read_model")} == {
            "ix_user_read_model_username",
            "ix_user_read_model_email",
        }
    assert people.projections.build_missing() == []


def test_a_table_that_is_there_already_is_nobodys_to_take(store: Hindsight, store_url: str) -> None:
    with store.database.transaction() as connection:
        connection.execute(text("CREATE TABLE totals (id TEXT)"))
    with (
        Hindsight(store_url, domain=totals_domain()) as opened,
        pytest.raises(ReadModelInUse, match="'totals': is there already, and no projection's"),
    ):
        opened.projections.build_missing()


def test_a_batch_that_another_one_was_quicker_with_changes_nothing(
    totals: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(totals, "a", 1, 2)
    slow, quick = (totals.projections.projector("totals") for _ in range(2))
    inside, may_go_on = threading.Event(), threading.Event()
    rows = slow._rows

    def held(*given: Any) -> Any:
        found = rows(*given)
        inside.set()
        assert may_go_on.wait(20)
        return found

    monkeypatch.setattr(slow, "_rows", held)
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(slow.once()))
    thread.start()
    assert inside.wait(20)
    caught_up(quick)
    put(totals, "a", 4)
    caught_up(quick)
    may_go_on.set()
    thread.join(20)
    assert outcome[0].stands_by
    assert totals.read_model("totals").get("a") == {"id": "a", "total": 7}


def test_one_works_and_the_other_stands_by_until_it_stops_moving(totals: Hindsight) -> None:
    first, second = (totals.projections.projector("totals") for _ in range(2))
    put(totals, "a", 1)
    assert not second.once().stands_by
    put(totals, "a", 2)
    caught_up(first)
    put(totals, "a", 3)
    assert second.once().stands_by
    assert not second.once().stands_by  # the first has not moved since
    assert totals.read_model("totals").get("a") == {"id": "a", "total": 6}


def test_an_event_whose_transaction_is_open_is_waited_for(
    postgres_url: str,
) -> None:
    with Hindsight(postgres_url, domain=totals_domain()) as store:
        store.projections.build_missing()
        projector = store.projections.projector("totals")
        put(store, "a", 1)
        with store.database.transaction() as connection:
            store.append(
                "total",
                "late",
                [NewEvent("Added", {"number": 5})],
                expected=any_(),
                connection=connection,
            )
            put(store, "a", 2)
            caught_up(projector)
            assert store.read_model("totals").get("a") == {"id": "a", "total": 1}
            [standing] = store.projections.standing()
            assert standing.state == "behind"
            assert standing.lag.events == 1
        caught_up(projector)
        assert store.read_model("totals").get("a") == {"id": "a", "total": 3}
        assert store.read_model("totals").get("late") == {"id": "late", "total": 5}


def test_it_stops_at_an_event_that_a_handler_cannot_take(totals: Hindsight) -> None:
    put(totals, "a", 1, 2)
    bad = put(totals, "b", 3, 13)
    put(totals, "c", 4)
    projector = totals.projections.projector("totals")
    for _ in range(2):
        with pytest.raises(
            ProjectionFailed,
            match=r"'totals' stopped at Added of 'b' version 2 \(position 4\): "
            "handler 'note_total': ValueError: unlucky",
        ):
            caught_up(projector)
    model = totals.read_model("totals")
    assert [model.get(name) for name in "abc"] == [
        {"id": "a", "total": 3},
        {"id": "b", "total": 3},
        None,
    ]
    [standing] = totals.projections.standing()
    assert (standing.state, standing.skipped) == ("stopped", 0)
    assert standing.failure is not None
    assert standing.failure.reason == "ValueError: unlucky"
    assert "note_total" in standing.failure.error  # the whole traceback
    [failure] = totals.projections.failures("totals")
    assert (failure.position, failure.handler, failure.skipped) == (bad, "note_total", False)


def test_one_that_has_stopped_does_not_look_as_if_it_moved(totals: Hindsight) -> None:
    put(totals, "a", 1, 13)
    projector, checkpoints = totals.projections.projector("totals"), Checkpoints(totals.database)
    projector.once()
    before = checkpoints.read("totals")
    with pytest.raises(ProjectionFailed):
        projector.once()
    assert checkpoints.read("totals") == before


def test_what_was_taken_before_that_event_is_told(totals: Hindsight) -> None:
    put(totals, "a", 1, 2, 13)
    projector = totals.projections.projector("totals")
    projected = projector.once()
    assert (projected.events, projected.rows, projected.position) == (2, 1, 2)
    assert projected.is_behind
    with pytest.raises(ProjectionFailed):
        projector.once()


def test_it_goes_on_by_itself_once_the_event_can_be_taken(
    totals: Hindsight, store_url: str
) -> None:
    put(totals, "b", 3, 13, 4)
    with pytest.raises(ProjectionFailed):
        caught_up(totals.projections.projector("totals"))

    def mended(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"id": event.aggregate_id, "total": (row["total"] if row else 0) + added.number}

    with Hindsight(store_url, domain=totals_domain(mended)) as store:
        caught_up(store.projections.projector("totals"))
        assert store.read_model("totals").get("b") == {"id": "b", "total": 20}
        [standing] = store.projections.standing()
        assert (standing.state, standing.failure) == ("up to date", None)
        assert standing.code_changed


def test_events_that_no_handler_takes_need_not_be_read(store_url: str) -> None:
    """Neither those of other aggregates, nor those of types that none of its handlers has."""
    other: Aggregate[Any] = Aggregate("other", initial=Total(), events=[Moved], apply=add)
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added, Moved], apply=add)
    kept = Projection("totals", table=totals_table(), handlers={Added: note_total})
    domain = Domain("totals", aggregates=[total, other], projections=[kept])
    with Hindsight(store_url, domain=domain) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        for kind, name in (("other", "o"), ("total", "a")):
            store.append(kind, name, [NewEvent("Moved", {"to": {}})], expected=any_())
            store.append(kind, name, [NewEvent("Gone", {})], expected=any_())
        put(store, "a", 2)
        caught_up(store.projections.projector("totals"))
        assert store.read_model("totals").get("a") == {"id": "a", "total": 3}


def test_what_newer_code_passed_is_waited_for_no_longer(totals: Hindsight, store_url: str) -> None:
    def mended(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"id": event.aggregate_id, "total": (row["total"] if row else 0) + added.number}

    with Hindsight(store_url, domain=totals_domain(mended)) as newer:
        put(totals, "a", 1)
        caught_up(new := newer.projections.projector("totals"))
        put(totals, "a", 13)
        with pytest.raises(ProjectionFailed):
            totals.projections.projector("totals").once()
        assert newer.projections.standing()[0].state == "stopped"
        assert Failures(newer.database).counts() == {("totals", False): 1}
        caught_up(new)
        assert Failures(newer.database).counts() == {}
        assert newer.projections.standing()[0].state == "up to date"


def test_an_event_that_another_one_took_is_not_told_of(
    totals: Hindsight, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mended(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"id": event.aggregate_id, "total": (row["total"] if row else 0) + added.number}

    put(totals, "a", 13)
    projector = totals.projections.projector("totals")
    poisoned = projector._poisoned

    def overtaken(*given: Any) -> Any:
        with Hindsight(store_url, domain=totals_domain(mended)) as newer:
            caught_up(newer.projections.projector("totals"))
        return poisoned(*given)

    monkeypatch.setattr(projector, "_poisoned", overtaken)
    assert projector.once().stands_by
    assert totals.projections.failures("totals") == []


def test_it_leaves_the_event_out_where_that_is_wanted(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    with Hindsight(store_url, domain=totals_domain()) as store:
        store.projections.build_missing()
        put(store, "b", 3, 13, 4)
        put(store, "c", 13)
        put(store, "c", 5)
        caught_up(store.projections.projector("totals"))
        model = store.read_model("totals")
        assert model.get("b") == {"id": "b", "total": 7}
        assert model.get("c") == {"id": "c", "total": 5}
        [standing] = store.projections.standing()
        assert (standing.state, standing.skipped, standing.failure) == ("up to date", 2, None)
        assert [each.position for each in store.projections.failures("totals")] == [2, 4]


def test_what_the_database_does_not_take_is_the_fault_of_its_event(store_url: str) -> None:
    def twice(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"id": event.aggregate_id, "total": added.number}

    table = totals_table(UniqueConstraint("total"))
    with Hindsight(store_url, domain=totals_domain(twice, table=table)) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        put(store, "b", 2)
        position = put(store, "c", 1)
        put(store, "d", 4)
        with pytest.raises(ProjectionFailed, match="of 'c' version 1") as raised:
            caught_up(store.projections.projector("totals"))
        assert raised.value.position == position
        [standing] = store.projections.standing()
        assert standing.checkpoint is not None
        assert standing.checkpoint.position == position - 1
        assert store.read_model("totals").get("b") == {"id": "b", "total": 2}


def test_rows_may_pass_values_on_to_each_other_within_a_batch(store_url: str) -> None:
    def held_by(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"id": event.aggregate_id, "total": added.number}

    table = totals_table(UniqueConstraint("total"))
    with Hindsight(store_url, domain=totals_domain(held_by, table=table)) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        caught_up(projector := store.projections.projector("totals"))
        put(store, "b", 3)
        put(store, "a", 2)
        put(store, "b", 1)
        caught_up(projector)
        assert store.read_model("totals").get("b") == {"id": "b", "total": 1}


def test_a_row_is_removed_where_a_handler_says_so(store_url: str) -> None:
    def kept_while_positive(row: Row | None, added: Added, event: EventHeader) -> Row | None:
        total = (row["total"] if row else 0) + added.number
        return {"id": event.aggregate_id, "total": total} if total > 0 else None

    with Hindsight(store_url, domain=totals_domain(kept_while_positive)) as store:
        store.projections.build_missing()
        projector = store.projections.projector("totals")
        put(store, "a", 1)
        put(store, "b", 1)
        caught_up(projector)
        put(store, "a", -1)
        put(store, "c", 1, -1)
        caught_up(projector)
        assert [row["id"] for row in store.read_model("totals").query().rows] == ["b"]
        put(store, "a", 2)
        caught_up(projector)
        assert store.read_model("totals").get("a") == {"id": "a", "total": 2}


def test_rows_may_have_keys_of_their_own(store_url: str) -> None:
    table = Table(
        "totals",
        MetaData(),
        Column("parity", Text, primary_key=True),
        Column("size", Integer, primary_key=True),
        Column("count", Integer, nullable=False),
    )

    def counted(row: Row | None, added: Added, event: EventHeader) -> Row:
        parity, size = by_parity(added, event)
        return {"parity": parity, "size": size, "count": (row["count"] if row else 0) + 1}

    def by_parity(added: Added, event: EventHeader) -> tuple[str, int]:
        del event
        return "even" if added.number % 2 == 0 else "odd", len(str(added.number))

    with Hindsight(store_url, domain=totals_domain(counted, table=table, key=by_parity)) as store:
        store.projections.build_missing()
        put(store, "a", 1, 2, 3, 10)
        put(store, "b", 12, 5)
        caught_up(store.projections.projector("totals"))
        assert [tuple(row.values()) for row in store.read_model("totals").query().rows] == [
            ("even", 1, 1),
            ("even", 2, 2),
            ("odd", 1, 3),
        ]
        assert store.projections.check("totals").compared.drift == 0


def by_day_domain() -> Domain:
    """Counts by day, whose key is a time."""
    table = Table(
        "totals",
        MetaData(),
        Column("day", Date, primary_key=True),
        Column("total", Integer, nullable=False),
    )

    def moment(added: Added, event: EventHeader) -> datetime:
        del event
        return AT + timedelta(hours=added.number)

    def note(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"day": moment(added, event), "total": (row["total"] if row else 0) + added.number}

    return totals_domain(note, table=table, key=moment)


@pytest.mark.parametrize("is_at_once", [True, False])
def test_a_key_that_the_database_has_as_another_value_is_told(
    store_url: str, *, is_at_once: bool
) -> None:
    """A row that is not found under its key would begin again with each event."""
    with Hindsight(store_url, domain=by_day_domain()) as store:
        store.projections.build_missing()
        projector = store.projections.projector("totals")
        put(store, "a", 1)
        if not is_at_once:
            caught_up(projector)
        put(store, "a", 2)
        for _ in range(2):
            with pytest.raises(
                ProjectionFailed,
                match=r"at Added of 'a' version 2 \(position 2\): handler 'note': KeyAltered: "
                r"projection 'totals': column 'day' of its key keeps datetime.datetime\(2026, 11, "
                r"28, 11, .* as datetime.date\(2026, 11, 28\)",
            ) as caught:
                caught_up(projector)
        error = caught.value.error
        assert isinstance(error, KeyAltered)
        assert (error.projection, error.column) == ("totals", "day")
        assert (error.given, error.kept) == (AT + timedelta(hours=2), AT.date())
        assert [row["total"] for row in store.read_model("totals").query().rows] == [1]
        [standing] = store.projections.standing()
        assert standing.state == "stopped"


def test_a_key_that_the_database_pads_is_told(postgres_url: str) -> None:
    table = Table(
        "totals",
        MetaData(),
        Column("id", CHAR(3), primary_key=True),
        Column("total", Integer, nullable=False),
    )
    with Hindsight(postgres_url, domain=totals_domain(table=table)) as store:
        store.projections.build_missing()
        put(store, "abc", 1)
        put(store, "a", 1)
        caught_up(store.projections.projector("totals"))
        put(store, "abc", 2)
        put(store, "a", 2)
        told = "KeyAltered: projection 'totals': column 'id' of its key keeps 'a' as 'a  '"
        with pytest.raises(ProjectionFailed, match=told):
            caught_up(store.projections.projector("totals"))
        assert store.read_model("totals").get("abc") == {"id": "abc", "total": 3}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"id": "a", "total": 1, "sum": 2}, "ValueError: the table has no column 'sum'"),
        ({"id": "b", "total": 1}, r"ValueError: the row has the key \('b',\), its event \('a',\)"),
        ({"id": "a"}, "(?i)null"),
        ({"id": "a", "total": {}}, "totals"),
    ],
)
def test_a_row_that_does_not_fit_is_told(store_url: str, row: Mapping[str, Any], told: str) -> None:
    def odd(before: Row | None, added: Added, event: EventHeader) -> Row:
        del before, added, event
        return row

    with Hindsight(store_url, domain=totals_domain(odd)) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        with pytest.raises(ProjectionFailed, match=told):
            caught_up(store.projections.projector("totals"))


KINDS = Table(
    "kinds",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("whole", BigInteger),
    Column("fraction", Float),
    Column("exact", Numeric(12, 3)),
    Column("is_so", Boolean),
    Column("moment", Moment),
    Column("day", Date),
    Column("identity", Uuid),
    Column("document", JSON),
    Column("raw", LargeBinary),
)
VALUES: Sequence[Mapping[str, Any]] = [
    {
        "whole": 2**53 + 1,
        "fraction": 0.1,
        "exact": Decimal("-1.125"),
        "is_so": True,
        "moment": AT,
        "day": AT.date(),
        "identity": UUID(int=7),
        "document": {"a": [1, None, "\u00e4"]},
        "raw": b"\x00\xff",
    },
    {
        "whole": -3,
        "fraction": 2,
        "exact": 5,
        "document": ["b"],
        "moment": AT.replace(microsecond=7),
    },
    {"document": "text"},
]


@pytest.mark.parametrize("values", [VALUES, VALUES[:1], VALUES[1:2], VALUES[2:]])
def test_values_of_all_kinds_come_back_as_they_were(
    store_url: str, values: Sequence[Mapping[str, Any]]
) -> None:
    """Of one type in a column, of several, and none at all: they are not written the same way."""

    def one_of_them(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"id": event.aggregate_id, **values[added.number]}

    with Hindsight(store_url, domain=totals_domain(one_of_them, table=KINDS)) as store:
        store.projections.build_missing()
        for number in range(len(values)):
            put(store, f"{number}", number)
        for _ in range(2):  # inserted, then replaced
            assert caught_up(store.projections.projector("totals")) == 1
            for number, expected in enumerate(values):
                row = store.read_model("totals").get(f"{number}")
                assert row is not None
                found = {name: value for name, value in row.items() if value is not None}
                assert found == {"id": f"{number}", **expected}
                put(store, f"{number}", number)


def test_what_is_too_long_for_its_column_is_not_cut(postgres_url: str) -> None:
    def named(row: Row | None, added: Added, event: EventHeader) -> Row:
        return {"id": event.aggregate_id, "total": added.number, "name": "x" * added.number}

    domain = totals_domain(named, table=totals_table(Column("name", String(3))))
    with Hindsight(postgres_url, domain=domain) as store:
        store.projections.build_missing()
        put(store, "a", 3)
        put(store, "b", 4)
        with pytest.raises(ProjectionFailed, match=r"of 'b' version 1 .* too long"):
            caught_up(store.projections.projector("totals"))


def test_rows_are_looked_up_anew_where_somebody_else_wrote_them(totals: Hindsight) -> None:
    first, second = (totals.projections.projector("totals") for _ in range(2))
    put(totals, "a", 1)
    caught_up(first)
    put(totals, "a", 2)
    caught_up(second)
    put(totals, "a", 3)
    assert first.once().stands_by
    caught_up(first)
    assert totals.read_model("totals").get("a") == {"id": "a", "total": 6}
    with totals.database.transaction() as connection:
        connection.execute(text("UPDATE totals SET total = 99"))
    totals.projections.rebuild("totals")
    put(totals, "a", 4)
    assert first.once().stands_by
    caught_up(first)
    assert totals.read_model("totals").get("a") == {"id": "a", "total": 10}


def test_what_the_caller_rolls_back_is_taken_again(totals: Hindsight) -> None:
    projector = totals.projections.projector("totals")
    put(totals, "a", 1)
    caught_up(projector)
    put(totals, "a", 2)
    with suppress(KeyError), totals.database.transaction() as connection:
        assert projector.once(within=connection).rows == 1
        raise KeyError
    assert projector.once().rows == 1
    assert totals.read_model("totals").get("a") == {"id": "a", "total": 3}


def test_no_plan_is_kept_from_when_the_table_was_empty(postgres_url: str) -> None:
    with Hindsight(postgres_url, domain=totals_domain()) as store:
        store.projections.build_missing()
        with store.database.connect() as connection:
            for _ in range(20):
                assert find(connection, totals_table(), [("a",)]) == {}
            kept = text("SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'totals'")
            assert connection.execute(kept).scalar_one() == 0


def test_who_wrote_waits_until_it_can_be_read(totals: Hindsight) -> None:
    projector, stop = totals.projections.projector("totals"), threading.Event()
    thread = threading.Thread(target=projector.run, args=(stop,))
    thread.start()
    try:
        for number in range(1, 12):
            position = put(totals, "a", number)
            totals.wait_for("totals", position, timeout=10)
            row = totals.read_model("totals").get("a")
            assert row is not None
            assert row["total"] == sum(range(number + 1))
    finally:
        stop.set()
        thread.join(20)


def test_who_waits_for_what_does_not_come_is_told_why(totals: Hindsight) -> None:
    position = put(totals, "a", 1)
    with pytest.raises(ProjectionBehind, match=r"'totals' is at position 0, not yet at 1$"):
        totals.wait_for("totals", position, timeout=0.05)
    put(totals, "a", 13)
    with pytest.raises(ProjectionFailed):
        caught_up(totals.projections.projector("totals"))
    with pytest.raises(ProjectionBehind, match=r"it waits at an event .*, ValueError: unlucky"):
        totals.wait_for("totals", 2, timeout=0.05)


def test_who_waits_for_a_table_of_another_version_is_told_of_both(
    totals: Hindsight, store_url: str
) -> None:
    position = put(totals, "a", 1)
    with Hindsight(store_url, domain=totals_domain(version=2)) as newer:
        told = "not yet at 1: its table is version 1, this code waits for version 2$"
        with pytest.raises(ProjectionBehind, match=told):
            newer.wait_for("totals", position, timeout=0.05)
        caught_up(totals.projections.projector("totals"))
        newer.wait_for("totals", position, timeout=0.05)  # old code keeps it until the rebuild


def test_without_a_table_there_is_a_clear_answer(store_url: str) -> None:
    with Hindsight(store_url, domain=totals_domain()) as store:
        told = "'totals' has no table yet; run: hindsight projections run"
        with pytest.raises(ProjectionNotBuilt, match=told):
            store.read_model("totals").get("a")
        with pytest.raises(ProjectionNotBuilt, match=told):
            store.wait_for("totals", 1)
        with pytest.raises(ProjectionNotBuilt, match=told):
            store.projections.projector("totals").once()
        with pytest.raises(ProjectionNotBuilt, match=told):
            store.projections.check("totals")
        with pytest.raises(ProjectionUnknown, match="no projection 'users'; there are totals"):
            store.read_model("users")
        [standing] = store.projections.standing()
        assert standing.state == "not built"


def test_code_of_another_version_leaves_the_table_alone(totals: Hindsight, store_url: str) -> None:
    put(totals, "a", 1)
    caught_up(totals.projections.projector("totals"))
    with Hindsight(store_url, domain=totals_domain(version=2)) as newer:
        put(newer, "a", 2)
        told = "version 1, this code has version 2; run: hindsight projections rebuild totals"
        with pytest.raises(ProjectionOutdated, match=told):
            newer.projections.projector("totals").once()
        [standing] = newer.projections.standing()
        assert standing.state == "outdated"
        assert newer.read_model("totals").get("a") == {"id": "a", "total": 1}
        newer.projections.rebuild("totals")
        caught_up(newer.projections.projector("totals"))
        assert newer.read_model("totals").get("a") == {"id": "a", "total": 3}
        with pytest.raises(ProjectionOutdated, match=r"version 2, this code has version 1$"):
            totals.projections.projector("totals").once()


def test_lag_is_told_in_events_and_seconds(store_url: str) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with Hindsight(store_url, domain=totals_domain(), clock=lambda: long_ago) as store:
        store.projections.build_missing()
        put(store, "a", 1, 2)
        put(store, "b", 3)
        [standing] = store.projections.standing()
        assert (standing.state, standing.lag.events) == ("behind", 3)
        assert 3_600 <= standing.lag.seconds < 3_700
        caught_up(store.projections.projector("totals"))
        [standing] = store.projections.standing()
        assert (standing.state, standing.lag.events, standing.lag.seconds) == ("up to date", 0, 0)


def test_each_handler_is_timed_by_its_name(people: Hindsight) -> None:
    def runs(handler: str) -> float:
        name = "event_handler_duration_seconds_count"
        return people.metrics.registry.get_sample_value(name, {"handler": handler}) or 0

    before = runs("user_created"), runs("account_locked")
    people.execute("ada", created("ada"))
    people.execute("bob", created("bob"))
    people.execute("ada", LockAccount(reason="asked for"))
    caught_up(people.projections.projector("users"))
    assert (runs("user_created") - before[0], runs("account_locked") - before[1]) == (2, 1)


def test_imported_events_are_projected_too(
    people: Hindsight, fresh_url: Callable[[], str], tmp_path: Path
) -> None:
    people.execute("ada", created("ada"))
    people.execute("ada", ChangeEmail(email="countess@a.example"))
    path = tmp_path / "events.ndjson"
    with path.open("wb") as stream:
        export_events(people.log, stream)
    with Hindsight(fresh_url(), domain=users_domain) as other, path.open("rb") as stream:
        import_events(other.log, stream)
        other.projections.build_missing()
        caught_up(other.projections.projector("users"))
        assert other.read_model("users").get("ada") == expected_row(people, "ada")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (Table("t", MetaData(), Column("id", Text)), "table 't': no primary key"),
        (
            Table("t", MetaData(), Column("id", Text, primary_key=True), schema="s"),
            "table 't': it is in the store's schema, and names none",
        ),
        (
            Table("t" * 41, MetaData(), Column("id", Text, primary_key=True)),
            "over 40 characters",
        ),
        (
            totals_table(Index("i" * 55, "total")),
            f"table 'totals': index '{'i' * 55}': over 54 characters",
        ),
        (
            totals_table(UniqueConstraint("total", name="u" * 55)),
            f"table 'totals': constraint '{'u' * 55}': over 54 characters",
        ),
        (
            Table(
                "t",
                MetaData(),
                Column("id", Text),
                PrimaryKeyConstraint("id", name="p" * 55),
            ),
            f"table 't': constraint '{'p' * 55}': over 54 characters",
        ),
        (
            Table(
                "t",
                MetaData(naming_convention={"ix": "ix_%(column_0_name)s"}),
                Column("id", Text, primary_key=True),
                Column("n" * 52, Text, index=True),
            ),
            f"table 't': index 'ix_{'n' * 52}': over 54 characters",
        ),
        (
            Table("t", MetaData(), Column("id", Text, primary_key=True, default="a")),
            "column 'id': has a default; the handlers give all values",
        ),
        (
            Table(
                "t",
                MetaData(),
                Column("id", Text, primary_key=True),
                Column("n", Integer, primary_key=True),
            ),
            "key: a primary key of several columns needs one",
        ),
        (
            Table("events", MetaData(), Column("id", Text, primary_key=True)),
            "table 'events' is the store's own",
        ),
    ],
)
def test_a_table_that_cannot_be_one_is_told(table: Table, told: str) -> None:
    with pytest.raises(InvalidDomain, match=told):
        totals_domain(table=table)


def test_handlers_and_projections_are_told_apart_by_name() -> None:
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    one = Projection("one", table=totals_table(), handlers={Added: note_total})
    for others, told in (
        ([one], "projection 'one' is there twice"),
        (
            [Projection("two", table=totals_table(), handlers={Added: note_total})],
            "projection 'two': table 'totals' is another projection's, too",
        ),
    ):
        with pytest.raises(InvalidDomain, match=told):
            Domain("d", aggregates=[total], projections=[one, *others])
    table = Table("other", MetaData(), Column("id", Text, primary_key=True))
    same = Projection("two", table=table, handlers={Added: note_total})
    with pytest.raises(InvalidDomain, match="handler 'note_total' is there twice"):
        Domain("d", aggregates=[total], projections=[one, same])
    stranger = Projection("three", table=table, handlers={Total: note_total})
    with pytest.raises(InvalidDomain, match="'Total' is no event of its aggregates"):
        Domain("d", aggregates=[total], projections=[stranger])


def test_a_projector_waits_for_its_database_and_its_event(totals: Hindsight) -> None:
    put(totals, "a", 13)
    projector, stop = totals.projections.projector("totals"), threading.Event()
    thread = threading.Thread(target=projector.run, args=(stop,))
    thread.start()
    until(lambda: totals.projections.standing()[0].state == "stopped")
    assert thread.is_alive()
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_a_text_that_no_index_takes_is_the_fault_of_its_event(postgres_url: str) -> None:
    noise = "".join(random.Random(1).choices(string.printable, k=16_000))

    def noisy(row: Row | None, added: Added, event: EventHeader) -> Row:
        del row
        text = noise if added.number == 2 else "short"
        return {"id": event.aggregate_id, "total": added.number, "text": text}

    table = totals_table(Column("text", Text, index=True))
    with Hindsight(postgres_url, domain=totals_domain(noisy, table=table)) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        put(store, "b", 2)
        with pytest.raises(ProjectionFailed, match="of 'b' version 1"):
            caught_up(store.projections.projector("totals"))


@pytest.mark.parametrize("key", [["a"], "a\0b", 2**70], ids=["list", "NUL", "large"])
def test_a_key_that_cannot_be_one_is_the_fault_of_its_event(store_url: str, key: Any) -> None:
    def chosen(added: Added, event: EventHeader) -> Any:
        return key if added.number == 2 else event.aggregate_id

    def noted(row: Row | None, added: Added, event: EventHeader) -> Row:
        del row
        return {"id": chosen(added, event), "total": added.number}

    with Hindsight(store_url, domain=totals_domain(noted, key=chosen)) as store:
        store.projections.build_missing()
        put(store, "a", 1)
        put(store, "b", 2)
        if (key == "a\0b") != store.database.is_remote and not isinstance(key, list):
            return  # SQLite has such texts, and PostgreSQL makes a text of any number
        with pytest.raises(ProjectionFailed, match="of 'b' version 1"):
            caught_up(store.projections.projector("totals"))
        assert store.projections.standing()[0].state == "stopped"


def test_columns_may_have_names_with_signs_in_them(store_url: str) -> None:
    def noted(row: Row | None, added: Added, event: EventHeader) -> Row:
        del row
        return {"id": event.aggregate_id, "total": 1, "full name": "x", "100%": added.number}

    table = totals_table(Column("full name", Text), Column("100%", Integer))
    with Hindsight(store_url, domain=totals_domain(noted, table=table)) as store:
        store.projections.build_missing()
        put(store, "a", 7)
        caught_up(store.projections.projector("totals"))
        row = store.read_model("totals").get("a")
        assert row is not None
        assert (row["full name"], row["100%"]) == ("x", 7)
