"""What a load costs that begins at a snapshot, and what events of earlier schema versions cost."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

import msgspec
import psycopg
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader

from benchmarks.replaying import CommentAdded, Discussion, apply
from benchmarks.rounds import Speeds, interleave
from benchmarks.stores import BARE, OURS, PostgreSQLStores, SQLiteStores
from benchmarks.workload import AGGREGATE_TYPE, Contender, new_id, payloads
from store import Aggregate, Domain, Hindsight, NewEvent, Upcaster, any_

TAIL = 50
"""Events behind each snapshot: half of what there may be."""
FULL = "full replay"
SHORT = "short"
CURRENT = "current"
EVENTS = 1_000
_WRITTEN_AT_ONCE = 100
_LIMIT = 2_000
_VERSIONS = 3

Load: TypeAlias = Callable[[], int]
"""Loads an aggregate; how many events its state has seen."""

DOMAIN = Domain(
    "tickets",
    aggregates=[
        Aggregate(AGGREGATE_TYPE, initial=Discussion(), events=[CommentAdded], apply=apply)
    ],
)
_DECODERS = {("CommentAdded", 1): msgspec.json.Decoder(CommentAdded).decode}
_STATE = msgspec.json.Decoder(Discussion).decode


def _unchanged(data: Any) -> Any:
    return data


EVOLVED = Domain(
    "tickets",
    aggregates=[
        Aggregate(
            AGGREGATE_TYPE,
            initial=Discussion(),
            events=[CommentAdded],
            apply=apply,
            upcasters=[
                Upcaster("CommentAdded", version, version + 1, _unchanged)
                for version in range(1, _VERSIONS)
            ],
        )
    ],
)


def from_snapshots(
    stores: PostgreSQLStores | SQLiteStores,
    url: str,
    rounds: int,
    lengths: Sequence[int],
    times: int,
) -> tuple[Mapping[int, Speeds], Speeds]:
    """Loads a second of histories that long with a snapshot `TAIL` events before their ends.

    And of one of `EVENTS` events, with a snapshot at its end and without.
    """
    bare = stores.openers(url)[BARE]()
    try:
        with (
            stores.on_one_core(),
            Hindsight(url, domain=DOMAIN, cache=False) as store,
            Hindsight(url, domain=DOMAIN, snapshots=False, cache=False) as without,
        ):
            ids = {length: _with_snapshot(bare, store, length, TAIL) for length in lengths}
            even = _with_snapshot(bare, store, EVENTS, 0)
            stores.settle(url)
            read = _bare_load(stores, url)
            runs: dict[str, Callable[[], float]] = {}
            for length, name in ids.items():
                events = length + TAIL
                runs[f"{BARE} {length}"] = partial(_speed, partial(read, name), events, times)
                ours = partial(_comments, store, name)
                runs[f"{OURS} {length}"] = partial(_speed, ours, events, times)
            full = partial(_comments, without, even)
            runs[FULL] = partial(_speed, full, EVENTS, max(times // 10, 1))
            runs[OURS] = partial(_speed, partial(_comments, store, even), EVENTS, times)
            found = interleave(runs, rounds)
    finally:
        bare.close()
    by_length = {
        length: {name: found[f"{name} {length}"] for name in (BARE, OURS)} for length in lengths
    }
    return by_length, {name: found[name] for name in (OURS, FULL)}


def upcasting(url: str, rounds: int, times: int) -> Speeds:
    """Events a second of full replays: two steps behind the current schema version, and of it."""
    with Hindsight(url, domain=EVOLVED, snapshots=False, cache=False) as store:
        kinds = {CURRENT: _VERSIONS, OURS: 1}
        ids = {name: _written(store, schema_version) for name, schema_version in kinds.items()}
        loads = {name: partial(_comments, store, one) for name, one in ids.items()}
        runs = {name: partial(_speed, load, EVENTS, times) for name, load in loads.items()}
        return {
            name: [EVENTS * speed for speed in speeds]
            for name, speeds in interleave(runs, rounds).items()
        }


def _with_snapshot(bare: Contender, store: Hindsight, length: int, tail: int) -> str:
    aggregate_id = new_id()
    for expected in range(0, length, _WRITTEN_AT_ONCE):
        bare.append(aggregate_id, expected, min(_WRITTEN_AT_ONCE, length - expected))
    store.snapshot(aggregate_id)
    if tail:
        bare.append(aggregate_id, length, tail)
    return aggregate_id


def _written(store: Hindsight, schema_version: int) -> str:
    aggregate_id = new_id()
    events = [
        NewEvent("CommentAdded", payload, schema_version=schema_version)
        for start in range(0, EVENTS, _WRITTEN_AT_ONCE)
        for payload in payloads(start, _WRITTEN_AT_ONCE)
    ]
    store.append(AGGREGATE_TYPE, aggregate_id, events, expected=any_())
    return aggregate_id


def _comments(store: Hindsight, aggregate_id: str) -> int:
    comments: int = store.load(aggregate_id).state.comments
    return comments


def _speed(load: Load, events: int, times: int) -> float:
    started = perf_counter()
    for _ in range(times):
        seen = load()
        assert seen == events, f"{seen} of {events} events"
    return times / (perf_counter() - started)


def _bare_load(stores: PostgreSQLStores | SQLiteStores, url: str) -> Callable[[str], int]:
    """One query and a loop, on a connection of its own, with what no such code can do without.

    That is which fold the snapshot is of and which schema an event was written with; whether the
    snapshot is as it was written, and its last event the one that is stored, it does not ask.
    """
    fingerprint = DOMAIN.aggregates[0].fingerprint
    sql = """
        WITH newest AS (
            SELECT version, state FROM snapshots
            WHERE aggregate_id = {id} AND fingerprint = {fold} ORDER BY version DESC LIMIT 1
        )
        SELECT version, '', state, 0 FROM newest
        UNION ALL
        SELECT * FROM (
            SELECT version, event_type, data, event_version FROM events WHERE aggregate_id = {id}
            AND version > (SELECT version FROM newest) ORDER BY version LIMIT {limit}
        ) AS later
    """
    if isinstance(stores, SQLiteStores):
        driver = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        query = sql.format(id="?1", limit="?2", fold="?3")
        return lambda aggregate_id: _fold(
            driver.execute(query, (aggregate_id, _LIMIT, fingerprint)).fetchall()
        )
    connection = psycopg.connect(url, autocommit=True)
    connection.adapters.register_loader("json", ByteaBinaryLoader)
    cursor = psycopg.RawCursor(connection)
    cursor.format = Format.BINARY
    # Were the limit in the statement, the planner would take a whole history for what it costs.
    prepared = sql.format(id="$1::text", limit="$2::bigint", fold="$3::text").encode()
    return lambda aggregate_id: _fold(
        cursor.execute(prepared, (aggregate_id, _LIMIT, fingerprint), prepare=True).fetchall()
    )


def _fold(rows: Sequence[tuple[Any, ...]]) -> int:
    discussion, last = _STATE(rows[0][2]), rows[0][0]
    for version, event_type, data, written in rows[1:]:
        assert version == last + 1
        discussion = apply(discussion, _DECODERS[event_type, written](data))
        last = version
    return discussion.comments
