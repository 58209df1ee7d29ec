"""A history as a trace tells it: its events as lines, and what each made of the state, masked."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from store.analysis.changes import as_patch, diff
from store.analysis.stepping import Step, Stepper
from store.domain import Domains
from store.errors import ApplyFailed, HistoryGap, TraceTooLarge
from store.interchange import format_line
from store.records import Event
from store.sources import MICROSECOND
from store.trace.masking import Masking

MAX_BYTES = 50_000_000
"""What a trace may hold: a browser is quick with that, and tickets take it."""


class Read(Struct, frozen=True):
    """An event as the code reads it, where that differs from how it was stored."""

    event_type: str
    schema_version: int
    data: Any


class Told(Struct, frozen=True, omit_defaults=True):
    """What an event made of the state, as a JSON Patch; `gap` is in µs since the one before."""

    patch: list[dict[str, Any]]
    gap: int | None = None
    error: str | None = None
    read: Read | None = None


class History(Struct, frozen=True, kw_only=True):
    """Events as lines of NDJSON, as many steps as JSON, and the state before the first of them.

    `gap` says which version is missing after the last of them, if one is.
    """

    before: bytes
    events: list[bytes]
    steps: list[bytes]
    gap: str | None


def told(
    stepper: Stepper,
    domains: Domains,
    masking: Masking,
    *,
    first: int,
    last: int,
    limit: int = MAX_BYTES,
) -> History:
    """The history from version `first` to `last`.

    What came before them is read as well: of that, too, nothing personal may be left.

    Raises:
        TraceTooLarge: it takes more than `limit` bytes.
    """
    _learn(stepper, domains, masking, last)
    before = masking.document(stepper.state(first - 1))
    encoded = msgspec.json.encode(before)
    events: list[bytes] = []
    steps: list[bytes] = []
    gap = None
    size = len(encoded)
    try:
        for step in stepper.steps(first, last):
            after = before if step.error else masking.document(step.after)
            events.append(format_line(masking.event(step.event)))
            steps.append(msgspec.json.encode(_told(step, before, after, domains, masking)))
            before = after
            size += len(events[-1]) + len(steps[-1])
            if size > limit:
                raise TraceTooLarge(version=step.event.version, limit=limit)
    except HistoryGap as error:
        gap = masking.text(str(error))
    return History(before=encoded, events=events, steps=steps, gap=gap)


def event_lines(
    stepper: Stepper, domains: Domains, masking: Masking, *, first: int, last: int
) -> Iterator[bytes]:
    """The events alone, from version `first` to `last`."""
    _learn(stepper, domains, masking, last)
    name = stepper.aggregate.aggregate_id
    for event in stepper.source.events(name, from_version=first, to_version=last):
        yield format_line(masking.event(event))


def _learn(stepper: Stepper, domains: Domains, masking: Masking, last: int) -> None:
    if not masking.active:
        return
    for document in _documents(stepper, domains, last):
        masking.learn(document)


def _documents(stepper: Stepper, domains: Domains, last: int) -> Iterator[Any]:
    """Every place where something personal may stand."""
    yield stepper.initial
    for event in _events(stepper, last):
        yield event.data
        yield event.metadata
        yield _read(event, domains).data
    try:
        for step in stepper.steps(last=last):
            if step.changes:
                yield step.after
    except HistoryGap:  # what is behind it is not folded, and not told
        return


def _events(stepper: Stepper, last: int) -> Iterable[Event]:
    return stepper.source.events(stepper.aggregate.aggregate_id, to_version=last)


def _told(step: Step, before: Any, after: Any, domains: Domains, masking: Masking) -> Told:
    read = _read(step.event, domains)
    return Told(
        patch=as_patch(diff(before, after)),
        gap=None if step.elapsed is None else step.elapsed // MICROSECOND,
        error=_error(step, masking),
        read=None if read is step.event else _as_read(masking.event(read)),
    )


def _error(step: Step, masking: Masking) -> str | None:
    """Why the event could not be applied; somebody's message may quote what is personal."""
    if step.error is None or not masking.active:
        return step.error
    event = step.event
    return (
        f"version {event.version} ({event.event_type}): {step.error_type}"
        " (its message is left out, for it may quote what is masked)"
    )


def _read(event: Event, domains: Domains) -> Event:
    """The event as the code reads it, or as it is stored; why is told by its step's error."""
    try:
        return domains.upcast(event)
    except ApplyFailed:
        return event


def _as_read(event: Event) -> Read:
    return Read(event.event_type, event.schema_version, event.data)
