"""The stores that are looked at, filled by the import that users have."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from benchmarks.workload import ACTOR, AGGREGATE_TYPE, PAYLOADS
from store import Hindsight, migrate
from store.conflict_log import Logged
from store.metrics import SECONDS
from store.samples import EVERY
from store.transfer import import_events

LONG = "ticket-long"
SHORT = "ticket-0"
HISTORY = 100
"""Events of each aggregate but the long one."""

TYPES = {
    "CommentAdded": 600,
    "TicketAssigned": 200,
    "PriorityChanged": 100,
    "LabelAdded": 60,
    "TicketReopened": 30,
    "TicketMerged": 9,
    "TicketEscalated": 1,
}
"""Event types and how frequent they are beside each other."""

PROCESSES = 4
CONFLICTS = 20_000
_DAY = timedelta(hours=24)
_START = datetime(2026, 1, 1, tzinfo=UTC)
_SPAN = timedelta(days=300)
_encode = msgspec.json.Encoder().encode


def fill(url: str, directory: Path, *, events: int, long: int = 0) -> None:
    """Write a store of `events` events over 300 days, `long` of them of the aggregate `LONG`.

    The others are of aggregates with `HISTORY` events each, spread over the whole time.
    """
    migrate(url)
    path = directory / "events.ndjson"
    with path.open("wb") as file:
        file.writelines(_lines(events, long))
    with Hindsight(url) as store, path.open("rb") as file:
        outcome = import_events(store.log, file)
    path.unlink()
    if outcome.imported != events:
        raise SystemExit(f"imported {outcome.imported:,} of {events:,} events")


def watch(url: str) -> None:
    """Write a day of samples of `PROCESSES` processes, and their conflicts."""
    random = Random(20_261_125)
    end = datetime.now(UTC)
    taken = [end - number * EVERY for number in range(_DAY // EVERY)]
    with Hindsight(url, metrics=False) as store:
        table = store.database.tables.tables["metric_samples"]
        rows = [
            _sample(random, at, f"host:{process}") for at in taken for process in range(PROCESSES)
        ]
        with store.database.transaction() as connection:
            connection.execute(table.insert(), rows)
        conflicts = [_conflict(random, end - random.random() * _DAY) for _ in range(CONFLICTS)]
        store.conflicts.write(sorted(conflicts, key=lambda each: each.occurred_at))


def _sample(random: Random, at: datetime, process: str) -> dict[str, Any]:
    grown: dict[str, list[Any]] = {
        "event_store_events_total": [
            [{"event_type": name}, 1 + random.randrange(weight)] for name, weight in TYPES.items()
        ],
        "event_store_conflict_outcomes_total": [
            [{"outcome": outcome, "aggregate_type": AGGREGATE_TYPE}, random.randrange(5)]
            for outcome in ("absorbed", "escaped")
        ],
        "event_store_save_duration_seconds_count": [[{}, 100]],
    }
    for name in ("event_store_save_duration_seconds", "event_replay_duration_seconds"):
        bounds = [*map(str, SECONDS), "+Inf"]
        pairs = [(bound, random.randrange(1_000) >> place) for place, bound in enumerate(bounds)]
        grown[f"{name}_bucket"] = [[{"le": bound}, count] for bound, count in pairs]
    levels = {"event_store_size_bytes": 1e9, "event_store_feed_lag_events": random.randrange(9)}
    return {
        "taken_at": at,
        "sampler": process,
        "process": process,
        "written_at": at + EVERY,
        "data": _encode([grown, levels]).decode(),
    }


def _conflict(random: Random, at: datetime) -> Logged:
    commands = ["Assign", "Comment", "Merge", "Escalate"]
    losing, winning = random.choices(commands, k=2)
    return Logged(
        occurred_at=at,
        aggregate_type=AGGREGATE_TYPE,
        aggregate_id=f"ticket-{random.randrange(100)}",
        expected=1,
        actual=2,
        losing=losing,
        command=losing,
        event_types=("CommentAdded",),
        winning=winning,
        winners=(),
        attempt=1,
        outcome=random.choice(("absorbed", "escaped")),
        verdict=random.choice(("same", "other", "rejected")),
        actor=ACTOR,
        correlation_id=None,
        process="host:1",
    )


def _lines(events: int, long: int) -> Iterator[bytes]:
    random = Random(20_261_124)
    names, weights = list(TYPES), list(TYPES.values())
    aggregates = (events - long) // HISTORY
    versions = [0] * aggregates
    long_version = 0
    step = _SPAN / events
    for number, event_type in enumerate(random.choices(names, weights, k=events)):
        if long_version * events < number * long:
            long_version += 1
            aggregate_id, version = LONG, long_version
        else:
            index = (number - long_version) % aggregates
            versions[index] += 1
            aggregate_id, version = f"ticket-{index}", versions[index]
        yield _line(number, aggregate_id, version, event_type, _START + number * step)


def _line(number: int, aggregate_id: str, version: int, event_type: str, at: datetime) -> bytes:
    line = {
        "event_id": UUID(int=number + 1),
        "aggregate_type": AGGREGATE_TYPE,
        "aggregate_id": aggregate_id,
        "version": version,
        "event_type": event_type,
        "data": PAYLOADS[number % len(PAYLOADS)],
        "metadata": {"actor": ACTOR, "correlation_id": f"req-{number}"},
        "occurred_at": at,
    }
    return _encode(line) + b"\n"
