"""A server killed again and again while writers go on: what they were told is what is stored."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from store import Hindsight, NewEvent, exact, migrate
from store.errors import OutcomeUnknown, StoreUnavailable, VersionConflict
from store.verification import verify
from tests.servers import PostgresServer

WRITERS = 4
AGGREGATES = 3


@pytest.fixture
def server(own_postgres: PostgresServer) -> PostgresServer:
    migrate(own_postgres.url())
    return own_postgres


def write(store: Hindsight, name: int, stop: threading.Event) -> list[tuple[str, int, UUID]]:
    """Append one event after another, each until it is acknowledged; what was acknowledged."""
    told: list[tuple[str, int, UUID]] = []
    while not stop.is_set():
        event = NewEvent("Written", {"by": name, "number": len(told)})
        aggregate_id = f"aggregate-{len(told) % AGGREGATES}"
        told.append((aggregate_id, acknowledged(store, aggregate_id, event), event.event_id))
    return told


def acknowledged(store: Hindsight, aggregate_id: str, event: NewEvent) -> int:
    """The version the event got."""
    version = 0
    while True:
        try:
            return (
                store.append("thing", aggregate_id, [event], expected=exact(version))
                .events[0]
                .version
            )
        except VersionConflict as conflict:
            version = conflict.actual or 0
        except (StoreUnavailable, OutcomeUnknown):
            time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_every_acknowledged_event_is_stored_once_whatever_is_killed(
    server: PostgresServer, kills: int
) -> None:
    stop = threading.Event()
    with Hindsight(server.url()) as store, ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, store, name, stop) for name in range(WRITERS)]
        for _ in range(kills):
            stop.wait(1.5)
            server.kill()
            server.start()
        stop.wait(1.5)
        stop.set()
        told = [fact for writer in writers for fact in writer.result(60)]
        stored = [(e.aggregate_id, e.version, e.event_id) for e in store.feed()]
        assert sorted(told) == sorted(stored)
        assert len(told) > kills * WRITERS
        assert verify(store.log).findings == ()
