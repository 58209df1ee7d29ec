"""One of several processes that append for a while; prints what it got in, as JSON lines."""

import json
import random
import sys
import time

from store import Hindsight, NewEvent, exact
from store.errors import VersionConflict


def main() -> None:
    url, name, aggregates, seconds = sys.argv[1:]
    deadline = time.monotonic() + float(seconds)
    chosen = random.Random(name)
    with Hindsight(url) as store:
        while time.monotonic() < deadline:
            aggregate_id = f"aggregate-{chosen.randrange(int(aggregates))}"
            for event in append(store, aggregate_id, chosen.randint(1, 3), name):
                sys.stdout.write(json.dumps(event) + "\n")


def append(
    store: Hindsight, aggregate_id: str, count: int, name: str
) -> list[tuple[str, int, int, str]]:
    """Append by expected version until it fits; the facts of each event as stored."""
    events = [NewEvent("Written", {"by": name}) for _ in range(count)]
    version = current_version(store, aggregate_id)
    while True:
        try:
            stored = store.append("thing", aggregate_id, events, expected=exact(version)).events
        except VersionConflict as conflict:
            version = conflict.actual or 0
        else:
            return [(e.aggregate_id, e.version, e.position, str(e.event_id)) for e in stored]


def current_version(store: Hindsight, aggregate_id: str) -> int:
    newest = next(store.events(aggregate_id, backward=True, batch_size=1), None)
    return newest.version if newest else 0


if __name__ == "__main__":
    main()
