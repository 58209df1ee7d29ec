"""A relay at work: woken by commits, never dependent on it, stopped cleanly."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from store import Hindsight, NewEvent, any_
from store.errors import StoreUnavailable
from store.outbox import Relay, Relayed
from store.outbox.waking import PAUSE, Waker
from store.work import beside, publishing
from tests.published import Recording
from tests.waiting import until

pytestmark = pytest.mark.slow

LONG = 60.0
"""Seconds that no test waits."""

APPENDING = """
import sys
from store import Hindsight, NewEvent, any_
with Hindsight(sys.argv[1]) as store:
    store.append("thing", "elsewhere", [NewEvent("Made", {})], expected=any_())
"""


def put(store: Hindsight, aggregate_id: str, **options: Any) -> None:
    store.append("thing", aggregate_id, [NewEvent("Made", {})], expected=any_(), **options)


@contextmanager
def working(store: Hindsight, publisher: Recording, *, poll: float = LONG) -> Iterator[list[Any]]:
    """A relay that has looked, found nothing, and waits; what it reports."""
    stop = threading.Event()
    reported: list[Relayed] = []
    relay = Relay(store.database, publisher)
    put(store, "first")
    options: dict[str, Any] = {"report": reported.append, "poll": poll}
    thread = threading.Thread(target=relay.run, args=(stop,), kwargs=options)
    thread.start()
    until(lambda: "first" in publisher.versions())
    time.sleep(0.05)
    yield reported
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_it_is_woken_by_an_append(store: Hindsight) -> None:
    publisher = Recording()
    with working(store, publisher) as reported:
        started = time.monotonic()
        put(store, "a")
        until(lambda: "a" in publisher.versions())
        assert time.monotonic() - started < 5
        until(lambda: sum(each.published for each in reported) == 2)


def test_it_is_woken_by_another_process(store: Hindsight, store_url: str) -> None:
    publisher = Recording()
    with working(store, publisher):
        subprocess.run([sys.executable, "-c", APPENDING, store_url], check=True)
        until(lambda: "elsewhere" in publisher.versions())


def test_who_owns_the_transaction_wakes_it(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database.sqlite._UNNOTICED", LONG)
    publisher = Recording()
    with working(store, publisher):
        with store.database.transaction() as connection:
            put(store, "a", connection=connection)
        time.sleep(0.3)
        assert "a" not in publisher.versions()
        store.wake()
        until(lambda: "a" in publisher.versions())


def test_without_being_woken_it_looks_by_itself(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database.sqlite._UNNOTICED", LONG)
    publisher = Recording()
    with working(store, publisher, poll=0.3):
        with store.database.transaction() as connection:
            put(store, "a", connection=connection)
        until(lambda: "a" in publisher.versions())


def test_what_is_to_be_tried_again_is_not_waited_for_longer(store: Hindsight) -> None:
    failing = [True]
    publisher = Recording(lambda event: event.aggregate_id == "a" and failing.pop())
    with working(store, publisher):
        failing.append(False)
        put(store, "a")
        until(lambda: "a" in publisher.versions())


@pytest.mark.parametrize("events", [0, 5])
def test_it_ends_when_it_is_told_to_and_finishes_what_it_has(store: Hindsight, events: int) -> None:
    stop = threading.Event()
    publisher = Recording(meanwhile=lambda _: stop.set())
    for number in range(events):
        put(store, f"a{number}")
    if not events:
        threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    Relay(store.database, publisher, heads=2).run(stop, poll=LONG)
    assert time.monotonic() - started < 5
    assert len(publisher.events) == min(events, 2)


def test_appends_of_ten_milliseconds_wake_once() -> None:
    told: list[float] = []
    waker = Waker(lambda: told.append(time.monotonic()))
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        waker.wake()
    waker.close()
    assert 5 < len(told) <= 0.5 / PAUSE + 2
    assert min(b - a for a, b in pairwise(told[:-1])) >= PAUSE * 0.9


def test_who_wakes_once_is_heard_at_once() -> None:
    told = threading.Event()
    waker = Waker(told.set)
    for _ in range(3):
        waker.wake()
        assert told.wait(5)
        told.clear()
        time.sleep(3 * PAUSE)
    waker.close()
    waker.wake()  # who comes too late is not heard, and not refused


def test_a_database_that_does_not_take_it_wakes_nobody_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[None] = []

    def refuse() -> None:
        told.append(None)
        raise StoreUnavailable("away")

    waker = Waker(refuse)
    for expected in (1, 2):
        waker.wake()
        until(lambda expected=expected: len(told) == expected)  # type: ignore[misc]
        time.sleep(2 * PAUSE)
    waker.close()
    assert [record.message for record in caplog.records] == [
        "relays are not woken, and look by themselves: away"
    ]


def test_a_relay_that_breaks_is_told_at_once_and_ends_the_work(
    store: Hindsight, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, "a")
    stop = threading.Event()

    def breaks(_: Relayed) -> None:
        raise ZeroDivisionError("a mistake of ours")

    def wait_for_the_end() -> None:
        relay = Relay(store.database, Recording())
        with beside(stop, publishing(relay, stop, breaks)):
            assert stop.wait(5)
            assert "relay has ended" in caplog.text

    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        wait_for_the_end()


def test_switched_off_a_worker_publishes_nothing(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hindsight(store_url, domain="users:domain") as store:
        assert store.own_relay() is not None
    monkeypatch.setenv("EVENT_STORE_RELAY", "off")
    with Hindsight(store_url, domain="users:domain") as store:
        assert store.own_relay() is None
    monkeypatch.delenv("EVENT_STORE_RELAY")
    with Hindsight(store_url) as store:
        assert store.own_relay() is None
