"""What is stored from a version on, and whether the event there is the one that is meant."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from store.database import Database
from store.identifiers import is_storable
from store.reader import HISTORY_BATCH

_GENERATION = """
    SELECT CAST(store_id AS text) || ':' || CAST(epoch AS text) FROM store_info
"""


class Tail(Struct, frozen=True, kw_only=True):
    """The rows behind a version; `more` says that there may be further ones.

    `mark` is of the event at the version: the store's generation and the event's id, None where
    there is no such event. `event_id` is of the last row, else of the event at the version.
    """

    mark: str | None = None
    event_id: str = ""
    rows: Sequence[Any] = ()
    more: bool = False


class Tails:
    """Reads tails. Safe to share between threads.

    A generation names the store and its epoch; in another one, nothing that was kept holds.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._generation: str | None = None
        self._history = self._sql(
            f"version, event_type, CASE WHEN version > {database.bind('version')}"
            f" THEN {database.json('data')} END",
            "event_version",
        )
        self._events = self._sql(database.event_columns)

    @property
    def generation(self) -> str:
        """The store's generation, as somebody read it last."""
        if self._generation is None:
            [(generation,)] = self._database.rows(_GENERATION, {})
            self._generation = str(generation)
        return self._generation

    def renew(self, generation: str) -> None:
        """The store is of that generation now."""
        self._generation = generation

    @cached_property
    def place(self) -> str:
        """What tells this database from a copy of it, which does not know that it is one."""
        return blake2b(self._database.place().encode(), digest_size=4).hexdigest()

    def history(self, aggregate_id: str, version: int) -> Tail:
        """The tail as `HistoryRow`s; in the fourth column they have their event's id.

        Behind version 0 the first of them has its aggregate's type and a space before that.
        """
        return self._read(self._history, aggregate_id, version, key=0, marked=3)

    def events(self, aggregate_id: str, version: int) -> Tail:
        """The tail as rows that `Database.event` reads."""
        return self._read(self._events, aggregate_id, version, key=1, marked=-1)

    def _read(self, sql: str, aggregate_id: str, version: int, *, key: int, marked: int) -> Tail:
        """The tail in rows with the version and the mark in these places."""
        if not is_storable(aggregate_id):
            return Tail()
        parameters = {"id": aggregate_id, "version": version, "size": HISTORY_BATCH}
        rows = self._database.rows(sql, parameters)
        if not rows:
            return Tail()
        is_there = rows[0][key] == version
        return Tail(
            mark=rows[0][marked] if is_there else None,
            event_id=rows[-1][marked].rpartition(" ")[2],
            rows=rows[1:] if is_there else rows,
            more=len(rows) == HISTORY_BATCH,
        )

    def _sql(self, *columns: str) -> str:
        bind = self._database.bind
        mark = f"""
            CASE version WHEN {bind("version")} THEN ({_GENERATION}) || ' '
                WHEN 1 THEN aggregate_type || ' ' ELSE '' END || CAST(event_id AS text)
        """
        chosen = ", ".join([columns[0], mark, *columns[1:]])
        return f"""
            SELECT {chosen} FROM events
            WHERE aggregate_id = {bind("id")} AND version >= {bind("version")}
            ORDER BY version LIMIT {bind("size")}
        """  # noqa: S608 (placeholders)
