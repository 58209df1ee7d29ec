"""The conflict log: who lost against whom, what came of it, and whether it had to be."""

import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, to_builtins
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import (
    Aggregate,
    Append,
    Command,
    CommandRejected,
    Context,
    Domain,
    Hindsight,
    NewEvent,
    any_,
    exact,
)
from store import conflict_log as conflict_log_module
from store.application import connect, parse_url
from store.conflict import Conflict, Lost, Outcome, Verdict
from store.conflict_log import Conflicts, Logged
from store.domain import Domains
from store.errors import EventStoreError, StoreUnavailable, VersionConflict
from store.metrics import Metrics
from store.recorder import Recorder
from store.snapshots import Snapshots
from store.verdicts import Judge

pytestmark = pytest.mark.slow


class Named(Struct, frozen=True):
    name: str


class Added(Struct, frozen=True):
    amount: int


class Wrong(Struct, frozen=True):
    amount: int


class Odd(Struct, frozen=True):
    """Comes to a state that cannot be compared."""


class Beyond:
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


class Cart(Struct, frozen=True):
    name: Any = ""
    total: int = 0


class Kept(Struct, frozen=True):
    def recorded(self) -> dict[str, Any]:
        fields: dict[str, Any] = to_builtins(self)
        return fields


class Name(Kept, frozen=True):
    name: str

    def decide(self, cart: Cart) -> Sequence[Struct]:
        BEFORE_DECISION[-1]()
        return [] if cart.name == self.name else [Named(self.name)]


class Add(Kept, frozen=True):
    amount: int

    def decide(self, cart: Cart) -> Sequence[Struct]:
        BEFORE_DECISION[-1]()
        if cart.total + self.amount > 10:
            raise CommandRejected("too much")
        return [Added(self.amount)]


class Fill(Kept, frozen=True):
    def decide(self, cart: Cart) -> Sequence[Struct]:
        BEFORE_DECISION[-1]()
        return [Added(10 - cart.total)] if cart.total < 10 else []


class Break(Kept, frozen=True):
    def decide(self, cart: Cart) -> Sequence[Struct]:
        BEFORE_DECISION[-1]()
        if cart.total:
            raise ZeroDivisionError
        return [Added(1)]


def apply(cart: Cart, event: Named | Added | Wrong | Odd) -> Cart:
    match event:
        case Named(name):
            return Cart(name, cart.total)
        case Added(amount):
            return Cart(cart.name, cart.total + amount)
        case Odd():
            return Cart(Beyond(), cart.total)
        case Wrong(_):
            raise ValueError("wrong")


BEFORE_DECISION: list[Callable[[], object]] = [lambda: None]
SHOP = Domain(
    "shop",
    aggregates=[
        Aggregate(
            "cart",
            initial=Cart(),
            events=[Named, Added, Wrong, Odd],
            apply=apply,
            commands=[Name, Add, Fill, Break],
        )
    ],
)
SHOP_DOMAINS = Domains([SHOP])
HOUR = timedelta(hours=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def shop(store_url: str) -> Iterator[Hindsight]:
    with Hindsight(store_url, domain=SHOP) as store:
        store.append("cart", "a", [added(1)], expected=any_())
        yield store


def added(amount: int) -> NewEvent:
    return NewEvent("Added", {"amount": amount})


def meanwhile(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]) -> None:
    """Let each decision find that something happened after its state was loaded."""
    coming = iter(actions)

    def happen() -> object:
        return next(coming, lambda: None)()

    monkeypatch.setattr(f"{__name__}.BEFORE_DECISION", [happen])


def logged(store: Hindsight) -> list[Logged]:
    """What is in the log, oldest first."""
    assert store.recorder is not None
    store.recorder.flush()
    return list(reversed(store.conflicts.newest()))


