"""What an event changed and the state after it; both come of a fold.

States lately met are kept, and on a long way one every so often: from there a fold goes on, so that
who jumps about in a history of 100,000 events does not fold all of it again.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import chain
from threading import Lock
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from store.errors import ApplyFailed, HistoryGap
from store.folding import GENERIC, HistoryRow, changed_fields, fold_rows
from store.records import Event, Loaded
from store.repository import Repository
from store.sources import EventSource

NEAR = 1_000
KEPT_STATES = 1_000
KEPT_BYTES = 64_000_000
DEEPEST = 8


class Absent(msgspec.Struct, frozen=True):
    """The value of a field that a state does not have."""


ABSENT: Final = Absent()


class Change(msgspec.Struct, frozen=True):
    """What stands at a place of the state before and after an event.

    `field` is a JSON pointer (RFC 6901) without its first slash: `email`, `address/city`.
    """

    field: str
    before: Any
    after: Any


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What an event changed, and the state after `version`, which is that event's.

    With a `failure` the fold got to the state of an earlier version only. `generic` says that there
    was no domain code: the events' data is merged.
    """

    changes: tuple[Change, ...] = ()
    state: Any
    version: int
    generic: bool
    failure: str | None = None


class _Kept(msgspec.Struct, frozen=True):
    """A state and how many bytes its JSON has, as a measure of what it takes to keep it."""

    loaded: Loaded[Any]
    size: int


class States:
    """States of the aggregates looked at last, safe to share between threads."""

    def __init__(
        self,
        source: EventSource,
        repository: Repository,
        *,
        near: int = NEAR,
        keep: int = KEPT_STATES,
        keep_bytes: int = KEPT_BYTES,
    ) -> None:
        self._source = source
        self._repository = repository
        self._near = near
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def effect(self, event: Event) -> Effect:
        """What the event changed, as far as the fold gets."""
        try:
            before = self._at(event, event.version - 1)
            after = self._at(event, event.version)
        except ApplyFailed as error:
            return _stopped(self._at(event, error.reached_version), error)
        except HistoryGap as error:
            return _stopped(self._at(event, error.after), error)
        return Effect(
            changes=tuple(_changes(before.state, after.state)),
            state=after.state,
            version=after.version,
            generic=after.generic,
        )

    def _at(self, event: Event, version: int) -> Loaded[Any]:
        """The state of the event's aggregate after `version`."""
        loaded = self._nearest(event, version)
        if loaded.version == version:
            return loaded
        fold = self._repository.fold_of(loaded.aggregate_type)
        batches = self._source.history(
            loaded.aggregate_id, after=loaded.version, to_version=version
        )
        for rows in chain.from_iterable(map(self._parts, batches)):
            try:
                state, reached = fold_rows(
                    fold, loaded.aggregate_id, rows, state=loaded.state, version=loaded.version
                )
            except ApplyFailed as error:
                # Whoever looks at a later event meets the same failure, without the fold before it.
                self._remember(
                    replace(loaded, state=error.reached_state, version=error.reached_version)
                )
                raise
            loaded = replace(loaded, state=state, version=reached)
            self._remember(loaded)
        return loaded

    def _parts(self, rows: Sequence[HistoryRow]) -> Iterator[Sequence[HistoryRow]]:
        return (rows[at : at + self._near] for at in range(0, len(rows), self._near))

    def _nearest(self, event: Event, version: int) -> Loaded[Any]:
        """The latest state known up to `version`, if only the initial one."""
        with self._lock:
            known = [
                key for key in self._kept if key[0] == event.aggregate_id and key[1] <= version
            ]
            if not known:
                return self._unborn(event)
            nearest = max(known)
            self._kept.move_to_end(nearest)
            return self._kept[nearest].loaded

    def _unborn(self, event: Event) -> Loaded[Any]:
        fold = self._repository.fold_of(event.aggregate_type)
        return Loaded(
            aggregate_id=event.aggregate_id,
            aggregate_type=event.aggregate_type,
            state=fold.initial,
            version=self._source.info.first_version - 1,
            source="replay",
            generic=fold is GENERIC,
        )

    def _remember(self, loaded: Loaded[Any]) -> None:
        key = (loaded.aggregate_id, loaded.version)
        kept = _Kept(loaded, len(msgspec.json.encode(loaded.state, enc_hook=repr)))
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = kept
            self._bytes += kept.size
            while len(self._kept) > self._keep or self._bytes > self._keep_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.size


def _stopped(reached: Loaded[Any], error: ApplyFailed | HistoryGap) -> Effect:
    return Effect(
        state=reached.state,
        version=reached.version,
        generic=reached.generic,
        failure=f"Cannot fold {' '.join(str(error).split())}",
    )


def _changes(before: Any, after: Any) -> list[Change]:
    return [
        change
        for name in changed_fields(before, after)
        for change in _within(_escaped(name), _value(before, name), _value(after, name), DEEPEST)
    ]


def _within(path: str, before: Any, after: Any, depth: int) -> Iterator[Change]:
    """The change at `path`, or those inside of it where objects differ in some of their keys."""
    if not (depth and isinstance(before, dict) and isinstance(after, dict) and before and after):
        yield Change(path, before, after)
        return
    for key in before | after:
        old, new = before.get(key, ABSENT), after.get(key, ABSENT)
        if old is ABSENT or new is ABSENT or old != new or type(old) is not type(new):
            yield from _within(f"{path}/{_escaped(str(key))}", old, new, depth - 1)


def _escaped(key: str) -> str:
    """A key as a part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _value(state: Any, name: str) -> Any:
    if isinstance(state, msgspec.Struct):
        return getattr(state, name)
    # As `changed_fields` names a state that has no fields.
    fields = state if isinstance(state, dict) else {"state": state}
    return fields.get(name, ABSENT)
