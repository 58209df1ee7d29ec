"""Everything the store raises.

EventStoreError
├── InvalidEvent(ValueError)            a record that may not be stored; the reason names the place
│   └── PayloadTooLarge
├── ConcurrencyError
│   ├── VersionConflict                 somebody else appended first
│   ├── Deadlock                        two transactions waited for each other; run yours again
│   └── DatabaseBusy                    SQLite's only writer stayed away too long
├── IdentityError
│   ├── DuplicateEventId                the id is known with other content
│   ├── PartialDuplicate                some ids of the batch are known, some are not
│   └── AggregateTypeMismatch           the aggregate id belongs to another type
├── OutcomeUnknown                      the connection died and nobody answered since
├── StoreUnavailable                    the database cannot be reached
│   └── StatementTimeout                a statement took longer than it may
├── MetricsUnavailable                  who keeps the metrics does not answer
├── SinkUnavailable                     where events are published to is away: no event's fault
│   └── RedisUnavailable                Redis does not answer, or refuses
├── SchemaError                         the database's schema does not fit this code
│   └── NoStore                         there is none
├── AccessDenied                        the database role may not do this
├── NotFound(LookupError)
│   ├── AggregateNotFound
│   ├── VersionNotFound
│   ├── RecordNotFound                  no such record in the outbox
│   ├── SnapshotNotFound                no snapshot of this code's fold that can be read
│   └── NoEventYet                      the aggregate exists, but not by the time asked for
├── ProjectionError
│   ├── ProjectionUnknown(LookupError)  no domain declares it
│   ├── ProjectionNotBuilt              it has no table yet
│   ├── ProjectionOutdated              its table is of other code than this
│   ├── ProjectionBehind                it has not come that far in time
│   ├── ProjectionFailed                it cannot take an event
│   ├── KeyAltered                      the database has a row's key as another value
│   ├── RebuildInterrupted              somebody else builds the same, or has replaced it
│   └── ReadModelInUse                  something stands in the way of its table
├── InvalidQuestion(ValueError)         what a read model cannot be asked; says why
├── RecordRefused                       a record of the outbox that is not to be changed like that
├── InvalidSetting(ValueError)          the environment says what cannot be; names the variable
├── InvalidDomain(ValueError)           a service's declaration that does not fit; names the place
├── CommandRejected                     a rule of the domain forbids the command
├── CommandUnknown                      no domain has the command
├── UnknownEventType                    the aggregate has no event of that name
├── ApplyFailed                         an event cannot be folded; carries what was reached
├── HistoryGap                          a version is missing from a history
├── ArchiveBusy                         somebody else archives, or restores, just now
├── PackDamaged                         archived events are not as they were packed
├── SnapshotAhead                       a snapshot is of a version that has no event
├── SnapshotRefused                     a state that would not come back from JSON as it is
├── TraceTooLarge                   a history of more bytes than fit into one file
├── InvalidExpression(ValueError)       a question that is no CEL; says where
├── NotAPredicate(ValueError)           a question whose answer is neither true nor false
├── ExpressionTooCostly                 a question that took too long, or too much memory
└── InvalidSource(ValueError)           an event file or URL that cannot be read
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

_SHOWN = 80
"""Characters of somebody's text that a message repeats."""


class EventStoreError(Exception):
    """Base of every error the store raises."""


class InvalidEvent(EventStoreError, ValueError):
    """An event, id or payload that may not be stored; the message says where and why."""


class PayloadTooLarge(InvalidEvent):
    """The encoded payload is larger than the store takes."""

    def __init__(self, *, field: str, size: int, limit: int) -> None:
        super().__init__(f"{field} is {size:,} bytes of JSON; the limit is {limit:,}")
        self.field = field
        self.size = size
        self.limit = limit


class ConcurrencyError(EventStoreError):
    """Another writer was in the way; deciding again on fresh state may succeed."""


