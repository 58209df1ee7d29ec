"""Queries over the heads of aggregates: which, in what order, page by page."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, MetaData, Select, Table, and_, func, or_, select, union_all

from store.errors import InvalidEvent
from store.identifiers import is_storable, prefix_range
from store.records import AggregateOrder, AggregatePage, AggregateSummary

WALKED = 10_000
"""Histories that are looked through in their order for a page of those with a prefix."""
FEW = 500
"""Heads that are sorted in less time."""


class Listing(Struct, frozen=True, kw_only=True):
    """Which aggregates are asked for: by id prefix and type, in an order, from behind a cursor."""

    prefix: str
    aggregate_type: str | None
    order: AggregateOrder
    after: str | None

    @property
    def is_filtered(self) -> bool:
        """Whether it may leave aggregates out."""
        return bool(self.prefix) or self.aggregate_type is not None

    def has(self, aggregate_id: str, aggregate_type: str) -> bool:
        """Whether an aggregate is in it, wherever the cursor is."""
        is_of_type = self.aggregate_type in {None, aggregate_type}
        return is_of_type and aggregate_id.startswith(self.prefix)

    def within(self, aggregate_id: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether an id begins with the prefix, as a range that an index has."""
        first, end = prefix_range(self.prefix)
        since = aggregate_id >= first
        return since if end is None else and_(since, aggregate_id < end)


def ordered(tables: MetaData, listing: Listing) -> Select[Any]:
    """The heads of a listing, from behind its cursor."""
    after, query = listing.after, _filtered(tables, listing)
    if after is not None and not is_storable(after):
        raise _no_cursor(after)
    heads = tables.tables["aggregates"]
    match listing.order:
        case "id":
            query = query.order_by(heads.c.aggregate_id)
            return query if after is None else query.where(heads.c.aggregate_id > after)
        case "longest":
            query = query.order_by(heads.c.version.desc(), heads.c.aggregate_id)
            return query if after is None else query.where(_shorter(tables, after))
        case "recent":
            return _sorted_by_newest(tables, listing)
    raise InvalidEvent(f"order: {listing.order!r} is none of id, recent, longest")


def up_to_few(tables: MetaData, listing: Listing) -> Select[Any]:
    """How many heads there are by prefix and type; FEW + 1 stands for any more."""
    place = tables.tables["aggregates"].c.aggregate_id
    # In the order of an index, or a database that takes them for many might look at all heads.
    found = _filtered(tables, listing).with_only_columns(place).order_by(place).limit(FEW + 1)
    return select(func.count()).select_from(found.subquery())


def _filtered(tables: MetaData, listing: Listing) -> Select[Any]:
    """Heads by prefix and type, in no order yet."""
    heads = tables.tables["aggregates"]
    query = select(*heads.columns)
    if listing.prefix:
        query = query.where(listing.within(heads.c.aggregate_id))
    if listing.aggregate_type is not None:
        query = query.where(heads.c.aggregate_type == listing.aggregate_type)
    return query


def newest(
    tables: MetaData, listing: Listing, limit: int, within: int | None = None
) -> Select[Any]:
    """The most recent heads of a listing, from the newest event backwards.

    No further than `within` events, and as many aggregates, whose prefix may be another.

    An event is an aggregate's newest where its version is the head's, so no index on what changes
    with every append is needed. Who has none behind the rollups is where these say: they keep one
    row an aggregate, archived or not, so next to none is passed.

    Written so that a database can only walk both backwards, and stop at the limit: the range of ids
    of a prefix would be a temptation, and so would be a join with all heads.
    """
    events, ends = tables.tables["events"], tables.tables["history_lengths"]
    heads = tables.tables["aggregates"]
    counted = select(tables.tables["rollup"].c.position).scalar_subquery()
    behind = _backwards(listing, events, events.c.position).where(events.c.position > counted)
    kept = _backwards(listing, ends, ends.c.last_position)
    walks = [_ending(heads, listing, each, within).limit(limit) for each in (behind, kept)]
    both = union_all(*(select(each.subquery()) for each in walks)).subquery()
    found = select(both).order_by(both.c.position.desc()).limit(limit).subquery()
    return (
        select(*heads.columns, found.c.position)
        .join(found, heads.c.aggregate_id == found.c.aggregate_id)
        .order_by(found.c.position.desc())
    )


def _backwards(listing: Listing, table: Table, place: ColumnElement[int]) -> Select[Any]:
    """What a table has of a type, from behind the cursor, without regard to a prefix."""
    query = select(table.c.aggregate_id, table.c.version, place.label("position"))
    if listing.aggregate_type is not None:
        query = query.where(table.c.aggregate_type == listing.aggregate_type)
    if listing.after is not None:
        query = query.where(place < _rank(listing.after, listing.after))
    return query.order_by(place.desc())


def _ending(heads: Table, listing: Listing, walk: Select[Any], within: int | None) -> Select[Any]:
    """Those of a walk where a history ends that has the prefix."""
    if within is not None:
        walked = walk.limit(within).subquery()
        walk = select(walked).order_by(walked.c.position.desc())
    aggregate_id, version, _ = walk.selected_columns
    if listing.prefix:
        walk = walk.where(func.substr(aggregate_id, 1, len(listing.prefix)) == listing.prefix)
    newest = select(heads.c.version).where(heads.c.aggregate_id == aggregate_id)
    return walk.where(version == newest.scalar_subquery())


def _sorted_by_newest(tables: MetaData, listing: Listing) -> Select[Any]:
    """Heads by their newest events, each of which is looked up: for a few, or as a last resort."""
    heads = tables.tables["aggregates"]
    position = newest_position(tables, heads.c.aggregate_id, heads.c.version)
    found = _filtered(tables, listing).add_columns(position.label("position")).subquery()
    query = select(found).order_by(found.c.position.desc())
    if listing.after is not None:
        query = query.where(found.c.position < _rank(listing.after, listing.after))
    return query


def newest_position(
    tables: MetaData, aggregate_id: ColumnElement[str], version: ColumnElement[int]
) -> ColumnElement[int]:
    """Where an aggregate's last event is, active or the last of what is archived; 0 if nowhere.

    Nowhere is it if it was lost, which verification tells.
    """
    events, packs = tables.tables["events"], tables.tables["events_archive"]
    active = select(events.c.position).where(
        events.c.aggregate_id == aggregate_id, events.c.version == version
    )
    archived = select(packs.c.last_position).where(
        packs.c.aggregate_id == aggregate_id, packs.c.last_version == version
    )
    return func.coalesce(active.scalar_subquery(), archived.scalar_subquery(), 0)


def _shorter(tables: MetaData, after: str) -> ColumnElement[bool]:
    heads = tables.tables["aggregates"]
    version, aggregate_id = length_cursor(after)
    same = and_(heads.c.version == version, heads.c.aggregate_id > aggregate_id)
    return or_(heads.c.version < version, same)


def length_cursor(after: str) -> tuple[int, str]:
    """The version and the id that a cursor among the longest stands behind."""
    rank, _, aggregate_id = after.partition(" ")
    version = _rank(rank, after)
    if not aggregate_id or not is_storable(aggregate_id):
        raise _no_cursor(after)
    return version, aggregate_id


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
