"""The stores that are looked at, filled by the import that users have."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import msgspec

from benchmarks.workload import ACTOR, AGGREGATE_TYPE, PAYLOADS
from store import Hindsight, migrate
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
