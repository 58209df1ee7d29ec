"""Old code and new code side by side on one store, as in a rolling deploy."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from msgspec import Struct

from store import (
    Aggregate,
    Domain,
    Hindsight,
    NewEvent,
    Upcaster,
    exact,
    migrate,
    none,
)
from store.errors import ApplyFailed, SchemaTooNew
from store.transfer import export_events


class Total(Struct, frozen=True):
    """What was paid in."""

    amount: int = 0
    currencies: tuple[str, ...] = ()


def old_domain() -> Domain:
    class Paid(Struct, frozen=True):
        amount: int

    class Pay(Struct, frozen=True):
        amount: int

        def decide(self, _state: Any) -> list[Paid]:
            return [Paid(self.amount)]

        def recorded(self) -> dict[str, Any]:
            return {"amount": self.amount}

    return _domain(Paid, Pay, lambda _event: ())


def new_domain() -> Domain:
    class Paid(Struct, frozen=True):
        amount: int
        currency: str

    class Pay(Struct, frozen=True):
        amount: int

        def decide(self, _state: Any) -> list[Paid]:
            return [Paid(self.amount, "EUR")]

        def recorded(self) -> dict[str, Any]:
            return {"amount": self.amount}

    return _domain(Paid, Pay, lambda event: (event.currency,), Upcaster("Paid", 1, 2, in_marks))


def in_marks(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"currency": "DEM"}


def _domain(event: Any, command: Any, currencies: Any, *upcasters: Upcaster) -> Domain:
    def apply(state: Total, paid: Any) -> Total:
        return Total(state.amount + paid.amount, state.currencies + currencies(paid))

    account = Aggregate(
        "account",
        initial=Total(),
        events=[event],
        apply=apply,
        commands=[command],
        upcasters=upcasters,
    )
    return Domain("accounts", aggregates=[account])


def pay(store: Hindsight, aggregate_id: str, amount: int) -> Any:
    [account] = store.domains.domains[0].aggregates
    command: Any = account.commands[0]
    return store.execute(aggregate_id, command(amount))


@pytest.fixture
def sides(store_url: str) -> Iterator[tuple[Hindsight, Hindsight]]:
    """The same store, opened by old code and by new code."""
    migrate(store_url)
    with (
        Hindsight(store_url, domain=old_domain()) as old,
        Hindsight(store_url, domain=new_domain()) as new,
    ):
        yield old, new


Sides = tuple[Hindsight, Hindsight]


def test_new_code_reads_what_old_code_goes_on_writing(sides: Sides) -> None:
    old, new = sides
    for amount in (1, 2):
        pay(old, "a", amount)
        assert new.load("a").state == Total(sum(range(1, amount + 1)), ("DEM",) * amount)
    assert [event.event_version for event in new.events("a")] == [1, 1]
    assert [step.after.currencies for step in new.replay("a")] == [("DEM",), ("DEM", "DEM")]


def test_new_code_writes_its_own_version_after_old_events(sides: Sides) -> None:
    old, new = sides
    pay(old, "a", 1)
    executed = pay(new, "a", 2)
    assert executed.state == Total(3, ("DEM", "EUR"))
    assert [event.event_version for event in new.events("a")] == [1, 2]
    assert [event.raw_data for event in new.events("a")] == [
        b'{"amount":1}',
        b'{"amount":2,"currency":"EUR"}',
    ]


def test_old_code_stops_at_what_new_code_wrote_and_writes_nothing(sides: Sides) -> None:
    old, new = sides
    pay(old, "a", 1)
    pay(new, "a", 2)
    position = [event.position for event in new.events("a")][1]
    for read in (lambda: old.load("a"), lambda: pay(old, "a", 3), lambda: list(old.replay("a"))):
        with pytest.raises(ApplyFailed, match="deploy the code that wrote it") as failed:
            read()
        cause = failed.value.cause
        assert isinstance(cause, SchemaTooNew)
        assert (cause.event_type, cause.event_version, cause.newest) == ("Paid", 2, 1)
        assert (failed.value.version, failed.value.position) == (2, position)
        assert failed.value.reached_state == Total(1)
    assert new.load("a").version == 2


def test_old_code_goes_on_where_new_code_did_not_write(sides: Sides) -> None:
    old, new = sides
    pay(new, "a", 1)
    pay(old, "b", 2)
    assert old.load("b").state == Total(2)
    assert new.load("b").state == Total(2, ("DEM",))
    assert old.load("b", version=1).version == 1


def test_old_code_reads_the_state_before_a_newer_event(sides: Sides) -> None:
    old, new = sides
    pay(old, "a", 1)
    pay(new, "a", 2)
    assert old.load("a", version=1).state == Total(1)


def test_a_renamed_event_is_read_by_its_old_name(store_url: str) -> None:
    migrate(store_url)
    domain = new_domain()
    [account] = domain.aggregates
    renaming = Aggregate(
        "account",
        initial=Total(),
        events=account.events,
        apply=account.apply,
        upcasters=[Upcaster("MoneyReceived", 1, 2, in_marks, to_type="Paid")],
    )
    with Hindsight(store_url, domain=Domain("accounts", aggregates=[renaming])) as store:
        old = NewEvent("MoneyReceived", {"amount": 5})
        new = NewEvent("Paid", {"amount": 6, "currency": "EUR"}, schema_version=2)
        store.append("account", "a", [old], expected=none())
        store.append("account", "a", [new], expected=exact(1))
        assert store.load("a").state == Total(11, ("DEM", "EUR"))
        upcasted = [store.domains.upcast(event) for event in store.events("a")]
    assert [(e.event_type, e.event_version, e.schema_version) for e in upcasted] == [
        ("Paid", 1, 2),
        ("Paid", 2, 2),
    ]
    assert [e.data["currency"] for e in upcasted] == ["DEM", "EUR"]
    assert upcasted[0].raw_data == b'{"amount":5}'


def test_an_export_is_as_stored_or_as_the_code_reads_it(sides: Sides) -> None:
    old, new = sides
    pay(old, "a", 1)
    pay(new, "a", 2)
    stored, read = BytesIO(), BytesIO()
    export_events(new.log, stored)
    export_events(new.log, read, upcast=new.domains.upcast)
    lines = [json.loads(line) for line in stored.getvalue().splitlines()]
    assert [(line["schema_version"], line["data"]) for line in lines] == [
        (1, {"amount": 1}),
        (2, {"amount": 2, "currency": "EUR"}),
    ]
    lines = [json.loads(line) for line in read.getvalue().splitlines()]
    assert [(line["schema_version"], line["data"]) for line in lines] == [
        (2, {"amount": 1, "currency": "DEM"}),
        (2, {"amount": 2, "currency": "EUR"}),
    ]
    with pytest.raises(ApplyFailed, match=r"position 2.*newer than 1"):
        export_events(old.log, BytesIO(), upcast=old.domains.upcast)
