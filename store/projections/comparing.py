"""What a read model has other than the events make of it, row by row."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import DataError, ProgrammingError

from store.database.read_models import columns_of, find
from store.projection import Key, Row

Kind: TypeAlias = Literal["missing", "extra", "differing"]

SHOWN = 100
"""Differing rows that are told of one by one; all are counted."""
_PAGE = 1_000


class Difference(Struct, frozen=True, kw_only=True):
    """A row that is other than it should be: `missing`, `extra`, or `differing` in `columns`.

    `found` is the row that is read, `expected` what the events make of it.
    """

    kind: Kind
    key: Key
    columns: Sequence[str]
    found: Row | None
    expected: Row | None


class Compared(Struct, frozen=True, kw_only=True):
    """How two tables differ: how many `rows` there should be, and of which kinds the others are.

    `differences` are the first of them.
    """

    rows: int
    missing: int
    extra: int
    differing: int
    differences: Sequence[Difference]

    @property
    def drift(self) -> int:
        """How many rows are other than they should be."""
        return self.missing + self.extra + self.differing


def compared(
    live: Connection, table: Table, built: Connection, expected: Table, *, shown: int = SHOWN
) -> Compared:
    """Compare the table that is read, as one connection sees it, with one that was just built.

    A page of rows at a time, each looked up in the other table: databases sort keys by rules of
    their own. Columns that only one of them has are not compared; where the one that is read lacks
    a part of the key, or has values of other types, none of its rows is one of the other's.
    """
    rows, there = _count(built, expected), columns_of(live, table)
    extra = _count(live, table) if there else 0
    incomparable = Compared(rows=rows, missing=rows, extra=extra, differing=0, differences=())
    if any(column.name not in there for column in table.primary_key):
        return incomparable
    columns = [name for name in table.columns.keys() if name in there]  # noqa: SIM118
    try:
        return _counted(rows, _differences(live, table, built, expected, columns), shown)
    except (ValueError, TypeError, DataError, ProgrammingError):
        # Of other types: values that cannot be read as these columns have them.
        return incomparable


def _counted(rows: int, differences: Iterator[Difference], shown: int) -> Compared:
    counted: dict[Kind, int] = {"missing": 0, "extra": 0, "differing": 0}
    first: list[Difference] = []
    for difference in differences:
        counted[difference.kind] += 1
        if len(first) < shown:
            first.append(difference)
    return Compared(rows=rows, differences=first, **counted)


def changed_columns(found: Row, expected: Row) -> list[str]:
    """Where two rows differ; no number is no number."""
    return [name for name, value in found.items() if not _equal(value, expected[name])]


def _differences(
    live: Connection,
    table: Table,
    built: Connection,
    expected: Table,
    columns: Sequence[str],
) -> Iterator[Difference]:
    for page in _pages(live, table, columns):
        wanted = find(built, expected, page.keys(), columns)
        for key, found in page.items():
            if key not in wanted:
                yield Difference(kind="extra", key=key, columns=(), found=found, expected=None)
            elif changed := changed_columns(found, wanted[key]):
                yield Difference(
                    kind="differing", key=key, columns=changed, found=found, expected=wanted[key]
                )
    for page in _pages(built, expected, columns):
        there = find(live, table, page.keys(), columns)
        for key, row in page.items():
            if key not in there:
                yield Difference(kind="missing", key=key, columns=(), found=None, expected=row)


def _pages(
    connection: Connection, table: Table, columns: Sequence[str]
) -> Iterator[dict[Key, dict[str, Any]]]:
    query = select(*(table.c[name] for name in columns))
    streamed = connection.execute(query.execution_options(yield_per=_PAGE))
    for rows in streamed.mappings().partitions():
        yield {tuple(row[column.name] for column in table.primary_key): dict(row) for row in rows}


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) or bool(one != one and other != other)  # noqa: PLR0124 (NaN)
