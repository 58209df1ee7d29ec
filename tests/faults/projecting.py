"""A process that projects, or rebuilds a read model, until it is told to stop, or killed.

`project URL` runs a projector for each read model. `rebuild URL MILLISECONDS` makes that of users
anew and kills itself so long after it has begun, 0 never; it ends with `GAVE_IN` where another
process builds the same.
"""

import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Table, Text

from store import Domain, EventHeader, Hindsight, Projection, Row
from store.errors import DatabaseBusy, RebuildInterrupted, StoreUnavailable
from store.work import beside, projecting
from tests.faults.relaying import opened
from users import user
from users.read_model import users

GAVE_IN = 3

counts = Table(
    "counted_events",
    MetaData(),
    Column("user_id", Text, primary_key=True),
    Column("event_type", Text, primary_key=True),
    Column("events", BigInteger, nullable=False),
    Column("last_version", BigInteger, nullable=False),
)


def count_event(row: Row | None, data: Any, event: EventHeader) -> Row:
    """One more: an event that takes effect twice is counted twice."""
    return {
        "user_id": event.aggregate_id,
        "event_type": event.event_type,
        "events": (row["events"] if row else 0) + 1,
        "last_version": event.version,
    }


def of_its_type(data: Any, event: EventHeader) -> tuple[str, str]:
    """Each user has a row for each type of its events."""
    return event.aggregate_id, event.event_type


counted = Projection(
    "counts",
    table=counts,
    handlers=dict.fromkeys(user.events, count_event),
    key=of_its_type,
)
domain = Domain("users", aggregates=[user], projections=[users, counted])


def project(store: Hindsight) -> None:
    """Keep both read models until the process is told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    projectors = [store.projections.projector(name) for name in store.projections.declared]
    with beside(stop, projecting(projectors, stop)):
        stop.wait()


def rebuild(store: Hindsight, milliseconds: int) -> int:
    """Make the read model anew, however often the database goes away; the exit code."""
    if milliseconds:
        kill = partial(os.kill, os.getpid(), signal.SIGKILL)
        threading.Timer(milliseconds / 1_000, kill).start()
    while True:
        try:
            store.projections.rebuild("users")
        except (StoreUnavailable, DatabaseBusy):
            time.sleep(0.05)
        except RebuildInterrupted:
            return GAVE_IN
        else:
            return 0


def main() -> int:
    """See the module."""
    task, url, *options = sys.argv[1:]
    with opened(url, domain) as store:
        if task == "rebuild":
            return rebuild(store, int(options[0]))
        project(store)
        return 0


if __name__ == "__main__":
    sys.exit(main())
