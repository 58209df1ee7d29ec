"""A disk that is full while events are archived: nothing moves, and the next run goes on."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Hindsight
from store.verification import verify
from tests import totals


@pytest.fixture
def aged(sqlite_url: str) -> Iterator[Hindsight]:
    with Hindsight(sqlite_url, domain=totals.numbers()) as store:
        for name in ("a", "b"):
            totals.put(store, *range(20, 1_020), aggregate_id=name)
        yield store


def test_a_batch_stays_where_it_was(aged: Hindsight, sqlite_url: str) -> None:
    before = list(aged.feed())
    command = [sys.executable, "-m", "store", "archive", "run", "--url", sqlite_url]
    command += ["--keep-active", "100"]
    wal = Path(f"{aged.database.engine.url.database}-wal").stat().st_size
    room = (wal // 2, wal // 2)
    full = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, room),
    )
    assert (full.returncode, full.stdout) == (2, "")
    [line] = full.stderr.splitlines()
    assert line.startswith("error: ")
    assert list(aged.feed()) == before
    assert aged.archive.standing().events == 0
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1,900 events archived in 1 batch, ")
    assert list(aged.feed()) == before
    assert verify(aged.log, domains=aged.domains).findings == ()