def test_a_conflict_is_told_with_both_sides(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = datetime.now(UTC)
    meanwhile(
        monkeypatch,
        lambda: shop.execute("a", Name("bread"), context=Context(actor="grace")),
    )
    shop.execute("a", Add(2), context=Context(actor="ada", correlation_id="c-1"))
    [conflict] = logged(shop)
    assert (conflict.aggregate_type, conflict.aggregate_id) == ("cart", "a")
    assert (conflict.expected, conflict.actual, conflict.attempt) == (1, 2, 1)
    assert (conflict.command, conflict.losing, conflict.event_types) == ("Add", "Add", ("Added",))
    assert (conflict.actor, conflict.correlation_id) == ("ada", "c-1")
    assert (conflict.outcome, conflict.weight) == ("absorbed", 1)
    assert before <= conflict.occurred_at <= datetime.now(UTC)
    assert conflict.process.rpartition(":")[2].isdecimal()
    [winner] = conflict.winners
    assert (winner.version, winner.event_type, winner.command) == (2, "Named", "Name")
    assert (winner.actor, conflict.winning) == ("grace", "Name")


def test_appends_without_a_command_are_named_by_their_events(shop: Hindsight) -> None:
    shop.append("cart", "a", [NewEvent("Named", {"name": "x"}), added(1)], expected=any_())
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [added(1), added(2)], expected=exact(1))
    [conflict] = logged(shop)
    assert (conflict.command, conflict.losing, conflict.winning) == (None, "Added", "Named")
    assert (conflict.expected, conflict.actual, conflict.outcome) == (1, 3, "escaped")
    assert [winner.version for winner in conflict.winners] == [2, 3]


@pytest.mark.parametrize(
    ("losing", "winning", "verdict"),
    [
        (Add(2), Name("x"), "same"),
        (Fill(), Add(2), "other"),
        (Add(8), Add(2), "rejected"),
        (Name("x"), Name("x"), "nothing"),
    ],
)
@pytest.mark.parametrize("escapes", [False, True])
def test_a_losing_command_is_decided_again(
    shop: Hindsight,
    monkeypatch: pytest.MonkeyPatch,
    losing: Command,
    winning: Command,
    verdict: str,
    *,
    escapes: bool,
) -> None:
    """By its next attempt where it had one, else by the log."""
    meanwhile(monkeypatch, lambda: shop.execute("a", winning))
    try:
        shop.execute("a", losing, attempts=1 if escapes else 2)
    except VersionConflict:
        assert escapes
    except CommandRejected:
        assert verdict == "rejected"
    [conflict] = logged(shop)
    assert (conflict.verdict, conflict.outcome) == (verdict, "escaped" if escapes else "absorbed")


