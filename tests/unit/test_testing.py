"""given, when, then: what users of the library write about their own domains."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from msgspec import Struct, to_builtins

from store import Aggregate, CommandRejected
from store.testing import given


class Opened(Struct, frozen=True):
    owner: str


class Renamed(Struct, frozen=True):
    owner: str


class Stamped(Struct, frozen=True):
    at: Any


class Account(Struct, frozen=True):
    owner: str | None = None


class Rename(Struct, frozen=True):
    owner: str

    def decide(self, account: Account) -> Sequence[Struct]:
        if account.owner is None:
            raise CommandRejected("the account is not open")
        return [] if account.owner == self.owner else [Renamed(self.owner)]

    def recorded(self) -> dict[str, Any]:
        return to_builtins(self)  # type: ignore[no-any-return]


class Stamp(Rename, frozen=True):
    def decide(self, account: Account) -> Sequence[Struct]:
        return [Stamped((account.owner, datetime(2026, 1, 1)))]  # noqa: DTZ001 (JSON has neither)


def apply(account: Account, event: Opened | Renamed | Stamped) -> Account:
    return account if isinstance(event, Stamped) else Account(event.owner)


ACCOUNT = Aggregate(
    "account",
    initial=Account(),
    events=[Opened, Renamed, Stamped],
    apply=apply,
    commands=[Rename, Stamp],
)


def test_what_follows_is_compared() -> None:
    given(ACCOUNT, Opened("ada")).when(Rename("bob")).then(Renamed("bob"))
    given(ACCOUNT, Opened("ada")).when(Rename("ada")).then()


def test_a_rejection_is_compared_by_kind_and_by_words() -> None:
    given(ACCOUNT).when(Rename("bob")).then(CommandRejected)
    given(ACCOUNT).when(Rename("bob")).then(CommandRejected("the account is not open"))


def test_the_state_after_is_at_hand() -> None:
    assert given(ACCOUNT, Opened("ada")).when(Rename("bob")).state == Account("bob")


@pytest.mark.parametrize(
    ("before", "expected", "told"),
    [
        ([Opened("ada")], [], 'expected nothing, got Renamed {"owner":"bob"}'),
        ([Opened("ada")], [Renamed("eve")], 'expected Renamed {"owner":"eve"}, got Renamed'),
        ([Opened("ada")], [CommandRejected], "expected CommandRejected, got Renamed"),
        ([], [Renamed("bob")], "got CommandRejected: the account is not open"),
        ([], [CommandRejected("no")], "expected CommandRejected: no, got CommandRejected: the"),
        ([], [KeyError], "expected KeyError, got CommandRejected"),
    ],
)
def test_what_differs_is_told(before: list[Struct], expected: list[Any], told: str) -> None:
    with pytest.raises(AssertionError) as difference:
        given(ACCOUNT, *before).when(Rename("bob")).then(*expected)
    assert told in str(difference.value)


def test_an_event_that_the_store_would_give_back_otherwise_is_told() -> None:
    with pytest.raises(AssertionError, match="Stamped comes back from JSON as"):
        given(ACCOUNT, Opened("ada")).when(Stamp("x"))


def test_an_event_of_no_aggregate_is_told() -> None:
    class Elsewhere(Struct, frozen=True):
        pass

    with pytest.raises(AssertionError, match="aggregate 'account' has no event 'Elsewhere'"):
        given(ACCOUNT, Elsewhere())


def test_a_fold_without_a_case_is_told() -> None:
    def forgetful(account: Account, event: Opened) -> Account:
        del account, event
        return None  # type: ignore[return-value]

    fold = Aggregate("account", initial=Account(), events=[Opened], apply=forgetful)
    with pytest.raises(AssertionError, match="Opened: apply returned NoneType, not Account"):
        given(fold, Opened("ada"))
