"""Any interleaving of appends, snapshots and upgrades: a load equals the full replay."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from msgspec import Struct
from sqlalchemy import text

from store import Aggregate, Domain, Hindsight, NewEvent, any_
from store.snapshots import Snapshots
from store.work import take_due
from tests.archiving import archive_all_but


class Added(Struct, frozen=True):
    number: int


class Total(Struct, frozen=True):
    total: int = 0
    numbers: tuple[int, ...] = ()


class Add(Struct, frozen=True):
    numbers: tuple[int, ...]

    def decide(self, state: Any) -> Sequence[Struct]:
        del state
        return [Added(number) for number in self.numbers]

    def recorded(self) -> Mapping[str, Any]:
        return {}


def add(state: Total, event: Added) -> Total:
    return Total(state.total + event.number, (*state.numbers, event.number))


def add_twice(state: Total, event: Added) -> Total:
    return Total(state.total + 2 * event.number, (event.number, *state.numbers))


def add_last(state: Total, event: Added) -> Total:
    return Total(event.number)


FOLDS = (add, add_twice, add_last)


def domain(apply: Any, every: int = 3) -> Domain:
    total: Aggregate[Any] = Aggregate(
        "total",
        initial=Total(),
        events=[Added],
        apply=apply,
        commands=[Add],
        snapshot_every=every,
    )
    return Domain("numbers", aggregates=[total])


DOMAINS = tuple(map(domain, FOLDS))
IDS = st.sampled_from(["a", "b"])
PROCESSES = st.sampled_from([0, 1])
NUMBERS = st.lists(st.integers(-3, 9), min_size=1, max_size=5).map(tuple)

DAMAGES = (
    'UPDATE snapshots SET state = \'{"total": 1, "numbers": []}\'',
    "UPDATE snapshots SET state = '{}'",
    "UPDATE snapshots SET state = '[1]'",
    "UPDATE snapshots SET digest = 'x' || digest",
    "UPDATE snapshots SET event_digest = (SELECT min(digest) FROM events)",
    "UPDATE snapshots SET fingerprint = 'foreign' || random()",  # of no other that is damaged so
    "DELETE FROM snapshots",
)
PG_MIN = "(SELECT digest FROM events ORDER BY digest LIMIT 1)"


class TwoProcesses(RuleBasedStateMachine):
    """Two processes, each with its own code, on one store; the model is the list of numbers."""

    fresh_url: Callable[[], str]

    @initialize()
    def open(self) -> None:
        self.url = self.fresh_url()
        self.stores = [Hindsight(self.url, domain=DOMAINS[0], cache=False) for _ in range(2)]
        self.folds = [0, 0]
        self.numbers: dict[str, list[int]] = {"a": [], "b": []}

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            store.close()

    @rule(process=PROCESSES, name=IDS, numbers=NUMBERS)
    def execute(self, process: int, name: str, numbers: tuple[int, ...]) -> None:
        executed = self.stores[process].execute(name, Add(numbers))
        self.numbers[name] += numbers
        assert executed.state == self.expected(process, name)

    @rule(process=PROCESSES, name=IDS, numbers=NUMBERS)
    def append(self, process: int, name: str, numbers: tuple[int, ...]) -> None:
        events = [NewEvent("Added", {"number": number}) for number in numbers]
        self.stores[process].append("total", name, events, expected=any_())
        self.numbers[name] += numbers

    @rule(process=PROCESSES, name=IDS, replay=st.booleans())
    def snapshot(self, process: int, name: str, *, replay: bool) -> None:
        if self.numbers[name]:
            self.stores[process].snapshot(name, replay=replay)

    @rule(process=PROCESSES)
    def work(self, process: int) -> None:
        assert not take_due(self.stores[process]).failures

    @rule(process=PROCESSES, fold=st.integers(0, len(FOLDS) - 1))
    def deploy(self, process: int, fold: int) -> None:
        self.stores[process].close()
        self.stores[process] = Hindsight(self.url, domain=DOMAINS[fold], cache=False)
        self.folds[process] = fold

    @rule(damage=st.sampled_from(DAMAGES))
    def damage(self, damage: str) -> None:
        with self.stores[0].database.transaction() as connection:
            if connection.dialect.name == "postgresql":
                damage = damage.replace("(SELECT min(digest) FROM events)", PG_MIN)
            if damage.startswith("UPDATE snapshots SET event_digest") and not connection.scalar(
                text("SELECT count(*) FROM events")
            ):
                return
            connection.execute(text(damage))

    @rule(newest=st.integers(0, 6), batch=st.integers(1, 5))
    def archive(self, newest: int, batch: int) -> None:
        with Hindsight(self.url, domain=DOMAINS[0], cache=False) as other:
            archive_all_but(other, newest, batch=batch)

    @rule(name=IDS, back=st.booleans())
    def take_from_the_archive(self, name: str, *, back: bool) -> None:
        if self.numbers[name]:
            with Hindsight(self.url, cache=False) as other:
                (other.archive.give_back if back else other.archive.restore)(name)

    @rule(process=PROCESSES, name=IDS, data=st.data())
    def load_at(self, process: int, name: str, data: st.DataObject) -> None:
        length = len(self.numbers[name])
        if length:
            version = data.draw(st.integers(1, length))
            loaded = self.stores[process].load(name, version=version)
            assert loaded.version == version
            assert loaded.state == self.expected(process, name, version)

    @invariant()
    def loads_equal_full_replays(self) -> None:
        for process, store in enumerate(getattr(self, "stores", ())):
            for name, numbers in self.numbers.items():
                if numbers:
                    loaded = store.load(name)
                    assert loaded.version == len(numbers)
                    assert loaded.state == self.expected(process, name)

    def expected(self, process: int, name: str, version: int | None = None) -> Total:
        state = Total()
        for number in self.numbers[name][:version]:
            state = FOLDS[self.folds[process]](state, Added(number))
        return state


def run(fresh_url: Callable[[], str], *, examples: int, steps: int) -> None:
    class Machine(TwoProcesses):
        pass

    Machine.fresh_url = staticmethod(fresh_url)
    checked = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_machine(Machine, settings=checked)


@pytest.mark.slow
def test_whatever_happens_a_load_equals_the_full_replay(fresh_url: Callable[[], str]) -> None:
    run(fresh_url, examples=12, steps=25)


@pytest.mark.soak
def test_whatever_happens_for_long_a_load_equals_the_full_replay(
    fresh_url: Callable[[], str],
) -> None:
    run(fresh_url, examples=1_000, steps=50)


# Forced pauses


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


class Gate:
    """Holds who comes to it until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(30)


