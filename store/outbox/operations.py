"""What people do about records: try them again, or leave them out. Each is written down."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    Connection,
    Row,
    Select,
    Table,
    bindparam,
    literal_column,
    select,
    text,
    tuple_,
)

from store.database import Database
from store.errors import RecordNotFound, RecordRefused
from store.identifiers import check_text, is_storable
from store.outbox.records import Action

BATCH = 1_000
"""Records that are redriven in a transaction."""


class Redriven(Struct, frozen=True, kw_only=True):
    """A record that will be tried again; `late` where later events may have been published."""

    aggregate_id: str
    version: int
    late: bool


class Operations:
    """Changes records on behalf of `actor`. Safe to share between threads.

    What is changed, and by whom and why, is one transaction. Relays are told.
    """

    def __init__(self, database: Database, *, actor: str) -> None:
        self._database = database
        self._actor = check_text("actor", actor)
        self._table = database.tables.tables["outbox"]

    def redrive(self, aggregate_id: str, version: int, *, reason: str) -> Redriven:
        """Have a dead letter, or what was skipped, tried again as if for the first time.

        Raises:
            RecordNotFound: there is no such record.
            RecordRefused: it is pending, perhaps with a relay just now, or published.
            InvalidEvent: a reason of control characters, or none.
        """
        check_text("reason", reason)
        with self._database.transaction() as connection:
            found = self._lock(connection, aggregate_id, version)
            if found.status not in {"failed", "skipped"}:
                raise _refused(found)
            self._redrive(connection, [found], reason)
        self._database.notify()
        return _redriven(found)

    def redrive_dead(
        self,
        aggregate_id: str | None = None,
        *,
        reason: str,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Sequence[Redriven]:
        """Have all dead letters tried again, or those of an aggregate; not what was skipped.

        Each `BATCH` of them is a transaction, of which `progress` hears.

        Raises:
            InvalidEvent: a reason of control characters, or none.
        """
        check_text("reason", reason)
        redriven: list[Redriven] = []
        for found in self._redrive_batches(aggregate_id, reason):
            self._database.notify()
            redriven += map(_redriven, found)
            progress(len(found))
        return redriven

    def skip(self, aggregate_id: str, version: int, *, reason: str) -> None:
        """Never publish an event: what waits for it goes on.

        Raises:
            RecordNotFound: there is no such record.
            RecordRefused: a relay has it just now, or it is published or skipped.
            InvalidEvent: a reason of control characters, or none.
        """
        check_text("reason", reason)
        with self._database.transaction() as connection:
            found = self._lock(connection, aggregate_id, version)
            if found.in_flight or found.status not in {"failed", "pending"}:
                raise _refused(found)
            changed = {"status": "skipped", "open": False, "finished_at": self._now}
            self._change(connection, [found], changed)
            self._note(connection, [found], "skip", reason)
        self._database.notify()

    def _redrive_batches(
        self, aggregate_id: str | None, reason: str
    ) -> Iterator[Sequence[Row[Any]]]:
        c = self._table.c
        after = ("", 0)
        while True:
            wanted = self._records().where(text("outbox.status = 'failed'"))
            wanted = wanted.where(tuple_(c.aggregate_id, c.version) > after)
            if aggregate_id is not None:
                wanted = wanted.where(c.aggregate_id == aggregate_id)
            wanted = wanted.order_by(c.aggregate_id, c.version).limit(BATCH)
            with self._database.transaction() as connection:
                found = connection.execute(wanted).all()
                self._redrive(connection, found, reason)
            if not found:
                return
            yield found
            after = (found[-1].aggregate_id, found[-1].version)

    def _lock(self, connection: Connection, aggregate_id: str, version: int) -> Row[Any]:
        if not is_storable(aggregate_id):
            raise RecordNotFound(aggregate_id, version)
        c = self._table.c
        wanted = self._records().where(c.aggregate_id == aggregate_id, c.version == version)
        found = connection.execute(wanted).one_or_none()
        if found is None:
            raise RecordNotFound(aggregate_id, version)
        return found

    def _records(self) -> Select[Any]:
        """Records as nobody else can change them until the transaction ends."""
        c = self._table.c
        leased = f"coalesce(outbox.leased_until > {self._database.now}, false)"
        return select(
            *(c.aggregate_id, c.version, c.status, c.leased_by, c.leased_until),
            literal_column(leased).label("in_flight"),
            literal_column(_IS_LATE).label("late"),
        ).with_for_update()

    def _redrive(self, connection: Connection, found: Sequence[Row[Any]], reason: str) -> None:
        changed = {"status": "pending", "open": True, "attempts": 0, "finished_at": None}
        self._change(connection, found, changed)
        self._note(connection, found, "redrive", reason)

    def _change(
        self, connection: Connection, found: Sequence[Row[Any]], changed: dict[str, Any]
    ) -> None:
        if not found:
            return
        c = self._table.c
        wanted = (c.aggregate_id == bindparam("id"), c.version == bindparam("number"))
        changed |= {"next_attempt_at": None, "lease": None, "leased_until": None}
        keys = [{"id": each.aggregate_id, "number": each.version} for each in found]
        connection.execute(self._table.update().where(*wanted).values(changed), keys)

    def _note(
        self, connection: Connection, found: Sequence[Row[Any]], action: Action, reason: str
    ) -> None:
        operations: Table = self._database.tables.tables["operations"]
        rows = [
            {
                "actor": self._actor,
                "action": action,
                "aggregate_id": each.aggregate_id,
                "version": each.version,
                "reason": reason,
            }
            for each in found
        ]
        if rows:
            connection.execute(operations.insert().values(occurred_at=self._now), rows)

    @property
    def _now(self) -> Any:
        return literal_column(self._database.now)


# While a record is open nothing behind it was published. What was is trimmed after a while.
_IS_LATE = """
    (
        NOT outbox.open AND (
            EXISTS (
                SELECT 1 FROM events e
                LEFT JOIN outbox o ON o.aggregate_id = e.aggregate_id AND o.version = e.version
                WHERE e.aggregate_id = outbox.aggregate_id AND e.version > outbox.version
                AND (o.status IS NULL OR o.status = 'published')
            ) OR (
                SELECT a.archived_through - outbox.version FROM aggregates a
                WHERE a.aggregate_id = outbox.aggregate_id
            ) > (
                SELECT count(*) FROM outbox o JOIN aggregates a ON a.aggregate_id = o.aggregate_id
                WHERE o.aggregate_id = outbox.aggregate_id AND o.version > outbox.version
                AND o.version <= a.archived_through AND o.status <> 'published'
            )
        )
    )
"""


def _redriven(found: Row[Any]) -> Redriven:
    return Redriven(aggregate_id=found.aggregate_id, version=found.version, late=bool(found.late))


def _refused(found: Row[Any]) -> RecordRefused:
    reason = f"it is {found.status} already" if found.status != "published" else "it is published"
    if found.status == "pending" and found.in_flight:
        until = found.leased_until.isoformat(sep=" ", timespec="seconds")
        reason = f"relay {found.leased_by} has it, until {until} at the latest"
    return RecordRefused(aggregate_id=found.aggregate_id, version=found.version, reason=reason)
