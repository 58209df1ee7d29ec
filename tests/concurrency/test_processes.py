"""Many processes on one store: no gap, nothing lost, nothing doubled."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Event, Hindsight
from store.verification import verify

PROCESSES = 8
DURATIONS = [30, pytest.param(300, marks=pytest.mark.soak)]
WRITER = Path(__file__).with_name("writer.py")

pytestmark = pytest.mark.slow


def start_writers(url: str, aggregates: int, seconds: int) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, WRITER, url, f"writer-{number}", str(aggregates), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]


def reports(writers: list[subprocess.Popen[str]]) -> list[tuple[str, int, int, str]]:
    """What the writers were told is stored."""
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * PROCESSES
    assert all(outputs), "every writer got something in"
    return [tuple(json.loads(line)) for output in outputs for line in output.splitlines()]


def facts(events: Iterator[Event]) -> list[tuple[str, int, int, str]]:
    return [(e.aggregate_id, e.version, e.position, str(e.event_id)) for e in events]


@pytest.mark.parametrize("seconds", DURATIONS)
@pytest.mark.parametrize("aggregates", [1, 200], ids=["one aggregate", "many aggregates"])
def test_what_was_acknowledged_is_stored_once_and_without_a_gap(
    store_url: str, aggregates: int, seconds: int
) -> None:
    acknowledged = reports(start_writers(store_url, aggregates, seconds))
    with Hindsight(store_url) as store:
        stored = facts(store.feed())
        assert sorted(acknowledged) == sorted(stored)
        assert [position for _, _, position, _ in stored] == list(range(1, len(stored) + 1)), (
            "no conflict burnt a position"
        )
        verification = verify(store.log)
    assert verification.findings == ()
    assert verification.events == len(stored)


@pytest.mark.parametrize("seconds", DURATIONS)
def test_a_tailing_reader_misses_nothing_and_sees_versions_in_order(
    store_url: str, seconds: int
) -> None:
    stop = threading.Event()
    writers = start_writers(store_url, 50, seconds)
    with Hindsight(store_url) as store:
        ending = threading.Timer(seconds + 5, stop.set)
        ending.start()
        followed = facts(store.follow(poll_interval=0.005, stop=stop))
        acknowledged = reports(writers)
        ending.cancel()
        followed += facts(store.feed(after=followed[-1][2]))
    assert followed == sorted(acknowledged, key=lambda fact: fact[2])
    versions: dict[str, int] = {}
    for aggregate_id, version, _, _ in followed:
        assert version == versions.get(aggregate_id, 0) + 1
        versions[aggregate_id] = version