class VersionConflict(ConcurrencyError):
    """The aggregate was not at the expected version; nothing was written.

    `actual` is None where the database only said that transactions could not be serialised.
    """

    def __init__(self, *, aggregate_id: str, expected: int | None, actual: int | None) -> None:
        found = "it changed concurrently" if actual is None else f"it is at {actual}"
        super().__init__(f"{aggregate_id!r}: expected version {expected}, {found}")
        self.aggregate_id = aggregate_id
        self.expected = expected
        self.actual = actual


class Deadlock(ConcurrencyError):
    """The database broke a deadlock by ending this transaction; its owner runs it again."""


class DatabaseBusy(ConcurrencyError):
    """Another process held SQLite's write lock for longer than the busy timeout."""


class IdentityError(EventStoreError):
    """An id is already in use for something else."""


class DuplicateEventId(IdentityError):
    """The event id is known on this aggregate with another type, schema version or data."""

    def __init__(self, *, aggregate_id: str, event_id: UUID) -> None:
        super().__init__(f"{aggregate_id!r}: event {event_id} is already stored with other content")
        self.aggregate_id = aggregate_id
        self.event_id = event_id


class PartialDuplicate(IdentityError):
    """Some event ids of one batch are already stored, others are not; nothing was written."""

    def __init__(self, *, aggregate_id: str, known: Sequence[UUID], new: Sequence[UUID]) -> None:
        super().__init__(
            f"{aggregate_id!r}: {len(known)} of {len(known) + len(new)} events are already stored"
        )
        self.aggregate_id = aggregate_id
        self.known = tuple(known)
        self.new = tuple(new)


class AggregateTypeMismatch(IdentityError):
    """The aggregate id is in use by an aggregate of another type."""

    def __init__(self, *, aggregate_id: str, given: str, actual: str) -> None:
        super().__init__(f"{aggregate_id!r} is of type {actual!r}, not {given!r}")
        self.aggregate_id = aggregate_id
        self.given = given
        self.actual = actual


class OutcomeUnknown(EventStoreError):
    """The connection was lost during commit and the database has not answered since.

    Append the same events, with the same ids, again: what was stored is recognised.
    """

    def __init__(self, *, event_ids: Sequence[UUID]) -> None:
        super().__init__(
            f"connection lost while committing {len(event_ids)} event(s); append the same ids again"
        )
        self.event_ids = tuple(event_ids)


class StoreUnavailable(EventStoreError):
    """The database cannot be reached; nothing was written."""


class StatementTimeout(StoreUnavailable):
    """The database ended a statement that took longer than it may."""


class SinkUnavailable(EventStoreError):
    """Where events are published to is away; publishers and handlers raise it.

    That is no attempt at the event: it is tried again, however often, until somebody is there.
    """


class RedisUnavailable(SinkUnavailable):
    """Redis does not answer, or refuses; who only uses the cache goes on without."""


class MetricsUnavailable(EventStoreError):
    """Who keeps the metrics does not answer; the message says who and why."""


class SchemaError(EventStoreError):
    """The database's schema does not fit this code; the message says what to run."""


class NotFound(EventStoreError, LookupError):
    """What was asked for is not in the store."""


class AggregateNotFound(NotFound):
    """No event of this aggregate is stored."""

    def __init__(self, aggregate_id: str) -> None:
        super().__init__(f"no aggregate {aggregate_id!r}")
        self.aggregate_id = aggregate_id


class VersionNotFound(NotFound):
    """The aggregate has fewer events."""

    def __init__(self, aggregate_id: str, version: int, *, newest: int) -> None:
        super().__init__(f"{aggregate_id!r} has no version {version}; it is at {newest}")
        self.aggregate_id = aggregate_id
        self.version = version
        self.newest = newest


