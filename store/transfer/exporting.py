"""A history, or a whole store, as NDJSON."""

import gzip
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import BinaryIO

from msgspec.structs import replace

from store.interchange import format_line
from store.records import Event
from store.sources import EventSource

_CHUNK = 500
"""Events written, and reported to `progress`, at a time."""


def export_events(
    source: EventSource,
    stream: BinaryIO,
    *,
    aggregate_id: str | None = None,
    until: int | None = None,
    compress: bool = False,
    upcast: Callable[[Event], Event] | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write events as lines that `import_events` takes, with every field; returns how many.

    All in position order, or those of one aggregate. Of a store that is being written to, pass
    `settled_position` as `until`: events that commit late could be missing below it otherwise.
    `progress` is told how many are written. The same events compress to the same bytes. With
    `upcast` the lines hold the events as it gives them, else as they were written.

    Raises:
        AggregateNotFound: there is no such aggregate.
    """
    if aggregate_id is None:
        events = source.feed(before=None if until is None else until + 1)
    else:
        source.aggregate(aggregate_id)
        events = source.events(aggregate_id)
    if upcast is not None:
        events = map(partial(_as_read, upcast), events)
    exported = 0
    with _compressed(stream) if compress else nullcontext(stream) as target:
        while lines := [format_line(event) for event in islice(events, _CHUNK)]:
            target.write(b"".join(lines))
            exported += len(lines)
            if progress is not None:
                progress(exported)
    return exported


def _as_read(upcast: Callable[[Event], Event], event: Event) -> Event:
    """The event as if it had been written in the schema version it is read as."""
    read = upcast(event)
    if read is event:
        return event
    raw = read.upcast_data or read.raw_data
    return replace(
        read, event_version=read.schema_version, raw_data=raw, upcast_data=None, digest=None
    )


def _compressed(stream: BinaryIO) -> gzip.GzipFile:
    # Neither the time nor a file name goes into the header.
    return gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0)
