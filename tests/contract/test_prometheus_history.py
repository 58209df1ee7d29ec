"""Metrics as a real Prometheus keeps them, beside what the store keeps by itself."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from store import Hindsight
from store.errors import InvalidSetting, MetricsUnavailable
from store.metric_history import MetricHistory, Window
from store.prometheus_history import PrometheusHistory
from store.samples import SampledHistory
from tests import prometheus

ROOT = Path(__file__).parents[2]
EVENTS = "event_store_events_total"
OUTCOMES = "event_store_conflict_outcomes_total"
SCRAPED_EVERY = 1.0


@pytest.fixture
def service(sqlite_url: str, tmp_path: Path) -> Iterator[str]:
    """The example service under two workers: where it listens."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    log = tmp_path / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "examples.service:app"),
                *("--workers", "2", "--port", "0", "--no-access-log"),
            ],
            cwd=ROOT,
            env=os.environ
            | {"EVENT_STORE_URL": sqlite_url, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: log.read_text().count("startup complete") == 2)
        [address] = re.findall(r"running on http://(\S+)", log.read_text())
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def grown(history: MetricHistory, metric: str, *by: str) -> dict[tuple[str, ...], float]:
    """What each series has grown by in the last minutes."""
    window = Window.until(datetime.now(UTC), step=timedelta(minutes=1), steps=4)
    return {key: sum(steps) for key, steps in history.increases(metric, window, by=by).items()}


def drive(service: str, *, seconds: float) -> None:
    """Create, lock and unlock users, two clients on each."""
    user = {"username": "ada", "email": "a@a.example", "full_name": "Ada", "password": "…"}
    ends = time.monotonic() + seconds

    def act(path: str) -> None:
        with httpx2.Client(base_url=f"http://{service}", timeout=60) as client:
            while time.monotonic() < ends:
                for action in ("lock", "unlock"):
                    client.post(f"{path}/{action}", json={"reason": "test"})

    with httpx2.Client(base_url=f"http://{service}", timeout=60) as client:
        path = f"/users/{client.post('/users', json=user).json()['id']}"
    threads = [threading.Thread(target=act, args=(path,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_prometheus_and_the_samples_agree_to_a_scrape(
    service: str, sqlite_url: str, tmp_path: Path
) -> None:
    seconds = 12.0
    with (
        prometheus.scraping(service, tmp_path) as url,
        Hindsight(sqlite_url, read_only=True, metrics=False) as store,
    ):
        theirs = PrometheusHistory(f"{url}?job=users")
        wait_for(lambda: theirs.newest() is not None)
        drive(service, seconds=seconds)
        stored = {(name,): float(count) for name, count in store.counts().events_by_type.items()}
        assert stored["AccountLocked",] > 20
        time.sleep(2 * SCRAPED_EVERY)

        def ours(metric: str, *by: str) -> dict[tuple[str, ...], float]:
            history = SampledHistory(store.database, name="here")
            return {key: count for key, count in grown(history, metric, *by).items() if count}

        wait_for(lambda: ours(EVENTS, "event_type") == stored, 15)
        conflicts = ours(OUTCOMES, "outcome")
        logged = store.conflicts.counts("hour")
        assert sum(conflicts.values()) == sum(each.detected for each in logged) > 0
        for metric, label, exact in (
            (EVENTS, "event_type", stored),
            (OUTCOMES, "outcome", conflicts),
        ):
            found = grown(theirs, metric, label)
            for key, count in exact.items():
                a_scrape = count / seconds * SCRAPED_EVERY
                assert found[key] == pytest.approx(count, abs=2 * a_scrape + 1), (metric, key)
        # The last thing a worker did is told by every worker's next answer.
        newest = theirs.newest()
        assert newest is not None
        assert newest.process == service
        assert abs(datetime.now(UTC) - newest.at) < timedelta(seconds=10)
        window = Window.until(datetime.now(UTC), step=timedelta(minutes=1), steps=2)
        # A minute that has just begun may have had no scrape yet.
        sizes = theirs.levels("event_store_size_bytes", window)
        size = next((each for each in reversed(sizes) if each is not None), None)
        assert size == pytest.approx(Path(sqlite_url[10:]).stat().st_size, rel=0.5)
        assert PrometheusHistory(f"{url}?job=nobody").newest() is None
        assert grown(PrometheusHistory(f"{url}?job=nobody"), EVENTS) == {}


def test_a_server_that_is_not_there_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    history = PrometheusHistory(f"http://127.0.0.1:{port}")
    with pytest.raises(MetricsUnavailable, match=f"at 127.0.0.1:{port}: .*refused"):
        history.newest()


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], tuple[str, list[Any]]]]:
    """Starts a server with one answer to everything; its address, and the headers it was sent."""
    servers: list[HTTPServer] = []

    def start(status: int, body: bytes) -> tuple[str, list[Any]]:
        seen: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                seen.append(dict(self.headers))
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}", seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (500, b"", "it answers 500"),
        (200, b"<html>", "its answer is none of Prometheus"),
        (200, b'{"status": "success"}', "its answer is none of Prometheus"),
        (200, b"[]", "its answer is none of Prometheus"),
        (200, b'{"data": {"result": [{"metric": 7}]}}', "its answer is none of Prometheus"),
    ],
)
def test_what_is_no_prometheus_is_one_line(
    answering: Callable[[int, bytes], tuple[str, list[Any]]], status: int, body: bytes, why: str
) -> None:
    address, _ = answering(status, body)
    with pytest.raises(MetricsUnavailable, match=why):
        PrometheusHistory(f"http://{address}/").newest()


def test_a_password_goes_to_the_server_and_nowhere_else(
    answering: Callable[[int, bytes], tuple[str, list[Any]]],
) -> None:
    address, seen = answering(401, b"")
    history = PrometheusHistory(f"http://ada:s%40cret@{address}")
    assert history.name == address
    with pytest.raises(MetricsUnavailable) as told:
        history.newest()
    assert "cret" not in str(told.value)
    assert seen[0]["Authorization"] == "Basic YWRhOnNAY3JldA=="


@pytest.mark.parametrize(
    "url",
    [
        "prometheus:9090",
        "ftp://prometheus",
        "http://",
        "http://host:port",
        'http://host?job"=x',
    ],
)
def test_a_setting_that_is_no_address_is_refused(
    url: str, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_PROMETHEUS_URL", url)
    with (
        Hindsight(store_url) as store,
        pytest.raises(InvalidSetting, match=r"EVENT_STORE_PROMETHEUS_URL: .* is no address"),
    ):
        _ = store.history


def test_an_address_may_be_a_number() -> None:
    assert PrometheusHistory("http://[::1]:9090").name == "[::1]:9090"


def test_a_store_asks_who_keeps_its_metrics(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hindsight(store_url) as store:
        assert store.history.kind == "samples"
    monkeypatch.setenv("EVENT_STORE_PROMETHEUS_URL", "http://prometheus:9090")
    with Hindsight(store_url) as store:
        assert (store.history.kind, store.history.name) == ("prometheus", "prometheus:9090")
