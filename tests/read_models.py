"""Domains whose read models are of sums, by aggregate, and of numbers, by keys of their own."""

from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, Text

from store import Domain, Projection
from tests.totals import Added, numbers


def sums(version: int = 1, *more: Any, **options: Any) -> Domain:
    """A domain whose read model waits at 7."""

    def note_sum(row: Any, added: Added, event: Any) -> dict[str, Any]:
        if added.number == 7:
            raise ValueError("unlucky")
        total = (row["total"] if row else 0) + added.number
        return {"id": event.aggregate_id, "total": total} | {each.name: None for each in more}

    columns = [Column("id", Text, primary_key=True), Column("total", Integer), *more]
    projection = Projection(
        "sums",
        table=Table("sums", MetaData(), *columns),
        handlers={Added: note_sum},
        version=version,
        **options,
    )
    return Domain("sums", aggregates=list(numbers().aggregates), projections=[projection])


def by_number() -> Domain:
    """A domain whose rows are by number and half."""

    def count(row: Any, added: Added, event: Any) -> dict[str, Any]:
        del event
        found = row or {"number": added.number, "half": str(added.number // 2), "times": 0}
        return found | {"times": found["times"] + 1}

    table = Table(
        "numbers",
        MetaData(),
        Column("number", Integer, primary_key=True),
        Column("half", Text, primary_key=True),
        Column("times", Integer),
    )
    projection = Projection(
        "numbers",
        table=table,
        handlers={Added: count},
        key=lambda added, _: (added.number, str(added.number // 2)),
    )
    return Domain("numbers", aggregates=list(numbers().aggregates), projections=[projection])


several = Domain(
    "several",
    aggregates=list(numbers().aggregates),
    projections=[*sums().projections, *by_number().projections],
)
