"""The document of the Operations page: the outbox, what was done to it by hand, the archive."""

import getpass
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from dashboard import resources
from dashboard.moments import to_microseconds
from dashboard.parameters import InvalidAddress
from store.application import Hindsight
from store.archive import Archive
from store.errors import EventStoreError, NotFound
from store.outbox.operations import Operations as Acts
from store.outbox.records import COUNTED, Action, Head, Operation, Record, Standing

SHOWN = 100
LONGEST_REASON = 500


class NothingToOperate(NotFound):
    """The source is no store, so nothing is published from it."""


class NotAnOperator(EventStoreError):
    """The dashboard was not opened to operate the store."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter, its whole error and the error's last line; times are in µs since 1970."""

    aggregate_id: str
    version: int
    event_type: str
    attempts: int
    failed_at: int
    why: str
    error: str
    waiting: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The record that an aggregate's later ones wait for, and how many those are."""

    aggregate_id: str
    version: int
    state: Literal["due", "later", "leased", "failed"]
    attempts: int
    created_at: int
    next_attempt_at: int | None
    leased_by: str | None
    leased_until: int | None
    why: str | None
    waiting: int


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody did by hand."""

    occurred_at: int
    actor: str
    action: Action
    aggregate_id: str
    version: int
    reason: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many records there are, each at most `counted`; the age is in seconds.

    Where `is_bounded`, at least so many are pending, due and in flight.
    """

    pending: int
    due: int
    in_flight: int
    failed: int
    skipped: int
    published: int
    is_bounded: bool
    oldest: float | None
    held: str | None
    counted: int = COUNTED


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate that was restored from the archive, and that nothing is archived of."""

    aggregate_id: str
    restored_at: int
    restored_by: str


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """How much is archived and of what time, what it takes beside active events, and who is held.

    Sizes are in bytes, None where the database would have to look at all there is; `active` is an
    estimate; `older_than` is in µs. `missing` are months, `default` packs.
    """

    events: int
    bytes: int
    size: int | None
    active: int
    active_size: int | None
    earliest: int | None
    latest: int | None
    oldest_active: int | None
    ran_at: int | None
    older_than: int
    keep_active: int
    is_enabled: bool
    is_behind: bool
    missing: Sequence[str]
    default: int
    held: Sequence[Held]


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, up to `SHOWN` rows of each kind."""

    now: int
    name: str
    can_operate: bool
    status: Counts
    dead: Sequence[Letter]
    heads: Sequence[Line]
    acts: Sequence[Done]
    archive: Archived
    shown: int = SHOWN


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants done to a record, and why."""

    action: Action
    aggregate: str
    version: int
    reason: str


def operations(params: Mapping[str, str]) -> Operations:
    """The outbox and the archive of the store that is shown.

    Raises:
        NothingToOperate: the source is no store.
    """
    del params  # the address says nothing more
    store = _store()
    outbox, now = store.outbox, datetime.now(UTC)
    held = {head.record.aggregate_id: head.behind for head in outbox.heads(held=True, limit=SHOWN)}
    return Operations(
        now=to_microseconds(now),
        name=store.info.name,
        can_operate=resources.operator() is not None,
        status=_counts(outbox.standing()),
        dead=[_letter(each, held) for each in outbox.failed(limit=SHOWN)],
        heads=[_line(each, now) for each in outbox.heads(limit=SHOWN)],
        acts=[_done(each) for each in outbox.operations(limit=SHOWN)],
        archive=_archived(store.archive),
    )


def operate(body: bytes) -> Mapping[str, str]:
    """Do to a record what the body orders, as the person who runs the dashboard.

    Raises:
        InvalidAddress: the body orders nothing, or gives no reason.
        NotAnOperator: nobody may, here.
        RecordNotFound, RecordRefused: it cannot be done to that record.
    """
    operator = resources.operator()
    if operator is None:
        raise NotAnOperator(
            "this dashboard only shows; open it with --operate, or use hindsight outbox"
        )
    try:
        order = msgspec.json.decode(body, type=Order)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidAddress(f"no order: {error}") from error
    reason = order.reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise InvalidAddress(f"reason: say why, in up to {LONGEST_REASON} characters")
    acts = Acts(operator.database, actor=f"{getpass.getuser()} (dashboard)")
    if order.action == "redrive":
        acts.redrive(order.aggregate, order.version, reason=reason)
    else:
        acts.skip(order.aggregate, order.version, reason=reason)
    return {"done": order.action}


def _store() -> Hindsight:
    store = resources.store()
    if store is None:
        raise NothingToOperate("These events are in no store: nothing is published from here.")
    return store


def _counts(standing: Standing) -> Counts:
    return Counts(
        pending=standing.pending,
        due=standing.due,
        in_flight=standing.in_flight,
        failed=standing.failed,
        skipped=standing.skipped,
        published=standing.published,
        is_bounded=standing.is_bounded,
        oldest=standing.oldest_seconds,
        held=standing.held.record.aggregate_id if standing.held is not None else None,
    )


def _letter(record: Record, held: Mapping[str, int]) -> Letter:
    return Letter(
        aggregate_id=record.aggregate_id,
        version=record.version,
        event_type=record.event_type or "",
        attempts=record.attempts,
        failed_at=to_microseconds(record.finished_at or record.created_at),
        why=record.reason or "",
        error=record.error or "",
        waiting=held.get(record.aggregate_id, 0) if record.is_open else 0,
    )


def _line(head: Head, now: datetime) -> Line:
    record = head.record
    return Line(
        aggregate_id=record.aggregate_id,
        version=record.version,
        state=_state(record, now),
        attempts=record.attempts,
        created_at=to_microseconds(record.created_at),
        next_attempt_at=_moment(record.next_attempt_at),
        leased_by=record.leased_by,
        leased_until=_moment(record.leased_until),
        why=record.reason,
        waiting=head.behind,
    )


def _state(record: Record, now: datetime) -> Literal["due", "later", "leased", "failed"]:
    if record.status == "failed":
        return "failed"
    if record.in_flight:
        return "leased"
    return "later" if record.next_attempt_at and record.next_attempt_at > now else "due"


def _done(operation: Operation) -> Done:
    return Done(
        occurred_at=to_microseconds(operation.occurred_at),
        actor=operation.actor,
        action=operation.action,
        aggregate_id=operation.aggregate_id,
        version=operation.version,
        reason=operation.reason,
    )


def _archived(archive: Archive) -> Archived:
    found = archive.standing(at_once=True, most=SHOWN)
    return Archived(
        events=found.events,
        bytes=found.bytes,
        size=found.size,
        active=found.active_events,
        active_size=found.active_size,
        earliest=_moment(found.earliest),
        latest=_moment(found.latest),
        oldest_active=_moment(found.oldest_active),
        ran_at=_moment(found.ran_at),
        older_than=archive.policy.older_than // timedelta(microseconds=1),
        keep_active=archive.policy.keep_active,
        is_enabled=archive.enabled,
        is_behind=archive.is_behind(found),
        missing=[f"{month:%Y-%m}" for month in found.missing],
        default=found.default,
        held=[
            Held(
                aggregate_id=each.aggregate_id,
                restored_at=to_microseconds(each.restored_at),
                restored_by=each.restored_by,
            )
            for each in found.restored
        ],
    )


def _moment(moment: datetime | None) -> int | None:
    return None if moment is None else to_microseconds(moment)
