"""Many processes on one store: no gap, nothing lost, nothing doubled."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Event, Hindsight
from store.verification import verify

PROCESSES = 8
DURATIONS = [15, pytest.param(300, marks=pytest.mark.soak)]
WRITER = Path(__file__).with_name("writer.py")

pytestmark = pytest.mark.slow


class Writers:
    """Processes that append at the same time, each telling a file what it was told is stored."""

    def __init__(self, url: str, aggregates: int, seconds: int, folder: Path) -> None:
        self._files = [folder / f"writer-{number}" for number in range(PROCESSES)]
        self._processes: list[subprocess.Popen[bytes]] = []
        for file in self._files:
            words = [url, file.name, str(aggregates), str(seconds)]
            with file.open("wb") as output:  # who told a pipe would wait until it is read
                process = subprocess.Popen([sys.executable, WRITER, *words], stdout=output)
            self._processes.append(process)

    def wait(self) -> list[int]:
        """Their exit codes, when all have ended."""
        return [process.wait() for process in self._processes]

    def reports(self) -> list[tuple[str, int, int, str]]:
        """What they were told, when all have ended."""
        assert self.wait() == [0] * PROCESSES
        told = [list(map(json.loads, file.read_bytes().splitlines())) for file in self._files]
        assert all(told), "every writer got something in"
        return [tuple(fact) for of_one in told for fact in of_one]


def facts(events: Iterator[Event]) -> list[tuple[str, int, int, str]]:
    return [(e.aggregate_id, e.version, e.position, str(e.event_id)) for e in events]


@pytest.mark.parametrize("seconds", DURATIONS)
@pytest.mark.parametrize("aggregates", [1, 200], ids=["one aggregate", "many aggregates"])
def test_what_was_acknowledged_is_stored_once_and_without_a_gap(
    store_url: str, aggregates: int, seconds: int, tmp_path: Path
) -> None:
    acknowledged = Writers(store_url, aggregates, seconds, tmp_path).reports()
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
    store_url: str, seconds: int, tmp_path: Path
) -> None:
    stop = threading.Event()
    writers = Writers(store_url, 50, seconds, tmp_path)

    def end() -> None:
        writers.wait()
        time.sleep(1)
        stop.set()

    with Hindsight(store_url) as store:
        threading.Thread(target=end).start()
        followed = facts(store.follow(poll_interval=0.005, stop=stop))
        acknowledged = writers.reports()
        followed += facts(store.feed(after=followed[-1][2]))
    assert followed == sorted(acknowledged, key=lambda fact: fact[2])
    versions: dict[str, int] = {}
    for aggregate_id, version, _, _ in followed:
        assert version == versions.get(aggregate_id, 0) + 1
        versions[aggregate_id] = version
