"""What Prometheus reads of a worker."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from store import Hindsight, NewEvent, any_
from tests import prometheus
from tests.waiting import until


def started(url: str, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "store", "--url", url, "work", *options]
    return subprocess.Popen(
        [*command, "--domain", "users:domain"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 (our own)
        told: bytes = answer.read()
    return told


@pytest.mark.slow
def test_a_worker_tells_what_it_has_published(store: Hindsight, store_url: str) -> None:
    with started(store_url, "--metrics", "0") as process:
        assert process.stdout is not None
        found = re.fullmatch(
            r"metrics on (http://127\.0\.0\.1:\d+/metrics)\n", process.stdout.readline()
        )
        assert found is not None
        assert process.stdout.readline().startswith("working on ")
        store.append("user", "a", [NewEvent("Made", {})], expected=any_())
        until(lambda: b"event_store_outbox_published_total 1.0" in read(found[1]))
        told = read(found[1])
        assert prometheus.complaints(told) == ""
        assert b"event_store_levels_age_seconds" in told
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("nine", "'nine' is no address such as 9101 or 0.0.0.0:9101"),
        ("65536", "'65536' is no address such as 9101 or 0.0.0.0:9101"),
        ("host:", "'host:' is no address such as 9101 or 0.0.0.0:9101"),
        ("192.0.2.1:9101", "192.0.2.1:9101: "),
    ],
)
def test_an_address_that_cannot_be_is_one_line(
    sqlite_url: str, address: str, complaint: str
) -> None:
    with started(sqlite_url, "--metrics", address) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: Invalid value for '--metrics': {complaint}")


def test_a_port_that_is_taken_is_one_line(sqlite_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(sqlite_url, "--metrics", str(port)) as process:
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert f"127.0.0.1:{port}: Address already in use" in err.splitlines()[-1]