def test_each_conflict_of_a_command_has_its_own_verdict(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(
        monkeypatch,
        lambda: shop.append("cart", "a", [NewEvent("Named", {"name": "x"})], expected=any_()),
        lambda: shop.append("cart", "a", [added(2)], expected=any_()),
        lambda: shop.append("cart", "a", [added(7)], expected=any_()),
    )
    assert shop.execute("a", Fill()).attempts == 4
    found = [(conflict.attempt, conflict.verdict) for conflict in logged(shop)]
    assert found == [(1, "same"), (2, "other"), (3, "nothing")]


def test_what_a_retry_has_shown_is_not_judged_again(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the winner the command would have passed; until the retry there was another event."""
    meanwhile(monkeypatch, lambda: shop.execute("a", Name("x")))
    monkeypatch.setattr(
        "store.execution.time.sleep",
        lambda _: shop.log.append("cart", "a", [added(9)], expected=any_()),
    )
    with pytest.raises(CommandRejected):
        shop.execute("a", Add(2))
    assert [conflict.verdict for conflict in logged(shop)] == ["rejected"]


def test_the_verdict_is_on_the_state_that_was_met_not_on_a_later_one(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, lambda: shop.execute("a", Name("x")))
    with pytest.raises(VersionConflict):
        shop.execute("a", Add(2), attempts=1)
    shop.append("cart", "a", [added(9)], expected=any_())
    assert [conflict.verdict for conflict in logged(shop)] == ["same"]


@pytest.mark.parametrize(
    ("losing", "winning", "verdict"),
    [
        (added(1), added(2), "commutes"),
        (NewEvent("Named", {"name": "x"}), added(2), "commutes"),
        (NewEvent("Named", {"name": "x"}), NewEvent("Named", {"name": "y"}), "order"),
        (NewEvent("Wrong", {"amount": 1}), added(2), "unknown"),
        (NewEvent("Strange", {}), added(2), "unknown"),
        (NewEvent("Odd", {}), added(2), "unknown"),
    ],
)
def test_events_without_a_command_are_tried_in_either_order(
    shop: Hindsight, losing: NewEvent, winning: NewEvent, verdict: str
) -> None:
    shop.append("cart", "a", [winning], expected=exact(1))
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [losing], expected=exact(1))
    assert [conflict.verdict for conflict in logged(shop)] == [verdict]


@pytest.mark.parametrize("version", [0, 9])
def test_a_version_that_never_was_is_judged_as_far_as_that_goes(
    shop: Hindsight, version: int
) -> None:
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [added(1)], expected=exact(version))
    [conflict] = logged(shop)
    assert conflict.verdict == ("commutes" if version == 0 else "unknown")
    assert len(conflict.winners) == (1 if version == 0 else 0)


def test_a_loser_that_is_far_behind_is_not_judged(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.verdicts.FURTHEST", 2)
    for behind in (2, 3):
        shop.append("cart", f"b-{behind}", [added(1) for _ in range(behind)], expected=any_())
        with pytest.raises(VersionConflict):
            shop.append("cart", f"b-{behind}", [added(1)], expected=exact(0))
    assert [conflict.verdict for conflict in logged(shop)] == ["commutes", "unknown"]


def test_a_verdict_folds_no_long_history(shop: Hindsight, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where snapshots are off, that is; else a load is short whatever the history."""
    monkeypatch.setattr("store.verdicts.LONGEST", 2)
    shop.append("cart", "a", [added(1), added(1)], expected=exact(1))
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [added(1)], expected=exact(2))
    assert [row.verdict for row in logged(shop)] == ["commutes"]
    judge = Judge(
        shop.database, SHOP_DOMAINS, Snapshots(shop.database, SHOP_DOMAINS, enabled=False)
    )
    assert judge.verdict(*conflict(verdict=None, actual=2)) != "unknown"
    assert judge.verdict(*conflict(verdict=None, actual=3)) == "unknown"


def test_a_command_that_cannot_decide_again_is_not_judged(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(monkeypatch, lambda: shop.append("cart", "b", [added(1)], expected=any_()))
    with pytest.raises(VersionConflict):
        shop.execute("b", Break(), attempts=1)
    assert [conflict.verdict for conflict in logged(shop)] == ["unknown"]


def test_without_the_domain_s_code_nothing_is_judged(store_url: str) -> None:
    with Hindsight(store_url) as store:
        for _ in range(2):
            try:
                store.append("cart", "a", [added(1)], expected=exact(0))
            except VersionConflict:
                [conflict] = logged(store)
        assert (conflict.verdict, conflict.winning) == ("unknown", "Added")


def test_append_all_tells_which_aggregate_was_in_the_way(shop: Hindsight) -> None:
    parts = [
        Append(aggregate_type="cart", aggregate_id=name, events=[added(1)], expected=exact(0))
        for name in "za"
    ]
    with pytest.raises(VersionConflict):
        shop.append_all(parts)
    assert [conflict.aggregate_id for conflict in logged(shop)] == ["a"]


def test_a_caller_s_rollback_keeps_the_conflict(shop: Hindsight) -> None:
    with (
        pytest.raises(VersionConflict),
        shop.database.transaction() as connection,
    ):
        shop.append("cart", "a", [added(1)], expected=exact(7), connection=connection)
    assert len(logged(shop)) == 1


def test_what_is_left_is_written_when_the_store_is_closed(store_url: str) -> None:
    with Hindsight(store_url) as store:
        store.append("cart", "a", [added(1)], expected=any_())
        with pytest.raises(VersionConflict):
            store.append("cart", "a", [added(1)], expected=exact(9))
    with Hindsight(store_url, read_only=True) as store:
        assert len(store.conflicts.newest()) == 1


@pytest.mark.slow
def test_it_is_written_within_seconds_by_itself(shop: Hindsight) -> None:
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [added(1)], expected=exact(9))
    deadline = time.monotonic() + 10
    while not shop.conflicts.newest():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Under a storm


def conflict(
    aggregate_id: str = "a",
    outcome: Outcome = "escaped",
    verdict: Verdict | None = "same",
    *,
    actual: int = 2,
) -> tuple[Conflict, Lost]:
    told = Conflict(
        aggregate_type="cart",
        aggregate_id=aggregate_id,
        command="Add",
        event_types=("Added",),
        expected=1,
        actual=actual,
        attempt=1,
        outcome=outcome,
        verdict=verdict,
    )
    return told, Lost(command=Add(1), events=[])


def test_a_storm_is_sampled_and_counted_whole(shop: Hindsight) -> None:
    assert shop.recorder is not None
    for number in range(5_000):
        shop.recorder.tell(*conflict(f"a-{number % 7}", "escaped" if number % 5 else "absorbed"))
    rows = logged(shop)
    assert len(rows) < 100
    assert sum(row.weight for row in rows) == 5_000
    counts = shop.conflicts.counts("aggregate")
    assert sum(each.detected for each in counts) == 5_000
    assert sum(each.absorbed for each in counts) == 1_000
    assert {each.key[1]: each.detected for each in counts} == {
        f"a-{rest}": len(range(rest, 5_000, 7)) for rest in range(7)
    }


def test_more_aggregates_than_rows_share_what_is_left(shop: Hindsight) -> None:
    assert shop.recorder is not None
    for number in range(3_000):
        shop.recorder.tell(*conflict(f"a-{number}"))
    shop.recorder.flush()
    counts = shop.conflicts.counts("aggregate")
    assert len(counts) <= 1_001
    assert sum(each.detected for each in counts) == 3_000
    assert {each.key for each in counts if each.detected > 1} == {("cart", None)}


def test_the_winners_of_a_storm_are_looked_up_for_some(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.recorder.JUDGED", 3)
    assert shop.recorder is not None
    shop.append("cart", "a", [added(1)], expected=any_())
    for outcome in ("absorbed", "escaped"):
        for _ in range(9):
            shop.recorder.tell(*conflict("a", outcome))
    assert [len(row.winners) for row in logged(shop)] == [1, 1, 1, *[0] * 7]


def test_what_waits_for_the_next_writing_keeps_its_weight(shop: Hindsight) -> None:
    recorder = shop.recorder
    assert recorder is not None

    def refuse(_: object) -> None:
        for _ in range(40):
            recorder.tell(*conflict())
        raise StoreUnavailable("not now")

    with pytest.MonkeyPatch.context() as refused:
        refused.setattr(recorder, "_write", refuse)
        for _ in range(40):
            recorder.tell(*conflict())
        recorder.flush()
    assert sum(row.weight for row in logged(shop)) == 80


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from(["absorbed", "escaped"]),
            st.sampled_from([None, "same"]),
            st.sampled_from(["wait", "write", "refuse"]),
        )
    )
)
def test_no_conflict_is_lost_or_counted_twice(told: list[tuple[int, Any, Any, str]]) -> None:
    """Whatever is written and whatever fails: the weights add up to what was told."""
    written: list[Logged] = []
    nowhere = connect(parse_url("sqlite:///nowhere.db"))
    judge = Judge(nowhere, SHOP_DOMAINS, Snapshots(nowhere, SHOP_DOMAINS))
    recorder = Recorder(nowhere, Metrics(CollectorRegistry()), judge)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.recorder.ROWS", 8)
        patch.setattr(recorder, "_winners", lambda _: ())
        patch.setattr(judge, "verdict", lambda *_: "order")
        for name, outcome, verdict, then in told:
            recorder.tell(*conflict(str(name), outcome, verdict))
            patch.setattr(recorder, "_write", written.extend if then == "write" else refused)
            if then != "wait":
                recorder._duties["conflicts"].do(recorder._write_conflicts)
        patch.setattr(recorder, "_write", written.extend)
        recorder.close()
    for outcome in ("absorbed", "escaped"):
        weights = [row.weight for row in written if row.outcome == outcome]
        assert sum(weights) == sum(1 for _, found, _, _ in told if found == outcome)
    by_name = Counter(str(name) for name, _, _, _ in told)
    for row in written:
        if row.aggregate_id is not None:
            by_name[row.aggregate_id] -= row.weight
    assert min(by_name.values(), default=0) >= 0, "counted for an aggregate that had none"


