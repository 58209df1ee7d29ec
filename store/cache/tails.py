"""What is stored from a version on, and whether the event there is the one that is meant."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from store.database import Database
from store.identifiers import is_storable
from store.reader import HISTORY_BATCH, EventReader, history_row, mark, mark_of
from store.records import Event

_HISTORY_COLUMNS = 5
_GENERATION = "SELECT CAST(store_id AS text), epoch FROM store_info"


class Generation(Struct, frozen=True):
    """A store, in one place, and its epoch: in another one nothing that was kept holds.

    A copied database has the same id, and lies elsewhere.
    """

    store_id: str
    place: str
    epoch: int

    @property
    def key(self) -> str:
        """What keys of what was kept begin with."""
        return f"{self.store_id}:{self.epoch}@{self.place}"


class Tail(Struct, frozen=True):
    """The rows behind a version; `more` says that there may be further ones.

    `epoch` is the store's, and `at` the mark of the event at the version, None where there is none.
    `last` is the mark of the last event, of those behind it or else of that.
    """

    epoch: int | None = None
    at: str | None = None
    last: str = ""
    rows: Sequence[Any] = ()
    more: bool = False


class Tails:
    """Reads tails. Safe to share between threads.

    `generation` is the store's, and `commits` the number of commits, as somebody read them last.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reader = EventReader(database, name="")
        self.commits: int | None = None
        [(store_id, epoch)] = database.rows(_GENERATION, {})
        place = blake2b(database.place().encode(), digest_size=4).hexdigest()
        self.generation = Generation(store_id, place, epoch)
        bind = database.bind
        where = f"""
            FROM events WHERE aggregate_id = {bind("id")} AND version >= {bind("version")}
            ORDER BY version LIMIT {bind("size")}
        """
        asked = f"{mark(database)}, (SELECT epoch FROM store_info)"  # noqa: S608 (no value in it)
        # What is known already may be large.
        data = f"CASE WHEN version > {bind('version')} THEN {database.json('data')} END"
        kind = "CASE WHEN version = 1 THEN aggregate_type END"
        columns = f"version, event_type, {data}, {kind}, event_version"
        self._history = f"SELECT {columns}, {asked} {where}"
        self._events = f"SELECT {database.event_columns}, {asked} {where}"

    def renew(self, epoch: int) -> None:
        """The store is in that epoch now."""
        known = self.generation
        self.generation = Generation(known.store_id, known.place, epoch)

    def look(self) -> int | None:
        """The number of commits as it is now; see `Database.commits`."""
        self.commits = commits = self._database.commits()
        return commits

    def history(self, aggregate_id: str, version: int) -> Tail:
        """The tail as `HistoryRow`s."""
        rows = self._rows(self._history, aggregate_id, version)
        if not self._is_whole(aggregate_id, rows, version, key=0):
            return self._from_archive(aggregate_id, version, history_row)
        if len(rows) == 1 and rows[0][0] == version:
            return Tail(rows[0][-1], rows[0][-2], rows[0][-2])
        return _tail(rows, version, key=0, columns=_HISTORY_COLUMNS)

    def events(self, aggregate_id: str, version: int) -> Tail:
        """The tail as `Event`s."""
        rows = self._rows(self._events, aggregate_id, version)
        if not self._is_whole(aggregate_id, rows, version, key=1):
            return self._from_archive(aggregate_id, version, lambda event: event)
        tail = _tail(rows, version, key=1, columns=-2)
        return replace(tail, rows=list(map(self._database.event, tail.rows)))

    def _is_whole(self, aggregate_id: str, rows: Sequence[Any], version: int, *, key: int) -> bool:
        """Whether nothing from that version on is in the archive."""
        if rows and rows[0][key] == max(version, 1):
            return True
        return self._reader.archived.version(aggregate_id) < max(version, 1)

    def _from_archive(self, aggregate_id: str, version: int, made: Callable[[Event], Any]) -> Tail:
        """The tail of a history that is in the archive, or was moved there meanwhile."""
        [(_, epoch)] = self._database.rows(_GENERATION, {})
        stored = self._reader.events(aggregate_id, from_version=version, batch_size=HISTORY_BATCH)
        events = list(islice(stored, HISTORY_BATCH))
        if not events:
            return Tail()
        is_there = events[0].version == version
        return Tail(
            epoch=epoch,
            at=mark_of(events[0]) if is_there else None,
            last=mark_of(events[-1]),
            rows=[made(event) for event in events[is_there:]],
            more=len(events) == HISTORY_BATCH,
        )

    def _rows(self, sql: str, aggregate_id: str, version: int) -> Sequence[Any]:
        if not is_storable(aggregate_id):
            return ()
        parameters = {"id": aggregate_id, "version": version, "size": HISTORY_BATCH}
        return self._database.rows(sql, parameters, at_once=True)


def _tail(rows: Sequence[Any], version: int, *, key: int, columns: int) -> Tail:
    """The tail in rows of so many columns, one of them the version, and two beside them."""
    if not rows:
        return Tail()
    first, last = rows[0], rows[-1]
    is_there = first[key] == version
    return Tail(
        epoch=first[-1],
        at=first[-2] if is_there else None,
        last=last[-2],
        rows=[row[:columns] for row in (rows[1:] if is_there else rows)],
        more=len(rows) == HISTORY_BATCH,
    )
