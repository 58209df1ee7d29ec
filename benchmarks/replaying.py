"""How long it takes to replay a history into typed state, and to run a command."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
import psycopg
from msgspec import Struct
from psycopg.pq import Format
from psycopg.types.string import ByteaBinaryLoader

from benchmarks.peer import FastPeer, Peer
from benchmarks.rounds import Speeds, interleave
from benchmarks.stores import BARE, FAST_PEER, OURS, PEER, PostgreSQLStores, SQLiteStores
from benchmarks.workload import ACTOR, AGGREGATE_TYPE, Contender, new_id, payloads
from store import Aggregate, Context, Domain, Hindsight

UNCHECKED = "eventsourcing, without its protocol check"
WRITTEN_AT_ONCE = 100
HISTORY_OF_A_COMMAND = 20

Replay: TypeAlias = Callable[[str], int]
"""Replays an aggregate; how many events its state has seen."""


class CommentAdded(Struct, frozen=True):
    """The event of the workload, typed."""

    ticket: int
    author: str
    text: str
    labels: list[str]
    priority: int
    minutes: float
    internal: bool


class Discussion(Struct, frozen=True):
    """What a history adds up to."""

    comments: int = 0
    minutes: float = 0
    last_author: str | None = None
    last_text: str | None = None


def apply(discussion: Discussion, event: CommentAdded) -> Discussion:
    """The discussion after a comment."""
    return Discussion(
        discussion.comments + 1,
        discussion.minutes + event.minutes,
        event.author,
        event.text,
    )


class AddComment(CommentAdded, frozen=True):
    """The command: whoever asks may comment."""

    def decide(self, discussion: Discussion) -> Sequence[Struct]:
        """See `store.Command`."""
        del discussion
        return [msgspec.convert(msgspec.structs.asdict(self), CommentAdded)]

    def recorded(self) -> Mapping[str, Any]:
        """See `store.Command`."""
        return {}


DOMAIN = Domain(
    "tickets",
    aggregates=[
        Aggregate(
            AGGREGATE_TYPE,
            initial=Discussion(),
            events=[CommentAdded],
            apply=apply,
            commands=[AddComment],
            snapshot_every=None,  # the code beside it takes none either
        )
    ],
)
_DECODERS = {"CommentAdded": msgspec.json.Decoder(CommentAdded).decode}


def replays(
    stores: PostgreSQLStores | SQLiteStores, url: str, rounds: int, events: int, times: int
) -> Speeds:
    """Histories of so many events into typed state, from the first event on."""
    openers = stores.openers(url)
    contenders = {name: opener() for name, opener in openers.items()}
    aggregate_id = new_id()
    for name, contender in contenders.items():
        if name != OURS:  # shares the bare code's tables
            _write(contender, aggregate_id, events)
    stores.settle(url)
    try:
        with Hindsight(url, domain=DOMAIN, cache=False) as store:
            found = _replays(stores, url, store, contenders)
            return interleave(
                {
                    name: partial(_speed, replay, aggregate_id, events, times)
                    for name, replay in found.items()
                },
                rounds,
            )
    finally:
        for contender in contenders.values():
            contender.close()


def commands(stores: PostgreSQLStores | SQLiteStores, url: str, rounds: int, times: int) -> Speeds:
    """Load, decide and append, to an aggregate with a short history."""
    bare = stores.openers(url)[BARE]()
    read = _bare_replay(stores, url)
    try:
        with Hindsight(url, domain=DOMAIN, outbox=False) as store:

            def by_hand(aggregate_id: str) -> None:
                bare.append(aggregate_id, read(aggregate_id), 1)

            def by_command(aggregate_id: str) -> None:
                [payload] = payloads(HISTORY_OF_A_COMMAND, 1)
                store.execute(aggregate_id, AddComment(**payload), context=Context(actor=ACTOR))

            runs = {BARE: by_hand, OURS: by_command}
            return interleave(
                {name: partial(_commands, bare, run, times) for name, run in runs.items()}, rounds
            )
    finally:
        bare.close()


def _commands(bare: Contender, run: Callable[[str], None], times: int) -> float:
    aggregate_id = new_id()
    _write(bare, aggregate_id, HISTORY_OF_A_COMMAND)
    started = perf_counter()
    for _ in range(times):
        run(aggregate_id)
    return times / (perf_counter() - started)


def _write(contender: Contender, aggregate_id: str, events: int) -> None:
    for expected in range(0, events, WRITTEN_AT_ONCE):
        contender.append(aggregate_id, expected, min(WRITTEN_AT_ONCE, events - expected))


def _speed(replay: Replay, aggregate_id: str, events: int, times: int) -> float:
    started = perf_counter()
    for _ in range(times):
        seen = replay(aggregate_id)
        assert seen == events, f"{seen} of {events} events"
    return events * times / (perf_counter() - started)


def _replays(
    stores: PostgreSQLStores | SQLiteStores,
    url: str,
    store: Hindsight,
    contenders: Mapping[str, Contender],
) -> dict[str, Replay]:
    def by_load(aggregate_id: str) -> int:
        comments: int = store.load(aggregate_id).state.comments
        return comments

    found: dict[str, Replay] = {BARE: _bare_replay(stores, url), OURS: by_load}
    peer, fast = contenders.get(PEER), contenders.get(FAST_PEER)
    if isinstance(peer, Peer) and isinstance(fast, FastPeer):
        found |= {
            PEER: partial(_as_documented, peer),
            UNCHECKED: partial(_unchecked, peer),
            FAST_PEER: partial(_tuned, fast),
        }
    return found


def _bare_replay(stores: PostgreSQLStores | SQLiteStores, url: str) -> Replay:
    """One query and a loop, on a connection of its own."""
    if isinstance(stores, SQLiteStores):
        driver = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        sql = "SELECT version, event_type, data FROM events WHERE aggregate_id = ? ORDER BY version"
        return lambda aggregate_id: _fold(driver.execute(sql, (aggregate_id,)).fetchall())
    connection = psycopg.connect(url, autocommit=True)
    connection.adapters.register_loader("json", ByteaBinaryLoader)
    cursor = psycopg.RawCursor(connection)
    cursor.format = Format.BINARY
    query = b"""
        SELECT version, event_type, data FROM events WHERE aggregate_id = $1::text ORDER BY version
    """
    return lambda aggregate_id: _fold(
        cursor.execute(query, (aggregate_id,), prepare=True).fetchall()
    )


def _fold(rows: Iterable[tuple[Any, ...]]) -> int:
    discussion, last = Discussion(), 0
    for version, event_type, data in rows:
        assert version == last + 1
        discussion = apply(discussion, _DECODERS[event_type](data))
        last = version
    return discussion.comments


def _as_documented(peer: Peer, aggregate_id: str) -> int:
    ticket: Any = peer.application.repository.get(UUID(aggregate_id))
    return int(ticket.version)


def _unchecked(peer: Peer, aggregate_id: str) -> int:
    """The same with a projector that does not ask each event for the mutation protocol."""

    def project(aggregate: Any, events: Iterable[Any]) -> Any:
        for event in events:
            aggregate = event.mutate(aggregate)
        return aggregate

    ticket: Any = peer.application.repository.get(UUID(aggregate_id), projector_func=project)
    return int(ticket.version)


def _tuned(fast: FastPeer, aggregate_id: str) -> int:
    """Its events by its quickest transcoder, folded by hand."""
    discussion = Discussion()
    for event in fast.application.events.get(UUID(aggregate_id)):
        data = event.data  # type: ignore[attr-defined]  # the workload's
        discussion = Discussion(
            discussion.comments + 1,
            discussion.minutes + data["minutes"],
            data["author"],
            data["text"],
        )
    return discussion.comments
