"""A relay's look at the outbox costs the same, whatever waits there and whatever was published."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import asdict
from sqlalchemy import text

from store import Hindsight, NewEvent, any_
from store.database import postgresql
from store.database.claiming import CLAIM_ON_SQLITE, Claim
from store.tables import moment_text

pytestmark = pytest.mark.slow

PUBLISHED = 20_000
WAITING = 5_000
LONG = 2_000
"""Events of an aggregate of which all but the last three were published."""
DUE = 10
HEADS = DUE + 2
_NUMBERS = {
    "postgresql": "SELECT generate_series(1, :count) AS n",
    "sqlite": (
        "SELECT n FROM (WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s"
        " WHERE n < :count) SELECT n FROM s) AS s"
    ),
}
_FILL = """
    INSERT INTO outbox (
        aggregate_id, version, position, event_id, status, open, attempts, created_at, finished_at
    )
    SELECT {id}, {version}, -n, :event_id, {status}, {open}, {attempts}, :now, {finished}
    FROM ({numbers}) AS numbers
"""


def fill(store: Hindsight) -> None:
    """20,000 published records, an aggregate that is held, one that is long, and some due."""
    numbers = _NUMBERS[store.database.engine.dialect.name]
    published = _FILL.format(
        id="'a' || (n % 1000)",
        version="n / 1000 + 1",
        status="'published'",
        open="false",
        attempts="1",
        finished=":now",
        numbers=numbers,
    )
    held = _FILL.format(
        id="'held'",
        version="n",
        status="CASE WHEN n = 1 THEN 'failed' ELSE 'pending' END",
        open="true",
        attempts="CASE WHEN n = 1 THEN 4 ELSE 0 END",
        finished="NULL",
        numbers=numbers,
    )
    value = store.database.value
    known = {"event_id": value(uuid4()), "now": value(datetime.now(UTC))}
    with store.database.transaction() as connection:
        if store.database.is_remote:
            connection.execute(text("ALTER TABLE outbox SET (autovacuum_enabled = off)"))
        connection.execute(text(published), known | {"count": PUBLISHED})
        connection.execute(text(held), known | {"count": WAITING})
    for number in range(DUE):
        store.append("thing", f"due{number}", made(1), expected=any_())
    store.append("thing", "long", made(LONG), expected=any_())
    done = "UPDATE outbox SET status = 'published', open = false, finished_at = created_at"
    with store.database.transaction() as connection:
        connection.execute(
            text(f"{done} WHERE aggregate_id = 'long' AND version <= :last"), {"last": LONG - 3}
        )


def made(count: int) -> list[NewEvent]:
    return [NewEvent("Made", {}) for _ in range(count)]


@pytest.fixture(params=["analyzed", "without statistics"])
def analyzed(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "analyzed")


def a_claim() -> Claim:
    return Claim(lease=uuid4(), by="relay", seconds=60, heads=100, run=50)


def test_it_claims_what_is_due(store: Hindsight) -> None:
    fill(store)
    claimed = store.database.claim(a_claim())
    ids = [each.aggregate_id for each in claimed]
    assert ids == [f"due{number}" for number in range(DUE)] + ["long"] * 3
    assert store.database.claim(a_claim()) == []


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
def test_postgresql_steps_through_the_index(
    postgres_url: str, *, analyzed: bool, plan: str
) -> None:
    with Hindsight(postgres_url) as store:
        fill(store)
        if analyzed:
            with store.database.connect() as connection:
                connection.execute(text("ANALYZE"))
        root = explained(store, plan)
    scans = [node for node in nodes(root) if node.get("Relation Name") == "outbox"]
    reads = [node for node in scans if node["Node Type"] != "ModifyTable"]
    assert {node["Node Type"] for node in reads} <= {"Index Scan", "Index Only Scan"}
    assert {node["Index Name"] for node in reads} <= {"outbox_open_idx", "outbox_pkey"}
    assert sum(rows_touched(node) for node in reads) <= 8 * HEADS
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] <= 30 * HEADS


def explained(store: Hindsight, plan: str) -> dict[str, Any]:
    """What the claim does, in a transaction that is rolled back."""
    query, names = postgresql._positional(postgresql._CLAIM)
    values = asdict(a_claim())
    places = ", ".join(["%s"] * len(names))
    with store.database.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.transaction(force_rollback=True):
            cursor = psycopg.ClientCursor(driver)
            cursor.execute(f"SET LOCAL plan_cache_mode = {plan}".encode())
            cursor.execute(b"PREPARE poll AS " + query)
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE poll ({places})"
            cursor.execute(explain.encode(), [values[name] for name in names])
            found: dict[str, Any] = cursor.fetchall()[0][0][0]["Plan"]
            cursor.execute(b"DEALLOCATE poll")
    return found


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from nodes(below)


def rows_touched(node: dict[str, Any]) -> float:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def test_sqlite_steps_through_the_index(sqlite_url: str, *, analyzed: bool) -> None:
    parameters = {
        "after": "",
        "heads": 100,
        "run": 50,
        "lease": "l",
        "by": "relay",
        "now": moment_text(datetime.now(UTC)),
        "until": moment_text(datetime.now(UTC)),
    }
    with Hindsight(sqlite_url) as store:
        fill(store)
        if analyzed:
            with store.database.connect() as connection:
                connection.execute(text("ANALYZE"))
    driver = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    steps: list[None] = []
    rows = driver.execute(f"EXPLAIN QUERY PLAN {CLAIM_ON_SQLITE}", parameters).fetchall()
    plan = [str(row[-1]) for row in rows]
    driver.set_progress_handler(lambda: steps.append(None), 1)
    driver.execute("BEGIN")
    assert len(driver.execute(CLAIM_ON_SQLITE, parameters).fetchall()) == DUE + 3
    driver.execute("ROLLBACK")
    driver.close()
    ways = ("USING INDEX outbox_open_idx", "USING INTEGER PRIMARY KEY")
    for line in plan:
        # Materialized, it would be stepped through to its end before the first is claimed.
        assert not line.startswith(("BLOOM", "MATERIALIZE waiting")), plan
        assert re.match(r"SCAN (outbox|o|p)\b", line) is None, plan
        if line.startswith("SEARCH"):
            assert any(way in line for way in ways), plan
    assert len(steps) <= 500 * HEADS
