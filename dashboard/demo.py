"""A small shop's last six weeks, for `--demo`: believable events through the real append."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from store import Context, Hindsight, NewEvent, exact, migrate

PATH = Path("data/demo.db")
SEED = 20_260_131
WEEKS = 6
CUSTOMERS = 60
ORDERS = 150

FIRST_NAMES = ["Ada", "Bo", "Chidi", "Dana", "Emre", "Freya", "Gita", "Hugo", "Ines", "Jun"]
LAST_NAMES = ["Abara", "Berg", "Costa", "Dahl", "Eto", "Fischer", "García", "Haddad", "Ito"]
CITIES = ["Lisbon", "Malmö", "Nairobi", "Osaka", "Porto", "Québec", "Riga", "Sofia", "Turin"]
PRODUCTS = {
    "espresso-beans": ("Espresso beans 1 kg", 1990),
    "filter-beans": ("Filter beans 500 g", 1290),
    "hand-grinder": ("Hand grinder", 8900),
    "gooseneck-kettle": ("Gooseneck kettle", 6490),
    "paper-filters": ("Paper filters, 100", 590),
    "dripper": ("Ceramic dripper", 2450),
    "scale": ("Brewing scale", 4900),
    "travel-cup": ("Travel cup", 2200),
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the story: when, of what, by whom, because of which request."""

    moment: datetime
    aggregate: tuple[str, str]
    event_type: str
    data: dict[str, Any]
    actor: str
    request: str


