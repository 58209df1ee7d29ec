"""How fast a read model is made, how fast it answers, and how soon it has what was appended."""

import gc
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from operator import attrgetter
from statistics import quantiles
from time import perf_counter
from typing import Any, Protocol

import msgspec
import psycopg
from msgspec import Struct
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper
from psycopg.types.numeric import Int8
from psycopg.types.string import ByteaBinaryLoader
from sqlalchemy import delete, update

from benchmarks.publishing import Latency
from benchmarks.rounds import Speeds, interleave
from benchmarks.stores import BARE, OURS, PostgreSQLStores, SQLiteStores
from store import Activity, Append, Filter, Hindsight, NewEvent, any_
from store.errors import CommandRejected
from store.projections.projector import BATCH
from store.tables import moment_text
from store.work import project_due
from users import domain, user
from users import events as happened
from users.read_model import user_read_model, users
from users.sample import sample

REPLAYED = "replayed"
FOLDED = "folded by hand"
_UNTIL = datetime(2026, 11, 28, tzinfo=UTC)
_APPENDED_AT_ONCE = 500
_PAUSE = 0.005

_DECODERS = {
    (kind.__name__, user.schema_versions.get(kind.__name__, 1)): msgspec.json.Decoder(kind).decode
    for kind in user.events
}
_HANDLERS: Mapping[type, Callable[..., Any]] = users.handlers
_COLUMNS = user_read_model.columns.keys()
_EVENTS = """
    SELECT position, version, occurred_at, aggregate_id, event_type, event_version, data
    FROM events WHERE position > {after} AND aggregate_type = 'user'
    ORDER BY position LIMIT {limit}
"""
_MOVE = """
    UPDATE checkpoints SET position = {reached}, moved_at = {now}
    WHERE projection = 'users' AND target = 'live' AND position = {after}
"""
_UPSERT = f"""
    INSERT INTO user_read_model {{values}} ON CONFLICT (user_id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
"""
_USERNAME, _EMAIL, _FULL_NAME, _LOGINS, _LAST_LOGIN, _FAILED, _LOCKED = range(1, 8)
_VERSION, _UPDATED = 8, 10


class Answers(Struct, frozen=True, kw_only=True):
    """Questions a second that a read model answers, beside what answers them without one.

    `users` is how many there are.
    """

    users: int
    row: Speeds
    page: Speeds


def fill(url: str, events: int) -> int:
    """Have a store hold the life of some thousand users, one beside the other; how many events."""
    states: dict[str, Any] = {}
    written = 0
    activities = iter(sample(seed=1, events=events, until=_UNTIL))
    with Hindsight(url, domain=domain, cache=False, outbox=False) as store:
        store.projections.build_missing()
        while some := list(islice(activities, _APPENDED_AT_ONCE)):
            appends = [
                Append(aggregate_type="user", aggregate_id=each, events=made, expected=any_())
                for each, made in _made(some, states).items()
            ]
            store.append_all(appends)
            written += sum(len(append.events) for append in appends)
    return written


def _made(activities: Sequence[Activity], states: dict[str, Any]) -> dict[str, list[NewEvent]]:
    """What users do, by their ids, in the order in which the first of it happens."""
    made: dict[str, list[NewEvent]] = {}
    for activity in activities:
        state = states.get(activity.aggregate_id, user.initial)
        try:
            decided = list(activity.command.decide(state))
        except CommandRejected:
            continue
        for event in decided:
            state = user.apply(state, event)
            made.setdefault(activity.aggregate_id, []).append(_new_event(event, activity))
        states[activity.aggregate_id] = state
    return made


def _new_event(event: Struct, activity: Activity) -> NewEvent:
    name = type(event).__name__
    return NewEvent(
        name,
        msgspec.to_builtins(event),
        schema_version=user.schema_versions.get(name, 1),
        metadata=activity.context.as_metadata(),
        occurred_at=activity.at,
    )


def catching_up(
    stores: PostgreSQLStores | SQLiteStores, url: str, rounds: int, events: int
) -> Speeds:
    """Events a second into an empty read model, until it has all of them.

    By hand in two ways: with the domain's handlers, and with a fold written for speed in their
    place.
    """
    bare = _BareSQLite(url) if isinstance(stores, SQLiteStores) else _BarePostgreSQL(url)
    with Hindsight(url, domain=domain, cache=False) as store:

        def ours() -> None:
            project_due(store.projections.projector("users"))

        def from_the_start(catch_up: Callable[[], object]) -> float:
            _reset(store)
            stores.settle(url)
            started = perf_counter()
            catch_up()
            return events / (perf_counter() - started)

        runs: dict[str, Callable[[], object]] = {
            BARE: partial(_catch_up, bare, _handled),
            FOLDED: partial(_catch_up, bare, _folded),
            OURS: ours,
        }
        for run in runs.values():
            from_the_start(run)
            assert store.projections.check("users").compared.drift == 0
        gc.collect()
        gc.freeze()  # what else a benchmark has in memory, no worker has
        found = interleave(
            {name: partial(from_the_start, run) for name, run in runs.items()}, rounds
        )
        bare.close()
        project_due(store.projections.projector("users"))
        return found


