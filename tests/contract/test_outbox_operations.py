"""Redriving and skipping: what becomes of the records, who did it and why."""

import threading
import time
from uuid import uuid4

import pytest
from sqlalchemy import text

from store import Hindsight, NewEvent, any_
from store.database.claiming import Claim, Settlement
from store.errors import InvalidEvent, RecordNotFound, RecordRefused
from store.outbox import Relay
from store.outbox import operations as outbox_operations
from store.outbox.operations import Operations
from tests.published import Recording, relay_all
from tests.waiting import until


@pytest.fixture
def operations(store: Hindsight) -> Operations:
    return Operations(store.database, actor="ada")


def put(store: Hindsight, aggregate_id: str, events: int = 1) -> None:
    new = [NewEvent("Made", {"n": 1}) for _ in range(events)]
    store.append("thing", aggregate_id, new, expected=any_())


def claim(store: Hindsight, *, seconds: float = 60) -> Claim:
    wanted = Claim(lease=uuid4(), by="relay:1", seconds=seconds, heads=10, run=50)
    assert store.database.claim(wanted)
    return wanted


def statuses(store: Hindsight, aggregate_id: str = "a") -> list[str]:
    return [each.status for each in store.outbox.records(aggregate_id)]


def noted(store: Hindsight) -> list[tuple[str, str, str, int, str]]:
    return [
        (each.actor, each.action, each.aggregate_id, each.version, each.reason)
        for each in store.outbox.operations()
    ]


def published(store: Hindsight) -> dict[str, list[int]]:
    publisher = Recording()
    relay = Relay(store.database, publisher)
    while relay.once().claimed:
        pass
    return publisher.versions()


def test_a_dead_letter_is_tried_again_and_what_waits_behind_it(
    store: Hindsight, operations: Operations
) -> None:
    put(store, "a", 3)
    relay_all(store, dead={"a": 2})
    redriven = operations.redrive("a", 2, reason="the broker is back")
    assert (redriven.aggregate_id, redriven.version, redriven.late) == ("a", 2, False)
    record = store.outbox.record("a", 2)
    assert (record.status, record.is_open, record.attempts) == ("pending", True, 0)
    assert (record.finished_at, record.next_attempt_at) == (None, None)
    assert noted(store) == [("ada", "redrive", "a", 2, "the broker is back")]
    [operation] = store.outbox.operations("a")
    assert record.attempted_at is not None
    assert operation.occurred_at >= record.attempted_at
    assert published(store) == {"a": [2, 3]}


def test_a_dead_letter_is_skipped_and_what_waits_behind_it_goes_on(
    store: Hindsight, operations: Operations
) -> None:
    put(store, "a", 3)
    relay_all(store, dead={"a": 2})
    operations.skip("a", 2, reason="mailed by hand")
    record = store.outbox.record("a", 2)
    assert (record.status, record.is_open) == ("skipped", False)
    assert record.finished_at is not None
    assert record.reason == "tests.published.Refused: no Made today"
    assert noted(store) == [("ada", "skip", "a", 2, "mailed by hand")]
    assert published(store) == {"a": [3]}


def test_one_that_waits_is_skipped(store: Hindsight, operations: Operations) -> None:
    put(store, "a", 3)
    operations.skip("a", 2, reason="a mistake")
    assert published(store) == {"a": [1, 3]}


def test_what_was_skipped_comes_late_when_it_is_redriven(
    store: Hindsight, operations: Operations
) -> None:
    put(store, "a", 3)
    operations.skip("a", 2, reason="a mistake")
    assert not operations.redrive("a", 2, reason="it was none").late
    operations.skip("a", 2, reason="but it was")
    relay_all(store)
    assert operations.redrive("a", 2, reason="no, sorry").late
    assert published(store) == {"a": [2]}
    assert len(noted(store)) == 4


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_dead_letter_that_nobody_waited_for_comes_late(
    store: Hindsight, operations: Operations, *, trimmed: bool
) -> None:
    put(store, "a", 3)
    relay_all(store, dead={"a": 2}, on_dead_letter="skip")
    if trimmed:
        with store.database.transaction() as connection:
            connection.execute(text("DELETE FROM outbox WHERE status = 'published'"))
    assert operations.redrive("a", 2, reason="r").late


