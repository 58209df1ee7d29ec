"""A dead letter is told to an HTTP server, whose manners do not become the relay's."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Hindsight, Metrics, NewEvent, any_
from store.outbox import ATTEMPTS
from store.outbox import webhook as outbox_webhook
from store.records import Event
from tests.published import Recording, Refused
from tests.waiting import until

pytestmark = pytest.mark.slow

FAILURES = "event_store_outbox_webhook_failures_total"


class Server(ThreadingHTTPServer):
    """Keeps what is posted; answers with `answers`, then 204; each takes `seconds`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[int] = []
        self.seconds = 0.0
        self.to = ""

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Receiver(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))
        time.sleep(self.server.seconds)
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        if self.server.to:
            self.send_header("Location", self.server.to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.got.append((self.path, dict(self.headers), None))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (of http.server)
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


Opened = Callable[..., Hindsight]


@pytest.fixture
def opened(
    store_url: str,
    server: Server,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Opened]:
    """Opens a store that tells the server, or another address."""
    monkeypatch.setattr(outbox_webhook, "PAUSE", 0.01)
    stores: list[Hindsight] = []

    def open_store(address: str = "") -> Hindsight:
        monkeypatch.setenv(
            "EVENT_STORE_DEAD_LETTER_WEBHOOK", address or f"http://{server.place}/hook?key=secret"
        )
        stores.append(Hindsight(store_url, metrics=Metrics(registry)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def refused(event: Event) -> bool:
    return event.aggregate_id.startswith("bad")


def fail(store: Hindsight, *names: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Give up the first event of aggregates."""
    for name in names:
        store.append("thing", name, [NewEvent("Made", {"secret": 1})], expected=any_())
    with store.database.transaction() as connection:
        last = {"made": ATTEMPTS - 1}
        connection.execute(text("UPDATE outbox SET attempts = :made WHERE open"), last)
    publisher = Recording(refused)
    relay = store.relay(publisher)
    while relay.once().claimed:
        meanwhile()


def failures(registry: CollectorRegistry, store: Hindsight) -> float | None:
    store.metrics.count()
    return registry.get_sample_value(FAILURES)


def test_it_is_told_with_everything_but_the_payload(opened: Opened, server: Server) -> None:
    store = opened()
    fail(store, "bad-1")
    until(lambda: len(server.got) == 1)
    [(path, headers, told)] = server.got
    [event] = store.events("bad-1")
    assert path == "/hook?key=secret"
    assert headers["Content-Type"] == "application/json"
    failed_at = datetime.fromisoformat(told.pop("failed_at"))
    assert abs((datetime.now(UTC) - failed_at).total_seconds()) < 30
    [(store_id,)] = store.database.rows("SELECT store_id FROM store_info", {})
    assert datetime.fromisoformat(told.pop("occurred_at")) == event.occurred_at
    assert told == {
        "store": {"id": str(store_id), "name": store.info.name},
        "aggregate_type": "thing",
        "aggregate_id": "bad-1",
        "version": 1,
        "position": event.position,
        "event_id": str(event.event_id),
        "event_type": "Made",
        "attempts": ATTEMPTS,
        "error": "tests.published.Refused: no Made today",
        "held": True,
    }


def test_what_is_published_is_not_told(opened: Opened, server: Server) -> None:
    store = opened()
    fail(store, "good", "bad-1")
    store.close()
    assert [told["aggregate_id"] for _, _, told in server.got] == ["bad-1"]


def test_nobody_is_told_without_an_address(store: Hindsight, server: Server) -> None:
    fail(store, "bad-1")
    store.close()
    assert server.got == []
    assert "hindsight-webhook" not in {thread.name for thread in threading.enumerate()}


def test_one_that_is_not_taken_at_first_is_told_again(
    opened: Opened, server: Server, registry: CollectorRegistry
) -> None:
    server.answers = [500, 404]
    store = opened()
    fail(store, "bad-1")
    until(lambda: len(server.got) == 3)
    store.close()
    assert failures(registry, store) == 0


def test_one_that_is_never_taken_is_counted_and_the_next_is_told(
    opened: Opened,
    server: Server,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.answers = [500] * 3
    store = opened(f"http://ada:pass@{server.place}/hook?key=secret")
    fail(store, "bad-1", "bad-2")
    until(lambda: len(server.got) == 4)
    store.close()
    told = [document["aggregate_id"] for _, _, document in server.got]
    assert told == ["bad-1"] * 3 + ["bad-2"]
    assert {headers["Authorization"] for _, headers, _ in server.got} == {"Basic YWRhOnBhc3M="}
    assert failures(registry, store) == 1
    [record] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == (
        "dead letter bad-1 version 1 was not told to the webhook at 127.0.0.1: it answers 500"
    )
    assert not any(secret in caplog.text for secret in ("secret", "pass", "ada:"))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["http://{place}/elsewhere", "file:///etc/passwd", "ftp://x/"])
def test_a_redirect_is_not_followed(
    opened: Opened, server: Server, registry: CollectorRegistry, code: int, to: str
) -> None:
    server.answers, server.to = [code] * 3, to.format(place=server.place)
    store = opened()
    fail(store, "bad-1")
    until(lambda: failures(registry, store) == 1)
    assert [path for path, _, _ in server.got] == ["/hook?key=secret"] * 3


def test_a_slow_server_does_not_slow_the_relay(
    opened: Opened,
    server: Server,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_webhook, "TIMEOUT", 0.2)
    server.seconds = 30.0
    store = opened()
    started = time.monotonic()
    fail(store, *(f"bad-{number}" for number in range(20)))
    assert time.monotonic() - started < 5
    assert store.outbox.standing().failed == 20
    until(lambda: (failures(registry, store) or 0) >= 1)
    monkeypatch.setattr(outbox_webhook, "_PATIENCE", 0.3)
    started = time.monotonic()
    store.close()
    assert time.monotonic() - started < 5


def test_a_server_that_is_away_does_not_break_the_relay(
    opened: Opened, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened("http://127.0.0.1:9/")
    fail(store, "bad-1", "good")
    until(lambda: failures(registry, store) == 1)
    assert store.outbox.record("good", 1).status == "published"
    assert "ConnectionRefusedError" in caplog.text


def test_more_than_can_wait_are_counted(
    opened: Opened,
    server: Server,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_webhook, "_MOST_WAITING", 2)
    monkeypatch.setattr(outbox_webhook, "_PATIENCE", 0.1)
    server.seconds = 1.0
    store = opened()
    fail(store, *(f"bad-{number}" for number in range(6)))
    assert (failures(registry, store) or 0) >= 3


def test_what_is_left_is_told_at_the_end(opened: Opened, server: Server) -> None:
    store = opened()
    fail(store, *(f"bad-{number}" for number in range(10)))
    store.close()
    assert len(server.got) == 10


def test_what_is_told_is_the_last_line_and_not_too_long(opened: Opened, server: Server) -> None:
    class Verbose(Refused):
        def __str__(self) -> str:
            return "x" * 5_000

    store = opened()
    store.append("thing", "a", [NewEvent("Made", {})], expected=any_())
    with store.database.transaction() as connection:
        connection.execute(text("UPDATE outbox SET attempts = 3"))

    def explode(_: Event) -> None:
        raise Verbose

    store.relay(Recording(meanwhile=explode)).once()
    store.close()
    [(_, _, told)] = server.got
    assert len(told["error"]) == 1_000