def _reset(store: Hindsight) -> None:
    checkpoints = store.database.tables.tables["checkpoints"]
    with store.database.transaction() as connection:
        connection.execute(delete(user_read_model))
        connection.execute(update(checkpoints).values(position=0))


class _Bare(Protocol):
    """What hand-written code does of its database."""

    def moment(self, moment: datetime) -> Any:
        """A time as a column has it."""
        ...

    def events(self, after: int) -> Sequence[tuple[Any, ...]]:
        """A batch of events."""
        ...

    def rows(self, user_ids: Sequence[str]) -> Sequence[Sequence[Any]]:
        """The rows of those users."""
        ...

    def write(self, rows: Sequence[Sequence[Any]], after: int, reached: int) -> None:
        """Write rows and checkpoint in one transaction."""
        ...


class _Stored(Struct, frozen=True, gc=False):
    """What the handlers ask of an event."""

    aggregate_id: str
    version: int
    occurred_at: Any


Fold = Callable[["_Bare", Sequence[tuple[Any, ...]], Sequence[Sequence[Any]]], list[Sequence[Any]]]
"""Rows after events, from those before them."""


def _catch_up(bare: _Bare, fold: Fold) -> None:
    """A batch after the other, each folded in Python into the rows that it touches."""
    position = 0
    while events := bare.events(position):
        rows = fold(bare, events, bare.rows(list({event[3] for event in events})))
        bare.write(rows, position, events[-1][0])
        position = events[-1][0]


def _handled(
    bare: _Bare, events: Sequence[tuple[Any, ...]], before: Sequence[Sequence[Any]]
) -> list[Sequence[Any]]:
    """By the domain's handlers."""
    rows: dict[str, Any] = {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in before}
    for _, version, occurred_at, user_id, event_type, event_version, data in events:
        event: Any = _Stored(user_id, version, occurred_at)
        change = _DECODERS[event_type, event_version](data)
        rows[user_id] = _HANDLERS[type(change)](rows.get(user_id), change, event)
    return [
        [
            bare.moment(value) if type(value) is datetime else value
            for value in map(row.get, _COLUMNS)
        ]
        for row in rows.values()
    ]


def _folded(
    bare: _Bare, events: Sequence[tuple[Any, ...]], before: Sequence[Sequence[Any]]
) -> list[Sequence[Any]]:
    """By code written for speed, which changes lists."""
    rows = {row[0]: list(row) for row in before}
    for _, version, moment, user_id, event_type, event_version, data in events:
        row = rows.get(user_id)
        if row is None:
            new = [user_id, None, None, None, 0, None, 0, False, version, moment, moment]
            row = rows[user_id] = new
        row[_VERSION], row[_UPDATED] = version, moment
        _change(row, _DECODERS[event_type, event_version](data), bare.moment)
    return list(rows.values())


def _change(row: list[Any], event: Any, moment: Callable[[datetime], Any]) -> None:
    kind = type(event)
    if kind is happened.LoginInfoUpdated:
        row[_LOGINS] += 1
        row[_LAST_LOGIN] = moment(event.at)
        row[_FAILED] = 0
    elif kind is happened.LoginFailed:
        row[_FAILED] += 1
    elif kind is happened.ProfileUpdated:
        row[_FULL_NAME] = event.full_name
    elif kind is happened.EmailChanged:
        row[_EMAIL] = event.email
    elif kind is happened.UserCreated:
        row[_USERNAME], row[_EMAIL], row[_FULL_NAME] = event.username, event.email, event.full_name
    elif kind is happened.AccountLocked:
        row[_LOCKED] = True
    elif kind is happened.AccountUnlocked:
        row[_LOCKED], row[_FAILED] = False, 0


class _BarePostgreSQL:
    """See `_Bare`. Rows go there and back as arrays: of all ways the fastest."""

    _TYPES = (
        *("text", "text", "text", "text", "int4", "timestamptz", "int4", "bool", "int8"),
        *("timestamptz", "timestamptz"),
    )
    _EVENTS = _EVENTS.format(after="$1::bigint", limit=BATCH).encode()
    _ROWS = f"SELECT {', '.join(_COLUMNS)} FROM user_read_model WHERE user_id = ANY($1::text[])"
    _MOVE = _MOVE.format(reached="$1::bigint", now="now()", after="$2::bigint").encode()
    _UPSERT = _UPSERT.format(
        values="SELECT * FROM unnest({})".format(
            ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_TYPES, start=1))
        )
    ).encode()

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SET timezone TO 'UTC'")
        self._connection.adapters.register_loader("json", ByteaBinaryLoader)
        self._connection.adapters.register_dumper(list, ListBinaryDumper)
        self._cursor = psycopg.RawCursor(self._connection)
        self._cursor.format = Format.BINARY

    def moment(self, moment: datetime) -> datetime:
        return moment

    def events(self, after: int) -> Sequence[tuple[Any, ...]]:
        return self._cursor.execute(self._EVENTS, (Int8(after),), prepare=True).fetchall()

    def rows(self, user_ids: Sequence[str]) -> Sequence[Sequence[Any]]:
        # Planned anew each time: a plan made while the table is empty reads all of it later.
        return self._cursor.execute(self._ROWS, (user_ids,), prepare=False).fetchall()

    def write(self, rows: Sequence[Sequence[Any]], after: int, reached: int) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        with self._connection.transaction(), self._connection.pipeline():
            self._cursor.execute(self._MOVE, (Int8(reached), Int8(after)), prepare=True)
            self._cursor.execute(self._UPSERT, columns, prepare=True)

    def close(self) -> None:
        self._connection.close()


