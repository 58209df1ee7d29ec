"""The parts of a store, counted and timed. What they do and raise is the bare parts'."""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

from sqlalchemy import Connection

from store.cache import Cache
from store.conflict import Conflict, ConflictHook, Lost, Tell
from store.database import Database
from store.domain import Aggregate, Domains
from store.encoding import NO_CONTEXT
from store.errors import (
    ApplyFailed,
    EventStoreError,
    InvalidEvent,
    NotFound,
    SchemaTooNew,
    UpcasterMissing,
    UpcastFailed,
    VersionConflict,
)
from store.folding import Step
from store.log import Clock, EventLog
from store.metrics import Found, Met, Metrics, Replayed, Saved
from store.records import Append, Appended, Axis, Context, Loaded, NewEvent
from store.repository import Repository
from store.snapshots import Snapshots
from store.sources import EventSource
from store.versions import ExpectedVersion

_log = logging.getLogger(__name__)
_UNREADABLE = (SchemaTooNew, UpcasterMissing, UpcastFailed)


class MeasuredLog(EventLog):
    """See `EventLog`."""

    def __init__(
        self,
        database: Database,
        *,
        name: str,
        clock: Clock | None,
        outcome_timeout: float,
        wrote: Callable[[Sequence[str]], None] | None,
        wake: Callable[[], None] | None,
        metrics: Metrics,
    ) -> None:
        super().__init__(
            database,
            name=name,
            clock=clock,
            outcome_timeout=outcome_timeout,
            wrote=wrote,
            wake=wake,
        )
        self._metrics = metrics

    def append(
        self,
        aggregate_type: str,
        aggregate_id: str,
        events: Sequence[NewEvent],
        *,
        expected: ExpectedVersion,
        context: Context = NO_CONTEXT,
        connection: Connection | None = None,
    ) -> Appended:
        """See `EventLog.append`."""
        started = perf_counter()
        types: Sequence[str] = ()
        try:
            appended = super().append(
                aggregate_type,
                aggregate_id,
                events,
                expected=expected,
                context=context,
                connection=connection,
            )
            if not appended.duplicate:
                types = [event.event_type for event in events]
            return appended
        finally:
            self._metrics.saved(Saved(perf_counter() - started, types))

    def append_all(
        self,
        appends: Sequence[Append],
        *,
        context: Context = NO_CONTEXT,
        connection: Connection | None = None,
    ) -> tuple[Appended, ...]:
        """See `EventLog.append_all`."""
        started = perf_counter()
        types: Sequence[str] = ()
        try:
            answers = super().append_all(appends, context=context, connection=connection)
            if not all(answer.duplicate for answer in answers):
                types = [event.event_type for append in appends for event in append.events]
            return answers
        finally:
            self._metrics.saved(Saved(perf_counter() - started, types))


class ConflictTeller:
    """Counts a conflict, and tells of it whoever wants to know."""

    def __init__(self, *, hook: ConflictHook | None, metrics: Metrics, record: Tell | None) -> None:
        self._hook = hook
        self._metrics = metrics
        self._record = record

    def __call__(self, conflict: Conflict, lost: Lost) -> None:
        self._metrics.met(Met(conflict.outcome, conflict.aggregate_type))
        if self._record is not None:
            self._record(conflict, lost)
        if self._hook is None:
            return
        try:
            self._hook(conflict)
        except Exception:  # noqa: BLE001 (the hook's code; the events may be stored already)
            _log.exception("on_conflict failed for %r", conflict)


class TellingLog:
    """The appends that callers make themselves: nobody absorbs their conflicts."""

    def __init__(self, log: EventLog, tell: Tell) -> None:
        self._log = log
        self._tell = tell

    def append(
        self,
        aggregate_type: str,
        aggregate_id: str,
        events: Sequence[NewEvent],
        *,
        expected: ExpectedVersion,
        context: Context = NO_CONTEXT,
        connection: Connection | None = None,
    ) -> Appended:
        """See `EventLog.append`."""
        try:
            return self._log.append(
                aggregate_type,
                aggregate_id,
                events,
                expected=expected,
                context=context,
                connection=connection,
            )
        except VersionConflict as met:
            self._escaped(met, aggregate_type, events, context)
            raise

    def append_all(
        self,
        appends: Sequence[Append],
        *,
        context: Context = NO_CONTEXT,
        connection: Connection | None = None,
    ) -> tuple[Appended, ...]:
        """See `EventLog.append_all`."""
        appends = tuple(appends)
        try:
            return self._log.append_all(appends, context=context, connection=connection)
        except VersionConflict as met:
            for lost in appends:
                if lost.aggregate_id == met.aggregate_id:
                    self._escaped(met, lost.aggregate_type, lost.events, context)
            raise

    def _escaped(
        self,
        met: VersionConflict,
        aggregate_type: str,
        events: Sequence[NewEvent],
        context: Context,
    ) -> None:
        conflict = Conflict(
            aggregate_type=aggregate_type,
            aggregate_id=met.aggregate_id,
            command=None,
            event_types=tuple(event.event_type for event in events),
            expected=met.expected,
            actual=met.actual,
            attempt=1,
            outcome="escaped",
            actor=context.actor,
            correlation_id=context.correlation_id,
        )
        self._tell(conflict, Lost(command=None, events=events))


