"""The longest histories, from the rollups and what is behind them, without sorting all heads."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, func, select

from store.database import Database, Row
from store.listings import WALKED, Listing, length_cursor

TAIL = 2_000
"""Positions behind the rollups that are looked through."""
MOST = 1_000
"""Heads that are looked up by their ids."""

_Place: TypeAlias = tuple[int, str]
"""Where a history stands in the order: its length, negative, and its id."""


def longest(database: Database, listing: Listing, limit: int) -> list[Row] | None:
    """The first heads of a listing of the longest; None where all had better be sorted.

    The rollups keep lengths in order, up to the position where they end. Behind that are few events
    as long as a worker runs; whoever has some of them is as long as these say.
    """
    if limit > MOST:
        return None
    cursor = None if listing.after is None else length_cursor(listing.after)
    with database.snapshot() as connection:
        behind = _behind(database, connection)
        if behind is None:
            return None
        kept = _kept(database, connection, listing, cursor, limit + len(behind))
        places = [(-version, name) for version, name in kept if name not in behind]
        if listing.prefix and len(places) < limit:
            return None  # there may be more than were walked through
        for name, (kind, version) in behind.items():
            is_next = cursor is None or (-version, name) > (-cursor[0], cursor[1])
            if is_next and listing.has(name, kind):
                places.append((-version, name))
        return _heads(database, connection, sorted(places)[:limit])


def _behind(database: Database, connection: Connection) -> Mapping[str, tuple[str, int]] | None:
    """Type and version of each aggregate that has events behind the rollups; None if many may."""
    rollup, events = (database.tables.tables[name] for name in ("rollup", "events"))
    newest = select(func.max(events.c.position)).scalar_subquery()
    position, last = connection.execute(select(rollup.c.position, newest)).one()
    if last is None or last <= position:
        return {}
    if last - position > TAIL:
        return None
    columns = (events.c.aggregate_id, events.c.aggregate_type, events.c.version)
    query = select(*columns).where(events.c.position > position).order_by(events.c.position)
    return {name: (kind, version) for name, kind, version in connection.execute(query)}


def _kept(
    database: Database,
    connection: Connection,
    listing: Listing,
    cursor: tuple[int, str] | None,
    size: int,
) -> Sequence[Any]:
    """Versions and ids as the rollups have them, from behind the cursor.

    Not all of those with a prefix, if that takes too long.
    """
    table = database.tables.tables["history_lengths"]
    query = select(table.c.version, table.c.aggregate_id).order_by(*_order(table))
    if listing.aggregate_type is not None:
        query = query.where(table.c.aggregate_type == listing.aggregate_type)
    if cursor is None:
        return _walked(connection, query, listing, size)
    # Two queries, as each is a range of the index, which both together are not.
    version, aggregate_id = cursor
    same = query.where(table.c.version == version, table.c.aggregate_id > aggregate_id)
    if listing.prefix:
        same = same.where(listing.within(table.c.aggregate_id))
    found = connection.execute(same.limit(size)).all()
    if len(found) == size:
        return found
    shorter = query.where(table.c.version < version)
    return [*found, *_walked(connection, shorter, listing, size - len(found))]


def _walked(
    connection: Connection, query: Select[Any], listing: Listing, size: int
) -> Sequence[Any]:
    """The first rows of a query with the prefix, among no more than `WALKED` without it."""
    if not listing.prefix:
        return connection.execute(query.limit(size)).all()
    found: Sequence[Any] = ()
    # SQLite looks at all of them, however soon there are enough.
    for reach in (min(4 * size, WALKED), WALKED):
        walked = query.limit(reach).subquery()
        chosen = select(walked).where(listing.within(walked.c.aggregate_id))
        found = connection.execute(chosen.order_by(*_order(walked)).limit(size)).all()
        if len(found) == size:
            break
    return found


def _order(table: Any) -> tuple[Any, Any]:
    return table.c.version.desc(), table.c.aggregate_id


def _heads(
    database: Database, connection: Connection, places: Sequence[_Place]
) -> list[Row] | None:
    """The heads in those places; None where one is not as long: then what is kept is damaged."""
    heads = database.tables.tables["aggregates"]
    names = [name for _, name in places]
    query = select(*heads.columns).where(heads.c.aggregate_id.in_(names))
    found = {row[0]: tuple(row) for row in connection.execute(query)}
    if any(name not in found or found[name][2] != -length for length, name in places):
        return None
    return [found[name] for name in names]
