"""The newest conflicts of a store, from all its processes."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Select, Table, case, delete, func, literal_column, select

from store.conflict import NEEDLESS, Outcome, Verdict
from store.database import Database
from store.sources import start_of

KEPT = 100_000
"""How many rows stay; older ones go."""

Grouping: TypeAlias = Literal["aggregate", "command", "pair", "hour", "type"]
HOUR = timedelta(hours=1)
_BATCH = 500


class Winner(Struct, frozen=True, kw_only=True):
    """An event that was there first."""

    version: int
    event_type: str
    event_id: str
    command: str | None = None
    actor: str | None = None


class Logged(Struct, frozen=True, kw_only=True):
    """A conflict as it is kept.

    It stands for `weight` conflicts alike: under a storm not each has a row of its own. Where those
    are of several aggregates there is no `aggregate_id`. `losing` and `winning` name the commands,
    or the events where there were none; `winning` is the one that took the version which the loser
    expected to write.
    """

    occurred_at: datetime
    aggregate_type: str
    aggregate_id: str | None
    expected: int | None
    actual: int | None
    losing: str
    command: str | None
    event_types: tuple[str, ...]
    winning: str | None
    winners: tuple[Winner, ...]
    attempt: int
    outcome: Outcome
    verdict: Verdict
    actor: str | None
    correlation_id: str | None
    process: str
    weight: int = 1


class Conflicts(Struct, frozen=True, kw_only=True):
    """How many conflicts have a key; `needless` of them need not have been.

    The key is an aggregate's type and id, a losing command, that and the winning one, an hour, or
    an hour and an aggregate type, as they were asked for; what is not known is None. `last_at` and
    `last_version` say when and behind which version the newest of them came.
    """

    key: tuple[str | datetime | None, ...]
    detected: int
    absorbed: int
    escaped: int
    needless: int
    last_at: datetime
    last_version: int | None = None


class ConflictLog:
    """The table of conflicts. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, conflicts: Sequence[Logged]) -> None:
        """Add conflicts; the oldest go where there are too many."""
        table = self._table
        rows = [_row(conflict) for conflict in conflicts]
        with self._database.transaction() as connection:
            connection.execute(table.insert(), rows)
            newest = connection.scalar(select(func.max(table.c.id))) or 0
            connection.execute(delete(table).where(table.c.id <= newest - KEPT))

    def newest(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Logged]:
        """The newest conflicts, the newest first; `since` is inclusive, `until` exclusive."""
        table = self._table
        names = Logged.__struct_fields__
        query = select(*(table.c[name] for name in names)).where(*self._within(since, until))
        query = query.order_by(table.c.occurred_at.desc(), table.c.id.desc()).limit(limit)
        return [_logged(dict(zip(names, row, strict=True))) for row in self._database.select(query)]

    def counts(
        self,
        by: Grouping,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
    ) -> Sequence[Conflicts]:
        """How many there are by key, most first; by hour in the order of time.

        `type` groups by hour and aggregate type.
        """
        keys = self._keys(by)
        query = self._tally(keys).where(*self._within(since, until))
        detected = func.sum(self._table.c.weight)
        order = keys if by in {"hour", "type"} else [detected.desc(), *keys]
        query = query.group_by(*keys).order_by(*order).limit(limit)
        return [_counted(row, len(keys), by) for row in self._database.select(query)]

    def _tally(self, keys: Sequence[ColumnElement[Any]]) -> Select[Any]:
        table = self._table

        def weight(condition: ColumnElement[bool]) -> ColumnElement[int]:
            return func.sum(case((condition, table.c.weight), else_=0))

        return select(
            *keys,
            func.sum(table.c.weight),
            weight(table.c.outcome == "absorbed"),
            weight(table.c.verdict.in_(NEEDLESS)),
            func.max(table.c.occurred_at),
            func.max(table.c.actual),
        )

    def _keys(self, by: Grouping) -> list[ColumnElement[Any]]:
        c = self._table.c
        # Whole: literals would be parameters, and so no longer the same in GROUP BY.
        hour: ColumnElement[int] = literal_column(
            f"({self._database.microseconds('conflicts.occurred_at')} / 3600000000)"
        )
        keys: Mapping[Grouping, list[ColumnElement[Any]]] = {
            "aggregate": [c.aggregate_type, c.aggregate_id],
            "command": [c.losing],
            "pair": [c.losing, c.winning],
            "hour": [hour],
            "type": [hour, c.aggregate_type],
        }
        return keys[by]

    def _within(
        self, since: datetime | None, until: datetime | None
    ) -> Sequence[ColumnElement[bool]]:
        moment = self._table.c.occurred_at
        bounds = []
        if since is not None:
            bounds.append(moment >= since)
        if until is not None:
            bounds.append(moment < until)
        return bounds

    @property
    def _table(self) -> Table:
        return self._database.tables.tables["conflicts"]


_TYPES = msgspec.json.Decoder(tuple[str, ...])
_WINNERS = msgspec.json.Decoder(tuple[Winner, ...])


def _row(conflict: Logged) -> dict[str, Any]:
    return {
        **structs.asdict(conflict),
        "event_types": msgspec.json.encode(conflict.event_types).decode(),
        "winners": msgspec.json.encode(conflict.winners).decode(),
    }


def _logged(row: dict[str, Any]) -> Logged:
    row["event_types"] = _TYPES.decode(row["event_types"])
    row["winners"] = _WINNERS.decode(row["winners"])
    return Logged(**row)


def _counted(row: Any, keys: int, by: Grouping) -> Conflicts:
    key, (detected, absorbed, needless, last_at, last_version) = tuple(row[:keys]), row[keys:]
    if by in {"hour", "type"}:
        key = (start_of(key[0], HOUR), *key[1:])
    return Conflicts(
        key=key,
        detected=int(detected),
        absorbed=int(absorbed),
        escaped=int(detected) - int(absorbed),
        needless=int(needless),
        last_at=last_at,
        last_version=last_version if by == "aggregate" else None,
    )
