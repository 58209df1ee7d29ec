"""Redis killed, emptied and littered, and databases put back, while processes read and write."""

import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from sqlalchemy import text

from store import Hindsight, migrate
from tests.faults.cached import AGGREGATES
from tests.servers import PostgresServer, RedisServer
from tests.totals import put, unguard

PROCESSES = 2


@pytest.fixture(params=["sqlite", "postgresql"])
def twins(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[str]]:
    """Two stores that are copies of each other, and share a Redis."""
    if request.param == "sqlite":
        path = tmp_path / "store.db"
        prepare(f"sqlite:///{path}")
        yield [f"sqlite:///{path}", f"sqlite:///{shutil.copy(path, tmp_path / 'twin.db')}"]
        return
    server: PostgresServer = request.getfixturevalue("own_postgres")
    prepare(server.url())
    server.execute("CREATE DATABASE twin TEMPLATE postgres", database="template1")
    yield [server.url(), server.url("twin")]


def prepare(url: str) -> None:
    migrate(url)
    with Hindsight(url, cache=False) as store:
        with store.database.transaction() as connection:
            unguard(connection)
            connection.execute(text("CREATE TABLE restores (n INTEGER NOT NULL)"))
            connection.execute(text("INSERT INTO restores VALUES (0)"))
        for number in range(AGGREGATES):
            put(store, 1, 2, 3, aggregate_id=f"a{number}")
        with store.database.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def put_back(store: Hindsight, chosen: random.Random) -> None:
    """An aggregate is as it was some events ago."""
    named = {"id": f"a{chosen.randrange(AGGREGATES)}", "some": chosen.randint(1, 5)}
    with store.database.transaction() as connection:
        # The head first: that is what appends wait for.
        connection.execute(
            text(
                "UPDATE aggregates SET version = CASE WHEN version > 1 + :some"
                " THEN version - :some ELSE 1 END WHERE aggregate_id = :id"
            ),
            named,
        )
        for table in ("events", "outbox"):
            connection.execute(
                text(
                    f"DELETE FROM {table} WHERE aggregate_id = :id AND version >"
                    " (SELECT version FROM aggregates WHERE aggregate_id = :id)"
                ),
                named,
            )
        connection.execute(text("UPDATE restores SET n = n + 1"))


def litter(redis: RedisServer, chosen: random.Random) -> None:
    """Garbage in half of the keys, and the others' values exchanged."""
    with redis.client() as client:
        keys: Any = list(client.keys("*"))
        values = [client.get(key) or b"" for key in keys]
        chosen.shuffle(values)
        for key, value in zip(keys, values, strict=True):
            client.set(key, value if chosen.random() < 0.5 else chosen.randbytes(60))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4, pytest.param(90, marks=pytest.mark.soak)])
def test_no_answer_is_wrong_whatever_happens(
    twins: list[str], own_redis: RedisServer, seconds: int
) -> None:
    chosen, done = random.Random(1), Counter[str]()
    command = [sys.executable, "-m", "tests.faults.cached"]
    processes = [
        subprocess.Popen(
            [*command, url, own_redis.url, f"{place}-{number}", str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place, url in enumerate(twins)
        for number in range(PROCESSES)
    ]
    stores = [Hindsight(url, cache=False, metrics=False) for url in twins]
    deadline = time.monotonic() + seconds
    faults = cycle(["litter", "put back", "kill", "put back", "flush", "litter", "stall"])
    while time.monotonic() < deadline:
        time.sleep(0.1)
        what = next(faults)
        done[what] += 1
        try:
            if what == "kill":
                own_redis.kill()
                own_redis.start()
            elif what == "flush":
                with own_redis.client() as client:
                    client.flushall()
            elif what == "litter":
                litter(own_redis, chosen)
            elif what == "stall":
                own_redis.suspend()
                time.sleep(0.15)
                own_redis.resume()
            else:
                put_back(chosen.choice(stores), chosen)
        except RedisError:
            done["lost"] += 1
    told = [process.communicate(timeout=60) for process in processes]
    for store in stores:
        store.close()
    checks = Counter[str]()
    for output, errors in told:
        assert output, errors
        found = json.loads(output)
        assert found["wrong"] == []
        checks.update(found["checks"])
    proved = ("load", "load of some age", "history", "own write", "l1 hit", "l2 hit")
    assert min(checks[what] for what in proved) > 10, checks
    assert min(checks[what] for what in ("l1 dropped", "l2 dropped", "l2 error")) > 0, checks
    assert min(done[what] for what in ("kill", "flush", "litter", "put back", "stall")) > 0
