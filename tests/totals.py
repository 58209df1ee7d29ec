"""A domain that adds up numbers, and what may happen to a database below it."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, text

from store import Aggregate, CommandRejected, Domain, Hindsight, NewEvent, any_


class Added(Struct, frozen=True):
    number: int


class Total(Struct, frozen=True):
    total: int = 0
    last: tuple[int, ...] = ()


class Loose(Struct, frozen=True):
    """A state that a caller could change."""

    numbers: list[int] = []


class Add(Struct, frozen=True):
    number: int

    def decide(self, state: Any) -> Sequence[Struct]:
        del state
        if self.number < 0:
            raise CommandRejected("less than nothing")
        return [Added(self.number)] if self.number else []

    def recorded(self) -> Mapping[str, Any]:
        return {}


def add(state: Total, event: Added) -> Total:
    if event.number == 13:
        raise ValueError("unlucky")
    return Total(state.total + event.number, (*state.last, event.number)[-3:])


def note(state: Loose, event: Added) -> Loose:
    return Loose([*state.numbers, event.number])


def numbers(every: int | None = None, *, initial: Struct | None = None, apply: Any = add) -> Domain:
    total: Aggregate[Any] = Aggregate(
        "total",
        initial=initial or Total(),
        events=[Added],
        apply=apply,
        commands=[Add],
        snapshot_every=every,
    )
    return Domain("numbers", aggregates=[total])


def put(store: Hindsight, *added: int, aggregate_id: str = "a") -> None:
    events = [NewEvent("Added", {"number": number}) for number in added]
    store.append("total", aggregate_id, events, expected=any_())


def unguard(connection: Connection) -> None:
    """Let events be changed."""
    if connection.dialect.name == "sqlite":
        for guard in ("events_no_update", "events_no_delete"):
            connection.execute(text(f"DROP TRIGGER IF EXISTS {guard}"))
    else:
        connection.execute(text("ALTER TABLE events DISABLE TRIGGER USER"))


def undo(store: Hindsight, *, after: int, aggregate_id: str = "a") -> None:
    """What a backup from before those events does when it is restored."""
    named = {"id": aggregate_id, "after": after}
    with store.database.transaction() as connection:
        unguard(connection)
        for table in ("events", "snapshots", "outbox"):
            sql = f"DELETE FROM {table} WHERE aggregate_id = :id AND version > :after"
            connection.execute(text(sql), named)
        connection.execute(
            text("UPDATE aggregates SET version = :after WHERE aggregate_id = :id"), named
        )
