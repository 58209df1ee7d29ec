"""Queries over the heads of aggregates: which, in what order, page by page."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, MetaData, Select, Table, and_, or_, select

from store.errors import InvalidEvent
from store.identifiers import is_storable, prefix_range
from store.records import AggregateOrder, AggregatePage, AggregateSummary


def aggregates(tables: MetaData, *, prefix: str, aggregate_type: str | None) -> Select[Any]:
    """Heads by id prefix and type, in no order yet."""
    heads = tables.tables["aggregates"]
    query = select(*heads.columns)
    if prefix:
        first, end = prefix_range(prefix)
        query = query.where(heads.c.aggregate_id >= first)
        if end is not None:
            query = query.where(heads.c.aggregate_id < end)
    if aggregate_type is not None:
        query = query.where(heads.c.aggregate_type == aggregate_type)
    return query


def ordered(
    tables: MetaData, query: Select[Any], order: AggregateOrder, after: str | None
) -> Select[Any]:
    """The heads of `query` in `order`, from behind the cursor `after`."""
    if after is not None and not is_storable(after):
        raise _no_cursor(after)
    heads = tables.tables["aggregates"]
    match order:
        case "id":
            query = query.order_by(heads.c.aggregate_id)
            return query if after is None else query.where(heads.c.aggregate_id > after)
        case "longest":
            query = query.order_by(heads.c.version.desc(), heads.c.aggregate_id)
            return query if after is None else query.where(_shorter(tables, after))
        case "recent":
            return _by_newest_event(tables, query, after)
    raise InvalidEvent(f"order: {order!r} is none of id, recent, longest")


def _by_newest_event(tables: MetaData, query: Select[Any], after: str | None) -> Select[Any]:
    """Heads found from the newest event backwards.

    An event is an aggregate's newest where its version is the head's, so no index on what changes
    with every append is needed.
    """
    events = tables.tables["events"]
    return _by_newest(tables, query, after, events, events.c.version, events.c.position)


def by_newest_archived(tables: MetaData, query: Select[Any], after: str | None) -> Select[Any]:
    """The heads of `query` whose newest event is archived, from the newest backwards."""
    packs = tables.tables["events_archive"]
    return _by_newest(tables, query, after, packs, packs.c.last_version, packs.c.last_position)


def _by_newest(  # noqa: PLR0917 (a table, and what its columns are called)
    tables: MetaData,
    query: Select[Any],
    after: str | None,
    table: Table,
    version: ColumnElement[int],
    position: ColumnElement[int],
) -> Select[Any]:
    heads = tables.tables["aggregates"]
    newest = and_(table.c.aggregate_id == heads.c.aggregate_id, version == heads.c.version)
    query = query.add_columns(position).join(table, newest)
    if after is not None:
        query = query.where(position < _rank(after, after))
    return query.order_by(position.desc())


def _shorter(tables: MetaData, after: str) -> ColumnElement[bool]:
    heads = tables.tables["aggregates"]
    rank, _, aggregate_id = after.partition(" ")
    version = _rank(rank, after)
    if not aggregate_id:
        raise _no_cursor(after)
    same = and_(heads.c.version == version, heads.c.aggregate_id > aggregate_id)
    return or_(heads.c.version < version, same)


def page(rows: Sequence[tuple[Any, ...]], order: AggregateOrder, limit: int) -> AggregatePage:
    """The first `limit` heads, and where those after them begin."""
    items = tuple(map(summary, rows[:limit]))
    if len(rows) <= limit:
        return AggregatePage(items=items, next=None)
    last = rows[limit - 1]
    following = {"id": last[0], "longest": f"{last[2]} {last[0]}", "recent": str(last[-1])}
    return AggregatePage(items=items, next=following[order])


def summary(row: tuple[Any, ...]) -> AggregateSummary:
    """The head in a row of `aggregates`."""
    aggregate_id, aggregate_type, version, first, last, recorded = row[:6]
    return AggregateSummary(
        aggregate_id=aggregate_id,
        aggregate_type=aggregate_type,
        version=version,
        first_occurred_at=first,
        last_occurred_at=last,
        last_recorded_at=recorded,
    )


def _rank(digits: str, cursor: str) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise _no_cursor(cursor)
    return int(digits)


def _no_cursor(cursor: str) -> InvalidEvent:
    return InvalidEvent(f"after: {cursor!r} is no cursor of this store")
