"""The projector: takes a projection's table along with the events, a batch at a time.

Rows and checkpoint are written in one transaction, and the checkpoint only moves from where the
batch began. So whatever dies on the way, and however many do the same, each event takes effect
once: who comes second finds that it has moved, and writes nothing.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext
from operator import eq
from typing import Literal, TypeAlias

from msgspec import Struct
from sqlalchemy import Connection, Table
from sqlalchemy.exc import SQLAlchemyError

from store.database import Database, Listener
from store.database.fence import LOOK_AHEAD, SafeBound
from store.database.read_models import beside, find, is_refusal, write
from store.domain import Domains
from store.errors import (
    EventStoreError,
    KeyAltered,
    ProjectionError,
    ProjectionFailed,
    ProjectionNotBuilt,
    ProjectionOutdated,
)
from store.projection import Key, Projection, Row
from store.projections.checkpoints import Checkpoint, Checkpoints, Target
from store.projections.failures import Failures
from store.projections.folding import Fault, Intake, folded
from store.projections.remembering import Remembered
from store.reader import EventReader
from store.records import EventHeader

__all__ = ["OnPoison", "Projected", "Projector"]

_log = logging.getLogger(__name__)

OnPoison: TypeAlias = Literal["stop", "skip"]
"""Whether a projection waits at an event that it cannot take, or goes on without it."""
Timed: TypeAlias = Callable[[Mapping[str, Sequence[float]]], None]
"""Hears, by their names, for how many seconds handlers ran each time."""

BATCH = 2_000
"""Events that are taken at once."""
POLL = 0.5
"""Seconds between two looks where nobody is woken."""
HELD = 0.05
"""Seconds between two looks while a transaction may still fill the next position."""
STAND_BY = 1.0
"""Seconds without a move after which one who stands by takes over."""
RETRY = 2.0
"""Seconds until an event that could not be taken is tried again, or the database asked again."""


class Projected(Struct, frozen=True, kw_only=True):
    """What came of one step: events that were read, rows that were written.

    `stands_by` where another projector is at work; `is_behind` where there is more to do at once.
    `skipped` is the event that was left out.
    """

    events: int = 0
    rows: int = 0
    position: int
    is_behind: bool = False
    stands_by: bool = False
    skipped: EventHeader | None = None


class _Refused(Exception):
    """The database does not take the rows as they are."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Projector:
    """Keeps one table of a projection; of a projector each thread has its own.

    Any number may run, in any number of processes: one works, the others stand by and take over
    when it stops moving. Where it cannot take an event it stops or, by `on_poison`, goes on without
    it; without those at the positions `left_out` in any case. With a `generation` it keeps
    that table, and no other.
    """

    def __init__(
        self,
        database: Database,
        domains: Domains,
        projection: Projection,
        *,
        target: Target = "live",
        generation: int | None = None,
        on_poison: OnPoison = "stop",
        left_out: Collection[int] = (),
        timed: Timed = lambda _: None,
        batch: int = BATCH,
    ) -> None:
        self.projection = projection
        self._database = database
        self._target: Target = target
        self._generation = generation
        self._table = table_of(projection, target)
        self._on_poison: OnPoison = on_poison
        self._left_out = left_out
        self._timed = timed
        self._batch = batch
        self._reader = EventReader(database, name="")
        self._checkpoints = Checkpoints(database)
        self._failures = Failures(database)
        self._bound = SafeBound(database)
        self._intake = Intake(projection, domains)
        self._where = self._intake.where
        self._remembered = Remembered()
        self._left: tuple[int, int] | None = None
        # Up to here each event is a batch of its own: one of them the database does not take.
        self._single_until = 0
        # Whether somebody may have written down that it waits at an event.
        self._may_wait = target == "live"

    def once(self, *, goal: int | None = None, within: Connection | None = None) -> Projected:
        """Take the next events, up to the position `goal`; `within` the caller's transaction.

        Raises:
            ProjectionNotBuilt, ProjectionOutdated: there is no such table of this code.
            ProjectionFailed: the next event cannot be taken; those before it were.
            EventStoreError: the database did not answer; nothing was written.
        """
        checkpoint = self._checkpoint(within)
        at = checkpoint.generation, checkpoint.position
        left, self._left = self._left, at
        if left != at:
            self._remembered.forget()
            self._bound = SafeBound(self._database)  # the database may be an earlier one
        if left not in {None, at}:
            return Projected(position=checkpoint.position, stands_by=True)
        if goal is None:
            safe = self._bound.beyond(checkpoint.position)
        else:  # the table that is read has come that far: nobody has to be waited for
            safe = min(goal, checkpoint.position + LOOK_AHEAD)
        if safe <= checkpoint.position:
            return Projected(position=checkpoint.position)
        size = 1 if checkpoint.position < self._single_until else self._batch
        events = self._reader.headers(
            after=checkpoint.position, before=safe + 1, where=self._where, limit=size
        )
        end = events[-1][0].position if len(events) == size else safe
        return self._take(checkpoint, events, end, within)

    def is_held(self) -> bool:
        """Whether a transaction is waited for that may still fill the next position."""
        return bool(self._bound.awaited())

    def run(
        self,
        stop: threading.Event,
        *,
        report: Callable[[Projected], None] = lambda _: None,
        poll: float = POLL,
    ) -> None:
        """Follow the events until `stop` is set: at once when woken, and each `poll` seconds.

        While the database is away it is asked again and again, and so is an event that cannot be
        taken.
        """
        told = ""
        while not stop.is_set():
            try:
                with self._database.listen() as listener:
                    self._work(listener, stop, report, poll)
            except EventStoreError as error:
                if str(error) != told or not isinstance(error, ProjectionError):
                    _log.warning("projection %r waits: %s", self.projection.name, error)
                told = str(error)
                stop.wait(RETRY)

    def _work(
        self,
        listener: Listener,
        stop: threading.Event,
        report: Callable[[Projected], None],
        poll: float,
    ) -> None:
        while not stop.is_set():
            projected = self.once()
            if projected.events:
                report(projected)
            if projected.is_behind:
                continue
            if projected.stands_by:
                stop.wait(STAND_BY)
            else:
                listener.wait(HELD if self.is_held() else poll, stop)

    def _checkpoint(self, within: Connection | None) -> Checkpoint:
        checkpoint = self._checkpoints.read(self.projection.name, self._target, within=within)
        if checkpoint is None or self._generation not in {None, checkpoint.generation}:
            raise ProjectionNotBuilt(projection=self.projection.name)
        if checkpoint.version != self.projection.version:
            raise ProjectionOutdated(
                projection=self.projection.name,
                built=checkpoint.version,
                declared=self.projection.version,
            )
        return checkpoint

    def _take(
        self,
        checkpoint: Checkpoint,
        events: Sequence[tuple[EventHeader, bytes | str]],
        end: int,
        within: Connection | None,
    ) -> Projected:
        wanted, unread = self._intake.taken(events)
        try:
            rows = self._rows({each.key for each in wanted}, within)
            done = folded(self.projection, wanted, rows)
            self._timed(done.timings)
            fault = done.fault or unread
            reached = end if fault is None else fault.event.position - 1
            is_moved = self._write(checkpoint, done.rows, reached, within)
        except _Refused as refused:
            self._remembered.forget()
            if within is not None:
                raise refused.cause from None  # the caller's transaction is over
            if len(events) > 1:
                self._single_until = end
                return Projected(position=checkpoint.position, is_behind=True)
            cause = refused.cause
            return self._poisoned(
                checkpoint, Fault(events[0][0], wanted[0].handler.__name__, cause)
            )
        if not is_moved:
            return Projected(position=checkpoint.position, stands_by=True)
        if fault is not None and reached > checkpoint.position:
            # The next step finds it in front: what was taken is told first.
            before = sum(event.position <= reached for event, _ in events)
            return Projected(events=before, rows=len(done.rows), position=reached, is_behind=True)
        if fault is not None:
            return self._poisoned(checkpoint, fault)
        return Projected(events=len(events), rows=len(done.rows), position=end, is_behind=True)

    def _rows(self, keys: Set[Key], within: Connection | None) -> Mapping[Key, Row | None]:
        known = self._remembered.of(keys)
        unknown = [key for key in keys if key not in known]
        if not unknown:
            return known
        with (
            _refusing(),
            nullcontext(within) if within else self._database.connect() as connection,
        ):
            found = find(connection, self._table, unknown)
        if altered := found.keys() - keys:
            raise _Refused(self._altered(altered.pop(), keys))
        return {**known, **found}

    def _altered(self, kept: Key, keys: Collection[Key]) -> KeyAltered:
        """What the database has in place of one of the keys."""
        asked = max(keys, key=lambda key: sum(map(eq, key, kept)))
        column, given, value = next(
            part
            for part in zip(self.projection.key_columns, asked, kept, strict=True)
            if part[1] != part[2]
        )
        return KeyAltered(projection=self.projection.name, column=column, given=given, kept=value)

    def _write(
        self,
        checkpoint: Checkpoint,
        rows: Mapping[Key, Row | None],
        reached: int,
        within: Connection | None,
    ) -> bool:
        """Write rows and checkpoint, all or nothing; False where it has moved meanwhile."""
        if reached == checkpoint.position:
            return True
        with (
            _refusing(),
            nullcontext(within) if within else self._database.transaction() as connection,
        ):
            # First, so that who comes second waits here and has not touched a row.
            if not self._checkpoints.move(connection, checkpoint, reached):
                return False
            write(connection, self._table, rows)
            if self._may_wait:
                self._failures.settle(connection, self.projection.name)
        self._may_wait = False
        # The caller may roll back yet, and then nobody else has moved it.
        self._left = None if within else (checkpoint.generation, reached)
        self._remembered.note(rows)
        return True

    def _poisoned(self, checkpoint: Checkpoint, fault: Fault) -> Projected:
        """Go on without an event, or write down that this is where it ends."""
        name, is_live = self.projection.name, self._target == "live"
        skips = fault.event.position in self._left_out or (is_live and self._on_poison == "skip")
        reached = fault.event.position if skips else checkpoint.position
        if skips or is_live:
            with self._database.transaction() as connection:
                if not self._checkpoints.move(connection, checkpoint, reached):
                    return Projected(position=checkpoint.position, stands_by=True)
                if is_live:
                    self._failures.note(connection, name, fault, skipped=skips)
        if skips:
            self._left = checkpoint.generation, reached
            return Projected(events=1, position=reached, is_behind=True, skipped=fault.event)
        self._may_wait = True
        raise ProjectionFailed(
            projection=name,
            position=fault.event.position,
            aggregate_id=fault.event.aggregate_id,
            version=fault.event.version,
            event_type=fault.event.event_type,
            handler=fault.handler,
            error=fault.error,
        ) from fault.error


def table_of(projection: Projection, target: Target) -> Table:
    """The table of a projection that is read, or the one built beside it."""
    return projection.table if target == "live" else beside(projection.table, f"__{target}")


@contextmanager
def _refusing() -> Iterator[None]:
    """Tell what is wrong with rows or keys, which the database does not take, from its absence."""
    try:
        yield
    except EventStoreError as error:
        if is_refusal(error.__cause__):
            raise _Refused(error) from error
        raise
    except (TypeError, ValueError, OverflowError, ArithmeticError, SQLAlchemyError) as error:
        raise _Refused(error) from error  # values that the driver does not know what to do with