class NoEventYet(NotFound):
    """The aggregate's first event came later."""

    def __init__(self, aggregate_id: str, as_of: datetime | None) -> None:
        by = as_of.isoformat() if as_of else "then"
        super().__init__(f"{aggregate_id!r} has no event by {by}")
        self.aggregate_id = aggregate_id
        self.as_of = as_of


class SnapshotNotFound(NotFound):
    """The aggregate has no snapshot of this code's fold, or `reason` says why it is ignored."""

    def __init__(self, *, aggregate_id: str, reason: str | None) -> None:
        why = f": it is ignored, {reason}" if reason else " of this code's fold"
        super().__init__(f"no snapshot of {aggregate_id!r}{why}")
        self.aggregate_id = aggregate_id
        self.reason = reason


class RecordNotFound(NotFound):
    """The outbox has no record of the event: it never had, or it was published and trimmed."""

    def __init__(self, aggregate_id: str, version: int | None = None) -> None:
        which = "" if version is None else f" version {version}"
        super().__init__(f"the outbox has no record of {aggregate_id!r}{which}")
        self.aggregate_id = aggregate_id
        self.version = version


class ProjectionError(EventStoreError):
    """Something is the matter with a projection."""


class ProjectionUnknown(ProjectionError, LookupError):
    """No domain declares a projection of that name."""

    def __init__(self, *, projection: str, known: Sequence[str]) -> None:
        there = f"there are {', '.join(known)}" if known else "no domain declares any"
        super().__init__(f"no projection {_short(projection)!r}; {there}")
        self.projection = projection
        self.known = tuple(known)


class ProjectionNotBuilt(ProjectionError):
    """The projection has no table yet."""

    def __init__(self, *, projection: str) -> None:
        super().__init__(
            f"projection {projection!r} has no table yet; run: hindsight projections run"
        )
        self.projection = projection


class ProjectionOutdated(ProjectionError):
    """The table of the projection was made by another version of the code."""

    def __init__(self, *, projection: str, built: int, declared: int) -> None:
        todo = f"; run: hindsight projections rebuild {projection}" if built < declared else ""
        super().__init__(
            f"projection {projection!r}: its table is version {built}, this code has version"
            f" {declared}{todo}"
        )
        self.projection = projection
        self.built = built
        self.declared = declared


class ProjectionBehind(ProjectionError):
    """The projection has not come to a position in the time given."""

    def __init__(self, *, projection: str, position: int, reached: int, why: str) -> None:
        super().__init__(
            f"projection {projection!r} is at position {reached}, not yet at {position}{why}"
        )
        self.projection = projection
        self.position = position
        self.reached = reached


class ProjectionFailed(ProjectionError):
    """The projection cannot take an event; `handler` is None where the event cannot be read."""

    def __init__(
        self,
        *,
        projection: str,
        position: int,
        aggregate_id: str,
        version: int,
        event_type: str,
        handler: str | None,
        error: Exception,
    ) -> None:
        where = f"{aggregate_id!r} version {version} (position {position})"
        by = "" if handler is None else f"handler {handler!r}: "
        super().__init__(
            f"projection {projection!r} stopped at {event_type} of {where}: {by}"
            f"{type(error).__name__}: {error}"
        )
        self.projection = projection
        self.position = position
        self.aggregate_id = aggregate_id
        self.version = version
        self.event_type = event_type
        self.handler = handler
        self.error = error


class KeyAltered(ProjectionError):
    """The database keeps a part of a row's key as another value than was given: cut, or padded."""

    def __init__(self, *, projection: str, column: str, given: object, kept: object) -> None:
        values = f"{_short(repr(given))} as {_short(repr(kept))}"
        super().__init__(f"projection {projection!r}: column {column!r} of its key keeps {values}")
        self.projection = projection
        self.column = column
        self.given = given
        self.kept = kept


class RebuildInterrupted(ProjectionError):
    """Somebody else builds the same table, or has put another in place meanwhile."""

    def __init__(self, *, projection: str) -> None:
        super().__init__(
            f"projection {projection!r}: somebody else builds it, too, or has replaced its table;"
            " this one replaced nothing"
        )
        self.projection = projection


