"""Documents about one aggregate: its history on an axis, a page of it, an event in full."""

import shlex
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from dashboard import resources
from dashboard.axis import Axis, axis_of
from dashboard.lanes import Lanes, arrange
from dashboard.listing import ListPage, page_of
from dashboard.literal import shortened, summary
from dashboard.moments import to_microseconds
from dashboard.outline import Outline
from dashboard.parameters import number, required, stretch
from dashboard.related import Node, related
from dashboard.states import ABSENT, Change
from store.errors import ApplyFailed, VersionNotFound
from store.interchange import format_line
from store.records import AggregateSummary, Event

MAX_TREE_BYTES = 512 * 1024
MAX_RAW_CHARACTERS = 100_000
MOST_CHANGES = 50
LONGEST_VALUE = 400


class History(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate's head and the marks of its events between `since` and `until`."""

    head: AggregateSummary
    first_version: int
    events: int
    shown: int
    left_out: int
    whole: tuple[int, int]
    axis: Axis
    lanes: Lanes


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An event in a list; `gap` is the time since the event before it, in µs."""

    version: int
    occurred_at: datetime
    event_type: str
    actor: str | None
    gap: int | None
    summary: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a history's list; None where the stretch has no events."""

    page: ListPage | None
    rows: tuple[Row, ...]


class Neighbours(msgspec.Struct, frozen=True, kw_only=True):
    """The versions that keys lead to; None where there is none."""

    first: int
    previous: int | None
    following: int | None
    last: int


class Full(msgspec.Struct, frozen=True, kw_only=True):
    """An event in full. What is too long to be shown as a tree is None here and has its size.

    `data` is as the code reads it today: of type `read_as` in `schema_version`. What it cannot read
    is `unreadable` for a reason, and as it is stored.
    """

    aggregate_id: str
    aggregate_type: str
    version: int
    position: int
    event_id: UUID
    event_type: str
    event_version: int
    schema_version: int
    read_as: str
    unreadable: str | None
    correlation_id: str | None
    causation_id: str | None
    actor: str | None
    occurred_at: datetime
    recorded_at: datetime | None
    digest: str | None
    data: str | None
    data_bytes: int
    metadata: str | None
    metadata_bytes: int
    neighbours: Neighbours
    command: str


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A field's values as JSON, None where the state had no such field."""

    field: str
    before: str | None
    after: str | None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What an event changed and the state after it; see `states.Effect`."""

    changes: tuple[Changed, ...]
    more: int
    state: str | None
    state_bytes: int
    version: int
    born: bool
    generic: bool
    failure: str | None


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one correlation id as a tree; `cut` says that there are more than `count`."""

    correlation_id: str | None
    tree: tuple[Node, ...]
    count: int
    cut: bool


class Raw(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of an event as they are stored, as text; cut where they are many."""

    data: str
    data_bytes: int
    metadata: str
    metadata_bytes: int


def history(params: Mapping[str, str]) -> History:
    """The aggregate on a time axis: `aggregate`, `since`, `until`, `idle=shown`."""
    head, outline = _outline(params)
    shown = _shown(params, outline)
    whole = (int(outline.moments.min()), int(outline.moments.max()) + 1)
    since, until = stretch(params)
    axis = axis_of(
        shown.moments,
        whole[0] if since is None else to_microseconds(since),
        whole[1] if until is None else to_microseconds(until),
        collapse=params.get("idle") != "shown",
    )
    return History(
        head=head,
        first_version=resources.source().info.first_version,
        events=len(outline),
        shown=len(shown),
        left_out=resources.outlines().left_out(head, outline),
        whole=whole,
        axis=axis,
        lanes=arrange(shown, axis),
    )


def page(params: Mapping[str, str]) -> Page:
    """The list page with version `at`: `aggregate`, `since`, `until`, `list=oldest`."""
    _, outline = _outline(params)
    newest_first = params.get("list") != "oldest"
    found = page_of(_shown(params, outline), at=number(params, "at"), newest_first=newest_first)
    if found is None:
        return Page(page=None, rows=())
    since, until = stretch(params)
    events = resources.source().events(
        required(params, "aggregate"),
        from_version=found.from_version,
        to_version=found.to_version,
        since=since,
        until=until,
        backward=newest_first,
    )
    some = islice(events, found.last_row - found.first_row + 1)
    return Page(page=found, rows=tuple(_row(event, outline) for event in some))


def event(params: Mapping[str, str]) -> Full:
    """One event: `aggregate`, `version`."""
    found = _event(params)
    _, outline = _outline(params)
    read, unreadable = _read(found)
    return Full(
        aggregate_id=found.aggregate_id,
        aggregate_type=found.aggregate_type,
        version=found.version,
        position=found.position,
        event_id=found.event_id,
        event_type=found.event_type,
        event_version=found.event_version,
        schema_version=read.schema_version,
        read_as=read.event_type,
        unreadable=unreadable,
        correlation_id=found.correlation_id,
        causation_id=found.causation_id,
        actor=found.actor,
        occurred_at=found.occurred_at,
        recorded_at=found.recorded_at,
        digest=None if found.digest is None else found.digest.hex(),
        data=_text(found.raw_data if read is found else msgspec.json.encode(read.data)),
        data_bytes=len(found.raw_data),
        metadata=_text(found.raw_metadata),
        metadata_bytes=len(found.raw_metadata),
        neighbours=_neighbours(outline, found.version),
        command=_command(found),
    )


def effect(params: Mapping[str, str]) -> State:
    """What an event changed, and the state after it: `aggregate`, `version`."""
    found = resources.states().effect(_event(params))
    state = msgspec.json.encode(found.state, enc_hook=repr)
    return State(
        changes=tuple(map(_changed, found.changes[:MOST_CHANGES])),
        more=max(len(found.changes) - MOST_CHANGES, 0),
        state=_text(state),
        state_bytes=len(state),
        version=found.version,
        born=found.version >= resources.source().info.first_version,
        generic=found.generic,
        failure=found.failure,
    )


def relatives(params: Mapping[str, str]) -> Family:
    """The causes and effects of an event: `aggregate`, `version`."""
    found = related(resources.source(), _event(params))
    return Family(
        correlation_id=found.correlation_id,
        tree=found.tree,
        count=len(found.events),
        cut=found.cut,
    )


def raw(params: Mapping[str, str]) -> Raw:
    """An event's bytes: `aggregate`, `version`."""
    found = _event(params)
    return Raw(
        data=_cut(found.raw_data),
        data_bytes=len(found.raw_data),
        metadata=_cut(found.raw_metadata),
        metadata_bytes=len(found.raw_metadata),
    )


def line(params: Mapping[str, str]) -> bytes:
    """An event as a line of an export: `aggregate`, `version`."""
    return format_line(_event(params))


def stored_bytes(params: Mapping[str, str]) -> bytes:
    """All bytes of `part` data or metadata of an event: `aggregate`, `version`."""
    found = _event(params)
    return found.raw_metadata if params.get("part") == "metadata" else found.raw_data


def _outline(params: Mapping[str, str]) -> tuple[AggregateSummary, Outline]:
    head = resources.source().aggregate(required(params, "aggregate"))
    return head, resources.outlines().outline(head)


def _shown(params: Mapping[str, str], outline: Outline) -> Outline:
    since, until = stretch(params)
    return outline.within(
        None if since is None else to_microseconds(since),
        None if until is None else to_microseconds(until),
    )


def _event(params: Mapping[str, str]) -> Event:
    aggregate_id, version = required(params, "aggregate"), number(params, "version")
    source = resources.source()
    if version is None:
        version = source.aggregate(aggregate_id).version
    events = source.events(aggregate_id, from_version=version, to_version=version)
    found = next(events, None)
    if found is None:
        head = source.aggregate(aggregate_id)
        raise VersionNotFound(aggregate_id, version, newest=head.version)
    return found


def _read(event: Event) -> tuple[Event, str | None]:
    """The event as the code reads it, or as it is stored and why it cannot be read."""
    try:
        return resources.domains().upcast(event), None
    except ApplyFailed as error:
        return event, " ".join(str(error).split())


def _row(event: Event, outline: Outline) -> Row:
    index = outline.index_of(event.version)
    gap = int(outline.moments[index] - outline.moments[index - 1]) if index else None
    return Row(
        version=event.version,
        occurred_at=event.occurred_at,
        event_type=event.event_type,
        actor=event.actor,
        gap=gap,
        summary=summary(event.data),
    )


def _neighbours(outline: Outline, version: int) -> Neighbours:
    index = outline.index_of(version)
    last = len(outline) - 1
    return Neighbours(
        first=int(outline.versions[0]),
        previous=int(outline.versions[index - 1]) if index else None,
        following=None if index is None or index == last else int(outline.versions[index + 1]),
        last=int(outline.versions[last]),
    )


def _command(event: Event) -> str:
    file = resources.file()
    of_file = ["--url", file] if file else []
    words = ["hindsight", "replay", f"--version={event.version}", *of_file]
    # Behind the dashes no id is taken for an option.
    return shlex.join([*words, "--", event.aggregate_id])


def _text(raw_json: bytes) -> str | None:
    return raw_json.decode("utf-8", "replace") if len(raw_json) <= MAX_TREE_BYTES else None


def _cut(raw_json: bytes) -> str:
    return raw_json.decode("utf-8", "replace")[:MAX_RAW_CHARACTERS]


def _changed(change: Change) -> Changed:
    return Changed(field=change.field, before=_value(change.before), after=_value(change.after))


def _value(value: Any) -> str | None:
    if value is ABSENT:
        return None
    return shortened(msgspec.json.encode(value, enc_hook=repr).decode(), LONGEST_VALUE)
