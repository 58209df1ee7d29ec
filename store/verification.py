"""Checking that what is stored is what was written.

Everything is read once, in the order of aggregate ids and versions, heads beside their events, a
batch of each in memory. A head is read before its events, so all of them up to its version are
committed by then; events beyond it are a fault only if the head, read once more, still does not
know them. So nothing that is appended meanwhile causes a false alarm.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Literal, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection

from store import payload
from store.archived import PACKS, Archived
from store.database import Database, Row
from store.digest import event_digest
from store.domain import Aggregate, Domains
from store.drift import Kept, Replayed, drift_of, fault_of, kept_snapshots
from store.encoding import lifted
from store.errors import AggregateNotFound, PackDamaged
from store.folding import applied, changed_fields
from store.packs import Pack
from store.reader import EventReader
from store.records import Event

FindingKind: TypeAlias = Literal[
    "unreadable",  # a row that is no event
    "archive",  # archived events that cannot be read, or are not those that were archived
    "digest",  # the event is not as it was written
    "column",  # a column differs from the metadata it was lifted from
    "version",  # versions are not 1, 2, 3…
    "position",  # the feed shows an event before its predecessor
    "recorded_at",  # recorded before its predecessor
    "type",  # an event of another aggregate type than its head
    "replay",  # the domain's code cannot fold the event
    "impure",  # folding the same events twice gives two states
    "snapshot",  # a snapshot that no load can use
    "drift",  # a snapshot that is not what a full replay comes to
    "head",  # a head that does not sum up its events
    "no head",
    "no events",
]

DAMAGED = (ValueError, TypeError, AttributeError, RecursionError, struct.error)
"""What reading a row raises that holds something else than an event."""
NO_DOMAINS = Domains()
Stored: TypeAlias = Row | Event
"""An event that is active, as it is read, for that may fail; or one from the archive."""
KEPT_FINDINGS = 1_000
BATCH = 500
_MAX = 2**63 - 1


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong; version and position are the event's, where it is about one."""

    kind: FindingKind
    aggregate_id: str
    version: int | None = None
    position: int | None = None
    explanation: str


class Verification(Struct, frozen=True, kw_only=True):
    """How much was checked and what is wrong: the first findings, and how many there are.

    Of the `events`, so many were `replayed` by domain code, and as many `snapshots` compared.
    """

    aggregates: int
    events: int
    replayed: int
    snapshots: int
    findings: tuple[Finding, ...]
    finding_count: int


class _Head(Struct, frozen=True):
    """A head as the driver gives it: in a damaged one the times may be anything."""

    aggregate_id: str
    aggregate_type: str
    version: int
    first_occurred_at: Any
    last_occurred_at: Any
    last_recorded_at: Any


def verify(
    log: EventReader,
    aggregate_id: str | None = None,
    progress: Callable[[int], None] = lambda _: None,
    *,
    domains: Domains = NO_DOMAINS,
) -> Verification:
    """Check one aggregate, or the whole store; `progress` hears how many events were read now.

    Aggregates of the `domains` are replayed too, twice, side by side, and their snapshots compared.

    Raises:
        AggregateNotFound: neither a head nor an event of it is stored.
    """
    check = _Check(log.database, progress, domains)
    if aggregate_id is None:
        check.everything()
    else:
        head = _head(log.database, aggregate_id)
        check.histories([head] if head else [], after=(aggregate_id, -_MAX), last=aggregate_id)
        if not check.aggregates:
            raise AggregateNotFound(aggregate_id)
    return Verification(
        aggregates=check.aggregates,
        events=check.events,
        replayed=check.replayed,
        snapshots=check.snapshots,
        findings=tuple(check.findings),
        finding_count=check.finding_count,
    )


