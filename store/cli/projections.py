"""`hindsight projections`."""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from msgspec import Struct

from store.application import Hindsight
from store.cli.changes import WIDEST
from store.cli.columns import Columns, shortened, shown, span_text, utc_text
from store.cli.holding import by_whom
from store.cli.parameters import Name
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.errors import ProjectionError
from store.projection import Key, Row
from store.projections import (
    Checked,
    Checkpoint,
    Projected,
    ProjectionStanding,
    Projector,
    ReadModel,
)
from store.projections.building import Progress
from store.projections.comparing import Kind
from store.projections.read_model import LARGEST_PAGE
from store.projections.rebuilding import Drifted
from store.projections.values import kind_of
from store.records import Event, Watermark
from store.work import beside, project_due, projecting

SHOWN = 100
# A database may have values of types of its own.
_json = msgspec.json.Encoder(enc_hook=str).encode


class Status(Struct, frozen=True, kw_only=True):
    """How the projections of a store stand, and how far they may follow."""

    store: str
    watermark: Watermark
    projections: Sequence[ProjectionStanding]


class Touch(Struct, frozen=True, kw_only=True):
    """The event that touched a row last."""

    event_type: str
    aggregate_type: str
    aggregate_id: str
    version: int
    position: int
    event_id: str
    occurred_at: datetime


class Drift(Struct, frozen=True, kw_only=True):
    """A row that is other than it should be, as documents tell it."""

    kind: Kind
    key: Key
    columns: Sequence[str]
    found: Row | None
    expected: Row | None
    touched_by: Touch | None


class Comparison(Struct, frozen=True, kw_only=True):
    """What comparing a table with the events has found; `drifted` are the first rows."""

    projection: str
    table: str
    version: int
    position: int
    rows: int
    differing: int
    missing: int
    extra: int
    drift: int
    drifted: Sequence[Drift]


class Replaced(Struct, frozen=True, kw_only=True):
    """What a rebuild found in the old table, and the position of the one now in place."""

    checked: Comparison
    position: int


@click.group()
def projections() -> None:
    """The read models of a domain: kept, asked, compared with the events, and made anew.

    `hindsight work` keeps them, too.

    \b
    Examples:
      hindsight projections status
      hindsight projections query users --where 'total_logins>=3' --sort username
      hindsight projections check users
    """


@projections.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option()
@click.pass_context
def status(context: click.Context, /, *, url: str, domains: Domains, as_json: bool) -> None:
    """How far each projection is, what it waits at, and what is being made beside it.

    Behind it are committed events that it has not taken, and for how long the oldest waits.
    Exit code 1: one of them has stopped.

    \b
    Examples:
      hindsight projections status
      hindsight projections status --json | jq '.projections[].lag.seconds'
    """
    _require(domains)
    with Hindsight(url, domain=domains, read_only=True, metrics=False) as store:
        found = Status(
            store=store.info.name,
            watermark=store.watermark(),
            projections=store.projections.standing(),
        )
    if as_json:
        click.echo(_json(found))
    else:
        for line in _told(found):
            click.echo(line)
    is_stopped = any(each.state == "stopped" for each in found.projections)
    context.exit(FOUND if is_stopped else 0)


@projections.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=Name())
@click.option("--once", is_flag=True, help="Take the events there are, and end.")
@domain_option
@store_option()
@click.pass_context
def run(
    context: click.Context, /, *, url: str, domains: Domains, names: tuple[str, ...], once: bool
) -> None:
    """Keep the read models, or those named, until told to stop.

    Tables that are not there are created. Where another process keeps the same one, this stands by.
    With --once, exit code 1: an event could not be taken, or the table is of another version.

    \b
    Examples:
      hindsight projections run
      hindsight projections run users --once
    """
    _require(domains)
    if not domains.projections:
        raise click.UsageError("the domain declares no projections")
    wanted = dict.fromkeys(names or domains.projections)
    with Hindsight(url, domain=domains) as store:
        projectors = [store.projections.projector(name) for name in wanted]
        for name in store.projections.build_missing(wanted):
            table = domains.projections[name].table.name
            click.echo(shown(f"table {table} created for projection {name}"))
        tally = _Tally(list(wanted))
        if once:
            is_whole = [_project(projector, tally) for projector in projectors]
        else:
            is_whole = []
            told = f"projecting {', '.join(tally.events)} on {store.info.name}"
            click.echo(shown(f"{told} (Ctrl-C stops it)"))
            stop = _stopping()
            with beside(stop, projecting(projectors, stop, tally.note)):
                stop.wait()
    for line in tally.lines():
        click.echo(line)
    context.exit(0 if all(is_whole) else FOUND)


