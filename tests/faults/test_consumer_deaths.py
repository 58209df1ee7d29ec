"""Consumers killed between effect and acknowledgement, Redis killed: each effect happens once."""

import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from store import Event, Hindsight, NewEvent, any_
from store.outbox.streams import RedisStreams
from tests.servers import RedisServer
from tests.waiting import until

TOPIC = "things"
PROCESSES = 3
AGGREGATES = 12


@pytest.fixture
def prepared(store: Hindsight) -> Hindsight:
    """A store with a table of effects in the order in which they were committed."""
    number = {
        "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "postgresql": "bigint GENERATED ALWAYS AS IDENTITY",
    }[store.database.engine.dialect.name]
    with store.database.transaction() as connection:
        connection.execute(
            text(f"CREATE TABLE effects (n {number}, aggregate_id TEXT, version INTEGER)")
        )
    return store


class Crew:
    """Processes that consume, and are replaced when they have killed themselves."""

    def __init__(self, url: str, redis: RedisServer) -> None:
        self._command = [sys.executable, "-m", "tests.faults.consuming", url, redis.url, TOPIC]
        self._processes: list[subprocess.Popen[bytes]] = []
        self.deaths = 0

    def fill(self, risk: float) -> None:
        """Replace who died; those who come now die so likely."""
        for process in self._processes:
            if (code := process.poll()) is not None:
                assert code == -signal.SIGKILL
                self.deaths += 1
        self._processes = [each for each in self._processes if each.poll() is None]
        while len(self._processes) < PROCESSES:
            seed = f"{self.deaths}-{len(self._processes)}"
            self._processes.append(subprocess.Popen([*self._command, seed, str(risk)]))

    @contextmanager
    def working(self) -> Iterator["Crew"]:
        try:
            yield self
        finally:
            for process in self._processes:
                process.terminate()
            codes = [process.wait(30) for process in self._processes]
        assert set(codes) <= {0, -signal.SIGKILL, -signal.SIGTERM}, codes


def put(store: Hindsight, chosen: random.Random) -> list[Event]:
    """Some events of any aggregates."""
    stored: list[Event] = []
    for _ in range(10):
        events = [NewEvent("Made", {}) for _ in range(chosen.randint(1, 5))]
        aggregate_id = f"a{chosen.randrange(AGGREGATES)}"
        stored += store.append("thing", aggregate_id, events, expected=any_()).events
    return stored


def effects(store: Hindsight) -> list[Any]:
    return store.database.rows("SELECT aggregate_id, version FROM effects ORDER BY n", {})


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [8, pytest.param(200, marks=[pytest.mark.soak])])
def test_effects_happen_once_and_in_order(
    prepared: Hindsight, store_url: str, own_redis: RedisServer, deaths: int
) -> None:
    store, chosen = prepared, random.Random(1)
    publisher = RedisStreams(own_redis.url, topic=TOPIC, source="/things", shards=4)
    with Crew(store_url, own_redis).working() as crew:

        def go_on() -> bool:
            """One more round of events, each published twice, with some of any round before."""
            crew.fill(0.02)
            if len(effects(store)) < store.counts().events - 200:
                return False  # they are busy restarting
            new = put(store, chosen)
            again = [event for event in store.feed() if chosen.random() < 0.05]
            for events in (new, again, new):
                assert publisher.publish(events) == {}
            if chosen.random() < 0.05:
                own_redis.kill()
                own_redis.start()
                assert publisher.publish(list(store.feed())) == {}
            return crew.deaths >= deaths

        until(go_on, seconds=60 + 5 * deaths)
        own_redis.kill()
        own_redis.start()
        assert publisher.publish(list(store.feed())) == {}

        def is_done() -> bool:
            crew.fill(0)
            return len(effects(store)) >= store.counts().events

        until(is_done, seconds=60)
    publisher.close()
    assert max(Counter(effects(store)).values()) == 1
    found: defaultdict[str, list[int]] = defaultdict(list)
    for aggregate_id, version in effects(store):
        found[aggregate_id].append(version)
    assert found == {
        name: [event.version for event in store.events(name)] for name in sorted(found)
    }
    assert len(effects(store)) == store.counts().events
