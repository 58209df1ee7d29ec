"""The streams of an event table, page by page, by whatever index there is."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from store.database import Database
from store.errors import InvalidEvent
from store.identifiers import is_storable
from store.records import AggregateOrder, AggregatePage, AggregateSummary
from store.sources.foreign.layout import Condition, Layout
from store.sources.foreign.query import Query

LOOKED_AT = 10_000
"""How many streams, or events, a page is looked for among."""

Key: TypeAlias = tuple[Any, ...]
Candidate: TypeAlias = tuple[Key, str, bool]
"""A stream, the cursor that leads behind it, and whether it is wanted."""


class Listing:
    """Which streams there are. Safe to share between threads."""

    def __init__(self, database: Database, layout: Layout) -> None:
        self._database = database
        self._layout = layout
        self._events = f"{layout.table.sql} AS e"
        self._keys = ", ".join(f"e.{name}" for name in layout.key)

    def heads(self, keys: Sequence[Key]) -> list[AggregateSummary]:
        """The heads of streams, those without events left out, in the order of `keys`."""
        fields, query = self._layout.fields, Query(self._database)
        columns = zip(self._layout.key.values(), zip(*keys, strict=True), strict=True)
        arrays = ", ".join(f"{query.holder(list(values))}::{kind}[]" for kind, values in columns)
        same = " AND ".join(f"e.{name} = k.{name}" for name in self._layout.key)
        end = (
            f"SELECT {self._keys}, {fields.aggregate_id} AS shown, {fields.version} AS number,"  # noqa: S608 (placeholders)
            f" {fields.moment} AS moment FROM {self._events} WHERE {same}"
            f" ORDER BY {fields.version}"
        )
        rows = query.rows(
            f"SELECT e.shown, {fields.aggregate_type}, e.number, first.moment, e.moment"  # noqa: S608 (placeholders)
            f" FROM unnest({arrays}) WITH ORDINALITY AS k ({', '.join(self._layout.key)}, place)"
            f" CROSS JOIN LATERAL ({end} DESC LIMIT 1) AS e"
            f" CROSS JOIN LATERAL ({end} LIMIT 1) AS first ORDER BY k.place"
        )
        return [
            AggregateSummary(
                aggregate_id=row[0],
                aggregate_type=row[1],
                version=row[2],
                first_occurred_at=row[3],
                last_occurred_at=row[4],
                last_recorded_at=row[4],
            )
            for row in rows
        ]

    def page(
        self,
        *,
        prefix: str,
        aggregate_type: str | None,
        order: AggregateOrder,
        after: str | None,
        limit: int,
    ) -> AggregatePage:
        """Up to `limit` wanted streams in `order`, and the cursor behind them.

        Raises:
            InvalidEvent: `after` is no cursor, or there is no such order.
        """
        ask = {"id": self._by_id, "recent": self._by_newest, "longest": self._by_length}.get(order)
        if ask is None:
            raise InvalidEvent(f"order: {order!r} is none of id, recent, longest")
        wanted = self._wanted(prefix, aggregate_type)
        within = self._layout.within(prefix, aggregate_type)
        if within is None:
            return AggregatePage(items=(), next=None)
        found: list[Key] = []
        cursor, size, looked_at = after, limit + 1, 0
        while looked_at < LOOKED_AT:
            candidates = ask(wanted, within, cursor, size)
            for key, behind, is_wanted in candidates:
                if is_wanted and len(found) == limit:
                    return self._page(found, cursor)
                found += [key] if is_wanted else []
                cursor = behind
            if len(candidates) < size:
                return self._page(found, None)
            looked_at += size
            size = min(4 * size, LOOKED_AT - looked_at)
        return self._page(found, cursor)

    def _page(self, keys: Sequence[Key], cursor: str | None) -> AggregatePage:
        return AggregatePage(items=tuple(self.heads(keys)) if keys else (), next=cursor)

    def _wanted(self, prefix: str, aggregate_type: str | None) -> list[Condition]:
        fields = self._layout.fields
        by_type: list[Condition] = [(fields.aggregate_type, "=", (aggregate_type,))]
        by_id: list[Condition] = [(f"({fields.aggregate_id})", "^@", (prefix,))]
        return [*(by_id if prefix else []), *([] if aggregate_type is None else by_type)]

    def _by_id(
        self, wanted: Sequence[Condition], within: Sequence[Condition], after: str | None, size: int
    ) -> list[Candidate]:
        query = Query(self._database)
        begin = [] if after is None else [(f"({self._keys})", ">", self._key_of(after))]
        streams = self._layout.streams(query.all([*within, *begin]), query.holder(size))
        rows = query.rows(
            f"SELECT {self._layout.fields.aggregate_id}, {query.all(wanted)}, {self._keys}"  # noqa: S608 (placeholders)
            f" FROM ({streams}) AS e ORDER BY {self._keys}"
        )
        return [(row[2:], row[0], row[1]) for row in rows]

    def _by_newest(
        self, wanted: Sequence[Condition], _within: object, after: str | None, size: int
    ) -> list[Candidate]:
        """Streams found from the newest event backwards: none later is of the same stream."""
        query, position = Query(self._database), self._layout.fields.position
        version = self._layout.fields.version
        same = " AND ".join(f"later.{name} = e.{name}" for name in self._layout.key)
        events = f"SELECT {self._keys}, {version} AS number FROM {self._events}"  # noqa: S608 (names)
        begin = [] if after is None else [(position, "<", (_rank(after, after),))]
        rows = query.rows(
            f"SELECT {position}, {query.all(wanted)} AND NOT EXISTS ("  # noqa: S608 (placeholders)
            f"SELECT FROM ({events}) AS later WHERE {same} AND later.number > {version}"
            f"), {self._keys} FROM {self._events} WHERE {query.all(begin)}"
            f" ORDER BY {position} DESC LIMIT {query.holder(size)}"
        )
        return [(row[2:], str(row[0]), row[1]) for row in rows]

    def _by_length(
        self, wanted: Sequence[Condition], within: Sequence[Condition], after: str | None, size: int
    ) -> list[Candidate]:
        query, fields = Query(self._database), self._layout.fields
        begin = "true"
        if after is not None:
            rank, _, aggregate_id = after.partition(" ")
            length = query.holder(_rank(rank, after))
            shown = query.holder(aggregate_id)
            begin = f"e.length < {length} OR (e.length = {length} AND e.shown > {shown})"
        # By code point, which no two databases agree on.
        rows = query.rows(
            f"SELECT e.length, e.shown, {self._keys} FROM ("  # noqa: S608 (placeholders)
            f"SELECT max({fields.version}) AS length,"
            f' ({fields.aggregate_id}) COLLATE "C" AS shown, {self._keys}'
            f" FROM {self._events} WHERE {query.all([*within, *wanted])} GROUP BY {self._keys}"
            f") AS e WHERE {begin} ORDER BY 1 DESC, 2 LIMIT {query.holder(size)}"
        )
        return [(row[2:], f"{row[0]} {row[1]}", True) for row in rows]

    def _key_of(self, cursor: str) -> Key:
        key = self._layout.key_of(cursor) if is_storable(cursor) else None
        if key is None:
            raise _no_cursor(cursor)
        return key


def _rank(digits: str, cursor: str) -> int:
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= 18
    if not (is_number and is_storable(cursor)):
        raise _no_cursor(cursor)
    return int(digits)


def _no_cursor(cursor: str) -> InvalidEvent:
    return InvalidEvent(f"after: {cursor!r} is no cursor of this source")