class ReadModelInUse(ProjectionError):
    """Something else in the database stands in the way of a read model's table."""

    def __init__(self, *, table: str, detail: str) -> None:
        super().__init__(f"table {table!r}: {detail}")
        self.table = table
        self.detail = detail


class InvalidQuestion(EventStoreError, ValueError):
    """A read model cannot be asked that; the message says what is wrong, and where."""


class RecordRefused(EventStoreError):
    """A record of the outbox cannot be redriven or skipped as it is; the message says why."""

    def __init__(self, *, aggregate_id: str, version: int, reason: str) -> None:
        super().__init__(f"{aggregate_id!r} version {version}: {reason}")
        self.aggregate_id = aggregate_id
        self.version = version
        self.reason = reason


class InvalidSource(EventStoreError, ValueError):
    """An event file or store URL that cannot be read; the message says what and where."""


class NoStore(SchemaError):
    """There is no event store in the database; the message says what was looked for."""


class AccessDenied(EventStoreError):
    """The database role may not do this."""


class InvalidSetting(EventStoreError, ValueError):
    """A variable of the environment has a value that means nothing."""


class InvalidDomain(EventStoreError, ValueError):
    """A domain's declaration, or the path to it, that does not fit; the message names the place."""


class CommandRejected(EventStoreError):
    """A rule of the domain forbids the command; nothing was written. Domains raise it."""


class CommandUnknown(EventStoreError):
    """No domain of this store has the command."""

    def __init__(self, *, command: str) -> None:
        super().__init__(f"command {command!r} belongs to no aggregate of this store's domains")
        self.command = command


class UnknownEventType(EventStoreError):
    """The domain's aggregate has no event of that name."""

    def __init__(self, *, aggregate_type: str, event_type: str) -> None:
        super().__init__(f"aggregate {aggregate_type!r} has no event {event_type!r}")
        self.aggregate_type = aggregate_type
        self.event_type = event_type


class SchemaTooNew(EventStoreError):
    """An event was written by newer code; nothing is guessed of what its data means."""

    def __init__(self, *, event_type: str, event_version: int, newest: int) -> None:
        super().__init__(
            f"{event_type!r} has schema version {event_version}, newer than {newest},"
            " the last this code reads; deploy the code that wrote it"
        )
        self.event_type = event_type
        self.event_version = event_version
        self.newest = newest


class UpcasterMissing(EventStoreError):
    """An event was written in a schema version that no upcaster takes up."""

    def __init__(self, *, event_type: str, event_version: int, newest: int) -> None:
        super().__init__(
            f"{event_type!r} has schema version {event_version}, which no upcaster takes up;"
            f" this code reads {newest}"
        )
        self.event_type = event_type
        self.event_version = event_version
        self.newest = newest


class UpcastFailed(EventStoreError):
    """An upcaster raised something."""

    def __init__(
        self, *, event_type: str, from_version: int, to_version: int, cause: Exception
    ) -> None:
        super().__init__(
            f"upcaster of {event_type!r} from {from_version} to {to_version}:"
            f" {type(cause).__name__}: {cause}"
        )
        self.event_type = event_type
        self.from_version = from_version
        self.to_version = to_version


