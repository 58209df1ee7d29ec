"""Event tables of other systems, built as those build them and filled with a real log."""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

Line = dict[str, Any]
"""An event as a line of an event file has it."""

MESSAGE_DB = """
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.messages (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        stream_name text {collation} NOT NULL,
        type text NOT NULL,
        position bigint NOT NULL,
        global_position bigserial NOT NULL PRIMARY KEY,
        data jsonb,
        metadata jsonb,
        time timestamp without time zone NOT NULL DEFAULT (now() AT TIME ZONE 'utc')
    );
    CREATE FUNCTION {schema}.category(name text) RETURNS text LANGUAGE sql IMMUTABLE
        AS $$ SELECT split_part(name, '-', 1) $$;
    CREATE UNIQUE INDEX messages_id ON {schema}.messages (id);
    CREATE UNIQUE INDEX messages_stream ON {schema}.messages (stream_name, position);
    CREATE INDEX messages_category ON {schema}.messages (
        {schema}.category(stream_name), global_position,
        {schema}.category(metadata ->> 'correlationStreamName')
    );
"""
MARTEN = """
    CREATE SCHEMA {schema};
    CREATE TABLE {schema}.mt_streams (
        id {identity} NOT NULL,
        type varchar NULL,
        version bigint,
        timestamp timestamptz NOT NULL DEFAULT now(),
        created timestamptz NOT NULL DEFAULT now(),
        tenant_id varchar DEFAULT '*DEFAULT*',
        is_archived bool DEFAULT false,
        PRIMARY KEY (id {tenant})
    );
    CREATE SEQUENCE {schema}.mt_events_sequence;
    CREATE TABLE {schema}.mt_events (
        seq_id bigint NOT NULL PRIMARY KEY DEFAULT nextval('{schema}.mt_events_sequence'),
        id uuid NOT NULL,
        stream_id {identity},
        version bigint NOT NULL,
        data jsonb NOT NULL,
        type varchar(500) NOT NULL,
        timestamp timestamptz NOT NULL DEFAULT now(),
        tenant_id varchar DEFAULT '*DEFAULT*',
        mt_dotnet_type varchar NULL,
        {optional}
        is_archived bool DEFAULT false,
        FOREIGN KEY (stream_id {tenant}) REFERENCES {schema}.mt_streams (id {tenant})
    );
    CREATE UNIQUE INDEX ON {schema}.mt_events (stream_id {tenant}, version);
"""
OPTIONAL = """
        bdata bytea NULL,
        correlation_id varchar NULL,
        causation_id varchar NULL,
        headers jsonb NULL,
        user_name varchar NULL,
"""


def build_message_db(url: str, *, schema: str = "message_store", collation: str = "") -> None:
    with psycopg.connect(url) as connection:
        connection.execute(MESSAGE_DB.format(schema=schema, collation=collation).encode())


def build_marten(
    url: str,
    *,
    schema: str = "sales",
    identity: str = "varchar",
    optional: str = OPTIONAL,
    tenants: bool = False,
) -> None:
    tenant = ", tenant_id" if tenants else ""
    ddl = MARTEN.format(schema=schema, identity=identity, optional=optional, tenant=tenant)
    with psycopg.connect(url) as connection:
        connection.execute(ddl.encode())


def fill_message_db(url: str, lines: Iterable[Line], *, schema: str = "message_store") -> None:
    """Write lines whose versions begin with 0."""
    columns = ("id", "stream_name", "type", "position", "data", "metadata", "time")
    _copy(
        url,
        (schema, "messages"),
        columns,
        (
            (
                each["event_id"],
                each["aggregate_id"],
                each["event_type"],
                each["version"],
                Jsonb(each["data"]),
                Jsonb(each.get("metadata", {})),
                each["occurred_at"].removesuffix("Z"),
            )
            for each in lines
        ),
    )


def fill_marten(
    url: str, lines: Iterable[Line], *, schema: str = "sales", optional: bool = True
) -> None:
    """Write lines whose versions begin with 1; what is optional, too, where there are columns."""
    lines = list(lines)
    newest = {each["aggregate_id"]: each for each in lines}
    streams = ((key, each["aggregate_type"], each["version"]) for key, each in newest.items())
    _copy(url, (schema, "mt_streams"), ("id", "type", "version"), streams)
    columns = ("id", "stream_id", "version", "data", "type", "timestamp")
    more = ("headers", "correlation_id", "causation_id", "user_name") if optional else ()
    _copy(url, (schema, "mt_events"), (*columns, *more), (_marten_row(x, optional) for x in lines))


def _marten_row(line: Line, optional: bool) -> tuple[Any, ...]:  # noqa: FBT001
    metadata = line.get("metadata", {})
    names = ("correlation_id", "causation_id", "actor")
    return (
        line["event_id"],
        line["aggregate_id"],
        line["version"],
        Jsonb(line["data"]),
        line["event_type"],
        line["occurred_at"],
        *((Jsonb(metadata), *map(metadata.get, names)) if optional else ()),
    )


def _copy(
    url: str, table: tuple[str, str], columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]
) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(*table), names)
    with psycopg.connect(url) as connection:
        with connection.cursor().copy(command) as copy:
            for row in rows:
                copy.write_row(row)
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(*table)))


def lines_of(path: Path) -> Iterator[Line]:
    with gzip.open(path) as stream:
        yield from map(json.loads, stream)


def as_messages(line: Line) -> Line:
    """The line as message-db has it: from version 0, its type in its id, and nobody's doing."""
    metadata = {name: each for name, each in line.get("metadata", {}).items() if name != "actor"}
    category = line["aggregate_id"].partition("-")[0]
    return line | {
        "version": line["version"] - 1,
        "aggregate_type": category,
        "metadata": metadata,
    }


def write_file(path: Path, lines: Iterable[Line]) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    return path
