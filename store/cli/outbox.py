"""`hindsight outbox`."""

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
import msgspec
from msgspec import Struct

from store.application import Hindsight
from store.cli.columns import Columns, shown, span_text, utc_text
from store.cli.parameters import Name
from store.cli.program import FOUND, store_option
from store.errors import RecordNotFound
from store.outbox.operations import Operations, Redriven
from store.outbox.records import COUNTED, Head, Operation, Outbox, Record, Standing

F = TypeVar("F", bound=Callable[..., Any])

HEADS = 20
SHOWN = 100
_MOST = 10_000
VERSION = click.IntRange(1, 2**63 - 1)


class Status(Struct, frozen=True, kw_only=True):
    """How the outbox of a store stands, and for what its aggregates wait: those held first."""

    store: str
    standing: Standing
    heads: Sequence[Head]


class Shown(Struct, frozen=True, kw_only=True):
    """Records, and what was done to them by hand: the newest first."""

    records: Sequence[Record]
    operations: Sequence[Operation]


@click.group()
def outbox() -> None:
    """What is still to be published, what could not be, and what is to be done about it.

    An event that could not be published four times is a dead letter: later events of its aggregate
    wait until it is redriven or skipped. Both take a reason, and are written down.

    \b
    Examples:
      hindsight outbox status
      hindsight outbox show user-1 --version 7
      hindsight outbox redrive --all --reason "the broker is back"
    """


@outbox.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
@click.pass_context
def status(context: click.Context, /, *, url: str, as_json: bool) -> None:
    """How many records there are of each kind, and for what aggregates wait.

    Exit code 1: there are dead letters.

    \b
    Examples:
      hindsight outbox status
      hindsight outbox status --json | jq .standing.oldest_seconds
    """
    with Hindsight(url, read_only=True, metrics=False) as store:
        found = Status(
            store=store.info.name, standing=store.outbox.standing(), heads=_heads(store.outbox)
        )
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for line in _told(found):
            click.echo(line)
    context.exit(FOUND if found.standing.failed else 0)


