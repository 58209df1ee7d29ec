"""Events go to Redis Streams and come to consumers in order, whatever becomes of either."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from store import Context, Event, Hindsight, NewEvent, any_
from store.errors import InvalidEvent, InvalidSetting, RedisUnavailable
from store.interchange import parse_line
from store.outbox import Relay
from store.outbox.consuming import Consumer, Message
from store.outbox.streams import RedisStreams
from store.outbox.topic import shard_of
from tests import servers
from tests.servers import RedisServer
from tests.waiting import until

pytestmark = pytest.mark.slow

SOURCE = "/services/things"
SHARDS = 4
SHORT = 0.3
"""Seconds of a lease that a test waits for."""


class Bench:
    """A topic of its own in a Redis, and makers of who uses it; what consumers were given."""

    def __init__(self, server: RedisServer, opened: ExitStack) -> None:
        self.server = server
        self.topic = f"topic-{uuid4().hex}"
        self.given: list[Message] = []
        self.client: Any = opened.enter_context(server.client())
        self._opened = opened

    def publisher(self, **given: Any) -> RedisStreams:
        options: dict[str, Any] = {"topic": self.topic, "source": SOURCE, "shards": SHARDS} | given
        made = RedisStreams(self.server.url, **options)
        self._opened.callback(made.close)
        return made

    def consumer(self, handler: Callable[[Message], object] | None = None, **given: Any) -> Any:
        options: dict[str, Any] = {
            "topic": self.topic,
            "group": "group",
            "handler": handler or self.given.append,
            "lease": 10,
            "first_delay": 0.01,
        }
        made = Consumer(self.server.url, **(options | given))
        self._opened.callback(made.close)
        return made

    def stream(self, aggregate_id: str) -> str:
        return f"{self.topic}.{shard_of(aggregate_id, SHARDS)}"

    def entries(self, aggregate_id: str) -> list[dict[bytes, bytes]]:
        return [fields for _, fields in self.client.xrange(self.stream(aggregate_id))]

    def pending(self, group: str = "group") -> int:
        keys = [key for n in range(SHARDS) if self.client.exists(key := f"{self.topic}.{n}")]
        return sum(self.client.xpending(key, group)["pending"] for key in keys)

    def versions(self) -> dict[str, list[int]]:
        found: defaultdict[str, list[int]] = defaultdict(list)
        for message in self.given:
            found[message.event.aggregate_id].append(message.event.version)
        return dict(found)


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    with ExitStack() as opened:
        yield Bench(redis_server, opened)


@pytest.fixture(params=["redis", "valkey"])
def own_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One whose Redis, or Valkey, the test may kill."""
    if servers.redis_program(request.param) is None and request.param == "redis":
        pytest.xfail("there is no such wheel for this Python")
    with servers.redis(request.param) as server, ExitStack() as opened:
        yield Bench(server, opened)


@pytest.fixture
def history(sqlite_url: str) -> Iterator[Callable[..., list[Event]]]:
    """Makes stored events of an aggregate, one after the other."""
    with Hindsight(sqlite_url) as store:

        def make(aggregate_id: str, count: int = 1) -> list[Event]:
            events = [NewEvent("Made", {"n": number}) for number in range(count)]
            return list(store.append("thing", aggregate_id, events, expected=any_()).events)

        yield make


History = Callable[..., list[Event]]


def drain(*consumers: Consumer) -> int:
    """Let the consumers work until none finds anything; how many events they handled."""
    handled = 0
    while found := sum(consumer.once() for consumer in consumers):
        handled += found
    return handled


