"""One aggregate's history, step by step: what each event made of the state.

A history of any length is walked in bounded memory. Where a walk passes a checkpoint it leaves the
state there, and a later one begins at the nearest.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
from threading import Lock
from typing import Any

import msgspec
from msgspec import Struct

from store import folding
from store.analysis.changes import IDENTITIES, Change, diff
from store.analysis.document import ABSENT, document
from store.analysis.rewriting import merged_again, written_again
from store.errors import ApplyFailed, HistoryGap
from store.folding import Fold
from store.records import Event
from store.repository import Repository
from store.sources import EventSource

EVERY = 1_000
"""How many events lie between two checkpoints."""
KEPT_BYTES = 64_000_000
"""What the checkpoints of a history may take, as their JSON has it."""


class Step(Struct, frozen=True, kw_only=True):
    """An event, the state's document before and after it, and the changes between the two.

    `elapsed` is the time since the event before it occurred, None for the first; it is negative
    where times run backwards. `took` is how many seconds decoding and applying the event took. An
    event that cannot be applied has an `error`, whose class is `error_type`, and the state stays as
    it was. `written_again` are the places, as far as can be known, to which the event wrote the
    value that they had.
    """

    event: Event
    before: Any
    after: Any
    changes: tuple[Change, ...]
    elapsed: timedelta | None
    took: float
    error: str | None
    written_again: tuple[str, ...] = ()
    error_type: str | None = None


class _Checkpoint(Struct, frozen=True):
    """The state after a version."""

    state: Any
    size: int


class Stepper:
    """The steps of an aggregate's history. Safe to share between threads.

    `identities` are the fields that may identify the objects of a list; see `changes.diff`.

    Raises:
        AggregateNotFound: no event of it is stored.
    """

    def __init__(
        self,
        repository: Repository,
        aggregate_id: str,
        *,
        identities: tuple[str, ...] = IDENTITIES,
        every: int = EVERY,
        keep_bytes: int = KEPT_BYTES,
    ) -> None:
        self.source: EventSource = repository.source
        self.aggregate = self.source.aggregate(aggregate_id)
        self.fold: Fold = repository.fold_of(self.aggregate.aggregate_type)
        self.first_version = self.source.info.first_version
        self._identities = identities
        self._every = every
        self._keep_bytes = keep_bytes
        self._checkpoints: OrderedDict[int, _Checkpoint] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def generic(self) -> bool:
        """Whether there is no domain code, and the events' data is merged."""
        return self.fold is folding.GENERIC

    def steps(self, first: int | None = None, last: int | None = None) -> Iterator[Step]:
        """The steps at versions from `first` to `last`, both included.

        Raises:
            HistoryGap: a version is missing; the steps before it have come.
        """
        first = self.first_version if first is None else max(first, self.first_version)
        state, reached = self._reach(first - 1)
        previous, events = self._events(first, last)
        before: Any = ABSENT
        for step in folding.steps(self.fold, events, after=reached, state=state, go_on=True):
            self._leave(step.event.version, step.after)
            before = document(step.before) if before is ABSENT else before
            after = before if step.error else document(step.after)
            yield self._step(step, before, after, previous)
            previous, before = step.event, after

    @property
    def initial(self) -> Any:
        """The document of the state before the first event."""
        return document(self.fold.initial)

    def states(self) -> Iterator[tuple[Event, Any]]:
        """Each event with the document of the state after it; raises as `steps` does."""
        _, events = self._events(self.first_version, None)
        for step in folding.steps(self.fold, events, after=self.first_version - 1, go_on=True):
            self._leave(step.event.version, step.after)
            yield step.event, document(step.after)

    def failures(self) -> Iterator[int]:
        """The versions whose events cannot be applied; raises as `steps` does."""
        found: list[int] = []
        try:
            self._fold(self.fold.initial, self.first_version - 1, None, found.append)
        except HistoryGap:
            yield from found
            raise
        yield from found

    def state(self, version: int) -> Any:
        """The document of the state after a version; that before the first is the initial one.

        Raises:
            HistoryGap: a version before it is missing.
        """
        return document(self._reach(version)[0])

    def _step(self, step: folding.Step, before: Any, after: Any, previous: Event | None) -> Step:
        event = step.event
        return Step(
            event=event,
            before=before,
            after=after,
            changes=tuple(diff(before, after, identities=self._identities)),
            elapsed=event.occurred_at - previous.occurred_at if previous else None,
            took=step.took,
            error=None if step.error is None else " ".join(str(step.error).split()),
            written_again=() if step.error else tuple(self._rewrites(step)),
            error_type=None if step.error is None else type(step.error.cause).__name__,
        )

    def _rewrites(self, step: folding.Step) -> Iterator[str]:
        if self.generic:
            return merged_again(step.event.data, step.before)
        return written_again(step.before, step.after)

    def _events(self, first: int, last: int | None) -> tuple[Event | None, Iterator[Event]]:
        """The event before `first`, if there is one, and those from there to `last`."""
        name = self.aggregate.aggregate_id
        events = self.source.events(name, from_version=first - 1, to_version=last)
        found = next(events, None)
        if found is None or found.version < first:
            return found, events
        return None, chain([found], events)

    def _reach(self, version: int) -> tuple[Any, int]:
        """The state after a version and that version, or the last one where that comes before."""
        at, state = self._nearest(version)
        return self._fold(state, at, version, lambda _: None)

    def _fold(
        self, state: Any, after: int, to_version: int | None, failed: Callable[[int], None]
    ) -> tuple[Any, int]:
        """Fold the events in between, leaving checkpoints and telling what cannot be applied."""
        if to_version is not None and to_version <= after:
            return state, after
        name = self.aggregate.aggregate_id
        for rows in self.source.history(name, after=after, to_version=to_version):
            start = 0
            while start < len(rows):
                part = rows[start : start + self._until_checkpoint(rows[start][0])]
                try:
                    state, after = folding.fold_rows(
                        self.fold, name, part, state=state, version=after
                    )
                except ApplyFailed as error:
                    failed(error.version)
                    state, after = error.reached_state, error.version
                    start += error.version - part[0][0] + 1
                else:
                    start += len(part)
                    self._leave(after, state)
        return state, after

    def _until_checkpoint(self, version: int) -> int:
        """How many versions there are from this one to the next that is a checkpoint's."""
        return self._every - (version - 1) % self._every

    def _nearest(self, version: int) -> tuple[int, Any]:
        with self._lock:
            known = [at for at in self._checkpoints if at <= version]
            if not known:
                return self.first_version - 1, self.fold.initial
            at = max(known)
            self._checkpoints.move_to_end(at)
            return at, self._checkpoints[at].state

    def _leave(self, version: int, state: Any) -> None:
        if version % self._every or version in self._checkpoints:
            return
        size = len(msgspec.json.encode(document(state)))
        with self._lock:
            if version in self._checkpoints:  # another walk was here meanwhile
                return
            self._checkpoints[version] = _Checkpoint(state, size)
            self._bytes += size
            while self._bytes > self._keep_bytes and len(self._checkpoints) > 1:
                _, oldest = self._checkpoints.popitem(last=False)
                self._bytes -= oldest.size
