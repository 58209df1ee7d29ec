"""Half of a store is archived while all write, read and die: nothing is lost, doubled or wrong.

`--log-cli-level INFO` tells what was seen.
"""

import io
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from store import Event, Hindsight, NewEvent, any_, migrate
from store.interchange import format_line
from store.outbox import Relay
from store.transfer import import_events
from store.verification import verify
from store.work import project_due
from tests.faults.archiving import ACTIVE, OLD, ToLines, domain, facts, lines
from tests.faults.relaying import LEASE
from tests.servers import PostgresServer
from tests.waiting import until

_log = logging.getLogger(__name__)

TASKS = {"write": 2, "move": 2, "follow": 2, "read": 1, "work": 1}
EVENTS = 2_400
Process = subprocess.Popen[bytes]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        path = f"sqlite:///{tmp_path / 'store.db'}"
        migrate(path)
        return path
    server: PostgresServer = request.getfixturevalue("own_postgres")
    migrate(server.url())
    return server.url()


@pytest.fixture
def server(request: pytest.FixtureRequest, url: str) -> PostgresServer | None:
    """The server to restart, where there is one."""
    return None if url.startswith("sqlite") else request.getfixturevalue("own_postgres")


def fill(url: str) -> list[Event]:
    """Events of some months, those of one aggregate beside those of others."""
    moments = (datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(EVENTS))
    with Hindsight(url, domain=domain, clock=lambda: next(moments), cache=False) as store:
        store.projections.build_missing()
        for number in range(EVENTS // 8):
            events = [NewEvent("Added", {"number": 1 + n}) for n in range(8)]
            store.append("total", f"old-{number % OLD}", events, expected=any_())
        return list(store.feed())


class Processes:
    """Those that do something; each that is killed is replaced at once."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._chosen = random.Random(7)
        self._running = {
            (task, number): self._started(task, number)
            for task, count in TASKS.items()
            for number in range(count)
        }

    def files(self, task: str) -> list[Path]:
        """What those that do this have written down."""
        return [self._file(task, number) for number in range(TASKS[task])]

    def _file(self, task: str, number: int) -> Path:
        return self._folder / f"{task}-{number}"

    def _started(self, task: str, number: int) -> Process:
        words = [task, self._url, str(self._file(task, number)), str(number)]
        return subprocess.Popen([sys.executable, "-m", "tests.faults.archiving", *words])

    def are_at_it(self) -> bool:
        """Whether all have written something down, but for readers, who do not."""
        return all(lines(file) for task in TASKS for file in self.files(task) if task != "read")

    def kill(self) -> None:
        which = self._chosen.choice(list(self._running))
        victim = self._running[which]
        os.kill(victim.pid, signal.SIGKILL)
        assert victim.wait(20) == -signal.SIGKILL, f"{which} saw something wrong"
        self._running[which] = self._started(*which)

    def end(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for which, process in self._running.items():
            # One that has just been started may not have got to hear of it.
            assert process.wait(60) in {0, -signal.SIGTERM}, f"{which} saw something wrong"

    def follow_to_the_end(self, events: int) -> None:
        """Have followers go on until they have seen so many events."""
        self._running = {key: self._started(*key) for key in self._running if key[0] == "follow"}
        try:
            until(lambda: all(len(lines(file)) >= events for file in self.files("follow")), 120)
        finally:
            self.end()


@contextmanager
def running(url: str, folder: Path) -> Iterator[Processes]:
    """All of them, until the block ends."""
    processes = Processes(url, folder)
    try:
        yield processes
    finally:
        processes.end()


def check_stored(before: Sequence[Event], stored: Sequence[Event], writers: list[Path]) -> int:
    """There is what was there before, and what writers were told; how often they were."""
    told = [line for path in writers for line in lines(path)]
    expected = {str(each[0]): each for each in map(facts, before)}
    wanted = {token for kind, token, *_ in told if kind != "stored"}
    for kind, token, *rest in told:
        if kind == "stored":
            expected |= {event[0]: event for event in rest[0]}
            wanted.discard(token)
    # Of those the writers were killed before they were told.
    expected |= {str(e.event_id): facts(e) for e in stored if e.correlation_id in wanted}
    found = [facts(event) for event in stored]
    assert len(found) == len({str(each[0]) for each in found})
    assert sorted(found, key=str) == sorted(expected.values(), key=str)
    assert [event.position for event in stored] == sorted(e.position for e in stored)
    versions = Counter[str]()
    for event in stored:
        versions[event.aggregate_id] += 1
        assert event.version == versions[event.aggregate_id]
    return sum(kind == "stored" for kind, *_ in told)


def check_followed(stored: Sequence[Event], followers: list[Path]) -> None:
    """Each was seen once, and in order."""
    feed = [[event.position, str(event.event_id)] for event in stored]
    for path in followers:
        assert lines(path) == feed


def check_published(store: Hindsight, stored: Sequence[Event], sink: Path) -> None:
    """Each was published, those of an aggregate in their order."""
    relay = Relay(store.database, ToLines(sink), lease=LEASE, heads=100, run=100)
    pending = "SELECT count(*) FROM outbox WHERE open"

    def relayed() -> bool:
        while relay.once().claimed:
            pass
        return store.database.rows(pending, {}) == [(0,)]

    until(relayed, 120)
    published: defaultdict[str, list[int]] = defaultdict(list)
    for aggregate_id, version in lines(sink):
        published[aggregate_id].append(version)
    newest = {event.aggregate_id: event.version for event in stored}
    assert published.keys() == newest.keys()
    for aggregate_id, versions in published.items():
        assert list(dict.fromkeys(versions)) == list(range(1, newest[aggregate_id] + 1))


def check_places(store: Hindsight, stored: Sequence[Event]) -> int:
    """Each is active, or in the archive; how many are there."""
    active = [row[0] for row in store.database.rows("SELECT position FROM events", {})]
    archived = []
    with store.database.snapshot() as connection:
        for name in {event.aggregate_id for event in stored}:
            archived += [event.position for event in store.log.archived.events(name, connection)]
    assert sorted(active + archived) == [event.position for event in stored]
    assert store.archive.standing().events == len(archived)
    return len(archived)


def check_read_models(store: Hindsight) -> int:
    rows = 0
    for name in store.projections.declared:
        project_due(store.projections.projector(name))
        checked = store.projections.check(name)
        assert checked.compared.drift == 0
        rows += checked.compared.rows
    return rows


def check_import(store: Hindsight, stored: Sequence[Event]) -> None:
    raw: Any = io.BytesIO(b"".join(map(format_line, stored)))
    imported = import_events(store.log, io.BufferedReader(raw))
    assert (imported.known, imported.imported, imported.rejected) == (len(stored), 0, 0)
    assert list(store.feed()) == stored


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [7, pytest.param(60, marks=pytest.mark.soak)])
def test_whoever_dies_while_half_is_archived_nothing_is_lost_doubled_or_wrong(
    url: str, server: PostgresServer | None, seconds: int, tmp_path: Path
) -> None:
    before, chosen = fill(url), random.Random(8)
    kills = restarts = 0
    with running(url, tmp_path) as processes:
        until(processes.are_at_it, 60)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(chosen.uniform(0.3, 0.9))
            processes.kill()
            kills += 1
            if server is not None and kills % 10 == 4:
                server.restart("immediate")
                restarts += 1
    with Hindsight(url, domain=domain, cache=False) as store:
        stored = list(store.feed())
        told = check_stored(before, stored, processes.files("write"))
        processes.follow_to_the_end(len(stored))
        check_followed(stored, processes.files("follow"))
        [sink] = processes.files("work")
        check_published(store, stored, sink)
        archived = check_places(store, stored)
        rows = check_read_models(store)
        verified = verify(store.log, domains=store.domains)
        assert (verified.events, verified.findings) == (len(stored), ())
        check_import(store, stored)
    moved = Counter[str]()
    for path in processes.files("move"):
        for kind, count in lines(path):
            moved[kind] += count
    assert archived > (len(stored) - ACTIVE) / 2
    assert min(moved[kind] for kind in ("archived", "restored", "given back")) > 0
    figures = {"kills": kills, "restarts": restarts, "events": len(stored), "told": told}
    _log.info("%s", figures | {"in the archive": archived, "rows": rows} | moved)