def one_per_shard() -> list[str]:
    """An aggregate id for each shard, in the order of shards."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SHARDS:
        found.setdefault(shard_of(f"a{number}", SHARDS), f"a{number}")
        number += 1
    return [found[shard] for shard in range(SHARDS)]


# Publishing


def test_an_event_is_a_cloud_event_with_the_bytes_that_are_stored(
    store: Hindsight, bench: Bench
) -> None:
    new = NewEvent("Made", {"ü": [1.5, "\0", 2**63]}, metadata={"k": None}, schema_version=3)
    context = Context(actor="me", correlation_id="c", causation_id="b")
    [event] = store.append("thing", "a", [new], expected=any_(), context=context).events
    assert bench.publisher().publish([event]) == {}
    [fields] = bench.entries("a")
    assert event.recorded_at is not None
    assert fields == {
        b"specversion": b"1.0",
        b"id": str(new.event_id).encode(),
        b"source": SOURCE.encode(),
        b"type": b"Made",
        b"subject": b"a",
        b"time": _told(event.occurred_at),
        b"datacontenttype": b"application/json",
        b"aggregatetype": b"thing",
        b"aggregateversion": b"1",
        b"schemaversion": b"3",
        b"position": b"%d" % event.position,
        b"correlationid": b"c",
        b"causationid": b"b",
        b"actor": b"me",
        b"recordedtime": _told(event.recorded_at),
        b"data": event.raw_data,
        b"metadata": event.raw_metadata,
    }


def _told(moment: Any) -> bytes:
    return f"{moment.isoformat(timespec='microseconds')[:-6]}Z".encode()


def test_an_entry_is_a_line_that_import_takes(bench: Bench, history: History) -> None:
    [event] = history("a")
    bench.publisher().publish([event])
    [fields] = bench.entries("a")
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    numbers = ("aggregateversion", "schemaversion", "position")
    plain = ", ".join(
        f'"{name}": {value}' if name in {*numbers, "data", "metadata"} else f'"{name}": "{value}"'
        for name, value in texts.items()
    )
    found = parse_line(f"{{{plain}}}".encode(), position=1)
    assert (found.event_id, found.aggregate_id, found.version) == (event.event_id, "a", 1)
    assert found.raw_data == event.raw_data


def test_what_is_consumed_is_what_was_stored(store: Hindsight, bench: Bench) -> None:
    new = NewEvent("Made", {"ü": 1}, metadata={"k": 1})
    [event] = store.append("thing", "ä", [new], expected=any_()).events
    bench.publisher().publish([event])
    assert drain(bench.consumer()) == 1
    [message] = bench.given
    assert (message.source, message.event.raw_metadata) == (SOURCE, event.raw_metadata)
    assert (message.event.data, message.event.metadata) == (event.data, event.metadata)
    told = {name for name in Event.__struct_fields__ if not name.startswith("_")} - {"digest"}
    assert {name: getattr(message.event, name) for name in told} == {
        name: getattr(event, name) for name in told
    }


def test_an_aggregate_is_in_the_same_shard_in_every_process() -> None:
    assert [shard_of(name, 8) for name in ("a", "user-42", "ä" * 99)] == [3, 3, 7]


def test_a_relay_publishes_in_order_what_consumers_get_in_order(
    store: Hindsight, bench: Bench
) -> None:
    for _ in range(3):
        for name in ("a", "b", "c"):
            store.append("thing", name, [NewEvent("Made", {})], expected=any_())
    relay = Relay(store.database, bench.publisher())
    while relay.once().claimed:
        pass
    assert drain(bench.consumer()) == 9
    assert bench.versions() == {name: [1, 2, 3] for name in ("a", "b", "c")}
    assert bench.pending() == 0


def test_all_events_go_in_one_round_trip(bench: Bench, history: History) -> None:
    publisher = bench.publisher()
    publisher.publish(history("warm"))
    events = [event for name in one_per_shard() for event in history(name, 5)]
    before = bench.client.info("commandstats")["cmdstat_eval"]["calls"]
    read = bench.client.info("stats")["total_reads_processed"]
    assert publisher.publish(events) == {}
    assert bench.client.info("stats")["total_reads_processed"] - read <= 3
    assert bench.client.info("commandstats")["cmdstat_eval"]["calls"] - before == SHARDS


def test_the_number_of_shards_is_fixed_by_who_publishes_first(
    bench: Bench, history: History
) -> None:
    first, other = history("a", 2)
    bench.publisher().publish([first])
    failures = bench.publisher(shards=5).publish([other])
    assert list(failures) == [other.position]
    assert isinstance(failures[other.position], InvalidSetting)
    assert str(failures[other.position]) == (
        f"topic '{bench.topic}' has 4 shards in Redis, not 5: set the number it has, or choose"
        " another topic"
    )
    assert sum(bench.client.xlen(f"{bench.topic}.{shard}") for shard in range(5)) == 1


@pytest.mark.parametrize("options", [{"shards": 0}, {"topic": ""}])
def test_settings_that_mean_nothing_are_refused(bench: Bench, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        bench.publisher(**options)


def test_a_full_redis_takes_nothing_and_all_is_told(own_bench: Bench, history: History) -> None:
    publisher = own_bench.publisher()
    first, second = one_per_shard()[:2]
    publisher.publish(history(first))
    own_bench.client.config_set("maxmemory", 1)
    events = [*history(first, 3), *history(second, 3)]
    failures = publisher.publish(events)
    assert set(failures) == {event.position for event in events}
    assert "maxmemory" in str(failures[events[0].position])
    assert len(own_bench.entries(first)) == 1
    own_bench.client.config_set("maxmemory", 0)
    assert publisher.publish(events) == {}
    assert len(own_bench.entries(first)) == 4


def test_a_full_redis_is_emptied_by_consuming(own_bench: Bench, history: History) -> None:
    publisher = own_bench.publisher(retention=timedelta(0))
    publisher.publish(history("a", 100))
    own_bench.client.config_set("maxmemory", 1)
    assert drain(own_bench.consumer()) == 100
    assert publisher.trim() == 99


def test_a_shard_that_takes_nothing_holds_up_no_other(bench: Bench, history: History) -> None:
    refusing, taking = one_per_shard()[:2]
    bench.client.set(bench.stream(refusing), "in the way")
    mixed = [*history(refusing, 2), *history(taking, 2)]
    failures = bench.publisher().publish(mixed)
    assert set(failures) == {event.position for event in mixed[:2]}
    assert len(bench.entries(taking)) == 2


def test_a_read_only_redis_and_a_dead_one_fail_all_and_raise_nothing(
    own_bench: Bench, history: History
) -> None:
    publisher = own_bench.publisher()
    events = history("a", 2)
    own_bench.client.replicaof("127.0.0.1", 1)
    assert set(publisher.publish(events)) == {event.position for event in events}
    own_bench.client.replicaof("NO", "ONE")
    assert publisher.publish(events) == {}
    own_bench.server.kill()
    assert set(publisher.publish(events)) == {event.position for event in events}
    own_bench.server.start()
    assert publisher.publish(events) == {}


# Consuming


def test_shards_are_shared_out_and_each_is_with_one(bench: Bench, history: History) -> None:
    bench.publisher().publish([event for name in one_per_shard() for event in history(name)])
    first, second, third = (bench.consumer(lease=SHORT) for _ in range(3))
    assert drain(first) == 4
    assert first.shards == {0, 1, 2, 3}

    def settled() -> bool:
        for consumer in (first, second, third):
            consumer.once()
        found = [len(consumer.shards) for consumer in (first, second, third)]
        return sorted(found) == [1, 1, 2]

    until(settled)
    assert first.shards | second.shards | third.shards == {0, 1, 2, 3}


def test_who_leaves_is_replaced_at_once_and_who_dies_after_the_lease(
    bench: Bench, history: History
) -> None:
    bench.publisher().publish(history("a"))
    first = bench.consumer()
    drain(first)
    first.leave()
    second = bench.consumer(lease=SHORT)
    second.once()
    assert len(second.shards) == SHARDS
    third = bench.consumer()  # the second is not heard of again
    third.once()
    assert len(third.shards) == 0
    until(lambda: third.once() or time_to_share(third) or len(third.shards) == SHARDS)


def time_to_share(consumer: Consumer) -> bool:
    consumer._share_at = 0
    return False


def test_what_a_dead_one_left_comes_first_and_in_order(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a", 5))
    seen: list[int] = []

    def die_at_third(message: Message) -> None:
        if message.event.version == 3:
            raise Killed
        seen.append(message.event.version)

    with pytest.raises(Killed):
        bench.consumer(die_at_third, lease=SHORT).once()
    bench.publisher().publish(history("a", 2))
    heir = bench.consumer()
    until(lambda: time_to_share(heir) or drain(heir))
    assert seen == [1, 2]
    assert bench.versions() == {"a": [3, 4, 5, 6, 7]}
    assert bench.pending() == 0


class Killed(BaseException):
    """The process is gone."""


def test_names_of_the_dead_go(bench: Bench, history: History) -> None:
    for _ in range(4):
        bench.publisher().publish(history("a"))
        consumer = bench.consumer()
        drain(consumer)
        consumer.leave()
    assert len(bench.client.xinfo_consumers(bench.stream("a"), "group")) == 1


def test_what_fails_holds_its_shard_and_no_other(
    bench: Bench, history: History, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = one_per_shard()[:2]
    failures = [True] * 6

    def handle(message: Message) -> None:
        if message.event.aggregate_id == failing and failures:
            failures.pop()
            raise ValueError("not yet")
        bench.given.append(message)

    bench.publisher().publish([*history(failing, 2), *history(other, 2)])
    consumer = bench.consumer(handle)
    consumer.once()
    assert bench.versions() == {other: [1, 2]}
    [held] = consumer.held
    assert (held.shard, held.attempts, held.error) == (0, 1, "ValueError: not yet")
    until(lambda: consumer.once() == 2)
    assert bench.versions() == {failing: [1, 2], other: [1, 2]}
    assert (consumer.counts.handled, consumer.counts.failed, consumer.held) == (4, 6, ())
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3 + ["ERROR"]


def test_each_further_attempt_waits_longer(bench: Bench, history: History) -> None:
    def refuse(_: Message) -> None:
        raise ValueError

    bench.publisher().publish(history("a"))
    consumer = bench.consumer(refuse, first_delay=0.1, chance=lambda: 1.0)
    delays = []
    for attempt in range(1, 4):
        while consumer.counts.failed < attempt:
            consumer.once()
        [shard] = [each for each in consumer._shards.values() if each.attempts]
        delays.append(shard.retry_at)
    assert delays[1] - delays[0] >= 0.2
    assert delays[2] - delays[1] >= 0.4


def test_a_slow_handler_gets_to_every_shard(bench: Bench, history: History) -> None:
    def be_slow(message: Message) -> None:
        bench.given.append(message)
        time.sleep(SHORT / 6)

    names = one_per_shard()
    bench.publisher().publish([event for name in names for event in history(name, 20)])
    consumer = bench.consumer(be_slow, lease=SHORT)
    for _ in range(2 * SHARDS):
        consumer.once()
    assert set(bench.versions()) == set(names)


def test_what_is_no_event_holds_its_shard(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a"))
    bench.client.xadd(bench.stream("a"), {"subject": "a"})
    consumer = bench.consumer()
    drain(consumer)
    assert bench.versions() == {"a": [1]}
    [held] = consumer.held
    assert held.error == f"{InvalidEvent.__name__}: entry {held.entry_id}: no schemaversion"


def test_what_fails_and_is_removed_holds_nothing(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a", 3))

    def refuse_first(message: Message) -> None:
        if message.event.version == 1:
            raise ValueError
        bench.given.append(message)

    consumer = bench.consumer(refuse_first)
    consumer.once()
    [held] = consumer.held
    bench.client.xdel(bench.stream("a"), held.entry_id)
    until(consumer.once)
    assert bench.versions() == {"a": [2, 3]}
    assert consumer.held == ()
    assert bench.pending() == 0


def test_groups_get_everything_each(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a", 3))
    assert [drain(bench.consumer(group=group)) for group in ("one", "two", "one")] == [3, 3, 0]


def test_who_has_lost_its_lease_reads_and_acknowledges_nothing(
    bench: Bench, history: History
) -> None:
    bench.publisher().publish(history("a", 3))
    heirs: list[Message] = []
    heir = bench.consumer(heirs.append)

    def lose(message: Message) -> None:
        bench.given.append(message)
        if not heirs:
            until(lambda: time_to_share(heir) or heir.once())

    slow = bench.consumer(lose, lease=SHORT)
    slow.once()
    assert bench.versions() == {"a": [1]}
    assert [message.event.version for message in heirs] == [1, 2, 3]
    assert slow.counts.lost >= 1
    assert min(message.token for message in heirs) > bench.given[0].token
    assert bench.pending() == 0


def test_what_is_in_hand_goes_with_the_lease(bench: Bench, history: History) -> None:
    def take_long(message: Message) -> None:
        bench.given.append(message)
        time.sleep(SHORT)

    bench.publisher().publish(history("a", 3))
    slow, heir = bench.consumer(take_long, lease=SHORT), bench.consumer()
    slow.once()
    until(lambda: time_to_share(heir) or drain(heir))
    heir.leave()
    assert drain(slow) == 0
    assert slow.shards == {0, 1, 2, 3}
    assert bench.versions() == {"a": [1, 2, 3]}


def test_a_lease_that_ran_out_locally_is_not_worked_on(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a", 3))

    def take_long(message: Message) -> None:
        bench.given.append(message)
        time.sleep(2 * SHORT)

    bench.consumer(take_long, lease=SHORT).once()
    assert bench.versions() == {"a": [1]}  # what comes next is for who has the lease by then


def test_a_handler_may_take_longer_than_the_lease(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a", 2))
    stop, others = threading.Event(), list[Message]()
    entered = threading.Event()

    def slow(message: Message) -> None:
        entered.set()
        time.sleep(4 * SHORT)
        bench.given.append(message)

    with running(bench.consumer(slow, lease=SHORT), stop):
        entered.wait(5)
        other = bench.consumer(others.append, lease=60, name="zzz")
        until(lambda: time_to_share(other) or other.once() or len(bench.given) == 1)
    until(lambda: time_to_share(other) or other.once() or len(bench.given) + len(others) > 1)
    assert sorted(m.event.version for m in [*bench.given, *others]) == [1, 2]


class running:  # noqa: N801 (reads as the others do)
    """A consumer at work in a thread of its own, stopped at the end of the block."""

    def __init__(self, consumer: Consumer, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        self._thread = threading.Thread(target=consumer.run, args=(self._stop,))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)
        assert not self._thread.is_alive()


def test_it_waits_for_what_comes_and_stops_when_told(bench: Bench, history: History) -> None:
    first, *more = history("a", 5)
    with running(bench.consumer(lease=60)):
        bench.publisher().publish([first])
        until(lambda: bench.versions() == {"a": [1]}, seconds=5)
        bench.publisher().publish(more)
        until(lambda: bench.versions() == {"a": [1, 2, 3, 4, 5]})
    heir = bench.consumer()
    heir.once()
    assert len(heir.shards) == SHARDS


def test_it_finishes_what_it_has_and_leaves_the_rest(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a", 5))
    stop = threading.Event()

    def stop_at_first(message: Message) -> None:
        bench.given.append(message)
        stop.set()

    bench.consumer(stop_at_first).run(stop)
    assert bench.versions() == {"a": [1]}
    assert drain(bench.consumer()) == 4


def test_redis_may_be_killed_and_come_back_empty(own_bench: Bench, history: History) -> None:
    first, second, third = history("a", 3)
    publisher = own_bench.publisher()
    with running(own_bench.consumer()):
        publisher.publish([first])
        until(lambda: own_bench.versions() == {"a": [1]})
        own_bench.server.kill()
        own_bench.server.start()
        assert publisher.publish([second]) == {}
        until(lambda: own_bench.versions() == {"a": [1, 2]})
        own_bench.client.flushall()
        publisher.publish([third])
        until(lambda: own_bench.versions() == {"a": [1, 2, 3]})


def test_a_redis_that_is_away_is_told(own_bench: Bench, history: History) -> None:
    own_bench.publisher().publish(history("a", 2))
    consumer = own_bench.consumer()
    own_bench.server.kill()
    with pytest.raises(RedisUnavailable):
        consumer.once()
    own_bench.server.start()
    own_bench.publisher().publish(history("a", 1))
    assert drain(consumer) == 1


def test_a_stream_that_was_deleted_is_read_anew(bench: Bench, history: History) -> None:
    consumer = bench.consumer()
    bench.publisher().publish(history("a"))
    drain(consumer)
    bench.client.delete(bench.stream("a"))
    bench.publisher().publish(history("a"))
    drain(consumer)
    assert bench.versions() == {"a": [1, 2]}


def test_what_was_deleted_while_pending_is_pending_no_more(bench: Bench, history: History) -> None:
    bench.publisher().publish(history("a", 3))
    with pytest.raises(Killed):
        bench.consumer(die).once()
    [first, *_] = bench.client.xrange(bench.stream("a"))
    bench.client.xdel(bench.stream("a"), first[0])
    bench.client.delete(f"{bench.topic}.group.group.leases", f"{bench.topic}.group.group.members")
    drain(bench.consumer())
    assert bench.versions() == {"a": [2, 3]}
    assert bench.pending() == 0


def die(_: Message) -> None:
    raise Killed


# Trimming


def test_what_no_group_needs_goes(bench: Bench, history: History) -> None:
    publisher = bench.publisher(retention=timedelta(0))
    publisher.publish(history("a", 50))
    assert publisher.trim() == 0  # whoever comes first reads all
    drain(bench.consumer())
    assert publisher.trim() == 49
    publisher.publish(history("a", 2))
    drain(bench.consumer(group="late"))
    assert bench.versions()["a"][-3:] == [50, 51, 52]


def test_what_a_group_has_not_read_or_not_finished_stays(bench: Bench, history: History) -> None:
    publisher = bench.publisher(retention=timedelta(0))
    publisher.publish(history("a", 5))
    seen: list[int] = []

    def stop_at_fourth(message: Message) -> None:
        if message.event.version == 4:
            raise Killed
        seen.append(message.event.version)

    drain(bench.consumer(group="quick"))
    with pytest.raises(Killed):
        bench.consumer(stop_at_fourth, group="stuck").once()
    publisher.publish(history("a", 5))
    drain(bench.consumer(group="quick"))
    assert publisher.trim() == 3
    bench.client.xgroup_create(bench.stream("a"), "new", id="0")
    drain(bench.consumer(group="quick"))
    assert publisher.trim() == 0
    bench.given.clear()
    drain(bench.consumer(group="new"))
    assert bench.versions() == {"a": [4, 5, 6, 7, 8, 9, 10]}


def test_what_is_younger_than_the_retention_stays(bench: Bench, history: History) -> None:
    publisher = bench.publisher(retention=timedelta(minutes=1))
    publisher.publish(history("a", 5))
    drain(bench.consumer())
    assert publisher.trim() == 0
    assert len(bench.entries("a")) == 5


def test_publishing_trims_now_and_then(
    bench: Bench, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.outbox.streams.TRIM_EVERY", 0.0)
    publisher, consumer = bench.publisher(retention=timedelta(0)), bench.consumer()
    for _ in range(3):
        publisher.publish(history("a", 5))
        drain(consumer)
    assert len(bench.entries("a")) < 15


def test_a_client_reads_what_it_likes(bench: Bench, history: History) -> None:
    """The streams are plain ones: another language's client needs none of our code."""
    bench.publisher().publish(history("a", 2))
    with Redis(port=bench.server.port, decode_responses=True) as client:
        found: Any = client.xread({bench.stream("a"): "0"})
    assert [fields["aggregateversion"] for _, fields in found[0][1]] == ["1", "2"]
