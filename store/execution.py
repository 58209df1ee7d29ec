"""Commands: load, decide, append; after a conflict decide again on the new state."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct, to_builtins

from store.domain import Aggregate, Command, Domains
from store.encoding import NO_CONTEXT
from store.errors import CommandRejected, InvalidEvent, VersionConflict
from store.folding import fold_rows
from store.identifiers import new_event_id
from store.log import EventLog
from store.payload import encode
from store.records import Context, Event, NewEvent
from store.repository import Loaded, Repository
from store.snapshots import Snapshots
from store.versions import exact

_log = logging.getLogger(__name__)
State = TypeVar("State")
Outcome: TypeAlias = Literal["absorbed", "escaped"]

ATTEMPTS = 10
LONGEST_PAUSE = 0.1
"""Seconds."""


class Conflict(Struct, frozen=True, kw_only=True):
    """An attempt that found the aggregate changed since it was loaded.

    It was absorbed where the command was settled all the same, be it by a rejection, and escaped
    where the caller got an error instead. `actual` is None where the database did not tell.
    """

    aggregate_type: str
    aggregate_id: str
    command: str
    expected: int
    actual: int | None
    attempt: int
    outcome: Outcome


ConflictHook: TypeAlias = Callable[[Conflict], None]


class Executed(Struct, Generic[State], frozen=True, kw_only=True):
    """What a command came to: its events, none where nothing was to change, and the state then."""

    events: tuple[Event, ...]
    state: State
    version: int
    attempts: int


class Executor:
    """Runs commands. Safe to share between threads."""

    def __init__(
        self,
        log: EventLog,
        repository: Repository,
        domains: Domains,
        snapshots: Snapshots,
        *,
        on_conflict: ConflictHook | None = None,
    ) -> None:
        self._log = log
        self._repository = repository
        self._domains = domains
        self._snapshots = snapshots
        self._on_conflict = on_conflict

    def execute(
        self,
        aggregate_id: str,
        command: Command,
        *,
        context: Context = NO_CONTEXT,
        occurred_at: datetime | None = None,
        attempts: int = ATTEMPTS,
    ) -> Executed[Any]:
        """Let `command` decide on the aggregate's newest state, and append what it decided.

        It is a transaction of its own. When somebody else appended first, the events since are
        read and the command decides again, at most `attempts` times, after a short random pause.
        What `command.recorded()` returns is kept with a new id in its events' metadata. Afterwards,
        in this thread, a snapshot is taken where one is due.

        Raises:
            CommandRejected: a rule of the domain forbids it.
            CommandUnknown: no domain has the command.
            VersionConflict: somebody else was first each time.
            AggregateTypeMismatch, ApplyFailed, OutcomeUnknown: as loading and appending do.
        """
        if attempts < 1:
            raise InvalidEvent(f"attempts: {attempts} is not a number from 1")
        aggregate = self._domains.of_command(command)
        run = _Run(self._log, aggregate, command, context, occurred_at)
        loaded = self._repository.newest(aggregate_id, aggregate.aggregate_type)
        conflicts: list[VersionConflict] = []
        outcome: Outcome = "escaped"
        try:
            while True:
                try:
                    executed = run.attempt(loaded, number=len(conflicts) + 1)
                except VersionConflict as conflict:
                    conflicts.append(conflict)
                    if len(conflicts) == attempts:
                        raise
                else:
                    outcome = "absorbed"
                    self._keep(aggregate, aggregate_id, loaded.version, executed)
                    return executed
                time.sleep(_pause(len(conflicts)))
                loaded = self._repository.catch_up(loaded)
        except CommandRejected:
            outcome = "absorbed"
            raise
        finally:
            self._tell(aggregate, command, conflicts, outcome)

    def _keep(
        self, aggregate: Aggregate[Any], aggregate_id: str, before: int, executed: Executed[Any]
    ) -> None:
        self._snapshots.keep_if_due(
            aggregate,
            aggregate_id,
            before=before,
            version=executed.version,
            state=executed.state,
        )

    def _tell(
        self,
        aggregate: Aggregate[Any],
        command: Command,
        conflicts: Sequence[VersionConflict],
        outcome: Outcome,
    ) -> None:
        if self._on_conflict is None:
            return
        for attempt, conflict in enumerate(conflicts, start=1):
            told = Conflict(
                aggregate_type=aggregate.aggregate_type,
                aggregate_id=conflict.aggregate_id,
                command=type(command).__name__,
                expected=conflict.expected or 0,
                actual=conflict.actual,
                attempt=attempt,
                outcome=outcome,
            )
            try:
                self._on_conflict(told)
            except Exception:  # noqa: BLE001 (the hook's code; the events are stored already)
                _log.exception("on_conflict failed for %r", told)


class _Run:
    """One command, whose id and record are the same in every attempt."""

    def __init__(
        self,
        log: EventLog,
        aggregate: Aggregate[Any],
        command: Command,
        context: Context,
        occurred_at: datetime | None,
    ) -> None:
        self._log = log
        self._aggregate = aggregate
        self._command = command
        self._context = context
        self._occurred_at = occurred_at
        record = {
            "id": str(new_event_id()),
            "name": type(command).__name__,
            "data": _as_json(f"{type(command).__name__}.recorded()", command.recorded()),
        }
        self._metadata = {"command": record}

    def attempt(self, loaded: Loaded[Any], *, number: int) -> Executed[Any]:
        decided = tuple(self._command.decide(loaded.state))
        if not decided:
            return Executed(events=(), state=loaded.state, version=loaded.version, attempts=number)
        events = [self._new_event(event) for event in decided]
        # Before the append: what the fold cannot take must not be stored.
        state = self._applied(loaded, events)
        appended = self._log.append(
            loaded.aggregate_type,
            loaded.aggregate_id,
            events,
            expected=exact(loaded.version),
            context=self._context,
        )
        return Executed(
            events=appended.events, state=state, version=appended.version, attempts=number
        )

    def _applied(self, loaded: Loaded[Any], events: Sequence[NewEvent]) -> Any:
        """The state after the events as they will be read from their JSON."""
        rows = [
            (
                version,
                event.event_type,
                encode("data", event.data),
                loaded.aggregate_type,
                event.schema_version,
            )
            for version, event in enumerate(events, start=loaded.version + 1)
        ]
        state, _ = fold_rows(
            self._aggregate,
            loaded.aggregate_id,
            rows,
            state=loaded.state,
            version=loaded.version,
        )
        return state

    def _new_event(self, event: Struct) -> NewEvent:
        return NewEvent(
            type(event).__name__,
            _as_json(type(event).__name__, event),
            schema_version=self._aggregate.schema_versions.get(type(event).__name__, 1),
            metadata=self._metadata,
            occurred_at=self._occurred_at,
        )


def _as_json(name: str, value: Any) -> Any:
    try:
        return to_builtins(value, str_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"{name}: {error}") from error


def _pause(conflicts: int) -> float:
    return random.uniform(0, min(LONGEST_PAUSE, 0.001 * 2**conflicts))  # noqa: S311 (jitter)