class ApplyFailed(EventStoreError):
    """An event cannot be read or applied; the state before it is in `reached_state`.

    Where an aggregate was being loaded, `reached` is that state as a `Loaded`. `position` is None
    for an event that is not stored.
    """

    reached_version: int = 0
    reached_state: Any = None
    reached: Any = None

    def __init__(
        self,
        *,
        aggregate_id: str,
        version: int,
        event_type: str,
        cause: Exception,
        position: int | None = None,
    ) -> None:
        kind = "" if isinstance(cause, EventStoreError) else f"{type(cause).__name__}: "
        place = "" if position is None else f", position {position}"
        super().__init__(f"{aggregate_id!r} version {version} ({event_type}{place}): {kind}{cause}")
        self.aggregate_id = aggregate_id
        self.version = version
        self.event_type = event_type
        self.position = position
        self.cause = cause

    def at(self, position: int | None) -> "ApplyFailed":
        """The same error, of an event that is stored at `position`."""
        located = ApplyFailed(
            aggregate_id=self.aggregate_id,
            version=self.version,
            event_type=self.event_type,
            cause=self.cause,
            position=position,
        )
        located.reached_version, located.reached_state = self.reached_version, self.reached_state
        located.reached = self.reached
        return located


class TraceTooLarge(EventStoreError):
    """A history of more bytes than a trace may hold; `version` is the first that did not fit."""

    def __init__(self, *, version: int, limit: int) -> None:
        super().__init__(
            f"the trace is over {limit // 1_000_000:,} MB from version {version} on;"
            " write fewer versions, with --from and --to"
        )
        self.version = version
        self.limit = limit


class SnapshotAhead(EventStoreError):
    """A snapshot is of a version that has no event: events were lost, or it is of another store."""

    def __init__(self, *, aggregate_id: str, version: int, newest: int) -> None:
        super().__init__(
            f"{aggregate_id!r}: a snapshot at version {version}, events up to {newest};"
            f" find out where the events went, or: hindsight snapshot {aggregate_id} --drop"
        )
        self.aggregate_id = aggregate_id
        self.version = version
        self.newest = newest


class SnapshotRefused(EventStoreError):
    """A state cannot be kept: it is no JSON, or would come back from it as another state."""

    def __init__(self, *, aggregate_id: str, version: int, reason: str) -> None:
        super().__init__(f"snapshot of {aggregate_id!r} at version {version}: {reason}")
        self.aggregate_id = aggregate_id
        self.version = version
        self.reason = reason


class HistoryGap(EventStoreError):
    """A version is missing from an aggregate's history; nothing is folded beyond the gap."""

    def __init__(self, *, aggregate_id: str, after: int, found: int) -> None:
        super().__init__(f"{aggregate_id!r}: version {found} comes after version {after}")
        self.aggregate_id = aggregate_id
        self.after = after
        self.found = found


class ArchiveBusy(EventStoreError):
    """Somebody else moves events to the archive, or back; one at a time does."""

    def __init__(self) -> None:
        super().__init__("another process archives or restores just now; try again later")


class PackDamaged(EventStoreError):
    """Archived events cannot be read; `version` is that of the first of those packed together."""

    def __init__(self, *, aggregate_id: str, version: int, reason: str) -> None:
        super().__init__(f"{aggregate_id!r}: the pack from version {version} on: {reason}")
        self.aggregate_id = aggregate_id
        self.version = version
        self.reason = reason


class InvalidExpression(EventStoreError, ValueError):
    """An expression that cannot be compiled; `line` and `column` count from 1 where it is known."""

    def __init__(
        self, text: str, reason: str, *, line: int | None = None, column: int | None = None
    ) -> None:
        place = "" if column is None else f" at column {column}"
        place += "" if line in {None, 1} else f" of line {line}"
        super().__init__(f"expression {_short(text)!r}: {reason}{place}")
        self.text = text
        self.reason = reason
        self.line = line
        self.column = column


class NotAPredicate(EventStoreError, ValueError):
    """An expression is neither true nor false at a version, so it cannot be bisected."""

    def __init__(self, text: str, *, version: int, value: str) -> None:
        super().__init__(
            f"{_short(text)!r} is {_short(value)} at version {version},"
            " neither true nor false; use watch"
        )
        self.text = text
        self.version = version
        self.value = value


class ExpressionTooCostly(EventStoreError):
    """An expression took more time or memory than it may; it was ended, with no answer."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"expression {_short(text)!r}: {reason}")
        self.text = text
        self.reason = reason


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
