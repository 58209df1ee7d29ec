"""Asking read models: every row once and in order, and questions that make no sense."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    Uuid,
    delete,
    insert,
)

from store import Aggregate, Domain, EventHeader, Hindsight, Moment, Projection, Row
from store.errors import InvalidQuestion, ProjectionOutdated
from store.projections import Filter, ReadModel
from store.projections.read_model import Operator
from store.projections.values import parsed
from tests.totals import Added, Total, add

pytestmark = pytest.mark.slow

AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)

things = Table(
    "things",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("name", Text),
    Column("count", BigInteger),
    Column("share", Float),
    Column("fits", Boolean),
    Column("seen", Moment),
    Column("price", Numeric(10, 2)),
    Column("owner", Uuid),
    Column("day", Date),
    Column("hour", Time),
    Column("noted", DateTime),
    Column("rank", Integer, nullable=False),
)


def unused(row: Row | None, added: Added, event: EventHeader) -> Row | None:
    del row, added, event
    return None


def asking(store_url: str, table: Table, version: int = 1) -> Hindsight:
    """A store with that table as a read model."""
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    projection = Projection(
        table.name,
        table=table,
        handlers={Added: unused},
        key=lambda _, event: (event.aggregate_id, 1),
        version=version,
    )
    store = Hindsight(
        store_url, domain=Domain("d", aggregates=[total], projections=[projection]), metrics=False
    )
    store.projections.build_missing()
    return store


@pytest.fixture
def store(store_url: str) -> Iterator[Hindsight]:
    with asking(store_url, things) as opened:
        yield opened
        assert opened.database.connections.in_use == 0


@pytest.fixture
def model(store: Hindsight) -> ReadModel:
    return store.read_model("things")


def fill(store: Hindsight, rows: Sequence[Mapping[str, Any]]) -> None:
    with store.database.transaction() as connection:
        connection.execute(delete(things))
        if rows:
            connection.execute(insert(things), list(rows))


WORD = st.text("abc", max_size=2)
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "id": WORD,
    "part": st.integers(-2, 2),
    "name": st.none() | WORD,
    "count": st.none() | st.sampled_from([-(2**63), -1, 0, 2**53 + 1, 2**63 - 1]),
    "share": st.none() | st.sampled_from([-1.5, 0.0, 0.1, 1e300]),
    "fits": st.none() | st.booleans(),
    "seen": st.none() | st.integers(-2, 2).map(lambda n: AT + timedelta(microseconds=n)),
    "price": st.none()
    | st.sampled_from([Decimal("-1.10"), Decimal("0.00"), Decimal("99999999.99")]),
    "owner": st.none() | st.integers(0, 3).map(lambda n: UUID(int=n << 120)),
    "day": st.none() | st.dates(date(2026, 11, 27), date(2026, 11, 29)),
    "hour": st.none() | st.sampled_from([time(0, 0), time(9, 30, 0, 1), time(23, 59, 59, 999_999)]),
    "noted": st.none() | st.integers(0, 4).map(lambda n: AT.replace(tzinfo=None, microsecond=n)),
    "rank": st.integers(0, 2),
}
ROWS = st.lists(st.fixed_dictionaries(dict(VALUES)), max_size=12).map(
    lambda rows: list({(row["id"], row["part"]): row for row in rows}.values())
)
OPERATORS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    "=": lambda value, other: value == other,
    "!=": lambda value, other: value != other,
    "<": lambda value, other: value is not None and value < other,
    "<=": lambda value, other: value is not None and value <= other,
    ">": lambda value, other: value is not None and value > other,
    ">=": lambda value, other: value is not None and value >= other,
    "^": lambda value, other: value is not None and value.startswith(other),
}


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    column = draw(st.sampled_from(sorted(VALUES)))
    value = draw(VALUES[column])
    if value is None:
        return Filter(column, draw(st.sampled_from(["=", "!="])), None)
    operators = set(OPERATORS) if isinstance(value, str) else set(OPERATORS) - {"^"}
    return Filter(column, draw(st.sampled_from(sorted(operators))), value)


def passes(row: Row, given: Filter) -> bool:
    return OPERATORS[given.operator](row[given.column], given.value)


def place(row: Row, sort: str | None) -> tuple[Any, ...]:
    """Where a row comes in an order: NULL behind all values."""
    key = (row["id"], row["part"])
    if sort is None:
        return key
    value = row[sort]
    return (value is None, () if value is None else (value,), key)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=ROWS,
    chosen=st.lists(filters(), max_size=2),
    paged=st.fixed_dictionaries(
        {
            "sort": st.none() | st.sampled_from(sorted(VALUES)),
            "descending": st.booleans(),
            "limit": st.integers(1, 4),
        }
    ),
)
def test_pages_have_every_row_once_and_in_order(
    store: Hindsight,
    model: ReadModel,
    rows: Sequence[Row],
    chosen: Sequence[Filter],
    paged: dict[str, Any],
) -> None:
    fill(store, rows)
    found: list[Row] = []
    after, sizes = None, []
    while True:
        page = model.query(*chosen, after=after, **paged)
        found += page.rows
        sizes.append(len(page.rows))
        if (after := page.next) is None:
            break
    expected = [row for row in rows if all(passes(row, each) for each in chosen)]
    expected.sort(key=lambda row: place(row, paged["sort"]), reverse=paged["descending"])
    assert found == expected
    assert sizes[:-1] == [paged["limit"]] * (len(sizes) - 1)  # no page is short but the last


def test_rows_that_come_and_go_change_nothing_about_the_others(
    store: Hindsight, model: ReadModel
) -> None:
    def row(name: str, rank: int) -> Row:
        return dict.fromkeys(things.columns.keys()) | {"id": name, "part": 0, "rank": rank}

    fill(store, [row("a", 1), row("b", 1), row("c", 2), row("d", 2)])
    first = model.query(sort="rank", limit=2)
    fill(store, [row("a", 1), row("aa", 1), row("c", 2), row("cc", 2), row("d", 2)])
    second = model.query(sort="rank", limit=10, after=first.next)
    assert [each["id"] for each in (*first.rows, *second.rows)] == ["a", "b", "c", "cc", "d"]


# Values that texts stand for.

every = Table(
    "every",
    MetaData(),
    Column("id", Text, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("small", SmallInteger),
    Column("large", BigInteger),
    Column("price", Numeric(10, 2)),
    Column("ratio", Float),
    Column("on", Boolean),
    Column("code", String(3)),
    Column("owner", Uuid),
    Column("at", Moment),
    Column("day", Date),
    Column("hour", Time),
    Column("blob", LargeBinary),
)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("id", "", ""),
        ("id", " null ", " null "),
        ("part", "-7", -7),
        ("part", " 7 ", 7),
        ("part", str(2**31), 2**31),
        ("small", str(2**15), 2**15),
        ("large", str(2**63 - 1), 2**63 - 1),
        ("large", str(-(2**63)), -(2**63)),
        ("price", "1.10", Decimal("1.10")),
        ("ratio", "1e3", 1000.0),
        ("on", "TRUE", True),
        ("on", "false", False),
        (
            "owner",
            "0197a1c2-3f4e-7000-8000-000000000001",
            UUID(int=0x0197A1C23F4E70008000000000000001),
        ),
        ("at", "2026-11-28T09:30", AT),
        ("at", "2026-11-28 10:30+01:00", AT),
        ("at", "2026-11-28", AT.replace(hour=0, minute=0)),
        ("day", "2026-11-28", date(2026, 11, 28)),
        ("hour", "09:30", time(9, 30)),
    ],
)
def test_a_text_stands_for_a_value(column: str, text: str, value: Any) -> None:
    found = parsed(every.c[column], text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("column", "text", "told"),
    [
        ("part", "", "part: '' is no whole number"),
        ("part", "1.5", "part: '1.5' is no whole number"),
        ("large", str(2**63), "large: '9223372036854775808' is no whole number"),
        ("large", "9" * 5_000, "large: '9999"),
        ("price", "much", "price: 'much' is no number"),
        ("price", "sNaN", "price: 'sNaN' is no number"),
        ("ratio", "", "ratio: '' is no number"),
        ("on", "1", "on: '1' is no true or false"),
        ("owner", "x", "owner: 'x' is no UUID"),
        ("at", "now", "at: 'now' is no time such as 2026-11-28T09:30"),
        ("at", "0001-01-01T00:00+23:00", "at: '0001-01-01T00:00+23:00' is no time such as"),
        ("day", "28.11.2026", "day: '28.11.2026' is no day such as 2026-11-28"),
        ("hour", "25:00", "hour: '25:00' is no time of day such as 09:30"),
        ("blob", "a", "blob: its values cannot be asked for"),
        ("id", "\udc80", r"id: '\udc80' is no text"),
    ],
)
def test_a_text_that_stands_for_no_value_is_told(column: str, text: str, told: str) -> None:
    with pytest.raises(InvalidQuestion, match=f"^{re.escape(told)}") as raised:
        parsed(every.c[column], text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


ODD = [
    *("", "0", "-1", "1.5", "1e400", "nan", "inf", "-inf", "NaN", "Infinity", "sNaN", "9" * 400),
    *("1e131072", "1e-20000", str(2**31), str(2**63 - 1), str(-(2**63)), "true", "x" * 2_000, "%"),
    *("0001-01-01", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00Z"),
    *("24:00", "00:00+01:00", "a\0", "\udcff", "ä", "\U0001f600", "\\", "'", "_", str(uuid4())),
]


@pytest.mark.parametrize("column", [column.name for column in every.columns])
def test_whatever_is_asked_is_answered_or_refused(store_url: str, column: str) -> None:
    with asking(store_url, every) as store:
        model = store.read_model("every")
        for text in ODD:
            for operator in OPERATORS:
                try:
                    value = text if operator == "^" else parsed(every.c[column], text)
                    assert model.query(Filter(column, operator, value)).rows == []
                except InvalidQuestion as error:
                    assert "\n" not in str(error)  # noqa: PT017 (of those that are refused)
            try:
                values = {"id": (text, "1"), "part": (text, "a")}.get(column, (text, "a", "1"))
                assert model.query(sort=column, after=cursor(*values, sort=column)).rows == []
            except InvalidQuestion as error:
                assert "\n" not in str(error)  # noqa: PT017 (of those that are refused)


@pytest.mark.parametrize("number", [2**31, 2**40, -(2**40)])
def test_a_number_that_the_column_has_no_room_for_compares_like_others(
    store: Hindsight, model: ReadModel, number: int
) -> None:
    fill(store, [dict.fromkeys(things.columns.keys()) | {"id": "a", "part": 0, "rank": 1}])
    for operator, compares in OPERATORS.items():
        if operator != "^":
            found = model.query(Filter("rank", operator, number)).rows
            assert bool(found) == compares(1, number)


def test_letters_of_another_size_begin_no_text(store: Hindsight, model: ReadModel) -> None:
    row = dict.fromkeys(things.columns.keys()) | {"id": "a", "part": 0, "rank": 1}
    fill(store, [row | {"name": "Ada_%/"}])
    for begin, is_found in (("Ada", True), ("ada", False), ("Ada_%/", True), ("Ada__", False)):
        assert bool(model.query(Filter("name", "^", begin)).rows) == is_found


def test_a_number_is_compared_with_all_of_its_digits(store_url: str) -> None:
    with asking(store_url, every) as store:
        row = {"id": "a", "part": 1, "price": Decimal("1.01")}
        with store.database.transaction() as connection:
            connection.execute(insert(every), [row])
        model = store.read_model("every")
        for text, found in (("1.01", 1), ("1.010", 1), ("1.009", 0), ("1.0149", 0)):
            price = parsed(every.c.price, text)
            assert len(model.query(Filter("price", "=", price)).rows) == found


# Cursors.


def cursor(*values: Any, sort: Any = None, descending: Any = False) -> str:
    place = json.dumps([sort, descending, list(values)]).encode()
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


@pytest.mark.parametrize(
    ("sort", "after", "told"),
    [
        (None, "", "not where a page ended"),
        (None, "%%%", "not where a page ended"),
        (None, "ä", "not where a page ended"),
        (None, "a" * 100_001, "not where a page ended"),
        (None, base64.b64encode(b"[" * 100_000).decode(), "not where a page ended"),
        (None, base64.b64encode(b'["a", "1"]').decode(), "not where a page ended"),
        (None, cursor("a", 1), "not where a page ended"),
        (None, cursor(["a"], "1"), "not where a page ended"),
        (None, cursor("a", "1", sort=[]), "not where a page ended"),
        (None, cursor("a"), "not where a page ended"),
        (None, cursor("a", "1", "1"), "not where a page ended"),
        (None, cursor(*["a"] * 50_000), "not where a page ended"),
        (None, cursor("a", "b"), "not where a page ended"),
        (None, cursor("a", None), "not where a page ended"),
        ("rank", cursor(None, "a", "1", sort="rank"), "not where a page ended"),
        ("count", cursor("9" * 5_000, "a", "1", sort="count"), "not where a page ended"),
        ("seen", cursor("now", "a", "1", sort="seen"), "not where a page ended"),
        ("name", cursor("\udcff", "a", "1", sort="name"), "not where a page ended"),
        ("name", cursor("a", "a", "1", sort="rank"), "where a page in another order ended"),
        ("name", cursor("a", "a", "1"), "where a page in another order ended"),
        ("name", cursor("a", "a", "1", sort="name", descending=True), "where a page in another"),
    ],
)
def test_what_is_no_cursor_is_told(
    model: ReadModel, sort: str | None, after: str, told: str
) -> None:
    with pytest.raises(InvalidQuestion) as raised:
        model.query(sort=sort, after=after)
    assert str(raised.value).startswith(f"after: {told}")


def test_a_cursor_of_another_order_is_told(store: Hindsight, model: ReadModel) -> None:
    rows = [
        dict.fromkeys(things.columns.keys()) | {"id": name, "part": 0, "rank": 1} for name in "ab"
    ]
    fill(store, rows)
    by_name = model.query(sort="name", limit=1).next
    assert by_name is not None
    for sort, descending in ((None, False), ("rank", False), ("name", True)):
        with pytest.raises(InvalidQuestion, match="in another order ended"):
            model.query(sort=sort, descending=descending, after=by_name)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Filter("sum", "=", 1), "no column 'sum'; there are id, part, name, count"),
        (Filter("name", "<", None), "name <: NULL is neither"),
        (Filter("count", "^", "1"), "count: only a text begins with another"),
        (Filter("name", "^", 1), "name: only a text begins with another"),
        (Filter("count", "=", "many"), "count: 'many' is no value of it"),
        (Filter("count", "=", 2**63), "count: a number of over 64 bits is no value of it"),
        (Filter("seen", "<", AT.replace(tzinfo=None)), "seen: .* is no value of it"),
        (Filter("name", "=", 7), "name: 7 is no value of it"),
        (Filter("name", "=", "\udcff"), r"name: '\\udcff' is no value of it"),
        (Filter("count", "=", value=True), "count: True is no value of it"),
    ],
)
def test_a_filter_that_makes_no_sense_is_told(model: ReadModel, given: Filter, told: str) -> None:
    with pytest.raises(InvalidQuestion, match=f"^{told}"):
        model.query(given)


def test_an_order_that_no_second_page_could_follow_is_refused_on_the_first(store_url: str) -> None:
    with asking(store_url, every) as store:
        told = "^blob: its values cannot be asked for$"
        with pytest.raises(InvalidQuestion, match=told):
            store.read_model("every").query(sort="blob")


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_page_has_a_size(model: ReadModel, limit: int) -> None:
    with pytest.raises(InvalidQuestion, match=f"^limit: {limit} is not a number from 1 to 10,000"):
        model.query(limit=limit)


@pytest.mark.usefixtures("store")
def test_a_column_that_a_newer_table_will_have_is_told(store_url: str) -> None:
    """Code of the next version, before the rebuild."""
    newer = things.to_metadata(MetaData())
    newer.append_column(Column("size", Text))
    with asking(store_url, newer, version=2) as after:
        model = after.read_model("things")
        told = "its table is version 1, this code has version 2; run: hindsight projections rebuild"
        for ask in (model.query, lambda: model.get("a", 1)):
            with pytest.raises(ProjectionOutdated, match=told):
                ask()
