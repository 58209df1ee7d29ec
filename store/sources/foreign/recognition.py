"""Finding the event tables of other systems in a database, by their columns, in every schema."""

from collections.abc import Iterator, Mapping, Sequence

from store.database import Database
from store.errors import AccessDenied, InvalidSource, NoStore
from store.sources.foreign import marten, message_db
from store.sources.foreign.layout import Column, Layout, Table
from store.sources.foreign.marten import Marten
from store.sources.foreign.message_db import MessageDb

CHOOSE = "table"
"""The parameter of a URL that names one of several."""

# Partitions are read through the table they are of.
_COLUMNS = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, a.attname::text,
        format_type(a.atttypid, NULL),
        coalesce((
            SELECT provider = 'b' OR (provider = 'c' AND rules IN ('C', 'POSIX'))
            FROM (
                SELECT
                    CASE o.collprovider WHEN 'd' THEN d.datlocprovider ELSE o.collprovider END,
                    CASE o.collprovider WHEN 'd' THEN d.datcollate ELSE o.collcollate END
                FROM pg_collation AS o, pg_database AS d
                WHERE o.oid = a.attcollation AND d.datname = current_database()
            ) AS found (provider, rules)
        ), false),
        has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND (
        c.relname = %(streams)s OR EXISTS (
            SELECT FROM pg_attribute AS mark
            WHERE mark.attrelid = c.oid AND mark.attname = ANY (%(marks)s)
        )
    )
    ORDER BY 2, 3
"""
_UNIQUE = """
    SELECT i.indrelid::bigint, array_agg(a.attname::text)
    FROM pg_index AS i
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid
        AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE i.indrelid = ANY (%(oids)s::bigint[]::oid[]) AND i.indisunique AND i.indpred IS NULL
        AND i.indexprs IS NULL
    GROUP BY i.indrelid, i.indexrelid
"""


def recognise(database: Database, *, wanted: str | None = None) -> Layout:
    """The event table of another system in a database; `wanted` is SCHEMA.TABLE.

    Raises:
        NoStore: there is none.
        AccessDenied: this role may not read it.
        InvalidSource: there are several, and none is chosen; or it cannot be read in order.
    """
    tables = _tables(database)
    found = [table for table in tables if _is_events(table, tables)]
    if wanted is not None:
        found = [table for table in found if table.title == wanted]
    if not found:
        raise NoStore(_none(wanted))
    if len(found) > 1:
        names = ", ".join(table.title for table in found)
        raise InvalidSource(f"{len(found)} event tables: {names}; add ?{CHOOSE}=NAME to the URL")
    return _layout(found[0], tables)


def _none(wanted: str | None) -> str:
    where = "here" if wanted is None else f"at {wanted}"
    return (
        f"no event store {where}, which hindsight migrate would make, and no event table of"
        f" message-db (with columns {', '.join(message_db.COLUMNS)}) or Marten"
        f" (with {', '.join(marten.COLUMNS)}, beside {marten.STREAMS}) in any schema"
    )


def _layout(table: Table, tables: Sequence[Table]) -> Layout:
    _check_readable(table)
    if not _fits(table, marten.COLUMNS):
        return MessageDb(table)
    streams = next(_streams_of(table, tables))
    _check_readable(streams)
    return Marten(table, streams)


def _check_readable(table: Table) -> None:
    if not table.readable:
        raise AccessDenied(
            f"this role may not read {table.title}; it needs USAGE on the schema and SELECT on it"
        )


def _is_events(table: Table, tables: Sequence[Table]) -> bool:
    return _fits(table, message_db.COLUMNS) or (
        _fits(table, marten.COLUMNS) and any(_streams_of(table, tables))
    )


def _streams_of(events: Table, tables: Sequence[Table]) -> Iterator[Table]:
    return (
        table
        for table in tables
        if (table.schema, table.name) == (events.schema, marten.STREAMS)
        and _fits(table, marten.STREAM_COLUMNS)
        and table.columns["id"].type == events.columns["stream_id"].type
    )


def _fits(table: Table, needed: Mapping[str, frozenset[str]]) -> bool:
    return all(
        name in table.columns and table.columns[name].type in types
        for name, types in needed.items()
    )


def _tables(database: Database) -> list[Table]:
    marks = [message_db.MARK, marten.MARK]
    rows = database.rows(_COLUMNS, {"streams": marten.STREAMS, "marks": marks})
    columns: dict[int, dict[str, Column]] = {}
    for oid, _, _, name, kind, in_byte_order, _ in rows:
        columns.setdefault(oid, {})[name] = Column(kind, in_byte_order)
    unique: dict[int, set[frozenset[str]]] = {}
    for oid, names in database.rows(_UNIQUE, {"oids": list(columns)}) if columns else []:
        unique.setdefault(oid, set()).add(frozenset(names))
    facts = {row[0]: row for row in rows}
    return [
        Table(
            oid=oid,
            schema=row[1],
            name=row[2],
            columns=columns[oid],
            readable=row[6],
            unique=frozenset(unique.get(oid, ())),
        )
        for oid, row in facts.items()
    ]
