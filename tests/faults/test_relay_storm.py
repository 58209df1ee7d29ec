"""Relays killed while they publish: every committed event arrives, in order, however often."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from store import Hindsight, NewEvent, any_, migrate
from store.errors import DatabaseBusy, OutcomeUnknown, StoreUnavailable
from store.outbox import ATTEMPTS
from tests.faults.relaying import POISONED
from tests.servers import PostgresServer
from tests.waiting import until

WRITERS = 8
RELAYS = 4
AGGREGATES = 60


class Sent(NamedTuple):
    """A line that a relay has written."""

    aggregate_id: str
    version: int
    relay: int


class Record(NamedTuple):
    """A record of the outbox."""

    aggregate_id: str
    version: int
    status: str
    attempts: int


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        path = f"sqlite:///{tmp_path / 'store.db'}"
        migrate(path)
        return path
    server: PostgresServer = request.getfixturevalue("own_postgres")
    migrate(server.url())
    return server.url()


def relay(url: str, sink: Path, *, kill_behind: int = 0) -> "subprocess.Popen[bytes]":
    """A relay in a process; `kill_behind` so many batches it kills itself, 0 never."""
    command = [sys.executable, "-m", "tests.faults.relaying", url, str(sink), str(kill_behind)]
    return subprocess.Popen(command)


def sent(sink: Path) -> list[Sent]:
    lines = sink.read_text().splitlines() if sink.exists() else []
    return [
        Sent(aggregate_id, int(version), int(pid))
        for aggregate_id, version, pid in (line.split() for line in lines)
    ]


def records(store: Hindsight) -> list[Record]:
    sql = "SELECT aggregate_id, version, status, attempts FROM outbox ORDER BY 1, 2"
    return [Record(*row) for row in store.database.rows(sql, {})]


def pending(store: Hindsight) -> int:
    sql = "SELECT count(*) FROM outbox WHERE status = 'pending' AND aggregate_id <> 'poisoned'"
    try:
        [(count,)] = store.database.rows(sql, {})
    except StoreUnavailable:
        return 1
    return int(count)


def stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        # One that has just been started may not have got to hear of it.
        assert process.wait(20) in {0, -signal.SIGTERM}


def check(store: Hindsight, sink: Path) -> Counter[int]:
    """How often events were sent, by that number, where all is as promised."""
    by_aggregate: defaultdict[str, list[int]] = defaultdict(list)
    for line in sent(sink):
        by_aggregate[line.aggregate_id].append(line.version)
    committed = {
        (event.aggregate_id, event.version)
        for event in store.feed()
        if event.aggregate_id != POISONED
    }
    times = Counter((line.aggregate_id, line.version) for line in sent(sink))
    assert set(times) == committed
    for versions in by_aggregate.values():
        firsts = list(dict.fromkeys(versions))
        assert firsts == sorted(firsts)
        # Again comes only what may not have been settled: from some version on, in order.
        for before, after in itertools.pairwise(versions):
            assert after <= before + 1
    for record in records(store):
        if record.aggregate_id == POISONED:
            expected = ("failed", ATTEMPTS) if record.version == 1 else ("pending", 0)
            assert (record.status, record.attempts) == expected
        else:
            assert record.status == "published"
            assert 1 <= times[record.aggregate_id, record.version] <= record.attempts <= ATTEMPTS
    return Counter(times.values())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_a_relay_killed_between_sending_and_settling_loses_nothing(
    url: str, kills: int, tmp_path: Path
) -> None:
    sink, chosen = tmp_path / "sink", random.Random(1)
    with Hindsight(url) as store:
        killed = 0
        while killed < kills:
            for _ in range(40):
                name = f"a{chosen.randrange(AGGREGATES)}"
                events = [NewEvent("Written", {"n": n}) for n in range(chosen.randint(1, 4))]
                store.append("thing", name, events, expected=any_())
            process = relay(url, sink, kill_behind=chosen.randint(1, 4))
            assert process.wait(60) == -signal.SIGKILL
            killed += 1
        last = relay(url, sink)
        until(lambda: not pending(store), 120)
        stop([last])
        found = check(store, sink)
    assert sum(count for times, count in found.items() if times > 1) >= kills


def write(url: str, number: int, ended: threading.Event) -> int:
    """Append until it is told to stop; how many events."""
    chosen, written = random.Random(number), 0
    with Hindsight(url) as store:
        while not ended.is_set():
            events = [NewEvent("Written", {"by": number, "n": n}) for n in range(3)]
            try:
                name = f"a{chosen.randrange(AGGREGATES)}"
                store.append("thing", name, events[: chosen.randint(1, 3)], expected=any_())
            except (StoreUnavailable, OutcomeUnknown, DatabaseBusy):
                time.sleep(0.02)
                continue
            written += 1
            time.sleep(chosen.random() * 0.02)
    return written


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_relays_that_die_all_the_time_bring_everything_in_order(
    request: pytest.FixtureRequest, url: str, seconds: int, tmp_path: Path
) -> None:
    sink, ended, chosen = tmp_path / "sink", threading.Event(), random.Random(2)
    server: PostgresServer | None = None
    if not url.startswith("sqlite"):
        server = request.getfixturevalue("own_postgres")
    with Hindsight(url) as store:
        for _ in range(3):
            store.append("thing", POISONED, [NewEvent("Written", {})], expected=any_())
        relays = [relay(url, sink) for _ in range(RELAYS)]
        with ThreadPoolExecutor(WRITERS) as pool:
            writing = [pool.submit(write, url, number, ended) for number in range(WRITERS)]
            try:
                for second in range(seconds):
                    time.sleep(1)
                    victim = chosen.randrange(RELAYS)
                    os.kill(relays[victim].pid, signal.SIGKILL)
                    assert relays[victim].wait(20) == -signal.SIGKILL
                    relays[victim] = relay(url, sink)
                    if server is not None and second % 20 == 3:
                        server.restart("immediate")
            finally:
                ended.set()  # or the pool would wait for its writers for ever
            assert min(writer.result(60) for writer in writing) > seconds
        until(lambda: not pending(store), 120)
        until(lambda: Record(POISONED, 1, "failed", ATTEMPTS) in records(store), 60)
        stop(relays)
        found = check(store, sink)
    assert found[1] > 100 * seconds / 6
