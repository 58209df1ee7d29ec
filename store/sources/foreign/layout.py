"""What a layout of event tables says: where the fields of an event are, and how streams are found.

SQL here speaks of the events as `e`. A percent sign in it is doubled.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec import Struct
from psycopg.sql import Identifier

from store.identifiers import prefix_range

TEXTS = frozenset({"text", "character varying"})

Condition: TypeAlias = tuple[str, str, tuple[Any, ...]]
"""An expression, an operator, and the values to its right, which are put in brackets."""


class Column(Struct, frozen=True):
    """A column's type as the database names it, and whether its texts are in the order of bytes."""

    type: str
    in_byte_order: bool = False


class Table(Struct, frozen=True, kw_only=True):
    """A table as the database's catalogue has it."""

    oid: int
    schema: str
    name: str
    columns: Mapping[str, Column]
    readable: bool
    unique: frozenset[frozenset[str]] = frozenset()
    """The sets of columns that identify a row."""

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return quoted(self.schema, self.name)


class Fields(Struct, frozen=True, kw_only=True):
    """SQL for the fields of an event; `data` and `metadata` are JSON and never NULL."""

    position: str
    version: str
    event_id: str
    aggregate_id: str
    aggregate_type: str
    event_type: str
    moment: str
    data: str
    metadata: str
    correlation_id: str
    causation_id: str
    actor: str


class Layout(Protocol):
    """An event table of another system, and how to read it."""

    system: str
    first_version: int
    table: Table
    fields: Fields
    key: Mapping[str, str]
    """The columns that identify a stream, in the order of an index, and their types."""

    def key_of(self, aggregate_id: str) -> tuple[Any, ...] | None:
        """The values of `key` for an id as it is shown; None where no stream can have it."""
        ...

    def within(self, prefix: str, aggregate_type: str | None) -> Sequence[Condition] | None:
        """What an index finds the streams by that may have such an id and type.

        All that have are among them; others may be. None where no stream can.
        """
        ...

    def streams(self, where: str, limit: str) -> str:
        """A query for the keys of up to `limit` streams, in the order of `key`."""
        ...


def quoted(*names: str) -> str:
    """The name of a table as SQL."""
    # A percent sign would be a placeholder to the driver.
    return Identifier(*names).as_string().replace("%", "%%")


def text_range(expression: str, prefix: str) -> list[Condition]:
    """The texts that begin with `prefix`, in a column that is in byte order."""
    first, end = prefix_range(prefix)
    found: list[Condition] = [(expression, ">=", (first,))] if first else []
    return found if end is None else [*found, (expression, "<", (end,))]
