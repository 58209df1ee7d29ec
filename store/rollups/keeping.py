"""Bringing the rollups up to what was appended: any number of workers may, and may be killed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, get_args

from msgspec import Struct
from sqlalchemy import (
    CompoundSelect,
    Connection,
    Select,
    Table,
    and_,
    delete,
    func,
    or_,
    select,
    update,
)

from store.archived import Archived
from store.database import Database
from store.database.read_models import insert
from store.records import Axis
from store.rollups import counting, reading
from store.sources import start_of

AXES: tuple[Axis, ...] = get_args(Axis)
SLICE = 20_000
"""Positions counted in one transaction: for as long, nobody else may write to SQLite."""
LONG_SLICE = 200_000
"""Positions counted in one query where nobody waits for it."""
_SUMMED = frozenset({"events", "aggregates"})
"""Of what is counted again and again. Of anything else the newest count is right, but for the
first position: positions and versions only grow."""

Progress: TypeAlias = Callable[[int], None]
"""Hears how many positions more are done."""
_Query: TypeAlias = Select[Any] | CompoundSelect[Any]
_Cells: TypeAlias = dict[tuple[Any, ...], tuple[Any, ...]]
"""The rows of a table: what is in its key, and what is not."""


class Difference(Struct, frozen=True, kw_only=True):
    """A row of a rollup as it is `kept`, and as the events say when they are `counted`."""

    table: str
    key: Mapping[str, Any]
    kept: Mapping[str, int] | None
    counted: Mapping[str, int] | None


class Checked(Struct, frozen=True, kw_only=True):
    """How the rollups differ from the events up to the position where they end."""

    position: int
    differences: tuple[Difference, ...]


class Rollups:
    """The rollups of a store. Safe to share between threads.

    Their position moves in the transaction that counts what it passes, and only from where that
    transaction found it, so every event is counted once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._archived = Archived(database)
        tables = database.tables.tables
        self._rollup = tables["rollup"]
        self._totals = tables["event_totals"]
        self._counts = tables["event_counts"]
        self._lengths = tables["history_lengths"]

    def roll_up(self, settled: int) -> bool:
        """Count some more of what is behind the rollups, up to the watermark's position `settled`.

        False where nothing is left, or another worker is at it.
        """
        after = reading.position(self._database)
        until = min(settled, after + SLICE)
        if until <= after:
            return False
        with self._database.transaction() as connection:
            if not self._is_at(connection, after):
                return False
            self._move(connection, until)
            for table, counted in self._counting(after, until):
                connection.execute(_adding(connection, table, counted))
            lengths = counting.lengths(self._database, after, until)
            connection.execute(_adding(connection, self._lengths, lengths))
        return until < settled

    def check(self, progress: Progress = lambda _: None) -> Checked:
        """Count every event anew that is in the rollups, and compare; lengths with the heads."""
        with self._database.snapshot() as connection:
            position = int(connection.execute(select(self._rollup.c.position)).scalar_one())
            kept = {
                table: _cells(table, connection.execute(select(*table.columns)).all())
                for table in (self._totals, self._counts)
            }
            lengths = [*self._wrong_lengths(connection, position)]
        counted = self._counted_anew(position, progress)
        differences = [
            difference
            for table in kept
            for difference in _differences(table, kept[table], counted[table])
        ]
        return Checked(position=position, differences=(*differences, *lengths))

    def rebuild(self, settled: int, progress: Progress = lambda _: None) -> None:
        """Count every event anew up to the watermark's position `settled`, and keep that.

        Readers have what was kept before until all of it is there. What is archived is always
        counted: the rollups never end below it.
        """
        while not self._replace(max(settled, self._archived.position()), progress):
            pass

    def _replace(self, settled: int, progress: Progress) -> bool:
        """Keep what is counted anew; False where events beyond it were archived meanwhile."""
        counted = self._counted_anew(settled, progress)
        with self._database.transaction() as connection:
            # Locked first, as workers and archivers do: so they wait for one another.
            connection.execute(select(self._rollup.c.id).with_for_update())
            if self._archived.position(connection) > settled:
                return False
            self._move(connection, settled)
            for table, cells in counted.items():
                connection.execute(delete(table))
                names = table.columns.keys()
                rows = [dict(zip(names, key + cells[key], strict=True)) for key in cells]
                if rows:
                    connection.execute(table.insert(), rows)
            connection.execute(delete(self._lengths))
            lengths = counting.all_lengths(self._database, settled)
            names = self._lengths.columns.keys()
            connection.execute(self._lengths.insert().from_select(names, lengths))
        return True

    def _wrong_lengths(self, connection: Connection, position: int) -> Iterator[Difference]:
        kept, right = self._lengths, counting.all_lengths(self._database, position).subquery()
        key, values = ("aggregate_type", "aggregate_id"), ("version", "last_position")
        same = and_(*(kept.c[name] == right.c[name] for name in key))
        named = [func.coalesce(kept.c[name], right.c[name]).label(name) for name in key]
        query = (
            select(*named, *(table.c[name] for table in (kept, right) for name in values))
            .select_from(right.outerjoin(kept, same, full=True))
            .where(or_(*(kept.c[name].is_distinct_from(right.c[name]) for name in values)))
            .order_by(*named)
        )
        for row in connection.execute(query):
            yield Difference(
                table=str(kept.name),
                key=dict(zip(key, row[:2], strict=True)),
                kept=None if row[2] is None else dict(zip(values, row[2:4], strict=True)),
                counted=None if row[4] is None else dict(zip(values, row[4:], strict=True)),
            )

    def _is_at(self, connection: Connection, position: int) -> bool:
        """Whether the rollups still end there, and no other worker is about to move them."""
        found = select(self._rollup.c.id).where(self._rollup.c.position == position)
        return connection.execute(found.with_for_update(skip_locked=True)).first() is not None

    def _move(self, connection: Connection, position: int) -> None:
        connection.execute(update(self._rollup).values(position=position))

    def _counting(self, after: int, until: int) -> Iterator[tuple[Table, _Query]]:
        """Queries for the rows of each table that hold those events."""
        for axis in AXES:
            yield self._counts, counting.counts(self._database, axis, after, until)
        yield self._totals, counting.kinds(self._database, after, until)

    def _counted_anew(self, until: int, progress: Progress) -> dict[Table, _Cells]:
        """The rows as they should be: what is settled stays, so one slice is read after another."""
        found: dict[Table, _Cells] = {self._totals: {}, self._counts: {}}
        after = 0
        while after < until:
            end, rows = self._slice(after, until)
            for table, counted in rows:
                for key, values in _cells(table, counted).items():
                    found[table][key] = _added(table, found[table].get(key), values)
            progress(end - after)
            after = end
        return found

    def _slice(self, after: int, until: int) -> tuple[int, list[tuple[Table, Sequence[Any]]]]:
        """Rows for the next events, archived or not, and the position up to which they are."""
        with self._database.snapshot() as connection:
            stretch = self._archived.following(after, connection)
            end = min(stretch.last_position if stretch else after + LONG_SLICE, until)
            rows: list[tuple[Table, Sequence[Any]]] = [
                (table, connection.execute(counted).all())
                for table, counted in self._counting(after, end)
            ]
            archived = self._archived.of_stretch(stretch, connection) if stretch else []
        events = [event for event in archived if after < event.position <= end]
        rows.extend((self._counts, counting.counts_of(events, axis)) for axis in AXES)
        rows.append((self._totals, counting.kinds_of(events)))
        return end, rows


