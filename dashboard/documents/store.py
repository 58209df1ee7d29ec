"""Documents about the whole store: what it holds, its aggregates."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec

from dashboard import resources
from dashboard.colours import looks
from dashboard.parameters import InvalidAddress, required
from store.records import AggregateOrder, AggregateSummary, Watermark

PAGE_AGGREGATES = 50
# Every append holds readers for a moment; a line that comes and goes tells nothing.
WORTH_TELLING = timedelta(seconds=2)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds readers at a position, and for how many µs, where that may be seen."""

    position: int
    pid: int | None
    held_for: int | None


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds; `looks` are the numbers of the event types' colours and shapes.

    `orders` are those its aggregates can be listed in.
    """

    name: str
    empty: bool
    complete: bool
    events: int
    types: dict[str, int]
    looks: dict[str, int]
    aggregate_types: dict[str, int]
    last: datetime | None
    watermark: Held | None
    orders: tuple[AggregateOrder, ...]


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate in a list."""

    aggregate_id: str
    aggregate_type: str
    events: int
    last_occurred_at: datetime


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """Some aggregates, and where those after them begin."""

    items: tuple[Item, ...]
    next: str | None


def store(_params: Mapping[str, str]) -> Store:
    """What the store holds, exact once `complete`."""
    source, activity = resources.source(), resources.activity()
    newest = next(iter(source.feed(backward=True, limit=1)), None)
    types = activity.types()
    return Store(
        name=source.info.name,
        empty=newest is None,
        complete=activity.complete,
        events=sum(types.values()),
        types=types,
        looks=looks(types),
        aggregate_types=activity.aggregate_types(),
        last=None if newest is None else newest.occurred_at,
        watermark=_watermark(source.watermark()),
        orders=source.info.quick_orders,
    )


def _watermark(found: Watermark) -> Held | None:
    holder = found.holder
    if holder is None:
        return None
    lasting = None if holder.since is None else datetime.now(UTC) - holder.since
    if lasting is not None and lasting < WORTH_TELLING:
        return None
    return Held(
        position=found.position,
        pid=holder.pid,
        held_for=None if lasting is None else lasting // timedelta(microseconds=1),
    )


def head(params: Mapping[str, str]) -> AggregateSummary:
    """An aggregate's newest version and when it was active: `aggregate`."""
    return resources.source().aggregate(required(params, "aggregate"))


def aggregates(params: Mapping[str, str]) -> Items:
    """Aggregates whose ids begin with `prefix`, of `type`, in `order`, from `after` on."""
    order = params.get("order") or "recent"
    if order not in get_args(AggregateOrder):
        raise InvalidAddress(f"order: {order[:40]!r} is none of recent, longest, id")
    if order not in resources.source().info.quick_orders:
        raise InvalidAddress(f"order: {order} would read every event; choose recent or id")
    page = resources.source().aggregates(
        prefix=params.get("prefix", ""),
        aggregate_type=params.get("type") or None,
        order=order,
        after=params.get("after") or None,
        limit=PAGE_AGGREGATES,
    )
    first = resources.source().info.first_version
    return Items(items=tuple(_item(head, first) for head in page.items), next=page.next)


def _item(head: AggregateSummary, first_version: int) -> Item:
    return Item(
        aggregate_id=head.aggregate_id,
        aggregate_type=head.aggregate_type,
        events=head.version - first_version + 1,
        last_occurred_at=head.last_occurred_at,
    )
