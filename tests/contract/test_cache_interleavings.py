"""Whatever two processes, their Redis and their database go through: cached equals uncached."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from store import CommandRejected, Hindsight, NewEvent, any_
from store.cache import raise_epoch
from store.database.postgresql import PostgreSQL
from tests.archiving import archive_all_but
from tests.servers import RedisServer
from tests.totals import Add, Added, Loose, Total, add, note, numbers, put, undo

IDS = st.sampled_from(["a", "b"])
PROCESSES = st.sampled_from([0, 1])
NUMBERS = st.lists(st.integers(1, 9), min_size=1, max_size=4)
AGES = st.sampled_from([None, 0, 0.02, 60])


def double(state: Total, event: Added) -> Total:
    return Total(state.total + 2 * event.number, (event.number,))


FOLDS: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (Total(), add),
    (Total(), double),
    (Loose(), note),
)
DOMAINS = [
    numbers(every, initial=initial, apply=apply) for every in (None, 3) for initial, apply in FOLDS
]
GARBAGE = (b"", b"x" * 40, b"9" * 60, b"0" * 20 + b"\xff" * 40)


class TwoProcesses(RuleBasedStateMachine):
    """Two processes with a cache each and one Redis; a third without tells what is right.

    `known` is what each aggregate's numbers were, from which time on.
    """

    fresh_url: Callable[[], str]
    redis: RedisServer

    @initialize(domain=st.integers(0, len(DOMAINS) - 1))
    def open(self, domain: int) -> None:
        self.url = self.fresh_url()
        with self.redis.client() as client:
            client.flushall()
        self.domains = [domain, domain]
        self.stores = [self.opened(domain) for _ in range(2)]
        self.known: dict[str, list[tuple[float, list[int]]]] = {
            name: [(time.monotonic(), [])] for name in ("a", "b")
        }
        self.wrote = {(process, name): 0.0 for process in range(2) for name in ("a", "b")}

    def opened(self, domain: int) -> Hindsight:
        return Hindsight(self.url, domain=DOMAINS[domain], redis_url=self.redis.url)

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            store.close()

    def has(self, name: str, given: list[int]) -> None:
        self.known[name].append((time.monotonic(), given))

    def numbers(self, name: str) -> list[int]:
        return self.known[name][-1][1]

    # What processes do

    @rule(process=PROCESSES, name=IDS, number=st.integers(-1, 9))
    def execute(self, process: int, name: str, number: int) -> None:
        before = self.numbers(name)
        try:
            executed = self.stores[process].execute(name, Add(number))
        except CommandRejected:
            return
        self.has(name, before + [number] * bool(number))
        self.wrote[process, name] = time.monotonic()
        assert executed.version == len(self.numbers(name))
        if executed.version:
            assert executed.state == self.state(process, self.numbers(name))

    @rule(process=PROCESSES, name=IDS, given=NUMBERS)
    def append(self, process: int, name: str, given: list[int]) -> None:
        put(self.stores[process], *given, aggregate_id=name)
        self.has(name, self.numbers(name) + given)
        self.wrote[process, name] = time.monotonic()

    @rule(process=PROCESSES, name=IDS, number=st.integers(1, 9), committed=st.booleans())
    def append_within(self, process: int, name: str, number: int, *, committed: bool) -> None:
        """In the caller's transaction, which both processes look at from outside."""
        store = self.stores[process]
        with store.database.transaction() as connection:
            event = NewEvent("Added", {"number": number})
            store.append("total", name, [event], expected=any_(), connection=connection)
            if isinstance(store.database, PostgreSQL) or self.numbers(name):
                self.loads_are_those_of_the_database()
            if not committed:
                connection.get_transaction().rollback()  # type: ignore[union-attr]
        if committed:
            self.has(name, [*self.numbers(name), number])

    @rule(process=PROCESSES, name=IDS)
    def snapshot(self, process: int, name: str) -> None:
        if self.numbers(name) and self.stores[process].snapshots.types:
            self.stores[process].snapshot(name)

    @rule(process=PROCESSES, domain=st.integers(0, len(DOMAINS) - 1))
    def deploy(self, process: int, domain: int) -> None:
        self.stores[process].close()
        self.domains[process] = domain
        self.stores[process] = self.opened(domain)
        for name in ("a", "b"):
            self.wrote[process, name] = 0.0

    @rule(process=PROCESSES, name=IDS)
    def spoil(self, process: int, name: str) -> None:
        """Do to what was given what a careless caller does."""
        if not self.numbers(name):
            return
        store = self.stores[process]
        for event in store.events(name):
            event.data["number"] = -1
        state = store.load(name).state
        if isinstance(state, Loose):
            state.numbers.append(-1)

    # What happens to Redis

    @rule()
    def flush(self) -> None:
        with self.redis.client() as client:
            client.flushall()

    @rule(garbage=st.sampled_from(GARBAGE), seed=st.randoms(use_true_random=False))
    def litter(self, garbage: bytes, seed: Any) -> None:
        with self.redis.client() as client:
            for key in client.keys("*"):
                if seed.random() < 0.5:
                    client.set(key, garbage)

    @rule(seed=st.randoms(use_true_random=False))
    def shuffle(self, seed: Any) -> None:
        """Each key gets the value of another one."""
        with self.redis.client() as client:
            keys: Any = sorted(client.keys("*"))
            values = [client.get(key) for key in keys]
            seed.shuffle(values)
            for key, value in zip(keys, values, strict=True):
                client.set(key, value or b"")

    @rule(offset=st.integers(0, 200))
    def flip(self, offset: int) -> None:
        with self.redis.client() as client:
            for key in client.keys("*"):
                client.setrange(key, offset, b"\x7f")

    @rule()
    def restart(self) -> None:
        self.redis.kill()
        self.redis.start()

    # What happens to the database

    @rule(newest=st.integers(0, 6), batch=st.integers(1, 5))
    def archive(self, newest: int, batch: int) -> None:
        with Hindsight(self.url, domain=DOMAINS[0], cache=False) as other:
            archive_all_but(other, newest, batch=batch)

    @rule(name=IDS, back=st.booleans())
    def take_from_the_archive(self, name: str, *, back: bool) -> None:
        if self.numbers(name):
            with Hindsight(self.url, cache=False) as other:
                (other.archive.give_back if back else other.archive.restore)(name)

    @rule(name=IDS, data=st.data())
    def restore(self, name: str, data: st.DataObject) -> None:
        kept = data.draw(st.integers(0, len(self.numbers(name))))
        if kept:
            with Hindsight(self.url, cache=False) as other:
                other.archive.restore(name)
                undo(other, after=kept, aggregate_id=name)
            self.has(name, self.numbers(name)[:kept])

    @rule()
    def clear(self) -> None:
        with Hindsight(self.url, cache=False) as other:
            raise_epoch(other.database)

    # What must hold

    @rule(process=PROCESSES, name=IDS, max_age=AGES)
    def load_of_some_age(self, process: int, name: str, max_age: float | None) -> None:
        if not self.numbers(name):
            return
        started = time.monotonic()
        loaded = self.stores[process].load(name, max_age=max_age)
        oldest = max(started - (max_age or 0), self.wrote[process, name])
        fit = self.between(name, oldest)
        assert (loaded.version, loaded.state) in [
            (len(each), self.state(process, each)) for each in fit
        ]

    @rule(process=PROCESSES, name=IDS, max_age=AGES)
    def events_of_some_age(self, process: int, name: str, max_age: float | None) -> None:
        started = time.monotonic()
        found = [
            event.data["number"] for event in self.stores[process].events(name, max_age=max_age)
        ]
        oldest = max(started - (max_age or 0), self.wrote[process, name])
        assert found in self.between(name, oldest)

    def between(self, name: str, oldest: float) -> list[list[int]]:
        """What the numbers were at some time since."""
        known = self.known[name]
        ends = [since for since, _ in known[1:]] + [time.monotonic()]
        return [given for (_, given), end in zip(known, ends, strict=True) if end >= oldest]

    @invariant()
    def loads_are_those_of_the_database(self) -> None:
        for process, store in enumerate(getattr(self, "stores", ())):
            for name in ("a", "b"):
                given = self.numbers(name)
                assert [event.data["number"] for event in store.events(name)] == given
                if given:
                    loaded = store.load(name)
                    assert (loaded.version, loaded.state) == (
                        len(given),
                        self.state(process, given),
                    )

    def state(self, process: int, given: list[int]) -> Any:
        initial, apply = FOLDS[self.domains[process] % len(FOLDS)]
        for number in given:
            initial = apply(initial, Added(number))
        return initial


def run(fresh_url: Callable[[], str], redis: RedisServer, *, examples: int, steps: int) -> None:
    class Machine(TwoProcesses):
        pass

    Machine.fresh_url = staticmethod(fresh_url)
    Machine.redis = redis
    checked = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_machine(Machine, settings=checked)


@pytest.mark.slow
def test_whatever_happens_cached_equals_uncached(
    fresh_url: Callable[[], str], own_redis: RedisServer
) -> None:
    run(fresh_url, own_redis, examples=12, steps=25)


@pytest.mark.soak
def test_whatever_happens_for_long_cached_equals_uncached(
    fresh_url: Callable[[], str], own_redis: RedisServer
) -> None:
    run(fresh_url, own_redis, examples=500, steps=50)
