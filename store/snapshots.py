"""Snapshots of states in the database: where a fold may begin instead of at the first event.

A snapshot is only ever a shortcut. It is used where its fold's fingerprint is this code's, it is as
it was written and the last event in it is the one that is stored; else the events are replayed.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
)

from store.comparison import faithful_json
from store.database import Database, Row
from store.digest import snapshot_digest
from store.domain import Aggregate, Domains
from store.errors import SnapshotAhead, SnapshotRefused
from store.folding import HistoryRow
from store.identifiers import is_storable
from store.reader import (
    HISTORY_BATCH,
    HISTORY_COLUMNS,
    EventReader,
    history_row,
    mark,
    mark_of,
)
from store.records import Event

_log = logging.getLogger(__name__)

KEPT = 2
"""How many snapshots of an aggregate stay, of each fold."""
UNSEEN = timedelta(days=7)
"""After so long without a process that has their fold, snapshots are pruned."""
_NOTED_FOR = 3_600.0
_BATCH = 1_000
_OF_A_SNAPSHOT = 0
"""What stands in the place of a row's schema version where it is a snapshot's."""


class Beginning(Struct, frozen=True, kw_only=True):
    """Where a fold begins: a state, None for the first event, and the rows that come next.

    `mark` tells the last event up to the last row. `more` says that there may be further rows,
    `ignored` what was wrong with a snapshot that was passed over.
    """

    aggregate_type: str | None = None
    state: Any = None
    version: int = 0
    mark: str = ""
    rows: Sequence[HistoryRow] = ()
    more: bool = False
    ignored: str | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """A snapshot, without its state; `own` says that it is of this code's fold."""

    aggregate_id: str
    aggregate_type: str | None
    version: int
    fingerprint: str
    own: bool
    bytes: int
    taken_at: datetime


class LoadCost(Struct, frozen=True, kw_only=True):
    """How many events a load of an aggregate folds now, behind its snapshot's version or 0."""

    aggregate_id: str
    aggregate_type: str
    version: int
    snapshot_version: int
    events: int


class _Begin(Struct, frozen=True):
    """The statement that reads a snapshot and what is behind it, and those that read them apart."""

    both: str
    snapshot: str
    behind: str


