"""The two states that a diff compares."""

from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Struct

from store.analysis.document import document
from store.analysis.stepping import Stepper
from store.errors import ApplyFailed, SnapshotNotFound
from store.records import Axis, Loaded
from store.repository import Repository
from store.snapshots import Snapshots

Point: TypeAlias = int | datetime | None
"""A state's version, the one before the first too, or the time it is of; None: the newest."""


class Side(Struct, frozen=True, kw_only=True):
    """A state's document; `version` is that of the last event in it.

    `stopped` says which event cannot be folded, if the state is only that before it.
    """

    aggregate_id: str
    version: int
    state: Any
    generic: bool
    as_of: datetime | None = None
    stopped: str | None = None


def side(
    repository: Repository, aggregate_id: str, point: Point, *, axis: Axis = "occurred"
) -> Side:
    """The state of an aggregate at a point.

    Raises:
        AggregateNotFound, VersionNotFound, NoEventYet: there is no such state.
        HistoryGap, SnapshotAhead: as `Repository.load` does.
    """
    before_first = repository.source.info.first_version - 1
    if point == before_first:
        stepper = Stepper(repository, aggregate_id)
        return Side(
            aggregate_id=aggregate_id,
            version=before_first,
            state=stepper.state(before_first),
            generic=stepper.generic,
        )
    as_of = point if isinstance(point, datetime) else None
    version = None if isinstance(point, datetime) else point
    try:
        loaded: Loaded[Any] = repository.load(aggregate_id, version=version, as_of=as_of, axis=axis)
    except ApplyFailed as error:
        return _side(error.reached, as_of, stopped=" ".join(str(error).split()))
    return _side(loaded, as_of)


def snapshot_and_replay(
    repository: Repository, snapshots: Snapshots, aggregate_id: str
) -> tuple[Side, Side]:
    """The newest snapshot of this code's fold, and what all events up to it lead to.

    Raises:
        AggregateNotFound: no event of it is stored.
        SnapshotNotFound: there is none that can be read.
        SnapshotAhead: it is of a version that has no event.
    """
    stepper = Stepper(repository, aggregate_id)
    begun = snapshots.begin(aggregate_id, None)
    if begun.aggregate_type is None:
        raise SnapshotNotFound(aggregate_id=aggregate_id, reason=begun.ignored)
    states = (document(begun.state), stepper.state(begun.version))
    kept, replayed = (
        Side(aggregate_id=aggregate_id, version=begun.version, state=state, generic=False)
        for state in states
    )
    return kept, replayed


def _side(loaded: Loaded[Any], as_of: datetime | None, stopped: str | None = None) -> Side:
    return Side(
        aggregate_id=loaded.aggregate_id,
        version=loaded.version,
        state=document(loaded.state),
        generic=loaded.generic,
        as_of=as_of,
        stopped=stopped,
    )
