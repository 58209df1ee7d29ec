"""One aggregate's history, step by step: what each event made of the state.

A history of any length is walked in bounded memory. Where a walk passes a checkpoint it leaves the
state there, and a later one begins at the nearest.
"""

from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta
from threading import Lock
from typing import Any

import msgspec
from msgspec import Struct

from store import folding
from store.analysis.changes import IDENTITIES, Change, diff
from store.analysis.document import ABSENT, document
from store.analysis.rewriting import merged_again, written_again
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
    event that cannot be applied has an `error`, and the state stays as it was. `written_again` are
    the places, as far as can be known, to which the event wrote the value that they had.
    """

    event: Event
    before: Any
    after: Any
    changes: tuple[Change, ...]
    elapsed: timedelta | None
    took: float
    error: str | None
    written_again: tuple[str, ...] = ()


class _Checkpoint(Struct, frozen=True):
    """The state after a version, and the event there."""

    state: Any
    event: Event
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
        first = self.first_version if first is None else first
        previous: Event | None = None
        before: Any = ABSENT
        for step in self._folded(first, last):
            self._leave(step)
            if step.event.version >= first:
                before = document(step.before) if before is ABSENT else before
                after = before if step.error else document(step.after)
                yield self._step(step, before, after, previous)
                before = after
            previous = step.event

    @property
    def initial(self) -> Any:
        """The document of the state before the first event."""
        return document(self.fold.initial)

    def states(self) -> Iterator[tuple[Event, Any]]:
        """Each event with the document of the state after it; raises as `steps` does."""
        for step in self._folded(self.first_version, None):
            self._leave(step)
            yield step.event, document(step.after)

    def failures(self) -> Iterator[int]:
        """The versions whose events cannot be applied; raises as `steps` does."""
        for step in self._folded(self.first_version, None):
            self._leave(step)
            if step.error is not None:
                yield step.event.version

    def state(self, version: int) -> Any:
        """The document of the state after a version; that before the first is the initial one.

        Raises:
            HistoryGap: a version before it is missing.
        """
        state = self.fold.initial
        for step in self._folded(version + 1, version):
            self._leave(step)
            state = step.after
        return document(state)

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
        )

    def _rewrites(self, step: folding.Step) -> Iterator[str]:
        if self.generic:
            return merged_again(step.event.data, step.before)
        return written_again(step.before, step.after)

    def _folded(self, first: int, last: int | None) -> Iterator[folding.Step]:
        """From the nearest checkpoint that lies before `first`, whose own event comes first."""
        at, checkpoint = self._nearest(first - 1)
        if checkpoint is not None:
            yield folding.Step(checkpoint.event, checkpoint.state, checkpoint.state)
        events = self.source.events(
            self.aggregate.aggregate_id, from_version=at + 1, to_version=last
        )
        state = {} if checkpoint is None else {"state": checkpoint.state}
        yield from folding.steps(self.fold, events, after=at, go_on=True, **state)

    def _nearest(self, version: int) -> tuple[int, _Checkpoint | None]:
        with self._lock:
            known = [at for at in self._checkpoints if at <= version]
            if not known:
                return self.first_version - 1, None
            at = max(known)
            self._checkpoints.move_to_end(at)
            return at, self._checkpoints[at]

    def _leave(self, step: folding.Step) -> None:
        version = step.event.version
        if version % self._every or version in self._checkpoints:
            return
        size = len(msgspec.json.encode(document(step.after)))
        with self._lock:
            self._checkpoints[version] = _Checkpoint(step.after, step.event, size)
            self._bytes += size
            while self._bytes > self._keep_bytes and len(self._checkpoints) > 1:
                _, oldest = self._checkpoints.popitem(last=False)
                self._bytes -= oldest.size
