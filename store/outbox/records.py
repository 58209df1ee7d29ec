"""What is in the outbox: how it stands, what was given up, who waits behind what."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Boolean, Integer, String, select, text
from sqlalchemy.types import TypeEngine

from store.archived import Archived
from store.database import Database
from store.database.claiming import Status
from store.errors import RecordNotFound
from store.identifiers import is_storable
from store.records import Event
from store.tables import Moment

COUNTED = 100_000
"""More than so many are counted as so many: it is a matter of milliseconds to tell."""
PAGE = 100

Action: TypeAlias = Literal["redrive", "skip"]


class Record(Struct, frozen=True, kw_only=True):
    """An event to be published, and what became of it so far.

    While it is open, later events of its aggregate wait for it. `leased_by` is the relay that had
    it last, and has it now where it is `in_flight`. `finished_at` is when it was published, given
    up or skipped. What is told of the event is None where that is not at hand.
    """

    aggregate_id: str
    version: int
    position: int
    event_id: UUID
    aggregate_type: str | None
    event_type: str | None
    occurred_at: datetime | None
    status: Status
    is_open: bool
    in_flight: bool
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    attempted_at: datetime | None
    finished_at: datetime | None
    leased_by: str | None
    leased_until: datetime | None
    error: str | None

    @property
    def reason(self) -> str | None:
        """The error's last line."""
        return None if self.error is None else last_line(self.error)


class Head(Struct, frozen=True, kw_only=True):
    """The first open record of an aggregate, and how many wait `behind` it: up to `COUNTED`."""

    record: Record
    behind: int


class Standing(Struct, frozen=True, kw_only=True):
    """How many records there are, of each kind up to `COUNTED`.

    Where more than that are open `is_bounded` says so: at least so many are pending then, due, in
    flight and waiting. Of those pending, some are `due`, some `in_flight` with a relay, and others
    `waiting`: for their next attempt, or behind one that is not due. `failed` are dead letters.
    `published` have not been trimmed yet. `oldest_seconds` is the age of the oldest open record,
    and `held` the dead letter for which an aggregate has waited longest.
    """

    pending: int
    due: int
    in_flight: int
    waiting: int
    failed: int
    skipped: int
    published: int
    is_bounded: bool
    oldest_seconds: float | None
    held: Head | None


class Operation(Struct, frozen=True):
    """What somebody did to a record, and why."""

    id: int
    occurred_at: datetime
    actor: str
    action: Action
    aggregate_id: str
    version: int
    reason: str


