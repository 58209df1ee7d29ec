"""What people are told of the outbox: how it stands, what was given up, who waits behind what."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from store import Hindsight, NewEvent, any_
from store.database.claiming import Claim, Taken
from store.errors import RecordNotFound
from store.outbox import records as outbox_records
from tests.published import relay_all


def put(store: Hindsight, aggregate_id: str, events: int = 1) -> None:
    new = [NewEvent("Made", {"n": 1}) for _ in range(events)]
    store.append("thing", aggregate_id, new, expected=any_())


def claim(store: Hindsight, *, heads: int = 100, seconds: float = 60) -> Sequence[Taken]:
    wanted = Claim(lease=uuid4(), by="relay:1", seconds=seconds, heads=heads, run=50)
    return store.database.claim(wanted)


def test_an_empty_outbox_stands_at_nothing(store: Hindsight) -> None:
    standing = store.outbox.standing()
    assert (standing.pending, standing.due, standing.in_flight, standing.waiting) == (0, 0, 0, 0)
    assert (standing.failed, standing.skipped, standing.published) == (0, 0, 0)
    assert (standing.oldest_seconds, standing.held) == (None, None)
    assert (store.outbox.heads(), store.outbox.failed(), store.outbox.records("a")) == ([], [], [])


def test_the_standing_counts_each_kind(store: Hindsight) -> None:
    put(store, "held", 5)
    put(store, "out", 2)
    relay_all(store, dead={"held": 2})
    put(store, "aflight", 3)
    assert len(claim(store, heads=1)) == 3
    put(store, "aflight", 2)
    put(store, "due", 4)
    standing = store.outbox.standing()
    assert (standing.pending, standing.due, standing.in_flight, standing.waiting) == (12, 4, 3, 5)
    assert (standing.failed, standing.skipped, standing.published) == (1, 0, 3)
    assert standing.oldest_seconds is not None
    assert 0 <= standing.oldest_seconds < 60
    assert standing.held is not None
    held = standing.held.record
    assert (held.aggregate_id, held.version, standing.held.behind) == ("held", 2, 3)


def test_what_is_tried_again_later_is_not_due(store: Hindsight) -> None:
    put(store, "a", 2)
    [first, _] = claim(store)
    with store.database.transaction() as connection:
        connection.execute(text("UPDATE outbox SET leased_until = NULL"))
    late = datetime.now(UTC) + timedelta(minutes=1)
    sql = "UPDATE outbox SET next_attempt_at = :late WHERE version = 1"
    with store.database.transaction() as connection:
        connection.execute(text(sql), {"late": store.database.value(late)})
    standing = store.outbox.standing()
    assert (standing.pending, standing.due, standing.waiting) == (2, 0, 2)
    [head] = store.outbox.heads()
    assert (head.record.next_attempt_at, head.record.version, head.behind) == (late, 1, 1)
    assert first.event
    assert head.record.event_id == first.event.event_id


def test_it_counts_no_further_than_it_need(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", 9)
    relay_all(store)
    for name in "bc":
        put(store, name, 9)
    monkeypatch.setattr(outbox_records, "COUNTED", 5)
    standing = store.outbox.standing()
    assert (standing.published, standing.pending) == (5, 5)
    assert [head.behind for head in store.outbox.heads()] == [5, 5]


def test_it_says_that_there_is_more_than_it_counted(
    store: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a", 9)
    relay_all(store, dead={"a": 1})
    monkeypatch.setattr(outbox_records, "COUNTED", 5)
    standing = store.outbox.standing()
    assert (standing.pending, standing.failed, standing.is_bounded) == (4, 1, True)
    monkeypatch.setattr(outbox_records, "COUNTED", 50)
    standing = store.outbox.standing()
    assert (standing.pending, standing.failed, standing.is_bounded) == (8, 1, False)


def test_a_record_tells_its_event_and_what_became_of_it(store: Hindsight) -> None:
    put(store, "a", 2)
    relay_all(store, dead={"a": 2})
    stored = list(store.events("a"))[1]
    record = store.outbox.record("a", 2)
    assert (record.event_id, record.position) == (stored.event_id, stored.position)
    assert (record.aggregate_type, record.event_type) == ("thing", "Made")
    assert (record.occurred_at, record.created_at) == (stored.occurred_at, stored.recorded_at)
    assert (record.status, record.is_open, record.in_flight, record.attempts) == (
        *("failed", True, False, 4),
    )
    assert record.finished_at is not None
    assert record.attempted_at is not None
    assert record.finished_at >= record.attempted_at
    assert record.finished_at.tzinfo is not None
    assert record.error == "tests.published.Refused: no Made today\n"
    assert record.reason == "tests.published.Refused: no Made today"
    assert record.leased_by == f"{platform.node()}:{os.getpid()}"
    assert store.outbox.record("a", 1).status == "published"
    assert [each.version for each in store.outbox.records("a")] == [1, 2]
    assert [each.version for each in store.outbox.records("a", after=1)] == [2]


def test_who_has_a_record_is_told_while_the_lease_lasts(store: Hindsight) -> None:
    put(store, "a")
    claim(store)
    assert store.outbox.record("a", 1).in_flight
    sql = "UPDATE outbox SET leased_until = created_at"
    with store.database.transaction() as connection:
        connection.execute(text(sql))
    record = store.outbox.record("a", 1)
    assert (record.in_flight, record.leased_by) == (False, "relay:1")


@pytest.mark.parametrize(("aggregate_id", "version"), [("a", 2), ("a", 0), ("b", 1)])
def test_no_record_has_a_name(store: Hindsight, aggregate_id: str, version: int) -> None:
    put(store, "a")
    with pytest.raises(RecordNotFound) as refused:
        store.outbox.record(aggregate_id, version)
    told = f"the outbox has no record of {aggregate_id!r} version {version}"
    assert str(refused.value) == told


def test_dead_letters_come_in_pages(store: Hindsight) -> None:
    names = [f"a{number}" for number in range(7)]
    for name in names:
        put(store, name, 2)
    relay_all(store, dead=dict.fromkeys(names, 1))
    found, after = [], None
    while page := store.outbox.failed(after=after, limit=3):
        found += [each.aggregate_id for each in page]
        after = (page[-1].aggregate_id, page[-1].version)
    assert found == names


@pytest.mark.parametrize("held", [False, True])
def test_heads_come_in_pages(store: Hindsight, *, held: bool) -> None:
    names = [f"a{number}" for number in range(7)]
    for name in names:
        put(store, name, 3)
    relay_all(store, dead=dict.fromkeys(names, 2))
    put(store, "b")
    found: list[tuple[str, int, int]] = []
    after = ""
    while page := store.outbox.heads(after=after, limit=3, held=held):
        found += [(each.record.aggregate_id, each.record.version, each.behind) for each in page]
        after = found[-1][0]
    assert found == [(name, 2, 1) for name in names] + ([] if held else [("b", 1, 0)])


def test_one_for_which_nobody_waits_holds_nothing(store: Hindsight) -> None:
    put(store, "a", 2)
    relay_all(store, dead={"a": 1}, on_dead_letter="skip")
    assert store.outbox.heads(held=True) == []
    assert store.outbox.standing().held is None
    assert [each.version for each in store.outbox.failed()] == [1]
    assert store.outbox.heads() == []
