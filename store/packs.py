"""Packs: runs of one aggregate's events, compressed, as the archive keeps them.

A pack holds what an event's row holds, to the byte. The digests of the events are not in it, as
they follow from the rest; the SHA-256 of all of them is beside it, and proves that what comes out
is what went in. Packs are compressed by a dictionary that those archived together share: alone,
the few events that an aggregate has in a batch would find little to refer to (`zlib`, RFC 1950).
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from store.digest import digest_behind, digest_prefix, microseconds
from store.errors import PackDamaged
from store.folding import HistoryRow
from store.records import Event, OutlineRow

T = TypeVar("T")

LONGEST = 500
"""Events in one pack: to read one of them, all are decompressed."""
DICTIONARY = 32_768
"""Bytes that the compression can refer back to."""
_SHARE = 16
"""A dictionary is at most so small a part of what it is for."""
_SAMPLE = 3
"""Events of one pack that go into a dictionary."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FROM_1970 = (_EPOCH - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class Pack(Struct, frozen=True, kw_only=True):
    """A pack as it is stored, `recorded_at` being that of its first event.

    `event_ids` are 16 bytes each, in the order of versions.
    """

    aggregate_id: str
    first_version: int
    last_version: int
    last_position: int
    recorded_at: datetime
    event_ids: bytes
    digest: bytes
    events: bytes


class _Columns(Struct, frozen=True, array_like=True):
    """What is compressed. Positions and times are differences to the event before.

    `digests` has those that do not follow from the rest: of events that were damaged before.
    """

    aggregate_type: str
    positions: list[int]
    occurred: list[int]
    recorded: list[int]
    event_versions: list[int]
    event_types: list[str]
    data: list[bytes]
    metadata: list[bytes]
    correlation_ids: list[str | None]
    causation_ids: list[str | None]
    actors: list[str | None]
    digests: dict[int, bytes]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Columns).decode


def runs(events: Iterable[Event]) -> list[list[Event]]:
    """The events as they are to be packed: one aggregate, a month, versions without a gap."""
    found: list[list[Event]] = []
    before: Event | None = None
    for event in sorted(events, key=attrgetter("aggregate_id", "version")):
        if before is None or len(found[-1]) == LONGEST or not _follows(event, before):
            found.append([])
        found[-1].append(event)
        before = event
    return found


def _follows(event: Event, before: Event) -> bool:
    return (
        event.aggregate_id == before.aggregate_id
        and event.version == before.version + 1
        and _month(event) == _month(before)
    )


def _month(event: Event) -> tuple[int, int]:
    moment = _recorded_at(event)
    return moment.year, moment.month


def _recorded_at(event: Event) -> datetime:
    assert event.recorded_at is not None, "our tables keep it"  # noqa: S101
    return event.recorded_at


