"""Events that a projection could not take: the one it waits at, and those it left out."""

import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct
from sqlalchemy import Connection, and_, delete, func, insert, or_, select

from store.database import Database
from store.projections.folding import Fault

PAGE = 100


class Failure(Struct, frozen=True, kw_only=True):
    """An event that a projection could not take, with the whole error.

    `skipped` tells whether it was left out; else the projection waits there. `handler` is None
    where the event could not be read.
    """

    projection: str
    position: int
    aggregate_id: str
    version: int
    event_type: str
    handler: str | None
    error: str
    failed_at: datetime
    skipped: bool

    @property
    def reason(self) -> str:
        """The error's last line."""
        return self.error.strip().rsplit("\n", 1)[-1]


class Failures:
    """What the projections of a store could not take. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._table = database.tables.tables["projection_failures"]

    def of(
        self,
        projection: str,
        *,
        after: int = 0,
        aggregate_id: str | None = None,
        limit: int = PAGE,
    ) -> Sequence[Failure]:
        """Those behind a position, of all aggregates or of one, in that order."""
        table = self._table
        query = select(*table.columns).where(
            table.c.projection == projection, table.c.position > after
        )
        if aggregate_id is not None:
            query = query.where(table.c.aggregate_id == aggregate_id)
        query = query.order_by(table.c.position).limit(limit)
        names = table.columns.keys()
        rows = self._database.select(query)
        return [Failure(**dict(zip(names, row, strict=True))) for row in rows]

    def waiting(self, projection: str, after: int) -> Failure | None:
        """The event that a projection waits at behind a position; None where it goes on.

        What one projector could not take, another may have passed, with newer code.
        """
        table = self._table
        query = select(*table.columns).where(
            table.c.projection == projection,
            table.c.skipped.is_(False),
            table.c.position > after,
        )
        names = table.columns.keys()
        rows = self._database.select(query)
        return Failure(**dict(zip(names, rows[0], strict=True))) if rows else None

    def skipped(self, projection: str) -> Sequence[int]:
        """The positions of the events that a projection left out."""
        table = self._table
        query = select(table.c.position).where(
            table.c.projection == projection, table.c.skipped.is_(True)
        )
        return [position for (position,) in self._database.select(query)]

    def counts(self) -> dict[tuple[str, bool], int]:
        """How many events each projection waits at (False), or skipped (True)."""
        table, checkpoints = self._table, self._database.tables.tables["checkpoints"]
        live = and_(checkpoints.c.projection == table.c.projection, checkpoints.c.target == "live")
        query = (
            select(table.c.projection, table.c.skipped, func.count())
            .join(checkpoints, live)
            .where(or_(table.c.skipped, table.c.position > checkpoints.c.position))
            .group_by(table.c.projection, table.c.skipped)
        )
        return {(row[0], bool(row[1])): row[2] for row in self._database.select(query)}

    def note(self, connection: Connection, projection: str, fault: Fault, *, skipped: bool) -> None:
        """Write down what happened, in place of what was known of that event."""
        event = fault.event
        self._remove(connection, projection, self._table.c.position == event.position)
        connection.execute(
            insert(self._table).values(
                projection=projection,
                position=event.position,
                aggregate_id=event.aggregate_id,
                version=event.version,
                event_type=event.event_type,
                handler=fault.handler,
                error="".join(traceback.format_exception(fault.error)).replace("\0", "\ufffd"),
                failed_at=datetime.now(UTC),
                skipped=skipped,
            )
        )

    def settle(self, connection: Connection, projection: str) -> None:
        """Forget where the projection waited: it went on."""
        self._remove(connection, projection, self._table.c.skipped.is_(False))

    def forget(self, connection: Connection, projection: str) -> None:
        """Forget all of them: the table was made anew."""
        self._remove(connection, projection)

    def _remove(self, connection: Connection, projection: str, *which: object) -> None:
        chosen = (self._table.c.projection == projection, *which)
        connection.execute(delete(self._table).where(*chosen))  # type: ignore[arg-type]
