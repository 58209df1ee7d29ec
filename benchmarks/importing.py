"""Import of real event logs, beside a bare COPY of lines that are known to be valid."""

import gc
import gzip
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec
import psycopg

from benchmarks.digest import digest
from benchmarks.rounds import Speeds, interleave
from benchmarks.stores import BARE, OURS, PostgreSQLStores, SQLiteStores
from store import Hindsight
from store.tables import moment_text
from store.transfer import import_events

LOGS = Path(__file__).parents[2] / "shared" / "data"
"""Real logs lie beside the project; where they do not, there is nothing to import."""

_COLUMNS = (
    "version, occurred_at, recorded_at, event_id, event_version, aggregate_id, aggregate_type,"
    " event_type, data, metadata, correlation_id, causation_id, actor, digest"
)
_COPY_TYPES = (
    *("int8", "timestamptz", "timestamptz", "uuid", "int4", "text", "text", "text"),
    *("json", "json", "text", "text", "text", "bytea"),
)
_HEAD_TYPES = ("text", "text", "int8", "timestamptz", "timestamptz", "timestamptz")


class Lifted(msgspec.Struct):
    """What of the metadata has columns."""

    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str | None = None


class Line(msgspec.Struct, frozen=True):
    """A line of a log, decoded, with nothing left to check."""

    event_id: UUID
    aggregate_type: str
    aggregate_id: str
    version: int
    event_type: str
    data: msgspec.Raw
    occurred_at: datetime
    schema_version: int = 1
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


def logs(names: Sequence[str]) -> dict[str, Path]:
    """Those of the logs that are there."""
    paths = {name: LOGS / name / "events.ndjson.gz" for name in names}
    return {name: path for name, path in paths.items() if path.is_file()}


def imports(stores: PostgreSQLStores | SQLiteStores, log: Path, rounds: int) -> Speeds:
    """Ours from the gzipped file; the bare code from decoded lines, in one transaction."""
    lines = read(log)
    gc.freeze()  # the collector would go through them again and again, at the cost of both
    bare = _copy if isinstance(stores, PostgreSQLStores) else _insert
    return interleave(
        {
            BARE: partial(_into_new_store, stores, partial(bare, lines=lines), len(lines)),
            OURS: partial(_into_new_store, stores, partial(_import, log=log), len(lines)),
        },
        rounds,
    )


def read(log: Path) -> list[Line]:
    """The lines of a log."""
    decode = msgspec.json.Decoder(Line).decode
    with gzip.open(log) as stream:
        return [decode(line) for line in stream]


def _into_new_store(
    stores: PostgreSQLStores | SQLiteStores, load: Callable[[str], float], events: int
) -> float:
    url = stores.new()
    seconds = load(url)
    stores.drop(url)
    return events / seconds


def _import(url: str, *, log: Path) -> float:
    with Hindsight(url) as store, log.open("rb") as stream:
        started = time.perf_counter()
        outcome = import_events(store.log, stream)
        elapsed = time.perf_counter() - started
    assert outcome.imported == outcome.lines, outcome
    return elapsed


def _copy(url: str, *, lines: Sequence[Line]) -> float:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT 1")
        started = time.perf_counter()
        now = datetime.now(UTC)
        with connection.cursor().copy(f"COPY events ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as to:
            to.set_types(_COPY_TYPES)
            for line in lines:
                to.write_row(_row(line, now))
        with connection.cursor().copy("COPY aggregates FROM STDIN (FORMAT BINARY)") as to:
            to.set_types(_HEAD_TYPES)
            for head in _heads(lines, now):
                to.write_row(head)
        connection.commit()
        return time.perf_counter() - started


def _insert(url: str, *, lines: Sequence[Line]) -> float:
    driver = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        driver.execute("PRAGMA synchronous = FULL")
        started = time.perf_counter()
        now = datetime.now(UTC)
        driver.execute("BEGIN IMMEDIATE")
        holders = ", ".join("?" * len(_COPY_TYPES))
        driver.executemany(
            f"INSERT INTO events ({_COLUMNS}) VALUES ({holders})",
            (_as_text(_row(line, now)) for line in lines),
        )
        driver.executemany(
            "INSERT INTO aggregates VALUES (?, ?, ?, ?, ?, ?)",
            (_as_text(head) for head in _heads(lines, now)),
        )
        driver.execute("COMMIT")
        return time.perf_counter() - started
    finally:
        driver.close()


_lift = msgspec.json.Decoder(Lifted).decode


def _row(line: Line, now: datetime) -> tuple[object, ...]:
    data, metadata = bytes(line.data), bytes(line.metadata)
    lifted = _lift(metadata)
    return (
        line.version,
        line.occurred_at,
        now,
        line.event_id,
        line.schema_version,
        line.aggregate_id,
        line.aggregate_type,
        line.event_type,
        data.decode(),
        metadata.decode(),
        lifted.correlation_id,
        lifted.causation_id,
        lifted.actor,
        digest(
            line.aggregate_id,
            line.version,
            line.event_id.bytes,
            line.event_type,
            line.occurred_at,
            data,
            metadata,
            line.schema_version,
        ),
    )


def _heads(lines: Sequence[Line], now: datetime) -> list[tuple[object, ...]]:
    heads: dict[str, tuple[str, int, datetime, datetime]] = {}
    for line in lines:
        moment = line.occurred_at
        _, _, first, last = heads.get(line.aggregate_id, ("", 0, moment, moment))
        heads[line.aggregate_id] = (
            line.aggregate_type,
            line.version,
            min(first, moment),
            max(last, moment),
        )
    return [(aggregate_id, *head, now) for aggregate_id, head in heads.items()]


def _as_text(values: tuple[object, ...]) -> list[object]:
    """Times and event ids as SQLite keeps them."""
    return [
        moment_text(value)
        if isinstance(value, datetime)
        else str(value)
        if isinstance(value, UUID)
        else value
        for value in values
    ]
