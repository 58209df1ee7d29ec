"""A worker whose database restarts under it."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from store import Hindsight, Metrics, NewEvent, any_, migrate
from tests.servers import PostgresServer
from tests.waiting import until


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Nobody waits for it where the block fails."""
    with process:
        try:
            yield
        finally:
            process.kill()


def age(store: Hindsight) -> float:
    """Seconds since the database was read for the metrics."""
    told = store.exposition().decode()
    found = re.search(r"^event_store_levels_age_seconds (\S+)$", told, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_it_goes_on_when_its_database_is_back(own_postgres: PostgresServer, tmp_path: Path) -> None:
    url, told = own_postgres.url(), tmp_path / "told"
    migrate(url)
    command = [sys.executable, "-m", "store", "--url", url, "work", "--domain", "users:domain"]
    root = Path(__file__).parents[2]
    with told.open("w") as err:
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=err, text=True)
    with ended(process), Hindsight(url, metrics=Metrics(CollectorRegistry())) as store:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("working on ")
        assert process.stdout.readline() == "0 snapshots taken, 0 pruned\n"
        own_postgres.stop("immediate")
        until(lambda: "workers wait for the database" in told.read_text())
        until(lambda: "the relay waits for the database" in told.read_text())
        # Whoever asks is told how old it is what he is told.
        until(lambda: age(store) > 8)
        own_postgres.start()
        until(lambda: 0 < age(store) < 6)
        store.append("user", "a", [NewEvent("Made", {})], expected=any_())
        until(lambda: store.outbox.standing().published == 1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode == 0
