"""Documents of the Replay page: a history in windows of steps, and what is asked about a field."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from time import monotonic
from typing import Any

import msgspec
import numpy as np

from dashboard import resources
from dashboard.literal import shortened
from dashboard.moments import to_microseconds
from dashboard.parameters import InvalidAddress, moment, number, required
from store.analysis import (
    ABSENT,
    Entry,
    Expression,
    FieldBlame,
    Interval,
    Origin,
    Step,
    Stepper,
    as_patch,
    watch,
)
from store.analysis.document import escaped, find, is_same, parts_of
from store.analysis.forms import Form, forms
from store.errors import ApplyFailed, HistoryGap, NoEventYet, VersionNotFound
from store.records import AggregateSummary, Event
from store.sources import MICROSECOND

WINDOW = 1_000
"""Steps of a window, fewer where they are large."""
WINDOW_BYTES = 2_000_000
MAX_DATA = 4_096
"""Bytes of an event's data that comes with its step; more is fetched when somebody rests there."""
MOST_MARKS = 5_000
MOST_PLACES = 100
SEARCHED_FOR = 10.0
"""Seconds that all versions may be searched."""
MOST_STRETCHES = 2_000
MOST_HISTORY = 50
LONGEST_VALUE = 400


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The aggregate whose history is replayed. `kinds` are indexes into `types`, by version.

    They are there where all can be told apart.
    """

    head: AggregateSummary
    first_version: int
    generic: bool
    types: tuple[str, ...]
    kinds: tuple[int, ...]


class StepRow(msgspec.Struct, frozen=True, array_like=True):
    """A step as it is sent: `gap` in µs since the event before, `took` in µs, a JSON Patch."""

    version: int
    event_type: str
    occurred_at: datetime
    actor: str | None
    correlation_id: str | None
    gap: int | None
    took: float
    error: str | None
    patch: list[dict[str, Any]]
    data: msgspec.Raw | None
    data_bytes: int
    event_version: int
    schema_version: int
    read_as: str


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Steps that follow one another, and the state before them.

    `gap` says which version is missing after the last of them, if one is.
    """

    before: Any
    steps: tuple[StepRow, ...]
    gap: str | None = None


class Blamed(msgspec.Struct, frozen=True, kw_only=True):
    """Who set a field; values as JSON, cut where they are long, None where there was none."""

    path: str
    value: str | None
    origin: Origin | None
    changes: int
    written_again: int | None
    history: tuple["Written", ...]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """One change in a field's history."""

    origin: Origin
    op: str
    path: str
    before: str | None
    after: str | None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A field's values: each as JSON from its version on, None while the state has no such field.

    `more` says that the last changes are left out.
    """

    path: str
    values: tuple[tuple[int, str | None], ...]
    more: bool


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a text stands in the states: first and last version, and whether in the key."""

    path: str
    key: bool
    value: str
    first: int
    last: int


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where a text appears, in the order of its first appearances; `more`: not all are here."""

    places: tuple[Place, ...]
    more: bool


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Versions at which an expression has one answer, and the type of the event that began them.

    `kind` is true, false, value, undefined or error; `answer` is the value as JSON, or the error.
    """

    first: int
    last: int
    kind: str
    answer: str | None
    event_type: str
    actor: str | None


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """An expression's answers over all versions; `more`: the last stretches are left out."""

    stretches: tuple[Stretch, ...]
    more: bool
    gap: str | None


class Failures(msgspec.Struct, frozen=True, kw_only=True):
    """The versions whose events cannot be applied, and the gap where the history breaks off."""

    versions: tuple[int, ...]
    more: bool
    gap: str | None


class StoredForm(msgspec.Struct, frozen=True, kw_only=True):
    """An event's data at one schema version, and the changes since the version before."""

    event_type: str
    schema_version: int
    data: str
    patch: list[dict[str, Any]]
    failure: str | None


class Forms(msgspec.Struct, frozen=True, kw_only=True):
    """How an event was stored, and what each upcaster made of it."""

    forms: tuple[StoredForm, ...]


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """The last version that had occurred by a time."""

    version: int


def replay(params: Mapping[str, str]) -> Head:
    """What is replayed: `aggregate`."""
    head = resources.source().aggregate(required(params, "aggregate"))
    outline = resources.outlines().outline(head)
    few = len(outline) <= MOST_MARKS and resources.outlines().left_out(head, outline) == 0
    return Head(
        head=head,
        first_version=resources.source().info.first_version,
        generic=_stepper(params).generic,
        types=outline.types if few else (),
        kinds=tuple(outline.kinds.tolist()) if few else (),
    )


