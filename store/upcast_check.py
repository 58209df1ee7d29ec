"""Whether everything that is stored can be read by the code of today, and what becomes of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from store.domain import Aggregate, Domains
from store.errors import EventStoreError, SchemaTooNew, UnknownEventType, UpcasterMissing
from store.records import Event, Written
from store.sources import EventSource

Chain: TypeAlias = Literal[
    "complete", "no domain code", "newer than this code", "no step", "no such event"
]
Kind: TypeAlias = Literal["failed", "dropped", "null", "type"]

_REFUSALS: dict[type[EventStoreError], Chain] = {
    SchemaTooNew: "newer than this code",
    UpcasterMissing: "no step",
    UnknownEventType: "no such event",
}
_BATCH = 500


class StoredVersion(Struct, frozen=True, kw_only=True):
    """A schema version of an event type, how often it is stored, and what it is read as."""

    aggregate_type: str
    event_type: str
    event_version: int
    events: int
    read_as: tuple[str, int] | None
    chain: Chain


class Found(Struct, frozen=True, kw_only=True):
    """What happened to so many events of a stored version on their way to the code of today.

    `failed`: they could not be read, `explanation` says why. `dropped`: what stood at `path` (a
    JSON pointer, `*` for any item of a list) is nowhere. `null`: it is null now. `type`: it is
    another type of JSON value.
    """

    kind: Kind
    aggregate_type: str
    event_type: str
    event_version: int
    path: str
    events: int
    first_position: int
    explanation: str


class DryRun(Struct, frozen=True, kw_only=True):
    """How many events went through, and what was found."""

    checked: int
    findings: tuple[Found, ...]


def stored_versions(source: EventSource, domains: Domains) -> tuple[StoredVersion, ...]:
    """Every schema version that is stored, and whether a chain of steps leads to today."""
    return tuple(_stored(written, domains) for written in source.written())


def dry_run(
    source: EventSource,
    domains: Domains,
    *,
    sample: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> DryRun:
    """Send every stored event, or the newest `sample` of each version, through the steps.

    `progress` hears how many events were read since it was told last.
    """
    tallies: dict[tuple[str, ...], Found] = {}
    checked = 0
    for event in _events(source, sample, progress):
        aggregate = domains.aggregate(event.aggregate_type)
        if aggregate is None:
            continue
        checked += 1
        for kind, path, explanation in _differences(aggregate, event):
            # Failures are told apart by what they say, everything else by its place.
            told = explanation if kind == "failed" else ""
            version = str(event.event_version)
            key = (kind, event.aggregate_type, event.event_type, version, path, told)
            tallies[key] = _counted(tallies.get(key), kind, path, explanation, event)
    return DryRun(checked=checked, findings=tuple(tallies.values()))


def _stored(written: Written, domains: Domains) -> StoredVersion:
    read_as, chain = _chain(written, domains)
    return StoredVersion(
        aggregate_type=written.aggregate_type,
        event_type=written.event_type,
        event_version=written.event_version,
        events=written.events,
        read_as=read_as,
        chain=chain,
    )


def _chain(written: Written, domains: Domains) -> tuple[tuple[str, int] | None, Chain]:
    aggregate = domains.aggregate(written.aggregate_type)
    if aggregate is None:
        return None, "no domain code"
    stored = written.event_type, written.event_version
    try:
        path = aggregate.upcasting.path(*stored)
    except (SchemaTooNew, UpcasterMissing, UnknownEventType) as refusal:
        return None, _REFUSALS[type(refusal)]
    return (path[-1].target if path else stored), "complete"


def _events(
    source: EventSource, sample: int | None, progress: Callable[[int], None]
) -> Iterator[Event]:
    wanted = {
        (written.aggregate_type, written.event_type, written.event_version): min(
            written.events, written.events if sample is None else sample
        )
        for written in source.written()
    }
    left = sum(wanted.values())
    seen: Counter[tuple[str, str, int]] = Counter()
    for number, event in enumerate(source.feed(backward=sample is not None), start=1):
        if number % _BATCH == 0:
            progress(_BATCH)
        key = event.aggregate_type, event.event_type, event.event_version
        if sample is not None:
            if seen[key] >= wanted.get(key, 0):
                continue
            seen[key] += 1
            left -= 1
        yield event
        if sample is not None and left <= 0:
            return


def _counted(before: Found | None, kind: Kind, path: str, why: str, event: Event) -> Found:
    first = event.position if before is None else min(before.first_position, event.position)
    return Found(
        kind=kind,
        aggregate_type=event.aggregate_type,
        event_type=event.event_type,
        event_version=event.event_version,
        path=path,
        events=1 if before is None else before.events + 1,
        first_position=first,
        explanation=why,
    )


def _differences(aggregate: Aggregate[Any], event: Event) -> Iterator[tuple[Kind, str, str]]:
    stored = event.event_type, event.event_version
    before = msgspec.json.decode(event.raw_data)
    try:
        _, _, after = aggregate.upcast(*stored, msgspec.json.decode(event.raw_data))
        typed = aggregate.decode(event.event_type, event.raw_data, event.event_version)
    except Exception as error:  # noqa: BLE001 (a domain's code may raise anything)
        named = "" if isinstance(error, EventStoreError) else f"{type(error).__name__}: "
        yield "failed", "", f"{named}{error}"
        return
    kept = _leaves(msgspec.to_builtins(typed, str_keys=True))
    yield from compared(_leaves(before), _leaves(after))
    # What a class has no field for is left out when it is read.
    lost = {path: values for path, values in _leaves(after).items() if path not in kept}
    for path in lost.keys() & _leaves(before).keys():
        yield "dropped", path, ""


Leaves: TypeAlias = dict[str, list[Any]]


def compared(before: Leaves, after: Leaves) -> Iterator[tuple[Kind, str, str]]:
    """What is missing, null or of another type in `after`; what moved as a whole is not missing."""
    new = [value for path, values in after.items() if path not in before for value in values]
    for path, values in before.items():
        if path not in after:
            if not all(value in new for value in values):
                yield "dropped", path, ""
        elif (one := _types(values)) != (other := _types(after[path])) and one and other:
            yield "type", path, f"{' or '.join(sorted(one))} became {' or '.join(sorted(other))}"
    for path, values in after.items():
        if None in values and None not in before.get(path, []):
            yield "null", path, ""


def _types(values: Sequence[Any]) -> set[str]:
    names = {str: "text", bool: "boolean", int: "number", float: "number"}
    names |= {dict: "object", list: "list"}
    return {names[type(value)] for value in values if value is not None}


def _leaves(value: Any, path: str = "") -> Leaves:
    """The values at the ends of a JSON value by where they stand."""
    found: Leaves = {}
    if isinstance(value, dict) and value:
        items = ((f"{path}/{_escaped(key)}", item) for key, item in value.items())
    elif isinstance(value, list) and value:
        items = ((f"{path}/*", item) for item in value)
    else:
        return {path: [value]}
    for place, item in items:
        for where, values in _leaves(item, place).items():
            found.setdefault(where, []).extend(values)
    return found


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
