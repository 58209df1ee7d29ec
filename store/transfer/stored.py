"""What a store that refused a batch has of it already, and why it cannot take the rest."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from msgspec import Struct

from store import payload
from store.archived import Archived
from store.database import Database
from store.database.batch import Batch, Refused
from store.records import Event
from store.transfer.batch import Entry

_CHUNK = 1000
"""Events looked up in one query."""


class Fact(Struct, frozen=True):
    """An aggregate as it is stored; its type is None where nothing of it is."""

    aggregate_type: str | None
    version: int
    known: frozenset[UUID]


def facts(batch: Batch, refused: Refused) -> dict[str, Fact]:
    """What the store said of each aggregate when it refused."""
    told = zip(refused.types, refused.versions, refused.known, strict=True)
    return {
        append.aggregate_id: Fact(aggregate_type, version, known)
        for append, (aggregate_type, version, known) in zip(batch, told, strict=True)
    }


def stored_events(database: Database, entries: Sequence[Entry]) -> dict[tuple[str, int], Event]:
    """The events stored under the ids and versions of `entries`."""
    found: dict[tuple[str, int], Event] = {}
    for start in range(0, len(entries), _CHUNK):
        for event in _look_up(database, entries[start : start + _CHUNK]):
            found[event.aggregate_id, event.version] = event
    missing = {(each.aggregate_id, each.version) for each in entries} - found.keys()
    if missing:
        with database.snapshot() as connection:
            found |= Archived(database).at(missing, connection)
    return found


def _look_up(database: Database, entries: Sequence[Entry]) -> Iterable[Event]:
    parameters: dict[str, str | int] = {}
    for number, entry in enumerate(entries):
        parameters |= {f"i{number}": entry.aggregate_id, f"v{number}": entry.version}
    pairs = ", ".join(
        f"({database.bind(f'i{number}')}, {database.bind(f'v{number}')})"
        for number in range(len(entries))
    )
    sql = f"""
        WITH wanted (wanted_id, wanted_version) AS (VALUES {pairs})
        SELECT {database.event_columns} FROM wanted
        JOIN events ON aggregate_id = wanted_id AND version = wanted_version
    """  # noqa: S608 (placeholders)
    return map(database.event, database.rows(sql, parameters))


def objection(entry: Entry, fact: Fact, stored: Event | None, *, follows: int) -> str | None:
    """Why the store cannot have `entry`; None where it has it, or where it comes next.

    `stored` is the event at its version, `follows` the aggregate's version before it.
    """
    if fact.aggregate_type not in {None, entry.aggregate_type}:
        return f"{entry.aggregate_id!r} is of type {fact.aggregate_type!r} in the store"
    if stored is not None:
        return _difference(entry, stored)
    if entry.event.event_id in fact.known:
        return f"event_id {entry.event.event_id} is stored at another version of this aggregate"
    if entry.version != follows + 1:
        return f"version {entry.version} does not follow version {follows}"
    return None


def _difference(entry: Entry, stored: Event) -> str | None:
    given = entry.event
    if given.event_id != stored.event_id:
        return f"version {entry.version} is another event, {stored.event_id}, in the store"
    if (given.event_type, given.event_version) != (stored.event_type, stored.event_version) or (
        given.data != stored.raw_data and payload.decode(given.data) != stored.data
    ):
        return f"event {given.event_id} is stored with other content"
    return None