def window(params: Mapping[str, str]) -> Window:
    """The window that holds `version`: `aggregate`, `version`."""
    stepper = _stepper(params)
    version = number(params, "version")
    head = resources.source().aggregate(stepper.aggregate.aggregate_id)
    version = head.version if version is None else version
    first = stepper.first_version
    if not first - 1 <= version <= head.version:
        raise VersionNotFound(head.aggregate_id, version, newest=head.version)
    start = first + max(version - first, 0) // WINDOW * WINDOW
    last = min(start + WINDOW - 1, head.version)
    found = _window(stepper, start, last)
    if found.steps and found.steps[-1].version < version and found.gap is None:
        return _window(stepper, version, last)
    return found


def blamed(params: Mapping[str, str]) -> Blamed:
    """Who set a field of a state: `aggregate`, `version`, `path`."""
    history = resources.steppers().history(required(params, "aggregate"))
    path = _path(params)
    found = history.blame(_version(params, history.stepper), path)
    if found is None:
        return Blamed(path=path, value=None, origin=None, changes=0, written_again=None, history=())
    return _blamed(found)


def series(params: Mapping[str, str]) -> Series:
    """The values of a field over all versions: `aggregate`, `path`."""
    stepper, path = _stepper(params), _path(params)
    value = find(stepper.initial, path)
    values = [(stepper.first_version - 1, _value(value))]
    for event, state in stepper.states():
        before, value = value, find(state, path)
        if not is_same(before, value):
            if len(values) == MOST_MARKS:
                return Series(path=path, values=tuple(values), more=True)
            values.append((event.version, _value(value)))
    return Series(path=path, values=tuple(values), more=False)


def places(params: Mapping[str, str]) -> Places:
    """Where a text appears in keys or values, over all versions: `aggregate`, `text`."""
    stepper, text = _stepper(params), required(params, "text").casefold()
    found: dict[tuple[str, bool], Place] = {}
    more, deadline = False, monotonic() + SEARCHED_FOR
    for event, state in stepper.states():
        if monotonic() > deadline:
            more = True
            break
        for path, key, value in _holding(state, text):
            known = found.get((path, key))
            if known is None and len(found) == MOST_PLACES:
                more = True
                continue
            first = event.version if known is None else known.first
            found[path, key] = Place(
                path=path, key=key, value=value, first=first, last=event.version
            )
    return Places(places=tuple(found.values()), more=more)


def answers(params: Mapping[str, str]) -> Answers:
    """What an expression is over all versions: `aggregate`, `where`."""
    expression = Expression(required(params, "where"))
    found: list[Stretch] = []
    intervals = watch(_stepper(params).steps(), expression)
    try:
        for interval in intervals:
            if len(found) == MOST_STRETCHES:
                return Answers(stretches=tuple(found), more=True, gap=None)
            found.append(_stretch(interval))
    except HistoryGap as error:
        return Answers(stretches=tuple(found), more=False, gap=str(error))
    return Answers(stretches=tuple(found), more=False, gap=None)


def failures(params: Mapping[str, str]) -> Failures:
    """Which events cannot be applied: `aggregate`."""
    found: list[int] = []
    try:
        for version in _stepper(params).failures():
            if len(found) == MOST_MARKS:
                return Failures(versions=tuple(found), more=True, gap=None)
            found.append(version)
    except HistoryGap as error:
        return Failures(versions=tuple(found), more=False, gap=str(error))
    return Failures(versions=tuple(found), more=False, gap=None)


def stored_forms(params: Mapping[str, str]) -> Forms:
    """An event as it was stored and after each upcaster: `aggregate`, `version`."""
    stepper = _stepper(params)
    version = _version(params, stepper)
    aggregate_id, kind = stepper.aggregate.aggregate_id, stepper.aggregate.aggregate_type
    events = resources.source().events(aggregate_id, from_version=version, to_version=version)
    event = next(events, None)
    if event is None:
        raise VersionNotFound(aggregate_id, version, newest=stepper.aggregate.version)
    return Forms(forms=tuple(map(_form, forms(event, resources.domains().aggregate(kind)))))


def reached(params: Mapping[str, str]) -> Reached:
    """The newest version of those that had occurred by `at`: `aggregate`."""
    at = moment(params, "at")
    if at is None:
        raise InvalidAddress("at: missing; add at=… to the address")
    head = resources.source().aggregate(required(params, "aggregate"))
    outline = resources.outlines().outline(head)
    before = np.flatnonzero(outline.moments <= to_microseconds(at))
    if not len(before):
        raise NoEventYet(head.aggregate_id, at)
    return Reached(version=int(outline.versions[before[-1]]))