@outbox.command()
@click.option("--limit", type=click.IntRange(1, _MOST), default=SHOWN, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
def failed(*, url: str, limit: int, as_json: bool) -> None:
    """The dead letters, with the last line of each error; the document has all of it.

    \b
    Examples:
      hindsight outbox failed
      hindsight outbox failed --limit 1000 --json | jq -r '.failed[].error'
    """
    with Hindsight(url, read_only=True, metrics=False) as store:
        found = store.outbox.failed(limit=limit)
    if as_json:
        click.echo(msgspec.json.encode({"failed": found}))
        return
    if not found:
        click.echo("no dead letters")
        return
    columns = Columns("aggregate", ">version", "event", ">attempts", "failed (UTC)", "error")
    for line in columns.lines(map(_failed_row, found)):
        click.echo(line)
    if len(found) == limit:
        click.echo(f"the first {limit:,} are shown; --limit shows more", err=True)


@outbox.command()
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.option("--version", type=VERSION, help="This one alone, with the whole error.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
def show(*, url: str, aggregate_id: str, version: int | None, as_json: bool) -> None:
    """What became of an aggregate's events, or of one: attempts, times, errors, who has them.

    Published records are there until they are trimmed.

    \b
    Examples:
      hindsight outbox show user-1
      hindsight outbox show user-1 --version 7
    """
    with Hindsight(url, read_only=True, metrics=False) as store:
        found = _shown(store.outbox, aggregate_id, version)
    if as_json:
        click.echo(msgspec.json.encode(found))
    elif version is None:
        columns = Columns(
            *(">version", "event", "status", ">attempts", "last attempt (UTC)", "next (UTC)"),
            *("relay", "error"),
        )
        for line in columns.lines(map(_row, found.records)):
            click.echo(line)
    else:
        for line in _details(found.records[0], found.operations):
            click.echo(line)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number only
        return f"uid {os.getuid()}"


def operating(command: F) -> F:
    """Gives a command its `reason` and its `actor`."""
    actor = click.option(
        "--actor", type=Name(), default=_user, metavar="NAME", help="Who does it, else the user."
    )
    reason = click.option("--reason", type=Name(), required=True, help="Why; it is kept.")
    return reason(actor(command))


@outbox.command()
@click.argument("aggregate_id", metavar="[ID]", required=False, type=Name())
@click.option("--version", type=VERSION, help="This one alone; it may have been skipped.")
@click.option("--all", "everything", is_flag=True, help="The dead letters of all aggregates.")
@operating
@store_option()
def redrive(
    *,
    url: str,
    aggregate_id: str | None,
    version: int | None,
    everything: bool,
    reason: str,
    actor: str,
) -> None:
    """Have dead letters tried again as if for the first time: of an aggregate, one, or all.

    Where later events were published meanwhile (EVENT_STORE_DEAD_LETTERS=skip, or somebody skipped
    it) it comes out of order, which is said.

    \b
    Examples:
      hindsight outbox redrive user-1 --reason "address corrected"
      hindsight outbox redrive user-1 --version 7 --reason "skipped by mistake"
      hindsight outbox redrive --all --reason "the broker is back"
    """
    if (aggregate_id is None) != everything or (everything and version is not None):
        raise click.UsageError("give an ID, perhaps with --version, or --all")
    with Hindsight(url, metrics=False) as store:
        operations = Operations(store.database, actor=actor)
        if aggregate_id is not None and version is not None:
            redriven: Sequence[Redriven] = [
                operations.redrive(aggregate_id, version, reason=reason)
            ]
        else:
            redriven = _redrive_dead(store, operations, aggregate_id, reason)
    for line in _late(redriven):
        click.echo(line, err=True)
    click.echo(f"{_counted(len(redriven))} redriven")


@outbox.command()
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.option("--version", type=VERSION, required=True, help="Which of its events.")
@operating
@store_option()
def skip(*, url: str, aggregate_id: str, version: int, reason: str, actor: str) -> None:
    """Never publish an event: a dead letter, or one that is pending; later ones go on.

    \b
    Examples:
      hindsight outbox skip user-1 --version 7 --reason "mailed by hand"
    """
    with Hindsight(url, metrics=False) as store:
        Operations(store.database, actor=actor).skip(aggregate_id, version, reason=reason)
    click.echo(shown(f"{aggregate_id} version {version} skipped"))


def _heads(outbox: Outbox) -> Sequence[Head]:
    held = outbox.heads(held=True, limit=HEADS)
    known = {head.record.aggregate_id for head in held}
    others = [head for head in outbox.heads(limit=HEADS) if head.record.aggregate_id not in known]
    return [*held, *others][:HEADS]


def _shown(outbox: Outbox, aggregate_id: str, version: int | None) -> Shown:
    operations = outbox.operations(aggregate_id, limit=_MOST)
    if version is not None:
        return Shown(
            records=[outbox.record(aggregate_id, version)],
            operations=[each for each in operations if each.version == version],
        )
    records = list(_all(outbox, aggregate_id))
    if not records:
        raise RecordNotFound(aggregate_id)
    return Shown(records=records, operations=operations)


def _all(outbox: Outbox, aggregate_id: str) -> Iterator[Record]:
    after = 0
    while page := outbox.records(aggregate_id, after=after, limit=1_000):
        yield from page
        after = page[-1].version


def _redrive_dead(
    store: Hindsight, operations: Operations, aggregate_id: str | None, reason: str
) -> Sequence[Redriven]:
    with click.progressbar(
        length=store.outbox.standing().failed,
        label="redriven",
        file=sys.stderr,
        hidden=aggregate_id is not None or not sys.stderr.isatty(),
    ) as bar:
        return operations.redrive_dead(aggregate_id, reason=reason, progress=bar.update)


def _late(redriven: Sequence[Redriven]) -> Iterator[str]:
    late = [each for each in redriven if each.late]
    if len(late) > SHOWN:
        yield f"{len(late):,} come out of order"
        return
    for each in late:
        yield shown(f"{each.aggregate_id} version {each.version} comes out of order")


def _told(found: Status) -> Iterator[str]:
    standing = found.standing
    yield f"store      {shown(found.store)}"
    of_those = (
        (standing.due, "due"),
        (standing.in_flight, "in flight"),
        (standing.waiting, "waiting"),
    )
    more = standing.is_bounded
    parts = ", ".join(f"{_number(number, more=more)} {name}" for number, name in of_those)
    yield f"pending    {_number(standing.pending, more=more)}: {parts}"
    yield f"failed     {_number(standing.failed)}"
    yield f"skipped    {_number(standing.skipped)}"
    yield f"published  {_number(standing.published)}, kept for a while"
    if standing.oldest_seconds is not None:
        yield f"oldest     {span_text(standing.oldest_seconds)}"
    if standing.held is not None:
        held = standing.held
        yield shown(
            f"held       {held.record.aggregate_id}, {_number(held.behind)} behind version"
            f" {held.record.version}"
        )
    if found.heads:
        yield ""
        columns = Columns(
            *("aggregate", ">version", "status", ">attempts", "next (UTC)", ">behind"),
            "since (UTC)",
        )
        yield from columns.lines(map(_head_row, found.heads))


def _head_row(head: Head) -> tuple[str, ...]:
    record = head.record
    return (
        record.aggregate_id,
        str(record.version),
        _status(record),
        str(record.attempts),
        _time(record.next_attempt_at),
        _number(head.behind),
        _time(record.created_at),
    )


def _failed_row(record: Record) -> tuple[str, ...]:
    return (
        record.aggregate_id,
        str(record.version),
        record.event_type or "–",
        str(record.attempts),
        _time(record.finished_at),
        record.reason or "–",
    )


def _row(record: Record) -> tuple[str, ...]:
    return (
        str(record.version),
        record.event_type or "–",
        _status(record),
        str(record.attempts),
        _time(record.attempted_at),
        _time(record.next_attempt_at),
        record.leased_by if record.in_flight and record.leased_by else "–",
        record.reason or "–",
    )


def _details(record: Record, operations: Sequence[Operation]) -> Iterator[str]:
    yield shown(f"aggregate     {record.aggregate_id} ({record.aggregate_type or 'not at hand'})")
    yield shown(f"event         version {record.version}, {record.event_type or 'not at hand'}")
    yield f"event id      {record.event_id}, position {record.position}"
    yield f"status        {_status(record)}; later events {_waits(record)}"
    yield f"attempts      {record.attempts}"
    yield f"written       {_time(record.created_at)}"
    for label, moment in (
        ("last attempt", record.attempted_at),
        ("next attempt", record.next_attempt_at),
        ("finished", record.finished_at),
    ):
        if moment is not None:
            yield f"{label:13} {_time(moment)}"
    if record.in_flight:
        yield shown(f"relay         {record.leased_by}, until {_time(record.leased_until)}")
    for each in operations:
        told = f"{each.action} by {each.actor} at {_time(each.occurred_at)}: {each.reason}"
        yield shown(f"operation     {told}")
    if record.error is not None:
        yield ""
        yield from map(shown, record.error.splitlines())


def _waits(record: Record) -> str:
    return "wait for it" if record.is_open else "do not wait for it"


def _status(record: Record) -> str:
    return "in flight" if record.in_flight else record.status


def _time(moment: datetime | None) -> str:
    return "–" if moment is None else utc_text(moment, "seconds")


def _number(count: int, *, more: bool = False) -> str:
    return f"{count:,} or more" if more or count == COUNTED else f"{count:,}"


def _counted(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"
