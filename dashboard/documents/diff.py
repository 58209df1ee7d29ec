"""Documents of the Diff page: two states and their changes, the events between, the upcasters."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType

from dashboard import resources
from dashboard.literal import shortened
from dashboard.parameters import SHOWN, InvalidAddress, moment, required
from store.analysis import ABSENT, Change, Step, as_patch
from store.analysis import diff as changes_between
from store.analysis.sides import Point, Side, side, snapshot_and_replay
from store.analysis.text import Segment, are_alike, segments, unified
from store.errors import HistoryGap, VersionNotFound
from store.records import Axis
from store.upcast_check import StoredVersion, stored_versions

MOST_BYTES = 2_000_000
"""Bytes of a state's JSON up to which both states are sent; else only what differs."""
MOST_CHANGES = 5_000
LONGEST_VALUE = 2_000
LONGEST_TEXT = 100_000
"""Characters of two texts up to which they are compared by their words or lines."""
MOST_TEXTS = 20
MOST_BETWEEN = 500
MOST_PATHS = 20
MOST_COUNTED = 1_000_000
"""Events that are counted by their stored versions without being asked to."""
SNAPSHOT = "snapshot"

_VERSION = re.compile(r"-?\d{1,18}", re.ASCII)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A side of a diff without its state; `newest` is the aggregate's version.

    `name` tells the snapshot and the replay apart.
    """

    name: str
    aggregate_id: str
    aggregate_type: str
    version: int
    newest: int
    as_of: datetime | None
    generic: bool
    stopped: str | None


class ChangeRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change; values as JSON, cut where they are long, left out where there is none.

    Long texts that are alike come with the words or the lines in which they differ.
    """

    op: str
    path: str
    source: str | UnsetType = msgspec.field(default=UNSET, name="from")
    before: str | UnsetType = UNSET
    after: str | UnsetType = UNSET
    segments: list[tuple[str, str]] | UnsetType = UNSET
    lines: list[str] | UnsetType = UNSET


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """Two states and what makes the `other` of the `one`.

    `states` are left out where one is large; `more` changes are, where there are many.
    """

    one: Shown
    other: Shown
    first_version: int
    states: tuple[msgspec.Raw, msgspec.Raw] | None
    bytes: tuple[int, int]
    changes: tuple[ChangeRow, ...]
    more: int
    patch_bytes: int
    command: str


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and at which places it changed the state: so many `changes`, the first `paths`."""

    version: int
    event_type: str
    occurred_at: datetime
    actor: str | None
    changes: int
    paths: tuple[str, ...]
    error: str | None


class Between(msgspec.Struct, frozen=True, kw_only=True):
    """The events between two versions; `more` are left out, `gap` says which one is missing."""

    events: tuple[Contribution, ...]
    more: int
    gap: str | None = None


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """Every schema version that is stored, None where it takes long to count them all.

    `domain` says whether there is any domain code.
    """

    domain: bool
    events: int
    versions: tuple[StoredVersion, ...] | None


def diff(params: Mapping[str, str]) -> Diff:
    """Two states: `aggregate`, `from`, `to`, `with` (another aggregate for `to`), `axis`."""
    names, (one, other) = _sides(params)
    changes = changes_between(one.state, other.state)
    states = [msgspec.json.encode(each.state) for each in (one, other)]
    few = max(map(len, states)) <= MOST_BYTES
    return Diff(
        one=_shown(names[0], one),
        other=_shown(names[1], other),
        first_version=resources.source().info.first_version,
        states=(msgspec.Raw(states[0]), msgspec.Raw(states[1])) if few else None,
        bytes=(len(states[0]), len(states[1])),
        changes=tuple(_rows(changes[:MOST_CHANGES])),
        more=max(len(changes) - MOST_CHANGES, 0),
        patch_bytes=len(_patch(changes)),
        command=_command(params, one),
    )


def patch(params: Mapping[str, str]) -> bytes:
    """The changes as JSON Patch, to be saved; asked as `diff` is."""
    _, (one, other) = _sides(params)
    return _patch(changes_between(one.state, other.state))


def states(params: Mapping[str, str]) -> bytes:
    """Both states and the changes, as the command prints them; asked as `diff` is."""
    _, (one, other) = _sides(params)
    changes = as_patch(changes_between(one.state, other.state))
    return msgspec.json.encode({"one": one, "other": other, "changes": changes})


def between(params: Mapping[str, str]) -> Between:
    """The events between two versions, in either order: `aggregate`, `from`, `to`."""
    stepper = resources.steppers().history(required(params, "aggregate")).stepper
    first, last = sorted(_version(params, name) for name in ("from", "to"))
    newest = resources.source().aggregate(stepper.aggregate.aggregate_id).version
    if last > newest:
        raise VersionNotFound(stepper.aggregate.aggregate_id, last, newest=newest)
    if first == last:
        return Between(events=(), more=0)
    events: list[Contribution] = []
    try:
        for step in islice(stepper.steps(first + 1, last), MOST_BETWEEN):
            events.append(_contribution(step))  # noqa: PERF401 (a gap leaves those before it)
    except HistoryGap as error:
        return Between(events=tuple(events), more=0, gap=str(error))
    return Between(events=tuple(events), more=max(last - first - MOST_BETWEEN, 0))


def coverage(params: Mapping[str, str]) -> Coverage:
    """Which schema versions are stored, and what they are read as; of very many with `all`."""
    source, domains = resources.source(), resources.domains()
    events = source.counts().events
    asked = bool(params.get("all")) or events <= MOST_COUNTED
    return Coverage(
        domain=bool(domains.domains),
        events=events,
        versions=stored_versions(source, domains) if asked else None,
    )


def _sides(params: Mapping[str, str]) -> tuple[tuple[str, str], tuple[Side, Side]]:
    """Both sides and their names, which are empty but for a snapshot and its replay."""
    aggregate_id = required(params, "aggregate")
    if params.get("from") == SNAPSHOT:
        return ("the snapshot", "the replay"), _of_snapshot(params, aggregate_id)
    other_id = params.get("with") or aggregate_id
    axis = _axis(params)
    one_point, other_point = _point(params, "from"), _point(params, "to")
    other = _side(other_id, other_point, axis)
    if one_point is None and other_id == aggregate_id:
        one_point = max(other.version, resources.source().info.first_version) - 1
    return ("", ""), (_side(aggregate_id, one_point, axis), other)


def _of_snapshot(params: Mapping[str, str], aggregate_id: str) -> tuple[Side, Side]:
    store = resources.store()
    if store is None:
        raise InvalidAddress("from: an event file has no snapshots")
    for name in ("to", "with"):
        if params.get(name):
            raise InvalidAddress(f"{name}: a snapshot is compared with its replay; leave it out")
    return snapshot_and_replay(store.repository, store.snapshots, aggregate_id)


def _side(aggregate_id: str, point: Point, axis: Axis) -> Side:
    if isinstance(point, int):
        newest = resources.source().aggregate(aggregate_id).version
        if not resources.source().info.first_version - 1 <= point <= newest:
            raise VersionNotFound(aggregate_id, point, newest=newest)
    return side(resources.repository(), aggregate_id, point, axis=axis)


def _axis(params: Mapping[str, str]) -> Axis:
    text = params.get("axis") or "occurred"
    if text not in {"occurred", "recorded"}:
        raise InvalidAddress(f"axis: {text[:SHOWN]!r} is neither occurred nor recorded")
    return cast("Axis", text)


def _point(params: Mapping[str, str], name: str) -> Point:
    text = params.get(name)
    if not text:
        return None
    if _VERSION.fullmatch(text):
        return int(text)
    try:
        return moment(params, name)
    except InvalidAddress:
        raise InvalidAddress(
            f"{name}: {text[:SHOWN]!r} is neither a version nor a time such as 2026-01-31T12:00:00Z"
        ) from None


def _version(params: Mapping[str, str], name: str) -> int:
    text = required(params, name)
    if not _VERSION.fullmatch(text):
        raise InvalidAddress(f"{name}: {text[:SHOWN]!r} is not a version")
    return int(text)


def _shown(name: str, each: Side) -> Shown:
    head = resources.source().aggregate(each.aggregate_id)
    return Shown(
        name=name,
        aggregate_id=each.aggregate_id,
        aggregate_type=head.aggregate_type,
        version=each.version,
        newest=head.version,
        as_of=each.as_of,
        generic=each.generic,
        stopped=each.stopped,
    )


def _rows(changes: Sequence[Change]) -> Iterator[ChangeRow]:
    compared = 0
    for change in changes:
        by_parts = compared < MOST_TEXTS and _is_compared(change)
        compared += by_parts
        parts = _parts(change.before, change.after) if by_parts else {}
        yield ChangeRow(
            op=change.op,
            path=change.path,
            source=UNSET if change.source is None else change.source,
            before=_value(change.before),
            after=_value(change.after),
            **parts,
        )


def _is_compared(change: Change) -> bool:
    one, other = change.before, change.after
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    return len(one) + len(other) <= LONGEST_TEXT and are_alike(one, other)


def _parts(before: str, after: str) -> dict[str, Any]:
    if "\n" in before or "\n" in after:
        return {"lines": unified(before, after)}
    return {"segments": [_pair(each) for each in segments(before, after)]}


def _pair(each: Segment) -> tuple[str, str]:
    return each.kind, each.text


def _value(value: Any) -> str | UnsetType:
    if value is ABSENT:
        return UNSET
    return shortened(msgspec.json.encode(value).decode(), LONGEST_VALUE)


def _patch(changes: Sequence[Change]) -> bytes:
    return msgspec.json.encode(as_patch(changes))


def _contribution(step: Step) -> Contribution:
    return Contribution(
        version=step.event.version,
        event_type=step.event.event_type,
        occurred_at=step.event.occurred_at,
        actor=step.event.actor,
        changes=len(step.changes),
        paths=tuple(change.path for change in step.changes[:MOST_PATHS]),
        error=step.error,
    )


def _command(params: Mapping[str, str], one: Side) -> str:
    """The command that shows the same."""
    file = resources.file()
    options = [f"--url={file}"] if file else []
    points: list[str] = []
    if params.get("from") == SNAPSHOT:
        options.append("--snapshot")
    else:
        options += [f"--with={params['with']}"] if params.get("with") else []
        options += (
            [f"--axis={params['axis']}"] if params.get("axis", "occurred") != "occurred" else []
        )
        # Who names B names A before it.
        start = params.get("from") or (str(one.version) if params.get("to") else "")
        points = [each for each in (start, params.get("to")) if each]
    return shlex.join(["hindsight", "diff", *options, "--", one.aggregate_id, *points])
