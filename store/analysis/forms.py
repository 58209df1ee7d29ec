"""An event's data as it was stored and after each step of upcasting, and what each step changed."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from store import payload
from store.analysis.changes import Change, diff
from store.domain import Aggregate
from store.errors import EventStoreError
from store.records import Event
from store.upcasting import encoded


class Form(Struct, frozen=True, kw_only=True):
    """The event at one schema version, and the changes since the version before.

    A step that failed leaves the data as it was, and says why.
    """

    event_type: str
    schema_version: int
    data: Any
    changes: tuple[Change, ...] = ()
    failure: str | None = None


def forms(event: Event, aggregate: Aggregate[Any] | None) -> list[Form]:
    """The forms of an event, the stored one first; only that where there is no domain code."""
    return list(_forms(event, aggregate))


def _forms(event: Event, aggregate: Aggregate[Any] | None) -> Iterator[Form]:
    stored = (event.event_type, event.event_version)
    data = payload.decode(event.raw_data)
    if aggregate is None:
        yield _form(stored, data)
        return
    try:
        path = aggregate.upcasting.path(*stored)
    except EventStoreError as error:
        yield _form(stored, data, failure=str(error))
        return
    yield _form(stored, data)
    for step in path:
        try:
            # Each step gets what it may change in place, as it does where the event is read.
            made = msgspec.json.decode(
                encoded([step], msgspec.json.decode(msgspec.json.encode(data)))
            )
        except EventStoreError as error:
            yield _form(step.target, data, failure=str(error))
            return
        yield _form(step.target, made, tuple(diff(data, made)))
        data = made


def _form(
    stored: tuple[str, int], data: Any, changes: tuple[Change, ...] = (), failure: str | None = None
) -> Form:
    return Form(
        event_type=stored[0],
        schema_version=stored[1],
        data=data,
        changes=changes,
        failure=failure,
    )
