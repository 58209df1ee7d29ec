"""Commands: decided on the newest state, again after a conflict, never appended blindly."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Struct, to_builtins

from store import Aggregate, CommandRejected, Conflict, Context, Domain, Hindsight, NewEvent, exact
from store.errors import (
    AggregateTypeMismatch,
    ApplyFailed,
    CommandUnknown,
    InvalidEvent,
    VersionConflict,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Opened(Struct, frozen=True):
    limit: int


class Drawn(Struct, frozen=True):
    amount: int


class Account(Struct, frozen=True):
    limit: int | None = None
    drawn: int = 0


class Open(Struct, frozen=True):
    limit: int

    def decide(self, account: Account) -> Sequence[Struct]:
        return [] if account.limit == self.limit else [Opened(self.limit)]

    def recorded(self) -> dict[str, Any]:
        return to_builtins(self)  # type: ignore[no-any-return]


class Draw(Struct, frozen=True):
    amount: int
    pin: str = "0000"

    def decide(self, account: Account) -> Sequence[Struct]:
        BEFORE_DECISION[-1](account)
        if account.limit is None or account.drawn + self.amount > account.limit:
            raise CommandRejected(f"over the limit: {account.drawn} + {self.amount}")
        return [Drawn(self.amount)]

    def recorded(self) -> dict[str, Any]:
        return {"amount": self.amount}


def apply(account: Account, event: Opened | Drawn) -> Account:
    match event:
        case Opened(limit):
            return Account(limit, account.drawn)
        case Drawn(amount):
            return Account(account.limit, account.drawn + amount)


BEFORE_DECISION: list[Callable[[Account], object]] = [lambda _: None]
BANK = Domain(
    "bank",
    aggregates=[
        Aggregate(
            "account",
            initial=Account(),
            events=[Opened, Drawn],
            apply=apply,
            commands=[Open, Draw],
        )
    ],
)


@pytest.fixture
def conflicts() -> list[Conflict]:
    return []


@pytest.fixture
def bank(store_url: str, conflicts: list[Conflict], *, measured: bool) -> Iterator[Hindsight]:
    with Hindsight(store_url, domain=BANK, on_conflict=conflicts.append, metrics=measured) as store:
        yield store


def meanwhile(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], object]) -> None:
    """Let each decision find that something happened after its state was loaded."""
    coming = iter(actions)
    monkeypatch.setattr(f"{__name__}.BEFORE_DECISION", [lambda _: next(coming, lambda: None)()])


def draw(store: Hindsight, amount: int) -> None:
    store.append("account", "a", [NewEvent("Drawn", {"amount": amount})], expected=at(store))


def at(store: Hindsight) -> Any:
    return exact(store.aggregate("a").version)


def test_a_command_creates_and_changes_an_aggregate(bank: Hindsight) -> None:
    opened = bank.execute("a", Open(100))
    assert (opened.state, opened.version, opened.attempts) == (Account(100), 1, 1)
    drawn = bank.execute("a", Draw(30))
    assert (drawn.state, drawn.version) == (Account(100, 30), 2)
    assert [(event.event_type, event.data) for event in drawn.events] == [("Drawn", {"amount": 30})]
    assert bank.load("a").state == drawn.state


def test_the_command_is_kept_beside_its_events_without_secrets(bank: Hindsight) -> None:
    bank.execute("a", Open(100))
    [event] = bank.execute("a", Draw(1, pin="secret"), context=Context(actor="ada")).events
    command = event.metadata["command"]
    assert (command["name"], command["data"]) == ("Draw", {"amount": 1})
    assert len(command["id"]) == 36
    assert event.actor == "ada"
    assert b"secret" not in event.raw_metadata + event.raw_data


def test_a_command_with_nothing_to_change_writes_nothing(bank: Hindsight) -> None:
    bank.execute("a", Open(100))
    again = bank.execute("a", Open(100))
    assert (again.events, again.version, again.state) == ((), 1, Account(100))
    assert bank.aggregate("a").version == 1


def test_a_rejected_command_writes_nothing(bank: Hindsight) -> None:
    bank.execute("a", Open(100))
    with pytest.raises(CommandRejected, match="over the limit: 0 \\+ 101"):
        bank.execute("a", Draw(101))
    assert bank.aggregate("a").version == 1


def test_a_command_says_when_it_happened(bank: Hindsight) -> None:
    [event] = bank.execute("a", Open(1), occurred_at=NOON).events
    assert event.occurred_at == NOON


def test_a_conflict_is_decided_again_on_the_new_state(
    bank: Hindsight, conflicts: list[Conflict], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.execute("a", Open(100))
    meanwhile(monkeypatch, lambda: draw(bank, 10), lambda: draw(bank, 20))
    executed = bank.execute("a", Draw(30))
    assert (executed.state, executed.version, executed.attempts) == (Account(100, 60), 4, 3)
    told = [(each.attempt, each.expected, each.actual, each.outcome) for each in conflicts]
    assert told == [(1, 1, 2, "absorbed"), (2, 2, 3, "absorbed")]
    assert {(each.aggregate_type, each.aggregate_id, each.command) for each in conflicts} == {
        ("account", "a", "Draw")
    }


def test_a_command_that_the_winner_made_impossible_is_rejected(
    bank: Hindsight, conflicts: list[Conflict], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.execute("a", Open(100))
    meanwhile(monkeypatch, lambda: draw(bank, 90))
    with pytest.raises(CommandRejected, match="over the limit: 90 \\+ 30"):
        bank.execute("a", Draw(30))
    assert bank.load("a").state == Account(100, 90)
    assert [each.outcome for each in conflicts] == ["absorbed"]


def test_only_the_missing_tail_is_read_again(
    bank: Hindsight, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.execute("a", Open(1000))
    for _ in range(5):
        bank.execute("a", Draw(1))
    read: list[int] = []
    history = bank.log.history

    def counted(*arguments: Any, **options: Any) -> Iterator[Sequence[Any]]:
        for rows in history(*arguments, **options):
            read.append(len(rows))
            yield rows

    monkeypatch.setattr(bank.log, "history", counted)
    meanwhile(monkeypatch, lambda: draw(bank, 1))
    bank.execute("a", Draw(1))
    assert read == [1]


def test_who_never_gets_through_is_told_so(
    bank: Hindsight, conflicts: list[Conflict], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.execute("a", Open(10**6))
    monkeypatch.setattr(f"{__name__}.BEFORE_DECISION", [lambda _: draw(bank, 1)])
    with pytest.raises(VersionConflict) as escaped:
        bank.execute("a", Draw(1), attempts=3)
    assert (escaped.value.expected, escaped.value.actual) == (3, 4)
    assert [(each.attempt, each.outcome) for each in conflicts] == [
        (1, "escaped"),
        (2, "escaped"),
        (3, "escaped"),
    ]
    assert bank.aggregate("a").version == 4


def test_eight_threads_at_one_account_all_get_through(bank: Hindsight) -> None:
    bank.execute("a", Open(10**6))
    ready = threading.Barrier(8, timeout=30)

    def work() -> int:
        ready.wait()
        return sum(bank.execute("a", Draw(1), attempts=100).attempts for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        attempts = sum(future.result() for future in [pool.submit(work) for _ in range(8)])
    assert bank.load("a").state == Account(10**6, 80)
    assert bank.aggregate("a").version == 81
    assert attempts >= 80


def test_no_limit_is_overdrawn_however_many_try(bank: Hindsight) -> None:
    bank.execute("a", Open(5))

    def try_once(_: int) -> bool:
        try:
            bank.execute("a", Draw(1), attempts=100)
        except CommandRejected:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        drawn = sum(pool.map(try_once, range(20)))
    assert (drawn, bank.load("a").state) == (5, Account(5, 5))


class Stray(Open, frozen=True):
    pass


def test_a_command_of_no_domain_is_refused(bank: Hindsight) -> None:
    with pytest.raises(CommandUnknown, match="'Stray' belongs to no aggregate"):
        bank.execute("a", Stray(1))


def test_a_command_for_another_type_is_refused(bank: Hindsight) -> None:
    bank.append("other", "a", [NewEvent("Opened", {"limit": 5})], expected=exact(0))
    with pytest.raises(AggregateTypeMismatch):
        bank.execute("a", Draw(1))
    assert bank.aggregate("a").version == 1


def test_a_hook_that_fails_does_not_fail_the_command(
    store_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Conflict) -> None:
        raise KeyError("nobody listens")

    with Hindsight(store_url, domain=BANK, on_conflict=broken) as store:
        store.execute("a", Open(100))
        meanwhile(monkeypatch, lambda: draw(store, 10))
        assert store.execute("a", Draw(30)).version == 3
    assert "on_conflict" in caplog.text
    assert "nobody listens" in caplog.text


class Odd(Struct, frozen=True):
    value: Any

    def decide(self, account: Account) -> Iterator[Struct]:
        yield Opened(account.limit or 1)
        yield Opened(self.value)

    def recorded(self) -> dict[str, Any]:
        return {}


ODD = Domain(
    "odd",
    aggregates=[Aggregate("odd", initial=Account(), events=[Opened], apply=apply, commands=[Odd])],
)


def test_a_command_may_yield_its_events(store_url: str) -> None:
    with Hindsight(store_url, domain=ODD) as store:
        assert store.execute("a", Odd(5)).state == Account(5)
        assert store.aggregate("a").version == 2


@pytest.mark.parametrize("value", ["\ud800", object(), float("nan")])
def test_an_event_that_is_no_json_is_refused_before_anything_is_stored(
    store_url: str, value: Any
) -> None:
    with Hindsight(store_url, domain=ODD) as store:
        with pytest.raises(InvalidEvent):
            store.execute("a", Odd(value))
        assert list(store.feed()) == []


def test_a_conflict_that_ends_in_another_error_escaped(
    bank: Hindsight, conflicts: list[Conflict], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank.execute("a", Open(100))
    bad = [NewEvent("Unheard", {})]
    meanwhile(monkeypatch, lambda: bank.append("account", "a", bad, expected=exact(1)))
    with pytest.raises(ApplyFailed):
        bank.execute("a", Draw(1))
    assert [each.outcome for each in conflicts] == ["escaped"]