def refused(_: object) -> None:
    raise StoreUnavailable("not now")


def _row(aggregate_id: str | None, outcome: Outcome, weight: int = 1, **changed: Any) -> Logged:
    fields: dict[str, Any] = {
        "occurred_at": NOON,
        "aggregate_type": "cart",
        "aggregate_id": aggregate_id,
        "expected": 1,
        "actual": 2,
        "losing": "Add",
        "command": "Add",
        "event_types": ("Added",),
        "winning": "Name",
        "winners": (),
        "attempt": 1,
        "outcome": outcome,
        "verdict": "same",
        "actor": None,
        "correlation_id": None,
        "process": "host:1",
        "weight": weight,
    }
    return Logged(**fields | changed)


def test_a_log_that_cannot_be_written_fails_no_command_and_loses_nothing(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.database.transaction() as connection:
        connection.execute(text("ALTER TABLE conflicts RENAME TO away"))
    meanwhile(monkeypatch, lambda: shop.execute("a", Name("x")))
    assert shop.execute("a", Add(1)).attempts == 2
    assert shop.recorder is not None
    shop.recorder.flush()
    with shop.database.transaction() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO conflicts"))
    assert [each.losing for each in logged(shop)] == ["Add"]


@pytest.mark.slow
def test_telling_waits_for_no_writing(shop: Hindsight, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer is the log's problem, not the command's."""
    reached, released = threading.Event(), threading.Event()
    write = conflict_log_module.ConflictLog.write

    def held(self: Any, rows: Any) -> None:
        reached.set()
        assert released.wait(30)
        write(self, rows)

    monkeypatch.setattr(conflict_log_module.ConflictLog, "write", held)
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [added(1)], expected=exact(9))
    assert reached.wait(30)
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [added(1)], expected=exact(9))
    released.set()
    deadline = time.monotonic() + 30
    while len(shop.conflicts.newest()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_sample_was_found_to_be_does_not_go_for_all(shop: Hindsight) -> None:
    assert shop.recorder is not None
    for _ in range(100):
        shop.recorder.tell(*conflict(verdict=None))
    found = Counter[str]()
    for row in logged(shop):
        found[row.verdict] += row.weight
    assert sum(found.values()) == 100
    assert found["unknown"] >= 95


def test_what_will_not_be_judged_is_not_kept(shop: Hindsight) -> None:
    """It may be megabytes, and there may be a thousand."""
    recorder = shop.recorder
    assert recorder is not None
    with recorder._writing:
        for number in range(200):
            recorder.tell(*conflict(f"a-{number}", verdict=None))
            recorder.tell(*conflict(f"b-{number}"))
        kept = [each.lost for rows in recorder._waiting.values() for each in rows if each.lost]
    assert 0 < len(kept) <= 50


def test_looking_for_verdicts_takes_a_tenth_of_a_second(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.recorder is not None
    judged = []

    def slow(*_: object) -> str:
        time.sleep(0.06)
        judged.append(1)
        return "order"

    monkeypatch.setattr("store.verdicts.Judge.verdict", slow)
    for number in range(20):
        shop.recorder.tell(*conflict(f"a-{number}", verdict=None))
    assert len(logged(shop)) == 20
    assert len(judged) == 2


@pytest.mark.parametrize(
    ("metadata", "winning"),
    [
        ({"command": {"name": "a\u0000b"}}, "Added"),
        ({"command": {"name": "x" * 10_000}}, "x" * 200),
        ({"command": {"name": 7}}, "Added"),
        ({"command": "Add"}, "Added"),
        ({"command": {"name": ""}}, "Added"),
    ],
)
def test_metadata_is_anybody_s(shop: Hindsight, metadata: dict[str, Any], winning: str) -> None:
    event = NewEvent("Added", {"amount": 1}, metadata=metadata)
    shop.append("cart", "a", [event], expected=exact(1))
    with pytest.raises(VersionConflict):
        shop.append("cart", "a", [added(1)], expected=exact(1))
    assert [row.winning for row in logged(shop)] == [winning]


def test_one_that_can_never_be_written_holds_up_no_other(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = shop.recorder
    assert recorder is not None
    write = recorder._write

    def picky(rows: Sequence[Logged]) -> None:
        if any(row.aggregate_id == "bad" for row in rows):
            raise EventStoreError("no such text")
        write(rows)

    monkeypatch.setattr(recorder, "_write", picky)
    for name in ("a", "bad", "b"):
        recorder.tell(*conflict(name))
    assert sorted(str(row.aggregate_id) for row in logged(shop)) == ["a", "b"]
    assert "1 conflicts could not be written down: no such text" in caplog.text


@pytest.mark.slow
def test_a_fault_of_one_writing_is_not_the_end_of_all(
    shop: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = shop.recorder
    assert recorder is not None
    with monkeypatch.context() as fault:
        happened = threading.Event()

        def break_down(*_: object) -> None:
            happened.set()
            raise ZeroDivisionError

        fault.setattr(recorder, "_write_conflicts", break_down)
        assert happened.wait(10)
    recorder.tell(*conflict())
    deadline = time.monotonic() + 10
    while not shop.conflicts.newest():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_store_that_nobody_closes_leaves_nothing_behind(store_url: str) -> None:
    def conflicted() -> str:
        store = Hindsight(store_url)
        with pytest.raises(VersionConflict):
            store.append("cart", "a", [added(1)], expected=exact(9))
        assert store.recorder is not None
        return store.recorder._thread.name

    before = threading.active_count()
    conflicted()
    gc.collect()
    assert threading.active_count() == before
    with Hindsight(store_url, read_only=True) as store:
        assert len(store.conflicts.newest()) == 1


# The log itself


def test_the_oldest_rows_go(shop: Hindsight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.conflict_log.KEPT", 10)
    for number in range(25):
        shop.conflicts.write([_row(f"a-{number}", "escaped")])
    kept = [row.aggregate_id for row in shop.conflicts.newest()]
    assert kept == [f"a-{number}" for number in range(24, 14, -1)]


def test_conflicts_are_counted_by_what_is_asked(shop: Hindsight) -> None:
    shop.conflicts.write(
        [
            _row("a", "absorbed", 3),
            _row("a", "escaped", 2, verdict="order", actual=9),
            _row("b", "escaped", occurred_at=NOON + HOUR, winning=None, losing="Fill"),
            _row("0", "escaped", occurred_at=NOON - HOUR, losing="Act", aggregate_type="early"),
            _row(None, "escaped", occurred_at=NOON + 1.5 * HOUR, aggregate_type="other"),
        ]
    )
    counts = shop.conflicts.counts

    def short(found: Sequence[Conflicts]) -> list[tuple[Any, ...]]:
        return [(each.key, each.detected, each.absorbed, each.needless) for each in found]

    assert short(counts("aggregate")) == [
        (("cart", "a"), 5, 3, 3),
        (("cart", "b"), 1, 0, 1),
        (("early", "0"), 1, 0, 1),
        (("other", None), 1, 0, 1),
    ]
    assert counts("aggregate")[0].last_version == 9
    assert short(counts("command")) == [
        (("Add",), 6, 3, 4),
        (("Act",), 1, 0, 1),
        (("Fill",), 1, 0, 1),
    ]
    assert short(counts("pair")) == [
        (("Add", "Name"), 6, 3, 4),
        (("Act", "Name"), 1, 0, 1),
        (("Fill", None), 1, 0, 1),
    ]
    assert short(counts("hour")) == [
        ((NOON - HOUR,), 1, 0, 1),
        ((NOON,), 5, 3, 3),
        ((NOON + HOUR,), 2, 0, 2),
    ]
    assert [each.key for each in counts("type")] == [
        (NOON - HOUR, "early"),
        (NOON, "cart"),
        (NOON + HOUR, "cart"),
        (NOON + HOUR, "other"),
    ]
    assert short(counts("hour", since=NOON + HOUR, until=NOON + 1.5 * HOUR)) == [
        ((NOON + HOUR,), 1, 0, 1)
    ]
    assert len(counts("aggregate", limit=2)) == 2
