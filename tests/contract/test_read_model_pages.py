"""A read model asked as people write it, page by page, both ways; and a row with its checkpoint."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Date,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    insert,
)

from store import Domain, Hindsight, Moment, NewEvent, Projection, any_
from store.database import read_models
from store.errors import InvalidQuestion, ProjectionNotBuilt
from store.projections import Filter, ReadModel, read_model
from store.projections.values import kind_of, spelled
from tests.totals import Added, numbers

pytestmark = pytest.mark.slow

AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)

things = Table(
    "things",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("size", Integer),
    Column("size_of", Integer),
    Column("price", Numeric),
    Column("is_open", Boolean),
    Column("opened_at", Moment),
    Column("day", Date),
    Column("code", Uuid),
    Column("raw", LargeBinary),
)


def thing(row: Any, added: Added, event: Any) -> dict[str, Any]:
    return {"id": event.aggregate_id, "size": added.number}


kept = Domain(
    "things",
    aggregates=list(numbers().aggregates),
    projections=[Projection("things", table=things, handlers={Added: thing})],
)


@pytest.fixture
def store(store_url: str) -> Iterator[Hindsight]:
    with Hindsight(store_url, domain=kept) as opened:
        opened.projections.build_missing()
        yield opened
        assert opened.database.connections.in_use == 0


@pytest.fixture
def model(store: Hindsight) -> ReadModel:
    """Nine rows of sizes 0, 1, 2 and NULL, opened at three times."""
    rows = [
        {
            "id": f"t{number}",
            "size": None if number % 4 == 3 else number % 4,
            "opened_at": AT + timedelta(microseconds=number % 3),
        }
        for number in range(9)
    ]
    with store.database.transaction() as connection:
        connection.execute(insert(things), rows)
    return store.read_model("things")


def ids(rows: Any) -> str:
    return " ".join(row["id"] for row in rows)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("size=3", Filter("size", "=", 3)),
        ("size!=3", Filter("size", "!=", 3)),
        ("size>=3", Filter("size", ">=", 3)),
        ("size_of<4", Filter("size_of", "<", 4)),
        ("id^a=b", Filter("id", "^", "a=b")),
        ("id= a ", Filter("id", "=", " a ")),
        ("id=", Filter("id", "=", "")),
        ("id=null", Filter("id", "=", "null")),
        ("size is null", Filter("size", "=", None)),
        ("size is not null", Filter("size", "!=", None)),
        ("price<=1.50", Filter("price", "<=", Decimal("1.50"))),
        ("is_open=true", Filter("is_open", "=", value=True)),
        ("opened_at>2026-11-28T09:30", Filter("opened_at", ">", AT)),
    ],
)
def test_a_filter_is_read_as_it_is_written(model: ReadModel, written: str, meant: Filter) -> None:
    assert model.filter(written) == meant
    model.query(meant)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("colour=red", "no column 'colour'; there are id, size"),
        ("size~3", "'size~3': write COLUMN=VALUE, or one of"),
        ("", "'': write COLUMN=VALUE"),
        ("size=many", "size: 'many' is no whole number"),
        ("size=99999999999999999999", "size: '99999999999999999999' is no whole number"),
        ("is_open=perhaps", "is_open: 'perhaps' is no true or false"),
        ("opened_at>soon", "opened_at: 'soon' is no time such as"),
        (
            "opened_at>0001-01-01T00:00+14:00",
            "opened_at: '0001-01-01T00:00.14:00' is no time such as",
        ),
        ("raw=x", "raw: its values cannot be asked for"),
        ("id=a\0b", "id: 'a.x00b' is no text"),
        ("id^a\0b", "id: 'a.x00b' is no text"),
    ],
)
def test_what_is_no_filter_is_told(model: ReadModel, written: str, told: str) -> None:
    with pytest.raises(InvalidQuestion, match=told):
        model.filter(written)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", [None, "id", "size", "opened_at"])
def test_pages_go_back_as_they_came(model: ReadModel, sort: str | None, descending: bool) -> None:  # noqa: FBT001
    whole = model.query(sort=sort, descending=descending).rows

    def page(**place: Any) -> Any:
        return model.query(sort=sort, descending=descending, limit=2, **place)

    pages = [page()]
    while pages[-1].next:
        pages.append(page(after=pages[-1].next))
    assert " ".join(ids(each.rows) for each in pages) == ids(whole)
    assert pages[0].previous is None
    back = pages[-1]
    for expected in reversed(pages[:-1]):
        back = page(before=back.previous)
        assert ids(back.rows) == ids(expected.rows)
        assert ids(page(after=back.next).rows)
    assert back.previous is None


def test_a_page_is_behind_one_place_or_in_front_of_it(model: ReadModel) -> None:
    cursor = model.query(limit=1).next
    with pytest.raises(InvalidQuestion, match="after, before: give one of them"):
        model.query(after=cursor, before=cursor)


@pytest.mark.parametrize(
    "cursor", ["!", "éé", "W10", "bnVsbA", "WyJhIiwiYiIsImMiXQ", "WyJcdTAwMDAiXQ"]
)
@pytest.mark.parametrize("way", ["after", "before"])
def test_a_place_that_is_none_is_told(model: ReadModel, cursor: str, way: str) -> None:
    with pytest.raises(InvalidQuestion, match=rf"^{way}: not where a page|^id: "):
        model.query(
            after=cursor if way == "after" else None, before=cursor if way == "before" else None
        )


def test_a_row_is_told_with_the_checkpoint_it_stands_at(store: Hindsight) -> None:
    position = store.append(
        "total", "a", [NewEvent("Added", {"number": 3})], expected=any_()
    ).position
    store.projections.projector("things").once()
    seen = store.read_model("things").seen("a")
    assert (seen.row and seen.row["size"], seen.checkpoint.position) == (3, position)
    assert store.read_model("things").seen("nobody").row is None


def test_without_a_table_there_is_no_row_to_see(store_url: str) -> None:
    with Hindsight(store_url, domain=kept) as opened, pytest.raises(ProjectionNotBuilt):
        opened.read_model("things").seen("a")


def test_columns_are_of_kinds() -> None:
    assert [kind_of(column) for column in things.columns] == [
        *("text", "number", "number", "number", "boolean", "time", "time", "id", "other")
    ]


@pytest.mark.parametrize(("beginning", "found"), [("t1", "t1"), ("T1", ""), ("t%", ""), ("t_", "")])
def test_a_text_begins_with_what_is_written_and_nothing_else(
    model: ReadModel, beginning: str, found: str
) -> None:
    assert ids(model.query(Filter("id", "^", beginning)).rows) == found


def test_a_row_is_not_of_a_table_that_has_been_replaced_meanwhile(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hindsight(postgres_url, domain=kept) as store:
        store.projections.build_missing()
        store.append("total", "a", [NewEvent("Added", {"number": 3})], expected=any_())
        store.projections.projector("things").once()
        replaced: list[Any] = []

        def find_late(*given: Any) -> Any:
            if not replaced:
                replaced.append(store.projections.rebuild("things"))
            return read_models.find(*given)

        monkeypatch.setattr(read_model, "find", find_late)
        seen = store.read_model("things").seen("a")
        assert (seen.row and seen.row["size"], seen.checkpoint.generation) == (3, 2)


def test_a_time_is_no_text_that_begins_with_another(model: ReadModel) -> None:
    with pytest.raises(InvalidQuestion, match="raw: only a text begins with another"):
        model.query(Filter("raw", "^", "x"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (True, "true"),
        (AT, "2026-11-28T09:30:00+00:00"),
        (7, "7"),
        ({"a": [1]}, '{"a":[1]}'),
    ],
)
def test_values_are_spelled(value: Any, text: str | None) -> None:
    assert spelled(value) == text