def _adding(connection: Connection, table: Table, counted: _Query) -> Any:
    """The statement that adds newer rows to a table."""
    statement = insert(connection, table).from_select(table.columns.keys(), counted)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=table.primary_key.columns.keys(),
        set_={
            name: table.c[name] + new[name] if name in _SUMMED else new[name]
            for name in _values(table)
            if name != "first_position"
        },
    )


def _added(table: Table, before: tuple[Any, ...] | None, newer: tuple[Any, ...]) -> tuple[Any, ...]:
    """What `_adding` makes of a row's values."""
    if before is None:
        return newer
    kept = zip(_values(table), before, newer, strict=True)
    merge = {"first_position": min, "last_position": max}
    return tuple(old + new if name in _SUMMED else merge[name](old, new) for name, old, new in kept)


def _values(table: Table) -> Sequence[str]:
    return table.columns.keys()[len(table.primary_key) :]


def _cells(table: Table, rows: Sequence[Any]) -> _Cells:
    size = len(table.primary_key)
    return {tuple(row[:size]): tuple(row[size:]) for row in rows}


def _key(table: Table, key: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip(table.primary_key.columns.keys(), key, strict=True))
    if "hour" in named:
        named["hour"] = start_of(named["hour"], counting.HOUR)
    return named


def _differences(table: Table, kept: _Cells, counted: _Cells) -> Iterator[Difference]:
    for key in sorted(kept.keys() | counted.keys()):
        if kept.get(key) != counted.get(key):
            yield Difference(
                table=str(table.name),  # plain text, which can be encoded
                key=_key(table, key),
                kept=_named(table, kept.get(key)),
                counted=_named(table, counted.get(key)),
            )


def _named(table: Table, values: tuple[Any, ...] | None) -> Mapping[str, int] | None:
    return None if values is None else dict(zip(_values(table), values, strict=True))