def test_events_appended_between_the_snapshot_and_the_rest_of_a_long_tail_count(
    store_url: str, monkeypatch: pytest.MonkeyPatch, background: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr("store.snapshots.HISTORY_BATCH", 4)
    with Hindsight(store_url, domain=DOMAINS[0], cache=False) as store:
        store.execute("a", Add((1, 1, 1)))
        events = [NewEvent("Added", {"number": 1}) for _ in range(4)]
        store.append("total", "a", events, expected=any_())
        gate = Gate()
        begin = Snapshots.begin

        def paused(*given: Any) -> Any:
            begun = begin(*given)
            gate.wait()
            return begun

        monkeypatch.setattr(Snapshots, "begin", paused)
        pending = background.submit(store.load, "a")
        assert gate.reached.wait(30)
        monkeypatch.setattr(Snapshots, "begin", begin)
        store.execute("a", Add((1, 1, 1)))  # takes another snapshot, too
        gate.opened.set()
        loaded = pending.result(30)
    assert (loaded.version, loaded.state.total, loaded.source) == (10, 10, "snapshot")


def test_a_snapshot_written_late_is_of_its_own_version(
    store_url: str, monkeypatch: pytest.MonkeyPatch, background: ThreadPoolExecutor
) -> None:
    """A process stops between its append and its snapshot; another goes on, and takes its own."""
    late, quick = (Hindsight(store_url, domain=DOMAINS[0]) for _ in range(2))
    gate = Gate()
    keep = Snapshots.keep

    def paused(self: Snapshots, *given: Any, **named: Any) -> None:
        if self is late.snapshots:
            gate.wait()
        keep(self, *given, **named)

    monkeypatch.setattr(Snapshots, "keep", paused)
    with late, quick:
        pending = background.submit(late.execute, "a", Add((1, 1, 1)))
        assert gate.reached.wait(30)
        for _ in range(3):
            quick.execute("a", Add((1, 1, 1)))
        gate.opened.set()
        assert pending.result(30).version == 3
        assert [each.version for each in quick.snapshots.list("a")] == [9, 12]
        for version in range(1, 13):
            assert quick.load("a", version=version).state.total == version


def test_an_upgrade_between_an_append_and_its_snapshot_is_kept_apart(
    store_url: str, monkeypatch: pytest.MonkeyPatch, background: ThreadPoolExecutor
) -> None:
    old, new = (Hindsight(store_url, domain=each, cache=False) for each in DOMAINS[:2])
    gate = Gate()
    keep = Snapshots.keep

    def paused(self: Snapshots, *given: Any, **named: Any) -> None:
        if self is old.snapshots:
            gate.wait()
        keep(self, *given, **named)

    monkeypatch.setattr(Snapshots, "keep", paused)
    with old, new:
        pending = background.submit(old.execute, "a", Add((1, 1, 1)))
        assert gate.reached.wait(30)
        new.snapshot("a")
        gate.opened.set()
        pending.result(30)
        assert [store.load("a").state.total for store in (old, new)] == [3, 6]
        assert [store.load("a").source for store in (old, new)] == ["snapshot"] * 2