def dictionary_for(found: Sequence[Sequence[Event]]) -> bytes:
    """What packs of these runs have in common: pieces of some of them."""
    wanted = min(DICTIONARY, sum(_size(event) for run in found for event in run) // _SHARE)
    pieces: list[bytes] = []
    size, step = 0, max(1, len(found) // 256)
    for run in (run for start in range(step) for run in found[start::step]):
        if size >= wanted:
            break
        pieces.append(_encode(_columns(run[:_SAMPLE])))
        size += len(pieces[-1])
    # What comes last is referred to by the fewest bits.
    return b"".join(reversed(pieces))[-wanted:] if wanted else b""


def each_id(event_ids: bytes) -> Iterator[bytes]:
    """The ids that a pack has in one."""
    return (event_ids[start : start + 16] for start in range(0, len(event_ids), 16))


def compressed(dictionary: bytes) -> bytes:
    """A dictionary as it is stored."""
    return zlib.compress(dictionary, 9)


def expanded(stored: bytes) -> bytes:
    """The dictionary that was stored so."""
    return zlib.decompress(stored)


def _size(event: Event) -> int:
    return len(event.raw_data) + len(event.raw_metadata)


def pack(events: Sequence[Event], dictionary: bytes) -> Pack:
    """Pack events of one aggregate whose versions follow one another."""
    columns = _columns(events)
    compressor = zlib.compressobj(9, memLevel=9, zdict=dictionary)
    first, last = events[0], events[-1]
    return Pack(
        aggregate_id=first.aggregate_id,
        first_version=first.version,
        last_version=last.version,
        last_position=last.position,
        recorded_at=_recorded_at(first),
        event_ids=b"".join(event.event_id.bytes for event in events),
        digest=sha256(b"".join(bytes(event.digest or b"") for event in events)).digest(),
        events=compressor.compress(_encode(columns)) + compressor.flush(),
    )


def _columns(events: Sequence[Event]) -> _Columns:
    computed = _digests(
        events[0].aggregate_id,
        events[0].version,
        [event.event_id.bytes for event in events],
        [event.event_type for event in events],
        [event.event_version for event in events],
        [microseconds(event.occurred_at) for event in events],
        [bytes(event.raw_data) for event in events],
        [bytes(event.raw_metadata) for event in events],
    )
    return _Columns(
        aggregate_type=events[0].aggregate_type,
        positions=_differences([event.position for event in events]),
        occurred=_differences([microseconds(event.occurred_at) for event in events]),
        recorded=_differences([microseconds(_recorded_at(event)) for event in events]),
        event_versions=[event.event_version for event in events],
        event_types=[event.event_type for event in events],
        data=[bytes(event.raw_data) for event in events],
        metadata=[bytes(event.raw_metadata) for event in events],
        correlation_ids=[event.correlation_id for event in events],
        causation_ids=[event.causation_id for event in events],
        actors=[event.actor for event in events],
        digests={
            index: bytes(event.digest or b"")
            for index, event in enumerate(events)
            if event.digest != computed[index]
        },
    )


def _differences(numbers: Sequence[int]) -> list[int]:
    return [later - earlier for earlier, later in pairwise([0, *numbers])]


def _digests(  # noqa: PLR0917 (the columns of a pack, in their order)
    aggregate_id: str,
    first_version: int,
    event_ids: Sequence[bytes],
    event_types: Sequence[str],
    event_versions: Sequence[int],
    occurred: Sequence[int],
    data: Sequence[bytes],
    metadata: Sequence[bytes],
) -> list[bytes]:
    prefix = digest_prefix(aggregate_id)
    columns = zip(event_ids, event_types, event_versions, occurred, data, metadata, strict=True)
    return [
        digest_behind(prefix, version, *column)
        for version, column in enumerate(columns, start=first_version)
    ]


class Unpacked:
    """What is in a pack.

    Raises:
        PackDamaged: it is not as it was packed.
    """

    def __init__(self, packed: Pack, dictionary: bytes) -> None:
        self._pack = packed
        try:
            decompressor = zlib.decompressobj(zdict=dictionary)
            self._columns = _decode(decompressor.decompress(packed.events) + decompressor.flush())
        except (zlib.error, msgspec.MsgspecError) as error:
            raise _damaged(packed, str(error)) from error
        count = packed.last_version - packed.first_version + 1
        if not len(self._columns.data) == count == len(packed.event_ids) // 16:
            raise _damaged(packed, f"{len(self._columns.data)} events for {count} versions")

    def history(self) -> list[HistoryRow]:
        """The events as a fold takes them."""
        columns, first = self._columns, self._pack.first_version
        numbered = enumerate(
            zip(columns.event_types, columns.data, columns.event_versions, strict=True), start=first
        )
        return [
            (version, kind, data, columns.aggregate_type if version == 1 else None, written)
            for version, (kind, data, written) in numbered
        ]

    def outline(self) -> list[OutlineRow]:
        """When which of them occurred, in microseconds from 1970."""
        columns, first = self._columns, self._pack.first_version
        return [
            (version, kind, moment + _FROM_1970)
            for version, (kind, moment) in enumerate(
                zip(columns.event_types, accumulate(columns.occurred), strict=True), start=first
            )
        ]

    def events(self) -> list[Event]:
        """The events; each has the digest that it had.

        Raises:
            PackDamaged: one of them is another.
        """
        packed, columns = self._pack, self._columns
        ids = list(each_id(packed.event_ids))
        occurred = list(accumulate(columns.occurred))
        digests = _digests(
            packed.aggregate_id,
            packed.first_version,
            ids,
            columns.event_types,
            columns.event_versions,
            occurred,
            columns.data,
            columns.metadata,
        )
        for index, digest in columns.digests.items():
            digests[index] = digest
        if sha256(b"".join(digests)).digest() != packed.digest:
            raise _damaged(packed, "the events are not those that were packed")
        positions = list(accumulate(columns.positions))
        recorded = list(accumulate(columns.recorded))
        return [
            Event(
                aggregate_type=columns.aggregate_type,
                aggregate_id=packed.aggregate_id,
                version=packed.first_version + index,
                position=positions[index],
                event_id=UUID(bytes=ids[index]),
                event_type=columns.event_types[index],
                event_version=columns.event_versions[index],
                schema_version=columns.event_versions[index],
                correlation_id=columns.correlation_ids[index],
                causation_id=columns.causation_ids[index],
                actor=columns.actors[index],
                occurred_at=_moment(occurred[index]),
                recorded_at=_moment(recorded[index]),
                raw_data=columns.data[index],
                raw_metadata=columns.metadata[index],
                digest=digests[index],
            )
            for index in range(len(ids))
        ]


def _moment(count: int) -> datetime:
    return _EPOCH + timedelta(microseconds=count)


def _damaged(packed: Pack, reason: str) -> PackDamaged:
    return PackDamaged(
        aggregate_id=packed.aggregate_id, version=packed.first_version, reason=reason
    )


def checked(run: Sequence[Event], packed: Pack, dictionary: bytes) -> Pack:
    """The pack, if what comes out of it is what went in.

    Raises:
        PackDamaged: it is not.
    """
    if Unpacked(packed, dictionary).events() != list(run):
        raise _damaged(packed, "the events that come out are not those that went in")
    return packed


def correlations(events: Iterable[Event]) -> bytes:
    """A note of each correlation id that the events have, for `correlation` to be looked for."""
    return b"".join(sorted({correlation(e.correlation_id) for e in events if e.correlation_id}))


def correlation(correlation_id: str) -> bytes:
    """Four bytes that stand for a correlation id; others may have the same."""
    return sha256(correlation_id.encode()).digest()[:4]
