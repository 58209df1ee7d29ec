"""A read model asked for rows: any order, any page size, every row once."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert

from store import Aggregate, Domain, Event, Filter, Hindsight, Page, Projection, ReadModel, Row
from tests.totals import Added, Total, add

NAMES = st.one_of(st.none(), st.sampled_from(["ada", "bob", "eve"]))
NUMBERS = st.one_of(st.none(), st.integers(-2, 2))


def unused(row: Row | None, added: Added, event: Event) -> Row | None:
    del added, event
    return row


def people() -> Domain:
    table = Table(
        "people",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("name", Text, index=True),
        Column("age", Integer),
        Column("rank", Integer, nullable=False),
    )
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    projection = Projection("people", table=table, handlers={Added: unused})
    return Domain("people", aggregates=[total], projections=[projection])


@pytest.fixture
def model(store_url: str) -> Any:
    with Hindsight(store_url, domain=people()) as store:
        store.projections.build_missing()
        yield store, store.read_model("people")


def fill(store: Hindsight, model: ReadModel, rows: list[Row]) -> None:
    with store.database.transaction() as connection:
        connection.execute(model.table.delete())
        if rows:
            connection.execute(insert(model.table), rows)


def walked(model: ReadModel, *filters: Filter, **asked: Any) -> list[Row]:
    """All rows, a page at a time."""
    found: list[Row] = []
    page = Page(rows=(), next="")
    while page.next is not None:
        page = model.query(*filters, **asked, after=page.next or None)
        found += page.rows
    return found


def expected(rows: list[Row], sort: str | None, *, descending: bool) -> list[Row]:
    """As Python sorts them: NULL is the greatest, the key decides among equals."""

    def place(row: Row) -> Any:
        value = row[sort] if sort else row["id"]
        return (value is None, value or (0 if isinstance(value, int) else ""), row["id"])

    filled = [row for row in rows if sort is None or row[sort] is not None]
    empty = [row for row in rows if sort is not None and row[sort] is None]
    by_value = sorted(filled, key=place, reverse=descending)
    by_id = sorted(empty, key=lambda row: str(row["id"]), reverse=descending)
    return by_id + by_value if descending else by_value + by_id


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    people=st.lists(st.tuples(NAMES, NUMBERS, st.integers(0, 2)), max_size=12),
    sort=st.sampled_from([None, "id", "name", "age", "rank"]),
    descending=st.booleans(),
    limit=st.integers(1, 5),
)
def test_pages_hold_every_row_once_in_order(
    model: tuple[Hindsight, ReadModel],
    people: list[tuple[str | None, int | None, int]],
    sort: str | None,
    descending: bool,  # noqa: FBT001 (drawn)
    limit: int,
) -> None:
    store, asked = model
    rows: list[Row] = [
        {"id": f"p{number:02}", "name": name, "age": age, "rank": rank}
        for number, (name, age, rank) in enumerate(people)
    ]
    fill(store, asked, rows)
    found = walked(asked, sort=sort, descending=descending, limit=limit)
    assert found == expected(rows, sort, descending=descending)