@projections.command()
@click.argument("name", metavar="NAME", type=Name())
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option()
def rebuild(*, url: str, domains: Domains, name: str, as_json: bool) -> None:
    """Make a read model anew from all events, and put it in place of the one that is read.

    That one serves until then. Rows that come out otherwise are told. One that was interrupted goes
    on where it was.

    \b
    Examples:
      hindsight projections rebuild users
    """
    _require(domains)
    with Hindsight(url, domain=domains) as store, _progress("rebuilding") as progress:
        rebuilt = store.projections.rebuild(name, progress=progress)
        table = store.projections.projection(name).table.name
    found = _comparison(rebuilt.checked, table)
    if as_json:
        click.echo(_json(Replaced(checked=found, position=rebuilt.position)))
        return
    for line in _compared(found):
        click.echo(line)
    click.echo(f"{table} is in place: version {found.version}, position {rebuilt.position}")


@projections.command()
@click.argument("name", metavar="NAME", type=Name())
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option()
@click.pass_context
def check(
    context: click.Context, /, *, url: str, domains: Domains, name: str, as_json: bool
) -> None:
    """Compare a read model with what the events make of it, row by row.

    The events are projected into a table beside it, which is removed again; the one that is read
    stays as it is, and goes on. Each row that differs is told with the event that touched it last.
    Exit code 1: there are some.

    \b
    Examples:
      hindsight projections check users
      hindsight projections check users --json | jq '.drifted[].key'
    """
    _require(domains)
    with Hindsight(url, domain=domains) as store, _progress("checking") as progress:
        checked = store.projections.check(name, progress=progress)
        table = store.projections.projection(name).table.name
    found = _comparison(checked, table)
    if as_json:
        click.echo(_json(found))
    else:
        for line in _compared(found):
            click.echo(line)
    context.exit(FOUND if found.drift else 0)


@projections.command()
@click.argument("name", metavar="NAME", type=Name())
@click.option(
    "--where",
    "conditions",
    metavar="CONDITION",
    multiple=True,
    help="Rows of which that holds: COLUMN=VALUE, also != < <= > >=, ^ for texts that begin so, or"
    " COLUMN is null, COLUMN is not null. All must hold.",
)
@click.option("--sort", metavar="COLUMN", help="In this order, else by primary key; NULL is last.")
@click.option("--desc", "descending", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(1, LARGEST_PAGE), default=SHOWN, show_default=True)
@click.option("--after", metavar="CURSOR", help="Behind the page that told this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: rows, and next.")
@domain_option
@store_option()
def query(
    *,
    url: str,
    domains: Domains,
    name: str,
    conditions: Sequence[str],
    as_json: bool,
    **page: Any,
) -> None:
    """Rows of a read model, as it is now.

    A VALUE is taken as it is, to the last space: a whole number, true or false, a time such as
    2026-11-28T09:30 (UTC, unless it has a zone). In an order NULL counts as the greatest.

    \b
    Examples:
      hindsight projections query users --where account_locked=true
      hindsight projections query users --where email^ada@ --where 'last_login_at is null'
      hindsight projections query users --sort updated_at --desc --limit 20 --json
    """
    _require(domains)
    with Hindsight(url, domain=domains, read_only=True, metrics=False) as store:
        model = store.read_model(name)
        found = model.query(*map(model.filter, conditions), **page)
    if as_json:
        click.echo(_json(found))
        return
    for line in _table(model, found.rows):
        click.echo(line)
    if found.next is not None:
        click.echo(f"there are more rows; the next ones: --after {found.next}", err=True)


