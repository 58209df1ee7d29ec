"""A domain whose read model has sums of numbers, of which 13 cannot be taken; and later ones."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Boolean, Column, Integer, MetaData, Table, Text

from store import Aggregate, Domain, EventHeader, Hindsight, Moment, NewEvent, Projection, Row, any_
from tests.totals import Added, Total, add


def note_sum(row: Row | None, added: Added, event: EventHeader) -> Row:
    if added.number == 13:
        raise ValueError("unlucky")
    return note_any(row, added, event)


def note_any(row: Row | None, added: Added, event: EventHeader) -> Row:
    total = (row["total"] if row else 0) + added.number
    return {
        "id": event.aggregate_id,
        "total": total,
        "even": total % 2 == 0,
        "size": "large" if total >= 100 else None,
        "seen": event.occurred_at,
    }


def sums_domain(handler: Callable[..., Any] = note_sum, *, version: int = 1) -> Domain:
    total: Aggregate[Any] = Aggregate("total", initial=Total(), events=[Added], apply=add)
    table = Table(
        "sums",
        MetaData(),
        Column("id", Text, primary_key=True),
        Column("total", Integer, nullable=False),
        Column("even", Boolean, nullable=False),
        Column("size", Text),
        Column("seen", Moment, nullable=False),
    )
    sums = Projection("sums", table=table, handlers={Added: handler}, version=version)
    return Domain("sums", aggregates=[total], projections=[sums])


domain = sums_domain()
mended = sums_domain(note_any)
second = sums_domain(version=2)


def note_last(row: Row | None, added: Added, event: EventHeader) -> Row:
    del row
    return {"id": event.aggregate_id, "number": added.number}


last = Projection(
    "last",
    table=Table(
        "last", MetaData(), Column("id", Text, primary_key=True), Column("number", Integer)
    ),
    handlers={Added: note_last},
)
several = Domain(
    "several", aggregates=list(domain.aggregates), projections=[*domain.projections, last]
)
bare = Domain("bare", aggregates=list(domain.aggregates))


def put(store: Hindsight, name: str, *numbers: int) -> int:
    """Append the numbers; the last position."""
    events = [NewEvent("Added", {"number": number}) for number in numbers]
    return store.append("total", name, events, expected=any_()).position


def project(store: Hindsight, name: str = "sums") -> None:
    """Have the table, and all events in it."""
    store.projections.build_missing()
    projector = store.projections.projector(name)
    while projector.once().is_behind:
        pass
