"""Bringing events of earlier schema versions to what the code reads now, a pure step at a time."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from store import payload
from store.errors import (
    EventStoreError,
    InvalidDomain,
    SchemaTooNew,
    UnknownEventType,
    UpcasterMissing,
    UpcastFailed,
)
from store.fingerprint import code_fingerprint

Decode: TypeAlias = Callable[[bytes | str], Any]
Stored: TypeAlias = tuple[str, int]
"""An event type as it was written, and its schema version."""


class Upcaster(Struct, frozen=True):
    """The step from one schema version of an event type to the next.

    `upcast` takes the JSON value of the data and returns that of the next version; it reads nothing
    else. With `to_type` the type has that name from then on.
    """

    event_type: str
    from_version: int
    to_version: int
    upcast: Callable[[Any], Any]
    to_type: str | None = None

    @property
    def source(self) -> Stored:
        """What the step takes."""
        return self.event_type, self.from_version

    @property
    def target(self) -> Stored:
        """What it makes."""
        return self.to_type or self.event_type, self.to_version


class Upcasting:
    """The steps of one aggregate type, by what they start from.

    Raises:
        InvalidDomain: they do not lead, without gap or circle, to what `event_types` are now.
    """

    def __init__(
        self, aggregate_type: str, event_types: Collection[str], upcasters: Sequence[Upcaster]
    ) -> None:
        self._aggregate_type = aggregate_type
        self._steps = _by_source(upcasters)
        self.schema_versions = {
            name: max([1, *(step.to_version for step in upcasters if step.target[0] == name)])
            for name in event_types
        }
        _check_circles(self._steps)
        _check_ends(self._steps, self.schema_versions)
        _check_beginnings(self._steps, self.schema_versions)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when a step does."""
        steps = sorted(self._steps.values(), key=lambda step: step.source)
        return code_fingerprint(((step.source, step.target), step.upcast) for step in steps)

    @property
    def sources(self) -> Collection[Stored]:
        """The stored types and versions that are upcasted."""
        return self._steps.keys()

    def path(self, event_type: str, version: int) -> Sequence[Upcaster]:
        """The steps from there to what the code reads now; none where it is that.

        Raises:
            SchemaTooNew: the code that wrote it is newer than this.
            UpcasterMissing: no step takes it up.
            UnknownEventType: the type never had that name.
        """
        found = []
        stored = event_type, version
        while step := self._steps.get(stored):
            found.append(step)
            stored = step.target
        if self.schema_versions.get(stored[0]) != stored[1]:
            raise self._refusal(event_type, version)
        return found

    def upcast(self, event_type: str, version: int, data: Any) -> tuple[str, int, Any]:
        """Type, schema version and data as the code reads them now; raises as `path` does.

        Raises:
            UpcastFailed: a step raised something.
        """
        path = self.path(event_type, version)
        if not path:
            return event_type, version, data
        # Decoded from what it is as JSON, so that no reader meets anything else.
        return *path[-1].target, msgspec.json.decode(encoded(path, data))

    def _refusal(self, event_type: str, version: int) -> Exception:
        known = [number for name, number in self._steps if name == event_type]
        known += [self.schema_versions[event_type]] if event_type in self.schema_versions else []
        if not known:
            return UnknownEventType(aggregate_type=self._aggregate_type, event_type=event_type)
        kind = SchemaTooNew if version > max(known) else UpcasterMissing
        return kind(event_type=event_type, event_version=version, newest=max(known))


class Decoders(dict[int, Mapping[str, Decode]]):
    """By schema version and then by event type, what makes of stored JSON an event to apply."""

    def __init__(self, upcasting: Upcasting, events: Mapping[str, type[Struct]]) -> None:
        super().__init__()
        self._upcasting = upcasting
        typed = {name: msgspec.json.Decoder(event).decode for name, event in events.items()}
        for name, version in upcasting.schema_versions.items():
            self._of(version)[name] = typed[name]
        for name, version in upcasting.sources:
            path = upcasting.path(name, version)
            self._of(version)[name] = _through(path, typed[path[-1].target[0]])

    def __missing__(self, version: int) -> Mapping[str, Decode]:
        return _OfVersion(version, self._upcasting)

    def _of(self, version: int) -> dict[str, Decode]:
        found = self.get(version)
        if not isinstance(found, dict):
            found = self[version] = _OfVersion(version, self._upcasting)
        return found