def tell_left_out(name: str, projected: Projected) -> None:
    """Say which event a projection goes on without, if it does."""
    if (left := projected.skipped) is not None:
        place = f"{left.event_type} of {left.aggregate_id} version {left.version}"
        line = f"error: {name} left out {place}, position {left.position}"
        click.echo(shown(line), err=True)


class _Tally:
    """What was projected, by projection."""

    def __init__(self, names: Sequence[str]) -> None:
        self.events = dict.fromkeys(names, 0)
        self._positions: dict[str, int] = {}

    def note(self, name: str, projected: Projected) -> None:
        self.events[name] += projected.events
        self._positions[name] = projected.position
        tell_left_out(name, projected)

    def lines(self) -> Iterator[str]:
        for name, count in self.events.items():
            counted = "1 event" if count == 1 else f"{count:,} events"
            reached = self._positions.get(name)
            yield shown(f"{name}: {counted}" + ("" if reached is None else f", position {reached}"))


def _require(domains: Domains) -> None:
    if not domains.domains:
        raise click.UsageError("no domain named; give --domain MODULE:NAME or EVENT_STORE_DOMAIN")


def _project(projector: Projector, tally: _Tally) -> bool:
    try:
        project_due(projector, tally.note)
    except ProjectionError as error:
        click.echo(shown(f"error: {error}"), err=True)
        return False
    return True