class Outbox:
    """The outbox of a store, for people. Safe to share between threads.

    Times are told by the database's clock, as relays take them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def standing(self) -> Standing:
        """How it stands; what is counted is bounded, so the page of it opens as fast on any."""
        [row] = self._rows(_STANDING, _STANDING_TYPES, {"counted": COUNTED})
        pending, due, in_flight, looked_at, failed, skipped, published, now, oldest = row
        held = self._heads(_LONGEST_HELD, {"counted": COUNTED})
        return Standing(
            pending=pending,
            due=due,
            in_flight=in_flight,
            waiting=pending - due - in_flight,
            failed=failed,
            skipped=skipped,
            published=published,
            is_bounded=looked_at == COUNTED,
            oldest_seconds=None if oldest is None else (now - oldest).total_seconds(),
            held=held[0] if held else None,
        )

    def failed(
        self, *, after: tuple[str, int] | None = None, limit: int = PAGE
    ) -> Sequence[Record]:
        """The dead letters behind a given aggregate id and version, in that order."""
        return self._page("failed", after, limit)

    def skipped(
        self, *, after: tuple[str, int] | None = None, limit: int = PAGE
    ) -> Sequence[Record]:
        """Those that were skipped, as `failed`."""
        return self._page("skipped", after, limit)

    def heads(self, *, after: str = "", limit: int = PAGE, held: bool = False) -> Sequence[Head]:
        """The first open record of each aggregate behind the id `after`, by id.

        With `held` only those of aggregates that wait for a dead letter.
        """
        sql = _HELD if held else _HEADS
        return self._heads(sql, {"after": after, "limit": limit, "counted": COUNTED})

    def record(self, aggregate_id: str, version: int) -> Record:
        """The record of an event.

        Raises:
            RecordNotFound: it never had one, or that was trimmed.
        """
        found = self.records(aggregate_id, after=version - 1, limit=1)
        if not found or found[0].version != version:
            raise RecordNotFound(aggregate_id, version)
        return found[0]

    def records(self, aggregate_id: str, *, after: int = 0, limit: int = PAGE) -> Sequence[Record]:
        """Those of an aggregate behind the version `after`, in the order of versions."""
        if not is_storable(aggregate_id):
            return []
        parameters = {"aggregate_id": aggregate_id, "after": after, "limit": limit}
        return self._records(self._rows(_OF_AGGREGATE, _TYPES, parameters))

    def operations(
        self, aggregate_id: str | None = None, *, before: int | None = None, limit: int = PAGE
    ) -> Sequence[Operation]:
        """What was done by hand, the newest first: all of it, or to the records of an aggregate.

        `before` is the id of an operation; those that came before it follow.
        """
        table = self._database.tables.tables["operations"]
        query = select(*(table.c[name] for name in Operation.__struct_fields__))
        if aggregate_id is not None:
            query = query.where(table.c.aggregate_id == aggregate_id)
        if before is not None:
            query = query.where(table.c.id < before)
        query = query.order_by(table.c.id.desc()).limit(limit)
        return [Operation(*row) for row in self._database.select(query)]

    def _page(self, which: str, after: tuple[str, int] | None, limit: int) -> Sequence[Record]:
        aggregate_id, version = after or ("", 0)
        parameters = {"aggregate_id": aggregate_id, "version": version, "limit": limit}
        return self._records(self._rows(_PAGE.format(which), _TYPES, parameters))

    def _heads(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Head]:
        rows = self._rows(sql, {**_TYPES, "behind": Integer()}, parameters)
        records = self._records([row[:-1] for row in rows])
        return [
            Head(record=record, behind=row[-1]) for record, row in zip(records, rows, strict=True)
        ]

    def _records(self, rows: Sequence[Sequence[Any]]) -> list[Record]:
        records = [_record(row) for row in rows]
        missing = {(r.aggregate_id, r.version) for r in records if r.event_type is None}
        if not missing:
            return records
        with self._database.snapshot() as connection:
            archived = Archived(self._database).at(missing, connection)
        return [_of_event(record, archived) for record in records]

    def _rows(
        self, sql: str, types: Mapping[str, TypeEngine[Any]], parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        # In words: an index of open records is only found by the words it was made with.
        query = text(sql.replace("{now}", self._database.now)).bindparams(**parameters)
        return self._database.select(query.columns(**types))


def last_line(error: str) -> str:
    """What a traceback comes to."""
    return error.strip().rpartition("\n")[2]


_TYPES: Mapping[str, TypeEngine[Any]] = {
    "aggregate_id": String(),
    "version": Integer(),
    "position": Integer(),
    "event_id": String(),
    "aggregate_type": String(),
    "event_type": String(),
    "occurred_at": Moment(),
    "status": String(),
    "is_open": Boolean(),
    "in_flight": Boolean(),
    "attempts": Integer(),
    "created_at": Moment(),
    "next_attempt_at": Moment(),
    "attempted_at": Moment(),
    "finished_at": Moment(),
    "leased_by": String(),
    "leased_until": Moment(),
    "error": String(),
}
_COLUMNS = """
    o.aggregate_id, o.version, o.position, o.event_id, e.aggregate_type, e.event_type,
    e.occurred_at, o.status, o.open AS is_open,
    (o.status = 'pending' AND coalesce(o.leased_until > {now}, false)) AS in_flight, o.attempts,
    o.created_at, o.next_attempt_at, o.attempted_at, o.finished_at, o.leased_by, o.leased_until,
    o.last_error AS error
"""
_EVENT = "LEFT JOIN events e ON e.aggregate_id = o.aggregate_id AND e.version = o.version"
_BEHIND = """
    (
        SELECT count(*) FROM (
            SELECT 1 FROM outbox b
            WHERE b.open AND b.aggregate_id = o.aggregate_id AND b.version > o.version
            LIMIT :counted
        ) AS waits
    ) AS behind