class MeasuredRepository(Repository):
    """See `Repository`."""

    def __init__(
        self,
        source: EventSource,
        domains: Domains,
        snapshots: Snapshots,
        *,
        writable: bool,
        cache: Cache | None,
        metrics: Metrics,
    ) -> None:
        super().__init__(source, domains, snapshots, writable=writable, cache=cache)
        self._metrics = metrics
        self._at_hand = metrics.at_hand.click
        self._with_snapshots = snapshots.types

    def load(
        self,
        aggregate_id: str,
        *,
        version: int | None = None,
        as_of: datetime | None = None,
        axis: Axis = "occurred",
        max_age: float | None = None,
    ) -> Loaded[Any]:
        """See `Repository.load`."""
        if version is None and as_of is None:
            kept = self.fresh(aggregate_id, max_age)
            if kept is not None:
                self._at_hand()
                return kept
        started = perf_counter()
        try:
            loaded = self._load(aggregate_id, version, as_of, axis, max_age)
        except EventStoreError as error:
            self._failed(error, started)
            raise
        found = self._found(loaded) if as_of is None else None
        self._metrics.replayed(Replayed(perf_counter() - started, loaded.folded, found))
        return loaded

    def newest(self, aggregate_id: str, aggregate_type: str) -> Loaded[Any]:
        """See `Repository.newest`."""
        started = perf_counter()
        try:
            loaded = super().newest(aggregate_id, aggregate_type)
        except EventStoreError as error:
            self._failed(error, started)
            raise
        found = self._found(loaded)
        self._metrics.replayed(Replayed(perf_counter() - started, loaded.folded, found))
        return loaded

    def replay(
        self,
        aggregate_id: str,
        *,
        version: int | None = None,
        as_of: datetime | None = None,
        axis: Axis = "occurred",
        go_on: bool = False,
    ) -> Iterator[Step]:
        """See `Repository.replay`; counted when it is through, or has failed."""
        found = super().replay(aggregate_id, version=version, as_of=as_of, axis=axis, go_on=go_on)
        return self._walked(found)

    def _walked(self, found: Iterator[Step]) -> Iterator[Step]:
        """The steps; what is done between two of them is not the replay's time."""
        events, seconds = 0, 0.0
        while True:
            started = perf_counter()
            try:
                step = next(found, None)
            except EventStoreError as error:
                self._failed(error, started - seconds)
                raise
            seconds += perf_counter() - started
            if step is None:
                break
            events += 1
            yield step
        self._metrics.replayed(Replayed(seconds, events))

    def _found(self, loaded: Loaded[Any]) -> Found | None:
        if loaded.source == "snapshot":
            return "hit"
        if loaded.source != "replay":
            return None  # nobody looked for one
        if loaded.aggregate_type not in self._with_snapshots:
            return None
        return "miss" if loaded.ignored is None else "invalid"

    def _failed(self, error: EventStoreError, started: float) -> None:
        if isinstance(error, NotFound | InvalidEvent):
            return  # the caller's mistake
        unread = None
        if isinstance(error, ApplyFailed) and isinstance(error.cause, _UNREADABLE):
            unread = error.event_type
        self._metrics.replayed(Replayed(perf_counter() - started, None, unread=unread))


class MeasuredSnapshots(Snapshots):
    """See `Snapshots`."""

    def __init__(
        self, database: Database, domains: Domains, *, enabled: bool, metrics: Metrics
    ) -> None:
        super().__init__(database, domains, enabled=enabled)
        self._metrics = metrics

    def keep(
        self, aggregate: Aggregate[Any], aggregate_id: str, *, version: int, state: Any
    ) -> None:
        """See `Snapshots.keep`."""
        try:
            super().keep(aggregate, aggregate_id, version=version, state=state)
        except Exception:
            self._metrics.snapshot(kept=False)
            raise
        self._metrics.snapshot(kept=True)