class _Check:
    """A verification under way."""

    def __init__(
        self, database: Database, progress: Callable[[int], None], domains: Domains
    ) -> None:
        self.aggregates = 0
        self.events = 0
        self.replayed = 0
        self.snapshots = 0
        self._domains = domains
        self.findings: list[Finding] = []
        self.finding_count = 0
        self._database = database
        self._archived = Archived(database)
        self._progress = progress

    def everything(self) -> None:
        """Check the store in ranges of ids, each as wide as a batch of heads."""
        first = ""
        while True:
            heads = _heads(self._database, first)
            last = heads[-1].aggregate_id if len(heads) == BATCH else None
            self.histories(heads, after=(first, _MAX), last=last)
            if last is None:
                return
            first = last

    def histories(self, heads: list[_Head], *, after: tuple[str, int], last: str | None) -> None:
        """Check the heads, and all events behind `after` up to the aggregate `last`."""
        waiting = {head.aggregate_id: head for head in heads}
        kept = dict(kept_snapshots(self._database, self._domains, after=after, last=last))
        for aggregate_id, rows in groupby(self._rows(after, last), key=_aggregate_id):
            snapshots = kept.pop(aggregate_id, ())
            self._history(aggregate_id, waiting.pop(aggregate_id, None), rows, snapshots)
        for snapshots in kept.values():
            self._ahead(snapshots, newest=0)
        for head in waiting.values():
            self.aggregates += 1
            self._report("no events", head.aggregate_id, f"a head at version {head.version}")

    def _rows(self, after: tuple[str, int], last: str | None) -> Iterator[Stored]:
        while True:
            with self._database.snapshot() as connection:
                found, reached = self._page(after, last, connection)
            yield from found
            self._progress(len(found))
            if reached is None:
                return
            after = reached

    def _page(
        self, after: tuple[str, int], last: str | None, connection: Connection
    ) -> tuple[list[Stored], tuple[str, int] | None]:
        """The next events, archived or not, and up to where they go; None where that is all."""
        rows: list[Stored] = list(self._active(after, last, connection))
        reached = _key(rows[-1]) if len(rows) == BATCH else None
        packs = self._archived.stored(connection, after=after, last=last, until=reached)
        if len(packs) == PACKS:
            final = packs[-1][0]
            reached = final.aggregate_id, final.last_version
            rows = [row for row in rows if _key(row) <= reached]
        for packed, batch in packs:
            try:
                rows += self._archived.unpacked(packed, batch, connection).events()
            except PackDamaged as error:
                self._report_damaged(packed, error)
        wanted = [
            row for row in rows if _key(row) > after and (not reached or _key(row) <= reached)
        ]
        return sorted(wanted, key=_key), reached

    def _active(
        self, after: tuple[str, int], last: str | None, connection: Connection
    ) -> Sequence[Row]:
        database = self._database
        bound = "" if last is None else f"AND aggregate_id <= {database.bind('last')}"
        sql = f"""
            SELECT {database.event_columns} FROM events
            WHERE (aggregate_id, version) > ({database.bind("id")}, {database.bind("version")})
            {bound} ORDER BY aggregate_id, version LIMIT {database.bind("size")}
        """  # noqa: S608 (placeholders)
        parameters = {"id": after[0], "version": after[1], "size": BATCH}
        given = parameters | ({} if last is None else {"last": last})
        return database.rows(sql, given, connection)

    def _history(
        self,
        aggregate_id: str,
        head: _Head | None,
        rows: Iterable[Stored],
        snapshots: Sequence[Kept],
    ) -> None:
        self.aggregates += 1
        seen, replay = _Seen(), _Replay(self._domains)
        drift = _Drift(snapshots)
        for row in rows:
            self.events += 1
            place = _place(row)
            event = self._event(aggregate_id, row)
            for kind, explanation in seen.next(*place, event, head):
                self._report(kind, aggregate_id, explanation, place)
            for kind, explanation in replay.next(event):
                self._report(kind, aggregate_id, explanation, place)
            for kind, explanation in drift.next(place[0], event, replay):
                self._report(kind, aggregate_id, explanation, place)
        self.replayed += replay.events
        self.snapshots += drift.compared
        self._ahead([each for each in snapshots if each.version > seen.version], seen.version)
        if head is not None:
            for explanation in seen.faults_of(head, self._database):
                self._report("head", aggregate_id, explanation)
        if seen.version > (head.version if head else 0):
            self._report_unknown_to_head(aggregate_id, seen)

    def _ahead(self, snapshots: Iterable[Kept], newest: int) -> None:
        for each in snapshots:
            told = f"it is at version {each.version}, the events end at {newest}"
            self._report("snapshot", each.aggregate_id, told)

    def _report_damaged(self, packed: Pack, error: PackDamaged) -> None:
        place = packed.first_version, None
        self._report("archive", packed.aggregate_id, error.reason, place)

    def _event(self, aggregate_id: str, row: Stored) -> Event | None:
        """The event in a row, if it is one, after a look at what it alone can tell."""
        try:
            event = row if isinstance(row, Event) else self._database.event(row)
            for written in (event.raw_data, event.raw_metadata):
                payload.decode(written)
            digest = _digest(event)
        except DAMAGED as error:
            self._report("unreadable", aggregate_id, str(error), _place(row))
            return None
        if digest != event.digest:
            told = "the event is not as it was written"
            self._report("digest", aggregate_id, told, _place(row))
        for name in ("correlation_id", "causation_id", "actor"):
            expected, found = lifted(event.metadata, name), getattr(event, name)
            if found != expected:
                told = f"{name} is {found!r}, in the metadata {expected!r}"
                self._report("column", aggregate_id, told, _place(row))
        return event

    def _report_unknown_to_head(self, aggregate_id: str, seen: "_Seen") -> None:
        head = _head(self._database, aggregate_id)
        if head is None:
            told = f"events up to version {seen.version}"
            self._report("no head", aggregate_id, told)
        elif head.version < seen.version:
            told = f"version is {head.version}, the last event's {seen.version}"
            self._report("head", aggregate_id, told)

    def _report(
        self,
        kind: FindingKind,
        aggregate_id: str,
        explanation: str,
        place: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self.finding_count += 1
        if len(self.findings) < KEPT_FINDINGS:
            finding = Finding(
                kind=kind,
                aggregate_id=aggregate_id,
                version=place[0],
                position=place[1],
                explanation=explanation,
            )
            self.findings.append(finding)


class _Seen:
    """What an aggregate's events so far add up to."""

    def __init__(self) -> None:
        self.version = 0
        self._position = 0
        self._recorded_at: datetime | None = None
        self._sums: tuple[datetime, datetime, datetime] | None = None
        self._all_readable = True

    def next(
        self, version: int, position: int, event: Event | None, head: _Head | None
    ) -> Iterator[tuple[FindingKind, str]]:
        """Add an event, None for one that cannot be read; says what does not follow on."""
        if version != self.version + 1:
            yield "version", f"follows version {self.version}"
        if position <= self._position:
            yield "position", f"follows position {self._position}"
        self.version, self._position = version, position
        if event is None:
            self._all_readable = False
            return
        recorded_at = event.recorded_at
        assert recorded_at is not None, "our tables keep it"  # noqa: S101
        if self._recorded_at is not None and recorded_at < self._recorded_at:
            yield "recorded_at", f"recorded {recorded_at}, its predecessor {self._recorded_at}"
        self._recorded_at = recorded_at
        if head is None:
            return
        if event.aggregate_type != head.aggregate_type:
            yield "type", f"an event of {event.aggregate_type!r}, a head of {head.aggregate_type!r}"
        if version <= head.version:
            self._sum_up(event.occurred_at, recorded_at)

    def _sum_up(self, occurred_at: datetime, recorded_at: datetime) -> None:
        first, last, recorded = self._sums or (occurred_at, occurred_at, recorded_at)
        self._sums = min(first, occurred_at), max(last, occurred_at), max(recorded, recorded_at)

    def faults_of(self, head: _Head, database: Database) -> Iterator[str]:
        """Where the head is not the sum of the events up to its version."""
        if self.version < head.version:
            yield f"version is {head.version}, the last event's {self.version}"
        if self._sums is None or not self._all_readable:
            return
        names = ("first_occurred_at", "last_occurred_at", "last_recorded_at")
        for name, expected in zip(names, map(database.value, self._sums), strict=True):
            if getattr(head, name) != expected:
                yield f"{name} is {getattr(head, name)}, by its events {expected}"


class _Replay:
    """An aggregate folded twice by its domain's code, up to an event that cannot be folded."""

    def __init__(self, domains: Domains) -> None:
        self.events = 0
        self.ended = False
        self._domains = domains
        self._aggregate: Aggregate[Any] | None = None
        self._states: tuple[Any, Any] = (None, None)
        self._impure = self._upcasted = self._altered = False

    @property
    def replayed(self) -> Replayed:
        """What it has come to."""
        return Replayed(
            state=self._states[0],
            upcasted=self._upcasted,
            altered=self._altered,
            impure=self._impure,
        )

    def next(self, event: Event | None) -> Iterator[tuple[FindingKind, str]]:
        """Fold one more event, None for one that cannot be read; says what is wrong with it."""
        if self._aggregate is None and event is not None:
            self._begin(event.aggregate_type)
        if self.ended or event is None or self._aggregate is None:
            self.ended = True
            return
        self.events += 1
        self._altered = self._altered or _digest(event) != event.digest
        try:
            upcasting = self._aggregate.upcasting.path(event.event_type, event.event_version)
            self._upcasted = self._upcasted or bool(upcasting)
            self._states = tuple(self._folded(event, state) for state in self._states)
        except Exception as cause:  # noqa: BLE001 (a domain's code may raise anything)
            self.ended = True
            named = type(cause).__name__
            yield "replay", f"{event.event_type} cannot be folded: {named}: {cause}"
            return
        if not self._impure and (differing := changed_fields(*self._states)):
            self._impure = True
            yield "impure", f"two replays differ in {', '.join(differing)}"

    def _begin(self, aggregate_type: str) -> None:
        self._aggregate = self._domains.aggregate(aggregate_type)
        if self._aggregate is not None:
            self._states = (self._aggregate.initial, self._aggregate.initial)

    def _folded(self, event: Event, state: Any) -> Any:
        assert self._aggregate is not None  # noqa: S101
        typed = self._aggregate.decode(event.event_type, event.raw_data, event.event_version)
        return applied(self._aggregate, state, typed)


class _Drift:
    """An aggregate's snapshots beside its replay, as far as that gets."""

    def __init__(self, snapshots: Sequence[Kept]) -> None:
        self.compared = 0
        self._snapshots = snapshots
        self._equal_at: int | None = None

    def next(
        self, version: int, event: Event | None, replay: _Replay
    ) -> Iterator[tuple[FindingKind, str]]:
        """Compare what was taken at this version."""
        for kept in self._snapshots:
            if kept.version != version:
                continue
            if fault := fault_of(kept, None if event is None else event.digest):
                yield "snapshot", fault
            elif not replay.ended:
                self.compared += 1
                drift = drift_of(kept, replay.replayed, self._equal_at)
                if drift is None:
                    self._equal_at = version
                else:
                    yield "drift", drift


def _heads(database: Database, after: str) -> list[_Head]:
    rows = database.rows(
        f"SELECT {', '.join(_Head.__struct_fields__)} FROM aggregates"  # noqa: S608
        f" WHERE aggregate_id > {database.bind('id')}"
        f" ORDER BY aggregate_id LIMIT {database.bind('size')}",
        {"id": after, "size": BATCH},
    )
    return [_Head(*row) for row in rows]


def _head(database: Database, aggregate_id: str) -> _Head | None:
    rows = database.rows(
        f"SELECT {', '.join(_Head.__struct_fields__)} FROM aggregates"  # noqa: S608
        f" WHERE aggregate_id = {database.bind('id')}",
        {"id": aggregate_id},
    )
    return _Head(*rows[0]) if rows else None


def _aggregate_id(row: Stored) -> str:
    return _key(row)[0]


def _key(row: Stored) -> tuple[str, int]:
    return (row.aggregate_id, row.version) if isinstance(row, Event) else (row[6], row[1])


def _place(row: Stored) -> tuple[int, int]:
    """Version and position."""
    return (row.version, row.position) if isinstance(row, Event) else (row[1], row[0])


def _digest(event: Event) -> bytes:
    return event_digest(
        aggregate_id=event.aggregate_id,
        version=event.version,
        event_id=event.event_id,
        event_type=event.event_type,
        event_version=event.event_version,
        occurred_at=event.occurred_at,
        data=event.raw_data,
        metadata=event.raw_metadata,
    )