class Snapshots:
    """The snapshots of a store, for the folds of `domains`. Safe to share between threads.

    `types` are the aggregate types that have any; none where they are switched off.
    """

    def __init__(self, database: Database, domains: Domains, *, enabled: bool = True) -> None:
        self._database = database
        self._reader = EventReader(database, name="")
        self._enabled = enabled
        self._folds = {
            aggregate.fingerprint: aggregate
            for aggregate in domains.aggregates
            if aggregate.snapshot_every is not None
        }
        self.types = frozenset(
            aggregate.aggregate_type for aggregate in self._folds.values() if enabled
        )
        self._decoders = {
            fingerprint: msgspec.json.Decoder(aggregate.state_type).decode
            for fingerprint, aggregate in self._folds.items()
        }
        self._noted: dict[str, float] = {}
        self._fingerprints = {f"f{index}": name for index, name in enumerate(self._folds)}
        self._begin_parameters = {"size": HISTORY_BATCH, **self._fingerprints}
        self._begin_sql = {
            (bounded, marked): self._sql_to_begin(bounded=bounded, marked=marked)
            for bounded in (True, False)
            for marked in (True, False)
        }

    def begin(
        self, aggregate_id: str, to_version: int | None, *, marked: bool = False
    ) -> Beginning:
        """Where to begin a fold up to `to_version`, in one round trip; the mark costs extra.

        Where a snapshot is passed over there are no rows: the whole history is to be read.

        Raises:
            SnapshotAhead: the newest snapshot within the bound is of a version without an event.
        """
        if not is_storable(aggregate_id):
            return Beginning()
        parameters = self._begin_parameters | {"id": aggregate_id}
        if to_version is not None:
            parameters["to"] = self._database.value(to_version)
        sql = self._begin_sql[to_version is not None, marked]
        found, rows = self._front(parameters, sql)
        if not self._is_whole(aggregate_id, found, rows):
            found, rows = self._front_from_archive(parameters, found, to_version, marked=marked)
        more = len(rows) == HISTORY_BATCH
        last = ""
        if marked and rows:
            last, rows = rows[-1][-1] or "", [row[:-1] for row in rows]
        if found is None:
            return Beginning(rows=rows, more=more, mark=last)
        version, names, state, last_event, _, *last_in_it = found
        if last_event == "missing":
            raise self._ahead(aggregate_id, version)
        fingerprint, _, digest = names.partition(" ")
        read, wrong = self._read(aggregate_id, version, fingerprint, digest, bytes(state))
        if wrong is None and last_event == "another":
            wrong = "the last event in it is not the one that is stored"
        if wrong is not None:
            _log.warning(
                "snapshot of %r at version %s is ignored: %s", aggregate_id, version, wrong
            )
            return Beginning(version=version, ignored=wrong)
        return Beginning(
            aggregate_type=self._folds[fingerprint].aggregate_type,
            state=read,
            version=version,
            rows=rows,
            more=more,
            mark=last if rows else "".join(last_in_it),
        )

    def _front(self, parameters: dict[str, Any], sql: _Begin) -> tuple[Row | None, Sequence[Any]]:
        """The snapshot's row, if there is one, and the events' rows behind it."""
        database = self._database
        if database.is_remote:
            rows = database.rows(sql.both, parameters, at_once=True)
            of_snapshot = bool(rows) and rows[0][4] == _OF_A_SNAPSHOT
            return (rows[0], rows[1:]) if of_snapshot else (None, rows)
        # Nobody is waited for, and the simpler the statements the quicker. What is appended between
        # the two belongs behind the snapshot.
        found = database.rows(sql.snapshot, parameters)
        front = found[0] if found else None
        behind = parameters | {"after": front[0] if front else 0}
        return front, database.rows(sql.behind, behind)

    def _is_whole(self, aggregate_id: str, found: Row | None, rows: Sequence[Any]) -> bool:
        """Whether nothing of the history from the snapshot on is in the archive."""
        version, is_there = (0, True) if found is None else (found[0], found[3] != "missing")
        if is_there and rows and rows[0][0] == version + 1:
            return True
        if is_there and found is not None and not rows and self._database.is_remote:
            return True
        # Events may also have been archived while two statements asked, one after the other.
        return self._reader.archived.version(aggregate_id) < max(version, 1)

    def _front_from_archive(
        self,
        parameters: dict[str, Any],
        found: Row | None,
        to_version: int | None,
        *,
        marked: bool,
    ) -> tuple[Row | None, Sequence[Any]]:
        """See `_front`; of a history that is in the archive, or was moved there meanwhile."""
        version = 0 if found is None else found[0]
        size = HISTORY_BATCH + bool(version)
        stored = self._reader.events(
            parameters["id"], from_version=version, to_version=to_version, batch_size=size
        )
        events = list(islice(stored, size))
        at = events.pop(0) if version and events and events[0].version == version else None
        rows: Sequence[Any] = [history_row(event) for event in events]
        if marked:
            rows = [(*row, mark_of(event)) for row, event in zip(rows, events, strict=True)]
        if found is None:
            return None, rows
        front = list(found)
        front[3] = "missing" if at is None else self._compared(at, parameters["id"], front)
        if marked and at is not None:
            front[-1] = mark_of(at)
        return tuple(front), rows

    def _compared(self, event: Event, aggregate_id: str, front: Sequence[Any]) -> str:
        """What the query of a snapshot says of its last event, where it did not find that."""
        table = self._table
        fingerprint = front[1].partition(" ")[0]
        found = self._database.select(
            select(table.c.event_digest)
            .where(table.c.aggregate_id == aggregate_id, table.c.version == front[0])
            .where(table.c.fingerprint == fingerprint)
        )
        return "stored" if any(bytes(row[0]) == event.digest for row in found) else "another"

    def keep_if_due(
        self, aggregate: Aggregate[Any], aggregate_id: str, *, before: int, version: int, state: Any
    ) -> None:
        """Keep the state where the version has passed a multiple since `before`.

        What goes wrong is logged: the events are stored already.
        """
        every = aggregate.snapshot_every
        if not self._enabled or every is None or before // every == version // every:
            return
        try:
            self.keep(aggregate, aggregate_id, version=version, state=state)
        except Exception as error:  # noqa: BLE001 (no snapshot is worth a command)
            _log.warning("%s", _told(aggregate_id, version, error))

    def replace(
        self, aggregate: Aggregate[Any], aggregate_id: str, *, bad: int, version: int, state: Any
    ) -> None:
        """Keep the state in place of the snapshot at version `bad`; what goes wrong is logged."""
        try:
            self.keep(aggregate, aggregate_id, version=version, state=state)
            if bad != version:
                self._delete(aggregate_id, aggregate.fingerprint, bad)
        except Exception as error:  # noqa: BLE001 (the state was loaded all the same)
            _log.warning("%s", _told(aggregate_id, version, error))

    def keep(
        self, aggregate: Aggregate[Any], aggregate_id: str, *, version: int, state: Any
    ) -> None:
        """Store the state after event `version`; older ones of the fold than the newest two go.

        Raises:
            SnapshotRefused: it would not come back from JSON as it is.
            SnapshotAhead: there is no such event any more.
        """
        encoded = _encoded(aggregate, aggregate_id, version, state)
        fingerprint = aggregate.fingerprint
        now = datetime.now(UTC)
        named = {"id": aggregate_id, "version": version, "fingerprint": fingerprint}
        parameters = named | {
            "upcasters": aggregate.upcasting.fingerprint,
            "state": encoded.decode(),
            "digest": snapshot_digest(
                aggregate_id=aggregate_id, version=version, fingerprint=fingerprint, state=encoded
            ),
            "now": self._database.value(now),
            "archived": None,
        }
        if not self._insert(parameters):
            parameters["archived"] = self._archived_digest(aggregate_id, version)
            if not self._insert(parameters):
                raise self._ahead(aggregate_id, version)
        self._note(aggregate)

    def _insert(self, parameters: dict[str, Any]) -> bool:
        """Whether the last event in it is active, or its digest is given; else nothing is kept."""
        bind = self._database.bind
        sql = f"""
            INSERT INTO snapshots (
                aggregate_id, version, fingerprint, upcasters, state, digest, event_digest, taken_at
            )
            SELECT {bind("id")}, {bind("version")}, {bind("fingerprint")}, {bind("upcasters")},
                {bind("state")}, {bind("digest")}, last.digest, {bind("now")}
            FROM (
                SELECT coalesce({bind("archived")}, (
                    SELECT digest FROM events
                    WHERE aggregate_id = {bind("id")} AND version = {bind("version")}
                )) AS digest
            ) AS last WHERE last.digest IS NOT NULL
            ON CONFLICT (aggregate_id, version, fingerprint) DO UPDATE SET
                upcasters = excluded.upcasters, state = excluded.state, digest = excluded.digest,
                event_digest = excluded.event_digest, taken_at = excluded.taken_at
            RETURNING version
        """  # noqa: S608 (placeholders)
        older = f"""
            DELETE FROM snapshots WHERE aggregate_id = {bind("id")}
            AND fingerprint = {bind("fingerprint")} AND version < (
                SELECT version FROM snapshots WHERE aggregate_id = {bind("id")}
                AND fingerprint = {bind("fingerprint")}
                ORDER BY version DESC LIMIT 1 OFFSET {KEPT - 1}
            ) RETURNING version
        """  # noqa: S608 (placeholders)
        with self._database.transaction() as connection:
            kept = self._database.rows(sql, parameters, connection)
            self._database.rows(older, parameters, connection)
        return bool(kept)

    def _archived_digest(self, aggregate_id: str, version: int) -> bytes | None:
        """The digest of an event that is not active, if there is one."""
        stored = self._reader.events(aggregate_id, from_version=version, to_version=version)
        return next((event.digest for event in stored), None)

    def list(self, aggregate_id: str | None = None) -> Iterator[Snapshot]:
        """Those of one aggregate, or all, by aggregate and version."""
        table, heads = self._table, self._database.tables.tables["aggregates"]
        key = (table.c.aggregate_id, table.c.version, table.c.fingerprint)
        size: ColumnElement[int] = literal_column(self._database.size("snapshots.state"))
        query = (
            select(*key, heads.c.aggregate_type, size, table.c.taken_at)
            .join_from(table, heads, heads.c.aggregate_id == table.c.aggregate_id, isouter=True)
            .order_by(*key)
            .limit(_BATCH)
        )
        if aggregate_id is not None:
            query = query.where(table.c.aggregate_id == aggregate_id)
        page = query
        while rows := self._database.select(page):
            for row in rows:
                yield Snapshot(
                    aggregate_id=row[0],
                    version=row[1],
                    fingerprint=row[2],
                    own=row[2] in self._folds,
                    aggregate_type=row[3],
                    bytes=row[4],
                    taken_at=row[5],
                )
            if len(rows) < _BATCH:
                return
            page = query.where(tuple_(*key) > tuple_(*rows[-1][:3]))

    def latest(self, limit: int) -> Sequence[str]:
        """The ids of the aggregates that own snapshots were taken of last."""
        table = self._table
        taken = func.max(table.c.taken_at)
        query = (
            select(table.c.aggregate_id)
            .where(table.c.fingerprint.in_(self._folds))
            .group_by(table.c.aggregate_id)
            .order_by(taken.desc())
            .limit(limit)
        )
        return [row[0] for row in self._database.select(query)]

    def due(self) -> Iterator[str]:
        """The ids of aggregates that have passed a multiple since their newest own snapshot."""
        heads = self._database.tables.tables["aggregates"]
        for aggregate in self._folds.values():
            query = self._due(aggregate).order_by(heads.c.aggregate_id).limit(_BATCH)
            after = ""
            while rows := self._database.select(query.where(heads.c.aggregate_id > after)):
                yield from (row[0] for row in rows)
                after = rows[-1][0]

    def passed(self, after: int, until: int) -> Iterator[str]:
        """Those `due` that passed their multiple after one position and up to another."""
        heads, events = (self._database.tables.tables[name] for name in ("aggregates", "events"))
        for aggregate in self._folds.values():
            passing = (
                select(events.c.aggregate_id)
                .where(events.c.position > after, events.c.position <= until)
                .where(events.c.aggregate_type == aggregate.aggregate_type)
                .where(events.c.version % aggregate.snapshot_every == 0)
            )
            query = self._due(aggregate).where(heads.c.aggregate_id.in_(passing))
            yield from (row[0] for row in self._database.select(query))

    def costs(self, limit: int) -> Sequence[LoadCost]:
        """The aggregates whose loads fold the most events now. Looks at every aggregate's head."""
        heads, table = self._database.tables.tables["aggregates"], self._table
        newest = (
            select(func.max(table.c.version))
            .where(table.c.aggregate_id == heads.c.aggregate_id)
            .where(table.c.fingerprint.in_(self._folds))
            .scalar_subquery()
        )
        begun = func.coalesce(newest, 0).label("begun")
        events = (heads.c.version - func.coalesce(newest, 0)).label("events")
        query = (
            select(heads.c.aggregate_id, heads.c.aggregate_type, heads.c.version, begun, events)
            .order_by(events.desc(), heads.c.aggregate_id)
            .limit(limit)
        )
        return [
            LoadCost(
                aggregate_id=row[0],
                aggregate_type=row[1],
                version=row[2],
                snapshot_version=row[3],
                events=row[4],
            )
            for row in self._database.select(query)
        ]

    def newest(self, aggregate_ids: Sequence[str]) -> dict[str, int]:
        """The version of the newest own snapshot of each of the aggregates that have one."""
        table = self._table
        found: dict[str, int] = {}
        for start in range(0, len(aggregate_ids), _BATCH):
            query = (
                select(table.c.aggregate_id, func.max(table.c.version))
                .where(table.c.aggregate_id.in_(aggregate_ids[start : start + _BATCH]))
                .where(table.c.fingerprint.in_(self._folds))
                .group_by(table.c.aggregate_id)
            )
            found.update((row[0], row[1]) for row in self._database.select(query))
        return found

    def drop(self, aggregate_id: str | None = None) -> int:
        """Remove those of one aggregate, or all, whatever their fold; how many there were."""
        table = self._table
        return self._remove([] if aggregate_id is None else [table.c.aggregate_id == aggregate_id])

    def prune(self) -> int:
        """Remove those of folds that no process has had for a while; how many there were.

        This process has its own.
        """
        for aggregate in self._folds.values():
            self._note(aggregate)
        folds = self._database.tables.tables["folds"]
        unseen = [
            row[0]
            for row in self._database.select(
                select(folds.c.fingerprint).where(folds.c.seen_at < datetime.now(UTC) - UNSEEN)
            )
        ]
        if not unseen:
            return 0
        removed = self._remove([self._table.c.fingerprint.in_(unseen)])
        with self._database.transaction() as connection:
            connection.execute(delete(folds).where(folds.c.fingerprint.in_(unseen)))
        return removed

    def _due(self, aggregate: Aggregate[Any]) -> Select[tuple[str]]:
        heads, table = self._database.tables.tables["aggregates"], self._table
        every = aggregate.snapshot_every
        newest = exists().where(
            table.c.aggregate_id == heads.c.aggregate_id,
            table.c.fingerprint == aggregate.fingerprint,
            table.c.version >= heads.c.version - heads.c.version % every,
        )
        return (
            select(heads.c.aggregate_id)
            .where(heads.c.aggregate_type == aggregate.aggregate_type)
            .where(heads.c.version >= every, ~newest)
        )

    @property
    def _table(self) -> Table:
        return self._database.tables.tables["snapshots"]

    def _sql_to_begin(self, *, bounded: bool, marked: bool) -> _Begin:
        bind = self._database.bind
        until = f"AND version <= {bind('to')}" if bounded else ""
        newest = f"""
            SELECT version, fingerprint, digest, state, event_digest FROM snapshots
            WHERE aggregate_id = {bind("id")} {until}
            AND fingerprint IN ({", ".join(map(bind, self._fingerprints))})
            ORDER BY version DESC LIMIT 1
        """  # noqa: S608 (placeholders)
        mark_of_all = f", {mark(self._database)}" if marked else ""
        snapshot = f"""
            SELECT n.version, n.fingerprint || ' ' || n.digest, {self._database.json("n.state")},
                CASE WHEN e.digest IS NULL THEN 'missing'
                    WHEN e.digest = n.event_digest THEN 'stored' ELSE 'another' END,
                {_OF_A_SNAPSHOT} {mark_of_all}
            FROM {{newest}} AS n
            LEFT JOIN events AS e ON e.aggregate_id = {bind("id")} AND e.version = n.version
        """  # noqa: S608 (placeholders)
        # To make the mark takes longer than to read the row, so only the last one gets it.
        is_last = f"""
            version = {{after}} + {bind("size")}
            OR version = (SELECT version FROM aggregates WHERE aggregate_id = {bind("id")})
        """  # noqa: S608 (placeholders)
        mark_of_last = f", CASE WHEN {is_last} THEN {mark(self._database)} END" if marked else ""
        behind = f"""
            SELECT {HISTORY_COLUMNS} {mark_of_last} FROM events
            WHERE aggregate_id = {bind("id")} {until} AND version > {{after}}
            ORDER BY version LIMIT {bind("size")}
        """  # noqa: S608 (placeholders)
        after = "coalesce((SELECT version FROM newest), 0)"
        return _Begin(
            both=f"""
                WITH newest AS ({newest}) {snapshot.format(newest="newest")}
                UNION ALL
                SELECT * FROM ({behind.format(after=after)}) AS later
                ORDER BY 1
            """,  # noqa: S608 (placeholders)
            snapshot=snapshot.format(newest=f"({newest})"),
            behind=behind.format(after=bind("after")),
        )

    def _read(
        self, aggregate_id: str, version: int, fingerprint: str, digest: str, state: bytes
    ) -> tuple[Any, str | None]:
        """The state, or why there is none."""
        expected = snapshot_digest(
            aggregate_id=aggregate_id, version=version, fingerprint=fingerprint, state=state
        )
        if digest != expected:
            return None, "it is not as it was written"
        try:
            return self._decoders[fingerprint](state), None
        except (msgspec.MsgspecError, RecursionError) as error:
            return None, f"it cannot be read: {error}"

    def _ahead(self, aggregate_id: str, version: int) -> SnapshotAhead:
        events = self._database.tables.tables["events"]
        newest = select(func.max(events.c.version)).where(events.c.aggregate_id == aggregate_id)
        [(found,)] = self._database.select(newest)
        archived = self._reader.archived.version(aggregate_id)
        newest_version = max(found or 0, archived)
        return SnapshotAhead(aggregate_id=aggregate_id, version=version, newest=newest_version)

    def _delete(self, aggregate_id: str, fingerprint: str, version: int) -> None:
        table = self._table
        self._remove(
            [
                table.c.aggregate_id == aggregate_id,
                table.c.fingerprint == fingerprint,
                table.c.version == version,
            ]
        )

    def _remove(self, conditions: Sequence[ColumnElement[bool]]) -> int:
        """In batches, for an SQLite writer holds up all others."""
        table = self._table
        key = (table.c.aggregate_id, table.c.version, table.c.fingerprint)
        some = select(*key).where(*conditions).limit(_BATCH)
        removed = 0
        while True:
            with self._database.transaction() as connection:
                count = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
            removed += count
            if count < _BATCH:
                return removed

    def _note(self, aggregate: Aggregate[Any]) -> None:
        """Leave word, once an hour, that a process has this fold."""
        fingerprint, now = aggregate.fingerprint, time.monotonic()
        if now < self._noted.get(fingerprint, 0.0):
            return
        bind = self._database.bind
        sql = f"""
            INSERT INTO folds (fingerprint, aggregate_type, seen_at)
            VALUES ({bind("fingerprint")}, {bind("type")}, {bind("now")})
            ON CONFLICT (fingerprint) DO UPDATE SET seen_at = excluded.seen_at
            RETURNING fingerprint
        """  # noqa: S608 (placeholders)
        named = {"fingerprint": fingerprint, "type": aggregate.aggregate_type}
        with self._database.transaction() as connection:
            moment = self._database.value(datetime.now(UTC))
            self._database.rows(sql, named | {"now": moment}, connection)
        self._noted[fingerprint] = now + _NOTED_FOR


def _encoded(aggregate: Aggregate[Any], aggregate_id: str, version: int, state: Any) -> bytes:
    try:
        return faithful_json(state, aggregate.state_type)
    except ValueError as error:
        raise SnapshotRefused(
            aggregate_id=aggregate_id, version=version, reason=f"the state {error}"
        ) from error


def _told(aggregate_id: str, version: int, error: Exception) -> str:
    if isinstance(error, SnapshotRefused):
        return str(error)
    return f"snapshot of {aggregate_id!r} at version {version} is not kept: {error}"
