"""The lines that one transaction imports, and what of them the store has already."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from store.database.batch import EncodedAppend, EncodedEvent
from store.records import Event

MAX_BYTES = 16 * 1024 * 1024
"""A batch of large events is written when it is this long."""


class Entry(Struct, frozen=True, gc=False):
    """A valid line."""

    line: int
    content: bytes
    aggregate_type: str
    aggregate_id: str
    version: int
    event: EncodedEvent


def entry(event: Event, content: bytes, *, recorded_at: datetime | None) -> Entry:
    """The line at `event.position`; `recorded_at` is None where the store's clock decides."""
    encoded = EncodedEvent(
        event.event_id,
        event.event_type,
        event.event_version,
        event.raw_data,
        event.raw_metadata,
        event.correlation_id,
        event.causation_id,
        event.actor,
        event.occurred_at,
        recorded_at,
    )
    return Entry(
        event.position, content, event.aggregate_type, event.aggregate_id, event.version, encoded
    )


class Lines:
    """Entries in file order in which each aggregate's follow one another without a gap."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._last: dict[str, Entry] = {}
        self._ids: set[UUID] = set()
        self._bytes = 0

    def takes(self, entry: Entry) -> bool:
        """Whether `entry` may join; what may not is judged once these lines are written."""
        if self._bytes + len(entry.content) > MAX_BYTES and self.entries:
            return False
        if entry.event.event_id in self._ids:
            return False
        last = self._last.get(entry.aggregate_id)
        return last is None or (
            (entry.version, entry.aggregate_type) == (last.version + 1, last.aggregate_type)
        )

    def add(self, entry: Entry) -> None:
        """Put `entry`, which `takes` said yes to, behind the others."""
        self.entries.append(entry)
        self._last[entry.aggregate_id] = entry
        self._ids.add(entry.event.event_id)
        self._bytes += len(entry.content)


def appends(entries: Sequence[Entry]) -> tuple[list[EncodedAppend], list[int]]:
    """One append an aggregate, by id, and for each entry the place of its append."""
    firsts: dict[str, Entry] = {}
    events: dict[str, list[EncodedEvent]] = {}
    for each in entries:
        if firsts.setdefault(each.aggregate_id, each) is each:
            events[each.aggregate_id] = [each.event]
        else:
            events[each.aggregate_id].append(each.event)
    ids = sorted(firsts)
    place = {aggregate_id: index for index, aggregate_id in enumerate(ids)}
    batch = [
        EncodedAppend(firsts[i].aggregate_type, i, firsts[i].version - 1, events[i]) for i in ids
    ]
    return batch, [place[each.aggregate_id] for each in entries]
