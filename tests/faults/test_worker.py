"""A worker whose database restarts under it."""

import signal
import subprocess
import sys
from pathlib import Path

from store import Hindsight, NewEvent, any_, migrate
from tests.servers import PostgresServer
from tests.waiting import until


def test_it_goes_on_when_its_database_is_back(own_postgres: PostgresServer, tmp_path: Path) -> None:
    url, told = own_postgres.url(), tmp_path / "told"
    migrate(url)
    command = [sys.executable, "-m", "store", "--url", url, "work", "--domain", "users:domain"]
    root = Path(__file__).parents[2]
    with told.open("w") as err:
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=err, text=True)
    with process, Hindsight(url) as store:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("working on ")
        assert process.stdout.readline() == "0 snapshots taken, 0 pruned\n"
        own_postgres.stop("immediate")
        until(lambda: "workers wait for the database" in told.read_text())
        until(lambda: "the relay waits for the database" in told.read_text())
        own_postgres.start()
        store.append("user", "a", [NewEvent("Made", {})], expected=any_())
        until(lambda: store.outbox.standing().published == 1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode == 0
