"""What was published some time ago is removed, and nothing else is."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from store import Hindsight, NewEvent, any_
from store.outbox import OnDeadLetter, trimming
from store.outbox.operations import Operations
from store.outbox.trimming import trim
from store.work import work_once
from tests.published import relay_all

HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


def put(store: Hindsight, aggregate_id: str, events: int = 1) -> None:
    new = [NewEvent("Made", {"n": 1}) for _ in range(events)]
    store.append("thing", aggregate_id, new, expected=any_())


@pytest.fixture
def aged(store: Hindsight) -> Callable[[str, timedelta], None]:
    """Have what became of an aggregate's records be so long ago."""

    def make(aggregate_id: str, by: timedelta) -> None:
        sql = "UPDATE outbox SET finished_at = :moment WHERE aggregate_id = :id AND version = :v"
        rows = [
            {
                "id": aggregate_id,
                "v": each.version,
                "moment": store.database.value(each.finished_at - by),
            }
            for each in store.outbox.records(aggregate_id, limit=1_000)
            if each.finished_at is not None
        ]
        with store.database.transaction() as connection:
            connection.execute(text(sql), rows)

    return make


def statuses(store: Hindsight, aggregate_id: str) -> list[str]:
    return [each.status for each in store.outbox.records(aggregate_id)]


def test_what_was_published_long_ago_goes(
    store: Hindsight, aged: Callable[[str, timedelta], None]
) -> None:
    for name in ("old", "new"):
        put(store, name, 3)
    relay_all(store)
    aged("old", WEEK + HOUR)
    aged("new", WEEK - HOUR)
    assert trim(store.database, WEEK) == 3
    assert trim(store.database, WEEK) == 0
    assert (statuses(store, "old"), statuses(store, "new")) == ([], ["published"] * 3)


@pytest.mark.parametrize("on_dead_letter", ["hold", "skip"])
def test_nothing_else_goes_however_old(
    store: Hindsight, aged: Callable[[str, timedelta], None], on_dead_letter: OnDeadLetter
) -> None:
    put(store, "a", 4)
    Operations(store.database, actor="ada").skip("a", 2, reason="r")
    relay_all(store, dead={"a": 3}, on_dead_letter=on_dead_letter)
    put(store, "a", 2)
    before = statuses(store, "a")
    aged("a", 100 * WEEK)
    trim(store.database, timedelta(0))
    assert statuses(store, "a") == [each for each in before if each != "published"]
    assert {"pending", "failed", "skipped"} <= set(statuses(store, "a"))


def test_it_goes_in_small_transactions(
    store: Hindsight,
    aged: Callable[[str, timedelta], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(store, "a", 25)
    relay_all(store)
    aged("a", HOUR)
    monkeypatch.setattr(trimming, "BATCH", 10)
    removed: list[int] = []
    kept = store.database.trim

    def counted(seconds: float, *, limit: int) -> int:
        removed.append(kept(seconds, limit=limit))
        return removed[-1]

    monkeypatch.setattr(store.database, "trim", counted)
    assert trim(store.database, timedelta(0)) == 25
    assert removed == [10, 10, 5]
    assert trimming.BATCH <= 5_000


def test_two_may_do_it_at_once(
    store: Hindsight,
    aged: Callable[[str, timedelta], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(store, "a", 500)
    relay_all(store)
    aged("a", HOUR)
    monkeypatch.setattr(trimming, "BATCH", 7)
    ready = threading.Barrier(2)
    removed: list[int] = []

    def run() -> None:
        ready.wait()
        removed.append(trim(store.database, timedelta(0)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(removed) == 2
    assert sum(removed) == 500
    assert statuses(store, "a") == []


def test_workers_do_it(
    store_url: str,
    store: Hindsight,
    aged: Callable[[str, timedelta], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(store, "a", 2)
    relay_all(store)
    aged("a", 13 * HOUR)
    assert work_once(store).trimmed == 0
    monkeypatch.setenv("EVENT_STORE_OUTBOX_RETENTION", "12h")
    with Hindsight(store_url) as other:
        assert work_once(other).trimmed == 2