class _BareSQLite:
    """See `_Bare`. Times stay the texts that they are."""

    _EVENTS = _EVENTS.format(after="?", limit=BATCH)
    _ROWS = f"""
        SELECT {", ".join(_COLUMNS)} FROM user_read_model
        WHERE user_id IN (SELECT value FROM json_each(?))
    """
    _MOVE = _MOVE.format(reached="?", now="?", after="?")
    _UPSERT = _UPSERT.format(values=f"VALUES ({', '.join('?' * len(_COLUMNS))})")

    def __init__(self, url: str) -> None:
        self._driver = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        self._driver.execute("PRAGMA synchronous = FULL")

    def moment(self, moment: datetime) -> str:
        return moment_text(moment)

    def events(self, after: int) -> Sequence[tuple[Any, ...]]:
        return self._driver.execute(self._EVENTS, (after,)).fetchall()

    def rows(self, user_ids: Sequence[str]) -> Sequence[Sequence[Any]]:
        return self._driver.execute(
            self._ROWS, (msgspec.json.encode(user_ids).decode(),)
        ).fetchall()

    def write(self, rows: Sequence[Sequence[Any]], after: int, reached: int) -> None:
        self._driver.execute("BEGIN IMMEDIATE")
        self._driver.execute(self._MOVE, (reached, moment_text(datetime.now(UTC)), after))
        self._driver.executemany(self._UPSERT, rows)
        self._driver.execute("COMMIT")

    def close(self) -> None:
        self._driver.close()


def answers(url: str, rounds: int, times: int) -> Answers:
    """One user, and a page of those who are locked, by the read model and by replaying."""
    chosen = random.Random(5)
    with Hindsight(url, domain=domain, cache=False, snapshots=False) as store:
        model = store.read_model("users")
        everybody = [row["user_id"] for row in model.query(limit=10_000).rows]
        some = [chosen.choice(everybody) for _ in range(times)]
        locked = Filter("account_locked", "=", True)  # noqa: FBT003 (a value)

        def page() -> object:
            return model.query(locked, sort="username", limit=20).rows

        def replayed_page() -> object:
            states = (store.load(each).state for each in everybody)
            found = [state for state in states if state.account_locked]
            return sorted(found, key=attrgetter("username"))[:20]

        runs: dict[str, Callable[[], float]] = {
            "row": partial(_speed, model.get, some),
            "row replayed": partial(_speed, store.load, some),
            "page": partial(_speed, lambda _: page(), some),
            "page replayed": partial(_speed, lambda _: replayed_page(), some[:1]),
        }
        found = interleave(runs, rounds)
    return Answers(
        users=len(everybody),
        row={OURS: found["row"], REPLAYED: found["row replayed"]},
        page={OURS: found["page"], REPLAYED: found["page replayed"]},
    )


def _speed(answer: Callable[[str], object], asked: Sequence[str]) -> float:
    started = perf_counter()
    for each in asked:
        answer(each)
    return len(asked) / (perf_counter() - started)


def lag(url: str, appends: int) -> Latency:
    """How long it takes until an append can be read, with one of them each 5 ms."""
    stop, taken = threading.Event(), list[float]()
    with Hindsight(url, domain=domain, cache=False) as store:
        store.projections.build_missing()
        projector = store.projections.projector("users")
        project_due(projector)
        projecting = threading.Thread(target=projector.run, args=(stop,))
        projecting.start()
        try:
            for event in _logins(appends):
                started = perf_counter()
                appended = store.append("user", "user-1", [event], expected=any_())
                store.wait_for("users", appended.position)
                taken.append(1_000 * (perf_counter() - started))
                time.sleep(max(0.0, started + _PAUSE - perf_counter()))
        finally:
            stop.set()
            projecting.join()
    cuts = quantiles(taken, n=100)
    return Latency(median=cuts[49], p99=cuts[98])


def _logins(number: int) -> Iterator[NewEvent]:
    client = happened.Client(ip_address="10.0.0.1")
    login = happened.LoginInfoUpdated(at=_UNTIL, client=client)
    version = user.schema_versions["LoginInfoUpdated"]
    for _ in range(number):
        yield NewEvent("LoginInfoUpdated", msgspec.to_builtins(login), schema_version=version)