def _stopping() -> threading.Event:
    """An event that is set when the process is told to stop."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """A bar on a terminal; where it ends moves on with the events."""
    with click.progressbar(
        length=1, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:

        def reached(position: int, goal: int) -> None:
            bar.length = max(goal, 1)
            bar.update(position - bar.pos)

        yield reached


def _comparison(checked: Checked, table: str) -> Comparison:
    compared = checked.compared
    return Comparison(
        projection=checked.projection,
        table=table,
        version=checked.version,
        position=checked.position,
        rows=compared.rows,
        differing=compared.differing,
        missing=compared.missing,
        extra=compared.extra,
        drift=compared.drift,
        drifted=[_drift(each) for each in checked.drifted],
    )


def _drift(drifted: Drifted) -> Drift:
    difference = drifted.difference
    return Drift(
        kind=difference.kind,
        key=difference.key,
        columns=difference.columns,
        found=difference.found,
        expected=difference.expected,
        touched_by=None if drifted.touched_by is None else _touch(drifted.touched_by),
    )


def _touch(event: Event) -> Touch:
    return Touch(
        event_type=event.event_type,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.version,
        position=event.position,
        event_id=str(event.event_id),
        occurred_at=event.occurred_at,
    )


def _compared(found: Comparison) -> Iterator[str]:
    for drift in found.drifted:
        yield from map(shown, _drifted(drift))
    if found.drift > len(found.drifted):
        yield f"… and {found.drift - len(found.drifted):,} more"
    rows = "1 row" if found.rows == 1 else f"{found.rows:,} rows"
    kinds = f"{found.differing:,} differing, {found.missing:,} missing, {found.extra:,} extra"
    told = kinds if found.drift else "no drift"
    yield f"compared {rows} of {found.table} at position {found.position}: {told}"


def _drifted(drift: Drift) -> Iterator[str]:
    yield f"{drift.kind} {', '.join(map(_text, drift.key))}"
    if drift.found is not None and drift.expected is not None:
        for column in drift.columns:
            found, expected = _short(drift.found[column]), _short(drift.expected[column])
            yield f"    {column}  found {found}, expected {expected}"
    elif drift.found is not None:
        yield f"    found {_row_text(drift.found)}"
    elif drift.expected is not None:
        yield f"    expected {_row_text(drift.expected)}"
    if (touch := drift.touched_by) is not None:
        place = f"{touch.aggregate_id} version {touch.version}, position {touch.position}"
        moment = utc_text(touch.occurred_at)
        yield f"    touched last by {touch.event_type} of {place}, at {moment} UTC"


def _told(found: Status) -> Iterator[str]:
    yield f"store      {shown(found.store)}"
    holder = found.watermark.holder
    held = "" if holder is None else f", held {by_whom(holder)}"
    yield f"watermark  position {found.watermark.position}{held}"
    yield ""
    if not found.projections:
        yield "no projections"
        return
    columns = Columns(
        *("projection", ">version", "state", ">position", ">behind", ">for", ">skipped", ">drift"),
        "checked (UTC)",
    )
    yield from columns.lines(map(_status_row, found.projections))
    notices = [shown(notice) for each in found.projections for notice in _notices(each)]
    if notices:
        yield from ("", *notices)


def _status_row(each: ProjectionStanding) -> tuple[str, ...]:
    live = each.checkpoint
    return (
        each.projection,
        str(each.version),
        each.state,
        "–" if live is None else str(live.position),
        f"{each.lag.events:,}{'+' if each.lag.is_bounded else ''}",
        span_text(each.lag.seconds) if each.lag.events else "–",
        f"{each.skipped:,}",
        "–" if live is None or live.drift is None else f"{live.drift:,}",
        "–" if live is None or live.checked_at is None else utc_text(live.checked_at, "seconds"),
    )


def _notices(each: ProjectionStanding) -> Iterator[str]:
    """What there is to know or to do."""
    name = each.projection
    rebuilding = f"run: hindsight projections rebuild {name}"
    if each.checkpoint is None:
        yield f"{name} has no table yet; run: hindsight projections run"
    elif each.checkpoint.version != each.version:
        built = each.checkpoint.version
        todo = f"; {rebuilding}" if built < each.version else ""
        yield f"{name} has a table of version {built}, this code has version {each.version}{todo}"
    elif each.code_changed:
        yield f"{name}: the code changed, its version did not; {rebuilding}"
    if (failure := each.failure) is not None:
        place = f"{failure.aggregate_id} version {failure.version}, position {failure.position}"
        by = "" if failure.handler is None else f"{failure.handler}: "
        yield f"{name} waits at {failure.event_type} of {place}: {by}{failure.reason}"
    for what, checkpoint in (("rebuild", each.building), ("check", each.comparing)):
        if checkpoint is not None:
            yield f"{name}: a {what} {_under_way(checkpoint)}"


def _under_way(checkpoint: Checkpoint) -> str:
    # Whoever does it may have died: so the time.
    by = f"{checkpoint.moved_by} moved it last at {utc_text(checkpoint.moved_at, 'seconds')} UTC"
    if checkpoint.goal is None:
        return f"has begun; {by}"
    share = checkpoint.position / checkpoint.goal if checkpoint.goal else 1.0
    place = f"position {checkpoint.position} of {checkpoint.goal}"
    return f"is at {min(share, 1.0):.0%}, {place}; {by}"


def _table(model: ReadModel, rows: Sequence[Row]) -> Iterator[str]:
    columns = list(model.table.columns)
    numbers = {each.name for each in columns if kind_of(each) == "number"}
    titles = Columns(*(f">{each.name}" if each.name in numbers else each.name for each in columns))
    return titles.lines([_short(row[each.name]) for each in columns] for row in rows)


def _short(value: Any) -> str:
    return shortened(_text(value), WIDEST)


def _text(value: Any) -> str:
    """A value as conditions take it."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        is_utc = value.utcoffset() is not None and value.tzinfo is UTC
        return f"{value.replace(tzinfo=None).isoformat()}Z" if is_utc else value.isoformat()
    return str(value)


def _row_text(row: Mapping[str, Any]) -> str:
    return _json(row).decode()