def ensure_store(path: Path = PATH) -> str:
    """The URL of the demo store at `path`; written now where there is none yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        migrate(f"sqlite:///{unfinished}")
        write(f"sqlite:///{unfinished}", story(datetime.now(UTC)))
        unfinished.rename(path)
    return f"sqlite:///{path}"


def write(url: str, steps: list[Step]) -> None:
    """Append the steps in their order, each recorded a moment after it occurred."""
    random = Random(SEED)  # noqa: S311 - a story, not a secret
    clock = [datetime.now(UTC)]
    versions: dict[tuple[str, str], int] = defaultdict(int)
    with Hindsight(url, clock=lambda: clock[0]) as store:
        for step in steps:
            clock[0] = step.moment + timedelta(milliseconds=random.randint(2, 90))
            event = NewEvent(
                step.event_type,
                step.data,
                event_id=_uuid(random),
                occurred_at=step.moment,
            )
            store.append(
                *step.aggregate,
                [event],
                expected=exact(versions[step.aggregate]),
                context=Context(actor=step.actor, correlation_id=step.request),
            )
            versions[step.aggregate] += 1


def story(now: datetime) -> list[Step]:
    """Everything that happened in the weeks before `now`, in order of time."""
    random = Random(SEED)  # noqa: S311 - a story, not a secret
    begin = now - timedelta(weeks=WEEKS)
    steps = [*_products(random, begin), *_customers(random, begin), *_orders(random, begin)]
    return sorted((step for step in steps if step.moment < now), key=lambda step: step.moment)


def _products(random: Random, begin: datetime) -> Iterator[Step]:
    for number, (key, (name, first_price)) in enumerate(PRODUCTS.items()):
        price = first_price
        product = ("product", f"product-{key}")
        moment = begin + timedelta(minutes=7 * number)
        yield _step(random, moment, product, "ProductListed", {"name": name, "price": price})
        for _ in range(random.randint(3, 7)):
            moment += _days(random, 4, 9)
            received = {"quantity": random.randrange(20, 200, 10), "warehouse": "north"}
            yield _step(random, moment, product, "StockReceived", received, actor="warehouse")
            if random.random() < 0.4:
                changed = {"from": price, "to": price + random.choice([-200, -100, 100, 150])}
                price = changed["to"]
                moment += _hours(random, 1, 30)
                yield _step(random, moment, product, "PriceChanged", changed, actor="dana")


def _customers(random: Random, begin: datetime) -> Iterator[Step]:
    for number in range(CUSTOMERS):
        customer = ("customer", f"customer-{1001 + number}")
        first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
        email = f"{first}.{last}@example.com".lower()
        moment = begin + timedelta(hours=1) + _days(random, 0, WEEKS * 7 * 0.7)
        registered = {"name": f"{first} {last}", "email": email}
        yield _step(random, moment, customer, "CustomerRegistered", registered)
        yield from _account(random, moment, customer, email)


def _account(
    random: Random, moment: datetime, customer: tuple[str, str], email: str
) -> Iterator[Step]:
    moment += _hours(random, 0.05, 20)
    yield _step(random, moment, customer, "EmailVerified", {"email": email})
    moment += _hours(random, 0.1, 60)
    address = {"city": random.choice(CITIES), "street": f"Harbour Road {random.randint(1, 99)}"}
    yield _step(random, moment, customer, "AddressAdded", {"address": address})
    if random.random() < 0.35:
        moment += _days(random, 1, 12)
        yield _step(random, moment, customer, "NewsletterSubscribed", {"topics": ["offers"]})
    if random.random() < 0.2:
        moment += _days(random, 2, 14)
        changed = {"from": email, "to": email.replace("@example.com", "@example.org")}
        yield _step(random, moment, customer, "EmailChanged", changed)
    if random.random() < 0.08:
        moment += _days(random, 3, 10)
        reason = random.choice(["no longer needed", "too many e-mails"])
        yield _step(random, moment, customer, "AccountClosed", {"reason": reason})


def _orders(random: Random, begin: datetime) -> Iterator[Step]:
    for number in range(ORDERS):
        order = ("order", f"order-{20_001 + number}")
        # Shops sell by day: most orders between eight and twenty-two o'clock.
        day = begin + timedelta(days=1 + number * (WEEKS * 7 - 1.5) / ORDERS)
        moment = day.replace(hour=random.randint(8, 21), minute=random.randrange(60))
        lines = _lines(random)
        total = sum(line["quantity"] * line["price"] for line in lines)
        placed = {
            "customer": f"customer-{1001 + random.randrange(CUSTOMERS)}",
            "lines": lines,
            "total": total,
            "currency": "EUR",
        }
        yield _step(random, moment, order, "OrderPlaced", placed)
        yield from _payment(random, moment, order, total)


def _lines(random: Random) -> list[dict[str, Any]]:
    chosen = random.sample(sorted(PRODUCTS), random.choice([1, 1, 2, 2, 3]))
    return [
        {"product": f"product-{key}", "quantity": random.randint(1, 3), "price": PRODUCTS[key][1]}
        for key in chosen
    ]


def _payment(
    random: Random, moment: datetime, order: tuple[str, str], total: int
) -> Iterator[Step]:
    moment += timedelta(seconds=random.randint(8, 240))
    while random.random() < 0.12:
        declined = {"reason": random.choice(["insufficient funds", "3-D Secure timed out"])}
        yield _step(random, moment, order, "PaymentDeclined", declined, actor="payments")
        moment += _hours(random, 0.02, 3)
    amount = {"amount": total, "method": random.choice(["card", "card", "transfer"])}
    yield _step(random, moment, order, "PaymentAuthorised", amount, actor="payments")
    if random.random() < 0.07:
        moment += _hours(random, 0.2, 10)
        yield _step(random, moment, order, "OrderCancelled", {"by": "customer"})
        return
    yield from _delivery(random, moment, order, total)


def _delivery(
    random: Random, moment: datetime, order: tuple[str, str], total: int
) -> Iterator[Step]:
    moment += _hours(random, 1, 26)
    yield _step(random, moment, order, "OrderPacked", {"parcels": 1}, actor="warehouse")
    moment += _hours(random, 0.1, 1)
    yield _step(random, moment, order, "PaymentCaptured", {"amount": total}, actor="payments")
    moment += _hours(random, 2, 20)
    parcel = {"carrier": "Northpost", "tracking": f"NP{random.randrange(10**9):09d}"}
    yield _step(random, moment, order, "OrderShipped", parcel, actor="warehouse")
    moment += _days(random, 1, 4)
    yield _step(
        random, moment, order, "OrderDelivered", {"signed_by": "neighbour"}, actor="carrier"
    )
    if random.random() < 0.1:
        moment += _days(random, 0.5, 6)
        refund = {"amount": total // 2, "reason": "arrived damaged"}
        yield _step(random, moment, order, "RefundIssued", refund, actor="dana")


def _step(
    random: Random,
    moment: datetime,
    aggregate: tuple[str, str],
    event_type: str,
    data: dict[str, Any],
    *,
    actor: str = "web",
) -> Step:
    return Step(
        moment=moment + timedelta(milliseconds=random.randrange(1000)),
        aggregate=aggregate,
        event_type=event_type,
        data=data,
        actor=actor,
        request=f"req-{random.getrandbits(40):010x}",
    )


def _hours(random: Random, least: float, most: float) -> timedelta:
    return timedelta(seconds=random.randint(int(least * 3600), int(most * 3600)))


def _days(random: Random, least: float, most: float) -> timedelta:
    return _hours(random, least * 24, most * 24)


def _uuid(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128), version=4)