def test_all_dead_letters_of_an_aggregate_or_of_all_are_redriven(
    store: Hindsight, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_operations, "BATCH", 2)
    names = [f"a{number}" for number in range(5)]
    for name in [*names, "skipped"]:
        put(store, name, 2)
    operations.skip("skipped", 1, reason="left out")
    relay_all(store, dead=dict.fromkeys(names, 1))
    [one] = operations.redrive_dead("a3", reason="first one")
    assert (one.aggregate_id, one.version) == ("a3", 1)
    assert operations.redrive_dead("a3", reason="again") == []
    told: list[int] = []
    rest = operations.redrive_dead(reason="then all", progress=told.append)
    assert [each.aggregate_id for each in rest] == ["a0", "a1", "a2", "a4"]
    assert told == [2, 2]
    assert statuses(store, "skipped") == ["skipped", "published"]
    reasons = [row[4] for row in noted(store)]
    assert reasons == ["then all"] * 4 + ["first one", "left out"]
    assert published(store) == {name: [1, 2] for name in names}


def test_what_a_relay_has_is_left_to_it(store: Hindsight, operations: Operations) -> None:
    put(store, "a", 2)
    lease = claim(store).lease
    for change in (operations.skip, operations.redrive):
        with pytest.raises(RecordRefused, match=r"^'a' version 1: relay relay:1 has it, until 20"):
            change("a", 1, reason="impatience")
    assert noted(store) == []
    settled = Settlement(aggregate_id="a", version=1, status="published", is_open=False, attempts=1)
    assert store.database.settle(lease, [settled], None) == {("a", 1)}


def test_a_lease_that_is_over_is_nobodys(store: Hindsight, operations: Operations) -> None:
    put(store, "a")
    lease = claim(store, seconds=0).lease
    operations.skip("a", 1, reason="it kills relays")
    settled = Settlement(aggregate_id="a", version=1, status="published", is_open=False, attempts=1)
    assert store.database.settle(lease, [settled], None) == frozenset()
    assert statuses(store) == ["skipped"]


def test_what_cannot_be_is_refused_in_a_line(store: Hindsight, operations: Operations) -> None:
    put(store, "a", 3)
    relay_all(store)
    put(store, "a")
    operations.skip("a", 4, reason="r")
    put(store, "a")
    with pytest.raises(RecordRefused, match=r"^'a' version 1: it is published$"):
        operations.redrive("a", 1, reason="r")
    with pytest.raises(RecordRefused, match=r"^'a' version 1: it is published$"):
        operations.skip("a", 1, reason="r")
    with pytest.raises(RecordRefused, match=r"^'a' version 4: it is skipped already$"):
        operations.skip("a", 4, reason="r")
    with pytest.raises(RecordRefused, match=r"^'a' version 5: it is pending already$"):
        operations.redrive("a", 5, reason="r")
    with pytest.raises(RecordNotFound):
        operations.skip("a", 6, reason="r")
    with pytest.raises(InvalidEvent, match="reason"):
        operations.redrive("a", 4, reason="")
    assert len(noted(store)) == 1


def test_a_relay_is_woken(
    store: Hindsight, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database.sqlite._UNNOTICED", 60)
    put(store, "a", 2)
    relay_all(store, dead={"a": 1})
    publisher, stop = Recording(), threading.Event()
    relay = Relay(store.database, publisher)
    thread = threading.Thread(target=relay.run, args=(stop,), kwargs={"poll": 60})
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    operations.redrive("a", 1, reason="r")
    until(lambda: publisher.versions() == {"a": [1, 2]})
    assert time.monotonic() - started < 5
    stop.set()
    thread.join(5)


def test_only_one_of_two_redrives_it(store: Hindsight) -> None:
    names = [f"a{number:03}" for number in range(200)]
    for name in names:
        put(store, name)
    relay_all(store, dead=dict.fromkeys(names, 1))
    ready = threading.Barrier(2)
    found: list[int] = []

    def redrive(actor: str) -> None:
        ready.wait()
        operations = Operations(store.database, actor=actor)
        found.append(len(operations.redrive_dead(reason="r")))

    threads = [threading.Thread(target=redrive, args=(actor,)) for actor in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == len(names) == store.outbox.standing().due
    assert len(store.outbox.operations(limit=1_000)) == len(names)


def test_operations_come_in_pages(store: Hindsight, operations: Operations) -> None:
    for number in range(1, 6):
        put(store, "a")
        operations.skip("a", number, reason=f"reason {number}")
    newest = store.outbox.operations(limit=3)
    assert [each.version for each in newest] == [5, 4, 3]
    older = store.outbox.operations("a", before=newest[-1].id)
    assert [each.version for each in older] == [2, 1]
    assert store.outbox.operations("b") == []
