"""Steps that bring events of earlier schema versions to what the code reads now."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from store import Aggregate, Upcaster
from store.errors import (
    InvalidDomain,
    SchemaTooNew,
    UnknownEventType,
    UpcasterMissing,
    UpcastFailed,
)


class Opened(Struct, frozen=True):
    """A shop, as it is opened today."""

    name: str
    city: str
    open_on: tuple[str, ...] = ()


class Closed(Struct, frozen=True):
    """A shop is no more."""


class Shop(Struct, frozen=True):
    """A shop."""

    name: str = ""
    city: str = ""


def apply(shop: Shop, event: Opened | Closed) -> Shop:
    match event:
        case Opened():
            return replace(shop, name=event.name, city=event.city)
        case Closed():
            return Shop()


def city_unknown(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"city": "unknown"}


def renamed(data: dict[str, Any]) -> dict[str, Any]:
    return {"name": data["title"], "city": data["city"]}


def same(data: dict[str, Any]) -> dict[str, Any]:
    return data


STEPS = [
    Upcaster("ShopOpened", 1, 2, city_unknown),
    Upcaster("ShopOpened", 2, 3, renamed, to_type="Opened"),
]


def shop(*upcasters: Upcaster) -> Aggregate[Shop]:
    return Aggregate(
        "shop", initial=Shop(), events=[Opened, Closed], apply=apply, upcasters=upcasters
    )


def test_an_old_event_goes_through_every_step_and_a_new_name() -> None:
    aggregate = shop(*STEPS)
    assert aggregate.schema_versions == {"Opened": 3, "Closed": 1}
    upcasted = aggregate.upcast("ShopOpened", 1, {"title": "Tea"})
    assert upcasted == ("Opened", 3, {"name": "Tea", "city": "unknown"})
    assert aggregate.decode("ShopOpened", b'{"title": "Tea"}', 1) == Opened("Tea", "unknown")
    old = b'{"title": "Tea", "city": "Ulm"}'
    assert aggregate.decode("ShopOpened", old, 2) == Opened("Tea", "Ulm")


def test_an_event_of_today_is_as_it_was_written() -> None:
    assert shop(*STEPS).upcast("Opened", 3, {"name": "x"}) == ("Opened", 3, {"name": "x"})
    assert shop().decode("Opened", b'{"name": "x", "city": "y"}', 1) == Opened("x", "y")


@pytest.mark.parametrize(
    ("event_type", "version"), [("Opened", 4), ("ShopOpened", 4), ("Closed", 2)]
)
def test_a_version_newer_than_the_code_fails_loudly(event_type: str, version: int) -> None:
    with pytest.raises(SchemaTooNew, match=f"{event_type!r} has schema version {version}"):
        shop(*STEPS).decode(event_type, b"{}", version)


def test_a_version_that_no_step_takes_up_is_named() -> None:
    with pytest.raises(UpcasterMissing, match="'Opened' has schema version 1"):
        shop(*STEPS).decode("Opened", b"{}", 1)


@pytest.mark.parametrize(
    "made", [object(), float("nan"), "\ud800", {1: 2}, datetime(2026, 1, 1, tzinfo=UTC), {"a": {3}}]
)
def test_a_step_that_makes_no_json_is_named(made: Any) -> None:
    aggregate = shop(Upcaster("Opened", 1, 2, lambda _: made))
    for read in (
        lambda: aggregate.decode("Opened", b"{}", 1),
        lambda: aggregate.upcast("Opened", 1, {}),
    ):
        with pytest.raises(UpcastFailed, match="upcaster of 'Opened' from 1 to 2"):
            read()


def test_a_type_that_never_was_is_unknown() -> None:
    with pytest.raises(UnknownEventType):
        shop(*STEPS).decode("Sold", b"{}", 1)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("Opened", 1, 2, same)], "is no Upcaster"),
        ([Upcaster("Opened", 1, "2", same)], "version '2' is not a whole number"),  # type: ignore[arg-type]
        ([Upcaster("Opened", 1, 2, None)], "None is not a function"),  # type: ignore[arg-type]
        ([Upcaster("Opened", 1, 1, same)], "1 to 1 does not raise the version"),
        ([Upcaster("Opened", 2, 1, same)], "2 to 1 does not raise the version"),
        ([Upcaster("Opened", 1, 3, same)], "1 to 3 leaves out version 2"),
        ([Upcaster("Opened", 0, 1, same)], "version 0 is not a whole number from 1"),
        ([Upcaster("Opened", 1, 2, same)] * 2, "'Opened' 1 twice"),
        (
            [Upcaster("Opened", 1, 2, same), Upcaster("Opened", 3, 4, same)],
            "'Opened': no step from version 2",
        ),
        ([Upcaster("Opened", 2, 3, same)], "'Opened': no step from version 1"),
        ([Upcaster("Gone", 1, 2, same)], "'Gone' 2 is no event of this aggregate"),
        ([Upcaster("Gone", 1, 2, same, to_type="Away")], "'Away' 2 is no event"),
        (
            [
                Upcaster("Old", 1, 2, same, to_type="Opened"),
                Upcaster("Opened", 2, 3, same, to_type="Old"),
            ],
            "renamed in a circle",
        ),
        (
            [Upcaster("Old", 1, 2, same, to_type="Opened"), Upcaster("Opened", 1, 2, same),
             Upcaster("Opened", 2, 3, same, to_type="Closed")],
            "'Opened' is an event of this aggregate and renamed 'Closed'",
        ),
    ],
)  # fmt: skip
def test_steps_that_do_not_lead_to_today_are_refused(steps: list[Any], message: str) -> None:
    with pytest.raises(InvalidDomain, match=message):
        shop(*steps)


@given(st.integers(1, 8), st.data())
def test_any_chain_is_its_steps_one_after_the_other(length: int, data: st.DataObject) -> None:
    def adding(number: int) -> Upcaster:
        def upcast(found: dict[str, Any]) -> dict[str, Any]:
            return found | {"name": found["name"] + str(number)}

        return Upcaster("Opened", number, number + 1, upcast)

    steps = [adding(number) for number in range(1, length)]
    version = data.draw(st.integers(1, length))
    aggregate = shop(*data.draw(st.permutations(steps)))
    expected = "x" + "".join(str(n) for n in range(version, length))
    stored = {"name": "x", "city": "y"}
    kind, reached, upcasted = aggregate.upcast("Opened", version, stored)
    assert (kind, reached, upcasted["name"]) == ("Opened", length, expected)
    raw = msgspec.json.encode(stored)
    assert aggregate.decode("Opened", raw, version) == Opened(expected, "y")
