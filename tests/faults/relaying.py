"""A relay as a process of its own, which publishes to a file that outlives it.

Each event is a line of the file, written at once: its aggregate, version, and the relay's process.
Told so, it kills itself once it has published so many batches, before it can tell the database.
An aggregate named `poisoned` cannot be published.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from store import Domain, Hindsight
from store.errors import StoreUnavailable
from store.outbox import Relay
from store.records import Event

LEASE = 1.0
POISONED = "poisoned"


class Refused(Exception):
    """It is poisoned."""


class ToFile:
    """Publishes to a file. See `Publisher`."""

    def __init__(self, path: str, kill_behind: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._kill_behind = kill_behind
        self._batches = 0

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        failures: dict[int, Exception] = {}
        for event in events:
            if event.aggregate_id == POISONED:
                failures[event.position] = Refused("not today")
                continue
            line = f"{event.aggregate_id} {event.version} {os.getpid()}\n"
            os.write(self._file, line.encode())
        # A single event may have been with one that died before. To kill each of its relays is to
        # ask for a dead letter; a few of them are killed.
        self._batches += len(events) > 1 or random.random() < 0.1
        if self._kill_behind and self._batches == self._kill_behind:
            os.kill(os.getpid(), signal.SIGKILL)
        return failures


def opened(url: str, domain: Domain | None = None, *, cache: bool = True) -> Hindsight:
    """The store, once its database is there."""
    while True:
        try:
            return Hindsight(url, domain=domain, cache=cache)
        except StoreUnavailable:
            time.sleep(0.05)


def main() -> None:
    url, path, kill_behind = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with opened(url) as store:
        publisher = ToFile(path, int(kill_behind))
        Relay(store.database, publisher, lease=LEASE, heads=5, run=5).run(stop, poll=0.1)


if __name__ == "__main__":
    main()
