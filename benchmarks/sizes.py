"""How many bytes an event takes, in each table and index."""

import sqlite3

from msgspec import Struct

from benchmarks.stores import PostgreSQLStores, SQLiteStores

_POSTGRESQL = """
    SELECT relname, (pg_relation_size(oid)
        + coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0))::bigint
    FROM pg_class
    WHERE relkind IN ('r', 'i') AND relnamespace = 'public'::regnamespace
    AND (relname LIKE 'events%' OR relname LIKE 'aggregates%')
"""
_SQLITE = """
    SELECT name, sum(pgsize) FROM dbstat
    WHERE name LIKE '%events%' OR name LIKE '%aggregates%' GROUP BY name
"""


class Size(Struct, frozen=True):
    """A table or an index."""

    database: str
    name: str
    bytes_per_event: float


def measure(stores: PostgreSQLStores | SQLiteStores, url: str, events: int) -> list[Size]:
    """The sizes in a store that holds so many events, the largest first."""
    rows = _sqlite(url) if isinstance(stores, SQLiteStores) else _postgresql(stores, url)
    rows.sort(key=lambda row: -row[1])
    return [Size(stores.name, name, size / events) for name, size in rows]


def _postgresql(stores: PostgreSQLStores, url: str) -> list[tuple[str, int]]:
    return [(name, size) for name, size in stores.execute(url, _POSTGRESQL)]


def _sqlite(url: str) -> list[tuple[str, int]]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return connection.execute(_SQLITE).fetchall()
    finally:
        connection.close()
