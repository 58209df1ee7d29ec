"""What is appended is written to the outbox with it, and relays publish it in order."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from store import Append, Hindsight, NewEvent, any_, exact
from store.database.claiming import Claim, Settlement
from store.errors import InvalidSetting, SinkUnavailable, VersionConflict
from store.outbox import ATTEMPTS, OnDeadLetter, Relay
from store.records import Event
from store.transfer import export_events, import_events
from tests.published import Recording

BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(store: Hindsight, clock: Clock) -> Callable[..., Relay]:
    """Makes relays of the store whose chance is always the same."""

    def make(publisher: Any, **given: Any) -> Relay:
        options: dict[str, Any] = {"clock": clock, "chance": lambda: 1.0} | given
        return Relay(store.database, publisher, **options)

    return make


def put(store: Hindsight, aggregate_id: str, *types: str, **options: Any) -> None:
    events = [NewEvent(event_type, {"n": 1}) for event_type in types]
    store.append("thing", aggregate_id, events, expected=any_(), **options)


def made(aggregate_id: str) -> Append:
    return Append(
        aggregate_type="thing",
        aggregate_id=aggregate_id,
        events=[NewEvent("Made", {})],
        expected=any_(),
    )


def records(store: Hindsight, *columns: str) -> list[tuple[Any, ...]]:
    """The outbox in the order of aggregates and versions."""
    wanted = ", ".join(("aggregate_id", "version", *columns))
    return store.database.rows(f"SELECT {wanted} FROM outbox ORDER BY 1, 2", {})


def until_nothing_is_due(relay: Relay) -> int:
    """Let the relay work; how many records it claimed."""
    claimed = 0
    while found := relay.once().claimed:
        claimed += found
    return claimed


def test_what_is_appended_is_pending_with_all_that_tells_it(store: Hindsight) -> None:
    put(store, "a", "Made", "Named")
    put(store, "a", "Named")
    stored = list(store.events("a"))
    found = records(store, "position", "event_id", "status", "attempts", "created_at")
    value = store.database.value
    assert found == [
        ("a", e.version, e.position, value(e.event_id), "pending", 0, value(e.recorded_at))
        for e in stored
    ]


def test_it_goes_with_the_callers_transaction(store: Hindsight) -> None:
    with store.database.transaction() as connection:
        put(store, "a", "Made", connection=connection)
        connection.rollback()
    assert records(store) == []
    with store.database.transaction() as connection:
        put(store, "a", "Made", connection=connection)
        put(store, "a", "Named", "Named", connection=connection)
    assert records(store) == [("a", 1), ("a", 2), ("a", 3)]


def test_what_is_refused_or_known_is_not_pending_again(store: Hindsight) -> None:
    put(store, "a", "Made")
    with pytest.raises(VersionConflict):
        store.append("thing", "a", [NewEvent("Named", {})], expected=exact(7))
    event = NewEvent("Named", {})
    for _ in range(2):
        store.append("thing", "a", [event], expected=any_())
    assert records(store) == [("a", 1), ("a", 2)]


def test_several_aggregates_are_pending_together(store: Hindsight) -> None:
    put(store, "b", "Made")
    store.append_all([made(name) for name in ("b", "a", "c")])
    assert records(store, "status") == [
        ("a", 1, "pending"),
        ("b", 1, "pending"),
        ("b", 2, "pending"),
        ("c", 1, "pending"),
    ]
    assert [row[2] for row in records(store, "position")] == [
        event.position for name in "abc" for event in store.events(name)
    ]


def test_off_it_is_not_written(store_url: str) -> None:
    with Hindsight(store_url, outbox=False) as store:
        put(store, "a", "Made")
        put(store, "a", "Named", "Named")
        store.append_all([made(name) for name in "bc"])
        assert records(store) == []


def test_off_by_its_setting(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_STORE_OUTBOX", "off")
    with Hindsight(store_url) as store:
        put(store, "a", "Made")
        assert records(store) == []


def test_a_relay_publishes_what_is_pending_in_the_order_of_versions(
    store: Hindsight, relay: Callable[..., Relay]
) -> None:
    for _ in range(3):
        for name in ("b", "a"):
            put(store, name, "Named", "Named")
    publisher = Recording()
    assert until_nothing_is_due(relay(publisher)) == 12
    assert publisher.versions() == {name: list(range(1, 7)) for name in ("a", "b")}
    assert sorted(publisher.events, key=lambda event: event.position) == list(store.feed())
    assert {row[2:] for row in records(store, "status", "attempts")} == {("published", 1)}
    put(store, "a", "Named")
    assert until_nothing_is_due(relay(publisher)) == 1


def test_all_aggregates_come_round_however_few_are_claimed_at_once(
    store: Hindsight, relay: Callable[..., Relay]
) -> None:
    for number in range(7):
        put(store, f"a{number}", *["Named"] * 5)
    publisher = Recording()
    assert until_nothing_is_due(relay(publisher, heads=2, run=3)) == 35
    assert publisher.versions() == {f"a{n}": [1, 2, 3, 4, 5] for n in range(7)}


def test_who_appends_all_the_time_does_not_keep_others_waiting(
    store: Hindsight, relay: Callable[..., Relay]
) -> None:
    for name in "az":
        put(store, name, "Made")
    publisher = Recording(meanwhile=lambda _: put(store, "a", "Named"))
    working = relay(publisher, heads=1)
    for _ in range(2):
        working.once()
    assert publisher.versions() == {"a": [1], "z": [1]}


def test_an_attempt_is_counted_before_it_is_made(
    store: Hindsight, relay: Callable[..., Relay]
) -> None:
    put(store, "a", "Made")
    counted: list[tuple[Any, ...]] = []
    publisher = Recording(meanwhile=lambda _: counted.extend(records(store, "attempts")))
    relay(publisher).once()
    assert counted == [("a", 1, 1)]


def test_what_fails_is_tried_again_after_ever_longer_and_no_more_than_four_times(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    put(store, "a", "Made", "Named")
    put(store, "b", "Made")
    publisher = Recording(lambda event: event.aggregate_id == "a")
    working = relay(publisher)
    waited: list[float] = []
    for _ in range(ATTEMPTS):
        until_nothing_is_due(working)
        tried = len(publisher.tried)
        seconds = 0.0
        while len(publisher.tried) == tried and seconds < 20:
            clock.pass_by(0.5)
            seconds += 0.5
            until_nothing_is_due(working)
        waited.append(seconds)
    assert waited == [1, 2, 4, 20]
    assert [event.aggregate_id for event in publisher.tried].count("a") == ATTEMPTS == 4
    assert publisher.versions() == {"b": [1]}
    [first, second, other] = records(store, "status", "attempts", "last_error")
    assert first[:4] == ("a", 1, "failed", 4)
    assert "Refused: no Made today" in first[4]
    assert second == ("a", 2, "pending", 0, None)
    assert other == ("b", 1, "published", 1, None)


@pytest.mark.parametrize("away", [SinkUnavailable("no mail today"), InvalidSetting("no Redis")])
def test_while_nobody_is_there_no_attempt_is_counted(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock, away: Exception
) -> None:
    put(store, "a", "Made", "Named")
    publisher = Recording()
    publisher.refusal = away
    publisher.fails = lambda _: True
    working = relay(publisher)
    for _ in range(3 * ATTEMPTS):
        found = working.once()
        assert (found.retried, found.released) == (1, 1)
        clock.pass_by(1)
    [first, _] = records(store, "status", "attempts", "last_error")
    assert first[:4] == ("a", 1, "pending", 0)
    assert str(away) in first[4]
    publisher.fails = lambda _: False
    assert until_nothing_is_due(working) == 2


def test_chance_spreads_what_has_failed_together(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    for name in "ab":
        put(store, name, "Made")
    chances = iter([0.0, 0.5])
    relay(Recording(lambda _: True), chance=lambda: next(chances)).once()
    due = [row[2] for row in records(store, "next_attempt_at")]
    expected = [clock.now + timedelta(seconds=seconds) for seconds in (0.5, 0.75)]
    assert due == [store.database.value(moment) for moment in expected]


@pytest.mark.parametrize(("on_dead_letter", "published"), [("hold", {}), ("skip", {"a": [2, 3]})])
def test_later_events_wait_for_a_dead_letter_or_go_on(
    store: Hindsight,
    relay: Callable[..., Relay],
    clock: Clock,
    on_dead_letter: OnDeadLetter,
    published: dict[str, list[int]],
) -> None:
    put(store, "a", "Made", "Named", "Named")
    publisher = Recording(lambda event: event.version == 1)
    working = relay(publisher, on_dead_letter=on_dead_letter)
    for _ in range(6):
        until_nothing_is_due(working)
        clock.pass_by(60)
    assert publisher.versions() == published
    assert records(store, "status")[0] == ("a", 1, "failed")


def test_what_comes_before_and_after_one_that_fails_keeps_its_order(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    put(store, "a", *["Named"] * 5)
    failing = {3}
    publisher = Recording(lambda event: event.version in failing)
    working = relay(publisher)
    found = working.once()
    assert (found.published, found.retried, found.released) == (2, 1, 2)
    assert records(store, "status", "attempts") == [
        ("a", 1, "published", 1),
        ("a", 2, "published", 1),
        ("a", 3, "pending", 1),
        ("a", 4, "pending", 0),
        ("a", 5, "pending", 0),
    ]
    failing.clear()
    assert working.once().claimed == 0
    clock.pass_by(1)
    until_nothing_is_due(working)
    assert publisher.versions() == {"a": [1, 2, 3, 4, 5]}


def test_an_aggregate_is_with_one_relay_at_a_time(
    store: Hindsight, relay: Callable[..., Relay]
) -> None:
    for name in "abc":
        put(store, name, "Made", "Named")
    second = Recording()
    other = relay(second)

    def meanwhile(_: object) -> None:
        put(store, "a", "Named")
        put(store, "d", "Made")
        until_nothing_is_due(other)

    first = Recording(meanwhile=meanwhile)
    relay(first, heads=2).once()
    assert first.versions() == {"a": [1, 2], "b": [1, 2]}
    assert second.versions() == {"c": [1, 2], "d": [1, 2, 3, 4]}
    until_nothing_is_due(other)
    assert second.versions()["a"] == [3, 4, 5, 6]


def test_who_has_lost_its_lease_settles_nothing(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    put(store, "a", "Made", "Named")
    second = Recording(lambda event: event.version == 2)

    def lose(event: Event) -> None:
        if event.version == 1:
            clock.pass_by(31)
            until_nothing_is_due(relay(second))

    found = relay(Recording(meanwhile=lose), lease=30).once()
    assert (found.claimed, found.published, found.lost) == (2, 0, 2)
    assert second.versions() == {"a": [1]}
    assert records(store, "status", "attempts") == [
        ("a", 1, "published", 2),
        ("a", 2, "pending", 2),
    ]


@pytest.mark.slow
def test_who_is_slow_keeps_its_lease(store: Hindsight) -> None:
    put(store, "a", *["Made"] * 2)
    other = Recording()

    def dawdle(_: Event) -> None:
        ends = monotonic() + 1.6
        while monotonic() < ends:
            assert Relay(store.database, other).once().claimed == 0

    found = Relay(store.database, Recording(meanwhile=dawdle), lease=1.5).once()
    assert (found.published, found.lost) == (2, 0)
    assert other.tried == []


def test_who_has_lost_its_lease_does_not_settle_what_another_has(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    put(store, "a", "Made")
    other = Claim(lease=uuid4(), by="other", seconds=60, heads=10, run=10)

    def lose(_: Event) -> None:
        clock.pass_by(31)
        [claimed] = store.database.claim(replace(other, now=clock()))
        assert claimed.attempt == 2

    assert relay(Recording(meanwhile=lose), lease=30).once().lost == 1
    assert records(store, "status", "leased_by") == [("a", 1, "pending", "other")]
    settled = Settlement(aggregate_id="a", version=1, status="published", is_open=False, attempts=2)
    assert store.database.settle(other.lease, [settled], clock()) == {("a", 1)}


class Killed(BaseException):
    """The process is gone."""


def die(*_: object) -> None:
    raise Killed


def test_what_was_in_flight_with_one_that_died_goes_one_by_one(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    put(store, "a", *["Named"] * 3)
    with pytest.raises(Killed):
        relay(Recording(meanwhile=die)).once()
    clock.pass_by(31)
    put(store, "a", "Named")
    working = relay(Recording())
    assert [working.once().claimed for _ in range(5)] == [1, 1, 1, 1, 0]


def test_who_dies_again_and_again_takes_nothing_else_with_it(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    """Every relay that gets to publish c dies; or they die of something else at the first try."""
    for name in "abcd":
        put(store, name, "Made", "Named")
    with pytest.raises(Killed):
        relay(Recording(meanwhile=die)).once()
    publisher = Recording(meanwhile=lambda event: die() if event.aggregate_id == "c" else None)
    for _ in range(20):
        clock.pass_by(31)
        working = relay(publisher)
        try:
            until_nothing_is_due(working)
        except Killed:
            put(store, "e", "Made")
    assert [row for row in records(store, "status", "attempts") if row[0] != "e"] == [
        ("a", 1, "published", 2),
        ("a", 2, "published", 2),
        ("b", 1, "published", 2),
        ("b", 2, "published", 2),
        ("c", 1, "failed", 4),
        ("c", 2, "pending", 1),
        ("d", 1, "published", 2),
        ("d", 2, "published", 2),
    ]


def test_one_that_was_not_tried_does_not_take_with_it_one_that_was(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    put(store, "a", *["Named"] * 3)
    with pytest.raises(Killed):
        relay(Recording(meanwhile=die)).once()
    with store.database.transaction() as connection:
        connection.execute(text("UPDATE outbox SET attempts = 0 WHERE version <> 2"))
    clock.pass_by(31)
    publisher = Recording()
    working = relay(publisher)
    assert [working.once().claimed for _ in range(4)] == [1, 1, 1, 0]
    assert publisher.versions() == {"a": [1, 2, 3]}


def test_what_kills_every_relay_is_a_dead_letter_after_four(
    store: Hindsight, relay: Callable[..., Relay], clock: Clock
) -> None:
    put(store, "a", *["Named"] * 4)
    put(store, "b", "Made")

    def kill(event: Any) -> None:
        if (event.aggregate_id, event.version) == ("a", 3):
            raise Killed

    publisher = Recording(meanwhile=kill)
    for _ in range(20):
        try:
            relay(publisher).once()
        except Killed:
            clock.pass_by(31)
    found = records(store, "status", "attempts")
    assert ("a", 3, "failed", 4) in found
    assert ("a", 4, "pending") in [row[:3] for row in found]
    assert publisher.versions()["b"] == [1]
    # The first two again, for what was sent before the process died is not known.
    assert publisher.versions()["a"] == [1, 2, 1, 2]
    [error] = [row[2] for row in records(store, "last_error") if row[1] == 3]
    assert error == "no relay came to tell what became of 4 attempts: each ended, or lost its lease"


def test_what_is_imported_is_not_published(
    store: Hindsight, fresh_url: Callable[[], str], tmp_path: Path
) -> None:
    put(store, "a", "Made", "Named")
    path = tmp_path / "events.ndjson"
    with path.open("wb") as lines:
        export_events(store.log, lines)
    with Hindsight(fresh_url()) as other:
        put(other, "b", "Made")
        with path.open("rb") as lines:
            import_events(other.log, lines)
        put(other, "a", "Named")
        assert records(other) == [("a", 3), ("b", 1)]
        assert until_nothing_is_due(Relay(other.database, Recording())) == 2