"""
_OF_AGGREGATE = f"""
    SELECT {_COLUMNS} FROM outbox o {_EVENT}
    WHERE o.aggregate_id = :aggregate_id AND o.version > :after ORDER BY o.version LIMIT :limit
"""  # noqa: S608 (fixed fragments, as below)
_PAGE = f"""
    SELECT {_COLUMNS.replace("{now}", "{{now}}")} FROM outbox o {_EVENT}
    WHERE o.status = '{{}}' AND (o.aggregate_id, o.version) > (:aggregate_id, :version)
    ORDER BY o.aggregate_id, o.version LIMIT :limit
"""  # noqa: S608
_HELD = f"""
    SELECT {_COLUMNS}, {_BEHIND} FROM outbox o {_EVENT}
    WHERE o.status = 'failed' AND o.open AND o.aggregate_id > :after
    ORDER BY o.aggregate_id, o.version LIMIT :limit
"""  # noqa: S608
_LONGEST_HELD = f"""
    SELECT {_COLUMNS}, {_BEHIND} FROM outbox o {_EVENT}
    WHERE o.status = 'failed' AND o.open
    ORDER BY o.finished_at, o.aggregate_id, o.version LIMIT 1
"""  # noqa: S608
# From one aggregate to the next by the index, as relays do; the depth is the page's size.
_HEADS = f"""
    WITH RECURSIVE waiting (number, aggregate_id) AS (
        SELECT 1, min(aggregate_id) FROM outbox WHERE open AND aggregate_id > :after
        UNION ALL
        SELECT w.number + 1, (
            SELECT min(n.aggregate_id) FROM outbox n
            WHERE n.open AND n.aggregate_id > w.aggregate_id
        )
        FROM waiting w WHERE w.aggregate_id IS NOT NULL AND w.number < :limit
    )
    SELECT {_COLUMNS}, {_BEHIND}
    FROM waiting w JOIN outbox o ON o.aggregate_id = w.aggregate_id AND o.version = (
        SELECT min(p.version) FROM outbox p WHERE p.open AND p.aggregate_id = w.aggregate_id
    ) {_EVENT}
    ORDER BY w.number
"""  # noqa: S608


def _counted(status: str) -> str:
    found = f"SELECT 1 FROM outbox WHERE status = '{status}' LIMIT :counted"  # noqa: S608
    return f"(SELECT count(*) FROM ({found}) AS found) AS {status}"  # noqa: S608


_STANDING = f"""
    WITH lined AS (
        SELECT status, leased_until > {{now}} AS in_flight,
            first_value(
                status = 'pending' AND coalesce(next_attempt_at <= {{now}}, true)
                AND coalesce(leased_until <= {{now}}, true)
            ) OVER (PARTITION BY aggregate_id ORDER BY version) AS due
        FROM (
            SELECT * FROM outbox WHERE open ORDER BY aggregate_id, version LIMIT :counted
        ) AS looked_at
    )
    SELECT
        (SELECT count(*) FROM lined WHERE status = 'pending') AS pending,
        (SELECT count(*) FROM lined WHERE status = 'pending' AND due) AS due,
        (SELECT count(*) FROM lined WHERE status = 'pending' AND in_flight) AS in_flight,
        (SELECT count(*) FROM lined) AS looked_at,
        {_counted("failed")}, {_counted("skipped")}, {_counted("published")},
        {{now}} AS now, (SELECT min(created_at) FROM outbox WHERE open) AS oldest
"""  # noqa: S608
_NUMBERS = ("pending", "due", "in_flight", "looked_at", "failed", "skipped", "published")
_STANDING_TYPES: Mapping[str, TypeEngine[Any]] = {
    **dict.fromkeys(_NUMBERS, Integer()),
    "now": Moment(),
    "oldest": Moment(),
}


def _of_event(record: Record, archived: Mapping[tuple[str, int], Event]) -> Record:
    event = archived.get((record.aggregate_id, record.version))
    if event is None:
        return record
    return replace(
        record,
        aggregate_type=event.aggregate_type,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
    )


def _record(row: Sequence[Any]) -> Record:
    fields = dict(zip(_TYPES, row, strict=True))
    return Record(**fields | {"event_id": UUID(str(fields["event_id"]))})
