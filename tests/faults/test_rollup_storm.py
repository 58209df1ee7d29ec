"""Workers killed while they roll up: at every moment each event is counted once."""

import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import CompoundSelect, Connection, Select, TextualSelect

from store import FeedFilter, Hindsight, NewEvent, any_, migrate
from store.database import Database
from store.errors import DatabaseBusy
from store.reader import EventReader
from store.rollups import counting, keeping, reading
from store.transfer import import_events
from tests.servers import PostgresServer
from tests.waiting import until

WORKERS = 3
WRITERS = 3
LISTED = 50
HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 11, 22, tzinfo=UTC)
Process = subprocess.Popen[bytes]
Task = Callable[[Hindsight, random.Random], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        path = f"sqlite:///{tmp_path / 'store.db'}"
        migrate(path)
        return path
    server: PostgresServer = request.getfixturevalue("own_postgres")
    migrate(server.url())
    return server.url()


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of events are many here, and a rebuild takes several queries."""
    monkeypatch.setattr(reading, "FEW", 0)
    monkeypatch.setattr(keeping, "LONG_SLICE", 500)


class Seen:
    """A `Database` as one transaction sees it."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def rows(self, sql: str, parameters: Mapping[str, Any], *_: Any, **__: Any) -> Any:
        return self._database.rows(sql, parameters, self._connection)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        yield self._connection

    def select(
        self, statement: Select[Any] | CompoundSelect[Any] | TextualSelect
    ) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.execute(statement)]


def look(store: Hindsight) -> int:
    """Compare what is counted with the events, all of it as of one moment; how many there are."""
    with store.database.snapshot() as connection:
        seen = Seen(store.database, connection)
        reader = EventReader(cast("Database", seen), name="")
        [(plain,)] = seen.rows("SELECT count(*) FROM events", {})
        counts = reader.counts()
        assert counts.events == sum(counts.events_by_type.values()) == plain
        lengths = seen.rows("SELECT version, aggregate_id FROM aggregates", {})
        assert counts.aggregates == len(lengths)
        longest = reader.aggregates(order="longest", limit=LISTED).items
        by_length = sorted(lengths, key=lambda row: (-row[0], row[1]))[:LISTED]
        assert [(head.version, head.aggregate_id) for head in longest] == by_length
        for axis in keeping.AXES:
            counted = [
                (
                    axis,
                    hours,
                    (t.start - EPOCH) // HOUR,
                    t.aggregate_type,
                    t.event_type,
                    t.events,
                    t.first_position,
                    t.last_position,
                )
                for hours in counting.WIDTHS
                for t in reader.tally(width=hours * HOUR, where=FeedFilter(axis=axis))
            ]
            anew = seen.select(counting.counts(cast("Database", seen), axis, 0, 2**62))
            assert counted == sorted(anew)
    return int(plain)


def write(store: Hindsight, chosen: random.Random) -> None:
    """Append some events; as often as not late, or never, in a transaction that stays open."""
    name = f"a{chosen.randrange(60)}"
    at = START + timedelta(seconds=chosen.randrange(20 * 3600))
    events = [
        NewEvent(f"T{chosen.randrange(3)}", {}, occurred_at=at) for _ in range(chosen.randint(1, 4))
    ]
    if chosen.random() < 0.5:
        store.append("thing", name, events, expected=any_())
        return
    with store.database.transaction() as connection:
        store.append("thing", name, events, expected=any_(), connection=connection)
        time.sleep(chosen.random() * 0.03)
        if chosen.random() < 0.3:
            connection.rollback()


def bring_in(store: Hindsight, chosen: random.Random) -> None:
    """Import events that were recorded long ago, the later ones first."""
    lines = []
    for number in range(chosen.randint(50, 400)):
        at = START - timedelta(seconds=37 * number + chosen.randrange(3_600))
        fields = {
            "event_id": str(uuid4()),
            "aggregate_type": "imported",
            "aggregate_id": str(uuid4()),
            "version": 1,
            "event_type": "Imported",
            "schema_version": 1,
            "data": {},
            "metadata": {},
            "occurred_at": at.isoformat(),
            "recorded_at": (at + HOUR).isoformat(),
        }
        lines.append(json.dumps(fields).encode() + b"\n")
    raw = cast("io.RawIOBase", io.BytesIO(b"".join(lines)))
    stream: io.BufferedReader = io.BufferedReader(raw)
    import_events(store.log, stream, restore=True)
    time.sleep(0.1)


def rebuild(store: Hindsight, _: random.Random) -> None:
    store.rollups.rebuild(store.watermark().position)
    time.sleep(0.5)


def repeat(url: str, number: int, task: Task, ended: threading.Event) -> int:
    """Do it again and again until told to stop; how often."""
    chosen, done = random.Random(number), 0
    with Hindsight(url) as store:
        while not ended.is_set():
            try:
                task(store, chosen)
            except DatabaseBusy:
                continue
            done += 1
    return done


def watch(store: Hindsight, _: random.Random) -> None:
    look(store)


class Workers:
    """Processes that roll up; each that is killed is replaced at once."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._chosen = random.Random(5)
        self._processes = [self._started() for _ in range(WORKERS)]

    def _started(self) -> Process:
        return subprocess.Popen([sys.executable, "-m", "tests.faults.counting", self._url])

    def kill(self) -> None:
        victim = self._chosen.choice(self._processes)
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait(20) == -signal.SIGKILL
        self._processes.remove(victim)
        self._processes.append(self._started())

    def end(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            # One that has just been started may not have got to hear of it.
            assert process.wait(20) in {0, -signal.SIGTERM}


@contextmanager
def working(url: str) -> Iterator[Workers]:
    """Workers until the block ends."""
    workers = Workers(url)
    try:
        yield workers
    finally:
        workers.end()


@contextmanager
def beside(url: str, *tasks: Task) -> Iterator[None]:
    """Repeat each task in a thread until the block ends; each must have got to do something."""
    ended = threading.Event()
    with ThreadPoolExecutor(len(tasks)) as pool:
        running = [pool.submit(repeat, url, *each, ended) for each in enumerate(tasks)]
        try:
            yield
        finally:
            ended.set()  # or the pool would wait for them for ever
        assert all(each.result(60) for each in running)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.soak)])
def test_whoever_dies_each_event_is_counted_once(url: str, kills: int) -> None:
    chosen = random.Random(2)
    with Hindsight(url) as store, working(url) as workers:
        with beside(url, *[write] * WRITERS, bring_in, rebuild, watch):
            for _ in range(kills):
                time.sleep(chosen.random())
                workers.kill()
        until(lambda: store.log.rolled_up() == store.watermark().position)
        assert look(store) > 100 * WRITERS
        assert store.rollups.check().differences == ()
