"""How far each projection has come: a row that moves in the transaction of what it stands for."""

import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection, delete, select, update

from store.database import Database
from store.database.read_models import insert
from store.projection import Projection

Target: TypeAlias = Literal["live", "rebuild", "check"]
"""Which of a projection's tables: the one that is read, one that is to take its place, or one made
to compare it with."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """Up to `position` the events are in a projection's table.

    `version` and `fingerprint` are those of the code that made it, `generation` counts the tables
    that there were. One that is being built ends at its `goal`. `drift` is how many rows were wrong
    when it was last compared with the events, at `checked_at`.
    """

    projection: str
    target: Target
    version: int
    fingerprint: str
    generation: int
    position: int
    goal: int | None
    moved_at: datetime
    moved_by: str
    checked_at: datetime | None
    drift: int | None


class Checkpoints:
    """The checkpoints of a store. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = database.tables.tables["checkpoints"]
        self._by = f"{platform.node()}:{os.getpid()}"

    def read(
        self, projection: str, target: Target = "live", *, within: Connection | None = None
    ) -> Checkpoint | None:
        """The checkpoint; None where there is no such table of the projection."""
        query = self._of(projection, target, select(*self._table.columns))
        rows = within.execute(query).all() if within else self._database.select(query)
        found = self._found(rows)
        return found[0] if found else None

    def all(self) -> Mapping[tuple[str, Target], Checkpoint]:
        """Every checkpoint, by projection and target."""
        found = self._found(self._database.select(select(*self._table.columns)))
        return {(each.projection, each.target): each for each in found}

    def create(self, connection: Connection, projection: Projection, target: Target) -> bool:
        """Begin in front of the first event; False where there is one already."""
        values = {
            "projection": projection.name,
            "target": target,
            "version": projection.version,
            "fingerprint": projection.fingerprint,
            # By chance where another may be begun in its place: two are not the same then.
            "generation": 1 if target == "live" else secrets.randbelow(2**31),
            "position": 0,
        }
        statement = insert(connection, self._table).on_conflict_do_nothing()
        # Of an INSERT the toolkit does not tell how many rows it wrote on every database.
        written = statement.values(values | self._moved()).returning(self._table.c.generation)
        return connection.execute(written).first() is not None

    def move(self, connection: Connection, checkpoint: Checkpoint, position: int) -> bool:
        """Move it from where it was read; False where it is not there any more.

        To where it is, it is held there, and does not look as if it had moved.
        """
        moved = self._moved() if position != checkpoint.position else {}
        return self._changed(connection, checkpoint, {"position": position} | moved)

    def aim(self, connection: Connection, checkpoint: Checkpoint, goal: int) -> bool:
        """Say where it is to end; False as `move`."""
        return self._changed(connection, checkpoint, {"goal": goal})

    def note_check(
        self, connection: Connection, projection: str, generation: int, drift: int
    ) -> None:
        """Write down how many rows of a table are wrong, if it is the one that is read."""
        values = {"drift": drift, "checked_at": datetime.now(UTC)}
        statement = self._of(projection, "live", update(self._table).values(values))
        connection.execute(statement.where(self._table.c.generation == generation))

    def replace(self, connection: Connection, live: Checkpoint, built: Checkpoint) -> bool:
        """Have the table that is read be the one that was built; False as `move`."""
        values = {
            "version": built.version,
            "fingerprint": built.fingerprint,
            "generation": live.generation + 1,
            "position": built.position,
            "drift": 0,
            "checked_at": datetime.now(UTC),
        }
        is_replaced = self._changed(connection, live, values | self._moved())
        self.remove(connection, built)
        return is_replaced

    def remove(self, connection: Connection, checkpoint: Checkpoint) -> bool:
        """Forget it, wherever it is by now; False where it is another table's."""
        statement = self._of(checkpoint.projection, checkpoint.target, delete(self._table))
        is_the_same = self._table.c.generation == checkpoint.generation
        return bool(connection.execute(statement.where(is_the_same)).rowcount)

    def lock(self, connection: Connection, projection: str, target: Target) -> Checkpoint | None:
        """The checkpoint, which stands still until the transaction ends."""
        statement = self._of(projection, target, select(*self._table.columns))
        found = self._found(connection.execute(statement.with_for_update()).all())
        return found[0] if found else None

    def _changed(
        self, connection: Connection, checkpoint: Checkpoint, values: Mapping[str, Any]
    ) -> bool:
        statement = self._of(checkpoint.projection, checkpoint.target, update(self._table))
        where_it_was = (
            self._table.c.generation == checkpoint.generation,
            self._table.c.position == checkpoint.position,
        )
        return bool(connection.execute(statement.where(*where_it_was).values(values)).rowcount)

    def _of(self, projection: str, target: Target, statement: Any) -> Any:
        return statement.where(
            self._table.c.projection == projection, self._table.c.target == target
        )

    def _moved(self) -> dict[str, Any]:
        return {"moved_at": datetime.now(UTC), "moved_by": self._by}

    def _found(self, rows: Sequence[Any]) -> list[Checkpoint]:
        return [
            Checkpoint(**dict(zip(self._table.columns.keys(), row, strict=True))) for row in rows
        ]
