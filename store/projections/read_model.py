"""Asking a read model: filters, an order, and pages that stay right while rows come and go."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.exc import DataError

from store.database import Database
from store.database.read_models import find
from store.errors import (
    EventStoreError,
    InvalidQuestion,
    ProjectionNotBuilt,
    ProjectionOutdated,
    SchemaError,
)
from store.projection import Key, Projection, Row
from store.projections.checkpoints import Checkpoint, Checkpoints
from store.projections.values import bound, kind_of, parsed, require_text, spelled

Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "^"]

LARGEST_PAGE = 10_000

_WRITTEN = re.compile(r"(!=|<=|>=|=|<|>|\^| is (?:not )?null\Z)")


class Filter(Struct, frozen=True):
    """Rows whose column compares so with a value; None is NULL, and `^` begins with a text."""

    column: str
    operator: Operator
    value: Any


class Page(Struct, frozen=True, kw_only=True):
    """Rows, and where the pages after and before it begin; None: there is none."""

    rows: Sequence[Row]
    next: str | None
    previous: str | None = None


class Seen(Struct, frozen=True, kw_only=True):
    """A row, None where there is none, and the checkpoint that its table stood at then."""

    row: Row | None
    checkpoint: Checkpoint


class _Place(Struct, frozen=True, array_like=True):
    """Where a page ended: in which order, and at which values of it."""

    sort: str | None
    descending: bool
    values: Sequence[str | None]


class ReadModel:
    """The table of a projection. Safe to share between threads.

    `table` is for questions of your own.
    """

    def __init__(self, database: Database, projection: Projection) -> None:
        self.projection = projection
        self.table: Table = projection.table
        self._database = database
        self._key = list(projection.table.primary_key)
        self._names = [str(column.name) for column in self.table.columns]

    def get(self, *key: Any) -> Row | None:
        """The row with that primary key; None where there is none.

        Raises:
            ProjectionNotBuilt, ProjectionOutdated: there is no such table of this code.
        """
        chosen = [column == value for column, value in zip(self._key, key, strict=True)]
        rows = self._rows(select(self.table).where(*chosen))
        return rows[0] if rows else None

    def seen(self, *key: Any) -> Seen:
        """The row with that primary key, seen in the same moment as the checkpoint.

        Raises:
            ProjectionNotBuilt, ProjectionOutdated: there is no such table of this code.
        """
        while True:
            with self._explained(), self._database.snapshot() as connection:
                checkpoint = self._checkpoint(connection)
                found = list(find(connection, self.table, [key]).values())
            # A snapshot has the rows as they were, but not which table they are in.
            if self._checkpoint().generation == checkpoint.generation:
                break
        row = dict(zip(self._names, found[0].values(), strict=True)) if found else None
        return Seen(row=row, checkpoint=checkpoint)

    def filter(self, written: str) -> Filter:
        """A filter as people write it: `size>=3`, `name^Ada`, `name is null`, `name is not null`.

        Raises:
            InvalidQuestion: there is no such column, or the value cannot be one of it.
        """
        ways = [(written[: way.start()], way) for way in _WRITTEN.finditer(written)]
        if not ways:
            raise InvalidQuestion(
                f"{written!r}: write COLUMN=VALUE, or one of != < <= > >= ^ for the ="
            )
        name, way = next((each for each in ways if each[0] in self.table.columns), ways[0])
        column = self.column(name)
        if way[0].startswith(" is"):
            return Filter(column.name, "=" if way[0] == " is null" else "!=", None)
        return Filter(column.name, _OPERATORS[way[0]], parsed(column, written[way.end() :]))

    def query(
        self,
        *filters: Filter,
        where: ColumnElement[bool] | None = None,
        sort: str | None = None,
        descending: bool = False,
        after: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Rows that pass all filters, in the order of a column, and of the primary key within it.

        `where` is a condition on `table` that is to hold as well. NULL counts as the greatest
        value. `after` is the `next` of the page before, `before` the `previous` of the page after;
        rows that were there all along come once, whatever is written meanwhile.

        Raises:
            InvalidQuestion: there is no such column, the value cannot be one of it, or `after`
                or `before` is not where such a page ended.
            ProjectionNotBuilt, ProjectionOutdated: there is no such table of this code.
        """
        if not 1 <= limit <= LARGEST_PAGE:
            raise InvalidQuestion(f"limit: {limit} is not a number from 1 to {LARGEST_PAGE:,}")
        if after is not None and before is not None:
            raise InvalidQuestion("after, before: give one of them")
        order, backward = self._order(sort), before is not None
        cursor, way = (before, "before") if backward else (after, "after")
        place = None
        if cursor is not None:
            place = _values(way, _place(way, cursor, sort, descending=descending), order)
        query = select(self.table).where(*map(self._condition, filters))
        query = query if where is None else query.where(where)
        # What comes before is what comes behind in the opposite order.
        rows = self._walk(query, order, place, descending=descending != backward, limit=limit + 1)
        ends = len(rows) <= limit, cursor is None
        rows = rows[:limit][::-1] if backward else rows[:limit]
        is_last, is_first = ends[::-1] if backward else ends
        cursors = [
            _cursor(_Place(sort, descending, [spelled(row[column.name]) for column in order]))
            for row in (*rows[:1], *rows[-1:])
        ]
        return Page(
            rows=rows,
            next=None if is_last or not rows else cursors[-1],
            previous=None if is_first or not rows else cursors[0],
        )

    def _walk(
        self,
        query: Select[Any],
        order: Sequence[Column[Any]],
        place: Sequence[Any] | None,
        *,
        descending: bool,
        limit: int,
    ) -> list[Row]:
        """The first rows of the query behind a place."""
        query = query.order_by(*(each.desc() if descending else each.asc() for each in order))
        rows: list[Row] = []
        for section in _sections(order, place, descending=descending):
            if len(rows) < limit:
                rows += self._rows(query.where(section).limit(limit - len(rows)))
        return rows

    def column(self, name: str) -> Column[Any]:
        """The column of that name.

        Raises:
            InvalidQuestion: there is none.
        """
        found = self.table.columns.get(name)
        if found is None:
            there = ", ".join(self.table.columns.keys())
            raise InvalidQuestion(f"no column {name!r}; there are {there}")
        return found

    def key_of(self, row: Row) -> Key:
        """The primary key of a row."""
        return tuple(row[column.name] for column in self._key)

    def _rows(self, query: Any) -> list[Row]:
        with self._explained():
            rows = self._database.select(query)
        return [dict(zip(self._names, row, strict=True)) for row in rows]

    def _checkpoint(self, within: Connection | None = None) -> Checkpoint:
        found = Checkpoints(self._database).read(self.projection.name, within=within)
        if found is None:
            raise ProjectionNotBuilt(projection=self.projection.name)
        return found

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say of a table that is missing, or another, why it is."""
        try:
            yield
        except SchemaError:
            built, declared = self._checkpoint().version, self.projection.version
            if built != declared:
                raise ProjectionOutdated(
                    projection=self.projection.name, built=built, declared=declared
                ) from None
            raise
        except EventStoreError as error:
            if isinstance(error.__cause__, DataError):
                raise InvalidQuestion(f"a value cannot be asked for: {error}") from error
            raise

    def _order(self, sort: str | None) -> list[Column[Any]]:
        if sort is None:
            return self._key
        first = self.column(sort)
        require_text(first)  # cursors spell values
        return [first, *(column for column in self._key if column is not first)]

    def _condition(self, given: Filter) -> ColumnElement[bool]:
        column, value = self.column(given.column), given.value
        if value is None:
            if given.operator not in {"=", "!="}:
                raise InvalidQuestion(f"{given.column} {given.operator}: NULL is neither")
            return column.is_(None) if given.operator == "=" else column.is_not(None)
        if given.operator == "^":
            return _begins(column, value)
        comparison: ColumnElement[bool] = _COMPARISONS[given.operator](column, bound(column, value))
        return comparison


def _cursor(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _place(way: str, cursor: str, sort: str | None, *, descending: bool) -> _Place:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Place)
    except (binascii.Error, ValueError) as error:
        raise InvalidQuestion(f"{way}: not where a page ended") from error
    if (place.sort, place.descending) != (sort, descending):
        raise InvalidQuestion(f"{way}: where a page in another order ended")
    return place


def _values(way: str, place: _Place, order: Sequence[Column[Any]]) -> list[Any]:
    """The values that a page ended at, as its columns are compared with."""
    if len(place.values) != len(order):
        raise InvalidQuestion(f"{way}: not where a page ended")
    values = []
    for column, text in zip(order, place.values, strict=True):
        if text is None and not column.nullable:
            raise InvalidQuestion(f"{way}: not where a page ended")
        try:
            values.append(None if text is None else bound(column, parsed(column, text)))
        except InvalidQuestion as error:
            raise InvalidQuestion(f"{way}: not where a page ended") from error
    return values


def _begins(column: Column[Any], value: Any) -> ColumnElement[bool]:
    if not isinstance(value, str) or kind_of(column) != "text":
        raise InvalidQuestion(f"{column.name}: only a text begins with another")
    bound(column, value)
    # An index may serve LIKE, to which small letters and large ones are the same on SQLite.
    return and_(
        column.startswith(value, autoescape=True),
        func.substr(column, 1, len(value)) == value,
    )


_OPERATORS: Mapping[str, Operator] = {
    operator: operator for operator in ("=", "!=", "<", "<=", ">", ">=", "^")
}
_COMPARISONS: Mapping[str, Any] = {
    "=": lambda column, value: column == value,
    # A NULL is another value than any.
    "!=": lambda column, value: or_(column != value, column.is_(None)),
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


def _sections(
    order: Sequence[Column[Any]], place: Sequence[Any] | None, *, descending: bool
) -> list[ColumnElement[bool]]:
    """What comes behind a place, part by part: rows with a value in the first column, and without.

    Asked for apart, each part is a range of an index of that column, on both databases.
    """
    first, others = order[0], order[1:]
    values: ColumnElement[bool] = first.is_not(None)
    nulls: ColumnElement[bool] = first.is_(None)
    if place is None:
        parts = [nulls, values] if descending else [values, nulls]
        return parts if first.nullable else [true()]
    if place[0] is None:
        rest = and_(nulls, _behind(others, place[1:], descending=descending))
        return [rest, values] if descending else [rest]
    behind = _behind(order, place, descending=descending)
    return [behind] if descending or not first.nullable else [behind, nulls]


def _behind(
    order: Sequence[Column[Any]], place: Sequence[Any], *, descending: bool
) -> ColumnElement[bool]:
    """What comes behind a row with those values, none of them NULL, in that order."""
    column, value = order[0], place[0]
    is_beyond: ColumnElement[bool] = column < value if descending else column > value
    if len(order) == 1:
        return is_beyond
    is_in_reach = column <= value if descending else column >= value  # for an index's sake
    rest = _behind(order[1:], place[1:], descending=descending)
    return and_(is_in_reach, or_(is_beyond, rest))
