"""The statements that a store sends, as the driver or the server tells them, and their plans."""

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import make_url
from sqlalchemy.event import listen, remove

from store import Hindsight
from tests.servers import PostgresServer

_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d [^\n]*?\[\d+\] (\w+):  ", re.MULTILINE)
_SENT = re.compile(r"(?:statement|execute [^:]+): (.*)", re.DOTALL)
_OF_TABLES = re.compile(r"\b(FROM|INTO|UPDATE)\b")
_VALUE = re.compile(r"\$(\d+) = ('(?:[^']|'')*'|NULL)")


class Scan(Struct, frozen=True):
    """How a plan reads a table: the `whole` of it, and how many `rows` if that is known."""

    table: str
    whole: bool
    rows: int | None = None


class Statement(Struct, frozen=True):
    """What was sent, with its values in it; and as it is prepared, with numbers in their place."""

    sql: str
    prepared: str


class Plan(Struct, frozen=True):
    """How a database goes about a statement, and as text for people.

    `blocks` is how many pages of tables and indexes it touched, None where that is not known.
    """

    sql: str
    text: str
    scans: tuple[Scan, ...]
    blocks: int | None = None


def telling(url: str) -> str:
    """The URL for a store whose PostgreSQL server is to log what it is sent."""
    if make_url(url).get_backend_name() == "sqlite":
        return url
    return f"{url}&options=-c%20log_statement%3Dall"


def statements(
    store: Hindsight, action: Callable[[], object], *, server: PostgresServer | None
) -> Sequence[Statement]:
    """What `action` has the store send that reads or writes tables; no `server` is SQLite."""
    sent = _to_server(server, action) if server else _to_file(store, action)
    return [each for each in sent if _OF_TABLES.search(each.sql)]


def _to_server(server: PostgresServer, action: Callable[[], object]) -> Iterator[Statement]:
    before = len(server.log)
    action()
    return _logged(server.log[before:])


def _to_file(store: Hindsight, action: Callable[[], object]) -> Sequence[Statement]:
    sent: list[str] = []

    def trace(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(sent.append)

    database = store.database
    database.connections.close()
    listen(database.engine, "connect", trace)
    action()
    remove(database.engine, "connect", trace)
    database.connections.close()
    # A trigger's own statements begin with dashes.
    return [Statement(each, each) for each in sent if not each.startswith("--")]


def _logged(log: str) -> Iterator[Statement]:
    parts = _ENTRY.split(log)
    entries = list(zip(parts[1::2], parts[2::2], strict=True))
    for (kind, text), (next_kind, detail) in zip(entries, [*entries[1:], ("", "")], strict=True):
        sent = _SENT.fullmatch(text.strip()) if kind == "LOG" else None
        if sent is not None:
            values = dict(_VALUE.findall(detail)) if next_kind == "DETAIL" else {}
            yield _statement(sent[1].replace("\n\t", "\n"), values)


def _statement(prepared: str, values: Mapping[str, str]) -> Statement:
    return Statement(re.sub(r"\$(\d+)", lambda found: values[found[1]], prepared), prepared)


def on_sqlite(path: str, sql: str) -> Plan:
    """How SQLite would run a statement in the database at `path`."""
    connection = sqlite3.connect(path)
    connection.create_function("event_store_archiving", 0, lambda: 0)
    try:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    finally:
        connection.close()
    # What is read in the order of the answer is read no further than the answer is long.
    is_walk = "LIMIT" in sql and not any("TEMP B-TREE" in step for step in steps)
    found = [re.match(r"(SCAN|SEARCH) (\w+)", step) for step in steps]
    scans = (Scan(each[2], whole=each[1] == "SCAN" and not is_walk) for each in found if each)
    return Plan(sql, "\n".join(steps), tuple(scans))


def on_postgresql(server: PostgresServer, database: str, sql: str) -> Plan:
    """How PostgreSQL would run a statement, whatever the values of its parameters."""
    return _explained(server, database, sql, "GENERIC_PLAN")


def run_on_postgresql(server: PostgresServer, database: str, sql: str) -> Plan:
    """How PostgreSQL runs a statement, which it does, and what that took."""
    return _explained(server, database, sql, "ANALYZE, BUFFERS, TIMING OFF")


def _explained(server: PostgresServer, database: str, sql: str, options: str) -> Plan:
    [(found,)] = server.execute(f"EXPLAIN ({options}, FORMAT JSON) {sql}", database=database)
    top = found[0]["Plan"]
    touched = [top[name] for name in ("Shared Hit Blocks", "Shared Read Blocks") if name in top]
    blocks = sum(touched) if touched else None
    return Plan(sql, "\n".join(_lines(top)), tuple(_scans(top)), blocks)


def _nodes(node: dict[str, Any], depth: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    yield depth, node
    for child in node.get("Plans", ()):
        yield from _nodes(child, depth + 1)


def _scans(top: dict[str, Any]) -> Iterator[Scan]:
    for _, node in _nodes(top):
        if "Relation Name" in node and "Scan" in node["Node Type"]:
            rows = None
            if "Actual Rows" in node:
                dropped = node.get("Rows Removed by Filter", 0)
                rows = round((node["Actual Rows"] + dropped) * node["Actual Loops"])
            whole = node["Node Type"].endswith("Seq Scan")
            yield Scan(node["Relation Name"], whole, rows)


def _lines(top: dict[str, Any]) -> Iterator[str]:
    for depth, node in _nodes(top):
        facts = [
            f"{name}={node[name]}"
            for name in ("Actual Rows", "Plan Rows", "Rows Removed by Filter", "Shared Hit Blocks")
            if name in node
        ]
        named = [node[name] for name in ("Relation Name", "Index Name") if name in node]
        yield "  " * depth + " ".join([node["Node Type"], *named, *facts])