def _stepper(params: Mapping[str, str]) -> Stepper:
    return resources.steppers().history(required(params, "aggregate")).stepper


def _version(params: Mapping[str, str], stepper: Stepper) -> int:
    """The version asked for, or the newest; where the first is 0, -1 is before it."""
    if params.get("version") == "-1":
        return -1
    version = number(params, "version")
    if version is None:
        return resources.source().aggregate(stepper.aggregate.aggregate_id).version
    return version


def _path(params: Mapping[str, str]) -> str:
    path = params.get("path", "")
    try:
        parts_of(path)
    except ValueError as error:
        raise InvalidAddress(f"path: {error}") from error
    return path


def _window(stepper: Stepper, first: int, last: int) -> Window:
    rows: list[StepRow] = []
    before: Any = ABSENT
    size = 0
    try:
        for step in stepper.steps(first, last):
            before = step.before if before is ABSENT else before
            row = _row(step)
            size += len(msgspec.json.encode(row))
            if rows and size > WINDOW_BYTES:
                break
            rows.append(row)
    except HistoryGap as error:
        return Window(before=_or_initial(before, stepper), steps=tuple(rows), gap=str(error))
    return Window(before=_or_initial(before, stepper), steps=tuple(rows))


def _or_initial(before: Any, stepper: Stepper) -> Any:
    return stepper.initial if before is ABSENT else before


def _row(step: Step) -> StepRow:
    event = step.event
    read = _read(event)
    data = msgspec.json.encode(read.data) if read is not event else event.raw_data
    return StepRow(
        version=event.version,
        event_type=event.event_type,
        occurred_at=event.occurred_at,
        actor=event.actor,
        correlation_id=event.correlation_id,
        gap=None if step.elapsed is None else step.elapsed // MICROSECOND,
        took=round(step.took * 1e6, 1),
        error=step.error,
        patch=as_patch(step.changes),
        data=msgspec.Raw(data) if len(data) <= MAX_DATA else None,
        data_bytes=len(data),
        event_version=event.event_version,
        schema_version=read.schema_version,
        read_as=read.event_type,
    )


def _read(event: Event) -> Event:
    """The event as the code reads it, or as it is stored; why is told by its step's error."""
    try:
        return resources.domains().upcast(event)
    except ApplyFailed:
        return event


def _blamed(found: FieldBlame) -> Blamed:
    return Blamed(
        path=found.path,
        value=_value(found.value),
        origin=found.origin,
        changes=found.changes,
        written_again=found.written_again,
        history=tuple(map(_written, found.history[-MOST_HISTORY:])),
    )


def _written(entry: Entry) -> Written:
    change = entry.change
    return Written(
        origin=entry.origin,
        op=change.op,
        path=change.path,
        before=_value(change.before),
        after=_value(change.after),
    )


def _value(value: Any) -> str | None:
    if value is ABSENT:
        return None
    return shortened(msgspec.json.encode(value).decode(), LONGEST_VALUE)


def _holding(state: Any, text: str, path: str = "") -> Iterator[tuple[str, bool, str]]:
    """Where the text stands: the place, whether in its key, and the value there."""
    if isinstance(state, dict | list) and state:
        items = state.items() if isinstance(state, dict) else enumerate(state)
        for key, value in items:
            place = f"{path}/{escaped(str(key))}"
            if isinstance(state, dict) and text in str(key).casefold():
                yield place, True, str(_value(value))
            yield from _holding(value, text, place)
        return
    shown = state if isinstance(state, str) else msgspec.json.encode(state).decode()
    if text in shown.casefold():
        yield path, False, shortened(shown, LONGEST_VALUE)


def _stretch(interval: Interval) -> Stretch:
    answer = interval.answer
    is_said = answer.kind == "value" and isinstance(answer.value, bool)
    return Stretch(
        first=interval.first,
        last=interval.last,
        kind=str(answer.value).lower() if is_said else answer.kind,
        answer=_value(answer.value) if answer.kind == "value" else answer.error,
        event_type=interval.event.event_type,
        actor=interval.event.actor,
    )


def _form(form: Form) -> StoredForm:
    return StoredForm(
        event_type=form.event_type,
        schema_version=form.schema_version,
        data=msgspec.json.encode(form.data).decode(),
        patch=as_patch(form.changes),
        failure=form.failure,
    )