class _OfVersion(dict[str, Decode]):
    """Says why where a type cannot be read at this version."""

    def __init__(self, version: int, upcasting: Upcasting) -> None:
        super().__init__()
        self._version = version
        self._upcasting = upcasting

    def __missing__(self, event_type: str) -> Decode:
        self._upcasting.path(event_type, self._version)
        raise AssertionError(f"{event_type} {self._version} has a path and no decoder")


def _through(path: Sequence[Upcaster], typed: Decode) -> Decode:
    def decode(data: bytes | str) -> Any:
        # As JSON again, so that what a step made is read exactly as if it had been stored.
        return typed(encoded(path, msgspec.json.decode(data)))

    return decode


def encoded(path: Sequence[Upcaster], data: Any) -> bytes:
    """The JSON that the steps make of `data`.

    Raises:
        UpcastFailed: a step raised something, or the last one made no JSON.
    """
    made = _taken(path, data)
    try:
        return payload.encode("data", made)
    except EventStoreError as cause:
        raise _failed(path[-1], cause) from cause


def _taken(path: Sequence[Upcaster], data: Any) -> Any:
    for step in path:
        try:
            data = step.upcast(data)
        except Exception as cause:
            raise _failed(step, cause) from cause
    return data


def _failed(step: Upcaster, cause: Exception) -> UpcastFailed:
    return UpcastFailed(
        event_type=step.event_type,
        from_version=step.from_version,
        to_version=step.to_version,
        cause=cause,
    )


def _by_source(upcasters: Sequence[Upcaster]) -> dict[Stored, Upcaster]:
    found: dict[Stored, Upcaster] = {}
    for step in upcasters:
        if not isinstance(step, Upcaster):
            raise _wrong(f"{step!r} is no Upcaster")
        name = step.event_type
        for version in (step.from_version, step.to_version):
            if type(version) is not int or version < 1:
                raise _wrong(f"{name!r}: version {version!r} is not a whole number from 1")
        if not callable(step.upcast):
            raise _wrong(f"{name!r}: {step.upcast!r} is not a function")
        version = step.from_version
        if step.to_version <= version:
            raise _wrong(f"{name!r}: {version} to {step.to_version} does not raise the version")
        if step.to_version > version + 1:
            raise _wrong(
                f"{name!r}: {version} to {step.to_version} leaves out version {version + 1}"
            )
        if step.source in found:
            raise _wrong(f"takes up {name!r} {version} twice")
        found[step.source] = step
    return found


def _check_circles(steps: Mapping[Stored, Upcaster]) -> None:
    for source in steps:
        names = [source[0]]
        stored: Stored = source
        while step := steps.get(stored):
            stored = step.target
            if stored[0] != names[-1] and stored[0] in names:
                raise _wrong(f"{' → '.join([*names, stored[0]])}: renamed in a circle")
            names += [stored[0]] if stored[0] != names[-1] else []


def _check_ends(steps: Mapping[Stored, Upcaster], versions: Mapping[str, int]) -> None:
    """Every step leads to another one, or to an event as it is now."""
    for step in steps.values():
        name, version = step.target
        if step.to_type not in {None, step.event_type} and step.event_type in versions:
            raise _wrong(
                f"{step.event_type!r} is an event of this aggregate and renamed {step.to_type!r}"
            )
        if step.target in steps or versions.get(name) == version:
            continue
        if name not in versions:
            raise _wrong(f"{name!r} {version} is no event of this aggregate, and no step goes on")
        raise _wrong(f"{name!r}: no step from version {version}")


def _check_beginnings(steps: Mapping[Stored, Upcaster], versions: Mapping[str, int]) -> None:
    """A type's steps start at version 1, or where another name became this one."""
    targets = {step.target for step in steps.values() if step.target[0] != step.event_type}
    for name in dict.fromkeys(name for name, _ in steps):
        first = min(version for kind, version in steps if kind == name)
        if first > 1 and (name, first) not in targets:
            raise _wrong(f"{name!r}: no step from version {first - 1}")
        last = versions.get(name, first)
        for version in range(first, last):
            if (name, version) not in steps:
                raise _wrong(f"{name!r}: no step from version {version}")


def _wrong(message: str) -> InvalidDomain:
    return InvalidDomain(f"upcasters: {message}")
