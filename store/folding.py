"""From events to state, pure: a domain's fold, or a generic one where there is no domain code."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from store.errors import ApplyFailed, HistoryGap, InvalidDomain
from store.records import Event

HistoryRow: TypeAlias = tuple[int, str, bytes | str, str | None, int]
"""Version, event type, the JSON of the data, the aggregate's type, and the schema version.

The type may be there for version 1 only.
"""

_ABSENT = object()


class Fold(Protocol):
    """How events of one type of aggregate become state: `store.Aggregate`, or `GENERIC`."""

    @property
    def initial(self) -> Any:
        """The state before the first event."""
        ...

    @property
    def decoders(self) -> Mapping[int, Mapping[str, Callable[[bytes | str], Any]]]:
        """By schema version and event type, what makes of stored JSON an event to apply."""
        ...

    @property
    def apply(self) -> Callable[[Any, Any], Any]:
        """The state after an event."""
        ...

    @property
    def state_type(self) -> type:
        """What every state is."""
        ...


class Step(Struct, frozen=True):
    """An event with the state before and after it; with an error the state stayed as it was.

    `took` is how many seconds decoding and applying the event took.
    """

    event: Event
    before: Any
    after: Any
    error: ApplyFailed | None = None
    took: float = 0.0


def steps(
    fold: Fold,
    events: Iterable[Event],
    *,
    after: int = 0,
    state: Any = _ABSENT,
    go_on: bool = False,
    gaps: bool = False,
) -> Iterator[Step]:
    """Fold an aggregate's events, from the one on that comes after version `after`.

    `state` is the state there, by default the initial one.

    With `go_on` an event that cannot be applied is a step with an error, and the fold goes on from
    the state before it. With `gaps` versions may be left out.

    Raises:
        ApplyFailed: an event cannot be read or applied.
        HistoryGap: a version is missing.
    """
    state, version = fold.initial if state is _ABSENT else state, after
    for event in events:
        if event.version != version + 1 and not gaps:
            raise HistoryGap(aggregate_id=event.aggregate_id, after=version, found=event.version)
        before, error, started = state, None, perf_counter()
        try:
            state = applied(fold, state, _decoded(fold, event))
        except Exception as cause:
            error = _failed(event.aggregate_id, event.version, event.event_type, cause)
            error = error.at(event.position)
            error.reached_version, error.reached_state = version, state
            if not go_on:
                raise error from cause
        version = event.version
        yield Step(event, before, state, error, perf_counter() - started)


def applied(fold: Fold, state: Any, event: Any) -> Any:
    """The state after a typed event.

    Raises:
        InvalidDomain: `apply` returned something else than a state; it may raise anything itself.
    """
    after = fold.apply(state, event)
    if not isinstance(after, fold.state_type):
        raise _no_state(fold, after)
    return after


def fold_rows(
    fold: Fold,
    aggregate_id: str,
    rows: Sequence[HistoryRow],
    *,
    state: Any,
    version: int,
    gaps: bool = False,
) -> tuple[Any, int]:
    """The state and version after `rows`, from those before them; raises as `steps` does."""
    apply, decoders, state_type = fold.apply, fold.decoders, fold.state_type
    number, kind = version, ""
    last: int | None = None
    try:
        for number, kind, data, _, written in rows:
            if number != version + 1 and not gaps:
                break
            if written != last:
                by_type, last = decoders[written], written
            after = apply(state, by_type[kind](data))
            if not isinstance(after, state_type):
                raise _no_state(fold, after)  # noqa: TRY301 (told as a failure of `apply`)
            state, version = after, number
        else:
            return state, version
    except Exception as cause:
        error = _failed(aggregate_id, number, kind, cause)
        error.reached_version, error.reached_state = version, state
        raise error from cause
    raise HistoryGap(aggregate_id=aggregate_id, after=version, found=number)


def _decoded(fold: Fold, event: Event) -> Any:
    return fold.decoders[event.event_version][event.event_type](event.raw_data)


def changed_fields(before: Any, after: Any) -> list[str]:
    """The names of the fields, at the top of both states, whose values differ."""
    one, other = _fields(before), _fields(after)
    names = dict.fromkeys([*one, *other])
    return [name for name in names if _differ(one.get(name, _ABSENT), other.get(name, _ABSENT))]


def _differ(one: Any, other: Any) -> bool:
    # To Python 1, 1.0 and True are equal; to whoever reads the JSON they are not.
    return one != other or type(one) is not type(other)


def _fields(state: Any) -> Mapping[str, Any]:
    if isinstance(state, Struct):
        return msgspec.structs.asdict(state)
    return state if isinstance(state, dict) else {"state": state}


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes, anything else replaces. Changes neither."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _no_state(fold: Fold, found: Any) -> InvalidDomain:
    returned, wanted = type(found).__name__, fold.state_type.__name__
    return InvalidDomain(f"apply returned {returned}, not {wanted}; has it a case for the event?")


def _failed(aggregate_id: str, version: int, event_type: str, cause: Exception) -> ApplyFailed:
    return ApplyFailed(
        aggregate_id=aggregate_id, version=version, event_type=event_type, cause=cause
    )


class _Undeclared(dict[str, Callable[[bytes | str], Any]]):
    def __missing__(self, event_type: str) -> Callable[[bytes | str], Any]:
        return msgspec.json.decode


class _AnyVersion(dict[int, Mapping[str, Callable[[bytes | str], Any]]]):
    def __missing__(self, version: int) -> Mapping[str, Callable[[bytes | str], Any]]:
        return _UNDECLARED


_UNDECLARED = _Undeclared()


class _Generic:
    """Merges the events' data. It knows nothing of what they mean, and who shows it says so."""

    def __init__(self) -> None:
        self.initial: Any = {}
        self.decoders = _AnyVersion()
        self.apply = merge_patch
        self.state_type = object


GENERIC: Fold = _Generic()
