"""Commands: load, decide, append; after a conflict decide again on the new state."""

import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct, to_builtins

from store.conflict import Conflict, Lost, Outcome, Tell, Verdict, same_decision
from store.domain import Aggregate, Command, Domains
from store.encoding import NO_CONTEXT
from store.errors import CommandRejected, InvalidEvent, VersionConflict
from store.folding import fold_rows
from store.identifiers import new_event_id
from store.log import EventLog
from store.payload import encode
from store.records import Context, Event, Loaded, NewEvent
from store.repository import Repository
from store.snapshots import Snapshots
from store.versions import exact

State = TypeVar("State")

ATTEMPTS = 10
LONGEST_PAUSE = 0.1
"""Seconds."""


class Executed(Struct, Generic[State], frozen=True, kw_only=True):
    """What a command came to: its events, none where nothing was to change, and the state then."""

    events: tuple[Event, ...]
    state: State
    version: int
    attempts: int


class Executor:
    """Runs commands. Safe to share between threads.

    `tell` hears of each conflict once its outcome is known, and `attempted` how often each command
    has decided.
    """

    def __init__(
        self,
        log: EventLog,
        repository: Repository,
        domains: Domains,
        snapshots: Snapshots,
        *,
        tell: Tell = lambda *_: None,
        attempted: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._log = log
        self._repository = repository
        self._domains = domains
        self._snapshots = snapshots
        self._tell = tell
        self._attempted = attempted

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
        outcome: Outcome = "escaped"
        try:
            while (executed := run.attempt(loaded)) is None:
                if len(run.conflicts) == attempts:
                    raise run.conflicts[-1]
                time.sleep(_pause(len(run.conflicts)))
                loaded = self._repository.catch_up(loaded)
            outcome = "absorbed"
        except CommandRejected:
            outcome = "absorbed"
            raise
        finally:
            if run.decisions:
                self._attempted(len(run.decisions))
            for index in range(len(run.conflicts)):
                self._tell(run.conflict(index, outcome), run.lost(index))
        self._keep(aggregate, aggregate_id, loaded.version, executed)
        return executed

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


class _Run:
    """One command, whose id and record are the same in every attempt.

    `decisions` are the events that each attempt decided on, None where it was rejected, and
    `conflicts` what the attempts before the last met, perhaps the last as well.
    """

    def __init__(
        self,
        log: EventLog,
        aggregate: Aggregate[Any],
        command: Command,
        context: Context,
        occurred_at: datetime | None,
    ) -> None:
        self.decisions: list[Sequence[NewEvent] | None] = []
        self.conflicts: list[VersionConflict] = []
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

    def attempt(self, loaded: Loaded[Any]) -> Executed[Any] | None:
        """What the command comes to; None where somebody else has appended meanwhile."""
        events = self._decided(loaded.state)
        number = len(self.decisions)
        if not events:
            return Executed(events=(), state=loaded.state, version=loaded.version, attempts=number)
        # Before the append: what the fold cannot take must not be stored.
        state = self._applied(loaded, events)
        try:
            appended = self._log.append(
                loaded.aggregate_type,
                loaded.aggregate_id,
                events,
                expected=exact(loaded.version),
                context=self._context,
            )
        except VersionConflict as conflict:
            self.conflicts.append(conflict)
            return None
        return Executed(
            events=appended.events, state=state, version=appended.version, attempts=number
        )

    def conflict(self, index: int, outcome: Outcome) -> Conflict:
        """What there is to tell of a conflict."""
        met, decided = self.conflicts[index], self.decisions[index] or ()
        return Conflict(
            aggregate_type=self._aggregate.aggregate_type,
            aggregate_id=met.aggregate_id,
            command=type(self._command).__name__,
            event_types=tuple(event.event_type for event in decided),
            expected=met.expected,
            actual=met.actual,
            attempt=index + 1,
            outcome=outcome,
            verdict=self._verdict(index),
            actor=self._context.actor,
            correlation_id=self._context.correlation_id,
        )

    def lost(self, index: int) -> Lost:
        """What the attempt wanted to append."""
        return Lost(command=self._command, events=self.decisions[index] or ())

    def _verdict(self, index: int) -> Verdict | None:
        """What the next attempt has shown, if there was one."""
        if index + 1 == len(self.decisions):
            return None
        before, again = self.decisions[index], self.decisions[index + 1]
        if again is None:
            return "rejected"
        if not again:
            return "nothing"
        return "same" if same_decision(before or (), again) else "other"

    def _decided(self, state: Any) -> Sequence[NewEvent]:
        try:
            events = [self._new_event(event) for event in self._command.decide(state)]
        except CommandRejected:
            self.decisions.append(None)
            raise
        self.decisions.append(events)
        return events

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
