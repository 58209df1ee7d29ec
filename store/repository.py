"""The state of an aggregate: its newest, at a version, or as of a time."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from store.cache import Cache, check_age
from store.domain import Domains
from store.errors import (
    AggregateTypeMismatch,
    ApplyFailed,
    InvalidDomain,
    InvalidEvent,
    NoEventYet,
    VersionNotFound,
)
from store.folding import GENERIC, Fold, HistoryRow, Step, fold_rows, steps
from store.records import Axis, Event, Loaded, utc
from store.snapshots import Beginning, Snapshots
from store.sources import EventSource


def _nothing_kept(aggregate_id: str, max_age: float | None) -> Loaded[Any] | None:
    del aggregate_id, max_age
    return None


class Repository:
    """Loads aggregates. Safe to share between threads.

    Where there are `snapshots`, loads begin with them; only a `writable` one replaces bad ones.
    With a `cache` newest states are kept.
    """

    def __init__(
        self,
        source: EventSource,
        domains: Domains,
        snapshots: Snapshots | None = None,
        *,
        writable: bool = False,
        cache: Cache | None = None,
    ) -> None:
        self.source = source
        self.domains = domains
        self._snapshots = snapshots
        self._writable = writable
        self._states = None if cache is None else cache.states(domains, self._extended)
        # The newest state as this process keeps it, where that takes no query to know.
        self.fresh = self._states.fresh if self._states else _nothing_kept

    def load(
        self,
        aggregate_id: str,
        *,
        version: int | None = None,
        as_of: datetime | None = None,
        axis: Axis = "occurred",
        max_age: float | None = None,
    ) -> Loaded[Any]:
        """The newest state, or that after event `version`, or of the events until `as_of`.

        By `recorded` time an aggregate is as the store knew it then; by `occurred` time what had
        happened by then counts, whenever the store was told, in the order of versions. The newest
        state may lack what others appended in the last `max_age` seconds; without, nothing.

        Raises:
            AggregateNotFound, VersionNotFound, NoEventYet: there is no such state.
            ApplyFailed: an event cannot be folded; what was reached is the error's `reached`.
            HistoryGap: a version is missing.
            SnapshotAhead: a snapshot is of a version that has no event.
        """
        if version is None and as_of is None:
            kept = self.fresh(aggregate_id, max_age)
            if kept is not None:
                return kept
        return self._load(aggregate_id, version, as_of, axis, max_age)

    def _load(
        self,
        aggregate_id: str,
        version: int | None,
        as_of: datetime | None,
        axis: Axis,
        max_age: float | None,
    ) -> Loaded[Any]:
        """See `load`, for what is not `fresh`."""
        if max_age is not None:
            check_age(max_age)
        _check_bounds(version, as_of, first=self.source.info.first_version)
        if version is None and as_of is None:
            loaded = self._newest(aggregate_id, max_age)
        elif as_of is None:
            loaded = self._up_to(aggregate_id, version)
        else:
            history = self.source.history(aggregate_id, as_of=as_of, axis=axis)
            loaded = self._fold(aggregate_id, None, history, gaps=_may_leave_out(as_of, axis))
        if loaded is None:
            self.source.aggregate(aggregate_id)
            raise NoEventYet(aggregate_id, as_of)
        if version is not None and loaded.version < version:
            raise VersionNotFound(aggregate_id, version, newest=loaded.version)
        return loaded

    def newest(self, aggregate_id: str, aggregate_type: str) -> Loaded[Any]:
        """The newest state, the initial one where no event is stored; raises as `load` does.

        Raises:
            AggregateTypeMismatch: the aggregate is of another type.
        """
        loaded = self._newest(aggregate_id, None)
        if loaded is not None and loaded.aggregate_type != aggregate_type:
            raise AggregateTypeMismatch(
                aggregate_id=aggregate_id, given=aggregate_type, actual=loaded.aggregate_type
            )
        return loaded or self._unborn(aggregate_id, aggregate_type)

    def snapshot(self, aggregate_id: str, *, replay: bool = True) -> Loaded[Any]:
        """Keep the newest state as a snapshot, whether or not one is due; the state.

        It comes from all events, or, without `replay`, from an earlier snapshot and those after it.

        Raises:
            InvalidDomain: there is no domain code for it, or its type takes no snapshots.
            SnapshotRefused: the state would not come back from JSON as it is.
            AggregateNotFound, ApplyFailed, HistoryGap, SnapshotAhead: as `load` does.
        """
        head = self.source.aggregate(aggregate_id)
        aggregate = self.domains.aggregate(head.aggregate_type)
        snapshots = self._snapshots
        if aggregate is None or snapshots is None or head.aggregate_type not in snapshots.types:
            why = "no domain code" if aggregate is None else "its type takes no snapshots"
            raise InvalidDomain(f"no snapshot of {aggregate_id!r}, {head.aggregate_type!r}: {why}")
        whole = self._whole if replay else self._up_to
        loaded = whole(aggregate_id, None)
        assert loaded is not None, "its head says that it has events"  # noqa: S101
        snapshots.keep(aggregate, aggregate_id, version=loaded.version, state=loaded.state)
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
        """Each event with the state before and after it, for the bounds see `load`.

        With `go_on` an event that cannot be applied is a step with an error, and the replay goes on
        from the state before it.

        Raises:
            AggregateNotFound: no event of it is stored.
            ApplyFailed, HistoryGap: as `load` does, when that event's turn comes.
        """
        first = self.source.info.first_version
        _check_bounds(version, as_of, first=first)
        fold = self.fold_of(self.source.aggregate(aggregate_id).aggregate_type)
        events = self.source.events(aggregate_id, to_version=version)
        if as_of is not None:
            events = (event for event in events if _is_there(event, as_of, axis))
        return steps(fold, events, after=first - 1, go_on=go_on, gaps=_may_leave_out(as_of, axis))

    def catch_up(self, loaded: Loaded[Any]) -> Loaded[Any]:
        """The newest state, from an earlier one and the events since; raises as `load` does."""
        rows = self.source.history(loaded.aggregate_id, after=loaded.version)
        return self._fold(loaded.aggregate_id, loaded, rows, gaps=False) or loaded

    def fold_of(self, aggregate_type: str) -> Fold:
        """How events of that type become state."""
        return self.domains.aggregate(aggregate_type) or GENERIC

    def _extended(self, loaded: Loaded[Any], rows: Sequence[HistoryRow]) -> Loaded[Any]:
        return self._fold(loaded.aggregate_id, loaded, (rows,), gaps=False) or loaded

    def _newest(self, aggregate_id: str, max_age: float | None) -> Loaded[Any] | None:
        if self._states is None:
            return self._up_to(aggregate_id, None)
        return self._states.newest(aggregate_id, max_age, self._from_database)

    def _from_database(self, aggregate_id: str) -> tuple[Loaded[Any] | None, str]:
        """The newest state and its last event's mark, empty where that is not known for sure."""
        assert self._states is not None, "only who keeps states asks"  # noqa: S101
        loaded, mark = None, ""
        if self._snapshots is not None and self._snapshots.types:
            begun = self._snapshots.begin(aggregate_id, None, marked=True)
            if begun.ignored is not None:
                return self._passed_over(aggregate_id, None, begun), ""
            loaded, mark = self._begun(aggregate_id, begun), begun.mark
            if loaded is None or not begun.more:
                return loaded, mark
        while True:
            version = 0 if loaded is None else loaded.version
            tail = self._states.tail(aggregate_id, version)
            if version and tail.at != mark:
                return self._up_to(aggregate_id, None), ""
            if tail.rows:
                loaded = self._fold(aggregate_id, loaded, (tail.rows,), gaps=False)
                mark = tail.last
            if not tail.more:
                return loaded, mark

    def _up_to(self, aggregate_id: str, version: int | None) -> Loaded[Any] | None:
        """The state after that version, or the newest; None where there is no event."""
        if self._snapshots is None or not self._snapshots.types:
            return self._whole(aggregate_id, version)
        begun = self._snapshots.begin(aggregate_id, version)
        if begun.ignored is not None:
            return self._passed_over(aggregate_id, version, begun)
        loaded = self._begun(aggregate_id, begun)
        if loaded is None or not begun.more:
            return loaded
        further = self.source.history(aggregate_id, after=loaded.version, to_version=version)
        return self._fold(aggregate_id, loaded, further, gaps=False)

    def _begun(self, aggregate_id: str, begun: Beginning) -> Loaded[Any] | None:
        """The state after the rows that a fold begins with; None where there is none."""
        start = None
        if begun.aggregate_type is not None:
            start = Loaded(
                aggregate_id=aggregate_id,
                aggregate_type=begun.aggregate_type,
                state=begun.state,
                version=begun.version,
                source="snapshot",
                generic=False,
            )
        return self._fold(aggregate_id, start, (begun.rows,) if begun.rows else (), gaps=False)

    def _passed_over(
        self, aggregate_id: str, version: int | None, begun: Beginning
    ) -> Loaded[Any] | None:
        """The state without the snapshot, which it replaces."""
        loaded = self._whole(aggregate_id, version)
        if loaded is None:
            return None
        aggregate = self.domains.aggregate(loaded.aggregate_type)
        if self._writable and self._snapshots is not None and aggregate is not None:
            self._snapshots.replace(
                aggregate,
                aggregate_id,
                bad=begun.version,
                version=loaded.version,
                state=loaded.state,
            )
        return replace(loaded, ignored=begun.ignored)

    def _whole(self, aggregate_id: str, version: int | None) -> Loaded[Any] | None:
        history = self.source.history(aggregate_id, to_version=version)
        return self._fold(aggregate_id, None, history, gaps=False)

    def _fold(
        self,
        aggregate_id: str,
        start: Loaded[Any] | None,
        history: Iterable[Sequence[HistoryRow]],
        *,
        gaps: bool,
    ) -> Loaded[Any] | None:
        """What comes of `start` and the batches after it; None where there is neither."""
        loaded = start
        for rows in history:
            before = loaded or self._unborn(aggregate_id, self._type_of(aggregate_id, rows[0]))
            try:
                state, version = fold_rows(
                    self.fold_of(before.aggregate_type),
                    aggregate_id,
                    rows,
                    state=before.state,
                    version=before.version,
                    gaps=gaps,
                )
            except ApplyFailed as error:
                located = error.at(self._position(aggregate_id, error.version))
                located.reached = replace(
                    before, state=error.reached_state, version=error.reached_version
                )
                raise located from error.cause
            left_out = before.left_out + version - before.version - len(rows)
            loaded = replace(
                before,
                state=state,
                version=version,
                left_out=left_out,
                folded=before.folded + len(rows),
            )
        return loaded

    def _type_of(self, aggregate_id: str, first: HistoryRow) -> str:
        return first[3] or self.source.aggregate(aggregate_id).aggregate_type

    def _position(self, aggregate_id: str, version: int) -> int | None:
        found = self.source.events(aggregate_id, from_version=version, to_version=version)
        return next((event.position for event in found), None)

    def _unborn(self, aggregate_id: str, aggregate_type: str) -> Loaded[Any]:
        fold = self.fold_of(aggregate_type)
        return Loaded(
            aggregate_id=aggregate_id,
            aggregate_type=aggregate_type,
            state=fold.initial,
            version=self.source.info.first_version - 1,
            source="replay",
            generic=fold is GENERIC,
        )


def _may_leave_out(as_of: datetime | None, axis: Axis) -> bool:
    """Whether versions may be missing: what is recorded by a time is all that came before."""
    return as_of is not None and axis == "occurred"


def _is_there(event: Event, as_of: datetime, axis: Axis) -> bool:
    moment = event.occurred_at if axis == "occurred" else event.recorded_at
    return moment is not None and moment <= as_of


def _check_bounds(version: int | None, as_of: datetime | None, *, first: int) -> None:
    if version is not None and as_of is not None:
        raise InvalidEvent("version, as_of: give one of them")
    if version is not None and (type(version) is not int or version < first):
        raise InvalidEvent(f"version: {version!r} is not a whole number from {first}")
    if as_of is not None:
        utc("as_of", as_of)
