"""What a service declares of a read model: its table, and what each event does to a row of it."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from msgspec import Struct
from sqlalchemy import Column, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.schema import conv

from store.errors import InvalidDomain
from store.fingerprint import code_fingerprint
from store.identifiers import check_text
from store.records import EventHeader

Row: TypeAlias = Mapping[str, Any]
"""A row of a read model, by column."""
Key: TypeAlias = tuple[Any, ...]
"""The values of a row's primary key."""
RowHandler: TypeAlias = Callable[[Row | None, Any, EventHeader], Row | None]
"""The row after an event, given the row before it (None: there is none), its data and header."""

_LONGEST_NAME = 40
"""Characters; what is built beside a table has its name and some more, of 63 that there may be."""
_LONGEST_INDEX = 54
"""Characters of the name of an index or a key, which gets the same."""


class Projection:
    """A read model that follows the events: each row is what its events make of it.

    `handlers` has a function for each class of events that matters, called with the row (None where
    there is none), the typed event and its header; it returns the row that is to be, of all columns
    but those that may be NULL, or None where there is to be none. It changes nothing and reads
    nothing else: so rows can be made again, and compared. Its name labels how long it takes.
    `key(data, header)` is the primary key of the row that an event changes, by default the
    aggregate id; `table` is the store's from now on, which creates, fills and replaces it: what its
    columns round or cut is better rounded or cut beforehand, as batches begin at any event. Raise
    `version` when other rows are to come out, and rebuild.

    Raises:
        InvalidDomain: a part does not fit; the message names it.
    """

    def __init__(
        self,
        name: str,
        *,
        table: Table,
        handlers: Mapping[type[Struct], RowHandler],
        version: int = 1,
        key: Callable[[Any, EventHeader], Any] | None = None,
    ) -> None:
        self.name = check_text("projection", name)
        self.table = table
        self.handlers = dict(handlers)
        self.version = version
        self._key = key
        try:
            _check_table(table)
            _check_handlers(self.handlers)
            _check_rest(self, has_key=key is not None)
        except InvalidDomain as fault:
            raise InvalidDomain(f"projection {name!r}: {fault}") from None
        # What SQLAlchemy has for names is no plain text, and no encoder takes it.
        self._names = tuple(str(column.name) for column in table.columns)
        self.columns = frozenset(self._names)
        self.key_columns = tuple(str(column.name) for column in table.primary_key.columns)
        self._own_key = _key_of(self.key_columns)
        self.fingerprint = _fingerprint(table, self.handlers, key)

    @property
    def is_by_aggregate(self) -> bool:
        """Whether each aggregate has its own row."""
        return self._key is None

    def key(self, data: Any, event: EventHeader) -> Key:
        """The primary key of the row that the event changes."""
        if self._key is None:
            return (event.aggregate_id,)
        key = self._key(data, event)
        return key if isinstance(key, tuple) else (key,)

    def checked(self, key: Key, row: Row) -> Row:
        """The row with all columns.

        Raises:
            ValueError: it has columns that the table does not, or another key.
        """
        if tuple(row) != self._names:
            row = self._whole(row)
        own = self._own_key(row)
        if own != key:
            raise ValueError(f"the row has the key {own!r}, its event {key!r}")
        return row

    def _whole(self, row: Row) -> Row:
        if unknown := row.keys() - self.columns:
            raise ValueError(f"the table has no column {', '.join(map(repr, sorted(unknown)))}")
        return {name: row.get(name) for name in self._names}


def _key_of(columns: Sequence[str]) -> Callable[[Row], Key]:
    if len(columns) > 1:
        return itemgetter(*columns)
    [column] = columns
    return lambda row: (row[column],)


def _check_table(table: Table) -> None:
    if not isinstance(table, Table):
        raise InvalidDomain(f"table: {table!r} is not a sqlalchemy.Table")
    if table.schema is not None:
        raise InvalidDomain(f"table {table.name!r}: it is in the store's schema, and names none")
    if len(table.name) > _LONGEST_NAME:
        raise InvalidDomain(f"table {table.name!r}: over {_LONGEST_NAME} characters")
    if not table.primary_key.columns:
        raise InvalidDomain(f"table {table.name!r}: no primary key")
    if table.foreign_keys:
        raise InvalidDomain(f"table {table.name!r}: foreign keys; rows come each by itself")
    for column in table.columns:
        _check_column(column)
    for index in table.indexes:
        _check_name(table, "index", index.name)
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint):
            _check_name(table, "constraint", constraint.name)


def _check_name(table: Table, kind: str, name: object) -> None:
    # One that is made of the table's is made anew, and cut where it is too long.
    is_made_up = isinstance(name, conv) and table.name in name
    if isinstance(name, str) and len(name) > _LONGEST_INDEX and not is_made_up:
        raise InvalidDomain(
            f"table {table.name!r}: {kind} {str(name)!r}: over {_LONGEST_INDEX} characters"
        )


def _check_column(column: Column[Any]) -> None:
    named = f"column {column.name!r}"
    if column.key != column.name:
        raise InvalidDomain(f"{named}: has another key, {column.key!r}")
    if column.identity is not None or column.computed is not None:
        raise InvalidDomain(f"{named}: the database makes up its values")
    if any((column.default, column.server_default, column.onupdate, column.server_onupdate)):
        raise InvalidDomain(f"{named}: has a default; the handlers give all values")


def _check_handlers(handlers: Mapping[type[Struct], RowHandler]) -> None:
    if not handlers:
        raise InvalidDomain("no handlers")
    for event, handler in handlers.items():
        if not callable(handler) or not getattr(handler, "__name__", None):
            raise InvalidDomain(f"handler of {event.__name__}: {handler!r} is not a function")


def _check_rest(projection: Projection, *, has_key: bool) -> None:
    if not has_key and len(projection.table.primary_key.columns) != 1:
        raise InvalidDomain("key: a primary key of several columns needs one")
    if type(projection.version) is not int or projection.version < 1:
        raise InvalidDomain(f"version: {projection.version!r} is not a whole number from 1")


def _fingerprint(
    table: Table,
    handlers: Mapping[type[Struct], RowHandler],
    key: Callable[[Any, EventHeader], Any] | None,
) -> str:
    """Changes with the columns and the functions, as far as that is seen."""
    columns = [(column.name, repr(column.type), column.primary_key) for column in table.columns]
    functions: list[tuple[Any, Callable[..., Any]]] = [
        (event.__name__, handler)
        for event, handler in sorted(handlers.items(), key=lambda item: item[0].__name__)
    ]
    if key is not None:
        functions.append(("key", key))
    return code_fingerprint(((table.name, columns, name), each) for name, each in functions)
