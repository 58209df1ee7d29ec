"""What happens to an order: the made-up history where no domain has one of its own.

Every event's data merges into the order as RFC 7396 has it, so the state without domain code is
the order's.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from random import Random
from typing import TypeAlias

from msgspec import Struct

AGGREGATE_TYPE = "order"

# A line for each would be pages.
NAMES = (  # noqa: SIM905
    "Ada Abara,Bo Berg,Carla Costa,Deniz Dahl,Emre Eto,Freya Fischer,Gael García,Hana Haddad"
    ",Inès Ito,Jun Jansen,Kofi Kaya,Leila López,Maja Meyer,Noor Novák,Omar Okafor,Petra Pereira"
    ",Rosa Rossi,Sven Sato,Tariq Tran,Uma Virtanen,Wei Weber,Zoë Ziegler"
).split(",")
STREETS = (  # noqa: SIM905
    "Bridge Castle Church Garden Harbour Market Mill Orchard Park River School Station"
).split()
CITIES = "Aarhus Bergamo Cork Delft Évora Gdańsk Graz Lyon Malmö Osijek Tartu Vigo".split()  # noqa: SIM905
GOODS = (  # noqa: SIM905
    "bread knife,enamel pot,linen towel,oak board,paper lamp,pepper mill,rice bowl,salt jar"
    ",tea kettle,wall clock,wool blanket,writing desk"
).split(",")
CARRIERS = ("Northbound", "Parcel & Sons", "Quickcart", "Velopost")
REMARKS = (
    "rang twice, nobody at home",
    "asks to leave it with the neighbour on the second floor",
    "wants an invoice with the company's address",
    "the box was open when it came, nothing is missing",
)


class Address(Struct, frozen=True, kw_only=True):
    """Where a parcel goes to."""

    name: str
    street: str
    postcode: str
    city: str


class Item(Struct, frozen=True, kw_only=True):
    """So many of one of the goods, at a price in cents."""

    article: str
    quantity: int
    price: int


class Payment(Struct, frozen=True, kw_only=True):
    """An amount in cents, and what the bank calls it."""

    amount: int
    currency: str
    reference: str


class Parcel(Struct, frozen=True, kw_only=True):
    """Who brings it, and what they call it."""

    carrier: str
    tracking: str


class OrderPlaced(Struct, frozen=True, kw_only=True):
    """Somebody ordered something."""

    status: str
    customer: str
    email: str
    address: Address
    items: dict[str, Item]


class ItemChanged(Struct, frozen=True, kw_only=True):
    """Something was put into the order, or there is more or less of it."""

    items: dict[str, Item]


class AddressChanged(Struct, frozen=True, kw_only=True):
    """It goes elsewhere."""

    address: Address


class PaymentReceived(Struct, frozen=True, kw_only=True):
    """Money came."""

    status: str
    payment: Payment


class ParcelSent(Struct, frozen=True, kw_only=True):
    """A parcel is on its way."""

    status: str
    parcel: Parcel


class RemarkAdded(Struct, frozen=True, kw_only=True):
    """Somebody noted something."""

    remark: str
    remarked_at: datetime


OrderEvent: TypeAlias = (
    OrderPlaced | ItemChanged | AddressChanged | PaymentReceived | ParcelSent | RemarkAdded
)
EVENTS: tuple[type[Struct], ...] = (
    OrderPlaced,
    ItemChanged,
    AddressChanged,
    PaymentReceived,
    ParcelSent,
    RemarkAdded,
)


def history(random: Random, moments: Iterable[datetime]) -> Iterator[OrderEvent]:
    """One order's events, one at each moment."""
    coming = iter(moments)
    for _ in islice(coming, 1):
        yield _placed(random)
    for at in coming:
        chance = random.random()
        if chance < 0.55:
            yield ItemChanged(items=_items(random, 1))
        elif chance < 0.65:
            yield AddressChanged(address=_address(random, random.choice(NAMES)))
        elif chance < 0.78:
            yield _paid(random)
        elif chance < 0.88:
            yield _sent(random)
        else:
            yield RemarkAdded(remark=random.choice(REMARKS), remarked_at=at)


def _placed(random: Random) -> OrderPlaced:
    name = random.choice(NAMES)
    login = f"{name.lower().replace(' ', '.')}{random.randrange(10_000)}"
    return OrderPlaced(
        status="placed",
        customer=name,
        email=f"{login}@mail.example",
        address=_address(random, name),
        items=_items(random, random.choice((1, 1, 2, 3))),
    )


def _items(random: Random, count: int) -> dict[str, Item]:
    return {
        f"sku-{random.randrange(40):03d}": Item(
            article=random.choice(GOODS),
            quantity=random.randint(1, 9),
            price=random.randint(199, 24_999),
        )
        for _ in range(count)
    }


def _address(random: Random, name: str) -> Address:
    return Address(
        name=name,
        street=f"{random.choice(STREETS)} Street {random.randint(1, 240)}",
        postcode=f"{random.randrange(100_000):05d}",
        city=random.choice(CITIES),
    )


def _paid(random: Random) -> PaymentReceived:
    payment = Payment(
        amount=random.randint(199, 99_999),
        currency="EUR",
        reference=f"{random.getrandbits(48):012x}",
    )
    return PaymentReceived(status="paid", payment=payment)


def _sent(random: Random) -> ParcelSent:
    parcel = Parcel(carrier=random.choice(CARRIERS), tracking=f"{random.getrandbits(64):020d}")
    return ParcelSent(status="sent", parcel=parcel)
